"""PET series to SUVbw: every rule of METHODS section 1, with where each number came from.

The way through: facts of the header, checked -> factor for every slice -> SUV. The formulas are in ``suv.py``, the
times in ``pet_time.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError
from ..suv import decay_factor, mean_decay_time_s, suvbw_factor, suvbw_from_suv_factor
from .model import ImageSeries, SeriesInfo
from .pet_dose import number, philips_factors, read_weight_and_dose
from .pet_time import (
    EARLIEST_MINUTES,
    TimeFact,
    acquisition_time,
    carry_midnight,
    ge_scan_time,
    injection_time,
    series_time,
)
from .recognise import find_tracer
from .series import read_image_series

_DECAY_CORRECTIONS = ("ADMIN", "START", "NONE")
_PHILIPS_SUV, _PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
_REFERENCE_SPREAD_S = 1.0
_REFERENCE_DOUBT = timedelta(minutes=1)  # decay of fluorine-18 in it: 0.6 %


@dataclass
class _Facts:
    """Numbers read from the headers, their sources and the warnings met on the way."""

    on_one_axis: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_pet_series(info: SeriesInfo) -> ImageSeries:
    """Read a PET series as SUVbw (g/ml).

    Parameters
    ----------
    info : SeriesInfo
        PET series from a scan.

    Returns
    -------
    ImageSeries
        ``volume.facts`` holds tracer, units_in_file, decay_correction, suv_factor (a number, or one per slice),
        injection_time, reference_time, minutes_after_injection, frame_duration_s, weight_kg, height_cm, sex,
        injected_activity_mbq, half_life_s (None where the file does not say and SUV does not need it), ``*_source``
        for each, and ``warnings``.

    Raises
    ------
    InputError
        If a needed entry is missing or implausible, naming the tag and what to do.
    GeometryError
        As ``read_image_series``.
    """
    raw = read_image_series(info)
    where = f"PET series {info.description!r}"
    facts = _Facts(warnings=list(carry_midnight(raw.headers)))
    try:
        factors = _suv_factors(raw.headers, facts)
    except InputError as error:
        raise InputError(f"{where} ({info.files[0].name} ...): {error.message}", error.hint) from None
    constant = bool(np.all(factors == factors[0]))
    facts.values["suv_factor"] = float(factors[0]) if constant else tuple(float(f) for f in factors)
    facts.values["warnings"] = tuple(dict.fromkeys(facts.warnings))
    array = raw.volume.array * factors[:, None, None].astype(np.float32)
    shown = f"{factors[0]:.6g}" if constant else f"{factors.min():.6g} to {factors.max():.6g} by slice"
    volume = raw.volume.with_array(
        array,
        f"{raw.volume.quantity} to SUVbw, factor {shown}",
        quantity="SUVbw",
        unit="g/ml",
        facts={**raw.volume.facts, **facts.values},
    )
    return replace(raw, volume=volume)


def suv_factors(headers: Sequence[Dataset], on_one_axis: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Factor from the rescaled value in the file to SUVbw for every slice of one frame, and its facts.

    Parameters
    ----------
    on_one_axis : bool
        Frame Reference Time counts from one moment for all frames, so that the decay reference must agree with it.

    Raises
    ------
    InputError
        As ``read_pet_series``.
    """
    facts = _Facts(on_one_axis=on_one_axis)
    factors = _suv_factors(headers, facts)
    return factors, {**facts.values, "warnings": tuple(dict.fromkeys(facts.warnings))}


def _suv_factors(headers: Sequence[Dataset], facts: _Facts) -> np.ndarray:
    """Factor from the value in the file to SUVbw for every slice, shape (slices,)."""
    units = _same(headers, "Units", "0054,1001")
    correction = _same(headers, "DecayCorrection", "0054,1102")
    facts.values |= {"units_in_file": units, "decay_correction": correction}
    tracer = find_tracer(headers[0])
    facts.values |= tracer
    if "tracer_conflict" in tracer:
        facts.warnings.append(f"The header names two tracers: {tracer['tracer_conflict']}.")
    _require_corrections(headers, correction)
    values, notes = read_weight_and_dose(headers, tracer["tracer"])
    facts.values |= values
    facts.warnings += notes
    _read_times(headers, facts)
    if units in ("GML", "CM2ML"):
        return np.full(len(headers), _factor_from_suv(headers[0], units, facts))
    if units == "CNTS":
        philips_suv = philips_factors(headers, _PHILIPS_SUV, "SUV scale factor")
        if philips_suv is not None:
            facts.values["suv_factor_source"] = "Philips SUV scale factor (7053,1000)"
            return philips_suv
        scale = philips_factors(headers, _PHILIPS_ACTIVITY, "activity scale factor")
        if scale is None:
            raise InputError(
                "Units (0054,1001) is CNTS and neither Philips SUV scale factor (7053,1000) nor activity scale factor "
                "(7053,1009) is there or above zero.",
                "Export again with the private tags, or reconstruct in Bq/ml.",
            )
        facts.values["suv_factor_source"] = "Philips activity scale factor (7053,1009), weight, dose and decay"
        return scale * _factor_from_activity(headers, correction, facts)
    if units == "BQML":
        facts.values["suv_factor_source"] = "weight, dose and decay"
        return _factor_from_activity(headers, correction, facts)
    raise InputError(
        f"Units (0054,1001) is {units or 'absent'}.", "SUV can be computed from BQML, GML, CM2ML and Philips CNTS."
    )


