"""From the positions of single slices to one regular grid, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError

SAME_PLACE_MM = 0.01  # floor of every distance test; positions are written to about 0.001 mm
SPACING_TOLERANCE = 0.01  # fraction of the slice spacing two gaps may differ by
DRIFT_TOLERANCE = 0.1  # fraction of a pixel the stack may lean sideways over its whole length
PIXEL_TOLERANCE_MM = 1e-4  # 0.05 mm over 512 pixels
ORIENTATION_TOLERANCE = 1e-4  # per direction cosine; 0.006 degrees, or 0.04 mm over 400 mm


@dataclass(frozen=True)
class SlicePlane:
    """Where one slice lies.

    Parameters
    ----------
    name : str
        File name, for messages.
    position : tuple of float
        Image Position (Patient), LPS mm: centre of the first pixel.
    orientation : tuple of float
        Image Orientation (Patient): direction of increasing column, then of increasing row.
    pixel_spacing_mm : tuple of float
        Distance between rows, between columns.
    shape : tuple of int
        Rows, columns.
    thickness_mm : float
        Slice Thickness, NaN when absent.
    """

    name: str
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    thickness_mm: float = float("nan")


@dataclass(frozen=True)
class Grid:
    """A regular grid: ``order[k]`` is the input slice at array index k; the rest is SimpleITK's geometry."""

    order: tuple[int, ...]
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]

    def describe(self) -> str:
        """One line, in the words of ``volume.describe_grid``."""
        size = "x".join(str(n) for n in self.size)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing_mm)
        return f"{size} voxels of {spacing} mm from ({', '.join(f'{o:.2f}' for o in self.origin_mm)})"


def axes(orientation: Sequence[float]) -> np.ndarray:
    """Orthonormal column direction, row direction and normal, shape (3, 3), one axis per row.

    Raises
    ------
    GeometryError
        If the six numbers are not two perpendicular unit vectors within 1e-3.
    """
    columns, rows = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    lengths = np.array([np.linalg.norm(columns), np.linalg.norm(rows)])
    if not np.allclose(lengths, 1, atol=1e-3) or abs(float(columns @ rows)) > 1e-3:
        raise GeometryError(
            f"Image Orientation (0020,0037) {tuple(orientation)} is not a pair of perpendicular unit vectors.",
            "Export the series again.",
        )
    columns = columns / lengths[0]
    normal = np.cross(columns, rows)
    normal /= np.linalg.norm(normal)
    return np.array([columns, np.cross(normal, columns), normal])


def slice_order(planes: Sequence[SlicePlane]) -> tuple[np.ndarray, np.ndarray]:
    """Order of the slices along their normal, and their positions on it in that order, mm."""
    normal = axes(planes[0].orientation)[2]
    along = np.array([p.position for p in planes]) @ normal
    order = np.argsort(along, kind="stable")
    return order, along[order]


def build_grid(planes: Sequence[SlicePlane], series: str) -> Grid:
    """Put slices in order and check that they fill a regular grid.

    Parameters
    ----------
    planes : sequence of SlicePlane
        At least one slice, in any order.
    series : str
        How to name the series in messages.

    Raises
    ------
    GeometryError
        For mixed size, spacing or orientation, doubled positions, missing slices, unequal gaps, a leaning stack, or
        a single slice without thickness. The message names files or positions.
    """
    require_alike(planes, series)
    order, along = slice_order(planes)
    ordered = [planes[i] for i in order]
    if len(planes) == 1:
        spacing = planes[0].thickness_mm
        if not spacing > 0:
            raise GeometryError(
                f"{series}: a single slice ({planes[0].name}) without Slice Thickness (0018,0050).",
                "Give the whole series, or a slice whose thickness is known.",
            )
    else:
        gaps = np.diff(along)
        _require_no_doubles(gaps, along, ordered, series)
        _require_equal_gaps(gaps, along, series)
        spacing = float((along[-1] - along[0]) / (len(planes) - 1))
    frame = axes(ordered[0].orientation)
    _require_straight(ordered, frame, series)
    rows, columns = ordered[0].shape
    row_gap, column_gap = ordered[0].pixel_spacing_mm
    return Grid(
        order=tuple(int(i) for i in order),
        size=(columns, rows, len(planes)),
        spacing_mm=(column_gap, row_gap, float(spacing)),
        origin_mm=ordered[0].position,
        direction=tuple(float(v) for v in frame.T.ravel()),
    )


