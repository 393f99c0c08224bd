"""A child process read without blocking: started by the panel, polled by its timer, ended whole."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ..worker import PID_WORD, parse_progress
from .i18n import _

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
END_SECONDS = 3.0  # what a process gets to end by itself before it is killed


def python_executable() -> str:
    """Slicer's own Python (found as ``slicer.util.pip_install`` finds it); elsewhere the one that is running."""
    return shutil.which("PythonSlicer") or sys.executable


def worker_arguments(python: str, *arguments: str | Path) -> list[str]:
    """Command line of the worker; to be started in ``PACKAGE_PARENT``, so that ``-m`` finds the package."""
    return [python, "-m", "HypoxiaMapperLib.worker", *(str(a) for a in arguments)]


class ChildRun:
    """A running child process.

    Parameters
    ----------
    process : subprocess.Popen
        Started with its output piped as text.
    """

    def __init__(self, process: Any) -> None:
        self.process = process
        self.started_s = time.monotonic()
        self.fraction, self.text = 0.0, ""
        self.log: list[str] = []
        self.cancelled = False
        self.worker_pid: int | None = None  # the process may be a launcher, as PythonSlicer is
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def poll(self) -> int | None:
        """Take in what was printed; the exit code once the process has ended and every line was read, else None."""
        ended = self.process.poll() is not None and not self._reader.is_alive()
        while not self._lines.empty():
            line = self._lines.get()
            progress = parse_progress(line)
            if progress is not None:
                self.fraction, self.text = progress
            elif line.startswith(f"{PID_WORD} "):
                self.worker_pid = int(line.split()[1])
            else:
                self.log.append(line.rstrip())
        return self.process.returncode if ended else None

    def seconds_left(self) -> float | None:
        """Time left if it goes on as so far; None while too little is done to say."""
        if self.fraction < 0.05:
            return None
        elapsed = time.monotonic() - self.started_s
        return elapsed * (1 - self.fraction) / self.fraction

    def cancel(self) -> None:
        """End the worker and what started it: ending a launcher alone would leave the work running."""
        self.cancelled = True
        self.poll()
        for number in (self.worker_pid, self.process.pid):
            if number is not None and self.process.poll() is None:
                _end(number, signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            for number in (self.worker_pid, self.process.pid):
                if number is not None:
                    _end(number, getattr(signal, "SIGKILL", signal.SIGTERM))
            self.process.wait(END_SECONDS)


def _end(pid: int, how: int) -> None:
    """Signal a process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, how)


def time_left_text(seconds: float | None) -> str:
    """Time left as people say it."""
    if seconds is None:
        return ""
    if seconds >= 90:
        return _("about {minutes:.0f} min left").format(minutes=seconds / 60)
    return _("about {seconds} s left").format(seconds=max(1, round(seconds)))
