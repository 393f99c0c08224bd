"""RTSTRUCT to masks: which pixel centres lie inside the contours of a region.

Contours are moved into the index space of the grid, so oblique grids need nothing special. In each slice a pixel
is inside when a ray from its centre crosses the contours an odd number of times (even-odd rule): nested holes,
keyholes and CLOSEDPLANAR_XOR all follow from it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from ..errors import GeometryError, InputError, RequestError
from ..volume import Region, voxel_volume_ml
from .contour_gaps import find_gaps
from .raster import fill_even_odd

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RTSTRUCT_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_CLOSED_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")
_CONTOUR_DATA = 0x30060050
_WARNING = "warning: "  # marks, in Region.source, what the user must be told
_SHOWN_GAPS = 6  # positions listed in a message; the rest is counted
_TOO_FEW = "closed contour of fewer than 3 points"
_ON_PLANE = 0.01  # slices; less is rounding of the coordinates
_HALF_SLICE = 0.5 + 1e-3
_ROUNDING_DIGITS = 6  # index space; makes a pixel centre that lies on a contour fall the same way everywhere


@dataclass(frozen=True)
class _Contours:
    """Closed contours of one region in index space: points (n, 3) as x, y, z, first point of each, notes."""

    points: np.ndarray
    starts: np.ndarray
    notes: tuple[str, ...]


def roi_names(structure_set: Dataset) -> tuple[str, ...]:
    """ROI names in file order; where several share a name, each gets its ROI Number: ``GTVp #1``, ``GTVp #7``."""
    rois = structure_set.get("StructureSetROISequence") or []
    names = [str(roi.get("ROIName", "") or "").strip() or f"ROI {roi.get('ROINumber')}" for roi in rois]
    count = Counter(names)
    return tuple(
        name if count[name] == 1 else f"{name} #{roi.get('ROINumber')}" for name, roi in zip(names, rois, strict=True)
    )


def region_warnings(region: Region) -> tuple[str, ...]:
    """What was not exact when the region was read, one line each; empty for a region of another source."""
    return tuple(note[len(_WARNING) :] for note in region.source.split("; ") if note.startswith(_WARNING))


def read_structure_set(
    path: Path, grid: sitk.Image, frame_of_reference_uid: str, names: Sequence[str] | None = None
) -> dict[str, Region]:
    """Turn contours into masks on a grid whose planes hold them.

    Parameters
    ----------
    path : Path
        RTSTRUCT file.
    grid : SimpleITK.Image
        Three-dimensional image whose slices the contours were drawn on; may be oblique.
    frame_of_reference_uid : str
        Frame of reference of ``grid``.
    names : sequence of str, optional
        Regions to read; all that have closed contours when None.

    Returns
    -------
    dict
        Name to Region. ``Region.source`` holds the SOP Instance UID, ROI number and, readable by
        ``region_warnings``, what was not exact. A region that looks incomplete is refused by name; when all are
        read it is given with a warning, so that one organ does not hide the others.

    Raises
    ------
    InputError
        If the file is no readable RTSTRUCT or uses an ROI number twice, or a named region has no closed contour or
        none on more than half of the slices it should be on (see ``contour_gaps``).
    RequestError
        If a name does not exist; the names that do are listed.
    GeometryError
        If the frame of reference differs, or a contour does not lie in a slice plane of the grid.
    """
    path = Path(path)
    structure_set = _read(path)
    known = _rois_by_name(structure_set, path.name)
    missing = [name for name in names or () if name not in known]
    if missing:
        raise RequestError(
            f"{path.name}: no ROI named {', '.join(repr(m) for m in missing)}.",
            f"ROIs in this file: {', '.join(known) or 'none'}.",
        )
    items = {int(item.ReferencedROINumber): item for item in structure_set.get("ROIContourSequence") or []}
    regions: dict[str, Region] = {}
    for name in known if names is None else names:
        number = int(known[name].ROINumber)
        contours = _closed_contours(items.get(number), grid, name)
        if not contours.starts.size:
            if names is None:
                continue
            raise InputError(
                f"{path.name}: ROI {name!r} is empty, it has no closed contour. {' '.join(contours.notes)}".strip(),
                "Draw it, or choose another ROI.",
            )
        _require_frame(structure_set, known[name], frame_of_reference_uid, f"{path.name}: ROI {name!r}")
        mask, notes, incomplete = _rasterise(contours, grid, name)
        if incomplete and names is not None:
            raise InputError(
                f"{path.name}: {incomplete}.", "Export the structure set again, interpolated to every slice."
            )
        notes = (*contours.notes, *notes, *((incomplete,) if incomplete else ()))
        source = [f"RTSTRUCT {structure_set.SOPInstanceUID} ROI {number}", *(f"{_WARNING}{note}" for note in notes)]
        regions[name] = Region(name, mask, frame_of_reference_uid, "; ".join(source))
    return regions


