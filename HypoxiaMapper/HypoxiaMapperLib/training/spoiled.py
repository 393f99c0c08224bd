"""What the out-of-distribution gate says: of patients as they are, and of images made wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import HypoxiaError
from ..inference.distribution import check_distribution
from ..inference.prepare import Prepared, prepare
from ..volume import Volume

if TYPE_CHECKING:
    from ..inference.ensemble import Ensemble
    from ..simulate.cohort import SimulatedCase

REFUSED = "refused before the network"
COARSE_MM = 8.0


@dataclass(frozen=True)
class Spoiled:
    """A mistake: which image, among which others, and what becomes of it.

    Parameters
    ----------
    spoil : callable
        Image and random generator to the wrong image.
    """

    title: str
    key: str
    images: tuple[str, ...]
    spoil: Callable[[Volume, np.random.Generator], Volume]


def _times(factor: float) -> Callable[[Volume, np.random.Generator], Volume]:
    return lambda volume, random: volume.with_array(volume.array * np.float32(factor), f"times {factor:g}")


def _noise_only(volume: Volume, random: np.random.Generator) -> Volume:
    """Mean and spread of the image, nothing of its structure."""
    noise = random.normal(volume.array.mean(), volume.array.std(), volume.array.shape)
    return volume.with_array(np.abs(noise).astype(np.float32), "noise only")


def _constant(volume: Volume, random: np.random.Generator) -> Volume:
    return volume.with_array(np.full(volume.array.shape, volume.array.mean(), np.float32), "constant")


def _brain_ct(volume: Volume, random: np.random.Generator) -> Volume:
    """Grey and white matter, about 30 to 40 HU [O], with noise of 5 HU and no air, fat or bone anywhere."""
    noise = random.normal(35.0, 5.0, volume.array.shape)
    return volume.with_array(noise.astype(np.float32), "CT numbers of brain")


def _stored_values(volume: Volume, random: np.random.Generator) -> Volume:
    return volume.with_array(volume.array + np.float32(1024.0), "stored values: 1024 was not taken off")


def _coarse(volume: Volume, random: np.random.Generator) -> Volume:
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
    Spoiled("CT numbers of brain", "ct", ("fdg", "ct"), _brain_ct),
    Spoiled("CT as stored values (1024 too high)", "ct", ("fdg", "ct"), _stored_values),
    Spoiled("hypoxia PET five times too high", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _times(5.0)),
    Spoiled("hypoxia PET of noise only", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _noise_only),
    Spoiled("hypoxia PET constant", "hypoxia_pet", ("hypoxia_pet", "fdg", "ct"), _constant),
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
        images[mistake.key] = mistake.spoil(images[mistake.key], random)
        facts = {key: volume.facts for key, volume in images.items()}
        try:
            row = gate_row(ensemble, prepare(images, case.gtv), facts, case.gtv.volume_ml)
        except HypoxiaError as error:
            row = {"gate_stopped": 1.0, "distance_stopped": 0.0, "gate_failed": f"{REFUSED}: {error.message}"}
        rows.append({"mistake": mistake.title, **row})
    return rows
