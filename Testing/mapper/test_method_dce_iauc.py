"""dce_iauc: area after arrival, its error, arrival time."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods.dce_iauc import METHOD
from kinetic_samples import regions, time_series, truth_grid, tumour_mask

INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(height=(0.2, 2.0), arrival=(30.0, 50.0))
FRAMES = Frames.instants(np.arange(0, 180, 1.0), "s")


def ramp_series(noise=0.0):
    """Concentration that rises linearly to its height in 10 s after arrival and stays: area = height * 55 s."""
    t = FRAMES.mid_min[:, None] * 60
    curves = TRUTH["height"] * np.clip((t - TRUTH["arrival"]) / 10, 0, 1)
    rng = np.random.default_rng(4)
    return time_series(curves + noise * rng.standard_normal(curves.shape), FRAMES, quantity="Gd", unit="mmol/L")


def test_area_of_a_ramp_and_its_arrival():
    found = METHOD.compute({"dce": ramp_series()}, regions("vein"), METHOD.make_params({"baseline_frames": 20}))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], 55 * TRUTH["height"][INSIDE], rtol=0.02)
    np.testing.assert_allclose(found.extra["arrival"].array.ravel()[INSIDE], TRUTH["arrival"][INSIDE], atol=1.0)
    assert (found.volume.quantity, found.volume.unit) == ("IAUC60", "mmol.s/L")
    assert np.isnan(found.threshold)


def test_error_from_the_baseline_noise():
    found = METHOD.compute({"dce": ramp_series(0.01)}, regions("vein"), METHOD.make_params({"baseline_frames": 25}))
    error = found.uncertainty.array.ravel()[INSIDE]
    np.testing.assert_allclose(np.nanmedian(error), 0.01 * np.sqrt(60), rtol=0.1)


def test_baseline_is_found():
    found = METHOD.compute({"dce": ramp_series()}, regions("vein"), METHOD.make_params({}))
    assert 28 <= found.details["baseline_frames"] <= 36  # the mean curve rises from the first arrival at 30 s on


def test_a_series_that_ends_before_the_window_is_refused():
    params = METHOD.make_params({"seconds": 170.0, "baseline_frames": 20})
    with pytest.raises(InputError, match="No voxel has 170 s of data after arrival"):
        METHOD.compute({"dce": ramp_series()}, regions("vein"), params)
