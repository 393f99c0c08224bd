"""Images on any grids to what the network sees, and its answer back to any grid.

The network's grid is 3 mm, its axes along LPS, around the GTV's bounding box and ``BOX_MARGIN_MM``; the size is a
multiple of 4 (two halvings). Whatever the images' own grids are, absolute values and millimetres are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError, RequestError
from ..volume import Region, Volume
from .channels import BOX_MARGIN_MM, CHANNELS, FUNCTIONAL, KEYS, N_INPUTS, NETWORK_SPACING_MM, Channel

MULTIPLE = 4
LEAST_COVERED = 0.5
"""An image must have values for this fraction of the GTV; a choice of this software."""
SPACING_LIMITS_MM = (0.1, 20.0)
"""Voxel sizes outside are a mistake in the header; a choice of this software."""
MAY_HAVE_HOLES = ("adc", "ktrans", "r2star")
"""Maps of fits, which fail in single voxels; a PET, CT or T1 image without a value inside the GTV is refused."""
NEVER_NEGATIVE = ("fdg", "hypoxia_pet")
ABSURD_FACTOR = 5.0
"""A median this many times the channel's upper bound means another unit than stated; a choice of this software."""
_FINE_FRACTION = 0.5  # an axis finer than this times the network's spacing is smoothed before it is sampled
_CROP_MARGIN_MM = 15.0  # smoothing and interpolation reach less far than this beyond the box


@dataclass(frozen=True)
class Prepared:
    """What the network sees of one patient.

    Parameters
    ----------
    inputs : numpy.ndarray
        float32, shape (N_INPUTS, z, y, x): scaled images, presence planes, GTV.
    gtv : numpy.ndarray
        bool, shape (z, y, x).
    grid : SimpleITK.Image
        uint8 image of the GTV: 3 mm, axes along LPS, size a multiple of 4.
    present : tuple of str
        Keys of the images that were given, in channel order.
    values : mapping
        Each image on the grid in its own unit, NaN where it has no value; shape (z, y, x).
    spacings_mm : mapping
        Voxel size (x, y, z) of each image as it was given.
    """

    inputs: np.ndarray
    gtv: np.ndarray
    grid: sitk.Image
    present: tuple[str, ...]
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    spacings_mm: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def prepare(images: Mapping[str, Volume], gtv: Region) -> Prepared:
    """Bring any subset of the images and the GTV to the network's grid.

    Parameters
    ----------
    images : mapping
        Keys and units of ``channels.CHANNELS``; each on its own grid, all in the GTV's frame of reference.

    Raises
    ------
    RequestError
        Unknown key, or no functional image.
    InputError
        Another unit or quantity, values no such image can hold, no value inside the GTV, absurd spacing, empty GTV.
    GeometryError
        Another frame of reference, or a GTV outside an image.
    """
    _check_keys(images)
    _check_spacing(f"GTV {gtv.name}", gtv.mask)
    for key, volume in images.items():
        _check_image(CHANNELS[KEYS.index(key)], volume, gtv)
    grid = network_grid(gtv)
    inside = sitk.GetArrayFromImage(grid).astype(bool)
    values = {}
    for channel in CHANNELS:
        if channel.key in images:
            native_mm = images[channel.key].facts.get("native_spacing_mm")
            sampled, covered = sample(images[channel.key].image, grid, native_mm)
            _check_values(channel, sampled[inside], covered[inside], gtv.name)
            values[channel.key] = sampled
    spacings = {key: tuple(float(s) for s in images[key].image.GetSpacing()) for key in values}
    return Prepared(network_inputs(values, inside), inside, grid, tuple(values), values, spacings)


def network_inputs(values: Mapping[str, np.ndarray], inside: np.ndarray) -> np.ndarray:
    """Scaled images, presence planes and GTV as float32, shape (N_INPUTS, z, y, x)."""
    inputs = np.zeros((N_INPUTS, *inside.shape), np.float32)
    for i, channel in enumerate(CHANNELS):
        if channel.key in values:
            inputs[i] = channel.scaled(values[channel.key])
            inputs[len(CHANNELS) + i] = 1.0
    inputs[-1] = inside
    return inputs


