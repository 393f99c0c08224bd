"""What a learned map says of its model, made by hand: for tests of everything that must show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from HypoxiaDosePaintLib.result import Result
from HypoxiaMapperLib.methods import Baseline, Finding, HypoxiaMap, ModelUse

LABEL = "synthetic-trained, not clinically validated"
DIGESTS = ("a1" * 32, "b2" * 32)
WORDS = "Dr B. Example: FDG of another scanner, checked by phantom"
OVERRIDE = f"distribution(fdg-range) {WORDS}"


def sample_model(in_distribution: bool = True) -> ModelUse:
    """A model as used, its distribution check passed or not."""
    return ModelUse(
        name="hypoxia_test",
        title="Learned hypoxia ratio",
        version="1.0.0",
        label=LABEL,
        training_data="400 simulated head-and-neck patients; no real patient.",
        intended_use="Research on simulated and phantom data.",
        licence="Apache-2.0",
        weights_sha256=DIGESTS,
        device="CPU",
        images_used=("fdg", "ct"),
        images_missing=("hypoxia_pet", "adc"),
        hypoxic_volume_ml=5.31,
        hypoxic_volume_band_ml=(3.2, 7.9),
        distribution=(
            Finding("FDG 99th percentile in the GTV", "41.2 g/ml", "3.0 to 38.5 g/ml", in_distribution, "fdg-range"),
            Finding("CT spacing", "2.5 mm", "0.8 to 3.5 mm", True),
        ),
        baselines=(Baseline("scaled FDG", "FDG scaled to the training mean", 6.1, 0.71),
                   Baseline("linear regression", "voxel-wise, of the images at hand", 4.4, float("nan"))),
        occlusion={"fdg": 0.123, "ct": 0.004},
        metadata_sha256="c3" * 32,
        threshold_text="> 1.2",
        origin="user's bundle, not the shipped one",
    )  # fmt: skip


def learned_map(found: HypoxiaMap, in_distribution: bool = True) -> HypoxiaMap:
    """A map as a learned method would have returned it: a surrogate with model and uncertainty."""
    volume = found.volume
    uncertainty = volume.with_array(np.abs(volume.array) * 0.1, "spread of the ensemble", quantity="Standard deviation")
    return replace(found, surrogate=True, model=sample_model(in_distribution), uncertainty=uncertainty)


def learned(result: Result, in_distribution: bool = True, override: str = "") -> Result:
    """A result whose map is a learned one."""
    images = replace(result.images, map=learned_map(result.images.map, in_distribution))
    method = {**result.method, "name": "learned_ratio", "title": "Learned hypoxia ratio", "surrogate": True}
    request = replace(result.request, override=override)
    return replace(result, images=images, method=method, request=request, truth={})
