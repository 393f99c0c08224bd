"""What goes to the worker and what comes back, as files of one folder: voxels as NRRD, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .dicomio.model import SeriesInfo
from .errors import HypoxiaError, InputError, RequestError
from .methods import Baseline, Finding, FitCurve, HypoxiaMap, ModelUse
from .timeseries import UNSTATED, FrameStack, ParameterSeries, TimeSeries, Timing
from .volume import Region, Volume, image_like

JOB_FILE, RESULT_FILE, ERROR_FILE, CURVES_FILE = "job.json", "result.json", "error.json", "curves.json"
ALIGNMENTS = ("same_frame", "scene", "rigid")
"""Same frame of reference required; as placed in the scene by a person; rigid registration computed here."""


@dataclass(frozen=True)
class PlacedFrames:
    """Frames as they stand in the scene.

    Parameters
    ----------
    corners_mm : tuple
        Corner voxels of a frame in LPS mm.
    spreads : tuple of float
        Of each frame, see ``timeseries.spread``; empty when its voxels are not known.
    """

    name: str
    count: int
    size: tuple[int, ...]
    corners_mm: tuple[tuple[float, ...], ...]
    spreads: tuple[float, ...] = ()


@dataclass(frozen=True)
class SeriesSource:
    """An input that the worker reads itself: DICOM series, or NIfTI files.

    Parameters
    ----------
    placed : PlacedFrames or None
        What the files must show, where they were chosen through the frames loaded from them.
    """

    infos: tuple[SeriesInfo, ...] = ()
    files: tuple[Path, ...] = ()
    placed: PlacedFrames | None = None


@dataclass(frozen=True)
class Job:
    """Everything one map needs. Regions lie on the planning grid; inputs may lie on grids of their own.

    Parameters
    ----------
    sources : mapping
        Inputs that the worker reads from their files, by the method's key.
    timing : Timing
        What the user states about times where the files cannot say it.
    tracer : str
        Tracer the user states for PET in ``sources`` whose files do not name it.
    motion_reference : int
        Frame (from 1) to which the others of a dynamic series are registered; 0: none.
    voxel_mm : tuple of float or None
        LPS point on the planning image: only the curve of the series' voxel there is wanted, no map.
    """

    method: str
    params: Mapping[str, Any]
    planning: Volume
    inputs: Mapping[str, Volume | FrameStack]
    regions: Mapping[str, Region]
    alignment: str = "same_frame"
    sources: Mapping[str, SeriesSource] = field(default_factory=dict)
    timing: Timing = UNSTATED
    tracer: str = ""
    motion_reference: int = 0
    voxel_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class JobResult:
    """What came out: the map on the planning grid and how each input came there."""

    map: HypoxiaMap
    matrices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # 4x4 row-major, planning LPS to input LPS
    residuals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shown: Mapping[str, Volume] = field(default_factory=dict)  # of each series one frame, to be looked at


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
        "inputs": {
            key: _write_volume(image, folder / f"input_{key}.nrrd")
            if isinstance(image, Volume)
            else _write_stack(image, folder / f"input_{key}.npy")
            for key, image in job.inputs.items()
        },
        "regions": {key: _write_region(r, folder / f"region_{key}.nrrd") for key, r in job.regions.items()},
        "sources": {key: asdict(source) for key, source in job.sources.items()},
        "timing": asdict(job.timing),
        "tracer": job.tracer,
        "motion_reference": job.motion_reference,
        "voxel_mm": job.voxel_mm,
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
        {key: (_read_stack if "frames" in v else _read_volume)(v, folder) for key, v in facts["inputs"].items()},
        {key: _read_region(r, folder) for key, r in facts["regions"].items()},
        facts["alignment"], {key: _source(s) for key, s in facts["sources"].items()}, Timing(**facts["timing"]),
        facts["tracer"], facts["motion_reference"], tuple(facts["voxel_mm"]) if facts["voxel_mm"] else None,
    )  # fmt: skip


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
        "extra": {k: _write_volume(v, folder / f"extra_{n}.nrrd") for n, (k, v) in enumerate(found.extra.items())},
        "curves": [asdict(curve) for curve in found.curves],
        "model": model_facts(found.model),
        "matrices": dict(result.matrices),
        "residuals": dict(result.residuals),
        "shown": {key: _write_volume(v, folder / f"shown_{key}.nrrd") for key, v in result.shown.items()},
    }
    if found.quality is not None:
        sitk.WriteImage(image_like(found.quality, found.volume.image), str(folder / "quality.nrrd"), True)
    (folder / RESULT_FILE).write_text(json.dumps(facts, default=str), encoding="utf-8")


def write_curves(curves: tuple[FitCurve, ...], folder: Path) -> None:
    """Write the curves of a voxel."""
    (folder / CURVES_FILE).write_text(json.dumps([asdict(curve) for curve in curves]), encoding="utf-8")


def read_curves(folder: Path) -> tuple[FitCurve, ...]:
    """Read the curves of a voxel; errors as ``read_result``."""
    return tuple(make_curve(c) for c in json.loads(_finished(folder, CURVES_FILE)))


def write_error(error: HypoxiaError, folder: Path) -> None:
    """Leave the message for ``read_result``."""
    (folder / ERROR_FILE).write_text(json.dumps({"message": error.message, "hint": error.hint}), encoding="utf-8")


def _finished(folder: Path, name: str) -> str:
    """Text of the file that a worker writes last, or its error."""
    if (folder / name).exists():
        return (folder / name).read_text(encoding="utf-8")
    if (folder / ERROR_FILE).exists():
        error = json.loads((folder / ERROR_FILE).read_text(encoding="utf-8"))
        raise HypoxiaError(error["message"], error["hint"])
    raise HypoxiaError(
        "The computation ended without a result, possibly because memory ran out.", "Close other data and try again."
    )


def read_result(folder: Path) -> JobResult:
    """Read what a finished worker left.

    Raises
    ------
    HypoxiaError
        The worker's own error, word for word; or that it ended without any.
    """
    facts = json.loads(_finished(folder, RESULT_FILE))
    quality = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "quality.nrrd"))) if facts["quality"] else None
    uncertainty = _read_volume(facts["uncertainty"], folder) if facts["uncertainty"] else None
    hypoxia_map = HypoxiaMap(
        _read_volume(facts["volume"], folder), facts["threshold"], facts["comparison"], facts["threshold_source"],
        facts["surrogate"], uncertainty, quality, tuple(facts["warnings"]), facts["details"],
        {key: _read_volume(v, folder) for key, v in facts["extra"].items()},
        tuple(make_curve(c) for c in facts["curves"]), make_model(facts["model"]),
    )  # fmt: skip
    shown = {key: _read_volume(v, folder) for key, v in facts["shown"].items()}
    return JobResult(hypoxia_map, {k: tuple(v) for k, v in facts["matrices"].items()}, facts["residuals"], shown)


def make_curve(facts: Mapping[str, Any]) -> FitCurve:
    """A curve as JSON keeps it: lists for tuples."""
    return FitCurve(**_with_tuples(facts))


def model_facts(model: ModelUse | None) -> dict[str, Any] | None:
    """A model's use as JSON keeps it."""
    return asdict(model) if model is not None else None


