"""A simulated tumour: its place in the anatomy, its shape, and smooth fields of vessels, cells, oxygen and necrosis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import CODE, normal_tissues
from .imaging import Grid
from .oxygen import Oxygenation, look_up
from .settings import Draws
from .shapes import XYZ, Ellipsoid, Mesh, smooth_field

BOX_SPACING_MM = 2.0
BOX_MARGIN_MM = 30.0
"""Of anatomy around the tumour."""
REFERENCE_CELLULARITY = 0.75
SMALLEST_SHARE = 0.6
"""Bone and air may take so much of the wanted volume that the tumour is grown again, larger."""
GROWTH = 1.12
_MOST_TRIES = 5


@dataclass(frozen=True)
class Place:
    """A box of anatomy around a tumour.

    Parameters
    ----------
    grid : Grid
        2 mm grid; its coordinates are LPS millimetres.
    scale, shift_mm : tuple of float
        LPS position = scale * patient position of ``anatomy`` + shift, per axis (x, y, z).
    body : Ellipsoid
        The tumour without ripple, bone and air, in LPS millimetres.
    """

    grid: Grid
    scale: XYZ
    shift_mm: XYZ
    body: Ellipsoid

    def labels(self) -> np.ndarray:
        """Normal tissues of the box, uint8 (z, y, x)."""
        mesh = self.grid.mesh()
        (sx, sy, sz), (tx, ty, tz) = self.scale, self.shift_mm
        return normal_tissues(Mesh((mesh.x - tx) / sx, (mesh.y - ty) / sy, (mesh.z - tz) / sz))


@dataclass(frozen=True)
class Tumour:
    """Fields inside a window of the box; arrays (z, y, x) of the window's shape, ``gtv`` of the box's shape.

    Parameters
    ----------
    window : tuple of slice
        Where the window lies in the box.
    mesh : Mesh
        Voxel centres of the window, LPS millimetres.
    vascular_fraction, cellularity, necrosis : numpy.ndarray
        Shares of volume, 0-1; ``cellularity`` is of living cells and already without the necrotic share.
    """

    gtv: np.ndarray
    window: tuple[slice, slice, slice]
    mesh: Mesh
    vascular_fraction: np.ndarray
    cellularity: np.ndarray
    necrosis: np.ndarray
    oxygen: Oxygenation

    @property
    def inside(self) -> np.ndarray:
        """GTV in the window."""
        return self.gtv[self.window]


def find_place(draws: Draws) -> Place:
    """Choose site, size and patient, and lay the box around the tumour."""
    site = draws.settings.sites[int(draws.rng.integers(len(draws.settings.sites)))]
    side = float(draws.rng.choice((-1.0, 1.0))) if site.lateral else 1.0
    draws.note(site=site.name, side="left" if side > 0 else "right")
    volume_ml = draws("volume_ml", "wanted_volume_ml")
    ratios = np.array(draws.three("axis_ratio", "axis_ratio"))
    radius_mm = (volume_ml * 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    scale = np.array(draws.three("anatomy_scale", "anatomy_scale"))
    shift = np.array(draws.three("table_position_mm", "table_position_mm"))
    centre = scale * np.array(site.centre) * (side, 1.0, 1.0) + draws.three("site_shift_mm", "site_shift_mm") + shift
    body = Ellipsoid(_xyz(centre), _xyz(radius_mm * ratios / np.prod(ratios) ** (1.0 / 3.0)))
    return Place(_box(body), _xyz(scale), _xyz(shift), body)


def _box(body: Ellipsoid) -> Grid:
    """2 mm grid of a tumour and its margin, snapped to whole millimetres."""
    reach = np.array(body.semi_axes) * 1.15 + BOX_MARGIN_MM
    first = np.floor(np.array(body.centre) - reach)
    size = np.ceil(2.0 * reach / BOX_SPACING_MM).astype(int) + 1
    return Grid((int(size[0]), int(size[1]), int(size[2])), (BOX_SPACING_MM,) * 3, _xyz(first))


def grow_tumour(place: Place, labels: np.ndarray, draws: Draws) -> Tumour:
    """Tumour in a box of normal tissues: shape first, then vessels, cells, oxygen, and necrosis where supply fails."""
    box_mesh = place.grid.mesh()
    reach = np.array(place.body.semi_axes) * 1.15 + 6.0
    centre = np.array(place.body.centre)
    window, mesh = box_mesh.window(_xyz(centre - reach), _xyz(centre + reach))
    ripple = draws("ripple") * smooth_field(mesh, draws.rng, draws("ripple_wavelength_mm"))
    distance = place.body.distance(mesh) + ripple
    gtv = np.zeros(labels.shape, dtype=bool)
    gtv[window] = _solid(distance, labels[window], draws.facts["wanted_volume_ml"])
    depth = ndimage.distance_transform_edt(gtv[window])
    depth = depth / max(float(depth.max()), 1.0)

    spread, wavelength = draws("vascular_spread"), draws("vascular_wavelength_mm")
    texture = np.clip(smooth_field(mesh, draws.rng, wavelength), -2.2, 2.2)
    loss = 1.0 - draws("core_loss") * ndimage.gaussian_filter(depth, 1.5)
    vessels = np.clip(draws("vascular_fraction") * np.exp(spread * texture) * loss, 0.0, 0.14)
    cells = draws("cellularity") + draws("cellularity_spread") * smooth_field(mesh, draws.rng, wavelength)
    cells = np.clip(cells, 0.2, 0.98)
    consumption = draws("consumption_mmhg_per_s") * cells / REFERENCE_CELLULARITY
    oxygen = look_up(vessels, consumption, draws("vessel_po2_mmhg"))
    onset = draws("necrosis_onset")
    necrosis = np.clip((oxygen.anoxic - onset) / 0.15, 0.0, 1.0) * np.clip((depth - 0.15) / 0.2, 0.0, 1.0)
    return Tumour(gtv, window, mesh, vessels * (1.0 - 0.8 * necrosis), cells * (1.0 - 0.9 * necrosis), necrosis, oxygen)


def _solid(distance: np.ndarray, labels: np.ndarray, wanted_ml: float) -> np.ndarray:
    """Largest piece within the surface that spares bone and air; grown until near the wanted volume.

    What an axial plane of it encloses belongs to it, so that a contour needs no hole.
    """
    spared = np.isin(labels, [CODE[name] for name in ("air", "cortical bone", "spongy bone", "tooth")])
    surface = 1.0
    for _ in range(_MOST_TRIES):
        pieces, count = ndimage.label((distance <= surface) & ~spared)
        if count:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            solid = np.stack([ndimage.binary_fill_holes(plane) for plane in pieces == int(np.argmax(sizes))])
            if np.count_nonzero(solid) * BOX_SPACING_MM**3 / 1000.0 >= SMALLEST_SHARE * wanted_ml:
                break
        surface *= GROWTH ** (1.0 / 3.0)
    return solid


def _xyz(values: np.ndarray) -> XYZ:
    """Three plain floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z