def _require_corrections(headers: Sequence[Dataset], correction: str) -> None:
    """Refuse images that are not corrected for attenuation and decay."""
    if correction not in _DECAY_CORRECTIONS:
        raise InputError(
            f"Decay Correction (0054,1102) is {correction or 'absent'}.", f"Known: {', '.join(_DECAY_CORRECTIONS)}."
        )
    needed = {"ATTN"} if correction == "NONE" else {"ATTN", "DECY"}
    for header in headers:
        done = header.get("CorrectedImage") or []
        missing = needed - set([done] if isinstance(done, str) else done)
        if missing:
            raise InputError(
                f"Corrected Image (0028,0051) does not list {' and '.join(sorted(missing))}: "
                f"{'attenuation' if 'ATTN' in missing else 'decay'} is not corrected.",
                "Choose the corrected reconstruction.",
            )


def _read_times(headers: Sequence[Dataset], facts: _Facts) -> None:
    """Scan start, injection and frame duration; the injection only where it can be believed."""
    starts = [acquisition_time(header) for header in headers]
    scan_start = min((s for s in starts if s), key=lambda s: s.time, default=None)
    duration_ms = number(headers[0], "ActualFrameDuration")
    injected = None
    half_life_s = facts.values["half_life_s"]
    if scan_start and half_life_s:
        injected = injection_time(headers[0], scan_start.time, half_life_s, facts.values["tracer"], allow_unknown=True)
    if injected:
        facts.warnings.extend(injected.warnings)
    minutes = (scan_start.time - injected.time).total_seconds() / 60.0 if scan_start and injected else None
    facts.values |= {
        "scan_start": scan_start.time.isoformat() if scan_start else None,
        "scan_start_source": scan_start.source if scan_start else "absent",
        "injection_time": injected.time.isoformat() if injected else None,
        "injection_time_source": injected.source if injected else "absent or implausible",
        "minutes_after_injection": minutes,
        "frame_duration_s": duration_ms / 1000.0 if duration_ms else None,
        "frame_duration_source": "Actual Frame Duration (0018,1242)",
        "reference_time": None,
        "reference_time_source": "not needed",
    }


def _factor_from_suv(header: Dataset, units: str, facts: _Facts) -> float:
    """Factor to SUVbw for a file that already holds SUV of some normalisation."""
    suv_type = str(header.get("SUVType", "") or "") or ("BSA" if units == "CM2ML" else "BW")
    facts.values |= {"suv_type_in_file": suv_type, "suv_factor_source": f"SUV Type (0054,1006) {suv_type}"}
    if suv_type == "BW":
        return 1.0
    weight_kg = _need(facts, "weight_kg", "Patient's Weight (0010,1030)")
    height_cm = facts.values["height_cm"]
    if not height_cm:
        raise InputError(
            f"Patient's Size (0010,1020) is missing; SUV Type {suv_type} needs it to return to SUVbw.",
            "Enter the height in metres.",
        )
    sex = facts.values["sex"]
    if sex not in ("M", "F") and suv_type != "BSA":
        facts.warnings.append(f"Patient's Sex (0010,0040) is {sex or 'absent'}: mean of both formulas for {suv_type}.")
    return suvbw_from_suv_factor(suv_type, weight_kg, height_cm, sex)


def _factor_from_activity(headers: Sequence[Dataset], correction: str, facts: _Facts) -> np.ndarray:
    """Factor from Bq/ml to SUVbw for every slice, shape (slices,)."""
    weight_kg = _need(facts, "weight_kg", "Patient's Weight (0010,1030)")
    activity_bq = _need(facts, "injected_activity_mbq", "Radionuclide Total Dose (0018,1074)") * 1e6
    if correction == "ADMIN":
        facts.values |= {
            "reference_time": facts.values["injection_time"],
            "reference_time_source": "Decay Correction ADMIN: injection",
        }
        return np.full(len(headers), suvbw_factor(weight_kg, activity_bq))
    half_life_s = _need(facts, "half_life_s", "Radionuclide Half Life (0018,1075)")
    starts = _acquisition_times(headers)
    scan_start = min(start.time for start in starts)
    injected = injection_time(headers[0], scan_start, half_life_s, facts.values["tracer"])
    if injected is None:  # allow_unknown is off: it has raised
        raise InputError("Injection time is missing (0018,1078).", "Enter the injection time.")
    if correction == "START":
        references = [_reference_time(headers, starts, injected.time, half_life_s, facts)] * len(headers)
    else:
        references = [
            start.time + timedelta(seconds=mean_decay_time_s(_frame_duration_s(header), half_life_s))
            for header, start in zip(headers, starts, strict=True)
        ]
        facts.values["reference_time_source"] = "Decay Correction NONE: acquisition plus mean decay time of the frame"
    facts.values["reference_time"] = min(references).isoformat()
    elapsed_s = [(reference - injected.time).total_seconds() for reference in references]
    facts.values["remaining_activity_fraction"] = decay_factor(min(elapsed_s), half_life_s)
    return np.array([suvbw_factor(weight_kg, activity_bq, elapsed, half_life_s) for elapsed in elapsed_s])


