"""Time series: times are checked, curves extracted, motion between frames corrected."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.registration import LARGEST_FRAME_SHIFT_MM
from HypoxiaMapperLib.timeseries import ParameterSeries, TimeSeries, correct_motion
from HypoxiaMapperLib.volume import Region, image_like


def grid_of(shape=(4, 6, 8), spacing=(2.0, 2.0, 3.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(shape, np.uint8))
    image.SetSpacing(spacing)
    return image


def series_of(frames: np.ndarray, start=None, duration=None, **options) -> TimeSeries:
    n = len(frames)
    start = np.arange(n) * 60.0 if start is None else start
    duration = np.full(n, 60.0) if duration is None else duration
    given = {"quantity": "SUVbw", "unit": "g/ml", "grid": grid_of(frames.shape[1:]), **options}
    return TimeSeries(frames=frames, frame_start_s=start, frame_duration_s=duration, **given)


def test_curve_of_a_region_is_its_mean_in_every_frame():
    frames = np.random.default_rng(0).random((3, 4, 6, 8)).astype(np.float32)
    frames[1, 2, 3, 4] = np.nan
    series = series_of(frames)
    mask = np.zeros((4, 6, 8), bool)
    mask[2, 3, 4:6] = True
    region = Region("Artery", image_like(mask.astype(np.uint8), series.grid))
    expected = [frames[0, 2, 3, 4:6].mean(), frames[1, 2, 3, 5], frames[2, 2, 3, 4:6].mean()]
    np.testing.assert_allclose(series.region_curve(region), expected, rtol=1e-6)
    np.testing.assert_array_equal(series.voxels(mask), frames[:, mask])
    np.testing.assert_allclose(series.frame_mid_s, [30, 90, 150])
    np.testing.assert_array_equal(series.frame(2).array, frames[2])


@pytest.mark.parametrize(
    ("start", "duration", "words"),
    [
        ([0, 60, 100], [60, 60, 60], "frame 3 of 3 overlaps"),
        ([0, 120, 60], [60, 60, 60], "frame 3 of 3 does not come after"),
        ([0, 60, 60], [0, 0, 0], "frame 3 of 3 does not come after"),
        ([0, np.nan, 120], [60, 60, 60], "frame 2 of 3 has no finite time"),
        ([0, 60, 120], [60, -1, 60], "frame 2 of 3 has a negative duration"),
        ([0, 60e3, 120e3], [60e3, 60e3, 60e3], "more than a day"),
        ([0, 60], [60, 60], "3 frames, 2 start times"),
        ([0, 600, 1200], [10, 10, 10], "3 frames measure 20 s of 1200 s before the last one"),
        ([0, 60, 360], [1, 5, 10], "with lengths 60 times as long they would fill it"),
        ([0, 1000, 6000], [1, 5, 10], "with lengths 1000 times as long they would fill it"),
    ],
)
def test_impossible_times_are_refused(start, duration, words):
    with pytest.raises(InputError) as error:
        series_of(np.ones((3, 4, 6, 8), np.float32), np.array(start, float), np.array(duration, float))
    assert words in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("start", "length"), [([0, 7200, 14400], 120), ([0, 3600, 7200], 30), ([5400, 9000, 16200], 60)]
)
def test_late_frames_hours_apart_are_a_series(start, length):
    series = series_of(np.ones((3, 4, 6, 8), np.float32), np.array(start, float), np.full(3, float(length)))
    np.testing.assert_allclose(series.part(0, 3).frame_end_s, np.array(start) + length)


def test_a_unit_that_is_stated_is_not_doubted():
    start, length = np.array([0.0, 600, 1200]), np.full(3, 10.0)
    series = series_of(np.ones((3, 4, 6, 8), np.float32), start, length, facts={"time_unit_stated": True})
    np.testing.assert_allclose(series.frame_mid_s, [5, 605, 1205])


def test_two_frames_are_enough_to_tell_a_slip_of_units():
    with pytest.raises(InputError, match="1000 times as long"):
        series_of(np.ones((2, 4, 6, 8), np.float32), np.array([0.0, 1200.0]), np.full(2, 1.2))


def test_a_frame_of_nan_is_refused_and_single_nans_are_not():
    frames = np.ones((3, 4, 6, 8), np.float32)
    frames[1, 0] = np.nan
    series_of(frames)
    frames[1] = np.nan
    with pytest.raises(InputError, match="frame 2 of 3 holds no finite value"):
        series_of(frames)


def test_quantity_unit_and_grid_are_asked_for():
    frames = np.ones((3, 4, 6, 8), np.float32)
    with pytest.raises(RequestError, match="without quantity and unit"):
        series_of(frames, unit="")
    with pytest.raises(GeometryError, match="do not fit a grid"):
        series_of(frames, grid=grid_of((4, 6, 9)))


def test_region_on_another_grid_or_empty_is_refused():
    series = series_of(np.ones((3, 4, 6, 8), np.float32))
    with pytest.raises(GeometryError):
        series.region_curve(Region("a", image_like(np.ones((4, 6, 8), np.uint8), grid_of(spacing=(1.0, 1.0, 1.0)))))
    with pytest.raises(InputError, match="holds no voxel"):
        series.region_curve(Region("a", image_like(np.zeros((4, 6, 8), np.uint8), series.grid)))


@pytest.mark.parametrize(
    ("values", "words"), [([5, 10, 10], "do not rise"), ([5, 10], "3 frames"), ([-1, 0, 1], ">= 0")]
)
def test_parameter_values_are_checked(values, words):
    with pytest.raises(InputError) as error:
        ParameterSeries(
            frames=np.ones((3, 4, 6, 8), np.float32), grid=grid_of(), quantity="MR signal", unit="[arb'U]",
            parameter="echo time", values=np.array(values, float),
        )  # fmt: skip
    assert words in str(error.value)


def test_a_memory_map_is_taken_as_it_is(tmp_path):
    frames = np.memmap(tmp_path / "frames.bin", np.float32, "w+", shape=(3, 4, 6, 8))
    frames[:] = 1
    assert series_of(frames).frames is frames


def test_motion_between_frames_is_found_and_undone():
    rng = np.random.default_rng(3)
    still = ndimage.gaussian_filter(rng.random((24, 40, 40)), 2.5)
    still = ((still - still.min()) / np.ptp(still) * 100).astype(np.float32)
    moved = ndimage.shift(still, (0, 1.5, -2.0), order=1, mode="nearest").astype(np.float32)
    series = series_of(np.stack([still, moved, still * 2]), grid=grid_of(still.shape, (2.0, 2.0, 2.0)))
    corrected, shifts = correct_motion(series, 2)
    assert shifts[1] == pytest.approx(5.0, abs=0.5)  # 3 and 4 mm
    assert max(shifts[0], shifts[2]) < 0.3
    core = (slice(4, -4),) * 3
    before = np.abs(moved - still)[core].mean()
    assert np.nanmean(np.abs(corrected.frames[1] - still)[core]) < 0.25 * before
    assert "registered rigidly" in corrected.operations[-1]


def test_a_frame_that_cannot_be_registered_is_left_and_named():
    rng = np.random.default_rng(4)
    still = ndimage.gaussian_filter(rng.random((24, 40, 40)), 2.5).astype(np.float32)
    still = (still - still.min()) / np.ptp(still) * 100
    empty = np.zeros_like(still)  # nothing in it that could be matched
    corrected, shifts = correct_motion(series_of(np.stack([still, empty, still])), 0)
    np.testing.assert_array_equal(corrected.frames[1], empty)
    assert shifts[1] == 0
    (note,) = corrected.facts["motion_warnings"]
    assert "Frame 2 of 3 could not be registered to frame 1" in note
    assert corrected.operations[-1].endswith("1 left where they are")


@pytest.mark.parametrize("size", [(1, 2, 2), (2, 3, 3), (4, 4, 4), (3, 5, 6)])
def test_tiny_images_never_run_away(size):
    rng = np.random.default_rng(5)
    frames = rng.random((4, *size)).astype(np.float32)
    corrected, shifts = correct_motion(series_of(frames, grid=grid_of(size, (2.0, 2.0, 2.0))), 0)
    assert shifts.max() <= LARGEST_FRAME_SHIFT_MM
    named = [k for k in range(4) if any(f"Frame {k + 1} of" in n for n in corrected.facts["motion_warnings"])]
    for k in named:
        np.testing.assert_array_equal(corrected.frames[k], frames[k])
    assert np.isfinite(corrected.frames).any(axis=(1, 2, 3)).all()
