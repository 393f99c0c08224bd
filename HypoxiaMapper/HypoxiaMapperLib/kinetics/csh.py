"""Consumption and supply based hypoxia (Hompland 2018, doi 10.1158/0008-5472.CAN-17-3806); the line is the user's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, RequestError

REQUIRED = ("consumption", "consumption_unit", "supply", "supply_unit", "slope", "intercept", "provenance")


@dataclass(frozen=True)
class CuttingLine:
    """supply = slope * consumption_map + intercept; a voxel below the line is hypoxic.

    Parameters
    ----------
    consumption, supply : str
        Names of the two maps (``ADC``; ``fBV`` or ``Ktrans``).
    consumption_unit, supply_unit : str
        UCUM units the line was calibrated in; maps must carry the same.
    slope, intercept : float
        The line.
    provenance : str
        Where it was calibrated; shown with every map.
    """

    consumption: str
    consumption_unit: str
    supply: str
    supply_unit: str
    slope: float
    intercept: float
    provenance: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept)):
            raise RequestError("The cutting line is not finite.", "Check slope and intercept of the calibration.")
        if not self.provenance.strip():
            raise RequestError("The cutting line has no provenance.", "State where it was calibrated.")

    @classmethod
    def from_json(cls, path: Path) -> CuttingLine:
        """Read the user's calibration file.

        Raises
        ------
        InputError
            If it cannot be read, lacks a key or holds a word where a number belongs.
        """
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"Calibration {path} cannot be read: {error}.", "Give a JSON file.") from error
        missing = [key for key in REQUIRED if not isinstance(facts, dict) or key not in facts]
        if missing:
            raise InputError(f"Calibration {path} lacks {', '.join(missing)}.", f"It needs {', '.join(REQUIRED)}.")
        try:
            slope, intercept = float(facts["slope"]), float(facts["intercept"])
        except (TypeError, ValueError) as error:
            raise InputError(f"Calibration {path}: slope or intercept is no number.", "Give numbers.") from error
        return cls(
            consumption=str(facts["consumption"]),
            consumption_unit=str(facts["consumption_unit"]),
            supply=str(facts["supply"]),
            supply_unit=str(facts["supply_unit"]),
            slope=slope,
            intercept=intercept,
            provenance=str(facts["provenance"]),
        )


def hypoxia_score(
    consumption: np.ndarray, consumption_unit: str, supply: np.ndarray, supply_unit: str, line: CuttingLine
) -> np.ndarray:
    """How far supply lies below the cutting line, in the unit of supply: positive is hypoxic.

    Raises
    ------
    RequestError
        If there is no calibration unit match or the maps differ in shape.
    """
    for what, unit, expected in (
        (line.consumption, consumption_unit, line.consumption_unit),
        (line.supply, supply_unit, line.supply_unit),
    ):
        if unit != expected:
            raise RequestError(f"{what} is in {unit}, the cutting line in {expected}.", "Convert the map.")
    if np.shape(consumption) != np.shape(supply):
        raise RequestError(
            f"Maps of shape {np.shape(consumption)} and {np.shape(supply)} do not match.", "Resample one."
        )
    return line.slope * np.asarray(consumption, dtype=float) + line.intercept - np.asarray(supply, dtype=float)
