"""A map computed in a process of its own: ``python -m HypoxiaMapperLib.worker FOLDER``.

The panel writes a job folder (see ``jobs``), starts this process and reads the result folder when it has ended. So the
application stays responsive, and memory that runs out takes only this process. Lines ``PROGRESS 0.42 text`` on
standard output say how far it is; the first line, ``PID 123``, which process to end. ``--device`` instead of a folder
prints ``DEVICE text``: what methods that use torch will run on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, HypoxiaError, InputError, RequestError
from .jobs import Job, JobResult, SeriesSource, read_job, write_curves, write_error, write_result
from .mapping import Placement, compute_map, curves_at
from .method_images import read_dicom_input, read_nifti_input, stated_tracer
from .methods import FitCurve, Method, get_method
from .registration import register_rigid
from .resample import resample_to
from .timeseries import FrameStack, TimeSeries, correct_motion, spread
from .volume import LARGEST_SHIFT_MM, Volume

PROGRESS_WORD, PID_WORD, DEVICE_WORD = "PROGRESS", "PID", "DEVICE"
ASK_DEVICE = "--device"
SAME_SPREAD = 0.01
"""Share by which the spread of a frame in the scene may differ from that of its file: numbers were rounded."""
_IDENTITY = sitk.Transform(3, sitk.sitkIdentity)
_RIGID, _SCENE = "rigid registration by mutual information", "as placed in the scene by the user"


def run_job(job: Job, progress: Any) -> JobResult:
    """Read what is to be read, bring the inputs together and compute the map on the planning grid.

    Raises
    ------
    HypoxiaError
        As the readers, the registration and the method say.
    """
    method = get_method(job.method)
    params = method.make_params(dict(job.params))
    images, notes = _read_sources(job, method, progress)
    aligned, placement, matrices, residuals = _place(job, images, progress)
    progress(0.4, f"computing {method.title}")
    told = lambda f, t: progress(0.4 + 0.6 * f, t)  # noqa: E731
    found = compute_map(method, params, aligned, job.regions, job.planning, placement, told)
    notes = (*_alignment_notes(job), *notes, *found.warnings)
    extra = {key: _cropped(volume) for key, volume in found.extra.items()}
    shown = {key: shown_image(image) for key, image in images.items() if isinstance(image, FrameStack)}
    return JobResult(replace(found, warnings=notes, extra=extra), matrices, residuals, shown)


def _cropped(volume: Volume) -> Volume:
    """A map cut to the box that holds its values: a fit has many maps, each as large as the planning CT."""
    places = np.argwhere(np.isfinite(volume.array))
    if len(places) == 0:
        return volume
    (z0, y0, x0), (z1, y1, x1) = places.min(0).tolist(), (places.max(0) + 1).tolist()
    return replace(volume, image=volume.image[x0:x1, y0:y1, z0:z1])


def run_voxel(job: Job, progress: Any) -> tuple[FitCurve, ...]:
    """The curve of the voxel at ``job.voxel_mm`` alone, fitted as a region of one voxel.

    Raises
    ------
    HypoxiaError
        As ``run_job``; a method without series, or a point outside it.
    """
    if job.voxel_mm is None:
        raise RequestError("No voxel was named.", "Put the cross-hair on it.")
    method = get_method(job.method)
    params = method.make_params(dict(job.params))
    images, _ = _read_sources(job, method, progress)
    aligned, placement, _, _ = _place(job, images, progress)
    return curves_at(method, params, aligned, job.regions, job.voxel_mm, placement, progress)


def _read_sources(job: Job, method: Method, progress: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The inputs by key, those of ``sources`` read, and what a person must know of it."""
    images: dict[str, Any] = dict(job.inputs)
    notes: tuple[str, ...] = ()
    specs = {spec.key: spec for spec in method.inputs}
    for key, source in job.sources.items():
        progress(0.0, f"reading {specs[key].description}")
        images[key] = _read_source(source, specs[key], job, lambda f, t: progress(0.2 * f, t))
        _require_as_placed(images[key], source)
    for key, image in images.items():
        if isinstance(image, FrameStack):
            notes += tuple(image.facts.get("warnings", ()))
        if job.motion_reference and isinstance(image, TimeSeries):
            images[key], shifts_mm = correct_motion(
                image, job.motion_reference - 1, lambda f, t: progress(0.2 + 0.1 * f, t)
            )
            text = f"Frames of {specs[key].description} were registered to frame {job.motion_reference}; the largest "
            notes += (f"{text}shift was {shifts_mm.max():.1f} mm. Look at the frames before accepting.",)
    return {key: images[key] for key in specs if key in images}, notes


def _read_source(source: SeriesSource, spec: Any, job: Job, progress: Any) -> Any:
    """One input from its files, its tracer checked."""
    if source.files:
        return read_nifti_input(source.files, spec, job.timing)
    image = read_dicom_input(source.infos, spec, job.timing, progress)
    if not spec.tracers:
        return image
    facts, notes = stated_tracer(image.facts, job.tracer)
    if facts.get("tracer") not in spec.tracers:
        raise RequestError(
            f"{source.infos[0].description!r} is a {facts.get('tracer')} PET; this method needs "
            f"{' or '.join(spec.tracers)}.",
            "Choose another PET or method, or state a missing tracer.",
        )
    return replace(image, facts={**facts, "warnings": notes})


