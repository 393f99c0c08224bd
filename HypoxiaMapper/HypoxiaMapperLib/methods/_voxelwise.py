"""What all voxel-wise methods share: which voxels are fitted, and how fit results become maps, codes and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, special

from ..errors import InputError, RequestError
from ..fitting.codes import NO_VALUES, FitCode
from ..fitting.device import DEVICES, DTYPES, FitOptions
from ..fitting.result import FitResult
from ..kinetics.timing import Frames
from ..timeseries import FrameStack, ParameterSeries, TimeSeries
from ..volume import Region, Volume, image_like, require_same_grid
from ._base import FitCurve, HypoxiaMap, parameter

VOXEL = "voxel"
"""Region every method of a series takes beside its own: its curve is shown in place of the GTV's, fitted as the map."""
NO_THRESHOLD = "none published: the user must give one"
NO_THRESHOLD_WARNING = (
    "No published threshold parts hypoxic from other tissue on this map: give your own (--threshold), and say where it "
    "comes from."
)
MANY_FREEDOM = 10
"""From so many degrees of freedom on standard errors cover what those of the normal distribution do, within 3 %."""
CODE_TEXT = {
    FitCode.BOUND_HIT: "a parameter ended on its bound",
    FitCode.NOT_CONVERGED: "the fit did not converge",
    FitCode.UNDETERMINED: "the data do not determine a parameter",
    FitCode.NO_ARRIVAL: "nothing arrives",
    FitCode.FLAT: "all frames are equal",
    FitCode.INVALID: "a value is not finite or impossible",
}


@dataclass(frozen=True)
class ExtentParams:
    """Which voxels get a value."""

    extent: str = parameter(
        "around_gtv", label="Voxels", choices=("around_gtv", "whole_image"),
        source="the tumour decides the target; the whole image takes longer",
    )  # fmt: skip
    fit_margin_mm: float = parameter(
        10.0, label="Margin around the GTV", unit="mm", minimum=0.0, maximum=500.0,
        source="a choice of this software: the map must reach beyond the GTV to be resampled at its edge",
    )  # fmt: skip


@dataclass(frozen=True)
class FitParams(ExtentParams):
    """How a voxel-wise fit runs."""

    device: str = parameter(
        "auto", label="Device", choices=DEVICES, source="auto: CUDA if there, else CPU; the result is the same"
    )
    precision: str = parameter(
        "float64", label="Number type", choices=DTYPES,
        source="float32 is faster on a GPU; its difference is bounded in the tests",
    )  # fmt: skip

    def options(self) -> FitOptions:
        """For the fitting engine."""
        return FitOptions(device=self.device, dtype=self.precision)


