"""When the frames of a sequence were measured: from its index and what the user states, never guessed. No Qt.

A sequence tells its frames apart by an index with a name and a unit. Slicer fills in "time" and "s" by itself, so an
index 0, 1, 2 ... s may be a mere count; it knows no frame lengths at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dicomio.frame_times import SHORTEST_MR_STEP_MS, TILING_TOLERANCE_S, FrameTimes
from ..errors import InputError, RequestError
from ..mrml.sequences import FrameIndex
from ..timeseries import PARAMETERS, UNSTATED, Timing
from .i18n import _

TIME_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "minute": 60.0,
              "minutes": 60.0}  # fmt: skip
_TIME_TAGS = ("AcquisitionTime", "TriggerTime", "DeltaStartTime")  # other tags (Content Time ...) tell no measurement
_PARAMETER_NAMES = {"te": "echo time", "fa": "flip angle", "ti": "inversion time", "bvalue": "b-value", "b": "b-value"}
_PARAMETER_UNITS: Mapping[str, Mapping[str, float]] = {
    "echo time": {"ms": 1.0, "s": 1e3}, "inversion time": {"ms": 1.0, "s": 1e3},
    "flip angle": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi},
    "b-value": {"s/mm2": 1.0, "sec/mm2": 1.0, "s/mm^2": 1.0},
}  # fmt: skip


@dataclass(frozen=True)
class Stated:
    """What the user states about times in the panel.

    Parameters
    ----------
    timing : Timing
        As for files.
    lengths : str
        Lengths of frames in seconds, see ``parse_lengths``; empty: not stated.
    """

    timing: Timing = UNSTATED
    lengths: str = ""


def parse_lengths(text: str) -> np.ndarray:
    """Frame lengths in seconds of a text like ``6x10 4x30 5x300``: six frames of 10 s, four of 30 s, five of 300 s.

    Raises
    ------
    RequestError
        If it is no such text.
    """
    lengths: list[float] = []
    for part in re.split(r"[,;\s]+", text.strip()):
        match = re.fullmatch(r"(?:(\d+)[x*])?(\d+(?:\.\d+)?)", part)
        if not match or float(match[2]) <= 0 or match[1] == "0":
            raise RequestError(
                _("Lengths of frames: {text!r} is not understood.").format(text=part),
                _("Write seconds, e.g. 6x10 4x30 5x300 (6 of 10 s ...)."),
            )
        lengths += [float(match[2])] * int(match[1] or 1)
    return np.array(lengths)


def pet_times(index: FrameIndex, count: int, stated: Stated, name: str) -> FrameTimes:
    """Start and length of each frame of a PET sequence in seconds.

    Raises
    ------
    InputError
        If the lengths are not stated, or starts and mid-times cannot be told apart, naming what to state.
    """
    if not stated.lengths:
        raise InputError(
            _("Sequence {name!r} does not say how long its frames are.").format(name=name),
            _("State the lengths of frames below, or choose the DICOM series it was loaded from."),
        )
    lengths = parse_lengths(stated.lengths)
    if len(lengths) != count:
        text = _("Sequence {name!r} has {count} frames, {stated} lengths are stated.")
        message = text.format(name=name, count=count, stated=len(lengths))
        raise InputError(message, _("State one length each."))
    source = "lengths stated by the user"
    times = _index_times(index, stated.timing, name)
    if times is None:
        start = np.r_[0.0, np.cumsum(lengths)[:-1]]
        return _times(start, lengths, f"{source}, frames without gap", "start of the first frame")
    kind = _start_or_mid(times, lengths, stated.timing, index, name)
    start = times if kind == "start" else times - lengths / 2
    return _times(start, lengths, f"{_source(index)}, taken as frame {kind}; {source}", _zero(index))


def mr_times(index: FrameIndex, count: int, stated: Stated, name: str) -> FrameTimes:
    """Times of the frames of an MR sequence in seconds, instants after the first.

    Raises
    ------
    InputError
        If neither index nor user says them, or both do and differ.
    """
    step = stated.timing.frame_interval_s
    times = _index_times(index, stated.timing, name)
    if step is not None:
        start = np.arange(count) * step
        if times is not None and not np.allclose(times - times[0], start, rtol=0.01, atol=0.01):
            text = _("Sequence {name!r}: {step:g} s from frame to frame were stated, but its frames are at {index}.")
            raise InputError(
                text.format(name=name, step=step, index=index.text()),
                _("Set 'Time between frames' to zero, or correct the index."),
            )
        return _times(start, np.zeros(count), f"stated by the user: {step:g} s from frame to frame", "first frame")
    if times is None:
        text = _("Sequence {name!r} does not say when its frames were measured: {index}.")
        raise InputError(
            text.format(name=name, index=index.text()),
            _(
                "State the time between frames (or, where the index is right, the unit of times) below, or choose the "
                "DICOM series it was loaded from."
            ),
        )
    if not stated.timing.time_unit and np.median(np.diff(times)) * 1000 < SHORTEST_MR_STEP_MS:
        text = _("Sequence {name!r}: {index} makes frames of {step:g} s, which is too short.")
        raise InputError(
            text.format(name=name, index=index.text(), step=np.median(np.diff(times))),
            _("State the unit of times below."),
        )
    return _times(times - times[0], np.zeros(count), _source(index), "first frame")


def parameter_values(index: FrameIndex, parameter: str, sequence: str) -> np.ndarray:
    """Value of each frame in the unit of ``timeseries.PARAMETERS``.

    Raises
    ------
    InputError
        If the index is not that parameter in a unit that is known.
    """
    name = re.sub(r"^(Siemens|GE|Philips|Standard)\.", "", index.name)
    name = re.sub(r"[^a-z]", "", name.lower())
    names = {re.sub(r"[^a-z]", "", known): known for known in PARAMETERS} | _PARAMETER_NAMES
    factor = _PARAMETER_UNITS[parameter].get(index.unit.strip().lower())
    if names.get(name) != parameter or factor is None or not index.values:
        text = _("Sequence {name!r} does not say the {parameter} of its frames: {index}.")
        hint = _(
            "Give its index the name '{parameter}' and the unit {unit} (module Sequences), or choose the DICOM series "
            "it was loaded from."
        )
        raise InputError(
            text.format(name=sequence, parameter=parameter, index=index.text()),
            hint.format(parameter=parameter, unit=PARAMETERS[parameter]),
        )
    return np.array(index.values) * factor


def _index_times(index: FrameIndex, timing: Timing, name: str) -> np.ndarray | None:
    """Times in seconds that the index says; None when it says none."""
    unit = index.unit.strip().lower()
    if not index.values or (index.tag and index.name not in _TIME_TAGS):
        return None
    if unit not in TIME_UNITS and not (unit == "" and timing.time_unit and index.name.lower() == "time"):
        return None
    if unit in TIME_UNITS and timing.time_unit and TIME_UNITS[unit] != TIME_UNITS[timing.time_unit]:
        text = _("Sequence {name!r}: its index is in {unit}, {stated} is stated.")
        raise InputError(
            text.format(name=name, unit=unit, stated=timing.time_unit),
            _("Correct 'Unit of times', or leave it out."),
        )
    values = np.array(index.values)
    if unit == "s" and not index.tag and not timing.time_unit and (np.diff(values) == 1).all():
        return None  # what Slicer writes when nobody says anything: "time", "s", and a count
    return values * TIME_UNITS[timing.time_unit or unit]


def _start_or_mid(times: np.ndarray, lengths: np.ndarray, timing: Timing, index: FrameIndex, name: str) -> str:
    """Whether times are frame starts or mid-times: as stated, else the only one without gaps or a start before zero."""
    if timing.frame_time:
        return timing.frame_time
    starts = {"start": times, "mid": times - lengths / 2}
    fits = [k for k, start in starts.items() if np.all(np.abs(np.diff(start) - lengths[:-1]) < TILING_TOLERANCE_S)]
    if len(fits) == 2 and starts["mid"][0] < -TILING_TOLERANCE_S:
        return "start"
    if len(fits) == 1:
        return fits[0]
    text = _("Sequence {name!r}: {index} with frames of {first:g}, {second:g} ... s can be frame starts or mid-times.")
    raise InputError(
        text.format(name=name, index=index.text(), first=lengths[0], second=lengths[1]),
        _("State which under 'Times of frames'."),
    )


def _source(index: FrameIndex) -> str:
    return f"{'DICOM tag' if index.tag else 'index'} {index.name!r} of the sequence, {index.unit or 'unit as stated'}"


def _zero(index: FrameIndex) -> str:
    return "first frame's tag" if index.tag else "zero of the sequence's index"


def _times(start_s: np.ndarray, length_s: np.ndarray, source: str, zero: str) -> FrameTimes:
    """Times with the facts that are shown."""
    text = (
        f"{len(start_s)} frames, starts {', '.join(f'{s:g}' for s in start_s[:3])} ... {start_s[-1]:g} s after {zero}"
    )
    if length_s.any():
        text += f", lengths {length_s.min():g} to {length_s.max():g} s"
    facts: dict[str, Any] = {"time_zero": zero, "time_source": source, "time_axis": text}
    return FrameTimes(start_s, length_s, facts)
