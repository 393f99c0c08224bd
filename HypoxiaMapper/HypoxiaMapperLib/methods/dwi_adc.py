"""Apparent diffusion coefficient from diffusion-weighted MRI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import RequestError
from ..fitting import fit
from ..kinetics.decay import ADC, LEAST_B, MonoExponential, adc_log_linear
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._voxelwise import FitParams, curve_of, fit_map, gather_voxels, require_parameter_series

DWI_SERIES = InputSpec(
    "dwi", "MR signal", "diffusion-weighted MRI at several b-values", kind="b-value", modality="MR", mr_kinds=("DWI",)
)
DWI_GTV = RegionSpec("gtv", "gross tumour volume; fitted with a margin")


@dataclass(frozen=True)
class DwiAdcParams(FitParams):
    """Parameters of ``dwi_adc``."""

    least_b: float = parameter(
        LEAST_B, label="Smallest b-value used", unit="s/mm2", minimum=0.0, maximum=5000.0,
        source="METHODS 5: from 200 s/mm2 perfusion no longer adds; the smallest b joins when only one is left",
    )  # fmt: skip
    fit: str = parameter(
        "log_linear", label="Fit", choices=("log_linear", "nonlinear"),
        source="log-linear is exact for two b-values; non-linear weighs noise rightly",
    )  # fmt: skip


class DwiAdc(Method):
    """S = S0 exp(-b ADC)."""

    name = "dwi_adc"
    title = "Diffusion MRI: apparent diffusion coefficient (ADC)"
    quantity = "ADC"
    unit = "mm2/s"
    citation = "Stejskal and Tanner 1965, 10.1063/1.1695690; METHODS 5"
    inputs = (DWI_SERIES,)
    regions = (DWI_GTV,)
    packages = ("torch",)
    Params = DwiAdcParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: DwiAdcParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """ADC with its standard error (none for two b-values, which leave no residual).

        Raises
        ------
        RequestError
            Too few or impossible b-values.
        InputError
            No voxel that can be fitted.
        """
        series = require_parameter_series(inputs, "dwi", "b-value")
        voxels = gather_voxels(series, regions, params)
        b, mean = series.values, voxels.shown_mean()
        if params.fit == "log_linear":
            result = adc_log_linear(voxels.data, b, params.least_b)
            line = adc_log_linear(mean[:, None], b, params.least_b)
            fitted = np.exp(line.values["lnS0"] - b * line.values["ADC"])
        else:
            used = b >= params.least_b
            if used.sum() < 3:
                raise RequestError(
                    f"{int(used.sum())} b-values from {params.least_b:g} s/mm2; the non-linear fit needs 3.",
                    "Lower least_b or use fit=log_linear.",
                )
            model = MonoExponential(b[used], ADC)
            result = fit(model, voxels.data[used], options=params.options(), progress=progress)
            line = fit(model, mean[used][:, None])
            fitted = line.values["S0"] * np.exp(-b * line.values["ADC"])
        curve = curve_of(voxels.shown_name, b, mean, np.asarray(fitted), "b (s/mm2)", "signal")
        progress(1.0, "ADC map ready")
        return fit_map(
            voxels, result, "ADC", {"ADC": (self.quantity, self.unit)},
            f"ADC {params.fit} from b >= {params.least_b:g} s/mm2", curves=(curve,), falls=True,
            details={"b_values_s_per_mm2": b.tolist()},
            warnings=["ADC measures cellularity (low ADC, many cells that consume oxygen), not oxygen itself."],
        )  # fmt: skip


METHOD = DwiAdc()
