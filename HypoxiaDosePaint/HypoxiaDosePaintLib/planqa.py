"""Agreement of masks, quality of dose painting: the figures of merit and their rules for empty masks.

Distances in mm, volumes in ml, doses in gray. Agreement with an empty mask: overlap 0 and distance infinite; two empty
masks have no agreement to speak of and give NaN. The street itself asks for ``dice`` alone; the others judge a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.volume import Region, require_same_grid

from .result import Curve

_CORNERS = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))  # bit i of a code is corner i


def dice(a: Region, b: Region) -> float:
    """Dice coefficient 2|A and B|/(|A| + |B|), 0 to 1; NaN if both are empty.

    Raises
    ------
    GeometryError
        If the grids differ.
    """
    require_same_grid(a.mask, b.mask, f"Dice of {a.name} and {b.name}")
    mask_a, mask_b = a.array, b.array
    total = np.count_nonzero(mask_a) + np.count_nonzero(mask_b)
    return 2 * np.count_nonzero(mask_a & mask_b) / total if total else float("nan")


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance (mm) from every surface element of one mask to the other's surface, with its area (mm2), both ways.

    The surface runs between voxels (marching cubes at one half), as in Nikolov et al. 2021, 10.2196/26151: distances
    are taken at the corners between voxels, weighted by the surface area there. A mask that touches the image border
    is closed there. Arrays have shape (elements,), sorted by distance; empty for an empty mask.
    """

    a_to_b_mm: np.ndarray
    a_area_mm2: np.ndarray
    b_to_a_mm: np.ndarray
    b_area_mm2: np.ndarray

    @property
    def both_empty(self) -> bool:
        """True if neither mask has a surface."""
        return self.a_area_mm2.size == 0 and self.b_area_mm2.size == 0

    def surface_dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces that lies within the tolerance of the other, 0 to 1."""
        if self.both_empty:
            return float("nan")
        near = self.a_area_mm2[self.a_to_b_mm <= tolerance_mm].sum() + self.b_area_mm2[
            self.b_to_a_mm <= tolerance_mm].sum()  # fmt: skip
        return float(near / (self.a_area_mm2.sum() + self.b_area_mm2.sum()))

    def hausdorff_mm(self, percent: float) -> float:
        """Larger of both directions' distance that ``percent`` of the surface area does not exceed."""
        if self.both_empty:
            return float("nan")
        if not 0 <= percent <= 100:
            raise RequestError(f"Percentile {percent}.", "It must lie in 0 to 100.")
        return max(
            _area_percentile(self.a_to_b_mm, self.a_area_mm2, percent),
            _area_percentile(self.b_to_a_mm, self.b_area_mm2, percent),
        )

    def average_mm(self) -> tuple[float, float]:
        """Area-weighted mean distance from a to b and from b to a."""
        if self.both_empty:
            return float("nan"), float("nan")
        if self.a_area_mm2.size == 0 or self.b_area_mm2.size == 0:
            return float("inf"), float("inf")
        return (
            float(np.average(self.a_to_b_mm, weights=self.a_area_mm2)),
            float(np.average(self.b_to_a_mm, weights=self.b_area_mm2)),
        )


