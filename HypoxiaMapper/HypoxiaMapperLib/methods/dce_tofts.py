"""DCE-MRI tracer kinetics: Tofts, extended Tofts, Patlak, two-compartment exchange and uptake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..fitting import FitCode, FitResult, fit
from ..fitting.delay import fit_with_delay
from ..fitting.model import require_frames
from ..kinetics.graphical import patlak_dce
from ..kinetics.input_function import InputFunction
from ..kinetics.perfusion import ExtendedTofts, Tofts, TwoCompartmentExchange, TwoCompartmentUptake
from ..volume import Region
from ._base import FitCurve, HypoxiaMap, Method, Progress, no_progress, parameter
from ._dce_input import (
    B1_MAP,
    CONCENTRATION_UNIT,
    DCE_SERIES,
    FLIP_ANGLES,
    MR_ARTERY,
    MR_GTV,
    T1_MAP,
    DceData,
    DceInputParams,
    arrivals,
    dce_baseline,
    dce_input,
    require_uptake,
    to_concentration,
)
from ._voxelwise import curve_of, fit_map, frames_of, gather_voxels, require_time_series

MODELS: dict[str, Any] = {
    "tofts": Tofts, "extended_tofts": ExtendedTofts, "2cxm": TwoCompartmentExchange, "2cum": TwoCompartmentUptake,
}  # fmt: skip
QUANTITIES = {
    "Ktrans": ("Ktrans", "/min"), "ve": ("ve", "mL/mL"), "vp": ("vp", "mL/mL"), "kep": ("kep", "/min"),
    "Fp": ("Fp", "mL/min/mL"), "PS": ("PS", "mL/min/mL"), "delay": ("input delay", "min"),
}  # fmt: skip
LONGEST_DELAY_S = 30.0
BASELINE_BLOCK = 2**17
"""Voxels whose curves are copied at once to be fitted with another baseline."""


@dataclass(frozen=True)
class DceToftsParams(DceInputParams):
    """Parameters of ``dce_tofts``."""

    model: str = parameter(
        "extended_tofts", label="Model", choices=(*MODELS, "patlak"),
        source="extended Tofts suits vascular tumours; 2cxm and 2cum need frames of about 2 s; 2cum, patlak: no return",
    )  # fmt: skip
    delay_range_s: float = parameter(
        0.0, label="Search delay up to", unit="s", minimum=0.0, maximum=LONGEST_DELAY_S,
        source="0: no search; else every voxel's delay within this range to both sides",
    )  # fmt: skip
    fit_without_arrival: str = parameter(
        "no", label="Fit voxels without arrival", choices=("no", "yes"),
        source="METHODS 5: such voxels keep the code no arrival and have no value",
    )  # fmt: skip


class DceTofts(Method):
    """Ktrans with the other parameters of the model."""

    name = "dce_tofts"
    title = "DCE-MRI tracer kinetics (Tofts, extended Tofts, Patlak, two-compartment exchange and uptake)"
    quantity = "Ktrans"
    unit = "/min"
    citation = (
        "Tofts et al. 1999, 10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S; Sourbron and Buckley 2013, "
        "10.1002/nbm.2940; input: Parker et al. 2006, 10.1002/mrm.21066"
    )
    inputs = (DCE_SERIES, T1_MAP, FLIP_ANGLES, B1_MAP)
    regions = (MR_GTV, MR_ARTERY)
    packages = ("torch",)
    Params = DceToftsParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: DceToftsParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Ktrans; the other parameters and all standard errors in ``extra``.

        Parameters
        ----------
        inputs : mapping
            ``dce``: ``TimeSeries`` of signal, or of concentration in mmol/L; ``t1``, ``flip_angles`` and ``b1`` as the
            parameters ask, on the same grid.
        regions : mapping
            ``gtv`` and, for an image-derived input, ``artery``.

        Raises
        ------
        RequestError
            Too few frames for the model; T1, sequence or input function not given.
        InputError
            Nothing arrives, negative concentration, impossible T1, or an input that is shorter than the data.
        """
        series = require_time_series(inputs, "dce")
        frames = frames_of(series)
        if params.model != "patlak":
            require_frames(MODELS[params.model], frames.count)
        voxels = gather_voxels(series, regions, params)
        baseline = dce_baseline(series, voxels, frames, regions, params)
        data = to_concentration(inputs, series, voxels, frames, baseline, params, params.relaxivity)
        require_uptake(data, must_arrive=params.fit_without_arrival == "no")
        source, notes = dce_input(series, data, regions, params)
        source.require_unit(CONCENTRATION_UNIT, "The concentration")
        arrival, code = arrivals(data)
        preset = code if params.fit_without_arrival == "no" else data.code
        progress(0.2, f"fitting {data.voxels.data.shape[1]} voxels")
        share = 0.4 if data.with_baseline_off else 0.8
        result = _fit(data, data.voxels.data, preset, source, params, lambda f, t: progress(0.2 + share * f, t))
        result = _with_baseline_error(result, data, source, params, lambda f, t: progress(0.6 + 0.4 * f, t))
        found = fit_map(
            data.voxels, result, "Ktrans", QUANTITIES, f"{params.model} model, input {source.source}", falls=True,
            warnings=[*data.notes, *notes],
            curves=(_shown_curve(data, source, params),),
            details={
                "model": params.model, "input_function": source.source, "baseline_frames": baseline.stop,
                "relaxivity_l_per_mmol_s": params.relaxivity, "hematocrit": params.hematocrit,
                "median_arrival_s": float(np.nanmedian(arrival) * 60) if np.isfinite(arrival).any() else None,
            },
        )  # fmt: skip
        return data.with_r1(found)


