"""The hypoxic segment of each GTV: its own, named for the planning system, and what was edited in it by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.volume import Region

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml import region_to_segment, segment_to_region  # noqa: E402
from HypoxiaMapperLib.panel.choices import SegmentChoice  # noqa: E402
from HypoxiaMapperLib.panel.hypoxic_segment import (  # noqa: E402
    made_in,
    name_for,
    region_with_history,
    segment_state,
    write_hypoxic_segment,
)
from HypoxiaMapperLib.panel.segment_regions import segment_ids  # noqa: E402
from panel_samples import Patient, box, grid, save_and_reload  # noqa: E402


def gtv(patient: Patient, name: str, low: int, high: int) -> SegmentChoice:
    identifier = region_to_segment(patient.scene, patient.structures, box(name, low, high), (255, 0, 0))
    return SegmentChoice(patient.structures, identifier)


def make(patient: Patient, segmentation, choice: SegmentChoice, low: int, high: int, surrogate: bool = False):
    """What the panel does: the hypoxic part of a GTV, as its segment."""
    region = box(name_for(segmentation, choice, surrogate), low, high)
    return write_hypoxic_segment(patient.scene, segmentation, patient.ct, region, 1.2, choice)


def names(segmentation) -> list[str]:
    return [segmentation.GetSegmentation().GetSegment(i).GetName() for i in segment_ids(segmentation)]


def test_gtvs_whose_names_begin_alike_keep_a_hypoxic_segment_each():
    patient = Patient()
    left, right = gtv(patient, "GTVn_Level_II_L", 2, 8), gtv(patient, "GTVn_Level_II_R", 12, 18)
    node, first = make(patient, None, left, 3, 5)
    node, second = make(patient, node, right, 13, 16)
    assert names(node) == ["GTVn_Level_I_Hyp", "GTVn_Level_2_Hyp"]
    assert all(len(name) <= 16 for name in names(node))
    assert segment_to_region(node, first, grid()).volume_ml == pytest.approx(box("", 3, 5).volume_ml)
    make(patient, node, left, 3, 6)  # refreshed: its own, and no other
    assert sorted(names(node)) == ["GTVn_Level_2_Hyp", "GTVn_Level_I_Hyp"]
    assert segment_to_region(node, made_in(node, left, False), grid()).volume_ml == pytest.approx(
        box("", 3, 6).volume_ml
    )
    assert segment_to_region(node, second, grid()).volume_ml == pytest.approx(box("", 13, 16).volume_ml)


def test_gtvs_of_one_name_in_two_segmentations_are_two():
    patient = Patient()
    from HypoxiaMapperLib.mrml import make_segmentation

    other = make_segmentation(patient.scene, "Structures of another day")
    twin = SegmentChoice(other, region_to_segment(patient.scene, other, box("GTVp", 9, 14), (255, 0, 0)))
    node, _ = make(patient, None, patient.gtv, 9, 12)
    make(patient, node, twin, 10, 12)
    assert names(node) == ["GTVp_Hyp", "GTVp_2_Hyp"]


def test_a_renamed_segment_and_a_surrogate_are_left_alone():
    patient = Patient()
    node, first = make(patient, None, patient.gtv, 9, 12)
    node.GetSegmentation().GetSegment(first).SetName("GTVp_Hyp_old")
    assert made_in(node, patient.gtv, False) == ""
    make(patient, node, patient.gtv, 9, 13)
    make(patient, node, patient.gtv, 9, 14, surrogate=True)
    make(patient, node, patient.gtv, 9, 15)
    assert sorted(names(node)) == ["GTVp_Hyp", "GTVp_Hyp_old", "GTVp_Sur"]


def test_a_saved_scene_knows_whose_segment_it_is(tmp_path):
    patient = Patient()
    make(patient, None, patient.gtv, 9, 12)
    save_and_reload(patient.scene, tmp_path)
    choice = SegmentChoice(patient.scene.GetFirstNodeByName("Structures"), patient.gtv.segment_id)
    node = patient.scene.GetFirstNodeByName("Hypoxia targets")
    identifier = made_in(node, choice, False)
    assert names(node) == ["GTVp_Hyp"]
    assert not segment_state(node, identifier, grid()).edited


@pytest.mark.parametrize("axis", [0, 2])
def test_a_grid_counted_in_the_opposite_direction_is_no_edit(axis):
    """Slicer may keep slices in the opposite order to that of the files, in which the targets are made."""
    patient = Patient()
    mask = box("GTVp_Hyp", 9, 12).array.astype(np.uint8)
    mask[9:12, 9, 5:9] = 1  # not the same from both ends
    image = sitk.GetImageFromArray(mask)
    image.CopyInformation(grid())
    region = Region("GTVp_Hyp", image, "", "made")
    node, identifier = write_hypoxic_segment(patient.scene, None, patient.ct, region, 1.2)
    turned = sitk.Flip(grid(), [number == axis for number in range(3)])
    assert not segment_state(node, identifier, turned).edited
    assert region_with_history(node, identifier, turned).source.startswith("made")
    assert "edited" not in region_with_history(node, identifier, turned).source
