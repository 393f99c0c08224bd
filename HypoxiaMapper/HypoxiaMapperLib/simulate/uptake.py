"""Tracer uptake of a simulated tumour through two-tissue kinetics (METHODS section 4) with a closed-form blood input.

Irreversible trapping (k4 = 0). Input curves and partition are [O]: shapes, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .settings import Draws
from .shapes import smooth_field
from .tumour_fields import REFERENCE_CELLULARITY, Tumour

TRUTH_MINUTES = 150.0
"""FMISO is scanned 120-180 min after injection (METHODS 2)."""
FDG_MINUTES = 60.0
NECROTIC_PARTITION = 0.65
"""Distribution volume in dead tissue relative to living [O]."""


@dataclass(frozen=True)
class Input:
    """Blood (and plasma) concentration: a sum of ``amplitudes`` * exp(-``rates_per_min`` * t) from injection on."""

    amplitudes: tuple[float, ...]
    rates_per_min: tuple[float, ...]

    def at(self, minutes: float) -> float:
        """Concentration at a time after injection."""
        return float(np.dot(self.amplitudes, np.exp(-np.array(self.rates_per_min) * minutes)))


@dataclass(frozen=True)
class Tracer:
    """A nitroimidazole. ``clearance`` is relative to FMISO; ``scan_min`` the usual start of the scan [O]."""

    name: str
    scan_min: tuple[float, float]
    clearance: float
    partition: float
    binding: float


TRACERS = {
    tracer.name: tracer
    for tracer in (
        Tracer("FMISO", (120.0, 180.0), 1.0, 1.0, 1.0),
        Tracer("FAZA", (120.0, 180.0), 1.3, 0.95, 0.9),
        Tracer("HX4", (120.0, 240.0), 1.4, 0.90, 0.95),
    )
}
FDG_INPUT = Input((40.0, 6.0, 2.8), (np.log(2) / 0.5, np.log(2) / 6.0, np.log(2) / 75.0))
"""SUV: 1.6 in blood at 60 min, like the tissue table; some 200 SUV min until then [O]."""
FDG_PARTITION = 0.5


def two_tissue(source: Input, k1: np.ndarray, k2: np.ndarray, k3: np.ndarray, minutes: float) -> np.ndarray:
    """Tissue concentration C1 + C2 of the irreversible two-tissue model, in the input's unit.

    With theta = k2 + k3, C1 + C2 = K1/theta * (k3 * int Cp + k2 * Cp (*) exp(-theta t)), in closed form.

    Parameters
    ----------
    k1, k2, k3 : numpy.ndarray
        Rate constants in 1/min, one shape.
    """
    theta = k2 + k3
    trapped, exchanged = 0.0, np.zeros(np.shape(theta))
    for amplitude, rate in zip(source.amplitudes, source.rates_per_min, strict=True):
        decay = np.exp(-rate * minutes)
        trapped += amplitude * (1.0 - decay) / rate
        gap = theta - rate
        near = np.abs(gap) < 1e-6
        safe = np.where(near, 1.0, gap)
        exchanged += amplitude * np.where(near, minutes * decay, (decay - np.exp(-theta * minutes)) / safe)
    return k1 / np.maximum(theta, 1e-9) * (k3 * trapped + k2 * exchanged)


@dataclass(frozen=True)
class Kinetics:
    """Constants of one patient's nitroimidazoles and perfusion; arrays on the tumour's window."""

    k1_per_min: np.ndarray
    partition: np.ndarray
    blood_volume: np.ndarray
    binding_per_min: np.ndarray
    slow_half_time_min: float


def draw_kinetics(tumour: Tumour, draws: Draws) -> Kinetics:
    """K1 follows the vessels; k3 = kmax * binding of the living tissue (METHODS 10)."""
    k1 = np.maximum(draws("k1_per_vascular_fraction") * tumour.vascular_fraction, 2e-3)
    partition = draws("partition") * (1.0 - (1.0 - NECROTIC_PARTITION) * tumour.necrosis)
    blood = draws("blood_volume_factor") * tumour.vascular_fraction
    k3 = draws("kmax_per_min") * tumour.oxygen.binding * (1.0 - tumour.necrosis)
    return Kinetics(k1, partition, blood, k3, draws("blood_half_time_min"))


def hypoxia_ratio(kinetics: Kinetics, tracer: Tracer, minutes: float) -> np.ndarray:
    """Tissue-to-blood ratio of a nitroimidazole on the tumour's window, noise-free."""
    slow = np.log(2.0) / kinetics.slow_half_time_min * tracer.clearance
    source = Input((8.0, 1.5, 1.0), (np.log(2) / 0.7, np.log(2) / 15.0, slow))
    k2 = kinetics.k1_per_min / (kinetics.partition * tracer.partition)
    tissue = two_tissue(source, kinetics.k1_per_min, k2, kinetics.binding_per_min * tracer.binding, minutes)
    return (1.0 - kinetics.blood_volume) * tissue / source.at(minutes) + kinetics.blood_volume


def fdg_suv(tumour: Tumour, kinetics: Kinetics, draws: Draws) -> np.ndarray:
    """SUVbw of FDG at 60 min on the tumour's window.

    k3 rises with the hypoxia response (k3 * (1 + g * HRE), METHODS 10), with cellularity, and with an independent
    smooth field: FDG must not give hypoxia away.
    """
    texture = np.clip(
        smooth_field(tumour.mesh, draws.rng, draws("independent_wavelength_mm", "fdg_wavelength_mm")), -2.2, 2.2
    )
    own = np.exp(draws("fdg_independent") * texture)
    cells = (tumour.cellularity / REFERENCE_CELLULARITY) ** draws("fdg_cellularity_power")
    k3 = draws("fdg_k3_per_min") * (1.0 + draws("fdg_hypoxia_gain") * tumour.oxygen.hre) * own * cells
    k3 = k3 * (1.0 - tumour.necrosis)
    k1 = np.maximum(draws("fdg_k1_per_vascular_fraction") * tumour.vascular_fraction, 2e-3)
    tissue = two_tissue(FDG_INPUT, k1, k1 / FDG_PARTITION, k3, FDG_MINUTES)
    return (1.0 - kinetics.blood_volume) * tissue + kinetics.blood_volume * FDG_INPUT.at(FDG_MINUTES)
