"""logan_vt: the distribution volume of an analytic reversible tracer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.kinetics.tissue import OneTissue
from HypoxiaMapperLib.methods import get_method
from kinetic_samples import pet_frames, pet_input, regions, time_series, truth_grid, tumour_mask, write_input_csv

METHOD = get_method("logan_vt")
TRUTH = truth_grid(K1=(0.05, 0.3), k2=(0.1, 0.4))


def series_and_params(tmp_path, **values):
    pytest.importorskip("torch")  # the truth is made with the tissue model
    frames, source = pet_frames(), pet_input()
    p = np.stack([TRUTH["K1"], TRUTH["k2"], np.zeros_like(TRUTH["k2"])])
    write_input_csv(tmp_path / "input.csv", source)
    params = METHOD.make_params({"input_source": "csv", "input_csv": str(tmp_path / "input.csv"),
                                 "input_csv_time_unit": "min", "input_csv_unit": "g/ml", **values})  # fmt: skip
    return time_series(OneTissue(source, frames).curves(p), frames), params


def test_vt_of_a_reversible_tracer(tmp_path):
    series, params = series_and_params(tmp_path)
    found = METHOD.compute({"pet": series}, regions(), params)
    inside = tumour_mask().ravel()
    np.testing.assert_allclose(
        found.volume.array.ravel()[inside], (TRUTH["K1"] / TRUTH["k2"])[inside], rtol=0.02
    )  # K1/k2
    assert (found.volume.quantity, found.volume.unit) == ("VT", "mL/mL")
    assert np.isnan(found.threshold)
    assert "biases" in " ".join(found.warnings)
    np.testing.assert_allclose(found.curves[0].fitted, found.curves[0].measured, rtol=0.02)


def test_voxels_without_uptake_have_a_code_and_no_value(tmp_path):
    series, params = series_and_params(tmp_path)
    frames = series.frames.copy()
    frames[:, 1, 1, 6] = 0
    found = METHOD.compute({"pet": series.with_frames(frames, "hole")}, regions(), params)
    assert np.isnan(found.volume.array[1, 1, 6])
    assert found.quality[1, 1, 6] == 5


def test_too_late_a_start_is_refused(tmp_path):
    series, params = series_and_params(tmp_path, start_min=158.0)
    with pytest.raises(RequestError, match="a line needs 3"):
        METHOD.compute({"pet": series}, regions(), params)


def test_a_pause_between_frames_is_bridged_and_told(tmp_path):
    series, params = series_and_params(tmp_path)
    kept = (series.frame_start_s < 60 * 60) | (series.frame_start_s >= 90 * 60)
    series = replace(
        series, frames=series.frames[kept], frame_start_s=series.frame_start_s[kept],
        frame_duration_s=series.frame_duration_s[kept],
    )  # fmt: skip
    found = METHOD.compute({"pet": series}, regions(), params)
    inside = tumour_mask().ravel()
    np.testing.assert_allclose(found.volume.array.ravel()[inside], (TRUTH["K1"] / TRUTH["k2"])[inside], rtol=0.04)
    assert "Nothing was measured from 61.0 to 96.0 min" in " ".join(found.warnings)
