"""Small grids, regions and maps that several dose-paint tests share."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import Region, Volume

FRAME_UID = "1.2.826.0.1.3680043.10.1"


def make_grid(size_xyz=(40, 40, 40), spacing_mm=(1.0, 1.0, 1.0), angles_deg=(0, 0, 0), origin_mm=(-3.0, 7.0, 11.0)):
    """An empty image; ``angles_deg`` turn its axes about the patient's x, y and z axes in this order."""
    image = sitk.Image([int(n) for n in size_xyz], sitk.sitkUInt8)
    image.SetSpacing(spacing_mm)
    image.SetOrigin(origin_mm)
    rotation = np.eye(3)
    for axis, angle in enumerate(math.radians(a) for a in angles_deg):
        turn = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        rotation = turn @ rotation
    image.SetDirection(rotation.ravel())
    return image


def make_region(array, grid, name="GTVp"):
    """A region of an array (z, y, x)."""
    mask = sitk.GetImageFromArray(np.asarray(array, dtype=np.uint8))
    mask.CopyInformation(grid)
    return Region(name, mask, FRAME_UID)


def make_map(array, grid, threshold=1.4, comparison=">"):
    """A ratio map of an array (z, y, x)."""
    image = sitk.GetImageFromArray(np.asarray(array, dtype=np.float32))
    image.CopyInformation(grid)
    volume = Volume(image, "FMISO tumour-to-blood ratio", "{ratio}", FRAME_UID)
    return HypoxiaMap(volume, threshold, comparison, "test protocol")


def shape_of(grid):
    """Array shape (z, y, x) of a grid."""
    return tuple(reversed(grid.GetSize()))


def points_mm(grid, mask=None):
    """Voxel centres in LPS mm by SimpleITK itself, shape (n, 3), in array order; of the mask's voxels if given."""
    where = np.argwhere(np.ones(shape_of(grid), dtype=bool) if mask is None else mask)
    return np.array([grid.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in where])


def ball(grid, radius_mm, shift_mm=(0.0, 0.0, 0.0)):
    """Voxels within a radius of the image centre; shape (z, y, x). For grids along the patient axes."""
    steps = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s - d
          for n, s, d in zip(shape_of(grid), grid.GetSpacing()[::-1], shift_mm[::-1], strict=True)],
        indexing="ij",
    )  # fmt: skip
    return sum(step**2 for step in steps) <= radius_mm**2