def _require_as_placed(image: Any, source: SeriesSource) -> None:
    """Refuse files that do not show the frames they were chosen through: cropped, moved, filtered, taken out.

    The order of slices may be the opposite: each corner must lie at one of the corners.
    """
    placed = source.placed
    if placed is None:
        return
    way_out = "Choose the DICOM series in place of the sequence, or load the sequence again."
    if isinstance(image, TimeSeries) and image.count != placed.count:
        raise InputError(
            f"Sequence {placed.name!r} holds {placed.count} frames, its DICOM files {image.count}.", way_out
        )
    grid = image.grid
    far = [n - 1 for n in grid.GetSize()]
    corners = [
        grid.TransformIndexToPhysicalPoint([f if bit >> axis & 1 else 0 for axis, f in enumerate(far)])
        for bit in range(8)
    ]
    apart = np.linalg.norm(np.array(corners)[:, None] - np.array(placed.corners_mm)[None], axis=2)
    if sorted(grid.GetSize()) != sorted(placed.size) or apart.min(axis=1).max() > LARGEST_SHIFT_MM:
        raise GeometryError(
            f"Sequence {placed.name!r} does not lie where its DICOM files do (moved, cropped or resampled in Slicer).",
            way_out,
        )
    if len(placed.spreads) == image.count:  # repeats at one b-value were averaged
        found = np.sort([spread(frame) for frame in image.frames])
        if not np.allclose(found, np.sort(placed.spreads), rtol=SAME_SPREAD, atol=SAME_SPREAD / 100):
            raise InputError(
                f"Sequence {placed.name!r} does not show the voxels of its DICOM files (filtered or edited in Slicer).",
                way_out,
            )


def _place(
    job: Job, images: Mapping[str, Any], progress: Any
) -> tuple[dict[str, Any], Placement, dict[str, tuple[float, ...]], dict[str, Mapping[str, float]]]:
    """Images ready for ``compute_map``, where they lie, and matrices and residuals of registrations computed here.

    Volumes alone are brought to the planning grid one by one; beside a series all must share its frame of reference.
    """
    matrices: dict[str, tuple[float, ...]] = {}
    residuals: dict[str, Mapping[str, float]] = {}
    transforms: dict[str, sitk.Transform] = {}
    first = next((key for key, image in images.items() if isinstance(image, FrameStack)), None)
    if first is None and getattr(get_method(job.method), "on_native_grid", False):
        first = next(iter(images), None)
    if job.alignment == "rigid":
        for number, key in enumerate(images if first is None else [first]):
            progress(0.3 + 0.1 * number / len(images), f"aligning {key}")
            found = register_rigid(job.planning, shown_image(images[key]), job.regions["gtv"])
            transforms[key], matrices[key], residuals[key] = found.transform, _matrix(found.transform), found.residual
    text = {"rigid": _RIGID, "scene": _SCENE}.get(job.alignment, "")
    if first is None:
        brought = {key: _on_planning(image, job, transforms.get(key), text) for key, image in images.items()}
        return brought, Placement(None, "", ""), matrices, residuals
    frame_uid = images[first].frame_of_reference_uid
    if job.alignment == "same_frame":
        return dict(images), Placement(None, frame_uid, ""), matrices, residuals
    placed = {  # in the scene everything lies in one world
        key: replace(image, frame_of_reference_uid=frame_uid) if job.alignment == "scene" else image
        for key, image in images.items()
    }
    return placed, Placement(transforms.get(first, _IDENTITY), frame_uid, text), matrices, residuals


def shown_image(image: Volume | FrameStack) -> Volume:
    """The image to look at and to register: the last frame of a PET, the first of another series."""
    if isinstance(image, Volume):
        return image
    return image.frame(image.count - 1 if image.facts.get("modality") == "PT" else 0)


def _on_planning(volume: Volume, job: Job, transform: sitk.Transform | None, text: str) -> Volume:
    transform = _IDENTITY if job.alignment == "scene" else transform
    planning = job.planning
    return resample_to(volume, planning.image, planning.frame_of_reference_uid, transform, "linear", text)


def _alignment_notes(job: Job) -> tuple[str, ...]:
    """What a person must check when the frames were not the same."""
    if job.alignment == "rigid":
        return ("The images were registered here by a rigid transform: look at the overlay before accepting.",)
    if job.alignment == "scene":
        return ("The images were aligned as placed in the scene by the user: look at the overlay before accepting.",)
    return ()


def _matrix(transform: sitk.Transform) -> tuple[float, ...]:
    """4x4 row-major matrix of a linear transform."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.column_stack(columns), origin
    return tuple(matrix.ravel().tolist())


def print_progress(fraction: float, text: str) -> None:
    """One line that the panel understands."""
    print(f"{PROGRESS_WORD} {fraction:.4f} {text}", flush=True)


def parse_progress(line: str) -> tuple[float, str] | None:
    """Fraction and text of a progress line; None for any other line."""
    word, _, rest = line.strip().partition(" ")
    number, _, text = rest.partition(" ")
    try:
        return (float(number), text) if word == PROGRESS_WORD else None
    except ValueError:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Run the job of a folder; the exit code is that of the error's kind, as on the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print(f"usage: python -m HypoxiaMapperLib.worker FOLDER | {ASK_DEVICE}", file=sys.stderr)
        return 2
    print(f"{PID_WORD} {os.getpid()}", flush=True)
    if given == [ASK_DEVICE]:
        from .inference.device import describe_device

        print(f"{DEVICE_WORD} {describe_device()}", flush=True)
        return 0
    folder = Path(given[0])
    try:
        job = read_job(folder)
        if job.voxel_mm is None:
            write_result(run_job(job, print_progress), folder)
        else:
            write_curves(run_voxel(job, print_progress), folder)
    except HypoxiaError as error:
        write_error(error, folder)
        print(f"ERROR {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
