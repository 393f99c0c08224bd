"""Where and how precisely a fit runs: device, number type, voxels per chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import RequestError
from ..inference.device import DEVICES, choose_device

if TYPE_CHECKING:
    import torch

Part = TypeVar("Part")
DTYPES = ("float64", "float32")
CPU_CHUNK = 16384
"""Voxels at once on a CPU: large enough for few steps in Python, small enough for the cache."""
MEMORY_SHARE = 0.4
"""Share of the free memory of a GPU that one chunk may use."""
NUMBERS_PER_FRAME, NUMBERS_PER_PARAMETER = 4, 80
"""Working numbers of one voxel: above the largest counted of every model here, with few frames and with many."""


@dataclass(frozen=True)
class FitOptions:
    """How to run a fit.

    Parameters
    ----------
    device : str
        ``auto`` (CUDA, else CPU), ``cpu``, ``cuda`` or ``mps``.
    dtype : str
        ``float64`` or ``float32``; MPS knows only float32.
    chunk_voxels : int or None
        Voxels per chunk; None chooses by the device's memory.
    max_iterations : int
        Levenberg-Marquardt steps before a voxel counts as not converged.
    tolerance : float
        A voxel has converged when the next step would lower its sum of squares by less than this fraction. 1e-7 is
        a step of less than a thousandth of the standard error.
    table_tolerance : float or None
        Relative error allowed to the compressed curves of separable models; None: 1e-7 (float64), 1e-5 (float32).
    """

    device: str = "auto"
    dtype: str = "float64"
    chunk_voxels: int | None = None
    max_iterations: int = 200
    tolerance: float = 1e-7
    table_tolerance: float | None = None

    def __post_init__(self) -> None:
        for word, value, valid in (("device", self.device, DEVICES), ("dtype", self.dtype, DTYPES)):
            if value not in valid:
                raise RequestError(f"Fit {word} is {value!r}.", f"Valid values: {', '.join(valid)}.")
        if self.chunk_voxels is not None and self.chunk_voxels < 1:
            raise RequestError(f"Fit chunk is {self.chunk_voxels} voxels.", "Give at least 1.")


@dataclass(frozen=True)
class Backend:
    """A resolved device: what ``FitOptions`` means on this machine."""

    device: torch.device
    dtype: torch.dtype
    table_tolerance: float

    @property
    def name(self) -> str:
        """Device and number type in words, for provenance."""
        import torch

        hardware = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return f"{hardware}, {str(self.dtype).removeprefix('torch.')}"


def choose_backend(options: FitOptions) -> Backend:
    """Resolve the device and number type.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    RequestError
        If the device asked for is not there, or float64 is asked of MPS.
    """
    # Not MPS unless asked for: it lacks float64, the fits' default.
    device = choose_device(options.device, ("cuda",), "Voxel-wise fits")
    import torch

    if device.type == "mps" and options.dtype == "float64":
        raise RequestError("Device mps cannot compute in float64.", "Ask for dtype float32 or device cpu.")
    default_tolerance = 1e-7 if options.dtype == "float64" else 1e-5
    return Backend(device, getattr(torch, options.dtype), options.table_tolerance or default_tolerance)


def chunk_size(backend: Backend, options: FitOptions, n_frames: int, n_parameters: int) -> int:
    """Voxels per chunk such that the working arrays fit the memory at hand.

    On a GPU a power of two: what else holds memory there then seldom changes the chunks, and with them the rounding.
    """
    if options.chunk_voxels is not None:
        return options.chunk_voxels
    if backend.device.type != "cuda":
        return CPU_CHUNK
    import torch

    free, _ = torch.cuda.mem_get_info(backend.device)
    per_voxel = (NUMBERS_PER_FRAME * n_frames + NUMBERS_PER_PARAMETER * n_parameters) * backend.dtype.itemsize
    fitting = max(1024, min(2**21, int(MEMORY_SHARE * free / per_voxel)))
    return 2 ** (fitting.bit_length() - 1)


def in_order(work: Callable[[int], Part], firsts: Iterable[int], backend: Backend) -> Iterator[Part]:
    """Results of ``work`` for each chunk, in order: on a CPU one chunk per core at a time.

    Whole chunks side by side need no barrier after every operation, which costs more than the operations themselves
    when other programs use the cores. At most one finished chunk per core waits, so memory stays bounded.
    """
    import torch

    cores = torch.get_num_threads()
    if backend.device.type != "cpu" or cores == 1:
        yield from map(work, firsts)
        return
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Part]] = deque()
        try:
            for first in firsts:
                waiting.append(pool.submit(work, first))
                if len(waiting) > cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(cores)
