"""Tracer models of PET and DCE against analytic truth, OSIPI files and the PkModeling object."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.integrate import quad, solve_ivp

from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.fitting import choose_model, fit
from HypoxiaMapperLib.fitting.delay import fit_with_delay
from HypoxiaMapperLib.kinetics.convolution import convolve_exponential
from HypoxiaMapperLib.kinetics.dce_signal import signal_to_concentration
from HypoxiaMapperLib.kinetics.graphical import logan, patlak, patlak_dce
from HypoxiaMapperLib.kinetics.input_function import InputFunction
from HypoxiaMapperLib.kinetics.perfusion import (
    ExtendedTofts,
    PerfusionModel,
    Tofts,
    TwoCompartmentExchange,
    TwoCompartmentUptake,
)
from HypoxiaMapperLib.kinetics.populations import feng, feng_input, parker, parker_input
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.kinetics.tissue import OneTissue, TissueModel, TwoTissueIrreversible, TwoTissueReversible

Data = Callable[[str], Path]
FRAME_SECONDS = np.repeat([5, 10, 30, 60, 120, 300, 600], [6, 3, 4, 4, 3, 6, 4]).astype(float)
FRAME_STARTS = np.concatenate([[0.0], np.cumsum(FRAME_SECONDS)[:-1]])


def pet_frames() -> Frames:
    """Thirty frames over 83 minutes."""
    return Frames.from_start_duration(FRAME_STARTS, FRAME_SECONDS, "s")


def constant_input(end_min: float, unit: str = "kBq/ml") -> InputFunction:
    """Plasma and blood of 1 from time zero."""
    return InputFunction(np.array([0.0, end_min]), np.ones(2), unit)


def osipi_rows(path: Path) -> list[dict[str, str]]:
    """Rows of an OSIPI file, whose cells hold whole curves."""
    csv.field_size_limit(10**8)
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def numbers(cell: str) -> np.ndarray:
    """A cell's curve."""
    return np.array(cell.split(), dtype=float)


def test_row_17_two_tissue_at_constant_input() -> None:
    frames = Frames.instants(np.array([0.0, 60.0]), "min")
    curve = TwoTissueIrreversible(constant_input(60), frames).curves(np.array([[0.12], [0.15], [0.01], [0.0]]))
    assert curve[1, 0] == pytest.approx(1.15308, abs=1e-4)
    import torch

    irreversible = torch.tensor([[0.12], [0.15], [0.01], [0.0]], dtype=torch.float64)
    model = TwoTissueIrreversible(constant_input(60), frames)
    assert float(model.derived(irreversible)["Ki"]) == pytest.approx(0.0075, abs=1e-6)
    reversible = torch.tensor([[0.12], [0.15], [0.01], [0.005], [0.0]], dtype=torch.float64)
    assert float(TwoTissueReversible(constant_input(60), frames).derived(reversible)["VT"]) == pytest.approx(2.4, 1e-4)


def test_row_18_feng() -> None:
    t = np.linspace(0.2, 0.4, 20001)
    assert feng(t).max() == pytest.approx(103.44, rel=1e-3)
    assert t[feng(t).argmax()] == pytest.approx(0.2895, rel=1e-3)
    assert feng(np.array([60.0]))[0] == pytest.approx(11.145, rel=1e-3)


@pytest.mark.parametrize(("minute", "expected"), [(0.0, 0.080385), (0.165667, 6.030756), (1.076833, 0.875767)])
def test_row_19_parker(minute: float, expected: float) -> None:
    assert parker(np.array([minute]))[0] == pytest.approx(expected, abs=1e-4 + 0.01 * expected)


def test_row_20_tofts_at_constant_input() -> None:
    model = Tofts(constant_input(2, "mmol/L"), Frames.instants(np.array([0.0, 1.0, 2.0]), "min"))
    assert model.curves(np.array([[0.25], [0.4]]))[2, 0] == pytest.approx(0.28540, abs=1e-4)


def test_osipi_parker(hypoxia_data: Data) -> None:
    rows = osipi_rows(hypoxia_data("osipi_dce/ParkerAIF_ref.csv"))
    for row in rows:
        expected, delay_min = float(row["Cb"]), float(row["delay"]) / 60
        found = parker(np.array([float(row["time"]) - delay_min]))[0]
        assert found == pytest.approx(expected, abs=1e-4 + 0.01 * abs(expected)), row
    assert len(rows) > 1000


