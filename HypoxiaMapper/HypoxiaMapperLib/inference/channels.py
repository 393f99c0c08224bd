"""The images a network sees: order, quantity, unit and scaling. Training, inference and simulator share this list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NETWORK_SPACING_MM = 3.0
"""Isotropic grid of the network, axes along LPS: half the PET's resolution, so nothing the PET resolves is lost."""
BOX_MARGIN_MM = 15.0
"""The network sees the GTV's bounding box and this much around it."""


@dataclass(frozen=True)
class Channel:
    """One image as the network sees it: ``(clip(value, low, high) - centre) / scale``, 0 where it is missing.

    Parameters
    ----------
    low, high, centre, scale : float
        In ``unit``. Choices of this software; they bound the input and are no clinical limits.
    relative : bool
        True where the unit is arbitrary (T1-weighted signal): the value is divided by its median over the box first.
    """

    key: str
    title: str
    quantity: str
    unit: str
    low: float
    high: float
    centre: float
    scale: float
    relative: bool = False

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values in ``unit`` (any shape) as float32 network input; NaN (no data) becomes 0."""
        if self.relative:
            positive = values[np.isfinite(values) & (values > 0)]
            values = values / (float(np.median(positive)) if positive.size else 1.0)
        found = (np.clip(values, self.low, self.high) - self.centre) / self.scale
        return np.nan_to_num(found, nan=0.0).astype(np.float32)


CHANNELS = (
    Channel("fdg", "FDG PET", "SUVbw", "g/ml", 0.0, 40.0, 5.0, 5.0),
    Channel("hypoxia_pet", "hypoxia PET", "tissue-to-blood ratio", "{ratio}", 0.0, 6.0, 1.0, 0.5),
    Channel("ct", "CT", "CT number", "[hnsf'U]", -200.0, 300.0, 40.0, 100.0),
    Channel("t1", "T1-weighted MR", "T1-weighted signal", "[arb'U]", 0.0, 4.0, 1.0, 0.5, relative=True),
    Channel("adc", "ADC", "ADC", "mm2/s", 0.0, 3.5e-3, 1.2e-3, 0.5e-3),
    Channel("ktrans", "Ktrans", "Ktrans", "/min", 0.0, 2.0, 0.2, 0.2),
    Channel("r2star", "R2*", "R2*", "/s", 0.0, 150.0, 25.0, 25.0),
)
KEYS = tuple(channel.key for channel in CHANNELS)
FUNCTIONAL = ("fdg", "hypoxia_pet", "adc", "ktrans", "r2star")
"""At least one of these must be there: CT and T1 alone say nothing about hypoxia."""
N_INPUTS = 2 * len(CHANNELS) + 1
"""Network input: the scaled images, then for each whether it is there (1) or not (0), then the GTV."""
