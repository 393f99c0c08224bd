"""What the pictures show: crops, windows, contours and panes. Small images only, so that a child process can have them.

A pane is a square cut through the planning grid along its own voxel axes, so that what is seen are its slices.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.volume import Region, Volume, image_like

from ..result import Result
from ..structures import HYPOXIC_CODE, SURROGATE_CODE
from ..wording import ml_text, prescribed_text

SOFT_TISSUE_HU = (-160.0, 240.0)  # window 400, level 40: the usual soft-tissue setting
SUV_WINDOW = (0.0, 6.0)  # window 6, level 3: what PET readers ask for
SKIN_HU, BONE_HU = -300.0, 250.0  # outlines that a registration is judged by
ZOOM_MARGIN_MM = 15.0
MAP_MARGIN_MM = 5.0  # the map is shown this far outside targets
WHOLE_MAX_VOXELS = 192  # per axis, for overview pictures
WHOLE_MAX_MM = 500.0
TILES_PER_PAGE = 30
ORGAN_COLOURS = ((105, 105, 255), (165, 225, 255), (30, 150, 60), (180, 240, 105), (210, 90, 135))  # no target's

SCREEN_AXES = {  # screen right and screen up in LPS; patient right is on screen left, anterior up or left
    "Axial": ((1, 0, 0), (0, -1, 0)),
    "Coronal": ((1, 0, 0), (0, 0, 1)),
    "Sagittal": ((0, 1, 0), (0, 0, 1)),
}
_POSITION_LETTER = {"Axial": "z", "Coronal": "y", "Sagittal": "x"}
_SOLID_TITLES = {"Coronal": "3D from the front", "Sagittal": "3D from the left", "Axial": "3D from below"}


@dataclass(frozen=True)
class Pane:
    """One square view: unit vectors and centre in LPS mm, ``width_mm`` across ``pixels``."""

    key: str
    title: str
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    width_mm: float
    pixels: int
    background: str = "near"  # near, whole, pet; "solid" for a 3D view
    overlay: str = "map"  # map, uncertainty, or empty
    contours: str = "targets"  # targets, body, or empty


@dataclass(frozen=True)
class Contour:
    """An outline: mask cropped to its content, and how it is drawn."""

    name: str
    legend: str
    colour: tuple[int, int, int]
    mask: sitk.Image
    group: str = "targets"
    opacity_3d: float = 0.0  # 0: not in the 3D view


@dataclass(frozen=True)
class Plan:
    """Everything the views are made from."""

    images: dict[str, sitk.Image]
    windows: dict[str, tuple[float, float]]
    contours: tuple[Contour, ...]
    panes: tuple[Pane, ...]
    map_unit: str

    def drawn(self, group: str) -> list[Contour]:
        """Contours of a group in the order they are drawn: the largest first, so that none hides a smaller one."""
        return sorted((c for c in self.contours if c.group == group), key=lambda c: -Region(c.name, c.mask).volume_ml)


def make_plan(result: Result, pixels: int) -> Plan:
    """Choose crops, windows, contours and panes of a result; ``pixels`` is the side of a large pane."""
    images = result.images
    planning, grid = images.planning, images.planning.image
    box = _box(_tumour_regions(result))
    shown, window = _shown(result, images.map.volume, box)
    width = max(_zoom_mm(grid, box, name) for name in SCREEN_AXES)
    margin = (width - _box_extent_mm(grid, box)) / 2 + np.array(grid.GetSpacing())
    small = {"near": _crop(grid, box, margin), "map": shown, "whole": _shrink(planning)}
    windows = {"near": _window(planning, small["near"]), "map": window}
    windows["whole"] = windows["near"]
    if images.map.uncertainty is not None:
        small["uncertainty"], windows["uncertainty"] = _shown(result, images.map.uncertainty, box)
    if images.pet is not None and needs_sign_off(result):
        small["pet"] = _shrink(images.pet)
        windows["pet"] = SUV_WINDOW if images.pet.unit == "g/ml" else _window(images.pet, small["pet"])
    contours = _contours(result, small)
    return Plan(small, windows, contours, _panes(result, box, small, pixels), images.map.volume.unit)


def needs_sign_off(result: Result) -> bool:
    """True if a registration moved the PET, so that a person must look at it."""
    return result.registration.mode != "same frame of reference" and result.registration.mode != "none"


def central_voxel(region: Region) -> tuple[int, int, int]:
    """Index (i, j, k) of the voxel inside a region that is nearest to its centre of mass."""
    box = _box([region])
    zyx = np.argwhere(sitk.GetArrayFromImage(_crop(region.mask, box)))
    spacing = np.array(region.mask.GetSpacing())[::-1]
    nearest = zyx[np.argmin((((zyx - zyx.mean(0)) * spacing) ** 2).sum(1))][::-1] + box[:, 0]
    return int(nearest[0]), int(nearest[1]), int(nearest[2])


def screen_vectors(grid: sitk.Image, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Screen right and up (LPS unit vectors) along the voxel axes that are nearest to an orientation's."""
    axes = np.array(grid.GetDirection()).reshape(3, 3)
    best = max(itertools.permutations(range(3)), key=lambda p: sum(abs(axes[r, c]) for r, c in enumerate(p)))
    right, up = (np.array(v, float) for v in SCREEN_AXES[orientation])

    def snap(vector: np.ndarray) -> np.ndarray:
        axis = axes[:, best[int(np.argmax(np.abs(vector)))]]
        return axis * np.sign(axis @ vector)

    return snap(right), snap(up)


