"""Normal anatomy of the digital head and neck: a map of tissues, and what each tissue looks like to each scanner.

Every number here is a choice of the simulation, made so that the images look and measure like a head and neck. None is
taken from a patient and none feeds a clinical default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .shapes import Arch, Ellipsoid, Mesh, Shape, Tube, mask_of, paint


@dataclass(frozen=True)
class Tissue:
    """CT number (HU), T1-weighted signal (arbitrary), FMISO tissue-to-blood ratio at 150 min, FDG SUVbw at 60 min."""

    name: str
    hu: float
    t1_signal: float
    fmiso_ratio: float
    fdg_suv: float


TISSUES = (
    Tissue("air", -1000, 0, 0.0, 0.0),
    Tissue("skin", 20, 380, 0.80, 0.7),
    Tissue("fat", -95, 900, 0.45, 0.3),
    Tissue("muscle", 58, 360, 0.92, 0.8),
    Tissue("gland", 35, 520, 0.95, 1.8),
    Tissue("mucosa", 48, 400, 0.95, 1.5),
    Tissue("tonsil", 62, 410, 0.95, 3.2),
    Tissue("thyroid", 140, 470, 0.95, 1.4),
    Tissue("blood", 190, 160, 1.00, 1.6),
    Tissue("brain", 36, 480, 0.85, 7.5),
    Tissue("brainstem", 32, 460, 0.85, 5.0),
    Tissue("cord", 36, 450, 0.85, 1.9),
    Tissue("csf", 8, 170, 0.70, 0.5),
    Tissue("eye", 12, 150, 0.50, 0.4),
    Tissue("cartilage", 130, 260, 0.60, 0.7),
    Tissue("disc", 85, 300, 0.60, 0.6),
    Tissue("cortical bone", 1050, 60, 0.40, 0.4),
    Tissue("spongy bone", 320, 620, 0.75, 1.1),
    Tissue("tooth", 1900, 30, 0.10, 0.1),
    Tissue("tumour", 82, 330, 1.00, 6.5),
    Tissue("necrosis", 28, 230, 0.55, 1.2),
    Tissue("lung", -800, 40, 0.40, 0.4),
)
CODE = {tissue.name: number for number, tissue in enumerate(TISSUES)}

SKIN_MM = 2.5
FAT_MM = 7.0

OUTLINE: tuple[Shape, ...] = (
    Ellipsoid((0, 14, 122), (75, 97, 68)),  # cranium
    Ellipsoid((0, -34, 62), (63, 55, 68), power=2.5),  # face
    Ellipsoid((0, -74, 12), (24, 17, 16)),  # chin
    Ellipsoid((0, -90, 74), (13, 19, 17)),  # nose
    Ellipsoid((0, -84, 40), (26, 12, 16)),  # lips
    Ellipsoid((76, 20, 92), (6, 15, 27), mirror=True),  # ears
    Tube(((-150, 0, 26, 78, 66), (-70, 0, 22, 61, 57), (-20, 0, 18, 58, 57), (30, 0, 20, 62, 64), (90, 0, 24, 66, 76))),
    Ellipsoid((0, 30, -142), (158, 70, 82), power=2.2),  # shoulders
)

AORTIC_ARCH = Ellipsoid((3, -15, -104), (30, 16, 24), power=2.3)
"""A wide arch that rides high, as in an elongated aorta: the neck has no vessel wide enough for a blood reference."""

# Centre of the spine (z, y): the neck bends gently forward in its middle.
SPINE_Z_MM = np.array([-160.0, -90.0, -45.0, 0.0, 40.0, 70.0])
SPINE_Y_MM = np.array([43.0, 30.0, 21.0, 17.0, 19.0, 23.0])
VERTEBRA_PITCH_MM = 18.0
CANAL_OFFSET_MM = 18.0

SOFT_PARTS: tuple[tuple[str, Shape], ...] = (
    ("muscle", Tube(((-150, 24, 62, 24, 17), (-60, 21, 56, 20, 15), (0, 20, 53, 20, 15), (70, 22, 66, 20, 13)), True)),
    ("muscle", Tube(((-150, 52, 44, 22, 24), (-60, 42, 42, 10, 17), (20, 44, 40, 9, 14), (68, 50, 44, 7, 12)), True)),
    ("muscle", Tube(((-110, 26, 8, 12, 12), (-50, 28, 16, 9, 10), (0, 25, 20, 6, 8)), True)),  # scalenes
    ("muscle", Tube(((-120, 16, -24, 9, 6), (-60, 32, -16, 11, 7), (0, 47, 6, 8, 13), (72, 59, 30, 6, 11)), True)),
    ("muscle", Tube(((-80, 9, 14, 8, 5), (0, 9, 4, 8, 4), (60, 8, 8, 8, 4)), True)),  # longus colli
    ("muscle", Tube(((-90, 9, -24, 10, 4), (-40, 10, -34, 11, 4), (-8, 9, -34, 11, 4)), True)),  # strap muscles
    ("muscle", Ellipsoid((0, -38, 36), (27, 37, 22))),  # tongue
    ("muscle", Ellipsoid((0, -44, 12), (34, 32, 8), power=3)),  # floor of mouth
    ("muscle", Tube(((2, 50, -22, 6, 14), (30, 56, -24, 8, 18), (72, 58, -30, 6, 14)), True)),  # masseter
    ("muscle", Tube(((8, 40, -14, 5, 10), (30, 38, -14, 6, 13), (62, 30, -18, 6, 11)), True)),  # pterygoids
    ("muscle", Ellipsoid((63, -28, 118), (6, 30, 34), True)),  # temporalis
    ("mucosa", Tube(((-30, 0, -13, 14, 15), (15, 0, -4, 17, 12), (60, 0, -4, 18, 12), (86, 0, -8, 18, 13)))),
    ("gland", Ellipsoid((58, 4, 52), (12, 19, 27), True)),  # parotid
    ("gland", Ellipsoid((33, -30, 4), (10, 16, 13), True)),  # submandibular
    ("tonsil", Ellipsoid((17, -6, 34), (6, 8, 12), True)),
    ("tonsil", Ellipsoid((0, 4, 76), (11, 4, 9))),  # adenoid
    ("thyroid", Ellipsoid((18, -10, -56), (8, 11, 20), True)),
    ("thyroid", Ellipsoid((0, -24, -62), (14, 4, 7))),
    # carotids, right and left jugular vein, aortic arch
    ("blood", Tube(((-150, 17, 0, 4.5, 4.5), (-60, 24, 0, 4, 4), (0, 26, 6, 4, 4), (82, 24, 12, 3, 3)), True)),
    ("blood", Tube(((-150, -22, -8, 8, 8), (-35, -36, 1, 8, 8), (-20, -35, 6, 6.5, 7), (80, -30, 16, 5, 5)))),
    ("blood", Tube(((-150, 27, -6, 8, 7), (-35, 35, 2, 6, 7), (0, 34, 11, 5, 6), (80, 30, 16, 4, 4)))),
    ("muscle", Ellipsoid((88, 34, -135), (58, 40, 52), True, power=2.5)),  # shoulder girdle
    ("lung", Ellipsoid((56, 30, -160), (38, 36, 60), True)),
    ("blood", AORTIC_ARCH),
)

AIRWAYS: tuple[tuple[str, Shape], ...] = (
    ("air", Tube(((62, 0, -10, 12, 7), (72, 0, -12, 13, 9), (86, 0, -14, 11, 8)))),  # nasopharynx
    ("air", Tube(((14, 0, -9, 12, 7), (34, 0, -6, 11, 5.5), (62, 0, -7, 12, 6)))),  # oropharynx
    ("air", Tube(((-40, 0, -22, 5.5, 10), (-18, 0, -18, 4, 10), (-4, 0, -12, 12, 7), (16, 0, -9, 13, 7)))),  # larynx
    ("air", Tube(((-150, 0, 20, 9, 8), (-100, 0, 12, 9, 8), (-75, 0, -2, 8.5, 8), (-40, 0, -20, 8, 8.5)))),  # trachea
    ("air", Ellipsoid((0, -44, 57), (22, 26, 2.5))),  # between tongue and palate
    ("air", Ellipsoid((6, -52, 76), (3.8, 38, 15), True)),  # nasal cavity
    ("air", Ellipsoid((27, -50, 80), (13, 17, 16), True)),  # maxillary sinus
    ("air", Ellipsoid((7, -46, 104), (5.5, 22, 11), True)),  # ethmoid
    ("mucosa", Ellipsoid((10, -46, 74), (3, 24, 4), True)),  # inferior turbinate
)

BONES: tuple[Shape, ...] = (
    Arch((0, -22), (50, 58), 10, 4, 34, y_back=-14, rise=0.12),  # body of the mandible
    Tube(((12, 47, -12, 5, 13), (45, 48, -10, 4.5, 15), (78, 50, -4, 5, 9)), True),  # ramus
    Arch((0, -28), (40, 50), 11, 52, 66, y_back=-24),  # maxilla
    Ellipsoid((0, -44, 62), (32, 34, 2.8), power=4),  # hard palate
    Ellipsoid((50, -48, 84), (10, 13, 9), True),  # zygoma
    Tube(((80, 63, -26, 3, 26), (88, 63, -26, 3, 26)), True),  # zygomatic arch
    Arch((0, -24), (21, 22), 4, -4, 3, y_back=-14, rise=0.1),  # hyoid
    Ellipsoid((0, 2, 94), (26, 16, 7)),  # clivus and sphenoid
    Ellipsoid((40, 16, 88), (26, 11, 9), True),  # petrous bone
    Ellipsoid((56, 30, 78), (10, 13, 16), True),  # mastoid
    Tube(((-112, 70, -14, 40, 5), (-104, 70, -14, 40, 5)), True),  # clavicle
)

CARTILAGES: tuple[Shape, ...] = (
    Ellipsoid((0, -50, 78), (1.6, 34, 17), power=4),  # nasal septum
    Arch((0, -18), (17, 20), 3.5, -36, -10, y_back=-8),  # thyroid cartilage
    Arch((0, -20), (12.5, 13), 3, -46, -38),  # cricoid
)

TEETH: tuple[Shape, ...] = (
    Arch((0, -26), (41, 51), 8, 34, 43, y_back=-26, teeth=26),
    Arch((0, -27), (41, 52), 8, 44, 53, y_back=-26, teeth=26),
)

SKULL_OUTER = Ellipsoid((0, 15, 122), (69, 90, 60), power=2.2)
SKULL_INNER = Ellipsoid((0, 15, 122), (62.5, 83, 53.5), power=2.2)
ORBIT = Ellipsoid((31, -60, 106), (19, 25, 17), mirror=True)
EYE = Ellipsoid((31, -68, 106), (12, 12, 12), mirror=True)
BRAINSTEM = Tube(
    ((68, 0, 40, 7, 6), (92, 0, 32, 10, 9), (105, 0, 26, 15, 13), (130, 0, 24, 13, 11), (150, 0, 24, 12, 9))
)
CORD = Tube(tuple((z, 0.0, y + CANAL_OFFSET_MM, 6.5, 4.5) for z, y in zip(SPINE_Z_MM, SPINE_Y_MM, strict=True)))
CORD_TOP_MM = 68.0
"""Foramen magnum: cord below, brainstem above."""
CANAL = Tube(tuple((z, 0.0, y + CANAL_OFFSET_MM, 11.0, 8.0) for z, y in zip(SPINE_Z_MM, SPINE_Y_MM, strict=True)))
REFERENCE_BLOOD = Ellipsoid((3, -15, -104), (22.5, 9, 17), power=2.3)
"""Inside the aortic arch, 7 mm from its wall, so that partial volume does not bias it."""
REFERENCE_MUSCLE = Tube(((-60, 21, 56, 9, 7), (-12, 20, 54, 9, 7)))
"""Left posterior neck muscles."""


def normal_tissues(mesh: Mesh) -> np.ndarray:
    """Map of tissues without disease: uint8 codes of ``TISSUES``, shape (z, y, x)."""
    body = _body(mesh)
    depth_mm = _depth_mm(body, mesh)
    labels = np.where(body, np.uint8(CODE["skin"]), np.uint8(CODE["air"]))
    labels[depth_mm > SKIN_MM] = CODE["fat"]
    deep = depth_mm > FAT_MM
    labels[(depth_mm > FAT_MM) & (depth_mm < FAT_MM + 6) & (mesh.y > 34) & (mesh.z < 70)] = CODE["muscle"]  # trapezius
    for name, shape in SOFT_PARTS:
        paint(labels, mesh, shape, CODE[name], only_in=deep)
    for name, shape in AIRWAYS:
        paint(labels, mesh, shape, CODE[name], only_in=depth_mm > SKIN_MM)
    for shape in CARTILAGES:
        paint(labels, mesh, shape, CODE["cartilage"], only_in=deep)
    _paint_bones(labels, mesh, depth_mm > 4.0)
    _paint_head(labels, mesh)
    return labels


def _body(mesh: Mesh) -> np.ndarray:
    """Outline of the patient: a union of shapes, blended by blurring."""
    blurred = ndimage.gaussian_filter(mask_of(mesh, *OUTLINE).astype(np.float32), 5.0 / _spacing_mm(mesh))
    return blurred > 0.5


def _depth_mm(body: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Depth below the skin in each axial plane, in mm (in plane: the grid's ends are not skin)."""
    spacing = _spacing_mm(mesh)[1:]
    return np.stack([ndimage.distance_transform_edt(plane, sampling=spacing) for plane in body])


