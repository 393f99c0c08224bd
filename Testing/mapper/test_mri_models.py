"""MRI signal models against analytic truth and OSIPI files; impossible input is refused with a reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.fitting import NO_VALUES, FitCode, Model, fit
from HypoxiaMapperLib.kinetics import csh, decay, dsc, model_po2, oxygen_mri
from HypoxiaMapperLib.kinetics.dce_signal import VariableFlipAngle, signal_to_concentration, spgr_signal
from HypoxiaMapperLib.kinetics.timing import Frames

Data = Callable[[str], Path]
RNG = np.random.default_rng(11)


def osipi_rows(path: Path) -> list[dict[str, str]]:
    """Rows of an OSIPI file."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def numbers(cell: str) -> np.ndarray:
    """A cell's curve."""
    return np.array(cell.split(), dtype=float)


def test_row_8_toma_dasu() -> None:
    found = model_po2.toma_dasu(np.array([1.4, 2, 5, 10.9, 12.0, 0.2, 0.1]))
    np.testing.assert_allclose(found[:5], [19.79, 12.36, 3.07, 0, 0], atol=0.01)
    assert np.isnan(found[5:]).all()
    assert np.isnan(model_po2.toma_dasu(np.array([0.2001]))[0])  # 267,000 mmHg
    with pytest.raises(RequestError, match="must be positive"):
        model_po2.toma_dasu(np.ones(2), c_mmhg=0)


def test_bowen_is_an_empty_slot_and_says_so() -> None:
    with pytest.raises(RequestError, match="needs coefficients"):
        model_po2.bowen(np.ones(3), "sigmoid")
    with pytest.raises(RequestError, match="Valid maps: linear, polynomial, sigmoid"):
        model_po2.bowen(np.ones(3), "cubic")


def test_hypoxic_proportions() -> None:
    po2 = np.array([1.0, 3.0, 7.0, 20.0, np.nan, 0.0])
    assert model_po2.hypoxic_proportions(po2, np.array([1, 1, 1, 1, 1, 0])) == {2.5: 0.25, 5.0: 0.5, 10.0: 0.75}
    with pytest.raises(RequestError, match="no pO2 value"):
        model_po2.hypoxic_proportions(po2, np.zeros(6))


def test_row_21_spgr() -> None:
    found = spgr_signal(np.array([1.0]), 1.0, 0.005, np.array([15.0, 3.0]))
    np.testing.assert_allclose(found, [0.033191, 0.041099], atol=1e-6)


def test_row_22_adc_and_r2_star() -> None:
    signal = np.array([[1000.0], [382.893]])
    assert decay.adc_log_linear(signal, np.array([0, 800])).values["ADC"][0] == pytest.approx(1.2e-3, rel=1e-3)
    echoes = np.array([0.005, 0.025])
    found = decay.r2_star_log_linear(np.array([[100.0], [80.0]]), echoes)
    assert found.values["R2star"][0] == pytest.approx(11.157, rel=1e-3)


def test_row_23_delta_r1() -> None:
    assert oxygen_mri.delta_r1(np.array([1.30]), np.array([1.35]))[0] == pytest.approx(0.02849, abs=1e-5)


def test_osipi_signal_to_concentration(hypoxia_data: Data) -> None:
    for row in osipi_rows(hypoxia_data("osipi_dce/SI2Conc_data.csv")):
        signal, expected = numbers(row["s"]), numbers(row["conc"])
        # The first baseline point is excluded, as the file's authors do.
        found, code = signal_to_concentration(
            signal[:, None], float(row["T1base"]), tr_s=float(row["TR"]), flip_deg=float(row["FA"]),
            baseline=slice(1, int(row["numbaselinepts"])), r1_per_mmol_s=float(row["r1"]),
        )  # fmt: skip
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
        assert code[0] == FitCode.OK


def test_osipi_t1(hypoxia_data: Data) -> None:
    for row in osipi_rows(hypoxia_data("osipi_dce/t1_quiba_data.csv")):
        model = VariableFlipAngle(numbers(row["FA"]), float(numbers(row["TR"])[0]))
        found = fit(model, numbers(row["s"])[:, None])
        assert 1e-3 / found.values["T1"][0] == pytest.approx(float(row["R1"]), rel=0.05), row["label"]


