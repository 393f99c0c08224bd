"""Margins, closing and organ crops in millimetres, exact on any grid.

One rule holds throughout: a mask is the solid that its voxels fill, and a voxel belongs to the expansion if its centre
lies within the margin of that solid. The margin body is made of one eighth of an ellipsoid per patient octant, its
half-axes being the margins towards left/right, anterior/posterior and superior/inferior. Offsets between voxels are
turned into patient (LPS) directions first, so an oblique grid gives the same body as an axial one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy.signal import fftconvolve

from HypoxiaMapperLib.errors import LimitError, RequestError
from HypoxiaMapperLib.volume import Region, require_same_grid, voxel_volume_ml

from .request import Margins

_RELATIVE_TOLERANCE = 1e-6  # a centre exactly on the margin is inside, whatever the rounding of direction cosines
_THINNEST = 1e-3  # of the smallest spacing: a half-axis of 0 mm has to be something to divide by

ROUNDING_WORTH_A_WARNING_MM = 0.5
"""Where a margin is rounded by more than this, a warning says so; a choice of this software."""


class Expansion(NamedTuple):
    """An expanded region and how much of it the image could not hold (ml)."""

    region: Region
    outside_image_ml: float


class Crop(NamedTuple):
    """A cropped region and what each organ took in ml (where two organs take the same part, it counts for both)."""

    region: Region
    cropped_ml_by_organ: dict[str, float]


def expand_in_image(region: Region, margins: Margins, name: str) -> Expansion:
    """Expand a region by margins in mm towards the sides of the patient and measure what leaves the image.

    Parameters
    ----------
    region : Region
        Mask on an arbitrarily oriented grid.
    margins : Margins
        Millimetres towards left, right, anterior, posterior, superior and inferior of the patient.
    name : str
        Name of the new region.

    Returns
    -------
    Expansion
        The region (never smaller than the input) and the ml of it that would lie outside the image. That part cannot
        be drawn on the planning images; it is named in the region's source and must be reported.

    Raises
    ------
    LimitError
        If the region is empty.

    Notes
    -----
    Accuracy: the body of the expansion is exact for voxel centres on any grid. Towards each side a margin is rounded to
    whole voxels, up or down by at most half a voxel (3 mm on slices of 3.27 mm adds one slice, 2 mm on slices of 5 mm
    none); ``achieved_margins`` says what it comes to.
    """
    mask = region.array
    if not mask.any():
        raise LimitError(f"{region.name} is empty: there is nothing to expand.", "Check the structure.")
    body = _margin_body(region.mask, margins)
    padded, start = _crop_and_pad(mask, _half_sizes(body))
    grown = _dilate(padded, body)
    inside, within = _overlap(mask.shape, start, grown.shape)
    out = mask.copy()
    out[inside] |= grown[within]
    outside_ml = float(np.count_nonzero(grown) - np.count_nonzero(grown[within])) * voxel_volume_ml(region.mask)
    source = f"{region.name} + {describe_margins(margins)}"
    if outside_ml > 0:
        source += f"; {outside_ml:.2f} ml outside the image cut off"
    return Expansion(region.with_array(out, source, name), outside_ml)


def crop_to_organs(region: Region, organs: Sequence[Region], gap_mm: float) -> Crop:
    """Take away every voxel that comes closer than ``gap_mm`` to an organ; 0 takes the overlap only.

    The gap is measured between the solids that the voxels fill, so it never falls short; what is kept begins on the
    next whole voxel.

    Raises
    ------
    GeometryError
        If an organ lives on another grid.
    LimitError
        If nothing is left of the region.
    """
    if not (math.isfinite(gap_mm) and gap_mm >= 0):
        raise RequestError(f"The organ gap is {gap_mm} mm.", "It must be a number of at least 0 mm.")
    mask = region.array
    taken = np.zeros_like(mask)
    by_organ: dict[str, float] = {}
    for organ in organs:
        require_same_grid(region.mask, organ.mask, f"Crop of {region.name} to {organ.name}")
        near = mask & _within(organ, gap_mm, mask)
        taken |= near
        by_organ[organ.name] = by_organ.get(organ.name, 0.0) + _ml(near, region.mask)
    if mask.any() and not (mask & ~taken).any():
        raise LimitError(
            f"Nothing is left of {region.name} ({region.volume_ml:.2f} ml) {gap_mm:g} mm away from "
            f"{', '.join(o for o, ml in by_organ.items() if ml > 0)}.",
            "Reduce the gap, or reconsider the target: it lies in or beside the organ.",
        )
    source = region.source
    if taken.any():
        source = f"{source}; cropped {gap_mm:g} mm from {', '.join(o for o, ml in by_organ.items() if ml > 0)}"
    return Crop(region.with_array(mask & ~taken, source.lstrip("; ")), by_organ)


def close_mask(mask: np.ndarray, grid: sitk.Image, radius_mm: float) -> np.ndarray:
    """Morphological closing with a ball of ``radius_mm``; shape (z, y, x), nothing is lost at the image border."""
    if radius_mm <= 0 or not mask.any():
        return mask.copy()
    body = _margin_body(grid, Margins.uniform(radius_mm))
    half = _half_sizes(body)
    padded, start = _crop_and_pad(mask, 2 * half)
    closed = ~_dilate(~_dilate(padded, body), body)  # the pad of 2 radii keeps the border's effect outside the mask
    inside, within = _overlap(mask.shape, start, padded.shape)
    out = mask.copy()
    out[inside] |= closed[within]
    return out


def describe_margins(margins: Margins) -> str:
    """Margins in words: ``5 mm`` when all are equal, else the six sides."""
    sides = _sides(margins)
    if len(set(sides.values())) == 1:
        return f"{margins.left_mm:g} mm"
    return ", ".join(f"{value:g} mm {side}" for side, value in sides.items())


def achieved_margins(grid: sitk.Image, margins: Margins) -> dict[str, float]:
    """Millimetres by which a region on this grid really grows towards left, right, anterior ... (any region: exact)."""
    body = _margin_body(grid, margins)
    index = np.argwhere(body)[:, ::-1] - np.array(body.shape)[::-1] // 2
    offset = index @ _step(grid).T
    highest, lowest = offset.max(axis=0), -offset.min(axis=0)
    sides = (highest[0], lowest[0], lowest[1], highest[1], highest[2], lowest[2])  # LPS: the order of Margins
    return {side: round(float(mm), 6) + 0.0 for side, mm in zip(_sides(margins), sides, strict=True)}


def rounded_margins(grid: sitk.Image, margins: Margins) -> dict[str, float]:
    """Achieved mm of the sides where the grid cannot hold the margin: thinner than a voxel, or rounded noticeably."""
    voxel = np.abs(_step(grid)).sum(axis=1)[[0, 0, 1, 1, 2, 2]]  # mm of a voxel along the axis of each side
    achieved = achieved_margins(grid, margins)
    return {
        side: achieved[side]
        for (side, stated), size in zip(_sides(margins).items(), voxel, strict=True)
        if stated > 0
        and (
            abs(achieved[side] - stated) > ROUNDING_WORTH_A_WARNING_MM
            or (stated < size and not math.isclose(achieved[side], stated, rel_tol=1e-3))
        )
    }


def describe_sides(sides: Mapping[str, float]) -> str:
    """Millimetres by side in words, equal ones together: ``2.93 mm left, right; 3.27 mm superior``."""
    groups: dict[str, list[str]] = {}
    for side, mm in sides.items():
        groups.setdefault(f"{round(mm, 2):g} mm", []).append(side)
    if len(groups) == 1 and len(sides) == len(vars(Margins())):
        return next(iter(groups))
    return "; ".join(f"{mm} {', '.join(names)}" for mm, names in groups.items())


def _sides(margins: Margins) -> dict[str, float]:
    """Margins by side: left, right, anterior, posterior, superior, inferior."""
    return {side.removesuffix("_mm"): value for side, value in vars(margins).items()}


def _step(grid: sitk.Image) -> np.ndarray:
    """Millimetres LPS of one voxel along each axis of the grid: columns in the order x y z; shape (3, 3)."""
    return np.array(grid.GetDirection()).reshape(3, 3) * np.array(grid.GetSpacing())


def _margin_body(grid: sitk.Image, margins: Margins, voxels: int = 1, rim: float = _RELATIVE_TOLERANCE) -> np.ndarray:
    """Voxel offsets that a margin reaches, as a boolean array of odd shape (z, y, x), origin in the middle.

    An offset is reached if it lies within the margins of a voxel's box, ``voxels`` times enlarged: 1 asks from the box
    to a voxel's centre, 2 from the box to the other voxel's box. ``rim`` > 0 takes what lies exactly on the edge.
    """
    step, spacing = _step(grid), np.array(grid.GetSpacing())
    thinnest = _THINNEST * spacing.min()
    plus = np.maximum([margins.left_mm, margins.posterior_mm, margins.superior_mm], thinnest)  # LPS axes point there
    minus = np.maximum([margins.right_mm, margins.anterior_mm, margins.inferior_mm], thinnest)
    half = np.floor(max(*plus, *minus) / spacing + voxels / 2 + _RELATIVE_TOLERANCE).astype(int)
    index = np.indices(2 * half[::-1] + 1).reshape(3, -1)[::-1] - half[:, None]  # rows x y z
    offset, edges = step @ index, step * voxels
    extent = np.abs(edges).sum(axis=1) / 2  # of the box along the patient axes
    beyond = np.sign(offset) * np.maximum(np.abs(offset) - extent[:, None], 0)
    reached = _gauge(beyond, plus, minus) <= 1 + rim
    if not math.isclose(extent.sum(), voxels * spacing.sum() / 2, rel_tol=_RELATIVE_TOLERANCE):  # the box is tilted
        reached[reached] = _gauge_from_box(offset[:, reached], edges, plus, minus) <= 1 + rim
    return _trim(reached.reshape(2 * half[::-1] + 1))


def _gauge(offset: np.ndarray, plus: np.ndarray, minus: np.ndarray) -> np.ndarray:
    """1 on the surface of the margin body, below inside: sum of squared offsets over half-axes; (3, n) to (n,)."""
    return ((offset / np.where(offset >= 0, plus[:, None], minus[:, None])) ** 2).sum(axis=0)


def _gauge_from_box(offset: np.ndarray, edges: np.ndarray, plus: np.ndarray, minus: np.ndarray) -> np.ndarray:
    """Smallest gauge of offset - p over all p of a tilted box around the origin; (3, n) to (n,).

    In closed form: the least value of a smooth convex function that is quadratic in each octant is a stationary point
    of one octant's quadratic on one face, edge or corner of the box (or inside it); all of them are tried.
    """
    best = np.full(offset.shape[1], np.inf)
    for axes in {tuple(np.where(octant, plus, minus)) for octant in product((True, False), repeat=3)}:
        scale = np.array(axes)[:, None]
        for face in product((-0.5, 0.0, 0.5), repeat=3):
            place = np.repeat(np.array(face)[:, None], offset.shape[1], axis=1)
            free = np.array(face) == 0
            if free.any():
                least = np.linalg.pinv((edges / scale)[:, free]) @ ((offset - edges @ place) / scale)
                place[free] = np.clip(least, -0.5, 0.5)
            best = np.minimum(best, _gauge(offset - edges @ place, plus, minus))
    return best


def _trim(body: np.ndarray) -> np.ndarray:
    """Cut empty planes off a body, evenly on both sides so that its origin stays in the middle."""
    middle = np.array(body.shape) // 2
    reach = np.abs(np.argwhere(body) - middle).max(axis=0)
    return body[tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))]


def _half_sizes(body: np.ndarray) -> np.ndarray:
    """How far a body reaches from its middle, in voxels (z, y, x)."""
    return np.array(body.shape) // 2


def _dilate(mask: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Dilate by a body of odd shape. The convolution counts mask voxels in reach, so anything from 0.5 up is a hit."""
    if body.size == 1 or not mask.any():
        return mask
    return fftconvolve(mask.astype(np.float64), body.astype(np.float64), mode="same") > 0.5


