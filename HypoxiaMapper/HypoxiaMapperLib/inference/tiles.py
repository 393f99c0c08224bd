"""One network on one box within the memory at hand: the whole box, else tiles, else smaller tiles, else the CPU."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import HypoxiaError, InputError
from .device import describe_device, memory_budget

if TYPE_CHECKING:
    import torch

MULTIPLE = 4
TILE_FLOOR = 32
"""Voxels along an edge: 96 mm. A smaller tile would show the network less than it was trained on."""
OVERLAP = 0.5
PROBE = 32
"""Edge of the tile on which a network's memory is measured."""
WORKSPACE = 1.3
"""What convolution kernels take beside the tensors, as a factor; measured on CPU (oneDNN) within 0.7 to 2."""
_MEMORY_WORDS = ("out of memory", "allocate", "alloc_failed", "oom")


class Runner:
    """Runs networks on boxes; what it changes on the way (tiles, CPU) it keeps, and notes.

    Parameters
    ----------
    device : torch.device
        Where to start.
    budget_bytes : int, optional
        Memory to plan with; None: what is free.
    """

    def __init__(self, device: torch.device, budget_bytes: int | None = None) -> None:
        self.device = device
        self.notes: list[str] = []
        self._text = describe_device(device)
        self._budget = budget_bytes
        self._per_voxel: float | None = None
        self._tile: tuple[int, ...] | None = None

    @property
    def text(self) -> str:
        """The device in words, with everything that was changed."""
        return "; ".join([self._text, *self.notes])

    def run(self, network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Output of a network on a box, on the CPU.

        Parameters
        ----------
        inputs : torch.Tensor
            float32, shape (1, channels, z, y, x), on the CPU.

        Raises
        ------
        HypoxiaError
            If even the smallest tile does not fit the CPU's memory.
        """
        import torch

        shape = tuple(inputs.shape[2:])
        while True:
            if self._per_voxel is None:
                self._plan(network, inputs)
            with torch.inference_mode():
                found, problem = self._attempt(network, inputs)
            if found is not None:
                return found
            self._give_way(problem, shape)

    def _plan(self, network: torch.nn.Module, inputs: torch.Tensor) -> None:
        """Choose the tile by the memory a small tile takes."""
        import torch

        shape = tuple(inputs.shape[2:])
        probe = torch.zeros((1, inputs.shape[1], *(min(PROBE, n) for n in shape)))
        try:
            self._per_voxel = bytes_per_voxel(network.to(self.device), probe.to(self.device))
        except RuntimeError as error:
            # The probe met what the run will meet: it is dealt with there, with its message.
            if not _of_device(error, self.device):
                raise _does_not_fit(shape, error) from error
            self._per_voxel = 0.0
            return
        budget = memory_budget(self.device) if self._budget is None else self._budget
        tile = tile_for(shape, self._per_voxel, budget)
        if tile != shape:
            self._use(tile, f"the whole box would need {_gib(self._per_voxel, shape)}")

    def _attempt(self, network: torch.nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor | None, str]:
        """Output, or why there is none: memory ran out, or the device lacks an operation."""
        try:
            network = network.to(self.device)
            if self._tile is None or all(t >= n for t, n in zip(self._tile, inputs.shape[2:], strict=True)):
                return network(inputs.to(self.device)).cpu(), ""
            from monai.inferers.utils import sliding_window_inference

            found: Any = sliding_window_inference(
                inputs, self._tile, 1, network, overlap=OVERLAP, mode="gaussian",
                sw_device=self.device, device="cpu",
            )  # fmt: skip
            return found, ""
        except (RuntimeError, MemoryError) as error:
            if not _of_device(error, self.device):
                raise _does_not_fit(tuple(inputs.shape[2:]), error) from error
            return None, "memory ran out" if is_out_of_memory(error) else f"it lacks an operation ({error})"

    def _give_way(self, problem: str, shape: tuple[int, ...]) -> None:
        """Smaller tiles, or the CPU."""
        self._free()
        smaller = halved(self._tile or shape)
        if problem == "memory ran out" and smaller is not None:
            self._use(smaller, "memory ran out")
        elif self.device.type == "cpu":
            raise HypoxiaError(
                f"The network does not fit the memory even in tiles of {TILE_FLOOR} voxels.", "Close other programs."
            )
        else:
            import torch

            self.device, self._tile, self._per_voxel = torch.device("cpu"), None, None
            self.notes.append(f"{problem}: continued on the {describe_device(self.device)}")

    def _use(self, tile: tuple[int, ...], why: str) -> None:
        self._tile = tile
        self.notes.append(f"tiles of {'x'.join(str(n) for n in tile)} voxels, as {why}")

    def _free(self) -> None:
        """Give cached memory back to the device."""
        import torch

        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def bytes_per_voxel(network: torch.nn.Module, probe: torch.Tensor) -> float:
    """Peak memory of a forward pass per voxel of the box, weights not counted: every tensor followed on a small tile.

    Parameters
    ----------
    probe : torch.Tensor
        Shape (1, channels, z, y, x), on the network's device.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Living(TorchDispatchMode):
        """Adds up the storages that are alive."""

        def __init__(self) -> None:
            super().__init__()
            self.sizes: dict[int, int] = {}
            self.peak = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(found):
                if isinstance(leaf, torch.Tensor):
                    storage = leaf.untyped_storage()
                    if storage._cdata not in self.sizes:
                        self.sizes[storage._cdata] = storage.nbytes()
                        weakref.finalize(storage, self.sizes.pop, storage._cdata, 0)
            self.peak = max(self.peak, sum(self.sizes.values()))
            return found

    with torch.inference_mode(), Living() as living:
        network(probe)
    voxels = probe[0, 0].numel()
    return WORKSPACE * (living.peak + probe.nbytes) / voxels


def tile_for(shape: tuple[int, ...], per_voxel: float, budget_bytes: float) -> tuple[int, ...]:
    """The box if it fits, else its longest edge halved until it does or nothing is left to halve."""
    tile: tuple[int, ...] = shape
    while per_voxel * _product(tile) > budget_bytes:
        smaller = halved(tile)
        if smaller is None:
            break
        tile = smaller
    return tile


def halved(tile: tuple[int, ...]) -> tuple[int, ...] | None:
    """A tile with its longest edge halved to a multiple of 4; None at the floor."""
    edge = max(tile)
    half = max(TILE_FLOOR, -(-edge // (2 * MULTIPLE)) * MULTIPLE)
    if half >= edge:
        return None
    i = tile.index(edge)
    return (*tile[:i], half, *tile[i + 1 :])


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory ran out, whatever allocator said it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in _MEMORY_WORDS)


def _of_device(error: BaseException, device: torch.device) -> bool:
    """True for errors that smaller tiles or the CPU cure."""
    return is_out_of_memory(error) or (isinstance(error, NotImplementedError) and device.type != "cpu")


def _does_not_fit(shape: tuple[int, ...], error: BaseException) -> InputError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"The bundle's network cannot take a box of {'x'.join(str(n) for n in shape)} voxels: {first}",
        f"Edges are multiples of {MULTIPLE}; a network for this software must take every such box.",
    )


def _product(shape: tuple[int, ...]) -> int:
    found = 1
    for n in shape:
        found *= n
    return found


def _gib(per_voxel: float, shape: tuple[int, ...]) -> str:
    return f"{per_voxel * _product(shape) / 2**30:.2f} GiB"
