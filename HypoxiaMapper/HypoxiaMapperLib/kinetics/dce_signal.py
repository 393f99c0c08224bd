"""Spoiled gradient echo: signal, concentration, T1 from flip angles. Seconds, degrees, mmol/L."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, RequestError
from ..fitting.codes import FitCode
from ..fitting.model import FunctionModel, Parameter

if TYPE_CHECKING:
    import torch

R1_PER_MMOL_S = 4.5
"""Relaxivity of gadolinium at 1.5 T in 1/(mmol/L)/s; METHODS section 5 names 4.5 and 3.4."""
LONGEST_T1_S = 20.0
"""No tissue or fluid has a T1 this long: the map is in milliseconds."""
T1 = Parameter("T1", "s", 1e-3, 10.0)
M0 = Parameter("M0", "{signal}", 0.0, np.inf)


def spgr_signal(t1_s: np.ndarray, m0: np.ndarray | float, tr_s: float, flip_deg: np.ndarray | float) -> np.ndarray:
    """Steady-state signal M0 sin(a) (1-E1)/(1-E1 cos(a)), E1 = exp(-TR/T1)."""
    angle = np.deg2rad(flip_deg)
    e1 = np.exp(-tr_s / np.asarray(t1_s, dtype=float))
    return m0 * np.sin(angle) * (1 - e1) / (1 - e1 * np.cos(angle))


def signal_to_concentration(
    signal: np.ndarray,
    t10_s: np.ndarray | float,
    *,
    tr_s: float,
    flip_deg: float,
    baseline: slice,
    r1_per_mmol_s: float = R1_PER_MMOL_S,
    b1: np.ndarray | None = None,
    level: np.ndarray | float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Concentration C = (1/T1 - 1/T10)/r1 from a spoiled gradient echo series.

    Negative concentrations are kept: noise around zero must stay symmetric, or every mean and fit is biased upwards.
    A signal no T1 can explain (negative, or at or above M0 sin a) gives NaN.

    Parameters
    ----------
    signal : numpy.ndarray
        Shape (frames, ...).
    t10_s : numpy.ndarray or float
        T1 before contrast in seconds, map or one value.
    tr_s, flip_deg : float
        Repetition time in seconds, flip angle in degrees.
    baseline : slice
        Frames before arrival whose mean is the unenhanced signal.
    r1_per_mmol_s : float
        Relaxivity.
    b1 : numpy.ndarray or None
        Ratio of actual to nominal flip angle, map.
    level : numpy.ndarray or float
        Factor on the unenhanced signal: what would follow if its mean were off.

    Returns
    -------
    concentration : numpy.ndarray
        mmol/L, shape of the signal.
    code : numpy.ndarray
        ``FitCode`` per voxel: INVALID where T10, B1 or the baseline signal is impossible.

    Raises
    ------
    InputError
        If T10 is zero or negative everywhere, or in milliseconds, or no baseline frame is given.
    RequestError
        For impossible TR, flip angle or relaxivity.
    """
    check_sequence(tr_s, flip_deg)
    if not r1_per_mmol_s > 0:
        raise RequestError(f"Relaxivity is {r1_per_mmol_s}.", "Give it in 1/(mmol/L)/s, about 3.4 to 4.5.")
    t10 = np.asarray(t10_s, dtype=float)
    check_t1(t10)
    before = np.asarray(signal[baseline], dtype=float)
    if before.shape[0] == 0:
        raise InputError("There is no baseline frame.", "Name at least one frame before contrast arrival.")
    angle = np.deg2rad(flip_deg) * (1.0 if b1 is None else np.asarray(b1, dtype=float))
    cos = np.cos(angle)
    with np.errstate(invalid="ignore", divide="ignore"):
        e10 = np.exp(-tr_s / t10)
        full = level * before.mean(axis=0) * (1 - e10 * cos) / (1 - e10)  # M0 sin(a)
        e1 = (full - signal) / (full - signal * cos)
        rate = -np.log(np.where((e1 > 0) & (e1 < 1) & (full > 0), e1, np.nan)) / tr_s
        concentration = (rate - 1 / t10) / r1_per_mmol_s
    good = np.broadcast_to((t10 > 0) & np.isfinite(full) & (full > 0), signal.shape[1:])
    code = np.where(good & np.all(np.isfinite(concentration), axis=0), FitCode.OK, FitCode.INVALID).astype(np.uint8)
    return np.where(good, concentration, np.nan), code


def check_t1(t1_s: np.ndarray) -> None:
    """Refuse a T1 map that is nowhere positive, or in milliseconds.

    Raises
    ------
    InputError
        With the median found.
    """
    positive = t1_s[np.isfinite(t1_s) & (t1_s > 0)]
    if positive.size == 0:
        raise InputError("T1 is zero or negative in every voxel.", "Give a T1 map in seconds.")
    if np.median(positive) > LONGEST_T1_S:
        raise InputError(f"The median T1 is {np.median(positive):.4g} s.", "The map is in ms: divide it by 1000.")


def check_sequence(tr_s: float, flip_deg: np.ndarray | float) -> None:
    """Refuse a repetition time in ms or a flip angle in radians.

    Raises
    ------
    RequestError
        Naming the value.
    """
    if not 0 < tr_s < 1:
        raise RequestError(f"Repetition time is {tr_s} s.", "Give it in seconds; spoiled gradient echo has a few ms.")
    angles = np.atleast_1d(np.asarray(flip_deg, dtype=float))
    # Radians of 30 to 90 degrees look like small angles; but nobody measures with these alone.
    if not np.all((angles >= 0.5) & (angles <= 90)) or angles.max() <= np.pi / 2:
        raise RequestError(f"Flip angle is {angles.tolist()} degrees.", "Give degrees (0.5 to 90), not radians.")


class VariableFlipAngle(FunctionModel):
    """T1 and M0 from spoiled gradient echoes at several flip angles, non-linear, linear start.

    The one given quantity per voxel, when used, is B1: actual over nominal flip angle. Linear start: Deoni 2003, doi
    10.1002/mrm.10407.

    Parameters
    ----------
    flip_deg : numpy.ndarray
        Flip angle of each image in degrees.
    tr_s : float
        Repetition time in seconds.
    """

    parameters = (T1, M0)
    may_be_exact = True

    def __init__(self, flip_deg: np.ndarray, tr_s: float) -> None:
        check_sequence(tr_s, flip_deg)
        self.measured_at = np.deg2rad(np.asarray(flip_deg, dtype=float))
        self.tr_s, self.n_frames = tr_s, self.measured_at.size

    def _angles(self, like: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        angle = self.places(like)
        return angle if extra is None else angle * extra[0]

    def value(self, p: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Signal at every angle."""
        import torch

        angle = self._angles(p, extra)
        e1 = torch.exp(-self.tr_s / p[0])
        return p[1] * torch.sin(angle) * (1 - e1) / (1 - e1 * torch.cos(angle))

    def start(self, y: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Line S/sin(a) = E1 S/tan(a) + M0 (1-E1)."""
        import torch

        angle = self._angles(y, extra)
        x, v = y / torch.tan(angle), y / torch.sin(angle)
        dx = x - x.mean(0)
        e1 = ((dx * (v - v.mean(0))).sum(0) / dx.square().sum(0)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([-self.tr_s / torch.log(e1), (v.mean(0) - e1 * x.mean(0)) / (1 - e1)])
