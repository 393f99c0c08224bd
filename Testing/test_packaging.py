"""The wheel holds every module and every data file of both packages, and its command is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"HypoxiaMapperLib": "HypoxiaMapper", "HypoxiaDosePaintLib": "HypoxiaDosePaint"}
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a clean copy: builds in the tree leave files behind that the next wheel would pick up."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for folder in PACKAGES.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=LEFT_BEHIND)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--wheel-dir", source / "out", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "out").glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_every_file_of_both_packages(wheel):
    wanted = {
        path.relative_to(ROOT / folder).as_posix()
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert len(wanted) > 20
    assert any(name.endswith(".json") for name in wanted), "no protocol file was found"
    assert sorted(wanted - set(wheel.namelist())) == []


def test_wheel_puts_nothing_beside_both_packages(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_brings_command_version_and_dependencies(wheel):
    from HypoxiaMapperLib import __version__

    texts = {Path(n).name: wheel.read(n).decode() for n in wheel.namelist() if ".dist-info/" in n}
    assert "hypoxia = HypoxiaDosePaintLib.cli:main" in texts["entry_points.txt"]
    metadata = texts["METADATA"]
    assert f"\nVersion: {__version__}\n" in metadata
    listed = (ROOT / "HypoxiaMapper" / "Resources" / "requirements.txt").read_text().splitlines()
    requirements = [line for line in listed if line and not line.startswith("#")]
    assert requirements
    for requirement in requirements:
        assert f"Requires-Dist: {requirement}\n" in metadata
