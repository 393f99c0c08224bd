"""A measured pO2 map from elsewhere (electron paramagnetic resonance): taken over with its unit and its proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..kinetics.model_po2 import HIGHEST_MMHG, hypoxic_proportions
from ..volume import Region, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._maps import arithmetic_code, missing_note, require_map, require_one_grid
from ._voxelwise import NO_THRESHOLD, NO_THRESHOLD_WARNING

PRESSURE_UNITS = {"mm[Hg]": 1.0, "kPa": 7.500617, "Pa": 7.500617e-3, "%{O2}": 7.6}
"""Factors to mmHg; 1 % O2 is 7.6 mmHg (METHODS 0.9), 1 kPa 7.500617 mmHg."""


@dataclass(frozen=True)
class MeasuredPo2Params:
    """Parameters of ``measured_po2``."""

    po2_unit: str = parameter(
        "", label="Unit of the map", choices=("", *PRESSURE_UNITS), source="empty: as the map says; asked for if not"
    )


class MeasuredPo2(Method):
    """The map as it is, in mmHg."""

    name = "measured_po2"
    title = "Measured pO2 map (EPR oximetry or other), imported"
    quantity = "pO2"
    unit = "mm[Hg]"
    citation = "HP2.5, HP5, HP10: METHODS 3"
    inputs = (InputSpec("po2", "pO2", "map of measured pO2", modality="MR"),)
    regions = (RegionSpec("gtv", "gross tumour volume"),)
    Params = MeasuredPo2Params

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: MeasuredPo2Params,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """The map in mmHg with HP2.5, HP5 and HP10 of the GTV in the details.

        Raises
        ------
        RequestError
            The unit is not known.
        InputError
            Negative or impossible pressures.
        """
        grid = require_one_grid(inputs)
        gtv = regions["gtv"]
        require_same_grid(gtv.mask, grid.image, "GTV and pO2 map")
        pressure = require_map(inputs, "po2", params.po2_unit, PRESSURE_UNITS)
        inside = pressure[gtv.array]
        low, high = (float(f(inside)) if np.isfinite(inside).any() else 0.0 for f in (np.nanmin, np.nanmax))
        if low < 0 or high > HIGHEST_MMHG:
            raise InputError(
                f"The pO2 in {gtv.name} runs from {low:.4g} to {high:.4g} mmHg.", "Check the unit (po2_unit)."
            )
        shares = hypoxic_proportions(pressure, gtv.array)
        progress(1.0, "pO2 map ready")
        return HypoxiaMap(
            grid.with_array(pressure.astype(np.float32), "pO2 in mmHg", quantity=self.quantity, unit=self.unit),
            float("nan"), "<", NO_THRESHOLD, quality=arithmetic_code(pressure),
            warnings=(*missing_note(pressure, gtv.array), NO_THRESHOLD_WARNING),
            details={f"HP{limit:g}": share for limit, share in shares.items()},
        )  # fmt: skip


METHOD = MeasuredPo2()
