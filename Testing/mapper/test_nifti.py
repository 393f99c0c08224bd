"""NIfTI and BIDS sidecars: exact LPS, times, SUV, echo times and b-values; missing fields are asked for."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import InputError, OutputError, RequestError
from HypoxiaMapperLib.method_images import read_nifti_input
from HypoxiaMapperLib.methods import get_method
from HypoxiaMapperLib.nifti_pet import read_nifti_pet
from HypoxiaMapperLib.niftiio import (
    read_nifti_dynamic_mr,
    read_nifti_parameter,
    read_nifti_volume,
    sidecar_of,
    write_nifti,
)
from HypoxiaMapperLib.suv import suvbw_factor
from HypoxiaMapperLib.timeseries import UNSTATED, Timing
from HypoxiaMapperLib.volume import Volume

OBLIQUE = np.array([[0.0, -1.5, 0.0, 12.5], [1.2, 0.0, 0.0, -40.25], [0.0, 0.0, 3.0, 7.75]])
"""sform: NIfTI index (i, j, k) to RAS mm, axes swapped and one of them reversed."""


def write_by_hand(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    """NIfTI-1 byte by byte (x fastest), so that no reader of this software is used to write it."""
    array = np.asarray(array, np.float32)
    size = array.shape[::-1]
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(size), *size, *[1] * (7 - len(size)))
    struct.pack_into("<2h", header, 70, 16, 32)  # float32
    struct.pack_into("<8f", header, 76, 1.0, *np.linalg.norm(affine[:, :3], axis=0), *[1.0] * 4)
    struct.pack_into("<f", header, 108, 352.0)
    header[123] = 2 + 8  # mm, s
    struct.pack_into("<2h", header, 252, 0, 1)  # sform only
    struct.pack_into("<12f", header, 280, *affine.ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + b"\0" * 4 + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def sidecar(path: Path, **facts: Any) -> Path:
    sidecar_of(path).write_text(json.dumps(facts), encoding="utf-8")
    return path


PET = {
    "FrameTimesStart": [0, 60, 180], "FrameDuration": [60, 120, 300], "Units": "kBq/mL", "TracerName": "[18F]FMISO",
    "InjectedRadioactivity": 370, "InjectedRadioactivityUnits": "MBq", "BodyWeight": 70, "TimeZero": "10:00:00",
    "InjectionStart": 0, "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0, "RadionuclideHalfLife": 6586.2,
}  # fmt: skip
SERIES = np.arange(3 * 4 * 3 * 2, dtype=np.float32).reshape(3, 4, 3, 2) + 1


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_every_voxel_lies_where_the_affine_says_in_lps(tmp_path, name):
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    volume = read_nifti_volume(write_by_hand(tmp_path / name, array), "ADC", "mm2/s")
    np.testing.assert_array_equal(volume.array, array)
    for index in ((0, 0, 0), (1, 2, 3)):
        ras = OBLIQUE @ [*index, 1.0]
        lps = volume.image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(lps, ras * [-1, -1, 1], atol=1e-4)


def test_frames_of_a_series_lie_where_its_volume_does(tmp_path):
    path = sidecar(write_by_hand(tmp_path / "pet.nii.gz", SERIES), **PET)
    grid = read_nifti_pet(path).grid
    np.testing.assert_allclose(grid.TransformIndexToPhysicalPoint((1, 2, 3)), (OBLIQUE @ [1, 2, 3, 1]) * [-1, -1, 1],
                               atol=1e-4)  # fmt: skip


def test_bids_pet_becomes_suv_with_times(tmp_path):
    series = read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii.gz", SERIES), **PET))
    np.testing.assert_allclose(series.frames, SERIES * 1000 * suvbw_factor(70, 370e6), rtol=1e-5)
    np.testing.assert_allclose(series.frame_start_s, [0, 60, 180])
    np.testing.assert_allclose(series.frame_duration_s, [60, 120, 300])
    assert (series.quantity, series.unit, series.facts["tracer"]) == ("SUVbw", "g/ml", "FMISO")


def test_scan_that_starts_late_is_brought_to_the_injection(tmp_path):
    facts = {**PET, "InjectionStart": -3600, "ImageDecayCorrectionTime": 0}
    series = read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **facts))
    np.testing.assert_allclose(series.frame_start_s, [3600, 3660, 3780])
    factor = suvbw_factor(70, 370e6, 3600, 6586.2)
    np.testing.assert_allclose(series.frames, SERIES * 1000 * factor, rtol=1e-5)


def test_without_weight_the_activity_is_kept(tmp_path):
    facts = {k: v for k, v in PET.items() if k != "BodyWeight"}
    series = read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **facts))
    assert (series.quantity, series.unit) == ("Activity concentration", "Bq/ml")
    np.testing.assert_allclose(series.frames, SERIES * 1000)
    assert read_nifti_pet(tmp_path / "pet.nii", weight_kg=70).quantity == "SUVbw"


def test_images_in_suv_stay_as_they_are(tmp_path):
    image = np.full((3, 2, 3, 4), 1.5)
    facts = {k: v for k, v in PET.items() if k not in ("BodyWeight", "InjectedRadioactivity")}
    series = read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", image), **{**facts, "Units": "g/mL"}))
    np.testing.assert_array_equal(series.frames, image)
    assert (series.quantity, series.unit) == ("SUVbw", "g/ml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"FrameTimesStart": None}, "FrameTimesStart is missing"),
        ({"Units": "arbitrary"}, "Units is arbitrary"),
        ({"FrameTimesStart": [0, 30, 180]}, "overlaps"),
        ({"FrameTimesStart": [0, 60]}, "2 start times"),
        ({"FrameTimesStart": ["a", 1, 2]}, "FrameTimesStart"),
        ({"FrameTimesStart": [0, 60000, 180000], "FrameDuration": [60000, 120000, 300000]}, "more than a day"),
        ({"InjectedRadioactivityUnits": ""}, "InjectedRadioactivityUnits"),
        ({"ImageDecayCorrected": False}, "ImageDecayCorrected"),
        ({"InjectedRadioactivityUnits": "Bq"}, "InjectedRadioactivity is 0.00037 MBq"),
        ({"BodyWeight": 70000}, "BodyWeight is 70000 kg"),
    ],
)
def test_bad_pet_sidecars_are_refused(tmp_path, changes, words):
    facts = {k: v for k, v in {**PET, **changes}.items() if v is not None}
    with pytest.raises(InputError) as error:
        read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **facts))
    assert words in error.value.message
    assert error.value.hint


def test_missing_and_broken_sidecars_and_files(tmp_path):
    path = write_by_hand(tmp_path / "pet.nii", SERIES)
    with pytest.raises(InputError, match=r"pet\.json"):
        read_nifti_pet(path)
    sidecar_of(path).write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="no JSON object"):
        read_nifti_pet(path)
    (tmp_path / "x.nii").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_nifti_volume(tmp_path / "x.nii", "ADC", "mm2/s")


def test_dynamic_mr_times_and_sequence(tmp_path):
    path = write_by_hand(tmp_path / "dce.nii", SERIES)
    facts = {"RepetitionTimeExcitation": 0.005, "FlipAngle": 15, "EchoTime": 0.002, "VolumeTiming": [10, 15, 25]}
    series = read_nifti_dynamic_mr(sidecar(path, **facts))
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 15])
    assert series.facts["repetition_time_ms"] == pytest.approx(5)
    assert series.facts["flip_angle_deg"] == 15
    facts.pop("VolumeTiming")
    with pytest.raises(InputError) as error:
        read_nifti_dynamic_mr(sidecar(path, **facts))
    assert "frame_interval_s" in error.value.hint
    np.testing.assert_allclose(read_nifti_dynamic_mr(path, Timing(frame_interval_s=4)).frame_start_s, [0, 4, 8])
    with pytest.raises(InputError, match="BIDS has seconds"):
        read_nifti_dynamic_mr(sidecar(path, EchoTime=40, TemporalResolution=5))


def test_echoes_and_b_values(tmp_path):
    echoes = [sidecar(write_by_hand(tmp_path / f"e{k}.nii", SERIES[k]), EchoTime=te)
              for k, te in enumerate((0.015, 0.005, 0.010))]  # fmt: skip
    series = read_nifti_parameter(echoes, "echo time")
    np.testing.assert_allclose(series.values, [5, 10, 15])
    np.testing.assert_array_equal(series.frames, SERIES[[1, 2, 0]])
    path = sidecar(write_by_hand(tmp_path / "dwi.nii.gz", SERIES))
    (tmp_path / "dwi.bval").write_text("800 0 800\n", encoding="utf-8")
    series = read_nifti_parameter([path], "b-value")
    np.testing.assert_allclose(series.values, [0, 800])
    np.testing.assert_allclose(series.frames[1], np.sqrt(SERIES[0] * SERIES[2]), rtol=1e-6)
    (tmp_path / "dwi.bval").write_text("800 0\n", encoding="utf-8")
    with pytest.raises(InputError, match="3 images, 2 b-value values"):
        read_nifti_parameter([path], "b-value")


def test_a_map_comes_back_as_written(tmp_path):
    image = sitk.GetImageFromArray(np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 3, 2))
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-10.0, 4.0, 7.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    volume = Volume(image, "Ktrans", "/min", "1.2.3", operations=("made",))
    write_nifti(volume, tmp_path / "map.nii.gz")
    back = read_nifti_volume(tmp_path / "map.nii.gz", "Ktrans", "/min")
    np.testing.assert_array_equal(back.array, volume.array)
    for index in ((0, 0, 0), (1, 2, 3)):
        np.testing.assert_allclose(back.image.TransformIndexToPhysicalPoint(index),
                                   image.TransformIndexToPhysicalPoint(index), atol=1e-4)  # fmt: skip
    assert json.loads((tmp_path / "map.json").read_text())["Units"] == "/min"
    with pytest.raises(OutputError, match="exists already"):
        write_nifti(volume, tmp_path / "map.nii.gz")


def test_b_values_may_stand_between_commas(tmp_path):
    path = sidecar(write_by_hand(tmp_path / "dwi.nii", np.ones((3, 2, 3, 4))))
    path.with_suffix(".bval").write_text("0, 400,800\n")
    assert read_nifti_parameter([path], "b-value").values.tolist() == [0, 400, 800]


def test_a_static_input_takes_a_file_with_one_frame_only(tmp_path):
    spec = get_method("tracer_ratio").inputs[0]
    path = sidecar(write_by_hand(tmp_path / "dynamic.nii", SERIES), **PET)
    with pytest.raises(RequestError, match=r"dynamic\.nii has 3 frames.*late_ratio"):
        read_nifti_input([path], spec, UNSTATED)
    one = {**PET, "FrameTimesStart": [7200], "FrameDuration": [600]}
    static = read_nifti_input([sidecar(write_by_hand(tmp_path / "one.nii", SERIES[:1]), **one)], spec, UNSTATED)
    assert static.facts["minutes_after_injection"] == 120


def test_the_start_of_the_injection_is_not_guessed(tmp_path):
    facts = {k: v for k, v in PET.items() if k != "InjectionStart"}
    with pytest.raises(InputError, match="InjectionStart is missing"):
        read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **facts))
    suv = {**facts, "Units": "g/mL", "FrameTimesStart": [0], "FrameDuration": [600]}
    spec = get_method("tracer_ratio").inputs[0]
    static = read_nifti_input([sidecar(write_by_hand(tmp_path / "suv.nii", SERIES[:1]), **suv)], spec, UNSTATED)
    assert static.facts["minutes_after_injection"] is None


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_missing_values_stay_missing(tmp_path, suffix, kind):
    frames = np.arange(2 * 3 * 4 * 5, dtype=kind).reshape(2, 3, 4, 5)
    frames[0, 1, 2, 3], frames[1, 2, 0, 1] = np.nan, np.inf
    for array in (frames, frames[0]):
        path = tmp_path / f"series{array.ndim}{suffix}"
        image = sitk.GetImageFromArray(array, isVector=False)
        image.SetSpacing((2.0, 3.0, 4.0, 1.0)[: array.ndim])
        sitk.WriteImage(image, str(path))
        path.with_name(f"series{array.ndim}.json").write_text('{"VolumeTiming": [0, 5]}')
    series = read_nifti_dynamic_mr(tmp_path / f"series4{suffix}")
    np.testing.assert_array_equal(np.isnan(series.frames), ~np.isfinite(frames))
    np.testing.assert_array_equal(np.nan_to_num(series.frames), np.nan_to_num(np.where(np.isinf(frames), 0, frames)))
    volume = read_nifti_volume(tmp_path / f"series3{suffix}", "ADC", "mm2/s")
    np.testing.assert_array_equal(np.isnan(volume.array), np.isnan(frames[0]))
    assert volume.image.GetSpacing() == (2.0, 3.0, 4.0)


@pytest.mark.parametrize("name", ["InjectionStart", "ImageDecayCorrectionTime"])
def test_a_time_that_is_no_number_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is 'n/a'"):
        read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **{**PET, name: "n/a"}))


def edited(path: Path, at: int, form: str, *values: float) -> Path:
    """The same file with entries of its header overwritten."""
    raw = bytearray(path.read_bytes())
    struct.pack_into("<" + form, raw, at, *values)
    path.write_bytes(bytes(raw))
    return path


def test_a_missing_value_is_found_below_an_intercept_and_without_zeros(tmp_path):
    array = SERIES[0].copy()
    array[1, 2, 0] = np.nan
    path = edited(write_by_hand(tmp_path / "a.nii", array), 112, "2f", 2.0, 5.0)  # slope, intercept
    np.testing.assert_allclose(read_nifti_volume(path, "ADC", "mm2/s").array, 2 * array + 5)


@pytest.mark.parametrize("name", ["a.hdr", "a.img", "a.nrrd"])
def test_pairs_and_other_formats_are_refused(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(SERIES[0]), str(tmp_path / name))
    with pytest.raises(InputError, match=r"no \.nii or \.nii\.gz file") as error:
        read_nifti_volume(tmp_path / name, "ADC", "mm2/s")
    assert "Convert it to .nii.gz" in error.value.hint


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([(252, "2h", 0, 0)], "left and right cannot be told"),
        ([(280, "12f", 1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0), (252, "2h", 1, 1)], "sheared or contradicts its qform"),
        ([(268, "3f", 50, 0, 0), (252, "2h", 1, 2)], "sheared or contradicts its qform"),  # ITK takes the qform
        ([(112, "2f", 0, 5)], "scl_slope is 0 and scl_inter 5"),
    ],
)
def test_headers_that_leave_place_or_scale_open_are_refused(tmp_path, edits, words):
    path = write_by_hand(tmp_path / "a.nii", SERIES[0])
    for at, form, *values in edits:
        edited(path, at, form, *values)
    with pytest.raises(InputError, match=words):
        read_nifti_volume(path, "ADC", "mm2/s")


def test_a_file_in_metres_lies_where_it_says(tmp_path):
    path = edited(write_by_hand(tmp_path / "a.nii", SERIES[0], OBLIQUE / 1000), 123, "B", 1)
    image = read_nifti_volume(path, "ADC", "mm2/s").image
    np.testing.assert_allclose(image.GetOrigin(), OBLIQUE[:, 3] * [-1, -1, 1], atol=1e-3)


def test_a_last_axis_of_one_frame_is_no_series(tmp_path):
    assert read_nifti_volume(write_by_hand(tmp_path / "a.nii", SERIES[:1]), "ADC", "mm2/s").array.shape == (4, 3, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"FrameTimesStart": [0, 1, 3], "FrameDuration": [1, 2, 5]}, "3 PET frames in 8 s"),
        ({"FrameTimesStart": [90, 150, 210], "FrameDuration": [10, 10, 10]}, "3 PET frames in 130 s"),
        ({"FrameTimesStart": [0, 600, 1200], "FrameDuration": [10, 10, 20]}, "60 times as long"),
        ({"RadionuclideHalfLife": 109.77}, "RadionuclideHalfLife is 109.77 s, but that of fluorine-18 is 6586"),
        ({"RadionuclideHalfLife": 109.77, "TracerName": "x", "TracerRadionuclide": "F18"}, "fluorine-18"),
        ({"BodyWeight": "70 kg"}, "BodyWeight is '70 kg'"),
        ({"InjectedRadioactivity": -3}, "InjectedRadioactivity is -3"),
        ({"BodyWeight": "n/a", "ImageDecayCorrected": False}, "ImageDecayCorrected is False"),
        ({"BodyWeight": None, "ImageDecayCorrected": None}, "ImageDecayCorrected is absent"),
        ({"Units": "g/mL", "ImageDecayCorrected": False}, "ImageDecayCorrected is False"),
        ({"InjectionStart": -3600000}, "InjectionStart is -3.6e\\+06 s, more than a day"),
        ({"FrameTimesStart": [[0, 60, 180]]}, "FrameTimesStart is"),
        ({"FrameTimesStart": [], "FrameDuration": []}, "FrameTimesStart is"),
    ],
)
def test_sidecars_in_other_units_are_refused(tmp_path, changes, words):
    facts = {k: v for k, v in {**PET, **changes}.items() if v is not None}
    with pytest.raises(InputError, match=words):
        read_nifti_pet(sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **facts))


def test_what_the_user_states_about_times_of_a_file_wins(tmp_path):
    path = sidecar(write_by_hand(tmp_path / "pet.nii", SERIES), **{**PET, "FrameTimesStart": [30, 120, 330]})
    series = read_nifti_pet(path, timing=Timing(frame_time="mid"))
    np.testing.assert_allclose(series.frame_start_s, [0, 60, 180])
    ms = {"FrameTimesStart": [0, 60000, 180000], "FrameDuration": [60000, 120000, 300000]}
    spec = get_method("late_ratio").inputs[0]
    series = read_nifti_input([sidecar(path, **{**PET, **ms})], spec, Timing(time_unit="ms"))
    np.testing.assert_allclose(series.frame_start_s, [0, 60, 180])
    quick = {"FrameTimesStart": [0, 1, 3], "FrameDuration": [1, 2, 5]}
    series = read_nifti_pet(sidecar(path, **{**PET, **quick}), timing=Timing(time_unit="s"))
    np.testing.assert_allclose(series.frame_end_s, [1, 3, 8])
    with pytest.raises(InputError, match="steps of 5000 s"):
        read_nifti_dynamic_mr(sidecar(path, TemporalResolution=5000))
    series = read_nifti_dynamic_mr(path, Timing(time_unit="ms"))
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 10])
    with pytest.raises(InputError, match="TemporalResolution is 'n/a'"):
        read_nifti_dynamic_mr(sidecar(path, TemporalResolution="n/a"))


def test_a_list_with_a_gap_is_refused(tmp_path):
    path = sidecar(write_by_hand(tmp_path / "dwi.nii", SERIES))
    path.with_suffix(".bval").write_text("0 nan 800")
    with pytest.raises(InputError, match="b-values"):
        read_nifti_parameter([path], "b-value")
    with pytest.raises(InputError, match="EchoTime is"):
        read_nifti_parameter(
            [sidecar(write_by_hand(tmp_path / "e.nii", SERIES), EchoTime=[0.002, None, 0.006])], "echo time"
        )


def test_a_second_parameter_may_not_change_with_the_first(tmp_path):
    for name, tr_s in (("same", (0.005, 0.00501)), ("other", (0.005, 0.015))):
        paths = [
            sidecar(
                write_by_hand(tmp_path / f"{name}{k}.nii", SERIES[k]), FlipAngle=5 * k + 5, RepetitionTimeExcitation=tr
            )
            for k, tr in enumerate(tr_s)
        ]
        if name == "same":
            assert read_nifti_parameter(paths, "flip angle").facts["repetition_time_ms"] == 5
        else:
            with pytest.raises(InputError, match="repetition_time_ms is 15, before it was 5"):
                read_nifti_parameter(paths, "flip angle")


def test_echo_times_in_ms_and_turned_grids_are_refused(tmp_path):
    with pytest.raises(InputError, match="EchoTime is 5 s"):
        read_nifti_parameter([sidecar(write_by_hand(tmp_path / "e.nii", SERIES), EchoTime=[5, 10, 15])], "echo time")
    turned = OBLIQUE * [[1, 1, 1, 1], [-1, 1, 1, 1], [1, 1, 1, 1]]
    paths = [
        sidecar(write_by_hand(tmp_path / f"{k}.nii", SERIES[k], affine), EchoTime=0.005 * (k + 1))
        for k, affine in enumerate((OBLIQUE, turned))
    ]
    with pytest.raises(InputError, match="another grid"):
        read_nifti_parameter(paths, "echo time")
