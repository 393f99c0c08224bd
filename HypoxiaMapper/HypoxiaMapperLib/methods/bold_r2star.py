"""R2* from multi-echo gradient echoes (BOLD): deoxygenated blood raises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..fitting import fit
from ..kinetics.decay import R2StarNoiseFloor, r2_star_log_linear
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._voxelwise import FitParams, curve_of, fit_map, gather_voxels, on_grid_of, require_parameter_series

RAYLEIGH_MEAN_PER_SD = float(np.sqrt(np.pi / 2))
"""Mean of a magnitude image without signal over the noise of one channel (Gudbjartsson 1995)."""
NOT_SPECIFIC_NOTE = (
    "R2* also rises with blood volume, iron, air and field inhomogeneity: it is no direct measure of hypoxia."
)


@dataclass(frozen=True)
class BoldR2starParams(FitParams):
    """Parameters of ``bold_r2star``."""

    fit: str = parameter(
        "nonlinear", label="Fit", choices=("nonlinear", "log_linear"),
        source="METHODS 5: log-linear start, then non-linear with the noise floor",
    )  # fmt: skip
    noise_sd: float = parameter(
        0.0, label="Noise of one channel", unit="signal", minimum=0.0, maximum=1e9,
        source="0: from the region background, else no noise floor",
    )  # fmt: skip


class BoldR2star(Method):
    """S = sqrt(S0^2 exp(-2 TE R2*) + floor^2)."""

    name = "bold_r2star"
    title = "BOLD MRI: R2* from multi-echo gradient echoes"
    quantity = "R2*"
    unit = "/s"
    citation = "Gudbjartsson and Patz 1995, 10.1002/mrm.1910340618 (noise floor); METHODS 5"
    inputs = (
        InputSpec("echoes", "MR signal", "gradient echoes at several echo times", kind="echo time", modality="MR",
                  mr_kinds=("T2*", "R2*")),
    )  # fmt: skip
    regions = (
        RegionSpec("gtv", "gross tumour volume; fitted with a margin"),
        RegionSpec("background", "air outside the body, for the noise floor", required=False),
    )
    packages = ("torch",)
    Params = BoldR2starParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: BoldR2starParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """R2* with S0 and standard errors.

        Raises
        ------
        RequestError
            Fewer than three echoes for the non-linear fit, or echo times in a wrong unit.
        InputError
            No voxel that can be fitted.
        """
        series = require_parameter_series(inputs, "echoes", "echo time")
        echo_s = series.values / 1000.0
        voxels = gather_voxels(series, regions, params)
        if not voxels.gtv_mean()[0] > 0:
            raise InputError(
                f"The mean signal of the GTV is {voxels.gtv_mean()[0]:.3g} at the first echo.",
                "A magnitude signal is positive: check series and rescale.",
            )
        noise, notes = params.noise_sd, [NOT_SPECIFIC_NOTE]
        if not noise and "background" in regions:
            inside = on_grid_of(regions["background"], series.grid, "the series")
            noise = float(np.nanmean(series.frames[:, inside])) / RAYLEIGH_MEAN_PER_SD
        if params.fit == "log_linear":
            result = r2_star_log_linear(voxels.data, echo_s)
            mean = r2_star_log_linear(voxels.shown_mean()[:, None], echo_s)
            fitted = np.exp(mean.values["lnS0"] - echo_s * mean.values["R2star"])
        else:
            if not noise:
                notes.append("No noise level was given: late echoes in the noise floor bias R2* low.")
            model = R2StarNoiseFloor(echo_s, noise)
            result = fit(model, voxels.data, options=params.options(), progress=progress)
            mean = fit(model, voxels.shown_mean()[:, None])
            fitted = np.sqrt((mean.values["S0"] * np.exp(-echo_s * mean.values["R2star"])) ** 2 + 2 * noise**2)
        if not np.isfinite(result.values["R2star"]).any():
            raise RequestError("No voxel has a positive signal at every echo.", "Check the series and the region.")
        curve = curve_of(voxels.shown_name, series.values, voxels.shown_mean(), fitted, "echo time (ms)", "signal")
        return fit_map(
            voxels, result, "R2star", {"R2star": (self.quantity, self.unit), "S0": ("S0", series.unit)},
            f"R2* {params.fit}, {len(echo_s)} echoes {1000 * echo_s[0]:g} to {1000 * echo_s[-1]:g} ms", warnings=notes,
            curves=(curve,), details={"noise_sd": noise, "echo_times_ms": series.values.tolist()},
        )  # fmt: skip


METHOD = BoldR2star()
