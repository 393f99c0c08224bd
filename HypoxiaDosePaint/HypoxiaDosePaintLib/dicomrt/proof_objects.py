"""What may be wrong with each object of an exported set, in words; part of the proof (see ``verify``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from .readback import FAULTS, Grid, MapRead, Planes, RoiRead, plane_digest, read_dose, read_parametric_map

CENTROID_TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 0.02
DOSE_TOLERANCE_GY = 0.005
MAP_TOLERANCE = 1e-5  # relative: float32 is exact to 6e-8, the mean of many a little less
LABEL_CHARACTERS = 50  # of a model's label fit a long string in any case
DOSE_COMMENT = "PRESCRIPTION, NOT CALCULATED"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
KINDS = {
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3", "RTPLAN": "1.2.840.10008.5.1.4.1.1.481.5",
    "RTDOSE": "1.2.840.10008.5.1.4.1.1.481.2", "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "MAP": PARAMETRIC_MAP, "PRESCRIPTION": PARAMETRIC_MAP,
}  # fmt: skip
"""SOP class of each file by its name up to an underscore (PS3.4 B.5)."""


def identity_faults(objects: Mapping[str, Dataset | str], grid: Grid) -> list[str]:
    """Patient, study, frame of reference, kind and new UIDs of all objects."""
    faults, seen = [], set(grid.uids)
    for name, ds in objects.items():
        if isinstance(ds, str):
            continue
        uid = str(ds.get("SOPInstanceUID", ""))
        if str(ds.get("PatientID")) != grid.patient["PatientID"] or str(ds.get("StudyInstanceUID")) != grid.study_uid:
            faults.append(f"{name} is of another patient or study")
        faults += [
            f"{name} has {keyword} {_text(ds, keyword)!r} instead of {value!r}"
            for keyword, value in grid.patient.items()
            if keyword != "PatientID" and not _same_identity(keyword, _text(ds, keyword), value)
        ]
        if not uid or uid in seen:
            faults.append(f"{name} has a missing or used SOP Instance UID")
        kind = KINDS.get(name.removesuffix(".dcm").partition("_")[0], "")
        if str(ds.get("SOPClassUID")) != kind:
            faults.append(f"{name} is of another kind (SOP class {ds.get('SOPClassUID')})")
        if str(ds.get("FrameOfReferenceUID", grid.frame_uid)) != grid.frame_uid:
            faults.append(f"{name} has another frame of reference")
        seen.add(uid)
    return faults


def _same_identity(keyword: str, found: str, value: str) -> bool:
    """The name must be the CT's; birth date and sex may be left empty, where the CT's are not valid."""
    if keyword == "PatientName":
        return found.rstrip("^ ") == value.rstrip("^ ")
    return found in ("", value)


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "")


def structure_set_faults(ds: Dataset, grid: Grid) -> list[str]:
    """References and status of a structure set."""
    faults = []
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    if str(frame.FrameOfReferenceUID) != grid.frame_uid:
        faults.append("the frame of reference is not that of the planning CT")
    if str(study.ReferencedSOPInstanceUID) != grid.study_uid or str(series.SeriesInstanceUID) != grid.series_uid:
        faults.append("study or series is not that of the planning CT")
    if {str(i.ReferencedSOPInstanceUID) for i in series.ContourImageSequence} != set(grid.uids):
        faults.append("the referenced images are not those of the planning CT")
    if ds.get("ApprovalStatus") != "UNAPPROVED":
        faults.append(f"approval status is {ds.get('ApprovalStatus')}")
    return faults


def roi_faults(ds: Dataset, rois: Mapping[str, RoiRead], reference: Mapping[str, Any]) -> list[str]:
    """What a planning system takes an ROI for: type, code, label, stated volume and dose."""
    names = sorted(str(item.ROIName) for item in ds.StructureSetROISequence)
    faults = [] if names == sorted(reference["structures"]) else [f"the ROIs are {', '.join(names)}"]
    stated = {int(item.ROINumber): item for item in ds.StructureSetROISequence}
    observed: dict[int, list[Dataset]] = {}
    for item in ds.RTROIObservationsSequence:
        observed.setdefault(int(item.ReferencedROINumber), []).append(item)
    for name, record in reference["structures"].items():
        if name not in rois:
            continue  # has its own row
        number = rois[name].number
        for item in observed.get(number, []):
            code = str(item.RTROIIdentificationCodeSequence[0].CodeValue)
            found = (str(item.RTROIInterpretedType), code, str(item.ROIObservationLabel))
            wanted = (record["interpreted_type"], record["code"], name)
            faults += [f"{name} is {f} instead of {w}" for f, w in zip(found, wanted, strict=True) if f != w]
        if len(observed.get(number, [])) != 1:
            faults.append(f"{name} has {len(observed.get(number, []))} observations")
        volume_ml = float(stated[number].ROIVolume)
        if not abs(volume_ml - record["volume_ml"]) <= VOLUME_TOLERANCE * record["volume_ml"]:
            faults.append(f"{name} states a volume of {volume_ml:g} ml")
        dose = record["dose_gy"]
        text = "" if dose is None else f"Prescribed {dose:g} Gy in {reference['fractions']}"
        if text not in str(stated[number].ROIDescription):
            faults.append(f"the description of {name} does not say {text!r}")
    return faults


def label_faults(objects: Mapping[str, Dataset | str], label: str) -> list[str]:
    """Places that do not carry the label of the model behind the map: every object's title and every part of it."""
    faults = []
    for name, ds in objects.items():
        if isinstance(ds, str):
            continue
        texts = {"series": _text(ds, "SeriesDescription")}
        if "ContentDescription" in ds:
            texts["content"] = _text(ds, "ContentDescription")
        texts |= {f"ROI {i.ROIName}": _text(i, "ROIDescription") for i in ds.get("StructureSetROISequence", [])}
        texts |= {f"segment {i.SegmentLabel}": _text(i, "SegmentDescription") for i in ds.get("SegmentSequence", [])}
        faults += [f"{name}: the description of {part} lacks {label!r}" for part, text in texts.items()
                   if label[:LABEL_CHARACTERS].rstrip() not in text]  # fmt: skip
    return faults


