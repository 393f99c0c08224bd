"""A digital head-and-neck patient whose true hypoxic volume is known, as a folder of DICOM.

The way of the data: anatomy and disease -> true uptake -> PET blur and noise, CT, MR -> DICOM. Beside the files stands
the truth, so that a run of the whole street can say how far off it is.
"""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import OutputError, RequestError
from ..methods._base import Progress, no_progress
from ..resample import resample_to
from ..volume import Region, Volume
from . import imaging
from .anatomy import BRAINSTEM, CORD, REFERENCE_BLOOD, REFERENCE_MUSCLE, normal_tissues
from .dicom_writer import Identity, write_ct, write_mr, write_pet
from .imaging import CT_GRID, FDG, FMISO, MR_GRID, PET_GRID, PHANTOM_GRID
from .shapes import Mesh, mask_of
from .structure_set import write_rtstruct
from .tumour import Disease, grow_disease

DEFAULT_SEED = 20260101
TRUTH_THRESHOLD = 1.2
"""FMISO tumour-to-blood ratio above which a voxel is hypoxic (MSKCC, METHODS section 2)."""
COMPARISONS = {">": operator.gt, ">=": operator.ge}
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
        passed = COMPARISONS[comparison](ratio.array, threshold) & self.regions[roi].array
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
    if seed < 0:
        raise RequestError(f"Seed {seed} is negative.", "Give a seed of 0 or more.")
    folder = Path(folder)
    progress(0.0, "digital patient: anatomy")
    mesh = PHANTOM_GRID.mesh()
    tumour_rng, ct_rng, mr_rng, fmiso_rng, fdg_rng = (np.random.default_rng(s) for s in _streams(seed))
    normal = normal_tissues(mesh)
    disease = grow_disease(mesh, normal, tumour_rng)
    labels = imaging.paint_disease(normal, disease)
    identity = Identity(seed)
    ct = CT_GRID.image(imaging.crop_to_ct(imaging.ct_numbers(labels, ct_rng)))
    regions = _regions(mesh, disease, ct, identity)

    progress(0.4, "digital patient: PET and MR")
    ratio = imaging.fmiso_ratio(labels, disease)
    blurred = imaging.blurred_on_pet(ratio)
    fmiso = PET_GRID.image(imaging.measured_activity_bq_ml(FMISO, blurred, fmiso_rng))
    blurred_fdg = imaging.blurred_on_pet(imaging.fdg_suv(labels, disease))
    fdg = PET_GRID.image(imaging.measured_activity_bq_ml(FDG, blurred_fdg, fdg_rng))
    mr = MR_GRID.image(imaging.mr_signal(labels, mr_rng))

    progress(0.7, "digital patient: writing DICOM")
    with _new_folder(folder) as unfinished:
        ct_slices = write_ct(unfinished / "CT", ct, identity)
        write_pet(unfinished / "PET_FMISO", fmiso, FMISO, identity)
        write_pet(unfinished / "PET_FDG", fdg, FDG, identity)
        write_mr(unfinished / "MR_T1", mr, identity)
        styled = {name: (regions[name].array, *style) for name, style in ROI_STYLES.items()}
        write_rtstruct(unfinished / "RTSTRUCT" / "structures.dcm", styled, ct, ct_slices, identity)
    progress(1.0, "digital patient: done")
    return _with_truth(folder, identity, imaging.crop_to_ct(ratio), blurred, ct, regions)


def _streams(seed: int) -> list[np.random.SeedSequence]:
    """Independent random streams for tumour, CT, MR, FMISO and FDG."""
    return np.random.SeedSequence(seed).spawn(5)


def _regions(mesh: Mesh, disease: Disease, ct: sitk.Image, identity: Identity) -> dict[str, Region]:
    """The ROIs of the RTSTRUCT on the CT grid."""
    masks = {
        "GTVp": disease.primary,
        "GTVn": disease.node,
        "SpinalCord": mask_of(mesh, CORD) & (mesh.z < 68),
        "Brainstem": mask_of(mesh, BRAINSTEM),
        "Ref_Blood": mask_of(mesh, REFERENCE_BLOOD),
        "Ref_Muscle": mask_of(mesh, REFERENCE_MUSCLE),
    }
    frame = identity.frame_of_reference_uid
    regions = {}
    for name, mask in masks.items():
        image = sitk.GetImageFromArray(imaging.crop_to_ct(mask).astype(np.uint8))
        image.CopyInformation(ct)
        regions[name] = Region(name, image, frame, "digital patient, as drawn")
    return regions


def _with_truth(
    folder: Path, identity: Identity, ratio: np.ndarray, blurred: np.ndarray, ct: sitk.Image, regions: dict[str, Region]
) -> DigitalPatient:
    """The patient with true and blurred ratio on the CT grid."""
    frame = identity.frame_of_reference_uid
    facts = {"tracer": "FMISO", "minutes_after_injection": FMISO.delay_s / 60.0, "reference": "true blood"}
    name, unit = "FMISO tissue-to-blood ratio", "{ratio}"
    truth = Volume(CT_GRID.image(ratio), name, unit, frame, operations=("simulated, unblurred",), facts=facts)
    how = f"simulated, noise-free, point spread {imaging.PSF_FWHM_MM:g} mm FWHM"
    on_pet = Volume(PET_GRID.image(blurred), name, unit, frame, operations=(how,), facts=facts)
    hypoxic = (ratio > TRUTH_THRESHOLD) & regions["GTVp"].array
    true_hypoxic = regions["GTVp"].with_array(hypoxic, f"unblurred ratio > {TRUTH_THRESHOLD:g} in GTVp", "true hypoxic")
    return DigitalPatient(folder, identity.seed, true_hypoxic, truth, resample_to(on_pet, ct, frame), regions)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
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
