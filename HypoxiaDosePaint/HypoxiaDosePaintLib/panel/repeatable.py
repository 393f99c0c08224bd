"""What a request cannot say of a result made in the panel: such a request must not be run as if it were the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.methods import HypoxiaMap, all_methods
from HypoxiaMapperLib.mrml.geometry import image_data_array
from HypoxiaMapperLib.panel.as_read import series_as_read
from HypoxiaMapperLib.panel.hypoxic_segment import threshold_of_segment
from HypoxiaMapperLib.panel.map_nodes import INPUTS, MADE_OF, map_facts, region_of_map
from HypoxiaMapperLib.panel.node_images import FOLDER, NodeImages
from HypoxiaMapperLib.volume import Region, beyond

from ..method_inputs import NONE
from ..request import Registration, Request
from ..selection import Inputs
from .choices import PaintChoices, Role
from .map_used import reference_of_map

_SERIES = ("series ", "sequence ")  # begin the names of inputs that are frames


def complete(
    request: Request, choices: PaintChoices, images: NodeImages, inputs: Inputs, drawn: Region, found: HypoxiaMap
) -> Request:
    """The request with all it can say of the images and contours behind a map, and with what it cannot.

    Parameters
    ----------
    drawn : Region
        The hypoxic region as it stands in the scene.
    found : HypoxiaMap
        On the planning grid.
    """
    then = json.loads(choices.map_node.GetAttribute(INPUTS) or "{}")
    facts, nodes = map_facts(choices.map_node), _images(choices)
    infos = {key: images.info(node) for key, node in nodes.items()}
    sets, changed = _contours(choices)
    reasons = [*_of_images(nodes, images, then), *changed]
    if len(sets) > 1:
        reasons.append("contours of several structure sets")
    if len(facts["matrices"]) > 1:
        reasons.append("several images were registered one by one")
    reasons += _of_gtvs(choices, request)
    threshold = found.threshold if request.subvolume.threshold is None else request.subvolume.threshold
    reasons += _of_hypoxic_region(choices, inputs, drawn.array, found, threshold)
    further = {s.key: infos.get(s.key) for s in all_methods()[request.method].inputs if s.modality != "CT"}
    named = {key: info.series_uid if info is not None else NONE for key, info in further.items()}
    unknown = [info for info in infos.values() if info is not None and info.kind == "unknown"]
    frames = {info.frame_of_reference_uid for info in infos.values() if info is not None}
    placed = request.registration.mode == "none" and frames != {inputs.planning.volume.frame_of_reference_uid}
    return replace(
        request,
        inputs=named if len(further) > 1 else {},
        tracer=then.get("tracer", "") if unknown else "",
        structure_set=next(iter(sets), ""),
        region_rois=_further_regions(choices),
        registration=Registration("stated") if placed else request.registration,
        not_repeatable=tuple(dict.fromkeys(reasons)),
    )


def _of_gtvs(choices: PaintChoices, request: Request) -> list[str]:
    """What hangs on the one GTV of the map, where a request would take the GTVs of the targets together."""
    node, segment_id = region_of_map(choices.map_node, "gtv") or (None, "")
    gtvs = choices.of_role("gtv")
    if node is None or [(r.node, r.segment_id) for r in gtvs] == [(node, segment_id)]:
        return []
    own, asked = Role(node, segment_id, "gtv").name, " and ".join(r.name for r in gtvs)
    reasons = []
    if not any(r.key == "gtv" and r.only_checked for r in all_methods()[request.method].regions):
        reasons.append(f"the map was made with {own}, a request makes it with {asked}")
    if request.registration.mode == "rigid":
        reasons.append(f"the images were registered at {own}, a request registers them at {asked}")
    return reasons


def _of_hypoxic_region(
    choices: PaintChoices, inputs: Inputs, drawn: np.ndarray, found: HypoxiaMap, threshold: float
) -> list[str]:
    """Where the hypoxic region is not what passes the threshold, GTV by GTV."""
    made_at = [threshold_of_segment(r.node, r.segment_id) for r in choices.of_role("hypoxic")]
    passing = {t: beyond(found.volume.array, t, found.comparison) for t in (threshold, *made_at) if t is not None}
    reasons = []
    for gtv in inputs.gtvs:
        here, own = drawn & gtv.array, passing[threshold] & gtv.array
        if here.any() and (here ^ own).any():
            cut = next((t for t, mask in passing.items() if not (here ^ (mask & gtv.array)).any()), None)
            how = "drawn or edited by hand" if cut is None else f"cut at {cut:g}, not at {threshold:g}"
            reasons.append(f"the hypoxic region in {gtv.name} was {how}")
        elif own.any() and not here.any():
            reasons.append(f"{gtv.name} was left without a hypoxic segment")
    return reasons


def _images(choices: PaintChoices) -> dict[str, Any]:
    """Planning CT and images of the map, by the method's key; those that are gone, or frames of a series, are not."""
    keys = ["planning", *(s.key for s in all_methods()[map_facts(choices.map_node)["method"]].inputs)]
    found = {key: choices.map_node.GetNodeReference(MADE_OF + key) for key in keys}
    return {key: node for key, node in found.items() if node is not None}


