"""Does an image look like a picture of a tumour among tissues: contrast, smoothness, and for CT what it is made of.

Ranges of values cannot tell a constant image, pure noise or a brain from a neck. These measures can, as far as the
bundle's training images had them: its metadata's ``structure`` holds, image by image, the lowest and the highest of
each measure among the training patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..methods._model_use import Finding
from .channels import BOX_MARGIN_MM, NETWORK_SPACING_MM, Channel

APART_VOXELS = 2
"""6 mm: farther than interpolation of white noise from voxels of up to 4 mm reaches, within what a PET blurs."""
CT_CLASSES_HU = {"air": (-np.inf, -190.0), "fat": (-140.0, -30.0), "bone": (180.0, np.inf)}
"""Limits are choices of this software; the network's input is clipped at -200 and 300 HU. Strongly enhanced vessels
count as bone."""


@dataclass(frozen=True)
class Measure:
    """One number of an image in the network's box.

    Parameters
    ----------
    title : str
        Follows the image's title.
    unit : str
        Follows the value.
    both_sides : bool
        True where too much is unlike the training, too; else only too little is.
    """

    title: str
    unit: str = ""
    both_sides: bool = False


_BOX = f"the GTV and {BOX_MARGIN_MM:g} mm around it"
MEASURES = {
    "contrast_gtv": Measure("contrast in the GTV (standard deviation / mean)"),
    "contrast_box": Measure(f"contrast in {_BOX} (standard deviation / mean)"),
    "spread_gtv_hu": Measure("standard deviation in the GTV", " HU"),
    "spread_box_hu": Measure(f"standard deviation in {_BOX}", " HU"),
    "smoothness": Measure(f"smoothness (correlation of voxels {APART_VOXELS * NETWORK_SPACING_MM:g} mm apart)"),
    "gtv_over_rest": Measure(f"mean in the GTV over the mean within {BOX_MARGIN_MM:g} mm around it"),
    **{name: Measure(f"{name} in {_BOX}", " of the volume", True) for name in CT_CLASSES_HU},
}


def structure_of(channel: Channel, scaled: np.ndarray, gtv: np.ndarray) -> dict[str, float]:
    """Every measure of one image by its name in ``MEASURES``; NaN where a constant image has none.

    Parameters
    ----------
    scaled : numpy.ndarray
        As the network sees it, shape (z, y, x); so training images and a patient's are measured alike.
    gtv : numpy.ndarray
        bool, shape (z, y, x).
    """
    values = scaled.astype(float) * channel.scale + channel.centre
    found = {"smoothness": smoothness(values)}
    if channel.key == "ct":
        found |= {"spread_gtv_hu": float(values[gtv].std()), "spread_box_hu": float(values.std())}
        for name, (low, high) in CT_CLASSES_HU.items():
            found[name] = float(np.mean((values > low) & (values < high)))
        return found
    found |= {"contrast_gtv": _over(values[gtv].std(), values[gtv].mean())}
    found |= {"contrast_box": _over(values.std(), values.mean())}
    if channel.key in ("fdg", "hypoxia_pet"):
        found["gtv_over_rest"] = _over(values[gtv].mean(), values[~gtv].mean())
    return found


def smoothness(values: np.ndarray) -> float:
    """Correlation of voxels ``APART_VOXELS`` apart, mean over the three axes; NaN where all are the same."""
    away = values - values.mean()
    variance = float((away**2).mean())
    if variance <= 1e-12 * float((values**2).mean()):
        return float("nan")
    products = []
    for axis in range(3):
        line = np.moveaxis(away, axis, 0)
        products.append(float((line[APART_VOXELS:] * line[:-APART_VOXELS]).mean()))
    return float(np.mean(products)) / variance


def check_key(channel: Channel, what: str) -> str:
    """The word by which an override names a check of an image, e.g. ``"fdg-contrast-gtv"``."""
    return f"{channel.key}-{what}".replace("_", "-")


def _over(value: float, reference: float) -> float:
    return float(value / reference) if abs(reference) > 1e-12 else float("nan")


def structure_findings(
    channel: Channel, scaled: np.ndarray, gtv: np.ndarray, trained: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Each measure against the lowest and highest of the training; what the bundle does not state has not passed.

    Parameters
    ----------
    trained : mapping or None
        The channel's entry in the metadata's ``structure``: name of a measure to (lowest, highest).
    """
    for name, value in structure_of(channel, scaled, gtv).items():
        measure, limits = MEASURES[name], (trained or {}).get(name)
        title, key = f"{channel.title} {measure.title}", check_key(channel, name)
        text = f"{value:.3g}{measure.unit}" if np.isfinite(value) else "none: every voxel is the same"
        if limits is None:
            yield Finding(title, text, "the bundle states no range: not known in training", False, key)
            continue
        low, high = (float(limit) for limit in limits)
        if measure.both_sides:
            yield Finding(title, text, f"{low:.3g} to {high:.3g}{measure.unit}", low <= value <= high, key)
        else:
            yield Finding(title, text, f"at least {low:.3g}{measure.unit}", value >= low, key)
