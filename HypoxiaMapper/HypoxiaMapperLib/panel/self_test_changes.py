"""The self-test's walk through what happens to chosen nodes outside the panel: edited, moved, removed."""

from __future__ import annotations

from functools import partial
from typing import Any

import slicer

from .patient_scope import all_nodes
from .self_test import erase_one_voxel, load_and_choose, run_and_wait
from .self_test_sequences import wait_until


def changes_elsewhere(test: Any) -> None:
    """Every change of an input is seen without a touch of the panel; what is removed has no successor nobody chose."""
    for walk in (scene_from_elsewhere, another_map):
        walk(test)
        slicer.mrmlScene.Clear()
    panel = load_and_choose(test)
    ui, p, scene = panel.ui, panel.parameters, slicer.mrmlScene
    run_and_wait(test, panel)
    test.assertEqual(ui.staleLabel.text, "Up to date.")
    for node in all_nodes(scene, "vtkMRMLSegmentationNode"):
        test.assertFalse(node.GetDisplayNode().GetVisibility2DFill(), "a fill would change the colours of the map")
    check_nothing_beyond(test, panel)
    segmentation, segment = p.gtv_segmentation, p.gtv_segment
    volume_text = ui.hypoxicLabel.text
    ui.gtvSelector.setCurrentNode(None)
    test.assertEqual(ui.hypoxicLabel.text, "Choose the GTV in step 1.")
    test.assertFalse(ui.thresholdSlider.enabled or ui.createSegmentButton.enabled)
    ui.gtvSelector.setCurrentNode(segmentation)
    ui.gtvSelector.setCurrentSegmentID(segment)
    test.assertEqual(ui.hypoxicLabel.text, volume_text)
    erase_one_voxel(segmentation, segment)
    wait_until(test, lambda: "STALE" in ui.staleLabel.text and "GTV" in ui.staleLabel.text)
    shift = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    p.planning_volume.SetAndObserveTransformNodeID(shift.GetID())
    wait_until(test, lambda: "planning CT" in ui.staleLabel.text)
    p.planning_volume.SetAndObserveTransformNodeID(None)
    wait_until(test, lambda: "planning CT" not in ui.staleLabel.text)
    test.delayDisplay("Changes were seen")
    remove_in_turn(test, panel, segmentation, segment)


def check_nothing_beyond(test: Any, panel: Any) -> None:
    """A threshold that nothing passes makes no segment, and says so."""
    before = panel.parameters.threshold
    panel.parameters.threshold = 1e3  # the slider ends, rounded, at the highest value of the map
    panel.ui.createSegmentButton.click()
    test.assertIn("no segment was made", panel.ui.segmentLabel.text)
    test.assertIsNone(panel.parameters.hypoxic_segmentation)
    panel.parameters.threshold = before


def another_map(test: Any) -> None:
    """What is chosen in the list of maps is what views, numbers and segment are of, at the first choice already."""
    panel = load_and_choose(test)
    ui, p = panel.ui, panel.parameters
    run_and_wait(test, panel)
    first, volume_text = p.map_volume, ui.hypoxicLabel.text
    ui.methodComboBox.currentIndex = ui.methodComboBox.findData("fdg_surrogate")
    ui.guessButton.click()
    run_and_wait(test, panel)
    second = p.map_volume
    test.assertIsNot(first, second)
    for node in (first, second, first):
        ui.mapSelector.setCurrentNode(node)
        test.assertEqual(p.map_volume, node)
        test.assertEqual(panel.map_section.overlay.shown.GetName(), node.GetName())
        test.assertEqual(ui.hypoxicLabel.text == volume_text, node is first)


def remove_in_turn(test: Any, panel: Any, segmentation: Any, segment: str) -> None:
    """GTV, planning CT, image and map are removed, and nothing takes their places."""
    ui, p, scene = panel.ui, panel.parameters, slicer.mrmlScene
    segmentation.GetSegmentation().RemoveSegment(segment)
    wait_until(test, lambda: "Choose the GTV segment." in ui.imagesStatusLabel.text)
    test.assertFalse(panel.choices().gtv.exists())
    for name, message in (("CT", "Choose the planning CT."), ("PET FMISO", "Choose the static PET")):
        scene.RemoveNode(slicer.util.getNode(name))
        wait_until(test, partial(said, ui, message))
    test.assertIsNone(p.planning_volume)
    test.assertEqual([node for node in panel.choices().inputs.values() if node is not None], [])
    test.assertFalse(ui.runButton.enabled)
    shown = p.map_volume.GetID(), panel.map_section.overlay.shown.GetID()
    scene.RemoveNode(p.map_volume)
    wait_until(test, lambda: ui.staleLabel.text == "No map yet.")
    for view in all_nodes(scene, "vtkMRMLSliceCompositeNode"):
        test.assertNotIn(view.GetForegroundVolumeID(), shown)
    for legend in all_nodes(scene, "vtkMRMLColorLegendDisplayNode"):
        test.assertFalse(legend.GetVisibility())


def said(ui: Any, message: str) -> bool:
    """Whether step 1 says something."""
    return message in ui.imagesStatusLabel.text


def scene_from_elsewhere(test: Any) -> None:
    """A scene that names a method nobody installed here opens with the default, and says so."""
    panel = load_and_choose(test)
    node, module = panel.parameters.parameterNode, slicer.modules.HypoxiaMapperWidget
    module.exit()
    node.SetParameter("method", "method_of_another_installation")
    module.enter()
    test.assertIn("'method_of_another_installation', which is not installed", panel.ui.methodStatusLabel.text)
    test.assertEqual(panel.parameters.method, "tracer_ratio")
