"""Linear least squares for all voxels at once: one matrix product when they share a design, sums when they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import RequestError
from .codes import FitCode
from .model import Parameter
from .result import FitResult, information_criteria

LINEAR_CHUNK = 65536


def fit_linear(
    design: np.ndarray, data: np.ndarray, parameters: Sequence[Parameter], mask: np.ndarray | None = None
) -> FitResult:
    """Fit data = design @ parameters in every voxel, without bounds.

    Parameters
    ----------
    design : numpy.ndarray
        Shape (frames, parameters), the same for all voxels.
    data : numpy.ndarray
        Shape (frames, ...).
    parameters : sequence of Parameter
        Names and units of the columns.
    mask : numpy.ndarray or None
        Voxels to fit.

    Raises
    ------
    RequestError
        If there are not more frames than parameters, or the columns depend on each other.
    """
    frames, count = design.shape
    if frames <= count or np.linalg.matrix_rank(design) < count:
        names = ", ".join(q.name for q in parameters)
        raise RequestError(f"{frames} frames do not determine {names}.", "Use more frames or an earlier start time.")
    shape = data.shape[1:]
    n = int(np.prod(shape))
    flat = data.reshape(frames, n)
    inside = np.ones(n, bool) if mask is None else np.asarray(mask, bool).reshape(n)
    solver = np.linalg.pinv(design)
    spread = np.sqrt(np.diag(solver @ solver.T))
    values, squares = np.full((count, n), np.nan), np.full(n, np.nan)
    code = np.full(n, FitCode.OUTSIDE, np.uint8)
    for first in range(0, n, LINEAR_CHUNK):
        part = first + np.flatnonzero(inside[first : first + LINEAR_CHUNK])
        y = np.asarray(flat[:, part], dtype=float)
        found = solver @ y
        values[:, part] = found
        squares[part] = ((y - design @ found) ** 2).sum(axis=0)
        code[part] = np.where(np.ptp(y, axis=0) == 0, FitCode.FLAT, FitCode.OK)
        code[part[~np.isfinite(squares[part])]] = FitCode.INVALID
    values[:, code != FitCode.OK] = np.nan
    squares[code != FitCode.OK] = np.nan
    errors = spread[:, None] * np.sqrt(squares / (frames - count))
    return linear_result(values, errors, code, squares, frames, parameters, shape)


def linear_result(values: np.ndarray, errors: np.ndarray, code: np.ndarray, squares: np.ndarray, frames: int,
                  parameters: Sequence[Parameter], shape: tuple[int, ...]) -> FitResult:  # fmt: skip
    """Flat arrays (parameters, n) and (n,) as a ``FitResult``."""
    aic, bic = information_criteria(squares, frames, len(parameters))
    return FitResult(
        {q.name: row.reshape(shape) for q, row in zip(parameters, values, strict=True)},
        {q.name: row.reshape(shape) for q, row in zip(parameters, errors, strict=True)},
        code.reshape(shape), squares.reshape(shape), aic.reshape(shape), bic.reshape(shape),
        {q.name: q.unit for q in parameters}, "cpu, float64", frames - len(parameters),
    )  # fmt: skip


def fit_lines(x: np.ndarray, y: np.ndarray, slope: Parameter, intercept: Parameter) -> FitResult:
    """Straight line y = slope x + intercept in every voxel, each with its own x; both of shape (points, ...).

    Voxels with a value that is not finite, or with all x equal, get ``FitCode.INVALID``.

    Raises
    ------
    RequestError
        If there are fewer than three points.
    """
    points, shape = x.shape[0], x.shape[1:]
    if points < 3:
        raise RequestError(f"{points} points do not determine a line and its error.", "Use an earlier start time.")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        sxx = ((x - mean_x) ** 2).sum(axis=0)
        b = ((x - mean_x) * (y - mean_y)).sum(axis=0) / sxx
        a = mean_y - b * mean_x
        squares = ((y - a - b * x) ** 2).sum(axis=0)
        variance = squares / (points - 2)
        errors = np.stack([np.sqrt(variance / sxx), np.sqrt(variance * (1 / points + mean_x**2 / sxx))])
    good = np.isfinite(b) & np.isfinite(a) & np.isfinite(squares)
    code = np.where(good, FitCode.OK, FitCode.INVALID).astype(np.uint8)
    values = np.where(good, np.stack([b, a]), np.nan).reshape(2, -1)
    errors = np.where(good, errors, np.nan).reshape(2, -1)
    squares = np.where(good, squares, np.nan).ravel()
    return linear_result(values, errors, code.ravel(), squares, points, (slope, intercept), shape)
