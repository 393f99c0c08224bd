"""Oxygen-enhanced MRI: which voxels do not answer to breathing oxygen, and, with DCE, which of them are perfused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RequestError
from ..fitting.codes import FitCode
from ..kinetics.arrival import area_after_arrival, area_error
from ..kinetics.oxygen_mri import (
    OXYGEN_TESTS,
    SIGNIFICANCE,
    OxygenClass,
    class_fractions,
    delta_r1,
    oxygen_classes,
    oxygen_enhancing,
    perfused,
)
from ..timeseries import TimeSeries
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, Method, Progress, no_progress, parameter
from ._dce_input import (
    B1_MAP,
    DCE_SERIES,
    FLIP_ANGLES,
    MR_GTV,
    T1_MAP,
    DceSignalParams,
    arrivals,
    find_baseline,
    to_concentration,
)
from ._voxelwise import (
    Voxels,
    curve_of,
    fit_map,
    frames_of,
    gather_voxels,
    in_blocks,
    plain_result,
    require_time_series,
)

OE_SERIES = InputSpec(
    "oe", "MR signal", "dynamic T1-weighted MRI while breathing air, then oxygen (or T1 maps in s)", kind="time",
    modality="MR", mr_kinds=("OE",),
)  # fmt: skip
CLASS_THRESHOLD = (0.5, ">", "voxel of the class pOxy-R: perfused and refractory to oxygen (METHODS 5)")
CLASS_NOTE = "The test that parts Oxy-E from Oxy-R is not confirmed by a public source: it is a visible choice here."
REPEATABILITY_NOTE = "Reported repeatability of the perfused Oxy-R volume: CoV 25.9 %, n = 23 (METHODS 5)."


@dataclass(frozen=True)
class OeMriParams(DceSignalParams):
    """Parameters of ``oe_mri``; times count from the first frame of the oxygen-enhanced series."""

    air_start_s: float = parameter(
        0.0, label="Air from", unit="s", minimum=0.0, maximum=7200.0, source="as the gas was given"
    )
    air_end_s: float = parameter(
        0.0, label="Air until", unit="s", minimum=0.0, maximum=7200.0, source="0: not given; asked for"
    )
    oxygen_start_s: float = parameter(
        0.0, label="Oxygen from", unit="s", minimum=0.0, maximum=7200.0,
        source="0: not given; asked for; leave out the wash-in",
    )  # fmt: skip
    oxygen_end_s: float = parameter(
        0.0, label="Oxygen until", unit="s", minimum=0.0, maximum=7200.0, source="0: to the end of the series"
    )
    test: str = parameter(
        "welch", label="Test of oxygen against air", choices=OXYGEN_TESTS, source="not confirmed (METHODS 5): a choice"
    )
    significance: float = parameter(
        SIGNIFICANCE, label="Significance", minimum=0.0001, maximum=0.5, source="METHODS 5: p < 0.05, one-sided"
    )
    main_map: str = parameter(
        "class", label="Map", choices=("class", "delta_r1"),
        source="class: 1 where the voxel is perfused and refractory; delta_r1: mean R1 change under oxygen",
    )  # fmt: skip


class OeMri(Method):
    """Oxy-E / Oxy-R by a one-sided test of the R1 change; perfused where the IAUC60 is above zero."""

    name = "oe_mri"
    title = "Oxygen-enhanced MRI: perfused Oxy-R (hypoxic) class and delta R1"
    quantity = "Perfused Oxy-R"
    unit = "{ratio}"
    citation = "O'Connor et al. 2016, 10.1158/0008-5472.CAN-15-2062; METHODS 5"
    inputs = (OE_SERIES, replace(DCE_SERIES, required=False, mr_kinds=("DCE",)), T1_MAP, FLIP_ANGLES, B1_MAP)
    regions = (MR_GTV,)
    Params = OeMriParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: OeMriParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Class map or delta R1; the other, p-values and all classes in ``extra``.

        Parameters
        ----------
        inputs : mapping
            ``oe``: ``TimeSeries`` of signal, or of T1 in s; ``dce`` for perfusion; ``t1``, ``flip_angles``, ``b1`` as
            the parameters ask. All on one grid.
        regions : mapping
            ``gtv``.

        Raises
        ------
        RequestError
            Phases, T1 or sequence not given, or fewer than two frames in a phase.
        InputError
            Impossible T1, or nothing arrives in the DCE series.
        """
        series = require_time_series(inputs, "oe")
        air, oxygen = _phases(series, params)
        voxels = gather_voxels(series, regions, params)
        change, code, notes = _delta_r1(inputs, series, voxels, air, params)
        progress(0.4, "testing oxygen against air")
        enhancing, p_value = in_blocks(
            lambda c: oxygen_enhancing(c, air, oxygen, params.test, params.significance), change
        )
        known = np.isfinite(p_value) & (code == FitCode.OK)
        has_perfusion = "dce" in inputs
        if has_perfusion:
            supplied, reached = _perfused(inputs, regions, params)
            classes = oxygen_classes(enhancing, supplied, known & reached)
        else:
            classes = oxygen_classes(enhancing, np.ones_like(enhancing), known)
            notes.append(
                "No DCE series: perfused and non-perfused (necrotic) tissue cannot be told apart, so the class is "
                "Oxy-R and not perfused Oxy-R."
            )
        progress(0.9, "classes ready")
        mean_change = np.where(code == FitCode.OK, change[oxygen].mean(axis=0), np.nan)
        return _map(series, voxels, params, (air, oxygen), classes, mean_change, p_value, change, code,
                    has_perfusion, [*notes, CLASS_NOTE, REPEATABILITY_NOTE])  # fmt: skip


