"""Volume and Region to MRML nodes and back: exact on oblique grids, left stays left, unknown units refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, RequestError
from HypoxiaMapperLib.volume import Region, Volume, image_like, same_grid

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml import (  # noqa: E402
    make_segmentation,
    node_to_volume,
    region_to_segment,
    segment_to_region,
    show_as_background,
    show_as_map,
    volume_to_node,
)
from HypoxiaMapperLib.mrml.geometry import to_lps, to_ras  # noqa: E402

SHAPE = (7, 9, 11)


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


def grid(oblique: bool = True) -> sitk.Image:
    image = sitk.Image(list(reversed(SHAPE)), sitk.sitkFloat32)
    image.SetSpacing((0.9765625, 1.3, 2.7))
    image.SetOrigin((-31.25, 17.5, -123.456))
    if oblique:
        turn = sitk.Euler3DTransform()
        turn.SetRotation(0.2, -0.35, 0.5)
        image.SetDirection(turn.GetMatrix())
    return image


def volume(dtype=np.float32, oblique: bool = True) -> Volume:
    values = np.random.default_rng(3).normal(0, 100, SHAPE).astype(dtype)
    return Volume(
        image_like(values, grid(oblique)), "SUVbw", "g/ml", "1.2.3", ("1.2.3.4", "1.2.3.5"),
        ("read", 'scaled "by" 1.5; ümlaut'), {"tracer": "FMISO", "delay_s": 9120.0},
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_oblique_volume_comes_back_exactly(scene, dtype):
    before = volume(dtype)
    after = node_to_volume(volume_to_node(scene, before, "pet"))
    assert after.array.dtype == dtype
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.image.GetOrigin(), before.image.GetOrigin(), atol=1e-12)
    np.testing.assert_allclose(after.image.GetSpacing(), before.image.GetSpacing(), atol=1e-12)
    np.testing.assert_allclose(after.image.GetDirection(), before.image.GetDirection(), atol=1e-12)
    same = ("quantity", "unit", "frame_of_reference_uid", "source_uids", "operations", "facts")
    assert all(getattr(after, f) == getattr(before, f) for f in same)


def test_a_landmark_on_the_patients_left_lies_left_in_slicer(scene):
    """A voxel at L +40, A 25, S +60 must stand at R -40, A +25, S +60 in the scene."""
    image = sitk.Image(101, 101, 101, sitk.sitkInt16)
    image.SetOrigin((-50, -50, 0))
    index = image.TransformPhysicalPointToIndex((40.0, -25.0, 60.0))
    image[index] = 1000
    node = volume_to_node(scene, Volume(image, "CT number", "[hnsf'U]"), "ct")
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert matrix.MultiplyPoint((*index, 1))[:3] == pytest.approx((-40, 25, 60))
    assert node.GetImageData().GetScalarComponentAsDouble(*index, 0) == 1000


def test_left_is_turned_into_right_in_one_place_only():
    """LPS becomes RAS in ``mrml`` alone: a second flip somewhere else would mirror the patient."""
    assert to_ras((1.0, 2.0, 3.0)) == to_lps((1.0, 2.0, 3.0)) == (-1.0, -2.0, 3.0)
    by_hand = re.compile(r"LPS_TO_RAS|-\s*(\w+)(\[0\]|\.x), -\s*\1(\[1\]|\.y)|-x, -y\b")
    root = Path(__file__).resolve().parents[2]
    found = [p for module in ("HypoxiaMapper", "HypoxiaDosePaint") for p in (root / module).rglob("*.py")]
    files = [p for p in found if p.parent.name != "mrml"]
    assert len(files) > 100
    assert [p.name for p in files if by_hand.search(p.read_text(encoding="utf-8"))] == []


def test_unknown_unit_is_refused_with_the_way_out(scene):
    node = volume_to_node(scene, volume(), "stranger")
    node.RemoveAttribute("Hypoxia.Unit")
    with pytest.raises(RequestError, match=r"stranger.*unit unknown") as caught:
        node_to_volume(node)
    assert "Hypoxia.Unit" in caught.value.hint


def test_unit_of_slicers_own_dicom_reader_is_taken(scene):
    node = volume_to_node(scene, volume(), "pet")
    for key in ("Hypoxia.Unit", "Hypoxia.Quantity"):
        node.RemoveAttribute(key)
    unit, quantity = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("g/ml", "UCUM", "gram per millilitre")
    quantity.SetValueSchemeMeaning("126401", "DCM", "SUVbw")
    node.SetVoxelValueUnits(unit)
    node.SetVoxelValueQuantity(quantity)
    assert (node_to_volume(node).quantity, node_to_volume(node).unit) == ("SUVbw", "g/ml")


def test_a_node_under_a_transform_is_refused(scene):
    node = volume_to_node(scene, volume(), "pet")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(GeometryError, match=r"pet.*moved"):
        node_to_volume(node)


def test_a_node_without_voxels_is_refused(scene):
    with pytest.raises(RequestError, match="no voxels"):
        node_to_volume(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_sheared_axes_are_refused(scene):
    node = volume_to_node(scene, volume(oblique=False), "tilted")
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    matrix.SetElement(1, 2, 0.5)
    node.SetIJKToRASMatrix(matrix)
    with pytest.raises(GeometryError):
        node_to_volume(node)


def random_region(name: str, seed: int, image: sitk.Image) -> Region:
    mask = np.random.default_rng(seed).random(SHAPE) > 0.6
    return Region(name, image_like(mask.astype(np.uint8), image), "1.2.3", f"drawn {seed}")


def test_overlapping_regions_come_back_exactly(scene):
    node = make_segmentation(scene, "targets")
    regions = [random_region("GTVp", 1, grid()), random_region("GTVp_Hyp", 2, grid())]
    for region in regions:
        identifier = region_to_segment(scene, node, region, (255, 128, 0))
        back = segment_to_region(node, identifier, grid())
        np.testing.assert_array_equal(back.array, region.array)
        assert same_grid(back.mask, region.mask)
        assert (back.name, back.source, back.frame_of_reference_uid) == (region.name, region.source, "1.2.3")
    assert node.GetSegmentation().GetSegment("GTVp").GetColor() == pytest.approx((1, 128 / 255, 0))
    np.testing.assert_array_equal(segment_to_region(node, "GTVp", grid()).array, regions[0].array)


def test_two_regions_of_one_name_do_not_overwrite_each_other(scene):
    node = make_segmentation(scene, "targets")
    first = region_to_segment(scene, node, random_region("GTV", 1, grid()), (1, 2, 3))
    second = region_to_segment(scene, node, random_region("GTV", 2, grid()), (1, 2, 3))
    assert first != second
    assert (segment_to_region(node, first, grid()).array != segment_to_region(node, second, grid()).array).any()


def test_a_segment_on_a_part_of_the_grid_lands_in_its_place(scene):
    """Slicer crops labelmaps to their content, so the extent need not begin at the grid's first voxel."""
    whole = random_region("GTV", 5, grid())
    part = Region("GTV", whole.mask[3:9, 2:8, 1:5], "1.2.3", "drawn")
    node = make_segmentation(scene, "targets")
    back = segment_to_region(node, region_to_segment(scene, node, part, (1, 2, 3)), grid())
    expected = np.zeros(SHAPE, bool)
    expected[1:5, 2:8, 3:9] = whole.array[1:5, 2:8, 3:9]
    np.testing.assert_array_equal(back.array, expected)
    assert "nearest neighbour" in back.source


def test_an_unknown_segment_is_refused_with_the_list(scene):
    node = make_segmentation(scene, "targets")
    region_to_segment(scene, node, random_region("GTVp", 1, grid()), (1, 2, 3))
    with pytest.raises(RequestError, match="no segment 'GTVn'") as caught:
        segment_to_region(node, "GTVn", grid())
    assert "GTVp" in caught.value.hint


def test_a_segmentation_of_another_scene_is_refused(scene):
    node = make_segmentation(slicer.vtkMRMLScene(), "elsewhere")
    with pytest.raises(RequestError, match="not in the given scene"):
        region_to_segment(scene, node, random_region("GTV", 1, grid()), (1, 2, 3))


def test_display_follows_window_and_threshold(scene):
    node = volume_to_node(scene, volume(), "map")
    show_as_map(scene, node, (1.0, 2.5), [(0, 0, 0), (1, 0, 0)], transparent_below=0.5)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((1.0, 2.5))
    assert display.GetLowerThreshold() == pytest.approx(0.5)
    assert display.GetApplyThreshold()
    show_as_background(node, (-160, 240))
    assert (display.GetWindow(), display.GetLevel()) == pytest.approx((400, 40))