def test_convolution_is_exact() -> None:
    knots = np.array([0.0, 0.4, 1.0, 2.5, 6.0])
    values = np.array([0.0, 3.0, 1.0, 0.5, 0.2])
    theta = np.array([0.0, 1e-9, 1e-3, 0.3, 4.0, 80.0])
    response, integral = convolve_exponential(knots, values, theta)
    for g, rate in enumerate(theta):
        for k in range(1, len(knots)):
            truth = sum(
                quad(lambda u, t=knots[k], r=rate: np.interp(u, knots, values) * np.exp(-r * (t - u)), a, b)[0]
                for a, b in itertools.pairwise(knots[: k + 1])
            )
            assert response[g, k] == pytest.approx(truth, rel=1e-8)
    # d/dt of the convolution is c - theta E, so theta times the integral of E is the integral of c less E.
    total = np.concatenate([[0], np.cumsum(np.diff(knots) * (values[1:] + values[:-1]) / 2)])
    np.testing.assert_allclose(theta[3:, None] * integral[3:], total - response[3:], rtol=1e-9, atol=1e-12)


def test_reversible_model_is_the_average_of_the_differential_equation() -> None:
    frames, k = pet_frames(), (0.2, 0.3, 0.08, 0.02)
    source = feng_input(frames.end_min[-1])

    def rates(t: float, c: np.ndarray) -> list[float]:
        cp = np.interp(t, source.time_min, source.plasma)
        one = k[0] * cp - (k[1] + k[2]) * c[0] + k[3] * c[1]
        return [one, k[2] * c[0] - k[3] * c[1], c[0] + c[1], cp]

    edges = np.append(frames.start_min, frames.end_min[-1])
    solved = solve_ivp(rates, (0, edges[-1]), [0, 0, 0, 0], t_eval=edges, rtol=1e-9, atol=1e-9, max_step=0.02)
    tissue, blood = (np.diff(solved.y[i]) / frames.duration_min for i in (2, 3))
    curve = TwoTissueReversible(source, frames).curves(np.array([[*k, 0.05]]).T)[:, 0]
    np.testing.assert_allclose(curve, 0.95 * tissue + 0.05 * blood, rtol=2e-5)
    mid = np.interp(frames.mid_min[:4], edges, np.interp(edges, source.time_min, source.plasma)) * 0.05
    assert not np.allclose(curve[:4], mid, rtol=1e-2)


def test_exchange_model_is_the_differential_equation() -> None:
    frames = Frames.instants(np.arange(0, 300, 5.0), "s")
    source = parker_input(5.0, 0.3)
    fp, ps, vp, ve = 0.6, 0.2, 0.06, 0.25

    def rates(t: float, c: np.ndarray) -> list[float]:
        ca = np.interp(t, source.time_min, source.plasma, left=0.0)
        return [(fp * (ca - c[0]) + ps * (c[1] - c[0])) / vp, ps * (c[0] - c[1]) / ve]

    solved = solve_ivp(rates, (0, 5), [0, 0], t_eval=frames.start_min, rtol=1e-9, atol=1e-10, max_step=0.01)
    curve = TwoCompartmentExchange(source, frames).curves(np.array([[fp, ps, vp, ve]]).T)[:, 0]
    np.testing.assert_allclose(curve, vp * solved.y[0] + ve * solved.y[1], atol=2e-5 * curve.max())
    # Tissue so large that nothing comes back: the uptake model.
    uptake = TwoCompartmentUptake(source, frames).curves(np.array([[fp, ps, vp]]).T)[:, 0]
    endless = TwoCompartmentExchange(source, frames).curves(np.array([[fp, ps, vp, 1e5]]).T)[:, 0]
    np.testing.assert_allclose(uptake, endless, atol=1e-4 * curve.max())


PET_TRUTH = {
    OneTissue: [[0.1, 0.4], [0.05, 0.3], [0.02, 0.1]],
    TwoTissueIrreversible: [[0.05, 0.4], [0.1, 0.5], [0.005, 0.1], [0.01, 0.1]],
    TwoTissueReversible: [[0.05, 0.4], [0.1, 0.5], [0.02, 0.1], [0.005, 0.05], [0.01, 0.1]],
}
DCE_TRUTH = {
    Tofts: [[0.02, 1.0], [0.05, 0.8]],
    ExtendedTofts: [[0.02, 1.0], [0.05, 0.8], [0.005, 0.2]],
    TwoCompartmentExchange: [[0.2, 1.0], [0.02, 0.2], [0.02, 0.1], [0.1, 0.4]],
    TwoCompartmentUptake: [[0.2, 1.0], [0.02, 0.2], [0.02, 0.1]],
}


