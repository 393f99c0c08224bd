"""Standardised uptake values: the formulas alone, on plain numbers (METHODS section 1).

Every function takes and returns numbers whose units stand in the argument names. Reading the numbers from DICOM is
``dicomio.pet``'s work.

Sources: QIBA FDG-PET/CT profile and its vendor-neutral SUV pseudo-code; James (1976) and Janmahasatian et al.,
Clin Pharmacokinet 2005, doi 10.2165/00003088-200544100-00004, for lean body mass; Du Bois (1916) for surface area.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .errors import InputError

_MEAN_SEX_CODES = ("O", "")  # "other" and unknown: mean of the two formulas (METHODS section 1)
# A choice, wide of every PET protocol: outside, the number is in another unit (kBq reads as 1/1000, and SUV as 1000
# times too high), and SUV may not be computed from it. It holds for files in SUV, too: the scanner divided by it.
POSSIBLE_ACTIVITY_MBQ = (1.0, 10_000.0)
MAXIMUM_WEIGHT_KG = 1000.0
"""Heavier than anyone known: grams or a typing error."""


def decay_factor(elapsed_s: float, half_life_s: float) -> float:
    """Fraction of activity left after ``elapsed_s``: 2^(-t / T_half). More than 1 for a negative time."""
    _require_positive(half_life_s, "half-life", "s")
    return math.exp(-math.log(2.0) * elapsed_s / half_life_s)


def mean_decay_time_s(frame_s: float, half_life_s: float) -> float:
    """Time from the start of a frame at which the activity equals its mean over the frame, in seconds.

    t_avg = (1 / lambda) ln(lambda d / (1 - exp(-lambda d))), lambda = ln 2 / T_half, d the frame length.
    """
    _require_positive(half_life_s, "half-life", "s")
    if not math.isfinite(frame_s) or frame_s < 0:
        raise InputError(f"Frame duration is {frame_s} s.", "It must be zero or more seconds.")
    decay_rate = math.log(2.0) / half_life_s
    exponent = decay_rate * frame_s
    if exponent < 1e-6:  # the series t = d/2 is exact to double precision there, the logarithm is not
        return frame_s / 2.0
    return math.log(exponent / -math.expm1(-exponent)) / decay_rate


def suvbw_factor(
    weight_kg: float, injected_activity_bq: float, elapsed_s: float = 0.0, half_life_s: float = math.inf
) -> float:
    """Factor from activity concentration (Bq/ml) to SUVbw (g/ml).

    SUVbw = C W / (D 2^(-dt / T_half)), W the weight in grams.

    Parameters
    ----------
    weight_kg, injected_activity_bq : float
        Body weight, and activity at the time of injection.
    elapsed_s : float
        Time from injection to the moment the voxel values are decay corrected to; 0 for Decay Correction ADMIN.
    half_life_s : float
        Half-life; not needed when ``elapsed_s`` is 0.

    Raises
    ------
    InputError
        If weight, activity or half-life is not a positive number.
    """
    _require_positive(weight_kg, "body weight", "kg")
    _require_positive(injected_activity_bq, "injected activity", "Bq")
    remaining = 1.0 if elapsed_s == 0 else decay_factor(elapsed_s, half_life_s)
    return weight_kg * 1000.0 / (injected_activity_bq * remaining)


def lean_body_mass_james_kg(weight_kg: float, height_cm: float, sex: str) -> float:
    """Lean body mass after James, kg: M 1.10 W - 120 (W/H)^2, F 1.07 W - 148 (W/H)^2."""
    ratio_squared = (weight_kg / _height(height_cm)) ** 2
    return _by_sex(sex, lambda: 1.10 * weight_kg - 120 * ratio_squared, lambda: 1.07 * weight_kg - 148 * ratio_squared)


def lean_body_mass_james128_kg(weight_kg: float, height_cm: float, sex: str) -> float:
    """Lean body mass after James in the variant with 128 for males, kg."""
    ratio_squared = (weight_kg / _height(height_cm)) ** 2
    return _by_sex(sex, lambda: 1.10 * weight_kg - 128 * ratio_squared, lambda: 1.07 * weight_kg - 148 * ratio_squared)


def lean_body_mass_janmahasatian_kg(weight_kg: float, height_cm: float, sex: str) -> float:
    """Lean body mass after Janmahasatian, kg: M 9270 W / (6680 + 216 BMI), F 9270 W / (8780 + 244 BMI)."""
    bmi = weight_kg / (_height(height_cm) / 100.0) ** 2
    return _by_sex(sex, lambda: 9270 * weight_kg / (6680 + 216 * bmi), lambda: 9270 * weight_kg / (8780 + 244 * bmi))


def body_surface_area_m2(weight_kg: float, height_cm: float) -> float:
    """Body surface area after Du Bois, m^2: 0.007184 W^0.425 H^0.725."""
    return float(0.007184 * weight_kg**0.425 * _height(height_cm) ** 0.725)


def ideal_body_weight_kg(height_cm: float, sex: str) -> float:
    """Ideal body weight, kg: M 48 + 1.06 (H - 152), F 45.5 + 0.91 (H - 152)."""
    above_cm = _height(height_cm) - 152.0
    return _by_sex(sex, lambda: 48.0 + 1.06 * above_cm, lambda: 45.5 + 0.91 * above_cm)


def suvbw_from_suv_factor(suv_type: str, weight_kg: float, height_cm: float, sex: str) -> float:
    """Factor that turns an SUV of another normalisation back into SUVbw.

    SUV_x = C N_x / D, so SUVbw = SUV_x W / N_x with weight and normaliser both in grams (surface area in cm^2).

    Parameters
    ----------
    suv_type : str
        DICOM SUV Type (0054,1006): BW, BSA, LBM, LBMJAMES128, LBMJANMA or IBW.
    weight_kg, height_cm, sex
        Patient; not used for BW.

    Raises
    ------
    InputError
        For an unknown type, or a normaliser that is not positive.
    """
    if suv_type == "BW":
        return 1.0
    normalisers: dict[str, Callable[[], float]] = {
        "LBM": lambda: lean_body_mass_james_kg(weight_kg, height_cm, sex) * 1000.0,
        "LBMJAMES128": lambda: lean_body_mass_james128_kg(weight_kg, height_cm, sex) * 1000.0,
        "LBMJANMA": lambda: lean_body_mass_janmahasatian_kg(weight_kg, height_cm, sex) * 1000.0,
        "IBW": lambda: ideal_body_weight_kg(height_cm, sex) * 1000.0,
        "BSA": lambda: body_surface_area_m2(weight_kg, height_cm) * 1e4,
    }
    if suv_type not in normalisers:
        raise InputError(f"SUV Type (0054,1006) is {suv_type!r}.", f"Known types: BW, {', '.join(normalisers)}.")
    _require_positive(weight_kg, "body weight", "kg")
    normaliser = normalisers[suv_type]()
    _require_positive(normaliser, f"normaliser of SUV Type {suv_type}", "g or cm2")
    return weight_kg * 1000.0 / normaliser


def _by_sex(sex: str, male: Callable[[], float], female: Callable[[], float]) -> float:
    """Value for the patient's sex; mean of both for "O" and unknown."""
    if sex == "M":
        return male()
    if sex == "F":
        return female()
    if sex in _MEAN_SEX_CODES:
        return (male() + female()) / 2.0
    raise InputError(f"Patient's Sex (0010,0040) is {sex!r}.", "DICOM knows M, F and O.")


def _height(height_cm: float) -> float:
    """Height, refused when it is not positive."""
    _require_positive(height_cm, "body height", "cm")
    return height_cm


def _require_positive(value: float, what: str, unit: str) -> None:
    """Refuse zero, negative and NaN."""
    if not value > 0:
        raise InputError(f"The {what} is {value} {unit}.", "It must be a positive number.")