def _spacing_mm(mesh: Mesh) -> np.ndarray:
    """Voxel spacing (z, y, x) in mm."""
    return np.array([np.diff(axis.ravel()[:2])[0] for axis in (mesh.z, mesh.y, mesh.x)])


def _paint_bones(labels: np.ndarray, mesh: Mesh, allowed: np.ndarray) -> None:
    """Spine and facial bones: a cortical shell around spongy bone; teeth and discs."""
    bone = mask_of(mesh, *BONES, *_vertebrae())
    bone |= mask_of(mesh, SKULL_OUTER) & ~mask_of(mesh, SKULL_INNER) & ~_face(mesh)
    bone &= allowed
    core = ndimage.binary_erosion(bone, iterations=1)
    for name, shape in _discs():
        paint(labels, mesh, shape, CODE[name])
    labels[bone] = CODE["cortical bone"]
    labels[core] = CODE["spongy bone"]
    for shape in TEETH:
        paint(labels, mesh, shape, CODE["tooth"], only_in=allowed)


def _face(mesh: Mesh) -> np.ndarray:
    """What lies in front of and below the skull base: not brain, not vault."""
    return ((mesh.z < 100) & (mesh.y < 4)) | ((mesh.z < 117) & (mesh.y < -46))


def _vertebral_levels() -> list[tuple[float, float]]:
    """Centres (z, y) of the vertebral bodies from below upwards."""
    z = np.arange(-163.0, 62.0, VERTEBRA_PITCH_MM)
    return list(zip(z.tolist(), np.interp(z, SPINE_Z_MM, SPINE_Y_MM).tolist(), strict=True))


