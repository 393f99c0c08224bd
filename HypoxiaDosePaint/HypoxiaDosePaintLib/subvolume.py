"""The hypoxic subvolume: which part of the gross tumour volumes lies beyond the threshold, and what was left out.

Nothing is dropped silently: small islands, undefined voxels, holes and closing are all reported in millilitres.
Definitions of hypoxic volume and fraction: METHODS 2; steps: METHODS 9; limits: METHODS 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from HypoxiaMapperLib.errors import GeometryError, LimitError, RequestError
from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import COMPARISONS, Region, beyond, require_same_grid

from .drawn import part_inside
from .limits import limit_fraction, note_on_coverage, require_coverage
from .margins import bounding_box, close_mask
from .request import SubvolumeOptions
from .result import Curve, Dropped, GtvFinding
from .structures import tumour_names

# Voxels that share a face, an edge or a corner belong to one island (26-connectivity): of the usual choices this one
# drops least, so a thin oblique bridge is not torn into pieces that fall below the minimum.
ISLAND_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Subvolume:
    """The hypoxic subvolume and everything that must be said about it.

    Parameters
    ----------
    region : Region
        Hypoxic part of all GTVs together.
    per_gtv : tuple of Region
        Hypoxic part of each GTV, in the order of the GTVs and named after them; empty where a GTV has none.
    findings : tuple of GtvFinding
        Volumes and fraction of each GTV, same order. Where GTVs overlap, both count the shared part.
    hypoxic_volume_ml, hypoxic_fraction : float
        Of all GTVs together, the shared part counted once; the fraction is of the whole GTV volume.
    dropped : tuple of Dropped
        Every island that was left out, largest first.
    threshold, comparison, threshold_source, drawn
        The rule that was applied, where it comes from, and whether a person drew or edited the voxels.
    """

    region: Region
    per_gtv: tuple[Region, ...]
    findings: tuple[GtvFinding, ...]
    hypoxic_volume_ml: float
    hypoxic_fraction: float
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    threshold: float
    comparison: str
    threshold_source: str
    drawn: bool = False


@dataclass(frozen=True)
class _Rule:
    """Threshold as it is applied."""

    threshold: float
    comparison: str
    source: str

    def hits(self, values: np.ndarray) -> np.ndarray:
        """Voxels beyond the threshold; undefined (NaN, infinite) ones never are."""
        return beyond(values, self.threshold, self.comparison)


@dataclass(frozen=True)
class _Box:
    """Everything inside the smallest box around the GTVs: a planning CT is a hundred times larger than a tumour.

    ``values``, ``masks`` (one per GTV) and ``union`` have the shape of the box; ``place`` is where it lies in the image
    and ``grid`` the image's geometry there.
    """

    values: np.ndarray
    masks: tuple[np.ndarray, ...]
    union: np.ndarray
    place: tuple[slice, ...]
    grid: sitk.Image
    voxel_ml: float

    def whole(self, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A mask of the box put back into the image."""
        out = np.zeros(shape, dtype=np.uint8)
        out[self.place] = mask
        return out


