"""Common grid: exact where it can be, refused where it must be, and the interpolator is stated."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.resample import resample_region, resample_to, sphere_region
from HypoxiaMapperLib.volume import Region, Volume, same_grid


def _grid(size, spacing, origin, direction=None) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image


def _ramp(size, spacing, origin) -> Volume:
    """Voxel value = x + 2 y + 3 z in LPS mm: linear interpolation is exact."""
    image = _grid(size, spacing, origin)
    z, y, x = np.meshgrid(*(origin[a] + spacing[a] * np.arange(size[a]) for a in (2, 1, 0)), indexing="ij")
    array = (x + 2 * y + 3 * z).astype(np.float32)
    out = sitk.GetImageFromArray(array)
    out.CopyInformation(image)
    return Volume(out, "SUVbw", "g/ml", "1.2.3")


OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["axial", "oblique"])
def test_linear_resampling_of_a_ramp_is_exact(direction):
    pet = _ramp((40, 40, 20), (4.0, 4.0, 5.0), (-80.0, -80.0, -50.0))
    grid = _grid((21, 17, 9), (1.5, 2.0, 3.0), (-10.0, -12.0, -9.0), direction)
    out = resample_to(pet, grid, "1.2.3")
    for index in ((0, 0, 0), (20, 16, 8), (3, 11, 5)):
        x, y, z = grid.TransformIndexToPhysicalPoint(index)
        assert out.image[index] == pytest.approx(x + 2 * y + 3 * z, abs=1e-3)
    assert "linear interpolation" in out.operations[-1]
    assert same_grid(out.image, grid)


def test_outside_the_field_of_view_is_undefined_not_zero():
    pet = _ramp((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    out = resample_to(pet, _grid((20, 20, 20), (2.0, 2.0, 2.0), (-10.0, -10.0, -10.0)), "1.2.3")
    assert np.isnan(out.array[0, 0, 0])
    assert np.isfinite(out.array[10, 10, 10])


def test_transform_maps_planning_points_to_moving_points():
    pet = _ramp((40, 40, 40), (2.0, 2.0, 2.0), (-40.0, -40.0, -40.0))
    shift = sitk.TranslationTransform(3, (6.0, -4.0, 2.0))
    grid = _grid((5, 5, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    out = resample_to(pet, grid, "9.9.9", shift, transform_text="test shift")
    assert out.image[0, 0, 0] == pytest.approx(6.0 + 2 * -4.0 + 3 * 2.0, abs=1e-4)
    assert out.frame_of_reference_uid == "9.9.9"
    assert "test shift" in out.operations[-1]


@pytest.mark.parametrize("frame", ["9.9.9", ""])
def test_other_or_missing_frame_without_registration_is_refused(frame):
    pet = _ramp((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="frame of reference"):
        resample_to(pet, _grid((5, 5, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), frame)


def test_no_overlap_is_refused():
    pet = _ramp((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="does not overlap"):
        resample_to(pet, _grid((5, 5, 5), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0)), "1.2.3")
    with pytest.raises(InputError, match="holds no finite value"):
        resample_to(pet.with_array(np.full_like(pet.array, np.nan), "lost"), _grid((5, 5, 5), (1.0,) * 3, (0.0,) * 3),
                    "1.2.3")  # fmt: skip


def test_region_resampling_says_so_and_keeps_volume():
    fine = _grid((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, -30.0))
    ball = sphere_region(fine, (0.0, 0.0, 0.0), 20.0, "ball", "1.2.3")
    assert ball.volume_ml == pytest.approx(33.510, rel=0.02)
    other = resample_region(ball, _grid((50, 50, 30), (1.3, 1.3, 2.1), (-32.0, -32.0, -31.0)))
    assert other.volume_ml == pytest.approx(33.510, rel=0.03)
    assert "nearest neighbour" in other.source
    assert resample_region(ball, fine) is ball


def test_sphere_is_placed_in_lps_on_an_oblique_grid():
    grid = _grid((40, 40, 40), (1.0, 1.0, 1.0), (10.0, -5.0, 3.0), OBLIQUE)
    centre = grid.TransformContinuousIndexToPhysicalPoint((20.0, 15.0, 10.0))
    ball = sphere_region(grid, centre, 4.0, "ball", "1.2.3")
    where = np.argwhere(ball.array).mean(axis=0)
    assert where == pytest.approx([10.0, 15.0, 20.0], abs=1e-9)


def test_sphere_outside_or_without_voxel_is_refused():
    grid = _grid((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="leaves the image"):
        sphere_region(grid, (0.0, 0.0, 0.0), 5.0, "ball", "1.2.3")
    with pytest.raises(GeometryError, match="no voxel"):
        sphere_region(grid, (9.0, 9.0, 9.0), 0.1, "ball", "1.2.3")


def test_volume_without_unit_and_region_algebra():
    with pytest.raises(RequestError, match="unit"):
        Volume(_grid((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), "SUVbw", "")
    with pytest.raises(GeometryError, match="components"):
        Volume(sitk.Image((2, 2, 2), sitk.sitkVectorFloat32, 3), "SUVbw", "g/ml")
    region = Region("a", sitk.Image((4, 4, 4), sitk.sitkUInt8))
    with pytest.raises(GeometryError, match="shape"):
        region.with_array(np.zeros((3, 4, 4)), "test")
