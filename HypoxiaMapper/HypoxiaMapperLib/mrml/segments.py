"""Region to segment and back, as binary labelmap on the region's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import RequestError
from ..volume import Region, describe_grid, image_like, same_grid
from .geometry import (
    fill_image_data,
    from_vtk_matrix,
    image_data_array,
    index_to_ras,
    require_no_transform,
    set_geometry,
    spans_about,
    to_vtk_matrix,
)

LABELMAP = "Binary labelmap"  # vtkSegmentationConverter's own name of the representation
FRAME_OF_REFERENCE = "Hypoxia.FrameOfReferenceUID"
SOURCE = "Hypoxia.Source"


def make_segmentation(scene: Any, name: str) -> Any:
    """Add an empty segmentation node with labelmaps as source and as the shape shown, as outlines, in slices."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().SetSourceRepresentationName(LABELMAP)
    node.GetDisplayNode().SetPreferredDisplayRepresentationName2D(LABELMAP)
    outlines_only(node)
    return node


def outlines_only(node: Any) -> None:
    """Show no fill in slices: a red fill over a map makes every voxel of the tumour look hot."""
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility2DFill(False)


def region_to_segment(scene: Any, segmentation_node: Any, region: Region, colour: tuple[int, int, int]) -> str:
    """Add a region to a segmentation as a new segment.

    Parameters
    ----------
    scene : vtkMRMLScene
        Scene the segmentation must belong to.
    segmentation_node : vtkMRMLSegmentationNode
        Receives the segment.
    region : Region
        In LPS millimetres.
    colour : tuple of int
        Red, green, blue 0-255.

    Returns
    -------
    str
        Identifier of the new segment.

    Raises
    ------
    RequestError
        If the segmentation is not in the scene.
    """
    import slicer

    if segmentation_node.GetScene() is not scene:
        raise RequestError(
            f"Segmentation {segmentation_node.GetName()!r} is not in the given scene.", "Add it to the scene first."
        )
    labelmap = slicer.vtkOrientedImageData()
    fill_image_data(labelmap, sitk.GetArrayViewFromImage(region.mask))
    labelmap.SetImageToWorldMatrix(to_vtk_matrix(index_to_ras(region.mask)))
    segment = slicer.vtkSegment()
    segment.SetName(region.name)
    segment.SetColor(*(c / 255 for c in colour))
    segment.SetTag(FRAME_OF_REFERENCE, region.frame_of_reference_uid)
    segment.SetTag(SOURCE, region.source)
    segment.AddRepresentation(LABELMAP, labelmap)
    segmentation = segmentation_node.GetSegmentation()
    identifier = segmentation.GenerateUniqueSegmentID(region.name)
    if not segmentation.AddSegment(segment, identifier):
        raise RequestError(
            f"Segmentation {segmentation_node.GetName()!r} took no segment {region.name!r}.",
            "Use a segmentation whose source representation is the binary labelmap.",
        )
    return identifier


def segment_to_region(segmentation_node: Any, segment_id: str, grid: sitk.Image) -> Region:
    """Region of a segment on a grid.

    A segment on a grid of its own is brought onto ``grid`` by nearest neighbour, which its source then says.

    Raises
    ------
    RequestError
        If there is no such segment (the names are listed), or it has no binary labelmap.
    GeometryError
        If the segmentation stands under a transform.
    """
    mask = segment_mask(segmentation_node, segment_id)
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    source = segment_tag(segment, SOURCE)
    if mask is not None and not same_grid(mask, grid):
        source = f"{source or 'segment'}; from {describe_grid(mask)} by nearest neighbour"
    return Region(segment.GetName(), _on_grid(mask, grid), segment_tag(segment, FRAME_OF_REFERENCE), source)


def segment_part(segmentation_node: Any, segment_id: str, grid: sitk.Image) -> Region:
    """What of a segment lies on a small grid, as ``segment_to_region`` has it; voxels far from it are not read."""
    mask = segment_mask(segmentation_node, segment_id, grid)
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    frame_uid, source = segment_tag(segment, FRAME_OF_REFERENCE), segment_tag(segment, SOURCE)
    return Region(segment.GetName(), _on_grid(mask, grid), frame_uid, source)