@dataclass(frozen=True)
class Voxels:
    """The voxels of a fit on their grid.

    Parameters
    ----------
    series : FrameStack
        Where they come from.
    mask : numpy.ndarray
        Which ones, shape (z, y, x).
    gtv : numpy.ndarray
        Of these, the ones inside the GTV, shape (voxels,).
    data : numpy.ndarray
        Their curves, shape (frames, voxels).
    shown : numpy.ndarray
        The ones whose mean curve is shown, shape (voxels,): the GTV, or the region ``VOXEL``.
    shown_name : str
        Name of the region shown.
    """

    series: FrameStack
    mask: np.ndarray
    gtv: np.ndarray
    data: np.ndarray
    shown: np.ndarray
    shown_name: str

    def grid_array(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Values (voxels,) put back on the grid (z, y, x)."""
        out = np.full(self.mask.shape, fill, dtype=np.uint8 if values.dtype == np.uint8 else np.float32)
        out[self.mask] = values
        return out

    def volume(self, values: np.ndarray, quantity: str, unit: str, operation: str) -> Volume:
        """Values (voxels,) as a map."""
        s = self.series
        return Volume(
            image_like(self.grid_array(np.asarray(values, dtype=np.float32)), s.grid), quantity, unit,
            s.frame_of_reference_uid, s.source_uids, (*s.operations, operation), dict(s.facts),
        )  # fmt: skip

    def gtv_mean(self) -> np.ndarray:
        """Mean curve of the GTV over voxels without a gap, shape (frames,).

        Raises
        ------
        InputError
            If there is none.
        """
        return _mean_curve(self.data[:, self.gtv], "the GTV")

    def shown_mean(self) -> np.ndarray:
        """Mean curve of the region shown, as ``gtv_mean``."""
        return _mean_curve(self.data[:, self.shown], self.shown_name)

    def values_of(self, volume: Volume) -> np.ndarray:
        """Values of another map on the same grid, shape (voxels,).

        Raises
        ------
        GeometryError
            If it lies on another grid.
        """
        require_same_grid(volume.image, self.series.grid, f"{volume.quantity} and the series")
        return volume.array[self.mask].astype(float)


def _mean_curve(data: np.ndarray, name: str) -> np.ndarray:
    """Mean of the curves (frames, voxels) without a gap."""
    curves = data[:, np.isfinite(data).all(axis=0)].astype(float)
    if curves.shape[1] == 0:
        raise InputError(f"No voxel of {name} has a finite value in every frame.", "Check series and region.")
    return curves.mean(axis=1)


def require_activity(voxels: Voxels) -> None:
    """Refuse a PET whose GTV holds, on the mean over the frames, no activity or a negative one.

    Raises
    ------
    InputError
        With the mean found.
    """
    mean = float(voxels.gtv_mean().mean())
    if not mean > 0:
        series = voxels.series
        raise InputError(
            f"The mean {series.quantity} of the GTV over all frames is {mean:.3g} {series.unit}.",
            "Activity is positive: check series, rescale and GTV.",
        )


def require_time_series(inputs: Mapping[str, Any], key: str) -> TimeSeries:
    """The dynamic series of a method.

    Raises
    ------
    RequestError
        If something else was given.
    """
    found = inputs.get(key)
    if not isinstance(found, TimeSeries):
        raise RequestError(
            f"Input {key} must be a dynamic series; it is {type(found).__name__}.", "Give all frames with their times."
        )
    return found


def require_parameter_series(inputs: Mapping[str, Any], key: str, name: str) -> ParameterSeries:
    """The multi-echo, multi-flip-angle or diffusion series of a method.

    Raises
    ------
    RequestError
        If something else was given.
    """
    found = inputs.get(key)
    if not isinstance(found, ParameterSeries) or found.parameter != name:
        what = found.parameter if isinstance(found, ParameterSeries) else type(found).__name__
        raise RequestError(f"Input {key} must be a series of {name} values; it is {what}.", "Give all images of it.")
    return found


def gather_voxels(series: FrameStack, regions: Mapping[str, Region], params: ExtentParams) -> Voxels:
    """Curves of the voxels to fit: the GTV with a margin, or the whole image; with a region ``VOXEL`` the GTV and it.

    Raises
    ------
    GeometryError
        If the GTV lies on another grid.
    InputError
        If the GTV holds no voxel of the series.
    """
    gtv = regions["gtv"]
    inside = on_grid_of(gtv, series.grid, "the series")
    if VOXEL in regions:
        # What the method takes from the GTV (arrival, baseline) stays that of the map.
        shown = on_grid_of(regions[VOXEL], series.grid, "the series")
        both = inside | shown
        return Voxels(series, both, inside[both], series.voxels(both), shown[both], regions[VOXEL].name)
    if params.extent == "whole_image":
        everywhere = np.ones(inside.shape, bool)
        # No copy: a whole dynamic series is the largest thing in memory.
        flat = inside.ravel()
        return Voxels(series, everywhere, flat, series.frames.reshape(series.count, -1), flat, gtv.name)
    spacing = tuple(reversed(series.grid.GetSpacing()))
    mask = ndimage.distance_transform_edt(~inside, sampling=spacing) <= params.fit_margin_mm
    return Voxels(series, mask, inside[mask], series.voxels(mask), inside[mask], gtv.name)


def frames_of(series: TimeSeries) -> Frames:
    """Frame times for the kinetic models: averaged frames where they have a length, instants where not."""
    if (series.frame_duration_s > 0).all():
        return Frames.from_start_duration(series.frame_start_s, series.frame_duration_s, "s")
    return Frames.instants(series.frame_start_s, "s")


def fit_map(
    voxels: Voxels,
    result: FitResult,
    main: str,
    quantities: Mapping[str, tuple[str, str]],
    operation: str,
    *,
    threshold: tuple[float, str, str] | None = None,
    falls: bool = False,
    warnings: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
    curves: tuple[FitCurve, ...] = (),
    surrogate: bool = False,
) -> HypoxiaMap:
    """Maps of a fit: the main one, and in ``extra`` the others, all standard errors, AIC and BIC.

    Parameters
    ----------
    main : str
        Parameter that is the map.
    quantities : mapping
        (quantity, UCUM unit) of each parameter to hand out; the main one among them.
    threshold : (value, comparison, source), optional
        Only where published; else NaN with a warning.
    falls : bool
        True for a quantity that is low in hypoxia, so that the comparison without a threshold is ``"<"``.

    Raises
    ------
    InputError
        If no voxel of the GTV has a value.
    """
    if not np.isfinite(result.values[main][voxels.gtv]).any():
        reasons = " ".join(code_warnings(result.code, voxels.gtv)) or "Its curves were not used."
        raise InputError(f"{quantities[main][0]}: no voxel of the GTV has a value. {reasons}", "Check series and GTV.")
    extra = {}
    for name, (quantity, unit) in quantities.items():
        if name in result.values and name != main:
            extra[name] = voxels.volume(result.values[name], quantity, unit, operation)
        if name != main and np.isfinite(result.errors.get(name, np.nan)).any():
            text = f"standard error of {quantity}"
            extra[f"{name}_error"] = voxels.volume(result.errors[name], text, unit, operation)
    quantity, unit = quantities[main]
    # A fit error may be infinite (undetermined): a map holds numbers or NaN.
    error = np.where(np.isfinite(result.errors[main]), result.errors[main], np.nan)
    known = bool(np.isfinite(error).any())
    warnings = [*warnings, *_few_frames_note(result.freedom if known else 0)]
    spread = voxels.volume(error, f"standard error of {quantity}", unit, operation) if known else None
    value, comparison, source = threshold or (float("nan"), "<" if falls else ">", NO_THRESHOLD)
    notes = [*warnings, *voxels.series.facts.get("motion_warnings", ()), *code_warnings(result.code, voxels.gtv)]
    return HypoxiaMap(
        voxels.volume(result.values[main], quantity, unit, operation),
        value, comparison, source, surrogate,
        spread,
        voxels.grid_array(result.code.astype(np.uint8), fill=int(FitCode.OUTSIDE)),
        tuple(notes if threshold else [*notes, NO_THRESHOLD_WARNING]),
        {**(details or {}), "voxels_by_code": result.count(), "computed_on": result.device}, extra, curves,
    )  # fmt: skip


def _few_frames_note(freedom: int) -> list[str]:
    """What standard errors from few frames mean: Student's t and not the normal distribution."""
    if not 0 < freedom < MANY_FREEDOM:
        return []
    one, two = (1 - 2 * special.stdtr(freedom, -limit) for limit in (1.0, 1.96))
    return [
        f"The standard errors rest on {freedom} value(s) beyond the number of parameters: {100 * one:.0f} % of them "
        f"cover the truth once and {100 * two:.0f} % 1.96 times, not 68 % and 95 %."
    ]


def plain_result(
    values: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray], code: np.ndarray, units: Mapping[str, str]
) -> FitResult:
    """Maps that were computed without a fit, as a ``FitResult``; without errors where none are known."""
    nothing = np.full(code.shape, np.nan)
    every = {name: errors.get(name, nothing) for name in values}
    return FitResult(values, every, code, nothing, nothing, nothing, units, "cpu, float64")


