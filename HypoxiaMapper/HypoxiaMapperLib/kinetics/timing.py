"""When the frames of a series were measured: start and end in minutes, from explicit units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, RequestError

MINUTES = {"ms": 1 / 60000, "s": 1 / 60, "min": 1.0, "h": 60.0}
LONGEST_STUDY_MIN = 24 * 60
"""A study longer than a day is a mistaken unit, not a study."""


def to_minutes(values: np.ndarray | float, unit: str) -> np.ndarray:
    """Times in minutes.

    Raises
    ------
    RequestError
        For an unknown unit: it is asked for, never guessed.
    """
    if unit not in MINUTES:
        raise RequestError(f"Time unit is {unit!r}.", f"Valid units: {', '.join(MINUTES)}.")
    return np.asarray(values, dtype=float) * MINUTES[unit]


@dataclass(frozen=True)
class Frames:
    """Frames of a dynamic series.

    Parameters
    ----------
    start_min, end_min : numpy.ndarray
        Start and end of each frame after time zero, in minutes, shape (frames,). Equal for instants (MRI).

    Raises
    ------
    InputError
        If frames are not finite, run backwards, overlap or are out of order, naming the first such frame.
    """

    start_min: np.ndarray
    end_min: np.ndarray

    def __post_init__(self) -> None:
        start, end = np.asarray(self.start_min, dtype=float), np.asarray(self.end_min, dtype=float)
        object.__setattr__(self, "start_min", start)
        object.__setattr__(self, "end_min", end)
        if start.ndim != 1 or start.shape != end.shape or start.size == 0:
            raise InputError(f"Frame starts {start.shape} and ends {end.shape} do not match.", "Give one per frame.")
        for what, bad in (
            ("has no finite time", ~(np.isfinite(start) & np.isfinite(end))),
            ("ends before it starts", end < start),
            ("overlaps or precedes the one before", np.r_[False, self._behind(start, end)]),
        ):
            if bad.any():
                k = int(np.argmax(bad))
                raise InputError(
                    f"Frame {k + 1} of {start.size} {what} ({start[k]:.4g} to {end[k]:.4g} min).",
                    "Check frame times, their unit (s or ms) and whether they are starts or mid-times.",
                )
        if end[-1] - start[0] > LONGEST_STUDY_MIN:
            raise InputError(
                f"The frames span {end[-1] - start[0]:.4g} minutes.", "The times are probably in ms, not s or min."
            )

    @staticmethod
    def _behind(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """True where a frame begins before the previous one ends (1 ms of rounding allowed) or does not advance."""
        return (start[1:] < end[:-1] - 1e-3 / 60) | (end[1:] <= end[:-1])

    @classmethod
    def from_start_duration(cls, start: np.ndarray, duration: np.ndarray, unit: str) -> Frames:
        """Frames of a PET series from starts and durations in ``unit`` (s, ms, min, h)."""
        first = to_minutes(start, unit)
        return cls(first, first + to_minutes(duration, unit))

    @classmethod
    def instants(cls, times: np.ndarray, unit: str) -> Frames:
        """Instants (dynamic MRI) in ``unit``."""
        at = to_minutes(times, unit)
        return cls(at, at.copy())

    @property
    def count(self) -> int:
        """Number of frames."""
        return int(self.start_min.size)

    @property
    def mid_min(self) -> np.ndarray:
        """Mid-times in minutes."""
        return (self.start_min + self.end_min) / 2

    @property
    def duration_min(self) -> np.ndarray:
        """Durations in minutes; zeros for instants."""
        return self.end_min - self.start_min

    @property
    def averaged(self) -> bool:
        """True if frames have a duration, so that the model is averaged over it."""
        return bool(np.all(self.duration_min > 0))
