"""Which contours a picture really shows, and their names at the lines: colours alone tell nobody who prints in gray."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from .plain_views import cut
from .plan import Contour, Pane, Plan

LABELLED_PIXELS = 500  # panes at least this wide have room for names
MAXIMUM_LABELS = 10
LABEL_LINE = 23  # pixels from label to label
COLUMN = 135  # pixels that names and the letter take at the right edge
EDGE = 34  # pixels kept free for the letter at the edge


@dataclass(frozen=True)
class Label:
    """A name beside a pane's contour: where its leader begins and where its text ends, in pixels of the pane."""

    contour: Contour
    start: tuple[int, int]
    end: tuple[int, int]


def shown_contours(panes: Sequence[Pane], plan: Plan, group: str) -> list[Contour]:
    """Contours of a group that at least one pane shows, in the plan's order: what a legend may list."""
    return [c for c in plan.contours if c.group == group and any(is_shown(c, pane) for pane in panes)]


def description(panes: Sequence[Pane], plan: Plan, group: str) -> str:
    """Where the slices of a picture lie, what is drawn in them and what is not, in words."""
    titles = list(dict.fromkeys(pane.title for pane in panes))
    where = "; ".join(titles) if len(titles) <= 3 else f"{len(titles)} slices, {titles[0]} to {titles[-1]}"
    shown = [c.name for c in shown_contours(panes, plan, group)]
    missing = [c.name for c in plan.contours if c.group == group and c.name not in shown]
    text = f"{re.sub(' +', ' ', where)}. Drawn: {', '.join(shown) or 'no structure'}."
    return f"{text} Not in it: {', '.join(missing)}." if missing else text


def is_shown(contour: Contour, pane: Pane) -> bool:
    """Whether a pane shows something of a contour."""
    if pane.background == "solid":
        return contour.opacity_3d > 0 and _in_front(contour.mask, pane)
    return pane.contours == contour.group and bool(mask_in(contour, pane).any())


def mask_in(contour: Contour, pane: Pane) -> np.ndarray:
    """Mask of a contour on the pixels of a slice pane, boolean, shape (pixels, pixels)."""
    return cut(contour.mask, pane, sitk.sitkNearestNeighbor, 0) > 0


def place_labels(pane: Pane, plan: Plan) -> list[Label]:
    """Names of the targets and organs in a large slice pane, in a column at its right edge, none over another.

    The leaders of nested contours begin at different angles, the outermost highest, so that they do not cross.
    """
    if pane.pixels < LABELLED_PIXELS or pane.background == "solid" or pane.contours != "targets":
        return []
    named = shown_contours([pane], plan, "targets")[:MAXIMUM_LABELS]  # targets come before organs
    found = [(c, mask_in(c, pane)) for c in plan.drawn("targets") if c in named]
    angles = np.deg2rad(np.linspace(60, -50, max(2, len(found))))
    starts = [(c, _start(m, angle)) for (c, m), angle in zip(found, angles, strict=False)]
    starts.sort(key=lambda item: item[1][1])
    lowest = pane.pixels - EDGE - LABEL_LINE * (len(starts) - 1)
    labels, y = [], EDGE
    for number, (contour, start) in enumerate(starts):
        below = LABEL_LINE if start[0] > pane.pixels - COLUMN else 0  # a name must not cover what it names
        y = min(max(y, start[1] + below), lowest + LABEL_LINE * number)
        labels.append(Label(contour, start, (pane.pixels - EDGE, y)))
        y = labels[-1].end[1] + LABEL_LINE
    return labels


def draw_labels(draw: Any, labels: Sequence[Label], left: int, top: int, font: Any, box: tuple[int, int, int]) -> None:
    """Leaders and names on a picture whose pane begins at ``left``, ``top``."""
    for label in labels:
        x, y = left + label.end[0], top + label.end[1]
        start = (left + label.start[0], top + label.start[1])
        edge = x - draw.textlength(label.contour.name, font) - 6
        for colour, width in (((0, 0, 0), 4), (label.contour.colour, 2)):
            draw.line((*start, edge, y), colour, width)
        draw.ellipse((start[0] - 4, start[1] - 4, start[0] + 4, start[1] + 4), label.contour.colour, (0, 0, 0))
    for label in labels:
        x, y = left + label.end[0], top + label.end[1]
        edge = x - draw.textlength(label.contour.name, font) - 6
        draw.rectangle((edge - 4, y - 10, x + 4, y + 10), box, label.contour.colour)
        draw.text((x, y), label.contour.name, (240, 240, 240), font, anchor="rm")


def _start(mask: np.ndarray, angle: float) -> tuple[int, int]:
    """Where a leader begins: outermost at an angle, or at the bottom of what lies in the column of names."""
    start = _outermost(mask, angle)
    return _outermost(mask, -np.pi / 2) if start[0] > mask.shape[1] - COLUMN else start


def _outermost(mask: np.ndarray, angle: float) -> tuple[int, int]:
    """Pixel (x, y) of a mask that lies farthest along an angle (radians, anticlockwise from screen right)."""
    rows, columns = np.nonzero(mask)
    along = np.cos(angle) * (columns - columns.mean()) - np.sin(angle) * (rows - rows.mean())
    number = int(np.argmax(along + 1e-3 * columns))  # of several the one nearest to the names
    return int(columns[number]), int(rows[number])


def _in_front(mask: sitk.Image, pane: Pane) -> bool:
    """Whether some voxel of a mask lies before a 3D pane."""
    kji = np.argwhere(sitk.GetArrayViewFromImage(mask))
    if not len(kji):
        return False
    axes = np.array(mask.GetDirection()).reshape(3, 3) * np.array(mask.GetSpacing())
    points = kji[:, ::-1] @ axes.T + np.array(mask.GetOrigin()) - np.array(pane.centre_mm)
    half = pane.width_mm / 2
    seen = (np.abs(points @ np.array(pane.right)) <= half) & (np.abs(points @ np.array(pane.up)) <= half)
    return bool(seen.any())