def test_variable_flip_angle_uses_b1_and_concentration_inverts_the_signal() -> None:
    t1, b1 = RNG.uniform(0.3, 3, 500), RNG.uniform(0.8, 1.2, 500)
    angles = np.array([2.0, 5.0, 10.0, 15.0])
    signal = spgr_signal(t1, 1000.0, 0.005, angles[:, None] * b1)
    found = fit(VariableFlipAngle(angles, 0.005), signal, extra=(b1,))
    np.testing.assert_allclose(found.values["T1"], t1, rtol=1e-5)
    wrong = fit(VariableFlipAngle(angles, 0.005), signal)
    assert np.abs(wrong.values["T1"] / t1 - 1).max() > 0.2
    truth = RNG.uniform(0, 5, (20, 500))
    truth[:3] = 0
    series = spgr_signal(1 / (1 / t1 + 4.5 * truth), 1000.0, 0.005, 15.0 * b1)
    back, code = signal_to_concentration(series, t1, tr_s=0.005, flip_deg=15.0, baseline=slice(0, 3), b1=b1)
    np.testing.assert_allclose(back, truth, atol=1e-9)
    assert not code.any()


def test_negative_concentration_is_kept_and_impossible_signal_is_invalid() -> None:
    signal = np.full((10, 3), 100.0)
    signal[5, 0] = 90.0  # below baseline: noise
    signal[5, 1] = 1e6  # above M0 sin(a): impossible
    t10 = np.array([1.0, 1.0, 0.0])
    found, code = signal_to_concentration(signal, t10, tr_s=0.005, flip_deg=15.0, baseline=slice(0, 3))
    assert found[5, 0] < 0
    assert np.isnan(found[5, 1])
    assert np.isnan(found[:, 2]).all()
    assert code.tolist() == [FitCode.OK, FitCode.INVALID, FitCode.INVALID]


SIGNAL = np.full((5, 2), 100.0)
BAD_SEQUENCES = [
    ({"t10_s": np.zeros(2)}, "T1 is zero or negative"),
    ({"t10_s": np.full(2, 1434.0)}, "median T1 is 1434 s"),
    ({"tr_s": 5.0}, "Repetition time is 5"),
    ({"flip_deg": 0.26}, "not radians"),
    ({"baseline": slice(0, 0)}, "no baseline frame"),
    ({"r1_per_mmol_s": 0.0}, "Relaxivity"),
]


@pytest.mark.parametrize(("change", "words"), BAD_SEQUENCES)
def test_impossible_sequences_are_refused(change: dict, words: str) -> None:
    settings = {"t10_s": 1.0, "tr_s": 0.005, "flip_deg": 15.0, "baseline": slice(0, 2), **change}
    with pytest.raises(HypoxiaError) as caught:
        signal_to_concentration(SIGNAL, **settings)
    assert words in str(caught.value)
    assert caught.value.hint


def test_osipi_ivim(hypoxia_data: Data) -> None:
    cases = json.loads(hypoxia_data("osipi_ivim/generic.json").read_text())
    b = np.array(cases.pop("config")["bvalues"])
    truth = {key: np.array([case[key] for case in cases.values()]) for key in ("f", "D", "Dp")}
    data = np.array([case["data"] for case in cases.values()]).T
    full = fit(decay.Ivim(b), data)
    assert np.abs(full.values["D"] / truth["D"] - 1).max() < 0.1
    np.testing.assert_allclose(full.values["f"], truth["f"], atol=0.03)
    # Where D* is within a few times D, or f is small, it is hardly determined: the reported error must say so.
    deviation = np.abs(full.values["Dstar"] - truth["Dp"]) / full.errors["Dstar"]
    assert (deviation < 4).all()
    assert (deviation**2).mean() < 2.5
    well = full.errors["Dstar"] < 0.05 * truth["Dp"]
    assert well.sum() >= 7
    np.testing.assert_allclose(full.values["Dstar"][well], truth["Dp"][well], rtol=0.15)
    segmented = decay.ivim_segmented(data, b)
    fast = truth["Dp"] > 0.02  # the segmented fit needs perfusion to be gone at 200 s/mm2
    np.testing.assert_allclose(segmented.values["D"][fast], truth["D"][fast], rtol=0.12)
    np.testing.assert_allclose(segmented.values["f"][fast], truth["f"][fast], atol=0.05)


