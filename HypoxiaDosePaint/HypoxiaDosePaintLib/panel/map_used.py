"""What the map of the scene was made of, and what changed since: a map that no longer fits makes no targets. No Qt."""

from __future__ import annotations

import json
from typing import Any

from HypoxiaMapperLib.panel.hypoxic_segment import map_of_segment
from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.map_nodes import (
    FACTS,
    INPUTS,
    MADE_OF,
    REGION_OF,
    VOXELS,
    Fingerprints,
    region_of_map,
    region_words,
)

from .choices import PaintChoices


def changed_since_map(map_node: Any, fingerprints: Fingerprints) -> tuple[str, ...]:
    """Images and regions that changed, or are gone, since the map was made of them."""
    then = json.loads(map_node.GetAttribute(INPUTS) or "{}")
    changed = []
    for name, known in then.items():
        if name == "planning CT" or name.startswith("image "):
            role = "planning" if name == "planning CT" else name.removeprefix("image ")
            node = map_node.GetNodeReference(MADE_OF + role)
            if node is None or fingerprints.volume(node) != known:
                changed.append(name)
        elif name.startswith("sequence "):
            node = map_node.GetNodeReference(MADE_OF + name.replace(" ", "."))
            if node is None or fingerprints.sequence(node) != known:
                changed.append(name)
    segments = json.loads(map_node.GetAttribute(FACTS) or "{}").get("segments", {})
    for name in (n for n in then if n in ("GTV", "reference") or n.startswith("region ")):
        key = next((k for k in segments if region_words(k) == name), "")
        node = map_node.GetNodeReference(MADE_OF + REGION_OF + key) if key else None
        if node is None or fingerprints.region(node, segments[key]) != then[name]:
            changed.append(name)
    return tuple(changed)


def is_map(node: Any) -> bool:
    """True for a hypoxia map, not for no node or another volume."""
    return node is not None and bool(node.GetAttribute(FACTS))


def reference_of_map(map_node: Any) -> tuple[Any, str] | None:
    """Segmentation (or ROI) and segment of the reference region of a map; None for no map, or one made without."""
    return region_of_map(map_node, "reference") if is_map(map_node) else None


def why_not_reference(choices: PaintChoices) -> str:
    """Why the segments with the role of reference region cannot have it; empty when they can.

    A ratio has the reference it was computed with and no other.
    """
    if not is_map(choices.map_node):
        return ""
    given = choices.of_role("reference")
    node, segment_id = reference_of_map(choices.map_node) or (None, "")
    wrong = [r.name for r in given if (r.node, r.segment_id) != (node, segment_id)]
    if not wrong:
        return ""
    own = node.GetSegmentation().GetSegment(segment_id) if node is not None and segment_id else node
    if own is None:
        said = _(
            "The map was made without this reference region: {names} cannot be its reference region (role: not used)."
        )
        return said.format(names=", ".join(wrong))
    said = _(
        "The map was made with the reference region {name}: {names} cannot be its reference region (role: not used)."
    )
    return said.format(name=own.GetName(), names=", ".join(wrong))


def why_not_hypoxic(choices: PaintChoices) -> str:
    """Why a segment with the role of hypoxic segment cannot have it; empty when all can.

    One that was cut from another map says something else: FDG uptake must not leave as hypoxia of an FMISO scan.
    """
    if not is_map(choices.map_node):
        return ""
    for role in choices.of_role("hypoxic"):
        if is_cut_from(choices.map_node, role.node, role.segment_id) is False:
            cut_from, _checksum = map_of_segment(role.node, role.segment_id) or ("", "")
            said = _(
                "{name} was cut from the map {other}, not from {chosen} as it is now: choose its map, create the "
                "segment anew (Hypoxia Mapper, step 4), or set it to: not used."
            )
            return said.format(name=role.name, other=repr(cut_from), chosen=repr(choices.map_node.GetName()))
    return ""


def is_cut_from(map_node: Any, node: Any, segment_id: str) -> bool | None:
    """True if a segment was cut from a map as it is; None without a map, or for a segment that was drawn."""
    made = map_of_segment(node, segment_id)
    return made[1] == map_node.GetAttribute(VOXELS) if made is not None and is_map(map_node) else None


def is_reference_of_map(map_node: Any, node: Any, segment_id: str) -> bool | None:
    """True if a map was made with a segment as reference region; None without a map."""
    return reference_of_map(map_node) == (node, segment_id) if is_map(map_node) else None
