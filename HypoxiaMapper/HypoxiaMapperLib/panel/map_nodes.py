"""A hypoxia map in the scene: nodes that carry everything a later step, or a reloaded scene, must know of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import RequestError
from ..jobs import JobResult, make_curve, make_model, model_facts
from ..methods import FitCurve, HypoxiaMap
from ..mrml import node_to_volume, volume_to_node
from ..mrml.geometry import image_data_array
from ..mrml.segments import LABELMAP
from ..mrml.sequences import SEQUENCE, data_nodes
from ..mrml.volumes import QUANTITY, displacement
from ..volume import Volume, image_like
from .i18n import _
from .sphere import sphere_print

FACTS = "Hypoxia.Map"  # JSON: threshold, comparison, warnings, registration ...
INPUTS = "Hypoxia.Inputs"  # JSON: fingerprint of each input when the map was made
MADE_OF = "Hypoxia.MadeOf."  # node reference role, followed by "planning" or the method's key of an input
REGION_OF = "region."  # after MADE_OF, followed by the method's key of a region
VOXELS = "Hypoxia.MapVoxels"  # checksum of the map as computed
UNCERTAINTY = "Hypoxia.UncertaintyNode"  # node reference role
EXTRA = "Hypoxia.FurtherMap"  # node reference role of every further map
PART = "Hypoxia.PartOfMap"  # attribute of the maps that came with a map: the method's key
EMPTY = "empty"  # fingerprint of what has no voxel


def map_to_node(
    scene: Any,
    result: JobResult,
    name: str,
    inputs: Mapping[str, str],
    method: str,
    nodes: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    regions: Mapping[str, tuple[Any, str]] | None = None,
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
    regions : mapping, optional
        Segmentation and segment identifier (or the ROI of a sphere and an empty text) of each region by its key.
    """
    found = result.map
    node = volume_to_node(scene, found.volume, name)
    facts = {
        "method": method, "params": dict(params or {}), "threshold": found.threshold, "comparison": found.comparison,
        "threshold_source": found.threshold_source, "surrogate": found.surrogate, "warnings": list(found.warnings),
        "curves": [asdict(curve) for curve in found.curves], "model": model_facts(found.model),
        "details": dict(found.details), "matrices": dict(result.matrices), "residuals": dict(result.residuals),
    }  # fmt: skip
    if regions is not None:
        facts["segments"] = {key: segment_id for key, (_, segment_id) in regions.items()}
    node.SetAttribute(FACTS, json.dumps(facts, default=str))
    node.SetAttribute(INPUTS, json.dumps(dict(inputs), sort_keys=True))
    node.SetAttribute(VOXELS, _crc_of_image(node.GetImageData()))
    homes = {REGION_OF + key: home for key, (home, _) in (regions or {}).items()}
    for key, source in {**(nodes or {}), **homes}.items():
        if source is not None:
            node.SetNodeReferenceID(MADE_OF + key, source.GetID())
    further = dict(found.extra)
    if found.uncertainty is not None:
        other = volume_to_node(scene, found.uncertainty, f"{name} uncertainty")
        other.SetAttribute(PART, "uncertainty")
        node.SetNodeReferenceID(UNCERTAINTY, other.GetID())
    if found.quality is not None:
        image = image_like(found.quality, found.volume.image)
        further["quality"] = Volume(image, "quality code (0: ok)", "1", found.volume.frame_of_reference_uid)
    for key, volume in further.items():
        other = volume_to_node(scene, volume, f"{name}: {volume.quantity}")
        other.SetAttribute(PART, key)
        node.AddNodeReferenceID(EXTRA, other.GetID())
    _gather_in_folder(scene, node, (nodes or {}).get("planning"))
    return node


def made_of(node: Any) -> dict[str, Any]:
    """Nodes a map was made of that are still in the scene, by ``planning`` or the method's key."""
    roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
    found = {r.removeprefix(MADE_OF): node.GetNodeReference(r) for r in roles if r.startswith(MADE_OF)}
    return {key: source for key, source in found.items() if source is not None}


