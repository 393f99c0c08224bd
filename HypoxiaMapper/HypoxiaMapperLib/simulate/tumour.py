"""The disease of the digital patient: a right oropharyngeal tumour with two hypoxic cores, and a lymph node.

All numbers are choices of the simulation. The necrotic centre takes up little tracer although it is anoxic (METHODS
12.5: necrosis is not oxygenated), so the truth counts it as not hypoxic, as the tracer sees it; it is kept small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import CODE
from .shapes import Ellipsoid, Mesh, smooth_field

PRIMARY = Ellipsoid((-20, -11, 27), (15.5, 18, 26))
NODE = Ellipsoid((-47, 17, 2), (10, 12, 14.5))
SURFACE_RIPPLE = 0.035
"""Relative roughness of the tumour surfaces (standard deviation of the normalised radius)."""


@dataclass(frozen=True)
class HypoxicCore:
    """Where FMISO is retained: the ratio rises by ``rise`` over a rim of about ``4 * rim_mm`` around ``shape``."""

    shape: Ellipsoid
    rise: float
    rim_mm: float = 0.8


CORES = (
    HypoxicCore(Ellipsoid((-20, -11, 37), (9.3, 11.3, 10)), 1.1),
    HypoxicCore(Ellipsoid((-20, -10, 9), (6.4, 7.4, 5.2)), 1.0),
    HypoxicCore(Ellipsoid((-47, 17, 4), (4, 5, 5)), 0.6),
)
NECROSIS = Ellipsoid((-20, -11, 37), (4, 5, 4.5))
NORMOXIC_RATIO = 1.0
FDG_SUV = 6.5
FDG_PER_RATIO = 2.0
"""FDG follows hypoxia only partly: SUV gained per unit of FMISO ratio; an independent field adds about as much."""
FDG_INDEPENDENT_SD = 1.3


@dataclass(frozen=True)
class Disease:
    """Masks and true uptake on the phantom grid, arrays (z, y, x).

    ``fmiso_ratio`` and ``fdg_suv`` are meaningful inside the masks only.
    """

    primary: np.ndarray
    node: np.ndarray
    necrosis: np.ndarray
    fmiso_ratio: np.ndarray
    fdg_suv: np.ndarray


def grow_disease(mesh: Mesh, labels: np.ndarray, rng: np.random.Generator) -> Disease:
    """Tumour, node and their uptake; bone is spared.

    Parameters
    ----------
    labels : numpy.ndarray
        Normal tissues, uint8 (z, y, x).
    rng : numpy.random.Generator
        Shapes the surface and the uptake within fixed bounds.
    """
    bone = (labels == CODE["cortical bone"]) | (labels == CODE["spongy bone"])
    ripple = SURFACE_RIPPLE * smooth_field(mesh, rng, 26.0)
    primary = _solid(PRIMARY.distance(mesh) + ripple <= 1.0, bone)
    node = _solid((NODE.distance(mesh) + ripple <= 1.0) & ~primary, bone)
    texture = np.clip(smooth_field(mesh, rng, 22.0), -2.0, 2.0)
    ratio = NORMOXIC_RATIO + 0.015 * texture
    for core in CORES:
        ratio = ratio + core.rise * (1.0 + 0.05 * texture) * _plateau(core, mesh)
    necrosis = primary & (NECROSIS.distance(mesh) <= 1.0)
    ratio[necrosis] = 0.55
    independent = FDG_INDEPENDENT_SD * np.clip(smooth_field(mesh, rng, 24.0), -2.0, 2.0)
    fdg = FDG_SUV + FDG_PER_RATIO * (ratio - NORMOXIC_RATIO) + independent
    fdg[necrosis] = 1.2
    return Disease(primary, node, necrosis, ratio, fdg)


def _plateau(core: HypoxicCore, mesh: Mesh) -> np.ndarray:
    """1 inside the core, 0 outside, with a smooth rim."""
    mean_radius_mm = float(np.mean(core.shape.semi_axes))
    outside_mm = (core.shape.distance(mesh) - 1.0) * mean_radius_mm
    return 1.0 / (1.0 + np.exp(np.clip(outside_mm / core.rim_mm, -50.0, 50.0)))


def _solid(mask: np.ndarray, forbidden: np.ndarray) -> np.ndarray:
    """Largest face-connected piece of a mask outside a forbidden one, with the holes of each axial plane filled."""
    pieces, _ = ndimage.label(mask & ~forbidden)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    solid = pieces == int(np.argmax(sizes))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in solid])
