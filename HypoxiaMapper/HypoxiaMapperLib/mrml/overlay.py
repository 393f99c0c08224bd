"""How a planning image and a map look in Slicer: window, colours, transparency below a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def show_as_background(node: Any, window: tuple[float, float]) -> None:
    """Show a volume node in gray between two values of its unit, interpolated."""
    display = _display(node)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    _set_window(display, window)
    display.SetInterpolate(1)


def show_as_map(
    scene: Any,
    node: Any,
    window: tuple[float, float],
    colours: Sequence[Sequence[float]],
    transparent_below: float | None = None,
) -> None:
    """Show a volume node in colours between two values of its unit.

    Voxels are shown as they are, not interpolated: a threshold acts on voxels.

    Parameters
    ----------
    scene : vtkMRMLScene
        Scene of the node; receives a colour table.
    node : vtkMRMLScalarVolumeNode
        The map.
    window : tuple of float
        Values of the first and the last colour.
    colours : sequence of (red, green, blue)
        0-1, from low to high.
    transparent_below : float or None
        Voxels below this value are not shown.
    """
    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{node.GetName()} colours")
    table.SetTypeToUser()
    table.SetNumberOfColors(len(colours))
    for number, (red, green, blue) in enumerate(colours):
        table.SetColor(number, f"{number}", float(red), float(green), float(blue), 1.0)
    display = _display(node)
    display.SetAndObserveColorNodeID(table.GetID())
    _set_window(display, window)
    display.SetInterpolate(0)
    display.SetAutoThreshold(0)
    display.SetApplyThreshold(int(transparent_below is not None))
    if transparent_below is not None:
        display.SetThreshold(float(transparent_below), float("1e30"))


def _display(node: Any) -> Any:
    """Display node of a volume node, made if it has none."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node.GetDisplayNode()


def _set_window(display: Any, window: tuple[float, float]) -> None:
    """Fixed window from low to high."""
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(float(window[0]), float(window[1]))