def doubled_positions(along: np.ndarray) -> np.ndarray:
    """True for every sorted position that has the same place as the one before, shape (n - 1,)."""
    return np.diff(along) < SAME_PLACE_MM


def require_alike(planes: Sequence[SlicePlane], series: str) -> None:
    """Refuse slices that differ in size, pixel spacing or orientation.

    Raises
    ------
    GeometryError
        Naming the first that does, and its entry.
    """
    checks = (
        ("size", "Rows and Columns (0028,0010), (0028,0011)", [p.shape for p in planes], 0.0),
        ("pixel spacing", "Pixel Spacing (0028,0030)", [p.pixel_spacing_mm for p in planes], PIXEL_TOLERANCE_MM),
        ("orientation", "Image Orientation (0020,0037)", [p.orientation for p in planes], ORIENTATION_TOLERANCE),
    )
    for what, tag, values, tolerance in checks:
        array = np.array(values, float)
        other = np.flatnonzero(np.any(np.abs(array - array[0]) > tolerance, axis=1))
        if other.size:
            k = int(other[0])
            raise GeometryError(
                f"{series}: mixed {what} within the series, {tag} is {values[k]} in {planes[k].name} and {values[0]} "
                f"in {planes[0].name}.",
                "Split the series, or leave the odd image out, so that all slices share one geometry.",
            )
    if not min(planes[0].pixel_spacing_mm) > 0:
        raise GeometryError(f"{series}: Pixel Spacing (0028,0030) is {planes[0].pixel_spacing_mm}.", "Export it again.")


def _require_no_doubles(gaps: np.ndarray, along: np.ndarray, ordered: Sequence[SlicePlane], series: str) -> None:
    """Refuse two slices at one place."""
    doubled = np.flatnonzero(gaps < SAME_PLACE_MM)
    if doubled.size:
        k = int(doubled[0])
        raise GeometryError(
            f"{series}: duplicate slice position {along[k]:.2f} mm in {ordered[k].name} and {ordered[k + 1].name} "
            f"({doubled.size} such pairs).",
            "Remove the doubled files; a slice may exist only once.",
        )


def _require_equal_gaps(gaps: np.ndarray, along: np.ndarray, series: str) -> None:
    """Refuse missing slices and unequal spacing, naming the positions."""
    usual = float(np.median(gaps))
    tolerance = max(SPACING_TOLERANCE * usual, SAME_PLACE_MM)
    wrong = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not wrong.size:
        return
    k = int(wrong[0])
    multiple = gaps[k] / usual
    missing = multiple > 1.5 and abs(gaps[k] - round(multiple) * usual) <= tolerance * round(multiple)
    what = f"{round(multiple) - 1} missing slice(s)" if missing else "unequal slice spacing"
    raise GeometryError(
        f"{series}: {what} between positions {along[k]:.2f} and {along[k + 1]:.2f} mm (gap {gaps[k]:.3f} mm, usual "
        f"{usual:.3f} mm; {wrong.size} such gaps).",
        "Send the complete series, or resample it to equal spacing first.",
    )


def _require_straight(ordered: Sequence[SlicePlane], frame: np.ndarray, series: str) -> None:
    """Refuse a sheared stack: slices must lie above each other along their normal."""
    offsets = np.array([p.position for p in ordered]) - np.array(ordered[0].position)
    sideways = np.hypot(offsets @ frame[0], offsets @ frame[1])
    limit = max(DRIFT_TOLERANCE * min(ordered[0].pixel_spacing_mm), SAME_PLACE_MM)
    worst = int(np.argmax(sideways))
    if sideways[worst] > limit:
        along = abs(float(offsets[worst] @ frame[2]))
        angle = np.degrees(np.arctan2(sideways[worst], along))
        raise GeometryError(
            f"{series}: gantry tilt or sheared stack, slice {ordered[worst].name} is shifted {sideways[worst]:.2f} mm "
            f"sideways ({angle:.1f} degrees between stack and slice normal).",
            "Resample the series to an upright grid first, or scan without gantry tilt.",
        )
