"""A digital head-and-neck patient whose true hypoxic volume is known, as a folder of DICOM.

The way of the data: anatomy and disease -> true uptake -> PET blur and noise, CT, MR -> DICOM. Beside the files stands
the truth, so that a run of the whole street can say how far off it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, RequestError
from ..methods._base import Progress, no_progress
from ..resample import resample_to
from ..volume import COMPARISONS, Region, Volume, beyond
from . import imaging
from .anatomy import BRAINSTEM, CORD, CORD_TOP_MM, REFERENCE_BLOOD, REFERENCE_MUSCLE, normal_tissues
from .dicom_writer import Identity, write_ct, write_mr, write_pet
from .imaging import CT_GRID, FDG, FMISO, MR_GRID, PET_GRID, PHANTOM_GRID
from .shapes import Mesh, mask_of
from .structure_set import write_rtstruct
from .tumour import Disease, grow_disease

DEFAULT_SEED = 20260101
TRUTH_THRESHOLD = 1.2
"""FMISO tumour-to-blood ratio above which a voxel is hypoxic (MSKCC, METHODS section 2)."""
ROI_STYLES = {
    # name: RT ROI interpreted type, colour
    "GTVp": ("GTV", (230, 40, 40)),
    "GTVn": ("GTV", (240, 140, 40)),
    "SpinalCord": ("ORGAN", (250, 230, 60)),
    "Brainstem": ("ORGAN", (90, 200, 90)),
    "Ref_Blood": ("CONTROL", (220, 60, 160)),
    "Ref_Muscle": ("CONTROL", (150, 90, 60)),
}


@dataclass(frozen=True)
class DigitalPatient:
    """A digital patient on disk and the truth about it.

    Parameters
    ----------
    folder : Path
        DICOM folder: CT, two PET, MR, RTSTRUCT.
    true_hypoxic : Region
        Voxels of the primary GTV whose unblurred FMISO ratio exceeds ``TRUTH_THRESHOLD``, on the CT grid. The necrotic
        centre takes up little tracer and is not part of it.
    truth_ratio : Volume
        Unblurred, noise-free tissue-to-blood ratio of FMISO on the CT grid.
    blurred_ratio : Volume
        Noise-free ratio as the PET resolves it: blurred, sampled on the PET grid, linearly resampled to the CT grid.
    regions : mapping of str to Region
        Every ROI of the RTSTRUCT as drawn, on the CT grid.
    """

    folder: Path
    seed: int
    true_hypoxic: Region
    truth_ratio: Volume
    blurred_ratio: Volume
    regions: Mapping[str, Region]
    reference_roi: str = "Ref_Blood"
    gtv_rois: tuple[str, ...] = ("GTVp", "GTVn")
    organ_rois: tuple[str, ...] = ("SpinalCord", "Brainstem")

    def true_hypoxic_volume_ml(
        self, threshold: float = TRUTH_THRESHOLD, comparison: str = ">", roi: str = "GTVp"
    ) -> float:
        """Volume in ml of an ROI in which the unblurred ratio passes a threshold."""
        return self._volume_ml(self.truth_ratio, threshold, comparison, roi)

    def blurred_hypoxic_volume_ml(
        self, threshold: float = TRUTH_THRESHOLD, comparison: str = ">", roi: str = "GTVp"
    ) -> float:
        """Volume in ml of an ROI in which the noise-free blurred ratio passes a threshold."""
        return self._volume_ml(self.blurred_ratio, threshold, comparison, roi)

    def truth(self) -> dict[str, Any]:
        """The truth as plain data for ``truth.json``, volumes in ml per GTV."""
        return {
            "seed": self.seed,
            "quantity": "FMISO tissue-to-blood ratio",
            "threshold": TRUTH_THRESHOLD,
            "comparison": ">",
            "psf_fwhm_mm": imaging.PSF_FWHM_MM,
            "noise_at_blood": FMISO.noise_at_blood,
            "reference_roi": self.reference_roi,
            "gtv_volume_ml": {roi: round(self.regions[roi].volume_ml, 6) for roi in self.gtv_rois},
            "true_hypoxic_volume_ml": {roi: self.true_hypoxic_volume_ml(roi=roi) for roi in self.gtv_rois},
            "blurred_hypoxic_volume_ml": {roi: self.blurred_hypoxic_volume_ml(roi=roi) for roi in self.gtv_rois},
        }

    def _volume_ml(self, ratio: Volume, threshold: float, comparison: str, roi: str) -> float:
        if comparison not in COMPARISONS or roi not in self.regions:
            raise RequestError(
                f"Digital patient: comparison {comparison!r} in ROI {roi!r}.",
                f"Valid comparisons: {', '.join(COMPARISONS)}; ROIs: {', '.join(self.regions)}.",
            )
        passed = beyond(ratio.array, threshold, comparison) & self.regions[roi].array
        return round(float(np.count_nonzero(passed)) * ratio.voxel_volume_ml, 6)


def make_patient(folder: Path, seed: int = DEFAULT_SEED, progress: Progress = no_progress) -> DigitalPatient:
    """Write a digital patient into a new folder; the same seed gives the same bytes.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty.
    seed : int
        Not negative; shapes tumour surface, uptake texture and noise, and all UIDs.

    Raises
    ------
    RequestError
        Negative seed.
    OutputError
        The folder holds something already or cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    progress(0.0, "digital patient: anatomy")
    world = _simulate(seed)
    progress(0.5, "digital patient: images")
    with new_folder(folder) as unfinished:
        _write(unfinished, world)
    progress(1.0, "digital patient: done")
    return _with_truth(folder, world)


