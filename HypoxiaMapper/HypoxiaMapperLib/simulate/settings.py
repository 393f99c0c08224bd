# ruff: noqa: RUF009 - _range returns dataclasses.field, as a default must
"""Ranges from which a simulated patient is drawn: every constant, its unit and where it comes from.

[O] marks common knowledge that is not confirmed in a public source (METHODS section 10 marks its list so): such ranges
are wide on purpose, make simulated images only, and are no clinical default.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from .shapes import XYZ

Range = tuple[float, float]
BODY_PART = "HEADNECK"
"""Body Part Examined of every simulated image: all cohorts are of head and neck."""


def _range(low: float, high: float, unit: str, source: str, log: bool = False) -> Any:
    """A range: uniform between its ends, or uniform in the logarithm."""
    return field(default=(low, high), metadata={"unit": unit, "source": source, "log": log})


@dataclass(frozen=True)
class Site:
    """Where a tumour may start, in patient millimetres of ``anatomy``; ``lateral`` sites stand on either side."""

    name: str
    centre: XYZ
    lateral: bool = True


HEAD_AND_NECK_SITES = (
    Site("oropharynx", (20.0, -10.0, 30.0)),
    Site("base of tongue", (4.0, -24.0, 24.0)),
    Site("hypopharynx", (14.0, -4.0, -14.0)),
    Site("larynx", (8.0, -16.0, -22.0)),
    Site("node, level II", (44.0, 14.0, 4.0)),
    Site("node, level III", (38.0, 6.0, -28.0)),
)
OTHER_SITES = (
    Site("nasopharynx", (8.0, 0.0, 72.0)),
    Site("oral tongue", (16.0, -46.0, 34.0)),
    Site("node, level IV", (38.0, 4.0, -66.0)),
    Site("parotid", (52.0, 2.0, 46.0)),
)


@dataclass(frozen=True)
class Settings:
    """Ranges of one cohort. A field is (low, high); its metadata say unit and source."""

    name: str
    title: str
    sites: tuple[Site, ...] = HEAD_AND_NECK_SITES
    tracers: tuple[str, ...] = ("FMISO", "FAZA", "HX4")

    # Anatomy and shape
    volume_ml: Range = _range(3.0, 80.0, "ml", "usual gross tumours and nodes of the head and neck [O]", log=True)
    axis_ratio: Range = _range(0.75, 1.35, "", "choice", log=True)
    ripple: Range = _range(0.03, 0.10, "", "relative roughness of the surface; choice")
    ripple_wavelength_mm: Range = _range(18.0, 40.0, "mm", "choice")
    anatomy_scale: Range = _range(0.90, 1.10, "", "adult body sizes [O]")
    site_shift_mm: Range = _range(-6.0, 6.0, "mm", "choice")
    table_position_mm: Range = _range(-60.0, 60.0, "mm", "choice: nothing may rely on an origin")
    tissue_spread: Range = _range(0.08, 0.20, "", "spread of normal tissues between and within patients [O]")

    # Tumour-scale fields
    vascular_fraction: Range = _range(0.02, 0.10, "", "mean; METHODS 10: 1-10 %", log=True)
    vascular_spread: Range = _range(0.40, 0.90, "", "standard deviation of its logarithm [O]")
    vascular_wavelength_mm: Range = _range(18.0, 50.0, "mm", "choice: seen by PET")
    core_loss: Range = _range(0.1, 0.8, "", "share of vessels lost from rim to centre [O]")
    cellularity: Range = _range(0.55, 0.90, "", "mean cell fraction [O]")
    cellularity_spread: Range = _range(0.05, 0.18, "", "[O]")
    consumption_mmhg_per_s: Range = _range(10.0, 22.0, "mmHg/s", "at cellularity 0.75; METHODS 10: about 15")
    vessel_po2_mmhg: Range = _range(30.0, 55.0, "mmHg", "METHODS 10: 40 (20-80)")
    necrosis_onset: Range = _range(0.15, 0.5, "", "anoxic share from which tissue dies in the centre [O]")

    # Kinetics
    kmax_per_min: Range = _range(
        0.02,
        0.045,
        "/min",
        "METHODS 10: 0.005-0.02 [O]; moved up so that tumour-to-blood maxima reach published ones",
        log=True,
    )
    partition: Range = _range(0.70, 0.85, "", "distribution volume of unbound tracer [O]")
    blood_half_time_min: Range = _range(140.0, 220.0, "min", "slow clearance of nitroimidazoles [O]")
    k1_per_vascular_fraction: Range = _range(2.0, 5.0, "/min", "K1 about 0.05-0.2 /min [O]")
    blood_volume_factor: Range = _range(0.8, 1.3, "", "blood volume seen by PET over vascular fraction [O]")
    fdg_k1_per_vascular_fraction: Range = _range(5.0, 10.0, "/min", "K1 of FDG about 0.1-0.4 /min [O]")
    fdg_k3_per_min: Range = _range(0.03, 0.06, "/min", "[O]", log=True)
    fdg_hypoxia_gain: Range = _range(0.5, 2.0, "", "g, METHODS 10")
    fdg_independent: Range = _range(0.20, 0.45, "", "log spread of FDG k3 that hypoxia does not explain [O]")
    fdg_cellularity_power: Range = _range(0.3, 1.2, "", "k3 follows cellularity to this power [O]")

    independent_wavelength_mm: Range = _range(14.0, 40.0, "mm", "of what hypoxia does not explain; choice")

    # Scanners
    psf_fwhm_mm: Range = _range(5.0, 7.0, "mm", "METHODS 10")
    pet_voxel_mm: Range = _range(2.0, 4.0, "mm", "METHODS 10")
    pet_noise: Range = _range(0.04, 0.12, "", "relative standard deviation of a voxel of blood [O]")
    noise_fwhm_mm: Range = _range(4.0, 6.0, "mm", "correlation length of reconstructed noise [O]")
    reference_error: Range = _range(-0.06, 0.06, "", "relative error of the measured blood reference [O]")
    misregistration_mm: Range = _range(0.0, 3.0, "mm", "METHODS 10")
    ct_noise_hu: Range = _range(6.0, 16.0, "[hnsf'U]", "[O]")
    ct_enhancement_hu: Range = _range(300.0, 800.0, "[hnsf'U]", "per vascular fraction [O]")
    t1_enhancement: Range = _range(500.0, 2500.0, "", "signal per vascular fraction; muscle has 360 [O]")
    t1_gain: Range = _range(0.5, 2.0, "", "the unit of T1-weighted signal is arbitrary", log=True)
    receive_field: Range = _range(0.0, 0.12, "", "spread of a smooth receive field [O]")
    mr_voxel_mm: Range = _range(1.2, 2.0, "mm", "METHODS 10: 1-2 mm in plane")
    mr_slice_mm: Range = _range(2.0, 3.0, "mm", "[O]")
    mr_snr: Range = _range(15.0, 45.0, "", "signal to noise, Rician (METHODS 10) [O]", log=True)
    adc_slope: Range = _range(1.4, 2.0, "1e-3 mm2/s", "s of ADC = 2.6 - s cellularity, METHODS 10 [O]")
    adc_independent: Range = _range(0.05, 0.15, "", "relative spread of ADC that cellularity does not explain [O]")
    ktrans_per_vascular_fraction: Range = _range(3.0, 8.0, "/min", "Ktrans of tumours about 0.1-0.5 /min [O]")
    ktrans_independent: Range = _range(0.15, 0.40, "", "log spread of Ktrans that vessels do not explain [O]")
    ktrans_noise: Range = _range(0.08, 0.20, "", "relative error of a fitted voxel [O]")
    r2_base_per_s: Range = _range(12.0, 20.0, "/s", "R2 of tumour at 3 T [O]")
    r2star_gain: Range = _range(250.0, 450.0, "/s", "R2' per blood volume and extraction at 3 T, METHODS 5: 355")
    r2star_independent: Range = _range(0.08, 0.20, "", "relative spread from field inhomogeneity [O]")


@dataclass
class Draws:
    """Draws from a cohort's ranges and notes every value under its name."""

    settings: Settings
    rng: np.random.Generator
    facts: MutableMapping[str, Any]
    prefix: str = ""

    def note(self, **values: Any) -> None:
        """Note values in the facts under the prefix of this stage, which a name may bear already."""
        for name, value in values.items():
            self.facts[f"{self.prefix}{name.removeprefix(self.prefix)}"] = value

    def __call__(self, name: str, label: str = "") -> float:
        """One value from the range ``name``, noted as ``label`` (or its name)."""
        low, high = getattr(self.settings, name)
        log = next(f for f in fields(self.settings) if f.name == name).metadata["log"]
        value = float(np.exp(self.rng.uniform(np.log(low), np.log(high))) if log else self.rng.uniform(low, high))
        self.note(**{label or name: value})
        return value

    def three(self, name: str, label: str) -> XYZ:
        """Three values for x, y and z."""
        return self(name, f"{label}_x"), self(name, f"{label}_y"), self(name, f"{label}_z")

    def direction(self) -> np.ndarray:
        """A random unit vector (x, y, z)."""
        vector = self.rng.standard_normal(3)
        return vector / np.linalg.norm(vector)