@pytest.mark.parametrize("kind", [*PET_TRUTH, *DCE_TRUTH], ids=lambda kind: kind.__name__)
def test_noise_free_parameters_come_back(kind: type[TissueModel] | type[PerfusionModel]) -> None:
    if kind in PET_TRUTH:
        model: TissueModel | PerfusionModel = kind(feng_input(pet_frames().end_min[-1]), pet_frames())
    else:
        model = kind(parker_input(6.0, 0.4), Frames.instants(np.arange(0, 360, 2.0), "s"))
    ranges = {**PET_TRUTH, **DCE_TRUTH}[kind]
    rng = np.random.default_rng(3)
    truth = np.stack([rng.uniform(low, high, 2000) for low, high in ranges])
    result = fit(model, model.curves(truth))
    assert result.count() == {"OK": 2000}
    for parameter, row in zip(model.parameters, truth, strict=True):
        found = result.values[parameter.name]
        np.testing.assert_allclose(found, row, rtol=2e-3, atol=1e-5, err_msg=parameter.name)
        assert np.median(np.abs(found / row - 1)) < 1e-5


def test_written_out_jacobians_are_the_automatic_ones() -> None:
    import torch

    from HypoxiaMapperLib.fitting.model import SeparableModel

    frames = pet_frames()
    for kind, ranges in (
        (TwoTissueReversible, PET_TRUTH[TwoTissueReversible]),
        (ExtendedTofts, DCE_TRUTH[ExtendedTofts]),
    ):
        model = kind(feng_input(frames.end_min[-1]), frames)
        rng = np.random.default_rng(1)
        p = torch.as_tensor(np.stack([rng.uniform(low, high, 500) for low, high in ranges]))
        rows, chain = model.mixture_with_jacobian(p)
        auto_rows, auto = SeparableModel.mixture_with_jacobian(model, p)
        torch.testing.assert_close(rows, auto_rows)
        torch.testing.assert_close(chain, auto, rtol=1e-5, atol=1e-8)


def test_patlak_and_logan() -> None:
    frames = pet_frames()
    source = feng_input(frames.end_min[-1])
    trapped = TwoTissueIrreversible(source, frames).curves(np.array([[0.1], [0.3], [0.05], [0.0]]))
    ki = patlak(trapped, source, frames, 30.0)
    assert ki.values["Ki"][0] == pytest.approx(0.1 * 0.05 / 0.35, rel=0.01)
    returning = OneTissue(source, frames).curves(np.array([[0.1], [0.2], [0.0]]))
    assert logan(returning, source, frames, 20.0).values["VT"][0] == pytest.approx(0.5, rel=0.01)
    paused = Frames(
        *(times[(frames.end_min <= 40) | (frames.start_min >= 60)] for times in (frames.start_min, frames.end_min))
    )
    with_pause = OneTissue(source, paused).curves(np.array([[0.1], [0.2], [0.0]]))
    assert logan(with_pause, source, paused, 20.0).values["VT"][0] == pytest.approx(0.5, rel=0.02)
    late = Frames(frames.start_min[frames.start_min >= 10], frames.end_min[frames.start_min >= 10])
    with pytest.raises(RequestError, match="whole curve"):
        logan(returning[frames.start_min >= 10], source, late, 20.0)
    with pytest.raises(RequestError, match="frames begin at or after"):
        patlak(trapped, source, frames, 80.0)


def test_model_choice_finds_the_simpler_and_the_richer_truth() -> None:
    frames = pet_frames()
    source = feng_input(frames.end_min[-1])
    models = {"1T": OneTissue(source, frames), "2T4k": TwoTissueReversible(source, frames)}
    rng = np.random.default_rng(5)
    one = models["1T"].curves(np.tile([[0.2], [0.1], [0.05]], 300))
    two = models["2T4k"].curves(np.tile([[0.2], [0.3], [0.08], [0.01], [0.05]], 300))
    data = np.concatenate([one, two], axis=1)
    data = data + 0.02 * data.max(axis=0) * rng.standard_normal(data.shape)
    choice, names = choose_model({name: fit(model, data) for name, model in models.items()}, "bic")
    assert names == ["1T", "2T4k"]
    assert (choice[:300] == 0).mean() > 0.95
    assert (choice[300:] == 1).mean() > 0.95
    with pytest.raises(RequestError, match="Valid criteria"):
        choose_model({}, "r2")


