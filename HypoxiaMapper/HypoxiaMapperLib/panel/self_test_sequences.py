"""The self-test's walk through a sequence of the scene as series of a method, in the application's own Qt."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..mrml import volume_to_node
from ..volume import Volume
from .parameters import SEQUENCE_ROLE

WAIT_S = 10.0
NAME = "FMISO frames"


def sequence_in_row(
    test: Any, panel: Any, frames: Sequence[Volume], edges_min: Sequence[float], run: Callable[[], Any]
) -> None:
    """Frames of activity without any file: offered as they come, every missing word asked for, run, stale, kept.

    Parameters
    ----------
    frames : sequence of Volume
        Frames of a dynamic PET; their units are not told to the scene.
    edges_min : sequence of float
        Start of each frame, and the end of the last.
    run : callable
        Presses Run, waits, and checks the map.
    """
    ui, box = panel.ui, panel.rows.series["pet"]
    sequence = add_sequence(frames, edges_min)
    label = f"{NAME} (sequence)"
    wait_until(test, lambda: label in [box.itemText(n) for n in range(box.count)])
    box.setEditText(label)
    test.assertEqual(panel.parameters.parameterNode.GetNodeReference(SEQUENCE_ROLE + "pet"), sequence)
    test.assertIn("unit unknown", ui.imagesStatusLabel.text)
    ui.unitComboBox.currentIndex = ui.unitComboBox.findData("activity")
    ui.stateUnitButton.click()
    test.assertIn("state it", ui.imagesStatusLabel.text)
    panel.parameters.tracer = "FMISO"
    test.assertIn("how long its frames are", ui.imagesStatusLabel.text)
    test.assertFalse(ui.runButton.enabled)
    ui.frameLengthsLineEdit.text = " ".join(f"{60 * length:g}" for length in np.diff(edges_min))
    test.assertTrue(ui.runButton.enabled, ui.runButton.toolTip)
    test.delayDisplay("Computing Ki of a sequence")
    run()
    test.assertEqual(ui.staleLabel.text, "Up to date.")
    sequence.SetIndexUnit("min")
    panel.refresh()
    test.assertIn("sequence pet", ui.staleLabel.text)
    sequence.SetIndexUnit("s")
    test.delayDisplay("The sequence has a map")
    check_reload(test, panel, label)


def add_sequence(frames: Sequence[Volume], edges_min: Sequence[float]) -> Any:
    """A sequence indexed by the start of its frames in seconds."""
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", NAME)
    for frame, start in zip(frames, edges_min, strict=False):
        node = volume_to_node(scene, frame, "frame")
        for attribute in node.GetAttributeNames():
            node.RemoveAttribute(attribute)
        sequence.SetDataNodeAtValue(node, f"{60 * start:g}")
        scene.RemoveNode(node)
    return sequence


def check_reload(test: Any, panel: Any, label: str) -> None:
    """A saved scene has the choice again; the map is up to date."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sequence.mrb")
        test.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(path)
    test.assertEqual(panel.rows.series["pet"].currentText, label)
    test.assertEqual(panel.ui.staleLabel.text, "Up to date.")


def wait_until(test: Any, done: Callable[[], bool]) -> None:
    """Let the application work until something is so."""
    end = time.monotonic() + WAIT_S
    while not done():
        test.assertLess(time.monotonic(), end)
        slicer.app.processEvents()
        time.sleep(0.02)
