"""Volume beyond every threshold from one sorting of the map inside the GTV: fast enough for a slider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import LimitError
from ..volume import Region, Volume, require_same_grid
from .i18n import _


@dataclass(frozen=True)
class ThresholdTable:
    """Sorted map values inside a GTV and what a voxel weighs.

    Parameters
    ----------
    values : numpy.ndarray
        Finite values, ascending, shape (voxels,).
    voxel_ml : float
        Volume of a voxel.
    gtv_ml : float
        Volume of the GTV, voxels without a map value included.
    comparison : str
        ``">"``, ``">="``, ``"<"`` or ``"<="``.
    """

    values: np.ndarray
    voxel_ml: float
    gtv_ml: float
    comparison: str

    def volume_ml(self, threshold: float) -> float:
        """Volume in ml beyond a threshold. No islands are dropped here."""
        side: Literal["left", "right"] = "right" if self.comparison in (">", "<=") else "left"
        # In the type of the map, as every comparison of the map with a number: else NumPy copies the map each time.
        below = int(np.searchsorted(self.values, self.values.dtype.type(threshold), side=side))
        count = below if self.comparison.startswith("<") else self.values.size - below
        return count * self.voxel_ml

    def fraction(self, threshold: float) -> float:
        """Part of the GTV beyond a threshold, 0-1."""
        return self.volume_ml(threshold) / self.gtv_ml

    def limits(self) -> tuple[float, float]:
        """Lowest and highest value in the GTV."""
        return float(self.values[0]), float(self.values[-1])

    def curve(self, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Thresholds and volumes in ml, shapes (n,)."""
        x = np.linspace(*self.limits(), n)
        return x, np.array([self.volume_ml(float(t)) for t in x])

    def histogram(self, bins: int = 60) -> tuple[np.ndarray, np.ndarray]:
        """Bin centres and ml per bin, shapes (bins,)."""
        count, edges = np.histogram(self.values, bins=bins)
        return (edges[:-1] + edges[1:]) / 2, count * self.voxel_ml


def make_threshold_table(volume: Volume, gtv: Region, comparison: str) -> ThresholdTable:
    """Sort the map inside a GTV once.

    Raises
    ------
    GeometryError
        If map and GTV do not share a grid.
    LimitError
        If the GTV is empty or the map has no value in it.
    """
    require_same_grid(volume.image, gtv.mask, f"Map and {gtv.name}")
    inside = volume.array[gtv.array]
    values = np.sort(inside[np.isfinite(inside)])
    if values.size == 0:
        message = _("The map has no value in {name}.").format(name=gtv.name)
        raise LimitError(message, _("Check the GTV and the field of view of the images."))
    return ThresholdTable(values, volume.voxel_volume_ml, inside.size * volume.voxel_volume_ml, comparison)
