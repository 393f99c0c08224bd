"""Python packages that a step needs and Slicer may not have: named, offered, never installed without a question."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
NEVER_IN_SLICER = ("trame-slicer",)  # brings Slicer's libraries a second time
_IMPORT_NAMES = {"torch": "torch", "SimpleITK": "SimpleITK"}


def requirement_lines(names: Iterable[str]) -> list[str]:
    """Lines of the extension's requirements for packages, the bare name where it has none."""
    lines = [line.strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    known = {re.split(r"[\[~<>=! ]", line)[0]: line for line in lines if line and not line.startswith("#")}
    return [known.get(name, name) for name in names if name not in NEVER_IN_SLICER]


def missing_packages(names: Iterable[str]) -> list[str]:
    """Which packages cannot be imported here."""
    return [name for name in names if importlib.util.find_spec(_IMPORT_NAMES.get(name, name)) is None]


def install(names: Iterable[str], requester: str) -> list[str]:
    """Install packages after asking the user; what is still missing afterwards.

    PyTorch goes through its extension, which chooses the build for the graphics card.
    """
    wanted = missing_packages(names)
    if "torch" in wanted:
        _install_torch()
        wanted.remove("torch")
    if wanted:
        _pip(requirement_lines(wanted), requester)
    importlib.invalidate_caches()
    return missing_packages(names)


def _install_torch() -> None:
    """PyTorch by its own Slicer extension.

    Raises
    ------
    MissingPackageError
        If that extension is not installed.
    """
    from ..errors import MissingPackageError

    try:
        import PyTorchUtils
    except ImportError as error:
        raise MissingPackageError(
            "The PyTorch extension is not installed.", "Install it with the Extensions Manager and restart Slicer."
        ) from error
    PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True)


def _pip(lines: list[str], requester: str) -> None:
    """``slicer.packaging`` where there is one (Slicer 5.12), else pip after a question."""
    import slicer

    try:
        from slicer import packaging
    except ImportError:
        if slicer.app.testingEnabled():
            return  # as slicer.packaging: a test never changes the environment
        question = "These Python packages will be installed into Slicer:\n\n" + "\n".join(lines)
        if slicer.util.confirmOkCancelDisplay(question, requester):
            for line in lines:
                slicer.util.pip_install(line)
        return
    packaging.pip_ensure(lines, requester=requester)