def network_grid(gtv: Region) -> sitk.Image:
    """The GTV on the network's grid: voxels that lie in it by half or more (linear interpolation of the mask).

    Raises
    ------
    InputError
        If the GTV is empty, or too small for a single voxel.
    """
    found = np.argwhere(gtv.array)[:, ::-1]  # (x, y, z)
    if not found.size:
        raise InputError(f"GTV {gtv.name} is empty.", "Choose a region that has voxels.")
    axes = np.array(gtv.mask.GetDirection()).reshape(3, 3) * np.array(gtv.mask.GetSpacing())
    centres = found @ axes.T + np.array(gtv.mask.GetOrigin())
    half_voxel = np.abs(axes).sum(axis=1) / 2
    low = centres.min(axis=0) - half_voxel - BOX_MARGIN_MM
    high = centres.max(axis=0) + half_voxel + BOX_MARGIN_MM
    size = np.ceil((high - low) / NETWORK_SPACING_MM / MULTIPLE - 1e-6).astype(int) * MULTIPLE
    first = (low + high) / 2 - (size - 1) / 2 * NETWORK_SPACING_MM
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([NETWORK_SPACING_MM] * 3)
    grid.SetOrigin([float(v) for v in first])
    share = sitk.Resample(sitk.Cast(gtv.mask, sitk.sitkFloat32), grid, sitk.Transform(), sitk.sitkLinear, 0.0)
    inside = share >= 0.5
    if not sitk.GetArrayViewFromImage(inside).any():
        raise InputError(
            f"GTV {gtv.name} ({gtv.volume_ml:.3g} ml) fills no voxel of the network's {NETWORK_SPACING_MM:g} mm grid.",
            "A learned map of so small a region means nothing: use a measured map.",
        )
    return inside


