"""What the slice views show: CT below, map above, linked; and the value under the crosshair. Nodes only, no Qt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..mrml.geometry import LPS_TO_RAS, from_vtk_matrix, image_data_array
from ..volume import Region

NO_VALUE = "–"
_UNITS = {"{ratio}": "ratio", "[hnsf'U]": "HU", "mm[Hg]": "mmHg"}


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it."""
    return _UNITS.get(unit, unit)


def overlay(scene: Any, background: Any, map_node: Any, opacity: float) -> int:
    """Show a map over an image in every slice view; opacity 1 shows the map alone. Returns the number of views."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    nodes.UnRegister(None)
    for number in range(nodes.GetNumberOfItems()):
        view = nodes.GetItemAsObject(number)
        view.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        view.SetForegroundVolumeID(map_node.GetID() if map_node is not None else None)
        view.SetForegroundOpacity(float(opacity))
        view.SetLinkedControl(1)
    return int(nodes.GetNumberOfItems())


def side_by_side(scene: Any, left: Any, right: Any, background: Any) -> None:
    """PET alone in the first slice view, the map over the image in the others."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    nodes.UnRegister(None)
    for number in range(nodes.GetNumberOfItems()):
        view = nodes.GetItemAsObject(number)
        view.SetLinkedControl(0)
        first = view.GetLayoutName() == "Red"
        view.SetBackgroundVolumeID((left if first else background).GetID())
        view.SetForegroundVolumeID(None if first else right.GetID())


def link_crosshair(scene: Any) -> None:
    """Switch the crosshair on: one position in all views, jumping in the middle of each."""
    import slicer

    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairMode(slicer.vtkMRMLCrosshairNode.ShowBasic)
        crosshair.SetCrosshairBehavior(slicer.vtkMRMLCrosshairNode.OffsetJumpSlice)


def centre_slices(scene: Any, region: Region) -> None:
    """Jump with every slice view, and the crosshair, to the middle of a region."""
    places = np.argwhere(region.array)
    if len(places) == 0:
        return
    middle = [float(v) for v in (places.min(0) + places.max(0))[::-1] / 2]
    lps = region.mask.TransformContinuousIndexToPhysicalPoint(middle)
    ras = (LPS_TO_RAS @ [*lps, 1.0])[:3]
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS([float(v) for v in ras])
    nodes = scene.GetNodesByClass("vtkMRMLSliceNode")
    nodes.UnRegister(None)
    for number in range(nodes.GetNumberOfItems()):
        nodes.GetItemAsObject(number).JumpSliceByCentering(*(float(v) for v in ras))


def set_display_threshold(map_node: Any, threshold: float, comparison: str) -> None:
    """Hide the voxels that are not hypoxic: 0.3 ms, where writing the segment takes 0.2 s."""
    display = map_node.GetDisplayNode()
    display.SetAutoThreshold(0)
    display.SetApplyThreshold(1)
    limit = np.float32(threshold)  # maps are compared as float32 wherever they are counted
    strict = {">": np.nextafter(limit, np.float32(np.inf)), "<": np.nextafter(limit, np.float32(-np.inf))}
    edge = float(strict.get(comparison, limit))
    if comparison.startswith(">"):
        display.SetThreshold(edge, 1e30)
    else:
        display.SetThreshold(-1e30, edge)


def show_whole_map(map_node: Any) -> None:
    """Show every voxel of the map again."""
    map_node.GetDisplayNode().SetApplyThreshold(0)


def colour_legend(map_node: Any, quantity: str, unit: str) -> Any:
    """Colour legend with quantity and unit; None where the application has no colour logic."""
    import slicer

    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(map_node)
    if legend is None:
        legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(map_node)
    if legend is not None:
        legend.SetTitleText(f"{quantity}\n({unit_text(unit)})")
        legend.SetLabelFormat("%.2f")
        legend.SetVisibility(True)
    return legend


def value_at(node: Any, ras_mm: tuple[float, float, float]) -> float:
    """Voxel value of a volume node at a point (RAS mm); NaN outside."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    if node is None or node.GetImageData() is None:
        return math.nan
    matrix = vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    index = np.rint(from_vtk_matrix(matrix) @ [*ras_mm, 1.0])[:3].astype(int)
    array = image_data_array(node.GetImageData())
    if (index < 0).any() or (index >= array.shape[::-1]).any():
        return math.nan
    return float(array[index[2], index[1], index[0]])


def probe_text(map_node: Any, uncertainty_node: Any, unit: str, ras_mm: tuple[float, float, float]) -> str:
    """Map value with unit, and its uncertainty where there is one, at a point."""
    value = value_at(map_node, ras_mm)
    if math.isnan(value):
        return NO_VALUE
    spread = value_at(uncertainty_node, ras_mm)
    shown = unit_text(unit)
    return f"{value:.2f} {shown}" if math.isnan(spread) else f"{value:.2f} ± {spread:.2f} {shown}"
