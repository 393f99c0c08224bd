"""A simulated patient on disk: NIfTI with sidecars, or DICOM as a clinic would send it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import OutputError
from ..niftiio import write_nifti
from ..volume import Volume, image_like
from .anatomy import CODE, TISSUES
from .cohort import SimulatedCase
from .dicom_writer import Identity, write_ct, write_mr, write_pet
from .digital_patient import new_folder
from .imaging import FDG, PetScan, fwhm_to_sigma
from .structure_set import write_rtstruct

HYPOXIA_DOSE_BQ = 3.7e8
HYPOXIA_BLOOD_SUV = 1.25
"""SUVbw of blood at the hypoxia scan [O]: turns the simulated ratio into activity."""
BLOOD_RADIUS_MM = 13.0
REFERENCE_RADIUS_MM = 6.5
"""The reference lies 6.5 mm inside the sphere of blood, so that partial volume does not bias it."""
T1_WINDOW = 2000.0
"""Stored value of the brightest T1 signal's 99th percentile."""
GTV_STYLE = ("GTV", (230, 40, 40))
BLOOD_STYLE = ("CONTROL", (220, 60, 160))


def write_case_volumes(case: SimulatedCase, folder: Path) -> Path:
    """Write images, GTV and truth as NIfTI with JSON sidecars, and ``facts.json``: the layout ``hypoxia train`` reads.

    ``<key>.nii.gz`` for each image, ``gtv.nii.gz``, ``ratio.nii.gz`` (what is learned) and ``ratio_unblurred.nii.gz``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The folder holds something already or cannot be written; nothing is left behind.
    """
    mask = Volume(case.gtv.mask, "mask", "1", case.gtv.frame_of_reference_uid, operations=(case.gtv.source,))
    volumes = {**case.images, "gtv": mask, "ratio": case.truth_ratio, "ratio_unblurred": case.truth_unblurred}
    with new_folder(Path(folder)) as unfinished:
        for key, volume in volumes.items():
            write_nifti(volume, unfinished / f"{key}.nii.gz")
        (unfinished / "facts.json").write_text(json.dumps(dict(case.facts), indent=2) + "\n", encoding="utf-8")
    return Path(folder)


def write_case_dicom(case: SimulatedCase, folder: Path) -> Path:
    """Write CT, FDG PET, hypoxia PET, T1 MR and an RTSTRUCT (GTV, Ref_Blood) as DICOM.

    The box holds no vessel wide enough for a blood reference. A sphere of blood, which is no anatomy, is therefore put
    into a corner of the box, in the hypoxia PET and the CT; the mean of ``Ref_Blood`` in it gives the simulated ratio
    back. ADC, Ktrans and R2* are written by ``write_case_volumes`` only.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The folder holds something already or cannot be written; nothing is left behind.
    """
    identity = Identity(case.seed, case.cohort)
    centre = _blood_centre(case)
    ct = _as_ct(case, centre)
    on_ct = sitk.Resample(case.gtv.mask, ct, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor)
    gtv = np.stack([ndimage.binary_fill_holes(plane) for plane in sitk.GetArrayFromImage(on_ct)])
    reference = _distance_mm(ct, centre) <= REFERENCE_RADIUS_MM
    scan, activity = _hypoxia_activity(case, centre)
    fdg = case.images["fdg"]
    masks = {"GTVp": (gtv, *GTV_STYLE), "Ref_Blood": (reference, *BLOOD_STYLE)}
    with new_folder(Path(folder)) as unfinished:
        slices = write_ct(unfinished / "CT", ct, identity)
        write_pet(
            unfinished / f"PET_{scan.tracer}", image_like(activity, case.images["hypoxia_pet"].image), scan, identity
        )
        suv = fdg.array * np.float32(FDG.activity_per_suv())
        write_pet(unfinished / "PET_FDG", image_like(suv, fdg.image), FDG, identity)
        write_mr(unfinished / "MR_T1", _as_stored_t1(case), identity)
        write_rtstruct(unfinished / "RTSTRUCT" / "structures.dcm", masks, ct, slices, identity)
    return Path(folder)


def _blood_centre(case: SimulatedCase) -> np.ndarray:
    """Corner of the hypoxia PET farthest from the GTV, one sphere and a margin inside; LPS mm (x, y, z).

    Raises
    ------
    OutputError
        If the sphere would come near the tumour.
    """
    image = case.images["hypoxia_pet"].image
    inset = BLOOD_RADIUS_MM + 3.0
    low = np.array(image.GetOrigin()) + inset
    high = np.array(image.TransformIndexToPhysicalPoint([n - 1 for n in image.GetSize()])) - inset
    ends = np.stack([low, high])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    first, spacing = np.array(case.gtv.mask.GetOrigin()), np.array(case.gtv.mask.GetSpacing())
    inside = np.argwhere(case.gtv.array)[:, ::-1] * spacing + first
    gaps = np.array([np.linalg.norm(inside - corner, axis=1).min() for corner in corners]) - BLOOD_RADIUS_MM
    if gaps.max() < 6.0:
        raise OutputError(f"Seed {case.seed}: no room for a sphere of blood beside the tumour.", "Take another seed.")
    return corners[int(np.argmax(gaps))]


def _distance_mm(image: sitk.Image, centre: np.ndarray) -> np.ndarray:
    """Distance of every voxel of an axial image from a point, mm (z, y, x)."""
    axes = [
        first + step * np.arange(count) - at
        for first, step, count, at in zip(image.GetOrigin(), image.GetSpacing(), image.GetSize(), centre, strict=True)
    ]
    return np.sqrt(axes[2][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[0][None, None, :] ** 2)


def _as_ct(case: SimulatedCase, centre: np.ndarray) -> sitk.Image:
    """CT with the sphere of blood, int16 HU."""
    image = case.images["ct"].image
    hu = sitk.GetArrayFromImage(image)
    hu[_distance_mm(image, centre) <= BLOOD_RADIUS_MM] = TISSUES[CODE["blood"]].hu
    return image_like(hu.astype(np.int16), image)


def _hypoxia_activity(case: SimulatedCase, centre: np.ndarray) -> tuple[PetScan, np.ndarray]:
    """Scan and activity in Bq/ml of the hypoxia PET with the sphere of blood, float32 (z, y, x)."""
    volume = case.images["hypoxia_pet"]
    distance = _distance_mm(volume.image, centre)
    fwhm_mm = float(case.facts["hypoxia_pet_psf_fwhm_mm"])
    sphere = ndimage.gaussian_filter(
        (distance <= BLOOD_RADIUS_MM).astype(np.float32), fwhm_to_sigma(fwhm_mm) / np.array(volume.image.GetSpacing())
    )
    ratio = volume.array * (1.0 - sphere) + sphere
    minutes, tracer = float(volume.facts["minutes_after_injection"]), str(volume.facts["tracer"])
    scan = PetScan(tracer, HYPOXIA_DOSE_BQ, round(minutes * 60.0), 900.0, HYPOXIA_BLOOD_SUV, 0.0)
    return scan, (ratio * (scan.blood_suv * scan.activity_per_suv())).astype(np.float32)


def _as_stored_t1(case: SimulatedCase) -> sitk.Image:
    """T1-weighted signal in stored values, uint16; its unit is arbitrary."""
    image = case.images["t1"].image
    signal = sitk.GetArrayFromImage(image)
    stored = np.clip(np.rint(signal * (T1_WINDOW / float(np.percentile(signal, 99)))), 0, 4095)
    return image_like(stored.astype(np.uint16), image)
