"""DCE and oxygen-enhanced MRI: signal to R1 change or concentration, T1 before contrast, and the input function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..fitting.codes import FitCode
from ..kinetics.arrival import detect_arrival
from ..kinetics.dce_signal import R1_PER_MMOL_S, check_t1, signal_to_concentration
from ..kinetics.input_function import InputFunction
from ..kinetics.populations import parker_input
from ..kinetics.timing import MINUTES, Frames
from ..timeseries import TimeSeries
from ..volume import Region
from ._base import HypoxiaMap, InputSpec, RegionSpec, parameter
from ._voxelwise import FitParams, Voxels, in_blocks, require_parameter_series

CONCENTRATION_UNIT = "mmol/L"
POSSIBLE_B1 = (0.3, 2.0)
"""Median of a B1 map as a factor: beyond it the map is in percent or degrees."""
NOISE_SDS, ROUNDING_MMOL_PER_L = 3.0, 1e-6
"""A mean concentration this many standard deviations of the baseline below zero is no noise."""
FIRST_BASELINE = 3
"""Frames in which nothing may have arrived yet, from which the rest of the baseline is found."""
T1_MAP = InputSpec("t1", "T1", "T1 map before contrast (t10_source=map)", required=False, modality="MR")
FLIP_ANGLES = InputSpec(
    "flip_angles", "MR signal", "spoiled gradient echoes at several flip angles (t10_source=flip_angles)",
    required=False, kind="flip angle", modality="MR",
)  # fmt: skip
B1_MAP = InputSpec("b1", "B1", "actual over nominal flip angle, a ratio", required=False, modality="MR")
DCE_SERIES = InputSpec("dce", "MR signal", "dynamic contrast-enhanced MRI (spoiled gradient echo)", kind="time",
                       modality="MR", mr_kinds=("DCE",))  # fmt: skip
MR_ARTERY = RegionSpec("artery", "artery in the DCE images; needed for input_source=region", required=False)
MR_GTV = RegionSpec("gtv", "gross tumour volume; fitted with a margin")


@dataclass(frozen=True)
class SequenceParams(FitParams):
    """Sequence and T1 before contrast or oxygen."""

    t10_source: str = parameter(
        "value", label="T1 before", choices=("value", "map", "flip_angles"),
        source="measured T1 (a map, or flip angles) is better than one value",
    )  # fmt: skip
    t10_s: float = parameter(
        0.0, label="T1 of the tissue", unit="s", minimum=0.0, maximum=10.0, source="0: not given; asked for"
    )
    t1_unit: str = parameter(
        "", label="Unit of the T1 map", choices=("", "s", "ms"), source="empty: as the map itself says"
    )
    tr_ms: float = parameter(
        0.0, label="Repetition time", unit="ms", minimum=0.0, maximum=1000.0, source="0: as the files say"
    )
    flip_deg: float = parameter(
        0.0, label="Flip angle", unit="deg", minimum=0.0, maximum=90.0, source="0: as the files say"
    )


@dataclass(frozen=True)
class DceSignalParams(SequenceParams):
    """From signal to concentration."""

    relaxivity: float = parameter(
        R1_PER_MMOL_S, label="Relaxivity r1", unit="L/mmol/s", minimum=0.1, maximum=50.0,
        source="METHODS 5: 4.5 or 3.4, by agent and field",
    )  # fmt: skip
    baseline_frames: int = parameter(
        0, label="Frames before arrival", minimum=0, maximum=1000,
        source="0: found from the mean curves of the artery and the GTV",
    )  # fmt: skip


@dataclass(frozen=True)
class DceInputParams(DceSignalParams):
    """Arterial input of DCE-MRI."""

    input_source: str = parameter(
        "parker", label="Input function", choices=("parker", "region", "csv"),
        source="Parker 2006, 10.1002/mrm.21066, or measured",
    )  # fmt: skip
    hematocrit: float = parameter(0.42, label="Hematocrit", minimum=0.0, maximum=0.9, source="METHODS 5: 0.42 to 0.45")
    blood_t1_s: float = parameter(
        0.0, label="T1 of blood", unit="s", minimum=0.0, maximum=10.0,
        source="0: not given; asked for with input_source=region; depends on the field strength",
    )  # fmt: skip
    input_csv: str = parameter(
        "", label="Input table (CSV)", source="columns time, plasma and, if known, blood; time zero: first frame"
    )
    input_csv_time_unit: str = parameter(
        "", label="Time unit of the table", choices=("", *MINUTES), source="asked for, never guessed"
    )
    input_csv_unit: str = parameter(
        "", label="Concentration unit of the table", choices=("", CONCENTRATION_UNIT), source="asked for, never guessed"
    )
    input_spline: str = parameter(
        "yes", label="Spline through region samples", choices=("yes", "no"),
        source="a bolus sampled every few seconds is no polygon; no: straight lines, for noisy samples",
    )  # fmt: skip


@dataclass(frozen=True)
class DceData:
    """Concentration of every voxel to fit.

    Parameters
    ----------
    voxels : Voxels
        ``data`` holds concentration in mmol/L (or R1 change in 1/s where the relaxivity is 1).
    code : numpy.ndarray
        ``FitCode`` per voxel: INVALID where T1, B1 or the signal is impossible.
    baseline : slice
        Frames before arrival.
    with_baseline_off : callable or None
        Of voxels (n,): their concentrations (frames, n) were the unenhanced signal off by its standard error. None for
        a series that holds concentrations, and with a single baseline frame.
    r1_per_s : numpy.ndarray or None
        R1 before contrast, where it was measured by flip angles.
    """

    voxels: Voxels
    frames: Frames
    code: np.ndarray
    baseline: slice
    with_baseline_off: Callable[[np.ndarray], np.ndarray] | None
    notes: tuple[str, ...] = ()
    r1_per_s: np.ndarray | None = None

    def with_r1(self, found: HypoxiaMap) -> HypoxiaMap:
        """A map with the R1 before contrast beside it, where that was measured by flip angles."""
        if self.r1_per_s is None:
            return found
        measured = self.voxels.volume(self.r1_per_s, "R1", "/s", "R1 before contrast, from flip angles")
        return replace(found, extra={**found.extra, "R1": measured})


def sequence_of(series: Any, params: SequenceParams) -> tuple[float, float]:
    """Repetition time in seconds and flip angle in degrees, from the parameters or the files.

    Raises
    ------
    RequestError
        If neither says it.
    """
    tr_ms = params.tr_ms or float(series.facts.get("repetition_time_ms", 0) or 0)
    flip_deg = params.flip_deg or float(series.facts.get("flip_angle_deg", 0) or 0)
    if not tr_ms or not flip_deg:
        raise RequestError(
            f"{series.quantity}: repetition time {tr_ms or 'unknown'} ms, flip angle {flip_deg or 'unknown'} degrees.",
            "Give tr_ms and flip_deg.",
        )
    return tr_ms / 1000.0, flip_deg


def t1_before(inputs: Mapping[str, Any], voxels: Voxels, params: SequenceParams) -> tuple[np.ndarray, list[str]]:
    """T1 in seconds of every voxel to fit, and what to note.

    Raises
    ------
    RequestError
        If the value, map, flip angles or the unit of the map is not given.
    InputError
        If T1 is zero everywhere or in the wrong unit.
    """
    if params.t10_source == "value":
        if not params.t10_s > 0:
            raise RequestError("T1 before contrast is not given (t10_s is 0).", "Give t10_s, a T1 map or flip angles.")
        note = f"One T1 of {params.t10_s:g} s was taken for all tissue: concentrations scale with its error."
        return np.full(voxels.data.shape[1], params.t10_s), [note]
    if params.t10_source == "map":
        if "t1" not in inputs:
            raise RequestError("t10_source=map needs the input t1.", "Name the T1 map, or give t10_s.")
        volume = inputs["t1"]
        unit = params.t1_unit or volume.unit
        if unit not in ("s", "ms"):
            raise RequestError(f"The unit of the T1 map is {unit!r}.", "State it with t1_unit=s or t1_unit=ms.")
        values = voxels.values_of(volume) * (1e-3 if unit == "ms" else 1.0)
        check_t1(values)
        return values, []
    return _t1_from_flip_angles(inputs, voxels, params)


def _t1_from_flip_angles(
    inputs: Mapping[str, Any], voxels: Voxels, params: SequenceParams
) -> tuple[np.ndarray, list[str]]:
    """T1 by variable flip angles, corrected by B1 where there is a map."""
    from ..fitting import fit
    from ..kinetics.dce_signal import VariableFlipAngle

    angles = require_parameter_series(inputs, "flip_angles", "flip angle")
    tr_ms = float(angles.facts.get("repetition_time_ms", 0) or 0) or params.tr_ms
    if not tr_ms:
        raise RequestError("The flip-angle series does not state its repetition time.", "Give tr_ms.")
    model = VariableFlipAngle(angles.values, tr_ms / 1000.0)
    extra = (_b1_of(inputs, voxels),) if "b1" in inputs else ()
    result = fit(model, angles.voxels(voxels.mask), extra=extra, options=params.options())
    good = np.isin(result.code, (FitCode.OK,))
    notes = [] if "b1" in inputs else ["No B1 map: an error of the flip angle enters T1 twice."]
    return np.where(good, result.values["T1"], np.nan), notes


def _b1_of(inputs: Mapping[str, Any], voxels: Voxels) -> np.ndarray:
    """B1 of every voxel as a factor of the nominal flip angle; a map in percent, as scanners write them, is refused.

    NaN where it is not positive.
    """
    values = voxels.values_of(inputs["b1"])
    known = values[np.isfinite(values) & (values > 0)]
    middle = float(np.median(known)) if known.size else float("nan")
    if not POSSIBLE_B1[0] <= middle <= POSSIBLE_B1[1]:
        raise InputError(
            f"The B1 map has a median of {middle:.4g} in the fitted voxels; 1 is the nominal flip angle.",
            "Divide a map in percent by 100; other scales must be converted to the share of the nominal angle.",
        )
    return np.where(values > 0, values, np.nan)


def find_baseline(curve: np.ndarray, frames: Frames, count: int, what: str) -> slice:
    """Frames before arrival: as stated, or those before the onset of a mean curve.

    Raises
    ------
    InputError
        If nothing arrives, or earlier than the third frame.
    """
    if count >= frames.count:
        raise RequestError(
            f"baseline_frames is {count}, the series has {frames.count} frames.", "Leave frames after the arrival."
        )
    if count:
        return slice(0, count)
    arrival, code = detect_arrival(curve[:, None], frames, slice(0, FIRST_BASELINE))
    found = int((frames.mid_min <= arrival[0]).sum()) if code[0] == FitCode.OK else 0
    if found < 2:
        reason = "nothing arrives" if code[0] != FitCode.OK else "it arrives before the third frame"
        raise InputError(f"The frames before arrival cannot be found in {what}: {reason}.", "Give baseline_frames.")
    return slice(0, found)


def to_concentration(
    inputs: Mapping[str, Any], series: TimeSeries, voxels: Voxels, frames: Frames, baseline: slice,
    params: SequenceParams, relaxivity: float,
) -> DceData:  # fmt: skip
    """Signal of every voxel as concentration; a series already in mmol/L is taken as it is.

    Raises
    ------
    RequestError, InputError
        As ``t1_before`` and ``signal_to_concentration``.
    """
    if series.unit == CONCENTRATION_UNIT:
        code = np.where(np.isfinite(voxels.data).all(axis=0), FitCode.OK, FitCode.INVALID).astype(np.uint8)
        return DceData(voxels, frames, code, baseline, None)
    tr_s, flip_deg = sequence_of(series, params)
    t10, notes = t1_before(inputs, voxels, params)
    b1 = _b1_of(inputs, voxels) if "b1" in inputs else np.ones_like(t10)

    def convert(signal: np.ndarray, t1: np.ndarray, factor: np.ndarray,
                level: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        if not (t1 > 0).any():  # refused for the whole map already; a block of background may hold none
            return np.full(signal.shape, np.nan, np.float32), np.full(t1.shape, FitCode.INVALID, np.uint8)
        found, code = signal_to_concentration(
            signal, t1, tr_s=tr_s, flip_deg=flip_deg, baseline=baseline, r1_per_mmol_s=relaxivity, b1=factor,
            level=level,
        )  # fmt: skip
        return found.astype(np.float32), code

    def with_baseline_off(part: np.ndarray) -> np.ndarray:
        signal = voxels.data[:, part]
        before = signal[baseline].astype(float)
        level = 1 + before.std(axis=0, ddof=1) / np.sqrt(len(before)) / before.mean(axis=0)
        return convert(signal, t10[part], b1[part], level)[0]

    data, code = in_blocks(convert, voxels.data, t10, b1)
    off = with_baseline_off if baseline.stop - baseline.start > 1 else None
    measured = 1 / t10 if params.t10_source == "flip_angles" else None
    return DceData(replace(voxels, data=data), frames, code, baseline, off, tuple(notes), measured)


def arrivals(data: DceData) -> tuple[np.ndarray, np.ndarray]:
    """Arrival time in minutes and ``FitCode`` of every voxel."""
    arrival, code = in_blocks(lambda c: detect_arrival(c, data.frames, data.baseline), data.voxels.data)
    return arrival, np.where(data.code != FitCode.OK, data.code, code).astype(np.uint8)


def require_uptake(data: DceData, must_arrive: bool = True) -> np.ndarray:
    """Mean concentration of the GTV; refused where it is negative after arrival, or where nothing arrives.

    Raises
    ------
    InputError
        Negative mean concentration, no arrival, or no usable voxel.
    """
    if not (data.code[data.voxels.gtv] == FitCode.OK).any():
        raise InputError(
            "In no voxel of the GTV is there a T1 that explains the signal of every frame.",
            "Check T1 before contrast, flip angle, baseline frames and that this is a T1-weighted series.",
        )
    mean = data.voxels.gtv_mean()
    before, after = mean[data.baseline], mean[data.baseline.stop :]
    if after.size and after.mean() < -max(NOISE_SDS * before.std(), ROUNDING_MMOL_PER_L):
        raise InputError(
            f"The mean concentration of the GTV after arrival is negative ({after.mean():.3g} {CONCENTRATION_UNIT}).",
            "Check baseline frames, T1 before contrast, flip angle and that this is a T1-weighted series.",
        )
    if must_arrive and detect_arrival(mean[:, None], data.frames, data.baseline)[1][0] == FitCode.NO_ARRIVAL:
        raise InputError(
            f"Nothing arrives in the GTV: its mean concentration stays at baseline in {data.frames.count} frames.",
            "Check that this is the contrast-enhanced series, complete, and baseline_frames.",
        )
    return mean


def dce_baseline(
    series: TimeSeries, voxels: Voxels, frames: Frames, regions: Mapping[str, Region], params: DceSignalParams
) -> slice:
    """Frames before arrival in the artery, if there is one, else in the GTV."""
    if "artery" in regions:
        return find_baseline(series.region_curve(regions["artery"]), frames, params.baseline_frames, "the artery")
    return find_baseline(voxels.gtv_mean(), frames, params.baseline_frames, "the GTV")


def dce_input(
    series: TimeSeries, data: DceData, regions: Mapping[str, Region], params: DceInputParams
) -> tuple[InputFunction, list[str]]:
    """Plasma concentration in mmol/L on the clock of the frames, and what to note.

    Raises
    ------
    RequestError
        If the region, blood T1, table or a unit is missing.
    InputError
        If the table or the arterial curve is unusable.
    """
    frames, end = data.frames, float(data.frames.end_min[-1])
    if params.input_source == "parker":
        # The bolus is put where the mean curve of the tumour begins to rise.
        arrival, code = detect_arrival(data.voxels.gtv_mean()[:, None], frames, data.baseline)
        start = float(arrival[0]) if code[0] == FitCode.OK else float(frames.mid_min[data.baseline.stop - 1])
        note = f"Population input function (Parker): the bolus was put at {60 * start:.1f} s, where the GTV enhances."
        return parker_input(end, start, params.hematocrit), [note]
    if params.input_source == "csv":
        missing = [n for n in ("input_csv", "input_csv_time_unit", "input_csv_unit") if not getattr(params, n)]
        if missing:
            raise RequestError(f"input_source=csv needs {', '.join(missing)}.", "Units are asked for, never guessed.")
        unit = params.input_csv_unit
        found = InputFunction.from_csv(Path(params.input_csv), time_unit=params.input_csv_time_unit, unit=unit)
        found.require_beginning()
        return found, []
    return _from_artery(series, data, regions, params), [
        "The input function was read from the images: inflow and partial volume may distort it."
    ]


def _from_artery(
    series: TimeSeries, data: DceData, regions: Mapping[str, Region], params: DceInputParams
) -> InputFunction:
    """Mean signal of the artery as plasma concentration."""
    if "artery" not in regions:
        raise RequestError("There is no arterial region.", "Name one (region artery), or use input_source=parker.")
    blood = series.region_curve(regions["artery"])
    if series.unit != CONCENTRATION_UNIT:
        if not params.blood_t1_s > 0:
            raise RequestError("The T1 of blood is not given (blood_t1_s is 0 s).", "Give it for the field strength.")
        tr_s, flip_deg = sequence_of(series, params)
        found, code = signal_to_concentration(
            blood[:, None], np.array([params.blood_t1_s]), tr_s=tr_s, flip_deg=flip_deg, baseline=data.baseline,
            r1_per_mmol_s=params.relaxivity,
        )  # fmt: skip
        if code[0] != FitCode.OK:
            raise InputError("No T1 can explain the arterial signal.", "Check blood_t1_s and flip angle.")
        blood = found[:, 0]
    source = f"region {regions['artery'].name}, image-derived"
    found_input = InputFunction(data.frames.mid_min, blood, CONCENTRATION_UNIT, source=source)
    found_input = found_input.from_blood(params.hematocrit)
    return found_input.smoothed() if params.input_spline == "yes" else found_input