def plan_faults(
    ds: Dataset, structure_set: Dataset | str | None, rois: Mapping[str, RoiRead], reference: Mapping[str, Any]
) -> list[str]:
    """References, status and prescribed doses of a plan, wherever it states them."""
    faults = []
    uid = "" if structure_set is None or isinstance(structure_set, str) else str(structure_set.SOPInstanceUID)
    if str(ds.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID) != uid:
        faults.append("refers to another structure set")
    if ds.ApprovalStatus != "UNAPPROVED" or ds.PlanIntent != "RESEARCH":
        faults.append(f"status {ds.ApprovalStatus}, intent {ds.PlanIntent}")
    (group,) = ds.FractionGroupSequence
    if int(group.NumberOfBeams) or int(group.NumberOfFractionsPlanned) != reference["fractions"]:
        faults.append(f"{group.NumberOfBeams} beams in {group.NumberOfFractionsPlanned} fractions")
    if int(group.NumberOfBrachyApplicationSetups):
        faults.append(f"{group.NumberOfBrachyApplicationSetups} brachytherapy setups")
    names = {read.number: name for name, read in rois.items()}
    wanted = {n: s["dose_gy"] for n, s in reference["structures"].items() if s["dose_gy"] is not None}
    found: dict[str, float] = {}
    by_number: dict[int, str] = {}
    for item in ds.DoseReferenceSequence:
        name = names.get(int(item.ReferencedROINumber), f"ROI {item.ReferencedROINumber}")
        found[name] = float(item.TargetPrescriptionDose)
        by_number[int(item.DoseReferenceNumber)] = name
        faults += _dose_item_faults(item, name, wanted.get(name), reference)
    in_group = {
        by_number.get(int(r.ReferencedDoseReferenceNumber), f"dose reference {r.ReferencedDoseReferenceNumber}"): float(
            r.TargetPrescriptionDose
        )
        for r in group.ReferencedDoseReferenceSequence
    }
    for what, items in (
        ("", ds.DoseReferenceSequence),
        (" in the fraction group", group.ReferencedDoseReferenceSequence),
    ):
        if len(items) != len(wanted):  # one target with two doses has one of them in what was found
            faults.append(f"{len(items)} doses{what} for {len(wanted)} targets")
    faults += _dose_faults(found, wanted, "")
    return faults + _dose_faults(in_group, wanted, " in the fraction group")


def _dose_item_faults(item: Dataset, name: str, dose_gy: float | None, reference: Mapping[str, Any]) -> list[str]:
    """Type and words of one dose reference, and doses that were never prescribed."""
    faults = []
    kind = (str(item.DoseReferenceType), str(item.DoseReferenceStructureType))
    if kind != ("TARGET", "VOLUME"):
        faults.append(f"the dose of {name} is of type {', '.join(kind)} instead of TARGET, VOLUME")
    short = "" if dose_gy is None else f"{name} {dose_gy:g} Gy"
    words = short and f"{short} in {reference['fractions']} fractions"
    label, found = str(reference.get("label", "")), str(item.DoseReferenceDescription)
    # 64 characters: beside a model's label there may be no room for the fractions; blanks at the end are no part of it
    same = found.startswith(short) and found.endswith(label[: 62 - len(short)].rstrip()) if label else found == words
    if not same:
        faults.append(f"the dose of {name} is described as {found!r}, not {'; '.join(filter(None, (words, label)))!r}")
    other = [e.keyword for e in item if e.keyword.endswith("Dose") and e.keyword != "TargetPrescriptionDose"]
    return faults + [f"{name} has a {keyword}" for keyword in other]


