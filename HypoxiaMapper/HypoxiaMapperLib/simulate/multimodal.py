"""What the scanners make of a simulated tumour and the anatomy around it: each image on its own grid, shifted, noisy.

Blur and noise of PET, Rician noise of MRI, misregistration: METHODS section 10. Values of normal tissues are choices
that look like a head and neck; none is taken from a patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import CODE, TISSUES
from .imaging import Grid, fwhm_to_sigma
from .settings import Draws
from .shapes import smooth_field
from .tumour_fields import Place, Tumour

TRUTH_FWHM_MM = 6.0
ADC_OF_WATER = 2.6e-3
"""mm2/s, METHODS 10."""
DIFFUSION_WEIGHT_S_PER_MM2 = 800.0
ECHO_TIMES_S = (0.005, 0.025)
BLOOD_P50_MMHG, BLOOD_HILL = 26.8, 2.7
"""Haemoglobin: half saturated at 26.8 mmHg (textbook value [O])."""
# Normal tissues: ADC in 1e-3 mm2/s, Ktrans in 1/min, R2* in 1/s [O].
FUNCTION: dict[str, tuple[float, float, float]] = {
    "air": (0.0, 0.0, 0.0), "skin": (1.0, 0.06, 35.0), "fat": (0.4, 0.02, 45.0), "muscle": (1.5, 0.05, 32.0),
    "gland": (1.2, 0.25, 28.0), "mucosa": (1.6, 0.20, 26.0), "tonsil": (0.95, 0.25, 24.0), "thyroid": (1.2, 0.45, 30.0),
    "blood": (1.8, 0.60, 20.0), "brain": (0.8, 0.01, 20.0), "brainstem": (0.8, 0.01, 22.0), "cord": (0.9, 0.01, 22.0),
    "csf": (3.0, 0.0, 5.0), "eye": (2.8, 0.0, 5.0), "cartilage": (1.4, 0.03, 50.0), "disc": (1.3, 0.02, 40.0),
    "cortical bone": (0.2, 0.01, 120.0), "spongy bone": (0.5, 0.05, 90.0), "tooth": (0.0, 0.0, 140.0),
    "tumour": (1.2, 0.25, 22.0), "necrosis": (2.2, 0.02, 15.0), "lung": (0.5, 0.05, 100.0),
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An image before it becomes a Volume: array (z, y, x) on a grid in LPS millimetres, and its misregistration."""

    array: np.ndarray
    grid: Grid
    shift_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What all scanners look at."""

    place: Place
    labels: np.ndarray
    tumour: Tumour

    def paint(self, normal: np.ndarray, tumour_values: np.ndarray) -> np.ndarray:
        """Values of normal tissues by code, replaced inside the GTV; float32 on the box."""
        values = normal.astype(np.float32)[self.labels]
        values[self.tumour.gtv] = tumour_values[self.tumour.inside]
        return values


def blur(values: np.ndarray, spacing_mm: float, fwhm_mm: float) -> np.ndarray:
    """Gaussian point spread of a full width at half maximum; the edge voxels are continued outwards."""
    return ndimage.gaussian_filter(values, fwhm_to_sigma(fwhm_mm) / spacing_mm, mode="nearest")


def table_of(column: str, draws: Draws) -> np.ndarray:
    """A column of the tissue table by code, each tissue off by the patient's spread."""
    return _spread(np.array([getattr(tissue, column) for tissue in TISSUES]), draws)


def function_of(column: int, draws: Draws) -> np.ndarray:
    """A column of ``FUNCTION`` by code, each tissue off by the patient's spread."""
    return _spread(np.array([FUNCTION[tissue.name][column] for tissue in TISSUES]), draws)


def _spread(values: np.ndarray, draws: Draws) -> np.ndarray:
    """Each value times a log-normal factor of the patient's spread."""
    return values * np.exp(draws.facts["tissue_spread"] * np.clip(draws.rng.standard_normal(values.size), -2.0, 2.0))


