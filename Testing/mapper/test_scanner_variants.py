"""Series as scanners of several makers write them: told apart, timed and scaled right, or refused with a reason."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_samples import write_mr, write_pet
from dynamic_samples import ENHANCED_MR, group, write_enhanced, write_mr_frames, write_pet_frames
from HypoxiaMapperLib.dicomio.dynamic import read_dynamic_pet, read_parameter_series, read_time_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, HypoxiaError, InputError
from HypoxiaMapperLib.suv import suvbw_factor
from HypoxiaMapperLib.timeseries import Timing

FRAMES = np.arange(4 * 3 * 3 * 2).reshape(4, 3, 3, 2) + 1.0
PET = np.array([1000.0, 3000.0, 5000.0, 4000.0])[:, None, None, None] * np.ones((4, 3, 4, 4))
STARTS, LENGTHS = [0.0, 60.0, 360.0, 960.0], [60.0, 300.0, 600.0, 600.0]
HALF_LIFE_S = 6586.2
NO_TIME = {"AcquisitionTime": None, "AcquisitionDate": None}
ONE_TIME = {"AcquisitionTime": "100000", "AcquisitionDate": "20250101"}


def clock(seconds: float) -> str:
    """TM value so many seconds after 10:00."""
    return (datetime(2025, 1, 1, 10) + timedelta(seconds=seconds)).strftime("%H%M%S.%f")


def pet_tags(**changes):
    return {
        "SeriesTime": "100000", "AcquisitionTime": [clock(s) for s in STARTS],
        "ActualFrameDuration": [int(d * 1000) for d in LENGTHS], "FrameReferenceTime": None, **changes,
    }  # fmt: skip


# PET


def test_siemens_pet_one_series_with_mid_times(tmp_path):
    mid = [round((s + d / 2) * 1000) for s, d in zip(STARTS, LENGTHS, strict=True)]
    info = write_pet_frames(
        tmp_path, PET, **pet_tags(FrameReferenceTime=mid), NumberOfTimeSlices=4,
        SeriesType=lambda _: ["DYNAMIC", "IMAGE"], InstanceNumber=lambda k: 100 - k,
    )  # fmt: skip
    series = read_dynamic_pet([info])
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], PET[:, 0, 0, 0] * suvbw_factor(70, 370e6), rtol=1e-5)


def test_plain_middles_of_long_frames_are_mid_times(tmp_path):
    mid = [round((s + d / 2) * 1000) for s, d in zip(STARTS, LENGTHS, strict=True)]
    info = write_pet_frames(tmp_path, PET, **pet_tags(AcquisitionTime="100000", FrameReferenceTime=mid))
    series = read_dynamic_pet([info])
    np.testing.assert_allclose(series.frame_start_s, STARTS, atol=0.01)
    assert "taken as mid" in series.facts["time_source"]


def test_pet_with_a_series_time_of_the_reconstruction_counts_from_the_acquisition(tmp_path):
    tags = pet_tags(AcquisitionTime="100000", FrameReferenceTime=[s * 1000 for s in STARTS], SeriesTime="130000")
    info = write_pet_frames(tmp_path, PET, **tags)
    series = read_dynamic_pet([info], Timing(frame_time="start"))
    np.testing.assert_allclose(series.frame_start_s, STARTS, atol=0.01)
    assert "series time" in " ".join(series.facts["warnings"])
    np.testing.assert_allclose(series.facts["suv_factors"], suvbw_factor(70, 370e6), rtol=1e-3)


def test_frame_reference_times_count_from_a_series_time_before_the_first_frame(tmp_path):
    tags = pet_tags(AcquisitionTime="100000", FrameReferenceTime=[s * 1000 for s in STARTS], SeriesTime="090000")
    info = write_pet_frames(tmp_path, PET, **tags, DecayCorrection="ADMIN")
    series = read_dynamic_pet([info], Timing(frame_time="start"))
    np.testing.assert_allclose(series.frame_start_s, STARTS, atol=0.01)


def test_a_whole_body_pass_over_several_beds_is_refused(tmp_path):
    series = None
    for t in range(3):
        tags = {"ActualFrameDuration": 60000, "SeriesTime": "100000", "FrameReferenceTime": None}
        start = [clock(t * 180 + 60 * z) for z in range(3)]
        tags["AcquisitionTime"] = lambda k, start=start: start[k]
        write_pet(tmp_path / f"{t}", PET[t], SeriesInstanceUID="1.2.3.4", **tags)
    series = scan_folder(tmp_path).series[0]
    with pytest.raises(InputError, match="bed") as error:
        read_dynamic_pet([series])
    assert "one bed" in error.value.hint


def test_ge_series_per_frame_corrected_to_the_scan_start(tmp_path):
    """Series Time is each frame's own, but Frame Reference Time counts from the start of the scan: two references."""
    for t in range(4):
        write_pet(
            tmp_path / f"{t}", PET[t], AcquisitionTime=clock(STARTS[t]), SeriesTime=clock(STARTS[t]),
            ActualFrameDuration=int(LENGTHS[t] * 1000), FrameReferenceTime=int((STARTS[t] + LENGTHS[t] / 2) * 1000),
        )  # fmt: skip
    with pytest.raises(InputError, match="decay reference is 10:01:00 by Series"):
        read_dynamic_pet(scan_folder(tmp_path / "1").series + scan_folder(tmp_path / "2").series)


