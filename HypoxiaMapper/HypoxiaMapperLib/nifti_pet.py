"""PET in NIfTI with a BIDS sidecar: times, weight, activity and decay to SUVbw.

BIDS fields (bids-specification, PET): times in seconds after TimeZero except where their name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .niftiio import numbers_of, read_frames, sidecar_of
from .suv import MAXIMUM_WEIGHT_KG, POSSIBLE_ACTIVITY_MBQ, decay_factor, suvbw_factor
from .timeseries import LONGEST_STUDY_S, UNSTATED, TimeSeries, Timing
from .tracers import FLUORINE18_HALF_LIFE_S, FLUORINE18_TRACERS

PET_UNITS = {"bq/ml": 1.0, "bqml": 1.0, "kbq/ml": 1e3, "mbq/ml": 1e6}
SUV_UNIT = "g/ml"
_ACTIVITY_UNITS = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9}
_TRACERS = (("miso", "FMISO"), ("faza", "FAZA"), ("hx4", "HX4"), ("ef5", "EF5"), ("atsm", "Cu-ATSM"), ("fdg", "FDG"))
_SHORTEST_DYNAMIC_PET_S = 240.0
"""Two frames or more take longer: smaller numbers were written in minutes."""


def read_nifti_pet(
    path: Path, weight_kg: float | None = None, frame_of_reference_uid: str = "", timing: Timing = UNSTATED
) -> TimeSeries:
    """Read a dynamic (or static) BIDS PET.

    SUVbw (g/ml) where body weight and injected activity are known, else activity concentration (Bq/ml). Voxels must be
    decay corrected; ImageDecayCorrectionTime (s after TimeZero) and InjectionStart bring them to the injection.

    Parameters
    ----------
    weight_kg : float or None
        Body weight; None: ``BodyWeight`` of the sidecar, if there.
    timing : Timing
        ``time_unit`` of FrameTimesStart and FrameDuration, if it must be stated; ``frame_time`` ``mid`` where
        FrameTimesStart holds mid-times, against BIDS.

    Raises
    ------
    InputError
        If the sidecar is missing, lacks FrameTimesStart, FrameDuration or Units, or does not fit the image.
    """
    facts, frames, grid = read_frames(path)
    start, duration, times = _pet_times(facts, path, timing)
    unit = str(facts.get("Units", ""))
    in_suv = unit.lower() == SUV_UNIT
    if unit.lower() not in PET_UNITS and not in_suv:
        raise InputError(
            f"{path.name}: Units is {unit or 'absent'}.", f"Known: {', '.join(PET_UNITS)}, {SUV_UNIT} (SUVbw)."
        )
    frames *= np.float32(PET_UNITS.get(unit.lower(), 1.0))
    zero = "start of the first frame" if facts.get("InjectionStart") is None else "injection"
    if zero != "injection" and not (in_suv and len(frames) == 1):
        raise InputError(
            f"{sidecar_of(path).name}: InjectionStart is missing.",
            "State it in seconds after TimeZero (0 where TimeZero is the injection), as BIDS requires.",
        )
    injected_s = _seconds(facts, "InjectionStart", path)
    known = _pet_facts(facts, path, weight_kg)
    known |= {"time_zero": zero, **times}
    if facts.get("ImageDecayCorrected", in_suv) is not True:
        raise InputError(
            f"{sidecar_of(path).name}: ImageDecayCorrected is {facts.get('ImageDecayCorrected', 'absent')}.",
            "Give decay-corrected voxels and say so: no map can be computed from others.",
        )
    quantity, unit, operations = "Activity concentration", "Bq/ml", [f"read {path.name}, {len(frames)} frames"]
    weight, activity = known["weight_kg"], known["injected_activity_mbq"]
    if in_suv:
        quantity, unit = "SUVbw", SUV_UNIT
        operations.append("already SUVbw, as Units says")
    elif weight and activity:
        factor = suvbw_factor(weight, activity * 1e6) / _decay_since_injection(facts, injected_s, known, path)
        frames *= np.float32(factor)
        quantity, unit = "SUVbw", SUV_UNIT
        known["suv_factors"] = [factor] * len(frames)
        operations.append(f"Bq/ml to SUVbw, factor {factor:.6g}")
    return TimeSeries(
        frames=frames, grid=grid, quantity=quantity, unit=unit, frame_of_reference_uid=frame_of_reference_uid,
        operations=tuple(operations), facts=known, frame_start_s=start - injected_s, frame_duration_s=duration,
    )  # fmt: skip


def _pet_times(facts: Mapping[str, Any], path: Path, timing: Timing) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Start and length of each frame in seconds, and facts of where they come from."""
    factor = 1e-3 if timing.time_unit == "ms" else 1.0
    start, duration = (numbers_of(facts, name, path) * factor for name in ("FrameTimesStart", "FrameDuration"))
    source = (
        f"FrameTimesStart and FrameDuration, {timing.time_unit or 's'} ({'stated' if timing.time_unit else 'BIDS'})"
    )
    if start.size != duration.size:
        raise InputError(
            f"{path.name}: {start.size} start times and {duration.size} durations.", "Give one of each per frame."
        )
    if timing.frame_time == "mid":
        start, source = start - duration / 2, f"{source}, taken as mid-times"
    span_s = float(start[-1] + duration[-1] - start[0])
    if not timing.time_unit and start.size > 1 and 0 < span_s < _SHORTEST_DYNAMIC_PET_S:
        raise InputError(
            f"{path.name}: {start.size} PET frames in {span_s:g} s, as FrameTimesStart and FrameDuration say.",
            "They are probably in minutes: multiply them by 60. If they are in seconds, state the unit of times (s).",
        )
    return start, duration, {"time_source": source, "time_unit_stated": bool(timing.time_unit)}


