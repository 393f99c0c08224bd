"""A bundle whose network never learned anything, and cases of plain arrays: enough to walk every step."""

from __future__ import annotations

import numpy as np

from HypoxiaMapperLib.inference.bundle import write_bundle
from HypoxiaMapperLib.inference.channels import KEYS, N_INPUTS
from HypoxiaMapperLib.inference.network import make_network
from HypoxiaMapperLib.training.bundle_text import metadata_of
from HypoxiaMapperLib.training.config import ModalityDropout, check_config
from HypoxiaMapperLib.training.dataset import Case
from HypoxiaMapperLib.training.gate import add_gate_and_baselines

TINY = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": N_INPUTS,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "norm": "BATCH",
}
TEXTS = {
    "name": "tiny",
    "title": "A network of random weights",
    "training_data": "none",
    "intended_use": "tests",
    "licence": "Apache-2.0",
}
FIXED_RANGES = {
    "ranges": {key: {"low": -1e6, "high": 1e6} for key in KEYS},
    "spacing_range_mm": {key: [0.5, 6.0] for key in KEYS},
    "gtv_volume_range_ml": [0.1, 500.0],
}


def plain_case(seed: int, scale: float = 1.0) -> Case:
    """A ball of 9 voxels across in smooth images; the ratio follows FDG and the hypoxia PET."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    fields = random.normal(size=(len(KEYS), 16, 16, 16))
    images = np.stack([gaussian_filter(field, 2.0) for field in fields]) * 10 * scale
    images += random.normal(size=(len(KEYS), 1, 1, 1)) * 0.3
    position = np.indices((16, 16, 16)) - 7.5
    gtv = (position**2).sum(axis=0) < 4.5**2
    ratio = (1.2 + 0.1 * images[0] + 0.3 * images[1]).astype(np.float16)
    percentiles = np.full((len(KEYS), 3), 1.0)
    return Case(
        f"{seed}", images.astype(np.float16), np.ones(len(KEYS), bool), gtv, ratio, percentiles, percentiles * 3
    )


def tiny_bundle(folder, seed=1, members=2):
    """Bundle of random weights with a gate and baselines fitted on plain cases."""
    import torch

    torch.manual_seed(seed)
    cases = [plain_case(number) for number in range(12)]
    metadata = metadata_of(check_config({"bundle": TEXTS}), cases)
    metadata["hypoxia"] |= FIXED_RANGES
    states = [make_network(TINY).state_dict() for _ in range(members)]
    bundle = write_bundle(folder, metadata, TINY, states)
    return add_gate_and_baselines(bundle, cases[:9], cases[9:], ModalityDropout())
