"""What is prescribed: protocols (data files), dose levels, ceilings and the numbers shown beside them.

Doses are physical gray; EQD2 and BED are always named as such.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from HypoxiaMapperLib.errors import InputError, LimitError, RequestError

from .radiobiology import (
    OER_HALF_PRESSURE_MMHG,
    OTHER_HALF_PRESSURE_MMHG,
    OXYGEN_MODEL_TEXT,
    bed_gy,
    eqd2_gy,
    iso_effect_dose_gy,
    offset_pressure_mmhg,
)

PROTOCOL_FOLDER = Path(__file__).parent / "protocols"
CEILING_TOTAL_GY = 84.0  # METHODS 12.10
CEILING_PER_FRACTION_GY = 2.4  # METHODS 12.10: above it an override by name is needed
LOWEST_PER_FRACTION_GY = 1.0  # hyperfractionation gives 1.1 Gy and more: below, the dose of one fraction was given
LARGEST_DOSE_GY = 300.0  # no course comes near it: a larger number is centigray
WHOLE_CGY = 1e-6  # room for the binary form of a decimal number
ALPHA_BETA_TUMOUR_GY = 10.0  # METHODS 9, VALIDATION rows 10 and 11
ALPHA_BETA_LATE_GY = 3.0
DEFICIT_PRESSURES_MMHG = (10.0, 5.0, 2.5)  # METHODS 9

_PROTOCOL_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "title": str, "site": str, "base_dose_gy": (int, float), "boost_dose_gy": (int, float),
    "fractions": int, "base_margin_mm": (int, float), "boost_margin_mm": (int, float), "margin_source": str,
    "citation": str, "notes": list,
}  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """One dose-painting protocol as read from its data file.

    ``notes`` are shown wherever the protocol is chosen: what the trial did and did not do.
    """

    name: str
    title: str
    site: str
    base_dose_gy: float
    boost_dose_gy: float
    fractions: int
    base_margin_mm: float
    boost_margin_mm: float
    margin_source: str
    citation: str
    notes: tuple[str, ...]

    @property
    def doses_text(self) -> str:
        """Its own doses in words."""
        return f"{self.base_dose_gy:g} and {self.boost_dose_gy:g} Gy in {self.fractions} fractions"


@dataclass(frozen=True)
class DoseLevel:
    """One prescribed level with its radiobiological equivalents (all gray, alpha/beta 10 and 3)."""

    label: str
    dose_gy: float
    fractions: int

    @property
    def dose_per_fraction_gy(self) -> float:
        """Dose of one fraction in gray."""
        return self.dose_gy / self.fractions

    @property
    def eqd2_tumour_gy(self) -> float:
        """EQD2 with alpha/beta 10 Gy."""
        return eqd2_gy(self.dose_gy, self.fractions, ALPHA_BETA_TUMOUR_GY)

    @property
    def eqd2_late_gy(self) -> float:
        """EQD2 with alpha/beta 3 Gy."""
        return eqd2_gy(self.dose_gy, self.fractions, ALPHA_BETA_LATE_GY)

    @property
    def bed_tumour_gy(self) -> float:
        """BED with alpha/beta 10 Gy."""
        return bed_gy(self.dose_gy, self.fractions, ALPHA_BETA_TUMOUR_GY)


@dataclass(frozen=True)
class Prescription:
    """Base and boost level of one plan, checked against the ceilings."""

    protocol: str
    base: DoseLevel
    boost: DoseLevel
    override: str = ""

    @property
    def offset_pressure_mmhg(self) -> float:
        """Lowest model pO2 (mmHg) whose radioresistance the boost makes up for."""
        return offset_pressure_mmhg(self.boost.dose_gy / self.base.dose_gy)

    def deficits_gy(self, half_pressure_mmhg: float = OER_HALF_PRESSURE_MMHG) -> dict[float, float]:
        """Residual deficit (Gy) against iso-effect at 10, 5 and 2.5 mmHg: what the boost does not make up."""
        return {
            p: max(0.0, iso_effect_dose_gy(self.base.dose_gy, p, half_pressure_mmhg) - self.boost.dose_gy)
            for p in DEFICIT_PRESSURES_MMHG
        }

    @property
    def oxygen_model_text(self) -> str:
        """The model behind offset pressure and deficits, and what both are with the other K in use."""
        other = OTHER_HALF_PRESSURE_MMHG
        pressure = offset_pressure_mmhg(self.boost.dose_gy / self.base.dose_gy, other)
        gaps = ", ".join(f"{gap:.1f}" for gap in self.deficits_gy(other).values())
        return f"{OXYGEN_MODEL_TEXT}; with K {other:g} mmHg, as others have it, {pressure:.0f} mmHg and {gaps} Gy"


def doses_changed(protocol: Protocol, prescription: Prescription) -> bool:
    """Whether a prescription is no longer the one that the protocol is cited for."""
    own = (protocol.base_dose_gy, protocol.boost_dose_gy, protocol.fractions)
    return own != (prescription.base.dose_gy, prescription.boost.dose_gy, prescription.base.fractions)


def make_prescription(
    protocol: str, base_dose_gy: float, boost_dose_gy: float, fractions: int, override: str = ""
) -> Prescription:
    """Check doses in gray against order and ceilings and build the prescription.

    Parameters
    ----------
    override : str
        Name and reason of the person who takes responsibility for a dose above a ceiling; empty for none.

    Raises
    ------
    RequestError
        If a number is not a positive finite dose, or looks like cGy.
    LimitError
        If the boost does not lie above the base, or a ceiling is exceeded without an override.
    """
    _check_numbers(base_dose_gy, boost_dose_gy, fractions)
    base = DoseLevel("base", float(base_dose_gy), int(fractions))
    boost = DoseLevel("boost", float(boost_dose_gy), int(fractions))
    if boost.dose_gy <= base.dose_gy:
        raise LimitError(
            f"The boost of {boost.dose_gy:g} Gy does not lie above the base dose of {base.dose_gy:g} Gy.",
            "Give a boost above the base dose.",
        )
    over = ceiling_reasons(boost)
    if over and not override.strip():
        raise LimitError(
            f"The boost exceeds the ceiling: {'; '.join(over)}.",
            'Lower it, or give --override "dose name: reason" to take responsibility.',
        )
    return Prescription(protocol, base, boost, override.strip() if over else "")  # nobody lifted what was kept


def ceiling_reasons(level: DoseLevel) -> list[str]:
    """Which ceilings a level exceeds, as text; empty for none."""
    reasons = []
    if level.dose_gy > CEILING_TOTAL_GY + 1e-9:
        reasons.append(f"{level.dose_gy:g} Gy total is above {CEILING_TOTAL_GY:g} Gy")
    if level.dose_per_fraction_gy > CEILING_PER_FRACTION_GY + 1e-9:
        reasons.append(f"{level.dose_per_fraction_gy:.5g} Gy per fraction is above {CEILING_PER_FRACTION_GY:g} Gy")
    return reasons


def redistributed_low_dose_gy(mean_gy: float, high_gy: float, high_fraction: float, floor_gy: float = 0.0) -> float:
    """Dose to the rest that keeps the mean when a volume fraction gets ``high_gy``: (D - f D_high)/(1 - f).

    METHODS section 9, with its floor.

    Raises
    ------
    RequestError
        If the fraction does not lie in 0 to below 1, or a dose is not a number.
    LimitError
        If the rest would get less than ``floor_gy``.
    """
    if not 0 <= high_fraction < 1:
        raise RequestError(f"The boosted volume fraction is {high_fraction}.", "It must lie in 0 to below 1.")
    _check_dose("mean", mean_gy)
    _check_dose("boost", high_gy)
    low_gy = (mean_gy - high_fraction * high_gy) / (1 - high_fraction)
    if low_gy < floor_gy:
        raise LimitError(
            f"{high_gy:g} Gy to {high_fraction:.1%} of the volume at a mean of {mean_gy:g} Gy leaves "
            f"{low_gy:.2f} Gy for the rest, below the floor of {floor_gy:g} Gy.",
            "Boost less, or a smaller part.",
        )
    return low_gy


def dose_painting_by_numbers_gy(
    intensity: ArrayLike, i_min: float, i_max: float, d_min_gy: float, d_max_gy: float
) -> np.ndarray:
    """Voxel prescription D = Dmin + clip((I - Imin)/(Imax - Imin), 0, 1)(Dmax - Dmin) in gray (METHODS section 9).

    Parameters
    ----------
    intensity : array_like
        Map values of any shape; NaN (undefined) gets ``d_min_gy``: nothing is escalated on no evidence.
    i_min, i_max : float
        Map values that get the lowest and the highest dose (METHODS 9: 5th and 95th percentile inside the GTV).

    Raises
    ------
    RequestError
        If a limit is no number, or upper and lower ones are in the wrong order.
    """
    if not (math.isfinite(i_min) and math.isfinite(i_max) and i_min < i_max):
        raise RequestError(f"Map limits are {i_min} and {i_max}.", "The lower must lie below the upper.")
    _check_dose("lowest", d_min_gy)
    _check_dose("highest", d_max_gy)
    if d_max_gy < d_min_gy:
        raise RequestError(f"Dose limits are {d_min_gy:g} and {d_max_gy:g} Gy.", "The lower must come first.")
    share = np.clip((np.asarray(intensity, dtype=float) - i_min) / (i_max - i_min), 0.0, 1.0)
    return d_min_gy + np.nan_to_num(share, nan=0.0) * (d_max_gy - d_min_gy)


@cache
def all_protocols() -> dict[str, Protocol]:
    """Every protocol shipped with the software, by name."""
    return {path.stem: read_protocol(path) for path in sorted(PROTOCOL_FOLDER.glob("*.json"))}


def get_protocol(name_or_path: str) -> Protocol:
    """A shipped protocol by name, or one read from a JSON file of the user.

    Raises
    ------
    RequestError
        If there is neither; the valid names are listed.
    """
    if name_or_path in all_protocols():
        return all_protocols()[name_or_path]
    if name_or_path.endswith(".json"):
        return read_protocol(Path(name_or_path))
    raise RequestError(
        f"There is no protocol {name_or_path!r}.",
        f"Valid protocols: {', '.join(all_protocols())}; or give the path of a .json file.",
    )


def read_protocol(path: Path) -> Protocol:
    """Read and check one protocol file.

    Raises
    ------
    InputError
        Naming the file and the field that is missing, unknown, of the wrong type or out of range.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"Protocol file {path} does not exist.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"Protocol file {path} cannot be read: {error}.", "It must be a JSON object.") from error
    _check_protocol(path, data)
    data["notes"] = tuple(data["notes"])
    return Protocol(**data)


