"""NIfTI with a BIDS-style JSON sidecar: PET and MRI series and maps, in and out.

SimpleITK turns NIfTI's RAS into LPS millimetres; nothing else here touches the geometry. NIfTI knows no frame of
reference, so an image read here has an empty UID and must be registered, or stated to share the planning frame.

BIDS fields (bids-specification, PET and MRI): times in seconds except where their name says otherwise.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import InputError, OutputError, RequestError
from .suv import MAXIMUM_WEIGHT_KG, POSSIBLE_ACTIVITY_MBQ, decay_factor, suvbw_factor
from .timeseries import PARAMETERS, UNSTATED, ParameterSeries, TimeSeries, Timing
from .volume import Volume

PET_UNITS = {"bq/ml": 1.0, "kbq/ml": 1e3, "mbq/ml": 1e6}
SUV_UNIT = "g/ml"
_ACTIVITY_UNITS = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9}
_TRACERS = (("miso", "FMISO"), ("faza", "FAZA"), ("hx4", "HX4"), ("ef5", "EF5"), ("atsm", "Cu-ATSM"), ("fdg", "FDG"))
_MR_FIELDS = {  # BIDS in seconds or degrees; facts of this software
    "RepetitionTime": ("repetition_time_ms", 1000.0), "RepetitionTimeExcitation": ("repetition_time_ms", 1000.0),
    "EchoTime": ("echo_time_ms", 1000.0), "FlipAngle": ("flip_angle_deg", 1.0),
    "MagneticFieldStrength": ("field_strength_t", 1.0), "InversionTime": ("inversion_time_ms", 1000.0),
}  # fmt: skip
_LONGEST_MR_TIME_S = 30.0
_NIFTI_1, _NIFTI_2 = 348, 540  # sizes of the headers, with which the files begin
_NIFTI_FLOATS = {16: "f4", 64: "f8"}  # data types of the header that can hold NaN


def read_nifti_volume(path: Path, quantity: str, unit: str, frame_of_reference_uid: str = "") -> Volume:
    """Read a three-dimensional NIfTI as a Volume whose quantity and unit the caller states.

    Raises
    ------
    InputError
        If it cannot be read or is not three-dimensional.
    """
    image = _read_image(path)
    if image.GetDimension() != 3:
        raise InputError(f"{path.name} has {image.GetDimension()} dimensions.", "Give a three-dimensional image.")
    return Volume(
        sitk.Cast(image, sitk.sitkFloat32), quantity, unit, frame_of_reference_uid, (), (f"read {path.name}",),
        {"file": path.name, **_mr_facts(read_sidecar(path, required=False), path)},
    )  # fmt: skip


def read_nifti_pet(path: Path, weight_kg: float | None = None, frame_of_reference_uid: str = "") -> TimeSeries:
    """Read a dynamic (or static) BIDS PET.

    SUVbw (g/ml) where body weight and injected activity are known, else activity concentration (Bq/ml). Voxels must be
    decay corrected; ImageDecayCorrectionTime (s after TimeZero) and InjectionStart bring them to the injection.

    Parameters
    ----------
    weight_kg : float or None
        Body weight; None: ``BodyWeight`` of the sidecar, if there.

    Raises
    ------
    InputError
        If the sidecar is missing, lacks FrameTimesStart, FrameDuration or Units, or does not fit the image.
    """
    facts, frames, grid = _read_series(path)
    start = _numbers(facts, "FrameTimesStart", path)
    duration = _numbers(facts, "FrameDuration", path)
    unit = str(facts.get("Units", ""))
    in_suv = unit.lower() == SUV_UNIT
    if unit.lower() not in PET_UNITS and not in_suv:
        raise InputError(
            f"{path.name}: Units is {unit or 'absent'}.", f"Known: {', '.join(PET_UNITS)}, {SUV_UNIT} (SUVbw)."
        )
    frames *= np.float32(PET_UNITS.get(unit.lower(), 1.0))
    zero = "start of the first frame" if facts.get("InjectionStart") is None else "injection"
    if zero != "injection" and not (in_suv and len(frames) == 1):
        raise InputError(
            f"{sidecar_of(path).name}: InjectionStart is missing.",
            "State it in seconds after TimeZero (0 where TimeZero is the injection), as BIDS requires.",
        )
    injected_s = _seconds(facts, "InjectionStart", path)
    known = _pet_facts(facts, path, weight_kg)
    known |= {"time_zero": zero, "time_source": "FrameTimesStart and FrameDuration, s (BIDS)"}
    quantity, unit, operations = "Activity concentration", "Bq/ml", [f"read {path.name}, {len(frames)} frames"]
    weight, activity = known["weight_kg"], known["injected_activity_mbq"]
    if in_suv:
        quantity, unit = "SUVbw", SUV_UNIT
        operations.append("already SUVbw, as Units says")
    elif weight and activity:
        factor = suvbw_factor(weight, activity * 1e6) / _decay_since_injection(facts, injected_s, known, path)
        frames *= np.float32(factor)
        quantity, unit = "SUVbw", SUV_UNIT
        known["suv_factors"] = [factor] * len(frames)
        operations.append(f"Bq/ml to SUVbw, factor {factor:.6g}")
    return TimeSeries(
        frames=frames, grid=grid, quantity=quantity, unit=unit, frame_of_reference_uid=frame_of_reference_uid,
        operations=tuple(operations), facts=known, frame_start_s=start - injected_s, frame_duration_s=duration,
    )  # fmt: skip


def read_nifti_dynamic_mr(
    path: Path,
    timing: Timing = UNSTATED,
    frame_of_reference_uid: str = "",
) -> TimeSeries:
    """Read a dynamic MRI (DCE, DSC, OE) as instants.

    Times in turn: ``timing.frame_interval_s``, ``VolumeTiming`` or ``FrameTimesStart`` of the sidecar (s),
    ``TemporalResolution`` (s); the RepetitionTime of the excitation and the fourth spacing of the file are no times.

    Raises
    ------
    InputError
        If no field tells the times, naming what to state.
    """
    facts, frames, grid = _read_series(path)
    count = len(frames)
    if timing.frame_interval_s is not None:
        start, source = np.arange(count) * timing.frame_interval_s, f"stated: {timing.frame_interval_s:g} s"
    elif name := next((n for n in ("VolumeTiming", "FrameTimesStart") if n in facts), ""):
        start, source = _numbers(facts, name, path), f"{name}, s (BIDS)"
    elif "TemporalResolution" in facts:
        step = float(facts["TemporalResolution"])
        start, source = np.arange(count) * step, f"TemporalResolution {step:g} s"
    else:
        raise InputError(
            f"{path.name}: {count} frames, and the sidecar has no VolumeTiming, FrameTimesStart or TemporalResolution.",
            "Add one in seconds, or state the seconds from frame to frame (frame_interval_s).",
        )
    known = {**_mr_facts(facts, path), "file": path.name, "time_zero": "first frame", "time_source": source}
    return TimeSeries(
        frames=frames, grid=grid, quantity="MR signal", unit="[arb'U]", facts=known,
        frame_of_reference_uid=frame_of_reference_uid, operations=(f"read {path.name}, {count} frames",),
        frame_start_s=start - start[:1].sum(), frame_duration_s=np.zeros(count),
    )  # fmt: skip


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
    facts: Mapping[str, Any] = {}
    for path in paths:
        facts, frames, own = _read_series(path)
        found = _values_of(facts, path, parameter)
        if len(found) != len(frames):
            raise InputError(f"{path.name}: {len(frames)} images, {len(found)} {parameter} values.", "Give one each.")
        if grid is not None and (own.GetSize() != grid.GetSize() or not np.allclose(own.GetOrigin(), grid.GetOrigin())):
            raise InputError(f"{path.name} lies on another grid than {paths[0].name}.", "Resample it first.")
        grid = own
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
        facts={**_mr_facts(facts, paths[0]), "file": paths[0].name}, frame_of_reference_uid=frame_of_reference_uid,
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


def _read_image(path: Path) -> sitk.Image:
    """Image in LPS millimetres."""
    try:
        image = sitk.ReadImage(str(path))
        return _with_missing_values(path, image)
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} cannot be read: {reason}.", "Give a NIfTI file (.nii, .nii.gz).") from error


def _with_missing_values(path: Path, image: sitk.Image) -> sitk.Image:
    """The image with NaN where the file holds no finite value: ITK's NIfTI reader turns them into zeros, unsaid."""
    if image.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        return image
    values = sitk.GetArrayFromImage(image)
    if (values != 0).all():
        return image
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        raw = file.read()
    order = next((o for o in "<>" if struct.unpack_from(o + "i", raw)[0] in (_NIFTI_1, _NIFTI_2)), "")
    if not order:
        return image
    first = struct.unpack_from(order + "i", raw)[0] == _NIFTI_1
    kind = struct.unpack_from(order + "h", raw, 70 if first else 12)[0]
    offset = int(struct.unpack_from(order + ("f" if first else "q"), raw, 108 if first else 168)[0])
    if kind not in _NIFTI_FLOATS or len(raw) < offset + values.size * int(_NIFTI_FLOATS[kind][1]):
        return image
    stored = np.frombuffer(raw, order + _NIFTI_FLOATS[kind], values.size, offset)
    missing = ~np.isfinite(stored)
    if not missing.any():
        return image
    values.reshape(-1)[missing] = np.nan
    restored = sitk.GetImageFromArray(values, isVector=False)
    restored.CopyInformation(image)
    return restored