def test_adc_of_three_b_values_and_non_linear() -> None:
    b = np.array([0, 200, 500, 800.0])
    adc = RNG.uniform(4e-4, 3e-3, 300)
    signal = 800 * np.exp(-b[:, None] * adc)
    signal[0] *= 1.15  # perfusion shows at b = 0 and must not count
    np.testing.assert_allclose(decay.adc_log_linear(signal, b).values["ADC"], adc, rtol=1e-9)
    clean = 800 * np.exp(-b[:, None] * adc)
    result = fit(decay.MonoExponential(b, decay.ADC), clean)
    np.testing.assert_allclose(result.values["ADC"], adc, rtol=1e-5)
    with pytest.raises(RequestError, match="No b-value reaches"):
        decay.adc_log_linear(signal[:2], np.array([0.0, 100.0]))


def test_a_signal_that_rises_has_no_determined_decay() -> None:
    b = np.array([0, 200, 400, 800.0])
    signal = 1000 * np.exp(-b[:, None] * np.array([1e-3, -1e-4]))
    assert decay.adc_log_linear(signal, b).code.tolist() == [FitCode.OK, FitCode.UNDETERMINED]
    assert decay.adc_log_linear(signal[[0, 3]], b[[0, 3]]).code.tolist() == [FitCode.OK, FitCode.UNDETERMINED]
    assert decay.r2_star_log_linear(signal, b / 1000).code.tolist() == [FitCode.OK, FitCode.UNDETERMINED]


def test_noise_floor_takes_the_bias_out_of_r2_star() -> None:
    echoes, sigma, rate = np.arange(1, 13) * 0.005, 5.0, 120.0
    clean = 200 * np.exp(-echoes[:, None] * rate) * np.ones(4000)
    noisy = np.hypot(clean + sigma * RNG.standard_normal(clean.shape), sigma * RNG.standard_normal(clean.shape))
    floor = fit(decay.R2StarNoiseFloor(echoes, sigma), noisy)
    line = decay.r2_star_log_linear(noisy, echoes)
    assert np.median(floor.values["R2star"]) == pytest.approx(rate, rel=0.01)
    assert np.median(line.values["R2star"]) < 0.85 * rate
    with pytest.raises(RequestError, match="times are in ms"):
        decay.R2StarNoiseFloor(echoes * 1000, sigma)


def test_noise_floor_is_the_mean_of_the_rician_distribution() -> None:
    echoes = np.linspace(0, 0.2, 400)
    for sigma in (1.0, 30.0):
        model = decay.R2StarNoiseFloor(echoes, sigma)
        clean = 300 * np.exp(-40 * echoes)
        u = (clean / (2 * sigma)) ** 2
        exact = sigma * np.sqrt(np.pi / 2) * ((1 + 2 * u) * special.i0e(u) + 2 * u * special.i1e(u))
        np.testing.assert_allclose(model.curves(np.array([[300.0], [40.0]]))[:, 0], exact, atol=1e-3 * sigma)


def test_segmented_ivim_where_perfusion_leaves_only_noise_at_high_b() -> None:
    b = np.array([0, 10, 20, 30, 50, 75, 100, 150, 200, 400, 600, 800.0])
    noise = 2e-3 * np.random.default_rng(4).standard_normal((len(b), 200))
    result = decay.ivim_segmented(np.exp(-0.1 * b)[:, None] + noise, b)
    assert ((np.exp(-0.1 * b)[:, None] + noise)[b >= 200] < 0).any(axis=0).mean() > 0.5
    assert not np.isin(result.code, NO_VALUES).any()
    np.testing.assert_allclose(result.values["f"], 1.0, atol=0.02)
    np.testing.assert_allclose(result.values["Dstar"], 0.1, rtol=0.05)


