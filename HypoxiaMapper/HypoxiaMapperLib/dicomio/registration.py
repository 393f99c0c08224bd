"""Read a registration between two frames of reference: DICOM REG objects and ITK transform files.

What comes back is always what ``sitk.Resample`` wants: it maps points of the planning frame (LPS mm) to points of the
moving frame (LPS mm), so that the moving image can be sampled on the planning grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from ..errors import GeometryError, InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SPATIAL = "1.2.840.10008.5.1.4.1.1.66.1"
_DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.3"
_ITK_SUFFIXES = (".tfm", ".h5", ".hdf5", ".txt", ".mat", ".xfm")
_RIGID_TOLERANCE = 1e-3  # of R^T R - 1; 0.1 mm over 200 mm


def read_transform(path: Path, planning_frame_uid: str, moving_frame_uid: str) -> sitk.Transform:
    """Transform from planning to moving points, as ``sitk.Resample`` takes it.

    Parameters
    ----------
    path : Path
        DICOM Spatial Registration or Deformable Spatial Registration, or an ITK transform file (.tfm, .h5, .txt,
        .mat) that already maps planning LPS points to moving LPS points.
    planning_frame_uid, moving_frame_uid : str
        Frames of reference of the planning and the moving image. An ITK file names none, so it cannot be checked.

    Returns
    -------
    SimpleITK.Transform

    Raises
    ------
    GeometryError
        If the object does not join the two frames, or a matrix cannot be what it says.
    InputError
        If the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() in _ITK_SUFFIXES:
        return _read_itk(path)
    try:
        registration = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read as a DICOM registration ({error}).",
            f"Give a DICOM REG object or an ITK transform ({', '.join(_ITK_SUFFIXES)}).",
        ) from error
    sop_class = str(registration.get("SOPClassUID", ""))
    if sop_class == _SPATIAL:
        return _affine(_spatial_matrix(registration, path.name, planning_frame_uid, moving_frame_uid))
    if sop_class == _DEFORMABLE:
        return _deformable(registration, path.name, planning_frame_uid, moving_frame_uid)
    raise InputError(f"{path}: not a registration (SOP class {sop_class or 'absent'}).", "Give a DICOM REG object.")


def transform_warnings(transform: sitk.Transform) -> tuple[str, ...]:
    """What a reviewer must know about a transform: deformation, scaling, shear or mirroring."""
    if not transform.IsLinear():
        return ("The registration is deformable: volumes change; look at the deformation before trusting it.",)
    corner = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.array([np.array(transform.TransformPoint(tuple(axis))) - corner for axis in np.eye(3)]).T
    determinant = float(np.linalg.det(matrix))
    if determinant <= 0:
        return (f"The registration mirrors the patient (determinant {determinant:.4f}).",)
    if not _is_rotation(matrix):
        scales = ", ".join(f"{s:.4f}" for s in np.linalg.svd(matrix, compute_uv=False))
        return (f"The registration is not rigid: it scales or shears (scales {scales}).",)
    return ()


def _read_itk(path: Path) -> sitk.Transform:
    """An ITK transform file."""
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Give an existing transform file.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: cannot be read as an ITK transform ({reason}).", "Write it again.") from error
    if transform.GetDimension() != 3:
        raise InputError(f"{path}: transform has {transform.GetDimension()} dimensions.", "Give a 3-D transform.")
    return transform


def _spatial_matrix(registration: Dataset, name: str, planning_uid: str, moving_uid: str) -> np.ndarray:
    """Matrix from planning to moving points, shape (4, 4).

    Each item maps its own frame into the registered frame, hence inverse(moving) @ planning. The registered frame
    itself needs no item.
    """
    registered_uid = str(registration.get("FrameOfReferenceUID", "") or "")
    to_registered: dict[str, np.ndarray] = {registered_uid: np.eye(4)} if registered_uid else {}
    for item in registration.get("RegistrationSequence") or []:
        uid = str(item.get("FrameOfReferenceUID", "") or "")
        matrix = _item_matrix(item.get("MatrixRegistrationSequence"), name)
        if uid in to_registered and not np.allclose(to_registered[uid], matrix, atol=1e-6):
            what = (
                "a matrix of the registered frame itself that is not the identity"
                if uid == registered_uid
                else ("several different matrices")
            )
            raise GeometryError(f"{name}: {what} (frame of reference {uid}).", "Export a registration with one matrix.")
        to_registered[uid] = matrix
    _require_frames(to_registered, name, planning_uid, moving_uid)
    return np.linalg.inv(to_registered[moving_uid]) @ to_registered[planning_uid]


def _require_frames(known: dict[str, np.ndarray], name: str, planning_uid: str, moving_uid: str) -> None:
    """Refuse a registration that does not know both frames."""
    for role, uid in (("planning", planning_uid), ("moving", moving_uid)):
        if not uid or uid not in known:
            raise GeometryError(
                f"{name}: does not know the {role} frame of reference {uid or '(none given)'}; it joins "
                f"{', '.join(u for u in known if u) or 'no frames'}.",
                "Choose the registration made for these two series.",
            )


