"""dwi_adc: the textbook pair of b-values, non-linear fit, errors, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.methods.dwi_adc import METHOD
from kinetic_samples import parameter_series, regions, truth_grid, tumour_mask

pytest.importorskip("torch")
INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(ADC=(0.5e-3, 2.5e-3))
B = np.array([0.0, 50.0, 200.0, 400.0, 600.0, 800.0])


def series_of(b=B, noise=0.0, perfusion=0.0):
    signal = 1000 * ((1 - perfusion) * np.exp(-b[:, None] * TRUTH["ADC"]) + perfusion * np.exp(-b[:, None] * 0.05))
    rng = np.random.default_rng(3)
    return parameter_series(b, signal + noise * rng.standard_normal(signal.shape), "b-value")


def test_validation_row_pair_of_b_values():
    """S0 1000, S800 382.893: ADC 1.2e-3 mm2/s."""
    frames = np.broadcast_to(np.array([1000.0, 382.893])[:, None], (2, 300))
    found = METHOD.compute({"dwi": parameter_series([0, 800], frames, "b-value")}, regions("vein"),
                           METHOD.make_params({}))  # fmt: skip
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], 1.2e-3, rtol=1e-5)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("ADC", "mm2/s", "<")
    assert np.isnan(found.threshold)


@pytest.mark.parametrize("fit", ["log_linear", "nonlinear"])
def test_perfusion_below_the_limit_does_not_enter(fit):
    found = METHOD.compute({"dwi": series_of(perfusion=0.1)}, regions("vein"), METHOD.make_params({"fit": fit}))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], TRUTH["ADC"][INSIDE], rtol=2e-3)


def test_standard_errors_cover_the_truth():
    b = np.linspace(200, 900, 12)
    found = METHOD.compute({"dwi": series_of(b, noise=5.0)}, regions("vein"), METHOD.make_params({"fit": "nonlinear"}))
    off = np.abs(found.volume.array.ravel() - TRUTH["ADC"])[INSIDE] / found.uncertainty.array.ravel()[INSIDE]
    assert 0.6 < (off < 1).mean() < 0.76


def test_impossible_b_values_are_refused():
    with pytest.raises(RequestError, match="No b-value reaches"):
        METHOD.compute({"dwi": series_of(np.array([0.0, 50.0, 100.0]))}, regions("vein"), METHOD.make_params({}))
    with pytest.raises(RequestError, match="non-linear fit needs 3"):
        METHOD.compute({"dwi": series_of(np.array([0.0, 400.0, 800.0]))}, regions("vein"),
                       METHOD.make_params({"fit": "nonlinear"}))  # fmt: skip


def test_zero_signal_is_coded():
    series = series_of()
    frames = series.frames.copy()
    frames[4, 1, 2, 5] = 0
    found = METHOD.compute({"dwi": series.with_frames(frames, "hole")}, regions("vein"), METHOD.make_params({}))
    assert np.isnan(found.volume.array[1, 2, 5])
    assert found.quality[1, 2, 5] == 5