def _read_series(path: Path) -> tuple[Mapping[str, Any], np.ndarray, sitk.Image]:
    """Sidecar, frames (t, z, y, x) float32 and the grid of one frame."""
    facts, image = read_sidecar(path), _read_image(path)
    if image.GetDimension() not in (3, 4) or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path.name} has {image.GetDimension()} dimensions.", "Give a 3D or 4D scalar image.")
    array = np.array(sitk.GetArrayViewFromImage(image), dtype=np.float32)
    first = image[:, :, :, 0] if image.GetDimension() == 4 else image
    return facts, array if array.ndim == 4 else array[None], sitk.Cast(first * 0, sitk.sitkUInt8)


def _numbers(facts: Mapping[str, Any], name: str, path: Path) -> np.ndarray:
    """A list of numbers of the sidecar."""
    value = facts.get(name)
    try:
        return np.atleast_1d(np.array(value, dtype=float)) if value is not None else _missing(name, path)
    except (TypeError, ValueError):
        raise InputError(f"{sidecar_of(path).name}: {name} is {value!r}.", "It must hold numbers.") from None


def _missing(name: str, path: Path) -> np.ndarray:
    raise InputError(f"{sidecar_of(path).name}: {name} is missing.", "Add it as BIDS says, times in seconds.")