def _check_protocol(path: Path, data: Any) -> None:
    """Refuse a protocol with a missing, unknown or mistyped field."""
    if not isinstance(data, Mapping):
        raise InputError(f"Protocol file {path} is not a JSON object.", "See the shipped protocols for the form.")
    missing, unknown = _PROTOCOL_FIELDS.keys() - data.keys(), data.keys() - _PROTOCOL_FIELDS.keys()
    if missing or unknown:
        lacks = f"lacks {', '.join(sorted(missing))}" if missing else ""
        strange = f"has unknown field(s) {', '.join(sorted(map(str, unknown)))}" if unknown else ""
        raise InputError(
            f"Protocol file {path} {' and '.join(filter(None, (lacks, strange)))}.",
            f"All of these must be there: {', '.join(_PROTOCOL_FIELDS)}. "
            "`hypoxia protocols NAME` prints a file to copy.",
        )
    for key, kind in _PROTOCOL_FIELDS.items():
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            raise InputError(f"Protocol file {path}: {key} is {data[key]!r}.", "Its type is wrong.")
    for key in ("base_margin_mm", "boost_margin_mm"):
        if not 0 <= data[key] <= 50:
            raise InputError(f"Protocol file {path}: {key} is {data[key]}.", "Margins lie in 0 to 50 mm.")
    for key in ("name", "title", "margin_source", "citation"):
        if not data[key].strip():
            raise InputError(f"Protocol file {path}: {key} is empty.", "Say what it is and where it comes from.")
    if not all(isinstance(note, str) and note.strip() for note in data["notes"]):
        raise InputError(f"Protocol file {path}: notes are {data['notes']!r}.", "They must be a list of texts.")
    try:
        _check_numbers(data["base_dose_gy"], data["boost_dose_gy"], data["fractions"])
    except RequestError as error:
        raise InputError(f"Protocol file {path}: {error.message}", error.hint) from error
    if data["boost_dose_gy"] <= data["base_dose_gy"]:
        raise InputError(f"Protocol file {path}: boost_dose_gy is not above base_dose_gy.", "Raise the boost.")