def surface_distances(a: Region, b: Region) -> SurfaceDistances:
    """Distances between the surfaces of two regions on one grid.

    Raises
    ------
    GeometryError
        If the grids differ.
    """
    require_same_grid(a.mask, b.mask, f"Surface distance of {a.name} and {b.name}")
    mask_a, mask_b = a.array, b.array
    spacing = tuple(reversed(a.mask.GetSpacing()))
    either = mask_a | mask_b
    if either.any():  # the distances need only the box that holds both
        box = tuple(
            slice(int(line[0]), int(line[-1]) + 1)
            for line in (np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
        )
        mask_a, mask_b = mask_a[box], mask_b[box]
    area_a, area_b = _surface_area_mm2(mask_a, spacing), _surface_area_mm2(mask_b, spacing)
    return SurfaceDistances(*_one_way(area_a, area_b, spacing), *_one_way(area_b, area_a, spacing))


def paddick(target_ml: float, isodose_ml: float, overlap_ml: float) -> float:
    """Paddick conformity index TV_PIV^2/(TV PIV), 0 to 1 (METHODS 9; 10.3171/jns.2000.93.supplement_3.0219)."""
    if not (target_ml > 0 and isodose_ml > 0 and 0 <= overlap_ml <= min(target_ml, isodose_ml) * (1 + 1e-9)):
        raise RequestError(
            f"Paddick index of target {target_ml} ml, isodose {isodose_ml} ml, overlap {overlap_ml} ml.",
            "Both volumes must be positive and hold their overlap.",
        )
    return overlap_ml**2 / (target_ml * isodose_ml)


def quality(plan_gy: ArrayLike, prescribed_gy: ArrayLike) -> np.ndarray:
    """Voxel quality Q = D_plan/D_prescribed, same shape (METHODS 9)."""
    plan, prescribed = np.asarray(plan_gy, dtype=float), np.asarray(prescribed_gy, dtype=float)
    if plan.shape != prescribed.shape or not (prescribed > 0).all() or not np.isfinite(plan).all():
        raise RequestError(
            f"Quality of doses of shape {plan.shape} against prescriptions of shape {prescribed.shape}.",
            "Give finite plan doses and positive prescriptions of the same voxels.",
        )
    return plan / prescribed


def quality_factor(q: ArrayLike) -> float:
    """Quality factor, the mean of |Q - 1| over the voxels; 0 is perfect (METHODS 9)."""
    return float(np.mean(np.abs(_some(q) - 1)))


def quality_within(q: ArrayLike, low: float = 0.95, high: float = 1.05) -> float:
    """Share of voxels with Q from ``low`` to ``high``, both included: Q0.95-1.05 of METHODS 9."""
    values = _some(q)
    return float(np.mean((values >= low) & (values <= high)))


def quality_volume_histogram(q: ArrayLike, n: int = 200) -> Curve:
    """Cumulative quality-volume histogram: share of the volume (0 to 1) with at least the quality on the x axis."""
    values = np.sort(_some(q))
    x = np.linspace(0.0, float(max(values[-1], 1.0)) * 1.02, n)
    y = 1 - np.searchsorted(values, x, side="left") / values.size
    return Curve(tuple(x.tolist()), tuple(y.tolist()), "Q = planned / prescribed dose", "Share of volume")


def _some(q: ArrayLike) -> np.ndarray:
    """A flat, non-empty, finite array of qualities."""
    values = np.asarray(q, dtype=float).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise RequestError(f"{values.size} quality values, not all finite.", "Give the voxels of a non-empty target.")
    return values


def _area_percentile(distance_mm: np.ndarray, area_mm2: np.ndarray, percent: float) -> float:
    """Smallest distance that holds ``percent`` of the area; infinite if there is no area or no counterpart."""
    if distance_mm.size == 0:
        return float("inf")
    share = np.cumsum(area_mm2) / area_mm2.sum()
    return float(distance_mm[min(int(np.searchsorted(share, percent / 100 - 1e-12)), distance_mm.size - 1)])


def _one_way(area: np.ndarray, other_area: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distances (sorted) and areas of the surface elements of one mask to the surface of the other."""
    here, there = area > 0, other_area > 0
    if there.any():
        distance = distance_transform_edt(~there, sampling=spacing)[here]
    else:
        distance = np.full(np.count_nonzero(here), np.inf)
    order = np.argsort(distance, kind="stable")
    return distance[order], area[here][order]


def _surface_area_mm2(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Surface area in the cube between each 2x2x2 voxels, shape of the mask + 1; outside the array is empty."""
    padded = np.pad(mask, 1)
    shape = tuple(n - 1 for n in padded.shape)
    code = np.zeros(shape, dtype=np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
        code |= padded[window].astype(np.uint8) << np.uint8(bit)
    return _area_table(spacing)[code]


@cache
def _area_table(spacing: tuple[float, ...]) -> np.ndarray:
    """Area of the half-way surface in a cube of 2x2x2 voxel centres for each of the 256 codes, mm2."""
    return np.array([_cube_area(code, np.array(spacing)) for code in range(256)])


def _cube_area(code: int, spacing: np.ndarray) -> float:
    """Area of the surface that parts the full corners of one cube from the empty ones.

    The surface meets the cube's edges half-way between a full and an empty corner. On each face those points are
    joined (around the full corner where a face has two diagonal ones), the segments close to loops, and each loop is
    filled with triangles to its centroid.
    """
    full: set[tuple[int, ...]] = {corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1}
    neighbours: dict[tuple[float, ...], list[tuple[float, ...]]] = {}
    for axis in range(3):
        for side in (0, 1):
            for start, end in _face_segments(axis, side, full):
                neighbours.setdefault(start, []).append(end)
                neighbours.setdefault(end, []).append(start)
    area = 0.0
    while neighbours:
        loop = _pop_loop(neighbours)
        points = np.array(loop) * spacing
        spokes = points - points.mean(axis=0)
        area += float(np.linalg.norm(np.cross(spokes, np.roll(spokes, -1, axis=0)), axis=1).sum()) / 2
    return area


def _face_segments(
    axis: int, side: int, full: set[tuple[int, ...]]
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Segments of the surface on one face of the unit cube, between mid-points of its edges."""
    ring = []
    for u, v in ((0, 0), (0, 1), (1, 1), (1, 0)):
        corner = [u, v]
        corner.insert(axis, side)
        ring.append(tuple(corner))
    state = [corner in full for corner in ring]
    middle = [tuple((p + q) / 2 for p, q in zip(ring[i], ring[(i + 1) % 4], strict=True)) for i in range(4)]
    crossed = [i for i in range(4) if state[i] != state[(i + 1) % 4]]
    if len(crossed) == 4:  # two diagonal full corners: cut each of them off
        return [(middle[i - 1], middle[i]) for i in range(4) if state[i]]
    return [(middle[crossed[0]], middle[crossed[1]])] if crossed else []


def _pop_loop(neighbours: dict[tuple[float, ...], list[tuple[float, ...]]]) -> list[tuple[float, ...]]:
    """Take one closed loop of points out of the adjacency and return it in order."""
    first = next(iter(neighbours))
    loop, here = [first], neighbours[first][0]
    while here != first:
        loop.append(here)
        one, other = neighbours[here]
        here = other if one == loop[-2] else one
    for point in loop:
        del neighbours[point]
    return loop
