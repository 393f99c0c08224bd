"""From hypoxic volume to planning targets: names, margins as achieved, and every millilitre that a crop takes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from grid_samples import make_grid, make_map, make_region, shape_of
from HypoxiaDosePaintLib.pipeline import compute
from HypoxiaDosePaintLib.prescription import make_prescription
from HypoxiaDosePaintLib.request import Margins, Request, Sphere, SubvolumeOptions
from HypoxiaDosePaintLib.structures import tumour_names
from HypoxiaDosePaintLib.subvolume import find_subvolume
from HypoxiaDosePaintLib.targets import build_targets
from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.names import MAX_NAME_LENGTH, unique_names
from HypoxiaMapperLib.volume import Volume

PRESCRIPTION = make_prescription("test", 70, 77, 35)
SIZE, SPACING = (40, 40, 16), (1.0, 1.0, 3.27)


@pytest.fixture(scope="module")
def grid():
    return make_grid(SIZE, SPACING)


def box(grid, z, y, x, name="GTVp"):
    mask = np.zeros(shape_of(grid), dtype=bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return make_region(mask, grid, name)


def targets(grid, gtvs, organs=(), gap_mm=3.0, margins=(5.0, 3.0), reference=None, air=None):
    """Targets of a hypoxic block in the middle of the first GTV."""
    values = np.ones(shape_of(grid), dtype=np.float32)
    values[6:10, 15:25, 15:25] = 2.0
    hypoxia_map = make_map(values, grid)
    subvolume = find_subvolume(hypoxia_map, gtvs, SubvolumeOptions())
    base, boost = (Margins.uniform(m) for m in margins)
    planning = Volume(hypoxia_map.volume.image, "CT number", "[hnsf'U]")
    if air is not None:
        planning = planning.with_array(np.where(air, -1000.0, 40.0).astype(np.float32), "airway")
    return build_targets(gtvs, subvolume, reference, organs, gap_mm, PRESCRIPTION, base, boost, planning, False)


def test_a_margin_the_grid_cannot_hold_is_told_with_what_it_comes_to(grid):
    found = targets(grid, [box(grid, (4, 12), (10, 30), (10, 30))])
    told = [w for w in found.warnings if "rounded to whole voxels" in w]
    rounded = "is rounded to whole voxels (1 x 1 x 3.27 mm) and comes to"
    assert told == [
        f"PTV_7000: the margin of 5 mm {rounded} 6.54 mm superior, inferior.",
        f"PTV_7700: the margin of 3 mm {rounded} 3.27 mm superior, inferior.",
    ]
    rows = {row.name: row for row in found.rows}
    achieved = "margin achieved on this grid: 3 mm left, right, anterior, posterior; 3.27 mm superior, inferior"
    assert achieved in rows["PTV_7700"].description
    boost = next(s.region.array for s in found.structures if s.name == "PTV_7700")
    assert np.flatnonzero(boost.any(axis=(1, 2))).tolist() == list(range(5, 11))


def test_a_margin_that_fits_the_grid_is_stated_without_a_warning():
    fine = make_grid((40, 40, 16), (1.0, 1.0, 1.5))
    found = targets(fine, [box(fine, (4, 12), (10, 30), (10, 30))], margins=(6.0, 3.0))
    assert not any("rounded" in w for w in found.warnings)
    assert "margin achieved on this grid: 3 mm" in next(r for r in found.rows if r.name == "PTV_7700").description


def test_tumour_and_hypoxic_volume_taken_by_a_crop_are_told(grid):
    gtv = box(grid, (4, 12), (10, 30), (10, 30))
    cord = box(grid, (0, 16), (0, 40), (22, 40), "SpinalCord")
    found = targets(grid, [gtv], [cord], gap_mm=2.0)  # 20 is the first column that goes: 22 - 2
    voxel_ml = 3.27 / 1000
    lost_gtv, lost_hypoxic = 8 * 20 * 10 * voxel_ml, 4 * 10 * 5 * voxel_ml
    assert any(f"{lost_gtv:.2f} ml of the GTV lie outside PTV_7000" in w for w in found.warnings)
    assert any(f"{lost_hypoxic:.2f} ml of the hypoxic volume lie outside PTV_7700" in w for w in found.warnings)
    free = targets(grid, [gtv], [box(grid, (0, 16), (0, 3), (0, 3), "SpinalCord")])
    assert not any("lie outside PTV" in w for w in free.warnings)


def test_air_in_either_target_is_told(grid):
    gtv = box(grid, (4, 12), (10, 30), (10, 30))
    air = np.zeros(shape_of(grid), dtype=bool)
    air[6:10, 15:25, 33] = True  # in the margin of the base target alone
    found = targets(grid, [gtv], air=air)
    assert (
        f"{4 * 10 * 3.27 / 1000:.2f} ml of PTV_7000 lie in air (below -300 HU) and were not cut off." in found.warnings
    )
    air[6, 15:25, 15:25] = True
    assert any(
        " ml of PTV_7000 and 0.33 ml of PTV_7700 lie in air" in w for w in targets(grid, [gtv], air=air).warnings
    )


def test_an_organ_on_the_next_slice_is_kept_clear_of():
    thick = make_grid((40, 40, 16), (1.0, 1.0, 5.0))
    found = targets(thick, [box(thick, (4, 12), (10, 30), (10, 30))], [box(thick, (14, 16), (0, 40), (0, 40), "Lens")])
    base = next(s.region.array for s in found.structures if s.name == "PTV_7000")
    assert np.flatnonzero(base.any(axis=(1, 2))).max() == 12  # its margin, a slice clear of the organ
    near = targets(thick, [box(thick, (4, 12), (10, 30), (10, 30))], [box(thick, (13, 16), (0, 40), (0, 40), "Lens")])
    assert next(r.cropped_ml for r in near.rows if r.name == "PTV_7000") > 0


def test_long_gtv_names_end_up_different_and_the_same_everywhere(grid):
    gtvs = [box(grid, (5, 11), (n, 28), (n, 28), f"GTV_node_left_{n - 9}") for n in (10, 11)]
    found = targets(grid, gtvs, reference=box(grid, (0, 2), (0, 9), (0, 9), "GTV node left 1"))
    assert [s.name for s in found.structures] == [
        "GTV_node_left_1", "GTV_node_l_1_Hyp", "GTV_node_left_2", "GTV_node_l_2_Hyp", "GTV_node_left__2", "PTV_7000",
        "PTV_7700",
    ]  # fmt: skip
    assert found.structures[3].enclosed_by == "GTV_node_left_2"
    assert "part of GTV_node_left_2" in found.structures[3].description


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("GTVp", "GTVn"), [("GTVp", "GTVp_Hyp"), ("GTVn", "GTVn_Hyp")]),
        (("GTV 1", "GTV_1"), [("GTV_1", "GTV_1_Hyp"), ("GTV_1_2", "GTV_1_2_Hyp")]),
        (("GTVp", "GTVp_Hyp"), [("GTVp", "GTVp_2_Hyp"), ("GTVp_Hyp", "GTVp_Hyp_Hyp")]),
        (("gtvp", "GTVp"), [("gtvp", "gtvp_Hyp"), ("GTVp_2", "GTVp_2_Hyp")]),
    ],
)
def test_names_of_tumours(names, expected):
    assert tumour_names(names) == expected
    assert tumour_names(names) == tumour_names(list(names))


def test_many_names_of_one_beginning_all_differ():
    alphabet = ["".join(c) for c in itertools.product("ab_1 ", repeat=3)]
    names = [f"GTV_lymph_node_{end}" for end in alphabet]
    names = sorted({n.strip() for n in names})
    found = [name for pair in tumour_names(names, surrogate=True) for name in pair]
    assert len({n.casefold() for n in found}) == len(found) == 2 * len(names)
    assert all(1 <= len(n) <= MAX_NAME_LENGTH for n in found)
    assert all(hypoxic.endswith("_Sur") for hypoxic in found[1::2])


def test_only_equal_names_of_the_user_are_refused():
    with pytest.raises(RequestError, match="Several GTVs are called GTVn"):
        tumour_names(["GTVn", "GTVp", "GTVn"])
    assert unique_names(["Ref"], taken=["REF"]) == ["Ref_2"]


def test_no_reference_region_is_exported_where_no_ratio_was_formed(hypoxia_data, tmp_path):
    folder = hypoxia_data("ibsi_sts_008/dicom")
    request = Request(str(folder), str(tmp_path / "out"), "fdg_surrogate", "welz_77_70_35", gtv_rois=("GTV_Mass_CT",))
    plain = compute(request).result
    middle = plain.images.planning.image.TransformContinuousIndexToPhysicalPoint(
        [n / 2 for n in plain.images.planning.image.GetSize()]
    )
    stated = compute(replace(request, reference_sphere=Sphere(tuple(middle), 8.0))).result
    assert [t.name for t in stated.targets] == [t.name for t in plain.targets]
    assert not any(s.interpreted_type == "CONTROL" for s in stated.images.structures)