def find_subvolume(
    hypoxia_map: HypoxiaMap,
    gtvs: Sequence[Region],
    options: SubvolumeOptions,
    override_volume: str = "",
    override_coverage: str = "",
    drawn: Region | None = None,
) -> Subvolume:
    """Cut the hypoxic subvolume out of a map.

    Threshold inside the GTVs, optional closing, islands by 26-connectivity, minimum island volume, maximum fraction.

    Parameters
    ----------
    hypoxia_map : HypoxiaMap
        Map on the planning grid; NaN where undefined.
    gtvs : sequence of Region
        Gross tumour volumes on the same grid; they may overlap.
    options : SubvolumeOptions
        Threshold (None: the map's own), comparison, minimum island in ml, closing in mm, maximum fraction.
    override_volume, override_coverage : str
        Name and reason of the person who accepts a hypoxic fraction above the maximum, or a GTV of which less than
        ``MINIMUM_COVERAGE`` has a map value; empty for none.
    drawn : Region, optional
        A region that a person drew or edited; its part inside the GTVs takes the place of the threshold.

    Raises
    ------
    GeometryError
        If map and GTVs do not share grid and frame of reference.
    RequestError
        If there is no GTV or no threshold, two GTVs have one name, or the comparison points the wrong way for this map.
    LimitError
        If a GTV is empty or outside the map, nothing is beyond the threshold, or every island is below the minimum;
        without an override, if the map covers too little of a GTV or the hypoxic fraction is above the maximum.
    """
    _check_inputs(hypoxia_map, gtvs)
    rule, warnings = _rule(hypoxia_map, options)
    box = _box_around(hypoxia_map, gtvs)
    _require_coverage(box, gtvs, override_coverage)
    if drawn is None:
        found, drawn_notes = _beyond_threshold(box, rule, hypoxia_map, gtvs), list[str]()
    else:
        found, drawn_notes = part_inside(drawn, hypoxia_map.volume, box.place, box.union, rule.hits, _names(gtvs))
    found, closing_notes = _close(found, box, options.closing_mm)
    kept, dropped = _split_islands(found, box, gtvs, options.minimum_component_ml)
    warnings += _notes_on_gtvs(box, gtvs, kept, override_coverage)
    warnings += drawn_notes + closing_notes + _notes_on_dropped(dropped, options) + _note_on_holes(kept, box)
    hypoxic_ml, gtv_ml = np.count_nonzero(kept) * box.voxel_ml, np.count_nonzero(box.union) * box.voxel_ml
    maximum = options.maximum_fraction_of_gtv
    warnings += limit_fraction(_names(gtvs), hypoxic_ml, gtv_ml, maximum, override_volume)
    shape = hypoxia_map.volume.array.shape
    cut = f"{hypoxia_map.volume.quantity} {rule.comparison} {rule.threshold:g} ({rule.source}) in {_names(gtvs)}"
    source = cut if drawn is None else f"{drawn.source} ({drawn.name}), within {_names(gtvs)}"
    names = [hypoxic for _, hypoxic in tumour_names([g.name for g in gtvs], hypoxia_map.surrogate)]
    whole_name = names[0] if len(gtvs) == 1 else tumour_names(["GTV"], hypoxia_map.surrogate)[0][1]
    return Subvolume(
        region=gtvs[0].with_array(box.whole(kept, shape), source, whole_name),
        per_gtv=tuple(
            g.with_array(box.whole(kept & m, shape), source, name)
            for g, m, name in zip(gtvs, box.masks, names, strict=True)
        ),
        findings=tuple(_finding(g.name, m, kept, box) for g, m in zip(gtvs, box.masks, strict=True)),
        hypoxic_volume_ml=float(hypoxic_ml),
        hypoxic_fraction=float(hypoxic_ml / gtv_ml),
        dropped=dropped,
        warnings=tuple(warnings),
        threshold=rule.threshold,
        comparison=rule.comparison,
        threshold_source=rule.source,
        drawn=drawn is not None,
    )


def volume_by_threshold(hypoxia_map: HypoxiaMap, gtvs: Sequence[Region], n: int = 200) -> Curve:
    """Volume in ml beyond each of ``n`` thresholds from the lowest to the highest value in the GTVs, by sorting.

    No islands are dropped here, so at the threshold in use the curve may lie above the hypoxic volume. The map's own
    comparison is used.
    """
    values = np.sort(_values_in(hypoxia_map, gtvs))
    x = np.linspace(values[0], values[-1], n)
    strict = hypoxia_map.comparison in (">", "<=")
    below = np.searchsorted(values, x, side="right" if strict else "left")
    count = below if hypoxia_map.comparison.startswith("<") else values.size - below
    y = count * hypoxia_map.volume.voxel_volume_ml
    label = f"Volume with map {hypoxia_map.comparison} threshold (ml)"
    return Curve(tuple(x.tolist()), tuple(y.tolist()), _axis_label(hypoxia_map, "Threshold: "), label)


def map_histogram(hypoxia_map: HypoxiaMap, gtvs: Sequence[Region], bins: int = 100) -> Curve:
    """Histogram of the map in the GTVs: bin centres against ml per bin. Undefined voxels are left out."""
    values = _values_in(hypoxia_map, gtvs)
    count, edges = np.histogram(values, bins=bins)
    centres, y = (edges[:-1] + edges[1:]) / 2, count * hypoxia_map.volume.voxel_volume_ml
    return Curve(tuple(centres.tolist()), tuple(y.tolist()), _axis_label(hypoxia_map), "Volume per bin (ml)")


def _values_in(hypoxia_map: HypoxiaMap, gtvs: Sequence[Region]) -> np.ndarray:
    """Defined map values in the union of the GTVs, float64, any order, never empty."""
    _check_inputs(hypoxia_map, gtvs)
    inside = hypoxia_map.volume.array[np.logical_or.reduce([g.array for g in gtvs])]
    return inside[np.isfinite(inside)].astype(np.float64)


def _axis_label(hypoxia_map: HypoxiaMap, prefix: str = "") -> str:
    """Axis label with quantity and unit."""
    return f"{prefix}{hypoxia_map.volume.quantity} ({hypoxia_map.volume.unit})"


def _names(gtvs: Sequence[Region]) -> str:
    """Names of the GTVs in one line."""
    return ", ".join(g.name for g in gtvs)


