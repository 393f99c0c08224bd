"""What a trained bundle says of itself: texts of the configuration, ranges of the images it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inference.channels import CHANNELS, FUNCTIONAL, KEYS, N_INPUTS
from ..simulate.settings import BODY_PART
from .config import SYNTHETIC_LABEL, TrainingConfig
from .dataset import GATE_PERCENTILES, Case

TRACERS = {"fdg": ["FDG"], "hypoxia_pet": ["FMISO", "FAZA", "HX4"]}


def metadata_of(config: TrainingConfig, training: Sequence[Case]) -> dict[str, Any]:
    """MONAI's fields and ``hypoxia`` of a bundle, but for what ``write_bundle`` fills in itself.

    Parameters
    ----------
    training : sequence of Case
        The patients it was trained on: ranges come from them.
    """
    text = config.bundle
    inputs = {"type": "image", "format": "magnitude", "num_channels": N_INPUTS, "spatial_shape": ["4*n", "4*n", "4*n"]}
    outputs = {"type": "image", "format": "ratio minus one, log variance", "num_channels": 2}
    return {
        "version": text.version,
        "task": "Voxel-wise regression of a hypoxia tracer's tissue-to-blood ratio",
        "description": text.description,
        "authors": text.authors,
        "copyright": text.copyright,
        "data_type": "safetensors weights, NIfTI or DICOM images",
        "network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}},
        "hypoxia": {
            "name": text.name,
            "title": text.title,
            "label": text.label or SYNTHETIC_LABEL,
            "training_data": text.training_data,
            "intended_use": text.intended_use,
            "licence": text.licence,
            "quantity": text.quantity,
            "unit": "{ratio}",
            "threshold": text.threshold,
            "comparison": text.comparison,
            "required_any": list(FUNCTIONAL),
            "tracers": TRACERS,
            "body_parts": list(text.body_parts) if config.data.source == "pairs" else [BODY_PART],
            "seed": config.seed,
            **ranges_of(training),
        },
    }


def ranges_of(training: Sequence[Case]) -> dict[str, Any]:
    """Lowest 1st and highest 99th percentile of each image in any GTV, voxel sizes and GTV volumes trained on.

    Of relative channels (``"relative": true``) the values are over the median of the box.
    """
    percentiles = np.stack([case.percentiles for case in training])
    spacings = np.stack([case.spacings_mm for case in training])
    volumes = [case.gtv_ml for case in training]
    ranges, spacing_range = {}, {}
    for i, key in enumerate(KEYS):
        there = np.isfinite(percentiles[:, i, 0])
        if not there.any():
            continue
        found = percentiles[there, i]
        ranges[key] = {
            "low": float(found[:, 0].min()),
            "high": float(found[:, -1].max()),
            "median": float(np.median(found[:, 1])),
            "percentiles": [GATE_PERCENTILES[0], GATE_PERCENTILES[-1]],
            "patients": int(there.sum()),
            "relative": CHANNELS[i].relative,
        }
        spacing_range[key] = [float(spacings[there, i].min()), float(spacings[there, i].max())]
    return {
        "ranges": ranges,
        "spacing_range_mm": spacing_range,
        "gtv_volume_range_ml": [float(min(volumes)), float(max(volumes))],
        "patients": len(training),
    }
