"""What else the structure sets hold near the targets: organs nobody named, and tumour under a reference region."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

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
    targets = [s for s in structures if s.dose is not None]
    warnings = []
    for name, region in _other_rois(inputs, used):
        if isinstance(region, str):
            warnings.append(f"ROI {name} could not be checked against the targets: {region}")
            continue
        mask = region.array
        shared = [(t.name, float(np.count_nonzero(mask & t.region.array)) * inputs.planning.volume.voxel_volume_ml)
                  for t in targets]  # fmt: skip
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
    if inputs.reference is not None:
        used = {g.name for g in inputs.gtvs} | {inputs.reference.name}
        tumour_overlap.refuse_tumour_reference(inputs.reference, _other_rois(inputs, used, tumours=True))


def _other_rois(inputs: Inputs, used: set[str], tumours: bool = False) -> Iterator[tuple[str, Region | str]]:
    """ROIs of the planning CT, and segments, that nobody named, one at a time: region, or why it cannot be read."""
    planning = inputs.planning
    for name, read in inputs.others:
        if _is_asked_for(name, tumours):
            try:
                yield name, read()
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
                yield name, read_structure_set(info.files[0], volume.image, volume.frame_of_reference_uid, [name])[name]
            except HypoxiaError as error:
                yield name, error.message


def _is_asked_for(name: str, tumours: bool) -> bool:
    """True for a gross tumour, or for what is neither target nor whole body, by its name."""
    return is_tumour_name(name) if tumours else not (_TUMOUR.search(name) or _WHOLE_BODY.search(name))
