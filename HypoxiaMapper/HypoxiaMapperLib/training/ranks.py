"""One process, or several that train one network together (torchrun)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..errors import RequestError
from ..inference.device import choose_device

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(hours=12)  # the others wait while the first one prepares patients or validates


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Parameters
    ----------
    device : torch.device
        Where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all are here."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()

    def agreed(self, value: float) -> float:
        """The first process's value in all of them: clocks differ, decisions must not."""
        if self.world == 1:
            return value
        import torch
        import torch.distributed as dist

        shared = torch.tensor([value], dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        shared = shared.to(self.device)
        dist.broadcast(shared, 0)
        return float(shared.item())


@contextmanager
def open_ranks(device: str) -> Iterator[Ranks]:
    """Join the others when torchrun started this process (WORLD_SIZE > 1), leave them at the end.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA, then MPS, then CPU), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    found = _device(device, world)
    if world <= 1:
        yield Ranks(0, 1, found)
        return
    import torch.distributed as dist

    dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(rank, world, found)
    finally:
        dist.destroy_process_group()


def _device(name: str, world: int) -> torch.device:
    """As ``choose_device``; several processes need CUDA or the CPU, and each takes a GPU of its own."""
    if name == "mps" and world > 1:
        raise RequestError("Several processes cannot train on device mps.", 'Set "device": "auto", or start one.')
    found = choose_device(name, ("cuda",) if world > 1 else ("cuda", "mps"), "Training")
    if found.type != "cuda":
        return found
    import torch

    local = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
