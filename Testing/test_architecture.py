"""The rules of the house hold for every file, and the checker sees a planted violation of each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from architecture import MAPPER, PAINT, import_violations, length_violations, machine_violations
from HypoxiaMapperLib.methods import all_methods

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_FOLDERS = {MAPPER: ROOT / "HypoxiaMapper", PAINT: ROOT / "HypoxiaDosePaint"}
IGNORED_FOLDERS = {".git", ".venv", "build", "dist", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
CORE, METHOD, DICOM, MRML = (
    f"{MAPPER}/{name}" for name in ("volume.py", "methods/x.py", "dicomio/x.py", "mrml/x.py")
)  # fmt: skip


def project_files() -> list[Path]:
    """Files of the project: what git knows, or (without git) everything but what builds leave behind."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [p for p in ROOT.rglob("*") if not any(_left_behind(part) for part in p.relative_to(ROOT).parts)]
    return sorted(p for p in files if p.is_file())


def _left_behind(name: str) -> bool:
    return name in IGNORED_FOLDERS or name.startswith("hypoxia-demo") or name.endswith(".egg-info")


def python_files() -> list[Path]:
    return [p for p in project_files() if p.suffix == ".py"]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_file_keeps_to_its_layer():
    found, checked = [], 0
    for folder in PACKAGE_FOLDERS.values():
        for path in sorted(p for p in python_files() if folder in p.parents and p.parent != folder):
            found += import_violations(read(path), path.relative_to(folder).as_posix())
            checked += 1
    assert checked > 10, "the packages were not found"
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        (CORE, "import pydicom", "never imports pydicom"),
        (CORE, "def f():\n    from pydicom.uid import generate_uid", "never imports pydicom"),
        (CORE, "def f():\n    import slicer", "never imports slicer"),
        (CORE, "from .dicomio import scan", "never imports HypoxiaMapperLib.dicomio"),
        (CORE, "from . import dicomio", "never imports HypoxiaMapperLib.dicomio"),
        (CORE, "import importlib\ndef f():\n    importlib.import_module('torch')", "never imports torch"),
        (CORE, "import pandas", "never imports pandas"),
        (METHOD, "import torch", "torch is heavy"),
        (METHOD, "class A:\n    import torch", "torch is heavy"),
        (METHOD, "try:\n    import torch\nexcept ImportError:\n    torch = None", "torch is heavy"),
        (METHOD, "from ..dicomio.scan import scan_folder", "never imports HypoxiaMapperLib.dicomio"),
        (METHOD, "def f():\n    import pydicom", "never imports pydicom"),
        (DICOM, "import highdicom", "highdicom is heavy"),
        (DICOM, "from ..methods import get_method", "never imports HypoxiaMapperLib.methods"),
        (DICOM, "def f():\n    import torch", "never imports torch"),
        (MRML, "def f():\n    import qt", "never imports qt"),
        (MRML, "import slicer\nscene = slicer.mrmlScene", "global scene"),
        (CORE, "def f():\n    from HypoxiaDosePaintLib.request import Request", "never imports HypoxiaDosePaintLib"),
        (f"{MAPPER}/panel/x.py", "import trame", "never imports trame"),
        (f"{PAINT}/subvolume.py", "import torch", "never imports torch"),
        (f"{PAINT}/dicomrt/x.py", "def f():\n    import slicer", "never imports slicer"),
        (f"{PAINT}/send.py", "import pynetdicom", "pynetdicom is heavy"),
        (f"{PAINT}/report.py", "import jinja2", "jinja2 is heavy"),
        (f"{PAINT}/report.py", "def f():\n    from .cli import main", "never imports HypoxiaDosePaintLib.cli"),
        (f"{PAINT}/report.py", "from . import pipeline", "never imports HypoxiaDosePaintLib.pipeline"),
        (f"{PAINT}/batch.py", "def f():\n    from .cli import main", "never imports HypoxiaDosePaintLib.cli"),
        (f"{PAINT}/web/x.py", "from ..cli_text import facts", "never imports HypoxiaDosePaintLib.cli_text"),
        (f"{PAINT}/cli.py", "from .web import serve", "never imports HypoxiaDosePaintLib.web"),
        (f"{PAINT}/cli.py", "def f():\n    import qt", "never imports qt"),
        (f"{PAINT}/surprise.py", "", "belongs to no layer"),
    ],
)
def test_a_planted_import_is_found(path, source, words):
    found = import_violations(source, path)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (CORE, "import json\nimport numpy as np\nimport SimpleITK as sitk\nfrom .errors import InputError"),
        (METHOD, "from ..volume import Volume\nfrom ._base import Method\ndef f():\n    import torch"),
        (DICOM, "from ..methods._base import HypoxiaMap, Progress"),
        (DICOM, "from ..methods import HypoxiaMap, Progress"),
        (DICOM, "import pydicom\nfrom ..suv import f\nfrom . import model\ndef g():\n    import highdicom"),
        (CORE, "from typing import TYPE_CHECKING"),
        (METHOD, "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        (MRML, "import vtk\nfrom ..volume import Volume\nnode = scene.AddNewNodeByClass('vtkMRMLScene')"),
        (f"{PAINT}/margins.py", "from HypoxiaMapperLib.volume import Region\nfrom .request import Margins"),
        (f"{PAINT}/pipeline.py", "from . import report\nfrom .dicomrt import rtstruct"),
        (f"{PAINT}/cli.py", "from .pipeline import run\ndef f():\n    from .web import serve"),
        (f"{PAINT}/cli.py", "from . import cli_text, cli_commands"),
        (f"{MAPPER}/__init__.py", '__version__ = "1"'),
    ],
)
def test_a_right_import_is_not_found(path, source):
    assert import_violations(source, path) == []


