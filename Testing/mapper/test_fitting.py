"""The fitting engine: right answers, honest errors, codes, limits, and no difference between its ways of running."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.fitting import FitCode, FitOptions, FitResult, SeparableModel, delay, fit, fit_chunks
from HypoxiaMapperLib.fitting.compress import compress
from HypoxiaMapperLib.fitting.delay import fit_with_delay
from HypoxiaMapperLib.fitting.device import choose_backend
from HypoxiaMapperLib.fitting.linear import fit_linear
from HypoxiaMapperLib.fitting.model import Parameter
from HypoxiaMapperLib.kinetics.input_function import InputFunction
from HypoxiaMapperLib.kinetics.perfusion import ExtendedTofts, Tofts
from HypoxiaMapperLib.kinetics.populations import feng_input, parker_input
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.kinetics.tissue import TwoTissueIrreversible, TwoTissueReversible

DCE_FRAMES = Frames.instants(np.arange(60) * 5.0, "s")
PET_SECONDS = np.repeat([5, 10, 30, 60, 120, 300, 600], [6, 3, 4, 4, 3, 6, 4]).astype(float)
PET_FRAMES = Frames.from_start_duration(np.concatenate([[0.0], np.cumsum(PET_SECONDS)[:-1]]), PET_SECONDS, "s")


def tofts_case(n: int, noise: float, seed: int = 0) -> tuple[ExtendedTofts, np.ndarray, np.ndarray]:
    """Model, parameters (3, n) and noisy curves (60, n); noise relative to each curve's peak."""
    rng = np.random.default_rng(seed)
    model = ExtendedTofts(parker_input(5.0, 0.5), DCE_FRAMES)
    truth = np.stack([rng.uniform(0.05, 0.5, n), rng.uniform(0.1, 0.6, n), rng.uniform(0.01, 0.1, n)])
    clean = model.curves(truth)
    return model, truth, clean + noise * clean.max(axis=0) * rng.standard_normal(clean.shape)


@pytest.fixture(scope="module")
def tofts() -> tuple[ExtendedTofts, np.ndarray, np.ndarray]:
    """Three thousand noisy extended Tofts curves."""
    return tofts_case(3000, 0.03)


def test_the_minimum_is_that_of_an_independent_solver(tofts: tuple) -> None:
    model, truth, data = tofts
    result = fit(model, data[:, :25])
    low, high = model.limits()
    for voxel in range(25):
        peer = least_squares(
            lambda p, v=voxel: model.curves(p[:, None])[:, 0] - data[:, v], truth[:, voxel], bounds=(low, high),
            x_scale=[0.1, 0.1, 0.01], xtol=1e-12, ftol=1e-14, gtol=1e-14,
        )  # fmt: skip
        assert result.sum_of_squares[voxel] <= 2 * peer.cost * (1 + 1e-6)
        found = [result.values[q.name][voxel] for q in model.parameters]
        np.testing.assert_allclose(found, peer.x, rtol=2e-3, atol=1e-5)
        covariance = np.linalg.inv(peer.jac.T @ peer.jac) * 2 * peer.cost / 57
        errors = [result.errors[q.name][voxel] for q in model.parameters]
        np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=0.02)


def test_two_tissue_phantom_bias_and_coverage_of_the_errors() -> None:
    frames = PET_FRAMES
    model = TwoTissueReversible(feng_input(frames.end_min[-1]), frames)
    n = 6000
    truth = np.tile([[0.15], [0.25], [0.08], [0.015], [0.05]], n)
    clean = model.curves(truth)
    rng = np.random.default_rng(2)
    result = fit(model, clean + 0.01 * clean.max(axis=0) * rng.standard_normal(clean.shape))
    assert (result.code == FitCode.OK).mean() > 0.98
    expected = dict(zip(("K1", "k2", "k3", "k4", "vB"), truth[:, 0], strict=True))
    expected |= {"Ki": 0.15 * 0.08 / 0.33, "VT": 0.15 / 0.25 * (1 + 0.08 / 0.015)}
    for name, value in expected.items():
        found, error = result.values[name], result.errors[name]
        use = np.isfinite(error)
        deviation = (found[use] - value) / error[use]
        # VT is a quotient whose error grows with the value; a symmetric interval covers it less well.
        slack = 0.06 if name in ("VT", "k4") else 0.03
        assert abs(np.median(found) / value - 1) < 0.02, name
        assert np.mean(np.abs(deviation) < 1.0) == pytest.approx(0.68, abs=slack), name
        assert np.mean(np.abs(deviation) < 1.96) == pytest.approx(0.95, abs=slack), name


