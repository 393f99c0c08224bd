"""oe_mri: a digital object with known classes, from signal and from T1 maps, with and without DCE."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.kinetics.dce_signal import spgr_signal
from HypoxiaMapperLib.kinetics.oxygen_mri import OxygenClass
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods._voxelwise import VOXEL
from HypoxiaMapperLib.methods.oe_mri import METHOD
from kinetic_samples import SHAPE, region, regions, time_series, tumour_mask, volume

INSIDE = tumour_mask().ravel()
FRAMES = Frames.instants(np.arange(0, 900, 15.0), "s")
DCE_FRAMES = Frames.instants(np.arange(0, 150, 3.0), "s")
T1_S, TR_S, FLIP, R1 = 1.35, 0.005, 15.0, 4.5
SEQUENCE = {"repetition_time_ms": 5.0, "flip_angle_deg": FLIP}
PHASES = {"air_end_s": 290.0, "oxygen_start_s": 400.0, "t10_s": T1_S}
RISE = 1 / 1.30 - 1 / 1.35  # VALIDATION row 23: +0.02849 per second


def classes() -> np.ndarray:
    """By column: enhancing, refractory, not perfused."""
    out = np.full(SHAPE, int(OxygenClass.PERFUSED_ENHANCING))
    out[..., 5:8] = OxygenClass.PERFUSED_REFRACTORY
    out[..., 8:] = OxygenClass.NOT_PERFUSED
    return out


def t1_series(noise_r1=0.0):
    """T1 maps in s; enhancing voxels fall to 1.30 s under oxygen."""
    rng = np.random.default_rng(8)
    oxygen = FRAMES.mid_min * 60 > 350
    rise = RISE * (classes().ravel() == OxygenClass.PERFUSED_ENHANCING)
    rate = 1 / T1_S + oxygen[:, None] * rise + noise_r1 * rng.standard_normal((FRAMES.count, rise.size))
    return time_series(1 / rate, FRAMES, quantity="T1", unit="s", facts={})


def signal_series(noise=0.0):
    t1 = t1_series(0.0).frames.reshape(FRAMES.count, -1).astype(float)
    rng = np.random.default_rng(9)
    signal = spgr_signal(t1, 10000.0, TR_S, FLIP)
    return time_series(signal + noise * rng.standard_normal(signal.shape), FRAMES, quantity="MR signal (OE)",
                       unit="[arb'U]", facts=SEQUENCE)  # fmt: skip


def dce_series():
    """Contrast arrives after 30 s in perfused voxels only."""
    rng = np.random.default_rng(10)
    t = DCE_FRAMES.mid_min[:, None] * 60
    rise = np.clip((t - 30) / 15, 0, 1) * 0.5 * (classes().ravel() != OxygenClass.NOT_PERFUSED)
    signal = spgr_signal(1 / (1 / T1_S + R1 * rise), 10000.0, TR_S, FLIP) + rng.standard_normal(rise.shape)
    return time_series(signal, DCE_FRAMES, quantity="MR signal (DCE)", unit="[arb'U]", facts=SEQUENCE)


def test_classes_with_dce():
    found = METHOD.compute({"oe": signal_series(1.0), "dce": dce_series()}, regions("vein"), METHOD.make_params(PHASES))
    got = found.extra["oxygen_class"].array[tumour_mask()]
    truth = classes()[tumour_mask()]
    assert (got == truth).mean() > 0.95
    np.testing.assert_array_equal(got[truth == OxygenClass.NOT_PERFUSED], OxygenClass.NOT_PERFUSED)
    hypoxic = found.volume.array[tumour_mask()]
    assert ((hypoxic == 1) == (got == OxygenClass.PERFUSED_REFRACTORY)).all()
    assert (found.threshold, found.comparison) == (0.5, ">")
    assert "pOxy-R" in found.threshold_source
    assert found.volume.quantity == "Perfused Oxy-R"
    fractions = found.details["class_fractions_of_gtv"]
    assert fractions["perfused_refractory"] == pytest.approx(3 / 8, abs=0.04)
    assert fractions["not_perfused"] == pytest.approx(2 / 8, abs=1e-9)


def test_curve_of_the_tumour_and_of_any_voxel_with_its_levels():
    series, place = signal_series(1.0), (2, 3, 3)
    mask = np.zeros(SHAPE, bool)
    mask[place] = True
    whole = METHOD.compute({"oe": series}, regions("vein"), METHOD.make_params(PHASES))
    parts = {**regions("vein"), VOXEL: region("voxel", mask)}
    single = METHOD.compute({"oe": series}, parts, METHOD.make_params(PHASES))
    assert [c.name for c in (*whole.curves, *single.curves)] == ["GTVp", "voxel"]
    assert single.extra["delta_r1"].array[place] == pytest.approx(whole.extra["delta_r1"].array[place], rel=1e-6)
    (curve,) = single.curves
    seconds, fitted, measured = np.array(curve.x) * 60, np.array(curve.fitted), np.array(curve.measured)
    air, oxygen = seconds <= 290, seconds >= 400
    np.testing.assert_allclose(fitted[oxygen], single.extra["delta_r1"].array[place], rtol=1e-5)
    np.testing.assert_allclose(fitted[air], measured[air].mean())
    assert (measured - fitted)[oxygen].std() > 0
    np.testing.assert_array_equal(fitted[~air & ~oxygen], measured[~air & ~oxygen])


def test_delta_r1_from_t1_maps_and_from_signal():
    params = METHOD.make_params({**PHASES, "main_map": "delta_r1"})
    for series in (t1_series(1e-5), signal_series(0.01)):
        found = METHOD.compute({"oe": series}, regions("vein"), params)
        values = found.volume.array
        np.testing.assert_allclose(values[..., 2:5], 0.02849, atol=1e-4)
        np.testing.assert_allclose(values[..., 5:], 0, atol=1e-4)
        assert (found.volume.unit, found.comparison) == ("/s", "<")
        assert np.isnan(found.threshold)
        assert "perfused and non-perfused (necrotic) tissue cannot be told apart" in " ".join(found.warnings)


def test_t1_maps_in_milliseconds_or_without_a_value_are_refused():
    params, series = METHOD.make_params({**PHASES, "main_map": "delta_r1"}), t1_series(1e-5)
    for factor, words in ((1000, "map is in ms"), (0, "zero or negative")):
        with pytest.raises(InputError, match=words):
            METHOD.compute({"oe": series.with_frames(series.frames * factor, "scaled")}, regions("vein"), params)


@pytest.mark.parametrize("test", ["welch", "student", "mann-whitney"])
def test_false_positives_match_the_significance(test):
    flat = t1_series(0.02)
    frames = 1 / (1 / T1_S + 0.02 * np.random.default_rng(1).standard_normal(flat.frames.shape))
    params = METHOD.make_params({**PHASES, "test": test})
    found = METHOD.compute({"oe": flat.with_frames(frames.astype(np.float32), "noise")}, regions("vein"), params)
    share = found.details["class_fractions_of_gtv"]["oxygen_enhancing"]
    assert 0.01 < share < 0.10
    assert found.volume.quantity == "Oxy-R (perfusion unknown)"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"air_end_s": 0.0}, RequestError, "Give air_end_s"),
        ({"oxygen_start_s": 100.0}, RequestError, "oxygen after air"),
        ({"oxygen_start_s": 880.0}, RequestError, "two frames or more"),
        ({"t10_s": 0.0}, RequestError, "T1 before contrast is not given"),
        ({"t10_source": "map"}, InputError, "zero or negative"),
    ],
)
def test_what_is_missing_is_asked_for(changes, kind, words):
    inputs = {"oe": signal_series(), "t1": volume(np.zeros(SHAPE), "T1", "s")}
    with pytest.raises(kind) as error:
        METHOD.compute(inputs, regions("vein"), METHOD.make_params({**PHASES, **changes}))
    assert words in str(error.value)
