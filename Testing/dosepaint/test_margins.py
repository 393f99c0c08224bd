"""Margins, crops and closing against brute force in patient coordinates and against analytic volumes."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from grid_samples import ball, make_grid, make_region, points_mm, shape_of
from HypoxiaDosePaintLib.margins import (
    achieved_margins,
    close_mask,
    crop_to_organs,
    describe_margins,
    describe_sides,
    expand_in_image,
    rounded_margins,
)
from HypoxiaDosePaintLib.request import Margins
from HypoxiaMapperLib.errors import GeometryError, LimitError, RequestError


def expand(region, margins, name):
    """The expanded region alone."""
    return expand_in_image(region, margins, name).region


def box_points(grid, per_side):
    """Points spread evenly over the surface of a voxel's box, and its centre; LPS mm, shape (n, 3)."""
    step = np.array(grid.GetDirection()).reshape(3, 3) * np.array(grid.GetSpacing())
    points = np.array(list(itertools.product(np.linspace(-0.5, 0.5, per_side), repeat=3)))
    return points[(np.abs(points).max(axis=1) == 0.5) | (points == 0).all(axis=1)] @ step.T


def brute_force(grid, mask, margins, per_side=21):
    """Least squared ellipsoid gauge of every voxel centre from the sampled solid of the mask; at most 1 is inside."""
    everywhere, best = points_mm(grid), np.full(mask.size, np.inf)
    plus = np.array([margins.left_mm, margins.posterior_mm, margins.superior_mm])
    minus = np.array([margins.right_mm, margins.anterior_mm, margins.inferior_mm])
    points = box_points(grid, per_side)
    longest = np.linalg.norm(points, axis=1).max() + max(*plus, *minus)
    for centre in points_mm(grid, mask):
        near = np.flatnonzero(np.abs(everywhere - centre).max(axis=1) <= longest)
        offset = everywhere[near][:, None] - centre - points
        gauge = ((offset / np.where(offset >= 0, plus, minus)) ** 2).sum(axis=2).min(axis=1)
        best[near] = np.minimum(best[near], gauge)
    return best.reshape(mask.shape)


def one_voxel(grid, index_zyx=None):
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[index_zyx or tuple(n // 2 for n in mask.shape)] = True
    return mask


@pytest.mark.parametrize(("spacing", "tolerance"), [((1.0, 1.0, 1.0), 0.01), ((0.98, 0.98, 2.0), 0.02)])
def test_a_sphere_of_20_mm_radius_has_its_analytic_volume(spacing, tolerance):
    """VALIDATION row 26: the region itself."""
    grid = make_grid([math.ceil(50 / s) for s in spacing], spacing)
    assert make_region(ball(grid, 20), grid).volume_ml == pytest.approx(33.510, rel=tolerance)


@pytest.mark.parametrize("margin_mm", [3, 5, 12])
def test_a_sphere_and_its_margin_make_a_sphere_of_20_mm(margin_mm):
    """VALIDATION row 26: of a fine sphere whose voxels lie inside it with their corners too."""
    grid = make_grid((110, 110, 110), (0.4, 0.4, 0.4))
    farthest = np.linalg.norm(np.abs((np.indices(shape_of(grid)) - 54.5) * 0.4) + 0.2, axis=0)
    grown = expand(make_region(farthest <= 20 - margin_mm, grid), Margins.uniform(margin_mm), "PTV")
    assert grown.volume_ml == pytest.approx(33.510, rel=0.02)
    assert grown.name == "PTV"


@pytest.mark.parametrize(
    ("spacing", "angles"),
    [((1, 1, 1), (0, 0, 0)), ((1, 1, 3.27), (0, 0, 0)), ((1, 1, 2), (7, -21, 33)), ((2, 2, 4), (0, 15, 0))],
)
def test_one_voxel_and_20_mm_have_the_volume_of_a_box_with_rounded_edges(spacing, angles):
    """Steiner's formula for a box: its volume, faces x r, edges x quarter discs, corners together one ball."""
    grid, r = make_grid([2 * math.ceil(22 / s) + 3 for s in spacing], spacing, angles), 20
    a, b, c = spacing
    expected = a * b * c + 2 * (a * b + b * c + a * c) * r + math.pi * (a + b + c) * r**2 + 4 / 3 * math.pi * r**3
    grown = expand(make_region(one_voxel(grid), grid), Margins.uniform(r), "PTV")
    assert grown.volume_ml == pytest.approx(expected / 1000, rel=0.02)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 90), (180, 0, 0), (12, 0, 0), (7, -21, 33)])