def _check_inputs(hypoxia_map: HypoxiaMap, gtvs: Sequence[Region]) -> None:
    """Refuse missing, empty and uncovered GTVs, and grids or frames that differ."""
    if not gtvs:
        raise RequestError("No GTV was given to search for hypoxia.", "Name at least one GTV ROI.")
    volume = hypoxia_map.volume
    for gtv in gtvs:
        require_same_grid(volume.image, gtv.mask, f"Map and {gtv.name}")
        frames = {volume.frame_of_reference_uid, gtv.frame_of_reference_uid} - {""}
        if len(frames) > 1:
            raise GeometryError(
                f"Map and {gtv.name} have different frames of reference ({' and '.join(sorted(frames))}).",
                "Register the map to the planning images first.",
            )
        mask = gtv.array
        if not mask.any():
            raise LimitError(f"{gtv.name} is empty on the planning grid.", "Check the contours of this ROI.")
        if not np.isfinite(volume.array[mask]).any():
            raise LimitError(
                f"The map has no value anywhere in {gtv.name}.", "Leave this GTV out, or use images that cover it."
            )


def _rule(hypoxia_map: HypoxiaMap, options: SubvolumeOptions) -> tuple[_Rule, list[str]]:
    """Threshold and comparison to apply, with a warning where they depart from the map's own."""
    own, own_comparison = hypoxia_map.threshold, hypoxia_map.comparison
    threshold = own if options.threshold is None else float(options.threshold)
    comparison = options.comparison or own_comparison
    if comparison not in COMPARISONS:
        raise RequestError(f"Comparison {comparison!r} is unknown.", f"Valid: {', '.join(COMPARISONS)}.")
    if own_comparison in COMPARISONS and comparison[0] != own_comparison[0]:
        raise RequestError(
            f"Comparison {comparison!r} would call well-oxygenated tissue hypoxic.",
            f"In this map hypoxia lies at {own_comparison} the threshold.",
        )
    if not math.isfinite(threshold):
        raise RequestError(
            f"There is no threshold for {hypoxia_map.volume.quantity} (threshold {threshold}).",
            "The method has none of its own: give one.",
        )
    if threshold == own and comparison == own_comparison:
        return _Rule(threshold, comparison, hypoxia_map.threshold_source), []
    stated = f"{own_comparison} {own:g} ({hypoxia_map.threshold_source})" if math.isfinite(own) else "none"
    source = f"set by the user; the method's own is {stated}"
    return _Rule(threshold, comparison, source), [f"Threshold {comparison} {threshold:g} was {source}."]


def _box_around(hypoxia_map: HypoxiaMap, gtvs: Sequence[Region]) -> _Box:
    """The smallest box around all GTVs."""
    views = [sitk.GetArrayViewFromImage(g.mask) for g in gtvs]
    boxes = [bounding_box(view != 0) for view in views]
    place = tuple(
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(len(boxes[0]))
    )
    masks = tuple(view[place] != 0 for view in views)
    grid = gtvs[0].mask[place[::-1]]
    volume = hypoxia_map.volume
    return _Box(volume.array[place], masks, np.logical_or.reduce(masks), place, grid, volume.voxel_volume_ml)


def _beyond_threshold(box: _Box, rule: _Rule, hypoxia_map: HypoxiaMap, gtvs: Sequence[Region]) -> np.ndarray:
    """Voxels of the GTVs beyond the threshold; none at all is an error that tells how far off the map is."""
    found = rule.hits(box.values) & box.union
    if not found.any():
        inside = box.values[box.union & np.isfinite(box.values)]
        extreme, word = (inside.max(), "maximum") if rule.comparison.startswith(">") else (inside.min(), "minimum")
        raise LimitError(
            f"No voxel of {_names(gtvs)} is {rule.comparison} {rule.threshold:g} {hypoxia_map.volume.unit}: the map's "
            f"{word} there is {extreme:.4g}.",
            "There is no subvolume to boost at this threshold; check threshold, reference and GTV.",
        )
    return found


def _imaged_ml(box: _Box, mask: np.ndarray) -> float:
    """Volume of a GTV with a map value."""
    return float(np.count_nonzero(mask & np.isfinite(box.values)) * box.voxel_ml)


def _require_coverage(box: _Box, gtvs: Sequence[Region], override: str) -> None:
    """Refuse GTVs that the map covers too little."""
    for gtv, mask in zip(gtvs, box.masks, strict=True):
        require_coverage(gtv.name, float(np.count_nonzero(mask) * box.voxel_ml), _imaged_ml(box, mask), override)


def _notes_on_gtvs(box: _Box, gtvs: Sequence[Region], kept: np.ndarray, override: str) -> list[str]:
    """What must be known of the GTVs: undefined voxels, overlap."""
    ml = box.voxel_ml
    notes = []
    for gtv, mask in zip(gtvs, box.masks, strict=True):
        gtv_ml, hypoxic_ml = float(np.count_nonzero(mask) * ml), float(np.count_nonzero(kept & mask) * ml)
        notes += note_on_coverage(gtv.name, gtv_ml, _imaged_ml(box, mask), hypoxic_ml, override)
    shared = sum(np.count_nonzero(m) for m in box.masks) - np.count_nonzero(box.union)
    if shared:
        notes.append(f"GTVs overlap by {shared * ml:.2f} ml; totals count the shared part once.")
    return notes


