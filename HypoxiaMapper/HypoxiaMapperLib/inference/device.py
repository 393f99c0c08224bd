"""Where torch runs here, in words, how much memory is free, and how to make it compute the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingPackageError, RequestError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
GPU_SHARE = 0.8
"""Share of a GPU's free memory that is planned with: other programs draw on it too."""
CPU_SHARE = 0.5
CPU_LIMIT_BYTES = int(1.5 * 2**30)
"""Planned with on a CPU at most: images, libraries and the operating system share 4 GiB with it."""
_UNKNOWN_FREE_BYTES = 2 * 2**30  # systems that do not tell (Windows, macOS)


def choose_device(name: str = "auto", order: tuple[str, ...] = ("cuda", "mps"), needed_by: str = "") -> torch.device:
    """The device of that name, or for ``auto`` the first of ``order`` that is there, else the CPU.

    Parameters
    ----------
    name : str
        One of ``DEVICES``.
    order : tuple of str
        What ``auto`` prefers.
    needed_by : str
        Subject of the message when torch is missing.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    RequestError
        If the name is unknown or the device is not there.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            f"{needed_by or 'Learned maps'} need the Python package torch.", "pip install torch"
        ) from error
    if name not in DEVICES:
        raise RequestError(f"Device is {name!r}.", f"Valid values: {', '.join(DEVICES)}.")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind in order if present[kind]), "cpu")
    if not present[name]:
        raise RequestError(f"Device {name} is not available here.", "Use device auto or cpu.")
    return torch.device(name)


def describe_device(device: torch.device | None = None) -> str:
    """Name and memory of a device, e.g. ``"NVIDIA GeForce GTX 1650 (4.0 GiB)"`` or ``"CPU (2 threads)"``.

    Parameters
    ----------
    device : torch.device, optional
        None: the one ``auto`` chooses.
    """
    import torch

    device = choose_device() if device is None else device
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{facts.name} ({facts.total_memory / 2**30:.1f} GiB)"
    if device.type == "mps":
        return f"Apple GPU, MPS ({torch.mps.recommended_max_memory() / 2**30:.1f} GiB)"
    return f"CPU ({torch.get_num_threads()} threads)"


def memory_budget(device: torch.device) -> int:
    """Bytes that inference plans with on a device."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(GPU_SHARE * (free + cached))
    if device.type == "mps":
        return int(GPU_SHARE * (torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()))
    return min(int(CPU_SHARE * _free_bytes()), CPU_LIMIT_BYTES)


def _free_bytes() -> int:
    """Free main memory; a modest guess where the system does not tell."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _UNKNOWN_FREE_BYTES


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Full float32 and deterministic kernels: the same bits every time on one device, and GPU like CPU.

    TensorFloat-32, on by default for convolutions, keeps 10 bits of mantissa and would part GPU and CPU by 1e-3.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
