"""The image of a NIfTI file, where ITK's reader leaves something unsaid: missing values, orientation, slope of zero.

ITK turns NaN into zero, takes a file without orientation as it lies in memory, drops the shear of an sform when there
is a qform, and adds the intercept of a slope of zero. Here the first is mended and the rest refused.
"""

from __future__ import annotations

import gzip
import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError

ENDINGS = (".nii", ".nii.gz")
SAME_PLACE_MM = 0.1
"""A corner voxel may lie that far from where the sform says: its numbers are rounded."""
_HEADER_LENGTH = 348
_FLOATS = {16: "f4", 64: "f8"}  # data types of the header that can hold NaN
_LPS = np.array([-1.0, -1.0, 1.0])[:, None]  # RAS to LPS
_UNIT_MM = {1: 1000.0, 3: 0.001}  # metres, micrometres


@dataclass(frozen=True)
class _Header:
    """Entries of a NIfTI-1 header; ``order`` is the byte order of ``struct``."""

    order: str
    kind: int
    offset: int
    slope: float
    intercept: float
    qform_code: int
    sform_code: int
    sform: np.ndarray
    unit_mm: float


def read_nifti_image(path: Path) -> sitk.Image:
    """Image in LPS millimetres, NaN where the file holds no finite value; a last axis of one frame is dropped.

    Raises
    ------
    InputError
        If it cannot be read, is a pair of files, or does not say where its voxels lie or what they measure.
    """
    if not path.name.lower().endswith(ENDINGS):
        raise InputError(
            f"{path} is no {' or '.join(ENDINGS)} file.",
            "Convert it to .nii.gz: Analyze and .hdr/.img pairs do not tell sides, or missing values, safely.",
        )
    try:
        image = sitk.ReadImage(str(path))
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
            header = _header(file.read(_HEADER_LENGTH))
            if header and header.kind in _FLOATS:
                file.seek(header.offset)
                image = _with_missing_values(image, file.read(), header.order + _FLOATS[header.kind])
    except (RuntimeError, OSError, EOFError, ValueError, struct.error) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} cannot be read: {reason}.", "Give a NIfTI-1 file (.nii, .nii.gz).") from error
    if header is None:
        raise InputError(f"{path} does not begin as NIfTI-1 does.", "Give a NIfTI file (.nii, .nii.gz).")
    _require_oriented(path, image, header)
    if header.slope == 0 and header.intercept != 0:
        raise InputError(
            f"{path.name}: scl_slope is 0 and scl_inter {header.intercept:g}.", "Write it again with its real scale."
        )
    return image[..., 0] if image.GetDimension() == 4 and image.GetSize()[3] == 1 else image


def _header(raw: bytes) -> _Header | None:
    """Entries of the header; None for a file that does not begin as NIfTI-1 does."""
    for order in "<>":
        if struct.unpack_from(order + "i", raw)[0] == _HEADER_LENGTH:
            (kind,), units = struct.unpack_from(order + "h", raw, 70), raw[123]
            offset, slope, intercept = struct.unpack_from(order + "3f", raw, 108)
            codes, rows = struct.unpack_from(order + "2h", raw, 252), struct.unpack_from(order + "12f", raw, 280)
            sform = np.array(rows, float).reshape(3, 4)
            unit_mm = _UNIT_MM.get(units & 7, 1.0)
            return _Header(order, kind, int(offset), slope, intercept, codes[0], codes[1], sform, unit_mm)
    return None


def _require_oriented(path: Path, image: sitk.Image, header: _Header) -> None:
    """Refuse a file that does not say where its voxels lie, or says what ITK did not follow."""
    if header.qform_code <= 0 and header.sform_code <= 0:
        raise InputError(
            f"{path.name}: qform_code and sform_code are 0, so left and right cannot be told.",
            "Convert the DICOM again (dcm2niix), or set the sform if its orientation is known.",
        )
    if header.sform_code <= 0:
        return
    size = image.GetSize()
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size[:3]))), float)
    stated = _LPS * header.unit_mm * (header.sform[:, :3] @ corners.T + header.sform[:, 3:])
    rest = [0] * (len(size) - 3)
    taken = np.array([image.TransformContinuousIndexToPhysicalPoint([*corner, *rest])[:3] for corner in corners]).T
    off_mm = float(np.abs(taken - stated).max())
    if off_mm > SAME_PLACE_MM:
        raise InputError(
            f"{path.name}: its sform is sheared or contradicts its qform; a corner would lie {off_mm:.1f} mm off.",
            "Resample it to an upright grid first, or set sform and qform alike.",
        )


def _with_missing_values(image: sitk.Image, raw: bytes, kind: str) -> sitk.Image:
    """The image with NaN where the file holds no finite value, which ITK has turned into zeros."""
    values = sitk.GetArrayFromImage(image)
    missing = ~np.isfinite(np.frombuffer(raw, kind, values.size))
    if not missing.any():
        return image
    values.reshape(-1)[missing] = np.nan
    restored = sitk.GetImageFromArray(values, isVector=False)
    restored.CopyInformation(image)
    return restored
