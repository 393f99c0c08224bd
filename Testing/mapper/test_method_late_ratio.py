"""late_ratio: the weighted mean of late frames over the reference, by the rules of the tracer's protocol."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.fitting.codes import FitCode
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods.late_ratio import METHOD
from kinetic_samples import SHAPE, regions, time_series, tumour_mask

FRAMES = Frames.from_start_duration(np.array([0.0, 60, 120, 150]), np.array([10.0, 60, 10, 30]), "min")


def series_of(**facts):
    curves = np.ones((4, int(np.prod(SHAPE))))
    curves[:, tumour_mask().ravel()] = np.array([0.5, 1.0, 2.0, 4.0])[:, None]
    return time_series(curves, FRAMES, facts={"tracer": "FMISO", "time_zero": "injection", **facts})


def test_window_is_weighted_by_frame_length():
    params = METHOD.make_params({"start_min": 115.0, "end_min": 185.0, "reference_kind": "blood",
                                 "minimum_reference_ml": 0.0})  # fmt: skip
    found = METHOD.compute({"pet": series_of()}, regions("reference"), params)
    np.testing.assert_allclose(found.volume.array[tumour_mask()], (2 * 10 + 4 * 30) / 40, rtol=1e-6)
    assert found.threshold == 1.2
    assert found.details["window_min"] == [120.0, 180.0]


def test_without_a_window_the_last_frame_is_taken():
    params = METHOD.make_params({"reference_kind": "blood", "minimum_reference_ml": 0.0})
    found = METHOD.compute({"pet": series_of()}, regions("reference"), params)
    np.testing.assert_allclose(found.volume.array[tumour_mask()], 4, rtol=1e-6)
    assert (found.quality == 0).all()
    series = series_of()
    series.frames[-1][2, 3, 7] = np.nan
    found = METHOD.compute({"pet": series}, regions("reference"), params)
    assert found.quality[2, 3, 7] == FitCode.INVALID
    assert (found.quality > 0).sum() == 1


def test_unknown_injection_is_said_and_an_empty_window_refused():
    params = METHOD.make_params({"reference_kind": "blood", "minimum_reference_ml": 0.0})
    found = METHOD.compute({"pet": series_of(time_zero="start of the first frame")}, regions("reference"), params)
    assert "injection to scan is unknown" in " ".join(found.warnings)
    params = METHOD.make_params({"start_min": 200.0, "end_min": 220.0, "reference_kind": "blood"})
    with pytest.raises(RequestError, match="No frame lies within 200 to 220 min"):
        METHOD.compute({"pet": series_of()}, regions("reference"), params)
    with pytest.raises(HypoxiaError, match="No published threshold"):
        METHOD.compute({"pet": series_of(tracer="Cu-ATSM")}, regions("reference"),
                       METHOD.make_params({"reference_kind": "blood", "minimum_reference_ml": 0.0}))  # fmt: skip


def test_a_window_without_an_end_reaches_to_the_end():
    small = {"reference_kind": "blood", "minimum_reference_ml": 0.0, "start_min": 115.0}
    for end_min in (0.0, 180.0):
        params = METHOD.make_params({**small, "end_min": end_min})
        found = METHOD.compute({"pet": series_of()}, regions("reference"), params)
        assert found.details["window_min"] == [120.0, 180.0]
