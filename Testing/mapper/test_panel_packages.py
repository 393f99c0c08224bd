"""Installing missing packages from the panel: one question, PyTorch by its extension, a way on when pip fails."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from HypoxiaMapperLib.errors import MissingPackageError
from HypoxiaMapperLib.methods import all_methods
from HypoxiaMapperLib.panel import packages

ROOT = Path(__file__).resolve().parents[2]


class Desktop:
    """A Slicer that notes what it is asked to do; ``newest`` has ``slicer.packaging``."""

    def __init__(self, monkeypatch, missing, newest=True, answer=True, testing=False):
        self.missing, self.answer, self.questions, self.done = set(missing), answer, [], []
        self.fails, self.monkeypatch = False, monkeypatch
        slicer = ModuleType("slicer")
        slicer.app = SimpleNamespace(testingEnabled=lambda: testing)
        slicer.util = SimpleNamespace(
            confirmOkCancelDisplay=self.ask, pip_install=self.pip_install, WaitCursor=nullcontext
        )
        if newest:
            slicer.packaging = SimpleNamespace(pip_ensure=self.pip_ensure)
        monkeypatch.setitem(sys.modules, "slicer", slicer)
        monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
        monkeypatch.setattr(packages.importlib.util, "find_spec", lambda n: None if n in self.missing else object())

    def with_pytorch_extension(self, works=True):
        def install(askConfirmation=False, torchVersionRequirement=None):  # noqa: N803
            self.done.append(("torch", askConfirmation, torchVersionRequirement))
            if not works:
                raise subprocess.CalledProcessError(1, "light_the_torch")
            self.missing.discard("torch")

        logic = SimpleNamespace(installTorch=install)
        self.monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=lambda: logic))
        return self

    def ask(self, text, title):
        self.questions.append(text)
        return self.answer

    def _pip(self, lines, constraints):
        if self.fails:
            raise subprocess.CalledProcessError(1, "pip")
        self.done.append((lines, Path(constraints).read_text()))
        self.missing -= {line.split("~")[0].split(">")[0] for line in lines}

    def pip_ensure(self, lines, constraints=None, prompt_install=True, requester=None):
        assert not prompt_install, "the user has been asked already"
        self._pip(lines, constraints)

    def pip_install(self, arguments):
        *lines, option, constraints = arguments
        assert option == "--constraint"
        self._pip(lines, constraints)


@pytest.fixture
def no_torch_here(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.importlib.metadata, "version", version)


@pytest.mark.parametrize("newest", [True, False])
def test_packages_are_installed_after_one_question_with_the_versions_of_the_requirements(
    monkeypatch, newest, no_torch_here
):
    desktop = Desktop(monkeypatch, {"highdicom", "jinja2"}, newest)
    assert packages.install(["highdicom", "jinja2", "numpy"], "Hypoxia") == []
    assert desktop.done == [(["highdicom~=0.27", "jinja2~=3.1"], "")]
    (question,) = desktop.questions
    assert "highdicom~=0.27" in question
    assert "numpy" not in question


@pytest.mark.parametrize("state", [{"answer": False}, {"testing": True}])
def test_nothing_is_installed_when_the_user_declines_or_in_a_test(monkeypatch, state):
    desktop = Desktop(monkeypatch, {"highdicom"}, **state)
    assert packages.install(["highdicom"], "Hypoxia") == ["highdicom"]
    assert desktop.done == []
    assert len(desktop.questions) == (not state.get("testing"))


def test_pytorch_is_installed_by_its_extension_before_what_needs_it(monkeypatch, no_torch_here):
    desktop = Desktop(monkeypatch, {"torch", "monai", "safetensors"}).with_pytorch_extension()
    assert packages.install(["torch", "monai", "safetensors"], "Hypoxia") == []
    assert desktop.done == [("torch", False, ">=2.4"), (["monai~=1.5", "safetensors>=0.5"], "")]
    assert len(desktop.questions) == 1


def test_the_build_of_pytorch_that_is_there_stays(monkeypatch):
    monkeypatch.setattr(packages.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    desktop = Desktop(monkeypatch, {"monai"})
    packages.install(["torch", "monai"], "Hypoxia")
    assert desktop.done == [(["monai~=1.5"], "torch==2.13.0+cpu\n")]


def test_without_the_pytorch_extension_the_user_is_told_how_to_get_it_and_pip_does_not_bring_another(monkeypatch):
    desktop = Desktop(monkeypatch, {"torch", "monai"})
    with pytest.raises(MissingPackageError, match="Extensions Manager"):
        packages.install(["torch", "monai"], "Hypoxia")
    assert desktop.done == []


def test_after_pytorch_failed_nothing_that_needs_it_is_installed(monkeypatch):
    desktop = Desktop(monkeypatch, {"torch", "monai"}).with_pytorch_extension(works=False)
    with pytest.raises(MissingPackageError, match=r"torch, monai.*pip install torch monai.*PyTorch Utils"):
        packages.install(["torch", "monai"], "Hypoxia")
    assert len(desktop.done) == 1


def test_when_pip_fails_the_message_names_the_packages_and_the_way_by_hand(monkeypatch):
    desktop = Desktop(monkeypatch, {"highdicom"})
    desktop.fails = True
    with pytest.raises(MissingPackageError, match=r"highdicom.*PythonSlicer -m pip install highdicom"):
        packages.install(["highdicom"], "Hypoxia")


def test_every_package_of_a_method_has_a_version_and_the_command_line_asks_for_the_same():
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {line for name in ("torch", "learned") for line in extras[name] if not line.startswith("slicer-hypoxia")}
    needed = {name for method in all_methods().values() for name in method.packages}
    assert {"torch", "monai", "safetensors"} <= needed
    assert set(packages.requirement_lines(needed)) == asked
    assert packages.requirement_lines(["trame-slicer"]) == []


def test_a_package_that_is_too_old_is_missing(monkeypatch):
    assert packages.missing_packages(["highdicom", "matplotlib"]) == []
    for version, missing in (("0.26.1", ["highdicom"]), ("0.27.0", []), ("0.30.0+local", []), ("1.0", [])):
        monkeypatch.setattr(packages.importlib.metadata, "version", lambda name, v=version: v)
        assert packages.missing_packages(["highdicom"]) == missing, version
