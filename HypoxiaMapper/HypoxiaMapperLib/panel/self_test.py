"""The self-test of the mapper: what a user does, with the numbers that must come out. Runs inside Slicer."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from ..mrml import node_to_volume, segment_to_region
from ..mrml.volumes import FACTS, QUANTITY, UNIT
from ..niftiio import sidecar_of
from ..resample import resample_to
from ..volume import image_like
from .device_line import cpu_text
from .map_nodes import map_facts
from .plots import CURVE_CHART
from .self_test_sequences import sequence_in_row

RUN_SECONDS = 180.0
UPDATES_PER_SECOND = 15.0


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
    wait_for_end(test, panel)


def wait_for_end(test: Any, panel: Any) -> None:
    """Until the computation has ended."""
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
    test.assertEqual(ui.volumeLabel.text, "Hypoxic volume:")
    check_views(test, panel)
    test.assertEqual(ui.staleLabel.text, "Up to date.")
    check_threshold(test, panel, node)
    check_overlay(test, panel, node)
    check_segment(test, panel)
    test.delayDisplay("The segment is ready")
    check_stale(test, panel)
    check_saved_scene(test, panel)


def check_views(test: Any, panel: Any) -> None:
    """The slice views stand in the middle of the tumour."""
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    p = panel.parameters
    gtv = segment_to_region(p.gtv_segmentation, p.gtv_segment, node_to_volume(p.map_volume).image)
    slices = np.flatnonzero(gtv.array.any(axis=(1, 2)))
    heights = sorted(gtv.mask.TransformIndexToPhysicalPoint((0, 0, int(n)))[2] for n in (slices[0], slices[-1]))
    if view is not None:  # there are none without the application's window
        test.assertGreater(view.GetSliceToRAS().GetElement(2, 3), heights[0])
        test.assertLess(view.GetSliceToRAS().GetElement(2, 3), heights[1])


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
    slicer.app.pauseRender()  # how fast views are drawn is the computer's: Testing/bench/bench_threshold_slicer.py
    start, updates = time.monotonic(), 40
    for number in range(updates):
        panel.ui.thresholdSlider.value = 1.2 + 0.01 * number
    rate = updates / (time.monotonic() - start)
    slicer.app.resumeRender()
    test.assertGreater(rate, UPDATES_PER_SECOND)
    display = panel.map_section.overlay.shown.GetDisplayNode()
    test.assertAlmostEqual(display.GetLowerThreshold(), panel.ui.thresholdSlider.value, places=5)
    panel.ui.onlyHypoxicCheckBox.checked = False
    panel.ui.thresholdSlider.value = 1.2


def check_overlay(test: Any, panel: Any, node: Any) -> None:
    """The map is shown in the GTV alone, or whole; beside the PET; and comes back in every other layout."""
    ui, p = panel.ui, panel.parameters
    test.assertEqual([ui.overlayComboBox.itemText(n) for n in range(ui.overlayComboBox.count)], ["Map"])
    gtv = segment_to_region(p.gtv_segmentation, p.gtv_segment, node_to_volume(node).image)
    shown = node_to_volume(panel.map_section.overlay.shown)
    test.assertEqual(np.count_nonzero(np.isfinite(shown.array)), np.count_nonzero(gtv.array))
    ui.windowLowSpinBox.value = 0.5
    display = panel.map_section.overlay.shown.GetDisplayNode()
    test.assertAlmostEqual(display.GetLowerThreshold(), 0.5, places=6)  # transparent below the window
    ui.windowLowSpinBox.value = 0.0
    ui.insideGtvCheckBox.checked = False
    test.assertIs(panel.map_section.overlay.shown, node)
    ui.insideGtvCheckBox.checked = True
    red, yellow = (view_of(name) for name in ("Red", "Yellow"))
    ui.sideBySideButton.click()
    test.assertEqual(red.GetBackgroundVolumeID(), panel.choices().inputs["pet"].GetID())
    test.assertIsNone(red.GetForegroundVolumeID())
    second = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeYellow")
    test.assertEqual(second.GetOrientation() if second is not None else "Axial", "Axial")
    for button in (ui.plotsButton, ui.fourUpButton):
        button.click()
        for view in (red, yellow):
            test.assertEqual(view.GetBackgroundVolumeID(), p.planning_volume.GetID())
            test.assertEqual(view.GetForegroundVolumeID(), panel.map_section.overlay.shown.GetID())
    test.assertEqual(second.GetOrientation() if second is not None else "Sagittal", "Sagittal")


def view_of(name: str) -> Any:
    """What a slice view shows."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(node for node in nodes if node.GetLayoutName() == name)


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
    asked: list[str] = []
    for answer, shown in ((False, test.assertIn), (True, test.assertNotIn)):

        def say(text: str, windowTitle: str, answer: bool = answer) -> bool:
            asked.append(text)
            return answer

        panel.map_section.confirm = say
        panel.ui.createSegmentButton.click()
        shown("edited", panel.ui.segmentLabel.text)
    panel.map_section.confirm = slicer.util.confirmYesNoDisplay
    test.assertEqual(len(asked), 2)
    test.assertIn("GTVp_Hyp was edited by hand", asked[0])


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


