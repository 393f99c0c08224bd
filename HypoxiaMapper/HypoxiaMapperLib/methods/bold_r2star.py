"""R2* from multi-echo gradient echoes (BOLD): deoxygenated blood raises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..fitting import FitCode, fit
from ..kinetics.decay import R2StarNoiseFloor, r2_star_log_linear
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._voxelwise import FitParams, curve_of, fit_map, gather_voxels, on_grid_of, require_parameter_series

RAYLEIGH_MEAN_PER_SD = float(np.sqrt(np.pi / 2))
"""Mean of a magnitude image without signal over the noise of one channel (Gudbjartsson 1995)."""
NOT_SPECIFIC_NOTE = (
    "R2* also rises with blood volume, iron, air and field inhomogeneity: it is no direct measure of hypoxia."
)


NO_FLOOR_NOTE = (
    "The noise floor was not taken into account (fit=nonlinear with noise_sd or the region background does): late "
    "echoes that lie in it bias R2* low."
)
DETECTED_SDS = 3.0
"""A magnitude above this many noise standard deviations shows signal; without any, one in ninety is above."""


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
    """S0 exp(-TE R2*) with the noise floor of a magnitude image."""

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
            Fewer than two echoes, or echo times in a wrong unit.
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
            model = R2StarNoiseFloor(echo_s, noise)
            result = fit(model, voxels.data, options=params.options(), progress=progress)
            mean = fit(model, voxels.shown_mean()[:, None])
            fitted = model.curves(np.array([mean.values["S0"], mean.values["R2star"]]))[:, 0]
        if params.fit == "log_linear" or not noise:
            notes.append(NO_FLOOR_NOTE)
        result = replace(result, code=_undetermined(result.code, voxels.data, noise))
        if not np.isfinite(result.values["R2star"]).any():
            raise RequestError("No voxel has a positive signal at every echo.", "Check the series and the region.")
        curve = curve_of(voxels.shown_name, series.values, voxels.shown_mean(), fitted, "echo time (ms)", "signal")
        return fit_map(
            voxels, result, "R2star", {"R2star": (self.quantity, self.unit), "S0": ("S0", series.unit)},
            f"R2* {params.fit}, {len(echo_s)} echoes {1000 * echo_s[0]:g} to {1000 * echo_s[-1]:g} ms", warnings=notes,
            curves=(curve,), details={"noise_sd": noise, "echo_times_ms": series.values.tolist()},
        )  # fmt: skip


def _undetermined(code: np.ndarray, data: np.ndarray, noise_sd: float) -> np.ndarray:
    """Codes, UNDETERMINED where fewer than two of the echoes (echoes, voxels) rise above the noise."""
    few = (data > DETECTED_SDS * noise_sd).sum(axis=0) < 2
    return np.where((code == FitCode.OK) & few, FitCode.UNDETERMINED, code).astype(np.uint8)


METHOD = BoldR2star()
