"""The only place where LPS (SimpleITK, DICOM) becomes RAS (Slicer) and back."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Flips left-right and anterior-posterior; its own inverse."""


def to_ras(place_mm: ArrayLike) -> tuple[float, float, float]:
    """A point or direction of LPS (DICOM, SimpleITK) in RAS (Slicer), in millimetres."""
    x, y, z = (LPS_TO_RAS[:3, :3] @ np.asarray(place_mm, float)).tolist()
    return x, y, z


to_lps = to_ras  # the flip is its own inverse


def matrix_to_ras(matrix: np.ndarray) -> np.ndarray:
    """A matrix (4, 4) whose columns are LPS directions and a point, with the same in RAS."""
    return LPS_TO_RAS @ matrix


def index_to_ras(image: sitk.Image) -> np.ndarray:
    """Matrix (4, 4) from voxel index (i, j, k) to RAS millimetres."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ matrix


def set_geometry(image: sitk.Image, index_to_ras_matrix: np.ndarray) -> None:
    """Give an image the geometry of a voxel-index-to-RAS matrix (4, 4).

    Raises
    ------
    GeometryError
        If the axes are not at right angles: SimpleITK and DICOM cannot express shear.
    """
    matrix = LPS_TO_RAS @ index_to_ras_matrix
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-5):
        raise GeometryError(
            "The axes of the volume are not at right angles (sheared, e.g. gantry tilt).",
            "Resample it to a right-angled grid first (Slicer: Resample Scalar Volume).",
        )
    image.SetSpacing([float(s) for s in spacing])
    image.SetDirection([float(d) for d in direction.ravel()])
    image.SetOrigin([float(o) for o in matrix[:3, 3]])


def to_vtk_matrix(matrix: np.ndarray) -> Any:
    """vtkMatrix4x4 of an array (4, 4)."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    out = vtkMatrix4x4()
    out.DeepCopy([float(v) for v in matrix.ravel()])
    return out


def from_vtk_matrix(matrix: Any) -> np.ndarray:
    """Array (4, 4) of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def spans_about(grid: sitk.Image, index_to_ras_matrix: np.ndarray, size: tuple[int, ...]) -> list[slice]:
    """Voxels (i, j, k) of a labelmap that a grid may touch, and one more on each side."""
    corners = product(*((-0.5, n - 0.5) for n in grid.GetSize()))
    places = [to_ras(grid.TransformContinuousIndexToPhysicalPoint(corner)) for corner in corners]
    found = np.linalg.solve(index_to_ras_matrix, np.c_[places, np.ones(8)].T)[:3]
    low = np.clip(np.floor(found.min(axis=1)).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(found.max(axis=1)).astype(int) + 2, low, size)
    return [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def fill_image_data(data: Any, array: np.ndarray) -> None:
    """Copy an array (z, y, x) into a vtkImageData of spacing 1 and origin 0."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    data.SetDimensions(*(int(n) for n in reversed(array.shape)))
    data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))


def image_data_array(data: Any) -> np.ndarray:
    """View on the voxels of a vtkImageData, shape (z, y, x)."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(tuple(reversed(data.GetDimensions())))


def require_no_transform(node: Any) -> None:
    """Refuse a node under a transform that is not hardened: its voxels are not where its matrix says.

    Raises
    ------
    GeometryError
        Naming the node and its transform.
    """
    parent = node.GetParentTransformNode()
    if parent is not None:
        raise GeometryError(
            f"{node.GetName()!r} stands under the transform {parent.GetName()!r}.",
            "Harden the transform first (Data module, right click on the transform, Harden transform).",
        )
