"""NIfTI with a BIDS-style JSON sidecar: MRI series and maps in, maps out (PET: ``nifti_pet``).

``nifti_image`` turns NIfTI's RAS into LPS millimetres; nothing here touches the geometry. NIfTI knows no frame of
reference, so an image read here has an empty UID and must be registered, or stated to share the planning frame.

BIDS fields (bids-specification, MRI): times in seconds except where their name says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import InputError, OutputError, RequestError
from .nifti_image import read_nifti_image
from .timeseries import (
    LONGEST_MR_STEP_S,
    PARAMETERS,
    SAME_PROTOCOL,
    UNSTATED,
    ParameterSeries,
    TimeSeries,
    Timing,
    require_measured,
)
from .volume import Volume, same_grid

_MR_FIELDS = {  # BIDS in seconds or degrees; facts of this software
    "RepetitionTime": ("repetition_time_ms", 1000.0), "RepetitionTimeExcitation": ("repetition_time_ms", 1000.0),
    "EchoTime": ("echo_time_ms", 1000.0), "FlipAngle": ("flip_angle_deg", 1.0),
    "MagneticFieldStrength": ("field_strength_t", 1.0), "InversionTime": ("inversion_time_ms", 1000.0),
}  # fmt: skip
_LONGEST_S = {"EchoTime": 1.0, "InversionTime": 30.0, "RepetitionTime": 30.0, "RepetitionTimeExcitation": 30.0}
"""Larger numbers are milliseconds."""


def read_nifti_volume(path: Path, quantity: str, unit: str, frame_of_reference_uid: str = "") -> Volume:
    """Read a three-dimensional NIfTI as a Volume whose quantity and unit the caller states.

    Raises
    ------
    InputError
        If it cannot be read or is not three-dimensional.
    """
    image = read_nifti_image(path)
    if image.GetDimension() != 3:
        raise InputError(f"{path.name} has {image.GetDimension()} dimensions.", "Give a three-dimensional image.")
    return Volume(
        sitk.Cast(image, sitk.sitkFloat32), quantity, unit, frame_of_reference_uid, (), (f"read {path.name}",),
        {"file": path.name, **_mr_facts(read_sidecar(path, required=False), path)},
    )  # fmt: skip


def read_nifti_dynamic_mr(
    path: Path,
    timing: Timing = UNSTATED,
    frame_of_reference_uid: str = "",
) -> TimeSeries:
    """Read a dynamic MRI (DCE, DSC, OE) as instants.

    Times in turn: ``timing.frame_interval_s``; ``VolumeTiming``, ``FrameTimesStart`` or ``TemporalResolution`` of the
    sidecar, in seconds unless ``timing.time_unit`` says ms. The RepetitionTime of the excitation and the fourth spacing
    of the file are no times.

    Raises
    ------
    InputError
        If no field tells the times, naming what to state.
    """
    facts, frames, grid = read_frames(path)
    require_measured(frames, path.name)
    start, source = _mr_times(facts, path, len(frames), timing)
    known = {**_mr_facts(facts, path), "file": path.name, "time_zero": "first frame", "time_source": source}
    return TimeSeries(
        frames=frames, grid=grid, quantity="MR signal", unit="[arb'U]", facts=known,
        frame_of_reference_uid=frame_of_reference_uid, operations=(f"read {path.name}, {len(frames)} frames",),
        frame_start_s=start - start[:1].sum(), frame_duration_s=np.zeros(start.size),
    )  # fmt: skip


def _mr_times(facts: Mapping[str, Any], path: Path, count: int, timing: Timing) -> tuple[np.ndarray, str]:
    """Times of the frames in seconds and where they come from."""
    if timing.frame_interval_s is not None:
        return np.arange(count) * timing.frame_interval_s, f"stated: {timing.frame_interval_s:g} s"
    name = next((n for n in ("VolumeTiming", "FrameTimesStart", "TemporalResolution") if n in facts), "")
    if not name:
        raise InputError(
            f"{path.name}: {count} frames, and the sidecar has no VolumeTiming, FrameTimesStart or TemporalResolution.",
            "Add one in seconds, or state the seconds from frame to frame (frame_interval_s).",
        )
    values = numbers_of(facts, name, path) * (1e-3 if timing.time_unit == "ms" else 1.0)
    times = np.arange(count) * values[0] if name == "TemporalResolution" else values
    if not timing.time_unit and times.size > 1 and np.median(np.diff(times)) > LONGEST_MR_STEP_S:
        raise InputError(
            f"{sidecar_of(path).name}: {name} makes steps of {np.median(np.diff(times)):g} s from frame to frame.",
            "They are probably in ms: state the unit of times (ms), or s if it is true.",
        )
    return times, f"{name}, {timing.time_unit or 's'} ({'stated' if timing.time_unit else 'BIDS'})"


def read_nifti_parameter(paths: list[Path], parameter: str, frame_of_reference_uid: str = "") -> ParameterSeries:
    """Read several echo times, flip angles, b-values or inversion times.

    Either one file per value, whose sidecar states it (EchoTime, FlipAngle, InversionTime), or one 4D file with a
    ``.bval`` file beside it, or a list of values in the sidecar.

    Raises
    ------
    InputError
        If a value is not stated, or values and frames do not fit.
    """
    if parameter not in PARAMETERS:
        raise RequestError(f"Parameter {parameter!r} is unknown.", f"Valid: {', '.join(PARAMETERS)}.")
    stacks, values, grid = [], [], None
    facts: dict[str, Any] = {}
    for path in paths:
        sidecar_facts, frames, own = read_frames(path)
        require_measured(frames, path.name)
        found = _values_of(sidecar_facts, path, parameter)
        if len(found) != len(frames):
            raise InputError(f"{path.name}: {len(frames)} images, {len(found)} {parameter} values.", "Give one each.")
        if grid is not None and not same_grid(own, grid):
            raise InputError(f"{path.name} lies on another grid than {paths[0].name}.", "Resample it first.")
        grid, facts = own, _one_protocol(facts, _mr_facts(sidecar_facts, path), parameter, path)
        stacks.append(frames)
        values.append(found)
    if grid is None:
        raise InputError("No file was given.", "Name at least one.")
    all_values, frames = np.concatenate(values), np.concatenate(stacks)
    distinct = np.unique(np.round(all_values, 4))
    if distinct.size < 2:
        raise InputError(f"{paths[0].name}: only one {parameter}, {distinct[0]:g}.", "Name all files.")
    merged = np.stack([_mean(frames[np.isclose(all_values, v, atol=1e-4)], parameter == "b-value") for v in distinct])
    return ParameterSeries(
        frames=merged, grid=grid, quantity="MR signal", unit="[arb'U]", parameter=parameter, values=distinct,
        facts={**facts, "file": paths[0].name}, frame_of_reference_uid=frame_of_reference_uid,
        operations=(f"read {len(all_values)} images at {len(distinct)} {parameter} values",),
    )  # fmt: skip


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a Volume as ``path`` (.nii or .nii.gz) with a JSON sidecar of quantity, unit, history and facts.

    Raises
    ------
    OutputError
        If either file exists or cannot be written.
    """
    sidecar = sidecar_of(path)
    if path.exists() or sidecar.exists():
        raise OutputError(f"{path} or its JSON exists already.", "Nothing is overwritten: choose another name.")
    facts = {
        "Quantity": volume.quantity, "Units": volume.unit, "FrameOfReferenceUID": volume.frame_of_reference_uid,
        "Operations": list(volume.operations), "Facts": dict(volume.facts),
    }  # fmt: skip
    try:
        sitk.WriteImage(volume.image, str(path))
        sidecar.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")
    except (RuntimeError, OSError) as error:
        raise OutputError(f"{path} cannot be written: {error}.", "Choose another folder.") from error


