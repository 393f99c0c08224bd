"""Slices on which a region has no contour although it should: contours lost on the way from the planning system.

A region may consist of islands, so an empty slice alone proves nothing. What is judged is continuity: the contours
below and above the empty slices. If they lie over each other and the gap is short, or if the whole region has
contours at one regular distance (drawn on every k-th slice, to be interpolated), then contours are missing. A long
gap, or contours that lie side by side, separate two islands. The limits are a choice, made so that a person is asked
rather than a contour invented. Not seen: gaps of one island beside another that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SHORT_GAP_SLICES = 2  # a longer gap separates islands
STRONG_OVERLAP = 0.5  # of the smaller of the two neighbours
MISSING_LIMIT = 0.5  # of the slices between first and last contour; more, and the region is not what was drawn


@dataclass(frozen=True)
class Gaps:
    """Slices that should have a contour and have none.

    Parameters
    ----------
    slices : tuple of int
        Their indices.
    voxels : float
        Voxels that linear interpolation of the area between the neighbours would put there.
    contoured, expected : int
        Slices with a contour, and slices from first to last, of the worst connected stretch.
    incomplete : bool
        More than ``MISSING_LIMIT`` of the slices between first and last of a stretch are missing.
    """

    slices: tuple[int, ...] = ()
    voxels: float = 0.0
    contoured: int = 0
    expected: int = 0
    incomplete: bool = False


def find_gaps(mask: np.ndarray, planes: np.ndarray) -> Gaps:
    """Find slices without contour in the middle of a region.

    Parameters
    ----------
    mask : numpy.ndarray
        The region, shape (z, y, x).
    planes : numpy.ndarray
        Slice index of every contour, in any order.
    """
    levels = np.unique(planes)
    steps = np.diff(levels)
    regular = bool(steps.size > 1 and steps.min() > 1 and np.ptp(steps) <= 1)  # by one: distances that were rounded
    slices: list[int] = []
    voxels = 0.0
    stretches = [[int(levels[0])]]
    for below, above in pairwise(levels):
        gap = int(above - below) - 1
        if gap and not ((gap <= SHORT_GAP_SLICES or regular) and _overlap(mask[below], mask[above]) >= STRONG_OVERLAP):
            stretches.append([])
        elif gap:
            slices += range(int(below) + 1, int(above))
            voxels += gap * (np.count_nonzero(mask[below]) + np.count_nonzero(mask[above])) / 2
        stretches[-1].append(int(above))
    worst = max(stretches, key=_missing_share)
    return Gaps(
        tuple(slices), float(voxels), len(worst), worst[-1] - worst[0] + 1, _missing_share(worst) > MISSING_LIMIT
    )


def _missing_share(stretch: list[int]) -> float:
    """Share of the slices between first and last that have no contour."""
    between = stretch[-1] - stretch[0] - 1
    return 1 - (len(stretch) - 2) / between if between > 0 else 0.0


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Shared area of two slices as a fraction of the smaller one."""
    smaller = min(np.count_nonzero(a), np.count_nonzero(b))
    return np.count_nonzero(a & b) / smaller if smaller else 0.0