def on_scanner(values: np.ndarray, place: Place, spacing_mm: tuple[float, float, float], draws: Draws) -> Picture:
    """Sample box values linearly on a scanner's own grid, displaced by a random rigid shift.

    The grid starts anywhere within the first voxel of the box and stays inside it; the edge is continued outwards.
    """
    length = draws("misregistration_mm", "shift_length_mm")
    shift = draws.direction() * length
    draws.note(**{f"shift_{axis}_mm": float(v) for axis, v in zip("xyz", shift, strict=True)})
    spacing, box = np.array(spacing_mm), np.array(place.grid.spacing_mm)
    offset = draws.rng.uniform(0.0, 1.0, 3) * spacing
    extent = (np.array(place.grid.size) - 1) * box
    size = np.floor((extent - offset) / spacing).astype(int) + 1
    first = np.array(place.grid.first_mm) + offset
    # The patient stands ``shift`` further along: what is seen at x comes from x - shift.
    at = (offset - shift) / box
    array = ndimage.affine_transform(
        values, (spacing / box)[::-1], at[::-1], tuple(int(n) for n in size[::-1]), order=1, mode="nearest"
    )
    grid = Grid(tuple(int(n) for n in size), spacing_mm, tuple(float(v) for v in first))  # type: ignore[arg-type]
    return Picture(array, grid, tuple(float(v) for v in shift))  # type: ignore[arg-type]


def pet_picture(uptake: np.ndarray, place: Place, blood: float, draws: Draws) -> Picture:
    """PET of an uptake map: blurred, sampled, with correlated noise whose variance grows as counts do."""
    voxel = draws("pet_voxel_mm")
    blurred = blur(uptake, place.grid.spacing_mm[0], draws("psf_fwhm_mm"))
    seen = on_scanner(blurred, place, (voxel, voxel, voxel), draws)
    sigma = fwhm_to_sigma(draws("noise_fwhm_mm")) / voxel
    noise = ndimage.gaussian_filter(draws.rng.standard_normal(seen.array.shape, dtype=np.float32), sigma)
    noise *= draws("pet_noise") / noise.std()
    noisy = seen.array + noise * np.sqrt(np.maximum(seen.array, 0.0) * blood)
    return Picture(np.maximum(noisy, 0.0).astype(np.float32), seen.grid, seen.shift_mm)


def ct_picture(scene: Scene, draws: Draws) -> Picture:
    """Contrast-enhanced CT in HU: tumour brightens with its vessels, necrosis is near water."""
    tumour = scene.tumour
    enhanced = 45.0 + draws("ct_enhancement_hu") * tumour.vascular_fraction
    values = enhanced * (1.0 - tumour.necrosis) + 22.0 * tumour.necrosis
    hu = scene.paint(np.array([tissue.hu for tissue in TISSUES]), values)
    seen = on_scanner(ndimage.gaussian_filter(hu, 0.5), scene.place, (2.0, 2.0, 3.0), draws)
    noise = ndimage.gaussian_filter(draws.rng.standard_normal(seen.array.shape, dtype=np.float32), (0.0, 0.6, 0.6))
    noisy = seen.array + noise * (draws("ct_noise_hu") / noise.std())
    return Picture(np.clip(np.rint(noisy), -1024, 3071).astype(np.int16), seen.grid, seen.shift_mm)


def t1_picture(scene: Scene, draws: Draws) -> Picture:
    """T1-weighted signal: enhancing tumour, smooth receive field, Rician noise."""
    tumour = scene.tumour
    values = 330.0 + draws("t1_enhancement") * tumour.vascular_fraction
    values = values * (1.0 - tumour.necrosis) + 230.0 * tumour.necrosis
    signal = scene.paint(table_of("t1_signal", draws), values)
    seen = on_scanner(signal, scene.place, _mr_spacing(draws), draws)
    receive = 1.0 + draws("receive_field") * smooth_field(seen.grid.mesh(), draws.rng, 300.0, waves=3)
    noisy = draws("t1_gain") * rician(seen.array * receive, 400.0 / draws("mr_snr"), draws.rng)
    return Picture(noisy.astype(np.float32), seen.grid, seen.shift_mm)


