"""What else the structure sets hold near the targets: organs nobody named, and tumour under a reference region."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib import tumour_overlap
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set
from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.tumour_overlap import is_tumour_name
from HypoxiaMapperLib.volume import Region

from .selection import Inputs
from .structures import Structure

_TUMOUR = re.compile(r"^(i?gtv|ctv|itv|ptv)|tumou?r|boost", re.IGNORECASE)
_WHOLE_BODY = re.compile(r"^(body|external|skin|patient|outline|couch|table|bolus)", re.IGNORECASE)


def bystander_warnings(inputs: Inputs, structures: Sequence[Structure]) -> list[str]:
    """Overlap in ml of the dose targets with every ROI of the structure sets that the user did not name.

    Targets and whole-body outlines are left out by name. An ROI that cannot be read is named, too.
    """
    used = {g.name for g in inputs.gtvs} | {o.name for o in inputs.organs}
    if inputs.reference is not None:
        used.add(inputs.reference.name)
    targets = [s.region for s in structures if s.dose is not None]
    box = box_around(targets)
    parts = [(t.name, cut(t, box).array) for t in targets] if box is not None else []
    warnings = []
    for name, region in _other_rois(inputs, used, box) if box is not None else ():
        if isinstance(region, str):
            warnings.append(f"ROI {name} could not be checked against the targets: {region}")
            continue
        mask = region.array
        shared = [(target, float(np.count_nonzero(mask & part)) * inputs.planning.volume.voxel_volume_ml)
                  for target, part in parts]  # fmt: skip
        text = " and ".join(f"{ml:.2f} ml of {target}" for target, ml in shared if ml > 0)
        if text:
            warnings.append(
                f"{text} overlap {name}, which was not given as an organ at risk (--organ; in Slicer its role)."
            )
    return warnings


def refuse_tumour_reference(inputs: Inputs) -> None:
    """Refuse a reference region that reaches into any gross tumour of the structure sets, named in the request or not.

    Raises
    ------
    InputError
        Naming the tumour and the overlap in ml.
    """
    if inputs.reference is None:
        return
    used, box = {g.name for g in inputs.gtvs} | {inputs.reference.name}, box_around([inputs.reference])
    reference = inputs.reference if box is None else cut(inputs.reference, box)
    others = () if box is None else _other_rois(inputs, used, box, tumours=True)
    tumour_overlap.refuse_tumour_reference(reference, others)


def box_around(regions: Sequence[Region]) -> sitk.Image | None:
    """The part of the grid of regions that holds all of them; None where there is no voxel."""
    spans = []
    for region in regions:
        held = region.array
        found = [np.flatnonzero(held.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
        spans += [[(int(f[0]), int(f[-1]) + 1) for f in found]] if found[0].size else []
    if not spans:
        return None
    first = [min(low for low, _ in axis) for axis in zip(*spans, strict=True)]
    size = [max(high for _, high in axis) - low for axis, low in zip(zip(*spans, strict=True), first, strict=True)]
    return sitk.RegionOfInterest(regions[0].mask, size, first)


def cut(region: Region, box: sitk.Image) -> Region:
    """A region on a part of its own grid."""
    first = region.mask.TransformPhysicalPointToIndex(box.GetOrigin())
    return replace(region, mask=sitk.RegionOfInterest(region.mask, box.GetSize(), first))


def _other_rois(
    inputs: Inputs, used: set[str], box: sitk.Image, tumours: bool = False
) -> Iterator[tuple[str, Region | str]]:
    """ROIs of the planning CT, and segments, that nobody named, one at a time: what lies in a box of the planning
    grid, or why it cannot be read."""
    planning = inputs.planning
    for name, read in inputs.others:
        if _is_asked_for(name, tumours):
            try:
                yield name, read(box)
            except HypoxiaError as error:
                yield name, error.message
    for info in inputs.scan.by_role("rtstruct"):
        if planning.info.series_uid not in info.referenced_series_uids:
            continue
        for name in info.roi_names:
            if name in used or not _is_asked_for(name, tumours):
                continue
            try:
                volume = planning.volume
                found = read_structure_set(info.files[0], volume.image, volume.frame_of_reference_uid, [name])
                yield name, cut(found[name], box)
            except HypoxiaError as error:
                yield name, error.message


def _is_asked_for(name: str, tumours: bool) -> bool:
    """True for a gross tumour, or for what is neither target nor whole body, by its name."""
    return is_tumour_name(name) if tumours else not (_TUMOUR.search(name) or _WHOLE_BODY.search(name))