def test_errors_of_segmented_ivim_cover_the_truth() -> None:
    b = np.array([0, 10, 20, 30, 50, 75, 100, 150, 200, 400, 600, 800.0])
    truth = {"f": 0.15, "D": 1e-3, "Dstar": 0.03}
    clean = 1000 * (0.85 * np.exp(-b * 1e-3) + 0.15 * np.exp(-b * 0.03))
    result = decay.ivim_segmented(clean[:, None] + 15 * RNG.standard_normal((len(b), 4000)), b)
    ok = result.code == FitCode.OK
    for name, expected in truth.items():
        deviation = np.abs(result.values[name] - expected)[ok] / result.errors[name][ok]
        assert 0.6 < np.mean(deviation < 1) < 0.75, name
        assert np.mean(deviation < 1.96) > 0.88, name


def test_segmented_ivim_names_a_diffusion_on_its_bound() -> None:
    b = np.array([0, 50, 200, 400, 800.0])
    result = decay.ivim_segmented(1000 * np.exp(-b * 0.008)[:, None] + RNG.standard_normal((len(b), 50)), b)
    assert (result.code[result.values["D"] >= 0.005] == FitCode.BOUND_HIT).all()
    assert (result.values["D"] >= 0.005).mean() > 0.9


def test_segmented_ivim_needs_high_b_values() -> None:
    with pytest.raises(RequestError, match="three b-values"):
        decay.ivim_segmented(np.ones((4, 2)), np.array([0, 10, 20, 400.0]))


@pytest.mark.parametrize("test", oxygen_mri.OXYGEN_TESTS)
def test_oxygen_test_has_its_level_and_its_power(test: str) -> None:
    change = 0.01 * RNG.standard_normal((40, 6000))
    change[20:, 3000:] += 0.02
    enhancing, p = oxygen_mri.oxygen_enhancing(change, np.arange(18), np.arange(22, 40), test)
    # The mean must be above zero too, so the level is at most 5 %.
    assert 0.03 < enhancing[:3000].mean() < 0.06
    assert enhancing[3000:].mean() > 0.99
    assert np.isfinite(p).all()


def test_too_few_frames_for_any_p_and_phases_without_noise() -> None:
    change = np.zeros((8, 2))
    change[4:, 1] = 0.01
    with pytest.raises(RequestError, match=r"no p of mann-whitney is below 0\.05"):
        oxygen_mri.oxygen_enhancing(change, np.arange(3), np.arange(4, 7), "mann-whitney")
    enhancing, p = oxygen_mri.oxygen_enhancing(change, np.arange(4), np.arange(4, 8))
    assert enhancing.tolist() == [False, True]
    assert p.tolist() == [1, 0]


def test_oxygen_classes_and_fractions() -> None:
    enhancing = np.array([True, False, True, False])
    perfused = oxygen_mri.perfused(np.array([50.0, 60.0, 1.0, np.nan]), np.full(4, 5.0), 12)
    assert perfused.tolist() == [True, True, False, False]
    classes = oxygen_mri.oxygen_classes(enhancing, perfused, np.array([True, True, True, False]))
    assert classes.tolist() == [1, 2, 3, 0]
    shares = oxygen_mri.class_fractions(classes, np.ones(4))
    assert shares["perfused_refractory"] == pytest.approx(1 / 3)
    with pytest.raises(RequestError, match="at least two frames"):
        oxygen_mri.oxygen_enhancing(np.zeros((4, 2)), np.arange(3), np.array([2, 3]))
    with pytest.raises(InputError, match="zero or negative"):
        oxygen_mri.delta_r1(np.zeros(3), np.ones(3))


def test_extraction_inverts_the_yablonskiy_equation() -> None:
    r2p = 4 / 3 * np.pi * 2.6752218744e8 * 0.264e-6 * 0.4 * 3.0 * 0.03 * 0.38
    found = oxygen_mri.oxygen_extraction(np.array([r2p, r2p]), np.array([0.03, 0.0]), 0.4, 3.0)
    assert found[0] == pytest.approx(0.38)
    assert np.isnan(found[1])
    assert oxygen_mri.oxygen_metabolism(np.array([50.0]), found[:1], 8.3)[0] == pytest.approx(50 * 0.38 * 8.3)
    with pytest.raises(RequestError, match="Hematocrit 40"):
        oxygen_mri.oxygen_extraction(np.ones(1), np.ones(1), 40, 3.0)


