"""A hypoxia map in the scene: nodes that carry everything a later step, or a reloaded scene, must know of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from ..errors import RequestError
from ..jobs import JobResult
from ..methods import HypoxiaMap
from ..mrml import node_to_volume, show_as_map, volume_to_node
from ..mrml.segments import LABELMAP

FACTS = "Hypoxia.Map"  # JSON: threshold, comparison, warnings, registration ...
INPUTS = "Hypoxia.Inputs"  # JSON: fingerprint of each input when the map was made
MADE_OF = "Hypoxia.MadeOf."  # node reference role, followed by "planning" or the method's key of an input
UNCERTAINTY = "Hypoxia.UncertaintyNode"  # node reference role
MAP_COLOURS = ((0.0, 0.0, 0.3), (0.0, 0.3, 0.9), (0.1, 0.8, 0.7), (0.9, 0.9, 0.1), (0.95, 0.4, 0.05), (0.6, 0.0, 0.0))
"""From low to high, blended in between; perceptibly ordered in light and dark, and for red-green blindness."""
_SHADES = 64


def map_to_node(
    scene: Any,
    result: JobResult,
    name: str,
    inputs: Mapping[str, str],
    method: str,
    nodes: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Any:
    """Add the map (and its uncertainty) to the scene.

    Parameters
    ----------
    inputs : mapping
        Fingerprint of each input, see ``Fingerprints``.
    method : str
        Name of the method.
    nodes : mapping, optional
        Nodes it was made of: ``planning`` and the method's inputs; kept as node references.
    params : mapping, optional
        Parameters of the method as chosen.
    """
    found = result.map
    node = volume_to_node(scene, found.volume, name)
    facts = {
        "method": method, "params": dict(params or {}), "threshold": found.threshold, "comparison": found.comparison,
        "threshold_source": found.threshold_source, "surrogate": found.surrogate, "warnings": list(found.warnings),
        "details": dict(found.details), "matrices": dict(result.matrices), "residuals": dict(result.residuals),
    }  # fmt: skip
    node.SetAttribute(FACTS, json.dumps(facts, default=str))
    node.SetAttribute(INPUTS, json.dumps(dict(inputs), sort_keys=True))
    for key, source in (nodes or {}).items():
        if source is not None:
            node.SetNodeReferenceID(MADE_OF + key, source.GetID())
    if found.uncertainty is not None:
        other = volume_to_node(scene, found.uncertainty, f"{name} uncertainty")
        node.SetNodeReferenceID(UNCERTAINTY, other.GetID())
    return node


def map_facts(node: Any) -> dict[str, Any]:
    """Facts of a map node.

    Raises
    ------
    RequestError
        If the node is no hypoxia map.
    """
    text = node.GetAttribute(FACTS) if node is not None else None
    if not text:
        name = node.GetName() if node is not None else "nothing"
        raise RequestError(f"{name!r} is no hypoxia map.", "Compute one in Hypoxia Mapper, step 2.")
    return json.loads(text)


def node_to_map(node: Any) -> HypoxiaMap:
    """The hypoxia map of a node, as computed (quality codes are not kept in the scene)."""
    facts = map_facts(node)
    other = node.GetNodeReference(UNCERTAINTY)
    return HypoxiaMap(
        node_to_volume(node), facts["threshold"], facts["comparison"], facts["threshold_source"], facts["surrogate"],
        node_to_volume(other) if other is not None else None, None, tuple(facts["warnings"]), facts["details"],
    )  # fmt: skip


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
    """Show a map in colours; its own colour table is made once."""
    table = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None
    if table is not None and table.GetName() == f"{node.GetName()} colours":
        node.GetDisplayNode().SetAutoWindowLevel(0)
        node.GetDisplayNode().SetWindowLevelMinMax(*window)
        return
    show_as_map(scene, node, window, colour_map(), None)


class Fingerprints:
    """Short text per input that changes when its content does; kept per node until the node says it changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, str]] = {}

    def volume(self, node: Any) -> str:
        """Of voxels and geometry of a volume node."""
        from vtkmodules.vtkCommonMath import vtkMatrix4x4

        def compute() -> str:
            matrix = vtkMatrix4x4()
            node.GetIJKToRASMatrix(matrix)
            place = ",".join(f"{matrix.GetElement(r, c):.6g}" for r in range(3) for c in range(4))
            parent = node.GetParentTransformNode()
            unit = node.GetAttribute("Hypoxia.Unit") or ""
            return f"{_crc_of_image(node.GetImageData())}|{zlib.crc32(place.encode()):08x}|{unit}|{parent is not None}"

        data = node.GetImageData()
        return self._cached((node.GetID(), ""), max(node.GetMTime(), data.GetMTime() if data else 0), compute)

    def segment(self, segmentation_node: Any, segment_id: str) -> str:
        """Of the labelmap of a segment; empty for a segment that is not there."""
        import slicer

        segmentation = segmentation_node.GetSegmentation()
        segment = segmentation.GetSegment(segment_id)
        if segment is None:
            return ""

        def compute() -> str:
            labelmap = slicer.vtkOrientedImageData()
            if not segmentation_node.GetBinaryLabelmapRepresentation(segment_id, labelmap):
                return f"surface {segment.GetMTime()}"
            origin = ",".join(f"{v:.4f}" for v in (*labelmap.GetOrigin(), *labelmap.GetSpacing()))
            return f"{_crc_of_image(labelmap)}|{labelmap.GetExtent()}|{origin}"

        # The Segment Editor changes the voxels of the labelmap and leaves the segment itself as it is.
        labels = segment.GetRepresentation(LABELMAP)
        stamped = [segment, segmentation, segmentation_node, *([labels] if labels is not None else [])]
        changed = max(item.GetMTime() for item in stamped)
        return self._cached((segmentation_node.GetID(), segment_id), changed, compute)

    def _cached(self, key: tuple[str, str], changed: int, compute: Any) -> str:
        if key not in self._known or self._known[key][0] != changed:
            self._known[key] = (changed, compute())
        return self._known[key][1]


def _crc_of_image(data: Any) -> str:
    """Checksum of the voxels of a vtkImageData."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    scalars = data.GetPointData().GetScalars() if data is not None else None
    if scalars is None:
        return "empty"
    return f"{zlib.crc32(memoryview(vtk_to_numpy(scalars)).cast('B')):08x}"


def changed_inputs(node: Any, now: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the inputs that differ from those the map was made of."""
    then = json.loads(node.GetAttribute(INPUTS) or "{}")
    return tuple(sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k)))
