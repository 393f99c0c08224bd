"""The simple maps beside a network's, computed from coefficients that its bundle carries.

Format, in the metadata's ``hypoxia`` (written by ``training.baselines.coefficients_to_metadata``)::

    "scaled_fdg": {"ratio_per_suv": 0.21, "unit": "ml/g", "cases": 800}
    "regression": {"order": "intercept, then one slope per key",
                   "cases": {"fdg": 800, ...},
                   "coefficients": {"fdg": [1.3, 0.2], "fdg+ct": [1.3, 0.2, -0.01], ...}}

A set of images is its keys in the order of ``channels.KEYS`` joined by ``+``. A slope is the change of the ratio per
step of the scaled channel (``Channel.scaled``), so a regression sees exactly what the network sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .channels import CHANNELS, KEYS

SCALED_FDG, REGRESSION, TRACER_RATIO = "scaled FDG", "linear regression", "tracer ratio"


@dataclass(frozen=True)
class BaselineMap:
    """A simple map on the network's grid.

    Parameters
    ----------
    name : str
        ``SCALED_FDG``, ``REGRESSION`` or ``TRACER_RATIO``.
    description : str
        What it is made of, with its coefficients.
    ratio : numpy.ndarray
        float32 ratio, shape (z, y, x).
    """

    name: str
    description: str
    ratio: np.ndarray


def set_name(keys: Iterable[str]) -> str:
    """Name of a set of images in the metadata: its keys in the order of the channels."""
    wanted = set(keys)
    return "+".join(key for key in KEYS if key in wanted)


def unscaled(inputs: np.ndarray, key: str) -> np.ndarray:
    """An image in its own unit back from the network's input (z, y, x); clipped as the channel says."""
    index = KEYS.index(key)
    channel = CHANNELS[index]
    return inputs[index] * np.float32(channel.scale) + np.float32(channel.centre)


def predict_from_metadata(
    hypoxia: Mapping[str, Any], inputs: np.ndarray, present: Iterable[str]
) -> tuple[BaselineMap, ...]:
    """Every baseline the images at hand allow.

    Parameters
    ----------
    hypoxia : mapping
        The ``hypoxia`` part of a bundle's metadata; a baseline whose coefficients it lacks is left out.
    inputs : numpy.ndarray
        Network input, shape (N_INPUTS, z, y, x); see ``channels.N_INPUTS``.
    present : iterable of str
        Keys of the images that are there.

    Returns
    -------
    tuple of BaselineMap
        Tracer ratio where there is hypoxia PET, scaled FDG where there is FDG, regression over all images at hand.
    """
    present = tuple(key for key in KEYS if key in set(present))
    found = []
    if "hypoxia_pet" in present:
        found.append(BaselineMap(TRACER_RATIO, "measured tissue-to-blood ratio", unscaled(inputs, "hypoxia_pet")))
    factor = (hypoxia.get("scaled_fdg") or {}).get("ratio_per_suv")
    if "fdg" in present and factor is not None:
        text = f"FDG SUV times {factor:.4g} ml/g, one factor for every patient"
        found.append(BaselineMap(SCALED_FDG, text, unscaled(inputs, "fdg") * np.float32(factor)))
    coefficients = (hypoxia.get("regression") or {}).get("coefficients", {}).get(set_name(present))
    if coefficients is not None:
        intercept, *slopes = coefficients
        ratio = np.full(inputs.shape[1:], intercept, dtype=np.float32)
        for key, slope in zip(present, slopes, strict=True):
            ratio += np.float32(slope) * inputs[KEYS.index(key)]
        titles = ", ".join(channel.title for channel in CHANNELS if channel.key in present)
        found.append(BaselineMap(REGRESSION, f"least squares line over {titles}", ratio))
    return tuple(found)
