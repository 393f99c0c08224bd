"""Maps as inputs (ADC, Ktrans, R2* ...): their unit is read or asked for, and voxel-wise arithmetic becomes a map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import RequestError
from ..fitting.codes import FitCode
from ..volume import Volume, require_same_grid

UNKNOWN_UNITS = ("[arb'U]", "1", "{none}")


def require_map(inputs: Mapping[str, Any], key: str, stated: str, units: Mapping[str, float]) -> np.ndarray:
    """Values of a map in the first of ``units``.

    Parameters
    ----------
    stated : str
        Unit the user states; empty: the map's own.
    units : mapping
        Known units and their factor to the first one.

    Raises
    ------
    RequestError
        If the map is missing, or its unit is unknown or contradicts what is stated.
    """
    volume = inputs.get(key)
    if not isinstance(volume, Volume):
        raise RequestError(f"Input {key} must be a map.", f"Name it with the key {key}.")
    own = volume.unit
    if stated and own not in UNKNOWN_UNITS and own != stated:
        raise RequestError(f"Input {key} is in {own}, {stated} was stated.", "Leave the stated one empty.")
    unit = stated or own
    if unit not in units:
        raise RequestError(
            f"The unit of input {key} ({volume.quantity}) is {unit}.", f"State it with {key}_unit: {', '.join(units)}."
        )
    return volume.array.astype(float) * units[unit]


def require_one_grid(inputs: Mapping[str, Any]) -> Volume:
    """The first map, when all lie on its grid.

    Raises
    ------
    GeometryError
        Naming the two that do not.
    """
    volumes = [v for v in inputs.values() if isinstance(v, Volume)]
    for other in volumes[1:]:
        require_same_grid(other.image, volumes[0].image, f"{volumes[0].quantity} and {other.quantity}")
    return volumes[0]


def arithmetic_code(values: np.ndarray) -> np.ndarray:
    """``FitCode`` of voxel-wise arithmetic: OK where the value is finite."""
    return np.where(np.isfinite(values), FitCode.OK, FitCode.INVALID).astype(np.uint8)


def missing_note(values: np.ndarray, gtv: np.ndarray) -> list[str]:
    """How many voxels of the GTV have no value."""
    count = int((~np.isfinite(values[gtv])).sum())
    total = int(gtv.sum())
    return [f"{count} of {total} voxels of the GTV ({100 * count / total:.1f} %) have no value."] if count else []
