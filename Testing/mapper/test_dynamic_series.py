"""Dynamic and multi-parameter DICOM: frames grouped, ordered, timed; ambiguity is asked, faults are refused."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from dicom_samples import write_mr, write_pet
from dynamic_samples import write_mr_frames, write_pet_frames
from HypoxiaMapperLib.dicomio.dynamic import read_dynamic_pet, read_parameter_series, read_time_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.method_images import read_dicom_input
from HypoxiaMapperLib.methods import get_method
from HypoxiaMapperLib.suv import mean_decay_time_s, suvbw_factor
from HypoxiaMapperLib.timeseries import Timing

FRAMES = np.arange(3 * 4 * 3 * 2).reshape(3, 4, 3, 2) + 1.0
HALF_LIFE_S = 6586.2
NO_TIME = {"AcquisitionTime": None, "AcquisitionDate": None}


def clock(seconds: float) -> str:
    """TM value so many seconds after 10:00."""
    return (datetime(2025, 1, 1, 10) + timedelta(seconds=seconds)).strftime("%H%M%S.%f")


@pytest.mark.parametrize(
    ("tags", "start_s", "source"),
    [
        ({"AcquisitionDate": "20250101", "AcquisitionTime": ["100000.5", "100005.5", "100015.5"]}, [0, 5, 15], "acq"),
        ({"TriggerTime": [0, 5000, 15000]}, [0, 5, 15], "taken as ms"),
        ({"TemporalPositionIdentifier": [1, 2, 3], "TemporalResolution": 5000}, [0, 5, 10], "Temporal Resolution"),
        ({"TemporalResolution": 4000}, [0, 4, 8], "Temporal Resolution"),
    ],
)
def test_mr_frames_by_every_kind_of_time(tmp_path, tags, start_s, source):
    series = read_time_series([write_mr_frames(tmp_path, FRAMES, **{**NO_TIME, **tags})])
    np.testing.assert_array_equal(series.frames, FRAMES)
    np.testing.assert_allclose(series.frame_start_s, start_s)
    np.testing.assert_array_equal(series.frame_duration_s, 0)
    assert source in series.facts["time_source"]
    assert series.unit == "[arb'U]"


@pytest.mark.parametrize("date", [None, "20250101", ["20250101", "20250102", "20250102"]])
def test_the_clock_may_run_over_midnight(tmp_path, date):
    times = ["235955", "000000", "000005.5"]
    series = read_time_series([write_mr_frames(tmp_path, FRAMES, AcquisitionDate=date, AcquisitionTime=times)])
    np.testing.assert_array_equal(series.frames, FRAMES)
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 10.5])
    said = " ".join(series.facts["warnings"])
    assert ("from 23:59 to 00:00: those after midnight were counted to the next day" in said) == (
        not isinstance(date, list)
    )


def test_two_frames_of_one_time_are_named(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, AcquisitionDate="20250101", AcquisitionTime=["100000", "100005", "100005"])
    with pytest.raises(InputError, match="2 of 3 frames have one acquisition time, 10:00:05"):
        read_time_series([info])


def test_time_decides_when_instance_numbers_run_backwards(tmp_path):
    reverse = [lambda k, t=t: 100 - 10 * t - k for t in range(3)]
    info = write_mr_frames(
        tmp_path, FRAMES, AcquisitionTime=["100000", "100005", "100010"], AcquisitionDate="20250101",
        InstanceNumber=reverse,
    )  # fmt: skip
    series = read_time_series([info])
    np.testing.assert_array_equal(series.frames, FRAMES)
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 10])


def test_instance_number_orders_and_the_interval_is_asked_for(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, **NO_TIME)
    with pytest.raises(InputError) as error:
        read_time_series([info])
    assert "frame_interval_s" in error.value.hint
    series = read_time_series([info], Timing(frame_interval_s=2.5))
    np.testing.assert_array_equal(series.frames, FRAMES)
    np.testing.assert_allclose(series.frame_start_s, [0, 2.5, 5])
    assert "stated by the user" in series.facts["time_source"]


def test_trigger_time_in_seconds_is_asked_about(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, TriggerTime=[0, 5, 15], **NO_TIME)
    with pytest.raises(InputError) as error:
        read_time_series([info])
    assert "time_unit" in error.value.hint
    np.testing.assert_allclose(read_time_series([info], Timing(time_unit="s")).frame_start_s, [0, 5, 15])


def test_positions_against_time_are_refused(tmp_path):
    info = write_mr_frames(
        tmp_path, FRAMES, TemporalPositionIdentifier=[1, 2, 3], AcquisitionDate="20250101",
        AcquisitionTime=["100010", "100005", "100000"],
    )  # fmt: skip
    with pytest.raises(InputError, match="does not come after the one before"):
        read_time_series([info])


def test_frames_of_several_series_are_joined(tmp_path):
    for t in range(3):
        write_mr(tmp_path / f"{t}", FRAMES[t], AcquisitionDate="20250101", AcquisitionTime=f"10000{5 - t}")
    series = read_time_series(scan_folder(tmp_path).series)
    np.testing.assert_array_equal(series.frames, FRAMES[::-1])


def test_incomplete_single_and_moved_frames_are_refused(tmp_path):
    info = write_mr_frames(tmp_path / "a", FRAMES, TriggerTime=[0, 5000, 15000], **NO_TIME)
    (tmp_path / "a" / "t2" / "MR_001.dcm").unlink()
    with pytest.raises(InputError, match="incomplete frames"):
        read_time_series([scan_folder(tmp_path / "a").series[0]])
    write_mr(tmp_path / "b", FRAMES[0])
    with pytest.raises(InputError, match="only one frame"):
        read_time_series([scan_folder(tmp_path / "b").series[0]])
    info = write_mr_frames(
        tmp_path / "c", FRAMES, TriggerTime=[0, 5000, 15000], origin_mm=[(0, 0, 0), (0, 0, 0), (5, 0, 0)], **NO_TIME
    )
    with pytest.raises(GeometryError):
        read_time_series([info])


def test_frames_that_nothing_tells_apart_are_refused(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, InstanceNumber=lambda k: k, **NO_TIME)
    with pytest.raises(InputError, match="no entry tells the frames apart"):
        read_time_series([info])


PET = np.array([1000.0, 3000.0, 5000.0])[:, None, None, None] * np.ones((3, 3, 4, 4))
STARTS, LENGTHS = np.array([0.0, 60.0, 360.0]), np.array([60.0, 300.0, 600.0])


def pet_tags(starts=STARTS, lengths=LENGTHS):
    return {
        "SeriesTime": "100000", "AcquisitionTime": [clock(s) for s in starts],
        "ActualFrameDuration": [int(d * 1000) for d in lengths], "FrameReferenceTime": None,
    }  # fmt: skip


def test_dynamic_pet_in_suv_after_injection(tmp_path):
    series = read_dynamic_pet([write_pet_frames(tmp_path, PET, **pet_tags())])
    # Decay corrected to the series time, which is the injection here.
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], PET[:, 0, 0, 0] * suvbw_factor(70, 370e6), rtol=1e-5)
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    np.testing.assert_allclose(series.frame_duration_s, LENGTHS)
    assert (series.quantity, series.unit) == ("SUVbw", "g/ml")
    assert series.facts["time_zero"] == "injection"
    assert series.facts["tracer"] == "FDG"


def test_suv_of_every_frame_when_decay_is_not_corrected(tmp_path):
    series = read_dynamic_pet([write_pet_frames(tmp_path, PET, DecayCorrection="NONE", **pet_tags())])
    elapsed = STARTS + [mean_decay_time_s(d, HALF_LIFE_S) for d in LENGTHS]
    factors = [suvbw_factor(70, 370e6, t, HALF_LIFE_S) for t in elapsed]
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], PET[:, 0, 0, 0] * factors, rtol=1e-5)


def test_frame_start_is_found_when_acquisition_time_is_that_of_the_series(tmp_path):
    tags = {**pet_tags(), "AcquisitionTime": "100000"}
    middle = STARTS + [mean_decay_time_s(d, HALF_LIFE_S) for d in LENGTHS]
    for name, reference in (("start", STARTS), ("mid", middle)):
        tags["FrameReferenceTime"] = [round(r * 1000, 3) for r in reference]
        series = read_dynamic_pet([write_pet_frames(tmp_path / name, PET, **tags)])
        np.testing.assert_allclose(series.frame_start_s, STARTS, atol=0.01)
        assert f"taken as {name}" in series.facts["time_source"]


def test_start_or_mid_is_asked_when_it_cannot_be_told(tmp_path):
    tags = pet_tags(lengths=np.full(3, 100.0))
    tags |= {"AcquisitionTime": "100000", "FrameReferenceTime": [20000, 120000, 220000]}
    info = write_pet_frames(tmp_path, PET, **tags)
    with pytest.raises(InputError) as error:
        read_dynamic_pet([info])
    assert "frame_time" in error.value.hint
    series = read_dynamic_pet([info], Timing(frame_time="start"))
    np.testing.assert_allclose(series.frame_start_s, [20, 120, 220], atol=1e-3)


def test_durations_in_seconds_are_asked_about(tmp_path):
    tags = {**pet_tags(), "ActualFrameDuration": [60, 300, 600]}
    info = write_pet_frames(tmp_path, PET, **tags)
    with pytest.raises(InputError) as error:
        read_dynamic_pet([info])
    assert "time_unit" in error.value.hint
    np.testing.assert_allclose(read_dynamic_pet([info], Timing(time_unit="s")).frame_duration_s, LENGTHS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ActualFrameDuration": 400000}, "overlaps the one before"),
        ({"ActualFrameDuration": None}, "Actual Frame Duration"),
        ({"AcquisitionTime": "100000"}, "no entry tells the frames apart|no entry says when they started"),
        ({"Units": "CNTS"}, "frame 1: Units"),
        ({"PatientWeight": None}, "frame 1: Patient's Weight"),
    ],
)
def test_bad_dynamic_pet_is_refused(tmp_path, changes, words):
    info = write_pet_frames(tmp_path, PET, **{**pet_tags(), **changes})
    with pytest.raises(InputError, match=words):
        read_dynamic_pet([info])


def test_a_pet_over_midnight_says_so(tmp_path):
    tags = {**pet_tags(), "AcquisitionTime": ["235900", "000000", "000500"], "SeriesTime": "235900"}
    tags |= {"RadiopharmaceuticalStartTime": "235900", "RadiopharmaceuticalStartDateTime": "20250101235900"}
    info = write_pet_frames(tmp_path, PET, **tags)
    spec = get_method("late_ratio").inputs[0]
    series = read_dicom_input([info], spec, Timing(), lambda *_: None)
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    assert any("after midnight" in note for note in series.facts["warnings"])


def test_a_stated_unit_of_lengths_wins(tmp_path):
    tags = pet_tags(starts=[0, 1800, 3600], lengths=[1.8, 1.8, 1.8])
    with pytest.raises(InputError, match="1000 times as long"):
        read_dynamic_pet([write_pet_frames(tmp_path, PET, **tags)])
    series = read_dynamic_pet(scan_folder(tmp_path).series[:1], Timing(time_unit="ms"))
    np.testing.assert_allclose(series.frame_duration_s, 1.8)


def test_unknown_injection_counts_from_the_first_frame(tmp_path):
    tags = {**pet_tags(), "RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None}
    series = read_dynamic_pet([write_pet_frames(tmp_path, PET, Units="GML", **tags)])
    assert series.facts["time_zero"] == "start of the first frame"
    assert "injection time is unknown" in " ".join(series.facts["warnings"])


@pytest.mark.parametrize(
    ("parameter", "keyword", "values"),
    [("echo time", "EchoTime", [20.0, 5.0, 10.0]), ("flip angle", "FlipAngle", [15.0, 3.0, 9.0]),
     ("b-value", "DiffusionBValue", [800.0, 0.0, 200.0]), ("inversion time", "InversionTime", [900.0, 50.0, 400.0])],
)  # fmt: skip
def test_parameter_series_are_sorted_by_value(tmp_path, parameter, keyword, values):
    series = read_parameter_series([write_mr_frames(tmp_path, FRAMES, **{keyword: values})], parameter)
    np.testing.assert_allclose(series.values, sorted(values))
    np.testing.assert_array_equal(series.frames, FRAMES[np.argsort(values)])
    assert keyword in series.facts["parameter_source"]


@pytest.mark.parametrize(
    "private",
    [{"SIEMENS MR HEADER": (0x0019, 0x0C, "IS", 400)}, {"GEMS_PARM_01": (0x0043, 0x39, "IS", [1000000400, 8, 0, 0])},
     {"Philips Imaging DD 001": (0x2001, 0x03, "FL", 400.0)}],
)  # fmt: skip
def test_b_value_of_vendors(tmp_path, private):
    write_mr(tmp_path / "0", FRAMES[0], DiffusionBValue=0.0)
    write_mr(tmp_path / "1", FRAMES[1], private=private)
    series = read_parameter_series(scan_folder(tmp_path).series, "b-value")
    np.testing.assert_allclose(series.values, [0, 400])


def test_diffusion_directions_become_their_geometric_mean_unless_there_is_a_trace(tmp_path):
    signal = np.array([100.0, 20.0, 80.0])[:, None, None, None] * np.ones((3, 3, 2, 2))
    series = read_parameter_series([write_mr_frames(tmp_path / "a", signal, DiffusionBValue=[0.0, 500.0, 500.0])],
                                   "b-value")  # fmt: skip
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], [100, 40], rtol=1e-6)
    info = write_mr_frames(tmp_path / "b", signal, DiffusionBValue=[0.0, 500.0, 500.0],
                           DiffusionDirectionality=["NONE", "DIRECTIONAL", "ISOTROPIC"])  # fmt: skip
    np.testing.assert_allclose(read_parameter_series([info], "b-value").frames[:, 0, 0, 0], [100, 80])


def test_phase_images_are_left_out(tmp_path):
    for name, kind, echo in (("a", "M", 5), ("b", "P", 5), ("c", "M", 10), ("d", "P", 10)):
        write_mr(tmp_path / name, FRAMES[0] * (1 if kind == "M" else 50), EchoTime=echo,
                 ImageType=["ORIGINAL", "PRIMARY", kind])  # fmt: skip
    series = read_parameter_series(scan_folder(tmp_path).series, "echo time")
    np.testing.assert_array_equal(series.frames, np.stack([FRAMES[0], FRAMES[0]]))


def test_parameter_series_without_value_or_with_one_is_refused(tmp_path):
    info = write_mr_frames(tmp_path / "a", FRAMES)
    with pytest.raises(InputError, match="does not state its b-value"):
        read_parameter_series([info], "b-value")
    info = write_mr_frames(tmp_path / "b", FRAMES, EchoTime=5.0)
    with pytest.raises(InputError, match="only one echo time, 5 ms"):
        read_parameter_series([info], "echo time")
    with pytest.raises(RequestError, match="Valid: echo time"):
        read_parameter_series([info], "bandwidth")


def test_pet_frames_in_series_of_their_own(tmp_path):
    for t in range(3):
        tags = {k: v[t] if isinstance(v, list) else v for k, v in pet_tags().items()}
        write_pet(tmp_path / f"{2 - t}", PET[t], **tags)
    series = read_dynamic_pet(scan_folder(tmp_path).series)
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    assert series.frames[2].mean() > series.frames[0].mean()


NINE = {"RadiopharmaceuticalStartTime": "090000", "RadiopharmaceuticalStartDateTime": "20250101090000"}


def test_rescale_and_decay_of_every_frame_are_its_own(tmp_path):
    tags = {**pet_tags(), **NINE, "DecayCorrection": ["START", "ADMIN", "START"]}
    same = read_dynamic_pet([write_pet_frames(tmp_path / "same", PET, **tags)])
    scaled = read_dynamic_pet([write_pet_frames(tmp_path / "own", PET, **tags, RescaleSlope=[1.0, 2.0, 0.5])])
    np.testing.assert_allclose(scaled.frames, same.frames * np.array([1.0, 2.0, 0.5])[:, None, None, None], rtol=1e-6)
    at_start, at_injection = suvbw_factor(70, 370e6, 3600, HALF_LIFE_S), suvbw_factor(70, 370e6)
    np.testing.assert_allclose(same.facts["suv_factors"], [at_start, at_injection, at_start])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PatientWeight": [70, 70, 75]}, r"Patient's Weight \(0010,1030\) differs between frames: 70.*75"),
        ({"RadionuclideTotalDose": [3.7e8, 3.7e8, 3.5e8]}, r"Total Dose \(0018,1074\) differs between frames"),
        ({"RadionuclideHalfLife": [6586.2, 6586.2, 1223.4]}, r"Half Life \(0018,1075\) differs between frames"),
        ({"RadiopharmaceuticalStartTime": ["090000", "090000", "091000"]}, r"Start Time .* differs between frames"),
    ],
)
def test_frames_of_two_injections_are_refused(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        read_dynamic_pet([write_pet_frames(tmp_path, PET, **{**pet_tags(), **changes})])


def test_frames_of_two_protocols_are_refused(tmp_path):
    times = {"AcquisitionTime": ["100000", "100005", "100010"], "AcquisitionDate": "20250101"}
    info = write_mr_frames(tmp_path / "a", FRAMES, **times, FlipAngle=[5, 15, 15])
    with pytest.raises(InputError, match=r"FlipAngle differs between frames: 5.* \(frame 1\), 15.* \(frame 2\)"):
        read_time_series([info])
    info = write_mr_frames(tmp_path / "b", FRAMES, **times, RepetitionTime=[5.0, 4.98, 5.0])
    assert read_time_series([info]).count == 3
