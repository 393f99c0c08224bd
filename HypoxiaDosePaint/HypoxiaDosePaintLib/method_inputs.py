"""The images of a method: which series or files they are, chosen by the user or the only ones that fit, and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.dicomio.dynamic import read_dynamic_pet, read_parameter_series, read_time_series
from HypoxiaMapperLib.dicomio.model import ScanResult, SeriesInfo
from HypoxiaMapperLib.dicomio.pet import read_pet_series
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods import InputSpec, Method, Progress
from HypoxiaMapperLib.niftiio import (
    read_nifti_dynamic_mr,
    read_nifti_parameter,
    read_nifti_pet,
    read_nifti_volume,
    read_sidecar,
)
from HypoxiaMapperLib.timeseries import FrameStack, TimeSeries, correct_motion
from HypoxiaMapperLib.volume import Volume

from .request import Request

NIFTI_FRAME = "NIfTI world coordinates"
"""NIfTI knows no frame of reference; images of one run share this name for it."""
UNSTATED_UNIT = "[arb'U]"
SEPARATOR = ";"


@dataclass(frozen=True)
class MethodInput:
    """An image as a method takes it, and where it came from.

    Parameters
    ----------
    infos : tuple of SeriesInfo
        The series it was read from; one that stands for the files in case of NIfTI.
    image : Volume or FrameStack
        On its own grid.
    """

    spec: InputSpec
    infos: tuple[SeriesInfo, ...]
    image: Volume | FrameStack
    warnings: tuple[str, ...] = ()

    @property
    def shown(self) -> Volume:
        """The image to look at and to register: the last frame of a PET, the first of another series."""
        if isinstance(self.image, Volume):
            return self.image
        return self.image.frame(self.image.count - 1 if self.spec.modality == "PT" else 0)


def read_inputs(request: Request, method: Method, scan: ScanResult, progress: Progress) -> dict[str, MethodInput]:
    """Choose and read every input of a method; optional ones that are not there are left out.

    Raises
    ------
    RequestError
        An unknown key, several candidates, or a tracer that contradicts the file.
    InputError
        A required input that is missing, or an unusable one.
    """
    known = {spec.key for spec in method.inputs}
    unknown = sorted(set(request.inputs) - known)
    if unknown:
        raise RequestError(
            f"Method {method.name} has no input {', '.join(unknown)}.", f"Valid inputs: {', '.join(sorted(known))}."
        )
    chosen = {spec.key: choose_input(spec, method, scan, request) for spec in method.inputs}
    found = {}
    for number, spec in enumerate(method.inputs):
        if chosen[spec.key]:
            start, share = number / len(known), 1 / len(known)
            found[spec.key] = _read(spec, chosen[spec.key], request,
                                    lambda f, t, a=start, b=share: progress(a + b * f, t))  # type: ignore[misc]  # fmt: skip
    return found


def choose_input(
    spec: InputSpec, method: Method, scan: ScanResult, request: Request
) -> tuple[SeriesInfo, ...] | tuple[Path, ...]:
    """Series or NIfTI files of an input: as the request names them, else the only candidate; perhaps none."""
    wanted = request.inputs.get(spec.key, "") or (request.pet_series if spec.key == "pet" else "")
    option = f"--input {spec.key}=UID|DESCRIPTION|FILE.nii"
    if wanted:
        names = [name.strip() for name in wanted.split(SEPARATOR) if name.strip()]
        if all(name.endswith((".nii", ".nii.gz")) for name in names):
            return tuple(Path(name) for name in names)
        return tuple(_named(name, spec, scan, option) for name in names)
    candidates = [s for s in scan.series if _fits(s, spec, request)]
    listing = "; ".join(f"{s.description or 'no description'} ({s.series_uid})" for s in candidates)
    if len(candidates) > 1:
        raise RequestError(f"{len(candidates)} series may be the {spec.description}.", f"Choose {option}: {listing}.")
    if not candidates and spec.required:
        found = "; ".join(f"{s.description or s.series_uid}: {s.role} {s.kind}".strip() for s in scan.series
                          if s.role in ("pet", "mr")) or "none"  # fmt: skip
        raise InputError(f"Method {method.name} needs {spec.description}, and no series is one. Found: {found}.",
                         f"Name it with {option}.")  # fmt: skip
    return tuple(candidates[:1])


def is_series(info: SeriesInfo) -> bool:
    """True if a scanned series holds several frames."""
    return bool(info.details.get("doubled_positions") or info.details.get("frames_in_file"))


def _named(name: str, spec: InputSpec, scan: ScanResult, option: str) -> SeriesInfo:
    """The image series of that UID or description."""
    images = [s for s in scan.series if s.role in ("pet", "mr")]
    hits = [s for s in images if name in (s.series_uid, s.description)]
    if len(hits) != 1:
        listing = "; ".join(f"{s.description or 'no description'} ({s.series_uid})" for s in images) or "none"
        raise RequestError(f"{len(hits)} series match {spec.key}={name!r}.", f"Give {option}. Found: {listing}.")
    if spec.modality != hits[0].modality:
        raise RequestError(
            f"Input {spec.key} is {spec.description}; {name!r} is {hits[0].modality}.", f"Choose another: {option}."
        )
    return hits[0]


def _fits(info: SeriesInfo, spec: InputSpec, request: Request) -> bool:
    """True if a series may be taken for an input without being named."""
    if info.modality != spec.modality or info.role not in ("pet", "mr") or is_series(info) != (spec.kind != "volume"):
        return False
    if spec.modality == "PT":
        kind = request.tracer if info.kind == "unknown" else info.kind
        return not spec.tracers or kind in spec.tracers
    return info.kind in spec.mr_kinds


def _read(
    spec: InputSpec, chosen: tuple[SeriesInfo, ...] | tuple[Path, ...], request: Request, progress: Progress
) -> MethodInput:
    """Read one input."""
    paths = [c for c in chosen if isinstance(c, Path)]
    infos = tuple(c for c in chosen if isinstance(c, SeriesInfo)) or (_file_info(paths, spec),)
    progress(0.0, f"reading {spec.description}")
    image = _read_files(paths, spec, request) if paths else _read_series(infos, spec, request, progress)
    moved: tuple[str, ...] = ()
    if request.motion_reference and isinstance(image, TimeSeries):
        image, shifts_mm = correct_motion(image, request.motion_reference - 1, progress)
        moved = (f"Frames of {spec.description} were registered to frame {request.motion_reference}; the largest shift "
                 f"was {shifts_mm.max():.1f} mm. Look at the frames before accepting.",)  # fmt: skip
    if not paths and spec.tracers:
        facts, notes = stated_tracer(image.facts, request.tracer)
        image = replace(image, facts=facts)
        if facts.get("tracer") not in spec.tracers:
            raise RequestError(
                f"Input {spec.key} needs {' or '.join(spec.tracers)}; {infos[0].description!r} is "
                f"{facts.get('tracer')}.",
                "Choose another PET or method, or state a missing tracer with --tracer.",
            )
        return MethodInput(spec, infos, image, (*moved, *notes))
    return MethodInput(spec, infos, image, moved)


def _read_series(infos: Sequence[SeriesInfo], spec: InputSpec, request: Request, progress: Progress) -> Any:
    """Volume or series from DICOM."""
    if spec.kind == "volume":
        if len(infos) > 1:
            raise RequestError(f"Input {spec.key} is one image; {len(infos)} series are named.", "Name one.")
        return (read_pet_series if spec.modality == "PT" else read_image_series)(infos[0]).volume
    if spec.kind == "time":
        return (read_dynamic_pet if spec.modality == "PT" else read_time_series)(infos, request.timing, progress)
    return read_parameter_series(infos, spec.kind, progress)


def _read_files(paths: list[Path], spec: InputSpec, request: Request) -> Any:
    """Volume or series from NIfTI; quantity and unit of a map come from its sidecar."""
    if spec.kind not in ("volume", "time"):
        return read_nifti_parameter(paths, spec.kind, NIFTI_FRAME)
    if len(paths) > 1:
        raise RequestError(f"Input {spec.key} is one file; {len(paths)} are named.", "Give one 4D file.")
    if spec.kind == "time":
        if spec.modality == "PT":
            return read_nifti_pet(paths[0], frame_of_reference_uid=NIFTI_FRAME)
        return read_nifti_dynamic_mr(paths[0], request.timing, NIFTI_FRAME)
    if spec.modality == "PT":
        return read_nifti_pet(paths[0], frame_of_reference_uid=NIFTI_FRAME).frame(0)
    facts = read_sidecar(paths[0], required=False)
    unit = str(facts.get("Units", "") or UNSTATED_UNIT)
    return read_nifti_volume(paths[0], str(facts.get("Quantity", "") or spec.quantity), unit, NIFTI_FRAME)


def _file_info(paths: list[Path], spec: InputSpec) -> SeriesInfo:
    """What stands for NIfTI files in the list of series used."""
    names = ", ".join(path.name for path in paths)
    return SeriesInfo("", "", "", "", "", spec.modality, names, "other", "", NIFTI_FRAME, tuple(paths))


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
