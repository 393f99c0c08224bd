"""How good a predicted ratio map is: agreement, hypoxic volume, and whether its uncertainty can be believed.

Quality is measured inside the GTV only; the measures are those METHODS §6 asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

RELIABILITY_BINS = 15
NOMINAL_COVERAGE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Intervals whose coverage is counted; the last one is the 90 % interval."""


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson r of two arrays of one shape; NaN with fewer than two values or where one of both is constant."""
    a, b = np.asarray(a, dtype=float).ravel(), np.asarray(b, dtype=float).ravel()
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def mean_absolute_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean of ``|prediction − truth|`` in the unit of both; NaN of nothing."""
    return float(np.mean(np.abs(np.asarray(prediction) - np.asarray(truth)))) if np.size(truth) else float("nan")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two boolean arrays: NaN if both are empty, 0 if one is (VALIDATION row 28)."""
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else float("nan")


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of paired values: mean difference and the limits that hold 95 % of the differences.

    Source: Bland and Altman 1986, 10.1016/S0140-6736(86)90837-8.
    """

    bias: float
    lower: float
    upper: float


def bland_altman(prediction: np.ndarray, truth: np.ndarray) -> BlandAltman:
    """Bias ``mean(prediction − truth)`` and ``bias ± 1.96 sd`` (sd with n − 1) of at least two pairs, else NaN."""
    difference = np.asarray(prediction, dtype=float) - np.asarray(truth, dtype=float)
    if difference.size < 2:
        return BlandAltman(float("nan"), float("nan"), float("nan"))
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return BlandAltman(bias, bias - spread, bias + spread)


@dataclass(frozen=True)
class Moments:
    """Sums from which slope and r of truth against prediction follow; sums of patients add up.

    Parameters
    ----------
    count : float
        Voxels.
    p, t, pp, pt, tt : float
        Sums of prediction, truth, and their products.
    """

    count: float
    p: float
    t: float
    pp: float
    pt: float
    tt: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    @property
    def slope(self) -> float:
        """Slope of the least squares line of truth on prediction: 1 is calibrated, below 1 the map exaggerates."""
        variance = self.pp - self.p**2 / self.count if self.count else 0.0
        if variance <= 1e-12 * max(self.pp, 1e-300):
            return float("nan")
        return (self.pt - self.p * self.t / self.count) / variance

    @property
    def intercept(self) -> float:
        """Truth where the prediction is 0 on that line."""
        return (self.t - self.slope * self.p) / self.count if self.count else float("nan")


def _values(moments: Moments) -> tuple[float, ...]:
    return moments.count, moments.p, moments.t, moments.pp, moments.pt, moments.tt


def moments(prediction: np.ndarray, truth: np.ndarray) -> Moments:
    """Sums over voxels for ``Moments``."""
    p, t = np.asarray(prediction, dtype=float).ravel(), np.asarray(truth, dtype=float).ravel()
    return Moments(float(p.size), *(float(v) for v in (p.sum(), t.sum(), p @ p, p @ t, t @ t)))


def calibration_slope(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Slope of truth regressed on prediction (ideal 1); NaN where the prediction is constant."""
    return moments(prediction, truth).slope


def probability_above(mean: np.ndarray, sd: np.ndarray, threshold: float) -> np.ndarray:
    """P(value > threshold) of a normal distribution with this mean and standard deviation, voxel by voxel."""
    return np.asarray(norm.sf((threshold - np.asarray(mean, dtype=float)) / np.maximum(sd, 1e-9)))


def reliability(probability: np.ndarray, outcome: np.ndarray, bins: int = RELIABILITY_BINS) -> np.ndarray:
    """Per bin of predicted probability: how many, sum of probabilities, how many came true. Shape (3, bins).

    Bins have equal width on [0, 1]; tables of patients add up.
    """
    probability = np.asarray(probability, dtype=float).ravel()
    index = np.minimum((probability * bins).astype(int), bins - 1)
    weights = (None, probability, np.asarray(outcome, dtype=float).ravel())
    return np.stack([np.bincount(index, weights=w, minlength=bins).astype(float) for w in weights])


def expected_calibration_error(table: np.ndarray) -> float:
    """ECE = Σ (n_b / N) |acc_b − conf_b| of a ``reliability`` table (METHODS §6); NaN of nothing."""
    count, confidence, correct = table
    return float(np.abs(correct - confidence).sum() / count.sum()) if count.sum() else float("nan")


def interval_hits(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many truths lie inside the central interval of each ``NOMINAL_COVERAGE``. Shape (9,)."""
    z = np.abs(standardised_errors(mean, sd, truth))
    return np.array([np.count_nonzero(z <= norm.ppf(0.5 + level / 2)) for level in NOMINAL_COVERAGE], dtype=float)


def standardised_errors(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(truth − mean) / sd``: standard normal if the uncertainty is right."""
    return (np.asarray(truth, dtype=float) - np.asarray(mean, dtype=float)) / np.maximum(sd, 1e-9)


def standardised_slope(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> float:
    """Slope of the 5th to 95th percentiles of the standardised errors on those of a normal distribution.

    1: the standard deviations are right; above 1: too small (overconfident). NaN with fewer than twenty values.
    """
    z = standardised_errors(mean, sd, truth)
    if z.size < 20:
        return float("nan")
    levels = np.linspace(0.05, 0.95, 19)
    return calibration_slope(norm.ppf(levels), np.quantile(z, levels))


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its 95 % interval, and what that says.

    Parameters
    ----------
    verdict : str
        ``"better"``, ``"worse"`` or ``"no difference shown"`` of the first over the second.
    """

    mean: float
    lower: float
    upper: float
    pairs: int
    verdict: str


def paired_difference(first: np.ndarray, second: np.ndarray, lower_is_better: bool, seed: int) -> Difference:
    """Bootstrap over patients of ``mean(first − second)``; pairs with a NaN are left out.

    Parameters
    ----------
    first, second : numpy.ndarray
        One value per patient, in the same order.
    seed : int
        Of the 2000 resamples; the 2.5th and 97.5th percentile bound the interval.
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    difference = difference[np.isfinite(difference)]
    n = difference.size
    if n < 2:
        return Difference(float("nan"), float("nan"), float("nan"), n, "no difference shown")
    draws = np.random.default_rng(seed).integers(0, n, size=(2000, n))
    low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
    sign = -1.0 if lower_is_better else 1.0
    gain = sorted((sign * low, sign * high))
    verdict = "better" if gain[0] > 0 else "worse" if gain[1] < 0 else "no difference shown"
    return Difference(float(difference.mean()), float(low), float(high), n, verdict)
