"""Two-tissue compartment models of dynamic PET, voxel by voxel, with the model chosen by AIC or BIC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RequestError
from ..fitting import FitCode, FitResult, SeparableModel, choose_model, fit
from ..fitting.delay import fit_with_delay
from ..fitting.model import require_frames
from ..kinetics.input_function import InputFunction
from ..kinetics.timing import Frames
from ..kinetics.tissue import TwoTissueIrreversible, TwoTissueReversible
from ..volume import Region
from ._base import FitCurve, HypoxiaMap, Method, Progress, no_progress, parameter
from ._pet_input import ARTERY, GTV, PET_SERIES, PetInputParams, pet_input
from ._voxelwise import (
    FitParams,
    Voxels,
    curve_of,
    fit_map,
    frames_of,
    gather_voxels,
    require_activity,
    require_time_series,
)

MODELS: dict[str, type[SeparableModel]] = {"2t3k": TwoTissueIrreversible, "2t4k": TwoTissueReversible}
QUANTITIES = {
    "K1": ("K1", "mL/min/mL"), "k2": ("k2", "/min"), "k3": ("k3", "/min"), "k4": ("k4", "/min"),
    "vB": ("vB", "mL/mL"), "Ki": ("Ki", "mL/min/mL"), "VT": ("VT", "mL/mL"), "delay": ("input delay", "min"),
}  # fmt: skip
HELD_S = 30.0


@dataclass(frozen=True)
class TwoTissueParams(PetInputParams, FitParams):
    """Parameters of ``two_tissue``."""

    model: str = parameter(
        "aic", label="Model", choices=("aic", "bic", *MODELS),
        source="aic, bic: per voxel the better of 2T3k and 2T4k, McGowan 2017, 10.1002/mp.12416",
    )  # fmt: skip
    main_map: str = parameter(
        "k3", label="Map", choices=("k3", "Ki", "VT", "K1"),
        source="k3 is the rate of binding under hypoxia; the other parameters are handed out beside it",
    )  # fmt: skip
    delay_range_s: float = parameter(
        0.0, label="Search delay up to", unit="s", minimum=0.0, maximum=HELD_S,
        source="0: no search; else every voxel's delay within this range to both sides",
    )  # fmt: skip


class TwoTissue(Method):
    """2T3k or 2T4k with blood volume, frame-averaged, bounded."""

    name = "two_tissue"
    title = "Two-tissue compartment model (dynamic PET): k3, Ki, VT, K1, vB"
    quantity = "k3"
    unit = "/min"
    citation = "McGowan et al. 2017, 10.1002/mp.12416; Wang et al. 2009 (FMISO model); bounds METHODS 4"
    inputs = (PET_SERIES,)
    regions = (GTV, ARTERY)
    packages = ("torch",)
    Params = TwoTissueParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: TwoTissueParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Map of the parameter asked for; all others and every standard error in ``extra``.

        Parameters
        ----------
        inputs : mapping
            ``pet``: ``TimeSeries`` from the injection on.
        regions : mapping
            ``gtv`` and, for an image-derived input, ``artery``, on the same grid.

        Raises
        ------
        RequestError
            Too few frames for the model, no input function, or VT asked of the irreversible model.
        InputError
            Input function or series unusable, or no voxel that can be fitted.
        """
        if params.main_map == "VT" and params.model != "2t4k":
            raise RequestError("VT exists in the reversible model only.", "Set model=2t4k for the map VT.")
        series = require_time_series(inputs, "pet")
        frames = frames_of(series)
        names = list(MODELS) if params.model in ("aic", "bic") else [params.model]
        for name in names:
            require_frames(MODELS[name], frames.count)
        source, notes = pet_input(series, frames, regions, params)
        voxels = gather_voxels(series, regions, params)
        require_activity(voxels)
        results = {}
        for k, name in enumerate(names):
            results[name] = _fit(name, source, frames, voxels.data, params,
                                 lambda f, t, k=k: progress((k + f) / len(names), t))  # type: ignore[misc]  # fmt: skip
        result, shares = _chosen(results, params.model)
        curve = _shown_curve(voxels, source, frames, params, names)
        progress(1.0, "kinetic maps ready")
        found = fit_map(
            voxels, result, params.main_map, QUANTITIES,
            f"two-tissue model ({params.model}), input {source.source}", warnings=notes, curves=(curve,),
            falls=params.main_map == "K1",
            details={"input_function": source.source, "model": params.model, "share_of_voxels_by_model": shares},
        )  # fmt: skip
        if len(names) > 1:
            choice, _ = choose_model(results, params.model)
            index = np.where(choice < 0, np.nan, choice + 3.0)
            volume = voxels.volume(index, "rate constants of the chosen model (3 or 4)", "{count}", "least "
                                   + params.model.upper())  # fmt: skip
            found = replace(found, extra={**found.extra, "model": volume})
        return found


