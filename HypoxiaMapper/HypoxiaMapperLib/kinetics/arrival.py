"""When contrast arrives in a voxel, and the area under its curve in the first minute after."""

from __future__ import annotations

import numpy as np

from ..errors import RequestError
from ..fitting.codes import FitCode
from .timing import Frames

ABOVE_SDS = 3.0
"""A frame is above the baseline when it exceeds its mean by this many standard deviations ..."""
ABOVE_PEAK_SHARE = 0.05
"""... and by this share of the peak, which decides when the baseline has no noise."""
FRAMES_IN_A_ROW = 2


def detect_arrival(
    concentration: np.ndarray, frames: Frames, baseline: slice, above_sds: float = ABOVE_SDS
) -> tuple[np.ndarray, np.ndarray]:
    """Arrival time of every voxel.

    The onset is where the line through the first two frames above the baseline crosses it, but never before the last
    frame that was not above.

    Parameters
    ----------
    concentration : numpy.ndarray
        Shape (frames, ...).
    frames : Frames
        When they were measured.
    baseline : slice
        Frames before arrival; at least two.
    above_sds : float
        See ``ABOVE_SDS``.

    Returns
    -------
    arrival_min : numpy.ndarray
        Minutes on the clock of the frames; NaN where nothing arrives.
    code : numpy.ndarray
        ``FitCode.OK``, ``NO_ARRIVAL`` or ``INVALID``.

    Raises
    ------
    RequestError
        If the baseline has fewer than two frames.
    """
    before = np.asarray(concentration[baseline], dtype=float)
    if before.shape[0] < 2:
        raise RequestError(f"The baseline has {before.shape[0]} frames.", "Name at least two before arrival.")
    level, noise = before.mean(axis=0), before.std(axis=0, ddof=1)
    over = concentration - level
    above = over > np.maximum(above_sds * noise, ABOVE_PEAK_SHARE * over.max(axis=0))
    run = above.copy()
    for k in range(1, FRAMES_IN_A_ROW):
        run[:-k] &= above[k:]
        run[-k:] = False
    found = run.any(axis=0)
    first = np.where(found, run.argmax(axis=0), 0)
    time = frames.mid_min
    a, b = (np.take_along_axis(over, np.minimum(first + k, len(time) - 1)[None], 0)[0] for k in (0, 1))
    t_a, t_b = time[first], time[np.minimum(first + 1, len(time) - 1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        onset = np.where(b > a, t_a - a * (t_b - t_a) / (b - a), time[np.maximum(first - 1, 0)])
    onset = np.clip(onset, time[np.maximum(first - 1, 0)], t_a)
    code = np.where(found, FitCode.OK, FitCode.NO_ARRIVAL).astype(np.uint8)
    code[~np.isfinite(concentration).all(axis=0)] = FitCode.INVALID
    return np.where(code == FitCode.OK, onset, np.nan), code


def area_after_arrival(
    concentration: np.ndarray, frames: Frames, arrival_min: np.ndarray, seconds: float = 60.0
) -> np.ndarray:
    """iAUC: integral of the concentration over ``seconds`` after arrival, in mmol/L * s (iAUC60 by default).

    Piecewise linear between frames, exact. NaN without arrival, or when the series ends before the window does.
    """
    time = frames.mid_min * 60.0
    curve = np.asarray(concentration, dtype=float)
    step = np.diff(time).reshape(-1, *[1] * (curve.ndim - 1))
    running = np.concatenate([np.zeros((1, *curve.shape[1:])), np.cumsum(step * (curve[1:] + curve[:-1]) / 2, axis=0)])
    first = np.nan_to_num(arrival_min * 60.0, nan=time[0])
    last = first + seconds
    area = _integral_to(time, curve, running, last) - _integral_to(time, curve, running, first)
    return np.where(np.isfinite(arrival_min) & (last <= time[-1] + 1e-6), area, np.nan)


def _integral_to(time: np.ndarray, curve: np.ndarray, running: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Integral of piecewise linear curves (frames, ...) from the first time to each voxel's own time."""
    k = np.clip(np.searchsorted(time, at, side="right") - 1, 0, len(time) - 2)
    c0, c1, base = (np.take_along_axis(a, i[None], 0)[0] for a, i in ((curve, k), (curve, k + 1), (running, k)))
    h = time[k + 1] - time[k]
    u = at - time[k]
    return base + u * c0 + u**2 / (2 * h) * (c1 - c0)


def area_error(
    concentration: np.ndarray, frames: Frames, baseline: slice, seconds: float = 60.0, level_taken: bool = True
) -> np.ndarray:
    """Standard error of the iAUC from the noise of the baseline: sd * sqrt(seconds * mean frame distance + level).

    The trapezoid gives every frame of the window one frame distance as weight, and their noise is independent. Where
    the mean of the n baseline frames was taken for zero (``level_taken``), its error counts over the whole window:
    level = seconds^2 / n.

    Raises
    ------
    RequestError
        If the baseline has fewer than two frames.
    """
    before = np.asarray(concentration[baseline], dtype=float)
    if before.shape[0] < 2:
        raise RequestError(f"The baseline has {before.shape[0]} frames.", "Name at least two before arrival.")
    distance = float(np.mean(np.diff(frames.mid_min))) * 60.0
    level = seconds**2 / before.shape[0] if level_taken else 0.0
    return before.std(axis=0, ddof=1) * np.sqrt(seconds * distance + level)
