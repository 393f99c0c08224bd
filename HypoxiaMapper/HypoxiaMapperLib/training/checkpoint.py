"""State of one member between two epochs: on the disk whole or not at all, read without running anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError

if TYPE_CHECKING:
    import torch

STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a member stands.

    Parameters
    ----------
    epoch : int
        Epochs done.
    elapsed_s : float
        Training time so far.
    finished : bool
        True when its weights are final.
    history : tuple of dict
        One row of the log per epoch.
    """

    epoch: int = 0
    elapsed_s: float = 0.0
    finished: bool = False
    history: tuple[dict[str, Any], ...] = field(default=())


def read_state(folder: Path) -> Checkpoint:
    """Where a member stands; the start when nothing was saved."""
    path = folder / STATE
    if not path.is_file():
        return Checkpoint()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Checkpoint(**{**values, "history": tuple(values["history"])})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is broken: {error}.", "Remove the member's folder: it starts again.") from error


def read_weights(folder: Path, state: Checkpoint) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint."""
    from safetensors.torch import load_file

    return load_file(_weights(folder, state.epoch))


def read_optimiser(folder: Path, state: Checkpoint) -> dict[str, Any]:
    """State of the optimiser of a checkpoint; only tensors and plain values are read (no pickle is executed)."""
    import torch

    return torch.load(_optimiser(folder, state.epoch), map_location="cpu", weights_only=True)


def save(folder: Path, state: Checkpoint, weights: dict[str, torch.Tensor], optimiser: dict[str, Any]) -> None:
    """Save a checkpoint beside the last one, point to it, then remove the last one.

    Raises
    ------
    OutputError
        If the folder cannot be written; the last checkpoint stays.
    """
    import torch
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, _weights(folder, state.epoch))
        torch.save(optimiser, _optimiser(folder, state.epoch))
        part = folder / f"{STATE}.part"
        part.write_text(json.dumps({**vars(state), "history": list(state.history)}, indent=1), encoding="utf-8")
        part.replace(folder / STATE)
        keep = {_weights(folder, state.epoch), _optimiser(folder, state.epoch)}
        for old in [*folder.glob("epoch_*.safetensors"), *folder.glob("epoch_*.optimiser")]:
            if old not in keep:
                old.unlink()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{folder} cannot be written: {error}.", "Check the disk; then --resume.") from error


def _weights(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:05d}.safetensors"


def _optimiser(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:05d}.optimiser"
