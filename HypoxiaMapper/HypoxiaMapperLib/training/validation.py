"""What the log says of the validation patients after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..inference.channels import KEYS
from ..inference.network import split_output
from .dataset import Case
from .samples import assemble

if TYPE_CHECKING:
    import torch

IMAGE_SETS: dict[str, tuple[str, ...]] = {
    "all": KEYS,
    "hypoxia_pet": ("hypoxia_pet",),
    "fdg_ct": ("fdg", "ct"),
    "no_hypoxia_pet": tuple(key for key in KEYS if key != "hypoxia_pet"),
}
"""Sets of images the log follows."""


def validate(network: torch.nn.Module, cases: Sequence[Case], device: torch.device) -> dict[str, float]:
    """Mean absolute error and negative log-likelihood in the GTV, mean over patients, for each set of images.

    Patients without any image of a set are left out of it; NaN when none has one.
    """
    found: dict[str, float] = {}
    for name, keys in IMAGE_SETS.items():
        errors, likelihoods = [], []
        for case in cases:
            shown = case.present & np.array([key in keys for key in KEYS])
            if not shown.any():
                continue
            mean, variance = predict(network, case, shown, device)
            inside = case.gtv & np.isfinite(case.ratio)
            error = mean[inside] - case.ratio[inside].astype(np.float32)
            errors.append(float(np.abs(error).mean()))
            spread = variance[inside]
            likelihoods.append(float(0.5 * (np.log(2 * np.pi * spread) + error**2 / spread).mean()))
        found[f"mae_{name}"] = float(np.mean(errors)) if errors else float("nan")
        found[f"nll_{name}"] = float(np.mean(likelihoods)) if likelihoods else float("nan")
    return found


def predict(
    network: torch.nn.Module, case: Case, shown: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Mean ratio and variance of one network on a whole case, shape (z, y, x)."""
    import torch

    network.eval()
    inputs = torch.from_numpy(assemble(case.images.astype(np.float32), case.gtv, shown))[None]
    with torch.inference_mode():
        mean, variance = split_output(network(inputs.to(device, memory_format=torch.channels_last_3d)))
    return mean[0].cpu().numpy(), variance[0].cpu().numpy()
