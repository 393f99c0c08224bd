"""The modules' self-tests on the stand-in for Slicer, and what importing a module file brings along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install PySide6-Essentials")
pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "Testing" / "slicer"
MODULES = ("HypoxiaMapper", "HypoxiaDosePaint", "HypoxiaDICOMExportPlugin")
STAND_IN_LINES = 600
# What a module file may load: Slicer's own, and the standard library.
HEAVY = ("vtk", "numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "torch", "matplotlib", "jinja2", "pynetdicom")
LIBRARIES = ("HypoxiaMapperLib", "HypoxiaDosePaintLib")
SHARED = {"HypoxiaMapperLib", "HypoxiaMapperLib.panel", "HypoxiaMapperLib.panel.module_widget"}  # hooks of both modules


@pytest.mark.parametrize("module", MODULES[:2])
def test_the_self_test_passes_and_the_panel_can_be_seen(module, tmp_path, digital_patient):
    command = [sys.executable, STAND_IN / "run_self_test.py", module, "--work", tmp_path / "work"]
    command += ["--patient", digital_patient.folder, "--pictures", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "skipped" not in done.stderr
    for scale in ("1x", "1.5x"):
        assert (tmp_path / f"{module}_{scale}.png").stat().st_size > 20_000


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_file_loads_nothing_heavy(module, tmp_path):
    folder = "HypoxiaMapper" if module == "HypoxiaMapper" else "HypoxiaDosePaint"
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(STAND_IN)!r}, {str(ROOT / "HypoxiaMapper")!r}, {str(ROOT / folder)!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
before = set(sys.modules)
import {module}
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert module in names
    assert {name for name in names if name.split(".")[0] in LIBRARIES} <= SHARED
    assert not {name.split(".")[0] for name in names} & set(HEAVY)


def test_the_digital_patient_is_registered_as_sample_data(tmp_path):
    """The keywords are those of Modules/Scripted/SampleData/SampleData.py."""
    code = f"""
import sys, pathlib, types
sys.path[:0] = [{str(STAND_IN)!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
module = stand_in.load_module(pathlib.Path({str(ROOT / "HypoxiaMapper")!r}), "HypoxiaMapper")
class Logic:
    @staticmethod
    def registerCustomSampleDataCategory(category, title): assert category == "Hypoxia" and title
    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None,
            customDownloader=None, thumbnailFileName=None, loadFileTypes=None, loadFiles=None, loadFileProperties={{}},
            checksums=None, loadFileType=None):
        assert uris == fileNames == []  # Slicer takes the length of both
        print(category, sampleName, customDownloader.__name__, pathlib.Path(thumbnailFileName).is_file())
sys.modules["SampleData"] = types.SimpleNamespace(SampleDataLogic=Logic)
module.register_sample_data()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Hypoxia", "HypoxiaDigitalPatient", "load_digital_patient", "True"]


def test_numbers_of_a_method_keep_every_digit(tmp_path):
    """A box that rounds makes another result, and a map stale, at the next change of any field."""
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(STAND_IN)!r}, {str(ROOT / "HypoxiaMapper")!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
import qt
from HypoxiaMapperLib.methods import all_methods
from HypoxiaMapperLib.panel.method_form import MethodForm
box, method = qt.QWidget(), all_methods()["oe_mri"]
qt.QVBoxLayout(box)
form = MethodForm(box, lambda: None)
form.show(method, {{"significance": 0.0005, "relaxivity": 4.123456}})
print(form.values()["significance"], form.values()["relaxivity"])
form.set_value("relaxivity", 4.00025)
print(form.values()["significance"], form.values()["relaxivity"])
form.show(method, {{}})
form._fields["significance"].widget.value = 0.0005  # typed
print(form.values()["significance"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.0005", "4.123456", "0.0005", "4.00025", "0.0005"]


def test_module_files_and_stand_in_stay_small():
    for path in (ROOT / "HypoxiaMapper" / "HypoxiaMapper.py", *(ROOT / "HypoxiaDosePaint").glob("*.py")):
        assert path.read_text(encoding="utf-8").count("\n") < 200, path.name
    lines = sum(p.read_text(encoding="utf-8").count("\n") for p in STAND_IN.glob("stand_in*.py"))
    assert lines < STAND_IN_LINES


def test_the_stand_in_refuses_what_it_does_not_know(tmp_path):
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(STAND_IN)!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
import qt, ctk, slicer
refused = 0
for attempt in (lambda: qt.QDial, lambda: ctk.ctkRangeWidget, lambda: slicer.app.mainWindow,
                lambda: setattr(qt.QLabel(), "txet", "a"), lambda: slicer.qMRMLNodeComboBox().setWrongThing):
    try:
        attempt()
    except AttributeError:
        refused += 1
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5"