def _reference_time(
    headers: Sequence[Dataset], starts: Sequence[TimeFact], injected: datetime, half_life_s: float, facts: _Facts
) -> datetime:
    """Moment the voxels of a START-corrected series are decay corrected to.

    Series time, if no slice was acquired before it; else GE's private scan time; else acquisition minus Frame
    Reference Time plus the mean decay time of the frame. Taking the earliest acquisition instead would be wrong.
    Where Frame Reference Time is one axis of all frames, the first that agrees with it counts: each frame may be a
    series of its own, with a series time of its own, and still be corrected to the start of the scan.
    """
    earliest = min(start.time for start in starts)
    # A date changed by anonymisation is no reference.
    plausible_from = injected + timedelta(minutes=EARLIEST_MINUTES)
    known = [
        f for f in (series_time(headers[0]), ge_scan_time(headers[0])) if f and plausible_from <= f.time <= earliest
    ]
    if facts.on_one_axis and known:
        known = _agreeing(known, headers[0], starts[0].time, half_life_s)
    for fact in known:
        facts.values["reference_time_source"] = fact.source
        return fact.time
    computed = []
    for header, start in zip(headers, starts, strict=True):
        offset_ms = number(header, "FrameReferenceTime", zero_allowed=True)
        if offset_ms is None:
            raise InputError(
                "The series time does not fit the acquisition and Frame Reference Time (0054,1300) is missing: the "
                "decay reference cannot be found.",
                "Export the original reconstruction.",
            )
        mean_s = mean_decay_time_s(_frame_duration_s(header), half_life_s)
        computed.append(start.time + timedelta(seconds=mean_s - offset_ms / 1000.0))
    spread_s = (max(computed) - min(computed)).total_seconds()
    if spread_s > _REFERENCE_SPREAD_S:
        raise InputError(
            f"Acquisition Time (0008,0032) and Frame Reference Time (0054,1300) of the slices disagree on the decay "
            f"reference by {spread_s:.1f} s.",
            "Export the original reconstruction.",
        )
    facts.values["reference_time_source"] = "acquisition - Frame Reference Time (0054,1300) + mean decay time"
    facts.warnings.append(
        "The series time does not fit the acquisition: the decay reference was found from Frame Reference Time."
    )
    return min(computed)


def _agreeing(known: Sequence[TimeFact], header: Dataset, start: datetime, half_life_s: float) -> list[TimeFact]:
    """Of several possible decay references those that Frame Reference Time, as start or mid-time, agrees with."""
    offset_ms = number(header, "FrameReferenceTime")
    if offset_ms is None:
        return list(known)
    earliest = start - timedelta(seconds=offset_ms / 1000.0)
    latest = earliest + timedelta(seconds=mean_decay_time_s(_frame_duration_s(header), half_life_s))
    agreeing = [f for f in known if earliest - _REFERENCE_DOUBT <= f.time <= latest + _REFERENCE_DOUBT]
    if not agreeing:
        raise InputError(
            f"The decay reference is {known[0].time:%H:%M:%S} by {known[0].source}, but {latest:%H:%M:%S} by "
            "Acquisition Time and Frame Reference Time (0054,1300).",
            "Export the frames as one series, or as NIfTI with ImageDecayCorrectionTime.",
        )
    return agreeing


def _acquisition_times(headers: Sequence[Dataset]) -> list[TimeFact]:
    """Acquisition time of every slice."""
    starts = [acquisition_time(header) for header in headers]
    found = [start for start in starts if start is not None]
    if len(found) < len(starts):
        raise InputError(
            "Acquisition Date and Time (0008,0022), (0008,0032) are missing.", "SUV needs them: export again."
        )
    return found


def _frame_duration_s(header: Dataset) -> float:
    """Frame length in seconds, refused when absent."""
    duration_ms = number(header, "ActualFrameDuration")
    if not duration_ms:
        raise InputError(
            "Actual Frame Duration (0018,1242) is missing; the mean decay time needs it.", "Enter it, in milliseconds."
        )
    return duration_ms / 1000.0


def _need(facts: _Facts, key: str, tag: str) -> float:
    """A number SUV cannot do without."""
    value = facts.values[key]
    if not value:
        raise InputError(f"{tag} is missing or zero.", "Enter it in the PET headers; SUV needs it.")
    return float(value)


def _same(headers: Sequence[Dataset], keyword: str, tag: str) -> str:
    """Text that all slices share."""
    values = sorted({str(header.get(keyword, "") or "").strip() for header in headers})
    if len(values) > 1:
        raise InputError(f"{keyword} ({tag}) differs between slices: {', '.join(values)}.", "Split the series.")
    return values[0]
