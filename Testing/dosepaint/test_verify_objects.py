"""The proof of plan, segmentation, maps, dose and files: every change that would reach a patient fails it."""

import copy
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from HypoxiaDosePaintLib.dicomrt.verify import verify_set


def set_dose(value):
    return set_reference("TargetPrescriptionDose", value)


def set_reference(keyword, value):
    return lambda ds: setattr(ds.DoseReferenceSequence[0], keyword, value)


def set_group_dose(value):
    def change(ds):
        ds.FractionGroupSequence[0].ReferencedDoseReferenceSequence[0].TargetPrescriptionDose = value

    return change


def again_with_another_dose(items):
    """A first item that says 87 Gy before the one that says the prescribed dose of the same target."""
    first = copy.deepcopy(items[0])
    first.TargetPrescriptionDose = "87"
    items.insert(0, first)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ds: again_with_another_dose(ds.DoseReferenceSequence), "3 doses for 2 targets"),
        (
            lambda ds: again_with_another_dose(ds.FractionGroupSequence[0].ReferencedDoseReferenceSequence),
            "3 doses in the fraction group for 2 targets",
        ),
        (set_dose(None), "cannot be read"),
        (set_dose("70"), "PTV_7700 has 70.0 Gy instead of 77.0 Gy"),
        (set_dose("7700"), "7700"),
        (lambda ds: setattr(ds.DoseReferenceSequence[0], "ReferencedROINumber", 1), "GTVp has 77.0 Gy"),
        (lambda ds: ds.DoseReferenceSequence.pop(), "PTV_7000 has None Gy"),
        (lambda ds: setattr(ds.FractionGroupSequence[0], "NumberOfFractionsPlanned", 33), "33 fractions"),
        (lambda ds: setattr(ds, "ApprovalStatus", "APPROVED"), "APPROVED"),
        (lambda ds: setattr(ds, "PlanIntent", "CURATIVE"), "CURATIVE"),
        (set_group_dose("7000"), "PTV_7700 has 7000.0 Gy in the fraction group"),
        (lambda ds: ds.FractionGroupSequence[0].ReferencedDoseReferenceSequence.pop(), "None Gy in the fraction group"),
        (set_reference("DoseReferenceDescription", "PTV_7700 90 Gy"), "described as 'PTV_7700 90 Gy'"),
        (set_reference("DoseReferenceType", "ORGAN_AT_RISK"), "ORGAN_AT_RISK"),
        (set_reference("TargetMaximumDose", "90"), "PTV_7700 has a TargetMaximumDose"),
        (
            lambda ds: setattr(ds.ReferencedStructureSetSequence[0], "ReferencedSOPInstanceUID", "1.2.3"),
            "another structure set",
        ),
    ],
)
def test_a_damaged_plan_fails(damaged, change, reason):
    failed = damaged("RTPLAN", change)
    assert list(failed) == ["RTPLAN"]
    assert reason in failed["RTPLAN"].reason


def roi_of_the_same_name(ds):
    """Another ROI of a target's name, with some of its contours, before it."""
    roi, contours = copy.deepcopy(ds.StructureSetROISequence[-1]), copy.deepcopy(ds.ROIContourSequence[-1])
    roi.ROINumber = contours.ReferencedROINumber = 99
    del contours.ContourSequence[3:]
    ds.StructureSetROISequence.insert(0, roi)
    ds.ROIContourSequence.insert(0, contours)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (roi_of_the_same_name, "the ROIs are "),
        (lambda ds: setattr(ds.StructureSetROISequence[0], "ROINumber", None), "cannot be read"),
        (lambda ds: setattr(ds.ROIContourSequence[0].ContourSequence[0], "ContourData", None), "cannot be read"),
    ],
)
def test_a_damaged_structure_set_fails(damaged, change, reason):
    assert reason in damaged("RTSTRUCT", change)["RTSTRUCT"].reason


def test_an_object_of_another_kind_fails(damaged):
    failed = damaged("RTPLAN", lambda ds: setattr(ds, "SOPClassUID", pydicom.uid.CTImageStorage))
    assert "RTPLAN.dcm is of another kind" in failed["identity"].reason


def empty_a_segment_frame(ds):
    data = np.frombuffer(ds.PixelData, np.uint8).copy()
    data[: len(data) // 3] = 0
    ds.PixelData = data.tobytes()


def move_a_segment_frame(ds):
    groups = ds.PerFrameFunctionalGroupsSequence
    groups[0].PlanePositionSequence, groups[1].PlanePositionSequence = (
        groups[1].PlanePositionSequence,
        groups[0].PlanePositionSequence,
    )


def test_a_damaged_segmentation_fails(damaged):
    assert "GTVp" in damaged("SEG", empty_a_segment_frame)


def test_a_moved_segmentation_frame_fails(damaged):
    assert "CT slice" in damaged("SEG", move_a_segment_frame)["SEG"].reason


def mapping(ds):
    return ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]


