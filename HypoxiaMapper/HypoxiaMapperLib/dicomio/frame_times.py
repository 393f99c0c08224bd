"""When the frames of a series were measured, in seconds, and which entries say so.

Seconds and milliseconds, frame starts and mid-times are never guessed: where the files can be read both ways, the user
is asked for ``Timing`` by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError
from ..suv import mean_decay_time_s
from ..timeseries import LONGEST_MR_STEP_S, Timing
from .pet_time import acquisition_time, injection_time, series_time, set_acquisition

SHORTEST_PET_FRAME_MS = 1000.0
"""No PET frame is shorter than a second: smaller numbers were written in seconds."""
SHORTEST_MR_STEP_MS = 50.0
"""No frame of a dynamic MRI is shorter, a single slice neither: smaller steps were written in seconds."""
TILING_TOLERANCE_S = 0.5
"""Frames that follow each other within this time count as gapless when start and mid-time are told apart."""
CONTRADICTION = 0.1
"""Two entries for the times of one series may differ by this share of its length."""
Headers = Sequence[Sequence[Dataset]]


@dataclass(frozen=True)
class FrameTimes:
    """Start and length of each frame in seconds after time zero, and where they come from."""

    start_s: np.ndarray
    duration_s: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def pet_times(frames: Headers, timing: Timing, what: str) -> FrameTimes:
    """Times of PET frames; time zero is the injection where the header tells it, else the first frame.

    Raises
    ------
    InputError
        If durations or starts are missing, or can be read in two ways and ``timing`` does not decide.
    """
    duration_s, duration_source = _durations(frames, timing, what)
    known = _moments(frames)
    said: tuple[str, ...] = ()
    if len(known) == len(frames) and len(set(known)) == len(frames):
        _require_one_bed(frames, duration_s, what)
        absolute, source = known, "acquisition date and time of each frame (start)"
    else:
        offsets_s, source = _reference_starts(frames, duration_s, timing, what)
        zero = series_time(frames[0][0])
        first = known[0] if known else (zero.time if zero else None)
        if first is None:
            return _relative(offsets_s, duration_s, f"{source}; {duration_source}", "start of the first frame")
        origin = zero.time if zero else first
        if not origin <= first <= origin + timedelta(seconds=float(offsets_s[0]) + TILING_TOLERANCE_S):
            origin = first - timedelta(seconds=float(offsets_s[0]))
            said = (f"The series time {zero.time:%H:%M:%S} does not fit the acquisition at {first:%H:%M:%S}: the first "
                    "frame was taken to start then.",) if zero else ()  # fmt: skip
        absolute = [origin + timedelta(seconds=float(s)) for s in offsets_s]
        _write_back(frames, absolute, offsets_s + _middle(frames, duration_s))
    injected = _injection(frames[0][0], absolute[0])
    zero_time = injected or absolute[0]
    start = np.array([(m - zero_time).total_seconds() for m in absolute])
    where = "injection" if injected else "start of the first frame"
    warnings = () if injected else ("The injection time is unknown: times count from the start of the first frame.",)
    times = _relative(start, duration_s, f"{source}; {duration_source}", where, shift=False)
    return FrameTimes(times.start_s, times.duration_s, times.facts, (*said, *warnings))


def mr_times(frames: Headers, timing: Timing, what: str) -> FrameTimes:
    """Times of MR frames, instants after the first.

    In turn: what the user states, Temporal Position Time Offset, acquisition time, Trigger Time, Temporal Resolution.

    Raises
    ------
    InputError
        If no entry gives rising times, naming what to state.
    """
    count = len(frames)
    zeros = np.zeros(count)
    if timing.frame_interval_s is not None:
        start = _positions(frames) * timing.frame_interval_s
        times = _relative(start, zeros, f"stated by the user: {timing.frame_interval_s:g} s", "first frame")
        return replace(times, warnings=_contradiction(start, _clock_s(frames), "acquisition times span"))
    offsets = _first_numbers(frames, "TemporalPositionTimeOffset")
    if offsets is not None and len(set(offsets)) == count:
        return _relative(offsets, zeros, "Temporal Position Time Offset (0020,930D), s", "first frame")
    trigger = _first_numbers(frames, "TriggerTime")
    known = _moments(frames)
    if len(known) == count and len(set(known)) == count:
        _require_common_times(frames, known, what)
        start = np.array([(m - known[0]).total_seconds() for m in known])
        times = _relative(start, zeros, "acquisition date and time of each frame", "first frame", shift=False)
        other_s = None if trigger is None else trigger / 1000.0
        return replace(times, warnings=_contradiction(start, other_s, "Trigger Time (0018,1060) spans"))
    if trigger is not None and len(set(trigger)) == count:
        unit = timing.time_unit or _plausible_unit(np.diff(trigger), SHORTEST_MR_STEP_MS, "Trigger Time (0018,1060)",
                                                   what)  # fmt: skip
        start = trigger / 1000.0 if unit == "ms" else trigger
        _require_short_steps(start, timing, "Trigger Time (0018,1060)", what)
        return _relative(start, zeros, f"Trigger Time (0018,1060), taken as {unit}", "first frame")
    resolution = _first_numbers(frames, "TemporalResolution")
    if resolution is not None and resolution[0] >= SHORTEST_MR_STEP_MS and len(set(known)) <= 1:
        start = _positions(frames) * resolution[0] / 1000.0
        _require_short_steps(start, timing, "Temporal Resolution (0020,0110)", what)
        return _relative(start, zeros, "Temporal Resolution (0020,0110), ms, and frame order", "first frame")
    if len(known) == count:
        same = next(m for m in known if known.count(m) > 1)
        raise InputError(
            f"{what}: {known.count(same)} of {count} frames have one acquisition time, {same:%H:%M:%S.%f}, and no "
            "other entry says when they were measured.",
            "Leave out repeated frames, or state the seconds from frame to frame (frame_interval_s).",
        )
    raise InputError(
        f"{what}: {count} frames, and no entry says when they were measured (acquisition time, Trigger Time, Temporal "
        "Resolution).",
        "State the seconds from frame to frame (frame_interval_s).",
    )


def _require_common_times(frames: Headers, first: Sequence[datetime], what: str) -> None:
    """Refuse frames whose last slice was measured after the next frame had begun: its slices have other times."""
    for k, group in enumerate(frames[:-1]):
        last = max((t.time for h in group if (t := acquisition_time(h))), default=first[k])
        if first[k] < first[k + 1] < last:
            raise InputError(
                f"{what}: the slices of frame {k + 1} were measured from {first[k]:%H:%M:%S} to {last:%H:%M:%S}, but "
                f"frame {k + 2} began at {first[k + 1]:%H:%M:%S}: they have no common time.",
                "Give slices that were measured together, one stack or one slice.",
            )


def _require_one_bed(frames: Headers, duration_s: np.ndarray, what: str) -> None:
    """Refuse frames whose slices were measured one bed after the other: each bed has times of its own."""
    for k, group in enumerate(frames):
        times = sorted(found.time for header in group if (found := acquisition_time(header)))
        spread_s = (times[-1] - times[0]).total_seconds() if times else 0.0
        if spread_s > duration_s[k] / 2:
            raise InputError(
                f"{what}: the slices of frame {k + 1} were measured over {spread_s:g} s, a frame of one bed lasts "
                f"{duration_s[k]:g} s: a pass over several beds.",
                "Export the slices of one bed, which share their times.",
            )


def _positions(frames: Headers) -> np.ndarray:
    """Number of each frame from zero, by Temporal Position where it counts them: frames may be missing in between."""
    positions = _first_numbers(frames, "TemporalPositionIdentifier")
    if positions is None or (np.diff(positions) <= 0).any():
        return np.arange(len(frames), dtype=float)
    return (positions - positions[0]) / np.diff(positions).min(initial=np.inf)


def _moments(frames: Headers) -> list[datetime]:
    """Acquisition time of each frame that has one: of its first slice."""
    moments = [min((t.time for h in group if (t := acquisition_time(h))), default=None) for group in frames]
    return [m for m in moments if m is not None]


def _clock_s(frames: Headers) -> np.ndarray | None:
    """Acquisition times in seconds after the first; None where frames lack one."""
    known = _moments(frames)
    return np.array([(m - known[0]).total_seconds() for m in known]) if len(known) == len(frames) else None


def _contradiction(start_s: np.ndarray, other_s: np.ndarray | None, spans: str) -> tuple[str, ...]:
    """What to say where another entry makes another time axis than the one that was taken."""
    if other_s is None or (np.diff(other_s) <= 0).any():
        return ()
    span_s, other_span_s = start_s[-1], other_s[-1] - other_s[0]
    if abs(other_span_s - span_s) <= CONTRADICTION * span_s:
        return ()
    return (f"Times were taken over {span_s:g} s, but {spans} {other_span_s:g} s: look which is right, and state the "
            "seconds from frame to frame if need be.",)  # fmt: skip


def _durations(frames: Headers, timing: Timing, what: str) -> tuple[np.ndarray, str]:
    """Frame lengths in seconds and their source."""
    values = _first_numbers(frames, "ActualFrameDuration")
    if values is None or not (values > 0).all():
        raise InputError(
            f"{what}: Actual Frame Duration (0018,1242) is missing.", "Export the series with its frame durations."
        )
    unit = timing.time_unit or _plausible_unit(values, SHORTEST_PET_FRAME_MS, "Actual Frame Duration (0018,1242)",
                                               what)  # fmt: skip
    if unit == "s":
        for group, value in zip(frames, values, strict=True):
            for header in group:
                header.ActualFrameDuration = round(value * 1000)  # the SUV rules read it as DICOM says
    return (values / 1000.0 if unit == "ms" else values), f"durations from Actual Frame Duration, taken as {unit}"


def _plausible_unit(steps: np.ndarray, least_ms: float, entry: str, what: str) -> str:
    """Milliseconds, as DICOM says, where that is possible; else the user is asked."""
    if np.median(steps) < least_ms:
        raise InputError(
            f"{what}: {entry} gives frames of {np.median(steps):g}; DICOM says ms, which is too short.",
            "State the unit of the times (time_unit s or ms).",
        )
    return "ms"


def _require_short_steps(start_s: np.ndarray, timing: Timing, entry: str, what: str) -> None:
    """Refuse steps that no dynamic MRI has: the entry was written in another unit."""
    step_s = float(np.median(np.diff(start_s)))
    if step_s > LONGEST_MR_STEP_S and not timing.time_unit:
        raise InputError(
            f"{what}: {entry}, in ms as DICOM says, makes steps of {step_s:g} s from frame to frame.",
            "State the seconds from frame to frame (frame_interval_s), or the unit (time_unit ms) if it is true.",
        )


def _reference_starts(frames: Headers, duration_s: np.ndarray, timing: Timing, what: str) -> tuple[np.ndarray, str]:
    """Frame starts in seconds from Frame Reference Time, told as start or as mid-time."""
    reference = _first_numbers(frames, "FrameReferenceTime")
    if reference is None or len(set(reference)) < len(frames):
        raise InputError(
            f"{what}: all frames have one acquisition time and Frame Reference Time (0054,1300) does not tell them "
            "apart: no entry says when they started.",
            "Export the original dynamic series, or NIfTI with FrameTimesStart.",
        )
    reference = reference / 1000.0
    # DICOM means the time of the mean activity; scanners also write the plain middle, seconds later in long frames.
    middles = (reference - _middle(frames, duration_s), reference - duration_s / 2)
    candidates = {"start": reference, "mid": min(middles, key=lambda start: _largest_gap(start, duration_s))}
    fits = [name for name, start in candidates.items() if timing.frame_time in ("", name) and _tiles(start, duration_s)]
    if timing.frame_time:
        fits = [timing.frame_time]
    elif len(fits) == 2:  # equal frames tile both ways, but none can start before the series nor be its own middle
        fits = ["start"] if reference[0] < TILING_TOLERANCE_S else (
            ["mid"] if abs(candidates["mid"][0]) < TILING_TOLERANCE_S else fits)  # fmt: skip
    if len(fits) != 1:
        raise InputError(
            f"{what}: Frame Reference Time (0054,1300) {reference[0]:g}, {reference[1]:g} ... s with frames of "
            f"{duration_s[0]:g}, {duration_s[1]:g} ... s can be frame starts or mid-times.",
            "State which (frame_time start or mid).",
        )
    return candidates[fits[0]], f"Frame Reference Time (0054,1300), taken as {fits[0]}"


def _tiles(start_s: np.ndarray, duration_s: np.ndarray) -> bool:
    """True if every frame begins where the one before ended."""
    return _largest_gap(start_s, duration_s) < TILING_TOLERANCE_S


def _largest_gap(start_s: np.ndarray, duration_s: np.ndarray) -> float:
    """Largest time in seconds between the end of a frame and the start of the next, or by which they overlap."""
    return float(np.abs(start_s[1:] - (start_s + duration_s)[:-1]).max())


def _middle(frames: Headers, duration_s: np.ndarray) -> np.ndarray:
    """Time from each frame's start at which the activity equals its mean over it: what DICOM refers the frame to."""
    items = frames[0][0].get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    half_life_s = float(items[0].get("RadionuclideHalfLife") or 0)
    return np.array([mean_decay_time_s(d, half_life_s) if half_life_s > 0 else d / 2 for d in duration_s])


