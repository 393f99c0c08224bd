"""Contours along pixel edges: what any centre-in-polygon reader gets back is exactly the mask."""

import time

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from scipy import ndimage

from HypoxiaDosePaintLib.dicomrt.contours import slice_contours
from HypoxiaMapperLib.errors import RequestError


def rasterise(polygons, shape):
    """Even-odd fill of pixel centres with matplotlib, an independent reader."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    filled = np.zeros(shape[0] * shape[1], dtype=bool)
    for polygon in polygons:
        filled ^= Polygon(np.vstack([polygon, polygon[:1]])).contains_points(centres)
    return filled.reshape(shape)


def area(polygon):
    x, y = polygon.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def ring(n=9):
    mask = np.zeros((n, n), bool)
    mask[1:-1, 1:-1] = True
    mask[3:-3, 3:-3] = False
    return mask


def test_one_voxel_is_a_square_of_four_points():
    mask = np.zeros((5, 7), bool)
    mask[2, 4] = True
    (square,) = slice_contours(mask)
    assert sorted(map(tuple, square)) == [(3.5, 1.5), (3.5, 2.5), (4.5, 1.5), (4.5, 2.5)]


def test_points_on_a_straight_line_are_left_out():
    mask = np.zeros((6, 6), bool)
    mask[1:5, 2:6] = True
    (polygon,) = slice_contours(mask)
    assert len(polygon) == 4


def test_pixels_that_touch_at_a_corner_are_separate():
    for mask in (np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]):
        polygons = slice_contours(mask)
        assert [len(p) for p in polygons] == [4, 4, 4]


def test_a_ring_has_one_keyhole_or_two_xor_polygons():
    mask = ring()
    (keyhole,) = slice_contours(mask)
    assert len(keyhole) == 4 + 4 + 3  # outer, hole, and the cut: its two ends again and one new point
    assert area(keyhole) == mask.sum()
    assert len(slice_contours(mask, holes="xor")) == 2


def test_the_keyhole_runs_on_pixel_edges():
    (keyhole,) = slice_contours(ring())
    assert np.all((keyhole * 2) % 2 == 1)  # every coordinate is a half-integer
    step = np.diff(np.vstack([keyhole, keyhole[:1]]), axis=0)
    assert np.all((step == 0).any(axis=1))  # axis-aligned
    assert not (step == 0).all(axis=1).any()  # no point twice in a row


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
@pytest.mark.parametrize("seed", range(60))
def test_any_mask_comes_back_exactly(seed, holes):
    """Noise, smooth blobs, full and sparse masks: many islands, nested holes and touching corners."""
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(1, 24)), int(generator.integers(1, 24)))
    field = ndimage.gaussian_filter(generator.random(shape), [0, 0.6, 1.5][seed % 3])
    mask = field > np.quantile(field, generator.random())
    polygons = slice_contours(mask, holes)
    assert np.array_equal(rasterise(polygons, shape), mask)
    assert sum(area(p) for p in polygons) == pytest.approx(mask.sum(), abs=1e-9)
    assert all(len(p) >= 4 for p in polygons)
    assert all(not np.array_equal(p[0], p[-1]) for p in polygons)
    if holes == "keyhole":
        assert all(area(p) > 0 for p in polygons)
        assert len(polygons) == ndimage.label(mask)[1]


def test_islands_in_holes_in_islands():
    mask = np.ones((15, 15), bool)
    mask[2:13, 2:13] = False
    mask[4:11, 4:11] = True
    mask[6:9, 6:9] = False
    mask[7, 7] = True
    polygons = slice_contours(mask)
    assert len(polygons) == 3
    assert np.array_equal(rasterise(polygons, mask.shape), mask)


def test_nothing_gives_nothing():
    assert slice_contours(np.zeros((4, 4), bool)) == []


def test_an_unknown_hole_style_is_refused():
    with pytest.raises(RequestError, match="keyhole"):
        slice_contours(np.ones((2, 2), bool), holes="bridge")


def test_a_large_slice_is_quick():
    """512 x 512 with a big blob, noise holes and islands: well below what a person notices (bound 20x the usual)."""
    field = ndimage.gaussian_filter(np.random.default_rng(1).random((512, 512)), 6)
    mask = field > np.median(field)
    start = time.perf_counter()
    polygons = slice_contours(mask)
    assert time.perf_counter() - start < 1.0
    assert sum(area(p) for p in polygons) == pytest.approx(mask.sum())
