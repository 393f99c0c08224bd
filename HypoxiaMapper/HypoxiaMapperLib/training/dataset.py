"""Patients of a training: prepared once, kept as float16, split by patient."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..errors import InputError, OutputError
from ..inference.channels import CHANNELS, KEYS
from ..inference.prepare import LEAST_COVERED, prepare, sample
from ..methods import Progress
from .config import DataConfig, SplitConfig, TrainingConfig

GATE_PERCENTILES = (1.0, 50.0, 99.0)
"""Of each image inside the GTV, kept per patient: what the training data looked like."""

_PROBES = 8  # patients whose images name the cache


@dataclass(frozen=True)
class Case:
    """A prepared patient.

    Parameters
    ----------
    images : numpy.ndarray
        float16, shape (channels, z, y, x): scaled, 0 where missing.
    present : numpy.ndarray
        bool, shape (channels,).
    gtv : numpy.ndarray
        bool, shape (z, y, x).
    ratio : numpy.ndarray
        float16, shape (z, y, x): what is learned; NaN where unknown.
    percentiles : numpy.ndarray
        Shape (channels, 3): ``GATE_PERCENTILES`` of each image inside the GTV, in its unit (relative channels: over
        the median of the box); NaN where missing.
    spacings_mm : numpy.ndarray
        Shape (channels, 3): voxel size of the image as it came; NaN where missing.
    """

    patient: str
    images: np.ndarray
    present: np.ndarray
    gtv: np.ndarray
    ratio: np.ndarray
    percentiles: np.ndarray
    spacings_mm: np.ndarray

    @property
    def gtv_ml(self) -> float:
        """Volume of the GTV on the network's grid (27 mm3 voxels)."""
        return float(self.gtv.sum()) * 0.027


def patients_of(data: DataConfig) -> tuple[str, ...]:
    """Names of all patients of a configuration: folder names, or seeds."""
    if data.source == "pairs":
        from .pairs import patient_folders

        return tuple(p.name for p in patient_folders(Path(data.folder)))
    return tuple(str(data.seed + i) for i in range(data.patients))


def split_patients(patients: Sequence[str], split: SplitConfig) -> dict[str, tuple[str, ...]]:
    """Training, validation and test patients: fixed by names and seed, whatever the order of the list.

    Raises
    ------
    InputError
        If no patient is left to train on or to validate.
    """
    if len(set(patients)) != len(patients):
        raise InputError("A patient is listed twice.", "Every patient may stand in one part only.")
    order = sorted(patients, key=lambda name: hashlib.sha256(f"{split.seed}:{name}".encode()).hexdigest())
    validation = max(1, round(split.validation * len(order))) if split.validation else 0
    test = max(1, round(split.test * len(order))) if split.test else 0
    parts = {
        "validation": tuple(order[:validation]),
        "test": tuple(order[validation : validation + test]),
        "training": tuple(order[validation + test :]),
    }
    if not parts["training"] or not parts["validation"]:
        raise InputError(
            f"{len(order)} patients give {len(parts['training'])} to train and {validation} to validate.",
            "Give more patients, or other fractions.",
        )
    return parts


def make_case(data: DataConfig, patient: str) -> Case:
    """Read or simulate one patient and bring it to the network's grid."""
    if data.source == "pairs":
        from .pairs import read_patient

        images, gtv, ratio = read_patient(Path(data.folder) / patient)
    else:
        from ..simulate.cohort import simulate_case

        simulated = simulate_case(int(patient), data.cohort)
        images, gtv, ratio = dict(simulated.images), simulated.gtv, simulated.truth_ratio
    prepared = prepare(images, gtv)
    target, _ = sample(ratio.image, prepared.grid)
    if np.isfinite(target[prepared.gtv]).mean() < LEAST_COVERED:
        raise InputError(f"{patient}: the ratio covers less than half of the GTV.", "Check the file and its geometry.")
    percentiles = np.full((len(CHANNELS), len(GATE_PERCENTILES)), np.nan)
    spacings = np.full((len(CHANNELS), 3), np.nan)
    for key, values in prepared.values.items():
        level = 1.0
        if CHANNELS[KEYS.index(key)].relative:
            level = float(np.median(values[np.isfinite(values) & (values > 0)]))
        percentiles[KEYS.index(key)] = np.nanpercentile(values[prepared.gtv], GATE_PERCENTILES) / level
        spacings[KEYS.index(key)] = prepared.spacings_mm[key]
    return Case(
        patient,
        prepared.inputs[: len(CHANNELS)].astype(np.float16),
        np.array([key in prepared.present for key in KEYS]),
        prepared.gtv,
        target.astype(np.float16),
        percentiles,
        spacings,
    )


def load_cases(config: TrainingConfig, cache: Path, progress: Progress) -> dict[str, Case]:
    """All patients by name, from the cache where they are in it; what is prepared now is kept there.

    Parameters
    ----------
    cache : Path
        Holds one folder per kind of data; its name changes when the simulator or the preparation does.
    """
    patients = patients_of(config.data)
    folder = cache_folder(config.data, cache)
    wanting = [name for name in patients if not (folder / f"{name}.npz").is_file()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for done, name in enumerate(_prepare_all(config.data, wanting, folder), 1):
            progress(done / len(wanting), f"patient {name} prepared ({done} of {len(wanting)})")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.", "Check the disk.") from error
    return {name: read_case(folder / f"{name}.npz") for name in patients}


def cache_folder(data: DataConfig, cache: Path) -> Path:
    """Where prepared patients of a configuration lie: named after what a few of them look like.

    The same seed gives other images once the simulator changes, and the name with it: nothing stale is used.
    """
    patients = patients_of(data)
    digest = hashlib.sha256()
    for name in patients[:: -(-len(patients) // _PROBES)]:
        case = make_case(data, name)
        for array in (case.images, case.gtv, case.ratio):
            digest.update(np.ascontiguousarray(array).tobytes())
    kind = data.cohort if data.source == "simulated" else "pairs"
    return cache / f"{kind}-{digest.hexdigest()[:12]}"


def read_case(path: Path) -> Case:
    """A patient from the cache."""
    with np.load(path, allow_pickle=False) as stored:
        return Case(path.stem, **{name: stored[name] for name in stored.files})


def write_case(case: Case, path: Path) -> None:
    """Write a patient to the cache, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    arrays = {name: value for name, value in vars(case).items() if name != "patient"}
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)


def _prepare_all(data: DataConfig, patients: Sequence[str], folder: Path) -> Iterator[str]:
    """Prepare patients in several processes; yields the name of each when it is in the cache."""
    workers = min(data.workers or os.cpu_count() or 1, len(patients))
    if workers <= 1:
        for name in patients:
            yield _prepare_one(data, name, folder)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = [pool.submit(_prepare_one, data, name, folder) for name in patients]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare_one(data: DataConfig, patient: str, folder: Path) -> str:
    write_case(make_case(data, patient), folder / f"{patient}.npz")
    return patient


def _one_thread() -> None:
    """Every process is one core's worth: threads of their own would only get into each other's way."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