def in_blocks(function: Any, *arrays: np.ndarray, block: int = 65536) -> list[np.ndarray]:
    """Apply a function to blocks of voxels (last axis) and join what it returns: memory stays bounded."""
    count = arrays[0].shape[-1]
    joined: list[np.ndarray] = []
    for k in range(0, count, block):
        found = function(*(a[..., k : k + block] for a in arrays))
        if not joined:
            joined = [np.empty((*part.shape[:-1], count), part.dtype) for part in found]
        for whole, part in zip(joined, found, strict=True):
            whole[..., k : k + block] = part
    return joined


def code_warnings(code: np.ndarray, gtv: np.ndarray) -> list[str]:
    """How many voxels of the GTV have no value or a doubtful one, and why."""
    inside = code[gtv]
    notes = []
    for kind, text in CODE_TEXT.items():
        count = int((inside == kind).sum())
        if count:
            what = "without a value" if kind in NO_VALUES else "doubtful"
            notes.append(f"{count} of {inside.size} voxels of the GTV ({100 * count / inside.size:.1f} %) are {what}: "
                         f"{text}.")  # fmt: skip
    return notes


def curve_of(
    name: str, x: np.ndarray, measured: np.ndarray, fitted: np.ndarray, x_label: str, y_label: str
) -> FitCurve:
    """A curve for plots and reports."""

    def plain(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(v) for v in values)

    return FitCurve(name, plain(x), plain(measured), plain(fitted), x_label, y_label)


def on_grid_of(region: Region, grid: sitk.Image, what: str) -> np.ndarray:
    """Boolean array of a region, refused on another grid or when empty.

    Raises
    ------
    GeometryError
        Another grid.
    InputError
        No voxel.
    """
    require_same_grid(region.mask, grid, f"{region.name} and {what}")
    inside = region.array
    if not inside.any():
        raise InputError(f"{region.name} holds no voxel of {what}.", "Draw it inside the field of view.")
    return inside