def sample(
    image: sitk.Image, grid: sitk.Image, native_spacing_mm: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation at the grid's voxels, after smoothing along axes much finer than the grid.

    An image that was brought to a finer grid before (``native_spacing_mm``, its own voxels) is no finer for it: it is
    smoothed as its own voxels would be, else a PET on a CT's grid would lose its peaks.

    Voxels without a value (NaN) do not spread: neighbours are weighted by what has a value.

    Returns
    -------
    values : numpy.ndarray
        float32, shape (z, y, x); NaN outside the image and where it has no value.
    covered : numpy.ndarray
        bool, shape (z, y, x): inside the image's field of view, value or not.
    """
    image = _cropped(image, grid)
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    known = np.isfinite(array)
    fov = _resampled(np.ones(array.shape, np.float32), image, grid, None, smooth=False)
    total = _resampled(np.where(known, array, 0).astype(np.float32), image, grid, native_spacing_mm)
    weight = fov if known.all() else _resampled(known.astype(np.float32), image, grid, native_spacing_mm)
    covered = fov > 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(covered & (weight > 0.5), total / weight, np.nan).astype(np.float32), covered


def back_to(values: np.ndarray, grid: sitk.Image, region: Region) -> np.ndarray:
    """An array on the network's grid at the voxels of a region's own grid; NaN outside the region.

    Parameters
    ----------
    values : numpy.ndarray
        Shape (z, y, x) of ``grid``.
    grid : SimpleITK.Image
        ``Prepared.grid``.
    region : Region
        The GTV, on the grid the result is wanted on.

    Returns
    -------
    numpy.ndarray
        float32, shape (z, y, x) of ``region.mask``, linear interpolation.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, np.float32))
    image.CopyInformation(grid)
    found = sitk.Resample(image, region.mask, sitk.Transform(), sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
    return np.where(region.array, sitk.GetArrayViewFromImage(found), np.nan).astype(np.float32)


def _resampled(
    array: np.ndarray, like: sitk.Image, grid: sitk.Image, native_mm: Sequence[float] | None, smooth: bool = True
) -> np.ndarray:
    """An array on the grid of ``like`` at the voxels of ``grid``; 0 outside."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    spacing = np.maximum(image.GetSpacing(), native_mm or 0.0)  # axes of a scan and of the CT are those of the body
    fine = spacing < _FINE_FRACTION * NETWORK_SPACING_MM
    if smooth and fine.any():
        # A Gaussian as wide at half height as the step between the two grids: the mean over the coarse voxel.
        variance = np.where(fine, (NETWORK_SPACING_MM**2 - spacing**2) / (8 * np.log(2)), 0.0)
        image = sitk.DiscreteGaussian(image, [float(v) for v in variance])
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0))


def _cropped(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """The part of an image around the grid: a whole-body image is not smoothed for a box of 10 cm."""
    size = np.array(grid.GetSize())
    corners = [[int(n - 1) if bit >> axis & 1 else 0 for axis, n in enumerate(size)] for bit in range(8)]
    spots = [image.TransformPhysicalPointToContinuousIndex(grid.TransformIndexToPhysicalPoint(c)) for c in corners]
    reach = _CROP_MARGIN_MM / np.array(image.GetSpacing())
    low = np.floor(np.min(spots, axis=0) - reach).astype(int)
    high = np.ceil(np.max(spots, axis=0) + reach).astype(int)
    last = np.array(image.GetSize()) - 1
    low, high = np.clip(low, 0, last), np.clip(high, 0, last)
    return sitk.RegionOfInterest(image, [int(n) for n in high - low + 1], [int(n) for n in low])


def _check_keys(images: Mapping[str, Volume]) -> None:
    for key in images:
        if key not in KEYS:
            raise RequestError(f"The network knows no image {key!r}.", f"Valid: {', '.join(KEYS)}.")
    if not any(key in images for key in FUNCTIONAL):
        given = ", ".join(images) or "none"
        raise RequestError(
            f"No functional image was given (images: {given}).",
            f"Give at least one of {', '.join(FUNCTIONAL)}: anatomy alone says nothing about hypoxia.",
        )


def _check_spacing(what: str, image: sitk.Image) -> None:
    low, high = SPACING_LIMITS_MM
    if not all(low <= s <= high for s in image.GetSpacing()):
        text = " x ".join(f"{s:.4g}" for s in image.GetSpacing())
        raise InputError(
            f"{what} has voxels of {text} mm.", f"From {low:g} to {high:g} mm is accepted: check the file's header."
        )


def _check_image(channel: Channel, volume: Volume, gtv: Region) -> None:
    """Unit, quantity, spacing and frame of reference of one image."""
    if volume.unit != channel.unit:
        raise InputError(
            f"{channel.title} ({channel.key}) is in {volume.unit}; the network was trained on {channel.unit}.",
            f"Convert it to {channel.quantity} in {channel.unit} (UCUM) first.",
        )
    if channel.key == "fdg" and volume.quantity != channel.quantity:
        raise InputError(
            f"{channel.title} is {volume.quantity}; the network was trained on {channel.quantity}.",
            "SUV by lean body mass or body surface is another number in the same unit: give SUVbw.",
        )
    _check_spacing(channel.title, volume.image)
    if volume.frame_of_reference_uid != gtv.frame_of_reference_uid:
        raise GeometryError(
            f"{channel.title}: frame of reference {volume.frame_of_reference_uid or 'missing'} differs from that of "
            f"GTV {gtv.name}, {gtv.frame_of_reference_uid or 'missing'}.",
            "Register the image first.",
        )


def _check_values(channel: Channel, values: np.ndarray, covered: np.ndarray, gtv_name: str) -> None:
    """Values of one image inside the GTV: there, finite, and possible."""
    if covered.mean() < LEAST_COVERED:
        raise GeometryError(
            f"{channel.title} covers {100 * covered.mean():.0f} % of GTV {gtv_name}.",
            f"At least {100 * LEAST_COVERED:.0f} % is needed: check series and registration, or leave the image out.",
        )
    known = np.isfinite(values)
    if not known[covered].all() and channel.key not in MAY_HAVE_HOLES:
        raise InputError(
            f"{channel.title} has no value (NaN) in {np.count_nonzero(covered & ~known)} voxels of GTV {gtv_name}.",
            "Repair the image, or leave it out.",
        )
    if known.mean() < LEAST_COVERED:
        raise InputError(
            f"{channel.title} has values for {100 * known.mean():.0f} % of GTV {gtv_name}.",
            f"At least {100 * LEAST_COVERED:.0f} % is needed: check the fit, or leave the image out.",
        )
    if channel.key in NEVER_NEGATIVE and values[known].min() < 0:
        raise InputError(
            f"{channel.title} is {values[known].min():.3g} {channel.unit} in GTV {gtv_name}: uptake is never negative.",
            "Check the image's rescale and SUV factors.",
        )
    median = float(np.median(values[known]))
    if not channel.relative and abs(median) > ABSURD_FACTOR * channel.high:
        raise InputError(
            f"{channel.title} has a median of {median:.4g} {channel.unit} in GTV {gtv_name}; the network reads "
            f"{channel.low:g} to {channel.high:g}.",
            f"The values look like another unit than {channel.unit}: convert them.",
        )