def region_of_map(node: Any, key: str) -> tuple[Any, str] | None:
    """Segmentation (or ROI) and segment of a region a map was made with; None where the map does not say.

    The node is None when it is no longer in the scene.
    """
    segments = map_facts(node).get("segments", {})
    return (node.GetNodeReference(MADE_OF + REGION_OF + key), segments[key]) if key in segments else None


def why_not_as_made(node: Any, fingerprints: Fingerprints) -> str:
    """What became of a map after it was computed, so that it must not be read; empty when it is as it was."""
    parent = node.GetParentTransformNode()
    if parent is not None:
        return _("The map stands under the transform {name!r}: take it off.").format(name=parent.GetName())
    if displacement(node) is not None:
        return _("The map was moved in the scene: compute it again.")
    made = node.GetAttribute(VOXELS)
    if made and made != fingerprints.volume(node).partition("|")[0]:
        return _("The values of the map were changed in Slicer: compute it again.")
    return ""


def parts_of(node: Any) -> dict[str, Any]:
    """Every map that came with a map, by what it is called in the list of overlays; the map itself comes first."""
    others = [node.GetNthNodeReference(EXTRA, n) for n in range(node.GetNumberOfNodeReferences(EXTRA))]
    found = {"Map": node, "Uncertainty": node.GetNodeReference(UNCERTAINTY)}
    found |= {other.GetAttribute(QUANTITY) or other.GetName(): other for other in others if other is not None}
    return {text: other for text, other in found.items() if other is not None}


def _gather_in_folder(scene: Any, node: Any, planning_node: Any) -> None:
    """A map and all that came with it into a folder of the subject hierarchy, in the study of the planning CT."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if tree is None:
        return
    planning = tree.GetItemByDataNode(planning_node) if planning_node is not None else 0
    study = tree.GetItemParent(planning) if planning else tree.GetSceneItemID()
    folder = tree.CreateFolderItem(study, node.GetName())
    for part in parts_of(node).values():
        tree.SetItemParent(tree.GetItemByDataNode(part) or tree.CreateItem(folder, part), folder)


def map_facts(node: Any) -> dict[str, Any]:
    """Facts of a map node.

    Raises
    ------
    RequestError
        If the node is no hypoxia map.
    """
    text = node.GetAttribute(FACTS) if node is not None else None
    if not text:
        hint = _("Compute one in Hypoxia Mapper, step 2.")
        if node is None:
            raise RequestError(_("There is no hypoxia map."), hint)
        raise RequestError(_("{name!r} is no hypoxia map.").format(name=node.GetName()), hint)
    return json.loads(text)


def node_to_map(node: Any) -> HypoxiaMap:
    """The hypoxia map of a node, as computed; further maps are nodes of their own (``parts_of``)."""
    facts = map_facts(node)
    other = node.GetNodeReference(UNCERTAINTY)
    return HypoxiaMap(
        node_to_volume(node), facts["threshold"], facts["comparison"], facts["threshold_source"], facts["surrogate"],
        node_to_volume(other) if other is not None else None, None, tuple(facts["warnings"]), facts["details"],
        curves=curves_of(facts), model=make_model(facts.get("model")),
    )  # fmt: skip


def curves_of(facts: Mapping[str, Any]) -> tuple[FitCurve, ...]:
    """Curves that came with a map."""
    return tuple(make_curve(curve) for curve in facts.get("curves", ()))


def region_words(key: str) -> str:
    """Name of a region's fingerprint, kept with a map."""
    return {"gtv": "GTV", "reference": "reference"}.get(key, f"region {key}")