def _check_numbers(base_gy: float, boost_gy: float, fractions: int) -> None:
    """Refuse doses that are no positive number of gray, and fractions that are no count."""
    if isinstance(fractions, bool) or not 1 <= fractions <= 100 or fractions != int(fractions):
        raise RequestError(f"Number of fractions is {fractions}.", "It must be a whole number from 1 to 100.")
    _check_dose("base", base_gy)
    _check_dose("boost", boost_gy)
    if base_gy < LOWEST_PER_FRACTION_GY * fractions:
        raise RequestError(
            f"The base dose of {base_gy:g} Gy is {base_gy / fractions:.3g} Gy in each of {fractions} fractions.",
            "Give the total dose of all fractions.",
        )


def _check_dose(label: str, dose_gy: float) -> None:
    """Refuse what is no positive number of gray."""
    if not (math.isfinite(dose_gy) and dose_gy > 0):
        raise RequestError(f"The {label} dose is {dose_gy} Gy.", "It must be a positive number of gray.")
    if dose_gy > LARGEST_DOSE_GY:
        raise RequestError(f"The {label} dose is {dose_gy:g} Gy.", "Doses are in gray; this looks like cGy.")
    if abs(100 * dose_gy - round(100 * dose_gy)) > WHOLE_CGY:
        raise RequestError(
            f"The {label} dose is {dose_gy} Gy.", "Give whole cGy (two decimals): targets are named by their cGy."
        )
