"""Patlak analysis of dynamic PET: net uptake rate of a trapped tracer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kinetics.graphical import patlak
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress, parameter
from ._pet_input import ARTERY, GTV, PET_SERIES, PetInputParams, pet_input
from ._voxelwise import ExtentParams, curve_of, fit_map, frames_of, gather_voxels, require_time_series


@dataclass(frozen=True)
class PatlakKiParams(PetInputParams, ExtentParams):
    """Parameters of ``patlak_ki``."""

    start_min: float = parameter(
        30.0, label="Start of the straight line (t*)", unit="min", minimum=0.0, maximum=600.0,
        source="a choice of this software: set it where your plots become straight, as the fit is shown",
    )  # fmt: skip


class PatlakKi(Method):
    """Slope of Ct/Cp over the stretched time int(Cp)/Cp."""

    name = "patlak_ki"
    title = "Patlak net uptake rate Ki (dynamic PET, trapped tracer)"
    quantity = "Ki"
    unit = "mL/min/mL"
    citation = "Patlak et al. 1983, 10.1038/jcbfm.1983.1"
    inputs = (PET_SERIES,)
    regions = (GTV, ARTERY)
    Params = PatlakKiParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: PatlakKiParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Ki with V0 and their standard errors, on the grid of the series.

        Parameters
        ----------
        inputs : mapping
            ``pet``: ``TimeSeries`` from the injection on.
        regions : mapping
            ``gtv`` and, for an image-derived input, ``artery``, on the same grid.

        Raises
        ------
        RequestError
            Fewer than three frames after ``start_min``, or no input function.
        InputError
            Input function or series unusable.
        """
        series = require_time_series(inputs, "pet")
        frames = frames_of(series)
        source, notes = pet_input(series, frames, regions, params)
        voxels = gather_voxels(series, regions, params)
        progress(0.2, f"Patlak lines of {voxels.data.shape[1]} voxels")
        result = patlak(voxels.data, source, frames, params.start_min)
        mean = voxels.gtv_mean()
        line = patlak(mean[:, None], source, frames, params.start_min)
        late = frames.start_min >= params.start_min
        plasma = source.on_frames(frames)[late]
        x = source.integral_on_frames(frames)[late] / plasma
        fitted = line.values["Ki"][0] * x + line.values["V0"][0]
        curve = curve_of(regions["gtv"].name, x, mean[late] / plasma, np.asarray(fitted),
                         "stretched time (min)", "Ct/Cp (mL/mL)")  # fmt: skip
        progress(1.0, "Ki map ready")
        return fit_map(
            voxels, result, "Ki", {"Ki": ("Ki", self.unit), "V0": ("Patlak V0", "mL/mL")},
            f"Patlak line from {params.start_min:g} min, input {source.source}", warnings=notes, curves=(curve,),
            details={"gtv_mean_ki_ml_per_min_per_ml": float(line.values["Ki"][0]), "input_function": source.source},
        )  # fmt: skip


METHOD = PatlakKi()