def test_leakage_correction_gives_back_the_leak_free_area() -> None:
    frames = Frames.instants(np.arange(0, 120, 1.0), "s")
    t = frames.mid_min
    bolus = np.where(t > 0.3, (t - 0.3) ** 2 * np.exp(-(t - 0.3) / 0.08), 0.0) * 2000
    volume, leak = np.array([1.0, 2.0, 1.5, 1.0]), np.array([0.0, 0.0, 0.5, -0.4])
    integral = np.concatenate([[0], np.cumsum(np.diff(t) * (bolus[1:] + bolus[:-1]) / 2)])
    change = bolus[:, None] * volume - integral[:, None] * leak
    signal = 100 * np.exp(-0.03 * change)
    measured = dsc.delta_r2_star(signal, 0.03, slice(0, 15))
    found = dsc.relative_blood_volume(measured, frames, np.array([1, 0, 0, 0]))
    np.testing.assert_allclose(found.corrected / found.corrected[0], volume, rtol=1e-6)
    assert abs(found.uncorrected[2] / found.uncorrected[0] - 1.5) > 0.1
    np.testing.assert_allclose(dsc.normalised(found.corrected, np.array([1, 0, 0, 0]))[1], 2.0, rtol=1e-6)
    np.testing.assert_allclose(dsc.standardised(np.array([1.0, 9.0]), [0, 2], [0, 100]), [50, np.nan])
    with pytest.raises(RequestError, match="in seconds"):
        dsc.delta_r2_star(signal, 30.0, slice(0, 15))
    with pytest.raises(RequestError, match="holds no voxel"):
        dsc.relative_blood_volume(measured, frames, np.zeros(4))


def test_cutting_line_comes_from_the_users_file(tmp_path: Path) -> None:
    path = tmp_path / "line.json"
    facts = {"consumption": "ADC", "consumption_unit": "mm2/s", "supply": "Ktrans", "supply_unit": "/min",
             "slope": -100, "intercept": 0.3, "provenance": "own cohort"}  # fmt: skip
    path.write_text(json.dumps(facts))
    line = csh.CuttingLine.from_json(path)
    score = csh.hypoxia_score(np.array([1e-3, 1e-3]), "mm2/s", np.array([0.1, 0.3]), "/min", line)
    np.testing.assert_allclose(score, [0.1, -0.1])
    with pytest.raises(RequestError, match="ADC is in um2/ms"):
        csh.hypoxia_score(np.ones(2), "um2/ms", np.ones(2), "/min", line)
    del facts["slope"]
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="lacks slope"):
        csh.CuttingLine.from_json(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        csh.CuttingLine.from_json(path)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4, 1e9])
def test_the_unit_of_the_signal_changes_nothing(scale: float) -> None:
    """Scanners write signals from thousandths to tens of millions; a fit that stops early by that would say OK."""
    rng = np.random.default_rng(12)
    flips = np.array([3.0, 6.0, 10.0, 20.0, 30.0])
    b = np.array([0, 10, 20, 50, 100, 200, 400, 600, 800.0])
    echo = np.array([0.004, 0.009, 0.014, 0.025, 0.04])
    slow, fast = np.exp(-b[:, None] * 1e-3), np.exp(-b[:, None] * 0.03)
    cases: list[tuple[Model, np.ndarray, str]] = [
        (VariableFlipAngle(flips, 0.02), spgr_signal(1.4, 1.0, 0.02, flips)[:, None], "M0"),
        (decay.Ivim(b), 0.85 * slow + 0.15 * fast, "S0"),
        (decay.MonoExponential(b, decay.ADC), slow, "S0"),
        (decay.R2StarNoiseFloor(echo, 0.0), np.exp(-30 * echo)[:, None], "S0"),
    ]
    for model, clean, size in cases:
        data = clean * (1 + 0.03 * rng.standard_normal((len(clean), 50)))
        plain, scaled = fit(model, data), fit(model, scale * data)
        np.testing.assert_array_equal(scaled.code, plain.code)
        good = plain.code == FitCode.OK
        assert good.mean() > 0.5
        for name in plain.values:
            factor = scale if name == size else 1.0
            np.testing.assert_allclose(scaled.values[name][good] / factor, plain.values[name][good], rtol=2e-3,
                                       err_msg=f"{type(model).__name__} {name}")  # fmt: skip