def _crop_and_pad(mask: np.ndarray, pad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounding box of a mask with ``pad`` empty voxels around, and its first index (may lie outside the image)."""
    box = bounding_box(mask)
    cut = mask[box]
    return np.pad(cut, [(p, p) for p in pad]), np.array([s.start for s in box]) - pad


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around the true voxels of a non-empty mask."""
    lines = (np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3))
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def _overlap(
    shape: tuple[int, ...], start: np.ndarray, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a box at ``start`` meets an image: slices into the image and into the box."""
    first = np.maximum(start, 0)
    last = np.minimum(start + np.array(size), np.array(shape))
    inside = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    within = tuple(slice(int(a - s), int(b - s)) for a, b, s in zip(first, last, start, strict=True))
    return inside, within


def _within(organ: Region, gap_mm: float, wanted: np.ndarray) -> np.ndarray:
    """Voxels closer than ``gap_mm`` to an organ, worked out around the wanted voxels only; shape (z, y, x)."""
    if gap_mm == 0 or not wanted.any():
        return organ.array & wanted
    body = _margin_body(organ.mask, Margins.uniform(gap_mm), voxels=2, rim=-_RELATIVE_TOLERANCE)
    half = _half_sizes(body)
    box = tuple(
        slice(max(0, s.start - h), s.stop + h) for s, h in zip(bounding_box(wanted), half.tolist(), strict=True)
    )
    out = np.zeros_like(wanted)
    out[box] = _dilate(organ.array[box], body)
    return out


def _ml(mask: np.ndarray, grid: sitk.Image) -> float:
    """Volume of a mask in millilitres."""
    return float(np.count_nonzero(mask)) * voxel_volume_ml(grid)