def test_extended_tofts_coverage(tofts: tuple) -> None:
    model, truth, data = tofts
    result = fit(model, data)
    for parameter, row in zip(model.parameters, truth, strict=True):
        deviation = (result.values[parameter.name] - row) / result.errors[parameter.name]
        assert np.nanmean(np.abs(deviation) < 1.0) == pytest.approx(0.68, abs=0.03), parameter.name
        assert np.nanmean(np.abs(deviation) < 1.96) == pytest.approx(0.95, abs=0.02), parameter.name


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU (torch.cuda.is_available() is false)")


@NO_GPU
def test_float64_on_the_gpu_is_that_of_the_cpu() -> None:
    for model, data in (tofts_case(3000, 0.02)[::2], two_tissue_case()):
        cpu, gpu = (fit(model, data, options=FitOptions(device=device)) for device in ("cpu", "cuda"))
        both = (cpu.code == FitCode.OK) & (gpu.code == FitCode.OK)
        assert both.mean() > 0.97
        for parameter in model.parameters:
            gap = np.abs(gpu.values[parameter.name] - cpu.values[parameter.name])[both]
            assert np.quantile(gap / cpu.errors[parameter.name][both], 0.99) < 0.01, parameter.name


def two_tissue_case() -> tuple[TwoTissueReversible, np.ndarray]:
    """Two thousand noisy reversible two-tissue curves."""
    rng = np.random.default_rng(4)
    model = TwoTissueReversible(feng_input(PET_FRAMES.end_min[-1]), PET_FRAMES)
    ranges = [[0.05, 0.4], [0.1, 0.5], [0.02, 0.1], [0.01, 0.05], [0.01, 0.1]]
    clean = model.curves(np.stack([rng.uniform(low, high, 2000) for low, high in ranges]))
    return model, clean + 0.01 * clean.max(axis=0) * rng.standard_normal(clean.shape)


