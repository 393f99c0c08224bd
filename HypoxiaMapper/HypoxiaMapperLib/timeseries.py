"""Images of one place measured several times: over time, or at several echo times, flip angles or b-values.

Frames are held as one float32 array (frames, z, y, x) or memory map; times carry their unit in their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, InputError, RequestError
from .registration import register_frame
from .volume import Region, Volume, image_like, require_same_grid

OVERLAP_TOLERANCE_S = 0.01
"""DICOM times are written to a hundredth of a second or better; a frame may begin that much before the last ended."""
WHOLE_SECONDS_S = 0.999
"""As much earlier a frame may seem to begin where starts are written in whole seconds."""
LONGEST_STUDY_S = 24 * 3600.0
"""A study longer than a day is milliseconds taken for seconds."""
UNIT_SLIPS = {60.0: 1800.0, 1000.0: LONGEST_STUDY_S}
"""Minutes, or thousands, taken for seconds: the factor, and the longest frame in seconds for which it is believed. No
frame of a dynamic series is longer than 1800 s: late frames of 2 min, 2 h apart, are no minutes taken for seconds."""
GAPLESS = 0.05
"""Frames that fill the time to the next one but for this share of it follow each other."""
LONGEST_MR_STEP_S = 900.0
"""No dynamic MRI measures more rarely: larger numbers were written in a smaller unit."""
SAME_PROTOCOL = 0.01
"""Sequence parameters of frames that belong together may differ by this share of the larger."""
PARAMETERS = {"echo time": "ms", "flip angle": "deg", "b-value": "s/mm2", "inversion time": "ms"}
"""What a ``ParameterSeries`` may be measured at, and the unit of its values."""


@dataclass(frozen=True)
class Timing:
    """What the user states about times where the files cannot say it.

    Parameters
    ----------
    frame_time : str
        Whether a single time per frame is its ``start`` or its ``mid``; empty: as the file shows.
    time_unit : str
        ``s`` or ``ms``: unit of Trigger Time and Actual Frame Duration, or of the times in a NIfTI sidecar; empty: ms,
        as DICOM says, or s, as BIDS says, if plausible. A unit that is stated is not doubted.
    frame_interval_s : float or None
        Seconds from frame to frame of a series in order whose files hold no usable time.
    """

    frame_time: str = ""
    time_unit: str = ""
    frame_interval_s: float | None = None

    def __post_init__(self) -> None:
        for what, value, valid in (
            ("frame_time", self.frame_time, ("", "start", "mid")), ("time_unit", self.time_unit, ("", "s", "ms")),
        ):  # fmt: skip
            if value not in valid:
                raise RequestError(f"Timing {what} is {value!r}.", f"Valid: {', '.join(v or 'empty' for v in valid)}.")
        if self.frame_interval_s is not None and not 0 < self.frame_interval_s < LONGEST_STUDY_S:
            raise RequestError(f"Timing frame_interval_s is {self.frame_interval_s}.", "Give seconds, above zero.")


UNSTATED = Timing()
"""Nothing stated: the files must say it themselves."""


@dataclass(frozen=True, kw_only=True)
class FrameStack:
    """Frames on one grid with quantity, unit and history (see ``Volume`` for the common fields).

    Parameters
    ----------
    frames : numpy.ndarray
        float32 array or memory map, shape (frames, z, y, x).
    grid : SimpleITK.Image
        Any image on the grid of the frames; only its geometry is used.
    """

    frames: np.ndarray
    grid: sitk.Image
    quantity: str
    unit: str
    frame_of_reference_uid: str = ""
    source_uids: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.quantity or not self.unit:
            raise RequestError(
                f"A series without quantity and unit was offered (quantity {self.quantity!r}, unit {self.unit!r}).",
                "State what the voxels measure and in which unit.",
            )
        expected = tuple(reversed(self.grid.GetSize()))
        if self.frames.ndim != 4 or self.frames.shape[1:] != expected or not len(self.frames):
            raise GeometryError(
                f"{self.quantity}: frames of shape {self.frames.shape} do not fit a grid of shape {expected}.",
                "Give an array (frames, z, y, x).",
            )
        for k, frame in enumerate(self.frames):
            if not np.isfinite(frame).any():
                raise InputError(
                    f"{self.quantity}: frame {k + 1} of {len(self.frames)} holds no finite value.",
                    "Leave this frame out of the series.",
                )

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def frame(self, k: int) -> Volume:
        """One frame as a Volume."""
        return Volume(
            image_like(np.asarray(self.frames[k], dtype=np.float32), self.grid), self.quantity, self.unit,
            self.frame_of_reference_uid, (), (*self.operations, f"frame {k + 1} of {self.count}"), self.facts,
        )  # fmt: skip

    def voxels(self, mask: np.ndarray) -> np.ndarray:
        """Curves of the voxels inside a boolean mask (z, y, x): float32, shape (frames, voxels)."""
        return np.stack([np.asarray(frame[mask], dtype=np.float32) for frame in self.frames])

    def region_curve(self, region: Region, statistic: str = "mean") -> np.ndarray:
        """Mean or median of a region in every frame, float64, shape (frames,).

        Raises
        ------
        GeometryError
            If the region lies on another grid.
        InputError
            If it is empty or holds a frame without finite values.
        """
        require_same_grid(region.mask, self.grid, f"{region.name} and the series")
        curves = self.voxels(region.array)
        if curves.shape[1] == 0:
            raise InputError(f"{region.name} holds no voxel of the series.", "Draw it inside the field of view.")
        if not np.isfinite(curves).any(axis=1).all():
            raise InputError(f"{region.name} holds no finite value in some frame.", "Draw it inside the field of view.")
        pick: dict[str, Callable[..., np.ndarray]] = {"mean": np.nanmean, "median": np.nanmedian}
        if statistic not in pick:
            raise RequestError(f"Statistic {statistic!r} is unknown.", f"Valid: {', '.join(pick)}.")
        return np.asarray(pick[statistic](curves.astype(float), axis=1))

    def with_frames(self, frames: np.ndarray, operation: str, **changes: Any) -> Any:
        """The same series with other voxels (or another grid); ``operation`` is appended to the history."""
        return replace(self, frames=frames, operations=(*self.operations, operation), **changes)


@dataclass(frozen=True, kw_only=True)
class TimeSeries(FrameStack):
    """A dynamic series.

    Parameters
    ----------
    frame_start_s, frame_duration_s : numpy.ndarray
        Start after time zero and length of each frame in seconds, shape (frames,); lengths are 0 for instants (MRI).
        What time zero is stands in ``facts["time_zero"]``.

    Raises
    ------
    InputError
        If times are not finite, out of order, overlapping, or longer than a day, naming the first such frame; if starts
        and lengths are in different units, unless ``facts["time_unit_stated"]`` says that a person stated it.
    """

    frame_start_s: np.ndarray
    frame_duration_s: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        start, duration = np.asarray(self.frame_start_s, float), np.asarray(self.frame_duration_s, float)
        object.__setattr__(self, "frame_start_s", start)
        object.__setattr__(self, "frame_duration_s", duration)
        if start.shape != (self.count,) or duration.shape != (self.count,):
            raise InputError(
                f"{self.quantity}: {self.count} frames, {start.size} start times and {duration.size} durations.",
                "Give one start and one duration per frame, in seconds.",
            )
        require_ordered(start, duration, self.quantity)
        if not self.facts.get("time_unit_stated"):
            require_one_unit(start, duration, self.quantity)

    @property
    def frame_end_s(self) -> np.ndarray:
        """End of each frame in seconds, shape (frames,)."""
        return self.frame_start_s + self.frame_duration_s

    @property
    def frame_mid_s(self) -> np.ndarray:
        """Middle of each frame in seconds, shape (frames,)."""
        return self.frame_start_s + self.frame_duration_s / 2

    def part(self, first: int, last: int) -> TimeSeries:
        """Frames ``first`` to ``last - 1``."""
        return self.with_frames(
            self.frames[first:last], f"frames {first + 1} to {last} of {self.count}",
            frame_start_s=self.frame_start_s[first:last], frame_duration_s=self.frame_duration_s[first:last],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ParameterSeries(FrameStack):
    """A series measured at several echo times, flip angles, b-values or inversion times.

    Parameters
    ----------
    parameter : str
        One of ``PARAMETERS``, which also says the unit of ``values``.
    values : numpy.ndarray
        Value of each frame, rising, shape (frames,).
    """

    parameter: str
    values: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parameter not in PARAMETERS:
            raise RequestError(f"Parameter {self.parameter!r} is unknown.", f"Valid: {', '.join(PARAMETERS)}.")
        values = np.asarray(self.values, float)
        object.__setattr__(self, "values", values)
        if values.shape != (self.count,) or not np.isfinite(values).all() or (values < 0).any():
            raise InputError(
                f"{self.quantity}: {self.count} frames and the {self.parameter} values {values.tolist()}.",
                f"Give one finite value >= 0 per frame, in {PARAMETERS[self.parameter]}.",
            )
        if (np.diff(values) <= 0).any():
            raise InputError(
                f"{self.quantity}: {self.parameter} values {values.tolist()} do not rise.", "Sort and join the frames."
            )


def spread(frame: np.ndarray) -> float:
    """Standard deviation over mean magnitude: the same in every unit and order of voxels, another after filtering."""
    mean = float(np.abs(frame).mean(dtype=float))
    return float(np.std(frame, dtype=float)) / mean if mean > 0 else 0.0


def require_ordered(start_s: np.ndarray, duration_s: np.ndarray, what: str) -> None:
    """Refuse frames that are undefined, unordered, overlapping or longer than a day.

    Raises
    ------
    InputError
        Naming the first wrong frame and its times.
    """
    whole = bool(np.all(np.mod(np.diff(start_s), 1.0) == 0))  # clock times without fraction
    tolerance_s = WHOLE_SECONDS_S if whole else OVERLAP_TOLERANCE_S
    begins_early = np.r_[False, start_s[1:] < (start_s + duration_s)[:-1] - tolerance_s]
    for problem, wrong in (
        ("has no finite time", ~(np.isfinite(start_s) & np.isfinite(duration_s))),
        ("has a negative duration", duration_s < 0),
        ("does not come after the one before", np.r_[False, np.diff(start_s) <= 0]),
        ("overlaps the one before", begins_early),
    ):
        if wrong.any():
            k = int(np.argmax(wrong))
            raise InputError(
                f"{what}: frame {k + 1} of {len(start_s)} {problem} (start {start_s[k]:g} s, {duration_s[k]:g} s long"
                + (f"; before it start {start_s[k - 1]:g} s, {duration_s[k - 1]:g} s long)." if k else ")."),
                "Check the unit of the times (s or ms) and whether they are frame starts or mid-times.",
            )
    if start_s[-1] + duration_s[-1] - start_s[0] > LONGEST_STUDY_S:
        raise InputError(
            f"{what}: the frames span {start_s[-1] + duration_s[-1] - start_s[0]:g} s, more than a day.",
            "The times are probably in milliseconds: state the unit.",
        )


def require_measured(frames: np.ndarray, what: str) -> None:
    """Refuse MR frames of zeros alone: an aborted scan leaves them.

    Raises
    ------
    InputError
        Naming the first.
    """
    for k, frame in enumerate(frames):
        if not frame.any():
            raise InputError(
                f"{what}: frame {k + 1} of {len(frames)} holds only zeros.", "It was not measured: leave it out."
            )


def require_one_unit(start_s: np.ndarray, duration_s: np.ndarray, what: str) -> None:
    """Refuse frame lengths that fill the time between the starts only when read in another unit.

    Gaps alone are no fault: late frames may be hours apart. But frames that would follow each other without a gap if
    their lengths were minutes (or their starts ms) are such.

    Raises
    ------
    InputError
        Naming the unit the lengths seem to be in.
    """
    steps, lengths = np.diff(start_s), duration_s[:-1]
    if not len(steps) or not (lengths > 0).all():
        return
    for factor, longest_s in UNIT_SLIPS.items():
        gapless = np.abs(steps - factor * lengths) <= GAPLESS * steps
        if gapless.mean() > 0.5 and factor * lengths.max() <= longest_s:
            raise InputError(
                f"{what}: {len(start_s)} frames measure {lengths.sum():.4g} s of {steps.sum():.4g} s before the last "
                f"one; with lengths {factor:g} times as long they would fill it.",
                "Check that starts and lengths are in one unit, or state the unit of times.",
            )


def correct_motion(
    series: TimeSeries, reference_frame: int, progress: Callable[[float, str], None] | None = None
) -> tuple[TimeSeries, np.ndarray]:
    """Register every frame rigidly to one of them (mutual information) and resample it linearly.

    Parameters
    ----------
    reference_frame : int
        Index of the frame the others are brought onto; a late, long one shows most anatomy.

    Returns
    -------
    TimeSeries
        On the same grid; voxels that a frame does not cover are NaN. ``facts["motion_warnings"]`` names the frames that
        could not be registered and were left where they are; every map made of the series repeats it.
    numpy.ndarray
        Displacement of the grid's centre in each frame in mm, shape (frames,).
    """
    if not 0 <= reference_frame < series.count:
        raise RequestError(f"Reference frame is {reference_frame + 1}.", f"Give 1 to {series.count}.")
    reference = series.frame(reference_frame)
    fixed = reference.image
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    frames, shifts = np.empty(series.frames.shape, np.float32), np.zeros(series.count)
    failed: list[str] = []
    for k in range(series.count):
        if progress:
            progress(k / series.count, f"registering frame {k + 1} of {series.count}")
        if k == reference_frame:
            frames[k] = series.frames[k]
            continue
        moving = series.frame(k)
        motion = register_frame(reference, moving)
        if motion.failure:
            frames[k] = series.frames[k]
            failed.append(f"Frame {k + 1} of {series.count} could not be registered to frame {reference_frame + 1} and "
                          f"was left where it is: {motion.failure}.")  # fmt: skip
            continue
        moved = sitk.Resample(moving.image, fixed, motion.transform, sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
        frames[k] = sitk.GetArrayViewFromImage(moved)
        shifts[k] = np.linalg.norm(np.array(motion.transform.TransformPoint(centre)) - np.array(centre))
    text = f"every frame registered rigidly to frame {reference_frame + 1}, largest shift {shifts.max():.2f} mm"
    if failed:
        text += f", {len(failed)} left where they are"
    return series.with_frames(frames, text, facts={**series.facts, "motion_warnings": tuple(failed)}), shifts
