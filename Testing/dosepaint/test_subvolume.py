"""The hypoxic subvolume: what is in, what is out, and that everything left out is told."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from grid_samples import ball, make_grid, make_map, make_region, shape_of
from HypoxiaDosePaintLib.request import SubvolumeOptions
from HypoxiaDosePaintLib.subvolume import find_subvolume, map_histogram, volume_by_threshold
from HypoxiaMapperLib.errors import GeometryError, LimitError, RequestError

OPTIONS = SubvolumeOptions(minimum_component_ml=0.0)


@pytest.fixture
def grid():
    return make_grid((40, 30, 20), (1.0, 1.5, 2.0))


@pytest.fixture
def gtv(grid):
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[2:18, 4:26, 5:35] = True
    return make_region(mask, grid)


def block(grid, z, y, x, value=2.0, background=1.0):
    values = np.full(shape_of(grid), background, dtype=np.float32)
    values[slice(*z), slice(*y), slice(*x)] = value
    return values


def test_volume_fraction_and_findings(grid, gtv):
    values = block(grid, (4, 10), (8, 18), (10, 20))
    found = find_subvolume(make_map(values, grid), [gtv], OPTIONS)
    assert found.hypoxic_volume_ml == pytest.approx(6 * 10 * 10 * 3 / 1000)
    assert found.hypoxic_fraction == pytest.approx(600 / (16 * 22 * 30))
    np.testing.assert_array_equal(found.region.array, values > 1.4)
    assert found.per_gtv[0].name == "GTVp_Hyp"
    finding = found.findings[0]
    assert (finding.gtv, finding.map_maximum) == ("GTVp", 2.0)
    assert finding.gtv_volume_ml == pytest.approx(gtv.volume_ml)
    assert finding.map_mean == pytest.approx(1 + found.hypoxic_fraction)
    assert (found.threshold, found.comparison, found.threshold_source) == (1.4, ">", "test protocol")
    assert (found.dropped, found.warnings) == ((), ())


@pytest.mark.parametrize(("comparison", "voxels"), [(">", 1), (">=", 2)])
def test_the_threshold_itself_belongs_to_at_least_only(grid, gtv, comparison, voxels):
    values = np.ones(shape_of(grid))
    values[10, 10, 10], values[10, 10, 11] = 1.5, 1.75
    found = find_subvolume(make_map(values, grid, 1.5, comparison), [gtv], OPTIONS)
    assert found.region.array.sum() == voxels


def test_a_quantity_that_falls_with_hypoxia(grid, gtv):
    values = block(grid, (4, 10), (8, 18), (10, 20), value=4.0, background=40.0)
    found = find_subvolume(make_map(values, grid, 10.0, "<"), [gtv], OPTIONS)
    assert found.region.array.sum() == 600
    with pytest.raises(RequestError, match="well-oxygenated"):
        find_subvolume(make_map(values, grid, 10.0, "<"), [gtv], replace(OPTIONS, comparison=">"))
    with pytest.raises(LimitError, match=r"minimum there is 4"):
        find_subvolume(make_map(values, grid, 2.0, "<"), [gtv], OPTIONS)


def test_hypoxia_outside_the_gtv_is_not_a_target(grid, gtv):
    values = block(grid, (0, 20), (0, 30), (0, 10))
    found = find_subvolume(make_map(values, grid), [gtv], OPTIONS)
    np.testing.assert_array_equal(found.region.array, (values > 1.4) & gtv.array)


def test_undefined_voxels_are_never_hypoxic_and_are_told(grid, gtv):
    values = block(grid, (4, 10), (8, 18), (10, 20))
    values[5, 9:12, 12:14] = np.nan
    values[6, 9, 12] = np.inf
    found = find_subvolume(make_map(values, grid), [gtv], replace(OPTIONS, closing_mm=4.0))
    assert found.hypoxic_volume_ml == pytest.approx((600 - 7) * 0.003)
    told = next(w for w in found.warnings if f"{7 * 0.003:.2f} ml of GTVp have no map value" in w)
    assert f"of this imaged part is {593 / 10553:.1%}, of the whole GTV {593 / 10560:.1%}" in told
    assert "limit" not in told
    assert found.findings[0].map_maximum == 2.0


def test_small_islands_are_dropped_and_every_one_is_listed(grid, gtv):
    values = block(grid, (4, 10), (8, 18), (10, 20))
    values[14, 20, 30:33] = 3.0  # 3 voxels, 0.009 ml
    values[14, 6, 7] = 3.0  # 1 voxel
    found = find_subvolume(make_map(values, grid), [gtv], replace(OPTIONS, minimum_component_ml=0.5))
    assert found.hypoxic_volume_ml == pytest.approx(1.8)
    assert [d.volume_ml for d in found.dropped] == pytest.approx([0.009, 0.003])
    assert found.dropped[0].centre_mm == pytest.approx(grid.TransformIndexToPhysicalPoint((31, 20, 14)))
    assert {d.structure for d in found.dropped} == {"GTVp"}
    assert "0.5 ml" in found.dropped[0].reason
    assert any("2 islands below" in w and "0.01 ml" in w for w in found.warnings)
    above = (make_map(values, grid).volume.array > 1.4) & gtv.array
    assert found.hypoxic_volume_ml + sum(d.volume_ml for d in found.dropped) == pytest.approx(above.sum() * 0.003)


def test_an_island_of_exactly_the_minimum_stays(grid, gtv):
    values = block(grid, (4, 9), (8, 18), (10, 20))  # 500 voxels of 0.003 ml
    assert find_subvolume(make_map(values, grid), [gtv], replace(OPTIONS, minimum_component_ml=1.5)).dropped == ()
    told = r"All 1 islands beyond the threshold are below the minimum of 1\.501 ml; the largest has 1\.500"
    with pytest.raises(LimitError, match=told):
        find_subvolume(make_map(values, grid), [gtv], replace(OPTIONS, minimum_component_ml=1.501))


def test_islands_that_touch_at_a_corner_are_one(grid, gtv):
    values = block(grid, (4, 6), (8, 10), (10, 12))
    values[6:8, 10:12, 12:14] = 2.0
    options = replace(OPTIONS, minimum_component_ml=0.04)  # each of the two has 0.024 ml
    assert find_subvolume(make_map(values, grid), [gtv], options).region.array.sum() == 16


def test_holes_are_kept_and_told(grid, gtv):
    values = block(grid, (4, 12), (8, 18), (10, 20))
    values[7:9, 12:14, 14:16] = 0.5
    found = find_subvolume(make_map(values, grid), [gtv], OPTIONS)
    assert not found.region.array[7, 12, 14]
    assert any(f"encloses {8 * 0.003:.2f} ml" in w and "necrosis" in w for w in found.warnings)


def test_closing_stays_in_the_gtv_and_tells_what_it_added(grid):
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[4:10, 8:18, 10:21] = True
    mask[6, 12, 15] = False  # e.g. an airway inside: not GTV
    values = block(grid, (4, 10), (8, 18), (10, 20))
    values[:, :, 14:17] = 1.0
    found = find_subvolume(
        make_map(values, grid), [make_region(mask, grid)], replace(OPTIONS, closing_mm=3.0), "Dr A: test"
    )
    assert found.region.array[7, 12, 15]
    assert not (found.region.array & ~mask).any()
    added = found.region.array.sum() - ((values > 1.4) & mask).sum()
    assert added > 100
    assert any(f"Closing by 3 mm added {added * 0.003:.2f} ml" in w for w in found.warnings)


def test_too_large_a_hypoxic_volume_needs_an_override(grid, gtv):
    hypoxia_map = make_map(np.full(shape_of(grid), 2.0), grid)
    options = SubvolumeOptions(maximum_fraction_of_gtv=0.8)
    with pytest.raises(LimitError, match=r"100\.0% of GTVp, above the limit of 80\.0%"):
        find_subvolume(hypoxia_map, [gtv], options)
    with pytest.raises(LimitError):
        find_subvolume(hypoxia_map, [gtv], options, "  ")
    found = find_subvolume(hypoxia_map, [gtv], options, override_volume="Dr A: salvage")
    assert any("above the limit of 80.0%. Overridden by Dr A: salvage" in w for w in found.warnings)
    with pytest.raises(LimitError, match="volume name: reason"):
        find_subvolume(hypoxia_map, [gtv], options, override_coverage="Dr A: another limit")


def test_raising_the_limit_of_the_fraction_needs_a_name_too(grid, gtv):
    hypoxia_map = make_map(block(grid, (2, 18), (4, 26), (5, 32)), grid)  # 90 % of the GTV
    raised = replace(OPTIONS, maximum_fraction_of_gtv=1.0)
    with pytest.raises(LimitError, match=r"raised to 100\.0%, above 80\.0%; the subvolume is 90\.0% of GTVp"):
        find_subvolume(hypoxia_map, [gtv], raised)
    found = find_subvolume(hypoxia_map, [gtv], raised, "Dr A: salvage")
    assert any("90.0% of GTVp, above the limit of 80.0%. Overridden by Dr A: salvage" in w for w in found.warnings)
    with pytest.raises(LimitError, match=r"90\.0% of GTVp, above the limit of 85\.0%|raised to 85\.0%"):
        find_subvolume(hypoxia_map, [gtv], replace(OPTIONS, maximum_fraction_of_gtv=0.85))
    with pytest.raises(LimitError, match=r"above the limit of 50\.0%"):
        find_subvolume(hypoxia_map, [gtv], replace(OPTIONS, maximum_fraction_of_gtv=0.5))


@pytest.mark.parametrize(("slices", "refused"), [(1, False), (2, True), (12, True)])
def test_a_gtv_mostly_outside_the_map_is_refused(grid, gtv, slices, refused):
    values = block(grid, (14, 18), (8, 18), (10, 20))
    values[2 : 2 + slices] = np.nan  # of 16 slices of the GTV
    hypoxia_map = make_map(values, grid)
    if not refused:
        assert any("(93.8%) of GTVp" in w for w in find_subvolume(hypoxia_map, [gtv], OPTIONS).warnings)
        return
    imaged_ml, part = (16 - slices) * 22 * 30 * 0.003, 1 - slices / 16
    told = rf"covers {imaged_ml:.2f} ml of 31\.68 ml \({part:.1%}\) of GTVp, below the limit of 90%"
    for other in ({}, {"override_volume": "Dr A: another limit"}, {"override_coverage": " "}):
        with pytest.raises(LimitError, match=told):
            find_subvolume(hypoxia_map, [gtv], OPTIONS, **other)
    found = find_subvolume(hypoxia_map, [gtv], OPTIONS, override_coverage="Dr A: palliative")
    warning = next(w for w in found.warnings if "Overridden by Dr A: palliative" in w)
    assert f"fraction of this imaged part is {400 / (10560 * part):.1%}" in warning


def test_each_gtv_must_be_imaged_not_only_their_sum(grid, gtv):
    node = np.zeros(shape_of(grid), dtype=bool)
    node[18:20, 4:8, 5:9] = True
    values = block(grid, (14, 18), (8, 18), (10, 20))
    values[19] = np.nan
    with pytest.raises(LimitError, match=r"\(50\.0%\) of GTVn"):
        find_subvolume(make_map(values, grid), [gtv, make_region(node, grid, "GTVn")], OPTIONS)


def test_hypoxic_parts_of_long_names_stay_apart(grid, gtv):
    names = ["GTV_node_left_1", "GTV_node_left_2"]
    gtvs = [make_region(gtv.array, grid, name) for name in names]
    hypoxia_map = make_map(block(grid, (4, 10), (8, 18), (10, 20)), grid)
    found = find_subvolume(hypoxia_map, gtvs, OPTIONS)
    assert [r.name for r in found.per_gtv] == ["GTV_node_l_1_Hyp", "GTV_node_l_2_Hyp"]
    with pytest.raises(RequestError, match="Several GTVs are called GTVp"):
        find_subvolume(hypoxia_map, [gtv, gtv], OPTIONS)


def test_overlapping_gtvs_count_once_in_totals(grid):
    first, second = np.zeros((2, *shape_of(grid)), dtype=bool)
    first[4:12, 5:20, 5:20], second[4:12, 5:20, 15:30] = True, True
    values = block(grid, (6, 10), (8, 16), (12, 24))
    gtvs = [make_region(first, grid, "GTVp"), make_region(second, grid, "GTVn")]
    found = find_subvolume(make_map(values, grid), gtvs, OPTIONS)
    assert found.hypoxic_volume_ml == pytest.approx(4 * 8 * 12 * 0.003)
    assert found.hypoxic_fraction == pytest.approx(4 * 8 * 12 / (8 * 15 * 25))
    assert [f.hypoxic_volume_ml for f in found.findings] == pytest.approx([4 * 8 * 8 * 0.003, 4 * 8 * 9 * 0.003])
    assert [r.name for r in found.per_gtv] == ["GTVp_Hyp", "GTVn_Hyp"]
    np.testing.assert_array_equal(found.per_gtv[0].array | found.per_gtv[1].array, found.region.array)
    assert any(f"overlap by {8 * 15 * 5 * 0.003:.2f} ml" in w for w in found.warnings)


def test_a_gtv_without_hypoxia_has_an_empty_part(grid):
    first, second = np.zeros((2, *shape_of(grid)), dtype=bool)
    first[4:12, 5:20, 5:15], second[4:12, 5:20, 20:30] = True, True
    gtvs = [make_region(first, grid, "GTVp"), make_region(second, grid, "GTVn")]
    found = find_subvolume(make_map(block(grid, (4, 12), (5, 20), (5, 10)), grid), gtvs, OPTIONS)
    assert not found.per_gtv[1].array.any()
    assert found.findings[1].hypoxic_fraction == 0


def test_a_dropped_island_is_named_after_its_gtv(grid):
    first, second = np.zeros((2, *shape_of(grid)), dtype=bool)
    first[4:12, 5:20, 5:15], second[4:12, 5:20, 20:30] = True, True
    values = block(grid, (4, 12), (5, 20), (5, 10))
    values[8, 10, 25] = 2.0
    gtvs = [make_region(first, grid, "GTVp"), make_region(second, grid, "GTVn")]
    found = find_subvolume(make_map(values, grid), gtvs, replace(OPTIONS, minimum_component_ml=0.5))
    assert [d.structure for d in found.dropped] == ["GTVn"]


def test_a_surrogate_is_never_named_hypoxia(grid, gtv):
    hypoxia_map = replace(make_map(block(grid, (4, 10), (8, 18), (10, 20)), grid), surrogate=True)
    found = find_subvolume(hypoxia_map, [gtv], OPTIONS)
    assert (found.region.name, found.per_gtv[0].name) == ("GTVp_Sur", "GTVp_Sur")


def test_the_users_threshold_is_named_as_such(grid, gtv):
    hypoxia_map = make_map(block(grid, (4, 10), (8, 18), (10, 20), value=1.3), grid)
    found = find_subvolume(hypoxia_map, [gtv], replace(OPTIONS, threshold=1.2))
    assert found.threshold == 1.2
    assert found.threshold_source.startswith("set by the user")
    assert "> 1.4 (test protocol)" in found.warnings[0]
    same = find_subvolume(make_map(hypoxia_map.volume.array, grid, 1.2), [gtv], replace(OPTIONS, threshold=1.2))
    assert (same.threshold_source, same.warnings) == ("test protocol", ())
    with pytest.raises(RequestError, match="no threshold"):
        find_subvolume(make_map(hypoxia_map.volume.array, grid, math.nan), [gtv], OPTIONS)


def test_nothing_above_the_threshold_tells_the_maximum(grid, gtv):
    with pytest.raises(LimitError, match=r"No voxel of GTVp is > 1\.4 \{ratio\}: the map's maximum there is 1\.25"):
        find_subvolume(make_map(np.full(shape_of(grid), 1.25), grid), [gtv], OPTIONS)


def test_inputs_that_do_not_fit_are_refused(grid, gtv):
    hypoxia_map = make_map(block(grid, (4, 10), (8, 18), (10, 20)), grid)
    with pytest.raises(RequestError, match="No GTV"):
        find_subvolume(hypoxia_map, [], OPTIONS)
    empty = make_region(np.zeros(shape_of(grid)), grid, "GTVn")
    with pytest.raises(LimitError, match="GTVn is empty"):
        find_subvolume(hypoxia_map, [gtv, empty], OPTIONS)
    other = make_grid((40, 30, 20), (1.0, 1.5, 2.0), origin_mm=(0, 0, 0))
    with pytest.raises(GeometryError, match="Map and GTVp: grids differ"):
        find_subvolume(hypoxia_map, [make_region(gtv.array, other)], OPTIONS)
    with pytest.raises(GeometryError, match="frames of reference"):
        find_subvolume(hypoxia_map, [replace(gtv, frame_of_reference_uid="1.2.3")], OPTIONS)
    nowhere = make_map(np.where(gtv.array, np.nan, 2.0), grid)
    with pytest.raises(LimitError, match="no value anywhere in GTVp"):
        find_subvolume(nowhere, [gtv], OPTIONS)


def test_a_sphere_is_found_within_its_volume():
    grid = make_grid((60, 60, 30), (1.0, 1.0, 2.0))
    values = np.where(ball(grid, 15), 2.0, 1.0)
    found = find_subvolume(make_map(values, grid), [make_region(ball(grid, 25), grid)], SubvolumeOptions())
    assert found.hypoxic_volume_ml == pytest.approx(4 / 3 * math.pi * 1.5**3, rel=0.01)
    assert found.hypoxic_fraction == pytest.approx(0.6**3, rel=0.01)


def test_a_planning_ct_is_cut_in_seconds_and_put_back_in_place():
    grid = make_grid((512, 512, 100), (0.98, 0.98, 3.0))
    gtv, values = np.zeros(shape_of(grid), dtype=bool), np.ones(shape_of(grid), dtype=np.float32)
    gtv[40:70, 220:300, 210:280] = True
    values[60:75, 290:320, 200:230] = 2.0
    values[45, 230, 230] = 2.0
    start = time.perf_counter()
    found = find_subvolume(make_map(values, grid), [make_region(gtv, grid)], SubvolumeOptions(closing_mm=3.0))
    assert time.perf_counter() - start < 10
    expected = np.zeros_like(gtv)
    expected[60:70, 290:300, 210:230] = True
    np.testing.assert_array_equal(found.region.array, expected)
    assert found.dropped[0].centre_mm == pytest.approx(grid.TransformIndexToPhysicalPoint((230, 230, 45)))


@pytest.mark.parametrize("comparison", [">", ">=", "<", "<="])
def test_volume_by_threshold_counts_exactly(grid, gtv, comparison):
    values = np.round(np.random.default_rng(4).random(shape_of(grid)) * 8) / 8  # ties, and thresholds that hit them
    values[3, 5, 6] = np.nan
    curve = volume_by_threshold(make_map(values, grid, 0.5, comparison), [gtv], n=17)
    rule = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[comparison]
    expected = [rule(values[gtv.array], t).sum() * 0.003 for t in curve.x]
    assert curve.y == pytest.approx(expected)
    assert (curve.x[0], curve.x[-1], len(curve.x)) == (0.0, 1.0, 17)


def test_histogram_holds_every_defined_voxel(grid, gtv):
    values = np.random.default_rng(4).random(shape_of(grid))
    values[3, 5, 6] = np.nan
    curve = map_histogram(make_map(values, grid), [gtv, gtv], bins=20)
    assert sum(curve.y) == pytest.approx((gtv.array.sum() - 1) * 0.003)
    assert len(curve.x) == 20
    assert "{ratio}" in curve.x_label
