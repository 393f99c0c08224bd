"""Segments as regions to compute with: whole, and drawn in the frame of reference of the planning image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, HypoxiaError
from ..jobs import JobResult
from ..mrml import segment_to_region
from ..mrml.geometry import require_no_transform
from ..mrml.segments import LABELMAP, segment_mask
from ..tumour_overlap import is_tumour_name
from ..volume import Region, voxel_volume_ml
from .i18n import _

LARGEST_LOSS = 0.005
"""Part of a segment that may lie outside the planning image: less than the half voxel by which grids differ."""
OUTSIDE = "outside the planning image"


def region_of_segment(
    node: Any, segment_id: str, grid: sitk.Image, frame_uid: str, as_placed: bool = False, whole: bool = True
) -> Region:
    """Region of a segment on the planning grid and in its frame of reference.

    Parameters
    ----------
    as_placed : bool
        A person states that everything lies where it is shown: a segment drawn in another frame of reference is taken.
    whole : bool
        Refuse a segment that reaches beyond the grid; else its source tells how much was left out.

    Raises
    ------
    GeometryError
        If it stands under a transform, was drawn in another frame of reference, or is cut off.
    RequestError
        If there is no such segment.
    """
    region = segment_to_region(node, segment_id, grid)
    drawn_in, source = region.frame_of_reference_uid, region.source
    if drawn_in and frame_uid and drawn_in != frame_uid:
        if not as_placed:
            text = _("{name} was drawn in the frame of reference {drawn_in}; the planning image is in {frame}.")
            raise GeometryError(
                text.format(name=region.name, drawn_in=drawn_in, frame=frame_uid),
                _("Use a contour drawn on the planning CT, or compute the map as placed in the scene."),
            )
        source = f"{source or 'segment'}; drawn in frame of reference {drawn_in}, taken as placed in the scene"
    lost_ml = _outside_ml(segment_mask(node, segment_id), grid)
    if lost_ml > LARGEST_LOSS * (lost_ml + region.volume_ml):
        if whole:
            text = _("{volume:.2f} ml of {name} lie outside the planning image: it would be cut off.")
            message = text.format(volume=lost_ml, name=region.name)
            raise GeometryError(message, _("Use a planning CT that holds it, or redraw it."))
        source = f"{source or 'segment'}; {lost_ml:.2f} ml of {region.name} lie {OUTSIDE}"
    return replace(region, frame_of_reference_uid=frame_uid, source=source)


def outside_note(region: Region) -> str:
    """What lies outside the planning image, as ``region_of_segment`` left it out; empty for nothing."""
    return next((f"{part.strip()}." for part in region.source.split(";") if part.endswith(OUTSIDE)), "")


def with_losses(result: JobResult, regions: Mapping[str, Region]) -> JobResult:
    """A result whose map warns of what its regions lost outside the planning image, as it will stand in the report."""
    notes = tuple(filter(None, map(outside_note, regions.values())))
    return replace(result, map=replace(result.map, warnings=(*notes, *result.map.warnings)))


def segment_ids(segmentation: Any) -> list[str]:
    """Identifiers of all segments."""
    inner = segmentation.GetSegmentation()
    return [inner.GetNthSegmentID(n) for n in range(inner.GetNumberOfSegments())]


def other_tumours(used: Mapping[str, tuple[Any, str]], grid: sitk.Image) -> Iterator[tuple[str, Region | str]]:
    """Gross tumours beside the chosen GTV in the segmentations in use; a text for one that cannot be read.

    Parameters
    ----------
    used : mapping
        Segmentation and segment of each region by its key; a sphere has an empty segment.
    """
    for node in {n.GetID(): n for n, segment_id in used.values() if segment_id}.values():
        for identifier in segment_ids(node):
            name = node.GetSegmentation().GetSegment(identifier).GetName()
            if is_tumour_name(name) and (node, identifier) not in (used.get("gtv"), used.get("reference")):
                try:
                    yield name, segment_to_region(node, identifier, grid)
                except HypoxiaError as error:
                    yield name, error.message


def without_labelmap(regions: Iterable[tuple[Any, str]]) -> list[str]:
    """One line for each segment that has contours or a surface alone, as SlicerRT loads them, and how to go on."""
    lines = []
    for node, segment_id in regions:
        segment = node.GetSegmentation().GetSegment(segment_id) if segment_id else None
        if segment is not None and segment.GetRepresentation(LABELMAP) is None:
            text = _(
                "Segment {name!r} has no voxels yet: in the Segmentations module, Representations, create its Binary "
                "labelmap, or load the structures with 'Load DICOM folder'."
            )
            lines.append(text.format(name=segment.GetName()))
    return lines


def transformed(nodes: Iterable[Any]) -> list[str]:
    """One line for each node that stands under a transform, and how to go on."""
    lines = []
    for node in nodes:
        if node.IsA("vtkMRMLTransformableNode"):
            try:
                require_no_transform(node)
            except GeometryError as error:
                lines.append(str(error))
    return list(dict.fromkeys(lines))


def _outside_ml(mask: sitk.Image | None, grid: sitk.Image) -> float:
    """Volume in ml of the voxels of a mask whose centre lies outside a grid."""
    if mask is None:
        return 0.0
    inside = sitk.GetArrayViewFromImage(mask) > 0
    places = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    if not places[0].size:
        return 0.0
    corners = product(*((float(p[0]), float(p[-1])) for p in places))
    ends = [_index(grid, mask.TransformContinuousIndexToPhysicalPoint(corner)) for corner in corners]
    if all(_holds(grid, end) for end in ends):
        return 0.0
    ones = sitk.Image(grid.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(grid)
    held = sitk.Resample(ones, mask, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    lost = int(np.count_nonzero(inside & (sitk.GetArrayViewFromImage(held) == 0)))
    return lost * voxel_volume_ml(mask)


def _index(grid: sitk.Image, point: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(grid.TransformPhysicalPointToContinuousIndex(point))


def _holds(grid: sitk.Image, index: tuple[float, ...]) -> bool:
    """True if a continuous index lies in the grid, up to the faces of its outer voxels."""
    return all(-0.5 <= place <= size - 0.5 for place, size in zip(index, grid.GetSize(), strict=True))