def _item_matrix(sequence: Iterable[Dataset] | None, name: str) -> np.ndarray:
    """Product of the matrices of a Matrix Registration Sequence, shape (4, 4); identity when it is absent.

    Several matrices are multiplied only where their order does not matter: writers do not agree on it.
    """
    matrices = [
        _matrix(item, name) for registration in sequence or [] for item in registration.get("MatrixSequence") or []
    ]
    forwards, backwards = np.eye(4), np.eye(4)
    for matrix in matrices:
        forwards, backwards = forwards @ matrix, matrix @ backwards
    if not np.allclose(forwards, backwards, atol=1e-4):
        raise InputError(
            f"{name}: Matrix Sequence (0070,030A) holds {len(matrices)} matrices whose order matters.",
            "Export the registration as a single matrix.",
        )
    return forwards


def _matrix(item: Dataset, name: str) -> np.ndarray:
    """One Frame of Reference Transformation Matrix, checked, shape (4, 4)."""
    values = np.array(item.get("FrameOfReferenceTransformationMatrix") or [], float)
    if values.size != 16 or not np.isfinite(values).all():
        raise InputError(
            f"{name}: Frame of Reference Transformation Matrix (3006,00C6) has {values.size} values, not 16.",
            "Export the registration again.",
        )
    matrix = values.reshape(4, 4)
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6) or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise GeometryError(
            f"{name}: Frame of Reference Transformation Matrix (3006,00C6) is no invertible affine matrix.",
            "Export the registration again.",
        )
    declared = str(item.get("FrameOfReferenceTransformationMatrixType", "") or "")
    if declared == "RIGID" and not _is_rotation(matrix[:3, :3]):
        raise GeometryError(
            f"{name}: the matrix is declared RIGID (0070,030C) but scales, shears or mirrors.",
            "Export the registration again, with its true type.",
        )
    return matrix


def _is_rotation(matrix: np.ndarray) -> bool:
    """True for a proper rotation."""
    return bool(np.allclose(matrix.T @ matrix, np.eye(3), atol=_RIGID_TOLERANCE) and np.linalg.det(matrix) > 0)


def _affine(matrix: np.ndarray) -> sitk.AffineTransform:
    """SimpleITK form of a matrix of shape (4, 4)."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def _deformable(registration: Dataset, name: str, planning_uid: str, moving_uid: str) -> sitk.Transform:
    """Deformable Spatial Registration, from registered to source points (PS3.3 C.20.3.1.1).

    x_source = M_post (M_pre x + d(x)), with d given on a grid in the registered frame.
    """
    registered_uid = str(registration.get("FrameOfReferenceUID", "") or "")
    items = {
        str(item.get("SourceFrameOfReferenceUID", "") or ""): item
        for item in registration.get("DeformableRegistrationSequence") or []
    }
    known = {uid: np.eye(4) for uid in (registered_uid, *items)}
    _require_frames(known, name, planning_uid, moving_uid)
    if planning_uid != registered_uid or moving_uid not in items:
        raise GeometryError(
            f"{name}: deforms points of frame {registered_uid} to {', '.join(items)}; the opposite direction (from "
            f"planning {planning_uid} to moving {moving_uid}) would need an inverse that is not unique.",
            "Export the registration with the planning CT as the registered (fixed) image.",
        )
    item = items[moving_uid]
    pre = _single_matrix(item, "PreDeformationMatrixRegistrationSequence", name)
    post = _single_matrix(item, "PostDeformationMatrixRegistrationSequence", name)
    # M_pre x + d(x) = M_pre (x + A_pre^-1 d(x)), so the displacement can be applied first, where its grid lies.
    chain: list[sitk.Transform] = [_affine(post @ pre)]
    grids = item.get("DeformableRegistrationGridSequence") or []
    if grids:
        chain.append(_displacement(grids[0], np.linalg.inv(pre[:3, :3]), name))
    return sitk.CompositeTransform(chain)


def _single_matrix(item: Dataset, keyword: str, name: str) -> np.ndarray:
    """Matrix before or after the deformation, identity when absent, shape (4, 4)."""
    sequence = item.get(keyword) or []
    return _matrix(sequence[0], name) if sequence else np.eye(4)


def _displacement(grid: Dataset, before: np.ndarray, name: str) -> sitk.DisplacementFieldTransform:
    """Displacement field on its grid, vectors turned by ``before`` (3 x 3); zero outside the grid."""
    size = [int(n) for n in grid.GridDimensions]
    vectors = np.frombuffer(grid.VectorGridData, dtype="<f4").astype(float)
    if len(size) != 3 or vectors.size != 3 * int(np.prod(size)):
        raise InputError(
            f"{name}: Vector Grid Data (0064,0009) has {vectors.size} values for a grid of {size}.",
            "Export the registration again.",
        )
    if not np.isfinite(vectors).all():
        raise GeometryError(
            f"{name}: the deformation is undefined (NaN) in part of its grid.", "Crop or fill the deformation grid."
        )
    turned = vectors.reshape(size[2], size[1], size[0], 3) @ before.T
    field = sitk.GetImageFromArray(turned, isVector=True)
    orientation = np.array(grid.ImageOrientationPatient, float).reshape(2, 3)
    axes = np.array([*orientation, np.cross(*orientation)])
    field.SetOrigin([float(v) for v in grid.ImagePositionPatient])
    field.SetSpacing([float(v) for v in grid.GridResolution])
    field.SetDirection(axes.T.ravel().tolist())
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