def _map(
    series: TimeSeries, voxels: Voxels, params: OeMriParams, phases: tuple[np.ndarray, np.ndarray],
    classes: np.ndarray, mean_change: np.ndarray, p_value: np.ndarray, change: np.ndarray, code: np.ndarray,
    has_perfusion: bool, notes: list[str],
) -> HypoxiaMap:  # fmt: skip
    """The map asked for with the others beside it."""
    unknown = classes == OxygenClass.UNKNOWN
    hypoxic = np.where(unknown, np.nan, (classes == OxygenClass.PERFUSED_REFRACTORY).astype(float))
    if params.main_map == "class":
        code = np.where(unknown & (code == FitCode.OK), FitCode.INVALID, code).astype(np.uint8)
    result = plain_result(
        {"class": hypoxic, "delta_r1": mean_change, "p_value": p_value,
         "oxygen_class": np.where(unknown, np.nan, classes.astype(float))},
        {}, code, {},
    )  # fmt: skip
    quantities = {
        "class": ("Perfused Oxy-R" if has_perfusion else "Oxy-R (perfusion unknown)", "{ratio}"),
        "delta_r1": ("delta R1 under oxygen", "/s"), "p_value": ("p of oxygen against air", "{ratio}"),
        "oxygen_class": ("oxygen class (1 pOxy-E, 2 pOxy-R, 3 not perfused)", "{count}"),
    }  # fmt: skip
    mean = replace(voxels, data=change).shown_mean()
    fitted = mean.copy()  # what the test compares: one level per phase; frames of neither are as measured
    for phase in phases:
        fitted[phase] = mean[phase].mean()
    curve = curve_of(voxels.shown_name, frames_of(series).mid_min, mean, fitted, "time (min)", "delta R1 (/s)")
    fractions = class_fractions(classes, voxels.gtv)
    if not has_perfusion:
        fractions = {"oxygen_enhancing": fractions["perfused_enhancing"],
                     "oxygen_refractory": fractions["perfused_refractory"]}  # fmt: skip
    return fit_map(
        voxels, result, params.main_map, quantities, f"oxygen against air, {params.test}, p < {params.significance:g}",
        threshold=CLASS_THRESHOLD if params.main_map == "class" else None, falls=True, warnings=notes, curves=(curve,),
        details={"class_fractions_of_gtv": fractions},
    )  # fmt: skip


def _phases(series: TimeSeries, params: OeMriParams) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the air and of the oxygen phase."""
    if not params.air_end_s > params.air_start_s or not params.oxygen_start_s >= params.air_end_s:
        raise RequestError(
            f"Air is from {params.air_start_s:g} to {params.air_end_s:g} s, oxygen after {params.oxygen_start_s:g} s.",
            "Give air_end_s and oxygen_start_s (seconds after the first frame), oxygen after air.",
        )
    end = params.oxygen_end_s or np.inf
    mid = series.frame_mid_s
    air = np.flatnonzero((mid >= params.air_start_s) & (mid <= params.air_end_s))
    oxygen = np.flatnonzero((mid >= params.oxygen_start_s) & (mid <= end))
    if air.size < 2 or oxygen.size < 2:
        raise RequestError(
            f"Air phase has {air.size} frames, oxygen phase {oxygen.size}; the series runs to {mid[-1]:g} s.",
            "Each phase needs two frames or more.",
        )
    return air, oxygen


def _delta_r1(
    inputs: Mapping[str, Any], series: TimeSeries, voxels: Voxels, air: np.ndarray, params: OeMriParams
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """R1 change against the mean of the air phase in 1/s, from T1 maps or from signal."""
    if series.unit == "s":
        change = delta_r1(voxels.data, voxels.data[air[0]])
        change -= change[air].mean(axis=0)
        code = np.where(np.isfinite(change).all(axis=0), FitCode.OK, FitCode.INVALID).astype(np.uint8)
        return change, code, []
    baseline = slice(int(air[0]), int(air[-1]) + 1)
    # With a relaxivity of 1 the concentration is the change of R1 itself.
    data = to_concentration(inputs, series, voxels, frames_of(series), baseline, params, relaxivity=1.0)
    return data.voxels.data.astype(float), data.code, list(data.notes)


def _perfused(
    inputs: Mapping[str, Any], regions: Mapping[str, Region], params: OeMriParams
) -> tuple[np.ndarray, np.ndarray]:
    """Where the IAUC60 is significantly above zero, and where DCE gives a value at all."""
    series = require_time_series(inputs, "dce")
    frames, voxels = frames_of(series), gather_voxels(series, regions, params)
    baseline = find_baseline(voxels.gtv_mean(), frames, params.baseline_frames, "the GTV")
    data = to_concentration(inputs, series, voxels, frames, baseline, replace(params, tr_ms=0.0, flip_deg=0.0),
                            params.relaxivity)  # fmt: skip
    arrival, code = arrivals(data)
    (area,) = in_blocks(lambda c, a: (area_after_arrival(c, frames, a),), data.voxels.data, arrival)
    (error,) = in_blocks(
        lambda c: (area_error(c, frames, baseline, level_taken=data.with_baseline_off is not None),), data.voxels.data
    )
    # A voxel that nothing reaches is known, and known not to be perfused.
    reached = np.isfinite(area) | (code == FitCode.NO_ARRIVAL)
    return perfused(area, error, baseline.stop, params.significance), reached


METHOD = OeMri()
