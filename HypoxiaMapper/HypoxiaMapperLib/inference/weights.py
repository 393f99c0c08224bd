"""Weights as safetensors: read from bytes whose digest was checked, put into a network strictly, written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, MissingPackageError

if TYPE_CHECKING:
    import torch


def read_tensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file whose bytes have the SHA-256 given: what was checked is what is read.

    Raises
    ------
    MissingPackageError
        If safetensors or torch is not installed.
    InputError
        If the file has another digest or is no safetensors file.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise MissingPackageError(
            "Learned maps need torch and safetensors.", "pip install torch safetensors"
        ) from error
    data = path.read_bytes()
    require_digest(path, data, sha256)
    try:
        return load(data)
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({error}).", "Convert the weights to safetensors.") from error


def load_strictly(network: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Put weights into a network; every key and shape must match.

    Raises
    ------
    InputError
        Naming the keys that are missing, left over or of another shape.
    """
    own = network.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(state))
        if state[key].shape != own[key].shape
    ]
    problems = [
        f"{word} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for word, keys in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise InputError(
            f"{where} does not fit the bundle's network: {'; '.join(problems)}.",
            "Weights and configs/inference.json must come from one training.",
        )
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"{where}: {key} holds values that are not finite.", "The training diverged: train again.")
    network.load_state_dict(dict(state), strict=True)


def require_digest(path: Path, data: bytes, wanted: str) -> None:
    """Refuse bytes that have not the SHA-256 (hexadecimal) the metadata state."""
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise InputError(
            f"{path} has SHA-256 {found[:12]}..., the metadata say {wanted[:12]}...: other or changed weights.",
            "Take the bundle again from its source; nothing was loaded.",
        )


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """float32 tensors of arrays."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()}


def save_tensors(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Write tensors; returns the metadata's entry, file and SHA-256."""
    from safetensors.torch import save

    data = save(tensors)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