def adc_picture(scene: Scene, draws: Draws) -> Picture:
    """ADC in mm2/s from two diffusion-weighted signals with Rician noise; ADC = 2.6 - s * cellularity."""
    tumour = scene.tumour
    own = 1.0 + draws("adc_independent") * smooth_field(tumour.mesh, draws.rng, draws("independent_wavelength_mm"))
    values = (ADC_OF_WATER - draws("adc_slope") * 1e-3 * tumour.cellularity) * np.clip(own, 0.5, 1.6)
    adc = scene.paint(function_of(0, draws) * 1e-3, np.clip(values, 3e-4, 3.2e-3))
    seen = on_scanner(adc, scene.place, _mr_spacing(draws, 1.3), draws)
    noise = 1.0 / draws("mr_snr")
    tissue = seen.array > 5e-5
    first = rician(tissue.astype(np.float32), noise, draws.rng)
    second = rician(tissue * np.exp(-DIFFUSION_WEIGHT_S_PER_MM2 * seen.array), noise, draws.rng)
    fitted = np.log(np.maximum(first, 1e-3) / np.maximum(second, 1e-3)) / DIFFUSION_WEIGHT_S_PER_MM2
    fitted = np.where(tissue, np.clip(fitted, 0.0, 4e-3), 0.0)
    return Picture(fitted.astype(np.float32), seen.grid, seen.shift_mm)


def ktrans_picture(scene: Scene, draws: Draws) -> Picture:
    """Ktrans in 1/min, proportional to the vascular fraction up to an independent field and the error of the fit."""
    tumour = scene.tumour
    texture = np.clip(smooth_field(tumour.mesh, draws.rng, draws("independent_wavelength_mm")), -2.2, 2.2)
    own = np.exp(draws("ktrans_independent") * texture)
    values = draws("ktrans_per_vascular_fraction") * tumour.vascular_fraction * own
    ktrans = scene.paint(function_of(1, draws), np.clip(values, 0.0, 1.5))
    seen = on_scanner(ktrans, scene.place, _mr_spacing(draws, 1.2), draws)
    noise = draws.rng.standard_normal(seen.array.shape, dtype=np.float32)
    noisy = seen.array * (1.0 + draws("ktrans_noise") * noise)
    return Picture(np.maximum(noisy, 0.0).astype(np.float32), seen.grid, seen.shift_mm)


def r2star_picture(scene: Scene, draws: Draws) -> Picture:
    """R2* in 1/s from two echoes: R2 plus blood volume times extracted oxygen (METHODS 5, qBOLD)."""
    tumour = scene.tumour
    saturation = 1.0 / (1.0 + (BLOOD_P50_MMHG / np.maximum(tumour.oxygen.mean_po2_mmhg, 1e-3)) ** BLOOD_HILL)
    reversible = draws("r2star_gain") * tumour.vascular_fraction * (1.0 - saturation)
    own = 1.0 + draws("r2star_independent") * smooth_field(tumour.mesh, draws.rng, draws("independent_wavelength_mm"))
    values = (draws("r2_base_per_s") * (1.0 - 0.4 * tumour.necrosis) + reversible) * np.clip(own, 0.4, 1.8)
    r2star = scene.paint(function_of(2, draws), values)
    seen = on_scanner(r2star, scene.place, _mr_spacing(draws, 1.2), draws)
    noise = 0.5 / draws("mr_snr")
    tissue = seen.array > 1.0
    first, second = (rician(tissue * np.exp(-t * seen.array), noise, draws.rng) for t in ECHO_TIMES_S)
    fitted = np.log(np.maximum(first, 1e-3) / np.maximum(second, 1e-3)) / (ECHO_TIMES_S[1] - ECHO_TIMES_S[0])
    return Picture(np.where(tissue, np.clip(fitted, 0.0, 200.0), 0.0).astype(np.float32), seen.grid, seen.shift_mm)


def rician(signal: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of a signal with independent Gaussian noise in its two channels."""
    real = signal + noise * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, noise * rng.standard_normal(signal.shape, dtype=np.float32))


def _mr_spacing(draws: Draws, coarser: float = 1.0) -> tuple[float, float, float]:
    """Voxel of an MR image, mm; functional images are somewhat coarser in plane."""
    plane = min(draws("mr_voxel_mm") * coarser, 2.0)
    return plane, plane, draws("mr_slice_mm")


def blood_value(column: str) -> float:
    """Value of blood in the tissue table."""
    return float(getattr(TISSUES[CODE["blood"]], column))
