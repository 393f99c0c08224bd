"""What learned methods share: images cut to the tumour and in the network's units, maps back, baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, RequestError
from ..inference.baselines import BaselineMap, predict_from_metadata
from ..inference.bundle import Bundle
from ..inference.channels import CHANNELS, FUNCTIONAL
from ..inference.ensemble import Prediction, hypoxic_ml
from ..inference.prepare import Prepared, back_to, network_grid
from ..volume import Region, Volume, require_same_grid, voxel_volume_ml
from ._maps import require_map
from ._model_use import Baseline
from ._reference import reference_kind, reference_uptake

REACH_MM = 20.0  # beyond the network's box: interpolation and smoothing (see inference.prepare) reach less far
ADC_UNITS = {"mm2/s": 1.0, "10*-3.mm2/s": 1e-3, "10-3.mm2/s": 1e-3, "10*-6.mm2/s": 1e-6, "um2/s": 1e-6, "m2/s": 1e6}
KTRANS_UNITS = {"/min": 1.0, "/s": 60.0, "/h": 1 / 60}
R2STAR_UNITS = {"/s": 1.0, "/ms": 1e3}
MAP_UNITS = {"adc": ADC_UNITS, "ktrans": KTRANS_UNITS, "r2star": R2STAR_UNITS}


@dataclass(frozen=True)
class Reference:
    """How uptake becomes a ratio: the region and what is stated of it."""

    region: Region | None
    kind: str
    minimum_ml: float


@dataclass(frozen=True)
class Crop:
    """The part of a grid around the GTV that a network needs.

    Parameters
    ----------
    start, size : tuple of int
        First voxel and number of voxels (x, y, z).
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Of an array (z, y, x)."""
        return tuple(slice(a, a + n) for a, n in zip(reversed(self.start), reversed(self.size), strict=True))

    def image(self, image: sitk.Image) -> sitk.Image:
        """The part of an image."""
        return sitk.RegionOfInterest(image, list(self.size), list(self.start))

    def volume(self, volume: Volume) -> Volume:
        """The part of a volume."""
        return replace(volume, image=self.image(volume.image))

    def region(self, region: Region) -> Region:
        """The part of a region."""
        return replace(region, mask=self.image(region.mask))

    def whole(self, part: np.ndarray, grid: sitk.Image) -> np.ndarray:
        """A part's array in its place on the whole grid, NaN elsewhere; float32."""
        found = np.full(tuple(reversed(grid.GetSize())), np.nan, np.float32)
        found[self.slices] = part
        return found


