"""Dynamic PET and MR, multi-echo, multi-flip-angle and diffusion series: frames told apart, put in order and timed.

The way through: headers -> slices grouped into frames (``grouping``) -> one grid -> times (``frame_times``) -> voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ..errors import GeometryError, InputError
from ..methods._base import Progress, no_progress
from ..timeseries import SAME_PROTOCOL, UNSTATED, ParameterSeries, TimeSeries, Timing, require_measured
from ..volume import same_grid
from .frame_times import FrameTimes, mr_times, pet_times
from .frames import image_names, read_headers, read_images
from .grouping import PARAMETER_KEYWORDS, Slice, by_parameter, by_time, parameter_value
from .model import SeriesInfo
from .pet import suv_factors
from .pet_dose import require_one_injection
from .pet_time import carry_midnight
from .philips_scale import display_factors
from .series import plane_of, quantity_of, require_one_frame, rescale_of
from .stack import build_grid


@dataclass(frozen=True)
class _Frames:
    """Slices of every frame in order along their normal, and their common grid."""

    slices: tuple[tuple[Slice, ...], ...]
    grid: sitk.Image
    what: str


def read_time_series(
    infos: Sequence[SeriesInfo],
    timing: Timing = UNSTATED,
    progress: Progress = no_progress,
) -> TimeSeries:
    """Read a dynamic MR or PET as its files state it, rescale applied; PET in the unit of the file.

    Parameters
    ----------
    infos : sequence of SeriesInfo
        One series that holds all frames, or one series per frame.
    timing : Timing
        What the user states where the files cannot say it.

    Returns
    -------
    TimeSeries
        Time zero is the injection of a PET where known, else the start of the first frame (``facts["time_zero"]``);
        ``facts["time_source"]`` says which entries the times came from and how they were read.

    Raises
    ------
    InputError
        Frames that cannot be told apart, incomplete, overlapping, out of order or without times; the hint names what
        to state.
    GeometryError
        Frames on different grids.
    """
    info, what = infos[0], _describe(infos)
    slices, notes = _slices(infos)
    frames = _on_one_grid(by_time(slices, what), what)
    names = _PET_PROTOCOL if info.role == "pet" else ("ImageType", *_PROTOCOL)
    _require_one_protocol(frames, names, "Send the frames of one protocol only; for several echo times or flip angles "
                          "use a parameter series.")  # fmt: skip
    times = _times(info, frames, timing)
    array = _read_voxels(frames, progress)
    if info.role == "mr":
        require_measured(array, what)
    quantity, unit = quantity_of(info, frames.slices[0][0].header)
    return TimeSeries(
        frames=array, frame_start_s=times.start_s, frame_duration_s=times.duration_s,
        **_common(infos, frames, quantity, unit, {**_sequence(frames.slices[0][0].header), **times.facts,
                                                  "warnings": (*notes, *times.warnings)}),
    )  # fmt: skip


def read_dynamic_pet(
    infos: Sequence[SeriesInfo],
    timing: Timing = UNSTATED,
    progress: Progress = no_progress,
) -> TimeSeries:
    """Read a dynamic PET as SUVbw (g/ml), every frame by the rules of ``dicomio.pet``.

    Rescale, unit, decay correction and its reference are each frame's own; weight, dose, half-life and injection must
    be the same in all. ``facts`` holds those of ``read_pet_series`` for the last frame, ``suv_factors`` per frame (g/ml
    per stored unit) and ``warnings`` of all frames. Parameters and errors as ``read_time_series``.
    """
    info, what = infos[0], _describe(infos)
    if info.role != "pet":
        raise InputError(f"{what} is no PET.", "Choose a PET series.")
    slices, said = _slices(infos)
    _require_ungated(slices, what)
    frames = _on_one_grid(by_time(slices, what), what)
    try:
        require_one_injection([s.header for group in frames.slices for s in group], "frames")
    except InputError as error:
        raise InputError(f"{what}: {error.message}", error.hint) from None
    times = _times(info, frames, timing)
    factors = np.empty((len(frames.slices), len(frames.slices[0])))
    references = [group[0].header.get("FrameReferenceTime") for group in frames.slices]
    on_one_axis = None not in references and len(set(references)) == len(references)
    facts: dict[str, Any] = {}
    notes = [*said, *times.warnings]
    for k, group in enumerate(frames.slices):
        try:
            factors[k], facts = suv_factors([s.header for s in group], on_one_axis)
        except InputError as error:
            raise InputError(f"{what}, frame {k + 1}: {error.message}", error.hint) from None
        notes += facts.get("warnings", ())
    array = _read_voxels(frames, progress)
    array *= factors[:, :, None, None].astype(np.float32)
    facts = {**facts, **times.facts, "suv_factors": factors[:, 0].tolist(), "warnings": tuple(dict.fromkeys(notes))}
    return TimeSeries(
        frames=array, frame_start_s=times.start_s, frame_duration_s=times.duration_s,
        **_common(infos, frames, "SUVbw", "g/ml", facts),
    )  # fmt: skip


def read_parameter_series(
    infos: Sequence[SeriesInfo], parameter: str, progress: Progress = no_progress
) -> ParameterSeries:
    """Read a series measured at several echo times (ms), flip angles (deg), b-values (s/mm2) or inversion times (ms).

    Magnitude images are taken where phase images lie beside them. Several diffusion directions of one b-value become
    their geometric mean, the signal of the mean diffusivity; a trace image from the scanner goes before them.

    Parameters
    ----------
    infos : sequence of SeriesInfo
        One series that holds all values, or one series per value.
    parameter : str
        One of ``timeseries.PARAMETERS``.

    Raises
    ------
    InputError
        If slices do not state the value, or hold fewer than two values, or do not have the same slices at each.
    GeometryError
        Frames on different grids.
    """
    what = _describe(infos)
    groups = by_parameter(_slices(infos)[0], parameter, what)
    frames = _on_one_grid([group for _, repeats in groups for group in repeats], what)
    names = [name for name in _PROTOCOL if name != PARAMETER_KEYWORDS[parameter][0]]
    _require_one_protocol(frames, names, f"Only the {parameter} may change: give images of one protocol.")
    array = _read_voxels(frames, progress)
    require_measured(array, what)
    values = np.array([value for value, _ in groups])
    counts = [len(repeats) for _, repeats in groups]
    operations = f"read {len(values)} {parameter} values, rescale slope and intercept per slice"
    if max(counts) > 1:
        array = _average(array, counts, geometric=parameter == "b-value")
        operations += f"; {'geometric ' if parameter == 'b-value' else ''}mean of {counts} images per value"
    header = frames.slices[0][0].header
    facts = {**_sequence(header), "parameter_source": parameter_value(header, parameter)[1]}
    quantity, unit = quantity_of(infos[0], header)
    common = _common(infos, frames, quantity, unit, facts)
    common["operations"] = (operations,)
    return ParameterSeries(frames=array, parameter=parameter, values=values, **common)


def _describe(infos: Sequence[SeriesInfo]) -> str:
    """The series in a message."""
    if not infos:
        raise InputError("No series was given.", "Name one.")
    return f"{infos[0].modality} series " + " + ".join(repr(info.description) for info in infos)


def _slices(infos: Sequence[SeriesInfo]) -> tuple[list[Slice], tuple[str, ...]]:
    """Every image of the series, headers only, and what had to be put right in them."""
    slices = []
    for path in dict.fromkeys(path for info in infos for path in info.files):
        headers = read_headers(path)
        names = image_names([path], [len(headers)])
        slices += [Slice(h, path, k, plane_of(h, n)) for k, (h, n) in enumerate(zip(headers, names, strict=True))]
    require_one_frame([s.header for s in slices], [s.plane.name for s in slices], _describe(infos))
    return slices, carry_midnight([s.header for s in slices])


def _on_one_grid(groups: Sequence[Sequence[Slice]], what: str) -> _Frames:
    """Put the slices of each frame in order and check that all frames share one grid."""
    ordered, first = [], None
    for k, group in enumerate(groups):
        grid = build_grid([s.plane for s in group], f"{what}, frame {k + 1}")
        image = sitk.Image(grid.size, sitk.sitkUInt8)
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.origin_mm)
        image.SetDirection(grid.direction)
        if first is not None and not same_grid(first, image):
            raise GeometryError(f"{what}: frame {k + 1} lies on another grid than frame 1.", "Split the series.")
        first = image if first is None else first
        ordered.append(tuple(group[i] for i in grid.order))
    if first is None:
        raise InputError(f"{what} has no frames.", "Scan the folder again.")
    return _Frames(tuple(ordered), first, what)


def _times(info: SeriesInfo, frames: _Frames, timing: Timing) -> FrameTimes:
    """When the frames were measured."""
    headers: list[list[Dataset]] = [[s.header for s in group] for group in frames.slices]
    times = (pet_times if info.role == "pet" else mr_times)(headers, timing, frames.what)
    entry = "NumberOfTimeSlices" if info.role == "pet" else "NumberOfTemporalPositions"
    planned = int(headers[0][0].get(entry) or 0)
    if planned > len(headers):
        note = f"{entry} says {planned} frames, {len(headers)} are there: some were not sent."
        times = replace(times, warnings=(*times.warnings, note))
    return replace(times, facts={**times.facts, "time_unit_stated": bool(timing.time_unit)})


def _require_one_protocol(frames: _Frames, names: Sequence[str], hint: str) -> None:
    """Refuse frames that were measured differently: their signals do not belong to one curve."""
    for name in names:
        found: dict[str, int] = {}
        for k, group in enumerate(frames.slices):
            for value in {str(s.header.get(name, "")) for s in group}:
                found.setdefault(value or "absent", k + 1)
        if len(found) > 1 and not _nearly_equal(list(found)):
            shown = ", ".join(f"{value} (frame {k})" for value, k in list(found.items())[:3])
            raise InputError(f"{frames.what}: {name} differs between frames: {shown}.", hint)


def _require_ungated(slices: Sequence[Slice], what: str) -> None:
    """Refuse gates: phases of heart or breath are no frames of time."""
    kinds = {
        str((s.header.get("SeriesType") or [""])[0]) for s in slices if not isinstance(s.header.get("SeriesType"), str)
    }
    if "GATED" in kinds:
        raise InputError(f"{what}: Series Type (0054,1000) says GATED: its images are gates, not frames of time.",
                         "Choose the dynamic reconstruction.")  # fmt: skip


def _nearly_equal(texts: Sequence[str]) -> bool:
    """True for numbers within a hundredth of each other: scanners write 4.98 and 5.0 for one repetition time."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return False
    return max(numbers) - min(numbers) <= SAME_PROTOCOL * max(abs(n) for n in numbers)