def _fit(name: str, source: InputFunction, frames: Frames, data: np.ndarray, params: TwoTissueParams,
         progress: Progress) -> FitResult:  # fmt: skip
    """One model in every voxel, with or without a search for the delay."""
    kind: Any = MODELS[name]
    weights = frames.duration_min
    if params.delay_range_s == 0:
        return fit(kind(source, frames), data, weights=weights, options=params.options(), progress=progress)
    reach = params.delay_range_s / 60
    held = source.held_until(frames.end_min[-1] + reach)
    return fit_with_delay(lambda d: kind(held.delayed(d), frames), (-reach, reach), data, weights=weights,
                          options=params.options(), progress=progress)  # fmt: skip


def _chosen(results: dict[str, FitResult], criterion: str) -> tuple[FitResult, dict[str, float]]:
    """Per voxel the values of the better model; k4 of the irreversible one is 0, VT does not exist there."""
    if len(results) == 1:
        name, result = next(iter(results.items()))
        return result, {name: 1.0}
    choice, names = choose_model(results, criterion)
    first, second = (results[name] for name in names)
    reversible = choice == 1
    nothing = np.full(choice.shape, np.nan)
    zero = np.where(np.isnan(first.values["K1"]), np.nan, 0.0)

    def pick(kind: str) -> dict[str, np.ndarray]:
        a, b = getattr(first, kind), getattr(second, kind)
        empty = {"k4": zero if kind == "values" else nothing, "VT": nothing}
        return {q: np.where(reversible, b[q], a.get(q, empty.get(q, nothing))) for q in b}

    known = choice >= 0
    shares = {name: float((choice[known] == k).mean()) if known.any() else 0.0 for k, name in enumerate(names)}
    code = np.where(reversible, second.code, first.code).astype(np.uint8)
    code[~known & (code == FitCode.OK)] = FitCode.INVALID
    return replace(
        second, values=pick("values"), errors=pick("errors"), code=code,
        sum_of_squares=np.where(reversible, second.sum_of_squares, first.sum_of_squares),
        aic=np.where(reversible, second.aic, first.aic), bic=np.where(reversible, second.bic, first.bic),
    ), shares  # fmt: skip


def _shown_curve(
    voxels: Voxels, source: InputFunction, frames: Frames, params: TwoTissueParams, names: list[str]
) -> FitCurve:
    """Mean curve of the region shown and the model through it, the better one where two were fitted."""
    mean = voxels.shown_mean()
    results = {name: _fit(name, source, frames, mean[:, None], params, no_progress) for name in names}
    best = min(results, key=lambda name: float(getattr(results[name], "bic" if params.model == "bic" else "aic")[0]))
    values = results[best].values
    delay = float(values["delay"][0]) if "delay" in values else 0.0
    kind: Any = MODELS[best]
    model = kind(source.held_until(frames.end_min[-1] + abs(delay)).delayed(delay), frames)
    fitted = model.curves(np.array([values[q.name] for q in model.parameters]))[:, 0]
    return curve_of(voxels.shown_name, frames.mid_min, mean, fitted, "time (min)",
                    f"{voxels.series.quantity} ({voxels.series.unit})")  # fmt: skip


METHOD = TwoTissue()
