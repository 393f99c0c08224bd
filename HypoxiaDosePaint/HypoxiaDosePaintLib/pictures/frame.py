"""The frame around the views: orientation letters, position, ruler, colour bar, legend, research-use banner."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..result import Result
from ..wording import RESEARCH_USE, map_mark, threshold_text, unit_text, volume_word
from .plain_views import overlay_colours
from .plan import Contour, Pane, Plan

BACKGROUND, INK, FAINT, AMBER = (17, 19, 24), (240, 240, 240), (165, 170, 180), (255, 190, 60)
GAP, SIDE_WIDTH, HEADER, FOOTER = 8, 280, 62, 34
BAR_HEIGHT, LEGEND_LINE = 334, 28  # pixels that the colour bar with its texts, and a line of the legend, take
CHECKER_MM = 30.0
BY_SLICER = "Views rendered by 3D Slicer libraries"
NOT_BY_SLICER = "NOT rendered by Slicer: plain resampling"


@dataclass(frozen=True)
class Picture:
    """A finished picture in the making: rows of panes under one title, with or without colour bar and legend."""

    title: str
    rows: tuple[tuple[Pane, ...], ...]
    colour_bar: bool = True
    group: str = "targets"
    overlay: str = "map"


def compose(picture: Picture, views: Mapping[str, np.ndarray], plan: Plan, result: Result, by_slicer: bool) -> bytes:
    """PNG of a picture.

    Parameters
    ----------
    views : mapping
        Pixels (pixels, pixels, 3) of every pane by key.
    by_slicer : bool
        False writes on the picture that it was not rendered by Slicer.
    """
    from PIL import Image, ImageDraw

    heights = [max(p.pixels for p in row) for row in picture.rows]
    panes_width = max(sum(p.pixels + GAP for p in row) for row in picture.rows) - GAP
    body = max(sum(heights) + GAP * (len(heights) - 1), BAR_HEIGHT if picture.colour_bar else 0)
    columns = legend_columns(picture, plan, body)
    width, height = panes_width + 3 * GAP + SIDE_WIDTH * len(columns), HEADER + body + FOOTER
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _header(draw, picture, result, width)
    top = HEADER
    for row, row_height in zip(picture.rows, heights, strict=True):
        left = GAP
        for pane in row:
            canvas.paste(Image.fromarray(views[pane.key]), (left, top))
            _annotate(draw, pane, left, top)
            left += pane.pixels + GAP
        top += row_height + GAP
    if picture.colour_bar:
        _colour_bar(draw, canvas, picture.overlay, plan, result, panes_width + 2 * GAP)
    for number, column in enumerate(columns):
        top = HEADER + (BAR_HEIGHT if picture.colour_bar and number == 0 else 0)
        _legend(draw, column, panes_width + 2 * GAP + number * SIDE_WIDTH, top)
    note = BY_SLICER if by_slicer else NOT_BY_SLICER
    draw.text((GAP, height - 26), RESEARCH_USE, AMBER, _font(16, bold=True))
    draw.text((width - GAP, height - 26), f"{note}  ·  {result.software}", FAINT, _font(13), anchor="ra")
    return png_bytes(canvas)


def png_bytes(image: Any) -> bytes:
    """PNG file of a Pillow image."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def checkerboard(one: np.ndarray, other: np.ndarray, pane: Pane) -> np.ndarray:
    """Two views of the same place in squares of 30 mm."""
    square = CHECKER_MM / pane.width_mm * pane.pixels
    number = (np.arange(pane.pixels) / square).astype(int)
    first = ((number[:, None] + number[None, :]) % 2 == 0)[..., None]
    return np.where(first, one, other)


def edge_letters(pane: Pane) -> dict[str, str]:
    """Patient directions at the four edges of a pane: R, L, A, P, S or I."""

    def letter(vector: np.ndarray) -> str:
        axis = int(np.argmax(np.abs(vector)))
        return ("LR", "PA", "SI")[axis][0 if vector[axis] > 0 else 1]

    right, up = np.array(pane.right), np.array(pane.up)
    return {"right": letter(right), "left": letter(-right), "top": letter(up), "bottom": letter(-up)}


def _header(draw: Any, picture: Picture, result: Result, width: int) -> None:
    """Title, patient identifier, map and surrogate label."""
    volume = result.images.map.volume
    patient = f"Patient ID {result.patient.get('id', '')}"
    label = map_mark(result.images.map)
    text = f"{volume.quantity}  ·  {result.method.get('title', '')}"
    for y, left, right, colour, size in ((8, picture.title, patient, INK, 20), (36, text, label, AMBER, 15)):
        right_font, left_font = _font(15, bold=bool(right == label)), _font(size, bold=size == 20)
        room = width - 4 * GAP - draw.textlength(right, right_font)
        draw.text((width - GAP, y + 1), right, colour, right_font, anchor="ra")
        draw.text((GAP, y), _fitted(draw, left, left_font, room), INK if size == 20 else FAINT, left_font)