def _rois_by_name(structure_set: Dataset, file_name: str) -> dict[str, Dataset]:
    """Items of the Structure Set ROI Sequence by name; a number or name that is not unique would hide a region."""
    rois = structure_set.get("StructureSetROISequence") or []
    references = structure_set.get("ROIContourSequence") or []
    known = dict(zip(roi_names(structure_set), rois, strict=True))
    for numbers, tag in (
        ([int(roi.ROINumber) for roi in rois], "ROI Number (3006,0022)"),
        ([int(item.ReferencedROINumber) for item in references], "Referenced ROI Number (3006,0084)"),
    ):
        doubled = [str(number) for number, count in Counter(numbers).items() if count > 1]
        if doubled:
            raise InputError(
                f"{file_name}: {tag} {', '.join(doubled)} occurs twice.", "Export the structure set again."
            )
    if len(known) < len(rois):
        raise InputError(f"{file_name}: ROI names cannot be told apart: {', '.join(known)}.", "Rename the ROIs.")
    return known


def _read(path: Path) -> Dataset:
    """The structure set; values are decoded only where they are asked for."""
    try:
        structure_set = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as DICOM ({error}).", "Give an RTSTRUCT file.") from error
    if str(structure_set.get("SOPClassUID", "")) != _RTSTRUCT_SOP_CLASS:
        raise InputError(
            f"{path}: not an RTSTRUCT but {getattr(structure_set.get('SOPClassUID'), 'name', 'unknown')}.",
            "Give an RTSTRUCT file.",
        )
    return structure_set


def _require_frame(structure_set: Dataset, roi: Dataset, frame_uid: str, where: str) -> None:
    """Refuse contours of another frame of reference than the grid's."""
    frames = structure_set.get("ReferencedFrameOfReferenceSequence") or []
    found = (
        str(roi.get("ReferencedFrameOfReferenceUID", "") or "")
        or (str(frames[0].get("FrameOfReferenceUID", "") or "") if frames else "")
        or str(structure_set.get("FrameOfReferenceUID", "") or "")
    )
    if not found or found != frame_uid:
        raise GeometryError(
            f"{where} was drawn in frame of reference {found or '(none given)'}, the image has "
            f"{frame_uid or '(none given)'}.",
            "Choose the image it was drawn on, or give a registration.",
        )


def _closed_contours(item: Dataset | None, grid: sitk.Image, name: str) -> _Contours:
    """Read the closed contours of one region and move them into the grid's index space."""
    chunks: list[np.ndarray] = []
    ignored: dict[str, int] = {}
    for contour in (item.get("ContourSequence") if item is not None else None) or []:
        kind = str(contour.get("ContourGeometricType", "") or "").strip()
        if kind not in _CLOSED_TYPES:
            ignored[kind] = ignored.get(kind, 0) + 1
            continue
        points = _points(contour, name)
        if len(points) < 3:
            ignored[_TOO_FEW] = ignored.get(_TOO_FEW, 0) + 1
            continue
        chunks.append(points)
    notes = tuple(f"{count} {kind} item(s) ignored" for kind, count in ignored.items())
    if not chunks:
        return _Contours(np.empty((0, 3)), np.empty(0, int), notes)
    lengths = np.array([len(c) for c in chunks])
    return _Contours(_to_index(np.concatenate(chunks), grid), np.concatenate([[0], np.cumsum(lengths)[:-1]]), notes)


def _points(contour: Dataset, name: str) -> np.ndarray:
    """Points of a contour in LPS mm, shape (n, 3), straight from the undecoded text."""
    if _CONTOUR_DATA not in contour:
        return np.empty((0, 3))
    raw = contour.get_item(_CONTOUR_DATA).value
    if isinstance(raw, bytes):
        text = raw.rstrip(b" \0\\")
        expected = text.count(b"\\") + 1 if text else 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # NumPy's present way to say "not a number"
                values = np.fromstring(text, float, sep="\\") if text else np.empty(0)
        except (DeprecationWarning, ValueError):
            values = np.full(expected, np.nan)
    else:
        values = np.array([] if raw is None else raw, float)
        expected = values.size
    if values.size != expected or values.size % 3 or not np.isfinite(values).all():
        raise InputError(
            f"ROI {name!r}: Contour Data (3006,0050) of {expected} values is not a list of finite points.",
            "Export the structure set again.",
        )
    return values.reshape(-1, 3)


