"""Noise-free curves over wide grids of truth: a voxel with the code OK is right, whatever the parameters are.

Truth reaches beyond what a fit can resolve (washout in a fifth of a second, no exchange, no tissue) on purpose: such
voxels must carry another code.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from HypoxiaMapperLib.fitting import FitCode, SeparableModel, fit  # noqa: E402
from HypoxiaMapperLib.kinetics.decay import Ivim  # noqa: E402
from HypoxiaMapperLib.kinetics.perfusion import (  # noqa: E402
    ExtendedTofts,
    Tofts,
    TwoCompartmentExchange,
    TwoCompartmentUptake,
)
from HypoxiaMapperLib.kinetics.populations import feng_input, parker_input  # noqa: E402
from HypoxiaMapperLib.kinetics.timing import Frames  # noqa: E402
from HypoxiaMapperLib.kinetics.tissue import TwoTissueIrreversible, TwoTissueReversible  # noqa: E402

TOLERANCE = 0.02
"""Of the truth, or of the smallest value that matters where the truth is smaller (second number of each grid)."""
PET_SECONDS = np.repeat([5, 10, 30, 60, 120, 300, 600], [6, 3, 4, 4, 3, 6, 9]).astype(float)
GRIDS: dict[type[SeparableModel], dict[str, tuple[list[float], float]]] = {
    Tofts: {"Ktrans": ([0.0, 0.01, 0.1, 0.5, 2.0], 0.01), "ve": ([0.01, 0.05, 0.2, 0.6, 0.95], 0.01)},
    ExtendedTofts: {
        "Ktrans": ([0.0, 0.01, 0.1, 0.5, 2.0], 0.01), "ve": ([0.01, 0.05, 0.2, 0.6, 0.95], 0.01),
        "vp": ([0.0, 0.01, 0.05, 0.2], 0.01),
    },
    TwoCompartmentExchange: {
        "Fp": ([0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 4.0], 0.05), "PS": ([0.0, 0.01, 0.03, 0.1, 0.3, 0.8], 0.02),
        "vp": ([0.005, 0.01, 0.02, 0.05, 0.1, 0.2], 0.01), "ve": ([0.05, 0.1, 0.2, 0.4, 0.6], 0.05),
    },
    TwoCompartmentUptake: {
        "Fp": ([0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 4.0], 0.05), "PS": ([0.0, 0.01, 0.03, 0.1, 0.3, 0.8], 0.02),
        "vp": ([0.005, 0.01, 0.02, 0.05, 0.1, 0.2], 0.01),
    },
    TwoTissueIrreversible: {
        "K1": ([0.02, 0.1, 0.4, 1.0], 0.02), "k2": ([0.05, 0.2, 0.8, 2.0], 0.05),
        "k3": ([0.0, 0.005, 0.05, 0.2], 0.005), "vB": ([0.0, 0.03, 0.1, 0.3], 0.02),
    },
    TwoTissueReversible: {
        "K1": ([0.02, 0.1, 0.4, 1.0], 0.02), "k2": ([0.05, 0.2, 0.8, 2.0], 0.05),
        "k3": ([0.0, 0.005, 0.05, 0.2], 0.005), "k4": ([0.0, 0.005, 0.02, 0.05], 0.005),
        "vB": ([0.0, 0.03, 0.1, 0.3], 0.02),
    },
    Ivim: {
        "S0": ([500.0], 1.0), "f": ([0.0, 0.02, 0.1, 0.3, 0.6], 0.02), "D": ([3e-4, 1e-3, 2.5e-3], 1e-4),
        "Dstar": ([0.008, 0.02, 0.1, 0.2], 2e-3),
    },
}  # fmt: skip


def make(kind: type[SeparableModel], step_s: float) -> SeparableModel:
    """The model on frames of its modality."""
    if kind is Ivim:
        return Ivim(np.array([0, 10, 20, 30, 50, 75, 100, 150, 200, 400, 600, 800, 1000.0]))
    if kind in (TwoTissueIrreversible, TwoTissueReversible):
        starts = np.concatenate([[0.0], np.cumsum(PET_SECONDS)[:-1]])
        frames = Frames.from_start_duration(starts, PET_SECONDS, "s")
        return kind(feng_input(frames.end_min[-1]), frames)
    frames = Frames.instants(np.arange(0.0, 300.0 + step_s / 2, step_s), "s")
    return kind(parker_input(frames.end_min[-1], 0.25, 0.42), frames)


def exact_curves(model: SeparableModel, truth: np.ndarray) -> np.ndarray:
    """Curves of parameters (P, n) without the model's own limit of rates, shape (frames, n)."""
    rows = model.mixture(torch.as_tensor(truth)).numpy()
    fixed, k = model.fixed(), model.n_members
    total = fixed.T @ rows[: len(fixed)]
    for member in range(k):
        total += model.family(rows[len(fixed) + k + member]).T * rows[len(fixed) + member]
    return total


@pytest.mark.parametrize(
    ("kind", "step_s", "least_ok"),
    [(Tofts, 5.0, 0.6), (ExtendedTofts, 5.0, 0.5), (TwoCompartmentExchange, 1.0, 0.6),
     (TwoCompartmentExchange, 2.0, 0.6), (TwoCompartmentExchange, 5.0, 0.6),
     (TwoCompartmentUptake, 1.0, 0.6), (TwoCompartmentUptake, 5.0, 0.6),
     (TwoTissueIrreversible, 0.0, 0.5), (TwoTissueReversible, 0.0, 0.3),
     (Ivim, 0.0, 0.5)],
)  # fmt: skip
def test_voxels_with_code_ok_hold_the_truth(kind: type[SeparableModel], step_s: float, least_ok: float) -> None:
    grid = GRIDS[kind]
    truth = np.array(list(itertools.product(*(values for values, _ in grid.values())))).T
    model = make(kind, step_s)
    usable = np.ptp(exact_curves(model, truth), axis=0) > 0
    truth = truth[:, usable]
    result = fit(model, exact_curves(model, truth))
    found = np.array([result.values[name] for name in grid])
    smallest = np.array([least for _, least in grid.values()])[:, None]
    off = (np.abs(found - truth) / np.maximum(np.abs(truth), smallest)).max(axis=0)
    good = result.code == FitCode.OK
    worst = int(np.argmax(np.where(good, off, 0)))
    assert off[good].max() <= TOLERANCE, f"truth {truth[:, worst]}, found {found[:, worst]}, {result.count()}"
    assert good.mean() >= least_ok, result.count()  # a code that doubts everything would pass the line above