@pytest.mark.parametrize(
    "margins",
    [Margins.uniform(4), Margins(5, 2, 3.5, 6, 4, 2.5), Margins(1.7, 4.1, 2.2, 3.3, 6, 3)],
    ids=describe_margins,
)
def test_expansion_equals_the_definition_on_any_grid(angles, margins):
    grid = make_grid((19, 21, 13), (1.3, 1.1, 2.4), angles)
    mask = np.random.default_rng(5).random(shape_of(grid)) > 0.9995
    mask[6, 9:11, 8:10] = True
    grown = expand(make_region(mask, grid), margins, "PTV").array
    gauge = brute_force(grid, mask, margins)
    assert not (~grown & (gauge <= 1)).any()
    assert not (grown & (gauge > 1.02)).any()  # samples of the solid lie up to 0.06 mm apart from its nearest point
    assert np.mean(grown == (gauge <= 1)) > 0.998


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 180), (0, 180, 0), (0, 0, 90), (0, 90, 0)])
def test_each_side_of_the_patient_gets_its_own_margin(angles):
    grid = make_grid((31, 31, 31), (1.0, 1.0, 1.0), angles)
    mask = one_voxel(grid)
    margins = Margins(left_mm=7, right_mm=1, anterior_mm=2, posterior_mm=6, superior_mm=5, inferior_mm=3)
    reach = points_mm(grid, expand(make_region(mask, grid), margins, "PTV").array) - points_mm(grid, mask)
    np.testing.assert_allclose(reach.max(axis=0), [7, 6, 5], atol=1e-6)
    np.testing.assert_allclose(reach.min(axis=0), [-1, -2, -3], atol=1e-6)
    assert list(achieved_margins(grid, margins).values()) == pytest.approx([7, 1, 2, 6, 5, 3], abs=1e-5)
    assert rounded_margins(grid, margins) == {}


def test_a_one_sided_margin_works_on_an_oblique_grid():
    grid = make_grid((41, 41, 21), (1.0, 1.0, 1.0), (0, 0, 20))
    mask = one_voxel(grid)
    reach = points_mm(grid, expand(make_region(mask, grid), Margins(left_mm=10), "PTV").array) - points_mm(grid, mask)
    assert reach[:, 0].max() == pytest.approx(10, abs=0.64)  # half a voxel along this direction
    assert np.abs(reach[:, 1:]).max() <= 0.65
    assert reach[:, 0].min() >= -0.65


def test_rounded_direction_cosines_do_not_lose_a_margin():
    straight = make_grid((21, 21, 21), (1.0, 1.0, 1.0))
    rounded = make_grid((21, 21, 21), (1.0, 1.0, 1.0), (0.00005, 0.00003, 0.00004))
    for margins in (Margins(left_mm=5, posterior_mm=5), Margins.uniform(4.5), Margins(0, 3.5, 0, 0, 2, 0)):
        a, b = (expand(make_region(one_voxel(g), g), margins, "PTV").array for g in (straight, rounded))
        np.testing.assert_array_equal(a, b)
        assert a.sum() > 6


def test_no_margin_changes_nothing():
    for angles in ((0, 0, 0), (10, 20, 30)):
        grid = make_grid((20, 20, 20), (0.9, 0.9, 3.0), angles)
        mask = np.random.default_rng(1).random(shape_of(grid)) > 0.9
        np.testing.assert_array_equal(expand(make_region(mask, grid), Margins(), "PTV").array, mask)


@pytest.mark.parametrize(("margin_mm", "slices"), [(1.4, 0), (1.5, 1), (2.9, 1), (4.4, 1), (4.6, 2)])
def test_a_margin_is_rounded_to_whole_slices(margin_mm, slices):
    grid = make_grid((21, 21, 9), (1.0, 1.0, 3.0))
    grown = expand(make_region(one_voxel(grid), grid), Margins.uniform(margin_mm), "PTV").array
    assert np.flatnonzero(grown.any(axis=(1, 2))).tolist() == list(range(4 - slices, 5 + slices))