def one_patient(test: Any) -> None:
    """Choosing a patient offers that patient's images only; images of two patients are refused with the reason."""
    panel = load_and_choose(test)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    own = tree.GetItemByDataNode(panel.choices().planning)
    patient = tree.GetItemAncestorAtLevel(own, "Patient")
    stranger = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.float32), name="PET of another")
    for key, value in ((UNIT, "g/ml"), (QUANTITY, "SUVbw"), (FACTS, '{"tracer": "FMISO"}')):
        stranger.SetAttribute(key, value)
    other = tree.CreateSubjectItem(tree.GetSceneItemID(), "Another patient")
    tree.SetItemParent(tree.GetItemByDataNode(stranger) or tree.CreateItem(other, stranger), other)
    selector = panel.rows.volumes["pet"]
    selector.setCurrentNode(stranger)
    test.assertIn("'PET of another' to patient Another patient", panel.ui.imagesStatusLabel.text)
    test.assertFalse(panel.ui.runButton.enabled)
    panel.ui.patientSelector.setCurrentItem(patient)
    test.assertEqual(panel.choices().inputs["pet"].GetName(), "PET FMISO")
    test.assertTrue(panel.ui.runButton.enabled, panel.ui.runButton.toolTip)
    test.assertIn(stranger.GetID(), selector.sortFilterProxyModel().hiddenNodeIDs)
    run_and_wait(test, panel)
    panel.ui.createSegmentButton.click()
    test.assertIsNotNone(panel.parameters.hypoxic_segmentation)
    panel.ui.patientSelector.setCurrentItem(other)
    test.assertIsNone(panel.choices().planning)
    test.assertEqual(panel.choices().gtv.node, None)
    test.assertEqual(selector.currentNode(), None)
    test.assertIsNone(panel.parameters.map_volume, "the map of the first patient")
    test.assertIsNone(panel.parameters.hypoxic_segmentation)
    panel.ui.patientSelector.setCurrentItem(0)


def series_and_curves(test: Any) -> None:
    """A dynamic PET from a file: Ki on its own grid, the further maps as overlays, curve of the GTV and of a voxel."""
    panel = load_and_choose(test)
    ui = panel.ui
    with tempfile.TemporaryDirectory() as folder:
        path, pet = Path(folder) / "dynamic.nii.gz", node_to_volume(panel.choices().inputs["pet"])
        blood = panel.choices().reference
        frames = write_patlak_series(path, pet, segment_to_region(blood.node, blood.segment_id, pet.image))
        ui.methodComboBox.currentIndex = ui.methodComboBox.findData("patlak_ki")
        test.assertEqual(ui.deviceLabel.text, cpu_text())
        test.assertIn("Choose the", ui.runButton.toolTip)
        panel.rows.series["pet"].setEditText(str(path))
        panel.rows.regions["artery"].setCurrentNode(blood.node)
        panel.rows.regions["artery"].setCurrentSegmentID(blood.segment_id)
        ui.alignmentComboBox.currentIndex = ui.alignmentComboBox.findData("scene")
        test.assertTrue(ui.runButton.enabled, ui.runButton.toolTip)
        test.delayDisplay("Computing Ki")
        run_and_wait(test, panel)
        node = panel.parameters.map_volume
        test.assertIsNotNone(node, ui.methodStatusLabel.text)
        check_ki(test, panel, node, pet)
        check_curves(test, panel)
    test.delayDisplay("The curve is shown")

    def run() -> None:
        run_and_wait(test, panel)
        check_ki(test, panel, panel.parameters.map_volume, pet)

    sequence_in_row(test, panel, frames, FRAME_MIN, run)


