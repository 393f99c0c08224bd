"""Figures of merit against published and analytic numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grid_samples import ball, make_grid, make_region, shape_of
from HypoxiaDosePaintLib.planqa import (
    dice,
    paddick,
    quality,
    quality_factor,
    quality_volume_histogram,
    quality_within,
    surface_distances,
)
from HypoxiaMapperLib.errors import GeometryError, RequestError


def empty(grid, name="empty"):
    return make_region(np.zeros(shape_of(grid)), grid, name)


@pytest.mark.parametrize(("shift", "expected"), [(1, 0.92506), (2, 0.8505), (5, 0.63281)])
def test_shifted_spheres(shift, expected):
    """VALIDATION row 26: R = 10 mm."""
    grid = make_grid((121, 101, 101), (0.25, 0.25, 0.25))
    a, b = make_region(ball(grid, 10), grid), make_region(ball(grid, 10, (shift, 0, 0)), grid)
    assert dice(a, b) == pytest.approx(expected, rel=0.01)
    assert dice(b, a) == dice(a, b)


def test_half_spaces():
    """VALIDATION row 27: 50 and 51 slices of 2 mm, pixels 1 x 1 mm; surfaces are closed at the image border."""
    grid = make_grid((100, 100, 100), (1.0, 1.0, 2.0))
    half, more = np.zeros((2, *shape_of(grid)), dtype=bool)
    half[:50], more[:51] = True, True
    a, b = make_region(half, grid), make_region(more, grid)
    assert surface_distances(a, b).surface_dice(1) == pytest.approx(0.836, abs=0.001)
    assert surface_distances(a, b).hausdorff_mm(95) == pytest.approx(2.0, abs=0.001)
    assert dice(a, b) == pytest.approx(0.990, abs=0.001)
    assert surface_distances(a, b).average_mm() == pytest.approx((0.322, 0.339), abs=0.001)
    assert surface_distances(b, a).average_mm() == pytest.approx((0.339, 0.322), abs=0.001)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_spaces_along_every_axis(axis):
    spacing = [1.0, 1.0, 1.0]
    spacing[2 - axis] = 2.0
    grid = make_grid((100, 100, 100), spacing)
    half, more = np.zeros((2, *shape_of(grid)), dtype=bool)
    np.moveaxis(half, axis, 0)[:50] = True
    np.moveaxis(more, axis, 0)[:51] = True
    both = make_region(half, grid), make_region(more, grid)
    assert surface_distances(*both).surface_dice(1) == pytest.approx(0.836, abs=0.001)


def test_empty_masks():
    """VALIDATION row 28, exact."""
    grid = make_grid((12, 12, 12))
    full, none = make_region(ball(grid, 3), grid), empty(grid)
    for a, b in ((full, none), (none, full)):
        assert dice(a, b) == 0
        assert surface_distances(a, b).hausdorff_mm(95) == math.inf
        assert surface_distances(a, b).surface_dice(5) == 0
        assert surface_distances(a, b).average_mm() == (math.inf, math.inf)
    assert math.isnan(dice(none, none))
    assert math.isnan(surface_distances(none, none).hausdorff_mm(95))
    assert math.isnan(surface_distances(none, none).surface_dice(5))
    assert all(math.isnan(d) for d in surface_distances(none, none).average_mm())


def test_a_mask_agrees_with_itself():
    grid = make_grid((25, 25, 15), (1.0, 1.2, 2.5))
    a = make_region(np.random.default_rng(0).random(shape_of(grid)) > 0.8, grid)
    assert (dice(a, a), surface_distances(a, a).surface_dice(0), surface_distances(a, a).hausdorff_mm(95)) == (1, 1, 0)


def test_distances_are_in_millimetres_and_independent_of_where_the_masks_lie():
    grid = make_grid((60, 40, 30), (1.0, 1.0, 3.0))
    a, b = np.zeros((2, *shape_of(grid)), dtype=bool)
    a[5:10, 5:10, 5:10], b[5:10, 5:10, 25:30] = True, True
    first = surface_distances(make_region(a, grid), make_region(b, grid))
    assert first.hausdorff_mm(100) == 20
    assert first.surface_dice(14.9) == 0
    moved = surface_distances(make_region(np.roll(a, 15, 0), grid), make_region(np.roll(b, 15, 0), grid))
    assert moved.average_mm() == pytest.approx(first.average_mm())


def test_surface_area_of_a_voxel_a_box_and_a_sphere():
    grid = make_grid((60, 60, 60))
    voxel, box = np.zeros((2, *shape_of(grid)), dtype=bool)
    voxel[30, 30, 30] = True
    box[10:50, 10:50, 10:50] = True
    # One voxel gives the octahedron with corners 1/2 from its centre: 8 triangles of sqrt(3)/8.
    assert surface_distances(make_region(voxel, grid), empty(grid)).a_area_mm2.sum() == pytest.approx(math.sqrt(3))
    # 6 faces of 39 x 39, 12 chamfered edges of 39 x sqrt(1/2), 8 corners of sqrt(3)/8.
    expected = 6 * 39**2 + 12 * 39 * math.sqrt(0.5) + math.sqrt(3)
    assert surface_distances(make_region(box, grid), empty(grid)).a_area_mm2.sum() == pytest.approx(expected)
    # Marching cubes on a binary sphere keeps its stairs: about 7 % above 4 pi R^2.
    sphere = surface_distances(make_region(ball(grid, 20), grid), empty(grid)).a_area_mm2.sum()
    assert 1.0 < sphere / (4 * math.pi * 400) < 1.1


def test_two_grids_are_refused():
    a = make_region(ball(make_grid((10, 10, 10)), 3), make_grid((10, 10, 10)), "a")
    b = make_region(ball(make_grid((10, 10, 10)), 3), make_grid((10, 10, 10), (1, 1, 2)), "b")
    for measure in (dice, surface_distances):
        with pytest.raises(GeometryError, match="a and b"):
            measure(a, b)


def test_paddick():
    """VALIDATION row 30."""
    assert paddick(100, 90, 80) == pytest.approx(0.7111, abs=1e-4)
    assert paddick(50, 50, 50) == 1
    for bad in ((0, 90, 0), (100, 90, 95), (100, 90, -1), (math.nan, 1, 1)):
        with pytest.raises(RequestError, match="Paddick"):
            paddick(*bad)


def test_quality_factor():
    """VALIDATION row 16."""
    q = quality([66.5, 70, 73.5, 77], [70] * 4)
    assert quality_factor(q) == pytest.approx(0.05, abs=1e-9)
    assert quality_within([0.94, 0.96, 1.04, 1.06]) == 0.5
    with pytest.raises(RequestError, match="Quality of doses"):
        quality([70, 70], [70, 0])
    with pytest.raises(RequestError, match="0 quality values"):
        quality_factor([])


def test_quality_volume_histogram_is_cumulative():
    curve = quality_volume_histogram([0.8, 0.9, 1.0, 1.1], n=1001)
    assert curve.y[0] == 1
    assert curve.y[-1] == 0
    for at, share in ((0.79, 1.0), (0.85, 0.75), (0.95, 0.5), (1.05, 0.25)):
        assert np.interp(at, curve.x, curve.y) == pytest.approx(share)
    assert quality_volume_histogram([0.0, 1.0]).y[0] == 1  # "at least": a voxel on the line counts
