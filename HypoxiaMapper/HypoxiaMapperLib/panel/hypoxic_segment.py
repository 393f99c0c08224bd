"""The hypoxic segment: made from the map on the CT's grid, edited by hand, and honest about both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..mrml import make_segmentation, region_to_segment, segment_to_region
from ..mrml.segments import SOURCE, segment_tag
from ..names import hypoxic_ending, unique_names
from ..volume import Region, Volume, beyond, voxel_volume_ml
from .as_read import grid_facts, grid_of
from .choices import SegmentChoice
from .i18n import _
from .map_nodes import VOXELS
from .patient_loader import place_beside
from .segment_regions import segment_ids

MADE = "Hypoxia.Made"  # JSON: threshold, ml, voxels and grid of the segment as made, its name, its GTV and its map
SEGMENTATION_NAME = "Hypoxia targets"
COLOUR = (255, 0, 195)  # as Dose Paint draws it; told from every target by readers who see no red or no green
# Category, type, modifier as Slicer serialises a terminology entry: context~category~type~modifier~anatomic context~~.
TERMINOLOGY = (
    "Hypoxia~SCT^49755003^Morphologically Altered Structure~99HYPOX^HYPOXIC_VOLUME^Hypoxic subvolume of gross tumor "
    "volume~^^~Hypoxia~^^~^^"
)


@dataclass(frozen=True)
class SegmentState:
    """What became of a hypoxic segment since it was made."""

    volume_ml: float
    made_ml: float
    added_ml: float
    removed_ml: float

    @property
    def edited(self) -> bool:
        """True if a person changed it."""
        return self.added_ml > 0 or self.removed_ml > 0


def segment_text(name: str, state: SegmentState) -> str:
    """Volume of a hypoxic segment, and what was changed by hand."""
    text = (
        _("{name}: {volume:.2f} ml; edited by hand: {added:.2f} ml added, {removed:.2f} ml removed")
        if state.edited
        else _("{name}: {volume:.2f} ml")
    )
    return text.format(name=name, volume=state.volume_ml, added=state.added_ml, removed=state.removed_ml)


def cut_from_text(segmentation: Any, segment_id: str, map_node: Any) -> str:
    """At what a hypoxic segment was cut, and from which map if that is not the given one; empty for a drawn one."""
    threshold, made = threshold_of_segment(segmentation, segment_id), map_of_segment(segmentation, segment_id)
    if threshold is None:
        return ""
    if made is None or made[1] == map_node.GetAttribute(VOXELS):
        return _("(cut at {threshold:g})").format(threshold=threshold)
    return _("(cut at {threshold:g} from another map: {name})").format(threshold=threshold, name=made[0])


def hypoxic_mask(volume: Volume, gtv: Region, threshold: float, comparison: str) -> np.ndarray:
    """Voxels of the GTV beyond a threshold, shape (z, y, x); undefined ones never are."""
    return gtv.array & beyond(volume.array, threshold, comparison)


def made_in(segmentation: Any, gtv: SegmentChoice, surrogate: bool) -> str:
    """Identifier of the segment that was made of a GTV here; empty for none.

    One that was renamed since is a person's own, and another GTV's is never taken, however alike their names are.
    """
    if segmentation is None:
        return ""
    for identifier in segment_ids(segmentation):
        segment = segmentation.GetSegmentation().GetSegment(identifier)
        made, name = json.loads(segment_tag(segment, MADE) or "{}"), segment.GetName()
        if made.get("gtv") == _home(gtv) and made.get("name") == name and name.endswith(hypoxic_ending(surrogate)):
            return identifier
    return ""


def name_for(segmentation: Any, gtv: SegmentChoice, surrogate: bool) -> str:
    """Name for the hypoxic part of a GTV, as the planning system will see it: of the segment to refresh, else free."""
    old = made_in(segmentation, gtv, surrogate)
    inner = segmentation.GetSegmentation() if segmentation is not None else None
    if old:
        return str(inner.GetSegment(old).GetName())
    taken = [inner.GetSegment(i).GetName() for i in segment_ids(segmentation)] if inner is not None else []
    gtv_name = gtv.node.GetSegmentation().GetSegment(gtv.segment_id).GetName()
    return unique_names([gtv_name], hypoxic_ending(surrogate), taken)[0]


def write_hypoxic_segment(
    scene: Any,
    segmentation: Any,
    reference_node: Any,
    region: Region,
    threshold: float,
    gtv: SegmentChoice | None = None,
    map_node: Any = None,
) -> tuple[Any, str]:
    """Make or refresh the segment of a hypoxic region; the segmentation is made when there is none.

    Parameters
    ----------
    region : Region
        Named by ``name_for``.
    gtv : SegmentChoice, optional
        What it is a part of: by this ``made_in`` finds it again.
    map_node : vtkMRMLScalarVolumeNode, optional
        What it was cut from: by this ``map_of_segment`` tells it from the segment of another map.

    Returns
    -------
    tuple
        Segmentation node and segment identifier. A segment of the same name is replaced, others are left alone.
    """
    if segmentation is None:
        segmentation = make_segmentation(scene, scene.GenerateUniqueName(SEGMENTATION_NAME))
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(reference_node)
        place_beside(scene, segmentation, reference_node)
    inner = segmentation.GetSegmentation()
    old = inner.GetSegmentIdBySegmentName(region.name)
    if old:
        inner.RemoveSegment(old)
    identifier = region_to_segment(scene, segmentation, region, COLOUR)
    segment = inner.GetSegment(identifier)
    segment.SetTag(segment.GetTerminologyEntryTagName(), TERMINOLOGY)
    made = {
        "threshold": threshold, "volume_ml": region.volume_ml, "runs": _runs(region.array),
        "grid": grid_facts(region.mask), "name": region.name, "gtv": _home(gtv) if gtv is not None else "",
        "map": [map_node.GetName(), map_node.GetAttribute(VOXELS)] if map_node is not None else None,
    }  # fmt: skip
    segment.SetTag(MADE, json.dumps(made))
    return segmentation, identifier


def segment_state(segmentation: Any, segment_id: str, grid: sitk.Image) -> SegmentState:
    """Compare a hypoxic segment with what was made: volumes in ml that were added and removed by hand.

    It is compared on the grid it was made on; ``grid`` is for one that was drawn.
    """
    facts = json.loads(segment_tag(segmentation.GetSegmentation().GetSegment(segment_id), MADE) or "{}")
    own = grid_of(facts["grid"]) if "grid" in facts else grid
    region = segment_to_region(segmentation, segment_id, own)
    if not facts:
        return SegmentState(region.volume_ml, 0.0, region.volume_ml, 0.0)
    made, now, voxel_ml = _from_runs(facts["runs"], tuple(reversed(own.GetSize()))), region.array, voxel_volume_ml(own)
    return SegmentState(
        region.volume_ml,
        float(np.count_nonzero(made) * voxel_ml),
        float(np.count_nonzero(now & ~made) * voxel_ml),
        float(np.count_nonzero(made & ~now) * voxel_ml),
    )


def region_with_history(segmentation: Any, segment_id: str, grid: sitk.Image) -> Region:
    """The segment as a region whose source says what was changed by hand since it was made."""
    region = segment_to_region(segmentation, segment_id, grid)
    state = segment_state(segmentation, segment_id, grid)
    source = segment_tag(segmentation.GetSegmentation().GetSegment(segment_id), SOURCE) or "drawn in Slicer"
    if state.edited:
        source += f"; edited by hand: {state.added_ml:.2f} ml added, {state.removed_ml:.2f} ml removed"
    return Region(region.name, region.mask, region.frame_of_reference_uid, source)


def threshold_of_segment(segmentation: Any, segment_id: str) -> float | None:
    """Threshold a segment was made with; None for one that was drawn."""
    text = segment_tag(segmentation.GetSegmentation().GetSegment(segment_id), MADE)
    return float(json.loads(text)["threshold"]) if text else None


def map_of_segment(segmentation: Any, segment_id: str) -> tuple[str, str] | None:
    """Name and checksum of the map a segment was cut from; None for one that was drawn or does not say."""
    text = segment_tag(segmentation.GetSegmentation().GetSegment(segment_id), MADE)
    made = json.loads(text or "{}").get("map")
    return (str(made[0]), str(made[1])) if made else None


def _home(gtv: SegmentChoice) -> str:
    """Segment of a segmentation, as a text."""
    return f"{gtv.node.GetID()}/{gtv.segment_id}"


def _runs(mask: np.ndarray) -> list[int]:
    """Lengths of alternating runs of a mask in memory order, beginning with outside."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate(([0], edges, [flat.size]))
    runs = np.diff(bounds).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def _from_runs(runs: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of alternating runs; empty when the grid has changed since."""
    if sum(runs) != int(np.prod(shape)):
        return np.zeros(shape, bool)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
