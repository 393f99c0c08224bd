"""Python packages that a step needs and Slicer may not have: named, offered, never installed without a question."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError
from .i18n import _

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
REQUIREMENTS = (RESOURCES / "requirements.txt", RESOURCES / "requirements-learned.txt")
NEVER_IN_SLICER = ("trame-slicer",)  # brings Slicer's libraries a second time
TORCH = "torch"


def requirement_lines(names: Iterable[str]) -> list[str]:
    """Lines of the extension's requirements for packages, the bare name where it has none."""
    lines = [line.strip() for path in REQUIREMENTS for line in path.read_text(encoding="utf-8").splitlines()]
    known = {re.split(r"[\[~<>=! ]", line)[0]: line for line in lines if line and not line.startswith("#")}
    return [known.get(name, name) for name in names if name not in NEVER_IN_SLICER]


def missing_packages(names: Iterable[str]) -> list[str]:
    """Which packages cannot be imported here, or are older than what the requirements allow."""
    return [name for name in names if importlib.util.find_spec(name) is None or _too_old(name)]


def _too_old(name: str) -> bool:
    """True below the version that the extension's requirements begin with; false where nothing tells the version."""
    lowest = re.search(r"[~>]=\s*([\d.]+)", requirement_lines([name])[0]) if name not in NEVER_IN_SLICER else None
    try:
        return lowest is not None and _numbers(importlib.metadata.version(name)) < _numbers(lowest[1])
    except importlib.metadata.PackageNotFoundError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    """First numbers of a version: ``2.13.0+cpu`` gives (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def install(names: Iterable[str], requester: str) -> list[str]:
    """Install packages after asking the user once; what is still missing afterwards.

    Everything is still missing when the user declines, and in a test, which never changes the environment.
    PyTorch goes first and through its extension, which chooses the build for the graphics card: pip would bring
    another one along with the packages that need it.

    Raises
    ------
    MissingPackageError
        If pip failed, or PyTorch is wanted and its extension is not installed.
    """
    import slicer

    wanted = missing_packages(names)
    if not wanted or slicer.app.testingEnabled():
        return wanted
    installer = _torch_installer() if TORCH in wanted else None
    lines = requirement_lines(wanted)
    question = _("These Python packages will be installed into Slicer, which takes minutes:")
    title = _("{module} - Install Python packages").format(module=requester)
    if not slicer.util.confirmOkCancelDisplay("\n".join([question, "", *lines]), title):
        return wanted
    try:
        with slicer.util.WaitCursor():
            _install_in_turn(wanted, installer, requester)
    except (subprocess.CalledProcessError, ImportError) as error:
        importlib.invalidate_caches()
        left = missing_packages(wanted)
        message = _("Could not be installed: {names}.").format(names=", ".join(left or wanted))
        raise MissingPackageError(message, _way_on(left)) from error
    importlib.invalidate_caches()
    return missing_packages(wanted)


def _install_in_turn(wanted: Sequence[str], installer: Any, requester: str) -> None:
    """PyTorch, if it is wanted, then the others, unless PyTorch did not come."""
    if installer is not None:
        installer.installTorch(torchVersionRequirement=requirement_lines([TORCH])[0].removeprefix(TORCH))
        importlib.invalidate_caches()
    others = requirement_lines(name for name in wanted if name != TORCH)
    if others and not (TORCH in wanted and missing_packages([TORCH])):
        _pip(others, requester)


def _way_on(names: Sequence[str]) -> str:
    """What a user can do after pip failed."""
    text = _(
        "Slicer's Python console shows what pip said. By hand, in a terminal: PythonSlicer -m pip install {names}."
    ).format(names=" ".join(names))
    other = _("Or choose another build of PyTorch in the module PyTorch Utils.")
    return f"{text} {other}" if TORCH in names else text


def _torch_installer() -> Any:
    """The PyTorch extension's logic.

    Raises
    ------
    MissingPackageError
        If that extension is not installed.
    """
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise MissingPackageError(
            _("PyTorch is installed by Slicer's PyTorch extension, which is not here."),
            _(
                "Install the extension PyTorch with the Extensions Manager, restart Slicer, and press Install again. "
                "Or by hand, in a terminal: PythonSlicer -m pip install torch"
            ),
        ) from error
    return PyTorchUtilsLogic()


def _pip(lines: list[str], requester: str) -> None:
    """``slicer.packaging`` where there is one (Slicer 5.12), else pip. The build of PyTorch that is there stays."""
    import slicer

    with tempfile.TemporaryDirectory(prefix="hypoxia-pip-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(_kept_torch(), encoding="utf-8")
        try:
            from slicer import packaging
        except ImportError:
            slicer.util.pip_install([*lines, "--constraint", str(constraints)])
            return
        packaging.pip_ensure(lines, constraints=constraints, prompt_install=False, requester=requester)


def _kept_torch() -> str:
    """Constraint to the installed PyTorch; empty without one."""
    try:
        return f"{TORCH}=={importlib.metadata.version(TORCH)}\n"
    except importlib.metadata.PackageNotFoundError:
        return ""