def test_ge_scan_time_settles_the_decay_reference_of_series_per_frame(tmp_path):
    for t in range(4):
        write_pet(
            tmp_path / f"{t}", PET[t], AcquisitionTime=clock(STARTS[t]), SeriesTime=clock(STARTS[t]),
            ActualFrameDuration=int(LENGTHS[t] * 1000), FrameReferenceTime=int((STARTS[t] + LENGTHS[t] / 2) * 1000),
            private={"GEMS_PETD_01": (0x0009, 0x0D, "DT", "20250101100000.00")},
        )  # fmt: skip
    series = read_dynamic_pet(scan_folder(tmp_path).series)
    np.testing.assert_allclose(series.facts["suv_factors"], suvbw_factor(70, 370e6), rtol=1e-6)


def test_late_static_scans_of_their_own_series_are_one_curve(tmp_path):
    tags = {"ActualFrameDuration": 120000, "FrameReferenceTime": 60000}
    for hours in (0, 2, 4):
        time = clock(60 + hours * 3600)
        write_pet(tmp_path / f"{hours}", PET[0], AcquisitionTime=time, SeriesTime=time, Radiopharmaceutical="FMISO",
                  **tags)  # fmt: skip
    series = read_dynamic_pet(scan_folder(tmp_path).series)
    np.testing.assert_allclose(series.frame_start_s, [60, 7260, 14460])
    factors = [suvbw_factor(70, 370e6, s, HALF_LIFE_S) for s in (60, 7260, 14460)]
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], 1000 * np.array(factors), rtol=1e-5)


def test_a_gated_pet_is_no_time_series(tmp_path):
    tags = pet_tags(AcquisitionTime="100000", ActualFrameDuration=60000, FrameReferenceTime=30000)
    info = write_pet_frames(
        tmp_path, PET, **tags, TriggerTime=[0, 200, 400, 600], SeriesType=lambda _: ["GATED", "IMAGE"]
    )
    with pytest.raises(InputError, match="gate"):
        read_dynamic_pet([info])


def test_times_in_whole_seconds_do_not_overlap_for_half_a_second(tmp_path):
    tags = pet_tags(AcquisitionTime=["100000", "100007", "100015", "100022"], ActualFrameDuration=7500)
    np.testing.assert_allclose(
        read_dynamic_pet([write_pet_frames(tmp_path, PET, **tags)]).frame_start_s, [0, 7, 15, 22]
    )


def test_times_with_different_offsets_from_utc_are_compared(tmp_path):
    tags = pet_tags(AcquisitionTime=None, AcquisitionDate=None, SeriesTime="110000", Units="GML")
    tags["AcquisitionDateTime"] = [f"20250101{clock(3600 + s)}+0100" for s in STARTS]
    tags["RadiopharmaceuticalStartDateTime"] = "20250101100000+0000"  # 11:00 here, as the first frame
    series = read_dynamic_pet([write_pet_frames(tmp_path, PET, **tags)])
    np.testing.assert_allclose(series.frame_start_s, STARTS)


