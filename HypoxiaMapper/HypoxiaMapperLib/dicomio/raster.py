"""Fill polygons on a stack of slices by the even-odd rule, sampled at pixel centres."""

from __future__ import annotations

import numpy as np

_BLOCK_VOXELS = 1 << 22  # counts are held for this many voxels at a time, so memory does not grow with the image


def fill_even_odd(
    points: np.ndarray, lengths: np.ndarray, planes: np.ndarray, size: tuple[int, int, int]
) -> np.ndarray:
    """Fill closed polygons.

    A pixel is inside when an odd number of polygon edges of its slice lie to its left. Edges are half open, so two
    polygons that share an edge share no pixel and leave none out.

    Parameters
    ----------
    points : numpy.ndarray
        x, y of all polygons one after the other in pixel index units, shape (n, 2).
    lengths : numpy.ndarray
        Points of each polygon, shape (m,).
    planes : numpy.ndarray
        Slice index of each polygon, shape (m,); negative leaves it out.
    size : tuple of int
        Columns, rows, slices.

    Returns
    -------
    numpy.ndarray
        uint8, shape (slices, rows, columns), 1 inside.
    """
    columns, rows, slices = size
    mask = np.zeros((slices, rows, columns), np.uint8)
    plane, row, column = _crossings(points, lengths, planes, rows)
    if not plane.size:
        return mask
    column = np.clip(column, 0, columns)
    column_0, column_1 = int(column.min()), int(column.max())
    row_0, row_1 = int(row.min()), int(row.max()) + 1
    width, height = column_1 - column_0, row_1 - row_0
    if width == 0:
        return mask
    order = np.argsort(plane, kind="stable")
    plane, row, column = plane[order], row[order] - row_0, column[order] - column_0
    step = max(1, _BLOCK_VOXELS // (height * (width + 1)))
    for first in range(int(plane[0]), int(plane[-1]) + 1, step):
        last = min(first + step, int(plane[-1]) + 1)
        begin, end = np.searchsorted(plane, (first, last))
        flat = ((plane[begin:end] - first) * height + row[begin:end]) * (width + 1) + column[begin:end]
        toggles = np.bincount(flat, minlength=(last - first) * height * (width + 1)).astype(np.uint8)
        # uint8 wraps at 256, which keeps the parity.
        crossed = np.cumsum(toggles.reshape(last - first, height, width + 1)[..., :width], axis=-1, dtype=np.uint8)
        mask[first:last, row_0:row_1, column_0:column_1] = crossed & 1
    return mask


def _crossings(
    points: np.ndarray, lengths: np.ndarray, planes: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slice, row and first pixel to the right of every crossing of an edge with a row of pixel centres."""
    following = np.arange(1, len(points) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths
    start, stop = points, points[following]
    # Every edge goes upwards, so that the two sides of a keyhole cross each row at exactly the same place.
    swap = (start[:, 1] > stop[:, 1])[:, None]
    lower, upper = np.where(swap, stop, start), np.where(swap, start, stop)
    first = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(np.int64)
    count = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(np.int64) - first
    plane = np.repeat(planes, lengths)
    count[plane < 0] = 0
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    delta = upper - lower
    slope = np.divide(delta[:, 0], delta[:, 1], out=np.zeros(len(delta)), where=delta[:, 1] > 0)
    x = lower[edge, 0] + (row - lower[edge, 1]) * slope[edge]
    # Rounded as the points are: a vertex on a pixel centre must not fall by the last bit of a multiplication.
    return plane[edge], row, np.ceil(np.round(x, 6)).astype(np.int64)
