"""Late-frame uptake ratio of a dynamic PET: the static ratio of the same scan, beside its kinetic maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RequestError
from ..tracers import HYPOXIA_TRACERS
from ..volume import Region, Volume, image_like
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._maps import arithmetic_code
from ._voxelwise import VOXEL, curve_of, require_time_series
from .tracer_ratio import TracerRatio, TracerRatioParams


@dataclass(frozen=True)
class LateRatioParams(TracerRatioParams):
    """Parameters of ``late_ratio``."""

    start_min: float = parameter(
        0.0, label="Window from", unit="min", minimum=0.0, maximum=600.0,
        source="minutes after injection; 0 with end 0: the last frame alone",
    )  # fmt: skip
    end_min: float = parameter(
        0.0, label="Window until", unit="min", minimum=0.0, maximum=600.0,
        source="minutes after injection; 0: the end of the series",
    )  # fmt: skip


class LateRatio(Method):
    """Mean of the late frames over the reference, by the rules of ``tracer_ratio``."""

    name = "late_ratio"
    title = "Late-frame uptake ratio of a dynamic PET"
    quantity = "Tracer uptake ratio"
    unit = "{ratio}"
    citation = TracerRatio.citation
    inputs = (
        InputSpec("pet", "SUVbw", "dynamic PET of a hypoxia tracer", tracers=HYPOXIA_TRACERS, kind="time"),
    )  # fmt: skip
    regions = (
        RegionSpec("reference", "blood (vessel at least 1 cm wide) or muscle, outside any tumour"),
        RegionSpec("gtv", "gross tumour volume; the reference must not overlap it"),
    )
    Params = LateRatioParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: LateRatioParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Ratio map of the frames inside the window, weighted by their length; threshold of the tracer's protocol.

        Raises
        ------
        RequestError
            No frame lies inside the window; else as ``tracer_ratio``.
        InputError
            As ``tracer_ratio``.
        """
        series = require_time_series(inputs, "pet")
        start, end = params.start_min * 60, params.end_min * 60
        inside = (series.frame_start_s >= start) & (series.frame_end_s <= (end or np.inf))
        if not params.start_min and not params.end_min:
            inside = np.arange(series.count) == series.count - 1
        if not inside.any():
            raise RequestError(
                f"No frame lies within {params.start_min:g} to {params.end_min or series.frame_end_s[-1] / 60:g} min.",
                f"The series runs from {series.frame_start_s[0] / 60:g} to {series.frame_end_s[-1] / 60:g} min.",
            )
        weights = series.frame_duration_s[inside]
        mean = np.tensordot(weights / weights.sum(), series.frames[inside], axes=1).astype(np.float32)
        first, last = (np.flatnonzero(inside)[k] for k in (0, -1))
        facts = {**series.facts, "minutes_after_injection": series.frame_start_s[first] / 60}
        if series.facts.get("time_zero") != "injection":
            facts["minutes_after_injection"] = None
        volume = Volume(
            image_like(mean, series.grid), series.quantity, series.unit, series.frame_of_reference_uid,
            series.source_uids, (*series.operations, f"mean of frames {first + 1} to {last + 1}"), facts,
        )  # fmt: skip
        found = TracerRatio().compute({"pet": volume}, regions, params, progress)
        window = [float(series.frame_start_s[first] / 60), float(series.frame_end_s[last] / 60)]
        shown = regions.get(VOXEL, regions["gtv"])
        uptake = series.region_curve(shown)
        curve = curve_of(shown.name, series.frame_mid_s / 60, uptake, uptake, "time (min)",
                         f"{series.quantity} ({series.unit})")  # fmt: skip
        return replace(
            found, details={**found.details, "window_min": window}, curves=(curve,),
            quality=arithmetic_code(found.volume.array),
            warnings=(*series.facts.get("motion_warnings", ()), *found.warnings),
        )  # fmt: skip


METHOD = LateRatio()