FRAME_MIN = (0.0, 0.1, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0)  # starts; the last is the end
KI_OF_SUV, V0 = 0.01, 0.5  # of the made-up series: Ki (per min) of a voxel is its static uptake times this


def write_patlak_series(path: Path, pet: Any, blood: Any) -> list[Any]:
    """Frames of a trapped tracer with plasma at 1 g/ml all the time, Ki t + V0 (Patlak), written with a sidecar."""
    edges = np.array(FRAME_MIN)
    middle = (edges[:-1] + edges[1:]) / 2
    frames = []
    for minutes in middle:
        array = (KI_OF_SUV * pet.array * minutes + V0).astype(np.float32)
        array[blood.array] = 1.0
        frames.append(image_like(array, pet.image))
    sitk.WriteImage(sitk.JoinSeries(frames), str(path))
    facts = {
        "FrameTimesStart": (60 * edges[:-1]).tolist(), "FrameDuration": (60 * np.diff(edges)).tolist(),
        "Units": "Bq/mL", "TracerName": "[18F]FMISO", "TimeZero": "10:00:00", "InjectionStart": 0,
        "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0,
    }  # fmt: skip
    sidecar_of(path).write_text(json.dumps(facts), encoding="utf-8")
    return [replace(pet, image=frame) for frame in frames]


def check_ki(test: Any, panel: Any, node: Any, pet: Any) -> None:
    """Ki in the GTV is the one the series was made with; standard error and V0 are overlays with their own window."""
    choices, volume = panel.choices(), node_to_volume(node)
    gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
    truth = KI_OF_SUV * resample_to(pet, volume.image, pet.frame_of_reference_uid).array[gtv.array]
    found = volume.array[gtv.array]
    test.assertLess(float(np.nanmax(np.abs(found - truth))), 0.02 * float(truth.max()))
    (low, high), slider = panel.map_section.table.limits(), panel.ui.thresholdSlider
    test.assertAlmostEqual(slider.maximum - slider.minimum, high - low, delta=0.05 * (high - low))
    test.assertEqual(panel.ui.volumeLabel.text, "Volume beyond it:")  # no threshold of Ki is published
    box = panel.ui.overlayComboBox
    names = [box.itemText(n) for n in range(box.count)]
    test.assertEqual(names[:2], ["Map", "Uncertainty"])
    test.assertIn("Patlak V0", names)
    box.currentIndex = names.index("Patlak V0")
    test.assertAlmostEqual(float(np.nanmedian(node_to_volume(panel.map_section.overlay.part()).array)), V0, places=2)
    test.assertGreater(panel.parameters.window_high, 0.4)
    box.currentIndex = 0
    test.assertLess(panel.parameters.window_high, 0.4)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = tree.GetItemParent(tree.GetItemByDataNode(node))
    test.assertEqual(tree.GetItemName(folder), node.GetName())
    test.assertGreaterEqual(tree.GetNumberOfItemChildren(folder), len(names))


def check_curves(test: Any, panel: Any) -> None:
    """Measured, fitted and residual of the GTV, then of the voxel at the cross-hair, which the worker fits."""
    panel.ui.curveButton.click()
    chart = slicer.mrmlScene.GetFirstNodeByName(CURVE_CHART)
    test.assertEqual(chart.GetTitle(), "GTVp")
    rows = [chart.GetNthPlotSeriesNode(n).GetTableNode().GetTable() for n in range(3)]
    residual = [rows[2].GetValue(r, 1).ToDouble() for r in range(rows[2].GetNumberOfRows())]
    test.assertGreater(len(residual), 2)
    test.assertLess(max(abs(r) for r in residual), 1e-3)
    panel.ui.voxelCurveButton.click()
    test.assertIsNotNone(panel.run_state, panel.ui.methodStatusLabel.text)
    wait_for_end(test, panel)
    test.assertIn("voxel", chart.GetTitle())
