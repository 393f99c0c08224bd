"""What the out-of-distribution gate says: of patients as they are, and of images made wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import HypoxiaError
from ..inference.distribution import check_distribution
from ..inference.prepare import Prepared, prepare
from ..volume import Region, Volume

if TYPE_CHECKING:
    from ..inference.ensemble import Ensemble
    from ..simulate.cohort import SimulatedCase

Spoil = Callable[[Volume, np.random.Generator, Region], Volume]
REFUSED = "refused before the network"
COARSE_MM = 8.0
SHIFT_MM = 30.0
SKULL_MM = 5.0
BRAIN_TEXTURE_MM = 4.0


@dataclass(frozen=True)
class Spoiled:
    """A mistake: which image, among which others, and what becomes of it.

    Parameters
    ----------
    spoil : callable
        Image, random generator and GTV to the wrong image.
    """

    title: str
    key: str
    images: tuple[str, ...]
    spoil: Spoil


def _times(factor: float) -> Spoil:
    return lambda volume, random, gtv: volume.with_array(volume.array * np.float32(factor), f"times {factor:g}")


def _noise_only(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    """Mean and spread of the image, nothing of its structure."""
    noise = random.normal(volume.array.mean(), volume.array.std(), volume.array.shape)
    return volume.with_array(np.abs(noise).astype(np.float32), "noise only")


def _constant(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    return volume.with_array(np.full(volume.array.shape, volume.array.mean(), np.float32), "constant")


def _brain(volume: Volume, random: np.random.Generator) -> np.ndarray:
    """Grey and white matter, 25 to 40 HU, water in folds, noise of 5 HU; no air, fat or bone anywhere."""
    sigma = BRAIN_TEXTURE_MM / np.array(volume.image.GetSpacing()[::-1])
    texture = ndimage.gaussian_filter(random.standard_normal(volume.array.shape), sigma)
    texture /= texture.std()
    matter = 32.0 + 4.0 * np.clip(texture, -2.0, 2.0)
    return np.where(texture < -1.6, 8.0, matter) + random.normal(0.0, 5.0, volume.array.shape)


def _brain_ct(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    return volume.with_array(_brain(volume, random).astype(np.float32), "CT numbers of brain")


def _head_ct(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    """Brain, and from ``SKULL_MM`` in front of the GTV on: skull of 7 mm, scalp of 5 mm, air."""
    mask = sitk.Resample(gtv.mask, volume.image, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    front = int(np.argwhere(sitk.GetArrayFromImage(mask)).min(axis=0)[1])
    depth_mm = (front - np.arange(volume.array.shape[1])) * volume.image.GetSpacing()[1] - SKULL_MM
    layers = ((0.0, 900.0), (7.0, -90.0), (12.0, -1000.0))
    found = _brain(volume, random)
    for start_mm, hu in layers:
        found[:, depth_mm >= start_mm] = hu
    return volume.with_array(found.astype(np.float32), "CT numbers of brain, skull, scalp and air")


def _shifted(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    """The image ``SHIFT_MM`` off to the left: a failed registration."""
    moved = sitk.Image(volume.image)
    moved.SetOrigin((moved.GetOrigin()[0] + SHIFT_MM, *moved.GetOrigin()[1:]))
    return replace(volume, image=moved)


def _stored_values(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    return volume.with_array(volume.array + np.float32(1024.0), "stored values: 1024 was not taken off")


def _coarse(volume: Volume, random: np.random.Generator, gtv: Region) -> Volume:
    """Voxels of ``COARSE_MM``."""
    old, size = np.array(volume.image.GetSpacing()), np.array(volume.image.GetSize())
    count = [int(n) for n in np.maximum(np.ceil(old * size / COARSE_MM), 2)]
    grid = sitk.Image(count, sitk.sitkFloat32)
    grid.SetSpacing([COARSE_MM] * 3)
    grid.SetOrigin(volume.image.GetOrigin())
    grid.SetDirection(volume.image.GetDirection())
    image = sitk.Resample(
        sitk.Cast(volume.image, sitk.sitkFloat32), grid, sitk.Transform(), sitk.sitkLinear, float(volume.array.min())
    )
    return replace(volume, image=image)


SPOILED = (
    Spoiled("FDG SUV ten times too high", "fdg", ("fdg", "ct"), _times(10.0)),
    Spoiled("FDG SUV ten times too low", "fdg", ("fdg", "ct"), _times(0.1)),
    Spoiled(f"FDG in voxels of {COARSE_MM:g} mm", "fdg", ("fdg", "ct"), _coarse),
    Spoiled("FDG of noise only", "fdg", ("fdg", "ct"), _noise_only),
    Spoiled("FDG constant", "fdg", ("fdg", "ct"), _constant),
    Spoiled(f"FDG {SHIFT_MM:g} mm off its place", "fdg", ("fdg", "ct"), _shifted),
    Spoiled("CT numbers of brain", "ct", ("fdg", "ct"), _brain_ct),
    Spoiled("CT of brain under skull, scalp and air", "ct", ("fdg", "ct"), _head_ct),
    Spoiled("CT constant", "ct", ("fdg", "ct"), _constant),
    Spoiled("CT as stored values (1024 too high)", "ct", ("fdg", "ct"), _stored_values),
    Spoiled("hypoxia PET five times too high", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _times(5.0)),
    Spoiled("hypoxia PET of noise only", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _noise_only),
    Spoiled("hypoxia PET constant", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _constant),
    Spoiled(f"hypoxia PET {SHIFT_MM:g} mm off its place", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _shifted),
    Spoiled("ADC constant", "adc", ("fdg", "ct", "adc"), _constant),
    Spoiled("ADC of noise only", "adc", ("fdg", "ct", "adc"), _noise_only),
)


def gate_row(ensemble: Ensemble, prepared: Prepared, facts: Mapping[str, Mapping[str, Any]], gtv_ml: float) -> dict:
    """Whether the gate stops these images, whether the distance of features alone does, and what failed."""
    findings = check_distribution(ensemble, prepared, facts, gtv_ml)
    failed = [finding.check for finding in findings if not finding.passed]
    return {
        "gate_stopped": float(bool(failed)),
        "distance_stopped": float(not findings[-1].passed),
        "gate_failed": "; ".join(failed),
    }


def spoiled_rows(case: SimulatedCase, ensemble: Ensemble) -> list[dict[str, Any]]:
    """What becomes of each mistake: refused, stopped by the gate, or let through."""
    rows = []
    for number, mistake in enumerate(SPOILED):
        random = np.random.default_rng([case.seed, number])
        images = {key: case.images[key] for key in mistake.images}
        images[mistake.key] = mistake.spoil(images[mistake.key], random, case.gtv)
        facts = {key: volume.facts for key, volume in images.items()}
        try:
            row = gate_row(ensemble, prepare(images, case.gtv), facts, case.gtv.volume_ml)
        except HypoxiaError as error:
            row = {"gate_stopped": 1.0, "distance_stopped": 0.0, "gate_failed": f"{REFUSED}: {error.message}"}
        rows.append({"mistake": mistake.title, **row})
    return rows
