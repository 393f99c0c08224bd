"""Consumption and supply based hypoxia: ADC against blood supply, cut by the user's own calibration line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RequestError
from ..kinetics.csh import CuttingLine, hypoxia_score
from ..volume import Region, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._maps import arithmetic_code, missing_note, require_map, require_one_grid

CONSUMPTION_UNITS = {"mm2/s": 1.0, "10*-3.mm2/s": 1e-3, "10*-6.mm2/s": 1e-6, "um2/s": 1e-6}


@dataclass(frozen=True)
class CshParams:
    """Parameters of ``csh``."""

    calibration: str = parameter(
        "", label="Calibration file (JSON)",
        source="your own: consumption, supply, their units, slope, intercept, provenance; none is built in (METHODS 5)",
    )  # fmt: skip
    consumption_unit: str = parameter(
        "", label="Unit of the consumption map", choices=("", *CONSUMPTION_UNITS), source="empty: as the map says"
    )
    supply_unit: str = parameter(
        "", label="Unit of the supply map", choices=("", "{ratio}", "/min", "mL/min/100g"), source="empty: its own"
    )


class Csh(Method):
    """How far the supply lies below the cutting line of the consumption."""

    name = "csh"
    title = "Consumption and supply based hypoxia (ADC and blood supply)"
    quantity = "CSH score"
    unit = "{ratio}"
    citation = "Hompland et al. 2018, 10.1158/0008-5472.CAN-17-3806"
    inputs = (
        InputSpec("consumption", "ADC", "map of ADC (oxygen consumption by cells)", modality="MR", mr_kinds=("ADC",)),
        InputSpec("supply", "fBV or Ktrans", "map of blood supply: fractional blood volume or Ktrans", modality="MR",
                  mr_kinds=("Ktrans",)),
    )  # fmt: skip
    regions = (RegionSpec("gtv", "gross tumour volume"),)
    Params = CshParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: CshParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Score in the unit of the supply: above zero lies below the cutting line and is hypoxic.

        Raises
        ------
        RequestError
            No calibration, or a unit that is unknown or not that of the calibration.
        InputError
            The calibration file is unusable.
        """
        if not params.calibration:
            raise RequestError(
                "csh needs a cutting line, and none is built in.", "Give your own calibration file (calibration)."
            )
        line = CuttingLine.from_json(Path(params.calibration))
        grid = require_one_grid(inputs)
        gtv = regions["gtv"]
        require_same_grid(gtv.mask, grid.image, "GTV and maps")
        if line.consumption_unit not in CONSUMPTION_UNITS:
            raise RequestError(
                f"The calibration has {line.consumption} in {line.consumption_unit}.",
                f"Known: {', '.join(CONSUMPTION_UNITS)}.",
            )
        consumption = require_map(inputs, "consumption", params.consumption_unit, CONSUMPTION_UNITS)
        consumption = consumption / CONSUMPTION_UNITS[line.consumption_unit]
        supply = require_map(inputs, "supply", params.supply_unit, {line.supply_unit: 1.0})
        score = hypoxia_score(consumption, line.consumption_unit, supply, line.supply_unit, line)
        inside = score[gtv.array]
        known = inside[np.isfinite(inside)]
        progress(1.0, "CSH score ready")
        return HypoxiaMap(
            grid.with_array(score.astype(np.float32), f"cutting line of {Path(params.calibration).name}",
                            quantity=self.quantity, unit=line.supply_unit),
            0.0, ">", f"user's own cutting line ({line.provenance})", quality=arithmetic_code(score),
            warnings=(f"The cutting line is the user's own calibration: {line.provenance}.",
                      *missing_note(score, gtv.array)),
            details={"calibration": asdict(line),
                     "hypoxic_fraction": float((known > 0).mean()) if known.size else None},
        )  # fmt: skip


METHOD = Csh()
