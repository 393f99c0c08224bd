"""Fit with an unknown arrival delay: coarse delays for all voxels, then each voxel's own, halved to a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from .codes import FitCode
from .device import FitOptions
from .engine import Progress, check, fit_checked, no_progress, preset_codes, require_fitted
from .model import Model
from .result import FitResult, information_criteria

DELAY_UNIT = "min"
COARSE_STEP_MIN = 4 / 60
"""Longest step of the first search: a bolus is wider, so the best of its delays lies beside the true one."""
FINE_STEP_MIN = 1 / 60
"""The step is halved until it is no longer than this; between two steps the delay is read off a parabola."""
BLOCK = 2**16
"""Voxels searched together: the fits at all coarse delays are kept for them."""
Fits = list[np.ndarray]
"""Values and errors (parameters, n), sums of squares and codes (n,) of voxels at one delay each."""


@dataclass(frozen=True)
class Search:
    """Delays are low_min + index * fine_min; the coarse ones lie ``stride`` indices apart, a power of two."""

    model_at: Callable[[float], Model]
    low_min: float
    fine_min: float
    stride: int
    coarse: int
    weights: np.ndarray | None
    options: FitOptions

    @property
    def reach_min(self) -> float:
        """From the shortest delay to the longest."""
        return (self.coarse - 1) * self.stride * self.fine_min

    @property
    def passes(self) -> int:
        """Fits of every voxel: the coarse delays, then two for each halving."""
        return self.coarse + 2 * (self.stride.bit_length() - 1)

    def fit(self, index: int, data: np.ndarray, skip: np.ndarray, progress: Progress = no_progress) -> FitResult:
        """Voxels (frames, n) at one delay."""
        model = self.model_at(self.low_min + index * self.fine_min)
        return fit_checked(model, data, skip, weights=self.weights, options=self.options, progress=progress)


def fit_with_delay(
    model_at: Callable[[float], Model],
    range_min: tuple[float, float],
    data: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    preset: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008
    progress: Progress = no_progress,
) -> FitResult:
    """Fit a model with the delay of its input as one more parameter.

    In the end each voxel has been fitted at three delays a step h apart. Its delay is the vertex of the parabola
    through their sums of squares, with the standard error sqrt(2 s^2 h^2 / bend) (profile likelihood). The other
    parameters are taken at the vertex; their variance is that at a known delay plus (dp/ddelay)^2 times the delay's.

    Parameters
    ----------
    model_at : callable
        Makes the model for a delay in minutes, e.g. ``lambda d: Tofts(aif.delayed(d), frames)``.
    range_min : tuple of float
        Shortest and longest delay in minutes; a voxel that ends on one of them gets ``FitCode.BOUND_HIT``.
    data, mask, preset, weights, options, progress
        As in ``fit``.

    Raises
    ------
    RequestError
        If the range is empty, or as ``fit``.
    InputError
        As ``fit``.
    """
    low, high = range_min
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise RequestError(f"The delays run from {low:g} to {high:g} min.", "Give the shortest, then the longest.")
    model = model_at(low)
    check(model, data, mask, preset, (), weights)
    coarse = max(5, int(np.ceil((high - low) / COARSE_STEP_MIN)) + 1)
    step = (high - low) / (coarse - 1)
    stride = 2 ** max(0, int(np.ceil(np.log2(step / FINE_STEP_MIN))))
    search = Search(model_at, low, step / stride, stride, coarse, weights, options)
    frames, shape = data.shape[0], data.shape[1:]
    skip = preset_codes(mask, preset, shape)
    flat = data.reshape(frames, skip.size)
    share = BLOCK / skip.size
    parts = [_search_block(search, flat[:, k : k + BLOCK], skip[k : k + BLOCK], _part(progress, k / skip.size, share))
             for k in range(0, skip.size, BLOCK)]  # fmt: skip
    found = _joined(parts, frames, len(model.parameters) + 1, shape)
    require_fitted(model, found)
    return found


def _part(progress: Progress, begin: float, share: float) -> Progress:
    """Progress of a part of the work as progress of all."""
    return lambda fraction, text: progress(min(begin + share * fraction, 1.0), text)


def _search_block(search: Search, data: np.ndarray, skip: np.ndarray, progress: Progress) -> FitResult:
    """Delay and parameters of some voxels (frames, n)."""
    share = 1.0 / search.passes
    first = search.fit(0, data, skip, _part(progress, 0.0, share))
    fitted = np.flatnonzero(np.isfinite(first.sum_of_squares))
    curves, wanted = np.ascontiguousarray(data[:, fitted]), np.zeros(fitted.size, np.uint8)
    fits = [_rows(first, fitted)]
    if fitted.size:
        for k in range(1, search.coarse):
            fits.append(_rows(search.fit(k * search.stride, curves, wanted, _part(progress, k * share, share))))
    values, errors = (np.full((len(first.values) + 1, skip.size), np.nan) for _ in range(2))
    code, squares = first.code.copy(), first.sum_of_squares.copy()
    if fitted.size:
        around, middle = _around_the_best(fits)
        around, index = _refine(
            search, curves, around, middle * search.stride, _part(progress, search.coarse * share, 1.0)
        )
        delay = search.low_min + index * search.fine_min
        span = np.append(np.ptp(search.model_at(search.low_min).limits(), axis=0), search.reach_min)
        free = data.shape[0] - span.size
        found = _at_vertex(around, delay, search.fine_min, free)
        values[:, fitted], errors[:, fitted], squares[fitted], code[fitted] = found
        fitted_rows = [*range(span.size - 1), len(values) - 1]
        lost = (errors[fitted_rows] > span[:, None]).any(axis=0) & (code == FitCode.OK)
        code[lost] = FitCode.UNDETERMINED
    names = [*first.values, "delay"]
    return FitResult(
        dict(zip(names, values, strict=True)), dict(zip(names, errors, strict=True)), code, squares, squares, squares,
        {**first.units, "delay": DELAY_UNIT}, first.device,
    )  # fmt: skip


def _rows(result: FitResult, voxels: np.ndarray | slice = slice(None)) -> Fits:
    """A result as arrays."""
    values, errors = (np.stack(list(kind.values()))[:, voxels].astype(float) for kind in (result.values, result.errors))
    return [values, errors, result.sum_of_squares[voxels], result.code[voxels]]


def _around_the_best(fits: Sequence[Fits]) -> tuple[list[Fits], np.ndarray]:
    """Per voxel the fits before, at and after the best one that has neighbours, and which that is."""
    squares = np.stack([f[2] for f in fits])
    best = np.argmin(np.where(np.isnan(squares), np.inf, squares), axis=0)
    middle = np.clip(best, 1, len(fits) - 2)

    def pick(shift: int) -> Fits:
        at = middle + shift
        return [np.take_along_axis(np.stack(kind), at[(None,) * kind[0].ndim], 0)[0]
                for kind in zip(*fits, strict=True)]  # fmt: skip

    return [pick(shift) for shift in (-1, 0, 1)], middle


def _refine(
    search: Search, curves: np.ndarray, around: list[Fits], index: np.ndarray, progress: Progress
) -> tuple[list[Fits], np.ndarray]:
    """Halve the step until it is the fine one: three fits of every voxel, and the index of the middle delay."""
    stride, levels = search.stride, search.stride.bit_length() - 1
    for level in range(levels):
        stride //= 2
        progress(2 * level / search.passes, f"delay of {index.size} voxels, {stride * search.fine_min * 60:.1f} s")
        before, after = (_fit_each(search, curves, index + side * stride, around[1]) for side in (-1, 1))
        around, moved = _around_the_best([around[0], before, around[1], after, around[2]])
        index = index + (moved - 2) * stride
    return around, index


def _fit_each(search: Search, curves: np.ndarray, index: np.ndarray, like: Fits) -> Fits:
    """Every voxel at its own delay: one fit for all voxels of a delay."""
    found = [np.empty_like(a) for a in like]
    for which in np.unique(index):
        voxels = np.flatnonzero(index == which)
        rows = _rows(search.fit(int(which), curves[:, voxels], np.zeros(voxels.size, np.uint8)))
        for whole, part in zip(found, rows, strict=True):
            whole[..., voxels] = part
    return found


def _at_vertex(around: list[Fits], delay_min: np.ndarray, step_min: float, free: int) -> Fits:
    """Parameters and delay at the vertex of the sums of squares, with their standard errors."""
    (v0, _, left, _), (v1, e1, centre, code), (v2, _, right, _) = around
    inner = (centre < left) & (centre < right)
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = left - 2 * centre + right
        shift = np.where(inner, (left - right) / (2 * bend), np.where(left < right, -1.0, 1.0))
        squares = np.maximum(centre - shift * (left - right) / 2 + shift**2 * bend / 2, 0.0)
        variance = np.where(inner, 2 * squares / max(free, 1) * step_min**2 / bend, 0.0)
        slope = (v2 - v0) / (2 * step_min)
        at_known_delay = e1**2 * (squares / np.maximum(centre, np.finfo(float).tiny)) * (free + 1) / max(free, 1)
        errors = np.sqrt(at_known_delay + slope**2 * variance)
    three = np.stack([v0, v1, v2])
    values = v1 + shift * (v2 - v0) / 2 + shift**2 * (v2 - 2 * v1 + v0) / 2
    values = np.clip(values, three.min(axis=0), three.max(axis=0))  # the parabola may leave the bounds
    code = np.where(~inner & (code == FitCode.OK), FitCode.BOUND_HIT, code).astype(np.uint8)
    return [np.vstack([values, delay_min + shift * step_min]),
            np.vstack([errors, np.where(inner, np.sqrt(variance), np.nan)]), squares, code]  # fmt: skip


def _joined(parts: Sequence[FitResult], frames: int, n_parameters: int, shape: tuple[int, ...]) -> FitResult:
    """Blocks put together on the spatial shape, with AIC and BIC, which count the delay."""
    first = parts[0]
    squares = np.concatenate([p.sum_of_squares for p in parts])
    aic, bic = information_criteria(squares, frames, n_parameters)

    def whole(kind: str) -> dict[str, np.ndarray]:
        return {q: np.concatenate([getattr(p, kind)[q] for p in parts]).reshape(shape) for q in first.values}

    return FitResult(
        whole("values"), whole("errors"), np.concatenate([p.code for p in parts]).reshape(shape),
        squares.reshape(shape), aic.reshape(shape), bic.reshape(shape), first.units, first.device,
        frames - n_parameters,
    )  # fmt: skip
