"""What the slice views show: CT below, map above, linked; and the value under the crosshair. Nodes only, no Qt."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np

from ..mrml import outlines_only
from ..mrml.geometry import from_vtk_matrix, image_data_array, to_ras
from ..volume import Region
from .map_display import window_decimals
from .patient_scope import all_nodes

NO_VALUE = "–"
LEFT, RIGHT = "Red", "Yellow"  # the two views of Slicer's side-by-side layout
ORIENTATION, FIELD = "Hypoxia.FormerOrientation", "Hypoxia.FormerFieldOfView"  # attributes of a slice view
# Small, in the lower right corner: anatomy is in the middle. Shares of the view, and points.
LEGEND_SIZE, LEGEND_PLACE, LEGEND_FONT, LEGEND_LABELS = (0.12, 0.3), (0.99, 0.04), 11, 4
LEGEND_COLUMNS = 26  # a longer line makes all of the legend small
_UNITS = {"{ratio}": "ratio", "[hnsf'U]": "HU", "mm[Hg]": "mmHg"}


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it."""
    return _UNITS.get(unit, unit)


def overlay(scene: Any, background: Any, map_node: Any, opacity: float) -> int:
    """Show a map over an image in every slice view; opacity 1 shows the map alone. Returns the number of views."""
    views = all_nodes(scene, "vtkMRMLSliceCompositeNode")
    for view in views:
        view.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        view.SetForegroundVolumeID(map_node.GetID() if map_node is not None else None)
        view.SetForegroundOpacity(float(opacity))
        view.SetLinkedControl(1)
    return len(views)


def uncover(scene: Any) -> None:
    """Every segmentation as outlines: slices draw segments above the map, and their fill would change its colours."""
    for node in all_nodes(scene, "vtkMRMLSegmentationNode"):
        outlines_only(node)


def take_away(scene: Any) -> None:
    """No map over the images, and no legend of one. No node is removed: this may answer the removal of another."""
    for view in all_nodes(scene, "vtkMRMLSliceCompositeNode"):
        view.SetForegroundVolumeID(None)
    for legend in all_nodes(scene, "vtkMRMLColorLegendDisplayNode"):
        legend.SetVisibility(False)


def side_by_side(scene: Any, left: Any, right: Any, background: Any) -> None:
    """An image alone in the first slice view, the map over the planning image in the others.

    Both views of the layout become axial and move together; ``leave_side_by_side`` gives the second one its own back.
    """
    for view in all_nodes(scene, "vtkMRMLSliceCompositeNode"):
        first = view.GetLayoutName() == LEFT
        view.SetBackgroundVolumeID((left if first else background).GetID())
        view.SetForegroundVolumeID(None if first else right.GetID())
        view.SetLinkedControl(1)
        view.SetHotLinkedControl(1)
    views = {view.GetLayoutName(): view for view in all_nodes(scene, "vtkMRMLSliceNode")}
    first_view, second = views.get(LEFT), views.get(RIGHT)
    if second is not None and second.GetAttribute(ORIENTATION) is None:
        second.SetAttribute(ORIENTATION, second.GetOrientation())
        second.SetOrientation("Axial")
        if first_view is not None:  # the same magnification
            second.SetAttribute(FIELD, " ".join(str(mm) for mm in second.GetFieldOfView()))
            second.SetFieldOfView(*first_view.GetFieldOfView())


def leave_side_by_side(scene: Any) -> None:
    """Give the second view of the side-by-side layout the orientation and magnification it had before."""
    for view in all_nodes(scene, "vtkMRMLSliceNode"):
        former = view.GetAttribute(ORIENTATION)
        if former:
            view.SetOrientation(former)
            view.RemoveAttribute(ORIENTATION)
            if view.GetAttribute(FIELD):
                view.SetFieldOfView(*(float(mm) for mm in view.GetAttribute(FIELD).split()))
                view.RemoveAttribute(FIELD)


def map_view_ids(scene: Any, besides: str = "") -> list[str]:
    """Identifiers of the slice views, without the one of a layout name."""
    return [view.GetID() for view in all_nodes(scene, "vtkMRMLSliceNode") if view.GetLayoutName() != besides]


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
    ras = to_ras(lps)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(list(ras))
    for view in all_nodes(scene, "vtkMRMLSliceNode"):
        view.JumpSliceByCentering(*ras)


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


def show_above(map_node: Any, lowest: float) -> None:
    """Show every voxel from a value on; what lies below, or has no value, is transparent."""
    display = map_node.GetDisplayNode()
    display.SetAutoThreshold(0)
    display.SetApplyThreshold(1)
    display.SetThreshold(float(lowest), 1e30)


def colour_legend(scene: Any, shown: Any, quantity: str, unit: str, besides: str = "") -> Any:
    """Colour legend of the map that is shown, with quantity and unit; those of other maps go.

    Parameters
    ----------
    besides : str
        Layout name of a slice view that shows no map.

    Returns
    -------
    vtkMRMLColorLegendDisplayNode or None
        None where the application has no colour logic.
    """
    import slicer

    logic = slicer.vtkSlicerColorLogic
    legend = logic.GetColorLegendDisplayNode(shown) or logic.AddDefaultColorLegendDisplayNode(shown)
    for other in all_nodes(scene, "vtkMRMLColorLegendDisplayNode"):
        other.SetVisibility(other is legend)
    if legend is not None:
        legend.SetTitleText("\n".join([*textwrap.wrap(quantity, LEGEND_COLUMNS), f"({unit_text(unit)})"]))
        legend.SetLabelFormat("%.3g")
        legend.SetNumberOfLabels(LEGEND_LABELS)
        legend.SetSize(*LEGEND_SIZE)
        legend.SetPosition(*LEGEND_PLACE)
        for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
            text.SetFontSize(LEGEND_FONT)
        legend.SetViewNodeIDs(map_view_ids(scene, besides) if besides else [])
    return legend


def value_at(node: Any, ras_mm: tuple[float, float, float]) -> float:
    """Voxel value of a volume node at a point (RAS mm); NaN outside."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    if node is None or node.GetImageData() is None:
        return math.nan
    matrix = vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    own = [0.0] * 3
    node.TransformPointFromWorld(ras_mm, own)
    index = np.rint(from_vtk_matrix(matrix) @ [*own, 1.0])[:3].astype(int)
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
    shown, decimals = unit_text(unit), window_decimals((0.0, value))
    if math.isnan(spread):
        return f"{value:.{decimals}f} {shown}"
    decimals = max(decimals, window_decimals((0.0, spread)) - 2)  # a small uncertainty keeps its first digit
    return f"{value:.{decimals}f} ± {spread:.{decimals}f} {shown}"