def _fit(data: DceData, curves: np.ndarray, preset: np.ndarray, source: InputFunction, params: DceToftsParams,
         progress: Progress) -> FitResult:  # fmt: skip
    """The model in every voxel."""
    if params.model == "patlak":
        found = patlak_dce(curves, source, data.frames, mask=preset == FitCode.OK)
        found.code[preset != FitCode.OK] = preset[preset != FitCode.OK]
        return found
    kind = MODELS[params.model]
    if params.delay_range_s == 0:
        return fit(kind(source, data.frames), curves, preset=preset, options=params.options(), progress=progress)
    reach = params.delay_range_s / 60
    held = source.held_until(data.frames.end_min[-1] + reach)
    return fit_with_delay(lambda d: kind(held.delayed(d), data.frames), (-reach, reach), curves, preset=preset,
                          options=params.options(), progress=progress)  # fmt: skip


def _with_baseline_error(
    result: FitResult, data: DceData, source: InputFunction, params: DceToftsParams, progress: Progress
) -> FitResult:
    """Standard errors with the share of the baseline signal's: an error common to all frames shows in no residual.

    The fit is done again with that signal off by its standard error; what the parameters change by is their share.
    """
    if data.with_baseline_off is None:
        return result
    fitted = np.flatnonzero(np.isfinite(result.sum_of_squares))
    errors = {name: row.copy() for name, row in result.errors.items()}
    for first in range(0, fitted.size, BASELINE_BLOCK):
        part = fitted[first : first + BASELINE_BLOCK]
        again = _fit(data, data.with_baseline_off(part), np.zeros(part.size, np.uint8), source, params, no_progress)
        for name, row in errors.items():
            row[part] = np.hypot(row[part], again.values[name] - result.values[name][part])
        progress((first + part.size) / fitted.size, "errors of the baseline signal")
    return replace(result, errors=errors)


def _shown_curve(data: DceData, source: InputFunction, params: DceToftsParams) -> FitCurve:
    """Mean concentration of the region shown and the model through it."""
    mean = data.voxels.shown_mean()
    result = _fit(data, mean[:, None], np.zeros(1, np.uint8), source, params, no_progress)
    delay = float(result.values["delay"][0]) if "delay" in result.values else 0.0
    moved = source.held_until(data.frames.end_min[-1] + abs(delay)).delayed(delay)
    if params.model == "patlak":
        fitted = result.values["Ktrans"] * moved.integral_on_frames(data.frames)
        fitted = fitted + result.values["vp"] * moved.on_frames(data.frames)
    else:
        model = MODELS[params.model](moved, data.frames)
        fitted = model.curves(np.array([result.values[q.name] for q in model.parameters]))[:, 0]
    return curve_of(data.voxels.shown_name, data.frames.mid_min, mean, fitted, "time (min)",
                    f"concentration ({CONCENTRATION_UNIT})")  # fmt: skip


METHOD = DceTofts()