def _write_back(frames: Headers, absolute: Sequence[datetime], reference_s: np.ndarray) -> None:
    """Give every slice its frame's own start and reference time, for the SUV rules that need those of each frame."""
    for group, moment, seconds in zip(frames, absolute, reference_s, strict=True):
        for header in group:
            set_acquisition(header, moment)
            header.FrameReferenceTime = f"{seconds * 1000:.10g}"


def _injection(header: Dataset, first: datetime) -> datetime | None:
    """Injection time where the header tells it and it can be believed."""
    items = header.get("RadiopharmaceuticalInformationSequence") or []
    half_life_s = float(items[0].get("RadionuclideHalfLife") or 0) if items else 0.0
    found = injection_time(header, first, half_life_s, allow_unknown=True) if half_life_s > 0 else None
    return found.time if found else None


def _first_numbers(frames: Headers, keyword: str) -> np.ndarray | None:
    """Least value of an entry in every frame, None when one lacks it."""
    values = [[h.get(keyword) for h in group] for group in frames]
    if any(v in (None, "") for row in values for v in row):
        return None
    return np.array([min(float(v) for v in row) for row in values])


def _relative(start_s: np.ndarray, duration_s: np.ndarray, source: str, zero: str, shift: bool = True) -> FrameTimes:
    """Times with the facts that are shown."""
    start = np.asarray(start_s, float) - (start_s[0] if shift else 0.0)
    text = f"{len(start)} frames, starts {', '.join(f'{s:g}' for s in start[:3])} ... {start[-1]:g} s after {zero}"
    if duration_s.any():
        text += f", lengths {duration_s.min():g} to {duration_s.max():g} s"
    return FrameTimes(start, duration_s, {"time_zero": zero, "time_source": source, "time_axis": text})