def make_model(facts: Mapping[str, Any] | None) -> ModelUse | None:
    """A model's use from JSON."""
    if facts is None:
        return None
    values = _with_tuples(facts)
    values["distribution"] = tuple(Finding(**f) for f in facts["distribution"])
    values["baselines"] = tuple(Baseline(**b) for b in facts["baselines"])
    return ModelUse(**values)


def _source(facts: Mapping[str, Any]) -> SeriesSource:
    infos = [_with_tuples(info) | {"files": tuple(Path(f) for f in info["files"])} for info in facts["infos"]]
    at = facts["placed"]
    placed = PlacedFrames(**_with_tuples(at) | {"corners_mm": tuple(map(tuple, at["corners_mm"]))}) if at else None
    return SeriesSource(tuple(SeriesInfo(**info) for info in infos), tuple(Path(f) for f in facts["files"]), placed)


def _with_tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}


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


def _write_stack(stack: FrameStack, path: Path) -> dict[str, Any]:
    """Frames as one array, their grid as an image; what JSON keeps of the rest."""
    if isinstance(stack.frames, np.memmap) and Path(str(stack.frames.filename)).parent == path.parent:
        stack.frames.flush()
        path = Path(str(stack.frames.filename))  # there already
    else:
        np.save(path, stack.frames)
    grid = Volume(stack.grid, stack.quantity, stack.unit, stack.frame_of_reference_uid, stack.source_uids,
                  stack.operations, stack.facts)  # fmt: skip
    facts = _write_volume(grid, path.with_suffix(".grid.nrrd")) | {"frames": path.name}
    if isinstance(stack, TimeSeries):
        times = [stack.frame_start_s.tolist(), stack.frame_duration_s.tolist()]
        return facts | {"times": times}
    if isinstance(stack, ParameterSeries):
        return facts | {"parameter": stack.parameter, "values": stack.values.tolist()}
    raise RequestError(f"Frames of {stack.quantity} have no times.", "Give a time series or a parameter series.")


def _read_stack(facts: Mapping[str, Any], folder: Path) -> FrameStack:
    """Frames as a memory map: no copy of a long series is held."""
    grid = _read_volume(facts, folder)
    common: dict[str, Any] = {
        "frames": np.load(folder / facts["frames"], mmap_mode="r"), "grid": grid.image, "quantity": grid.quantity,
        "unit": grid.unit, "frame_of_reference_uid": grid.frame_of_reference_uid, "source_uids": grid.source_uids,
        "operations": grid.operations, "facts": grid.facts,
    }  # fmt: skip
    if "times" in facts:
        start_s, duration_s = (np.array(values) for values in facts["times"])
        return TimeSeries(**common, frame_start_s=start_s, frame_duration_s=duration_s)
    return ParameterSeries(**common, parameter=facts["parameter"], values=np.array(facts["values"]))


def _write_region(region: Region, path: Path) -> dict[str, Any]:
    sitk.WriteImage(region.mask, str(path), True)
    return {
        "file": path.name, "name": region.name, "source": region.source,
        "frame_of_reference_uid": region.frame_of_reference_uid,
    }  # fmt: skip


def _read_region(facts: Mapping[str, Any], folder: Path) -> Region:
    mask = sitk.ReadImage(str(folder / facts["file"]))
    return Region(facts["name"], mask, facts["frame_of_reference_uid"], facts["source"])
