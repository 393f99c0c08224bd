"""DCE-MRI without a model: area under the concentration curve in the first minute after arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..fitting.codes import FitCode
from ..kinetics.arrival import area_after_arrival, area_error
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress, parameter
from ._dce_input import (
    B1_MAP,
    DCE_SERIES,
    FLIP_ANGLES,
    MR_ARTERY,
    MR_GTV,
    T1_MAP,
    DceSignalParams,
    arrivals,
    dce_baseline,
    require_uptake,
    to_concentration,
)
from ._voxelwise import curve_of, fit_map, frames_of, gather_voxels, in_blocks, plain_result, require_time_series


@dataclass(frozen=True)
class DceIaucParams(DceSignalParams):
    """Parameters of ``dce_iauc``."""

    seconds: float = parameter(
        60.0, label="Length of the window", unit="s", minimum=10.0, maximum=600.0, source="IAUC60, METHODS 5"
    )


class DceIauc(Method):
    """Initial area under the concentration curve."""

    name = "dce_iauc"
    title = "DCE-MRI initial area under the curve (IAUC60) and arrival time"
    quantity = "IAUC60"
    unit = "mmol.s/L"
    citation = "Evelhoch 1999, 10.1002/(SICI)1522-2586(199909)10:3<254::AID-JMRI5>3.0.CO;2-9"
    inputs = (DCE_SERIES, T1_MAP, FLIP_ANGLES, B1_MAP)
    regions = (MR_GTV, MR_ARTERY)
    Params = DceIaucParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: DceIaucParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Area in mmol/L s, its error from the noise of the baseline, and the arrival time; inputs as ``dce_tofts``.

        Raises
        ------
        RequestError
            T1 or sequence not given.
        InputError
            Nothing arrives, the series ends before the window, or negative concentration.
        """
        series = require_time_series(inputs, "dce")
        frames = frames_of(series)
        voxels = gather_voxels(series, regions, params)
        baseline = dce_baseline(series, voxels, frames, regions, params)
        data = to_concentration(inputs, series, voxels, frames, baseline, params, params.relaxivity)
        require_uptake(data)
        progress(0.5, "areas under the curves")
        arrival, code = arrivals(data)
        (area,) = in_blocks(lambda c, a: (area_after_arrival(c, frames, a, params.seconds),), data.voxels.data, arrival)
        level_taken = data.with_baseline_off is not None
        (error,) = in_blocks(
            lambda c: (area_error(c, frames, baseline, params.seconds, level_taken),), data.voxels.data
        )
        if not np.isfinite(area).any():
            raise InputError(
                f"No voxel has {params.seconds:g} s of data after arrival; the series ends at "
                f"{60 * frames.end_min[-1]:.0f} s.",
                "Shorten the window (seconds), or check T1 and baseline.",
            )
        code = np.where((code == FitCode.OK) & ~np.isfinite(area), FitCode.INVALID, code).astype(np.uint8)
        quantity = "IAUC60" if params.seconds == 60 else f"IAUC{params.seconds:g}"
        errors = {"IAUC": np.where(np.isfinite(area), error, np.nan)}
        units = {"IAUC": self.unit, "arrival": "s"}
        result = plain_result({"IAUC": area, "arrival": arrival * 60}, errors, code, units)
        mean = data.voxels.shown_mean()
        curve = curve_of(data.voxels.shown_name, frames.mid_min, mean, mean, "time (min)", "concentration (mmol/L)")
        progress(1.0, "area map ready")
        return data.with_r1(fit_map(
            data.voxels, result, "IAUC", {"IAUC": (quantity, self.unit), "arrival": ("arrival time", "s")},
            f"area over {params.seconds:g} s after arrival", falls=True, warnings=data.notes, curves=(curve,),
            details={"baseline_frames": baseline.stop},
        ))  # fmt: skip


METHOD = DceIauc()
