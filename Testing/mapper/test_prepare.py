"""Images to the network's grid and back: places in millimetres, values in their unit, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.inference.channels import CHANNELS, KEYS, N_INPUTS
from HypoxiaMapperLib.inference.prepare import back_to, prepare, sample
from HypoxiaMapperLib.volume import Region, Volume

BLOB_MM = np.array([12.0, -31.0, 47.0])
GTV_CENTRE_MM = np.array([8.0, -28.0, 50.0])
QUANTITY = {channel.key: (channel.quantity, channel.unit) for channel in CHANNELS}
TYPICAL = {"fdg": 8.0, "hypoxia_pet": 1.4, "ct": 40.0, "t1": 700.0, "adc": 1.1e-3, "ktrans": 0.3, "r2star": 30.0}
C, S = np.cos(np.radians(25)), np.sin(np.radians(25))
DIRECTIONS = {
    "along LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "flipped": (-1, 0, 0, 0, 1, 0, 0, 0, -1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0),
    "oblique": (C, 0, S, 0, 1, 0, -S, 0, C),
}


def blank_grid(spacing=(2.0, 2.0, 2.0), direction=DIRECTIONS["along LPS"], extent_mm=120.0) -> sitk.Image:
    """A grid of about ``extent_mm`` around the GTV's centre."""
    size = [round(extent_mm / s) for s in spacing]
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection([float(d) for d in direction])
    middle = np.array(direction, float).reshape(3, 3) @ ((np.array(size) - 1) / 2 * np.array(spacing))
    image.SetOrigin([float(v) for v in GTV_CENTRE_MM - middle])
    return image


