"""The self-test of the mapper: what a user does, with the numbers that must come out. Runs inside Slicer."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..mrml import node_to_volume, segment_to_region
from .map_nodes import map_facts
from .node_images import UNIT

RUN_SECONDS = 180.0
UPDATES_PER_SECOND = 15.0
VIEW_SECONDS = 5.0


def panel_of(module: str) -> Any:
    """The panel of a module, shown."""
    slicer.util.selectModule(module)
    slicer.app.processEvents()
    return getattr(slicer.modules, f"{module}Widget").panel


def load_and_choose(test: Any) -> Any:
    """Load the digital patient and let the panel fill itself in."""
    import HypoxiaMapper

    test.delayDisplay("Loading the digital patient")
    HypoxiaMapper.load_digital_patient()
    panel = panel_of("HypoxiaMapper")
    panel.ui.guessButton.click()
    choices = panel.choices()
    test.assertEqual(choices.planning.GetName(), "CT")
    test.assertEqual(choices.inputs["pet"].GetName(), "PET FMISO")
    test.assertEqual(segment_name(choices.gtv), "GTVp")
    test.assertEqual(segment_name(choices.reference), "Ref_Blood")
    test.assertIn("FMISO", panel.ui.suvLabel.text)
    test.assertIn("150 min p.i.", panel.ui.suvLabel.text)
    test.assertEqual(panel.ui.imagesStatusLabel.text, "Complete.")
    test.assertTrue(panel.ui.runButton.enabled, panel.ui.runButton.toolTip)
    return panel


def segment_name(choice: Any) -> str:
    """Name of a chosen segment."""
    return str(choice.node.GetSegmentation().GetSegment(choice.segment_id).GetName())


def run_and_wait(test: Any, panel: Any) -> None:
    """Press Run and wait for the end of the computation."""
    panel.ui.runButton.click()
    test.assertIsNotNone(panel.run_state, panel.ui.methodStatusLabel.text)
    test.assertFalse(panel.ui.runButton.enabled)
    test.assertTrue(panel.ui.cancelButton.enabled)
    end = time.monotonic() + RUN_SECONDS
    while panel.run_state is not None and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.02)
    test.assertIsNone(panel.run_state, "the computation did not end")


def map_and_subvolume(test: Any) -> None:
    """Load, run, threshold, segment, edit, stale, save and reload."""
    panel = load_and_choose(test)
    ui = panel.ui
    test.delayDisplay("Computing the map")
    run_and_wait(test, panel)
    node = panel.parameters.map_volume
    test.assertIsNotNone(node, ui.methodStatusLabel.text)
    test.assertEqual(map_facts(node)["threshold"], 1.2)
    check_views(test, panel)
    test.assertEqual(ui.staleLabel.text, "Up to date.")
    check_threshold(test, panel, node)
    check_segment(test, panel)
    test.delayDisplay("The segment is ready")
    check_stale(test, panel)
    check_saved_scene(test, panel)


def check_views(test: Any, panel: Any) -> None:
    """The slice views stand in the middle of the tumour."""
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    choices = panel.choices()
    bounds = [0.0] * 6
    choices.gtv.node.GetSegmentation().GetSegment(choices.gtv.segment_id).GetBounds(bounds)
    if view is not None:  # there are none without the application's window
        test.assertGreater(view.GetSliceToRAS().GetElement(2, 3), bounds[4])
        test.assertLess(view.GetSliceToRAS().GetElement(2, 3), bounds[5])


def check_threshold(test: Any, panel: Any, node: Any) -> None:
    """The slider's numbers are those of counting voxels, and it is fast."""
    volume, choices = node_to_volume(node), panel.choices()
    gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
    for threshold in (1.2, 1.4, 1.6):
        panel.ui.thresholdSlider.value = threshold
        now = panel.ui.thresholdSlider.value
        counted_ml = np.count_nonzero(volume.array[gtv.array] > np.float32(now)) * volume.voxel_volume_ml
        test.assertAlmostEqual(panel.table_volume_ml(), counted_ml, places=6)
        test.assertIn(f"{counted_ml:.2f} ml", panel.ui.hypoxicLabel.text)
    panel.ui.onlyHypoxicCheckBox.checked = True
    start, updates = time.monotonic(), 40
    for number in range(updates):
        panel.ui.thresholdSlider.value = 1.2 + 0.01 * number
    rate = updates / (time.monotonic() - start)  # of numbers and plots; how fast views are drawn is the computer's
    test.assertGreater(rate, UPDATES_PER_SECOND)
    end, edge = time.monotonic() + VIEW_SECONDS, panel.ui.thresholdSlider.value
    while abs(node.GetDisplayNode().GetLowerThreshold() - edge) > 1e-5 and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.02)
    test.assertAlmostEqual(node.GetDisplayNode().GetLowerThreshold(), edge, places=5)
    panel.ui.onlyHypoxicCheckBox.checked = False
    panel.ui.thresholdSlider.value = 1.2


