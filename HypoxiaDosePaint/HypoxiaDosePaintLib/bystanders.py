"""What else the structure sets hold near the targets: organs nobody named, and tumour under a reference region."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set
from HypoxiaMapperLib.errors import HypoxiaError, InputError
from HypoxiaMapperLib.volume import Region

from .selection import Inputs
from .structures import Structure

_TUMOUR = re.compile(r"^(i?gtv|ctv|itv|ptv)|tumou?r|boost", re.IGNORECASE)
_GROSS_TUMOUR = re.compile(r"^i?gtv|tumou?r", re.IGNORECASE)
_WHOLE_BODY = re.compile(r"^(body|external|skin|patient|outline|couch|table|bolus)", re.IGNORECASE)


def is_tumour_name(name: str) -> bool:
    """True if an ROI name says gross tumour."""
    return bool(_GROSS_TUMOUR.search(name))


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
            warnings.append(f"{text} overlap {name}, which was not given as an organ at risk (--organ).")
    return warnings


def refuse_tumour_reference(inputs: Inputs) -> None:
    """Refuse a reference region that reaches into any gross tumour of the structure sets, named in the request or not.

    Raises
    ------
    InputError
        Naming the tumour and the overlap in ml.
    """
    reference = inputs.reference
    if reference is None:
        return
    if is_tumour_name(reference.name):
        raise InputError(f"Reference region {reference.name!r} is a tumour by its name.", "Give blood or muscle.")
    used = {g.name for g in inputs.gtvs} | {reference.name}
    mask = reference.array
    for name, region in _other_rois(inputs, used, tumours=True):
        if isinstance(region, Region) and (shared := np.count_nonzero(mask & region.array)):
            raise InputError(
                f"Reference region {reference.name} overlaps {name} by "
                f"{shared * inputs.planning.volume.voxel_volume_ml:.2f} ml.",
                "A reference must lie outside every tumour: choose or redraw it.",
            )


def _other_rois(inputs: Inputs, used: set[str], tumours: bool = False) -> Iterator[tuple[str, Region | str]]:
    """ROIs drawn on the planning CT that nobody named, one at a time: region, or why it cannot be read."""
    planning = inputs.planning
    for info in inputs.scan.by_role("rtstruct"):
        if planning.info.series_uid not in info.referenced_series_uids:
            continue
        for name in info.roi_names:
            kind = _GROSS_TUMOUR.search(name) if tumours else not (_TUMOUR.search(name) or _WHOLE_BODY.search(name))
            if name in used or not kind:
                continue
            try:
                volume = planning.volume
                yield name, read_structure_set(info.files[0], volume.image, volume.frame_of_reference_uid, [name])[name]
            except HypoxiaError as error:
                yield name, error.message
