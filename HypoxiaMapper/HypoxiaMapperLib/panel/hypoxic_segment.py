"""The hypoxic segment: made from the map on the CT's grid, edited by hand, and honest about both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..mrml import make_segmentation, region_to_segment, segment_to_region
from ..mrml.segments import SOURCE
from ..volume import Region, Volume

MADE = "Hypoxia.Made"  # JSON: volume in ml and checksum of the segment as made
SEGMENTATION_NAME = "Hypoxia targets"
COLOUR = (255, 0, 255)
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


def hypoxic_mask(volume: Volume, gtv: Region, threshold: float, comparison: str) -> np.ndarray:
    """Voxels of the GTV beyond a threshold, shape (z, y, x); undefined ones never are."""
    compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[comparison]
    with np.errstate(invalid="ignore"):
        return gtv.array & np.isfinite(volume.array) & compare(volume.array, threshold)


def write_hypoxic_segment(
    scene: Any, segmentation: Any, reference_node: Any, region: Region, threshold: float
) -> tuple[Any, str]:
    """Make or refresh the segment of a hypoxic region; the segmentation is made when there is none.

    Returns
    -------
    tuple
        Segmentation node and segment identifier. A segment of the same name is replaced, others are left alone.
    """
    if segmentation is None:
        segmentation = make_segmentation(scene, scene.GenerateUniqueName(SEGMENTATION_NAME))
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(reference_node)
    inner = segmentation.GetSegmentation()
    old = inner.GetSegmentIdBySegmentName(region.name)
    if old:
        inner.RemoveSegment(old)
    identifier = region_to_segment(scene, segmentation, region, COLOUR)
    segment = inner.GetSegment(identifier)
    segment.SetTag(segment.GetTerminologyEntryTagName(), TERMINOLOGY)
    runs = _runs(region.array)
    segment.SetTag(MADE, json.dumps({"threshold": threshold, "volume_ml": region.volume_ml, "runs": runs}))
    return segmentation, identifier


def segment_state(segmentation: Any, segment_id: str, grid: sitk.Image) -> SegmentState:
    """Compare a hypoxic segment with what was made: volumes in ml that were added and removed by hand."""
    region = segment_to_region(segmentation, segment_id, grid)
    text = _tag(segmentation.GetSegmentation().GetSegment(segment_id), MADE)
    if not text:
        return SegmentState(region.volume_ml, 0.0, region.volume_ml, 0.0)
    made = _from_runs(json.loads(text)["runs"], tuple(reversed(grid.GetSize())))
    now, ml = region.array, region.volume_ml / max(1, int(np.count_nonzero(region.array)))
    voxel_ml = float(np.prod(grid.GetSpacing())) / 1000 if ml == 0 else ml
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
    source = _tag(segmentation.GetSegmentation().GetSegment(segment_id), SOURCE) or "drawn in Slicer"
    if state.edited:
        source += f"; edited by hand: {state.added_ml:.2f} ml added, {state.removed_ml:.2f} ml removed"
    return Region(region.name, region.mask, region.frame_of_reference_uid, source)


def threshold_of_segment(segmentation: Any, segment_id: str) -> float | None:
    """Threshold a segment was made with; None for one that was drawn."""
    text = _tag(segmentation.GetSegmentation().GetSegment(segment_id), MADE)
    return float(json.loads(text)["threshold"]) if text else None


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


def _tag(segment: Any, key: str) -> str:
    """Tag of a segment, empty when it has none."""
    from vtkmodules.vtkCommonCore import reference

    value = reference("")
    return str(value) if segment.GetTag(key, value) else ""
