"""Rigid registration recovers a known shift and turn, and its residual says how well."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError
from HypoxiaMapperLib.registration import register_rigid
from HypoxiaMapperLib.volume import Region, Volume


def _head(seed: int = 3) -> sitk.Image:
    """A blob phantom without symmetry, 3 mm voxels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) * 3.0 for n in (40, 48, 48)), indexing="ij")
    array = np.zeros(x.shape, dtype=np.float32)
    for _ in range(12):
        cx, cy, cz = rng.uniform(35, 105), rng.uniform(35, 105), rng.uniform(30, 90)
        r2 = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        array += rng.uniform(20, 100) * np.exp(-r2 / (2 * rng.uniform(6, 14) ** 2))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((3.0, 3.0, 3.0))
    image.SetOrigin((-70.0, -70.0, -60.0))
    return image


def _case():
    fixed = _head()
    true = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.05, -0.03, 0.08, (7.0, -5.0, 4.0))
    moving = sitk.Resample(fixed, fixed, true.GetInverse(), sitk.sitkLinear, 0.0)
    mask = np.zeros((40, 48, 48), dtype=np.uint8)
    mask[15:25, 18:30, 18:30] = 1
    region_mask = sitk.GetImageFromArray(mask)
    region_mask.CopyInformation(fixed)
    planning = Volume(fixed, "CT number", "[hnsf'U]", "1.2")
    pet = Volume(-1.0 * moving + 200.0, "SUVbw", "g/ml", "1.3")  # inverted contrast: another modality
    return planning, pet, Region("GTV", region_mask), true


def test_known_transform_is_recovered_and_residual_is_honest():
    planning, pet, region, true = _case()
    found = register_rigid(planning, pet, region)
    points = [(0.0, 0.0, 0.0), (15.0, 10.0, -10.0), (-15.0, 5.0, 12.0)]
    errors = [np.linalg.norm(np.subtract(found.transform.TransformPoint(p), true.TransformPoint(p))) for p in points]
    assert max(errors) < 1.0
    assert found.residual["inverse_consistency_max_mm"] < 2.0
    assert found.residual["mutual_information_after"] > found.residual["mutual_information_before"]
    assert found.residual["shift_at_target_mm"] == pytest.approx(np.linalg.norm((7, -5, 4)), abs=3.0)


def test_same_input_same_transform():
    planning, pet, region, _ = _case()
    first, second = (register_rigid(planning, pet, region).transform.GetParameters() for _ in range(2))
    assert first == second


def test_empty_region_is_refused():
    planning, pet, region, _ = _case()
    with pytest.raises(GeometryError, match="empty"):
        register_rigid(planning, pet, region.with_array(np.zeros((40, 48, 48)), "test"))
