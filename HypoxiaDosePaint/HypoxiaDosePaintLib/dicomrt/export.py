"""Write the whole set, prove it by reading it again, and only then deliver it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pydicom

from HypoxiaMapperLib.dicomio.frames import PYDICOM_2
from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import InputError, MissingPackageError, OutputError, ProofError, RequestError
from HypoxiaMapperLib.methods import Progress, no_progress
from HypoxiaMapperLib.volume import Volume

from ..limits import distribution_override, require_distribution
from ..output import disk_message
from ..result import ProofRow, Result
from ..structures import Code, Structure
from ..wording import map_word
from .further_maps import further_maps, left_out
from .parametric_map import Box, quantity_code, unit_code, write_parametric_map
from .readback import plane_digest
from .rtdose import DOSE_COMMENT, write_rtdose
from .rtplan import write_rtplan
from .rtstruct import write_rtstruct
from .seg import write_seg
from .verify import verify_rtstruct, verify_set

FOLDER = "dicom"
BOX_BORDER_VOXELS = 5  # the maps are cut to the structures, with a little around them to look at
REPEATED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
PRESCRIPTION_CODE = Code("PRESCRIBED_DOSE", "99HYPOX", "Prescribed total physical dose, not calculated")


@dataclass(frozen=True)
class Exported:
    """What was delivered: file names relative to the output folder, the proof, and the record to prove it by again."""

    files: tuple[str, ...]
    proof: tuple[ProofRow, ...]
    reference: dict[str, Any]
    notes: tuple[str, ...] = ()  # what of the result is not in the set


def export_set(result: Result, planning: ImageSeries, out: Path, progress: Progress = no_progress) -> Exported:
    """Write RTSTRUCT, RTPLAN, SEG and Parametric Maps (RTDOSE on request) to ``out/dicom``, proven by read-back.

    The Parametric Maps are the map, its further maps (uncertainty, other parameters of a fit, errors) and the
    prescription.

    The set is written to a hidden folder beside its place, read again, and moved there in one step. Whatever fails, the
    hidden folder is removed and nothing is delivered.

    Raises
    ------
    RequestError
        If nobody accepted the result, or no structure carries a dose.
    LimitError
        If a learned map failed its distribution check and nobody overrode it.
    MissingPackageError
        If pydicom is too old.
    InputError
        If the planning CT lacks a UID that the set must repeat.
    OutputError
        If the output exists or cannot be written.
    ProofError
        If a file, read back, differs from what was shown.
    """
    _require_exportable(result, planning)
    target = out / FOLDER
    if target.exists():
        raise OutputError(f"{target} exists already.", "Nothing is overwritten: choose another output folder.")
    made_out = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".dicom-", dir=out))
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Choose a writable folder.") from error
    try:
        _write(result, planning, staging, progress)
        progress(0.7, "Reading the set back")
        reference = proof_reference(result, planning, staging)
        proof = _prove(result, planning, staging, reference)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if made_out:
            _remove_if_empty(out)
        if isinstance(error, OSError):
            raise OutputError(*disk_message(target, error)) from error
        raise
    progress(1.0, "DICOM set delivered")
    notes = tuple(left_out(result.images.map, _box(result.images.structures)))
    return Exported(tuple(f"{FOLDER}/{p.name}" for p in sorted(target.iterdir())), proof, reference, notes)


def _require_exportable(result: Result, planning: ImageSeries) -> None:
    """Refuse what must not, or cannot, become a set; errors as in ``export_set``."""
    if not result.accepted_by.strip():
        raise RequestError("The result was not accepted by a person.", 'Give --accepted-by "Name" to export DICOM.')
    require_distribution(result.images.map, result.request)
    if PYDICOM_2:
        raise MissingPackageError(
            f"pydicom {pydicom.__version__} is in use; the export needs pydicom 3.",
            "Slicer 5.10 brings the old one: PythonSlicer -m pip install pydicom~=3.0, then restart Slicer.",
        )
    missing = [keyword for keyword in REPEATED_UIDS if not planning.headers[0].get(keyword)]
    if missing:
        raise InputError(
            f"The planning CT has no {' and no '.join(missing)}, by which the set would refer to it.",
            "Export the CT from its archive anew.",
        )


def proof_reference(result: Result, planning: ImageSeries, folder: Path) -> dict[str, Any]:
    """The record by which the set in a folder can be proven later from its files (form: see ``verify``)."""
    structures = result.images.structures
    box = _box(structures)
    volume = result.images.map.volume
    shown = {"MAP.dcm": (volume, _map_quantity(result))}
    shown |= {name: (m.volume, m.quantity) for name, m in further_maps(result.images.map, box).items()}
    maps = {
        name: {**_map_record(v, box, code.value), "planes": _plane_digests(v, planning, box)}
        for name, (v, code) in shown.items()
    }
    dose = prescribed_dose(result)
    maps["PRESCRIPTION.dcm"] = _map_record(dose, box, PRESCRIPTION_CODE.value)
    if result.request.write_rtdose:
        maps["RTDOSE.dcm"] = _map_record(dose, box, DOSE_COMMENT)
    return {
        "structures": {s.name: _structure_record(s) for s in structures},
        "label": provenance_of(result)["label"],
        "fractions": result.prescription.boost.fractions,
        "maps": maps,
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())},
    }


def _plane_digests(volume: Volume, planning: ImageSeries, box: Box) -> dict[str, str]:
    """Digest of the values of each exported slice by the CT slice's UID."""
    return {
        str(planning.headers[k].SOPInstanceUID): plane_digest(volume.array[k][box[1:]])
        for k in range(box[0].start, box[0].stop)
    }


