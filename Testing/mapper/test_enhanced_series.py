"""Enhanced multi-frame files: frames told apart, ordered, timed and scaled as those of classic files."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dynamic_samples import ENHANCED_MR, ENHANCED_PET, group, write_enhanced
from HypoxiaMapperLib.dicomio.dynamic import read_dynamic_pet, read_parameter_series, read_time_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.suv import suvbw_factor
from HypoxiaMapperLib.timeseries import Timing

FRAMES = np.arange(3 * 4 * 3 * 2).reshape(3, 4, 3, 2) + 1.0
PET = np.array([1000.0, 3000.0, 5000.0])[:, None, None, None] * np.ones((3, 3, 4, 4))
STARTS, LENGTHS = np.array([0.0, 60.0, 360.0]), np.array([60.0, 300.0, 600.0])
HALF_LIFE_S = 6586.2


def clock(seconds: float) -> str:
    """TM value so many seconds after 10:00."""
    return (datetime(2025, 1, 1, 10) + timedelta(seconds=seconds)).strftime("%H%M%S.%f")


def test_enhanced_frames_by_dimension_index_or_their_order_in_the_file(tmp_path):
    order = [2, 0, 1]
    pointer = Dataset()
    pointer.DimensionIndexPointer = 0x00209128
    groups = [group("FrameContentSequence", DimensionIndexValues=[t + 1, 1]) for t in order]
    told = write_enhanced(
        tmp_path / "a" / "e.dcm", ENHANCED_MR, FRAMES[order], groups, DimensionIndexSequence=[pointer]
    )
    plain = write_enhanced(
        tmp_path / "b" / "e.dcm", ENHANCED_MR, FRAMES, [group("FrameContentSequence", StackID="1")] * 3
    )
    for info in (told, plain):
        series = read_time_series([info], Timing(frame_interval_s=5.0))
        np.testing.assert_array_equal(series.frames, FRAMES)
        with pytest.raises(InputError, match="no entry says when"):
            read_time_series([info])


def enhanced_groups(*parts: dict) -> list[Dataset]:
    """One functional group per frame from several sequences."""
    out = []
    for part in parts:
        merged = Dataset()
        for sequence, values in part.items():
            merged.update(group(sequence, **values))
        out.append(merged)
    return out


def test_enhanced_mr_dynamic_equals_the_classic_one(tmp_path):
    groups = enhanced_groups(*(
        {"FrameContentSequence": {"FrameAcquisitionDateTime": f"2025010110000{2 * t}.5",
                                  "TemporalPositionIndex": t + 1},
         "MRTimingAndRelatedParametersSequence": {"RepetitionTime": 5.0, "FlipAngle": 15.0},
         "PixelValueTransformationSequence": {"RescaleSlope": 2.0, "RescaleIntercept": 1.0, "RescaleType": "US"}}
        for t in range(3)
    ))  # fmt: skip
    series = read_time_series([write_enhanced(tmp_path / "e.dcm", ENHANCED_MR, FRAMES, groups)])
    np.testing.assert_array_equal(series.frames, 2 * FRAMES + 1)
    np.testing.assert_allclose(series.frame_start_s, [0, 2, 4])
    assert series.grid.GetSpacing() == (1.0, 1.5, 2.0)
    assert (series.facts["repetition_time_ms"], series.facts["flip_angle_deg"]) == (5.0, 15.0)


def test_enhanced_mr_echoes_and_single_volume(tmp_path):
    groups = enhanced_groups(*({"MREchoSequence": {"EffectiveEchoTime": float(te)}} for te in (15, 5, 10)))
    info = write_enhanced(tmp_path / "a" / "e.dcm", ENHANCED_MR, FRAMES, groups)
    series = read_parameter_series([info], "echo time")
    np.testing.assert_allclose(series.values, [5, 10, 15])
    np.testing.assert_array_equal(series.frames, FRAMES[[1, 2, 0]])
    info = write_enhanced(tmp_path / "b" / "e.dcm", ENHANCED_MR, FRAMES[:1], groups[:1])
    np.testing.assert_array_equal(read_image_series(info).volume.array, FRAMES[0])


def test_enhanced_pet_in_suv(tmp_path):
    item, unit = Dataset(), Dataset()
    item.RadiopharmaceuticalStartDateTime, item.RadionuclideHalfLife = "20250101100000", HALF_LIFE_S
    item.RadionuclideTotalDose, item.Radiopharmaceutical = 370e6, "FMISO"
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "Bq/ml", "UCUM", "Bq/ml"
    groups = enhanced_groups(*(
        {"FrameContentSequence": {"FrameAcquisitionDateTime": f"20250101{clock(s)}",
                                  "FrameAcquisitionDuration": d * 1000.0},
         "RealWorldValueMappingSequence": {"RealWorldValueSlope": 2.0, "RealWorldValueIntercept": 0.0,
                                           "MeasurementUnitsCodeSequence": [unit]}}
        for s, d in zip(STARTS, LENGTHS, strict=True)
    ))  # fmt: skip
    info = write_enhanced(
        tmp_path / "p.dcm", ENHANCED_PET, PET, groups, Modality="PT", DecayCorrected="YES", AttenuationCorrected="YES",
        DecayCorrectionDateTime="20250101100000.00", PatientWeight=70, RadiopharmaceuticalInformationSequence=[item],
    )  # fmt: skip
    assert info.role == "pet"
    series = read_dynamic_pet([info])
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], 2 * PET[:, 0, 0, 0] * suvbw_factor(70, 370e6), rtol=1e-5)
    np.testing.assert_allclose(series.frame_start_s, STARTS)
    assert series.facts["tracer"] == "FMISO"


def test_one_enhanced_file_per_time_point_is_ordered_by_its_instance_number(tmp_path):
    uid = generate_uid()
    for number in (3, 1, 2):
        pixels = np.full((1, 3, 4, 5), 10 * number, np.uint16)
        write_enhanced(
            tmp_path / f"{4 - number}.dcm",
            ENHANCED_MR,
            pixels,
            [Dataset()],
            SeriesInstanceUID=uid,
            InstanceNumber=number,
        )
    series = read_time_series(scan_folder(tmp_path).series, Timing(frame_interval_s=5.0))
    np.testing.assert_allclose(series.frames[:, 0, 0, 0], [10, 20, 30])
    np.testing.assert_allclose(series.frame_start_s, [0, 5, 10])


def test_frames_of_one_enhanced_file_by_their_order_under_its_instance_number(tmp_path):
    info = write_enhanced(tmp_path / "e.dcm", ENHANCED_MR, FRAMES, [Dataset()] * 3, InstanceNumber=7)
    np.testing.assert_array_equal(read_time_series([info], Timing(frame_interval_s=5.0)).frames, FRAMES)