def crop_around(gtv: Region) -> Crop:
    """Box of the GTV's grid that holds the network's box and what interpolation at its edge reaches.

    Raises
    ------
    InputError
        If the GTV is empty.
    """
    grid = network_grid(_tight(gtv))
    last = [n - 1 for n in grid.GetSize()]
    corners = [[n if bit >> axis & 1 else 0 for axis, n in enumerate(last)] for bit in range(8)]
    spots = [gtv.mask.TransformPhysicalPointToContinuousIndex(grid.TransformIndexToPhysicalPoint(c)) for c in corners]
    reach = REACH_MM / np.array(gtv.mask.GetSpacing())
    size = np.array(gtv.mask.GetSize())
    low = np.clip(np.floor(np.min(spots, axis=0) - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(np.max(spots, axis=0) + reach), 0, size - 1).astype(int)
    return Crop(tuple(int(n) for n in low), tuple(int(n) for n in high - low + 1))


def _tight(gtv: Region) -> Region:
    """The GTV's bounding box with a rim of two voxels where the grid has them."""
    inside = gtv.array
    if not inside.any():
        raise InputError(f"GTV {gtv.name} is empty.", "Choose a region that has voxels.")
    start, size = [], []
    for axis in (2, 1, 0):  # x, y, z
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = max(int(hit[0]) - 2, 0), min(int(hit[-1]) + 2, inside.shape[axis] - 1)
        start.append(low)
        size.append(high - low + 1)
    return Crop(tuple(start), tuple(size)).region(gtv)


def network_images(
    inputs: Mapping[str, Volume], gtv: Region, crop: Crop, units: Mapping[str, str], reference: Reference
) -> tuple[dict[str, Volume], dict[str, float]]:
    """The images cut to the box, in the units of ``inference.channels``.

    Parameters
    ----------
    units : mapping
        Units the user states for maps whose files do not say one.
    reference : Reference
        Blood, for a hypoxia PET in SUV.

    Returns
    -------
    images : dict
        By channel key.
    details : dict
        Reference uptake, where there is one.

    Raises
    ------
    RequestError
        Hypoxia PET in SUV without a blood reference, or an unknown unit.
    InputError, GeometryError
        As the reference and the grids say.
    """
    images, details = {}, {}
    for channel in CHANNELS:
        if channel.key not in inputs:
            continue
        volume = inputs[channel.key]
        require_same_grid(volume.image, gtv.mask, f"{channel.title} and GTV")
        part = crop.volume(volume)
        if channel.key in MAP_UNITS:
            values = require_map({channel.key: part}, channel.key, units[channel.key], MAP_UNITS[channel.key])
            part = part.with_array(values.astype(np.float32), f"in {channel.unit}", unit=channel.unit)
        elif channel.key == "hypoxia_pet" and volume.unit == channel.unit:
            _require_blood_ratio(volume)
        elif channel.key == "hypoxia_pet":
            uptake = _blood_uptake(volume, gtv, reference)
            details = {"reference_suv_g_per_ml": uptake}
            name = reference.region.name if reference.region else ""
            part = part.with_array(
                part.array.astype(np.float32) / np.float32(uptake),
                f"divided by the mean of {name} ({uptake:.4f} g/ml)",
                quantity=channel.quantity,
                unit=channel.unit,
            )
        images[channel.key] = part
    return images, details


def _require_blood_ratio(ratio: Volume) -> None:
    """Refuse a ratio to another tissue, and a map that was itself predicted."""
    quantity = ratio.quantity.lower()
    if "tissue-to-blood ratio" not in quantity or "predicted" in quantity:
        raise RequestError(
            f"The hypoxia PET is {ratio.quantity!r} in {ratio.unit}.",
            "The network reads a measured tissue-to-blood ratio, or SUVbw together with a blood region.",
        )


def _blood_uptake(pet: Volume, gtv: Region, reference: Reference) -> float:
    """Mean SUV of the blood region."""
    if pet.quantity != "SUVbw" or pet.unit != "g/ml":
        raise RequestError(
            f"The hypoxia PET is {pet.quantity} in {pet.unit}.",
            "Give SUVbw in g/ml with a blood region (--reference-roi NAME), or a tissue-to-blood ratio in {ratio}.",
        )
    if reference.region is None:
        raise RequestError(
            "The hypoxia PET is in SUV and no reference region is given.",
            "The network reads ratios to blood: give a blood region in a vessel 1 cm wide or more (--reference-roi).",
        )
    require_same_grid(pet.image, reference.region.mask, "Hypoxia PET and reference region")
    if reference_kind(reference.region, reference.kind) != "blood":
        raise RequestError(
            f"Reference region {reference.region.name} is muscle; the network was trained on tissue-to-blood ratios.",
            "Give a blood region, or leave the hypoxia PET out.",
        )
    return reference_uptake(pet, reference.region, gtv, "mean", reference.minimum_ml)


def known_only(prediction: Prediction, prepared: Prepared) -> Prediction:
    """The prediction without the voxels in which no functional image has a value: nothing is known there."""
    known = np.any([np.isfinite(v) for key, v in prepared.values.items() if key in FUNCTIONAL], axis=0)
    if known[prepared.gtv].all():
        return prediction
    names = ("mean", "sd", "aleatoric_sd", "epistemic_sd", "members")
    cut: dict[str, Any] = {n: np.where(known, getattr(prediction, n), np.float32(np.nan)) for n in names}
    return replace(prediction, **cut)


def on_grid(values: np.ndarray, prepared: Prepared, crop: Crop, gtv: Region, everywhere: bool = False) -> np.ndarray:
    """A map of the network's grid on the GTV's whole grid: NaN outside the GTV, or outside the network's box."""
    region = crop.region(gtv)
    if everywhere:
        region = region.with_array(np.ones(region.array.shape, np.uint8), "the network's box")
    return crop.whole(back_to(values, prepared.grid, region), gtv.mask)


def baselines_of(bundle: Bundle, prepared: Prepared, prediction: Prediction, region: Region) -> tuple[Baseline, ...]:
    """Simple maps beside the network's, with the volume above the same threshold; never empty.

    Parameters
    ----------
    region : Region
        The GTV on the grid of the images (or the part of it that holds the GTV).
    """
    hypoxia = bundle.hypoxia
    threshold, comparison = float(hypoxia["threshold"]), str(hypoxia["comparison"])
    inside, found = region.array, []
    network = prediction.mean[prepared.gtv]
    maps = predict_from_metadata(hypoxia, prepared.inputs, prepared.present) or (_same_mean(prepared, network),)
    for simple in maps:
        values = back_to(simple.ratio, prepared.grid, region)
        volume_ml = hypoxic_ml(values, inside, threshold, comparison, voxel_volume_ml(region.mask))
        correlation = _pearson(simple.ratio[prepared.gtv], network)
        found.append(Baseline(simple.name, simple.description, volume_ml, correlation))
    return tuple(found)


def _same_mean(prepared: Prepared, network: np.ndarray) -> BaselineMap:
    """Where the bundle carries no baseline: the network's own mean everywhere, which any map must beat."""
    ratio = np.full(prepared.gtv.shape, network.mean(), np.float32)
    return BaselineMap("constant", "the network's mean over the GTV at every voxel; the bundle carries no other", ratio)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation; NaN where one of both is constant or there are fewer than three voxels."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known].astype(float), b[known].astype(float)
    if a.size < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
