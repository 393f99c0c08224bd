"""What a method will run on, in words. The worker is asked, in the background: torch is never imported in Slicer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ..methods import Method
from ..worker import ASK_DEVICE, DEVICE_WORD
from .child import ChildRun
from .i18n import _
from .packages import missing_packages

TORCH = "torch"


def uses_torch(method: Method) -> bool:
    """True if a method runs on what torch finds, and torch is there."""
    return TORCH in method.packages and not missing_packages([TORCH])


def cpu_text() -> str:
    """The processor and its threads."""
    return _("CPU, {count} threads").format(count=os.cpu_count() or 1)


class DeviceQuestion:
    """Asks a child process once what methods with torch run on.

    Parameters
    ----------
    launch : callable
        Starts ``python -m HypoxiaMapperLib.worker`` with further arguments; gives the process.
    """

    def __init__(self, launch: Callable[[Sequence[str]], Any]) -> None:
        self._launch = launch
        self._run: ChildRun | None = None
        self.answer = ""

    @property
    def asking(self) -> bool:
        """True while the child process works."""
        return self._run is not None

    def ask(self) -> None:
        """Start the child process, unless it runs or has answered."""
        if not self.answer and self._run is None:
            self._run = ChildRun(self._launch([ASK_DEVICE]))

    def poll(self) -> bool:
        """Take the answer; True when it has just come."""
        if self._run is None or self._run.poll() is None:
            return False
        told = [line.partition(" ")[2] for line in self._run.log if line.startswith(f"{DEVICE_WORD} ")]
        last = self._run.log[-1] if self._run.log else _("it said nothing")
        unknown = _("could not be found out ({said}); the method chooses itself").format(said=last)
        self.answer = told[0] if told else unknown
        self._run = None
        return True

    def cancel(self) -> None:
        """End the child process, when the module goes."""
        if self._run is not None:
            self._run.cancel()
            self._run = None

    def text(self, method: Method) -> str:
        """The line of the panel for a method."""
        if TORCH not in method.packages:
            return cpu_text()
        if not uses_torch(method):
            return _("PyTorch is not installed")
        return self.answer or (_("being asked...") if self.asking else _("not asked yet"))