def _read_voxels(frames: _Frames, progress: Progress) -> np.ndarray:
    """Voxels (frames, z, y, x) float32, rescaled; every file is decoded once."""
    size = frames.grid.GetSize()
    array = np.empty((len(frames.slices), size[2], size[1], size[0]), np.float32)
    factors = display_factors([s.header for group in frames.slices for s in group], frames.what).reshape(
        array.shape[:2]
    )
    places: dict[Path, dict[int, tuple[int, int, Slice]]] = {}
    for t, group in enumerate(frames.slices):
        for z, item in enumerate(group):
            places.setdefault(item.path, {})[item.index] = (t, z, item)
    for number, (path, wanted) in enumerate(places.items()):
        if number % 50 == 0:
            progress(number / len(places), f"reading {frames.what}: {number} of {len(places)} files")
        for index, (_, pixels) in enumerate(read_images(path)):
            if index in wanted:
                t, z, item = wanted[index]
                slope, intercept = rescale_of(item.header, item.plane.name)
                array[t, z] = (pixels * slope + intercept) / factors[t, z]  # in double precision, rounded once
    return array


def _average(array: np.ndarray, counts: Sequence[int], geometric: bool) -> np.ndarray:
    """Mean of the repeats of each value; geometric where all are positive, NaN elsewhere."""
    out = np.empty((len(counts), *array.shape[1:]), np.float32)
    for k, (first, count) in enumerate(zip(np.cumsum([0, *counts]), counts, strict=False)):
        part = array[first : first + count]
        if geometric and count > 1:
            with np.errstate(divide="ignore", invalid="ignore"):
                out[k] = np.exp(np.log(np.where(part > 0, part, np.nan)).mean(axis=0))
        else:
            out[k] = part.mean(axis=0)
    return out