def _dose_faults(found: Mapping[str, float], wanted: Mapping[str, float], where: str) -> list[str]:
    """Doses by target that are not the prescribed ones."""
    faults = []
    for name in sorted({*found, *wanted}):
        got, want = found.get(name), wanted.get(name)
        if got is None or want is None or not abs(got - want) <= DOSE_TOLERANCE_GY:
            faults.append(f"{name} has {got} Gy{where} instead of {want} Gy")
    return faults


def map_faults(
    name: str,
    objects: Mapping[str, Dataset | str],
    reference: Mapping[str, Any],
    masks: Mapping[str, Planes],
    grid: Grid,
) -> list[str]:
    """Quantity, unit and every value of a Parametric Map or RT Dose."""
    ds, record = objects.get(name), reference["maps"][name]
    if ds is None or isinstance(ds, str):
        return [ds or "the file is missing"]
    is_dose = ds.get("Modality") == "RTDOSE"
    try:
        read = read_dose(ds, grid) if is_dose else read_parametric_map(ds, grid)
        faults = _dose_reference_faults(ds, objects) if is_dose else []
    except FAULTS as error:
        return [f"cannot be read: {error}"]
    if (read.quantity, read.unit) != (record["quantity"], record["unit"]):
        faults.append(f"{read.quantity} in {read.unit} instead of {record['quantity']} in {record['unit']}")
    values = np.concatenate([plane[np.isfinite(plane)] for plane in read.planes.values()])
    if not values.size:
        return [*faults, "holds no value"]
    tolerance = MAP_TOLERANCE * max(abs(record["minimum"]), abs(record["maximum"]))
    tolerance = max(tolerance, DOSE_TOLERANCE_GY if is_dose else 0.0)
    found = {"minimum": values.min(), "maximum": values.max(), "mean": values.mean(dtype=float)}
    faults += [
        f"{key} {value:.6g} instead of {record[key]:.6g}"
        for key, value in found.items()
        if not abs(value - record[key]) <= tolerance
    ]
    shift = float(
        np.linalg.norm(_map_centre(read, float(values.min()), grid) - np.array(record["centre_mm"], dtype=float))
    )
    if not shift <= CENTROID_TOLERANCE_MM:
        faults.append(f"values shifted by {shift:.2f} mm")
    if "planes" in record:
        return faults + _plane_faults(read, record["planes"], grid)
    return faults + _prescription_faults(read, masks, reference["structures"], grid)


def _plane_faults(read: MapRead, planes: Mapping[str, str], grid: Grid) -> list[str]:
    """Slices of a map on which any voxel differs from what was shown."""
    found = {grid.uids[k]: plane_digest(plane) for k, plane in read.planes.items()}
    different = sum(found.get(uid) != planes.get(uid) for uid in {*found, *planes})
    return [f"values differ on {different} of {len(planes)} slices"] if different else []


def _prescription_faults(
    read: MapRead, masks: Mapping[str, Planes], structures: Mapping[str, Any], grid: Grid
) -> list[str]:
    """Voxels that do not have the highest dose of the targets they lie in, or have one outside all."""
    doses = {name: record["dose_gy"] for name, record in structures.items() if record["dose_gy"] is not None}
    wrong = 0
    for k in range(len(grid.uids)):
        wanted, found = (np.full((grid.rows, grid.columns), np.nan, dtype=np.float32) for _ in range(2))
        for name in sorted(doses, key=lambda n: doses[n]):
            if k in masks.get(name, {}):
                wanted[masks[name][k]] = doses[name]
        plane = read.planes.get(k, np.empty((0, 0)))
        found[read.row : read.row + plane.shape[0], read.column : read.column + plane.shape[1]] = plane
        wrong += int(np.count_nonzero(~np.isclose(found, wanted, rtol=0.0, atol=DOSE_TOLERANCE_GY, equal_nan=True)))
    return [f"{wrong} voxels do not have the dose of their target"] if wrong else []


def _map_centre(read: MapRead, minimum: float, grid: Grid) -> np.ndarray:
    """Centre of a map in LPS mm, weighted by its values above its minimum; by all defined voxels where it is flat."""
    weights = {k: np.nan_to_num(plane - minimum) for k, plane in read.planes.items()}
    if not any(w.any() for w in weights.values()):
        weights = {k: np.isfinite(plane) for k, plane in read.planes.items()}
    return grid.centre_mm(weights, read.row, read.column)


def _dose_reference_faults(ds: Dataset, objects: Mapping[str, Dataset | str]) -> list[str]:
    """An RT Dose must say that it is a prescription, and of which plan."""
    plan = objects.get("RTPLAN.dcm")
    uid = "" if plan is None or isinstance(plan, str) else str(plan.SOPInstanceUID)
    faults = [] if ds.DoseComment == DOSE_COMMENT else [f"dose comment is {ds.DoseComment!r}"]
    if str(ds.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID) != uid:
        faults.append("refers to another plan")
    return faults
