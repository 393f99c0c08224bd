"""Whether the voxels of a node are still those of its DICOM files: what was changed in Slicer must not be lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mrml.geometry import image_data_array
from ..volume import Volume

ROUNDING = 1e-5
"""Of the highest value of a slice: what two programs that read the same file may differ by."""


def file_values(volume: Volume) -> Volume:
    """A PET as its files state it, before SUV; any other volume as it is."""
    factors = volume.facts.get("suv_factor")
    if factors is None:
        return volume
    each = np.broadcast_to(np.asarray(factors, np.float64), volume.array.shape[:1])
    return volume.with_array((volume.array / each[:, None, None]).astype(np.float32), "as in the files")


def changed_voxels(node: Any, read: np.ndarray, any_scale: bool = False) -> int:
    """Number of voxels of a node that differ from those read of its files.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        With a voxel for each one read.
    read : numpy.ndarray
        In the order of the node's slices, shape (z, y, x).
    any_scale : bool
        Let a straight line of each slice's values through, as for MR: programs differ in which scaling of the header
        they apply.
    """
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        return read.size
    held = image_data_array(node.GetImageData())
    differing = _off_a_line if any_scale else _differing
    return sum(differing(a, b, 1.0 if held.dtype.kind in "iu" else 0.0) for a, b in zip(held, read, strict=True))


def _differing(held: np.ndarray, read: np.ndarray, rounded: float) -> int:
    """Voxels of a slice that differ by more than rounding."""
    if held.dtype == read.dtype and np.array_equal(held, read):
        return 0
    allowed = rounded + ROUNDING * float(np.abs(read).max())
    return int(np.count_nonzero(~(np.abs(held.astype(np.float64) - read) <= allowed)))


def _off_a_line(held: np.ndarray, read: np.ndarray, rounded: float) -> int:
    """Voxels of a slice that do not lie on the straight line through its lowest and its highest value."""
    lowest, highest = (np.unravel_index(place, read.shape) for place in (read.argmin(), read.argmax()))
    span = float(read[highest]) - float(read[lowest])
    slope = (float(held[highest]) - float(held[lowest])) / span if span > 0 else 0.0
    return _differing(held, float(held[lowest]) + slope * (read.astype(np.float64) - float(read[lowest])), rounded)