def test_the_offset_from_utc_outlives_a_frame_start_that_was_put_right(tmp_path):
    tags = pet_tags(AcquisitionTime=None, AcquisitionDate=None, SeriesTime="110000", DecayCorrection="START")
    tags |= {"AcquisitionDateTime": "20250101110000.00+0100", "FrameReferenceTime": [s * 1000 for s in STARTS],
             "RadiopharmaceuticalStartDateTime": "20250101100000+0000"}  # fmt: skip
    series = read_dynamic_pet([write_pet_frames(tmp_path, PET, **tags)], Timing(frame_time="start"))
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    np.testing.assert_allclose(series.facts["suv_factors"], suvbw_factor(70, 370e6), rtol=1e-6)


# MR: order and times


@pytest.mark.parametrize("timing", [Timing(), Timing(frame_interval_s=5.0)], ids=["file", "stated"])
def test_a_lost_frame_leaves_its_gap(tmp_path, timing):
    tags = {"TemporalPositionIdentifier": [1, 2, 5, 6], "TemporalResolution": 5000, "NumberOfTemporalPositions": 6}
    series = read_time_series([write_mr_frames(tmp_path, FRAMES, **NO_TIME, **tags)], timing)
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 20, 25])
    assert "says 6 frames, 4 are there" in " ".join(series.facts["warnings"])


def test_trigger_times_that_contradict_the_acquisition_are_told(tmp_path):
    tags = {"AcquisitionTime": [clock(5 * t) for t in range(4)], "AcquisitionDate": "20250101"}
    for step, told in ((25000, True), (5000, False)):
        info = write_mr_frames(tmp_path / str(step), FRAMES, TriggerTime=[step * t for t in range(4)], **tags)
        series = read_time_series([info])
        np.testing.assert_allclose(series.frame_start_s, [0, 5, 10, 15])
        assert ("Trigger Time" in " ".join(series.facts["warnings"])) == told


def test_a_stated_interval_that_contradicts_the_acquisition_is_told(tmp_path):
    tags = {"AcquisitionTime": [clock(5 * t) for t in range(4)], "AcquisitionDate": "20250101"}
    info = write_mr_frames(tmp_path, FRAMES, **tags)
    for interval_s, told in ((50.0, True), (5.0, False)):
        series = read_time_series([info], Timing(frame_interval_s=interval_s))
        np.testing.assert_allclose(series.frame_start_s, interval_s * np.arange(4))
        assert ("acquisition times span 15 s" in " ".join(series.facts["warnings"])) == told


def test_trigger_times_of_a_single_slice_in_seconds_are_asked_about(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES[:, :1], TriggerTime=[0, 5, 10, 15], **NO_TIME)
    with pytest.raises(InputError, match="too short"):
        read_time_series([info])


@pytest.mark.parametrize("tags", [{"TriggerTime": [0, 5e6, 10e6, 15e6]}, {"TemporalResolution": 5e6}])
def test_microseconds_are_asked_about(tmp_path, tags):
    with pytest.raises(InputError, match="steps of 5000 s"):
        read_time_series([write_mr_frames(tmp_path, FRAMES, **tags, **NO_TIME)])


@pytest.mark.parametrize("read", [read_time_series, lambda infos: read_parameter_series(infos, "echo time")])
def test_a_frame_of_zeros_was_not_measured(tmp_path, read):
    frames = FRAMES * np.array([1, 1, 0, 1])[:, None, None, None]
    varied = {"EchoTime": [5.0, 10.0, 15.0, 20.0]} if read is not read_time_series else {}
    info = write_mr_frames(tmp_path, frames, **varied, TriggerTime=[0, 5000, 10000, 15000], **NO_TIME)
    with pytest.raises(InputError, match="frame 3 of 4 holds only zeros"):
        read([info])


