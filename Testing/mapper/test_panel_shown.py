"""What the mapper panel shows of a map: digits that small values need, plots in their place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from HypoxiaMapperLib.volume import Volume, image_like

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.methods import no_progress  # noqa: E402
from HypoxiaMapperLib.mrml import make_segmentation, node_to_volume, region_to_segment, volume_to_node  # noqa: E402
from HypoxiaMapperLib.mrml.segments import LABELMAP  # noqa: E402
from HypoxiaMapperLib.panel.choices import SegmentChoice  # noqa: E402
from HypoxiaMapperLib.panel.map_display import cut_to_gtv, inside_only  # noqa: E402
from HypoxiaMapperLib.panel.node_images import state_unit  # noqa: E402
from HypoxiaMapperLib.panel.patient_scope import all_nodes  # noqa: E402
from HypoxiaMapperLib.panel.plots import ThresholdPlots  # noqa: E402
from HypoxiaMapperLib.panel.removal_watch import RemovalWatch  # noqa: E402
from HypoxiaMapperLib.panel.threshold import make_threshold_table  # noqa: E402
from HypoxiaMapperLib.panel.views import probe_text, take_away, uncover  # noqa: E402
from HypoxiaMapperLib.worker import run_job  # noqa: E402
from panel_samples import GTV, Patient, grid, pet_volume, run_here  # noqa: E402


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.mark.parametrize(
    ("value", "spread", "expected"),
    [
        (0.00114, math.nan, "0.00114"), (0.0042, 0.0009, "0.00420 ± 0.00090"), (1.2, 0.003, "1.200 ± 0.003"),
        (-0.0049, 0.0, "-0.00490 ± 0.00000"), (0.0, 0.0, "0.00 ± 0.00"), (37.5, 4.0, "37.50 ± 4.00"),
    ],
)  # fmt: skip
def test_probe_shows_small_values_with_the_digits_they_need(patient, value, spread, expected):
    def constant(number):
        volume = Volume(image_like(np.full(grid().GetSize()[::-1], number, np.float32), grid()), "Ki", "mL/min/mL", "1")
        return volume_to_node(patient.scene, volume, "constant")

    nodes = constant(value), None if math.isnan(spread) else constant(spread)
    assert probe_text(*nodes, "mL/min/mL", (10.0, 20.0, 50.0)) == f"{expected} mL/min/mL"


def test_plots_lie_in_a_folder_of_their_own(patient):
    plots = ThresholdPlots(patient.scene)
    plots.show(make_threshold_table(pet_volume(), GTV, ">"), "SUVbw", "g/ml")
    plots.move_threshold(1.2)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(patient.scene)
    folder = tree.GetItemChildWithName(tree.GetSceneItemID(), "Hypoxia plots")
    nodes = [n for c in ("Chart", "Series") for n in all_nodes(patient.scene, f"vtkMRMLPlot{c}Node")]
    nodes += all_nodes(patient.scene, "vtkMRMLTableNode")
    assert len(nodes) == 2 + 4 + 4
    assert folder
    assert {tree.GetItemParent(tree.GetItemByDataNode(node)) for node in nodes} == {folder}


def test_no_fill_lies_over_a_map(patient):
    made = make_segmentation(patient.scene, "made here")
    loaded = patient.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded by another module")
    loaded.CreateDefaultDisplayNodes()
    assert not made.GetDisplayNode().GetVisibility2DFill()
    assert loaded.GetDisplayNode().GetVisibility2DFill(), "as Slicer makes it"
    uncover(patient.scene)
    assert not loaded.GetDisplayNode().GetVisibility2DFill()
    assert loaded.GetDisplayNode().GetVisibility2DOutline()


def test_one_hidden_node_shows_whichever_map_is_cut_to_the_gtv(patient):
    scene, seen = patient.scene, []
    scene.AddObserver(scene.NodeAddedEvent, lambda *_: seen.append([n.GetName() for n in offered(scene)]))
    first, second = (volume_to_node(scene, scaled(pet_volume(), by), f"x {by}") for by in (1.0, 2.0))
    before = seen.pop()
    seen.clear()
    view = inside_only(scene, first, node_to_volume(first), GTV, "1")
    assert view.GetName() == "x 1.0"
    assert seen == [before], "it was hidden when it came into the scene"
    highest = np.nanmax(node_to_volume(view).array)
    assert inside_only(scene, second, node_to_volume(second), GTV, "2") is view
    assert view.GetName() == "x 2.0"
    assert np.nanmax(node_to_volume(view).array) == pytest.approx(2.0 * highest)
    assert not view.GetSaveWithScene()


def scaled(volume, by):
    return replace(volume, image=volume.image * by)


def offered(scene):
    return [n for n in all_nodes(scene, "vtkMRMLScalarVolumeNode") if not n.GetHideFromEditors()]


def test_without_a_map_no_view_shows_one_and_no_node_is_removed(patient):
    shown = volume_to_node(patient.scene, pet_volume(), "map")
    slice_view = patient.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    slice_view.SetForegroundVolumeID(shown.GetID())
    take_away(patient.scene)
    assert slice_view.GetForegroundVolumeID() is None
    assert patient.scene.IsNodePresent(shown)


def test_removed_segment_is_not_followed_by_its_neighbour(patient):
    segments = make_segmentation(patient.scene, "RTSTRUCT")
    gtv, cord = (region_to_segment(patient.scene, segments, GTV, (255, 0, 0)) for _ in range(2))
    chosen = SegmentChoice(segments, gtv)
    assert chosen.then(segments, cord) == SegmentChoice(segments, cord), "the user chose another"
    segments.GetSegmentation().RemoveSegment(gtv)
    assert chosen.then(segments, cord) == SegmentChoice(segments, "")
    assert SegmentChoice().then(segments, cord) == SegmentChoice(segments, cord)


class Selector:
    """Only what a watch uses of a node selector."""

    def __init__(self, node):
        self.node = node

    def currentNode(self):  # noqa: N802
        return self.node

    def setCurrentNode(self, node):  # noqa: N802
        self.node = node


def test_selector_lets_go_before_the_lists_hear_of_a_removal(patient):
    scene = patient.scene
    ct, pet = (volume_to_node(scene, pet_volume(), name) for name in ("CT", "PET"))
    selectors, when_lists_hear = [Selector(ct), Selector(pet), Selector(None)], []
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, lambda *_: when_lists_hear.append(selectors[0].node))
    watch = RemovalWatch(scene, lambda: selectors)
    watch.start()
    watch.start()
    scene.RemoveNode(ct)
    assert when_lists_hear == [None]
    assert [s.node for s in selectors] == [None, pet, None]
    watch.stop()
    scene.RemoveNode(pet)
    assert selectors[1].node is pet


def test_a_map_is_read_about_the_gtv_alone(patient):
    node = volume_to_node(patient.scene, pet_volume(), "map")
    segments = make_segmentation(patient.scene, "RTSTRUCT")
    identifier = region_to_segment(patient.scene, segments, GTV, (255, 0, 0))
    whole = make_threshold_table(node_to_volume(node), GTV, ">")
    volume, gtv = cut_to_gtv(node, segments, identifier)
    assert volume.array.shape == (12, 12, 12), "the box of 8 voxels and what may touch it"
    assert volume.image.GetOrigin() == pytest.approx(grid().TransformIndexToPhysicalPoint((6, 6, 6)))
    about = make_threshold_table(volume, gtv, ">")
    for threshold in (1.0, 1.3, 1.9):
        assert about.volume_ml(threshold) == pytest.approx(whole.volume_ml(threshold))
        assert about.fraction(threshold) == pytest.approx(whole.fraction(threshold))


def test_images_without_dicom_have_a_way_to_a_map(patient):
    """Dropped NIfTI and NRRD files: units and alignment are asked for in step 1, and then it runs."""
    expected = run_here(patient).map.volume
    for node in (patient.ct, patient.pet):
        for name in node.GetAttributeNames():
            node.RemoveAttribute(name)
    choices = replace(patient.choices, tracer="FMISO")
    assert [line[:14] for line in patient.decisions.missing_images(choices)][:2] == ["'CT': unit unk", "'PET FMISO': u"]
    state_unit(patient.ct, "hounsfield")
    state_unit(patient.pet, "suv")
    (line,) = patient.decisions.missing_images(choices)
    assert line.startswith("CT, PET FMISO name no frame of reference: choose another alignment")
    placed = replace(choices, alignment="scene")
    assert patient.decisions.missing_images(placed) == []
    found = run_job(patient.decisions.make_job(placed), no_progress).map.volume
    np.testing.assert_allclose(found.array, expected.array)


def test_another_image_is_no_planning_ct(patient):
    taken = replace(patient.choices, planning=patient.pet)
    assert patient.decisions.missing_images(taken) == ["'PET FMISO' is SUVbw, no CT: choose the planning CT."]


def test_segments_without_voxels_are_told_in_step_1(patient):
    segment = patient.structures.GetSegmentation().GetSegment(patient.gtv.segment_id)
    voxels = segment.GetRepresentation(LABELMAP)
    assert patient.decisions.missing_images(patient.choices) == []
    segment.RemoveRepresentation(LABELMAP)
    (line,) = patient.decisions.missing_images(patient.choices)
    assert line.startswith(f"Segment '{segment.GetName()}' has no voxels yet: in the Segmentations module")
    segment.AddRepresentation(LABELMAP, voxels)
    assert patient.decisions.missing_images(patient.choices) == []


def test_an_erased_gtv_is_told_in_step_1(patient):
    empty = GTV.with_array(np.zeros_like(GTV.array), "erased", "GTVx")
    identifier = region_to_segment(patient.scene, patient.structures, empty, (255, 0, 0))
    taken = replace(patient.choices, gtv=SegmentChoice(patient.structures, identifier))
    assert patient.decisions.missing_images(taken) == ["The segment of GTV has no voxel."]
