"""A hypoxic region edited by hand takes the place of the threshold, and every difference is told in millilitres."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib.request import SubvolumeOptions
from HypoxiaDosePaintLib.subvolume import find_subvolume
from HypoxiaMapperLib.errors import GeometryError, LimitError
from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import Region, Volume, image_like

SHAPE = (20, 20, 20)
OPTIONS = SubvolumeOptions(minimum_component_ml=0.0)


def grid() -> sitk.Image:
    image = sitk.Image(list(SHAPE), sitk.sitkFloat32)
    image.SetSpacing((2.0, 2.0, 2.5))  # 0.01 ml
    return image


def region(name: str, low: int, high: int) -> Region:
    mask = np.zeros(SHAPE, np.uint8)
    mask[low:high, low:high, low:high] = 1
    return Region(name, image_like(mask, grid()), "1.2", f"{name} source")


def hypoxia_map() -> HypoxiaMap:
    array = np.ones(SHAPE, np.float32)
    array[5:10, 5:10, 5:10] = 2.0
    return HypoxiaMap(Volume(image_like(array, grid()), "ratio", "{ratio}", "1.2"), 1.2, ">", "made up")


GTV = region("GTVp", 3, 15)


def test_what_was_drawn_is_taken_and_the_difference_is_told():
    found = find_subvolume(hypoxia_map(), [GTV], OPTIONS, drawn=region("Mine", 5, 11))
    assert found.hypoxic_volume_ml == pytest.approx(6**3 * 0.01)
    assert (
        "Mine differs from the threshold in GTVp: 0.00 ml beyond it are not in the region, 0.91 ml of the region are "
        "not beyond it. The region is Mine source."
    ) in " ".join(found.warnings)
    assert "Mine source (Mine), within GTVp" in found.region.source
    assert found.threshold == 1.2


def test_a_drawn_copy_of_the_threshold_is_the_threshold():
    drawn, own = (find_subvolume(hypoxia_map(), [GTV], OPTIONS, drawn=d) for d in (region("M", 5, 10), None))
    assert drawn.warnings == own.warnings
    np.testing.assert_array_equal(drawn.region.array, own.region.array)


def test_parts_outside_the_gtv_are_left_out_and_told():
    found = find_subvolume(hypoxia_map(), [GTV], OPTIONS, drawn=region("Mine", 5, 16))
    assert found.hypoxic_volume_ml == pytest.approx(10**3 * 0.01)
    assert "3.31 ml of Mine lie outside GTVp" in " ".join(found.warnings)


def test_a_region_outside_the_gtv_or_on_another_grid_is_refused():
    with pytest.raises(LimitError, match="no voxel in GTVp"):
        find_subvolume(hypoxia_map(), [GTV], OPTIONS, drawn=region("Mine", 16, 19))
    other = Region("Mine", sitk.Image([5, 5, 5], sitk.sitkUInt8), "1.2", "")
    with pytest.raises(GeometryError, match="Map and Mine"):
        find_subvolume(hypoxia_map(), [GTV], OPTIONS, drawn=other)