def check_segment(test: Any, panel: Any) -> None:
    """The segment holds the voxels beyond the threshold; an edit is told in ml."""
    panel.ui.createSegmentButton.click()
    p = panel.parameters
    test.assertEqual(p.hypoxic_segment, "GTVp_Hyp")
    volume = node_to_volume(p.map_volume)
    region = segment_to_region(p.hypoxic_segmentation, p.hypoxic_segment, volume.image)
    test.assertAlmostEqual(region.volume_ml, panel.table_volume_ml(), places=6)
    test.assertGreater(region.volume_ml, 1.0)
    test.assertIn(f"{region.volume_ml:.2f} ml", panel.ui.segmentLabel.text)
    test.assertNotIn("edited", panel.ui.segmentLabel.text)
    erase_one_voxel(p.hypoxic_segmentation, p.hypoxic_segment)
    panel.refresh()
    test.assertIn("edited by hand: 0.00 ml added", panel.ui.segmentLabel.text)
    panel.ui.createSegmentButton.click()
    test.assertNotIn("edited", panel.ui.segmentLabel.text)


def erase_one_voxel(segmentation: Any, identifier: str) -> None:
    """What one click with the eraser does."""
    labelmap = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(identifier, labelmap)
    scalars = labelmap.GetPointData().GetScalars()
    inside = next(i for i in range(scalars.GetNumberOfTuples()) if scalars.GetTuple1(i) > 0)
    scalars.SetTuple1(inside, 0)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(labelmap, segmentation, identifier)


def check_stale(test: Any, panel: Any) -> None:
    """A changed input is named; setting it back takes the mark away."""
    panel.form.set_value("statistic", "median")
    test.assertIn("STALE", panel.ui.staleLabel.text)
    test.assertIn("parameters", panel.ui.staleLabel.text)
    panel.form.set_value("statistic", "mean")
    test.assertEqual(panel.ui.staleLabel.text, "Up to date.")


def check_saved_scene(test: Any, panel: Any) -> None:
    """Choices, map and threshold survive save, close and reload; closing leaves nothing."""
    before = (panel.parameters.threshold, panel.ui.hypoxicLabel.text, panel.choices().method)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scene.mrb")
        test.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        test.assertIsNone(panel.parameters.map_volume)
        test.assertEqual(panel.ui.staleLabel.text, "No map yet.")
        slicer.util.loadScene(path)
        slicer.app.processEvents()
    panel = panel_of("HypoxiaMapper")
    after = (panel.parameters.threshold, panel.ui.hypoxicLabel.text, panel.choices().method)
    test.assertEqual(after, before)
    test.assertEqual(panel.ui.staleLabel.text, "Up to date.")


def refusals(test: Any) -> None:
    """Nothing chosen, no unit, cancel: each with its reason in words."""
    panel = panel_of("HypoxiaMapper")
    test.assertFalse(panel.ui.runButton.enabled)
    test.assertIn("Choose the planning CT.", panel.ui.runButton.toolTip)
    panel = load_and_choose(test)
    pet = panel.choices().inputs["pet"]
    unit = pet.GetAttribute(UNIT)
    for attribute in (UNIT, "Hypoxia.SeriesInstanceUID", "DICOM.instanceUIDs"):
        pet.RemoveAttribute(attribute)
    panel.refresh()
    test.assertFalse(panel.ui.runButton.enabled)
    test.assertIn("unit unknown", panel.ui.imagesStatusLabel.text)
    panel.ui.stateUnitButton.click()
    test.assertEqual(pet.GetAttribute(UNIT), unit)
    test.assertTrue(panel.ui.runButton.enabled, panel.ui.runButton.toolTip)
    test.delayDisplay("Cancelling a computation")
    panel.ui.runButton.click()
    process = panel.run_state.process
    panel.ui.cancelButton.click()
    while panel.run_state is not None:
        slicer.app.processEvents()
        time.sleep(0.02)
    test.assertIsNotNone(process.poll())
    test.assertEqual(panel.ui.methodStatusLabel.text, "Cancelled.")
    test.assertIsNone(panel.parameters.map_volume)


TESTS = (map_and_subvolume, refusals)
