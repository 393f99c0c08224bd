"""Relative cerebral blood volume from DSC-MRI with leakage correction, labelled normalised or standardised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..fitting.codes import FitCode
from ..kinetics.dsc import (
    BloodVolume,
    delta_r2_star,
    leakage_curve,
    normalised,
    relative_blood_volume,
    standardised,
)
from ..kinetics.timing import Frames
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._dce_input import find_baseline
from ._voxelwise import (
    ExtentParams,
    Voxels,
    curve_of,
    fit_map,
    frames_of,
    gather_voxels,
    on_grid_of,
    plain_result,
    require_time_series,
)

AREA_UNIT = "min/s"


@dataclass(frozen=True)
class DscRcbvParams(ExtentParams):
    """Parameters of ``dsc_rcbv``."""

    scale: str = parameter(
        "normalised", label="Scale", choices=("normalised", "standardised", "relative"),
        source="normalised: over contralateral white matter; standardised: by your own landmarks; different things",
    )  # fmt: skip
    leakage: str = parameter(
        "corrected", label="Leakage", choices=("corrected", "uncorrected"), source="Boxerman 2006, AJNR 27:859"
    )
    echo_time_ms: float = parameter(
        0.0, label="Echo time", unit="ms", minimum=0.0, maximum=200.0, source="0: as the files say"
    )
    baseline_frames: int = parameter(
        0, label="Frames before the bolus", minimum=0, maximum=500, source="0: found from the mean curve of the brain"
    )
    landmarks: str = parameter(
        "", label="Landmark file (JSON)", source='for scale=standardised: {"from": [...], "to": [...]}, your own'
    )


class DscRcbv(Method):
    """Area under delta R2*, corrected for leakage."""

    name = "dsc_rcbv"
    title = "DSC-MRI relative cerebral blood volume (leakage corrected)"
    quantity = "normalised rCBV"
    unit = "{ratio}"
    citation = "Boxerman et al. 2006, AJNR 27:859; standardised: Bedekar et al. 2010, 10.1002/mrm.22445"
    inputs = (
        InputSpec("dsc", "MR signal", "dynamic susceptibility-contrast MRI (T2*-weighted)", kind="time", modality="MR",
                  mr_kinds=("DSC",)),
    )  # fmt: skip
    regions = (
        RegionSpec("gtv", "tumour; computed with a margin"),
        RegionSpec("normal_brain", "non-enhancing brain without leakage, reference of the correction"),
        RegionSpec("white_matter", "contralateral white matter, for scale=normalised", required=False),
    )
    Params = DscRcbvParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: DscRcbvParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """rCBV on the scale asked for, with the uncorrected one and the leakage K2 in ``extra``.

        Raises
        ------
        RequestError
            White matter, landmarks or echo time not given, or an unusable reference region.
        InputError
            No bolus is found, or the landmark file is unusable.
        """
        series = require_time_series(inputs, "dsc")
        frames = frames_of(series)
        echo_ms = params.echo_time_ms or float(series.facts.get("echo_time_ms", 0) or 0)
        if not echo_ms:
            raise RequestError("The echo time of the DSC series is unknown.", "Give echo_time_ms.")
        voxels = gather_voxels(series, regions, params)
        reference = series.voxels(on_grid_of(regions["normal_brain"], series.grid, "the series"))
        # The bolus lowers the signal: upside down it arrives as in DCE.
        baseline = find_baseline(-np.nanmean(reference, axis=1), frames, params.baseline_frames, "normal brain")
        parts = [voxels.data, reference]
        if params.scale == "normalised":
            if "white_matter" not in regions:
                raise RequestError("scale=normalised needs the region white_matter.", "Name it, or use another scale.")
            parts.append(series.voxels(on_grid_of(regions["white_matter"], series.grid, "the series")))
        change = delta_r2_star(np.concatenate(parts, axis=1), echo_ms / 1000.0, baseline)
        ends = np.cumsum([p.shape[1] for p in parts])
        is_reference = np.zeros(change.shape[1], bool)
        is_reference[ends[0] : ends[1]] = True
        found = relative_blood_volume(change, frames, is_reference)
        scaled = _scaled(found, params, slice(ends[1], None))
        progress(1.0, "rCBV map ready")
        return _map(voxels, found, scaled, change, params, ends[0], frames, baseline.stop)


def _scaled(found: BloodVolume, params: DscRcbvParams, white_matter: slice) -> tuple[np.ndarray, str, str]:
    """Values, quantity and unit on the scale asked for."""
    area = found.corrected if params.leakage == "corrected" else found.uncorrected
    tail = "leakage corrected" if params.leakage == "corrected" else "no leakage correction"
    if params.scale == "relative":
        return area, f"relative rCBV, {tail}", AREA_UNIT
    if params.scale == "normalised":
        mask = np.zeros(area.shape, bool)
        mask[white_matter] = True
        return normalised(area, mask), f"normalised rCBV, {tail}", "{ratio}"
    return standardised(area, *_landmarks(params.landmarks)), f"standardised rCBV, {tail}", "{ratio}"


def _landmarks(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of the user's own training set."""
    if not path:
        raise RequestError("scale=standardised needs landmarks, and none are built in.", "Give a landmark file.")
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        return np.array(facts["from"], dtype=float), np.array(facts["to"], dtype=float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Landmarks {path} cannot be read: {error}.", 'Write {"from": [...], "to": [...]}.') from error


def _map(
    voxels: Voxels, found: BloodVolume, scaled: tuple[np.ndarray, str, str], change: np.ndarray, params: DscRcbvParams,
    count: int, frames: Frames, baseline_frames: int,
) -> HypoxiaMap:  # fmt: skip
    """Maps of the voxels around the tumour."""
    values, quantity, unit = scaled
    code = np.where((found.code[:count] == FitCode.OK) & ~np.isfinite(values[:count]), FitCode.INVALID,
                    found.code[:count]).astype(np.uint8)  # fmt: skip
    result = plain_result(
        {"rCBV": values[:count], "uncorrected": found.uncorrected[:count], "K2": found.leakage[:count]}, {}, code, {}
    )
    mean = replace(voxels, data=change[:, :count]).shown_mean()
    fitted = leakage_curve(mean, frames, found.reference)
    curve = curve_of(voxels.shown_name, frames.mid_min, mean, fitted, "time (min)", "delta R2* (/s)")
    return fit_map(
        voxels, result, "rCBV",
        {"rCBV": (quantity, unit), "uncorrected": ("rCBV area without leakage correction", AREA_UNIT),
         "K2": ("leakage K2", "/min")},
        f"{quantity}, echo time of the series", falls=True, curves=(curve,),
        details={"scale": params.scale, "baseline_frames": baseline_frames},
        warnings=["Normalised and standardised rCBV are different scales: compare only like with like."],
    )  # fmt: skip


METHOD = DscRcbv()
