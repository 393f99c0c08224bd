"""How far a fit is from what the memory of its device allows: bytes moved, bandwidth, both number types."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from HypoxiaMapperLib.fitting import FitCode, FitOptions, fit
from HypoxiaMapperLib.fitting.device import choose_backend

HEADER = (
    "| what | device | voxels/s | kB per voxel moved | copy GB/s | share of limit | launches | "
    "largest difference to float64, standard errors |\n|---|---|---|---|---|---|---|---|"
)
NOTE = (
    "kB per voxel moved: what every operation reads and writes, as if nothing stayed in a cache; share of limit: of "
    "the voxels/s at which the copy's bandwidth would move them. Difference: that 99 of 100 voxels stay below, of any "
    "parameter."
)
COPY_BYTES = 2**28
TURNS = 5
VIEWS = frozenset({
    "view", "expand", "t", "transpose", "slice", "select", "unsqueeze", "squeeze", "detach", "alias", "unbind",
    "diagonal", "_unsafe_view", "split", "as_strided", "permute", "lift_fresh", "empty", "empty_like",
})  # fmt: skip
OVERWRITES = frozenset({"copy_", "fill_", "zero_"})
"""Operations that write their first argument without reading it."""


class Traffic(TorchDispatchMode):
    """Counts operations other than views, and the bytes they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.moved, self.launches = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            read = (args[1:] if name in OVERWRITES else args, {k: v for k, v in (kwargs or {}).items() if k != "out"})
            self.moved += sum(map(_size, (t for t in tree_flatten((read, found))[0] if isinstance(t, torch.Tensor))))
            self.launches += 1
        return found


def _size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor; what is repeated along an axis (stride 0) lies there once."""
    lengths = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(np.prod(lengths)) * tensor.element_size() if tensor.numel() else 0


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second of a copy on the device, read and written ones counted, best of several."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = np.inf
    for _ in range(TURNS):
        _finish(device)
        begin = time.perf_counter()
        target.copy_(source)
        _finish(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * COPY_BYTES / best


def _finish(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def limit_rows(case: str, model: Any, data: np.ndarray, device: str) -> Iterator[list[str]]:
    """One row per number type: speed, bytes, share of the bandwidth's limit, difference to float64 on the CPU."""
    n = data.shape[1]
    reference = fit(model, data, options=FitOptions(device="cpu"))
    for dtype in ("float64", "float32"):
        options = FitOptions(device=device, dtype=dtype)
        backend = choose_backend(options)
        seconds = np.inf
        for _ in range(TURNS):
            begin = time.perf_counter()
            found = fit(model, data, options=options)
            seconds = min(seconds, time.perf_counter() - begin)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the count sees one thread
        with Traffic() as traffic:
            fit(model, data, options=options)
        torch.set_num_threads(threads)
        bandwidth = copy_bandwidth(backend.device)
        yield [
            case, found.device, f"{n / seconds:,.0f}", f"{traffic.moved / n / 1e3:.1f}", f"{bandwidth / 1e9:,.0f}",
            f"{traffic.moved / bandwidth / seconds:.0%}", f"{traffic.launches:,}", _difference(found, reference),
        ]  # fmt: skip


def _difference(found: Any, reference: Any) -> str:
    """The 99th percentile of the difference over the standard error, of the parameter where it is largest."""
    good = (found.code == FitCode.OK) & (reference.code == FitCode.OK)
    off = {name: np.quantile(np.abs(found.values[name] - row)[good] / reference.errors[name][good], 0.99)
           for name, row in reference.values.items()}  # fmt: skip
    worst = max(off, key=off.__getitem__)
    return f"{off[worst]:.3g} ({worst})"
