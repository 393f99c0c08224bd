"""Images of a method that takes whatever there is: chosen where one fits, asked where several do, left out aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_samples import FRAME, write_ct, write_mr, write_pet
from HypoxiaDosePaintLib.alignment import Alignment, leave_out_elsewhere
from HypoxiaDosePaintLib.method_inputs import read_inputs
from HypoxiaDosePaintLib.request import Registration, Request
from HypoxiaDosePaintLib.result import RegistrationUse
from HypoxiaDosePaintLib.selection import Inputs, _shown
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.methods import all_methods, no_progress

METHOD = all_methods()["learned_ratio"]  # available or not: only its inputs matter here
SAME = Alignment(None, FRAME, "", RegistrationUse("same frame of reference"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_ct(tmp_path / "ct", SeriesDescription="planning")
    write_pet(tmp_path / "fdg", SeriesDescription="FDG PET")
    write_mr(tmp_path / "t1", SeriesDescription="T1 tse")
    return tmp_path


def found_in(folder: Path, **changes):
    """Images of the learned method, and what they were chosen with."""
    scan = scan_folder(folder)
    planning = read_image_series(scan.by_role("planning_ct")[0])
    request = Request(str(folder), "", "learned_ratio", "welz_77_70_35", **changes)
    return read_inputs(request, METHOD, scan, no_progress, planning), planning, request


def test_what_is_there_is_taken_and_what_is_not_is_not_asked_for(study):
    images, planning, request = found_in(study)
    assert set(images) == {"fdg", "ct", "t1"}
    assert images["ct"].image is planning.volume
    assert _shown(images, planning, request).info.description == "FDG PET"
    images, planning, request = found_in(study, inputs={"t1": "none", "fdg": "none"})
    assert set(images) == {"ct"}
    assert _shown(images, planning, request).info is planning.info


def test_two_pets_are_told_apart_by_tracer_and_a_stated_one_is_for_the_unknown(study):
    write_pet(study / "x", SeriesDescription="second", Radiopharmaceutical="secret")
    images, *_ = found_in(study, tracer="FMISO")
    assert images["hypoxia_pet"].infos[0].description == "second"
    assert images["hypoxia_pet"].image.facts["tracer"] == "FMISO"
    assert images["fdg"].image.facts["tracer"] == "FDG"
    assert "hypoxia_pet" not in found_in(study)[0]


def test_several_candidates_are_asked_for_even_where_none_is_needed(study):
    write_mr(study / "t1b", SeriesDescription="T1 dixon")
    with pytest.raises(RequestError) as error:
        found_in(study)
    assert "T1 dixon" in error.value.hint
    assert "t1=none to do without" in error.value.hint
    assert found_in(study, inputs={"t1": "T1 dixon"})[0]["t1"].infos[0].description == "T1 dixon"
    write_pet(study / "fdg2", SeriesDescription="FDG late")
    images, *_ = found_in(study, inputs={"t1": "none"}, pet_series="FDG late")
    assert images["fdg"].infos[0].description == "FDG late"


def test_the_ct_is_the_planning_ct_and_no_other(study):
    assert found_in(study, inputs={"ct": "planning"})[0]["ct"].infos[0].description == "planning"
    with pytest.raises(RequestError, match="0 series match ct"):
        found_in(study, inputs={"ct": "another"})


def test_an_image_in_a_frame_of_its_own_is_left_out_and_said(study):
    write_mr(study / "adc", SeriesDescription="ADC map", FrameOfReferenceUID="9.9")
    images, planning, request = found_in(study)
    assert "adc" in images
    inputs = Inputs(
        SimpleNamespace(), planning, _shown(images, planning, request), (), None, (), (), ("first",), images
    )
    kept = leave_out_elsewhere(inputs, SAME, request)
    assert set(kept.images) == {"fdg", "ct", "t1"}
    assert kept.warnings[0] == "first"
    assert "ADC map (adc) was left out" in kept.warnings[1]
    named = replace(request, inputs={"adc": "ADC map"})
    assert "adc" in leave_out_elsewhere(inputs, SAME, named).images
    moved = Alignment(sitk.Transform(3, sitk.sitkIdentity), "9.9", "given", SAME.use)
    assert "adc" in leave_out_elsewhere(inputs, moved, request).images


def test_a_nifti_map_beside_dicom_lies_where_the_user_states_it(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "adc.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((5, 8, 8), 1200, np.float32)), str(path))
    images, planning, request = found_in(study, inputs={"adc": str(path)}, registration=Registration("stated"))
    inputs = Inputs(SimpleNamespace(), planning, _shown(images, planning, request), (), None, (), (), (), images)
    assert leave_out_elsewhere(inputs, SAME, request).images["adc"].image.frame_of_reference_uid == FRAME
    plain = replace(request, registration=Registration())
    assert leave_out_elsewhere(inputs, SAME, plain).images["adc"].image.frame_of_reference_uid != FRAME


def test_what_is_registered_is_the_first_pet_that_can_be_used(study):
    write_pet(study / "miso", SeriesDescription="FMISO PET", Radiopharmaceutical="FMISO")
    for path in (study / "fdg").iterdir():
        path.unlink()
    write_pet(study / "fdg", SeriesDescription="FDG PET", FrameOfReferenceUID="9.9")
    images, planning, request = found_in(study)
    assert list(images) == ["fdg", "hypoxia_pet", "ct", "t1"]
    assert _shown(images, planning, request).info.description == "FMISO PET"
    registered = replace(request, registration=Registration("rigid"))
    assert _shown(images, planning, registered).info.description == "FDG PET"
