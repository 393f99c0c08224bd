"""Oxygen-enhanced MRI and quantitative BOLD: delta R1, Oxy-E/Oxy-R, perfused Oxy-R, R2', OEF, CMRO2."""

from __future__ import annotations

from enum import IntEnum
from math import comb

import numpy as np

from ..errors import RequestError
from .dce_signal import check_t1

OXYGEN_TESTS = ("welch", "student", "mann-whitney")
SIGNIFICANCE = 0.05
GYROMAGNETIC_RAD_PER_S_T = 2.6752218744e8  # proton, CODATA 2018
SUSCEPTIBILITY_CGS = 0.264e-6  # fully deoxygenated against oxygenated blood per unit hematocrit, METHODS section 5


class OxygenClass(IntEnum):
    """Class of a voxel from OE-MRI with DCE perfusion (METHODS section 5)."""

    UNKNOWN = 0
    PERFUSED_ENHANCING = 1
    PERFUSED_REFRACTORY = 2
    """pOxy-R: perfused, but oxygen does not raise R1. The hypoxic class."""
    NOT_PERFUSED = 3


def delta_r1(t1_s: np.ndarray, t10_s: np.ndarray) -> np.ndarray:
    """Delta R1 = 1/T1(t) - 1/T10 in 1/s; NaN where a T1 is not positive.

    Raises
    ------
    InputError
        If T1 is nowhere positive or in ms.
    """
    now, before = np.asarray(t1_s, dtype=float), np.asarray(t10_s, dtype=float)
    for t1 in (now, before):
        check_t1(t1)
    good = (now > 0) & (before > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(good, 1 / now - 1 / before, np.nan)


def oxygen_enhancing(
    change: np.ndarray, air: np.ndarray, oxygen: np.ndarray, test: str = "welch", significance: float = SIGNIFICANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Oxy-E: delta R1 of the oxygen phase is significantly above that of the air phase, and its mean above zero.

    Parameters
    ----------
    change : numpy.ndarray
        Delta R1, shape (frames, ...).
    air, oxygen : numpy.ndarray
        Indices of the frames of each phase; transition frames in neither.
    test : str
        One-sided ``welch``, ``student`` or ``mann-whitney``. METHODS marks the choice of test as not confirmed.
    significance : float
        Level p.

    Returns
    -------
    enhancing : numpy.ndarray
        True for Oxy-E, False for Oxy-R or where p is NaN.
    p_value : numpy.ndarray
        One-sided p per voxel; NaN where a frame is not finite.

    Raises
    ------
    RequestError
        For an unknown test, shared frames, fewer than two frames in a phase, or too few for the significance.
    """
    from scipy import stats

    a, b = np.unique(np.asarray(air)), np.unique(np.asarray(oxygen))
    if test not in OXYGEN_TESTS:
        raise RequestError(f"There is no test {test!r}.", f"Valid tests: {', '.join(OXYGEN_TESTS)}.")
    if a.size < 2 or b.size < 2 or np.intersect1d(a, b).size or max(a[-1], b[-1]) >= change.shape[0]:
        raise RequestError(
            f"Air phase has {a.size} frames, oxygen phase {b.size}, of {change.shape[0]}.",
            "Give at least two frames for each phase and none to both.",
        )
    if test == "mann-whitney":
        least = 1 / comb(a.size + b.size, a.size)
        if least >= significance:
            raise RequestError(
                f"With {a.size} air and {b.size} oxygen frames no p of mann-whitney is below {least:.2g}.",
                "Every voxel would be refractory: take longer phases, or another test.",
            )
        p_value = stats.mannwhitneyu(change[b], change[a], alternative="greater", axis=0).pvalue
    else:
        equal = test == "student"
        p_value = stats.ttest_ind(change[b], change[a], axis=0, equal_var=equal, alternative="greater").pvalue
    finite = np.isfinite(change[np.r_[a, b]]).all(axis=0)
    # Two phases without any noise and change have no p: nothing speaks for a rise.
    p_value = np.where(finite, np.nan_to_num(p_value, nan=1.0), np.nan)
    return (p_value < significance) & (change[b].mean(axis=0) > 0), p_value


def perfused(
    area: np.ndarray, area_error: np.ndarray, baseline_frames: int, significance: float = SIGNIFICANCE
) -> np.ndarray:
    """True where iAUC60 is significantly above zero: one-sided t-test of the area over its standard error.

    The error comes from the noise of ``baseline_frames`` frames, so t has one degree of freedom less.
    """
    from scipy import stats

    limit = stats.t.isf(significance, baseline_frames - 1)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(area, nan=-1.0) > limit * np.nan_to_num(area_error, nan=np.inf)


def oxygen_classes(enhancing: np.ndarray, is_perfused: np.ndarray, known: np.ndarray) -> np.ndarray:
    """``OxygenClass`` per voxel; ``known`` is False where OE-MRI or DCE gave no value."""
    classes = np.where(enhancing, OxygenClass.PERFUSED_ENHANCING, OxygenClass.PERFUSED_REFRACTORY)
    classes = np.where(is_perfused, classes, OxygenClass.NOT_PERFUSED)
    return np.where(known, classes, OxygenClass.UNKNOWN).astype(np.uint8)


def class_fractions(classes: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Share of each known class in a mask.

    Raises
    ------
    RequestError
        If no voxel of the mask has a class.
    """
    inside = classes[np.asarray(mask, bool)]
    total = int((inside != OxygenClass.UNKNOWN).sum())
    if total == 0:
        raise RequestError("No voxel of the region has an oxygen class.", "Check region and series.")
    return {c.name.lower(): float((inside == c).sum() / total) for c in OxygenClass if c != OxygenClass.UNKNOWN}


def r2_prime(r2_star: np.ndarray, r2: np.ndarray) -> np.ndarray:
    """R2' = R2* - R2 in 1/s. Negative values (noise) are kept."""
    return np.asarray(r2_star, dtype=float) - np.asarray(r2, dtype=float)


def oxygen_extraction(
    r2_prime_per_s: np.ndarray, blood_volume: np.ndarray, hematocrit: float, field_t: float
) -> np.ndarray:
    """OEF = R2' / [(4/3) pi gamma dchi0 Hct B0 DBV], brain only (Yablonskiy 1994, doi 10.1002/mrm.1910320610).

    ``blood_volume`` is the deoxygenated (venous) blood fraction. NaN where it is not positive. Values above 1 are
    impossible and left as computed: they show that R2' holds more than deoxyhemoglobin.

    Raises
    ------
    RequestError
        If the hematocrit is not a fraction or the field strength not positive.
    """
    if not 0 < hematocrit < 1 or not field_t > 0:
        raise RequestError(f"Hematocrit {hematocrit}, field {field_t} T.", "Give a fraction and a positive field.")
    per_fraction = 4 / 3 * np.pi * GYROMAGNETIC_RAD_PER_S_T * SUSCEPTIBILITY_CGS * hematocrit * field_t
    volume = np.where(np.asarray(blood_volume) > 0, blood_volume, np.nan)
    return np.asarray(r2_prime_per_s, dtype=float) / (per_fraction * volume)


def oxygen_metabolism(flow: np.ndarray, extraction: np.ndarray, arterial_oxygen: float) -> np.ndarray:
    """CMRO2 = CBF * OEF * CaO2, in the product of the units of flow and arterial oxygen content."""
    if not arterial_oxygen > 0:
        raise RequestError(f"Arterial oxygen content is {arterial_oxygen}.", "Give a positive value.")
    return np.asarray(flow, dtype=float) * extraction * arterial_oxygen
