"""What a stored MR value is in a real unit, where the file says so (Real World Value Mapping, PS3.3 C.7.6.16.2.11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

UNITS = ("mm2/s", "10*-3.mm2/s", "10*-6.mm2/s", "um2/s", "/min", "/s", "/ms", "s", "ms")
"""UCUM units of MR maps that are believed; any other is asked for, as if the file said nothing."""


@dataclass(frozen=True)
class RealWorld:
    """Real value = stored value (before any rescaling) x slope + intercept, in a UCUM unit."""

    unit: str
    slope: float
    intercept: float


def real_world_of(header: Dataset) -> RealWorld | None:
    """The mapping of an MR slice; None where there is none, several disagree, or its unit is not in ``UNITS``."""
    if header.get("Modality") != "MR":
        return None
    found = {_linear(item) for item in header.get("RealWorldValueMappingSequence") or []}
    return found.pop() if len(found) == 1 else None


def _linear(item: Dataset) -> RealWorld | None:
    """A linear mapping to a known unit."""
    unit = next((code for code in item.get("MeasurementUnitsCodeSequence") or []), Dataset())
    name = str(unit.get("CodeValue", ""))
    slope, intercept = item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")
    if str(unit.get("CodingSchemeDesignator", "")) != "UCUM" or name not in UNITS or slope is None or intercept is None:
        return None
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        return None
    return RealWorld(name, float(slope), float(intercept))
