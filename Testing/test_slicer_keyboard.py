"""The Tab key goes through the panels in the order of the screen, and stops at every control."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("module", ["HypoxiaMapper", "HypoxiaDosePaint"])
def test_the_order_is_that_of_the_screen_with_the_head_of_each_step_before_it(module):
    tree = ElementTree.parse(ROOT / module / "Resources" / "UI" / f"{module}.ui")
    stops = [stop.text for stop in tree.iter("tabstop")]
    shown = [w.attrib["name"] for w in tree.iter("widget")]
    heads = [w.attrib["name"] for w in tree.iter("widget") if w.attrib["class"] == "ctkCollapsibleButton"]
    assert len(heads) == 4
    assert set(heads) <= set(stops)
    assert stops == sorted(stops, key=shown.index)


def test_a_list_that_hands_its_focus_to_a_frame_without_keys_takes_it_itself(tmp_path):
    """As Slicer's qMRMLNodeComboBox does (``setComboBox``); a spin box takes keys for its line, and stays as it is."""
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(ROOT / "Testing" / "slicer")!r}, {str(ROOT / "HypoxiaMapper")!r}]
import stand_in
stand_in.start(pathlib.Path({str(tmp_path)!r}))
import qt
from HypoxiaMapperLib.panel.labels import reach_by_key
root, selector = qt.QWidget(), qt.QWidget()
layout, inner = qt.QVBoxLayout(root), qt.QVBoxLayout(selector)
nodes, spin = qt.QComboBox(), qt.QDoubleSpinBox()
inner.addWidget(nodes)
nodes.setFocusProxy(selector)
layout.addWidget(selector)
layout.addWidget(spin)
line = [child for child in spin.children() if child.metaObject().className() == "QLineEdit"][0]
assert nodes.focusProxy() is selector and line.focusProxy() is spin
reach_by_key(root)
assert nodes.focusProxy() is None
assert line.focusProxy() is spin
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"QT_QPA_PLATFORM": "offscreen", "PATH": ""})