def _to_index(points_mm: np.ndarray, grid: sitk.Image) -> np.ndarray:
    """Continuous index (x, y, z) of points in LPS mm, shape (n, 3)."""
    direction = np.array(grid.GetDirection()).reshape(3, 3)
    matrix = np.linalg.inv(direction @ np.diag(grid.GetSpacing()))
    return np.round((points_mm - np.array(grid.GetOrigin())) @ matrix.T, _ROUNDING_DIGITS)


def _rasterise(contours: _Contours, grid: sitk.Image, name: str) -> tuple[sitk.Image, tuple[str, ...], str]:
    """Mask of a region on the grid, notes on what was not exact, and why it looks incomplete (mostly empty)."""
    planes, offsets, notes = _slice_of_each(contours, grid, name)
    keep, more = _nearest_only(planes, offsets)
    columns, rows, _ = grid.GetSize()
    low, high = contours.points[:, :2].min(axis=0), contours.points[:, :2].max(axis=0)
    if (low < -1).any() or (high > np.array([columns, rows])).any():
        notes = (*notes, "contours reach outside the image and are cut at its border")
    lengths = np.diff(np.append(contours.starts, len(contours.points)))
    array = fill_even_odd(contours.points[:, :2], lengths, np.where(keep, planes, -1), grid.GetSize())
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(grid)
    gaps, incomplete = _gap_notes(array, planes, grid, name)
    return mask, (*notes, *more, *gaps), incomplete


def _gap_notes(array: np.ndarray, planes: np.ndarray, grid: sitk.Image, name: str) -> tuple[tuple[str, ...], str]:
    """Note on missing contours, and the text of a refusal when most are missing."""
    gaps = find_gaps(array, planes)
    if not gaps.slices:
        return (), ""
    places = [f"{grid.TransformIndexToPhysicalPoint((0, 0, k))[2]:.1f}" for k in gaps.slices]
    more = f" and {len(places) - _SHOWN_GAPS} more" if len(places) > _SHOWN_GAPS else ""
    where = f"z = {', '.join(places[:_SHOWN_GAPS])} mm{more}"
    lost = f"interpolation would add about {gaps.voxels * voxel_volume_ml(grid):.2f} ml"
    if gaps.incomplete:
        return (), (
            f"ROI {name!r} has contours on {gaps.contoured} of {gaps.expected} slices, none at {where} ({lost}): it "
            "looks exported incompletely"
        )
    return (f"no contour on {len(places)} slice(s) between contours that lie over each other, at {where}, {lost}",), ""


def _slice_of_each(contours: _Contours, grid: sitk.Image, name: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Slice index and offset from its plane (in slices) of each contour."""
    z = contours.points[:, 2]
    low, high = np.minimum.reduceat(z, contours.starts), np.maximum.reduceat(z, contours.starts)
    middle = (low + high) / 2
    # Half-way between two planes rounds down, so that equally spaced in-between contours do not fall together.
    planes = np.ceil(middle - 0.5 - 1e-6).astype(int)
    tilted = np.flatnonzero((low < planes - _HALF_SLICE) | (high > planes + _HALF_SLICE))
    if tilted.size:
        k = int(tilted[0])
        raise GeometryError(
            f"ROI {name!r}: contour {k + 1} does not lie in a slice plane of the image (it runs from slice "
            f"{low[k]:.2f} to {high[k]:.2f}; {tilted.size} such contours).",
            "Read it on the image it was drawn on.",
        )
    depth = grid.GetSize()[2]
    outside = np.flatnonzero((planes < 0) | (planes >= depth))
    if outside.size:
        raise GeometryError(
            f"ROI {name!r}: {outside.size} of {planes.size} contours lie above or below the image (slice "
            f"{middle[outside[0]]:.2f} of {depth}).",
            "Read it on the image it was drawn on, or give the whole series.",
        )
    offsets = np.maximum(np.abs(low - planes), np.abs(high - planes))
    moved = offsets > _ON_PLANE
    notes: tuple[str, ...] = ()
    if moved.any():
        worst_mm = float(offsets.max()) * grid.GetSpacing()[2]
        notes = (f"{int(moved.sum())} contours lie between slice planes, moved by up to {worst_mm:.2f} mm",)
    return planes, offsets, notes


def _nearest_only(planes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Keep, for every slice, only the contours of the nearest level.

    Contours drawn more densely than the slices would otherwise cancel each other under the even-odd rule.
    """
    nearest = np.full(planes.max() + 1, np.inf)
    np.minimum.at(nearest, planes, offsets)
    keep = offsets <= nearest[planes] + _ON_PLANE
    dropped = int((~keep).sum())
    if not dropped:
        return keep, ()
    return keep, (f"{dropped} contours between the slices were left out, the nearest of each slice was used",)
