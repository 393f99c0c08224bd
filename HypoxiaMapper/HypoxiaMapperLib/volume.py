"""Volume and Region: a SimpleITK image that knows what it measures and where it came from.

Arrays are (z, y, x), positions are LPS millimetres (SimpleITK's and DICOM's own convention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, RequestError

GRID_TOLERANCE_MM = 1e-3  # DICOM decimal strings are written rounded to 0.001 mm
LARGEST_SHIFT_MM = 0.05
"""Slicer keeps positions of DICOM slices to about a hundredth of a millimetre: what differs by more was moved."""
COMPARISONS = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}
"""On which side of its threshold a map counts."""


def beyond(values: np.ndarray, threshold: float, comparison: str) -> np.ndarray:
    """Where values lie on the counting side of a threshold, boolean, same shape; undefined ones never do."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & COMPARISONS[comparison](values, threshold)


@dataclass(frozen=True)
class Volume:
    """A scalar image with its quantity, unit and history.

    Parameters
    ----------
    image : SimpleITK.Image
        Three-dimensional scalar image in LPS millimetres.
    quantity : str
        What a voxel measures, e.g. ``"SUVbw"``, ``"CT number"``.
    unit : str
        UCUM unit, e.g. ``"g/ml"``, ``"[hnsf'U]"``, ``"{ratio}"``.
    frame_of_reference_uid : str
        DICOM Frame of Reference UID, empty when the source has none.
    source_uids : tuple of str
        SOP Instance UIDs the voxels came from, in slice order.
    operations : tuple of str
        What was done to the voxels since they were read, oldest first, with interpolators and factors.
    facts : mapping
        Where quantities came from (tracer, minutes after injection, decay reference, series ...).

    Raises
    ------
    RequestError
        If quantity or unit is empty: an unknown unit is refused, never guessed.
    GeometryError
        If the image is not three-dimensional and scalar.
    """

    image: sitk.Image
    quantity: str
    unit: str
    frame_of_reference_uid: str = ""
    source_uids: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.quantity or not self.unit:
            raise RequestError(
                f"A volume without quantity and unit was offered (quantity {self.quantity!r}, unit {self.unit!r}).",
                "State what the voxels measure and in which unit.",
            )
        if self.image.GetDimension() != 3 or self.image.GetNumberOfComponentsPerPixel() != 1:
            raise GeometryError(
                f"{self.quantity}: image has {self.image.GetDimension()} dimensions and "
                f"{self.image.GetNumberOfComponentsPerPixel()} components.",
                "Give one three-dimensional scalar image.",
            )

    @property
    def array(self) -> np.ndarray:
        """Read-only view of the voxels, shape (z, y, x)."""
        return np.asarray(_VoxelBuffer(self.image))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return voxel_volume_ml(self.image)

    def with_array(self, array: np.ndarray, operation: str, **changes: Any) -> Volume:
        """New Volume on the same grid with other voxels; ``operation`` is appended to the history."""
        image = image_like(array, self.image)
        return replace(self, image=image, operations=(*self.operations, operation), **changes)


class _VoxelBuffer:
    """Lends an image's voxels to NumPy and keeps the image alive with them.

    SimpleITK's own view does not: its memory is freed with the image, and reading it then crashes.
    """

    def __init__(self, image: sitk.Image) -> None:
        self._image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


@dataclass(frozen=True)
class Region:
    """A named binary mask on a grid.

    Parameters
    ----------
    name : str
        ROI name as the user knows it.
    mask : SimpleITK.Image
        uint8 image, 1 inside, in LPS millimetres.
    frame_of_reference_uid : str
        Frame of reference the mask lives in.
    source : str
        Where it came from (RTSTRUCT SOP Instance UID and ROI number, "sphere ...", "threshold ...").
    """

    name: str
    mask: sitk.Image
    frame_of_reference_uid: str = ""
    source: str = ""

    @property
    def array(self) -> np.ndarray:
        """Boolean array, shape (z, y, x)."""
        return sitk.GetArrayViewFromImage(self.mask).astype(bool)

    @property
    def volume_ml(self) -> float:
        """Volume of the mask in millilitres."""
        return float(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)) * voxel_volume_ml(self.mask))

    def with_array(self, array: np.ndarray, source: str, name: str | None = None) -> Region:
        """New Region on the same grid."""
        mask = image_like(np.asarray(array, dtype=np.uint8), self.mask)
        return Region(name or self.name, mask, self.frame_of_reference_uid, source)


def voxel_volume_ml(image: sitk.Image) -> float:
    """Volume of one voxel of ``image`` in millilitres."""
    return float(np.prod(image.GetSpacing())) / 1000.0


def image_like(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Put an array (z, y, x) on the grid of an image.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if tuple(array.shape) != tuple(reversed(grid.GetSize())):
        raise GeometryError(
            f"Array of shape {tuple(array.shape)} does not fit a grid of shape {tuple(reversed(grid.GetSize()))}.",
            "Resample it to the grid first.",
        )
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """True if two images have the same size and every corner voxel lies at the same place (0.001 mm)."""
    if a.GetSize() != b.GetSize():
        return False
    far = [n - 1 for n in a.GetSize()]
    corners = [[f if bit >> axis & 1 else 0 for axis, f in enumerate(far)] for bit in range(8)]
    return all(
        np.allclose(
            a.TransformIndexToPhysicalPoint(c), b.TransformIndexToPhysicalPoint(c), rtol=0, atol=GRID_TOLERANCE_MM
        )
        for c in corners
    )


def require_same_grid(a: sitk.Image, b: sitk.Image, what: str) -> None:
    """Refuse to combine two images that do not share a grid.

    Raises
    ------
    GeometryError
        Naming both grids.
    """
    if not same_grid(a, b):
        raise GeometryError(f"{what}: grids differ ({describe_grid(a)} against {describe_grid(b)}).", "Resample first.")


def describe_grid(image: sitk.Image) -> str:
    """One line with size, spacing and origin in millimetres."""
    size = "x".join(str(n) for n in image.GetSize())
    spacing = "x".join(f"{s:.4g}" for s in image.GetSpacing())
    origin = ", ".join(f"{o:.2f}" for o in image.GetOrigin())
    return f"{size} voxels of {spacing} mm from ({origin})"
