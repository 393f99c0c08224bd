"""Rows of a panel keep apart: after labels were fitted and Qt has laid them out, it does so once more.

In Slicer 5.12 (Qt 5.15) a step whose labels became lower was placed by the heights of before: other rows were squeezed
and text lay over the next row, until the next change.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_labels_are_laid_out_once_more_after_qt_has(tmp_path):
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(ROOT / "Testing" / "slicer")!r}, {str(ROOT / "HypoxiaMapper")!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
import qt
from HypoxiaMapperLib.panel.labels import fit_labels
from PySide6 import QtWidgets
seen = []
class Rows(QtWidgets.QVBoxLayout):
    def invalidate(self):
        seen.append("invalidated")
        super().invalidate()
    def setGeometry(self, rect):
        seen.append("laid out")
        super().setGeometry(rect)
root = qt.QWidget()
rows, label = Rows(root), qt.QLabel("word " * 60)
label.wordWrap = True
rows.addWidget(label)
root.show()
stand_in.APPLICATION.processEvents()
fit_labels(label)
seen.clear()
for _round in range(4):
    stand_in.APPLICATION.processEvents()
first = seen.index("laid out")
assert seen[first + 1 :].count("invalidated") and seen[-1] == "laid out", seen
fit_labels(label)
root.deleteLater()
del root, rows, label
for _round in range(4):
    stand_in.APPLICATION.processEvents()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True,
        env={"QT_QPA_PLATFORM": "offscreen", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
