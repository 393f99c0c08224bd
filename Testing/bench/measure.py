"""Times, peak memory of a process and its children, the machine in words, tables."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import psutil

POLL_S = 0.02


def alternate(tasks: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Least seconds and last result of each task. Tasks take turns, so that a busy moment hits all alike.

    One turn more is run first and not counted: it warms the disk cache and the imports.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    results: dict[str, Any] = {}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            results[name] = task()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}, results


def peak_memory_mib(command: list[str]) -> tuple[float, float]:
    """Run a command; largest sum of resident memory of it and its children in MiB, and its seconds."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, sum(_resident(p) for p in (root, *_children(root))))
        time.sleep(POLL_S)
    said = process.stdout.read().decode(errors="replace") if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return peak / 2**20, time.perf_counter() - start


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap 2|A and B| / (|A| + |B|)."""
    return 2.0 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))


def machine() -> str:
    """Processor, cores, memory, system and Python in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    memory_gib = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model}, {cores} cores, {memory_gib:.0f} GiB memory, {platform.system()}, Python {platform.python_version()}"
    )


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)