def test_files_and_functions_are_short():
    found = [line for path in python_files() for line in length_violations(read(path), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


def test_a_long_file_and_a_long_function_are_found():
    assert length_violations("x = 1\n" * 400, "a.py") == []
    assert "401 lines" in length_violations("x = 1\n" * 401, "a.py")[0]
    assert length_violations("def f():\n" + '    """a\n    b\n    """\n' + "    x = 1\n" * 49, "a.py") == []
    assert "f has 51 lines" in length_violations("def f():\n" + "    x = 1\n" * 50, "a.py")[0]


def test_every_method_has_a_baseline_test():
    names = list(all_methods())
    assert names, "no method was discovered"
    missing = [n for n in names if not (ROOT / "Testing" / "mapper" / f"test_method_{n}.py").is_file()]
    assert not missing, f"methods without Testing/mapper/test_method_<name>.py: {missing}"


@pytest.mark.parametrize("name", list(all_methods()))
def test_the_baseline_test_runs_the_method(name):
    source = read(ROOT / "Testing" / "mapper" / f"test_method_{name}.py")
    assert "def test_" in source
    assert "compute(" in source
    assert name in source


def test_nothing_speaks_of_one_machine():
    found = []
    for path in project_files():
        if path == Path(__file__).resolve():
            continue  # holds planted violations
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue  # pictures
        found += machine_violations(text, str(path.relative_to(ROOT)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "open('/work/data')",
        "x = '/tmp/a'",
        "cd /home/ann/b",
        "C:\\Users\\ann",
        "pip install -i https://mirror.local/simple",
    ],
)
def test_a_machine_path_or_host_is_found(line):
    assert len(machine_violations(line, "a.txt")) == 1


@pytest.mark.parametrize(
    "line", ["https://doi.org/10.1/x", "a/work/b", "../tmp/x", "tmp_path / 'a'", "http://127.0.0.1:8042"]
)
def test_a_harmless_line_is_not_found(line):
    assert machine_violations(line, "a.txt") == []