def _pet_facts(facts: Mapping[str, Any], path: Path, weight_kg: float | None) -> dict[str, Any]:
    """Tracer, weight and activity of a BIDS PET sidecar."""
    name = str(facts.get("TracerName", ""))
    activity = facts.get("InjectedRadioactivity")
    unit = str(facts.get("InjectedRadioactivityUnits", ""))
    if activity is not None and unit.lower() not in _ACTIVITY_UNITS:
        raise InputError(
            f"{sidecar_of(path).name}: InjectedRadioactivityUnits is {unit or 'absent'}.", "State Bq, kBq, MBq or GBq."
        )
    tracer = next((word for key, word in _TRACERS if key in name.lower()), "unknown")
    weight = weight_kg if weight_kg is not None else facts.get("BodyWeight")
    activity_mbq = float(activity) * _ACTIVITY_UNITS[unit.lower()] / 1e6 if activity else None
    if activity_mbq and not POSSIBLE_ACTIVITY_MBQ[0] <= activity_mbq <= POSSIBLE_ACTIVITY_MBQ[1]:
        raise InputError(
            f"{sidecar_of(path).name}: InjectedRadioactivity is {activity_mbq:g} MBq, which nobody injects for PET.",
            "Check InjectedRadioactivityUnits.",
        )
    if weight and float(weight) > MAXIMUM_WEIGHT_KG:
        raise InputError(f"{sidecar_of(path).name}: BodyWeight is {float(weight):g} kg.", "Give kilograms, not grams.")
    return {
        "file": path.name, "tracer": tracer, "tracer_source": f"TracerName {name!r}",
        "weight_kg": float(weight) if weight else None,
        "injected_activity_mbq": activity_mbq,
        "half_life_s": facts.get("RadionuclideHalfLife"), "units_in_file": str(facts.get("Units", "")),
    }  # fmt: skip