def _close(found: np.ndarray, box: _Box, radius_mm: float) -> tuple[np.ndarray, list[str]]:
    """Closing with a ball, kept to defined voxels of the GTVs, with the ml it added."""
    if radius_mm == 0:
        return found, []
    closed = found | (close_mask(found, box.grid, radius_mm) & box.union & np.isfinite(box.values))
    added_ml = (np.count_nonzero(closed) - np.count_nonzero(found)) * box.voxel_ml
    return closed, [f"Closing by {radius_mm:g} mm added {added_ml:.2f} ml that do not meet the threshold."]


def _split_islands(
    found: np.ndarray, box: _Box, gtvs: Sequence[Region], minimum_ml: float
) -> tuple[np.ndarray, tuple[Dropped, ...]]:
    """Islands of at least the minimum, and a row for every other one, largest first."""
    labels, count = ndimage.label(found, structure=ISLAND_NEIGHBOURS)
    sizes_ml = np.bincount(labels.ravel(), minlength=count + 1) * box.voxel_ml
    small = [i for i in range(1, count + 1) if sizes_ml[i] < minimum_ml - 1e-9]
    if len(small) == count:
        centre = _centres_mm(labels, [int(np.argmax(sizes_ml[1:])) + 1], box.grid)[0]
        raise LimitError(
            f"All {count} islands beyond the threshold are below the minimum of {minimum_ml:g} ml; the largest has "
            f"{sizes_ml[1:].max():.3f} ml at LPS ({', '.join(f'{c:.1f}' for c in centre)}) mm.",
            "Lower the minimum component, or accept that there is no target.",
        )
    small.sort(key=lambda i: -sizes_ml[i])
    in_gtv = np.array([np.bincount(labels[m], minlength=count + 1) for m in box.masks])
    rows = tuple(
        Dropped(
            gtvs[int(np.argmax(in_gtv[:, label]))].name,
            f"island below the minimum of {minimum_ml:g} ml",
            float(sizes_ml[label]),
            centre,
        )
        for label, centre in zip(small, _centres_mm(labels, small, box.grid), strict=True)
    )
    keep = np.ones(count + 1, dtype=bool)
    keep[[0, *small]] = False
    return keep[labels], rows


def _centres_mm(labels: np.ndarray, wanted: Sequence[int], grid: sitk.Image) -> list[tuple[float, float, float]]:
    """Centres of gravity of labelled islands in LPS mm."""
    if not wanted:
        return []
    centres = ndimage.center_of_mass(labels > 0, labels, list(wanted))
    return [grid.TransformContinuousIndexToPhysicalPoint([float(i) for i in c[::-1]]) for c in centres]


def _notes_on_dropped(dropped: Sequence[Dropped], options: SubvolumeOptions) -> list[str]:
    """One line that sums up the dropped islands."""
    if not dropped:
        return []
    total = sum(d.volume_ml for d in dropped)
    islands = f"1 island below {options.minimum_component_ml:g} ml was left out, {total:.2f} ml; it is listed."
    if len(dropped) > 1:
        islands = (
            f"{len(dropped)} islands below {options.minimum_component_ml:g} ml, {total:.2f} ml in all, "
            "were left out; each is listed."
        )
    return [islands]


def _note_on_holes(kept: np.ndarray, box: _Box) -> list[str]:
    """Holes are kept; necrosis reads as oxygenated (METHODS 12.5), so their volume is told."""
    holes = np.count_nonzero(ndimage.binary_fill_holes(kept) & ~kept)
    if not holes:
        return []
    return [
        f"The subvolume encloses {holes * box.voxel_ml:.2f} ml that do not meet the "
        "threshold; they are kept as holes. Check for necrosis, which takes up no tracer and reads as oxygenated."
    ]


def _finding(name: str, mask: np.ndarray, kept: np.ndarray, box: _Box) -> GtvFinding:
    """Numbers of one GTV."""
    inside = box.values[mask]
    defined = inside[np.isfinite(inside)].astype(np.float64)
    gtv_ml, hypoxic_ml = np.count_nonzero(mask) * box.voxel_ml, np.count_nonzero(kept & mask) * box.voxel_ml
    return GtvFinding(
        gtv=name,
        gtv_volume_ml=float(gtv_ml),
        hypoxic_volume_ml=float(hypoxic_ml),
        hypoxic_fraction=float(hypoxic_ml / gtv_ml),
        map_maximum=float(defined.max()),
        map_mean=float(defined.mean()),
    )