def _common(
    infos: Sequence[SeriesInfo], frames: _Frames, quantity: str, unit: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """Fields that every kind of series has."""
    header = frames.slices[0][0].header
    uids = dict.fromkeys(str(s.header.SOPInstanceUID) for group in frames.slices for s in group)
    return {
        "grid": frames.grid, "quantity": quantity, "unit": unit,
        "frame_of_reference_uid": str(header.get("FrameOfReferenceUID", "") or ""), "source_uids": tuple(uids),
        "operations": (f"read {len(frames.slices)} frames, rescale slope and intercept per slice",),
        "facts": {
            "series_uid": infos[0].series_uid, "series_description": infos[0].description,
            "modality": infos[0].modality, **facts,
        },
    }  # fmt: skip


_SEQUENCE: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
    ("repetition_time_ms", "RepetitionTime", float), ("echo_time_ms", "EchoTime", float),
    ("flip_angle_deg", "FlipAngle", float), ("field_strength_t", "MagneticFieldStrength", float),
)  # fmt: skip


_PROTOCOL = tuple(keyword for _, keyword, _ in _SEQUENCE)
_PET_PROTOCOL = ("Units", "DecayCorrection")


def _sequence(header: Dataset) -> dict[str, Any]:
    """Sequence parameters of an MR image that are present."""
    return {name: f(header.get(k)) for name, k, f in _SEQUENCE if header.get(k) not in (None, "")}
