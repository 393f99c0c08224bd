"""The map on the planning grid: images are brought there, or a series is fitted on its own grid and its map brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, RequestError
from .methods import FitCurve, HypoxiaMap, Method, Progress
from .methods._voxelwise import VOXEL
from .resample import require_same_frame, resample_region, resample_series, resample_to
from .timeseries import FrameStack
from .volume import Region, Volume, describe_grid, image_like


@dataclass(frozen=True)
class Placement:
    """Where images lie on the planning image.

    Parameters
    ----------
    transform : SimpleITK.Transform or None
        Planning LPS mm to image LPS mm; None: one frame of reference.
    frame_uid : str
        Frame of reference of the images the transform is for.
    text : str
        How it came about, for the history.
    """

    transform: sitk.Transform | None
    frame_uid: str
    text: str

    def bring(self, volume: Volume, planning: Volume) -> Volume:
        """A volume on the planning grid (see ``resample_to`` for errors)."""
        transform = self.transform if volume.frame_of_reference_uid == self.frame_uid else None
        return resample_to(volume, planning.image, planning.frame_of_reference_uid, transform, "linear", self.text)

    def region_on(self, region: Region, grid: sitk.Image, frame_uid: str) -> Region:
        """A region of the planning grid on the grid of an image.

        Raises
        ------
        GeometryError
            If the frames differ, or the transform has no inverse.
        """
        if self.transform is None or frame_uid != self.frame_uid:
            require_same_frame(region.name, region.frame_of_reference_uid, frame_uid)
            return resample_region(region, grid)
        try:
            inverse = self.transform.GetInverse()
        except RuntimeError as error:
            raise GeometryError(
                "A series that is fitted on its own grid needs a registration that can be inverted.",
                "Use a rigid or affine one, or resample the series to the planning frame first.",
            ) from error
        return replace(resample_region(region, grid, inverse), frame_of_reference_uid=frame_uid)


def compute_map(
    method: Method,
    params: Any,
    images: Mapping[str, Volume | FrameStack],
    regions: Mapping[str, Region],
    planning: Volume,
    placement: Placement,
    progress: Progress,
) -> HypoxiaMap:
    """Compute a map on the planning grid.

    Volumes are brought to the planning grid first. As soon as a series is among the inputs everything is brought to
    the grid of the first series instead, fitted there, and the map, its uncertainty, its further maps and its codes
    are brought to the planning grid: a fit is not linear, so averaging before it would be wrong, and slow. So it is
    for a method that works on the grid its first image came on (``Method.on_native_grid``).

    Raises
    ------
    HypoxiaError
        As the geometry and the method say.
    """
    if planning.facts.get("body_parts"):  # tags of the image the structures were drawn on: a learned map's gate asks
        told = {"planning_body_parts": planning.facts["body_parts"]}
        images = {key: replace(image, facts={**image.facts, **told}) for key, image in images.items()}
    own = _own_grid(method, images)
    if own is None:
        volumes = {key: placement.bring(image, planning) for key, image in images.items() if isinstance(image, Volume)}
        return method.compute(volumes, regions, params, progress)
    grid, frame_uid = own
    native = _on_grid_of(grid, frame_uid, images)
    own_regions = {key: placement.region_on(region, grid, frame_uid) for key, region in regions.items()}
    found = method.compute(native, own_regions, params, progress)
    whose = "image" if method.on_native_grid else "series"
    note = f"The map was computed on the grid of the {whose} ({describe_grid(grid)}) and resampled linearly."
    further = {key: _brought(volume, placement, planning) for key, volume in found.extra.items()}
    return replace(
        found,
        volume=placement.bring(found.volume, planning),
        uncertainty=_brought(found.uncertainty, placement, planning),
        quality=None if found.quality is None else _codes_on(found.quality, grid, planning.image, placement, frame_uid),
        extra={key: volume for key, volume in further.items() if volume is not None},
        warnings=(*found.warnings, note),
    )


def curves_at(
    method: Method,
    params: Any,
    images: Mapping[str, Volume | FrameStack],
    regions: Mapping[str, Region],
    point_mm: tuple[float, float, float],
    placement: Placement,
    progress: Progress,
) -> tuple[FitCurve, ...]:
    """Measured and fitted curve of one voxel of a series: fitted as the map is, with all the GTV decides.

    Parameters
    ----------
    point_mm : tuple of float
        In the planning image, LPS mm.

    Raises
    ------
    RequestError
        If no series is among the images, or the point lies outside it.
    HypoxiaError
        As ``compute_map``.
    """
    series = next((image for image in images.values() if isinstance(image, FrameStack)), None)
    if series is None:
        raise RequestError("This method takes no series: there is no curve.", "Choose a method for a series of frames.")
    grid, frame_uid = series.grid, series.frame_of_reference_uid
    moved = placement.transform is not None and frame_uid == placement.frame_uid
    point = placement.transform.TransformPoint(point_mm) if moved and placement.transform else point_mm
    index = grid.TransformPhysicalPointToIndex(point)
    if any(not 0 <= i < n for i, n in zip(index, grid.GetSize(), strict=True)):
        raise RequestError("The cross-hair lies outside the series.", "Put it inside the field of view.")
    array = np.zeros(tuple(reversed(grid.GetSize())), np.uint8)
    array[index[2], index[1], index[0]] = 1
    name = f"voxel {index[0] + 1}, {index[1] + 1}, {index[2] + 1}"
    own = {key: placement.region_on(region, grid, frame_uid) for key, region in regions.items()}
    own[VOXEL] = Region(name, image_like(array, grid), frame_uid, "at the cross-hair")
    return method.compute(_on_grid_of(grid, frame_uid, images), own, params, progress).curves


def _own_grid(method: Method, images: Mapping[str, Volume | FrameStack]) -> tuple[sitk.Image, str] | None:
    """Grid and frame of reference a map is computed on if it is not the planning image's."""
    for image in images.values():
        if isinstance(image, FrameStack):
            return image.grid, image.frame_of_reference_uid
    first = images.get(method.inputs[0].key) if method.on_native_grid else None
    return (first.image, first.frame_of_reference_uid) if isinstance(first, Volume) else None


def _on_grid_of(grid: sitk.Image, frame_uid: str, images: Mapping[str, Volume | FrameStack]) -> dict[str, Any]:
    """Every image on a grid; all must share its frame of reference."""
    native: dict[str, Any] = {}
    for key, image in images.items():
        bring: Any = resample_series if isinstance(image, FrameStack) else resample_to
        native[key] = bring(image, grid, frame_uid)
    return native


def _brought(volume: Volume | None, placement: Placement, planning: Volume) -> Volume | None:
    """A map on the planning grid; None where it has no value there at all."""
    if volume is None or not np.isfinite(volume.array).any():
        return None
    return placement.bring(volume, planning)


def _codes_on(
    codes: np.ndarray, grid: sitk.Image, target: sitk.Image, placement: Placement, frame_uid: str
) -> np.ndarray:
    """Quality codes of the nearest voxel; the largest code found (outside) where there is none."""
    transform = placement.transform if frame_uid == placement.frame_uid else None
    transform = transform or sitk.Transform(3, sitk.sitkIdentity)
    moved = sitk.Resample(image_like(codes, grid), target, transform, sitk.sitkNearestNeighbor, float(codes.max()))
    return np.array(sitk.GetArrayViewFromImage(moved))