def test_osipi_tofts(hypoxia_data: Data) -> None:
    groups: dict[str, list[dict[str, str]]] = {}
    for row in osipi_rows(hypoxia_data("osipi_dce/dce_DRO_data_tofts.csv")):
        groups.setdefault(row["ca"], []).append(row)
    for cell, rows in groups.items():
        t, source = numbers(rows[0]["t"]), numbers(cell)
        # The noise of the object's input goes below zero further than a real baseline may.
        source = np.maximum(source, -0.049 * source.max())
        plasma = InputFunction.from_samples(t, source, time_unit="s", unit="mmol/L")
        data = np.stack([numbers(row["C"]) for row in rows], axis=1)
        result = fit(Tofts(plasma, Frames.instants(t, "s")), data)
        for k, row in enumerate(rows):
            ktrans, ve = float(row["Ktrans"]), float(row["ve"])
            assert result.values["Ktrans"][k] == pytest.approx(ktrans, abs=0.005 + 0.1 * ktrans), row["label"]
            assert result.values["ve"][k] == pytest.approx(ve, abs=0.05), row["label"]


def test_osipi_patlak(hypoxia_data: Data) -> None:
    for row in osipi_rows(hypoxia_data("osipi_dce/patlak_sd_0.02_delay_0.csv")):
        t, curve, source = (numbers(row[key]) for key in ("t", "C_t", "cp_aif"))
        plasma = InputFunction.from_samples(t, source, time_unit="s", unit="mmol/L")
        result = patlak_dce(curve[:, None], plasma, Frames.instants(t, "s"))
        ps = float(row["ps"])
        assert result.values["Ktrans"][0] == pytest.approx(ps, abs=0.005 + 0.1 * ps), row["label"]
        assert result.values["vp"][0] == pytest.approx(float(row["vp"]), abs=0.025), row["label"]


def test_pkmodeling_object_within_ten_percent(hypoxia_data: Data) -> None:
    image = sitk.ReadImage(str(hypoxia_data("pkmodeling_dro/DRO5min5secinf.nrrd")))
    series = np.moveaxis(sitk.GetArrayFromImage(image)[0], -1, 0)
    seconds = np.array(image.GetMetaData("MultiVolume.FrameLabels").split(","), dtype=float) / 1000
    frames = Frames.instants(seconds, "s")
    aif_signal, tissue = series[:, 0, 0], series[:, 1:, 1:]
    kwargs = {"tr_s": 0.005, "flip_deg": 15.0, "baseline": slice(0, 4), "r1_per_mmol_s": 3.7}
    blood, _ = signal_to_concentration(aif_signal[:, None], np.array([1.6]), **kwargs)
    concentration, code = signal_to_concentration(tissue, np.full(tissue.shape[1:], 1.434), **kwargs)
    assert not code.any()
    plasma = InputFunction(frames.start_min, blood[:, 0], "mmol/L").from_blood(0.45).smoothed()
    source = plasma.held_until(frames.end_min[-1] + 0.1)
    # Columns: Ktrans, and within each the three delays; rows: ve, and within each the four vp.
    ktrans = np.repeat([0.05, 0.1, 0.2, 0.3, 0.4], 3)[None]
    ve, vp = np.repeat([0.15, 0.25, 0.35], 4)[:, None], np.tile([0.0, 0.01, 0.02, 0.03], 3)[:, None]
    for column, late in enumerate((0.0, 2.0, 4.0)):
        known = fit(ExtendedTofts(source.delayed(late / 60), frames), concentration[:, :, column::3])
        assert np.abs(known.values["Ktrans"] / ktrans[:, column::3] - 1).max() < 0.1
        assert np.abs(known.values["ve"] / ve - 1).max() < 0.1
        error = np.abs(known.values["vp"] - vp)
        assert (error[vp[:, 0] > 0] / vp[vp[:, 0] > 0]).max() < 0.1
        assert error[vp[:, 0] == 0].max() < 0.005
    found = fit_with_delay(lambda d: ExtendedTofts(source.delayed(d), frames), (-1 / 60, 6 / 60), concentration)
    assert np.abs(found.values["Ktrans"] / ktrans - 1).max() < 0.1
    assert np.abs(found.values["ve"] / ve - 1).max() < 0.1
    # A bolus sampled every 5 s leaves the delay and a vp of 1 % open against each other.
    assert np.abs(found.values["vp"] - vp).max() < 0.005
    seconds_late = found.values["delay"].reshape(12, 5, 3).mean(axis=(0, 1)) * 60
    np.testing.assert_allclose(seconds_late, [0, 2, 4], atol=0.3)


