"""Globally scaled FDG: the baseline a learned map must beat, and never a measurement of hypoxia."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, RequestError
from ..volume import Region, Volume, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter

HOTSPOT_FRACTION = 0.7  # FDG hotspot at 70 % of SUVmax, 10.1186/s13014-018-1147-2
SCALED_RATIO_THRESHOLD = 1.2  # hypoxic at a predicted FMISO ratio above 1.2, 10.1016/j.phro.2025.100769


@dataclass(frozen=True)
class FdgSurrogateParams:
    """Parameters of ``fdg_surrogate``."""

    scaling: str = parameter(
        "gtv_max",
        label="Scaling",
        choices=("gtv_max", "global_factor"),
        source="gtv_max: fraction of the GTV's SUVmax; global_factor: one factor from SUV to FMISO ratio",
    )
    global_factor: float = parameter(
        0.0,
        label="FMISO ratio per FDG SUV",
        unit="ml/g",
        minimum=0.0,
        maximum=10.0,
        source="no published value is known: fit it on your own paired scans; 0 means not given",
    )


class FdgSurrogate(Method):
    """FDG SUV scaled by one number per image: a surrogate, not a hypoxia measurement."""

    name = "fdg_surrogate"
    title = "FDG surrogate (globally scaled FDG, not measured hypoxia)"
    quantity = "FDG surrogate of hypoxia"
    unit = "{ratio}"
    citation = (
        "Baseline in Zhao et al. 2025, 10.1016/j.phro.2025.100769; hotspot fraction of SUVmax: "
        "10.1186/s13014-018-1147-2"
    )
    inputs = (InputSpec("pet", "SUVbw", "static FDG PET", tracers=("FDG",)),)
    regions = (RegionSpec("gtv", "gross tumour volume; its SUVmax scales the map"),)
    surrogate = True
    Params = FdgSurrogateParams

    def compute(
        self,
        inputs: Mapping[str, Volume],
        regions: Mapping[str, Region],
        params: FdgSurrogateParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Scaled FDG on the grid of the PET.

        Parameters
        ----------
        inputs : mapping
            ``pet``: SUVbw in g/ml.
        regions : mapping
            ``gtv`` on the same grid.

        Raises
        ------
        RequestError
            ``global_factor`` is asked for and not given.
        InputError
            The GTV holds no finite FDG uptake.
        """
        pet, gtv = inputs["pet"], regions["gtv"]
        require_same_grid(pet.image, gtv.mask, "PET and GTV")
        factor, threshold, comparison, source = _scale(pet, gtv, params)
        progress(0.5, f"scaling SUV by {factor:.4f}")
        volume = pet.with_array(
            pet.array.astype(np.float32) * np.float32(factor),
            f"FDG SUV times {factor:.5f} ({params.scaling})",
            quantity=_quantity(params),
            unit=self.unit,
        )
        progress(1.0, "surrogate map ready")
        return HypoxiaMap(
            volume,
            threshold,
            comparison,
            source,
            surrogate=True,
            warnings=(
                "FDG surrogate: this map shows glucose uptake, not measured hypoxia. "
                "FDG and hypoxia tracers agree only partly.",
            ),
            details={"scaling": params.scaling, "factor_ml_per_g": factor, "tracer": "FDG"},
        )


def _quantity(params: FdgSurrogateParams) -> str:
    """Name of the map, the word surrogate first."""
    if params.scaling == "gtv_max":
        return "FDG surrogate: fraction of SUVmax in the GTV"
    return "FDG surrogate: FDG scaled to FMISO ratio"


def _scale(pet: Volume, gtv: Region, params: FdgSurrogateParams) -> tuple[float, float, str, str]:
    """Factor, threshold, comparison and source of the threshold."""
    if params.scaling == "global_factor":
        if params.global_factor <= 0:
            raise RequestError(
                "fdg_surrogate: scaling=global_factor needs a coefficient and none was given.",
                "Fit FMISO ratio against FDG SUV on your own paired scans and give global_factor.",
            )
        return params.global_factor, SCALED_RATIO_THRESHOLD, ">", "predicted FMISO ratio, 10.1016/j.phro.2025.100769"
    values = pet.array[gtv.array]
    values = values[np.isfinite(values)]
    if values.size == 0 or values.max() <= 0:
        raise InputError(
            f"{gtv.name} holds no FDG uptake (no voxel of it lies inside the PET, or all are 0).",
            "Check that the PET covers the tumour.",
        )
    return 1.0 / float(values.max()), HOTSPOT_FRACTION, ">=", "70 % of SUVmax, FDG hotspot, 10.1186/s13014-018-1147-2"


METHOD = FdgSurrogate()
