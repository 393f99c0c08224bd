"""From tissues to images: CT numbers, MR signal, and the PET chain activity -> blur -> noise on the scanner's own grid.

Sources: PET point spread 5-7 mm, voxels 2-4 mm, variance-matched noise, Rician MR noise (METHODS section 10); decay
(METHODS section 1). Noise levels, SUV of blood, dose, weight and times are choices of the simulation; the PET noise is
lower than a clinical scan's, so that a run can be judged against the noise-free truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..tracers import FLUORINE18_HALF_LIFE_S
from .anatomy import CODE, TISSUES
from .shapes import Mesh
from .tumour import Disease

XYZ = tuple[float, float, float]

SCANNER_OFFSET_MM: XYZ = (4.5, -142.25, -812.5)
"""Patient coordinates of the shapes -> LPS of the scanners: nothing may rely on an origin of zero."""
PSF_FWHM_MM = 6.0
NOISE_FWHM_MM = 4.0
"""Correlation length of reconstructed PET noise."""
WEIGHT_KG = 74.0


@dataclass(frozen=True)
class Grid:
    """An axial grid: size and spacing (x, y, z), centre of the first voxel in patient millimetres."""

    size: tuple[int, int, int]
    spacing_mm: XYZ
    first_mm: XYZ

    def mesh(self) -> Mesh:
        """Voxel centres in patient millimetres."""
        x, y, z = (f + s * np.arange(n) for f, s, n in zip(self.first_mm, self.spacing_mm, self.size, strict=True))
        return Mesh.from_axes(x, y, z)

    def image(self, array: np.ndarray) -> sitk.Image:
        """Array (z, y, x) as an image in LPS millimetres of the scanners' frame of reference."""
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin([a + b for a, b in zip(self.first_mm, SCANNER_OFFSET_MM, strict=True)])
        return image


PAD_SLICES = 9
"""The phantom reaches beyond the CT on both ends, as a patient does; else the PET would blur into nothing there."""
CT_GRID = Grid((160, 160, 80), (2.0, 2.0, 3.0), (-159.0, -150.0, -120.0))
PHANTOM_GRID = Grid((160, 160, 80 + 2 * PAD_SLICES), (2.0, 2.0, 3.0), (-159.0, -150.0, -120.0 - 3.0 * PAD_SLICES))
PET_GRID = Grid((84, 84, 64), (4.0, 4.0, 4.0), (-166.3, -158.7, -127.4))
MR_GRID = Grid((160, 160, 54), (1.5, 1.5, 3.3), (-120.6, -123.9, -60.8))


@dataclass(frozen=True)
class PetScan:
    """A static PET scan: what was injected, when it was scanned, and how noisy it is.

    Parameters
    ----------
    blood_suv : float
        SUVbw of blood at scan time; 1 for tracers whose tissue table already is in SUVbw.
    noise_at_blood : float
        Standard deviation of a voxel of blood relative to its mean; the variance grows with activity as counts do.
    """

    tracer: str
    dose_bq: float
    delay_s: float
    duration_s: float
    blood_suv: float
    noise_at_blood: float

    def activity_per_suv(self) -> float:
        """Bq/ml at scan start for SUVbw 1 (METHODS section 1)."""
        return self.dose_bq * 2.0 ** (-self.delay_s / FLUORINE18_HALF_LIFE_S) / (WEIGHT_KG * 1000.0)


FMISO = PetScan("FMISO", 3.70e8, 150 * 60.0, 900.0, blood_suv=1.25, noise_at_blood=0.03)
FDG = PetScan("FDG", 3.33e8, 60 * 60.0, 600.0, blood_suv=1.0, noise_at_blood=0.05)


