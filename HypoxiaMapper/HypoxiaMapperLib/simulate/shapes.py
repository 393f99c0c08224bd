"""Smooth shapes from which the digital patient is built: each answers which voxels lie inside.

Coordinates are patient millimetres (LPS: x to the left, y to the back, z to the head), given as open meshes that
broadcast to (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

XYZ = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """Voxel centres as open meshes: ``x`` (1, 1, nx), ``y`` (1, ny, 1), ``z`` (nz, 1, 1), in mm."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @classmethod
    def from_axes(cls, x_mm: np.ndarray, y_mm: np.ndarray, z_mm: np.ndarray) -> Mesh:
        """Mesh of three ascending coordinate axes."""
        return cls(x_mm[None, None, :], y_mm[None, :, None], z_mm[:, None, None])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the grid."""
        return (self.z.size, self.y.size, self.x.size)

    def mirrored(self) -> Mesh:
        """The same grid seen with left and right exchanged."""
        return Mesh(-self.x, self.y, self.z)

    def window(self, low: XYZ, high: XYZ) -> tuple[tuple[slice, slice, slice], Mesh]:
        """Index window (z, y, x) that holds a box in mm, and the mesh inside it."""
        axes = (self.z[:, 0, 0], self.y[0, :, 0], self.x[0, 0, :])
        spans = []
        for axis, a, b in zip(axes, reversed(low), reversed(high), strict=True):
            inside = np.flatnonzero((axis >= a) & (axis <= b))
            spans.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0))
        z, y, x = spans
        return (z, y, x), Mesh(self.x[:, :, x], self.y[:, y, :], self.z[z, :, :])


class Shape(Protocol):
    """What can be painted: a bounding box in mm, and a test for the voxels within it."""

    @property
    def mirror(self) -> bool:
        """True if the shape stands on both sides of the body."""
        ...

    def box(self) -> tuple[XYZ, XYZ]:
        """Lowest and highest x, y, z in mm."""
        ...

    def inside(self, mesh: Mesh) -> np.ndarray:
        """Boolean array of the mesh's shape."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """|x/a|^p + |y/b|^p + |z/c|^p <= 1; p = 2 is an ellipsoid, larger powers are boxier."""

    centre: XYZ
    semi_axes: XYZ
    mirror: bool = False
    power: float = 2.0

    def box(self) -> tuple[XYZ, XYZ]:
        """Lowest and highest x, y, z in mm."""
        (x, y, z), (a, b, c) = self.centre, self.semi_axes
        return (x - a, y - b, z - c), (x + a, y + b, z + c)

    def distance(self, mesh: Mesh) -> np.ndarray:
        """Normalised distance: 0 at the centre, 1 on the surface."""
        terms = [
            np.abs((axis - c) / s) ** self.power
            for axis, c, s in zip((mesh.x, mesh.y, mesh.z), self.centre, self.semi_axes, strict=True)
        ]
        return (terms[0] + terms[1] + terms[2]) ** (1.0 / self.power)

    def inside(self, mesh: Mesh) -> np.ndarray:
        """Boolean array of the mesh's shape."""
        return self.distance(mesh) <= 1.0


@dataclass(frozen=True)
class Tube:
    """A tube along z through stations (z, centre x, centre y, radius x, radius y), linear in between."""

    stations: tuple[tuple[float, float, float, float, float], ...]
    mirror: bool = False

    def box(self) -> tuple[XYZ, XYZ]:
        """Lowest and highest x, y, z in mm."""
        z, cx, cy, rx, ry = np.array(self.stations).T
        low = (float((cx - rx).min()), float((cy - ry).min()), float(z.min()))
        return low, (float((cx + rx).max()), float((cy + ry).max()), float(z.max()))

    def inside(self, mesh: Mesh) -> np.ndarray:
        """Boolean array of the mesh's shape."""
        z, *columns = np.array(self.stations).T
        cx, cy, rx, ry = (np.interp(mesh.z, z, column) for column in columns)
        return ((mesh.x - cx) / rx) ** 2 + ((mesh.y - cy) / ry) ** 2 <= 1.0


@dataclass(frozen=True)
class Arch:
    """A horseshoe or ring seen from above, in front of ``y_back``, between ``z_low`` and ``z_high``.

    ``rise`` lifts the arch by so many mm per mm to the back (the jaw line); ``teeth`` cuts it into so many pieces.
    """

    centre: tuple[float, float]
    outer: tuple[float, float]
    thickness: float
    z_low: float
    z_high: float
    y_back: float = np.inf
    rise: float = 0.0
    teeth: int = 0
    mirror: bool = False

    def box(self) -> tuple[XYZ, XYZ]:
        """Lowest and highest x, y, z in mm."""
        (x, y), (a, b) = self.centre, self.outer
        back = min(self.y_back, y + b)
        return (x - a, y - b, self.z_low), (x + a, back, self.z_high + self.rise * (back - (y - b)))

    def inside(self, mesh: Mesh) -> np.ndarray:
        """Boolean array of the mesh's shape."""
        dx, dy = mesh.x - self.centre[0], mesh.y - self.centre[1]
        a, b = self.outer
        ring = (np.abs(dx / a) ** 2.2 + np.abs(dy / b) ** 2.2 <= 1.0) & (
            np.abs(dx / (a - self.thickness)) ** 2.2 + np.abs(dy / (b - self.thickness)) ** 2.2 > 1.0
        )
        if self.teeth:
            ring = ring & (np.cos(self.teeth * np.arctan2(dy / b, dx / a)) > -0.7)
        z = mesh.z - self.rise * (dy + b)
        return ring & (mesh.y <= self.y_back) & (z >= self.z_low) & (z <= self.z_high)


def paint(labels: np.ndarray, mesh: Mesh, shape: Shape, label: int, only_in: np.ndarray | None = None) -> None:
    """Write a label into every voxel of a shape (and of its mirror image), optionally within a mask only."""
    for seen in (mesh, mesh.mirrored()) if shape.mirror else (mesh,):
        window, part = seen.window(*shape.box())
        inside = shape.inside(part)
        if only_in is not None:
            inside = inside & only_in[window]
        labels[window][inside] = label


def mask_of(mesh: Mesh, *shapes: Shape) -> np.ndarray:
    """Union of shapes as a boolean array (z, y, x)."""
    labels = np.zeros(mesh.shape, dtype=np.uint8)
    for shape in shapes:
        paint(labels, mesh, shape, 1)
    return labels.astype(bool)


def smooth_field(mesh: Mesh, rng: np.random.Generator, wavelength_mm: float, waves: int = 8) -> np.ndarray:
    """Smooth random field of zero mean and unit variance: a sum of plane waves of random direction and phase."""
    directions = rng.standard_normal((waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    numbers = 2.0 * np.pi / (wavelength_mm * rng.uniform(0.75, 1.5, waves))
    phases = rng.uniform(0.0, 2.0 * np.pi, waves)
    field = np.zeros(mesh.shape)
    for (kx, ky, kz), phase in zip(directions * numbers[:, None], phases, strict=True):
        field += np.cos(kx * mesh.x + ky * mesh.y + kz * mesh.z + phase)
    return field * np.sqrt(2.0 / waves)
