"""Fit with an unknown arrival delay: the model at each delay of a grid, then the vertex between grid points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import RequestError
from .codes import FitCode
from .device import FitOptions
from .engine import Progress, fit, no_progress
from .model import Model
from .result import FitResult

DELAY_UNIT = "min"


def fit_with_delay(
    model_at: Callable[[float], Model],
    delays_min: Sequence[float],
    data: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    preset: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008
    progress: Progress = no_progress,
) -> FitResult:
    """Fit a model at every delay and keep, per voxel, the best.

    The delay between grid points is the vertex of the parabola through the three least sums of squares, its standard
    error sqrt(2 s^2 / curvature) (profile likelihood). The other parameters belong to the nearest grid delay and their
    errors are conditional on it: choose a grid finer than the frames.

    Parameters
    ----------
    model_at : callable
        Makes the model for a delay in minutes, e.g. ``lambda d: Tofts(aif.delayed(d), frames)``.
    delays_min : sequence of float
        Equally spaced delays, rising, at least three.
    data, mask, preset, weights, options, progress
        As in ``fit``.

    Raises
    ------
    RequestError
        If the delays are not an equally spaced rising grid of at least three.
    """
    grid = np.asarray(delays_min, dtype=float)
    step = np.diff(grid)
    if grid.size < 3 or np.any(step <= 0) or not np.allclose(step, step[0]):
        raise RequestError(f"Delays {list(grid)} are no grid.", "Give at least three equally spaced rising delays.")
    best: FitResult | None = None
    squares = []
    for k, delay in enumerate(grid):
        result = fit(model_at(float(delay)), data, mask=mask, preset=preset, weights=weights, options=options,
                     progress=_part_of(progress, k, grid.size))  # fmt: skip
        squares.append(result.sum_of_squares)
        best = result if best is None else _better(best, result)
    assert best is not None
    return _with_delay(best, grid, np.stack(squares), model_at(float(grid[0])))


def _part_of(progress: Progress, k: int, count: int) -> Progress:
    """Progress of the k-th of several fits as progress of all."""
    return lambda fraction, text: progress((k + fraction) / count, f"{text}, delay {k + 1} of {count}")


def _better(old: FitResult, new: FitResult) -> FitResult:
    """Per voxel the result of the lesser sum of squares."""
    take = new.sum_of_squares < old.sum_of_squares

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(take, b, a)

    return replace(
        old,
        values={name: pick(old.values[name], new.values[name]) for name in old.values},
        errors={name: pick(old.errors[name], new.errors[name]) for name in old.errors},
        code=pick(old.code, new.code),
        sum_of_squares=pick(old.sum_of_squares, new.sum_of_squares),
        aic=pick(old.aic, new.aic),
        bic=pick(old.bic, new.bic),
    )


def _with_delay(best: FitResult, grid: np.ndarray, squares: np.ndarray, model: Model) -> FitResult:
    """Add the delay and its error; AIC and BIC count it as one more parameter."""
    n_frames, count = model.n_frames, len(model.parameters) + 1
    missing = np.isnan(squares).all(axis=0)
    index = np.argmin(np.where(np.isnan(squares), np.inf, squares), axis=0)
    middle = np.clip(index, 1, grid.size - 2)
    left, centre, right = (np.take_along_axis(squares, (middle + o)[None], 0)[0] for o in (-1, 0, 1))
    step = grid[1] - grid[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = left - 2 * centre + right
        shift = np.clip(np.where(bend > 0, (left - right) / (2 * bend), 0.0), -1.0, 1.0)
        variance = best.sum_of_squares / max(n_frames - count, 1)
        error = np.where(bend > 0, step * np.sqrt(2 * variance / bend), np.inf)
    inner = (index > 0) & (index < grid.size - 1)
    delay = np.where(inner, grid[middle] + shift * step, grid[index])
    code = np.where(~inner & (best.code == FitCode.OK), FitCode.BOUND_HIT, best.code).astype(np.uint8)
    return replace(
        best,
        values={**best.values, "delay": np.where(missing, np.nan, delay)},
        errors={**best.errors, "delay": np.where(missing | ~inner, np.nan, error)},
        code=code,
        aic=best.aic + 2,
        bic=best.bic + np.log(n_frames),
        units={**best.units, "delay": DELAY_UNIT},
    )
