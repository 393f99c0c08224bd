"""Input functions between and before their samples, when contrast arrives, and how certain the area after it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.fitting import FitCode, fit
from HypoxiaMapperLib.kinetics.arrival import area_after_arrival, area_error, detect_arrival
from HypoxiaMapperLib.kinetics.graphical import patlak
from HypoxiaMapperLib.kinetics.input_function import InputFunction
from HypoxiaMapperLib.kinetics.perfusion import ExtendedTofts
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods.dce_tofts import METHOD as DCE
from HypoxiaMapperLib.methods.two_tissue import METHOD as PET
from kinetic_samples import pet_frames, pet_input, regions, time_series, write_input_csv


def test_smooth_and_held_inputs() -> None:
    t = np.arange(0, 60, 5.0) / 60
    coarse = InputFunction(t, np.exp(-((t - 0.4) ** 2) / 0.02), "mmol/L")
    smooth = coarse.smoothed()
    np.testing.assert_allclose(smooth.plasma, np.exp(-((smooth.time_min - 0.4) ** 2) / 0.02), atol=0.02)
    assert np.abs(np.interp(smooth.time_min, t, coarse.plasma) - smooth.plasma).max() > 0.05
    assert coarse.held_until(1.0).time_min[-1] == 1.0
    with pytest.raises(RequestError, match=r"ends 1\.08 min before"):
        coarse.held_until(2.0)


def test_arrival_and_area() -> None:
    frames = Frames.instants(np.arange(0, 180, 2.0), "s")
    t = frames.mid_min * 60
    onset = np.array([20.0, 33.0, 50.0])
    ramp = np.clip((t[:, None] - onset) / 10, 0, 1) * 2.0
    rng = np.random.default_rng(0)
    noisy = np.concatenate([ramp, np.zeros((t.size, 1))], axis=1) + 0.02 * rng.standard_normal((t.size, 4))
    arrival, code = detect_arrival(noisy, frames, slice(0, 9))
    np.testing.assert_allclose(arrival[:3] * 60, onset, atol=1.0)
    assert code.tolist() == [FitCode.OK] * 3 + [FitCode.NO_ARRIVAL]
    area = area_after_arrival(ramp, frames, onset / 60)
    np.testing.assert_allclose(area, 2 * 60 - 10, rtol=1e-2)
    assert np.isnan(area_after_arrival(ramp, frames, np.full(3, 170 / 60))).all()
    many = 0.02 * rng.standard_normal((t.size, 4000))
    spread = area_after_arrival(many, frames, np.full(4000, 40 / 60)).std()
    assert np.median(area_error(many, frames, slice(0, 19), level_taken=False)) == pytest.approx(spread, rel=0.05)


def test_error_of_an_area_above_the_baseline_mean() -> None:
    frames = Frames.instants(np.arange(0, 180, 5.0), "s")
    rng = np.random.default_rng(3)
    noise = 0.05 * rng.standard_normal((frames.count, 5000))
    above = noise - noise[:6].mean(axis=0)
    spread = area_after_arrival(above, frames, np.full(5000, 60 / 60)).std()
    assert np.sqrt(np.mean(area_error(above, frames, slice(0, 6)) ** 2)) == pytest.approx(spread, rel=0.05)
    assert np.median(area_error(above, frames, slice(0, 6), level_taken=False)) < 0.7 * spread


def test_a_steep_bolus_does_not_make_the_spline_negative() -> None:
    def bolus(minutes: np.ndarray) -> np.ndarray:
        late = np.maximum(minutes - 0.7, 0)
        return 6 * (late / 0.12) ** 2 * np.exp(2 * (1 - late / 0.12)) + 0.8 * (1 - np.exp(-late / 0.1))

    frames = Frames.instants(np.arange(0, 420, 8.0), "s")
    fine = np.arange(0, 7, 1 / 600)
    clean = ExtendedTofts(InputFunction(fine, bolus(fine), "mmol/L"), frames).curves(np.array([[0.2], [0.3], [0.05]]))
    samples = InputFunction(frames.mid_min, bolus(frames.mid_min), "mmol/L")
    smooth = samples.smoothed()
    assert smooth.plasma.min() >= 0
    assert fit(ExtendedTofts(smooth, frames), clean).values["Ktrans"][0] == pytest.approx(0.2, rel=0.1)


def test_errors_of_a_patlak_line_cover_the_truth() -> None:
    source, frames = pet_input(), pet_frames()
    rng = np.random.default_rng(12)
    clean = 0.02 * source.integral_on_frames(frames) + 0.4 * source.on_frames(frames)
    noise = 0.05 * clean.mean() / np.sqrt(frames.duration_min)[:, None] * rng.standard_normal((frames.count, 4000))
    result = patlak(clean[:, None] + noise, source, frames, 40.0)
    deviation = np.abs(result.values["Ki"] - 0.02) / result.errors["Ki"]
    assert np.mean(deviation < 1) == pytest.approx(2 * stats.t.cdf(1, result.freedom) - 1, abs=0.025)
    assert np.mean(deviation < 1.96) == pytest.approx(2 * stats.t.cdf(1.96, result.freedom) - 1, abs=0.02)


def test_a_table_that_begins_after_the_bolus_is_refused(tmp_path: Path) -> None:
    source = pet_input()
    late = source.time_min >= 1.0
    table = tmp_path / "late.csv"
    write_input_csv(table, InputFunction(source.time_min[late], source.plasma[late], "g/ml"))
    given = {"input_source": "csv", "input_csv": str(table), "input_csv_time_unit": "min"}
    series = time_series(np.ones((pet_frames().count, 300)), pet_frames())
    with pytest.raises(InputError, match=r"begins at 1 min with \d+% of its peak"):
        PET.compute({"pet": series}, regions(), PET.make_params({**given, "input_csv_unit": "g/ml"}))
    frames = Frames.instants(np.arange(0, 300, 5.0), "s")
    rise = np.clip(frames.mid_min - 0.5, 0, 1)[:, None] * np.ones(300)
    dce = time_series(rise, frames, quantity="Gd", unit="mmol/L")
    with pytest.raises(InputError, match="begins at 1 min"):
        DCE.compute({"dce": dce}, regions("vein"), DCE.make_params({**given, "input_csv_unit": "mmol/L"}))