def _on_grid(mask: sitk.Image | None, grid: sitk.Image) -> sitk.Image:
    """A mask brought onto a grid by nearest neighbour; None is an empty one. Only where it may lie is resampled."""
    array = np.zeros(tuple(reversed(grid.GetSize())), np.uint8)
    if mask is not None and same_grid(mask, grid):
        return mask
    mask = _box_of(mask)
    if mask is None:
        return image_like(array, grid)
    spans = spans_about(mask, index_to_ras(grid), grid.GetSize())
    if all(span.stop > span.start for span in spans):
        first, size = [span.start for span in spans], [span.stop - span.start for span in spans]
        origin = grid.TransformIndexToPhysicalPoint(first)
        part = sitk.Resample(
            mask, size, sitk.Transform(), sitk.sitkNearestNeighbor, origin, grid.GetSpacing(), grid.GetDirection(), 0,
            sitk.sitkUInt8,
        )  # fmt: skip
        i, j, k = spans
        array[k, j, i] = sitk.GetArrayViewFromImage(part)
    return image_like(array, grid)


def segment_mask(segmentation_node: Any, segment_id: str, near: sitk.Image | None = None) -> sitk.Image | None:
    """Mask of a segment on the grid of its own labelmap, or only its part about the grid ``near``.

    None for an empty one, or a part without voxels; errors as ``segment_to_region``.
    """
    segmentation = segmentation_node.GetSegmentation()
    segment = segmentation.GetSegment(segment_id)
    if segment is None:
        known = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        raise RequestError(
            f"Segmentation {segmentation_node.GetName()!r} has no segment {segment_id!r}.",
            f"There are: {', '.join(known) or 'none'}.",
        )
    require_no_transform(segmentation_node)
    labelmap = segment.GetRepresentation(LABELMAP)
    if labelmap is None:
        raise RequestError(
            f"Segment {segment.GetName()!r} has no binary labelmap.",
            "Create one (Segmentations module, Representations, Binary labelmap, Create).",
        )
    if min(labelmap.GetDimensions()) <= 0:
        return None
    return _labelmap_image(labelmap, segment.GetLabelValue(), near)


def _labelmap_image(labelmap: Any, value: int, near: sitk.Image | None) -> sitk.Image | None:
    """Mask of one value of a vtkOrientedImageData, whose extent need not begin at 0 and which segments may share."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    index_matrix = from_vtk_matrix(matrix)
    first = np.array(labelmap.GetExtent()[::2], float)
    index_matrix[:3, 3] += index_matrix[:3, :3] @ first
    array = image_data_array(labelmap)
    if near is not None:
        i, j, k = spans = spans_about(near, index_matrix, array.shape[::-1])
        array = array[k, j, i]
        index_matrix[:3, 3] += index_matrix[:3, :3] @ [float(span.start) for span in spans]
    if array.size == 0:
        return None
    image = sitk.GetImageFromArray((array == value).astype(np.uint8))
    set_geometry(image, index_matrix)
    return image


def segment_box(segmentation_node: Any, segment_id: str) -> sitk.Image | None:
    """Mask of a segment cut to the box of its voxels; None for an empty one, errors as ``segment_to_region``."""
    return _box_of(segment_mask(segmentation_node, segment_id))


def _box_of(mask: sitk.Image | None) -> sitk.Image | None:
    """A mask cut to the box of its voxels; None without any."""
    if mask is None:
        return None
    inside = sitk.GetArrayViewFromImage(mask)
    k, j, i = (np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    if not k.size:
        return None
    return mask[int(i[0]) : int(i[-1]) + 1, int(j[0]) : int(j[-1]) + 1, int(k[0]) : int(k[-1]) + 1]


def segment_tag(segment: Any, key: str) -> str:
    """Tag of a segment, empty when it has none."""
    from vtkmodules.vtkCommonCore import reference

    value = reference("")
    return str(value) if segment.GetTag(key, value) else ""