def _vertebrae() -> list[Shape]:
    """Body, arch, spinous and transverse processes of each level; the canal is painted afterwards."""
    parts: list[Shape] = []
    for z, y in _vertebral_levels():
        canal_y = y + CANAL_OFFSET_MM
        parts.append(Ellipsoid((0, y, z), (14.5, 10, 7.6), power=3.5))
        parts.append(Ellipsoid((0, canal_y, z), (16, 13.5, 6.5), power=2.6))
        parts.append(Ellipsoid((0, canal_y + 19, z - 4), (3.2, 13, 5)))
        parts.append(Ellipsoid((18, canal_y - 9, z), (9, 5, 5), mirror=True))
        parts.append(Ellipsoid((16, canal_y + 2, z + VERTEBRA_PITCH_MM / 2), (5, 6, 5), mirror=True))  # facet joint
    return parts


def _discs() -> list[tuple[str, Shape]]:
    """Discs between the vertebral bodies."""
    half = VERTEBRA_PITCH_MM / 2
    return [("disc", Ellipsoid((0, y, z + half), (13.5, 9.5, 3), power=3)) for z, y in _vertebral_levels()[:-1]]


def _paint_head(labels: np.ndarray, mesh: Mesh) -> None:
    """Brain, orbits, spinal canal: what lies inside bone and is painted last."""
    for seen in (mesh, mesh.mirrored()):
        window, part = seen.window(*ORBIT.box())
        inside = (ORBIT.distance(part) <= 1.12) & (labels[window] != CODE["air"]) & (part.y > -74)
        labels[window][inside & (part.x > 12)] = CODE["cortical bone"]
    paint(labels, mesh, ORBIT, CODE["fat"], only_in=(labels != CODE["air"]) & (mesh.y > -80))
    paint(labels, mesh, EYE, CODE["eye"])
    petrous = (labels == CODE["cortical bone"]) | (labels == CODE["spongy bone"])
    inner = mask_of(mesh, SKULL_INNER) & ~mask_of(mesh, ORBIT)
    brain = inner & ~(petrous & (mesh.z < 100)) & ~_face(mesh)
    labels[brain] = CODE["csf"]
    labels[ndimage.binary_erosion(brain, iterations=1)] = CODE["brain"]
    for name, shape in (("csf", CANAL), ("cord", CORD)):
        paint(labels, mesh, shape, CODE[name], only_in=np.broadcast_to(mesh.z < CORD_TOP_MM, mesh.shape))
    paint(labels, mesh, BRAINSTEM, CODE["brainstem"])