def prescribed_dose(result: Result) -> Volume:
    """Prescribed total dose of each voxel in gray: the highest level of the targets it lies in; NaN outside all."""
    targets = [s for s in result.images.structures if s.dose is not None]
    if not targets:
        raise RequestError("No structure carries a dose.", "A set needs at least one prescribed target.")
    dose = np.full(targets[0].region.array.shape, np.nan, dtype=np.float32)
    for s in sorted(targets, key=lambda s: s.dose.dose_gy if s.dose else 0.0):
        dose[s.region.array] = s.dose.dose_gy if s.dose else np.nan
    return result.images.planning.with_array(
        dose, "prescribed dose of the targets", quantity="Prescribed dose", unit="Gy", facts={}
    )


def provenance_of(result: Result) -> dict[str, Any]:
    """What every object says about its origin, as plain data."""
    model = result.images.map.model
    return {
        "software": result.software,
        "surrogate": bool(result.images.map.surrogate),
        "label": model.label if model else "",
        "method": str(result.method["name"]),
        "quantity": f"{result.method['quantity']} [{result.method['unit']}]",
        "threshold": f"{result.comparison} {result.threshold:g} ({result.threshold_source})",
        "parameters": without_folders(dict(result.method.get("parameters", {}))),
        "protocol": result.prescription.protocol,
        "registration": result.registration.mode,
        "accepted_by": result.accepted_by,
        **({"model": model_facts(result)} if model else {}),
        "created": result.created,
        "request": without_folders({k: v for k, v in asdict(result.request).items() if k not in ("folder", "output")}),
        "input_uids": {use.role: use.series_uid for use in result.series},
    }


def model_facts(result: Result) -> dict[str, Any]:
    """What identifies the model behind a map, and what was said of its images; empty without a model."""
    model = result.images.map.model
    if model is None:
        return {}
    return {
        "name": model.name,
        "version": model.version,
        "origin": model.origin,
        "metadata_sha256": model.metadata_sha256,
        "in_distribution": model.in_distribution,
        "checks_failed": list(model.failed_checks),
        "distribution_override": distribution_override(result.images.map, result.request),
        "threshold": model.threshold_text,
        "images_used": list(model.images_used),
        "images_missing": list(model.images_missing),
        "weights_sha256": list(model.weights_sha256),
        "training_data": model.training_data,
        "device": model.device,
    }


def _write(result: Result, planning: ImageSeries, folder: Path, progress: Progress) -> None:
    """Write every object of the set."""
    created, provenance = datetime.fromisoformat(result.created), provenance_of(result)
    structures, box = result.images.structures, _box(result.images.structures)
    progress(0.0, "Writing RTSTRUCT")
    uid = write_rtstruct(folder / "RTSTRUCT.dcm", structures, planning, provenance, created, result.request.holes)
    plan_uid = write_rtplan(
        folder / "RTPLAN.dcm", structures, result.prescription, uid, planning, provenance, created
    )  # fmt: skip
    progress(0.2, "Writing SEG")
    write_seg(folder / "SEG.dcm", structures, planning, provenance, created)
    progress(0.4, "Writing Parametric Maps")
    map_volume, dose = result.images.map.volume, prescribed_dose(result)
    label = f"{map_word(result.images.map.surrogate).capitalize()}: {result.method['title']}"
    write_parametric_map(folder / "MAP.dcm", map_volume, planning, box, label, _map_quantity(result),
                         unit_code(map_volume.unit), provenance, created)  # fmt: skip
    for name, further in further_maps(result.images.map, box).items():
        write_parametric_map(folder / name, further.volume, planning, box, further.label, further.quantity,
                             unit_code(further.volume.unit), provenance, created)  # fmt: skip
    write_parametric_map(folder / "PRESCRIPTION.dcm", dose, planning, box, "Prescribed dose, not calculated",
                         PRESCRIPTION_CODE, unit_code("Gy"), provenance, created)  # fmt: skip
    if result.request.write_rtdose:
        write_rtdose(folder / "RTDOSE.dcm", dose, plan_uid, planning, provenance, created)


