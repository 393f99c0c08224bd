"""Rigid registration on request, with a residual that was measured and not assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError
from .volume import Region, Volume

_SEED = 20250101
_SHRINK, _SMOOTH_MM = (4, 2, 1), (4.0, 2.0, 0.0)
_HISTOGRAM_BINS = 50
_SAMPLING = 0.2
_LOST_SHARE = 0.1
LARGEST_FRAME_SHIFT_MM = 50.0
"""A choice, wide of any motion of a patient lying still: more is an optimiser that ran away."""
_OFFSET_MM, _OFFSET_RAD = 4.0, 0.035  # along and about each axis: about a PET voxel and 2 degrees


@dataclass(frozen=True)
class RigidResult:
    """A rigid transform (planning LPS mm to moving LPS mm) and what is known of its error.

    ``residual`` holds ``inverse_consistency_mean_mm`` and ``inverse_consistency_max_mm`` (planning to moving and back
    by an independent registration of the swapped images, over the region of interest), the rotation and shift found,
    and the image similarity before and after.
    """

    transform: sitk.Euler3DTransform
    residual: Mapping[str, float]


def register_rigid(planning: Volume, moving: Volume, region: Region) -> RigidResult:
    """Register ``moving`` to ``planning`` by mutual information (Mattes 2003, 10.1109/TMI.2003.809072).

    The error is estimated by registering the other way round and walking a point of the region there and back; a
    consistent error of both directions stays hidden, so a person must look at the overlay.

    Raises
    ------
    GeometryError
        If the images do not overlap or the optimiser fails.
    """
    points = _region_points(region)
    fixed, floating = _prepare(planning), _prepare(moving)
    start = sitk.CenteredTransformInitializer(
        fixed, floating, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    if moving.frame_of_reference_uid == planning.frame_of_reference_uid:
        start = sitk.Euler3DTransform(start)
        start.SetTranslation((0.0, 0.0, 0.0))
    forward, before, after = _optimise(fixed, floating, sitk.Euler3DTransform(start))
    inverse_start = _near_inverse(forward)
    backward, _, _ = _optimise(floating, fixed, inverse_start)
    there = [forward.TransformPoint(p) for p in points]
    error = np.linalg.norm(np.array([backward.TransformPoint(p) for p in there]) - np.array(points), axis=1)
    shift = np.linalg.norm(np.array(there) - np.array(points), axis=1)
    angles = np.degrees([forward.GetAngleX(), forward.GetAngleY(), forward.GetAngleZ()])
    return RigidResult(
        forward,
        {
            "inverse_consistency_mean_mm": float(error.mean()),
            "inverse_consistency_max_mm": float(error.max()),
            "shift_at_target_mm": float(shift.mean()),
            "largest_rotation_deg": float(np.abs(angles).max()),
            "mutual_information_before": -before,
            "mutual_information_after": -after,
        },
    )


@dataclass(frozen=True)
class FrameMotion:
    """Rigid transform between two frames (fixed LPS mm to moving LPS mm); the identity with the reason on failure."""

    transform: sitk.Euler3DTransform
    failure: str = ""


def register_frame(fixed: Volume, moving: Volume) -> FrameMotion:
    """Find the motion between two frames of one series, which begin aligned.

    The identity without a failure where no transform has more mutual information: such frames lie well already. A
    failure is an optimiser that gives up, loses a tenth of the mutual information, or moves a corner of the image
    further than a patient moves between frames.
    """
    start = sitk.Euler3DTransform()
    size = fixed.image.GetSize()
    start.SetCenter(fixed.image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
    try:
        found, before, after = _optimise(_prepare(fixed), _prepare(moving), sitk.Euler3DTransform(start))
    except GeometryError as error:
        return FrameMotion(start, error.message.rstrip("."))
    if not np.isfinite(after) or after > before + _LOST_SHARE * abs(before):  # the metric is minus the information
        return FrameMotion(start, f"mutual information fell from {-before:.3g} to {-after:.3g}")
    if after >= before:
        return FrameMotion(start)
    corners = [[float((0, n - 1)[bit >> axis & 1]) for axis, n in enumerate(size)] for bit in range(8)]
    points = [fixed.image.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners]
    shift = max(float(np.linalg.norm(np.subtract(found.TransformPoint(p), p))) for p in points)
    if shift > LARGEST_FRAME_SHIFT_MM:
        return FrameMotion(start, f"it would move the image by up to {shift:.0f} mm")
    return FrameMotion(found)


def _near_inverse(forward: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """The inverse, moved off by ``_OFFSET``: the way back has to be found, not merely kept."""
    inverse = sitk.Euler3DTransform()
    inverse.SetMatrix(np.array(forward.GetMatrix()).reshape(3, 3).T.ravel().tolist())
    centre = np.array(forward.TransformPoint(forward.GetCenter()))
    inverse.SetCenter(centre.tolist())
    inverse.SetTranslation((np.array(forward.GetCenter()) - centre + _OFFSET_MM).tolist())
    angles = np.array([inverse.GetAngleX(), inverse.GetAngleY(), inverse.GetAngleZ()]) + _OFFSET_RAD
    inverse.SetRotation(*angles.tolist())
    return inverse


@contextmanager
def _one_thread() -> Iterator[None]:
    """One ITK thread: a sum over threads is not associative, and the same input must give the same result."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _prepare(volume: Volume) -> sitk.Image:
    """float32 image with finite voxels."""
    array = np.nan_to_num(volume.array.astype(np.float32), nan=0.0)
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(volume.image)
    return image


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, start: sitk.Euler3DTransform
) -> tuple[sitk.Euler3DTransform, float, float]:
    """One multi-resolution registration; returns the transform and the metric before and after."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_HISTOGRAM_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SAMPLING, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=200, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        with _one_thread():
            before = method.MetricEvaluate(fixed, moving)
            method.Execute(fixed, moving)
            after = method.MetricEvaluate(fixed, moving)
    except RuntimeError as error:
        raise GeometryError(
            f"Rigid registration failed: {str(error).splitlines()[-1].strip()}.",
            "The images may not overlap; give a registration object or transform file.",
        ) from error
    return start, float(before), float(after)


def _region_points(region: Region) -> list[tuple[float, float, float]]:
    """Corners and centre of the bounding box of a region, LPS mm."""
    where = np.argwhere(region.array)
    if where.size == 0:
        raise GeometryError(f"Region {region.name} is empty.", "Give a region to measure the registration at.")
    low, high = where.min(axis=0), where.max(axis=0)
    corners = [[(low, high)[bit >> axis & 1][axis] for axis in range(3)] for bit in range(8)]
    corners.append([int(v) for v in where.mean(axis=0).round()])
    return [region.mask.TransformIndexToPhysicalPoint([int(c[2]), int(c[1]), int(c[0])]) for c in corners]
