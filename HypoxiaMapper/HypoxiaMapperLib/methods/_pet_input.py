"""The input function of dynamic PET: an arterial region of the images, or a table of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, RequestError
from ..kinetics.input_function import InputFunction
from ..kinetics.timing import MINUTES, Frames
from ..suv import suvbw_factor
from ..timeseries import TimeSeries
from ..tracers import HYPOXIA_TRACERS
from ..volume import Region
from ._base import InputSpec, RegionSpec, parameter

PARTIAL_VOLUME_NOTE = (
    "The input function was read from the images without partial-volume correction: in a vessel narrower than about "
    "twice the resolution it is too low, and rates come out too high. Use a vessel at least 1 cm wide."
)  # METHODS section 4
SMALLEST_ARTERY_ML = 0.5
LONGEST_BOLUS_FRAME_S = 20.0
"""On 300 simulated two-tissue curves vB came out 4 % high with frames of 15 s and 20 % with 30 s."""
LATEST_START_S = 30.0
"""An image-derived input needs the bolus: the first frame must begin this soon after the injection."""
BOLUS_FALL, BOLUS_FALL_MIN = 2.5, 10.0
"""Where the injection time is unknown, the artery must fall this much within so many minutes: only a bolus does."""
_KBQ = {"Bq/ml": 1.0, "kBq/ml": 1e3}

PET_SERIES = InputSpec(
    "pet", "SUVbw", "dynamic PET of a hypoxia tracer, from the injection on", tracers=HYPOXIA_TRACERS, kind="time"
)
ARTERY = RegionSpec("artery", "arterial segment at least 1 cm wide; needed for input_source=region", required=False)
GTV = RegionSpec("gtv", "gross tumour volume; fitted with a margin")


@dataclass(frozen=True)
class PetInputParams:
    """Where the plasma concentration comes from."""

    input_source: str = parameter(
        "region", label="Input function", choices=("region", "csv"),
        source="METHODS 4: image-derived from a carotid or aorta region, or measured",
    )  # fmt: skip
    input_csv: str = parameter(
        "", label="Input table (CSV)", source="columns time, plasma and, if known, blood; time zero is the injection"
    )
    input_csv_time_unit: str = parameter(
        "", label="Time unit of the table", choices=("", *MINUTES), source="asked for, never guessed"
    )
    input_csv_unit: str = parameter(
        "", label="Concentration unit of the table", choices=("", "g/ml", "Bq/ml", "kBq/ml"),
        source="asked for, never guessed; activity must be decay corrected to the injection",
    )  # fmt: skip
    plasma_to_blood: float = parameter(
        1.0, label="Plasma over whole blood", minimum=0.1, maximum=10.0,
        source="1: plasma taken as whole blood, no metabolites; state a measured ratio where you have one",
    )  # fmt: skip
    delay_s: float = parameter(
        0.0, label="Delay of the input", unit="s", minimum=-60.0, maximum=300.0, source="0: none; measured by the user"
    )
    dispersion_s: float = parameter(
        0.0, label="Dispersion of the input", unit="s", minimum=0.0, maximum=120.0,
        source="time constant of an exponential smear; 0: none",
    )  # fmt: skip


def pet_input(
    series: TimeSeries, frames: Frames, regions: Mapping[str, Region], params: PetInputParams
) -> tuple[InputFunction, list[str]]:
    """Input function on the clock of the frames (time zero: injection), in the unit of the series, and what to note.

    Raises
    ------
    RequestError
        If the region, file or a unit is missing.
    InputError
        If the images begin too late for their own input, or the table is unusable.
    """
    notes: list[str] = []
    if params.input_source == "csv":
        found = _from_csv(series, params)
    else:
        found, notes = _from_region(series, frames, regions, params)
    found = found.dispersed(params.dispersion_s / 60).delayed(params.delay_s / 60)
    if params.delay_s < 0:
        found = found.held_until(frames.end_min[-1])
    if params.plasma_to_blood == 1.0 and (params.input_source == "region" or found.blood is None):
        notes.append("Plasma was taken as whole blood and as free of metabolites (plasma_to_blood 1).")
    return found, notes


def counts_from_first_frame(series: TimeSeries) -> bool:
    """True where the injection is unknown, so that time zero is the first frame's and not the tracer's."""
    return "first frame" in str(series.facts.get("time_zero", ""))


def _holds_bolus(blood: np.ndarray, mid_min: np.ndarray) -> bool:
    """True where an arterial curve falls from its peak as a bolus does and late blood does not."""
    peak = int(np.argmax(blood))
    return bool(blood[peak] > BOLUS_FALL * np.interp(mid_min[peak] + BOLUS_FALL_MIN, mid_min, blood))


def _from_region(
    series: TimeSeries, frames: Frames, regions: Mapping[str, Region], params: PetInputParams
) -> tuple[InputFunction, list[str]]:
    """Mean of the arterial region at mid-frame, from zero at the first frame's start to the last one's end."""
    if "artery" not in regions:
        raise RequestError(
            "There is no arterial region for the input function.",
            "Name one (region artery), or give a table with input_source=csv.",
        )
    if series.frame_start_s[0] > LATEST_START_S:
        raise InputError(
            f"The series starts {series.frame_start_s[0] / 60:.1f} min after time zero: it holds no input function "
            "before that.",
            "Give a measured one with input_source=csv.",
        )
    artery = regions["artery"]
    blood = series.region_curve(artery)
    if counts_from_first_frame(series) and not _holds_bolus(blood, frames.mid_min):
        raise InputError(
            f"The injection time is unknown and region {artery.name} shows no bolus.",
            "Correct Radiopharmaceutical Start DateTime (0018,1078), or take a series from the injection on.",
        )
    mid, end = frames.mid_min, frames.end_min[-1]
    last = blood[-1] + (blood[-1] - blood[-2]) / (mid[-1] - mid[-2]) * (end - mid[-1])
    time = np.concatenate([[frames.start_min[0]], mid, [end]])
    samples = np.concatenate([[0.0], blood, [max(last, 0.0)]])
    source = f"region {artery.name}, {artery.volume_ml:.2f} ml, image-derived"
    plasma = samples * params.plasma_to_blood
    notes = [PARTIAL_VOLUME_NOTE]
    if artery.volume_ml < SMALLEST_ARTERY_ML:
        notes.append(f"The arterial region has only {artery.volume_ml:.2f} ml: the input function is noisy.")
    peak_s = 60 * frames.duration_min[int(np.argmax(blood))]
    if peak_s > LONGEST_BOLUS_FRAME_S:
        notes.append(
            f"The bolus lies in a frame of {peak_s:.0f} s, its shape within is unknown: K1, k2 and vB may be off by a "
            "fifth or more (Ki and VT are not)."
        )
    return InputFunction(time, plasma, series.unit, samples, source), notes


POSSIBLE_PEAK_SUV = (0.5, 1000.0)
"""A choice: spread over the whole body the tracer has an SUV of 1, in a thousandth of it (70 ml) one of 1000."""


def _from_csv(series: TimeSeries, params: PetInputParams) -> InputFunction:
    """Table of the user, in the unit of the series."""
    if counts_from_first_frame(series):
        raise InputError(
            "The injection time of the PET is unknown: an input table, which counts from the injection, cannot be laid "
            "on its clock.",
            "Correct Radiopharmaceutical Start DateTime (0018,1078), or state times from the injection on.",
        )
    missing = [n for n in ("input_csv", "input_csv_time_unit", "input_csv_unit") if not getattr(params, n)]
    if missing:
        raise RequestError(f"input_source=csv needs {', '.join(missing)}.", "Units are asked for, never guessed.")
    unit = params.input_csv_unit
    found = InputFunction.from_csv(Path(params.input_csv), time_unit=params.input_csv_time_unit, unit=unit)
    found.require_beginning()
    if unit != series.unit:
        factor = _conversion(unit, series)
        blood = None if found.blood is None else found.blood * factor
        found = InputFunction(found.time_min, found.plasma * factor, series.unit, blood, found.source)
    found.require_unit(series.unit, "The series")
    peak = float(found.plasma.max())
    if series.unit == "g/ml" and not POSSIBLE_PEAK_SUV[0] <= peak <= POSSIBLE_PEAK_SUV[1]:
        raise InputError(
            f"The input table's peak is an SUV of {peak:.3g}, read as {unit}.", "Check the unit of its concentrations."
        )
    if found.blood is None and params.plasma_to_blood != 1.0:
        found = InputFunction(found.time_min, found.plasma, found.unit, found.plasma / params.plasma_to_blood,
                              found.source)  # fmt: skip
    return found


def _conversion(unit: str, series: TimeSeries) -> float:
    """Factor from the unit of a table to that of the series."""
    if unit in _KBQ and series.unit in _KBQ:
        return _KBQ[unit] / _KBQ[series.unit]
    weight, activity = series.facts.get("weight_kg"), series.facts.get("injected_activity_mbq")
    if not (unit in _KBQ and series.unit == "g/ml" and weight and activity):
        raise RequestError(
            f"The input table is in {unit}, the series in {series.unit}, and weight and injected activity are "
            f"{'unknown' if not (weight and activity) else 'no help'}.",
            "Give the table in the unit of the series.",
        )
    return _KBQ[unit] * suvbw_factor(float(weight), float(activity) * 1e6)
