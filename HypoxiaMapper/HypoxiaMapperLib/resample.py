"""Bring a volume or a region onto another grid, saying how."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, InputError
from .timeseries import FrameStack
from .volume import Region, Volume, same_grid

SomeSeries = TypeVar("SomeSeries", bound=FrameStack)
INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline}


def resample_to(
    volume: Volume,
    grid: sitk.Image,
    grid_frame_uid: str,
    transform: sitk.Transform | None = None,
    interpolator: str = "linear",
    transform_text: str = "",
) -> Volume:
    """Sample a volume at the voxel centres of a grid; NaN outside its field of view.

    Parameters
    ----------
    grid : SimpleITK.Image
        The grid to sample on.
    grid_frame_uid : str
        Frame of Reference UID of the grid.
    transform : SimpleITK.Transform, optional
        Maps points of the grid (LPS mm) to points of the volume (LPS mm). Without it both must share one frame.
    interpolator : str
        ``"linear"``, ``"nearest"`` or ``"bspline"``; stated in the volume's history.
    transform_text : str
        How the transform came about, for the history.

    Returns
    -------
    Volume
        float32 voxels on the grid; ``facts["native_spacing_mm"]`` keeps the first grid's voxel size (x, y, z).

    Raises
    ------
    GeometryError
        Different frames of reference and no transform, or no overlap with the grid.
    """
    if transform is None:
        require_same_frame(volume.quantity, volume.frame_of_reference_uid, grid_frame_uid)
        if same_grid(volume.image, grid):
            return volume
        transform, how = sitk.Transform(3, sitk.sitkIdentity), "same frame of reference"
    else:
        how = transform_text or "given transform"
    image = sitk.Resample(
        sitk.Cast(volume.image, sitk.sitkFloat32),
        grid,
        transform,
        INTERPOLATORS[interpolator],
        float("nan"),
        sitk.sitkFloat32,
    )
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).any():
        if not np.isfinite(volume.array).any():
            raise InputError(f"{volume.quantity} holds no finite value (NaN throughout).", "Check the image.")
        raise GeometryError(
            f"{volume.quantity} does not overlap the planning image at all.",
            "Check the series, or register the images first.",
        )
    operation = f"resampled to the planning grid, {interpolator} interpolation, {how}"
    # How coarse an image really is: the grid it is brought to does not tell.
    facts = {"native_spacing_mm": volume.image.GetSpacing(), **volume.facts}
    return replace(
        volume,
        image=image,
        frame_of_reference_uid=grid_frame_uid,
        operations=(*volume.operations, operation),
        facts=facts,
    )


def resample_series(series: SomeSeries, grid: sitk.Image, grid_frame_uid: str) -> SomeSeries:
    """A series on another grid of the same frame of reference, frame by frame; errors as ``resample_to``."""
    require_same_frame(series.quantity, series.frame_of_reference_uid, grid_frame_uid)
    if same_grid(series.grid, grid):
        return series
    size = grid.GetSize()
    frames = np.empty((series.count, size[2], size[1], size[0]), np.float32)
    for k in range(series.count):
        frames[k] = resample_to(series.frame(k), grid, grid_frame_uid).array
    blank = sitk.Cast(grid * 0, sitk.sitkUInt8)
    return series.with_frames(frames, "resampled frame by frame, linear interpolation", grid=blank)


def resample_region(region: Region, grid: sitk.Image, transform: sitk.Transform | None = None) -> Region:
    """Region on another grid by nearest neighbour, said so in its source.

    ``transform`` maps points of the grid to points of the region (LPS mm); without it both share one frame.
    """
    if transform is None and same_grid(region.mask, grid):
        return region
    transform = transform or sitk.Transform(3, sitk.sitkIdentity)
    mask = sitk.Resample(region.mask, grid, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    source = f"{region.source}; resampled by nearest neighbour from the grid it was drawn on"
    return Region(region.name, mask, region.frame_of_reference_uid, source)


def require_same_frame(what: str, frame_uid: str, planning_frame_uid: str) -> None:
    """Refuse to combine images of different or unknown frames of reference.

    Raises
    ------
    GeometryError
        Naming both UIDs.
    """
    if not frame_uid or frame_uid != planning_frame_uid:
        raise GeometryError(
            f"{what}: frame of reference {frame_uid or 'missing'} differs from the planning image's "
            f"{planning_frame_uid or 'missing'}.",
            "Give a registration (DICOM registration object or transform file), or ask for a rigid one.",
        )


def sphere_region(
    grid: sitk.Image, centre_mm: tuple[float, float, float], radius_mm: float, name: str, frame_uid: str
) -> Region:
    """Region of all voxels whose centre lies in a sphere (LPS mm).

    Raises
    ------
    GeometryError
        If the sphere holds no voxel centre of the grid or leaves it.
    """
    spacing = np.array(grid.GetSpacing())
    direction = np.array(grid.GetDirection()).reshape(3, 3)
    centre_index = direction.T @ (np.array(centre_mm) - np.array(grid.GetOrigin())) / spacing
    reach = radius_mm / spacing
    low, high = centre_index - reach, centre_index + reach
    if (low < -0.5).any() or (high > np.array(grid.GetSize()) - 0.5).any():
        raise GeometryError(
            f"Sphere at ({', '.join(f'{c:g}' for c in centre_mm)}) mm with radius {radius_mm:g} mm leaves the image.",
            "Centres are LPS millimetres in the planning frame of reference.",
        )
    axes = [np.arange(n) for n in grid.GetSize()]
    offsets = [((a - c) * s) ** 2 for a, c, s in zip(axes, centre_index, spacing, strict=True)]
    distance2 = offsets[2][:, None, None] + offsets[1][None, :, None] + offsets[0][None, None, :]
    inside = distance2 <= radius_mm**2 + 1e-6  # a centre on the surface is in, whatever the rounding
    if not inside.any():
        raise GeometryError(f"A sphere of radius {radius_mm:g} mm holds no voxel.", "Choose a larger radius.")
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(grid)
    text = f"sphere, centre ({', '.join(f'{c:g}' for c in centre_mm)}) mm LPS, radius {radius_mm:g} mm"
    return Region(name, mask, frame_uid, text)
