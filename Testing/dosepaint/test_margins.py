"""Margins, crops and closing against brute force in patient coordinates and against analytic volumes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from grid_samples import ball, make_grid, make_region, points_mm, shape_of
from HypoxiaDosePaintLib.margins import (
    close_mask,
    combine_in_quadrature,
    crop_to_organs,
    describe_margins,
    expand,
    expand_in_image,
    population_margin_mm,
)
from HypoxiaDosePaintLib.request import Margins
from HypoxiaMapperLib.errors import GeometryError, LimitError, RequestError


def brute_force(grid, mask, margins):
    """The definition, voxel by voxel: within one eighth of an ellipsoid around some centre of the mask."""
    everywhere, out = points_mm(grid), np.zeros(mask.size, dtype=bool)
    plus = np.array([margins.left_mm, margins.posterior_mm, margins.superior_mm])
    minus = np.array([margins.right_mm, margins.anterior_mm, margins.inferior_mm])
    for centre in points_mm(grid, mask):
        offset = everywhere - centre
        out |= ((offset / np.where(offset >= 0, plus, minus)) ** 2).sum(axis=1) <= 1 + 1e-9
    return out.reshape(mask.shape)


def one_voxel(grid, index_zyx=None):
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[index_zyx or tuple(n // 2 for n in mask.shape)] = True
    return mask


@pytest.mark.parametrize(("spacing", "tolerance"), [((1.0, 1.0, 1.0), 0.01), ((0.98, 0.98, 2.0), 0.02)])
def test_ball_of_20_mm_has_its_analytic_volume(spacing, tolerance):
    """VALIDATION row 26."""
    grid = make_grid([math.ceil(50 / s) for s in spacing], spacing)
    grown = expand(make_region(one_voxel(grid), grid), Margins.uniform(20), "PTV")
    assert grown.volume_ml == pytest.approx(33.510, rel=tolerance)
    assert grown.name == "PTV"


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 90), (180, 0, 0), (12, 0, 0), (7, -21, 33)])
@pytest.mark.parametrize(
    "margins",
    [Margins.uniform(4), Margins(5, 2, 3.5, 6, 4, 2.5), Margins(1.7, 4.1, 2.2, 3.3, 6, 3)],
    ids=describe_margins,
)
def test_expansion_equals_the_definition_on_any_grid(angles, margins):
    grid = make_grid((19, 21, 13), (1.3, 1.1, 2.4), angles)
    mask = np.random.default_rng(5).random(shape_of(grid)) > 0.999
    mask[6, 9:12, 8:11] = True
    grown = expand(make_region(mask, grid), margins, "PTV").array
    np.testing.assert_array_equal(grown, brute_force(grid, mask, margins))


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 180), (0, 180, 0), (0, 0, 90), (0, 90, 0)])
def test_each_side_of_the_patient_gets_its_own_margin(angles):
    grid = make_grid((31, 31, 31), (1.0, 1.0, 1.0), angles)
    mask = one_voxel(grid)
    margins = Margins(left_mm=7, right_mm=1, anterior_mm=2, posterior_mm=6, superior_mm=5, inferior_mm=3)
    reach = points_mm(grid, expand(make_region(mask, grid), margins, "PTV").array) - points_mm(grid, mask)
    np.testing.assert_allclose(reach.max(axis=0), [7, 6, 5], atol=1e-6)
    np.testing.assert_allclose(reach.min(axis=0), [-1, -2, -3], atol=1e-6)


def test_a_one_sided_margin_works_on_an_oblique_grid():
    grid = make_grid((41, 41, 21), (1.0, 1.0, 1.0), (0, 0, 20))
    mask = one_voxel(grid)
    reach = points_mm(grid, expand(make_region(mask, grid), Margins(left_mm=10), "PTV").array) - points_mm(grid, mask)
    assert 8 < reach[:, 0].max() <= 10  # the tip is thinner than a voxel
    assert np.abs(reach[:, 1:]).max() <= 0.5
    assert reach[:, 0].min() >= -0.5


def test_rounded_direction_cosines_do_not_lose_a_margin():
    grid = make_grid((21, 21, 21), (1.0, 1.0, 1.0), (0.0005, 0.0003, 0.0004))
    grown = expand(make_region(one_voxel(grid), grid), Margins(left_mm=5, posterior_mm=5), "PTV")
    assert grown.array.sum() == sum(1 for x in range(6) for y in range(6) if x * x + y * y <= 25)


def test_no_margin_changes_nothing():
    for angles in ((0, 0, 0), (10, 20, 30)):
        grid = make_grid((20, 20, 20), (0.9, 0.9, 3.0), angles)
        mask = np.random.default_rng(1).random(shape_of(grid)) > 0.9
        np.testing.assert_array_equal(expand(make_region(mask, grid), Margins(), "PTV").array, mask)


def test_margin_below_the_slice_distance_stays_in_the_slice():
    grid = make_grid((21, 21, 9), (1.0, 1.0, 3.0))
    grown = expand(make_region(one_voxel(grid), grid), Margins.uniform(2.9), "PTV").array
    assert np.flatnonzero(grown.any(axis=(1, 2))).tolist() == [4]
    assert grown.sum() == 25


def test_what_leaves_the_image_is_measured_and_said():
    grid = make_grid((30, 30, 30))
    corner = make_region(one_voxel(grid, (0, 0, 0)), grid)
    middle = make_region(one_voxel(grid), grid)
    whole = expand_in_image(middle, Margins.uniform(8), "PTV")
    cut = expand_in_image(corner, Margins.uniform(8), "PTV")
    assert whole.outside_image_ml == 0
    assert cut.outside_image_ml + cut.region.volume_ml == pytest.approx(whole.region.volume_ml)
    assert cut.outside_image_ml > 1
    assert f"{cut.outside_image_ml:.2f} ml outside the image" in cut.region.source
    assert "outside" not in whole.region.source


def test_an_empty_region_has_no_margin():
    grid = make_grid((10, 10, 10))
    with pytest.raises(LimitError, match="GTVp is empty"):
        expand(make_region(np.zeros(shape_of(grid)), grid), Margins.uniform(3), "PTV")


def test_a_planning_ct_is_expanded_in_seconds():
    grid = make_grid((512, 512, 200), (0.98, 0.98, 2.0))
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[80:120, 200:280, 220:300] = True
    start = time.perf_counter()
    grown = expand(make_region(mask, grid), Margins(5, 5, 7, 3, 6, 6), "PTV")
    assert time.perf_counter() - start < 10
    assert np.flatnonzero(grown.array.any(axis=(1, 2)))[[0, -1]].tolist() == [77, 122]


def test_crop_leaves_the_gap_and_tells_what_each_organ_took():
    grid = make_grid((40, 30, 20), (1.0, 1.0, 2.0))
    target, cord, far = (np.zeros(shape_of(grid), dtype=bool) for _ in range(3))
    target[:, 5:25, 5:20], cord[:, :, 22:26], far[:, :, 36:] = True, True, True
    crop = crop_to_organs(
        make_region(target, grid, "PTV"), [make_region(cord, grid, "Cord"), make_region(far, grid, "Lung")], 5
    )
    assert np.flatnonzero(crop.region.array.any(axis=(0, 1))).max() == 16  # 22 - 16 = 6 mm away, 17 would be 5 mm
    taken_ml = 20 * 20 * 3 * 2 / 1000
    assert crop.cropped_ml_by_organ == {"Cord": pytest.approx(taken_ml), "Lung": 0}
    assert crop.region.volume_ml == pytest.approx(target.sum() * 2 / 1000 - taken_ml)
    assert "cropped 5 mm from Cord" in crop.region.source
    assert "Lung" not in crop.region.source


def test_crop_equals_the_distance_between_centres_on_an_oblique_grid():
    grid = make_grid((15, 15, 9), (1.2, 1.2, 2.5), (15, -10, 25))
    generator = np.random.default_rng(3)
    target, organ = generator.random(shape_of(grid)) > 0.4, generator.random(shape_of(grid)) > 0.998
    crop = crop_to_organs(make_region(target, grid, "PTV"), [make_region(organ, grid, "Cord")], 4.0)
    gaps = np.linalg.norm(points_mm(grid)[:, None] - points_mm(grid, organ)[None], axis=2).min(axis=1)
    np.testing.assert_array_equal(crop.region.array, target & (gaps.reshape(target.shape) > 4.0))


def test_crop_without_gap_takes_the_overlap_only():
    grid = make_grid((20, 20, 20))
    target, organ = np.zeros((2, *shape_of(grid)), dtype=bool)
    target[5:15, 5:15, 5:15], organ[:, :, 12:] = True, True
    crop = crop_to_organs(make_region(target, grid), [make_region(organ, grid, "Cord")], 0)
    np.testing.assert_array_equal(crop.region.array, target & ~organ)
    assert crop_to_organs(make_region(target, grid), [], 3).cropped_ml_by_organ == {}


def test_a_crop_that_leaves_nothing_is_refused():
    grid = make_grid((20, 20, 20))
    target = ball(grid, 3)
    with pytest.raises(LimitError, match=r"Nothing is left of PTV.*Cord"):
        crop_to_organs(make_region(target, grid, "PTV"), [make_region(ball(grid, 4), grid, "Cord")], 3)


def test_crop_refuses_other_grids_and_negative_gaps():
    grid, other = make_grid((10, 10, 10)), make_grid((10, 10, 10), origin_mm=(0, 0, 0))
    target = make_region(one_voxel(grid), grid, "PTV")
    with pytest.raises(GeometryError, match="Crop of PTV to Cord"):
        crop_to_organs(target, [make_region(one_voxel(other), other, "Cord")], 3)
    for gap in (-1, math.nan):
        with pytest.raises(RequestError, match="organ gap"):
            crop_to_organs(target, [], gap)


def test_closing_bridges_in_millimetres_not_voxels():
    grid = make_grid((30, 20, 12), (1.0, 1.0, 3.0))
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[2:10, 5:15, 5:12] = mask[2:10, 5:15, 15:22] = True  # 3 voxels = 3 mm apart along x
    assert not close_mask(mask, grid, 1.0)[6, 10, 13]
    assert close_mask(mask, grid, 2.0)[6, 10, 12:15].all()
    slices = np.zeros(shape_of(grid), dtype=bool)
    slices[2:5, 5:15, 5:20] = slices[6:9, 5:15, 5:20] = True  # 1 voxel = 3 mm missing along z
    assert not close_mask(slices, grid, 2.0)[5].any()
    assert close_mask(slices, grid, 3.0)[5, 10, 10]


def test_closing_loses_nothing_at_the_image_border_and_is_idempotent():
    grid = make_grid((16, 16, 16))
    mask = np.random.default_rng(2).random(shape_of(grid)) > 0.7
    closed = close_mask(mask, grid, 2.0)
    assert not (mask & ~closed).any()
    assert closed.sum() > mask.sum()
    full = np.zeros(shape_of(grid), dtype=bool)
    full[:8] = True
    np.testing.assert_array_equal(close_mask(full, grid, 3.0), full)


def test_population_margin():
    assert population_margin_mm(2, 3) == pytest.approx(7.1)
    assert combine_in_quadrature(3, 4, 12) == pytest.approx(13)
    with pytest.raises(RequestError, match="Systematic error -1"):
        population_margin_mm(-1, 2)


def test_margins_in_words():
    assert describe_margins(Margins.uniform(5)) == "5 mm"
    assert "2 mm anterior" in describe_margins(Margins(5, 5, 2, 5, 5, 5))