def _fitted(draw: Any, text: str, font: Any, width: float) -> str:
    """Text cut to a width in pixels, the cut marked."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def _annotate(draw: Any, pane: Pane, left: int, top: int) -> None:
    """Orientation letters, title and ruler on one pane."""
    n, small = pane.pixels, pane.pixels < 300
    halo = {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    font = _font(13 if small else 19, bold=True)
    letters = edge_letters(pane)
    middle = n // 2
    places = {"left": (6, middle, "lm"), "right": (n - 6, middle, "rm"), "top": (middle, 5, "ma"),
              "bottom": (middle, n - 5, "md")}  # fmt: skip
    for edge, (x, y, anchor) in places.items():
        if not (small and edge == "top"):
            draw.text((left + x, top + y), letters[edge], INK, font, anchor=anchor, **halo)
    y = 5 if small else 28
    draw.text((left + 7, top + y), pane.title, INK, _font(13 if small else 15), **halo)
    length = max(mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= max(1.0, pane.width_mm * 0.3))
    pixels = round(length / pane.width_mm * n)
    x, y = left + 10, top + n - 12
    draw.line((x - 1, y, x + pixels + 1, y), (0, 0, 0), 5)
    draw.line((x, y, x + pixels, y), INK, 3)
    draw.text((x, y - 5), f"{length} mm", INK, _font(12 if small else 14), anchor="ld", **halo)


def legend_columns(picture: Picture, plan: Plan, height: int) -> list[list[Contour]]:
    """Contours of the legend, column by column; the first stands under the colour bar, if the picture has one.

    The legend goes into columns of its own where it would reach below the images (``height`` in pixels).
    """
    contours = [c for c in plan.contours if c.group == picture.group]
    under_bar = (height - (BAR_HEIGHT if picture.colour_bar else 0)) // LEGEND_LINE
    if len(contours) <= under_bar:
        return [contours]
    lines = max(1, height // LEGEND_LINE)
    columns = [contours[i : i + lines] for i in range(0, len(contours), lines)]
    return [[], *columns] if picture.colour_bar else columns


def _colour_bar(draw: Any, canvas: Any, overlay: str, plan: Plan, result: Result, left: int) -> None:
    """Colour bar with its window, and the threshold on it and in words."""
    from PIL import Image

    low, high = plan.windows[overlay]
    of_map = overlay == "map"
    top, height = HEADER + 34, 240
    strip = np.repeat((overlay_colours(overlay)[::-1] * 255).astype(np.uint8)[:, None], 26, axis=1)
    canvas.paste(Image.fromarray(strip).resize((26, height)), (left + 6, top))
    draw.rectangle((left + 5, top - 1, left + 32, top + height), outline=FAINT)
    heading = f"{'Map' if of_map else 'Standard deviation'} ({unit_text(plan.map_unit)})"
    draw.text((left + 4, top - 32), heading, INK, _font(16, bold=True))
    marked = of_map and low <= result.threshold <= high
    threshold_y = round(top + height * (1 - (result.threshold - low) / (high - low))) if marked else 0
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        y = top + height * (1 - fraction)
        draw.line((left + 32, y, left + 38, y), FAINT, 1)
        if not (marked and abs(y - threshold_y) < 16):  # the threshold is written there
            draw.text((left + 43, y), f"{low + fraction * (high - low):.3g}", INK, _font(14), anchor="lm")
    if marked:
        draw.line((left + 1, threshold_y, left + 38, threshold_y), (255, 255, 255), 3)
        draw.text((left + 43, threshold_y), f"{result.threshold:.3g} threshold", INK, _font(14, bold=True), anchor="lm")
    text = threshold_text(result.threshold, result.comparison, plan.map_unit)
    label = f"{volume_word(result.images.map.surrogate)}: {text}" if of_map else "uncertainty of the map"
    draw.text((left + 4, top + 250), _fitted(draw, label, _font(14), SIDE_WIDTH - 12), INK, _font(14))
    draw.text((left + 4, top + 270), f"window {low:g} to {high:g}", FAINT, _font(13))


def _legend(draw: Any, contours: list[Contour], left: int, top: int) -> None:
    """Colours and names of contours, one a line."""
    for number, contour in enumerate(contours):
        y = top + 12 + LEGEND_LINE * number
        draw.line((left + 6, y, left + 34, y), contour.colour, 5)
        draw.text(
            (left + 44, y), _fitted(draw, contour.legend, _font(15), SIDE_WIDTH - 52), INK, _font(15), anchor="lm"
        )


@cache
def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans as shipped with matplotlib, so that pictures are the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