def _of_images(nodes: Mapping[str, Any], images: NodeImages, then: Mapping[str, str]) -> list[str]:
    """What the files of the images do not tell."""
    if any(name.startswith(_SERIES) for name in then):
        return ["frames were chosen in the panel"]
    reasons, folders = [], set()
    for key, node in nodes.items():
        what = f"image {key}"
        if images.info(node) is None:
            reasons.append(f"{what} was not read from DICOM")
            continue
        if not node.GetAttribute(FOLDER):
            reasons.append(f"{what} was loaded by Slicer itself, from no folder that a request could name")
        else:
            folders.add(node.GetAttribute(FOLDER))
        if images.displacement(node) is not None:
            reasons.append(f"{what} was moved in the scene")
        if node.GetAttribute(FOLDER) and not _has_file_values(node, images):
            reasons.append(f"{what} was changed in Slicer, or its files are gone")
    return [*reasons, *(["images of several folders"] if len(folders) > 1 else [])]


def _has_file_values(node: Any, images: NodeImages) -> bool:
    """True if the voxels of an image of this extension are still those of its files."""
    try:
        read = images.series(node).volume.array
    except HypoxiaError:
        return False
    return np.array_equal(image_data_array(node.GetImageData()), read, equal_nan=read.dtype.kind == "f")


def _contours(choices: PaintChoices) -> tuple[list[str], list[str]]:
    """Structure sets the contours were read from, and those contours that are not as read."""
    map_node = choices.map_node
    used = [(r.node, r.segment_id) for role in ("gtv", "organ") for r in choices.of_role(role)]
    node, segment_id = reference_of_map(map_node) or (None, "")
    used += [(node, segment_id)] if node is not None and segment_id else []
    used += [(r.node, r.segment_id) for r in choices.of_role("reference")]
    sets, changed = [], []
    for home, identifier in dict.fromkeys(used):
        series = series_as_read(home, identifier)
        if series:
            sets.append(series)
        else:
            changed.append(f"{home.GetSegmentation().GetSegment(identifier).GetName()} was drawn or changed in Slicer")
    return list(dict.fromkeys(sets)), changed


def _further_regions(choices: PaintChoices) -> dict[str, str]:
    """ROI names of the method's regions beyond GTV and reference."""
    found = {}
    for key in map_facts(choices.map_node).get("segments", {}):
        home, identifier = region_of_map(choices.map_node, key) or (None, "")
        if key not in ("gtv", "reference") and home is not None:
            found[key] = home.GetSegmentation().GetSegment(identifier).GetName()
    return found