def sidecar_of(path: Path) -> Path:
    """The JSON file beside a NIfTI file."""
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    return path.with_name(f"{name}.json")


def read_sidecar(path: Path, required: bool = True) -> Mapping[str, Any]:
    """The JSON sidecar of a NIfTI file; empty when it is absent and not required.

    Raises
    ------
    InputError
        If it is missing or broken.
    """
    sidecar = sidecar_of(path)
    if not sidecar.exists() and not required:
        return {}
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{sidecar.name}: {error}.", "A series needs a BIDS-style JSON sidecar beside it.") from error
    if not isinstance(facts, dict):
        raise InputError(f"{sidecar.name} is no JSON object.", "Write the fields as BIDS names them.")
    return facts


def read_frames(path: Path) -> tuple[Mapping[str, Any], np.ndarray, sitk.Image]:
    """Sidecar, frames (t, z, y, x) float32 and the grid of one frame."""
    facts, image = read_sidecar(path), read_nifti_image(path)
    if image.GetDimension() not in (3, 4) or image.GetNumberOfComponentsPerPixel() != 1:
        each = image.GetNumberOfComponentsPerPixel()
        raise InputError(
            f"{path.name} has {image.GetDimension()} dimensions and {each} value(s) per voxel.",
            "Give a 4D image whose last axis counts the frames.",
        )
    array = np.array(sitk.GetArrayViewFromImage(image), dtype=np.float32)
    first = image[:, :, :, 0] if image.GetDimension() == 4 else image
    return facts, array if array.ndim == 4 else array[None], sitk.Cast(first * 0, sitk.sitkUInt8)


