"""Oxygen extraction fraction of the brain from R2* and R2 (quantitative BOLD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..kinetics.oxygen_mri import oxygen_extraction, oxygen_metabolism, r2_prime
from ..volume import Region, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._maps import arithmetic_code, missing_note, require_map, require_one_grid
from ._voxelwise import NO_THRESHOLD, NO_THRESHOLD_WARNING

RATE_UNITS = {"/s": 1.0, "/ms": 1000.0}
FRACTION_UNITS = {"{ratio}": 1.0, "%": 0.01}
BRAIN_NOTE = "The model holds for normal vessels of the brain; outside it, and in tumour vessels, OEF is not valid."


@dataclass(frozen=True)
class QboldOefParams:
    """Parameters of ``qbold_oef``."""

    r2star_unit: str = parameter(
        "", label="Unit of R2*", choices=("", *RATE_UNITS), source="empty: as the map says; asked for if it does not"
    )
    r2_unit: str = parameter(
        "", label="Unit of R2", choices=("", *RATE_UNITS), source="empty: as the map says; asked for if it does not"
    )
    dbv_unit: str = parameter(
        "", label="Unit of the blood volume", choices=("", *FRACTION_UNITS), source="empty: as the map says"
    )
    blood_volume: float = parameter(
        0.0, label="Deoxygenated blood volume fraction", minimum=0.0, maximum=0.5,
        source="0: from the map dbv; one value for all voxels makes OEF proportional to R2'",
    )  # fmt: skip
    hematocrit: float = parameter(
        0.42, label="Hematocrit", minimum=0.1, maximum=0.7, source="METHODS 5: 0.42 to 0.45; small vessels hold less"
    )
    field_t: float = parameter(
        0.0, label="Field strength", unit="T", minimum=0.0, maximum=14.0, source="0: as the files say"
    )
    cbf_unit: str = parameter(
        "", label="Unit of the blood flow", choices=("", "mL/min/100g"), source="empty: as the map says"
    )
    arterial_oxygen: float = parameter(
        0.0, label="Arterial oxygen content", unit="umol/mL", minimum=0.0, maximum=20.0,
        source="0: not given; needed for CMRO2 with the map cbf",
    )  # fmt: skip


class QboldOef(Method):
    """OEF = R2' / [(4/3) pi gamma dchi0 Hct B0 DBV]."""

    name = "qbold_oef"
    title = "Quantitative BOLD: oxygen extraction fraction of the brain"
    quantity = "OEF"
    unit = "{ratio}"
    citation = "Yablonskiy and Haacke 1994, 10.1002/mrm.1910320610; constants METHODS 5"
    inputs = (
        InputSpec("r2star", "R2*", "map of R2*", modality="MR", mr_kinds=("R2*",)),
        InputSpec("r2", "R2", "map of R2", modality="MR"),
        InputSpec("dbv", "DBV", "map of the deoxygenated blood volume fraction", required=False, modality="MR"),
        InputSpec("cbf", "CBF", "map of cerebral blood flow, for CMRO2", required=False, modality="MR"),
    )
    regions = (RegionSpec("gtv", "region of the brain to report on"),)
    Params = QboldOefParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: QboldOefParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """OEF, with R2' and, where flow and arterial oxygen are given, CMRO2 in ``extra``.

        Raises
        ------
        RequestError
            A unit, the blood volume or the field strength is not given.
        InputError
            R2 is above R2* in most of the region.
        GeometryError
            Maps on different grids.
        """
        grid = require_one_grid(inputs)
        gtv = regions["gtv"]
        require_same_grid(gtv.mask, grid.image, "GTV and maps")
        star = require_map(inputs, "r2star", params.r2star_unit, RATE_UNITS)
        rate = r2_prime(star, require_map(inputs, "r2", params.r2_unit, RATE_UNITS))
        field_t = params.field_t or float(inputs["r2star"].facts.get("field_strength_t", 0) or 0)
        if not field_t:
            raise RequestError("The field strength is unknown.", "Give field_t.")
        if params.blood_volume > 0:
            volume: Any = np.full(rate.shape, params.blood_volume)
        elif "dbv" in inputs:
            volume = require_map(inputs, "dbv", params.dbv_unit, FRACTION_UNITS)
        else:
            raise RequestError("No blood volume is given.", "Name the map dbv, or give blood_volume.")
        if np.nanmedian(rate[gtv.array]) < 0:
            raise InputError(
                f"R2' = R2* - R2 has the median {np.nanmedian(rate[gtv.array]):.3g} /s in the region: R2 is above R2*.",
                "Check which map is which, and their units.",
            )
        extraction = oxygen_extraction(rate, volume, params.hematocrit, field_t)
        text = f"OEF at {field_t:g} T, hematocrit {params.hematocrit:g}"
        extra = {"R2prime": grid.with_array(rate.astype(np.float32), text, quantity="R2'", unit="/s")}
        if "cbf" in inputs and params.arterial_oxygen > 0:
            flow = require_map(inputs, "cbf", params.cbf_unit, {"mL/min/100g": 1.0})
            metabolism = oxygen_metabolism(flow, extraction, params.arterial_oxygen).astype(np.float32)
            extra["CMRO2"] = grid.with_array(metabolism, text, quantity="CMRO2", unit="umol/min/100g")
        inside = extraction[gtv.array]
        above = float((inside > 1).sum() / max(inside.size, 1))
        notes = [BRAIN_NOTE, *missing_note(extraction, gtv.array), NO_THRESHOLD_WARNING]
        if above > 0:
            notes.append(f"{100 * above:.1f} % of the region has an OEF above 1, which is impossible: R2' holds more "
                         "than deoxygenated blood there.")  # fmt: skip
        progress(1.0, "OEF map ready")
        return HypoxiaMap(
            grid.with_array(extraction.astype(np.float32), text, quantity=self.quantity, unit=self.unit),
            float("nan"), ">", NO_THRESHOLD, quality=arithmetic_code(extraction), warnings=tuple(notes),
            details={"field_strength_t": field_t, "hematocrit": params.hematocrit}, extra=extra,
        )  # fmt: skip


METHOD = QboldOef()
