"""A training so small that a test can run it."""

from __future__ import annotations

import copy

from HypoxiaMapperLib.inference.channels import N_INPUTS

TEXTS = {
    "name": "tiny",
    "title": "Tiny",
    "training_data": "8 simulated tumours",
    "intended_use": "tests",
    "licence": "Apache-2.0",
}
TINY = {
    "bundle": TEXTS,
    "data": {"patients": 8, "seed": 7, "workers": 1},
    "split": {"validation": 0.25},
    "network_def": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": N_INPUTS, "out_channels": 2, "channels": [4, 4, 8],
        "strides": [1, 2], "num_res_units": 0, "norm": "BATCH",
    },
    "members": 1, "epochs": 2, "batch": 3, "patch": 12, "crops_per_patient": 1, "warm_up_epochs": 1, "device": "cpu",
    "threads": 1, "seed": 5,
}  # fmt: skip


def change(path: str, value: object) -> dict:
    """The tiny configuration with one value changed; ``None`` removes it."""
    values = copy.deepcopy(TINY)
    *parents, last = path.split(".")
    inner = values
    for name in parents:
        inner = inner.setdefault(name, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values
