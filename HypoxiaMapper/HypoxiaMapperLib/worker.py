"""A map computed in a process of its own: ``python -m HypoxiaMapperLib.worker FOLDER``.

The panel writes a job folder (volumes and regions as NRRD, the rest as ``job.json``), starts this process and reads the
result folder when it has ended. So the application stays responsive, and memory that runs out takes only this process.
Lines ``PROGRESS 0.42 text`` on standard output say how far it is; the first line, ``PID 123``, which process to end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import HypoxiaError, InputError, RequestError
from .methods import FitCurve, HypoxiaMap, get_method
from .registration import register_rigid
from .resample import resample_to
from .volume import Region, Volume, image_like

JOB_FILE, RESULT_FILE, ERROR_FILE = "job.json", "result.json", "error.json"
PROGRESS_WORD, PID_WORD = "PROGRESS", "PID"
ALIGNMENTS = ("same_frame", "scene", "rigid")
"""Same frame of reference required; as placed in the scene by a person; rigid registration computed here."""


@dataclass(frozen=True)
class Job:
    """Everything one map needs. Regions lie on the planning grid; inputs may lie on grids of their own."""

    method: str
    params: Mapping[str, Any]
    planning: Volume
    inputs: Mapping[str, Volume]
    regions: Mapping[str, Region]
    alignment: str = "same_frame"


@dataclass(frozen=True)
class JobResult:
    """What came out: the map on the planning grid and how each input came there."""

    map: HypoxiaMap
    matrices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # 4x4 row-major, planning LPS to input LPS
    residuals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_job(job: Job, folder: Path) -> None:
    """Write a job into a folder.

    Raises
    ------
    RequestError
        Unknown alignment.
    """
    if job.alignment not in ALIGNMENTS:
        raise RequestError(f"Alignment {job.alignment!r} is unknown.", f"Valid: {', '.join(ALIGNMENTS)}.")
    facts = {
        "method": job.method,
        "params": dict(job.params),
        "alignment": job.alignment,
        "planning": _write_volume(job.planning, folder / "planning.nrrd"),
        "inputs": {key: _write_volume(v, folder / f"input_{key}.nrrd") for key, v in job.inputs.items()},
        "regions": {key: _write_region(r, folder / f"region_{key}.nrrd") for key, r in job.regions.items()},
    }
    (folder / JOB_FILE).write_text(json.dumps(facts, default=str), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Read a job folder.

    Raises
    ------
    InputError
        If ``job.json`` is missing or broken.
    """
    try:
        facts = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Job {folder} cannot be read: {error}.", "Start the computation again.") from error
    return Job(
        facts["method"], facts["params"], _read_volume(facts["planning"], folder),
        {key: _read_volume(v, folder) for key, v in facts["inputs"].items()},
        {key: _read_region(r, folder) for key, r in facts["regions"].items()},
        facts["alignment"],
    )  # fmt: skip


def run_job(job: Job, progress: Any) -> JobResult:
    """Bring the inputs onto the planning grid and compute the map.

    Raises
    ------
    HypoxiaError
        As the registration and the method say.
    """
    method = get_method(job.method)
    params = method.make_params(dict(job.params))
    aligned, matrices, residuals = {}, {}, {}
    for number, (key, volume) in enumerate(job.inputs.items()):
        progress(0.4 * number / max(1, len(job.inputs)), f"aligning {key}")
        if job.alignment == "rigid":
            found = register_rigid(job.planning, volume, job.regions["gtv"])
            matrices[key], residuals[key] = _matrix(found.transform), dict(found.residual)
            text = "rigid registration by mutual information"
            aligned[key] = _on_planning(volume, job.planning, found.transform, text)
        elif job.alignment == "scene":
            identity = sitk.Transform(3, sitk.sitkIdentity)
            aligned[key] = _on_planning(volume, job.planning, identity, "as placed in the scene by the user")
        else:
            aligned[key] = resample_to(volume, job.planning.image, job.planning.frame_of_reference_uid)
    progress(0.4, f"computing {method.title}")
    computed = method.compute(aligned, job.regions, params, lambda f, t: progress(0.4 + 0.6 * f, t))
    return JobResult(replace(computed, warnings=(*_alignment_notes(job), *computed.warnings)), matrices, residuals)


def _alignment_notes(job: Job) -> tuple[str, ...]:
    """What a person must check when the frames were not the same."""
    if job.alignment == "rigid":
        return ("The images were registered here by a rigid transform: look at the overlay before accepting.",)
    if job.alignment == "scene":
        return ("The images were aligned as placed in the scene by the user: look at the overlay before accepting.",)
    return ()


def _on_planning(volume: Volume, planning: Volume, transform: sitk.Transform, text: str) -> Volume:
    return resample_to(volume, planning.image, planning.frame_of_reference_uid, transform, "linear", text)


