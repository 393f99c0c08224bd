"""Inputs of a method from a folder: the only candidate, the ones named, NIfTI files; what is ambiguous is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from dicom_samples import write_mr, write_pet
from dynamic_samples import write_mr_frames, write_pet_frames
from HypoxiaDosePaintLib.alignment import Alignment
from HypoxiaDosePaintLib.dicomrt.parametric_map import QUANTITY_CODES, quantity_code
from HypoxiaDosePaintLib.method_inputs import NIFTI_FRAME, read_inputs
from HypoxiaDosePaintLib.request import Request
from HypoxiaDosePaintLib.result import RegistrationUse
from HypoxiaDosePaintLib.selection import choose_pet
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.mapping import compute_map
from HypoxiaMapperLib.methods import Method, all_methods, no_progress
from HypoxiaMapperLib.timeseries import ParameterSeries, TimeSeries, Timing
from HypoxiaMapperLib.volume import Region, Volume, image_like

FRAMES = np.arange(3 * 4 * 3 * 2).reshape(3, 4, 3, 2) + 1.0
CLOCK = {"AcquisitionDate": "20250101", "AcquisitionTime": ["100000", "100005", "100010"]}


def method(name: str) -> Method:
    return all_methods()[name]  # available or not: only its inputs matter here


def inputs_of(folder: Path, name: str, **changes: Any) -> dict:
    request = Request(str(folder), "", name, "welz_77_70_35", **changes)
    return read_inputs(request, method(name), scan_folder(folder), no_progress)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_mr_frames(tmp_path / "dce", FRAMES, SeriesDescription="DCE dynamic", **CLOCK)
    for angle in (3, 15):
        write_mr(tmp_path / f"fa{angle}", FRAMES[0], SeriesDescription=f"VFA {angle}", FlipAngle=angle)
    write_mr(tmp_path / "t1", FRAMES[0], SeriesDescription="T1 map")
    write_mr_frames(tmp_path / "dwi", FRAMES, SeriesDescription="DWI", DiffusionBValue=[0.0, 200.0, 800.0])
    write_pet(tmp_path / "static", FRAMES[0] * 100, SeriesDescription="static", Radiopharmaceutical="FMISO")
    return tmp_path


def test_the_only_dynamic_series_of_the_kind_is_taken(study):
    found = inputs_of(study, "dce_tofts")
    assert list(found) == ["dce"]
    assert isinstance(found["dce"].image, TimeSeries)
    np.testing.assert_array_equal(found["dce"].image.frames, FRAMES)
    found = inputs_of(study, "dwi_adc")
    assert isinstance(found["dwi"].image, ParameterSeries)
    np.testing.assert_allclose(found["dwi"].image.values, [0, 200, 800])


def test_several_series_and_a_map_by_name(study):
    found = inputs_of(study, "dce_tofts", inputs={"flip_angles": "VFA 3; VFA 15", "t1": "T1 map"})
    assert set(found) == {"dce", "t1", "flip_angles"}
    np.testing.assert_allclose(found["flip_angles"].image.values, [3, 15])
    assert isinstance(found["t1"].image, Volume)
    assert [i.description for i in found["flip_angles"].infos] == ["VFA 3", "VFA 15"]


def test_ambiguous_missing_and_wrong_names_are_asked_for(study, tmp_path_factory):
    write_mr_frames(study / "dce2", FRAMES, SeriesDescription="DCE second", **CLOCK)
    with pytest.raises(RequestError) as error:
        inputs_of(study, "dce_tofts")
    assert "DCE second" in error.value.hint
    assert "--input dce=" in error.value.hint
    assert inputs_of(study, "dce_tofts", inputs={"dce": "DCE second"})["dce"].infos[0].description == "DCE second"
    with pytest.raises(RequestError, match="is PT"):
        inputs_of(study, "dce_tofts", inputs={"dce": "static"})
    with pytest.raises(InputError, match="needs gradient echoes"):
        inputs_of(study, "bold_r2star")
    with pytest.raises(RequestError, match="is one image; 2 series are named"):
        inputs_of(study, "csh", inputs={"consumption": "VFA 3;VFA 15", "supply": "T1 map"})


def test_one_series_per_phase_is_named_by_its_description(tmp_path):
    for t in range(3):
        write_mr(tmp_path / f"{t}", FRAMES[t], SeriesDescription="phase", AcquisitionDate="20250101",
                 AcquisitionTime=CLOCK["AcquisitionTime"][t])  # fmt: skip
    found = inputs_of(tmp_path, "dce_tofts", inputs={"dce": "phase"})["dce"]
    np.testing.assert_array_equal(found.image.frames, FRAMES)
    assert len(found.infos) == 3
    with pytest.raises(RequestError, match="3 series match t1='phase'"):
        inputs_of(tmp_path, "dce_tofts", inputs={"dce": "phase", "t1": "phase"})


def test_timing_of_the_request_reaches_the_reader(tmp_path):
    write_mr_frames(tmp_path, FRAMES, SeriesDescription="DCE", AcquisitionTime=None, AcquisitionDate=None)
    with pytest.raises(InputError, match="no entry says when"):
        inputs_of(tmp_path, "dce_tofts")
    found = inputs_of(tmp_path, "dce_tofts", timing=Timing(frame_interval_s=4.0))
    np.testing.assert_allclose(found["dce"].image.frame_start_s, [0, 4, 8])


def test_motion_is_corrected_on_request(tmp_path):
    rng = np.random.default_rng(1)
    still = ndimage.gaussian_filter(rng.random((20, 40, 40)), 2.5)
    still = 1000 * (still - still.min()) / np.ptp(still)
    frames = np.stack([still, ndimage.shift(still, (0, 0, 2), order=1, mode="nearest"), still])
    write_mr_frames(tmp_path, frames, SeriesDescription="DCE", **CLOCK)
    plain = inputs_of(tmp_path, "dce_tofts")["dce"]
    assert plain.warnings == ()
    found = inputs_of(tmp_path, "dce_tofts", motion_reference=1)["dce"]
    assert "registered to frame 1" in found.warnings[0]
    core = (slice(2, -2),) * 3
    errors = [np.nanmean(np.abs(f.image.frames[1] - f.image.frames[0])[core]) for f in (plain, found)]
    assert errors[1] < 0.4 * errors[0]
    with pytest.raises(RequestError, match="Give 1 to 3"):
        inputs_of(tmp_path, "dce_tofts", motion_reference=9)


def test_static_and_dynamic_pet_are_told_apart(study):
    tags = {"SeriesTime": "100000", "AcquisitionTime": ["100000", "100100", "100200"], "ActualFrameDuration": 60000}
    write_pet_frames(study / "dynamic", FRAMES * 100, SeriesDescription="dynamic", Radiopharmaceutical="FMISO", **tags)
    assert inputs_of(study, "patlak_ki")["pet"].infos[0].description == "dynamic"
    assert inputs_of(study, "tracer_ratio")["pet"].infos[0].description == "static"
    request = Request(str(study), "", "tracer_ratio", "welz_77_70_35")
    assert choose_pet(scan_folder(study), method("tracer_ratio"), request).description == "static"
    with pytest.raises(RequestError, match="The PET is FMISO, not HX4"):
        inputs_of(study, "patlak_ki", inputs={"pet": "dynamic"}, tracer="HX4")


def test_nifti_files_are_read_with_their_unit(study, tmp_path):
    image = sitk.GetImageFromArray(np.ones((4, 3, 2), np.float32))
    sitk.WriteImage(image, str(tmp_path / "adc.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "k.nii.gz"))
    (tmp_path / "k.json").write_text(json.dumps({"Quantity": "Ktrans", "Units": "/min"}))
    found = inputs_of(
        study, "csh", inputs={"consumption": str(tmp_path / "adc.nii.gz"), "supply": str(tmp_path / "k.nii.gz")}
    )
    assert (found["supply"].image.quantity, found["supply"].image.unit) == ("Ktrans", "/min")
    assert found["consumption"].image.unit == "[arb'U]"
    assert found["supply"].image.frame_of_reference_uid == NIFTI_FRAME


def test_a_series_is_fitted_on_its_own_grid_and_other_images_are_brought_to_it():
    fine = sitk.GetImageFromArray(np.zeros((8, 8, 8), np.uint8))
    coarse = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
    coarse.SetSpacing((2.0, 2.0, 2.0))
    coarse.SetOrigin((0.5, 0.5, 0.5))
    planning = Volume(sitk.Cast(fine, sitk.sitkFloat32), "CT number", "[hnsf'U]", "1.2")
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    gtv = Region("GTV", image_like(mask, fine), "1.2")
    series = ParameterSeries(
        frames=np.stack([np.full((4, 4, 4), v, np.float32) for v in (1000.0, 382.893)]), grid=coarse,
        quantity="MR signal", unit="[arb'U]", frame_of_reference_uid="1.2", parameter="b-value",
        values=np.array([0.0, 800.0]),
    )  # fmt: skip
    same = Alignment(None, "1.2", "", RegistrationUse("same frame of reference"))
    adc = method("dwi_adc")
    found = compute_map(adc, adc.make_params({}), {"dwi": series}, {"gtv": gtv}, planning, same, no_progress)
    np.testing.assert_allclose(found.volume.array[2:6, 2:6, 2:6], 1.2e-3, rtol=1e-4)
    assert found.volume.image.GetSize() == (8, 8, 8)
    assert found.quality.shape == (8, 8, 8)
    other = replace(series, frame_of_reference_uid="9.9")
    with pytest.raises(GeometryError, match="frame of reference"):
        compute_map(adc, adc.make_params({}), {"dwi": other}, {"gtv": gtv}, planning,
                    replace(same, frame_uid="9.9"), no_progress)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code"),
    [("dce_tofts", "126312"), ("dce_iauc", "126321"), ("bold_r2star", "126395"), ("dwi_adc", "113041"),
     ("qbold_oef", "126392")],
)  # fmt: skip
def test_quantities_with_a_dicom_code_use_its_name(name, code):
    assert method(name).quantity in QUANTITY_CODES
    assert quantity_code(method(name).quantity).value == code
    assert quantity_code("model pO2").scheme == "99HYPOX"
