"""What all exported objects share: patient, study, series, equipment, provenance, numbers as text, saving.

Every object carries new UIDs, the patient and study of the planning CT, this software as its equipment, and its whole
provenance: in words in the standard descriptions, and as JSON in the private block ``SLICERHYPOXIA`` (0071,xx01).
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds, validate_value

from HypoxiaMapperLib import __version__
from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import OutputError

from ..output import disk_message
from ..structures import Code, Structure

MANUFACTURER = "SlicerHypoxia"
MODEL = "Hypoxia"
SOFTWARE_VERSION = f"slicer-hypoxia {__version__}"
RESEARCH_TEXT = "Research use only"
CHARACTER_SET = "ISO_IR 192"  # UTF-8
PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_ELEMENT = 0x0071, "SLICERHYPOXIA", 0x01
MAX_SHORT_TEXT = 1024  # VR ST
MAX_LONG_STRING = 64  # VR LO
MAX_PERSON_NAME = 64  # characters of a component group, VR PN
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
# Categories of PS3.16 CID 9580, which the codes of GTV and PTV (CID 9534) belong under (PS3.3 C.8.8.8.3).
TARGET_CATEGORY = Code("130041", "DCM", "RT Target")
ORGAN_CATEGORY = Code("91723000", "SCT", "Anatomical Structure")
OTHER_CATEGORY = Code("130046", "DCM", "Non-specific Volume")

_NOT_IN_WORDS = (
    "surrogate",
    "label",
    "software",
    "request",
)  # said elsewhere, or too long: all are in the private block
_PATIENT_STUDY = (  # type 2 (present, possibly empty) of the Patient and General Study modules, PS3.3 C.7.1.1, C.7.2.1
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
_PATIENT_STUDY_OPTIONAL = (
    "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "PatientBirthTime", "OtherPatientIDs",
    "EthnicGroup", "PatientComments",
)  # fmt: skip


def new_uid() -> str:
    """A UID never used before (PS3.5 B.2, from a random UUID)."""
    return str(generate_uid(prefix=None))


def new_object(
    sop_class_uid: str,
    modality: str,
    planning: ImageSeries,
    provenance: Mapping[str, Any],
    created: datetime,
    series: str,
) -> Dataset:
    """Dataset with the patient, study, series, equipment and SOP common modules filled; ``series`` names the series.

    Implicit VR Little Endian: its 32-bit lengths hold a contour of any length, where an explicit DS ends at 65,534
    bytes (METHODS 11); it is the one transfer syntax every DICOM reader must know.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, new_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.update(patient_and_study(planning.headers[0]))
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = modality, new_uid(), 1, 1
    ds.FrameOfReferenceUID = planning.info.frame_of_reference_uid
    ds.PositionReferenceIndicator = planning.headers[0].get("PositionReferenceIndicator", "")
    ds.OperatorsName = ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, MODEL, SOFTWARE_VERSION
    finish_object(ds, provenance, created, series)
    return ds


def finish_object(ds: Dataset, provenance: Mapping[str, Any], created: datetime, series: str) -> None:
    """Character set, series text, dates and provenance, the same for every object however it was made."""
    ds.SpecificCharacterSet = CHARACTER_SET
    ds.SeriesDescription = title(provenance, series, RESEARCH_TEXT)
    ds.SeriesDate = ds.InstanceCreationDate = created.strftime("%Y%m%d")
    ds.SeriesTime = ds.InstanceCreationTime = created.strftime("%H%M%S")
    step = Dataset()
    step.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    step.Manufacturer, step.ManufacturerModelName, step.SoftwareVersions = MANUFACTURER, MODEL, SOFTWARE_VERSION
    step.ContributionDescription = describe(provenance)
    ds.ContributingEquipmentSequence = [*ds.get("ContributingEquipmentSequence", []), step]
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(PRIVATE_ELEMENT, "UT", json.dumps(dict(provenance), sort_keys=True))  # ASCII only


