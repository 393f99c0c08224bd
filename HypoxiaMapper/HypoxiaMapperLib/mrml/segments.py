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
    if mask is None:
        array = np.zeros(tuple(reversed(grid.GetSize())), np.uint8)
        return Region(segment.GetName(), image_like(array, grid), segment_tag(segment, FRAME_OF_REFERENCE), source)
    if not same_grid(mask, grid):
        source = f"{source or 'segment'}; from {describe_grid(mask)} by nearest neighbour"
        mask = sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return Region(segment.GetName(), mask, segment_tag(segment, FRAME_OF_REFERENCE), source)


def segment_mask(segmentation_node: Any, segment_id: str) -> sitk.Image | None:
    """Mask of a segment on the grid of its own labelmap; None for an empty one (errors as ``segment_to_region``)."""
    import slicer

    segmentation = segmentation_node.GetSegmentation()
    segment = segmentation.GetSegment(segment_id)
    if segment is None:
        known = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        raise RequestError(
            f"Segmentation {segmentation_node.GetName()!r} has no segment {segment_id!r}.",
            f"There are: {', '.join(known) or 'none'}.",
        )
    require_no_transform(segmentation_node)
    labelmap = slicer.vtkOrientedImageData()
    if not segmentation_node.GetBinaryLabelmapRepresentation(segment_id, labelmap):
        raise RequestError(
            f"Segment {segment.GetName()!r} has no binary labelmap.",
            "Create one (Segmentations module, Representations, Binary labelmap, Create).",
        )
    return _labelmap_image(labelmap) if min(labelmap.GetDimensions()) > 0 else None


def _labelmap_image(labelmap: Any) -> sitk.Image:
    """SimpleITK mask of a vtkOrientedImageData, whose extent need not begin at 0."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    index_matrix = from_vtk_matrix(matrix)
    first = np.array(labelmap.GetExtent()[::2], float)
    index_matrix[:3, 3] += index_matrix[:3, :3] @ first
    image = sitk.GetImageFromArray((image_data_array(labelmap) > 0).astype(np.uint8))
    set_geometry(image, index_matrix)
    return image


def segment_tag(segment: Any, key: str) -> str:
    """Tag of a segment, empty when it has none."""
    from vtkmodules.vtkCommonCore import reference

    value = reference("")
    return str(value) if segment.GetTag(key, value) else ""
