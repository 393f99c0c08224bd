"""Logan analysis of dynamic PET: distribution volume of a reversibly bound tracer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kinetics.graphical import logan
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress, parameter
from ._pet_input import ARTERY, GTV, PET_SERIES, PetInputParams, pet_input
from ._voxelwise import ExtentParams, curve_of, fit_map, frames_of, gather_voxels, require_time_series

BIAS_NOTE = "Noise biases the Logan VT of single voxels low (Slifstein and Laruelle 2000)."


@dataclass(frozen=True)
class LoganVtParams(PetInputParams, ExtentParams):
    """Parameters of ``logan_vt``."""

    start_min: float = parameter(
        30.0, label="Start of the straight line (t*)", unit="min", minimum=0.0, maximum=600.0,
        source="a choice of this software: set it where your plots become straight, as the fit is shown",
    )  # fmt: skip


class LoganVt(Method):
    """Slope of int(Ct)/Ct over int(Cp)/Ct."""

    name = "logan_vt"
    title = "Logan distribution volume VT (dynamic PET, reversible tracer)"
    quantity = "VT"
    unit = "mL/mL"
    citation = "Logan et al. 1990, 10.1038/jcbfm.1990.127; HX4 ratio against VT: METHODS 2"
    inputs = (PET_SERIES,)
    regions = (GTV, ARTERY)
    Params = LoganVtParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: LoganVtParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """VT with its standard error, on the grid of the series; parameters and errors as ``patlak_ki``."""
        series = require_time_series(inputs, "pet")
        frames = frames_of(series)
        source, notes = pet_input(series, frames, regions, params)
        voxels = gather_voxels(series, regions, params)
        progress(0.2, f"Logan lines of {voxels.data.shape[1]} voxels")
        result = logan(voxels.data, source, frames, params.start_min)
        mean = voxels.gtv_mean()
        line = logan(mean[:, None], source, frames, params.start_min)
        late = frames.start_min >= params.start_min
        running = np.cumsum(mean * frames.duration_min) - mean * frames.duration_min / 2
        x = source.integral_on_frames(frames)[late] / mean[late]
        fitted = line.values["VT"][0] * x + line.values["intercept"][0]
        curve = curve_of(regions["gtv"].name, x, running[late] / mean[late], np.asarray(fitted),
                         "int Cp / Ct (min)", "int Ct / Ct (min)")  # fmt: skip
        progress(1.0, "VT map ready")
        return fit_map(
            voxels, result, "VT", {"VT": ("VT", self.unit), "intercept": ("Logan intercept", "min")},
            f"Logan line from {params.start_min:g} min, input {source.source}", warnings=[*notes, BIAS_NOTE],
            curves=(curve,),
            details={"gtv_mean_vt_ml_per_ml": float(line.values["VT"][0]), "input_function": source.source},
        )  # fmt: skip


METHOD = LoganVt()