@contextmanager
def quiet_about_copied_values() -> Iterator[None]:
    """Within it pydicom and highdicom do not warn of two things that the planning CT's header may hold.

    A name without ``^`` is copied as it is, since changing it would make another patient of it; a value that is too
    long for its VR is left out (see ``_is_valid``). Neither is anything that who runs this could act on.
    """
    with warnings.catch_warnings():
        for message in (
            "The string .* is unlikely to represent the intended person name",
            "The value length .* exceeds",
        ):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def patient_and_study(header: Dataset) -> Dataset:
    """Patient and study attributes of an image header, as text in UTF-8 so that any name and description fits."""
    ds = Dataset()
    ds.SpecificCharacterSet = CHARACTER_SET
    with quiet_about_copied_values():
        for keyword in (*_PATIENT_STUDY, *_PATIENT_STUDY_OPTIONAL):
            if keyword in header and header[keyword].VR == "PN":
                setattr(ds, keyword, str(header[keyword].value or ""))  # drops the character set it was read with
            elif keyword in header and _is_valid(header[keyword]):
                ds[keyword] = copy.deepcopy(header[keyword])
            elif keyword in _PATIENT_STUDY:
                setattr(ds, keyword, "")
    ds.StudyInstanceUID = header.StudyInstanceUID
    return ds


def _is_valid(element: DataElement) -> bool:
    """False for a value that its VR does not allow, as a study ID of 17 characters: copied, it would make ours bad."""
    try:
        if element.VR != "SQ":
            for value in element.value if element.VM > 1 else [element.value]:
                validate_value(element.VR, str(value), config.RAISE)
    except ValueError:
        return False
    return True


def surrogate_text(provenance: Mapping[str, Any]) -> str:
    """What a map is and is not, its model's label included; empty for a measured map of hypoxia."""
    label = str(provenance.get("label", ""))
    if not provenance.get("surrogate"):
        return label
    if label:
        return f"Surrogate; {label}"  # shorter: with the label it must fit 64 characters
    return f"{'FDG surrogate' if _is_fdg(provenance) else 'Surrogate'}, not measured hypoxia"


def object_label(provenance: Mapping[str, Any]) -> str:
    """Label of an object in letters that CS and SH hold (at most 16)."""
    if provenance.get("label"):
        return "MODEL_PREDICTED"
    if not provenance.get("surrogate"):
        return "HYPOXIA"
    return "FDG_SURROGATE" if _is_fdg(provenance) else "SURROGATE"


def _is_fdg(provenance: Mapping[str, Any]) -> bool:
    return str(provenance.get("quantity", "")).startswith("FDG")


def title(provenance: Mapping[str, Any], *texts: str) -> str:
    """A long string (LO, 64 characters) that names a surrogate and a model's label before anything else.

    What does not fit is left out by whole words.
    """
    full = "; ".join(part for part in (surrogate_text(provenance), *texts) if part)
    if len(full) <= MAX_LONG_STRING:
        return full
    return (full[: MAX_LONG_STRING + 1].rpartition(" ")[0] or full[:MAX_LONG_STRING]).rstrip(";,:(")


def describe(provenance: Mapping[str, Any], text: str = "") -> str:
    """Provenance in words for a short text (ST, 1024 characters): surrogate and purpose first, long lists last."""
    items = [f"{key}: {_plain(value)}" for key, value in provenance.items() if key not in _NOT_IN_WORDS]
    return _sentences([surrogate_text(provenance), RESEARCH_TEXT, text, SOFTWARE_VERSION, *items])


def describe_part(provenance: Mapping[str, Any], text: str) -> str:
    """A short text on a part of an object, which need not repeat the provenance: surrogate and purpose first."""
    return _sentences([surrogate_text(provenance), RESEARCH_TEXT, text, SOFTWARE_VERSION])


def _sentences(parts: Iterable[str]) -> str:
    """Parts as sentences of one short text, cut where it is too long."""
    full = ". ".join(p for p in parts if p)
    return full if len(full) <= MAX_SHORT_TEXT else full[: MAX_SHORT_TEXT - 3] + "..."


