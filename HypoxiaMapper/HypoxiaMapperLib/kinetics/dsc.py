"""DSC perfusion: delta R2* curves, relative blood volume with leakage correction, normalised or standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..fitting.codes import FitCode
from ..fitting.linear import fit_linear
from ..fitting.model import Parameter
from .convolution import cumulative_integral
from .timing import Frames

LEAKAGE_PARAMETERS = (Parameter("K1", "1"), Parameter("K2", "/min"))


@dataclass(frozen=True)
class BloodVolume:
    """Relative blood volume maps.

    Parameters
    ----------
    corrected, uncorrected : numpy.ndarray
        Area under delta R2*, with and without leakage correction, in 1/s * min.
    leakage : numpy.ndarray
        K2 in 1/min; positive where T1 leakage lowers, negative where T2* leakage raises the curve.
    code : numpy.ndarray
        ``FitCode`` per voxel.
    reference : numpy.ndarray
        Mean curve A of the tissue without leakage, shape (frames,).
    """

    corrected: np.ndarray
    uncorrected: np.ndarray
    leakage: np.ndarray
    code: np.ndarray
    reference: np.ndarray


def delta_r2_star(signal: np.ndarray, echo_s: float, baseline: slice) -> np.ndarray:
    """Delta R2*(t) = -ln(S/S0)/TE in 1/s; NaN where a signal is not positive.

    Raises
    ------
    RequestError
        If TE is not in seconds or there is no baseline frame.
    """
    if not 0 < echo_s < 0.5:
        raise RequestError(f"Echo time is {echo_s} s.", "Give it in seconds, about 0.02 to 0.05.")
    curve = np.asarray(signal, dtype=float)
    before = curve[baseline]
    if before.shape[0] == 0:
        raise RequestError("There is no baseline frame.", "Name at least one frame before the bolus.")
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = curve / before.mean(axis=0)
        return -np.log(np.where(ratio > 0, ratio, np.nan)) / echo_s


def relative_blood_volume(change: np.ndarray, frames: Frames, reference: np.ndarray) -> BloodVolume:
    """rCBV from delta R2* with the Boxerman-Schmainda-Weisskoff correction (Boxerman 2006, AJNR 27:859).

    Each curve is K1 * A(t) - K2 * integral of A, with A the mean over non-enhancing tissue; the corrected area adds
    K2 * double integral of A to the measured one.

    Parameters
    ----------
    change : numpy.ndarray
        Delta R2*, shape (frames, ...).
    frames : Frames
        When it was measured.
    reference : numpy.ndarray
        Mask of non-enhancing brain without leakage.

    Raises
    ------
    RequestError
        If the reference holds no usable voxel or its curve is flat.
    """
    inside = change[:, np.asarray(reference, bool)]
    inside = inside[:, np.isfinite(inside).all(axis=0)]
    if inside.shape[1] == 0:
        raise RequestError("The leakage reference holds no voxel with a finite curve.", "Draw it in normal brain.")
    average = inside.mean(axis=1)
    if not np.ptp(average) > 0:
        raise RequestError("The curve of the leakage reference is flat.", "Check baseline and region.")
    time = frames.mid_min
    design = _leakage_design(average, frames)
    twice = cumulative_integral(time, -design[:, 1])[-1]
    result = fit_linear(design, change, LEAKAGE_PARAMETERS)
    step = np.diff(time).reshape(-1, *[1] * (change.ndim - 1))
    area = (step * (change[1:] + change[:-1]) / 2).sum(axis=0)
    area = np.where(result.code == FitCode.OK, area, np.nan)
    corrected = area + result.values["K2"] * twice
    return BloodVolume(corrected, area, result.values["K2"], result.code, average)


def leakage_curve(change: np.ndarray, frames: Frames, reference: np.ndarray) -> np.ndarray:
    """K1 A - K2 int A fitted to one curve (frames,), with ``BloodVolume.reference`` as A; shape (frames,)."""
    design = _leakage_design(reference, frames)
    found = fit_linear(design, change[:, None], LEAKAGE_PARAMETERS)
    return design @ np.array([found.values[q.name][0] for q in LEAKAGE_PARAMETERS])


def _leakage_design(reference: np.ndarray, frames: Frames) -> np.ndarray:
    """Columns A and -int A, shape (frames, 2)."""
    return np.stack([reference, -cumulative_integral(frames.mid_min, reference)], axis=1)


def normalised(blood_volume: np.ndarray, white_matter: np.ndarray) -> np.ndarray:
    """Normalised rCBV: divided by its mean in contralateral white matter.

    Raises
    ------
    RequestError
        If that mean is not positive.
    """
    mean = float(np.nanmean(blood_volume[np.asarray(white_matter, bool)])) if np.any(white_matter) else np.nan
    if not mean > 0:
        raise RequestError(f"Mean rCBV of white matter is {mean:.3g}.", "Draw another white-matter region.")
    return blood_volume / mean


def standardised(blood_volume: np.ndarray, from_landmarks: np.ndarray, to_landmarks: np.ndarray) -> np.ndarray:
    """Standardised rCBV: piecewise linear map of intensity landmarks (Bedekar 2010, doi 10.1002/mrm.22445).

    The landmarks come from the user's own training set; none are built in. NaN outside them.

    Raises
    ------
    RequestError
        If the landmarks do not rise or differ in number.
    """
    source, target = np.asarray(from_landmarks, dtype=float), np.asarray(to_landmarks, dtype=float)
    if source.size < 2 or source.shape != target.shape or np.any(np.diff(source) <= 0) or np.any(np.diff(target) <= 0):
        raise RequestError("Landmarks do not rise or differ in number.", "Give two rising lists of equal length.")
    return np.interp(blood_volume, source, target, left=np.nan, right=np.nan)
