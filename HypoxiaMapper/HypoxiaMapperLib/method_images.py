"""An image as a method takes it (``InputSpec.kind``): a volume or a series of frames, from DICOM or NIfTI files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .dicomio.dynamic import read_dynamic_pet, read_parameter_series, read_time_series
from .dicomio.model import SeriesInfo
from .dicomio.pet import read_pet_series
from .dicomio.series import read_image_series
from .errors import RequestError
from .methods import InputSpec, Progress
from .nifti_pet import read_nifti_pet
from .niftiio import read_nifti_dynamic_mr, read_nifti_parameter, read_nifti_volume, read_sidecar
from .timeseries import TimeSeries, Timing
from .volume import Volume

NIFTI_FRAME = "NIfTI world coordinates"
"""NIfTI knows no frame of reference; images of one run share this name for it."""
UNSTATED_UNIT = "[arb'U]"


def read_dicom_input(infos: Sequence[SeriesInfo], spec: InputSpec, timing: Timing, progress: Progress) -> Any:
    """Volume or series of an input from DICOM.

    Raises
    ------
    HypoxiaError
        As the readers say; several series for a single image.
    """
    if spec.kind == "volume":
        if len(infos) > 1:
            raise RequestError(f"Input {spec.key} is one image; {len(infos)} series are named.", "Name one.")
        return (read_pet_series if spec.modality == "PT" else read_image_series)(infos[0]).volume
    if spec.kind == "time":
        return (read_dynamic_pet if spec.modality == "PT" else read_time_series)(infos, timing, progress)
    return read_parameter_series(infos, spec.kind, progress)


def read_nifti_input(paths: Sequence[Path], spec: InputSpec, timing: Timing) -> Any:
    """Volume or series of an input from NIfTI; quantity and unit of a map come from its sidecar.

    Raises
    ------
    HypoxiaError
        As the readers say; several files for a single image.
    """
    if spec.kind not in ("volume", "time"):
        return read_nifti_parameter(list(paths), spec.kind, NIFTI_FRAME)
    if len(paths) > 1:
        raise RequestError(f"Input {spec.key} is one file; {len(paths)} are named.", "Give one 4D file.")
    if spec.kind == "time":
        if spec.modality == "PT":
            return read_nifti_pet(paths[0], None, NIFTI_FRAME, timing)
        return read_nifti_dynamic_mr(paths[0], timing, NIFTI_FRAME)
    if spec.modality == "PT":
        return _one_frame(read_nifti_pet(paths[0], None, NIFTI_FRAME, timing), paths[0], spec)
    facts = read_sidecar(paths[0], required=False)
    unit = str(facts.get("Units", "") or UNSTATED_UNIT)
    return read_nifti_volume(paths[0], str(facts.get("Quantity", "") or spec.quantity), unit, NIFTI_FRAME)


def _one_frame(series: TimeSeries, path: Path, spec: InputSpec) -> Volume:
    """The image of a file with a single frame, with its minutes after injection."""
    if series.count > 1:
        raise RequestError(
            f"{path.name} has {series.count} frames; input {spec.key} is a single image.",
            "Take a method for series (late_ratio: the late frames' ratio), or cut the late frames out.",
        )
    volume = series.frame(0)
    minutes = series.frame_start_s[0] / 60 if series.facts["time_zero"] == "injection" else None
    return replace(volume, facts={**volume.facts, "minutes_after_injection": minutes})


def is_series(info: SeriesInfo) -> bool:
    """True if a scanned series holds several frames."""
    return bool(info.details.get("doubled_positions") or info.details.get("frames_in_file"))


def stated_tracer(facts: Any, stated: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Facts with the tracer the user states where the file does not say it, and what to note.

    Raises
    ------
    RequestError
        If the file names another tracer.
    """
    in_file = str(facts.get("tracer", "unknown"))
    notes = tuple(facts.get("warnings", ()))
    if not stated or stated == in_file:
        return dict(facts), notes
    if in_file != "unknown":
        raise RequestError(f"The PET is {in_file}, not {stated}.", "Leave out --tracer, or choose another PET.")
    return (
        {**facts, "tracer": stated, "tracer_source": "stated by the user"},
        (*notes, f"The PET's tags do not name the tracer; {stated} was stated by the user."),
    )
