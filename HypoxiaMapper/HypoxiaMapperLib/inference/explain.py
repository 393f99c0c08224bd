"""Why the map is as it is: integrated gradients per image, and what changes when an image is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import HypoxiaError, RequestError
from ..methods._base import Progress, no_progress
from .channels import CHANNELS, FUNCTIONAL, KEYS
from .device import describe_device, exact_arithmetic
from .network import split_output
from .prepare import Prepared
from .tiles import is_out_of_memory

if TYPE_CHECKING:
    import torch

    from .ensemble import Ensemble

STEPS = 32
"""Points on the way from baseline to image (Gauss-Legendre)."""


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of the mean predicted ratio in a region.

    Parameters
    ----------
    maps : mapping
        Image key to its contribution per voxel, float32, shape (z, y, x). Over all images and voxels they add up to
        ``value - baseline``.
    value, baseline : float
        Mean predicted ratio of the region on these images, and with every image at its centre value.
    completeness_error : float
        ``sum of maps - (value - baseline)``, relative to the latter.
    """

    maps: Mapping[str, np.ndarray]
    value: float
    baseline: float
    completeness_error: float


def integrated_gradients(
    ensemble: Ensemble,
    prepared: Prepared,
    region: np.ndarray | None = None,
    steps: int = STEPS,
    progress: Progress = no_progress,
) -> Attribution:
    """Contribution of every image voxel to the mean predicted ratio of a region (Sundararajan et al. 2017).

    IG = (x - x0) * integral of the gradient from x0 to x. The baseline x0 is a scaled input of 0: the image at its
    channel's centre value (``channels.CHANNELS``), not an absent image; presence flags and GTV stay as they are.

    Parameters
    ----------
    region : numpy.ndarray, optional
        bool, shape (z, y, x), on the network's grid; None: the GTV.
    steps : int
        More steps make the sum of the maps come closer to the difference.

    Raises
    ------
    RequestError
        If the region is empty.
    """
    import torch

    region = prepared.gtv if region is None else region
    if not region.any():
        raise RequestError("The region to explain is empty.", "Explain the GTV instead.")
    if steps < 1:
        raise RequestError(f"{steps} steps were asked for.", "Give at least 1.")
    inside = torch.from_numpy(region)
    points, weights = np.polynomial.legendre.leggauss(steps)
    images = torch.from_numpy(np.ascontiguousarray(prepared.inputs, np.float32))[None]
    total = torch.zeros_like(images[0, : len(CHANNELS)], dtype=torch.float64)
    value = baseline = 0.0
    for member, network in enumerate(ensemble.networks):
        for step, (point, weight) in enumerate(zip((points + 1) / 2, weights / 2, strict=True)):
            progress((member * steps + step) / (steps * len(ensemble.networks)), "integrated gradients")
            gradient, _ = _gradient(ensemble, network, _on_the_way(images, float(point)), inside)
            total += float(weight) * gradient[: len(CHANNELS)].double()
        value += _gradient(ensemble, network, images, inside)[1]
        baseline += _gradient(ensemble, network, _on_the_way(images, 0.0), inside)[1]
    count = len(ensemble.networks)
    found = (total / count * images[0, : len(CHANNELS)].double()).numpy()
    value, baseline = value / count, baseline / count
    difference = value - baseline
    error = (float(found.sum()) - difference) / difference if difference else 0.0
    maps = {key: found[i].astype(np.float32) for i, key in enumerate(KEYS) if key in prepared.present}
    return Attribution(maps, value, baseline, error)


def occlusion(ensemble: Ensemble, prepared: Prepared, progress: Progress = no_progress) -> dict[str, float]:
    """Mean absolute change of the map in the GTV when an image is left out.

    Only images without which a functional one (``channels.FUNCTIONAL``) remains: the network never saw less.

    Returns
    -------
    dict
        Image key to change, in the map's unit.
    """
    whole = ensemble.mean_map(prepared.inputs)
    found = {}
    for number, key in enumerate(prepared.present):
        progress(number / len(prepared.present), f"map without {key}")
        if not any(other in FUNCTIONAL for other in prepared.present if other != key):
            continue
        inputs = prepared.inputs.copy()
        inputs[[KEYS.index(key), len(CHANNELS) + KEYS.index(key)]] = 0.0
        found[key] = float(np.abs(ensemble.mean_map(inputs) - whole)[prepared.gtv].mean())
    return found


def _on_the_way(images: torch.Tensor, fraction: float) -> torch.Tensor:
    """Inputs whose images stand at a fraction of the way from the baseline; flags and GTV unchanged."""
    found = images.clone()
    found[:, : len(CHANNELS)] *= fraction
    return found


def _gradient(
    ensemble: Ensemble, network: torch.nn.Module, inputs: torch.Tensor, inside: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Gradient (channels, z, y, x) of the mean ratio in a region, and that mean; on the CPU if memory runs out."""
    import torch

    runner = ensemble.runner
    while True:
        try:
            with exact_arithmetic(), torch.enable_grad():
                box = inputs.to(runner.device).detach().clone().requires_grad_(True)
                ratio, _ = split_output(network.to(runner.device)(box))
                mean = ratio[0][inside.to(runner.device)].mean()
                (gradient,) = torch.autograd.grad(mean, box)
                return gradient[0].cpu(), float(mean.detach())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if runner.device.type == "cpu":
                raise HypoxiaError(
                    "The explanation does not fit the memory.", "Close other programs, or compute the map without it."
                ) from error
        runner.device = torch.device("cpu")
        runner.notes.append(f"memory ran out in the explanation: continued on the {describe_device(runner.device)}")
