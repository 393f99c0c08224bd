"""RT Plan without beams that carries the prescription of each target (PS3.3 A.20; METHODS section 11).

An RTSTRUCT has no place for a dose. The Dose Reference Sequence of an RT Plan is where planning systems look for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage

from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import RequestError

from ..prescription import DoseLevel, Prescription
from ..structures import Structure
from .common import (
    RESEARCH_TEXT,
    describe,
    describe_part,
    format_ds,
    new_object,
    new_uid,
    object_label,
    reference_item,
    save,
    title,
)


def write_rtplan(
    path: Path,
    structures: Sequence[Structure],
    prescription: Prescription,
    rtstruct_uid: str,
    planning: ImageSeries,
    provenance: Mapping[str, Any],
    created: datetime,
) -> str:
    """Write the prescription as an unapproved RT Plan for research and return its SOP Instance UID.

    ``structures`` are those of the structure set, in the same order: the ROI number is the place in it.

    Raises
    ------
    RequestError
        If no structure carries a dose, or a level's fractions differ from the prescription's.
    OutputError
        If the file exists or cannot be written.
    """
    targets = [(number, s, s.dose) for number, s in enumerate(structures, start=1) if s.dose is not None]
    fractions = prescription.boost.fractions
    if not targets:
        raise RequestError("No structure carries a dose.", "A plan needs at least one prescribed target.")
    for _, structure, level in targets:
        if level.fractions != fractions:
            raise RequestError(
                f"{structure.name} has {level.fractions} fractions, the prescription {fractions}.",
                "All levels are given in the same fractions (simultaneous integrated boost).",
            )
    ds = new_object(RTPlanStorage, "RTPLAN", planning, provenance, created, "Hypoxia prescription, no beams")
    ds.RTPlanLabel = object_label(provenance)
    ds.RTPlanName = title(provenance, f"Prescription only, no beams. {RESEARCH_TEXT}")
    ds.RTPlanDescription = describe(provenance, _words(prescription))
    ds.RTPlanDate, ds.RTPlanTime = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    ds.RTPlanGeometry, ds.PlanIntent, ds.ApprovalStatus = "PATIENT", "RESEARCH", "UNAPPROVED"
    ds.PrescriptionDescription = describe_part(provenance, _words(prescription))
    ds.ReferencedStructureSetSequence = [reference_item(RTStructureSetStorage, rtstruct_uid)]
    ds.DoseReferenceSequence = [
        _dose_reference(n, number, s, d, str(provenance.get("label", "")))
        for n, (number, s, d) in enumerate(targets, start=1)
    ]
    ds.FractionGroupSequence = [_fraction_group(fractions, [level for _, _, level in targets])]
    return save(ds, path)


def _words(prescription: Prescription) -> str:
    """The prescription as a sentence; total physical dose, so that nobody takes it for dose per fraction or EQD2."""
    base, boost = prescription.base, prescription.boost
    text = (
        f"Protocol {prescription.protocol}: {base.dose_gy:g} Gy base, {boost.dose_gy:g} Gy boost, total physical dose "
        f"in {boost.fractions} fractions"
    )
    return f"{text}. Ceiling overridden by {prescription.override}" if prescription.override else text


def _dose_words(structure: Structure, level: DoseLevel, label: str) -> str:
    """Name, dose and model's label of a target in a long string (64 characters); fractions only where there is room."""
    short = f"{structure.name} {level.dose_gy:g} Gy"
    full = f"{short} in {level.fractions} fractions"
    if not label:
        return full
    return f"{full}; {label}" if len(full) + len(label) <= 62 else f"{short}; {label}"[:64]


def _dose_reference(number: int, roi_number: int, structure: Structure, level: DoseLevel, label: str) -> Dataset:
    """Item of the Dose Reference Sequence: the total dose of a target volume in gray."""
    item = Dataset()
    item.DoseReferenceNumber = number
    item.DoseReferenceUID = new_uid()
    item.DoseReferenceStructureType = "VOLUME"
    item.DoseReferenceDescription = _dose_words(structure, level, label)
    item.DoseReferenceType = "TARGET"
    item.ReferencedROINumber = roi_number
    item.TargetPrescriptionDose = format_ds(level.dose_gy)
    return item


def _fraction_group(fractions: int, levels: Sequence[DoseLevel]) -> Dataset:
    """Item of the Fraction Group Sequence: how many fractions, and no beam."""
    group = Dataset()
    group.FractionGroupNumber = 1
    group.FractionGroupDescription = f"{RESEARCH_TEXT}; prescription only"
    group.NumberOfFractionsPlanned = fractions
    group.NumberOfBeams = group.NumberOfBrachyApplicationSetups = 0
    group.ReferencedDoseReferenceSequence = []
    for number, level in enumerate(levels, start=1):
        reference = Dataset()
        reference.ReferencedDoseReferenceNumber = number
        reference.TargetPrescriptionDose = format_ds(level.dose_gy)
        group.ReferencedDoseReferenceSequence.append(reference)
    return group
