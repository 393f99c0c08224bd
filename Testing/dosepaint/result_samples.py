"""A small, complete ``Result`` made by hand: a synthetic head with a hypoxic tumour on the patient's LEFT.

Nothing here is computed by the software under test, so that report and pictures can be judged on their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from HypoxiaDosePaintLib.prescription import Prescription, make_prescription
from HypoxiaDosePaintLib.request import Margins, Request, Sphere, SubvolumeOptions
from HypoxiaDosePaintLib.result import (
    Curve,
    Dropped,
    GtvFinding,
    Images,
    ProofRow,
    RegistrationUse,
    Result,
    SeriesUse,
    TargetRow,
)
from HypoxiaDosePaintLib.structures import (
    GTV_CODE,
    HYPOXIC_CODE,
    PTV_CODE,
    REFERENCE_CODE,
    SURROGATE_CODE,
    Structure,
)
from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import Region, Volume, image_like

FRAME_UID = "1.2.826.0.1.3680043.8.498.1"
GTV_CENTRE_MM = (28.0, -20.0, 5.0)  # LPS: left, anterior
CORD_CENTRE_MM = (0.0, 45.0)
THRESHOLD = 1.4


def head_grid(
    size: int = 96, spacing_mm: tuple[float, float, float] = (2.5, 2.5, 2.5), oblique: bool = False
) -> sitk.Image:
    """Empty grid centred on the LPS origin; ``oblique`` turns it 20 degrees about z and 15 degrees about x."""
    grid = sitk.Image([size] * 3, sitk.sitkFloat32)
    grid.SetSpacing(spacing_mm)
    rotation = sitk.Euler3DTransform()
    if oblique:
        rotation.SetRotation(np.deg2rad(15.0), 0.0, np.deg2rad(20.0))
    grid.SetDirection(rotation.GetMatrix())
    half = [s * (size - 1) / 2 for s in spacing_mm]
    grid.SetOrigin([-v for v in np.array(rotation.GetMatrix()).reshape(3, 3) @ half])
    return grid


def points_mm(grid: sitk.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LPS coordinates (x, y, z) in mm of every voxel, each of shape (z, y, x)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in reversed(grid.GetSize())], indexing="ij")[::-1])
    matrix = np.array(grid.GetDirection()).reshape(3, 3) * np.array(grid.GetSpacing())
    x, y, z = np.tensordot(matrix, index, 1) + np.array(grid.GetOrigin())[:, None, None, None]
    return x, y, z


def ball(grid: sitk.Image, centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """Boolean ball, shape (z, y, x)."""
    return sum((p - c) ** 2 for p, c in zip(points_mm(grid), centre_mm, strict=True)) <= radius_mm**2


def head_ct(grid: sitk.Image) -> Volume:
    """Head of soft tissue with a skull, an airway, a jaw on the front and a landmark bone on the LEFT."""
    x, y, z = points_mm(grid)
    r = np.sqrt((x / 75) ** 2 + (y / 95) ** 2 + (z / 110) ** 2)
    hu = np.where(r < 1, 40.0, -1000.0)
    hu[(r > 0.88) & (r < 0.95) & (z > 20)] = 900
    hu[(abs(np.hypot(x, y + 20) - 55) < 5) & (y < -20) & (abs(z + 15) < 12)] = 1100
    hu[np.hypot(x, y - CORD_CENTRE_MM[1]) < 13] = 500
    hu[np.hypot(x, y - CORD_CENTRE_MM[1]) < 7] = 30
    hu[np.hypot(x, y - 5) < 9] = -950
    hu[ball(grid, (62.0, 10.0, 5.0), 7)] = 1200
    hu += np.random.default_rng(1).normal(0, 12, hu.shape)
    image = image_like(hu.astype(np.float32), grid)
    return Volume(image, "CT number", "[hnsf'U]", FRAME_UID, ("1.2.3.1", "1.2.3.2"), ("read from DICOM",))


def uptake_ratio(grid: sitk.Image, quantity: str = "FMISO tissue-to-blood ratio") -> Volume:
    """Map with background 1 and two hot spots in the tumour; NaN in the outermost slice."""
    values = np.ones(tuple(reversed(grid.GetSize())))
    x, y, z = points_mm(grid)
    for centre, height, width in (((33.0, -25.0, 8.0), 1.5, 8.0), ((20.0, -12.0, -6.0), 0.9, 6.0)):
        d2 = sum((p - c) ** 2 for p, c in zip((x, y, z), centre, strict=True))
        values += height * np.exp(-d2 / (2 * width**2))
    values += np.random.default_rng(2).normal(0, 0.03, values.shape)
    values[0] = np.nan
    return Volume(
        image_like(values.astype(np.float32), grid), quantity, "{ratio}", FRAME_UID, (),
        ("SUVbw from ADMIN decay correction", "resampled to planning CT, linear", "divided by blood mean 1.62 g/ml"),
    )  # fmt: skip


def sample_images(grid: sitk.Image, surrogate: bool, prescription: Prescription) -> Images:
    """CT, map and structures on one grid."""

    def region(name: str, mask: np.ndarray, source: str) -> Region:
        return Region(name, image_like(mask.astype(np.uint8), grid), FRAME_UID, source)

    ratio = uptake_ratio(grid, "FDG uptake (surrogate of hypoxia)" if surrogate else "FMISO tissue-to-blood ratio")
    gtv = ball(grid, GTV_CENTRE_MM, 20)
    hypoxic = gtv & (np.nan_to_num(ratio.array) > THRESHOLD)
    x, y, z = points_mm(grid)
    cord = (np.hypot(x, y - CORD_CENTRE_MM[1]) < 6) & (z < 60)
    grown = _grow(hypoxic, grid, 4)
    base = _grow(gtv, grid, 6)
    gtvp = region("GTVp", gtv, "RTSTRUCT ROI 1")
    hyp = region("GTVp_Sur" if surrogate else "GTVp_Hyp", hypoxic, f"threshold > {THRESHOLD}")
    code = SURROGATE_CODE if surrogate else HYPOXIC_CODE
    blood = region("Blood", ball(grid, (-35.0, 10.0, -40.0), 9), "RTSTRUCT ROI 5")
    structures = (
        Structure(gtvp, "GTV", GTV_CODE, (255, 215, 0), "GTVp as drawn", "MANUAL"),
        Structure(hyp, "GTV", code, (255, 0, 80), f"{'Surrogate' if surrogate else 'Hypoxic'} part of GTVp",
                  "AUTOMATIC", None, "GTVp"),
        Structure(region("PTV_7700", grown, "margin 4 mm"), "PTV", PTV_CODE, (255, 120, 0),
                  "GTVp_Hyp + 4 mm", "AUTOMATIC", prescription.boost),
        Structure(region("PTV_7000", base, "margin 6 mm"), "PTV", PTV_CODE, (0, 200, 255),
                  "GTVp + 6 mm", "AUTOMATIC", prescription.base),
        Structure(blood, "CONTROL", REFERENCE_CODE, (200, 0, 255), "Blood reference", "MANUAL"),
    )  # fmt: skip
    hypoxia_map = HypoxiaMap(
        ratio, THRESHOLD, ">", "tracer protocol FMISO (10.1186/s13014-018-1099-1)", surrogate,
        details={"reference_mean_g_ml": 1.62, "reference_voxels": 195},
    )  # fmt: skip
    return Images(head_ct(grid), hypoxia_map, (gtvp,), blood, hyp, structures,
                  (region("SpinalCord", cord, "RTSTRUCT ROI 3"),))  # fmt: skip


def _grow(mask: np.ndarray, grid: sitk.Image, margin_mm: float) -> np.ndarray:
    """Mask grown by a margin in mm."""
    distance = sitk.SignedMaurerDistanceMap(
        image_like(mask.astype(np.uint8), grid), squaredDistance=False, useImageSpacing=True
    )
    return sitk.GetArrayFromImage(distance) <= margin_mm


def sample_result(
    *, surrogate: bool = False, accepted: bool = True, oblique: bool = False, rigid: bool = False, size: int = 96
) -> Result:
    """A whole result; ``rigid`` adds a registration that a person must sign off and the PET for its picture."""
    grid = head_grid(size, oblique=oblique)
    prescription = make_prescription("welz77", 70.0, 77.0, 35)
    images = sample_images(grid, surrogate, prescription)
    if rigid:
        pet = images.map.volume.with_array(np.nan_to_num(images.map.volume.array, nan=1.0) * 1.62, "SUV")
        images = replace(images, pet=replace(pet, quantity="SUVbw", unit="g/ml"))
    ratio = images.map.volume.array
    in_gtv = ratio[images.gtvs[0].array]
    ml = images.planning.voxel_volume_ml
    counts, edges = np.histogram(in_gtv, bins=40)
    steps = np.linspace(1.0, 2.4, 57)
    targets = tuple(_target_row(s) for s in images.structures)
    hypoxic_ml = images.hypoxic.volume_ml
    return Result(
        software="slicer-hypoxia 0.1.0",
        created="2026-03-02T18:55:12+01:00",
        request=_request(surrogate, accepted),
        patient={"id": "DIGITAL-001", "name": "Digital^Patient", "sex": "O", "birth_date": "1960-01-01"},
        series=_series(surrogate),
        method=_method(surrogate),
        threshold=THRESHOLD, comparison=">", threshold_source=images.map.threshold_source,
        findings=(GtvFinding("GTVp", images.gtvs[0].volume_ml, hypoxic_ml, hypoxic_ml / images.gtvs[0].volume_ml,
                             float(in_gtv.max()), float(in_gtv.mean())),),
        hypoxic_volume_ml=hypoxic_ml, hypoxic_fraction=hypoxic_ml / images.gtvs[0].volume_ml,
        dropped=(Dropped("GTVp_Hyp", "smaller than 0.5 ml", 0.047, (12.4, -8.0, 20.0)),),
        prescription=prescription, targets=targets,
        histogram=Curve(tuple((edges[1:] + edges[:-1]) / 2), tuple(counts * ml), "Ratio ({ratio})", "Volume (ml)"),
        volume_by_threshold=Curve(tuple(steps), tuple(float((in_gtv > t).sum() * ml) for t in steps),
                                  "Threshold (ratio)", "Hypoxic volume (ml)"),
        registration=RegistrationUse("rigid, computed here", tuple(np.eye(4).ravel()),
                                     {"landmark_mean_mm": 1.84, "mutual_information_gain": 0.31})
        if rigid else RegistrationUse("same frame of reference"),
        warnings=("Hypoxia moves: a baseline boost volume may no longer be hypoxic two weeks into treatment.",),
        notes=("The trial randomised patients whose scan showed hypoxia.",),
        details={"reference_mean_g_ml": 1.62, "minutes_after_injection": 152.3}, images=images,
        accepted_by="Dr A. Example" if accepted else "",
        exported=("RTSTRUCT.dcm", "RTPLAN.dcm", "SEG.dcm", "PMAP.dcm") if accepted else (),
        proof=tuple(ProofRow(t.name, t.volume_ml, t.volume_ml * 0.9996, 0.9981, 0.012, True) for t in targets)
        if accepted else (),
        truth={"true_hypoxic_volume_ml": 5.31, "blurred_truth_volume_ml": 5.02, "deviation_from_blurred_percent": 1.2},
    )  # fmt: skip


def _request(surrogate: bool, accepted: bool) -> Request:
    """The request such a result would come from."""
    return Request(
        "patient", "out", "fdg_surrogate" if surrogate else "tracer_ratio", "welz77", method_params={"tracer": "FMISO"},
        gtv_rois=("GTVp",), reference_sphere=Sphere((-35.0, 10.0, -40.0), 9.0), organ_rois=("SpinalCord",),
        subvolume=SubvolumeOptions(threshold=THRESHOLD), boost_margins=Margins.uniform(4),
        accepted_by="Dr A. Example" if accepted else "",
    )  # fmt: skip


def _target_row(structure: Structure) -> TargetRow:
    """The line of the target table that belongs to a structure."""
    d = structure.dose
    return TargetRow(
        structure.name, structure.interpreted_type, structure.region.volume_ml, d and d.dose_gy, d and d.fractions,
        d and d.dose_per_fraction_gy, d and d.eqd2_tumour_gy, d and d.eqd2_late_gy,
        0.37 if structure.name == "PTV_7000" else 0.0, structure.description,
    )  # fmt: skip


def _series(surrogate: bool) -> tuple[SeriesUse, ...]:
    tracer = "FDG" if surrogate else "FMISO"
    return (
        SeriesUse("planning CT", "Planning CT head", "CT", "1.2.3.10", "2026-02-27", "96x96x96 voxels of 2.5 mm"),
        SeriesUse(f"hypoxia PET ({tracer})", f"{tracer} PET", "PT", "1.2.3.11", "2026-02-26", "96x96x40 of 4 mm",
                  {"minutes_after_injection": 152.3, "decay_reference": "ADMIN"}),
        SeriesUse("structure set", "Physician", "RTSTRUCT", "1.2.3.12", "2026-02-27", ""),
    )  # fmt: skip


def _method(surrogate: bool) -> dict:
    return {
        "name": "fdg_surrogate" if surrogate else "tracer_ratio",
        "title": "Scaled FDG (surrogate of hypoxia)" if surrogate else "Tracer uptake ratio",
        "quantity": "FDG uptake" if surrogate else "tissue-to-blood ratio",
        "unit": "{ratio}", "surrogate": surrogate,
        "citation": "10.1016/j.phro.2025.100769" if surrogate else "10.1186/s13014-018-1099-1",
        "parameters": {"tracer": "FDG" if surrogate else "FMISO", "reference": "blood"},
    }  # fmt: skip
