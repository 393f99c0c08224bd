"""Model pO2 from uptake, and hypoxic proportions. Uptake to pO2 is not unique: always label it "model pO2"."""

from __future__ import annotations

import numpy as np

from ..errors import RequestError

# METHODS section 3: common knowledge, not confirmed; so visible parameters of every method that uses them.
TOMA_DASU_A, TOMA_DASU_B, TOMA_DASU_C_MMHG = 10.9, 10.7, 2.5
BOWEN_FORMS = ("linear", "polynomial", "sigmoid")
PROPORTION_LIMITS_MMHG = (2.5, 5.0, 10.0)
HIGHEST_MMHG = 760.0
"""The pressure of pure oxygen at sea level."""


def toma_dasu(
    uptake: np.ndarray, a: float = TOMA_DASU_A, b: float = TOMA_DASU_B, c_mmhg: float = TOMA_DASU_C_MMHG
) -> np.ndarray:
    """Model pO2 in mmHg: the inverse of U = A - B p/(C+p), p = C (A-U)/(B-A+U) (Toma-Dasu 2009).

    ``uptake`` is relative to well-oxygenated tissue. Above A it is 0 mmHg; at A - B (0.2) the formula goes to infinity:
    below, and just above where no pressure is possible, NaN.

    Raises
    ------
    RequestError
        If B or C is not positive.
    """
    if not (b > 0 and c_mmhg > 0):
        raise RequestError(f"B is {b}, C is {c_mmhg} mmHg.", "Both must be positive.")
    u = np.asarray(uptake, dtype=float)
    rest = b - a + u
    with np.errstate(divide="ignore", invalid="ignore"):
        pressure = np.maximum(c_mmhg * (a - u) / rest, 0.0)
        return np.where((rest > 0) & (pressure <= HIGHEST_MMHG), pressure, np.nan)


def bowen(uptake: np.ndarray, form: str) -> np.ndarray:
    """Bowen's linear, polynomial or sigmoid map (PMC2858011): an empty slot.

    Its abstract speaks of functions from Cu-ATSM uptake to prescribed dose, not of pO2, and holds no coefficient.

    Raises
    ------
    RequestError
        Always: its coefficients could not be confirmed, and none are invented.
    """
    if form not in BOWEN_FORMS:
        raise RequestError(f"There is no Bowen map {form!r}.", f"Valid maps: {', '.join(BOWEN_FORMS)}.")
    raise RequestError(
        f"Bowen's {form} map of uptake to pO2 needs coefficients, which are not built in.",
        "Use Toma-Dasu's map, or a measured pO2 map.",
    )


def hypoxic_proportions(
    po2_mmhg: np.ndarray, mask: np.ndarray, limits_mmhg: tuple[float, ...] = PROPORTION_LIMITS_MMHG
) -> dict[float, float]:
    """HP2.5, HP5, HP10: share of the region's voxels with pO2 below each limit; NaN voxels count neither way.

    Raises
    ------
    RequestError
        If the region holds no voxel with a value.
    """
    inside = np.asarray(po2_mmhg, dtype=float)[np.asarray(mask, bool)]
    inside = inside[np.isfinite(inside)]
    if inside.size == 0:
        raise RequestError("The region holds no pO2 value.", "Check map and region.")
    return {limit: float((inside < limit).mean()) for limit in limits_mmhg}
