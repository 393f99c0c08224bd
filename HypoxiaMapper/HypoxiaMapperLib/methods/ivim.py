"""Intravoxel incoherent motion: diffusion and perfusion fraction from diffusion-weighted MRI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..fitting import FitResult, fit
from ..kinetics.decay import LEAST_B, Ivim, ivim_segmented
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress, parameter
from ._voxelwise import FitParams, curve_of, fit_map, gather_voxels, require_parameter_series
from .dwi_adc import DWI_GTV, DWI_SERIES

QUANTITIES = {
    "f": ("IVIM perfusion fraction", "{ratio}"), "D": ("IVIM D", "mm2/s"), "Dstar": ("IVIM D*", "mm2/s"),
    "fDstar": ("IVIM f D*", "mm2/s"),
}  # fmt: skip


@dataclass(frozen=True)
class IvimParams(FitParams):
    """Parameters of ``ivim``."""

    fit: str = parameter(
        "segmented", label="Fit", choices=("segmented", "full"),
        source="segmented is steadier at low signal; full uses all b-values at once (OSIPI TF2.4)",
    )  # fmt: skip
    least_b: float = parameter(
        LEAST_B, label="Diffusion alone from", unit="s/mm2", minimum=50.0, maximum=1000.0, source="METHODS 5"
    )
    main_map: str = parameter(
        "f", label="Map", choices=("f", "D", "Dstar", "fDstar"), source="f: blood supply; the others stand beside it"
    )


class IvimMethod(Method):
    """S = S0 [(1-f) exp(-b D) + f exp(-b D*)]."""

    name = "ivim"
    title = "IVIM: perfusion fraction f, D and D* from diffusion MRI"
    quantity = "IVIM perfusion fraction"
    unit = "{ratio}"
    citation = "Le Bihan et al. 1988, 10.1148/radiology.168.2.3393671"
    inputs = (DWI_SERIES,)
    regions = (DWI_GTV,)
    packages = ("torch",)
    Params = IvimParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: IvimParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Map of the parameter asked for, the others in ``extra``.

        Raises
        ------
        RequestError
            Too few b-values for the fit.
        InputError
            No voxel that can be fitted.
        """
        series = require_parameter_series(inputs, "dwi", "b-value")
        voxels = gather_voxels(series, regions, params)
        b, mean = series.values, voxels.shown_mean()
        result = _fit(voxels.data, b, params, progress)
        line = _fit(mean[:, None], b, params, no_progress)
        s0, f, d, fast = (line.values[n][0] for n in ("S0", "f", "D", "Dstar"))
        fitted = s0 * ((1 - f) * np.exp(-b * d) + f * np.exp(-b * fast))
        curve = curve_of(voxels.shown_name, b, mean, fitted, "b (s/mm2)", "signal")
        progress(1.0, "IVIM maps ready")
        return fit_map(
            voxels, result, params.main_map, QUANTITIES, f"IVIM {params.fit}", falls=True,
            curves=(curve,), details={"b_values_s_per_mm2": b.tolist(), "fit": params.fit},
            warnings=["f and D* of single voxels are uncertain: read their standard errors."],
        )  # fmt: skip


def _fit(data: np.ndarray, b: np.ndarray, params: IvimParams, progress: Progress) -> FitResult:
    """The fit asked for, with f D* beside it."""
    if params.fit == "segmented":
        result = ivim_segmented(data, b, params.least_b, options=params.options(), progress=progress)
    else:
        result = fit(Ivim(b), data, options=params.options(), progress=progress)
    product = result.values["f"] * result.values["Dstar"]
    return replace(
        result, values={**result.values, "fDstar": product},
        errors={**result.errors, "fDstar": np.full(product.shape, np.nan)}, units={**result.units, "fDstar": "mm2/s"},
    )  # fmt: skip


METHOD = IvimMethod()
