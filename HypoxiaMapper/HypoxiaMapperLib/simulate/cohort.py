"""Simulated patients: tumour, truth and every image of one seed, as Volumes. The same seed gives the same bytes.

The way of the data: place -> normal anatomy -> tumour fields -> uptake -> images. Each stage has its own random stream,
so that a change in one leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import RequestError
from ..inference.channels import CHANNELS, KEYS
from ..volume import Region, Volume
from . import multimodal
from .dicom_writer import Identity
from .imaging import Grid
from .multimodal import Picture, Scene
from .settings import BODY_PART, COHORTS, Draws
from .tumour_fields import find_place, grow_tumour
from .uptake import FDG_MINUTES, TRACERS, TRUTH_MINUTES, Kinetics, draw_kinetics, fdg_suv, hypoxia_ratio

LABEL = "simulated; no patient"
_STAGES = ("place", "tumour", "kinetics", "fdg_uptake", "background",
           "fdg", "hypoxia_pet", "ct", "t1", "adc", "ktrans", "r2star")  # fmt: skip


@dataclass(frozen=True)
class SimulatedCase:
    """A simulated patient.

    Parameters
    ----------
    images : mapping of str to Volume
        By the keys, quantities and units of ``inference/channels.py``, each on its own grid and misregistered by up
        to a few millimetres; ``hypoxia_pet`` is the noisy tissue-to-blood ratio. One frame of reference for all.
    gtv : Region
        Gross tumour on the 2 mm grid of the truth.
    truth_ratio : Volume
        Tissue-to-blood ratio of FMISO 150 min after injection, noise-free, through a point spread of 6 mm FWHM, 2 mm.
    truth_unblurred : Volume
        The same before the point spread.
    facts : mapping
        Every constant drawn, under the names of ``Settings`` (images prefixed with their key).
    """

    seed: int
    cohort: str
    images: Mapping[str, Volume]
    gtv: Region
    truth_ratio: Volume
    truth_unblurred: Volume
    facts: Mapping[str, Any]


def simulate_case(seed: int, cohort: str = "training") -> SimulatedCase:
    """Simulate one patient, about half a second on one core.

    Raises
    ------
    RequestError
        Negative seed or unknown cohort.
    """
    if cohort not in COHORTS:
        raise RequestError(f"There is no simulated cohort {cohort!r}.", f"Valid ones: {', '.join(COHORTS)}.")
    if seed < 0:
        raise RequestError(f"Seed {seed} is negative.", "Give a seed of 0 or more.")
    facts: dict[str, Any] = {"seed": seed, "cohort": cohort}
    draws = _streams(seed, cohort, facts)
    frame = Identity(seed, cohort).frame_of_reference_uid
    place = find_place(draws["place"])
    labels = place.labels()
    tumour = grow_tumour(place, labels, draws["tumour"])
    scene = Scene(place, labels, tumour)
    kinetics = draw_kinetics(tumour, draws["kinetics"])
    draws["background"]("tissue_spread")
    normal_ratio = multimodal.table_of("fmiso_ratio", draws["background"])
    truth = scene.paint(normal_ratio, hypoxia_ratio(kinetics, TRACERS["FMISO"], TRUTH_MINUTES))
    images = _images(scene, kinetics, normal_ratio, draws)
    facts |= _tumour_facts(scene)

    def volume(array: np.ndarray, how: str) -> Volume:
        known = {"tracer": "FMISO", "minutes_after_injection": TRUTH_MINUTES, "reference": "true blood", "label": LABEL}
        image = as_image(array, place.grid)
        return Volume(image, "FMISO tissue-to-blood ratio", "{ratio}", frame, (), (f"simulated, {how}",), known)

    fwhm = multimodal.TRUTH_FWHM_MM
    blurred = multimodal.blur(truth, place.grid.spacing_mm[0], fwhm)
    gtv = Region("GTV", as_image(tumour.gtv.astype(np.uint8), place.grid), frame, f"simulated, seed {seed}")
    return SimulatedCase(
        seed,
        cohort,
        {key: replace(image, frame_of_reference_uid=frame) for key, image in images.items()},
        gtv,
        volume(blurred, f"noise-free, point spread {fwhm:g} mm FWHM"),
        volume(truth, "noise-free, unblurred"),
        facts,
    )


def as_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Array (z, y, x) as an image in LPS millimetres; the grid's coordinates are LPS."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.first_mm)
    return image


def _streams(seed: int, cohort: str, facts: dict[str, Any]) -> dict[str, Draws]:
    """One independent random stream per stage."""
    children = np.random.SeedSequence([seed, zlib.crc32(cohort.encode())]).spawn(len(_STAGES))
    return {
        stage: Draws(COHORTS[cohort], np.random.default_rng(child), facts)
        for stage, child in zip(_STAGES, children, strict=True)
    }


def _images(scene: Scene, kinetics: Kinetics, normal_ratio: np.ndarray, draws: dict[str, Draws]) -> dict[str, Volume]:
    """Every image as a Volume without frame of reference."""
    suv = scene.paint(
        multimodal.table_of("fdg_suv", draws["background"]), fdg_suv(scene.tumour, kinetics, draws["fdg_uptake"])
    )
    own = {key: replace(draws[key], prefix=f"{key}_") for key in KEYS}
    tracer, minutes, ratio = _hypoxia_scan(scene, kinetics, normal_ratio, own["hypoxia_pet"])
    makers: dict[str, Callable[[Draws], Picture]] = {
        "fdg": lambda d: multimodal.pet_picture(suv, scene.place, multimodal.blood_value("fdg_suv"), d),
        "hypoxia_pet": lambda d: _over_measured_blood(multimodal.pet_picture(ratio, scene.place, 1.0, d), d),
        "ct": lambda d: multimodal.ct_picture(scene, d),
        "t1": lambda d: multimodal.t1_picture(scene, d),
        "adc": lambda d: multimodal.adc_picture(scene, d),
        "ktrans": lambda d: multimodal.ktrans_picture(scene, d),
        "r2star": lambda d: multimodal.r2star_picture(scene, d),
    }
    told: dict[str, dict[str, Any]] = {
        "fdg": {"tracer": "FDG", "minutes_after_injection": FDG_MINUTES},
        "hypoxia_pet": {"tracer": tracer, "minutes_after_injection": minutes, "reference": "blood"},
    }
    images = {}
    for channel in CHANNELS:
        picture = makers[channel.key](own[channel.key])
        known = {
            "label": LABEL, "misregistration_mm": picture.shift_mm, "body_parts": (BODY_PART,),
            **told.get(channel.key, {}),
        }  # fmt: skip
        image = as_image(picture.array, picture.grid)
        images[channel.key] = Volume(image, channel.quantity, channel.unit, operations=("simulated",), facts=known)
    return images


def _hypoxia_scan(
    scene: Scene, kinetics: Kinetics, normal_ratio: np.ndarray, draws: Draws
) -> tuple[str, float, np.ndarray]:
    """Tracer, minutes after injection, and the true ratio of the hypoxia PET of this patient."""
    tracer = TRACERS[str(draws.rng.choice(draws.settings.tracers))]
    minutes = round(float(draws.rng.uniform(*tracer.scan_min)), 1)
    draws.note(tracer=tracer.name, minutes_after_injection=minutes)
    return tracer.name, minutes, scene.paint(normal_ratio, hypoxia_ratio(kinetics, tracer, minutes))


def _over_measured_blood(picture: Picture, draws: Draws) -> Picture:
    """The blood reference is measured, too: the whole map is off by its error."""
    ratio = picture.array / np.float32(1.0 + draws("reference_error"))
    return Picture(ratio, picture.grid, picture.shift_mm)


def _tumour_facts(scene: Scene) -> dict[str, Any]:
    """What became of the tumour."""
    tumour, inside = scene.tumour, scene.tumour.inside
    voxel_ml = float(np.prod(scene.place.grid.spacing_mm)) / 1000.0
    return {
        "volume_ml": float(np.count_nonzero(inside) * voxel_ml),
        "necrotic_fraction": float(tumour.necrosis[inside].mean()),
        "mean_po2_mmhg": float(tumour.oxygen.mean_po2_mmhg[inside].mean()),
        "hp2_5": float(tumour.oxygen.hp2_5[inside].mean()),
        "hp5": float(tumour.oxygen.hp5[inside].mean()),
        "hp10": float(tumour.oxygen.hp10[inside].mean()),
    }