def test_runs_repeat_exactly_and_chunks_do_not_matter(tofts: tuple) -> None:
    model, _, data = tofts
    first, again = fit(model, data), fit(model, data)
    small = fit(model, data, options=FitOptions(chunk_voxels=177))
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, again.values[name])
        np.testing.assert_allclose(small.values[name], values, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(first.code, small.code)


def test_codes() -> None:
    model, truth, data = tofts_case(8, 0.0)
    data[10, 1] = np.nan
    data[3, 2] = np.inf
    data[:, 3] = 0.0
    data[:, 4] = 7.0
    data[:, 5] = model.curves(np.array([[0.2], [0.3], [0.0]]))[:, 0]
    data[:, 5] -= 0.3 * model.fixed()[0] * 0.1  # wants a negative vp
    mask = np.ones(8, bool)
    mask[6] = False
    preset = np.zeros(8, np.uint8)
    preset[7] = FitCode.NO_ARRIVAL
    result = fit(model, data, mask=mask, preset=preset)
    expected = ["OK", "INVALID", "INVALID", "FLAT", "FLAT", "BOUND_HIT", "OUTSIDE", "NO_ARRIVAL"]
    assert [FitCode(c).name for c in result.code] == expected
    assert result.values["Ktrans"][0] == pytest.approx(truth[0, 0], rel=1e-5)
    assert result.values["vp"][5] == 0.0
    assert np.isnan(result.errors["vp"][5])
    assert np.isfinite(result.errors["Ktrans"][5])
    for code in (1, 2, 3, 4, 6, 7):
        assert np.isnan(result.values["Ktrans"][code])
        assert np.isnan(result.aic[code])
    stopped = fit(model, data[:, :1] + 0.01 * np.sin(np.arange(60))[:, None], options=FitOptions(max_iterations=1))
    assert FitCode(stopped.code[0]) is FitCode.NOT_CONVERGED
    assert result.count()["INVALID"] == 2


def test_spatial_shape_and_units() -> None:
    model, _, data = tofts_case(24, 0.01)
    result = fit(model, data.reshape(60, 2, 3, 4))
    assert result.values["kep"].shape == (2, 3, 4)
    assert result.units == {"Ktrans": "/min", "ve": "mL/mL", "vp": "mL/mL", "kep": "/min"}
    assert result.device == "cpu, float64"
    np.testing.assert_allclose(result.values["kep"], result.values["Ktrans"] / result.values["ve"])


def test_bounds_are_kept() -> None:
    tight, _, data = tofts_case(200, 0.05)
    tight.parameters = (Parameter("Ktrans", "/min", 0.1, 0.2), *tight.parameters[1:])
    found = fit(tight, data).values["Ktrans"]
    assert found.min() >= 0.1
    assert found.max() <= 0.2


def test_weights_decide_between_contradicting_frames() -> None:
    model, truth, data = tofts_case(50, 0.0)
    spoiled = data.copy()
    spoiled[40:] *= 2.0
    weights = np.ones(60)
    weights[40:] = 0.0
    result = fit(model, spoiled, weights=weights)
    np.testing.assert_allclose(result.values["Ktrans"], truth[0], rtol=0.01)
    assert np.abs(fit(model, spoiled).values["Ktrans"] / truth[0] - 1).max() > 0.1


def test_progress_and_cancel(tofts: tuple) -> None:
    model, _, data = tofts
    seen: list[float] = []
    fit(model, data, options=FitOptions(chunk_voxels=500), progress=lambda fraction, text: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) == 6

    class Cancelled(Exception):  # noqa: N818
        """What a front end raises."""

    def cancel(fraction: float, text: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        fit(model, data, options=FitOptions(chunk_voxels=100), progress=cancel)


def test_a_mapped_series_is_read_by_the_chunk(tmp_path: Path) -> None:
    model, _, data = tofts_case(400, 0.02)
    shape = (60, 40, 100, 100)
    series = np.memmap(tmp_path / "series.raw", np.float32, "w+", shape=shape)
    series[:] = np.tile(data.astype(np.float32), 1000).reshape(shape)
    series.flush()
    series = np.memmap(tmp_path / "series.raw", np.float32, "r", shape=shape)
    tracemalloc.start()
    chunks = fit_chunks(model, series, options=FitOptions(chunk_voxels=2000))
    first = next(chunks)
    chunks.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.values.shape == (4, 2000)
    assert (first.code == FitCode.OK).all()
    assert peak < series.nbytes / 2


DATA = np.ones((60, 4)) + np.arange(60)[:, None]
BAD_CALLS = [
    ({"data": DATA[:50]}, RequestError, "the model 60 frames"),
    ({"data": np.where(np.arange(60)[:, None] == 7, np.nan, DATA)}, InputError, "Frame 8 of 60 holds no finite"),
    ({"data": np.zeros((60, 4))}, InputError, "no voxel could be fitted"),
    ({"mask": np.ones(3)}, RequestError, "mask has shape"),
    ({"mask": np.zeros(4)}, InputError, "no finite value|no voxel"),
    ({"preset": np.zeros(5)}, RequestError, "preset codes has shape"),
    ({"weights": -np.ones(60)}, RequestError, "frame weights"),
    ({"weights": np.ones(4)}, RequestError, "frame weights"),
]


@pytest.mark.parametrize(("change", "kind", "words"), BAD_CALLS)
def test_bad_input_is_refused_with_a_hint(change: dict, kind: type[HypoxiaError], words: str) -> None:
    model = ExtendedTofts(parker_input(5.0), DCE_FRAMES)
    arguments = {"data": DATA, **change}
    with pytest.raises(kind, match=words) as caught:
        fit(model, arguments.pop("data"), **arguments)
    assert caught.value.hint


BAD_OPTIONS: list[tuple[Callable[[], object], str]] = [
    (lambda: FitOptions(device="tpu"), "Valid values: auto, cpu, cuda, mps"),
    (lambda: FitOptions(dtype="float16"), "Valid values: float64, float32"),
    (lambda: FitOptions(chunk_voxels=0), "at least 1"),
]


@pytest.mark.parametrize(("make", "words"), BAD_OPTIONS)
def test_bad_options_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        make()
    assert words in str(caught.value)


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device whose absence is tested")
    with pytest.raises(RequestError, match="cuda is not available"):
        choose_backend(FitOptions(device="cuda"))


def test_tables_keep_their_promise() -> None:
    backend = choose_backend(FitOptions())
    for model in (ExtendedTofts(parker_input(5.0, 0.5), DCE_FRAMES),
                  TwoTissueIrreversible(feng_input(PET_FRAMES.end_min[-1]), PET_FRAMES)):  # fmt: skip
        table = compress(model, np.ones(model.n_frames), backend)
        theta = np.random.default_rng(0).uniform(0.0, model.theta_limits[1], 400)
        exact = model.family(theta)
        tabulated = (table.span @ table.family(torch.as_tensor(theta))[0]).numpy().T
        relative = np.linalg.norm(tabulated - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert relative.max() < 2 * backend.table_tolerance
        step = 1e-5
        slope = (table.family(torch.as_tensor(theta + step))[0] - table.family(torch.as_tensor(theta - step))[0]) / (
            2 * step
        )
        torch.testing.assert_close(table.family(torch.as_tensor(theta))[1], slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Tofts, ExtendedTofts])
def test_delay_is_one_more_parameter_with_its_share_in_every_error(kind: type[SeparableModel]) -> None:
    source = parker_input(6.5, 0.5)
    rng = np.random.default_rng(8)
    late = np.array([-16.6, -5.3, 3.7, 12.1]) / 60
    truth = {"Ktrans": 0.2, "ve": 0.3, "vp": 0.05}
    p = [[truth[q.name]] for q in kind.parameters]
    data = np.stack([kind(source.delayed(d), DCE_FRAMES).curves(np.tile(p, 150)) for d in late], axis=-1)
    data = data + 0.02 * data.max() * rng.standard_normal(data.shape)
    result = fit_with_delay(lambda d: kind(source.delayed(d), DCE_FRAMES), (-20 / 60, 20 / 60), data)
    assert (result.code == FitCode.OK).all()
    np.testing.assert_allclose(np.median(result.values["delay"], axis=0), late, atol=0.2 / 60)
    for name, expected in {**{q.name: truth[q.name] for q in kind.parameters}, "delay": late}.items():
        deviation = np.abs(result.values[name] - expected) / result.errors[name]
        assert np.mean(deviation < 1) == pytest.approx(0.68, abs=0.07), name
        assert np.mean(deviation < 1.96) == pytest.approx(0.95, abs=0.04), name
        if name in truth:
            assert np.median(result.values[name]) == pytest.approx(expected, rel=0.01), name


def test_delay_beyond_the_range_is_coded_and_what_is_not_fitted_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    source = parker_input(6.5, 0.5)
    data = Tofts(source.delayed(20 / 60), DCE_FRAMES).curves(np.tile([[0.2], [0.3]], 6))
    data[:, 1], data[3, 2] = 0.1, np.nan
    preset = np.array([0, 0, 0, FitCode.NO_ARRIVAL, 0, 0], np.uint8)
    told: list[float] = []

    def search(**more: object) -> FitResult:
        return fit_with_delay(lambda d: Tofts(source.delayed(d), DCE_FRAMES), (-5 / 60, 5 / 60), data, preset=preset,
                              progress=lambda fraction, _: told.append(fraction), **more)  # fmt: skip

    whole = search()
    codes = [FitCode.BOUND_HIT, FitCode.FLAT, FitCode.INVALID, FitCode.NO_ARRIVAL, FitCode.BOUND_HIT, FitCode.BOUND_HIT]
    assert whole.code.tolist() == codes
    np.testing.assert_allclose(whole.values["delay"][[0, 4, 5]], 5 / 60)
    assert np.isnan(whole.values["delay"][[1, 2, 3]]).all()
    assert told == sorted(told)
    assert 0.9 < told[-1] <= 1
    monkeypatch.setattr(delay, "BLOCK", 2)
    np.testing.assert_array_equal(search().values["delay"], whole.values["delay"])
    with pytest.raises(RequestError, match="delays run from"):
        fit_with_delay(lambda d: Tofts(source, DCE_FRAMES), (0.1, 0.1), data)


def test_linear_fit_is_least_squares() -> None:
    rng = np.random.default_rng(1)
    design = rng.standard_normal((20, 2))
    data = design @ np.array([[1.0, 2.0], [3.0, -1.0]]) + 0.1 * rng.standard_normal((20, 2))
    names = (Parameter("a", "1"), Parameter("b", "1"))
    result = fit_linear(design, data, names)
    expected = np.linalg.lstsq(design, data, rcond=None)[0]
    np.testing.assert_allclose([result.values["a"], result.values["b"]], expected)
    data[3, 0] = np.nan
    assert fit_linear(design, data, names).code.tolist() == [FitCode.INVALID, FitCode.OK]
    with pytest.raises(RequestError, match="2 frames do not determine a, b"):
        fit_linear(design[:2], data[:2], names)


def test_an_input_that_never_arrives_is_refused() -> None:
    late = InputFunction(np.array([4.999, 6.0]), np.array([0.0, 1.0]), "mmol/L").delayed(0.5)
    with pytest.raises(RequestError, match="zero in every frame"):
        fit(Tofts(late, DCE_FRAMES), DATA)
