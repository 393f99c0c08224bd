"""Bundles with random weights and a tumour with images of every kind, for the tests of learned maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.inference.bundle import Bundle, write_bundle
from HypoxiaMapperLib.inference.channels import CHANNELS, KEYS
from HypoxiaMapperLib.inference.structure import MEASURES
from HypoxiaMapperLib.volume import Region, Volume

LABEL = "random weights, for tests only"
FRAME = "1.2.3.4"
NETWORK = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 15, "out_channels": 2, "channels": [4, 8, 8],
    "strides": [2, 2], "num_res_units": 0, "norm": "BATCH",
}  # fmt: skip
TRACERS = {"fdg": ["FDG"], "hypoxia_pet": ["FMISO", "FAZA", "HX4"]}
# Level outside the tumour and how much more inside it, in the channel's unit.
LEVELS = {
    "fdg": (1.5, 5.0), "hypoxia_pet": (0.9, 0.6), "ct": (20.0, 20.0), "t1": (300.0, 100.0), "adc": (1.5e-3, -0.5e-3),
    "ktrans": (0.1, 0.15), "r2star": (20.0, 15.0),
}  # fmt: skip


def metadata(**hypoxia: Any) -> dict[str, Any]:
    """Metadata as a training gives them; ``hypoxia`` replaces fields of that part."""
    return {
        "version": "0.0.1",
        "task": "test",
        "description": "Random weights.",
        "authors": "nobody",
        "copyright": "none",
        "data_type": "float32",
        "network_data_format": {"inputs": {}, "outputs": {}},
        "hypoxia": {
            "name": "random",
            "title": "Random weights",
            "label": LABEL,
            "training_data": "none",
            "intended_use": "tests",
            "licence": "Apache-2.0",
            "quantity": "FMISO tissue-to-blood ratio",
            "unit": "{ratio}",
            "threshold": 1.2,
            "comparison": ">",
            "required_any": ["fdg", "hypoxia_pet", "adc", "ktrans", "r2star"],
            "tracers": TRACERS,
            "body_parts": ["HEADNECK"],
            "seed": 0,
            "ranges": {c.key: {"low": c.low, "high": c.high, "relative": c.relative} for c in CHANNELS},
            "spacing_range_mm": {key: [0.5, 5.0] for key in KEYS},
            "gtv_volume_range_ml": [1.0, 300.0],
            "structure": {key: {name: [-1e6, 1e6] for name in MEASURES} for key in KEYS},
            **hypoxia,
        },
    }


def make_states(members: int = 2, network_def: dict[str, Any] = NETWORK) -> list[dict[str, Any]]:
    """State dictionaries of networks with random weights, the same every time."""
    import torch

    from HypoxiaMapperLib.inference.network import make_network

    states = []
    for member in range(members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(member)
            network = make_network(network_def)
            for name, tensor in network.state_dict().items():
                if name.endswith("running_mean"):
                    tensor += 0.1 * torch.randn(tensor.shape)
        states.append(network.state_dict())
    return states


def make_bundle(folder: Path, members: int = 2, distribution: Any = None, **hypoxia: Any) -> Bundle:
    """A bundle with random weights."""
    return write_bundle(folder, metadata(**hypoxia), NETWORK, make_states(members), distribution)


def scene(
    *keys: str, shape: tuple[int, int, int] = (30, 36, 36), spacing: float = 3.0, radius_mm: float = 15.0
) -> tuple[dict[str, Volume], dict[str, Region]]:
    """Images of a spherical tumour on one grid, and the regions ``gtv`` and ``reference`` (blood, SUV 1.5)."""
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    distance = spacing * np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    inside = distance <= radius_mm
    images = {}
    for key in keys or KEYS:
        channel = CHANNELS[KEYS.index(key)]
        level, step = LEVELS[key]
        texture = 1 + 0.2 * np.random.default_rng(KEYS.index(key)).random(shape)
        values = (level + step * inside * np.cos(distance / radius_mm)) * texture
        tracer = {"fdg": {"tracer": "FDG"}, "hypoxia_pet": {"tracer": "FMISO"}}.get(key, {})
        images[key] = Volume(
            image_of(values.astype(np.float32), spacing), channel.quantity, channel.unit, FRAME,
            facts={"body_parts": ("HEADNECK",), **tracer},
        )  # fmt: skip
    blood = np.zeros(shape, np.uint8)
    blood[2:6, 2:8, 2:8] = 1
    regions = {
        "gtv": Region("GTVp", image_of(inside.astype(np.uint8), spacing), FRAME),
        "reference": Region("Blood", image_of(blood, spacing), FRAME),
    }
    return images, regions


def image_of(array: np.ndarray, spacing: float = 3.0) -> sitk.Image:
    """An image with cubic voxels, its middle at the origin."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([-spacing * (n - 1) / 2 for n in image.GetSize()])
    return image