def _pet_facts(facts: Mapping[str, Any], path: Path, weight_kg: float | None) -> dict[str, Any]:
    """Tracer, weight and activity of a BIDS PET sidecar."""
    name = str(facts.get("TracerName", ""))
    activity = _amount(facts, "InjectedRadioactivity", path)
    unit = str(facts.get("InjectedRadioactivityUnits", ""))
    if activity is not None and unit.lower() not in _ACTIVITY_UNITS:
        raise InputError(
            f"{sidecar_of(path).name}: InjectedRadioactivityUnits is {unit or 'absent'}.", "State Bq, kBq, MBq or GBq."
        )
    tracer = next((word for key, word in _TRACERS if key in name.lower()), "unknown")
    weight = weight_kg if weight_kg is not None else _amount(facts, "BodyWeight", path)
    half_life_s = _amount(facts, "RadionuclideHalfLife", path)
    nuclide = str(facts.get("TracerRadionuclide", "")).lower().replace("-", "").replace("[", "").replace("]", "")
    fluorine = nuclide in ("f18", "18f") or (not nuclide and tracer in FLUORINE18_TRACERS)
    if half_life_s and fluorine and abs(half_life_s / FLUORINE18_HALF_LIFE_S - 1) > 0.05:
        raise InputError(
            f"{sidecar_of(path).name}: RadionuclideHalfLife is {half_life_s:g} s, but that of fluorine-18 is "
            f"{FLUORINE18_HALF_LIFE_S:g} s.",
            "Give it in seconds.",
        )
    activity_mbq = activity * _ACTIVITY_UNITS[unit.lower()] / 1e6 if activity else None
    if activity_mbq and not POSSIBLE_ACTIVITY_MBQ[0] <= activity_mbq <= POSSIBLE_ACTIVITY_MBQ[1]:
        raise InputError(
            f"{sidecar_of(path).name}: InjectedRadioactivity is {activity_mbq:g} MBq, which nobody injects for PET.",
            "Check InjectedRadioactivityUnits.",
        )
    if weight and weight > MAXIMUM_WEIGHT_KG:
        raise InputError(f"{sidecar_of(path).name}: BodyWeight is {weight:g} kg.", "Give kilograms, not grams.")
    return {
        "file": path.name, "tracer": tracer, "tracer_source": f"TracerName {name!r}",
        "weight_kg": weight or None, "injected_activity_mbq": activity_mbq,
        "half_life_s": half_life_s, "units_in_file": str(facts.get("Units", "")),
    }  # fmt: skip


def _amount(facts: Mapping[str, Any], name: str, path: Path) -> float | None:
    """A number above zero; None where it is missing, which BIDS also writes as ``n/a``.

    Raises
    ------
    InputError
        If it is no such number.
    """
    value = facts.get(name)
    if value is None or value == "n/a":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{sidecar_of(path).name}: {name} is {value!r}.", "Give a number above zero, or leave it out.")
    return float(value)


def _seconds(facts: Mapping[str, Any], name: str, path: Path) -> float:
    """A number of seconds of a sidecar; zero where it is missing.

    Raises
    ------
    InputError
        If it is no number.
    """
    value = facts.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{sidecar_of(path).name}: {name} is {value!r}.", "Give a number of seconds.")
    if abs(float(value or 0.0)) > LONGEST_STUDY_S:
        raise InputError(f"{sidecar_of(path).name}: {name} is {value:g} s, more than a day.", "Give it in seconds.")
    return float(value or 0.0)


def _decay_since_injection(facts: Mapping[str, Any], injected_s: float, known: dict[str, Any], path: Path) -> float:
    """Activity left at the moment the voxels are corrected to, as a fraction of that at injection."""
    if "ImageDecayCorrectionTime" not in facts:
        raise InputError(
            f"{sidecar_of(path).name}: ImageDecayCorrectionTime is missing.",
            "SUV needs the time the voxels are corrected to, in seconds after TimeZero.",
        )
    elapsed_s = _seconds(facts, "ImageDecayCorrectionTime", path) - injected_s
    if elapsed_s == 0:
        return 1.0
    if not known["half_life_s"]:
        raise InputError(f"{sidecar_of(path).name}: RadionuclideHalfLife is missing.", "Add it in seconds.")
    return decay_factor(elapsed_s, float(known["half_life_s"]))
