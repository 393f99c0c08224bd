"""Philips MR: the private scale slope that makes stored values of different scans, or frames, comparable.

A Philips scanner stores (signal * scale slope), and writes Rescale Slope and Intercept for display only: they may
differ between series of one examination, and then rescaled values have no common scale. Floating-point value after
Chenevert et al. 2014, doi 10.1593/tlo.13811: (stored * RS + RI) / (RS * SS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError
from .real_world import real_world_of

_CREATOR, _GROUP, _ELEMENT = "Philips MR Imaging DD 001", 0x2005, 0x0E
_PLAIN_TAG = (0x2005, 0x100E)


def display_factors(headers: Sequence[Dataset], what: str) -> np.ndarray:
    """Factor between display value and signal of each image; ones where one scale holds for all, or another maker's.

    Raises
    ------
    InputError
        If images have several display scales and the private scale slope is lost.
    """
    ones = np.ones(len(headers))
    if not all(str(h.get("Manufacturer", "") or "").lower().startswith("philips") for h in headers):
        return ones
    if any(h.get("Modality") != "MR" or real_world_of(h) is not None for h in headers):
        return ones
    slopes = np.array([float(h.get("RescaleSlope", 1) or 1) for h in headers])
    scales = [_scale_slope(h) for h in headers]
    known = [s for s in scales if s]
    if len(known) == len(scales):
        factors = slopes * np.array(known)
        return ones if np.allclose(factors, factors[0], rtol=1e-5) else factors
    if np.allclose(slopes, slopes[0], rtol=1e-5):
        return ones
    raise InputError(
        f"{what}: Rescale Slope (0028,1053) is {slopes.min():g} to {slopes.max():g}, and the Philips private scale "
        "slope (2005,100e) that brings the images to one scale is absent.",
        "Export the series again with its private entries.",
    )


def _scale_slope(header: Dataset) -> float | None:
    """Scale slope of an image; None where it is not there."""
    try:
        value = header.private_block(_GROUP, _CREATOR)[_ELEMENT].value
    except KeyError:
        value = header[_PLAIN_TAG].value if _PLAIN_TAG in header else None
    return float(value) if isinstance(value, int | float) and value > 0 else None
