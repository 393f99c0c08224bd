"""Run the self-test of a module on the stand-in, and save pictures of its panel.

``python Testing/slicer/run_self_test.py HypoxiaMapper --work FOLDER [--patient FOLDER] [--pictures FOLDER]``
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULES = ("HypoxiaMapper", "HypoxiaDosePaint")
PICTURE_AT = {"HypoxiaMapper": "The segment is ready", "HypoxiaDosePaint": "The set is exported"}
SCALES = (1.0, 1.5)
SAMPLE_NAME = "HypoxiaDigitalPatient-20260101"


def save_pictures(name: str, folder: Path) -> None:
    """The whole panel at normal and enlarged font."""
    import slicer
    from PySide6 import QtGui, QtWidgets

    folder.mkdir(parents=True, exist_ok=True)
    widget = getattr(slicer.modules, f"{name}Widget").parent
    application = QtWidgets.QApplication.instance()
    size = application.font().pointSizeF()
    for scale in (*SCALES, 1.0):
        font = QtGui.QFont(application.font())
        font.setPointSizeF(size * scale)
        application.setFont(font)
        width = round(480 * scale)
        widget.resize(width, 100)
        application.processEvents()
        widget.resize(width, QtWidgets.QWidget.layout(widget).totalHeightForWidth(width))
        application.processEvents()
        assert widget.width == width, f"the panel needs {widget.width} pixels at scale {scale}"
        assert widget.grab().save(str(folder / f"{name}_{scale:g}x.png"))


def keep_none() -> None:
    """PySide6 gives a reference to None back too often; Python up to 3.11 counts them, and dies of the last one."""
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40  # the first field of an object is its count


def main() -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patient", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE)]
    keep_none()
    import stand_in

    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.patient:
        (arguments.work / SAMPLE_NAME).symlink_to(arguments.patient)
    stand_in.start(arguments.work)
    modules = {name: stand_in.load_module(ROOT / name, name) for name in MODULES[: MODULES.index(arguments.module) + 1]}
    if arguments.module == "HypoxiaDosePaint":
        stand_in.load_module(ROOT / "HypoxiaDosePaint", "HypoxiaDICOMExportPlugin")
    suite = unittest.defaultTestLoader.loadTestsFromModule(modules[arguments.module])
    if arguments.only:
        suite = unittest.TestSuite(t for s in suite for t in s if arguments.only in str(t))
    if arguments.pictures:
        stand_in.ScriptedLoadableModuleTest.on_message[PICTURE_AT[arguments.module]] = lambda: save_pictures(
            arguments.module, arguments.pictures
        )
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