def scale_values(ds):
    ds.FloatPixelData = (np.frombuffer(ds.FloatPixelData, "<f4") * np.float32(1.01)).tobytes()


def flip_values(ds):
    values = np.frombuffer(ds.FloatPixelData, "<f4").reshape(-1, ds.Rows, ds.Columns)
    ds.FloatPixelData = np.ascontiguousarray(values[:, :, ::-1]).tobytes()


def swap_voxels(keyword, kind):
    """Exchange two unequal voxels: minimum, maximum and mean stay, and the centre as good as."""

    def change(ds):
        values = np.frombuffer(getattr(ds, keyword), kind).reshape(-1, ds.Rows, ds.Columns).copy()
        one, other = values[:, :, 3:], values[:, :, :-3]
        z, y, x = np.argwhere(np.isfinite(one) & np.isfinite(other) & (one != other))[0]
        values[z, y, [x, x + 3]] = values[z, y, [x + 3, x]]
        setattr(ds, keyword, values.tobytes())

    return change


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("MAP", swap_voxels("FloatPixelData", "<f4"), "values differ on 1 of "),
        ("PRESCRIPTION", swap_voxels("FloatPixelData", "<f4"), "2 voxels do not have the dose of their target"),
        ("RTDOSE", swap_voxels("PixelData", "<u2"), "2 voxels do not have the dose of their target"),
    ],
)
def test_voxels_that_change_places_fail(damaged, name, change, reason):
    failed = damaged(name, change)
    assert list(failed) == [name]
    assert reason in failed[name].reason


def test_other_bytes_fail_even_if_they_say_the_same(exported, tmp_path):
    """As an archive leaves it: every tag kept, another transfer syntax. Only the rows of the files fail."""
    out, planning, _ = exported
    shutil.copytree(out, tmp_path / "set")
    names = ("RTDOSE", "RTPLAN", "RTSTRUCT")  # the others are explicit already
    for name in names:
        path = tmp_path / "set" / "dicom" / f"{name}.dcm"
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(path)
    failed = {r.structure: r.reason for r in verify_set(tmp_path / "set", planning.info.files) if not r.passed}
    assert failed == {f"file {name}.dcm": "bytes differ from what was delivered" for name in names}


@pytest.mark.parametrize(("name", "content"), [("extra.dcm", b"x"), ("below/notes", b"\0" * 128 + b"DICM")])
def test_a_file_that_was_not_delivered_fails(exported, tmp_path, name, content):
    out, planning, _ = exported
    shutil.copytree(out, tmp_path / "set")
    path = tmp_path / "set" / "dicom" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (path.parent / "send_state.jsonl").write_text("{}", encoding="utf-8")  # what `hypoxia send` leaves is no DICOM
    failed = {r.structure: r.reason for r in verify_set(tmp_path / "set", planning.info.files) if not r.passed}
    assert failed == {f"file {name}": "was not delivered"}


@pytest.mark.parametrize("name", ["MAP", "PRESCRIPTION"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (scale_values, "maximum"),
        (flip_values, "shifted"),
        (lambda ds: setattr(mapping(ds), "RealWorldValueSlope", 2.0), "mean"),
        (lambda ds: setattr(mapping(ds).MeasurementUnitsCodeSequence[0], "CodeValue", "cGy"), "in cGy instead"),
        (
            lambda ds: setattr(mapping(ds).QuantityDefinitionSequence[0].ConceptCodeSequence[0], "CodeValue", "X"),
            "X in",
        ),
    ],
)
def test_a_damaged_map_fails(damaged, name, change, reason):
    failed = damaged(name, change)
    assert list(failed) == [name]
    assert reason in failed[name].reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ds: setattr(ds, "DoseComment", "calculated"), "dose comment"),
        (lambda ds: setattr(ds, "DoseUnits", "RELATIVE"), "RELATIVE"),
        (lambda ds: setattr(ds, "DoseGridScaling", "0.0051"), "maximum"),
        (lambda ds: setattr(ds.ReferencedRTPlanSequence[0], "ReferencedSOPInstanceUID", "1.2.3"), "another plan"),
        (lambda ds: setattr(ds, "PixelSpacing", [2.4, 2.5]), "pixel spacing"),
    ],
)
def test_a_damaged_dose_fails(damaged, change, reason):
    failed = damaged("RTDOSE", change)
    assert list(failed) == ["RTDOSE"]
    assert reason in failed["RTDOSE"].reason