def positions_mm(image: sitk.Image) -> np.ndarray:
    """LPS position of every voxel, shape (z, y, x, 3)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in reversed(image.GetSize())], indexing="ij"), -1)[..., ::-1]
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return index @ axes.T + np.array(image.GetOrigin())


def filled(grid: sitk.Image, values: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.CopyInformation(grid)
    return image


def blob(grid: sitk.Image) -> np.ndarray:
    """A Gaussian hill of 6 mm width and height 10 on a floor of 2."""
    return 2 + 10 * np.exp(-((positions_mm(grid) - BLOB_MM) ** 2).sum(-1) / (2 * 6.0**2))


def volume(key: str, image: sitk.Image, unit: str = "", quantity: str = "", frame: str = "1.2.3") -> Volume:
    return Volume(image, quantity or QUANTITY[key][0], unit or QUANTITY[key][1], frame)


def uniform(key: str, value: float | None = None) -> Volume:
    grid = blank_grid()
    level = TYPICAL[key] if value is None else value
    return volume(key, filled(grid, np.full(grid.GetSize()[::-1], level)))


def gtv(spacing=(2.0, 2.0, 2.0), direction=DIRECTIONS["along LPS"], radius_mm=18.0) -> Region:
    grid = blank_grid(spacing, direction)
    mask = filled(grid, ((positions_mm(grid) - GTV_CENTRE_MM) ** 2).sum(-1) <= radius_mm**2)
    return Region("GTV", sitk.Cast(mask, sitk.sitkUInt8), "1.2.3")


def centroid_mm(values: np.ndarray, grid: sitk.Image, floor: float) -> np.ndarray:
    weight = np.clip(np.nan_to_num(values, nan=floor) - floor, 0, None)
    return (positions_mm(grid) * weight[..., None]).sum((0, 1, 2)) / weight.sum()


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("spacing", [(4.07, 4.07, 3.0), (0.9, 0.9, 5.0), (1.0, 1.0, 1.0)], ids=str)
def test_a_blob_lands_at_its_place(spacing, direction):
    grid = blank_grid(spacing, direction)
    found = prepare({"fdg": volume("fdg", filled(grid, blob(grid)))}, gtv())
    assert found.grid.GetSpacing() == (3.0, 3.0, 3.0)
    assert found.grid.GetDirection() == DIRECTIONS["along LPS"]
    assert all(n % 4 == 0 for n in found.grid.GetSize())
    values = found.values["fdg"]
    assert np.linalg.norm(centroid_mm(values, found.grid, 4.0) - BLOB_MM) < 0.35
    error = (values - blob(found.grid))[found.gtv]  # of a hill 10 high: linear interpolation cuts its top
    assert np.sqrt((error**2).mean()) < 0.35
    assert np.abs(error).max() < 1.5
    channel = CHANNELS[KEYS.index("fdg")]
    scaled = (np.nan_to_num(values, nan=channel.centre) - channel.centre) / channel.scale
    assert np.abs(found.inputs[0] - scaled).max() < 1e-5


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_answer_comes_back_to_any_grid(direction):
    region = gtv((1.2, 1.2, 2.5), direction)
    found = prepare({"fdg": uniform("fdg")}, region)
    back = back_to(blob(found.grid), found.grid, region)
    assert back.shape == region.array.shape
    assert np.array_equal(np.isfinite(back), region.array)
    assert np.abs(back - blob(region.mask))[region.array].max() < 1.0  # 3 mm steps across a hill 6 mm wide
    assert found.gtv.sum() * 0.027 == pytest.approx(region.volume_ml, rel=0.06)


def test_the_box_holds_the_gtv_and_its_margin():
    region = gtv((1.0, 1.0, 3.0), DIRECTIONS["oblique"])
    found = prepare({"fdg": uniform("fdg")}, region)
    inside, all_of_it = positions_mm(region.mask)[region.array], positions_mm(found.grid)
    assert (all_of_it.min((0, 1, 2)) - 1.5 <= inside.min(0) - 15).all()
    assert (all_of_it.max((0, 1, 2)) + 1.5 >= inside.max(0) + 15).all()


def test_presence_and_missing_images():
    found = prepare({key: uniform(key) for key in ("ct", "fdg", "adc")}, gtv())
    assert found.present == ("fdg", "ct", "adc")
    assert found.inputs.shape[0] == N_INPUTS
    assert found.inputs.dtype == np.float32
    for i, key in enumerate(KEYS):
        assert (found.inputs[len(KEYS) + i] == (key in found.present)).all()
        if key not in found.present:
            assert not found.inputs[i].any()
    assert np.array_equal(found.inputs[-1] > 0, found.gtv)
    assert np.abs(found.inputs[0][found.gtv] - (8.0 - 5.0) / 5.0).max() < 1e-5


def test_outside_an_image_there_is_nothing():
    grid = blank_grid(extent_mm=40.0)  # ends inside the box, beyond the GTV
    image = filled(grid, np.full(grid.GetSize()[::-1], 10.0))
    found = prepare({"fdg": volume("fdg", image)}, gtv())
    outside = np.abs(positions_mm(found.grid) - GTV_CENTRE_MM).max(-1) > 22
    assert np.isnan(found.values["fdg"][outside]).all()
    assert not found.inputs[0][outside].any()
    assert np.abs(found.inputs[0][found.gtv] - 1.0).max() < 1e-5


def test_holes_do_not_spread():
    grid = blank_grid()
    values = np.full(grid.GetSize()[::-1], 0.3)
    values[::7, ::7, ::7] = np.nan
    sampled, covered = sample(filled(grid, values), prepare({"fdg": uniform("fdg")}, gtv()).grid)
    assert np.isfinite(sampled[covered]).mean() > 0.98
    assert np.abs(sampled[np.isfinite(sampled)] - 0.3).max() < 1e-5


def moved(image: sitk.Image, shift_mm: float) -> sitk.Image:
    copy = sitk.Image(image)
    copy.SetOrigin([image.GetOrigin()[0] + shift_mm, *image.GetOrigin()[1:]])
    return copy


def holed(key: str) -> Volume:
    image = uniform(key).image
    values = sitk.GetArrayFromImage(image)
    values[tuple(n // 2 for n in values.shape)] = np.nan
    values[tuple(n // 2 + 1 for n in values.shape)] = np.nan
    values[28:33, 28:33, 28:33] = np.nan
    return volume(key, filled(image, values))


def spaced(spacing_mm: float) -> Volume:
    image = uniform("fdg").image
    image.SetSpacing([spacing_mm, 2.0, 2.0])
    return volume("fdg", image)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (lambda: {"ct": uniform("ct"), "t1": uniform("t1")}, RequestError, "No functional image"),
        (dict, RequestError, "No functional image"),
        (lambda: {"pet": uniform("fdg")}, RequestError, "'pet'"),
        (lambda: {"adc": volume("adc", uniform("adc", 1.1).image, "10*-3.mm2/s")}, InputError, "mm2/s"),
        (lambda: {"adc": uniform("adc", 1.1)}, InputError, "another unit"),
        (lambda: {"fdg": volume("fdg", uniform("fdg").image, "Bq/ml")}, InputError, "Bq/ml"),
        (lambda: {"fdg": uniform("fdg", 9000.0)}, InputError, "another unit"),
        (lambda: {"fdg": volume("fdg", uniform("fdg").image, quantity="SUVlbm")}, InputError, "SUVlbm"),
        (lambda: {"fdg": holed("fdg")}, InputError, "NaN"),
        (lambda: {"fdg": uniform("fdg", np.inf)}, InputError, "NaN"),
        (lambda: {"fdg": uniform("fdg", -0.5)}, InputError, "never negative"),
        (lambda: {"hypoxia_pet": uniform("hypoxia_pet", -0.5)}, InputError, "never negative"),
        (lambda: {"fdg": volume("fdg", moved(uniform("fdg").image, 70.0))}, GeometryError, "% of GTV"),
        (lambda: {"fdg": volume("fdg", moved(uniform("fdg").image, 5000.0))}, GeometryError, "0 % of GTV"),
        (lambda: {"fdg": spaced(0.01)}, InputError, "0.01 x 2 x 2 mm"),
        (lambda: {"fdg": spaced(25.0)}, InputError, "25 x 2 x 2 mm"),
        (lambda: {"fdg": volume("fdg", uniform("fdg").image, frame="9.9")}, GeometryError, "9.9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(images, error, words):
    with pytest.raises(error) as caught:
        prepare(images(), gtv())
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_fit_map_may_have_holes_but_not_mostly():
    assert prepare({"adc": holed("adc")}, gtv()).present == ("adc",)
    image = uniform("adc").image
    values = sitk.GetArrayFromImage(image)
    values[:, :, : values.shape[2] * 6 // 10] = np.nan
    with pytest.raises(InputError, match="has values for"):
        prepare({"adc": volume("adc", filled(image, values))}, gtv())


def test_an_empty_or_tiny_gtv_is_refused():
    region = gtv()
    with pytest.raises(InputError, match="is empty"):
        prepare({"fdg": uniform("fdg")}, region.with_array(np.zeros_like(region.array), "none"))
    one = np.zeros_like(region.array)
    one[30, 30, 30] = True
    with pytest.raises(InputError, match="fills no voxel"):
        prepare({"fdg": uniform("fdg")}, region.with_array(one, "one voxel"))