def _seconds(facts: Mapping[str, Any], name: str, path: Path) -> float:
    """A number of seconds of a sidecar; zero where it is missing.

    Raises
    ------
    InputError
        If it is no number.
    """
    value = facts.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{sidecar_of(path).name}: {name} is {value!r}.", "Give a number of seconds.")
    return float(value or 0.0)


def _decay_since_injection(facts: Mapping[str, Any], injected_s: float, known: dict[str, Any], path: Path) -> float:
    """Activity left at the moment the voxels are corrected to, as a fraction of that at injection."""
    if facts.get("ImageDecayCorrected") is not True or "ImageDecayCorrectionTime" not in facts:
        raise InputError(
            f"{sidecar_of(path).name}: ImageDecayCorrected is {facts.get('ImageDecayCorrected', 'absent')}, "
            f"ImageDecayCorrectionTime {facts.get('ImageDecayCorrectionTime', 'absent')}.",
            "SUV needs decay-corrected voxels and the time they are corrected to, in seconds after TimeZero.",
        )
    elapsed_s = _seconds(facts, "ImageDecayCorrectionTime", path) - injected_s
    if elapsed_s == 0:
        return 1.0
    if not known["half_life_s"]:
        raise InputError(f"{sidecar_of(path).name}: RadionuclideHalfLife is missing.", "Add it in seconds.")
    return decay_factor(elapsed_s, float(known["half_life_s"]))


def _mr_facts(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Sequence parameters of a BIDS MRI sidecar in the units of this software."""
    found = {}
    for name, (key, factor) in _MR_FIELDS.items():
        value = facts.get(name)
        if isinstance(value, int | float):
            if factor == 1000.0 and value > _LONGEST_MR_TIME_S:
                raise InputError(
                    f"{sidecar_of(path).name}: {name} is {value:g} s.", "BIDS has seconds: divide milliseconds by 1000."
                )
            found[key] = float(value) * factor
    return found


def _values_of(facts: Mapping[str, Any], path: Path, parameter: str) -> np.ndarray:
    """Values of a parameter for the images of one file, in the unit of ``PARAMETERS``."""
    if parameter == "b-value":
        bval = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".bval")
        try:
            return np.array(bval.read_text(encoding="utf-8").replace(",", " ").split(), dtype=float)
        except (OSError, ValueError) as error:
            raise InputError(f"{bval.name}: {error}.", "Put a .bval file beside the image.") from error
    name, factor = {"echo time": ("EchoTime", 1000.0), "flip angle": ("FlipAngle", 1.0),
                    "inversion time": ("InversionTime", 1000.0)}[parameter]  # fmt: skip
    _mr_facts(facts, path)
    return _numbers(facts, name, path) * factor


def _mean(images: np.ndarray, geometric: bool) -> np.ndarray:
    """Mean of the images at one value; geometric for diffusion directions."""
    if len(images) == 1 or not geometric:
        return images.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.log(np.where(images > 0, images, np.nan)).mean(axis=0))
