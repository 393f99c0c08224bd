"""How the images of a method come onto the planning image: shared frame, given registration, or one computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.dicomio.registration import read_transform, transform_warnings
from HypoxiaMapperLib.errors import GeometryError, RequestError
from HypoxiaMapperLib.mapping import Placement
from HypoxiaMapperLib.method_images import NIFTI_FRAME
from HypoxiaMapperLib.methods import Progress
from HypoxiaMapperLib.registration import register_rigid
from HypoxiaMapperLib.resample import require_same_frame
from HypoxiaMapperLib.timeseries import FrameStack

from .method_inputs import MethodInput
from .request import Request
from .result import RegistrationUse
from .selection import Inputs, union

TRANSFORM_FILE = "registration.tfm"
_LOOK = "look at the registration picture before accepting"
LARGE_RESIDUAL_MM = 5.0
"""Inverse-consistency error above which a registration is called doubtful; a choice: about one PET voxel."""


@dataclass(frozen=True)
class Alignment(Placement):
    """How the images of a method lie on the planning image, and what the report says of it."""

    use: RegistrationUse


def require_reviewed(request: Request) -> None:
    """Refuse to accept a registration in the very run that computes it: nobody can have seen it.

    Raises
    ------
    RequestError
        With the two steps to take instead.
    """
    if request.registration.mode == "rigid" and request.accepted_by.strip():
        raise RequestError(
            "A rigid registration that is computed in this run cannot be accepted yet: nobody has seen it.",
            "Run without --accepted-by, look at pictures/registration.png, then: hypoxia run RESULT/request.json "
            f"--registration RESULT/{TRANSFORM_FILE} --accepted-by NAME --out NEW.",
        )


def find_alignment(request: Request, inputs: Inputs, progress: Progress) -> Alignment:
    """How the images of the method lie on the planning image.

    Raises
    ------
    GeometryError
        Different frames of reference and no registration, or a registration that mirrors the patient.
    RequestError
        Unknown registration mode.
    """
    planning, pet, mode = inputs.planning.volume, inputs.pet.volume, request.registration.mode
    frame_uid = pet.frame_of_reference_uid
    if mode == "none":
        require_same_frame(pet.quantity, frame_uid, planning.frame_of_reference_uid)
        return Alignment(None, frame_uid, "", RegistrationUse("same frame of reference"))
    transform: sitk.Transform
    if mode == "stated":
        transform, text = sitk.Transform(3, sitk.sitkIdentity), "stated by the user to share the planning frame"
        warning = f"The image was stated by the user to lie on the planning CT without registration: {_LOOK}."
        use = RegistrationUse("stated by the user", matrix_of(transform), warnings=(warning,))
    elif mode == "file":
        path = Path(request.registration.path)
        transform = read_transform(path, planning.frame_of_reference_uid, pet.frame_of_reference_uid)
        text = f"transform file {path.name}"
        use = RegistrationUse(f"file {path.name}", matrix_of(transform), warnings=_file_warnings(path, transform))
    elif mode == "rigid":
        progress(0.1, "rigid registration")
        found = register_rigid(planning, pet, union(inputs.gtvs, "GTV"))
        matrix, text = matrix_of(found.transform), "rigid registration by mutual information"
        transform = _affine(matrix)  # as it is written: the run that is given the file makes the same voxels
        warnings = _rigid_warnings(found.residual["inverse_consistency_max_mm"])
        use = RegistrationUse("rigid, computed here", matrix, dict(found.residual), warnings)
    else:
        raise RequestError(f"Registration mode {mode!r} is unknown.", "Valid: none, rigid, file, stated.")
    _refuse_mirror(use)
    return Alignment(transform, frame_uid, text, use)


def leave_out_elsewhere(inputs: Inputs, alignment: Alignment, request: Request) -> Inputs:
    """Without the optional images nobody named that lie in a frame of reference nothing leads to; each is said.

    A required image, or one the user named, stays: computing the map then says what is missing.
    """
    frames = {inputs.planning.volume.frame_of_reference_uid}
    if alignment.transform is not None:
        frames.add(alignment.frame_uid)
    series = [i.image for i in inputs.images.values() if isinstance(i.image, FrameStack)]
    if series:  # everything is brought to the grid of the first one
        frames = {series[0].frame_of_reference_uid}
    kept, notes = {}, []
    for key, read in inputs.images.items():
        found = _as_stated(read, inputs, request)
        if found.image.frame_of_reference_uid in frames or found.spec.required or key in request.inputs:
            kept[key] = found
        else:
            notes.append(
                f"{found.infos[0].description or found.spec.description} ({key}) was left out: it lies in a frame of "
                "reference of its own, and no registration for it was given. Bring it into the planning CT's first."
            )
    return replace(inputs, images=kept, warnings=(*inputs.warnings, *notes))


def _as_stated(found: MethodInput, inputs: Inputs, request: Request) -> MethodInput:
    """A NIfTI image beside DICOM ones, placed where the user states it lies: in the planning frame."""
    if request.registration.mode != "stated" or found.image.frame_of_reference_uid != NIFTI_FRAME:
        return found
    if inputs.pet.volume.frame_of_reference_uid == NIFTI_FRAME:
        return found  # the alignment itself is for this frame
    frame_uid = inputs.planning.volume.frame_of_reference_uid
    return replace(found, image=replace(found.image, frame_of_reference_uid=frame_uid))


def _file_warnings(path: Path, transform: sitk.Transform) -> tuple[str, ...]:
    """What a reviewer must know about a registration that was given."""
    found = [f"The registration {path.name} was applied as given: {_LOOK}.", *transform_warnings(transform)]
    if path.suffix.lower() in (".tfm", ".h5", ".hdf5", ".txt", ".mat", ".xfm"):
        found.append(f"{path.name} is an ITK transform: it names no frames of reference, so it was not checked that it "
                     "belongs to these images.")  # fmt: skip
    return tuple(found)


def _rigid_warnings(residual_mm: float) -> tuple[str, ...]:
    """The measured residual in words."""
    doubt = "DOUBTFUL: " if residual_mm > LARGE_RESIDUAL_MM else ""
    return (
        f"{doubt}Rigid registration was computed here; there and back it misses by up to {residual_mm:.1f} mm at the "
        f"tumour: {_LOOK}.",
    )


def _refuse_mirror(use: RegistrationUse) -> None:
    """Refuse a transform that swaps left and right."""
    if use.matrix and np.linalg.det(np.array(use.matrix).reshape(4, 4)[:3, :3]) <= 0:
        raise GeometryError(
            f"The registration ({use.mode}) mirrors the patient: left and right would be swapped.",
            "Give a registration that keeps handedness; check RAS against LPS in the program that wrote it.",
        )


def matrix_of(transform: sitk.Transform) -> tuple[float, ...]:
    """4x4 row-major matrix of a linear transform (planning to image, LPS mm), empty for a deformable one."""
    if not transform.IsLinear():
        return ()
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    matrix = np.vstack([np.column_stack([*columns, origin]), [0.0, 0.0, 0.0, 1.0]])
    return tuple(float(v) for v in matrix.ravel())


def write_transform(use: RegistrationUse, path: Path) -> None:
    """Write a linear registration as an ITK transform that ``--registration FILE`` takes."""
    sitk.WriteTransform(_affine(use.matrix), str(path))


def _affine(matrix: Sequence[float]) -> sitk.AffineTransform:
    """The transform of a 4x4 row-major matrix."""
    rows = np.array(matrix).reshape(4, 4)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(rows[:3, :3].ravel().tolist())
    transform.SetTranslation(rows[:3, 3].tolist())
    return transform
