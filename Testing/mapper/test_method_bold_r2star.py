"""bold_r2star: R2* with and without a noise floor."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.fitting import FitCode
from HypoxiaMapperLib.methods.bold_r2star import METHOD
from kinetic_samples import parameter_series, regions, truth_grid, tumour_mask, volume

pytest.importorskip("torch")
INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(R2star=(10.0, 60.0))
ECHOES_MS = np.arange(4.0, 61.0, 7.0)


def series_of(noise=0.0, echoes_ms=ECHOES_MS):
    clean = 1000 * np.exp(-echoes_ms[:, None] / 1000 * TRUTH["R2star"])
    clean[:, ~INSIDE] = 0
    rng = np.random.default_rng(11)
    magnitude = np.hypot(clean + noise * rng.standard_normal(clean.shape), noise * rng.standard_normal(clean.shape))
    return parameter_series(echoes_ms, magnitude, "echo time")


@pytest.mark.parametrize("fit", ["nonlinear", "log_linear"])
def test_exact_decay(fit):
    found = METHOD.compute({"echoes": series_of()}, regions("background"), METHOD.make_params({"fit": fit}))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], TRUTH["R2star"][INSIDE], rtol=1e-3)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("R2*", "/s", ">")
    assert np.isnan(found.threshold)


def test_validation_row_two_echoes():
    """TE 5 and 25 ms with signal 100 and 80: 11.157 per second."""
    frames = np.broadcast_to(np.array([100.0, 80.0])[:, None], (2, 300))
    series = parameter_series([5.0, 25.0], frames, "echo time")
    found = METHOD.compute({"echoes": series}, regions("vein"), METHOD.make_params({"fit": "log_linear"}))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], 11.157, atol=1e-3)
    assert found.uncertainty is None


def test_two_echoes_give_the_rate_without_an_error():
    series = series_of(echoes_ms=np.array([5.0, 25.0]))
    found = METHOD.compute({"echoes": series}, regions("background"), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], TRUTH["R2star"][INSIDE], rtol=1e-3)
    assert (found.quality.ravel()[INSIDE] == 0).all()
    assert found.uncertainty is None


def test_a_decay_faster_than_the_echoes_is_not_called_determined():
    echoes_s, rng = np.array([0.002, 0.04, 0.08]), np.random.default_rng(2)
    clean = 1000 * np.exp(-echoes_s[:, None] * 200) * np.ones(300)
    noisy = np.hypot(clean + 50 * rng.standard_normal(clean.shape), 50 * rng.standard_normal(clean.shape))
    series = parameter_series(1000 * echoes_s, noisy, "echo time")
    found = METHOD.compute({"echoes": series}, regions("vein"), METHOD.make_params({"noise_sd": 50.0}))
    assert (found.quality.ravel()[INSIDE] == FitCode.OK).mean() < 0.05
    assert any("do not determine" in w for w in found.warnings)
    assert any("rest on 1 value" in w and "50 % of them cover the truth once" in w for w in found.warnings)
    line = METHOD.compute({"echoes": series}, regions("vein"), METHOD.make_params({"fit": "log_linear"}))
    assert any("late echoes that lie in it bias R2* low" in w for w in line.warnings)


def test_noise_floor_from_the_background_removes_the_bias():
    series = series_of(noise=60.0)
    floor = METHOD.compute({"echoes": series}, regions("background"), METHOD.make_params({}))
    assert floor.details["noise_sd"] == pytest.approx(60, rel=0.05)
    line = METHOD.compute({"echoes": series}, regions("vein"), METHOD.make_params({"fit": "log_linear"}))
    truth = TRUTH["R2star"][INSIDE]
    biases = [np.nanmean(f.volume.array.ravel()[INSIDE] - truth) for f in (floor, line)]
    assert abs(biases[0]) < 2 < abs(biases[1])


def test_bad_input_is_refused():
    with pytest.raises(RequestError, match="must be a series of echo time values; it is Volume"):
        METHOD.compute({"echoes": volume(np.ones(1), "R2*", "/s")}, regions("vein"), METHOD.make_params({}))
    for level in (0.0, -50.0):
        dark = parameter_series(ECHOES_MS, np.full((len(ECHOES_MS), 300), level), "echo time")
        for fit in ("log_linear", "nonlinear"):
            with pytest.raises(HypoxiaError, match=f"mean signal of the GTV is {level:.3g} at the first echo"):
                METHOD.compute({"echoes": dark}, regions("vein"), METHOD.make_params({"fit": fit}))