def _matrix(transform: sitk.Transform) -> tuple[float, ...]:
    """4x4 row-major matrix of a linear transform."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.column_stack(columns), origin
    return tuple(matrix.ravel().tolist())


def write_result(result: JobResult, folder: Path) -> None:
    """Write map, uncertainty, quality codes and facts; ``result.json`` comes last and says that all is there."""
    found = result.map
    facts = {
        "volume": _write_volume(found.volume, folder / "map.nrrd"),
        "uncertainty": _write_volume(found.uncertainty, folder / "uncertainty.nrrd") if found.uncertainty else None,
        "quality": found.quality is not None,
        "threshold": found.threshold,
        "comparison": found.comparison,
        "threshold_source": found.threshold_source,
        "surrogate": found.surrogate,
        "warnings": list(found.warnings),
        "details": dict(found.details),
        "extra": {key: _write_volume(v, folder / f"extra_{key}.nrrd") for key, v in found.extra.items()},
        "curves": [asdict(curve) for curve in found.curves],
        "matrices": dict(result.matrices),
        "residuals": dict(result.residuals),
    }
    if found.quality is not None:
        sitk.WriteImage(image_like(found.quality, found.volume.image), str(folder / "quality.nrrd"), True)
    (folder / RESULT_FILE).write_text(json.dumps(facts, default=str), encoding="utf-8")


def read_result(folder: Path) -> JobResult:
    """Read what a finished worker left.

    Raises
    ------
    HypoxiaError
        The worker's own error, word for word; or that it ended without any.
    """
    if not (folder / RESULT_FILE).exists():
        if (folder / ERROR_FILE).exists():
            error = json.loads((folder / ERROR_FILE).read_text(encoding="utf-8"))
            raise HypoxiaError(error["message"], error["hint"])
        raise HypoxiaError(
            "The computation ended without a result, possibly because memory ran out.",
            "Close other data and try again.",
        )
    facts = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    quality = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "quality.nrrd"))) if facts["quality"] else None
    uncertainty = _read_volume(facts["uncertainty"], folder) if facts["uncertainty"] else None
    hypoxia_map = HypoxiaMap(
        _read_volume(facts["volume"], folder), facts["threshold"], facts["comparison"], facts["threshold_source"],
        facts["surrogate"], uncertainty, quality, tuple(facts["warnings"]), facts["details"],
        {key: _read_volume(v, folder) for key, v in facts["extra"].items()},
        tuple(_curve(c) for c in facts["curves"]),
    )  # fmt: skip
    return JobResult(hypoxia_map, {k: tuple(v) for k, v in facts["matrices"].items()}, facts["residuals"])


def _curve(facts: Mapping[str, Any]) -> FitCurve:
    """A curve as JSON keeps it: lists for tuples."""
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}
    return FitCurve(**values)


def _write_volume(volume: Volume, path: Path) -> dict[str, Any]:
    """Voxels to NRRD; what JSON keeps of the rest."""
    sitk.WriteImage(volume.image, str(path), False)
    return {
        "file": path.name, "quantity": volume.quantity, "unit": volume.unit,
        "frame_of_reference_uid": volume.frame_of_reference_uid, "source_uids": list(volume.source_uids),
        "operations": list(volume.operations), "facts": dict(volume.facts),
    }  # fmt: skip


def _read_volume(facts: Mapping[str, Any], folder: Path) -> Volume:
    return Volume(
        sitk.ReadImage(str(folder / facts["file"])), facts["quantity"], facts["unit"],
        facts["frame_of_reference_uid"], tuple(facts["source_uids"]), tuple(facts["operations"]), facts["facts"],
    )  # fmt: skip


def _write_region(region: Region, path: Path) -> dict[str, Any]:
    sitk.WriteImage(region.mask, str(path), True)
    return {
        "file": path.name, "name": region.name, "source": region.source,
        "frame_of_reference_uid": region.frame_of_reference_uid,
    }  # fmt: skip


def _read_region(facts: Mapping[str, Any], folder: Path) -> Region:
    mask = sitk.ReadImage(str(folder / facts["file"]))
    return Region(facts["name"], mask, facts["frame_of_reference_uid"], facts["source"])


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
        print("usage: python -m HypoxiaMapperLib.worker FOLDER", file=sys.stderr)
        return 2
    folder = Path(given[0])
    print(f"{PID_WORD} {os.getpid()}", flush=True)
    try:
        write_result(run_job(read_job(folder), print_progress), folder)
    except HypoxiaError as error:
        (folder / ERROR_FILE).write_text(json.dumps({"message": error.message, "hint": error.hint}), encoding="utf-8")
        print(f"ERROR {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
