"""Straight-line analyses of dynamic PET (Patlak, Logan): their parameters, and how a line becomes a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fitting import FitResult
from ..kinetics.timing import Frames
from ..volume import Region
from ._base import HypoxiaMap, Progress, parameter
from ._pet_input import PetInputParams, pet_input
from ._voxelwise import ExtentParams, curve_of, fit_map, frames_of, gather_voxels, require_activity, require_time_series

LONGEST_QUIET_PAUSE_MIN = 1.0


@dataclass(frozen=True)
class GraphicalParams(PetInputParams, ExtentParams):
    """Parameters of ``patlak_ki`` and ``logan_vt``."""

    start_min: float = parameter(
        30.0, label="Start of the straight line (t*)", unit="min", minimum=0.0, maximum=600.0,
        source="a choice of this software: set it where your plots become straight, as the fit is shown",
    )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One analysis.

    Parameters
    ----------
    name : str
        As it is cited.
    fit : callable
        Line of every voxel: (curves, input function, frames, start) to ``FitResult``.
    points : callable
        Its plot: the same to x and y.
    quantities : mapping
        Quantity and unit of slope and intercept, in this order.
    x_label, y_label : str
        Axes of the plot.
    detail : str
        Name under which the slope of the GTV's mean curve is reported.
    """

    name: str
    fit: Callable[..., FitResult]
    points: Callable[..., tuple[np.ndarray, np.ndarray]]
    quantities: Mapping[str, tuple[str, str]]
    x_label: str
    y_label: str
    detail: str


def line_map(
    line: Line, inputs: Mapping[str, Any], regions: Mapping[str, Region], params: GraphicalParams, progress: Progress,
    notes: Sequence[str] = (),
) -> HypoxiaMap:  # fmt: skip
    """Slope with intercept and their standard errors, on the grid of the series.

    Parameters
    ----------
    inputs : mapping
        ``pet``: ``TimeSeries`` from the injection on.
    regions : mapping
        ``gtv`` and, for an image-derived input, ``artery``, on the same grid.

    Raises
    ------
    RequestError
        Fewer than three frames after ``start_min``, or no input function.
    InputError
        Input function or series unusable.
    """
    series = require_time_series(inputs, "pet")
    frames = frames_of(series)
    source, input_notes = pet_input(series, frames, regions, params)
    voxels = gather_voxels(series, regions, params)
    require_activity(voxels)
    progress(0.2, f"{line.name} lines of {voxels.data.shape[1]} voxels")
    slope, intercept = line.quantities

    def of_curve(mean: np.ndarray) -> Mapping[str, np.ndarray]:
        return line.fit(mean[:, None], source, frames, params.start_min).values

    result = line.fit(voxels.data, source, frames, params.start_min)
    shown = voxels.shown_mean()
    x, y = (v.ravel() for v in line.points(shown[:, None], source, frames, params.start_min))
    own = of_curve(shown)
    fitted = own[slope][0] * x + own[intercept][0]
    progress(1.0, f"{slope} map ready")
    return fit_map(
        voxels, result, slope, line.quantities,
        f"{line.name} line from {params.start_min:g} min, input {source.source}",
        warnings=[*input_notes, *notes, *_pause_note(frames)],
        curves=(curve_of(voxels.shown_name, x, y, fitted, line.x_label, line.y_label),),
        details={line.detail: float(of_curve(voxels.gtv_mean())[slope][0]), "input_function": source.source},
    )  # fmt: skip


def _pause_note(frames: Frames) -> list[str]:
    """The longest time without a frame, when it is worth a word: integrals run straight over it."""
    pauses = frames.start_min[1:] - frames.end_min[:-1]
    k = int(np.argmax(pauses))
    if pauses[k] <= LONGEST_QUIET_PAUSE_MIN:
        return []
    return [
        f"Nothing was measured from {frames.end_min[k]:.1f} to {frames.start_min[k + 1]:.1f} min: "
        "curves were taken as straight lines there."
    ]
