"""A folder is described completely: every series with its role, every other file with a reason."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_samples import (
    DEFORMABLE_REGISTRATION,
    FRAME,
    SPATIAL_REGISTRATION,
    new_dataset,
    write_ct,
    write_mr,
    write_pet,
    write_rtstruct,
)
from HypoxiaMapperLib.dicomio.patient import patient_warnings, require_one_patient
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import InputError

SQUARE = np.array([[1, 1, 0], [5, 1, 0], [5, 5, 0], [1, 5, 0]], float)


def only(folder):
    result = scan_folder(folder)
    assert len(result.series) == 1, result
    return result.series[0]


def reasons(result):
    return {item.path.name: item.reason for item in result.left_out}


def test_whole_patient(tmp_path):
    write_ct(tmp_path / "ct", SeriesInstanceUID="1.2.3")
    write_pet(tmp_path / "pet")
    write_mr(tmp_path / "mr", SeriesDescription="t1_vibe_dixon")
    write_rtstruct(tmp_path / "rs" / "rs.dcm", {"GTVp": [SQUARE], "SpinalCord": [SQUARE]}, series_uid="1.2.3")
    seen = []
    result = scan_folder(tmp_path, lambda fraction, text: seen.append(fraction))
    assert {s.role for s in result.series} == {"planning_ct", "pet", "mr", "rtstruct"}
    assert not result.left_out
    assert seen[-1] == 1.0
    (ct,) = result.by_role("planning_ct")
    assert ct.geometry == "8x8x5 voxels of 1x1x2 mm from (0.00, 0.00, 0.00)"
    assert ct.frame_of_reference_uid == FRAME
    assert [p.name for p in ct.files] == [f"CT_00{k}.dcm" for k in range(5)]
    (pet,) = result.by_role("pet")
    assert pet.kind == "FDG"
    assert pet.details["units"] == "BQML"
    assert pet.details["decay_correction"] == "START"
    assert pet.details["minutes_after_injection"] == 60
    (mr,) = result.by_role("mr")
    assert mr.kind == "T1"
    (structures,) = result.by_role("rtstruct")
    assert structures.roi_names == ("GTVp", "SpinalCord")
    assert structures.referenced_series_uids == ("1.2.3",)
    assert structures.frame_of_reference_uid == FRAME


def test_files_come_in_slice_order(tmp_path):
    write_ct(tmp_path, positions=[(0, 0, z) for z in (8, 2, 6, 0, 4)])
    assert [p.name[3:6] for p in only(tmp_path).files] == ["003", "001", "004", "002", "000"]


def _code(scheme, value, meaning):
    code = Dataset()
    code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = scheme, value, meaning
    return [code]


@pytest.mark.parametrize(
    ("tags", "tracer", "source"),
    [
        ({"RadiopharmaceuticalCodeSequence": _code("SCT", "422598008", "x")}, "FMISO", "SCT 422598008"),
        ({"RadiopharmaceuticalCodeSequence": _code("SCT", "35321007", "x")}, "FDG", "SCT 35321007"),
        ({"RadiopharmaceuticalCodeSequence": _code("SRT", "C-B1031", "x")}, "FDG", "SRT C-B1031"),
        ({"RadiopharmaceuticalCodeSequence": _code("99SDM", "Y-X1743", "x")}, "FDG", "99SDM Y-X1743"),
        ({"RadiopharmaceuticalCodeSequence": _code("99X", "1", "Fluoromisonidazole F^18^")}, "FMISO", "meaning"),
        ({"Radiopharmaceutical": "18F-FAZA"}, "FAZA", "Radiopharmaceutical '18F-FAZA'"),
        ({"Radiopharmaceutical": "F-MISO"}, "FMISO", "Radiopharmaceutical"),
        ({"Radiopharmaceutical": "Fluorodeoxyglucose"}, "FDG", "Radiopharmaceutical"),
        ({"Radiopharmaceutical": "Solution"}, "HX4", "SeriesDescription"),
        ({"Radiopharmaceutical": None, "SeriesDescription": "EF5 3h"}, "EF5", "SeriesDescription"),
        ({"Radiopharmaceutical": "64Cu-ATSM"}, "Cu-ATSM", "Radiopharmaceutical"),
        ({"Radiopharmaceutical": "Solution", "SeriesDescription": "PET AC"}, "unknown", "no code"),
        ({"Radiopharmaceutical": "FDG or FMISO", "SeriesDescription": "PET"}, "unknown", "no code"),
    ],
)
def test_tracer_and_what_decided(tmp_path, tags, tracer, source):
    write_pet(tmp_path, **{"Radiopharmaceutical": "x", "SeriesDescription": "HX4 4h", **tags})
    info = only(tmp_path)
    assert info.kind == tracer
    assert source in info.details["tracer_source"]


def test_contradicting_tracers_are_said(tmp_path):
    write_pet(tmp_path, Radiopharmaceutical="FDG", SeriesDescription="FMISO 2h")
    info = only(tmp_path)
    assert info.kind == "FDG"
    assert "FMISO by SeriesDescription" in info.details["tracer_conflict"]


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, "ADC"),
        ({"SeriesDescription": "ep2d_diff_b50_800"}, "DWI"),
        ({"SeriesDescription": "ep2d_diff_ADC"}, "ADC"),
        ({"SeriesDescription": "T2_tse_tra"}, "T2"),
        ({"SeriesDescription": "R2* map"}, "R2*"),
        ({"SeriesDescription": "T2* GRE"}, "T2*"),
        ({"SeriesDescription": "DCE_vibe"}, "DCE"),
        ({"SeriesDescription": "T1 map MOLLI"}, "T1 map"),
        ({"SeriesDescription": "Ktrans"}, "Ktrans"),
        ({"SeriesDescription": "t2_flair"}, "FLAIR"),
        ({"SeriesDescription": "x", "DiffusionBValue": 800.0}, "DWI"),
        ({"SeriesDescription": "x", "ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 10}, "T1"),
        ({"SeriesDescription": "x", "ScanningSequence": "SE", "RepetitionTime": 4000, "EchoTime": 100}, "T2"),
        ({"SeriesDescription": "x", "ScanningSequence": "GR", "RepetitionTime": 500, "EchoTime": 10}, "unknown"),
    ],
)
def test_kind_of_mr(tmp_path, tags, kind):
    write_mr(tmp_path, np.ones((2, 4, 4)), **tags)
    assert only(tmp_path).kind == kind


def test_every_file_left_out_has_its_reason(tmp_path):
    paths = write_ct(tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty.dcm").touch()
    shutil.copy(paths[0], tmp_path / "copy.dcm")
    data = paths[1].read_bytes()
    (tmp_path / "cut_pixels.dcm").write_bytes(data[:-10])
    (tmp_path / "cut_header.dcm").write_bytes(data[: data.index(b"\x28\x00\x10\x00")])
    (tmp_path / "cut_meta.dcm").write_bytes(data[:150])
    write_ct(tmp_path / "scout", np.zeros((1, 4, 4)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    secondary = new_dataset("1.2.840.10008.5.1.4.1.1.7")
    secondary.SeriesInstanceUID = "1.2.9"
    secondary.save_as(tmp_path / "capture.dcm", enforce_file_format=True)
    enhanced = new_dataset("1.2.840.10008.5.1.4.1.1.2.1")
    enhanced.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    nameless = new_dataset("1.2.840.10008.5.1.4.1.1.481.3")
    nameless.save_as(tmp_path / "nameless.dcm", enforce_file_format=True)
    shutil.copy(get_testdata_file("DICOMDIR"), tmp_path / "DICOMDIR")
    result = scan_folder(tmp_path)
    (ct,) = result.series
    assert len(ct.files) == 5
    expected = {
        "notes.txt": "not a DICOM file",
        "empty.dcm": "empty file",
        "copy.dcm": "",
        "cut_pixels.dcm": "truncated: pixel data ends 10 bytes after the file",
        "cut_header.dcm": "truncated",
        "cut_meta.dcm": "truncated",
        "CT_000.dcm": "localizer",
        "capture.dcm": "SOP class is not used here: Secondary Capture Image Storage",
        "enhanced.dcm": "multi-frame",
        "nameless.dcm": "no SOP Instance UID (0008,0018) or Series Instance UID (0020,000E)",
        "DICOMDIR": "DICOMDIR",
    }
    found = reasons(result)
    assert found.keys() - {"CT_000.dcm", "copy.dcm"} == expected.keys() - {"CT_000.dcm", "copy.dcm"}
    for name, reason in expected.items():
        if name != "copy.dcm":
            assert reason in " ".join(i.reason for i in result.left_out if i.path.name == name)
    assert any("duplicate of" in reason for reason in found.values())


def test_truncated_structure_set(tmp_path):
    path = write_rtstruct(tmp_path / "rs.dcm", {"GTV": [SQUARE] * 50})
    data = path.read_bytes()
    for name, syntax in (("explicit.dcm", None), ("implicit.dcm", ImplicitVRLittleEndian)):
        if syntax:
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset["ROIContourSequence"].is_undefined_length = True
            dataset.save_as(tmp_path / name)
            data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-500])
    path.unlink()
    result = scan_folder(tmp_path)
    assert not result.series
    assert all("truncated" in r for r in reasons(result).values()), result.left_out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    paths = write_ct(tmp_path)
    paths[0].chmod(0)
    assert "cannot be read" in reasons(scan_folder(tmp_path))["CT_000.dcm"]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes(tmp_path, syntax):
    for path in write_ct(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.TransferSyntaxUID = syntax
        little = syntax != ExplicitVRBigEndian
        if not little:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    info = only(tmp_path)
    assert info.geometry.startswith("8x8x5 voxels of 1x1x2 mm")


def test_irregular_series_is_listed_with_its_problem(tmp_path):
    write_ct(tmp_path, positions=[(0, 0, z) for z in (0, 2, 4, 8, 10)])
    info = only(tmp_path)
    assert "no regular grid" in info.geometry
    assert "missing slice" in info.details["geometry_problem"]


def test_a_value_that_cannot_be_read_does_not_stop_the_scan(tmp_path):
    write_ct(tmp_path / "ct")
    for path in write_pet(tmp_path / "pet", RadionuclideHalfLife=6586.25):
        path.write_bytes(path.read_bytes().replace(b"6586.25 ", b"6586.2x "))
    result = scan_folder(tmp_path)
    assert [s.role for s in result.series] == ["planning_ct"]
    assert len(result.left_out) == 5
    assert "cannot be read" in result.left_out[0].reason


def test_registrations_say_which_frames_they_join(tmp_path):
    rigid, item = new_dataset(SPATIAL_REGISTRATION), Dataset()
    item.FrameOfReferenceUID = "1.2.2"
    rigid.SeriesInstanceUID, rigid.FrameOfReferenceUID, rigid.Modality = "1.1", "1.2.1", "REG"
    rigid.RegistrationSequence = [item]
    rigid.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    deformable, item = new_dataset(DEFORMABLE_REGISTRATION), Dataset()
    item.SourceFrameOfReferenceUID = "1.2.3"
    deformable.SeriesInstanceUID, deformable.FrameOfReferenceUID = "1.1", "1.2.1"
    deformable.DeformableRegistrationSequence = [item]
    deformable.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    a, b = scan_folder(tmp_path).by_role("registration")
    assert (a.kind, a.details["frames_of_reference"]) == ("rigid", ["1.2.1", "1.2.2"])
    assert (b.kind, b.details["frames_of_reference"]) == ("deformable", ["1.2.1", "1.2.3"])


def test_pydicom_radiotherapy_samples(tmp_path):
    for name in ("rtplan.dcm", "rtdose.dcm", "rtstruct.dcm"):
        shutil.copy(get_testdata_file(name), tmp_path / name)
    result = scan_folder(tmp_path)
    roles = {s.files[0].name: s for s in result.series}
    assert roles["rtplan.dcm"].role == "rtplan"
    assert roles["rtdose.dcm"].role == "rtdose"
    assert roles["rtdose.dcm"].details["DoseUnits"] == "RELATIVE"
    assert "no DICM prefix" in reasons(result)["rtstruct.dcm"]  # this one was written without preamble


def test_two_patients_are_refused_with_their_names(tmp_path):
    write_ct(tmp_path / "a")
    result = scan_folder(tmp_path)
    require_one_patient(result)
    write_ct(tmp_path / "b", PatientID="P2")
    with pytest.raises(InputError, match="2 patients: P1, P2"):
        require_one_patient(scan_folder(tmp_path))


ANNA = {"PatientID": "ANON", "PatientName": "Müller^Anna", "PatientBirthDate": "19660102", "PatientSex": "F"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PatientBirthDate": "19500101"}, ("0010,0030", "19660102", "19500101")),
        ({"PatientSex": "M"}, ("0010,0040", "'F'", "'M'")),
        ({"PatientName": "Else^Anna"}, ("0010,0010", "Müller^Anna", "Else^Anna")),
        ({"PatientName": "SOMEONE ELSE", "PatientBirthDate": None}, ("0010,0010", "SOMEONE ELSE")),
    ],
)
def test_same_id_but_another_person_is_refused(tmp_path, changes, words):
    write_ct(tmp_path / "ct", SpecificCharacterSet="ISO_IR 192", SeriesDescription="Plan", **ANNA)
    write_pet(tmp_path / "pet", SpecificCharacterSet="ISO_IR 192", SeriesDescription="FMISO 4h", **{**ANNA, **changes})
    with pytest.raises(InputError) as error:
        require_one_patient(scan_folder(tmp_path))
    for word in (*words, "'ANON'", "CT 'Plan' (CT_000.dcm)", "PT 'FMISO 4h' (PT_000.dcm)"):
        assert word in error.value.message


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({}, ""),
        ({"PatientName": None, "PatientBirthDate": None, "PatientSex": None}, ""),
        ({"PatientName": "MÜLLER^ANNA^MARIA^Dr", "PatientBirthDate": "1966.01.02"}, ""),
        ({"PatientName": "Muller, Anna"}, ""),
        ({"PatientName": "Mueller^Anna"}, "Mueller^Anna"),
        ({"PatientName": "Müller-Schulze^Anna"}, "Müller-Schulze^Anna"),
        ({"PatientName": "Müller^Berta"}, "Müller^Berta"),
        ({"PatientSex": "O"}, "0010,0040"),
    ],
)
def test_spelling_of_one_person_is_no_second_patient(tmp_path, changes, warned):
    write_ct(tmp_path / "ct", SpecificCharacterSet="ISO_IR 192", **ANNA)
    write_pet(tmp_path / "pet", SpecificCharacterSet="ISO_IR 192", **{**ANNA, **changes})
    scan = scan_folder(tmp_path)
    require_one_patient(scan)
    notes = patient_warnings(scan)
    assert len(notes) == bool(warned)
    assert warned in "".join(notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PatientID": "P2"}, ("mixes patients", "'ANON'", "'P2'", "CT_002.dcm")),
        ({"PatientID": None}, ("mixes patients", "''", "CT_002.dcm")),
        ({"PatientBirthDate": "19500101"}, ("0010,0030", "CT_000.dcm", "CT_002.dcm")),
        ({"PatientName": "Else^Anna"}, ("0010,0010", "CT_000.dcm", "CT_002.dcm")),
        ({"PatientName": "MÜLLER^ANNA"}, ()),
    ],
)
def test_one_file_of_another_patient_inside_a_series_is_refused(tmp_path, changes, words):
    paths = write_ct(tmp_path, SpecificCharacterSet="ISO_IR 192", **ANNA)
    stranger = pydicom.dcmread(paths[2])
    for keyword, value in changes.items():
        setattr(stranger, keyword, value)
    stranger.save_as(paths[2])
    scan = scan_folder(tmp_path)
    assert len(scan.series) == 1
    if not words:
        require_one_patient(scan)
        return
    with pytest.raises(InputError) as error:
        require_one_patient(scan)
    for word in words:
        assert word in error.value.message


def test_folder_must_exist_and_may_be_empty(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        scan_folder(tmp_path / "nowhere")
    assert scan_folder(tmp_path).series == ()


def test_real_patient(hypoxia_data):
    result = scan_folder(hypoxia_data("ibsi_sts_008/dicom"))
    assert not result.left_out
    kinds = {(s.role, s.kind, len(s.files)) for s in result.series}
    assert kinds == {("planning_ct", "", 51), ("pet", "FDG", 51), ("mr", "T1", 28), ("rtstruct", "", 1)}
    require_one_patient(result)