BAD_FRAMES = [
    (lambda: Frames.from_start_duration(np.array([0, 50, 20]), np.array([10, 10, 10]), "s"), "overlaps"),
    (lambda: Frames.from_start_duration(np.array([0, 5]), np.array([10, 10]), "s"), "overlaps"),
    (lambda: Frames.from_start_duration(np.array([0, np.nan]), np.array([1, 1]), "s"), "no finite time"),
    (lambda: Frames.from_start_duration(np.array([0.0, 7200e3]), np.array([1, 1]), "s"), "ms, not s"),
    (lambda: Frames.from_start_duration(np.array([0, 10]), np.array([1, 1]), "seconds"), "Valid units"),
]


@pytest.mark.parametrize(("make", "words"), BAD_FRAMES)
def test_bad_frames_are_refused(make: Callable[[], Frames], words: str) -> None:
    with pytest.raises(HypoxiaError, match=words):
        make()


TIMES = np.array([0.0, 1.0, 2.0])
BAD_INPUTS = [
    ((TIMES, np.array([0.0, np.nan, 1.0]), "mmol/L"), "NaN"),
    ((TIMES, np.array([0.0, 1.0, -0.5]), "mmol/L"), "falls to -0.5"),
    ((TIMES, np.zeros(3), "mmol/L"), "nowhere positive"),
    ((TIMES[::-1], np.ones(3), "mmol/L"), "not later"),
    ((TIMES, np.ones(2), "mmol/L"), "samples|values"),
    ((TIMES, np.ones(3), ""), "no unit"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUTS)
def test_bad_input_functions_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(HypoxiaError, match=words):
        InputFunction(*arguments)


def test_input_must_cover_the_data_and_share_its_unit() -> None:
    short = InputFunction(np.array([0.0, 40.0]), np.ones(2), "kBq/ml")
    with pytest.raises(InputError, match=r"ends at 40 min, the data at 83"):
        TwoTissueReversible(short, pet_frames())
    with pytest.raises(RequestError, match="Bq/ml, the input function in kBq/ml"):
        short.require_unit("Bq/ml", "The series")
    with pytest.raises(RequestError, match="Hematocrit"):
        short.from_blood(1.0)
    assert short.from_blood(0.5).plasma[0] == 2.0
    with pytest.raises(InputError, match="time unit of the input function"):
        TwoTissueReversible(InputFunction(np.array([0.0, 5000.0]), np.ones(2), "kBq/ml"), pet_frames())


def test_input_csv(tmp_path: Path) -> None:
    path = tmp_path / "aif.csv"
    path.write_text("time, plasma, blood\n0, 0, 0\n60, 10, 6\n120, 5, 3\n")
    source = InputFunction.from_csv(path, time_unit="s", unit="kBq/ml")
    np.testing.assert_allclose(source.time_min, [0, 1, 2])
    assert source.blood is not None
    assert source.blood[1] == 6
    path.write_text("time,plasma\n0,0\n60,ten\n")
    with pytest.raises(InputError, match="line 3: plasma is 'ten'"):
        InputFunction.from_csv(path, time_unit="s", unit="kBq/ml")
    path.write_text("t,c\n0,0\n")
    with pytest.raises(InputError, match="columns c, t"):
        InputFunction.from_csv(path, time_unit="s", unit="kBq/ml")
    with pytest.raises(InputError, match="cannot be read"):
        InputFunction.from_csv(tmp_path / "none.csv", time_unit="s", unit="kBq/ml")


def test_dispersion_keeps_the_area_and_delays_the_mean() -> None:
    t = np.arange(0, 40, 0.01)
    source = InputFunction(t, np.exp(-((t - 3) ** 2) / 0.1), "kBq/ml")
    smeared = source.dispersed(0.5)
    assert smeared.plasma.sum() == pytest.approx(source.plasma.sum(), rel=1e-3)
    mean = (t * smeared.plasma).sum() / smeared.plasma.sum() - (t * source.plasma).sum() / source.plasma.sum()
    assert mean == pytest.approx(0.5, rel=1e-3)


def test_too_few_frames_for_the_model() -> None:
    frames = Frames.from_start_duration(np.arange(5) * 60.0, np.full(5, 60.0), "s")
    model = TwoTissueReversible(feng_input(5.0), frames)
    with pytest.raises(RequestError, match="5 frames cannot determine 5 parameters"):
        fit(model, np.ones((5, 3)))