def test_the_margin_of_a_patient_with_thick_slices_is_not_lost():
    """3 mm on slices of 3.27 mm once gave nothing above and below."""
    grid = make_grid((41, 41, 15), (0.98, 0.98, 3.27))
    margins = Margins.uniform(3)
    sides = achieved_margins(grid, margins)
    assert (sides["superior"], sides["inferior"]) == pytest.approx((3.27, 3.27))
    assert sides["left"] == pytest.approx(2.94)
    assert rounded_margins(grid, margins) == pytest.approx({"superior": 3.27, "inferior": 3.27})
    assert describe_sides(rounded_margins(grid, margins)) == "3.27 mm superior, inferior"
    lost = rounded_margins(make_grid((41, 41, 15), (1.0, 1.0, 5.0)), Margins(2, 2, 2, 2, 2, 7.4))
    assert lost == pytest.approx({"superior": 0, "inferior": 5})


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 3.27), (2, 2, 2), (4, 4, 5)])
@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 15, 0), (7, -21, 33)])
@pytest.mark.parametrize("margin_mm", [1, 3, 5, 7])
def test_no_margin_falls_short_by_more_than_half_a_voxel_in_any_direction(spacing, angles, margin_mm):
    grid = make_grid([2 * math.ceil(14 / s) + 3 for s in spacing], spacing, angles)
    mask = one_voxel(grid)
    reach = points_mm(grid, expand(make_region(mask, grid), Margins.uniform(margin_mm), "PTV").array)
    directions = np.random.default_rng(7).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    step = np.array(grid.GetDirection()).reshape(3, 3) * np.array(spacing)
    half_voxel = np.abs(directions @ step).sum(axis=1) / 2  # of the box, along each direction
    achieved = ((reach - points_mm(grid, mask)) @ directions.T).max(axis=0)
    assert (achieved >= margin_mm - half_voxel - 1e-6).all()
    assert (achieved <= margin_mm + half_voxel + 1e-6).all()


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.98, 0.98, 3.27), (1.2, 1.2, 5), (2, 2, 2)])
def test_volume_equals_the_finely_sampled_solid_within_a_tenth(spacing):
    grid = make_grid([math.ceil(50 / s) for s in spacing], spacing)
    parts = [round(s / 0.5) for s in spacing]
    sizes = [n * k for n, k in zip(grid.GetSize(), parts, strict=True)]
    fine_grid = make_grid(sizes, [s / k for s, k in zip(spacing, parts, strict=True)])
    mask = ball(grid, 12, (0.4, 0.3, 1.1))
    fine = mask
    for axis, count in enumerate(reversed(parts)):
        fine = np.repeat(fine, count, axis=axis)
    for margins in (Margins.uniform(3), Margins.uniform(5)):
        true = expand(make_region(fine, fine_grid), margins, "PTV").volume_ml
        assert expand(make_region(mask, grid), margins, "PTV").volume_ml == pytest.approx(true, rel=0.1)


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


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0)])
@pytest.mark.parametrize("gap_mm", [1, 3, 4.5])
def test_no_gap_between_target_and_organ_falls_short(spacing, gap_mm):
    grid = make_grid([math.ceil(40 / s) for s in spacing], spacing)
    target, organ = np.zeros((2, *shape_of(grid)), dtype=bool)
    middle = shape_of(grid)[0] // 2
    target[:middle], organ[middle:] = True, True
    crop = crop_to_organs(make_region(target, grid, "PTV"), [make_region(organ, grid, "Cord")], gap_mm)
    empty_mm = (middle - 1 - np.flatnonzero(crop.region.array.any(axis=(1, 2))).max()) * spacing[2]
    assert gap_mm <= empty_mm < gap_mm + spacing[2]
    assert crop.cropped_ml_by_organ["Cord"] == pytest.approx(empty_mm * 1.6, rel=1e-6)


def test_crop_leaves_the_gap_and_tells_what_each_organ_took():
    grid = make_grid((40, 30, 20), (1.0, 1.0, 2.0))
    target, cord, far = (np.zeros(shape_of(grid), dtype=bool) for _ in range(3))
    target[:, 5:25, 5:20], cord[:, :, 22:26], far[:, :, 36:] = True, True, True
    crop = crop_to_organs(
        make_region(target, grid, "PTV"), [make_region(cord, grid, "Cord"), make_region(far, grid, "Lung")], 5
    )
    assert np.flatnonzero(crop.region.array.any(axis=(0, 1))).max() == 16  # 5 mm free: 17 to 21
    taken_ml = 20 * 20 * 3 * 2 / 1000
    assert crop.cropped_ml_by_organ == {"Cord": pytest.approx(taken_ml), "Lung": 0}
    assert crop.region.volume_ml == pytest.approx(target.sum() * 2 / 1000 - taken_ml)
    assert "cropped 5 mm from Cord" in crop.region.source
    assert "Lung" not in crop.region.source


def test_crop_equals_the_distance_between_boxes_on_an_oblique_grid():
    grid = make_grid((13, 13, 7), (1.2, 1.2, 2.5), (15, -10, 25))
    generator = np.random.default_rng(3)
    target, organ = generator.random(shape_of(grid)) > 0.4, generator.random(shape_of(grid)) > 0.996
    assert organ.sum() > 1
    crop = crop_to_organs(make_region(target, grid, "PTV"), [make_region(organ, grid, "Cord")], 3.0)
    points = 2 * box_points(grid, 25)  # the differences of points of two boxes fill a box of twice the size
    gaps = np.full(organ.size, np.inf)
    for centre in points_mm(grid, organ):
        for i, offset in enumerate(points_mm(grid) - centre):
            gaps[i] = min(gaps[i], np.linalg.norm(offset - points, axis=1).min())
    gaps = gaps.reshape(target.shape)
    taken = target & ~crop.region.array
    assert not (target & ~taken & (gaps < 3.0)).any()
    assert not (taken & (gaps > 3.02)).any()


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
    assert not close_mask(slices, grid, 1.4)[5].any()
    assert close_mask(slices, grid, 1.6)[5, 10, 10]


def test_closing_loses_nothing_at_the_image_border_and_is_idempotent():
    grid = make_grid((16, 16, 16))
    mask = np.random.default_rng(2).random(shape_of(grid)) > 0.7
    closed = close_mask(mask, grid, 2.0)
    assert not (mask & ~closed).any()
    assert closed.sum() > mask.sum()
    full = np.zeros(shape_of(grid), dtype=bool)
    full[:8] = True
    np.testing.assert_array_equal(close_mask(full, grid, 3.0), full)


def test_margins_in_words():
    assert describe_margins(Margins.uniform(5)) == "5 mm"
    assert "2 mm anterior" in describe_margins(Margins(5, 5, 2, 5, 5, 5))
