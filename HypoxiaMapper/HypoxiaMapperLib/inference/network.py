"""The network of a bundle from plain names, and what its two outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import MissingPackageError, RequestError
from .channels import N_INPUTS
from .contract import check_network_def

if TYPE_CHECKING:
    import torch

N_OUTPUTS = 2
LOG_VARIANCE_LIMITS = (-9.0, 3.0)
"""Standard deviations from 0.01 to 4.5 in ratio units: beyond, a network is only over- or underflowing."""
DEFAULT_NETWORK: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": N_INPUTS,
    "out_channels": N_OUTPUTS,
    "channels": [24, 32, 64, 64],
    "strides": [1, 2, 2],
    "num_res_units": 0,
    "norm": "BATCH",
    "dropout": 0.0,
}
"""Full resolution first. Batch and not instance norm: absolute uptake must survive, and tiles must agree."""


def make_network(network_def: Mapping[str, Any]) -> torch.nn.Module:
    """Build a network of ``monai.networks.nets``.

    Parameters
    ----------
    network_def : mapping
        ``{"_target_": "UNet", **arguments}``: a plain class name and plain values, nothing that is evaluated.

    Raises
    ------
    InputError
        If it holds an expression (``contract.check_network_def``).
    RequestError
        If MONAI has no such network or it does not take the arguments.
    MissingPackageError
        If MONAI or torch is not installed.
    """
    check_network_def(network_def, "network definition")
    try:
        import torch
        from monai.networks import nets
    except ImportError as error:
        raise MissingPackageError(
            "Learned maps need torch and MONAI.", "pip install torch monai safetensors"
        ) from error
    name = network_def["_target_"]
    kind = getattr(nets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise RequestError(f"MONAI has no network {name!r}.", "Give the name of a class in monai.networks.nets.")
    arguments = {key: value for key, value in network_def.items() if key != "_target_"}
    for key, wanted in (("in_channels", N_INPUTS), ("out_channels", N_OUTPUTS)):
        if arguments.get(key) != wanted:
            raise RequestError(f"{name}: {key} is {arguments.get(key)!r}.", f"It must be {wanted}.")
    try:
        return kind(**arguments)
    except (TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise RequestError(
            f"{name} does not take its arguments: {error}.", "See MONAI's documentation of it."
        ) from error


def split_output(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean ratio and its variance from the network's output.

    Parameters
    ----------
    output : torch.Tensor
        Shape (n, 2, z, y, x): ratio minus one, and log variance.

    Returns
    -------
    mean, variance : torch.Tensor
        float32, shape (n, z, y, x).
    """
    output = output.float()
    return 1.0 + output[:, 0], output[:, 1].clamp(*LOG_VARIANCE_LIMITS).exp()
