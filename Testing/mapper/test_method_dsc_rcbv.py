"""dsc_rcbv: blood volumes with and without leakage, scales, what is asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods._voxelwise import VOXEL
from HypoxiaMapperLib.methods.dsc_rcbv import METHOD
from kinetic_samples import SHAPE, region, time_series, tumour_mask

FRAMES = Frames.instants(np.arange(0, 120, 1.5), "s")
ECHO_S = 0.03
TUMOUR = tumour_mask()
VOLUME = np.broadcast_to(np.linspace(0.5, 4.0, SHAPE[2]), SHAPE).copy()
VOLUME[..., 0], VOLUME[..., 1] = 1.0, 0.8  # normal brain; white matter
LEAK_PER_MIN = 2.0


def parts():
    brain, white = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[..., 0], white[..., 1] = True, True
    return {"gtv": region("GTV", TUMOUR), "normal_brain": region("Brain", brain), "white_matter": region("WM", white)}


def series_of(leak=0.0):
    """delta R2* = V A(t) - K2 int A, with a gamma-shaped bolus after 20 s."""
    t = np.clip(FRAMES.mid_min * 60 - 20, 0, None)
    bolus = 15 * (t / 6) ** 3 * np.exp(3 - 3 * t / 6)
    running = np.concatenate([[0], np.cumsum(np.diff(FRAMES.mid_min) * (bolus[1:] + bolus[:-1]) / 2)])
    k2 = leak * TUMOUR.ravel()
    change = VOLUME.ravel() * bolus[:, None] - k2 * running[:, None]
    return time_series(1000 * np.exp(-ECHO_S * change), FRAMES, quantity="MR signal (DSC)", unit="[arb'U]",
                       facts={"echo_time_ms": 1000 * ECHO_S})  # fmt: skip


def test_normalised_volume_without_leakage():
    found = METHOD.compute({"dsc": series_of()}, parts(), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array[TUMOUR], (VOLUME / 0.8)[TUMOUR], rtol=2e-3)
    assert found.volume.quantity == "normalised rCBV, leakage corrected"
    assert found.volume.unit == "{ratio}"
    assert np.isnan(found.threshold)


def test_leakage_is_found_and_corrected():
    series = series_of(LEAK_PER_MIN)
    found = METHOD.compute({"dsc": series}, parts(), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array[TUMOUR], (VOLUME / 0.8)[TUMOUR], rtol=5e-3)
    np.testing.assert_allclose(found.extra["K2"].array[TUMOUR], LEAK_PER_MIN, rtol=0.01)
    plain = METHOD.compute({"dsc": series}, parts(), METHOD.make_params({"leakage": "uncorrected"}))
    assert (plain.volume.array[TUMOUR] < 0.9 * found.volume.array[TUMOUR]).all()
    assert plain.volume.quantity == "normalised rCBV, no leakage correction"


def test_curve_of_the_tumour_and_of_any_voxel_with_its_fit():
    series, place = series_of(LEAK_PER_MIN), (2, 3, 7)
    noise = np.random.default_rng(3).standard_normal(series.frames.shape)
    series = replace(series, frames=(series.frames + 5 * noise).astype(np.float32))
    mask = np.zeros(SHAPE, bool)
    mask[place] = True
    whole = METHOD.compute({"dsc": series}, parts(), METHOD.make_params({}))
    single = METHOD.compute({"dsc": series}, {**parts(), VOXEL: region("voxel", mask)}, METHOD.make_params({}))
    assert [c.name for c in (*whole.curves, *single.curves)] == ["GTV", "voxel"]
    assert single.volume.array[place] == pytest.approx(whole.volume.array[place], rel=1e-6)
    (curve,) = single.curves
    signal = series.frames[(slice(None), *place)]
    baseline = whole.details["baseline_frames"]
    np.testing.assert_allclose(curve.measured, -np.log(signal / signal[:baseline].mean()) / ECHO_S, atol=1e-3)
    t = np.clip(FRAMES.mid_min * 60 - 20, 0, None)
    bolus = 15 * (t / 6) ** 3 * np.exp(3 - 3 * t / 6)
    running = np.concatenate([[0], np.cumsum(np.diff(FRAMES.mid_min) * (bolus[1:] + bolus[:-1]) / 2)])
    truth = VOLUME[place] * bolus - LEAK_PER_MIN * running
    residual = np.subtract(curve.measured, curve.fitted)
    assert np.abs(curve.fitted - truth).max() < 0.05 * truth.max()
    assert 0.5 < residual[:baseline].std() / residual[baseline:].std() < 2  # noise only, before and after the bolus


def test_relative_and_standardised_are_labelled(tmp_path):
    relative = METHOD.compute({"dsc": series_of()}, parts(), METHOD.make_params({"scale": "relative"}))
    assert (relative.volume.quantity, relative.volume.unit) == ("relative rCBV, leakage corrected", "min/s")
    high = float(np.nanmax(relative.volume.array)) * 1.1
    path = tmp_path / "marks.json"
    path.write_text(json.dumps({"from": [0, high], "to": [0, 100]}))
    found = METHOD.compute({"dsc": series_of()}, parts(),
                           METHOD.make_params({"scale": "standardised", "landmarks": str(path)}))  # fmt: skip
    np.testing.assert_allclose(found.volume.array[TUMOUR], relative.volume.array[TUMOUR] * 100 / high, rtol=1e-5)
    assert found.volume.quantity.startswith("standardised rCBV")


def test_what_is_missing_is_asked_for():
    regions = parts()
    with pytest.raises(RequestError, match="needs landmarks"):
        METHOD.compute({"dsc": series_of()}, regions, METHOD.make_params({"scale": "standardised"}))
    with pytest.raises(RequestError, match="needs the region white_matter"):
        METHOD.compute({"dsc": series_of()}, {k: v for k, v in regions.items() if k != "white_matter"},
                       METHOD.make_params({}))  # fmt: skip
    unknown = time_series(np.ones((FRAMES.count, 300)), FRAMES, quantity="MR", unit="[arb'U]", facts={})
    with pytest.raises(RequestError, match="echo time of the DSC series is unknown"):
        METHOD.compute({"dsc": unknown}, regions, METHOD.make_params({}))
    with pytest.raises(HypoxiaError, match="frames before arrival cannot be found"):
        METHOD.compute({"dsc": unknown}, regions, METHOD.make_params({"echo_time_ms": 30.0}))