TRAINING = Settings("training", "head and neck, as the network is trained")
COHORTS = {
    settings.name: settings
    for settings in (
        TRAINING,
        replace(
            TRAINING, name="shifted_scanner", title="another scanner: more blur, more noise, coarser voxels",
            psf_fwhm_mm=(7.0, 9.0), pet_noise=(0.12, 0.20), pet_voxel_mm=(3.5, 5.0), noise_fwhm_mm=(6.0, 8.0),
            mr_snr=(8.0, 15.0), ct_noise_hu=(16.0, 30.0), reference_error=(-0.10, 0.10),
        ),
        replace(
            TRAINING, name="shifted_coupling", title="FDG, Ktrans and ADC say less about hypoxia",
            fdg_hypoxia_gain=(0.0, 0.3), fdg_independent=(0.50, 0.80), adc_independent=(0.20, 0.35),
            ktrans_independent=(0.50, 0.90), fdg_cellularity_power=(0.0, 0.3),
        ),
        replace(
            TRAINING, name="shifted_anatomy", title="other sites, sizes and backgrounds", sites=OTHER_SITES,
            volume_ml=(15.0, 120.0), axis_ratio=(0.6, 1.6), ripple=(0.08, 0.16), anatomy_scale=(0.78, 0.92),
            tissue_spread=(0.25, 0.45),
        ),
    )
}  # fmt: skip
