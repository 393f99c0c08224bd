"""Simulated patients on disk: NIfTI with sidecars, DICOM whose blood reference gives the simulated ratio back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.dicomio.pet import read_pet_series
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import OutputError
from HypoxiaMapperLib.inference.channels import CHANNELS
from HypoxiaMapperLib.niftiio import read_nifti_volume
from HypoxiaMapperLib.resample import resample_to
from HypoxiaMapperLib.simulate.case_files import write_case_dicom, write_case_volumes
from HypoxiaMapperLib.simulate.cohort import SimulatedCase, simulate_case
from HypoxiaMapperLib.volume import same_grid

SMALL_SEED = 1
HX4_SEED = 5
IMAGE_FOLDERS = ("CT", "PET_FDG", "MR_T1")


@pytest.fixture(scope="module")
def case() -> SimulatedCase:
    """A small training patient."""
    return simulate_case(SMALL_SEED)


@pytest.fixture(scope="module")
def dicom(case, tmp_path_factory) -> Path:
    """It as DICOM."""
    return write_case_dicom(case, tmp_path_factory.mktemp("simulated") / "dicom")


def test_volumes_come_back_with_quantity_unit_tracer_and_minutes(case, tmp_path):
    folder = write_case_volumes(case, tmp_path / "patient")
    for channel in CHANNELS:
        told = json.loads((folder / f"{channel.key}.json").read_text(encoding="utf-8"))
        assert (told["Quantity"], told["Units"]) == (channel.quantity, channel.unit)
        assert told["FrameOfReferenceUID"] == case.gtv.frame_of_reference_uid
        back = read_nifti_volume(folder / f"{channel.key}.nii.gz", channel.quantity, channel.unit)
        assert same_grid(back.image, case.images[channel.key].image)
        assert np.array_equal(back.array, case.images[channel.key].array)
    scan = json.loads((folder / "hypoxia_pet.json").read_text(encoding="utf-8"))["Facts"]
    assert scan["tracer"] == case.facts["hypoxia_pet_tracer"]
    assert scan["minutes_after_injection"] == case.facts["hypoxia_pet_minutes_after_injection"]
    gtv = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "gtv.nii.gz"))) > 0
    assert np.array_equal(gtv, case.gtv.array)
    assert json.loads((folder / "facts.json").read_text(encoding="utf-8"))["seed"] == SMALL_SEED


def test_dicom_is_one_patient_in_one_frame(case, dicom):
    found = scan_folder(dicom)
    assert not found.left_out
    assert {s.patient_id for s in found.series} == {f"SIMULATED-training-{SMALL_SEED}"}
    assert sorted(s.kind for s in found.by_role("pet")) == sorted(["FDG", case.facts["hypoxia_pet_tracer"]])
    for role in ("planning_ct", "pet", "mr"):
        for info in found.by_role(role):
            assert read_image_series(info).volume.frame_of_reference_uid == case.gtv.frame_of_reference_uid


def test_suv_over_the_reference_is_the_simulated_ratio(case, dicom):
    found = scan_folder(dicom)
    pet = next(s for s in found.by_role("pet") if s.kind != "FDG")
    suv = read_pet_series(pet).volume
    assert suv.facts["minutes_after_injection"] == pytest.approx(
        case.facts["hypoxia_pet_minutes_after_injection"], abs=0.05
    )
    ct = read_image_series(found.by_role("planning_ct")[0]).volume
    regions = read_structure_set(dicom / "RTSTRUCT" / "structures.dcm", ct.image, ct.frame_of_reference_uid)
    assert set(regions) == {"GTVp", "Ref_Blood"}
    assert regions["Ref_Blood"].volume_ml > 0.5  # what the ratio method asks for at least
    on_ct = resample_to(suv, ct.image, ct.frame_of_reference_uid)
    reference = float(np.mean(on_ct.array[regions["Ref_Blood"].array]))
    assert reference == pytest.approx(1.25, rel=0.01)
    expected = resample_to(case.images["hypoxia_pet"], ct.image, ct.frame_of_reference_uid)
    inside = regions["GTVp"].array
    assert np.allclose(on_ct.array[inside] / reference, expected.array[inside], rtol=0.01, atol=0.005)
    assert regions["GTVp"].volume_ml == pytest.approx(case.gtv.volume_ml, rel=0.06)


def test_fdg_and_ct_keep_their_numbers(case, dicom):
    found = scan_folder(dicom)
    fdg = read_pet_series(next(s for s in found.by_role("pet") if s.kind == "FDG")).volume
    assert np.allclose(fdg.array, case.images["fdg"].array, rtol=1e-3, atol=1e-3)
    ct = read_image_series(found.by_role("planning_ct")[0]).volume
    changed = np.mean(ct.array != case.images["ct"].array)
    assert 0.0 < changed < 0.12  # the sphere of blood only
    assert same_grid(ct.image, case.images["ct"].image)


def test_a_tracer_without_code_is_valid_dicom_and_recognised(tmp_path, require_tool):
    case = simulate_case(HX4_SEED)
    assert case.facts["hypoxia_pet_tracer"] == "HX4"
    folder = write_case_dicom(case, tmp_path / "hx4")
    assert "HX4" in {s.kind for s in scan_folder(folder).by_role("pet")}
    files = [folder / part / "001.dcm" for part in (*IMAGE_FOLDERS, "PET_HX4")]
    for file in (*files, folder / "RTSTRUCT" / "structures.dcm"):
        done = subprocess.run([require_tool("dciodvfy"), str(file)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, f"{file.parent.name}: {done.stderr}"


def test_the_same_case_gives_the_same_bytes(case, dicom, tmp_path):
    again = write_case_dicom(case, tmp_path / "again")
    files = sorted(p.relative_to(dicom) for p in dicom.rglob("*.dcm"))
    assert len(files) > 50
    assert all((dicom / f).read_bytes() == (again / f).read_bytes() for f in files)


def test_nothing_is_overwritten(case, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "note.txt").write_text("mine", encoding="utf-8")
    for write in (write_case_volumes, write_case_dicom):
        with pytest.raises(OutputError, match="not empty"):
            write(case, tmp_path / "old")
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["note.txt"]