def test_a_modality_lut_is_no_slope(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType, lut.LUTData = [4, 0, 16], "US", [0, 10, 20, 30]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "US"
    info = write_mr_frames(tmp_path, FRAMES, **NO_TIME, ModalityLUTSequence=lambda _: [lut])
    with pytest.raises(InputError, match="Modality LUT"):
        read_time_series([info], Timing(frame_interval_s=5.0))


def test_slices_that_lost_different_frames_are_not_joined(tmp_path):
    for key in ("AcquisitionTime", "TemporalPositionIdentifier", "InstanceNumber"):
        folder = tmp_path / key
        own = {"AcquisitionTime": [clock(5 * t) for t in range(4)]} if key == "AcquisitionTime" else NO_TIME
        if key == "TemporalPositionIdentifier":
            own = {**own, key: [1, 2, 3, 4]}
        write_mr_frames(folder, FRAMES, **{**own, "TemporalResolution": 5000})
        for t, z in enumerate((0, 1, 2)):
            (folder / f"t{t}" / f"MR_{z:03d}.dcm").unlink()
        with pytest.raises(InputError, match="missing"):
            read_time_series([scan_folder(folder).series[0]])


@pytest.mark.parametrize("key", ["AcquisitionTime", "TemporalPositionIdentifier"])
def test_one_slice_without_its_first_image_and_another_without_its_last(tmp_path, key):
    own = (
        {"AcquisitionTime": [clock(5 * t) for t in range(4)]}
        if key == "AcquisitionTime"
        else {**NO_TIME, key: [1, 2, 3, 4]}
    )
    write_mr_frames(tmp_path, FRAMES, **own, TemporalResolution=5000)
    for t, z in ((0, 0), (3, 1), (3, 2)):
        (tmp_path / f"t{t}" / f"MR_{z:03d}.dcm").unlink()
    with pytest.raises(InputError, match="missing"):
        read_time_series([scan_folder(tmp_path).series[0]])


def test_gated_slices_may_vary_in_time(tmp_path):
    times = [[0, 1, 2], [5, 8.5, 9], [12, 13, 14.5], [18, 19, 20]]
    info = write_mr_frames(
        tmp_path, FRAMES, AcquisitionDate="20250101",
        AcquisitionTime=[lambda k, row=row: clock(row[k]) for row in times],
    )  # fmt: skip
    np.testing.assert_allclose(read_time_series([info]).frame_start_s, [0, 5, 12, 18])


def test_a_slice_by_slice_acquisition_has_no_common_times(tmp_path):
    """All times of one slice, then all of the next: the slices of a frame lie minutes apart."""
    times = [[clock(60 * z + 5 * t) for z in range(3)] for t in range(4)]
    tags = {"AcquisitionDate": "20250101", "AcquisitionTime": [lambda k, row=row: row[k] for row in times]}
    for name, further in (("clock", {}), ("position", {"TemporalPositionIdentifier": [1, 2, 3, 4]})):
        info = write_mr_frames(tmp_path / name, FRAMES, **tags, **further)
        with pytest.raises(InputError, match=r"slices of frame 1.*no common time"):
            read_time_series([info])


def test_interleaved_slices_and_slice_major_numbers_are_ordered_by_time(tmp_path):
    times = [[clock(6 * t + (0, 2, 1)[z]) for z in range(3)] for t in range(4)]
    info = write_mr_frames(
        tmp_path, FRAMES, AcquisitionDate="20250101", AcquisitionTime=[lambda k, row=row: row[k] for row in times],
        InstanceNumber=[lambda k, t=t: k * 4 + t + 1 for t in range(4)],
    )  # fmt: skip
    series = read_time_series([info])
    np.testing.assert_array_equal(series.frames, FRAMES)
    np.testing.assert_allclose(series.frame_start_s, [0, 6, 12, 18])


def test_slice_major_instance_numbers_alone_order_frames(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, InstanceNumber=[lambda k, t=t: k * 4 + t + 1 for t in range(4)], **NO_TIME)
    np.testing.assert_array_equal(read_time_series([info], Timing(frame_interval_s=5.0)).frames, FRAMES)


def test_ge_trigger_times_with_one_acquisition_time(tmp_path):
    info = write_mr_frames(
        tmp_path, FRAMES, **ONE_TIME, TemporalPositionIdentifier=[1, 2, 3, 4], NumberOfTemporalPositions=4,
        TriggerTime=[0, 5210, 10420, 15630],
    )  # fmt: skip
    np.testing.assert_allclose(read_time_series([info]).frame_start_s, [0, 5.21, 10.42, 15.63])


def test_positions_with_one_acquisition_time_ask_for_the_interval(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, **ONE_TIME, TemporalPositionIdentifier=[1, 2, 3, 4])
    with pytest.raises(InputError) as error:
        read_time_series([info])
    assert "frame_interval_s" in error.value.hint


def test_philips_enhanced_offsets_win_over_one_frame_time(tmp_path):
    groups = []
    for t in range(4):
        own = Dataset()
        own.update(
            group("FrameContentSequence", FrameAcquisitionDateTime="20250101100000", TemporalPositionIndex=t + 1)
        )
        own.update(group("TemporalPositionSequence", TemporalPositionTimeOffset=2.5 * t))
        groups.append(own)
    series = read_time_series([write_enhanced(tmp_path / "e.dcm", ENHANCED_MR, FRAMES, groups)])
    np.testing.assert_allclose(series.frame_start_s, [0, 2.5, 5, 7.5])


def test_air_and_oxygen_series_joined_by_resolution_alone_are_asked_about(tmp_path):
    """Each series has one acquisition time: its resolution says nothing of the pause between the two."""
    for name, start, first in (("air", "100000", 1), ("oxygen", "101000", 3)):
        for t in range(2):
            write_mr(
                tmp_path / name / f"{t}", FRAMES[t], SeriesInstanceUID=f"1.2.{first}", AcquisitionDate="20250101",
                AcquisitionTime=start, InstanceNumber=lambda k, t=t, first=first: (first + t) * 10 + k,
                TemporalResolution=5000,
            )  # fmt: skip
    with pytest.raises(InputError, match="one acquisition time"):
        read_time_series(scan_folder(tmp_path).series)


@pytest.mark.parametrize(
    "kinds", [["ORIGINAL", "PRIMARY", "WATER"], ["DERIVED", "PRIMARY", "SUBTRACTION"]], ids=["dixon", "subtraction"]
)
def test_images_of_another_kind_in_one_series_are_no_frames(tmp_path, kinds):
    info = write_mr_frames(
        tmp_path, FRAMES, **NO_TIME, TemporalResolution=5000,
        ImageType=[["ORIGINAL", "PRIMARY", "FAT"], kinds, ["ORIGINAL", "PRIMARY", "FAT"], kinds],
    )  # fmt: skip
    with pytest.raises(InputError, match="ImageType differs between frames"):
        read_time_series([info])


def test_phase_images_beside_the_magnitude_are_no_frames(tmp_path):
    info = write_mr_frames(
        tmp_path, FRAMES, **NO_TIME, TemporalResolution=5000,
        ImageType=[["ORIGINAL", "PRIMARY", kind] for kind in ("M", "P", "M", "P")],
    )  # fmt: skip
    series = read_time_series([info])
    np.testing.assert_array_equal(series.frames, FRAMES[::2])
    np.testing.assert_allclose(series.frame_start_s, [0, 5])


def test_an_image_across_the_others_is_named(tmp_path):
    write_mr_frames(tmp_path, FRAMES, TriggerTime=[0, 5000, 10000, 15000], **NO_TIME)
    uid = scan_folder(tmp_path).series[0].series_uid
    write_mr(tmp_path / "mip", FRAMES[0][:1], SeriesInstanceUID=uid, orientation=(1, 0, 0, 0, 0, -1), TriggerTime=0,
             InstanceNumber=999, **NO_TIME)  # fmt: skip
    with pytest.raises(GeometryError, match="mixed orientation") as error:
        read_time_series(list(scan_folder(tmp_path).series))
    assert "leave" in error.value.hint.lower()


def test_resent_frames_with_new_uids_are_refused(tmp_path):
    tags = {"AcquisitionTime": [clock(5 * t) for t in (0, 1, 2, 2)], "AcquisitionDate": "20250101"}
    with pytest.raises(HypoxiaError):
        read_time_series([write_mr_frames(tmp_path, FRAMES[[0, 1, 2, 2]], **tags)])


def test_a_tilted_stack_is_refused(tmp_path):
    places = [(0, 0.4 * k, 2.0 * k) for k in range(3)]
    tags = {"AcquisitionTime": [clock(5 * t) for t in range(4)], "AcquisitionDate": "20250101"}
    with pytest.raises(GeometryError, match="tilt"):
        read_time_series([write_mr_frames(tmp_path, FRAMES, positions=[places] * 4, **tags)])
