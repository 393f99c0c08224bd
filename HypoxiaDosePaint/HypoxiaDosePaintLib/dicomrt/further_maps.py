"""What else a method computed, as Parametric Maps beside the map: uncertainty, other parameters, their errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import Volume

from ..structures import Code
from .parametric_map import Box, quantity_code

UNCERTAINTY = "uncertainty"
MOST_MAPS = 24
"""A two-tissue fit has 16 with all errors. What is beyond is in ``maps/`` only: an archive is no place for more."""


@dataclass(frozen=True)
class FurtherMap:
    """A map beside the map: voxels on the planning grid, what it is, and its code."""

    volume: Volume
    label: str
    quantity: Code


def further_maps(hypoxia_map: HypoxiaMap, box: Box) -> dict[str, FurtherMap]:
    """Further maps by file name, the uncertainty first; those without a value in the box are left out.

    Parameters
    ----------
    box : tuple of slice
        Part of the planning grid (z, y, x) that is exported.
    """
    found: dict[str, FurtherMap] = {}
    for name, volume in _volumes(hypoxia_map).items():
        if len(found) < MOST_MAPS and np.isfinite(volume.array[box]).any():
            stem = "MAP_" + re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
            file = next(f for n in range(1, MOST_MAPS + 2) if (f := f"{stem}{n if n > 1 else ''}.dcm") not in found)
            found[file] = FurtherMap(volume, f"{name}: {volume.quantity}", quantity_code(volume.quantity))
    return found


def left_out(hypoxia_map: HypoxiaMap, box: Box) -> list[str]:
    """What must be said of maps that are not exported because there are too many."""
    defined = [name for name, v in _volumes(hypoxia_map).items() if np.isfinite(v.array[box]).any()]
    names = ", ".join(defined[MOST_MAPS:])
    return [f"Only {MOST_MAPS} further maps are exported as DICOM; in maps/ alone: {names}."] if names else []


def _volumes(hypoxia_map: HypoxiaMap) -> Mapping[str, Volume]:
    """Uncertainty and extra maps by name."""
    own = {} if hypoxia_map.uncertainty is None else {UNCERTAINTY: hypoxia_map.uncertainty}
    return {**own, **hypoxia_map.extra}
