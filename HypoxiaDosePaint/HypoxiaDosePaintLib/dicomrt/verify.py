"""Proof of an exported set: read again, from the files alone, by code that shares nothing with the writers.

What was shown is known from the masks (right after writing) or from the small record ``proof_reference`` in
``result.json`` (any time later, ``hypoxia verify DIR``)::

    {"structures": {name: {"volume_ml": float, "centroid_mm": [x, y, z], "dose_gy": float or null}},
     "fractions": int,
     "maps": {file: {"quantity": str, "unit": str, "minimum": float, "maximum": float, "mean": float,
                     "centre_mm": [x, y, z]}}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.volume import Region

from ..result import ProofRow
from .readback import (
    FAULTS,
    INDEX_TOLERANCE,
    Grid,
    MapRead,
    Planes,
    RoiRead,
    read_dose,
    read_grid,
    read_parametric_map,
    read_rois,
    read_segments,
    shared_voxels,
    voxels,
)

# VALIDATION row 33 asks for Dice 0.99 of 2 ml and more, within which a lost slice of a long target hides. Contours on
# pixel edges are exact, so every voxel that differs is a fault, whatever the size of the structure.
VOLUME_TOLERANCE = 0.02
CENTROID_TOLERANCE_MM = 0.1
DOSE_TOLERANCE_GY = 0.005
MAP_TOLERANCE = 1e-5  # relative: float32 is exact to 6e-8, the mean of many a little less
DOSE_COMMENT = "PRESCRIPTION, NOT CALCULATED"
NOT_APPLICABLE = math.nan


def verify_rtstruct(path: Path, expected: Mapping[str, Region], planning_files: Sequence[Path]) -> tuple[ProofRow, ...]:
    """Compare a structure set with the masks that were shown: one row per ROI, and one for the references.

    Raises
    ------
    InputError
        If the planning CT cannot be read. Whatever is wrong with the structure set fails a row instead.
    """
    grid = read_grid(planning_files)
    try:
        ds = dcmread(path)
        rois = read_rois(ds, grid)
        rows = [_object_row("RTSTRUCT", _structure_set_faults(ds, grid))]
    except FAULTS as error:
        return (_object_row("RTSTRUCT", [f"{path.name} cannot be read: {error}"]),)
    for name, region in expected.items():
        try:
            mask = _on_grid(region, grid)
        except ValueError as error:
            rows.append(_structure_row(name, region.volume_ml, None, rois.get(name), grid, [str(error)], None))
            continue
        centre = grid.centre_mm(mask) if mask else np.full(3, np.nan)
        rows.append(_structure_row(name, region.volume_ml, mask, rois.get(name), grid, [], centre))
    rows += _unexpected(rois, expected, grid)
    return tuple(rows)


def verify_set(
    folder: Path, planning_files: Sequence[Path], reference: Mapping[str, Any] | None = None
) -> tuple[ProofRow, ...]:
    """Prove an exported set from its files and the planning CT.

    Parameters
    ----------
    folder : Path
        Output folder of a run (with ``dicom/`` and ``result.json``) or its ``dicom`` folder.
    reference : mapping or None
        See the head of this file; None reads it from ``result.json``.

    Returns
    -------
    tuple of ProofRow
        Structures: the structure set against the segmentation (Dice) and the record (volume, centroid). One row
        for each object; there, numbers that do not apply are NaN.

    Raises
    ------
    InputError
        If the record or the planning CT is missing or unreadable.
    """
    dicom = folder / "dicom" if (folder / "dicom").is_dir() else folder
    if reference is None:
        reference = _read_reference(dicom)
    grid = read_grid(planning_files)
    objects = {path.name: _open(path) for path in sorted(dicom.glob("*.dcm"))}
    rows, rois, masks = _set_rows(objects, reference, grid)
    for name, record in reference["structures"].items():
        faults = [] if name in masks else ["not in the segmentation"]
        centre = np.array(record["centroid_mm"], dtype=float)
        rows.append(_structure_row(name, record["volume_ml"], masks.get(name), rois.get(name), grid, faults, centre))
    rows += _unexpected(rois, reference["structures"], grid)
    for name, record in reference["maps"].items():
        rows.append(_object_row(name.removesuffix(".dcm"), _map_faults(name, objects.get(name), record, objects, grid)))
    return tuple(rows)


def _set_rows(
    objects: Mapping[str, Dataset | str], reference: Mapping[str, Any], grid: Grid
) -> tuple[list[ProofRow], dict[str, RoiRead], dict[str, Planes]]:
    """Rows of structure set, plan and segmentation, and what the first and last hold."""
    rois: dict[str, RoiRead] = {}
    masks: dict[str, Planes] = {}
    rows = [_object_row("identity", _identity_faults(objects, grid))]
    for name in ("RTSTRUCT", "SEG", "RTPLAN"):
        ds = objects.get(f"{name}.dcm", "the file is missing")
        faults = [ds] if isinstance(ds, str) else []
        try:
            if isinstance(ds, str):
                pass
            elif name == "RTSTRUCT":
                rois = read_rois(ds, grid)
                faults = _structure_set_faults(ds, grid)
            elif name == "SEG":
                masks = read_segments(ds, grid)
            else:
                faults = _plan_faults(ds, objects.get("RTSTRUCT.dcm"), rois, reference)
        except FAULTS as error:
            faults = [f"cannot be read: {error}"]
        rows.append(_object_row(name, faults))
    return rows, rois, masks


def _structure_row(
    name: str,
    written_ml: float,
    shown: Planes | None,
    read: RoiRead | None,
    grid: Grid,
    faults: Sequence[str],
    centre: np.ndarray | None,
) -> ProofRow:
    """Compare one ROI with what was shown."""
    if read is None:
        return ProofRow(
            name, written_ml, 0.0, 0.0, math.inf, False, "; ".join([*faults, "missing in the structure set"])
        )
    reasons = [*faults, *read.reasons]
    count, shown_count = voxels(read.planes), voxels(shown or {})
    shared = shared_voxels(read.planes, shown or {})
    different = count + shown_count - 2 * shared
    dice = 2 * shared / (count + shown_count) if count + shown_count else 0.0
    read_ml = count * grid.voxel_ml
    shift = math.inf
    if count and centre is not None:
        shift = float(np.linalg.norm(grid.centre_mm(read.planes) - centre))
    if shown is None or different:
        reasons.append(f"{different} voxels differ (Dice {dice:.4f})")
    if not abs(read_ml - written_ml) <= VOLUME_TOLERANCE * written_ml:
        reasons.append(f"volume {read_ml:.3f} ml instead of {written_ml:.3f} ml")
    if not shift <= CENTROID_TOLERANCE_MM:
        reasons.append(f"centroid shifted by {shift:.2f} mm")
    return ProofRow(name, written_ml, read_ml, dice, shift, not reasons, "; ".join(reasons))


def _unexpected(rois: Mapping[str, RoiRead], expected: Mapping[str, Any], grid: Grid) -> list[ProofRow]:
    """A failed row for every ROI that was never shown."""
    return [
        ProofRow(n, 0.0, voxels(r.planes) * grid.voxel_ml, 0.0, math.inf, False, "was not shown, yet is in the file")
        for n, r in rois.items()
        if n not in expected
    ]


def _object_row(name: str, faults: Sequence[str]) -> ProofRow:
    """Row of an object, where volumes and Dice do not apply."""
    nan = NOT_APPLICABLE
    return ProofRow(name, nan, nan, nan, nan, not faults, "; ".join(faults))


def _identity_faults(objects: Mapping[str, Dataset | str], grid: Grid) -> list[str]:
    """Patient, study and new UIDs of all objects."""
    faults, seen = [], set(grid.uids)
    for name, ds in objects.items():
        if isinstance(ds, str):
            continue
        uid = str(ds.get("SOPInstanceUID", ""))
        if str(ds.get("PatientID")) != grid.patient_id or str(ds.get("StudyInstanceUID")) != grid.study_uid:
            faults.append(f"{name} is of another patient or study")
        if not uid or uid in seen:
            faults.append(f"{name} has a missing or used SOP Instance UID")
        if str(ds.get("FrameOfReferenceUID", grid.frame_uid)) != grid.frame_uid:
            faults.append(f"{name} has another frame of reference")
        seen.add(uid)
    return faults


def _structure_set_faults(ds: Dataset, grid: Grid) -> list[str]:
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


def _plan_faults(
    ds: Dataset, structure_set: Dataset | str | None, rois: Mapping[str, RoiRead], reference: Mapping[str, Any]
) -> list[str]:
    """References, status and prescribed doses of a plan."""
    faults = []
    uid = "" if structure_set is None or isinstance(structure_set, str) else str(structure_set.SOPInstanceUID)
    if str(ds.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID) != uid:
        faults.append("refers to another structure set")
    if ds.ApprovalStatus != "UNAPPROVED" or ds.PlanIntent != "RESEARCH":
        faults.append(f"status {ds.ApprovalStatus}, intent {ds.PlanIntent}")
    (group,) = ds.FractionGroupSequence
    if int(group.NumberOfBeams) or int(group.NumberOfFractionsPlanned) != reference["fractions"]:
        faults.append(f"{group.NumberOfBeams} beams in {group.NumberOfFractionsPlanned} fractions")
    names = {read.number: name for name, read in rois.items()}
    found = {
        names.get(int(r.ReferencedROINumber), f"ROI {r.ReferencedROINumber}"): float(r.TargetPrescriptionDose)
        for r in ds.DoseReferenceSequence
    }
    wanted = {n: s["dose_gy"] for n, s in reference["structures"].items() if s.get("dose_gy") is not None}
    for name in sorted({*found, *wanted}):
        got, want = found.get(name), wanted.get(name)
        if got is None or want is None or not abs(got - want) <= DOSE_TOLERANCE_GY:
            faults.append(f"{name} has {got} Gy instead of {want} Gy")
    return faults


def _map_faults(
    name: str, ds: Dataset | str | None, record: Mapping[str, Any], objects: Mapping[str, Dataset | str], grid: Grid
) -> list[str]:
    """Quantity, unit and values of a Parametric Map or RT Dose."""
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
    return faults


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


def _on_grid(region: Region, grid: Grid) -> Planes:
    """Mask of a region on the CT planes that it touches.

    Raises
    ------
    ValueError
        If its voxels are not those of the CT.
    """
    rows_columns = (grid.rows, grid.columns)
    order = []
    for position, column_step, row_step in zip(grid.positions, grid.column_steps, grid.row_steps, strict=True):
        near = np.array(region.mask.TransformPhysicalPointToContinuousIndex(position.tolist()))
        far_point = position + column_step * (grid.columns - 1) + row_step * (grid.rows - 1)
        far = np.array(region.mask.TransformPhysicalPointToContinuousIndex(far_point.tolist()))
        k = round(near[2])
        ideal = np.array([[0, 0, k], [grid.columns - 1, grid.rows - 1, k]])
        if np.abs(np.array([near, far]) - ideal).max() > INDEX_TOLERANCE:
            raise ValueError("the voxels shown are not those of the planning CT")
        order.append(k)
    array = region.array
    if array.shape[1:] != rows_columns or sorted(order) != list(range(array.shape[0])):
        raise ValueError("the image shown has other slices than the planning CT")
    return {i: array[k] for i, k in enumerate(order) if array[k].any()}


def _open(path: Path) -> Dataset | str:
    """The dataset of a file, or what is wrong with it."""
    try:
        return dcmread(path)
    except FAULTS as error:
        return f"{path.name} cannot be read: {error}"


def _read_reference(dicom: Path) -> Mapping[str, Any]:
    """The record of what was shown, from ``result.json`` beside or above the DICOM files."""
    for path in (dicom / "result.json", dicom.parent / "result.json"):
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))["proof_reference"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path} holds no record of what was shown ({type(error).__name__}).", "Run the export again."
                ) from error
    raise InputError(f"There is no result.json in {dicom} or above it.", "Give the output folder of a run.")
