"""The images of a method: which series or files they are, chosen by the user or the only ones that fit, and read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.dicomio.model import ImageSeries, ScanResult, SeriesInfo
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.method_images import NIFTI_FRAME, is_series, read_dicom_input, read_nifti_input, stated_tracer
from HypoxiaMapperLib.methods import InputSpec, Method, Progress
from HypoxiaMapperLib.timeseries import FrameStack, TimeSeries, correct_motion
from HypoxiaMapperLib.volume import Volume

from .request import Request

SEPARATOR = ";"
NONE = "none"
"""What a request names to do without an optional input."""


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


def read_inputs(
    request: Request, method: Method, scan: ScanResult, progress: Progress, planning: ImageSeries | None = None
) -> dict[str, MethodInput]:
    """Choose and read every input of a method; optional ones that are not there are left out.

    Parameters
    ----------
    planning : ImageSeries, optional
        The planning CT, which is what a method gets that takes a CT; it is not read again.

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
    own = planning.info if planning else None
    chosen = {spec.key: choose_input(spec, method, scan, request, own) for spec in method.inputs}
    found = {}
    for number, spec in enumerate(method.inputs):
        if planning is not None and chosen[spec.key] == (planning.info,):
            found[spec.key] = MethodInput(spec, (planning.info,), planning.volume)
        elif chosen[spec.key]:
            start, share = number / len(known), 1 / len(known)
            found[spec.key] = _read(spec, chosen[spec.key], request,
                                    lambda f, t, a=start, b=share: progress(a + b * f, t))  # type: ignore[misc]  # fmt: skip
    return found


def choose_input(
    spec: InputSpec, method: Method, scan: ScanResult, request: Request, planning: SeriesInfo | None = None
) -> tuple[SeriesInfo, ...] | tuple[Path, ...]:
    """Series or NIfTI files of an input: as the request names them, else the only candidate; perhaps none.

    A CT is the planning CT: any other would need a registration of its own.
    """
    wanted = request.inputs.get(spec.key, "") or (request.pet_series if spec.key == "pet" else "")
    option = f"--input {spec.key}=UID|DESCRIPTION|FILE.nii"
    if not spec.required:
        option += f", or {spec.key}={NONE} to do without"
        if wanted == NONE:
            return ()
    if spec.modality == "CT" and planning is not None and wanted in ("", planning.series_uid, planning.description):
        return (planning,)
    if wanted:
        names = [name.strip() for name in wanted.split(SEPARATOR) if name.strip()]
        if all(name.endswith((".nii", ".nii.gz")) for name in names):
            return tuple(Path(name) for name in names)
        return tuple({s.series_uid: s for name in names for s in _named(name, spec, scan, option)}.values())
    candidates = [s for s in scan.series if _fits(s, spec, request)]
    candidates = [s for s in candidates if request.pet_series in (s.series_uid, s.description)] or candidates
    listing = "; ".join(f"{s.description or 'no description'} ({s.series_uid})" for s in candidates)
    if len(candidates) > 1:
        raise RequestError(f"{len(candidates)} series may be the {spec.description}.", f"Choose {option}: {listing}.")
    if not candidates and spec.required:
        found = "; ".join(f"{s.description or s.series_uid}: {s.role} {s.kind}".strip() for s in scan.series
                          if s.role in ("pet", "mr")) or "none"  # fmt: skip
        raise InputError(f"Method {method.name} needs {spec.description}, and no series is one. Found: {found}.",
                         f"Name it with {option}.")  # fmt: skip
    return tuple(candidates[:1])


def _named(name: str, spec: InputSpec, scan: ScanResult, option: str) -> tuple[SeriesInfo, ...]:
    """The image series of that UID or description; all of that description where each holds one frame of a series."""
    images = [s for s in scan.series if s.role in ("pet", "mr")]
    hits = [s for s in images if name in (s.series_uid, s.description)]
    one_each = spec.kind != "volume" and len({s.study_uid for s in hits}) == 1 and not any(is_series(s) for s in hits)
    if len(hits) != 1 and not one_each:
        listing = "; ".join(f"{s.description or 'no description'} ({s.series_uid})" for s in images) or "none"
        raise RequestError(f"{len(hits)} series match {spec.key}={name!r}.", f"Give {option}. Found: {listing}.")
    if spec.modality != hits[0].modality:
        raise RequestError(
            f"Input {spec.key} is {spec.description}; {name!r} is {hits[0].modality}.", f"Choose another: {option}."
        )
    return tuple(hits)


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
    image: Any = (
        read_nifti_input(paths, spec, request.timing)
        if paths
        else read_dicom_input(infos, spec, request.timing, progress)
    )
    moved: tuple[str, ...] = ()
    if request.motion_reference and isinstance(image, TimeSeries):
        image, shifts_mm = correct_motion(image, request.motion_reference - 1, progress)
        moved = (f"Frames of {spec.description} were registered to frame {request.motion_reference}; the largest shift "
                 f"was {shifts_mm.max():.1f} mm. Look at the frames before accepting.",)  # fmt: skip
    if not paths and spec.tracers:
        stated = request.tracer if spec.required or request.tracer in spec.tracers else ""  # else of another input
        facts, notes = stated_tracer(image.facts, stated)
        image = replace(image, facts=facts)
        if facts.get("tracer") not in spec.tracers:
            raise RequestError(
                f"Input {spec.key} needs {' or '.join(spec.tracers)}; {infos[0].description!r} is "
                f"{facts.get('tracer')}.",
                "Choose another PET or method, or state a missing tracer with --tracer.",
            )
        return MethodInput(spec, infos, image, (*moved, *notes))
    return MethodInput(spec, infos, image, (*moved, *image.facts.get("warnings", ())))


def _file_info(paths: list[Path], spec: InputSpec) -> SeriesInfo:
    """What stands for NIfTI files in the list of series used."""
    names = ", ".join(path.name for path in paths)
    return SeriesInfo("", "", "", "", "", spec.modality, names, "other", "", NIFTI_FRAME, tuple(paths))