class Fingerprints:
    """Short text per input that changes when its content does; kept per node until the node says it changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, str]] = {}

    def volume(self, node: Any, home: str = "") -> str:
        """Of voxels and geometry of a volume node, of the scene or of the sequence ``home``."""
        from vtkmodules.vtkCommonMath import vtkMatrix4x4

        def compute() -> str:
            matrix = vtkMatrix4x4()
            node.GetIJKToRASMatrix(matrix)
            place = _matrix_text(matrix)
            unit = node.GetAttribute("Hypoxia.Unit") or ""
            return f"{_crc_of_image(node.GetImageData())}|{zlib.crc32(place.encode()):08x}|{unit}"

        data = node.GetImageData()
        changed = max(node.GetMTime(), data.GetMTime() if data else 0)
        return self._cached((node.GetID(), home), changed, compute) + _transform_print(node)

    def sequence(self, node: Any) -> str:
        """Of the frames, index and unit of a sequence, or of a MultiVolume."""
        if not node.IsA(SEQUENCE):
            return self.volume(node)
        frames = [f"{node.GetNthIndexValue(n)}:{self.volume(f, node.GetID())}" for n, f in enumerate(data_nodes(node))]
        said = [
            node.GetIndexName(),
            node.GetIndexUnit(),
            *(f"{a}={node.GetAttribute(a)}" for a in node.GetAttributeNames()),
        ]
        return f"{len(frames)} frames {zlib.crc32(repr((frames, said)).encode()):08x}"

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
            return _print_of_labelmap(labelmap)

        # The Segment Editor changes the voxels of the labelmap and leaves the segment itself as it is.
        labels = segment.GetRepresentation(LABELMAP)
        stamped = [segment, segmentation, segmentation_node, *([labels] if labels is not None else [])]
        changed = max(item.GetMTime() for item in stamped)
        key = (segmentation_node.GetID(), segment_id)
        return self._cached(key, changed, compute) + _transform_print(segmentation_node)

    def region(self, node: Any, segment_id: str) -> str:
        """Of a segment, or of the sphere in an ROI (empty identifier)."""
        return self.segment(node, segment_id) if segment_id else sphere_print(node)

    def _cached(self, key: tuple[str, str], changed: int, compute: Any) -> str:
        if key not in self._known or self._known[key][0] != changed:
            self._known[key] = (changed, compute())
        return self._known[key][1]


def _print_of_labelmap(labelmap: Any) -> str:
    """Of the voxels inside and where they lie: the box around them is another after a scene was saved and reloaded."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    inside = image_data_array(labelmap) > 0 if min(labelmap.GetDimensions()) > 0 else np.zeros((0, 0, 0), bool)
    places = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    if not places[0].size:
        return EMPTY
    i, j, k = (slice(int(found[0]), int(found[-1]) + 1) for found in places)
    corner = [first + found.start for first, found in zip(labelmap.GetExtent()[::2], (i, j, k), strict=True)]
    matrix = vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    at = ",".join(f"{v + 0.0:.3f}" for v in matrix.MultiplyPoint([*corner, 1.0])[:3])
    voxels = np.ascontiguousarray(inside[k, j, i])
    axes = ",".join(f"{round(matrix.GetElement(r, c), 5) + 0.0:.5f}" for r in range(3) for c in range(3))
    return f"{zlib.crc32(np.packbits(voxels).tobytes()):08x}|{voxels.shape}|{at}|{axes}"


def _matrix_text(matrix: Any) -> str:
    """Elements of the upper three rows of a vtkMatrix4x4."""
    return ",".join(f"{matrix.GetElement(r, c) + 0.0:.6g}" for r in range(3) for c in range(4))


def _transform_print(node: Any) -> str:
    """Of the transform a node stands under, empty for none: it moves what is shown and not the voxels."""
    parent = node.GetParentTransformNode()
    return f"|under {parent.GetID()} {parent.GetTransformToWorldMTime()}" if parent is not None else ""


def _crc_of_image(data: Any) -> str:
    """Checksum of the voxels of a vtkImageData."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    scalars = data.GetPointData().GetScalars() if data is not None else None
    if scalars is None:
        return EMPTY
    return f"{zlib.crc32(memoryview(vtk_to_numpy(scalars)).cast('B')):08x}"


def changed_inputs(node: Any, now: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the inputs that differ from those the map was made of."""
    then = json.loads(node.GetAttribute(INPUTS) or "{}")
    return tuple(sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k)))