def _prove(result: Result, planning: ImageSeries, folder: Path, reference: Mapping[str, Any]) -> tuple[ProofRow, ...]:
    """Read the set back: structures against the masks shown, everything else against the record.

    Raises
    ------
    ProofError
        Naming every row that failed.
    """
    shown = {s.name: s.region for s in result.images.structures}
    against_masks = verify_rtstruct(folder / "RTSTRUCT.dcm", shown, planning.info.files)
    against_record = verify_set(folder, planning.info.files, reference)
    failed = [row for row in (*against_masks, *against_record) if not row.passed]
    if failed:
        reasons = "; ".join(f"{row.structure}: {row.reason}" for row in failed)
        raise ProofError(
            f"The set read back differs from what was shown: {reasons}.",
            "Nothing was delivered. Please report it with the planning CT's geometry.",
        )
    names = {row.structure for row in against_masks}
    return (*against_masks, *(row for row in against_record if row.structure not in names))


def _map_quantity(result: Result) -> Code:
    """Code of the map's quantity."""
    return quantity_code(result.images.map.volume.quantity)


def _box(structures: Sequence[Structure]) -> Box:
    """Smallest box (z, y, x) around all structures, a few voxels wider."""
    shape = structures[0].region.array.shape
    filled = [np.zeros(size, dtype=bool) for size in shape]
    for structure in structures:
        array = structure.region.array
        for axis in range(3):
            filled[axis] |= _profile(array, axis) > 0
    ends = [(int(f.argmax()), int(f.size - f[::-1].argmax())) for f in filled]
    z, y, x = (
        slice(max(0, low - BOX_BORDER_VOXELS), min(size, high + BOX_BORDER_VOXELS))
        for (low, high), size in zip(ends, shape, strict=True)
    )
    return z, y, x


def _structure_record(structure: Structure) -> dict[str, Any]:
    """Volume, centroid, dose and kind of a structure as shown."""
    region = structure.region
    indices = np.argwhere(region.array).mean(axis=0)[::-1]
    centre = region.mask.TransformContinuousIndexToPhysicalPoint(indices.tolist())
    dose = structure.dose.dose_gy if structure.dose else None
    return {"volume_ml": region.volume_ml, "centroid_mm": list(centre), "dose_gy": dose,
            "interpreted_type": structure.interpreted_type, "code": structure.code.value}  # fmt: skip


def _map_record(volume: Volume, box: Box, quantity: str) -> dict[str, Any]:
    """Quantity, unit and values of a map as shown; the centre is weighted by the values above the minimum."""
    part = volume.array[box].astype(float)
    defined = np.isfinite(part)
    values = part[defined]
    weights = np.where(defined, part - values.min(), 0.0)
    if not weights.any():
        weights = defined.astype(float)
    starts = [s.start for s in box]
    index = [start + float(np.average(np.arange(n), weights=_profile(weights, axis)))
             for axis, (n, start) in enumerate(zip(part.shape, starts, strict=True))]  # fmt: skip
    centre = volume.image.TransformContinuousIndexToPhysicalPoint(index[::-1])
    return {"quantity": quantity, "unit": volume.unit, "minimum": float(values.min()), "maximum": float(values.max()),
            "mean": float(values.mean()), "centre_mm": list(centre)}  # fmt: skip


def _profile(array: np.ndarray, axis: int) -> np.ndarray:
    """Sums over the two other axes."""
    return array.sum(axis=tuple(a for a in range(3) if a != axis))


def without_folders(value: Any) -> Any:
    """Plain data as JSON can hold it, files by their name alone: folders are this computer's, and may hold names."""
    if isinstance(value, Mapping):
        return {key: without_folders(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(v) for v in value]
    if isinstance(value, str | Path):
        return ";".join(_name_of(part) for part in str(value).split(";"))
    return value if isinstance(value, int | float | bool | type(None)) else str(value)


def _name_of(text: str) -> str:
    """Name of a file that is told with its folder, in the way of any system; other text as it is (/min is a unit)."""
    path = PureWindowsPath(text.strip()) if re.match(r"\s*([A-Za-z]:[\\/]|\\\\)", text) else Path(text.strip())
    in_folder = len(path.parts) > (2 if path.is_absolute() else 1)
    return path.name if in_folder and (path.is_absolute() or os.path.exists(path)) else text


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that this export made and left empty."""
    if not any(folder.iterdir()):
        folder.rmdir()
