"""The concentration that feeds the tissue: samples with units, linear between them, zero before the first."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, RequestError
from .convolution import convolve_exponential, cumulative_integral
from .timing import Frames, to_minutes

NEGATIVE_SHARE = 0.05
"""Noise may take an input below zero by this share of its peak; more is a wrong baseline."""
LONGEST_HOLD_MIN = 0.5
LONGEST_OVERHANG = 50.0
"""Times the length of the data that an input may have: seconds taken for minutes make it 60 times too long."""
LATEST_BEGIN_MIN, MOST_AT_BEGIN = 0.5, 0.1
END_SLACK_MIN = 1e-3
"""Rounding of frame times that does not count as an input shorter than the data."""


@dataclass(frozen=True)
class InputFunction:
    """Samples of the input concentration.

    Parameters
    ----------
    time_min : numpy.ndarray
        Rising sample times in minutes, on the clock of the frames, shape (samples,).
    plasma : numpy.ndarray
        Plasma concentration at the samples, shape (samples,). Small negative values (noise) are kept as they are.
    unit : str
        UCUM unit of the concentration, e.g. ``kBq/ml``, ``mmol/L``. Data fitted with it must carry the same.
    blood : numpy.ndarray or None
        Whole-blood concentration; None: the same as plasma.
    source : str
        Where it came from, for provenance.

    Raises
    ------
    InputError
        If there are fewer than two samples, times do not rise, values are not finite, all zero, or clearly negative.
    """

    time_min: np.ndarray
    plasma: np.ndarray
    unit: str
    blood: np.ndarray | None = None
    source: str = ""

    def __post_init__(self) -> None:
        time = np.asarray(self.time_min, dtype=float)
        object.__setattr__(self, "time_min", time)
        object.__setattr__(self, "plasma", self._checked(time, self.plasma, "plasma"))
        if self.blood is not None:
            object.__setattr__(self, "blood", self._checked(time, self.blood, "blood"))
        if not self.unit:
            raise RequestError("The input function has no unit.", "State it, for example kBq/ml or mmol/L.")

    @staticmethod
    def _checked(time: np.ndarray, samples: np.ndarray, what: str) -> np.ndarray:
        values = np.asarray(samples, dtype=float)
        if time.ndim != 1 or time.shape != values.shape or time.size < 2:
            raise InputError(
                f"Input function: {time.shape} times and {values.shape} {what} values.",
                "Give at least two samples, as many values as times.",
            )
        if not (np.all(np.isfinite(time)) and np.all(np.isfinite(values))):
            raise InputError(f"Input function: {what} or its times hold NaN or infinity.", "Remove those samples.")
        if np.any(np.diff(time) <= 0):
            k = int(np.argmax(np.diff(time) <= 0)) + 1
            raise InputError(f"Input function: sample {k + 1} is not later than the one before.", "Sort the samples.")
        if values.max() <= 0:
            raise InputError(f"Input function: {what} is nowhere positive.", "Check the region or file it comes from.")
        if values.min() < -NEGATIVE_SHARE * values.max():
            raise InputError(
                f"Input function: {what} falls to {values.min():.3g} (peak {values.max():.3g}).",
                "Concentrations cannot be negative: check the baseline.",
            )
        return values

    @classmethod
    def from_samples(cls, time: np.ndarray, plasma: np.ndarray, *, time_unit: str, unit: str,
                     blood: np.ndarray | None = None, source: str = "samples") -> InputFunction:  # fmt: skip
        """Build one from samples whose times are in ``time_unit`` (s, ms, min, h)."""
        return cls(to_minutes(time, time_unit), plasma, unit, blood, source)

    @classmethod
    def from_csv(cls, path: Path, *, time_unit: str, unit: str) -> InputFunction:
        """Read columns ``time``, ``plasma`` and perhaps ``blood`` of a CSV file with a header line.

        Raises
        ------
        InputError
            If the file cannot be read, lacks a column or holds a word where a number belongs (with the line).
        """
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file, skipinitialspace=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"Input function {path} cannot be read: {error}.", "Give a CSV file.") from error
        names = set(rows[0]) if rows else set()
        if not {"time", "plasma"} <= names:
            raise InputError(
                f"Input function {path} has the columns {', '.join(map(str, sorted(names, key=str))) or 'none'}.",
                "It needs a header line with time, plasma and, if known, blood.",
            )
        columns = {name: _numbers(path, rows, name) for name in ("time", "plasma", "blood") if name in names}
        return cls.from_samples(columns["time"], columns["plasma"], time_unit=time_unit, unit=unit,
                                blood=columns.get("blood"), source=str(path.name))  # fmt: skip

    def delayed(self, delay_min: float) -> InputFunction:
        """The same input arriving ``delay_min`` later."""
        return replace(self, time_min=self.time_min + delay_min)

    def smoothed(self, step_s: float = 0.25) -> InputFunction:
        """Cubic spline through the samples, resampled every ``step_s`` seconds.

        A bolus sampled every few seconds is no polygon: straight lines cut its peak, which shows as a false delay and
        Ktrans up to 12 % low on a 5 s series; the spline leaves 4 %. For noisy samples use them as they are. Before a
        steep rise a spline swings below both samples around it, which no concentration does: there it is held.

        Raises
        ------
        RequestError
            If the step is not positive, or there are fewer than four samples.
        """
        from scipy.interpolate import CubicSpline

        if not step_s > 0 or self.time_min.size < 4:
            raise RequestError(f"{self.time_min.size} samples every {step_s} s.", "Give four samples and a step > 0.")
        time = np.union1d(np.arange(self.time_min[0], self.time_min[-1], step_s / 60), self.time_min)
        before = np.clip(np.searchsorted(self.time_min, time, side="right") - 1, 0, self.time_min.size - 2)

        def spline(samples: np.ndarray) -> np.ndarray:
            least = np.minimum(samples[before], samples[before + 1])
            return np.maximum(CubicSpline(self.time_min, samples)(time), least)

        blood = None if self.blood is None else spline(self.blood)
        return replace(self, time_min=time, plasma=spline(self.plasma), blood=blood,
                       source=f"{self.source}, cubic spline")  # fmt: skip

    def held_until(self, end_min: float) -> InputFunction:
        """The last value held until ``end_min``, at most half a minute: room to shift the input to earlier times.

        Raises
        ------
        RequestError
            If more is asked for: a longer missing end is not invented.
        """
        missing = end_min - self.time_min[-1]
        if missing > LONGEST_HOLD_MIN:
            raise RequestError(
                f"The input function ends {missing:.3g} min before {end_min:.4g} min.", "Give a longer input function."
            )
        if missing <= 0:
            return self
        blood = None if self.blood is None else np.append(self.blood, self.blood[-1])
        return replace(self, time_min=np.append(self.time_min, end_min), plasma=np.append(self.plasma, self.plasma[-1]),
                       blood=blood)  # fmt: skip

    def dispersed(self, tau_min: float) -> InputFunction:
        """Input smeared by exp(-t/tau)/tau on its way to the tissue; ``tau_min`` 0 changes nothing."""
        if tau_min < 0 or not np.isfinite(tau_min):
            raise RequestError(f"Dispersion is {tau_min} min.", "Give zero or more.")
        if tau_min == 0:
            return self

        def smear(values: np.ndarray) -> np.ndarray:
            return convolve_exponential(self.time_min, values, np.array([1 / tau_min]))[0][0] / tau_min

        blood = None if self.blood is None else smear(self.blood)
        return replace(self, plasma=smear(self.plasma), blood=blood)

    def from_blood(self, hematocrit: float) -> InputFunction:
        """Plasma concentration Cp = Cb / (1 - Hct) of an input that was measured in whole blood.

        Raises
        ------
        RequestError
            If the hematocrit is not between 0 and 1.
        """
        if not 0 <= hematocrit < 1:
            raise RequestError(f"Hematocrit is {hematocrit}.", "Give a fraction, about 0.42 to 0.45.")
        return replace(self, plasma=self.plasma / (1 - hematocrit), blood=self.plasma)

    def require_beginning(self) -> None:
        """Refuse samples that begin when the bolus is under way: taken as zero before, they make rates wrong.

        Raises
        ------
        InputError
            If the first sample is later than half a minute and above a tenth of the peak.
        """
        share = self.plasma[0] / self.plasma.max()
        if self.time_min[0] > LATEST_BEGIN_MIN and share > MOST_AT_BEGIN:
            raise InputError(
                f"The input function begins at {self.time_min[0]:.3g} min with {share:.0%} of its peak.",
                "Give it from time zero on: what came before is part of the tissue's curve.",
            )

    def require_unit(self, unit: str, what: str) -> None:
        """Refuse data in another unit.

        Raises
        ------
        RequestError
            Naming both units.
        """
        if unit != self.unit:
            raise RequestError(
                f"{what} is in {unit}, the input function in {self.unit}.", "Convert one so that both agree."
            )

    def require_cover(self, frames: Frames) -> None:
        """Refuse an input that ends before the data, or so long after it that its times are in another unit.

        Raises
        ------
        InputError
            Naming both ends.
        """
        if self.time_min[-1] < frames.end_min[-1] - END_SLACK_MIN:
            raise InputError(
                f"The input function ends at {self.time_min[-1]:.4g} min, the data at {frames.end_min[-1]:.4g} min.",
                "Give a longer input function; it is not extrapolated. Check the time units.",
            )

        if self.time_min[-1] > LONGEST_OVERHANG * frames.end_min[-1] > 0:
            raise InputError(
                f"The input function runs to {self.time_min[-1]:.4g} min, the data to {frames.end_min[-1]:.4g} min.",
                "Check the time unit of the input function (s or min).",
            )

    def on_frames(self, frames: Frames, which: str = "plasma") -> np.ndarray:
        """Concentration in each frame, shape (frames,): averaged if frames have a duration, else at the instant."""
        knots, values = self._knots(frames, which)
        if not frames.averaged:
            return np.interp(frames.start_min, knots, values)
        running = cumulative_integral(knots, values)
        at = (np.interp(edge, knots, running) for edge in (frames.start_min, frames.end_min))
        first, last = at
        return (last - first) / frames.duration_min

    def integral_on_frames(self, frames: Frames, which: str = "plasma") -> np.ndarray:
        """Integral of the concentration from its beginning, in each frame, shape (frames,), in unit * min."""
        return self.response_on_frames(frames, np.zeros(1), which)[0]

    def response_on_frames(self, frames: Frames, theta: np.ndarray, which: str = "plasma") -> np.ndarray:
        """Convolution with exp(-theta t), shape (len(theta), frames), theta in 1/min: averaged over frames, or at
        the instants. Exact for the piecewise linear input."""
        knots, values = self._knots(frames, which)
        response, integral = convolve_exponential(knots, values, theta)
        if not frames.averaged:
            return response[:, np.searchsorted(knots, frames.start_min)]
        first, last = np.searchsorted(knots, frames.start_min), np.searchsorted(knots, frames.end_min)
        return (integral[:, last] - integral[:, first]) / frames.duration_min

    def _knots(self, frames: Frames, which: str) -> tuple[np.ndarray, np.ndarray]:
        """Samples with the frame edges between them; zero before the first sample."""
        self.require_cover(frames)
        values = self.blood if which == "blood" and self.blood is not None else self.plasma
        edges = np.union1d(frames.start_min, frames.end_min)
        knots = np.union1d(self.time_min, edges)
        if knots[0] < self.time_min[0]:
            # The last instant before the first sample keeps the jump from zero there and not a ramp.
            knots = np.union1d(knots, np.nextafter(self.time_min[0], -np.inf))
        return knots, np.interp(knots, self.time_min, values, left=0.0, right=float(values[-1]))


def _numbers(path: Path, rows: list[dict[str, str]], name: str) -> np.ndarray:
    """One column as numbers; an error names the line."""
    numbers = []
    for line, row in enumerate(rows, start=2):
        try:
            numbers.append(float(row[name]))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Input function {path}, line {line}: {name} is {row[name]!r}.", "Every value must be a number."
            ) from error
    return np.array(numbers)
