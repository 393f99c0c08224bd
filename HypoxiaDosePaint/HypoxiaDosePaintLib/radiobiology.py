"""Radiobiological arithmetic: BED, EQD2, oxygen enhancement, TCP, gEUD.

Model quantities of a population, never facts about a patient. Pressures in mmHg, doses in gray.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from HypoxiaMapperLib.errors import RequestError

OER_MAXIMUM = 3.0  # m, METHODS section 3
OER_HALF_PRESSURE_MMHG = 3.0  # K, METHODS section 3
OTHER_HALF_PRESSURE_MMHG = 2.5  # K as others have it, METHODS section 3: shows how far results hang on it
OXYGEN_MODEL_TEXT = f"Alper's oxygen model, m {OER_MAXIMUM:g} and K {OER_HALF_PRESSURE_MMHG:g} mmHg for any patient"


def bed_gy(dose_gy: float, fractions: int, alpha_beta_gy: float) -> float:
    """Biologically effective dose D(1 + d/(alpha/beta)) in gray (Fowler 1989, 10.1259/0007-1285-62-740-679)."""
    _check_positive(fractions=fractions, alpha_beta_gy=alpha_beta_gy)
    _check_not_negative(dose_gy=dose_gy)
    return dose_gy * (1 + dose_gy / fractions / alpha_beta_gy)


def eqd2_gy(dose_gy: float, fractions: int, alpha_beta_gy: float) -> float:
    """Equivalent dose in 2 Gy fractions D(d + ab)/(2 + ab) in gray."""
    return bed_gy(dose_gy, fractions, alpha_beta_gy) / (1 + 2 / alpha_beta_gy)


def oer(pressure_mmhg: ArrayLike, half_pressure_mmhg: float = OER_HALF_PRESSURE_MMHG) -> np.ndarray:
    """Oxygen enhancement ratio (m p + K)/(p + K), 1 when anoxic and m when well oxygenated (Alper 1956)."""
    p = np.asarray(pressure_mmhg, dtype=float)
    _check_positive(half_pressure_mmhg=half_pressure_mmhg)
    if (p < 0).any():
        raise RequestError(f"An oxygen pressure of {p.min()} mmHg was given.", "Pressures are at least 0 mmHg.")
    return (OER_MAXIMUM * p + half_pressure_mmhg) / (p + half_pressure_mmhg)


def hypoxia_reduction_factor(
    pressure_mmhg: ArrayLike, half_pressure_mmhg: float = OER_HALF_PRESSURE_MMHG
) -> np.ndarray:
    """Factor h = m(K + p)/(K + m p) by which dose must rise for the same effect as well-oxygenated tissue."""
    return OER_MAXIMUM / oer(pressure_mmhg, half_pressure_mmhg)


def offset_pressure_mmhg(dose_ratio: float, half_pressure_mmhg: float = OER_HALF_PRESSURE_MMHG) -> float:
    """Lowest pO2 (mmHg) that a dose ratio makes up for: the inverse of the hypoxia reduction factor.

    Returns infinity for a ratio of 1 and 0 for a ratio of m and above.
    """
    if dose_ratio <= 1:
        return math.inf
    return max(0.0, half_pressure_mmhg * (OER_MAXIMUM - dose_ratio) / (OER_MAXIMUM * (dose_ratio - 1)))


def iso_effect_dose_gy(
    base_gy: float, pressure_mmhg: float, half_pressure_mmhg: float = OER_HALF_PRESSURE_MMHG
) -> float:
    """Dose at ``pressure_mmhg`` with the effect of ``base_gy`` in well-oxygenated tissue, same fractions."""
    return float(base_gy * hypoxia_reduction_factor(pressure_mmhg, half_pressure_mmhg))


def tcp_poisson(
    dose_gy: float,
    fractions: int,
    clonogens: float,
    *,
    alpha_per_gy: float = 0.3,
    beta_per_gy2: float = 0.03,
    reduction_factor: float = 1.0,
) -> float:
    """Poisson tumour control probability exp(-N S), S = exp(-n(alpha d/h + beta d^2/h^2)).

    Defaults alpha 0.3 /Gy and beta = alpha/10 from METHODS section 9. A model number, not a prognosis.
    """
    _check_positive(fractions=fractions, clonogens=clonogens, reduction_factor=reduction_factor)
    _check_not_negative(dose_gy=dose_gy)
    d = dose_gy / fractions / reduction_factor
    return math.exp(-clonogens * math.exp(-fractions * (alpha_per_gy * d + beta_per_gy2 * d * d)))


def geud_gy(dose_gy: ArrayLike, a: float, weights: ArrayLike | None = None) -> float:
    """Generalised equivalent uniform dose (sum v D^a)^(1/a) in gray (Niemierko 1999).

    Parameters
    ----------
    dose_gy : array_like
        Doses of the voxels or bins, any shape.
    a : float
        Negative for tumours, at least 1 for organs (METHODS section 9); not 0.
    weights : array_like, optional
        Volumes, same shape; equal ones when left out.
    """
    d = np.asarray(dose_gy, dtype=float)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=float)
    if d.size == 0 or not (np.isfinite(d) & (d >= 0)).all() or not (math.isfinite(a) and a != 0):
        raise RequestError("gEUD needs doses of at least 0 Gy and a non-zero exponent.", "Check dose and exponent.")
    if w.shape != d.shape or not (np.isfinite(w) & (w >= 0)).all() or not w.sum() > 0:
        raise RequestError("gEUD needs a volume of at least 0 for every dose.", "Check the weights.")
    d, w = d[w > 0], w[w > 0]
    scale = d.max() if a > 0 else d.min()  # keeps large exponents from overflowing
    if scale == 0:
        return 0.0
    return float(scale * np.average((d / scale) ** a, weights=w) ** (1 / a))


def _check_not_negative(**values: float) -> None:
    """Refuse negative and undefined quantities by name."""
    for name, value in values.items():
        if not value >= 0:
            raise RequestError(f"{name} is {value}.", "It must be at least 0.")


def _check_positive(**values: float) -> None:
    """Refuse zero and negative model constants by name."""
    for name, value in values.items():
        if not value > 0:
            raise RequestError(f"{name} is {value}.", "It must be greater than 0.")
