"""A hypoxic region that a person drew or edited, in place of the threshold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.errors import LimitError
from HypoxiaMapperLib.volume import Region, Volume, require_same_grid


def part_inside(
    drawn: Region,
    volume: Volume,
    place: tuple[slice, ...],
    gtv: np.ndarray,
    hits: Callable[[np.ndarray], np.ndarray],
    gtv_names: str,
) -> tuple[np.ndarray, list[str]]:
    """The part of a drawn region inside the GTVs, and what must be said of it.

    Parameters
    ----------
    drawn : Region
        On the grid of the map.
    volume : Volume
        The map.
    place : tuple of slice
        Box around the GTVs in the image (z, y, x).
    gtv : numpy.ndarray
        Union of the GTVs, boolean, shape of the box.
    hits : callable
        Which map values lie beyond the threshold.

    Raises
    ------
    GeometryError
        If the drawn region is not on the grid of the map.
    LimitError
        If no drawn voxel lies in a GTV.
    """
    require_same_grid(volume.image, drawn.mask, f"Map and {drawn.name}")
    voxel_ml = volume.voxel_volume_ml
    whole = sitk.GetArrayViewFromImage(drawn.mask) != 0
    found = whole[place] & gtv
    if not found.any():
        raise LimitError(f"{drawn.name} has no voxel in {gtv_names}.", "Draw it inside the GTV.")
    outside_ml = (np.count_nonzero(whole) - np.count_nonzero(found)) * voxel_ml
    beyond = hits(volume.array[place]) & gtv
    left_out_ml, taken_in_ml = (np.count_nonzero(part) * voxel_ml for part in (beyond & ~found, found & ~beyond))
    notes = [f"{outside_ml:.2f} ml of {drawn.name} lie outside {gtv_names} and were left out."] if outside_ml else []
    if left_out_ml or taken_in_ml:
        notes.append(
            f"{drawn.name} differs from the threshold in {gtv_names}: {left_out_ml:.2f} ml beyond it are not in the "
            f"region, {taken_in_ml:.2f} ml of the region are not beyond it. The region is "
            f"{drawn.source or 'of unknown origin'}."
        )
    return found, notes