@dataclass(frozen=True)
class _World:
    """What is simulated before any scanner's noise: arrays on the phantom grid, ``blurred`` on the PET grid."""

    identity: Identity
    mesh: Mesh
    disease: Disease
    labels: np.ndarray
    fmiso_ratio: np.ndarray
    blurred_ratio: np.ndarray


def _streams(seed: int) -> list[np.random.Generator]:
    """Independent random streams: tumour, CT, MR, FMISO, FDG."""
    if seed < 0:
        raise RequestError(f"Seed {seed} is negative.", "Give a seed of 0 or more.")
    return [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(5)]


def _simulate(seed: int) -> _World:
    """Anatomy, disease and true FMISO uptake."""
    tumour_rng = _streams(seed)[0]
    mesh = PHANTOM_GRID.mesh()
    normal = normal_tissues(mesh)
    disease = grow_disease(mesh, normal, tumour_rng)
    labels = imaging.paint_disease(normal, disease)
    ratio = imaging.fmiso_ratio(labels, disease)
    return _World(Identity(seed), mesh, disease, labels, ratio, imaging.blurred_on_pet(ratio))


def _write(folder: Path, world: _World) -> None:
    """Scan the patient and write every series."""
    _, ct_rng, mr_rng, fmiso_rng, fdg_rng = _streams(world.identity.seed)
    identity = world.identity
    ct = CT_GRID.image(imaging.crop_to_ct(imaging.ct_numbers(world.labels, ct_rng)))
    ct_slices = write_ct(folder / "CT", ct, identity)
    fmiso = imaging.measured_activity_bq_ml(FMISO, world.blurred_ratio, fmiso_rng)
    write_pet(folder / "PET_FMISO", PET_GRID.image(fmiso), FMISO, identity)
    blurred_fdg = imaging.blurred_on_pet(imaging.fdg_suv(world.labels, world.disease))
    fdg = imaging.measured_activity_bq_ml(FDG, blurred_fdg, fdg_rng)
    write_pet(folder / "PET_FDG", PET_GRID.image(fdg), FDG, identity)
    write_mr(folder / "MR_T1", MR_GRID.image(imaging.mr_signal(world.labels, mr_rng)), identity)
    regions = _regions(world)
    styled = {name: (regions[name].array, *style) for name, style in ROI_STYLES.items()}
    write_rtstruct(folder / "RTSTRUCT" / "structures.dcm", styled, ct, ct_slices, identity)


def _regions(world: _World) -> dict[str, Region]:
    """The ROIs of the RTSTRUCT on the CT grid."""
    mesh = world.mesh
    masks = {
        "GTVp": world.disease.primary,
        "GTVn": world.disease.node,
        "SpinalCord": mask_of(mesh, CORD) & (mesh.z < CORD_TOP_MM),
        "Brainstem": mask_of(mesh, BRAINSTEM),
        "Ref_Blood": mask_of(mesh, REFERENCE_BLOOD),
        "Ref_Muscle": mask_of(mesh, REFERENCE_MUSCLE),
    }
    frame = world.identity.frame_of_reference_uid
    return {
        name: Region(name, CT_GRID.image(imaging.crop_to_ct(mask).astype(np.uint8)), frame, "digital patient, as drawn")
        for name, mask in masks.items()
    }


def _with_truth(folder: Path, world: _World) -> DigitalPatient:
    """The patient with true and blurred ratio on the CT grid."""
    frame = world.identity.frame_of_reference_uid
    facts = {"tracer": "FMISO", "minutes_after_injection": FMISO.delay_s / 60.0, "reference": "true blood"}
    name, unit = "FMISO tissue-to-blood ratio", "{ratio}"
    ratio = CT_GRID.image(imaging.crop_to_ct(world.fmiso_ratio))
    truth = Volume(ratio, name, unit, frame, operations=("simulated, unblurred",), facts=facts)
    how = f"simulated, noise-free, point spread {imaging.PSF_FWHM_MM:g} mm FWHM"
    on_pet = Volume(PET_GRID.image(world.blurred_ratio), name, unit, frame, operations=(how,), facts=facts)
    regions = _regions(world)
    hypoxic = (truth.array > TRUTH_THRESHOLD) & regions["GTVp"].array
    true_hypoxic = regions["GTVp"].with_array(hypoxic, f"unblurred ratio > {TRUTH_THRESHOLD:g} in GTVp", "true hypoxic")
    return DigitalPatient(folder, world.identity.seed, true_hypoxic, truth, resample_to(on_pet, ratio, frame), regions)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder that appears under its own name only when everything in it has been written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already and is not empty.", "Give a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".digital-", dir=folder.parent) as hidden:
            unfinished = Path(hidden) / folder.name
            unfinished.mkdir()
            yield unfinished
            if folder.exists():
                folder.rmdir()
            unfinished.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.", "Choose a writable folder with free space."
        ) from error