def acceptor(provenance: Mapping[str, Any]) -> str:
    """Name of the person who accepted the result, as a DICOM person name; a plain name counts as family name."""
    name = str(provenance.get("accepted_by", "")).strip()
    return name if "^" in name or len(name) >= MAX_PERSON_NAME or not name else f"{name}^"


def _plain(value: Any) -> str:
    """A provenance value as a reader would write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def category_code(structure: Structure) -> Code:
    """Category that the code of a structure belongs under."""
    if structure.interpreted_type in ("GTV", "CTV", "PTV"):
        return TARGET_CATEGORY
    return ORGAN_CATEGORY if structure.interpreted_type == "ORGAN" else OTHER_CATEGORY


def code_item(code: Code) -> Dataset:
    """Item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Item that refers to another object."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def source_headers(planning: ImageSeries, slices: Iterable[int]) -> list[Dataset]:
    """Headers of planning slices, completed with the type 2 attributes that highdicom takes for granted."""
    found = []
    for k in slices:
        header = copy.copy(planning.headers[k])
        checked = patient_and_study(header)
        for keyword in _PATIENT_STUDY_OPTIONAL:
            if keyword in header and keyword not in checked:
                del header[keyword]
        header.update(checked)
        if header.PatientSex not in ("M", "F", "O"):
            header.PatientSex = ""
        if not header.get("SliceThickness"):  # may be empty or, in an anonymised CT, absent
            header.SliceThickness = format_ds(planning.volume.image.GetSpacing()[2])
        found.append(header)
    return found


def highdicom_equipment(created: datetime) -> dict[str, Any]:
    """Arguments that every highdicom object takes: UIDs, numbers, equipment, dates."""
    return {
        "series_instance_uid": new_uid(),
        "sop_instance_uid": new_uid(),
        "series_number": 1,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": SOFTWARE_VERSION,
        "device_serial_number": __version__,  # type 1 in Enhanced General Equipment; software has no other serial
        "content_date": created.date(),
        "content_time": created.time().replace(microsecond=0),
    }


def format_ds(value: float) -> str:
    """A number as a decimal string of at most 16 characters, as exact as these allow (PS3.5 6.2; Eclipse refuses more).

    Raises
    ------
    OutputError
        If the number is not finite.
    """
    if not np.isfinite(value):
        raise OutputError(
            f"{value} cannot be written as a DICOM decimal string.", "This is a defect: please report it."
        )
    return format_number_as_ds(float(value))


def format_points(xyz: np.ndarray) -> bytes:
    """Contour data of points (N, 3) in millimetres, rounded to 0.001, as the raw bytes of a DS element.

    Raises
    ------
    OutputError
        If a coordinate is not finite or has more than 16 characters.
    """
    values = (np.round(np.asarray(xyz, dtype=float), 3) + 0.0).ravel()  # + 0.0: no "-0.000"
    if not np.isfinite(values).all() or np.abs(values).max() >= 1e9:
        raise OutputError("A contour point is infinite or not a number.", "This is a defect: please report it.")
    text = "\\".join(["%.3f"] * values.size) % tuple(values.tolist())
    return text.encode("ascii") + b" " * (len(text) % 2)


def save(ds: Dataset, path: Path) -> str:
    """Write an object to a new file and return its SOP Instance UID. A file that cannot be finished is removed.

    Raises
    ------
    OutputError
        If the file exists, or cannot be written (permission, full disk).
    """
    try:
        stream = open(path, "xb")  # noqa: SIM115 - opened apart from writing: an existing file is never removed
    except FileExistsError as error:
        raise OutputError(f"{path} exists already.", "Nothing is overwritten: choose another output folder.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Choose a writable folder.") from error
    try:
        with stream:
            dcmwrite(stream, ds, enforce_file_format=True)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(*disk_message(Path(path.name), error)) from error
        raise
    return str(ds.SOPInstanceUID)


def private_provenance(ds: Dataset) -> dict[str, Any]:
    """Provenance of an object that was written by this software; empty for any other."""
    try:
        value: Any = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[PRIVATE_ELEMENT].value
    except KeyError:
        return {}
    return json.loads(value)  # bytes when read from implicit VR, text otherwise