def ct_numbers(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """CT numbers in HU, int16 (z, y, x): tissue values, soft edges, soft-tissue texture and noise."""
    hu = _table("hu")[labels]
    hu = ndimage.gaussian_filter(hu, (0.25, 0.5, 0.5))
    texture = ndimage.gaussian_filter(rng.standard_normal(labels.shape).astype(np.float32), 1.6)
    noise = ndimage.gaussian_filter(rng.standard_normal(labels.shape).astype(np.float32), (0.0, 0.6, 0.6))
    hu += np.where(hu > -300, 7.0 * texture / texture.std(), 0.0) + 9.0 * noise / noise.std()
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def mr_signal(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """T1-weighted signal on ``MR_GRID``, uint16 (z, y, x), with a smooth receive field and Rician noise."""
    signal = ndimage.gaussian_filter(_table("t1_signal")[labels], (0.3, 0.5, 0.5))
    on_mr = sample(PHANTOM_GRID.image(signal), MR_GRID)
    mesh = MR_GRID.mesh()
    on_mr = on_mr * (1.0 + 0.0012 * (mesh.y - 10.0) - 0.0008 * mesh.z)
    real, imaginary = 14.0 * rng.standard_normal((2, *on_mr.shape))
    return np.clip(np.rint(np.hypot(on_mr + real, imaginary)), 0, 4095).astype(np.uint16)


def fmiso_ratio(labels: np.ndarray, disease: Disease) -> np.ndarray:
    """True tissue-to-blood ratio of FMISO, unblurred, float32 (z, y, x) on the phantom grid."""
    return _with_disease(_table("fmiso_ratio")[labels], disease, disease.fmiso_ratio)


def fdg_suv(labels: np.ndarray, disease: Disease) -> np.ndarray:
    """True SUVbw of FDG, unblurred, float32 (z, y, x) on the phantom grid."""
    return _with_disease(_table("fdg_suv")[labels], disease, disease.fdg_suv)


def paint_disease(labels: np.ndarray, disease: Disease) -> np.ndarray:
    """Tissue map with tumour and necrosis in it."""
    diseased = labels.copy()
    diseased[disease.primary | disease.node] = CODE["tumour"]
    diseased[disease.necrosis] = CODE["necrosis"]
    return diseased


def blurred_on_pet(uptake: np.ndarray) -> np.ndarray:
    """Uptake on the phantom grid seen through the PET's point spread at its voxel centres: noise-free, (z, y, x)."""
    sigma = np.array(PHANTOM_GRID.spacing_mm[::-1])
    blurred = ndimage.gaussian_filter(uptake.astype(np.float32), fwhm_to_sigma(PSF_FWHM_MM) / sigma)
    return np.maximum(sample(PHANTOM_GRID.image(blurred), PET_GRID), 0.0)


def measured_activity_bq_ml(scan: PetScan, blurred: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Activity the scanner reports, decay-corrected to scan start, with correlated noise, float32 Bq/ml.

    The variance of a voxel is proportional to its activity, as for counts (variance-matched noise, METHODS section 10):
    sd = noise_at_blood * sqrt(uptake * blood), uptake and blood in one unit.

    Parameters
    ----------
    blurred : numpy.ndarray
        Noise-free ratio to blood (FMISO) or SUVbw (FDG) on the PET grid.
    """
    sigma = fwhm_to_sigma(NOISE_FWHM_MM) / np.array(PET_GRID.spacing_mm[::-1])
    noise = ndimage.gaussian_filter(rng.standard_normal(blurred.shape), sigma)
    noise /= noise.std()
    blood = 1.0 if scan.tracer == "FMISO" else TISSUES[CODE["blood"]].fdg_suv
    noisy = blurred + scan.noise_at_blood * np.sqrt(blurred * blood) * noise
    return (np.maximum(noisy, 0.0) * scan.blood_suv * scan.activity_per_suv()).astype(np.float32)


def sample(image: sitk.Image, grid: Grid) -> np.ndarray:
    """Cubic B-spline samples of a smooth image at the voxel centres of a grid, 0 outside; (z, y, x)."""
    target = grid.image(np.zeros(grid.size[::-1], dtype=np.uint8))
    identity = sitk.Transform(3, sitk.sitkIdentity)
    return sitk.GetArrayFromImage(sitk.Resample(image, target, identity, sitk.sitkBSpline, 0.0, sitk.sitkFloat32))


def crop_to_ct(array: np.ndarray) -> np.ndarray:
    """The slices of a phantom array that the CT shows."""
    return array[PAD_SLICES:-PAD_SLICES]


def fwhm_to_sigma(fwhm_mm: float) -> float:
    """Standard deviation of a Gaussian of a given full width at half maximum."""
    return float(fwhm_mm / np.sqrt(8.0 * np.log(2.0)))


def _table(column: str) -> np.ndarray:
    """One column of the tissue table, by code."""
    return np.array([getattr(tissue, column) for tissue in TISSUES], dtype=np.float32)


def _with_disease(normal: np.ndarray, disease: Disease, uptake: np.ndarray) -> np.ndarray:
    """Uptake of normal tissues, replaced inside tumour and node."""
    return np.where(disease.primary | disease.node, uptake, normal).astype(np.float32)