def _panes(result: Result, box: np.ndarray, small: dict[str, sitk.Image], pixels: int) -> tuple[Pane, ...]:
    """Zoomed, overview, 3D, slice-by-slice and registration panes."""
    images = result.images
    grid = images.planning.image
    focus = grid.TransformIndexToPhysicalPoint(central_voxel(images.hypoxic if images.hypoxic.volume_ml else
                                                             images.gtvs[0]))  # fmt: skip
    centre = _box_centre_mm(grid, box)
    whole_box = np.array([[0, n - 1] for n in grid.GetSize()])
    whole = float(min(WHOLE_MAX_MM, _box_extent_mm(grid, whole_box).max()))
    middle = _box_centre_mm(grid, whole_box)
    panes = []
    for name in SCREEN_AXES:
        low, zoom = name.lower(), _zoom_mm(grid, box, name)
        panes.append(_pane(grid, low, name, focus, centre, zoom, pixels))
        if "uncertainty" in small:
            panes.append(_pane(grid, f"uncertainty_{low}", name, focus, centre, zoom, pixels * 2 // 3,
                               overlay="uncertainty"))  # fmt: skip
        panes.append(_pane(grid, f"overview_{low}", name, focus, middle, whole, pixels * 2 // 3, background="whole"))
        panes.append(_pane(grid, f"solid_{low}", name, focus, centre, zoom, pixels * 2 // 3, background="solid"))
        if "pet" in small:
            for kind, background, contours in (("outlined", "pet", "body"), ("pet", "pet", ""), ("ct", "whole", "")):
                panes.append(_pane(grid, f"registration_{kind}_{low}", name, focus, middle, whole, pixels * 2 // 3,
                                   background=background, overlay="", contours=contours))  # fmt: skip
    return (*panes, *_slice_tiles(result, focus, pixels))


def _slice_tiles(result: Result, focus: tuple[float, ...], pixels: int) -> list[Pane]:
    """One tile for every slice that holds hypoxic volume, from superior to inferior."""
    grid, hypoxic = result.images.planning.image, result.images.hypoxic
    if not hypoxic.volume_ml:
        return []
    box = _box([hypoxic, *(s.region for s in result.images.structures if s.dose and s.dose.label == "boost")])
    centre = _box_centre_mm(grid, box)
    right, up = screen_vectors(grid, "Axial")
    extent = _box_extent_mm(grid, box)[[_axis_along(grid, right), _axis_along(grid, up)]]
    width = float(max(40.0, extent.max() + ZOOM_MARGIN_MM))
    axis = _axis_along(grid, np.cross(right, up))
    others = tuple(a for a in range(3) if a != 2 - axis)
    numbers = np.flatnonzero(sitk.GetArrayViewFromImage(hypoxic.mask).any(axis=others))
    tiles = []
    for number in numbers:
        index = list(grid.TransformPhysicalPointToIndex(focus))
        index[axis] = int(number)
        place = grid.TransformIndexToPhysicalPoint(index)
        tile = _pane(grid, f"slice_{number:04d}", "Axial", place, centre, width, pixels * 2 // 5)
        tiles.append(replace(tile, title=f"z = {_position_text(place[2])} mm"))
    return sorted(tiles, key=lambda p: -float(np.dot(p.centre_mm, (0, 0, 1))))


def _pane(
    grid: sitk.Image, key: str, orientation: str, focus: tuple[float, ...], centre: np.ndarray, width_mm: float,
    pixels: int, *, background: str = "near", overlay: str = "map", contours: str = "targets",
) -> Pane:  # fmt: skip
    """A pane in the slice through ``focus`` and centred, within that slice, on ``centre``."""
    right, up = screen_vectors(grid, orientation)
    normal = np.cross(right, up)
    place = centre + normal * float(np.dot(np.array(focus) - centre, normal))
    axis = _axis_along(grid, normal)
    number = grid.TransformPhysicalPointToContinuousIndex([float(v) for v in focus])[axis]
    letter = _POSITION_LETTER[orientation]
    position = _position_text(focus["xyz".index(letter)])
    title = f"{orientation}  {letter} = {position} mm  (slice {round(number) + 1}/{grid.GetSize()[axis]})"
    if background == "solid":
        place, title = centre, _SOLID_TITLES[orientation]
    return Pane(key, title, _tuple(right), _tuple(up), _tuple(place), width_mm, pixels, background, overlay, contours)


def _contours(result: Result, small: dict[str, sitk.Image]) -> tuple[Contour, ...]:
    """Outlines of every structure and organ, and of skin and bone where a registration is judged."""
    opacity = {"GTV": 0.25, "CTV": 0.2, "PTV": 0.15}
    out = []
    for structure in result.images.structures:
        solid = (
            1.0 if structure.code in (HYPOXIC_CODE, SURROGATE_CODE) else opacity.get(structure.interpreted_type, 0.0)
        )
        if structure.dose and structure.dose.label == "boost":
            solid = 0.3
        dose = f"  {prescribed_text(structure.dose.dose_gy)}" if structure.dose else ""
        legend = f"{structure.name}{dose}  {ml_text(structure.region.volume_ml)}"
        out.append((structure.region, legend, structure.colour, solid))
    for number, organ in enumerate(result.images.organs):
        legend = f"{organ.name}  {ml_text(organ.volume_ml)}"
        out.append((organ, legend, ORGAN_COLOURS[number % len(ORGAN_COLOURS)], 0.2))
    contours = [
        Contour(region.name, legend, colour, _crop_mask(region.mask), "targets", solid)
        for region, legend, colour, solid in out
        if region.volume_ml > 0
    ]
    if "pet" in small and result.images.planning.unit == "[hnsf'U]":
        for name, level, colour in (("Skin", SKIN_HU, (0, 200, 255)), ("Bone", BONE_HU, (255, 120, 0))):
            mask = sitk.Cast(small["whole"] > level, sitk.sitkUInt8)
            contours.append(Contour(name, f"CT {name.lower()} (> {level:g} HU)", colour, mask, "body"))
    return tuple(contours)


def _shown(result: Result, volume: Volume, box: np.ndarray) -> tuple[sitk.Image, tuple[float, float]]:
    """A map near the targets with a window; voxels not to be shown lie one window width below it."""
    margin = np.full(3, 2 * MAP_MARGIN_MM)
    part = _crop(volume.image, box, margin)
    values = sitk.GetArrayViewFromImage(part)
    union = _cropped_union(_tumour_regions(result), box, margin)
    distance = sitk.SignedMaurerDistanceMap(image_like(union.astype(np.uint8), part), False, False, True)
    inside = (sitk.GetArrayViewFromImage(distance) <= MAP_MARGIN_MM) & np.isfinite(values)
    of_tumour = values[_cropped_union(list(result.images.gtvs), box, margin)]
    low, high = _nice_window(of_tumour[np.isfinite(of_tumour)])
    shown = np.where(inside, np.maximum(np.nan_to_num(values), low), 2 * low - high)
    return image_like(shown.astype(np.float32), part), (low, high)


def _nice_window(values: np.ndarray) -> tuple[float, float]:
    """Window from the 2nd to the 99.5th percentile, widened to round numbers."""
    low, high = np.percentile(values, (2, 99.5)) if values.size else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)))
    low, high = math.floor(low / step * 5) * step / 5, math.ceil(high / step * 5) * step / 5
    return round(low, 9), round(max(high, low + step), 9)


def _window(volume: Volume, image: sitk.Image) -> tuple[float, float]:
    """Soft tissue for CT, percentiles for everything else."""
    if volume.unit == "[hnsf'U]":
        return SOFT_TISSUE_HU
    low, high = np.nanpercentile(sitk.GetArrayViewFromImage(image), (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _tumour_regions(result: Result) -> list[Region]:
    """Gross tumour, hypoxic volume and targets: what the zoomed views are about."""
    drawn = [s.region for s in result.images.structures if s.interpreted_type in ("GTV", "CTV", "PTV")]
    return [r for r in (*result.images.gtvs, *drawn) if r.volume_ml > 0]


def _cropped_union(regions: list[Region], box: np.ndarray, margin_mm: np.ndarray) -> np.ndarray:
    """Union of regions within a box and margin, boolean, shape (z, y, x) of that part."""
    return np.logical_or.reduce([sitk.GetArrayFromImage(_crop(r.mask, box, margin_mm)) for r in regions])


def _box(regions: list[Region]) -> np.ndarray:
    """First and last voxel along i, j, k of all regions together, shape (3, 2); the whole grid if all are empty."""
    boxes = []
    for region in regions:
        view = sitk.GetArrayViewFromImage(region.mask)
        planes = np.flatnonzero(view.any(axis=(1, 2)))
        if planes.size:
            view = view[planes[0] : planes[-1] + 1]  # the other axes need only look where something is
            spans = (np.flatnonzero(view.any(axis=(0, 1))), np.flatnonzero(view.any(axis=(0, 2))), planes)
            boxes.append([[s[0], s[-1]] for s in spans])
    if not boxes:
        return np.array([[0, n - 1] for n in regions[0].mask.GetSize()])
    return np.stack([np.min(boxes, axis=0)[:, 0], np.max(boxes, axis=0)[:, 1]], axis=1)


def _zoom_mm(grid: sitk.Image, box: np.ndarray, orientation: str) -> float:
    """Width of a zoomed pane: the extent of a box in its plane, with a margin."""
    in_plane = [_axis_along(grid, vector) for vector in screen_vectors(grid, orientation)]
    return float(max(60.0, _box_extent_mm(grid, box)[in_plane].max() + 2 * ZOOM_MARGIN_MM))


def _box_centre_mm(grid: sitk.Image, box: np.ndarray) -> np.ndarray:
    return np.array(grid.TransformContinuousIndexToPhysicalPoint([float(v) for v in box.mean(1)]))


def _box_extent_mm(grid: sitk.Image, box: np.ndarray) -> np.ndarray:
    return (box[:, 1] - box[:, 0] + 1) * np.array(grid.GetSpacing())


def _crop(image: sitk.Image, box: np.ndarray, margin_mm: np.ndarray | None = None) -> sitk.Image:
    """Part of an image around a box, with a margin along i, j, k."""
    margin = np.zeros(3) if margin_mm is None else margin_mm
    pad = np.ceil(margin / np.array(image.GetSpacing())).astype(int)
    first = np.maximum(box[:, 0] - pad, 0)
    last = np.minimum(box[:, 1] + pad + 1, image.GetSize())
    return sitk.RegionOfInterest(image, [int(n) for n in last - first], [int(n) for n in first])


def _crop_mask(mask: sitk.Image) -> sitk.Image:
    """Mask cropped to its content with one empty voxel around, so that every outline closes."""
    return sitk.ConstantPad(_crop(mask, _box([Region("mask", mask)])), [1] * 3, [1] * 3, 0)


def _shrink(volume: Volume) -> sitk.Image:
    """Coarser copy for overviews, at most 192 voxels along each axis."""
    return sitk.BinShrink(volume.image, [math.ceil(n / WHOLE_MAX_VOXELS) for n in volume.image.GetSize()])


def _position_text(position_mm: float) -> str:
    """Millimetres with up to two decimals, as slice positions are written."""
    return f"{round(position_mm, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def _axis_along(grid: sitk.Image, direction: np.ndarray) -> int:
    """Voxel axis (0-2) that is nearest to a direction."""
    return int(np.argmax(np.abs(np.array(grid.GetDirection()).reshape(3, 3).T @ direction)))


def _tuple(vector: np.ndarray) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
