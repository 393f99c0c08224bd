"""What a GPU needs of the fits, checked without one: single precision, one device, few operations, few questions.

PyTorch's device ``meta`` knows shapes, types and places but no values: it refuses tensors of another device and every
question whose answer the computer would have to wait for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from HypoxiaMapperLib.fitting import FitCode, FitOptions, Model, SeparableModel, engine, fit, levenberg  # noqa: E402
from HypoxiaMapperLib.fitting.compress import compress  # noqa: E402
from HypoxiaMapperLib.fitting.device import Backend, chunk_size  # noqa: E402
from HypoxiaMapperLib.fitting.starts import start_search  # noqa: E402
from HypoxiaMapperLib.fitting.statistics import standard_errors  # noqa: E402
from HypoxiaMapperLib.kinetics.dce_signal import VariableFlipAngle, spgr_signal  # noqa: E402
from HypoxiaMapperLib.kinetics.decay import (  # noqa: E402
    ADC,
    Ivim,
    IvimPseudoDiffusion,
    MonoExponential,
    R2StarNoiseFloor,
)
from HypoxiaMapperLib.kinetics.perfusion import (  # noqa: E402
    ExtendedTofts,
    Tofts,
    TwoCompartmentExchange,
    TwoCompartmentUptake,
)
from HypoxiaMapperLib.kinetics.populations import feng_input, parker_input  # noqa: E402
from HypoxiaMapperLib.kinetics.timing import Frames  # noqa: E402
from HypoxiaMapperLib.kinetics.tissue import OneTissue, TwoTissueIrreversible, TwoTissueReversible  # noqa: E402

VOXELS = 1500
NOISE = 0.02
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="no CUDA GPU (torch.cuda.is_available() is false)"
        ),
    ),
]
PET_SECONDS = np.repeat([5, 10, 30, 60, 120, 300, 600], [6, 3, 4, 4, 3, 6, 9]).astype(float)
RANGES: dict[type[SeparableModel], list[tuple[float, float]]] = {
    Tofts: [(0.05, 0.5), (0.1, 0.6)],
    ExtendedTofts: [(0.05, 0.5), (0.1, 0.6), (0.01, 0.1)],
    TwoCompartmentExchange: [(0.2, 1.0), (0.05, 0.3), (0.03, 0.1), (0.1, 0.4)],
    TwoCompartmentUptake: [(0.2, 1.0), (0.02, 0.2), (0.02, 0.1)],
    OneTissue: [(0.05, 0.4), (0.05, 0.3), (0.02, 0.1)],
    TwoTissueIrreversible: [(0.05, 0.4), (0.1, 0.5), (0.01, 0.1), (0.01, 0.1)],
    TwoTissueReversible: [(0.05, 0.4), (0.1, 0.5), (0.02, 0.1), (0.01, 0.05), (0.01, 0.1)],
    Ivim: [(400.0, 600.0), (0.1, 0.3), (5e-4, 2e-3), (0.01, 0.05)],
}
MOST_OPERATIONS = {ExtendedTofts: 220, TwoTissueReversible: 280}
"""Launches per iteration: at 5 microseconds each, 100,000 voxels must stay well under a tenth of a second."""
Case = tuple[Model, np.ndarray, tuple[np.ndarray, ...]]


def separable(kind: type[SeparableModel]) -> Case:
    """A model with noisy curves of its own."""
    if kind is Ivim:
        model: SeparableModel = Ivim(np.array([0, 10, 20, 30, 50, 75, 100, 150, 200, 400, 600, 800, 1000.0]))
    elif kind in (OneTissue, TwoTissueIrreversible, TwoTissueReversible):
        starts = np.concatenate([[0.0], np.cumsum(PET_SECONDS)[:-1]])
        frames = Frames.from_start_duration(starts, PET_SECONDS, "s")
        model = kind(feng_input(frames.end_min[-1]), frames)
    else:
        frames = Frames.instants(np.arange(0.0, 300.0, 2.0), "s")
        model = kind(parker_input(frames.end_min[-1], 0.25, 0.42), frames)
    rng = np.random.default_rng(5)
    clean = model.curves(np.stack([rng.uniform(low, high, VOXELS) for low, high in RANGES[kind]]))
    return model, clean + NOISE * clean.max(axis=0) * rng.standard_normal(clean.shape), ()


def by_function(name: str) -> Case:
    """A model that is differentiated, with noisy signals."""
    rng = np.random.default_rng(6)
    if name == "flip angles with B1":
        angles, t1, b1 = np.array([2.0, 5, 10, 15, 20]), rng.uniform(0.5, 2, VOXELS), rng.uniform(0.9, 1.1, VOXELS)
        clean = np.stack([spgr_signal(t1, 1000.0, 0.005, a * b1) for a in angles])
        return VariableFlipAngle(angles, 0.005), clean * (1 + 0.01 * rng.standard_normal(clean.shape)), (b1,)
    if name == "R2* with noise floor":
        echo_s = np.array([5, 10, 15, 20, 25, 30.0]) / 1000
        clean = 500 * np.exp(-echo_s[:, None] * rng.uniform(10, 40, VOXELS))
        return R2StarNoiseFloor(echo_s, 5.0), clean + 5 * rng.standard_normal(clean.shape), ()
    if name == "ADC":
        b = np.array([0, 50, 200, 400, 800.0])
        clean = 1000 * np.exp(-b[:, None] * rng.uniform(0.5e-3, 2e-3, VOXELS))
        return MonoExponential(b, ADC), clean + 20 * rng.standard_normal(clean.shape), ()
    b = np.array([0, 10, 20, 30, 50, 75, 100, 150, 200, 400, 600, 800, 1000.0])
    given = (np.full(VOXELS, 500.0), rng.uniform(0.1, 0.3, VOXELS), rng.uniform(5e-4, 2e-3, VOXELS))
    fast = rng.uniform(0.01, 0.05, VOXELS)
    clean = given[0] * ((1 - given[1]) * np.exp(-b[:, None] * given[2]) + given[1] * np.exp(-b[:, None] * fast))
    return IvimPseudoDiffusion(b), clean + 5 * rng.standard_normal(clean.shape), given


CASES: dict[str, Callable[[], Case]] = {kind.__name__: (lambda kind=kind: separable(kind)) for kind in RANGES}
CASES |= {name: (lambda name=name: by_function(name))
          for name in ("flip angles with B1", "R2* with noise floor", "ADC", "D* of segmented IVIM")}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_single_precision_stays_within_a_twentieth_of_the_standard_error(name: str, device: str) -> None:
    model, data, extra = CASES[name]()
    double = fit(model, data, extra=extra, options=FitOptions(device="cpu"))
    single = fit(model, data, extra=extra, options=FitOptions(device=device, dtype="float32"))
    both = (double.code == FitCode.OK) & (single.code == FitCode.OK)
    assert (double.code == single.code).mean() > 0.995
    assert both.mean() > 0.9
    for parameter in model.parameters:
        gap = np.abs(single.values[parameter.name] - double.values[parameter.name])[both]
        error = double.errors[parameter.name][both]
        assert np.quantile(gap / error, 0.99) < 0.05, parameter.name
        ratio = single.errors[parameter.name][both] / error
        assert np.quantile(np.abs(ratio - 1), 0.99) < 0.05, f"standard error of {parameter.name}"


def on_meta(found: Any) -> Any:
    """The same tables with every tensor on the device ``meta``."""
    if isinstance(found, torch.Tensor):
        return found.to("meta")
    if isinstance(found, tuple):
        return tuple(on_meta(item) for item in found)
    if is_dataclass(found) and not isinstance(found, type):
        return replace(found, **{f.name: on_meta(getattr(found, f.name)) for f in fields(found)})
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_made_on_the_device_and_no_value_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, extra = CASES[name]()
    if isinstance(model, SeparableModel):
        table = compress(model, np.ones(model.n_frames), Backend(torch.device("cpu"), torch.float32, 1e-5))
        search = start_search(table)
        monkeypatch.setattr(engine, "compress", lambda *_: on_meta(table))
        monkeypatch.setattr(engine, "start_search", lambda _: on_meta(search))
    monkeypatch.setitem(levenberg.LOOK_EVERY, "meta", levenberg.LOOK_EVERY["cuda"])
    device = Backend(torch.device("meta"), torch.float32, 1e-5)
    problem = engine.prepare(model, np.ones(model.n_frames), device, FitOptions())

    def empty(rows: int) -> Any:
        return torch.empty((rows, data.shape[1]), dtype=torch.float32, device="meta")

    iterations = levenberg.LOOK_EVERY["cuda"] - 1
    solution = problem.solve(empty(model.n_frames), empty(len(extra)) if extra else None, iterations)
    values, errors = standard_errors(model, solution, model.n_frames)
    lost = engine._undetermined(model, solution, errors)
    assert {values.dtype, errors.dtype, solution.normal.dtype} == {torch.float32}
    assert {a.device.type for a in (values, errors, solution.sum_of_squares, lost)} == {"meta"}


def test_chunks_of_a_gpu_fit_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def free(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return gibibytes * 2**30, 80 * 2**30

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    sizes = {}
    for gibibytes in (1, 6, 7, 140):
        for dtype in (torch.float64, torch.float32):
            backend = Backend(torch.device("cuda", 1), dtype, 1e-5)
            size = sizes[gibibytes, dtype] = chunk_size(backend, FitOptions(), 60, 3)
            assert size * (4 * 60 + 80 * 3) * dtype.itemsize <= 0.4 * gibibytes * 2**30
    assert {d.index for d in asked} == {1}
    assert sizes[6, torch.float64] == sizes[7, torch.float64]
    assert sizes[6, torch.float32] == 2 * sizes[6, torch.float64]
    assert sizes[140, torch.float32] == 2**21


@pytest.mark.parametrize("name", ["ExtendedTofts", "TwoTissueReversible"])
def test_looking_less_often_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = CASES[name]()
    often = fit(model, data, options=FitOptions(device="cpu"))
    monkeypatch.setitem(levenberg.LOOK_EVERY, "cpu", levenberg.LOOK_EVERY["cuda"])
    seldom = fit(model, data, options=FitOptions(device="cpu"))
    np.testing.assert_array_equal(often.code, seldom.code)
    for quantity in model.parameters:
        np.testing.assert_allclose(seldom.values[quantity.name], often.values[quantity.name], rtol=1e-6, atol=1e-9)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench's counter of operations that a GPU would launch, and of the bytes they move."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    return importlib.import_module("bandwidth").Traffic


def test_the_bench_counts_what_is_read_and_written_once(traffic: Any) -> None:
    a, b, one = torch.zeros(1000), torch.zeros(1000), torch.zeros(1)
    places = torch.empty(1000)
    for work, arrays in (
        (lambda: a + b, 3), (lambda: a.add_(b), 3), (lambda: torch.add(a, b, out=places), 3), (lambda: a.copy_(b), 2),
        (lambda: one.expand(1000) + a, 2.001), (lambda: a[::2].T, 0),
    ):  # fmt: skip
        with traffic() as count:
            work()
        assert count.moved == arrays * 4000


@pytest.mark.parametrize("kind", MOST_OPERATIONS)
def test_few_operations_per_iteration(kind: type[SeparableModel], traffic: Any) -> None:
    model, data, _ = separable(kind)
    device = Backend(torch.device("cpu"), torch.float64, 1e-7)
    problem = engine.prepare(model, np.ones(model.n_frames), device, FitOptions())
    y = torch.as_tensor(data[:, :50])
    counts = []
    for iterations in (2, 3):
        with traffic() as operations:
            problem.solve(y, None, iterations)
        counts.append(operations.launches)
    assert 50 < counts[1] - counts[0] < MOST_OPERATIONS[kind]
