"""How a map is shown: its colours and window, and the hidden node that shows it inside the GTV alone. No Qt."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..mrml import node_to_volume, put_volume
from ..mrml.geometry import image_data_array
from ..mrml.segments import segment_box, segment_part
from ..volume import Region, Volume, image_like
from .patient_scope import all_nodes

INSIDE = "Hypoxia.InsideGtv"  # attribute of the view cut to the GTV: what it was made of
WINDOW = "Hypoxia.Window"  # JSON: values of the first and the last colour
WINDOW_PERCENTILES = (1.0, 99.0)
MOST_DECIMALS = 9
COLOUR_TABLE = "Hypoxia colours"
MAP_COLOURS = ((0.0, 0.0, 0.3), (0.0, 0.3, 0.9), (0.1, 0.8, 0.7), (0.9, 0.9, 0.1), (0.95, 0.4, 0.05), (0.6, 0.0, 0.0))
"""From low to high, blended in between; perceptibly ordered in light and dark, and for red-green blindness."""
_SHADES = 64
_ENOUGH_VOXELS = 1_000_000  # for the percentiles of a first window


def colour_map(shades: int = _SHADES) -> list[tuple[float, float, float]]:
    """``MAP_COLOURS`` blended linearly into equal steps."""
    steps = len(MAP_COLOURS) - 1
    colours = []
    for number in range(shades):
        place = number / (shades - 1) * steps
        low = min(int(place), steps - 1)
        part = place - low
        first, second = MAP_COLOURS[low], MAP_COLOURS[low + 1]
        colours.append(tuple(a + (b - a) * part for a, b in zip(first, second, strict=True)))
    return colours  # type: ignore[return-value]


def show_map(scene: Any, node: Any, window: tuple[float, float]) -> None:
    """Show a map in the colours of all maps, between two values; voxels as they are, a threshold acts on voxels."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_colour_table(scene).GetID())
    display.SetInterpolate(0)
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(*window)


def _colour_table(scene: Any) -> Any:
    """The colour table of all maps, made once."""
    table = scene.GetFirstNodeByName(COLOUR_TABLE)
    if table is None:
        table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", COLOUR_TABLE)
        table.SetTypeToUser()
        colours = colour_map()
        table.SetNumberOfColors(len(colours))
        for number, (red, green, blue) in enumerate(colours):
            table.SetColor(number, f"{number}", red, green, blue, 1.0)
    return table


def window_of(node: Any) -> tuple[float, float]:
    """Window of a map: as set by the user, else from 0 (or its lowest value, if negative) to its highest."""
    text = node.GetAttribute(WINDOW)
    if text:
        low, high = json.loads(text)
        return float(low), float(high)
    values = image_data_array(node.GetImageData()).ravel()
    values = values[:: max(1, values.size // _ENOUGH_VOXELS)]
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, WINDOW_PERCENTILES)
    return min(0.0, float(low)), float(high) if high > min(0.0, low) else float(low) + 1.0


def set_window(node: Any, window: tuple[float, float]) -> None:
    """Keep the window of a map with it."""
    node.SetAttribute(WINDOW, json.dumps(window))


def window_decimals(window: tuple[float, float]) -> int:
    """Decimals that show a window to about three digits: two for a ratio, more where all values are small."""
    span = abs(window[1] - window[0])
    return min(MOST_DECIMALS, max(2, 2 - math.floor(math.log10(span)))) if span > 0 else 2


def view_inside_gtv(scene: Any) -> Any:
    """The hidden node that shows a map cut to the GTV; None while there is none."""
    return next((node for node in all_nodes(scene, "vtkMRMLScalarVolumeNode") if node.GetAttribute(INSIDE)), None)


def cut_to_gtv(node: Any, segmentation: Any, segment_id: str) -> tuple[Volume, Region]:
    """A map about the GTV and the GTV on its voxels: numbers, plots and views of the panel need no more of it.

    Raises
    ------
    HypoxiaError
        As ``node_to_volume`` and ``segment_to_region``.
    """
    volume = node_to_volume(node, segment_box(segmentation, segment_id))
    return volume, segment_part(segmentation, segment_id, volume.image)


def inside_only(scene: Any, node: Any, volume: Volume, gtv: Region, known: str) -> Any:
    """A map with values inside the GTV alone, cut to its box: a view of it, not saved with the scene.

    The scene has one such node. It is filled anew, never removed: a list that is about to tell of a node must find it.

    Parameters
    ----------
    volume : Volume
        The map about the GTV.
    gtv : Region
        On its grid.
    known : str
        Fingerprint of map and GTV: the view is filled anew when it differs.
    """
    import slicer

    view = view_inside_gtv(scene)
    if view is not None and view.GetAttribute(INSIDE) == known:
        return view
    places = np.argwhere(gtv.array)
    if len(places) == 0:
        return node
    low, high = places.min(0), places.max(0) + 1
    inside = np.where(gtv.array, volume.array, np.nan).astype(np.float32)
    box = [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    image = image_like(inside, volume.image)[box[2], box[1], box[0]]
    new = view is None
    if new:
        view = slicer.vtkMRMLScalarVolumeNode()
        view.SetHideFromEditors(1)  # before it enters the scene: lists of nodes look once
        view.SetSaveWithScene(0)
    view.SetAttribute(INSIDE, known)
    view.SetName(node.GetName())
    put_volume(view, replace(volume, image=image))
    if new:
        scene.AddNode(view)
    return view