def numbers_of(facts: Mapping[str, Any], name: str, path: Path) -> np.ndarray:
    """A list of numbers of the sidecar."""
    value = facts.get(name)
    try:
        found = np.atleast_1d(np.array(value, dtype=float)) if value is not None else _missing(name, path)
        if found.ndim > 1 or not found.size or not np.isfinite(found).all():
            raise ValueError
        return found
    except (TypeError, ValueError):
        raise InputError(f"{sidecar_of(path).name}: {name} is {value!r}.", "It must hold a list of numbers.") from None


def _missing(name: str, path: Path) -> np.ndarray:
    raise InputError(f"{sidecar_of(path).name}: {name} is missing.", "Add it as BIDS says, times in seconds.")


def _mr_facts(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Sequence parameters of a BIDS MRI sidecar in the units of this software."""
    found = {}
    for name, (key, factor) in _MR_FIELDS.items():
        value = facts.get(name)
        listed = value if isinstance(value, list) else [value]
        for number in listed:
            if isinstance(number, int | float) and number > _LONGEST_S.get(name, np.inf):
                raise InputError(
                    f"{sidecar_of(path).name}: {name} is {number:g} s.",
                    "BIDS has seconds: divide milliseconds by 1000.",
                )
        if isinstance(value, int | float):
            found[key] = float(value) * factor
    return found


def _values_of(facts: Mapping[str, Any], path: Path, parameter: str) -> np.ndarray:
    """Values of a parameter for the images of one file, in the unit of ``PARAMETERS``."""
    if parameter == "b-value":
        bval = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".bval")
        try:
            found = np.array(bval.read_text(encoding="utf-8").replace(",", " ").split(), dtype=float)
            if not np.isfinite(found).all():
                raise ValueError(f"b-values {found.tolist()}")
            return found
        except (OSError, ValueError) as error:
            raise InputError(f"{bval.name}: {error}.", "Put a .bval file beside the image.") from error
    name, factor = {"echo time": ("EchoTime", 1000.0), "flip angle": ("FlipAngle", 1.0),
                    "inversion time": ("InversionTime", 1000.0)}[parameter]  # fmt: skip
    _mr_facts(facts, path)
    return numbers_of(facts, name, path) * factor


def _one_protocol(known: dict[str, Any], own: dict[str, Any], parameter: str, path: Path) -> dict[str, Any]:
    """Sequence parameters of all files so far; refused where another than the one that is varied changes."""
    varied = {"echo time": "echo_time_ms", "flip angle": "flip_angle_deg", "inversion time": "inversion_time_ms"}
    for key in (set(known) & set(own)) - {varied.get(parameter)}:
        if abs(known[key] - own[key]) > SAME_PROTOCOL * max(abs(known[key]), abs(own[key])):
            raise InputError(
                f"{path.name}: {key} is {own[key]:g}, before it was {known[key]:g}.",
                f"Only the {parameter} may change: give files of one protocol.",
            )
    return {**own, **known}


def _mean(images: np.ndarray, geometric: bool) -> np.ndarray:
    """Mean of the images at one value; geometric for diffusion directions."""
    if len(images) == 1 or not geometric:
        return images.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.log(np.where(images > 0, images, np.nan)).mean(axis=0))
