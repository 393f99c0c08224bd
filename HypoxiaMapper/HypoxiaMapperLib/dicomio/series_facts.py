"""What a scan says about one series: role, kind and facts for display, from its first header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from ..errors import GeometryError
from .model import OtherPatient, SeriesInfo
from .pet_time import acquisition_time, injection_time
from .recognise import find_mr_kind, find_tracer
from .rtstruct import roi_names
from .stack import SlicePlane, build_grid, doubled_positions, slice_order

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate"),
    *("AcquisitionDate", "AcquisitionDateTime", "AcquisitionTime", "SeriesTime", "TimezoneOffsetFromUTC", "Modality"),
    *("SeriesDescription", "ProtocolName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("ScanningSequence", "SliceThickness"),
    *("RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength", "DiffusionBValue", "StudyInstanceUID"),
    *("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing", "RadiopharmaceuticalInformationSequence", "Units", "SUVType"),
    *("DecayCorrection", "RegistrationSequence", "DeformableRegistrationSequence", "StructureSetLabel"),
    *("ReferencedFrameOfReferenceSequence", "StructureSetROISequence", "DoseUnits", "DoseType", "DoseSummationType"),
    *("RTPlanLabel", "ApprovalStatus"),
)
SERIES_TAGS = [Tag(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS]
"""The only header entries a scan reads."""


@dataclass(frozen=True)
class ScannedFile:
    """One usable file: its path and, for an image slice, where it lies."""

    path: Path
    plane: SlicePlane | None


def build_series_info(
    role: str, header: Dataset, files: Sequence[ScannedFile], others: Sequence[tuple[Path, Dataset]] = ()
) -> SeriesInfo:
    """Describe a series from the header of its first file and the planes of all.

    Parameters
    ----------
    role : str
        Role by SOP class.
    header : pydicom.Dataset
        Entries ``SERIES_TAGS`` of the first file.
    files : sequence of ScannedFile
        All files of the series.
    others : sequence of (Path, pydicom.Dataset)
        Files that state another patient than the first, with their headers.
    """
    details: dict[str, Any] = {"files": len(files)}
    if int(header.get("NumberOfFrames") or 1) > 1:
        details["frames_in_file"] = int(header.NumberOfFrames)
    kind = ""
    if role == "pet":
        details.update(_pet_details(header))
        kind = details["tracer"]
    elif role == "mr":
        kind, details["kind_source"] = find_mr_kind(header)
        details.update(_present(header, "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength"))
    elif role == "registration":
        kind, frames = _registration_frames(header)
        details["frames_of_reference"] = frames
    else:
        details.update(
            _present(header, "StructureSetLabel", "DoseUnits", "DoseType", "DoseSummationType", "RTPlanLabel")
        )
        details.update(_present(header, "ApprovalStatus"))
    paths, geometry = _order_and_geometry(files, details)
    frame_uid = _text(header, "FrameOfReferenceUID")
    references: tuple[str, ...] = ()
    if role == "rtstruct":
        referenced_frame, references = _rtstruct_references(header)
        frame_uid = referenced_frame or frame_uid
    return SeriesInfo(
        **_patient(header),
        study_uid=_text(header, "StudyInstanceUID"),
        study_date=_text(header, "StudyDate"),
        series_uid=_text(header, "SeriesInstanceUID"),
        modality=_text(header, "Modality"),
        description=_text(header, "SeriesDescription"),
        role=role,
        kind=kind,
        frame_of_reference_uid=frame_uid,
        files=paths,
        geometry=geometry,
        roi_names=roi_names(header) if role == "rtstruct" else (),
        referenced_series_uids=references,
        details=details,
        other_patients=tuple(OtherPatient(path, **_patient(other)) for path, other in others),
    )


def _patient(header: Dataset) -> dict[str, str]:
    """What a header says of its patient."""
    keywords = {"patient_id": "PatientID", "patient_name": "PatientName", "patient_birth_date": "PatientBirthDate",
                "patient_sex": "PatientSex"}  # fmt: skip
    return {name: _text(header, keyword) for name, keyword in keywords.items()}


def _order_and_geometry(files: Sequence[ScannedFile], details: dict[str, Any]) -> tuple[tuple[Path, ...], str]:
    """Paths in slice order (name order where positions are unknown) and one line on the grid."""
    by_name = sorted(files, key=lambda f: f.path)
    planes = [f.plane for f in by_name if f.plane is not None]
    if not planes or len(planes) < len(by_name):
        return tuple(f.path for f in by_name), ""
    try:
        order, along = slice_order(planes)
        doubled = int(np.count_nonzero(doubled_positions(along)))
        if doubled:
            details["doubled_positions"] = doubled
        geometry = build_grid(planes, "series").describe()
    except GeometryError as error:
        details["geometry_problem"] = error.message
        rows, columns = planes[0].shape
        geometry = f"{columns}x{rows}, {len(planes)} files, no regular grid"
        order = order if "order" in locals() else np.arange(len(planes))
    return tuple(by_name[int(i)].path for i in order), geometry


def _pet_details(header: Dataset) -> dict[str, Any]:
    """Tracer, unit, decay correction and, where the header tells, minutes from injection to scan."""
    details = find_tracer(header)
    details["units"] = _text(header, "Units")
    details["decay_correction"] = _text(header, "DecayCorrection")
    if _text(header, "SUVType"):
        details["suv_type"] = _text(header, "SUVType")
    items = header.get("RadiopharmaceuticalInformationSequence") or []
    half_life = items[0].get("RadionuclideHalfLife") if items else None
    start = acquisition_time(header)
    if start and half_life:
        injected = injection_time(header, start.time, float(half_life), details["tracer"], allow_unknown=True)
        if injected:
            details["minutes_after_injection"] = round((start.time - injected.time).total_seconds() / 60.0, 1)
    return details


def _rtstruct_references(header: Dataset) -> tuple[str, tuple[str, ...]]:
    """Frame of reference and the image series a structure set was drawn on."""
    frame_uid, series_uids = "", []
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        frame_uid = frame_uid or _text(frame, "FrameOfReferenceUID")
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                series_uids.append(_text(series, "SeriesInstanceUID"))
    for roi in header.get("StructureSetROISequence") or []:
        frame_uid = frame_uid or _text(roi, "ReferencedFrameOfReferenceUID")
    return frame_uid, tuple(dict.fromkeys(uid for uid in series_uids if uid))


def _registration_frames(header: Dataset) -> tuple[str, list[str]]:
    """ "rigid" or "deformable" and the frames of reference a registration joins."""
    frames = [_text(header, "FrameOfReferenceUID")]
    deformable = header.get("DeformableRegistrationSequence")
    for item in deformable or header.get("RegistrationSequence") or []:
        frames.append(_text(item, "SourceFrameOfReferenceUID" if deformable else "FrameOfReferenceUID"))
    return "deformable" if deformable else "rigid", list(dict.fromkeys(f for f in frames if f))


def _present(header: Dataset, *keywords: str) -> dict[str, Any]:
    """Entries that have a value, as plain text or number."""
    found = {}
    for keyword in keywords:
        value = header.get(keyword)
        if value not in (None, ""):
            found[keyword] = float(value) if isinstance(value, float) else str(value)
    return found


def _text(header: Dataset, keyword: str) -> str:
    """Value as text without padding, empty when absent."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip()
