"""Graphical analyses of dynamic PET and DCE: Patlak and Logan."""

from __future__ import annotations

import numpy as np

from ..errors import RequestError
from ..fitting.linear import fit_linear, fit_lines
from ..fitting.model import Parameter
from ..fitting.result import FitResult
from .input_function import InputFunction
from .timing import Frames

KI = Parameter("Ki", "mL/min/mL")
V0 = Parameter("V0", "mL/mL")
VT = Parameter("VT", "mL/mL")
INTERCEPT = Parameter("intercept", "min")
KTRANS = Parameter("Ktrans", "/min")
VP = Parameter("vp", "mL/mL")
LEAST_FRAMES = 3
LATEST_LOGAN_START_MIN = 0.5
"""Tissue has taken up nearly nothing by then; what came in before a later start would miss in its integral."""


def patlak(
    data: np.ndarray, input_function: InputFunction, frames: Frames, start_min: float, mask: np.ndarray | None = None
) -> FitResult:
    """Ki and V0 of Ct/Cp = Ki int(Cp)/Cp + V0 over frames that begin at or after ``start_min``.

    Patlak 1983, doi 10.1038/jcbfm.1983.1. ``data`` has the shape (frames, ...). A point weighs with the inverse of its
    variance, (Cp)^2 times the length of its frame: the division by a falling Cp makes late points noisier.

    Raises
    ------
    RequestError
        If fewer than three frames are left, or plasma is not positive in one of them.
    """
    x, y = patlak_points(data, input_function, frames, start_min)
    late = _late(frames, start_min, data)
    lengths = frames.duration_min[late] if frames.averaged else np.ones(late.size)
    root = input_function.on_frames(frames)[late] * np.sqrt(lengths)
    root = root / np.sqrt(np.mean(root**2))
    design = np.stack([x, np.ones_like(x)], axis=1) * root[:, None]
    return fit_linear(design, y * root.reshape(-1, *[1] * (y.ndim - 1)), (KI, V0), mask)


def patlak_points(
    data: np.ndarray, input_function: InputFunction, frames: Frames, start_min: float
) -> tuple[np.ndarray, np.ndarray]:
    """Stretched time (points,) and Ct/Cp (points, ...) of a Patlak plot; errors as ``patlak``."""
    late = _late(frames, start_min, data)
    plasma = input_function.on_frames(frames)[late]
    _require_positive(plasma)
    ratio = np.asarray(data[late], dtype=float) / plasma.reshape(-1, *[1] * (data.ndim - 1))
    return input_function.integral_on_frames(frames)[late] / plasma, ratio


def patlak_dce(data: np.ndarray, input_function: InputFunction, frames: Frames,
               mask: np.ndarray | None = None) -> FitResult:  # fmt: skip
    """Ktrans and vp of Ct = vp Cp + Ktrans int(Cp) over all frames (DCE-MRI, no backflow)."""
    _late(frames, -np.inf, data)
    design = np.stack([input_function.integral_on_frames(frames), input_function.on_frames(frames)], axis=1)
    return fit_linear(design, data, (KTRANS, VP), mask)


def logan(data: np.ndarray, input_function: InputFunction, frames: Frames, start_min: float) -> FitResult:
    """VT as the slope of int(Ct)/Ct over int(Cp)/Ct for frames that begin at or after ``start_min``.

    Logan 1990, doi 10.1038/jcbfm.1990.127. Noise in Ct biases VT low and, standing on both axes, leaves its standard
    error too small. Voxels where Ct is not positive in a frame used
    get ``FitCode.INVALID``.

    Raises
    ------
    RequestError
        If fewer than three frames are left, or the series begins later than half a minute after injection.
    """
    return fit_lines(*logan_points(data, input_function, frames, start_min), VT, INTERCEPT)


def logan_points(
    data: np.ndarray, input_function: InputFunction, frames: Frames, start_min: float
) -> tuple[np.ndarray, np.ndarray]:
    """int(Cp)/Ct and int(Ct)/Ct of a Logan plot, both (points, ...); errors as ``logan``."""
    late = _late(frames, start_min, data)
    if frames.start_min[0] > LATEST_LOGAN_START_MIN:
        raise RequestError(
            f"The series starts {frames.start_min[0]:.1f} min after injection; Logan needs the whole curve.",
            "Take a series from the injection on, or another method (a ratio, or two_tissue with a measured input).",
        )
    curve = np.asarray(data, dtype=float)
    column = (-1, *[1] * (data.ndim - 1))
    running = _tissue_integral(curve, frames, column)
    tissue = np.where(curve[late] > 0, curve[late], np.nan)
    plasma = input_function.integral_on_frames(frames)[late].reshape(column)
    return plasma / tissue, running[late] / tissue


def _tissue_integral(curve: np.ndarray, frames: Frames, column: tuple[int, ...]) -> np.ndarray:
    """Integral of a tissue curve (frames, ...) from zero to each mid-frame; a pause between frames is a straight line.

    Left out, a pause would miss in the tissue's integral and not in the plasma's: VT came out a third too low.
    """
    activity = curve * frames.duration_min.reshape(column)
    before = np.concatenate([np.zeros_like(curve[:1]), curve[:-1]])
    pause_min = frames.start_min - np.concatenate([[0.0], frames.end_min[:-1]])
    paused = np.maximum(pause_min, 0.0).reshape(column) * (before + curve) / 2
    return np.cumsum(activity + paused, axis=0) - activity / 2


def _late(frames: Frames, start_min: float, data: np.ndarray) -> np.ndarray:
    """Indices of the frames after the start time."""
    if data.shape[0] != frames.count:
        raise RequestError(f"{data.shape[0]} frames of data, {frames.count} frame times.", "Give one time per frame.")
    late = np.flatnonzero(frames.start_min >= start_min)
    if late.size < LEAST_FRAMES:
        raise RequestError(
            f"{late.size} frames begin at or after {start_min:g} min; a line needs {LEAST_FRAMES}.",
            "Choose an earlier start time.",
        )
    return late


def _require_positive(plasma: np.ndarray) -> None:
    if plasma.min() <= 0:
        raise RequestError("Plasma is not positive in every late frame.", "Check the input function or its units.")
