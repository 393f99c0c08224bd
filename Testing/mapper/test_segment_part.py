"""A part of a segment is what the whole segment has there, however its labelmap lies."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, segment_to_region  # noqa: E402
from HypoxiaMapperLib.mrml.segments import LABELMAP, segment_mask, segment_part  # noqa: E402
from HypoxiaMapperLib.volume import Region  # noqa: E402

SIZE = (40, 36, 24)


def make_grid(size, spacing, origin, degrees=0.0) -> sitk.Image:
    grid = sitk.Image(list(size), sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetOrigin(origin)
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    grid.SetDirection((c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0))
    return grid


PLANNING = make_grid(SIZE, (1.0, 1.0, 3.0), (-20.0, -18.0, -36.0))
OWN = {
    "planning": PLANNING,
    "box of it": PLANNING[5:30, 4:33, 3:20],
    "finer and turned": make_grid((60, 60, 50), (0.7, 0.6, 1.1), (-18.3, -24.1, -29.7), 17.0),
    "coarser": make_grid((12, 12, 12), (3.7, 3.3, 5.0), (-21.2, -19.4, -31.6)),
    "beyond": make_grid((200, 200, 100), (1.0, 1.0, 1.0), (-100.3, -100.3, -50.3)),
}
BOXES = {
    "middle": PLANNING[10:25, 8:28, 6:18], "corner": PLANNING[0:9, 0:9, 0:5], "few": PLANNING[20:23, 18:21, 12:15],
    "all": PLANNING,
}  # fmt: skip


def segment(own: sitk.Image):
    """A segmentation with noise for voxels in a segment on a grid of its own."""
    scene = slicer.vtkMRMLScene()
    node = make_segmentation(scene, "Structures")
    array = (np.random.default_rng(3).random(tuple(reversed(own.GetSize()))) > 0.5).astype(np.uint8)
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(own)
    return scene, node, region_to_segment(scene, node, Region("Organ", mask, "1.2", ""), (9, 9, 9))


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("box", BOXES)
def test_a_part_is_the_whole_cut(own, box):
    _scene, node, identifier = segment(OWN[own])
    grid = BOXES[box]
    first = PLANNING.TransformPhysicalPointToIndex(grid.GetOrigin())
    whole = sitk.RegionOfInterest(segment_to_region(node, identifier, PLANNING).mask, grid.GetSize(), first)
    part = segment_part(node, identifier, grid)
    assert (part.name, part.frame_of_reference_uid) == ("Organ", "1.2")
    np.testing.assert_array_equal(part.array, sitk.GetArrayFromImage(whole) > 0)
    assert part.array.any()
    if (own, box) == ("beyond", "middle"):
        assert np.prod(segment_mask(node, identifier, grid).GetSize()) < 0.01 * 200 * 200 * 100


@pytest.mark.parametrize("own", OWN)
def test_whole_grid_is_as_one_resampling_of_all_of_it(own):
    _scene, node, identifier = segment(OWN[own])
    mask = segment_mask(node, identifier)
    plain = sitk.Resample(mask, PLANNING, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    np.testing.assert_array_equal(
        segment_to_region(node, identifier, PLANNING).array, sitk.GetArrayFromImage(plain) > 0
    )


def test_no_voxel_of_the_box_lies_in_the_labelmap():
    _scene, node, identifier = segment(OWN["box of it"])
    far = make_grid((5, 5, 5), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0))
    assert segment_mask(node, identifier, far) is None
    assert not segment_part(node, identifier, far).array.any()


def test_segments_that_share_a_labelmap_are_told_apart():
    _scene, node, first = segment(PLANNING)
    inside = np.zeros(SIZE[::-1], np.uint8)
    inside[5:9, 5:9, 5:9] = 1
    mask = sitk.GetImageFromArray(inside)
    mask.CopyInformation(PLANNING)
    second = region_to_segment(_scene, node, Region("Small", mask, "1.2", ""), (9, 9, 9))
    before = [segment_to_region(node, s, PLANNING).array & ~inside.astype(bool) for s in (first, second)]
    inner = node.GetSegmentation()
    inner.CollapseBinaryLabelmaps(True)
    one, other = (inner.GetSegment(s).GetRepresentation(LABELMAP) for s in (first, second))
    assert one is other
    after = [segment_to_region(node, s, PLANNING).array & ~inside.astype(bool) for s in (first, second)]
    np.testing.assert_array_equal(after, before)
    assert segment_to_region(node, second, PLANNING).array.sum() == 64
