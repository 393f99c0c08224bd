"""MR series of several values as scanners write them: one scale, one parameter, signals without maps and phases."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_samples import write_mr
from dynamic_samples import ENHANCED_MR, group, write_enhanced, write_mr_frames
from HypoxiaMapperLib.dicomio.dynamic import read_parameter_series, read_time_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.timeseries import Timing

FRAMES = np.arange(4 * 3 * 3 * 2).reshape(4, 3, 3, 2) + 1.0

PHILIPS = "Philips MR Imaging DD 001"


def test_philips_scale_slopes_make_series_comparable(tmp_path):
    """Stored values of one signal under two scales: only the private scale slope brings them together."""
    signal = np.array([40.0, 80.0])
    for k, (slope, scale) in enumerate(((2.0, 0.05), (3.0, 0.02))):
        stored = np.full((3, 3, 2), signal[k] * scale * 1000)
        write_mr(tmp_path / f"{k}", stored, FlipAngle=5.0 * (k + 1), RescaleSlope=slope, RescaleIntercept=0,
                 Manufacturer="Philips", private={PHILIPS: (0x2005, 0x0E, "FL", scale)})  # fmt: skip
    series = read_parameter_series(scan_folder(tmp_path).series, "flip angle")
    assert series.frames[1, 0, 0, 0] / series.frames[0, 0, 0, 0] == pytest.approx(2.0, rel=1e-5)


def test_philips_scale_slopes_of_an_enhanced_file(tmp_path):
    groups = []
    for slope, scale in ((2.0, 0.5), (2.0, 0.5), (4.0, 0.1), (4.0, 0.1)):
        own, inner = Dataset(), Dataset()
        inner.private_block(0x2005, PHILIPS, create=True).add_new(0x0E, "FL", scale)
        own.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [inner])
        own.update(group("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=0.0))
        groups.append(own)
    info = write_enhanced(tmp_path / "e.dcm", ENHANCED_MR, FRAMES, groups, Manufacturer="Philips")
    series = read_time_series([info], Timing(frame_interval_s=5.0))
    np.testing.assert_allclose(series.frames, FRAMES / np.array([0.5, 0.5, 0.1, 0.1])[:, None, None, None], rtol=1e-5)


def test_philips_frames_of_several_scales_without_scale_slope_are_refused(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, FlipAngle=[2.0, 5.0, 10.0, 15.0], RescaleSlope=[1.0, 1.0, 2.0, 2.0],
                           RescaleIntercept=0, Manufacturer="Philips Medical Systems")  # fmt: skip
    with pytest.raises(InputError, match="2005,100e"):
        read_parameter_series([info], "flip angle")


def test_one_philips_scale_is_left_as_it_is(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, FlipAngle=[2.0, 5.0, 10.0, 15.0], RescaleSlope=2.0, RescaleIntercept=1.0,
                           Manufacturer="Philips", private={PHILIPS: (0x2005, 0x0E, "FL", 0.5)})  # fmt: skip
    np.testing.assert_allclose(read_parameter_series([info], "flip angle").frames, 2 * FRAMES + 1)


@pytest.mark.parametrize(
    ("parameter", "keyword", "values", "other"),
    [("flip angle", "FlipAngle", [2.0, 5.0, 10.0, 15.0], {"RepetitionTime": [5.0, 5.0, 5.0, 15.0]}),
     ("echo time", "EchoTime", [2.0, 5.0, 10.0, 15.0], {"FlipAngle": [15.0, 15.0, 20.0, 20.0]}),
     ("b-value", "DiffusionBValue", [0.0, 50.0, 400.0, 800.0], {"EchoTime": [60.0, 60.0, 60.0, 90.0]})],
)  # fmt: skip
def test_a_second_parameter_may_not_change_with_the_first(tmp_path, parameter, keyword, values, other):
    info = write_mr_frames(tmp_path, FRAMES, **{keyword: values}, **other)
    with pytest.raises(InputError, match=f"{next(iter(other))} differs"):
        read_parameter_series([info], parameter)


def test_b_value_of_a_siemens_sequence_name(tmp_path):
    info = write_mr_frames(tmp_path, FRAMES, SequenceName=["*ep_b0", "*ep_b50t", "ep_b400#1", "*ep_b800t"])
    np.testing.assert_allclose(read_parameter_series([info], "b-value").values, [0, 50, 400, 800])


def test_maps_within_a_diffusion_series_are_left_out(tmp_path):
    info = write_mr_frames(
        tmp_path, FRAMES, DiffusionBValue=[0.0, 400.0, 800.0, 0.0],
        ImageType=[*[["ORIGINAL", "PRIMARY", "DIFFUSION"]] * 3, ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]],
    )  # fmt: skip
    np.testing.assert_array_equal(read_parameter_series([info], "b-value").frames, FRAMES[:3])


def test_synthetic_b_values_are_no_measurement(tmp_path):
    info = write_mr_frames(
        tmp_path, FRAMES, DiffusionBValue=[0.0, 400.0, 800.0, 1400.0],
        ImageType=[*[["ORIGINAL", "PRIMARY", "DIFFUSION"]] * 3, ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE"]],
    )  # fmt: skip
    np.testing.assert_allclose(read_parameter_series([info], "b-value").values, [0, 400, 800])


def test_real_images_of_philips_are_left_out(tmp_path):
    for k, (kind, echo) in enumerate((("M_FFE", 5), ("R_FFE", 5), ("M_FFE", 10), ("R_FFE", 10))):
        write_mr(tmp_path / f"{k}", FRAMES[k], EchoTime=echo, ImageType=["ORIGINAL", "PRIMARY", kind, "M", "FFE"])
    series = read_parameter_series(scan_folder(tmp_path).series, "echo time")
    np.testing.assert_array_equal(series.frames, FRAMES[::2])


def test_frames_that_do_not_say_what_they_are_are_not_dropped(tmp_path):
    kinds = [
        ["ORIGINAL", "PRIMARY", "M"],
        ["ORIGINAL", "PRIMARY", "M"],
        ["ORIGINAL", "PRIMARY"],
        ["ORIGINAL", "PRIMARY"],
    ]
    info = write_mr_frames(tmp_path, FRAMES, ImageType=kinds, TriggerTime=[0, 5000, 10000, 15000],
                           AcquisitionTime=None, AcquisitionDate=None)  # fmt: skip
    with pytest.raises(InputError, match="ImageType differs between frames"):
        read_time_series([info])


def test_phase_and_real_images_of_ge_are_left_out(tmp_path):
    for k in range(4):
        write_mr(tmp_path / f"{k}", FRAMES[k], EchoTime=(5, 5, 5, 10)[k], private={
            "GEMS_PARM_01": (0x0043, 0x2F, "SS", (0, 1, 2, 0)[k])})  # fmt: skip
    series = read_parameter_series(scan_folder(tmp_path).series, "echo time")
    np.testing.assert_array_equal(series.frames, FRAMES[[0, 3]])


def test_phases_within_an_enhanced_file_are_left_out(tmp_path):
    groups = []
    for k, (part, echo) in enumerate((("MAGNITUDE", 5.0), ("PHASE", 5.0), ("MAGNITUDE", 10.0), ("PHASE", 10.0))):
        own = Dataset()
        own.update(group("MREchoSequence", EffectiveEchoTime=echo))
        own.update(group("MRImageFrameTypeSequence", ComplexImageComponent=part))
        own.update(group("FrameContentSequence", TemporalPositionIndex=k // 2 + 1))
        groups.append(own)
    info = write_enhanced(tmp_path / "e.dcm", ENHANCED_MR, FRAMES, groups, ComplexImageComponent="MIXED")
    np.testing.assert_array_equal(read_parameter_series([info], "echo time").frames, FRAMES[::2])
