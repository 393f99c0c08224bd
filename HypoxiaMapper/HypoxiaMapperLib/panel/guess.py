"""Fill in what a user has not chosen, from DICOM tags and names; let go of what another method cannot take. No Qt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..dicomio.model import SeriesInfo
from ..errors import HypoxiaError
from ..methods import InputSpec, all_methods
from .choices import MapperChoices, SegmentChoice
from .node_images import NodeImages, role_of
from .segment_regions import segment_ids
from .series_choice import guess_series

_REGION_WORDS = {"artery": ("artery", "aif", "aorta", "carotid"), "normal_brain": ("normal_brain", "nawm", "brain")}
_REFERENCE_WORDS = ("ref_blood", "blood", "ref_muscle", "muscle", "aorta", "reference")


def guess_choices(
    choices: MapperChoices,
    volumes: list[Any],
    segmentations: list[Any],
    images: NodeImages,
    infos: Sequence[SeriesInfo] = (),
) -> MapperChoices:
    """Fill in what is empty from DICOM tags and segment names; what the user chose stays."""
    roles = {node.GetID(): role_of(node, images) for node in volumes}
    planning = choices.planning
    if planning is None:
        cts = [n for n in volumes if roles[n.GetID()][0] == "planning_ct"]
        planning = cts[0] if len(cts) == 1 else None
    inputs, series = dict(choices.inputs), dict(choices.series)
    for spec in all_methods()[choices.method].inputs if choices.method in all_methods() else ():
        if spec.kind != "volume":
            if choices.sequences.get(spec.key) is None:
                series[spec.key] = series.get(spec.key) or guess_series(spec, infos, choices.tracer)
        elif spec.modality == "CT":
            inputs[spec.key] = inputs.get(spec.key) or planning
        elif inputs.get(spec.key) is None:
            wanted = {("pet", t) for t in spec.tracers} | {("mr", k) for k in spec.mr_kinds}
            fitting = [n for n in volumes if roles[n.GetID()] in wanted]
            inputs[spec.key] = fitting[0] if len(fitting) == 1 else None
    names = [(s, i) for s in segmentations for i in segment_ids(s)]
    gtv = choices.gtv if choices.gtv.exists() else _by_name(names, ("gtvp", "gtv"))
    reference = choices.reference
    if not reference.exists() and choices.reference_roi is None:
        reference = _by_name(names, _REFERENCE_WORDS)
    regions = dict(choices.regions)
    for region in all_methods()[choices.method].regions if choices.method in all_methods() else ():
        if region.key not in ("gtv", "reference") and not regions.get(region.key, SegmentChoice()).exists():
            regions[region.key] = _by_name(names, _REGION_WORDS.get(region.key, (region.key,)))
    return dataclasses.replace(
        choices, planning=planning, inputs=inputs, gtv=gtv, reference=reference, series=series, regions=regions
    )


def without_unfitting(choices: MapperChoices, images: NodeImages) -> MapperChoices:
    """The choices without images that the method cannot take by their DICOM tags (another tracer,
    another kind of MR).

    Methods share names of inputs: an FMISO PET chosen for one must not stand in the way of the FDG of the next.
    """
    kept = dict(choices.inputs)
    for spec in all_methods()[choices.method].inputs:
        wanted = spec.tracers if spec.modality == "PT" else spec.mr_kinds
        if wanted and kept.get(spec.key) is not None and _kind(kept[spec.key], spec, images) not in ("", *wanted):
            kept[spec.key] = None
    return dataclasses.replace(choices, inputs=kept)


def _kind(node: Any, spec: InputSpec, images: NodeImages) -> str:
    """Tracer of a PET or kind of an MR; empty when nothing says it."""
    try:
        found = images.describe(node)[1].get("tracer", "") if spec.modality == "PT" else role_of(node, images)[1]
    except HypoxiaError:
        return ""
    return "" if found == "unknown" else str(found)


def _by_name(names: list[tuple[Any, str]], words: tuple[str, ...]) -> SegmentChoice:
    """The first segment whose name begins with or holds one of the words, earlier words first."""
    for word in words:
        for node, identifier in names:
            name = node.GetSegmentation().GetSegment(identifier).GetName().lower()
            if name == word or name.startswith(word) or (len(word) > 4 and word in name):
                return SegmentChoice(node, identifier)
    return SegmentChoice()
