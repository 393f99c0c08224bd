"""The frame around the views: orientation letters, position, ruler, names; below them colour bar and legend.

Texts are written on dark boxes: an outline of letters alone looks doubled over bone.
"""

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
from .labels import draw_labels, place_labels, shown_contours
from .plain_views import overlay_colours
from .plan import MAP_MARGIN_MM, Contour, Pane, Plan

BACKGROUND, INK, FAINT, AMBER = (17, 19, 24), (240, 240, 240), (165, 170, 180), (255, 190, 60)
GAP, HEADER, MARK_LINE, FOOTER = 8, 62, 24, 36
BLOCK_WIDTH, BAR_HEIGHT, BAR_THICKNESS = 584, 120, 18  # pixels of the colour bar with its texts
LEGEND_WIDTH, LEGEND_LINE = 292, 27  # pixels of a column and of a line of the legend
SMALL_PIXELS = 300  # tiles of one scale: the first alone has a ruler
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

    @property
    def panes(self) -> list[Pane]:
        """Panes of all rows."""
        return [pane for row in self.rows for pane in row]


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

    marks = [part for part in map_mark(result.images.map).split("; ") if part]
    header = HEADER + MARK_LINE * len(marks)
    heights = [max(p.pixels for p in row) for row in picture.rows]
    width = 2 * GAP + max(BLOCK_WIDTH, *(sum(p.pixels + GAP for p in row) - GAP for row in picture.rows))
    contours = shown_contours(picture.panes, plan, picture.group)
    strip, places = strip_places(len(contours), width, picture.colour_bar)
    strip_top = header + sum(h + GAP for h in heights)
    height = strip_top + strip + FOOTER
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _header(draw, picture, result, width, marks)
    top = header
    for row, row_height in zip(picture.rows, heights, strict=True):
        left = GAP
        for pane in row:
            canvas.paste(Image.fromarray(views[pane.key]), (left, top))
            _annotate(draw, pane, plan, left, top, ruler=pane.pixels >= SMALL_PIXELS or pane is picture.panes[0])
            left += pane.pixels + GAP
        top += row_height + GAP
    if picture.colour_bar:
        _colour_bar(draw, canvas, picture.overlay, plan, result, strip_top)
    for contour, (x, y) in zip(contours, places, strict=True):
        _legend_entry(draw, contour, x, strip_top + y)
    note = BY_SLICER if by_slicer else NOT_BY_SLICER
    draw.text((GAP, height - 28), RESEARCH_USE, AMBER, _font(17, bold=True))
    draw.text((width - GAP, height - 26), f"{note}  ·  {result.software}", FAINT, _font(13), anchor="ra")
    return png_bytes(canvas)


def strip_places(count: int, width: int, colour_bar: bool) -> tuple[int, list[tuple[int, int]]]:
    """Height of the strip below the panes, and where in it each of ``count`` entries of the legend begins.

    The legend stands to the right of the colour bar where there is room, else below it; it fills row by row.
    """
    bar = BLOCK_WIDTH + 2 * GAP if colour_bar else GAP
    beside = (width - bar) // LEGEND_WIDTH
    left, top = (bar, 0) if beside else (GAP, BAR_HEIGHT)
    columns = beside or max(1, (width - GAP) // LEGEND_WIDTH)
    places = [(left + LEGEND_WIDTH * (n % columns), top + LEGEND_LINE * (n // columns)) for n in range(count)]
    bottom = max((y + LEGEND_LINE for _, y in places), default=0)
    return max(bottom, BAR_HEIGHT if colour_bar else 0), places


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


def _header(draw: Any, picture: Picture, result: Result, width: int, marks: list[str]) -> None:
    """Title, method and patient identifier, and in lines of their own what must stand at every map."""
    room = width - 2 * GAP
    draw.text((GAP, 8), _fitted(draw, picture.title, _font(20, bold=True), room), INK, _font(20, bold=True))
    patient = _fitted(draw, f"Patient ID {result.patient.get('id', '')}", _font(15), room / 2)
    draw.text((width - GAP, 36), patient, INK, _font(15), anchor="ra")
    left = room - 2 * GAP - draw.textlength(patient, _font(15))
    draw.text((GAP, 37), _fitted(draw, result.method.get("title", ""), _font(13), left), FAINT, _font(13))
    for number, mark in enumerate(marks):
        draw.text((GAP, HEADER - 2 + MARK_LINE * number), mark, AMBER, _font(15, bold=True))


def _fitted(draw: Any, text: str, font: Any, width: float) -> str:
    """Text cut to a width in pixels, the cut marked."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def _annotate(draw: Any, pane: Pane, plan: Plan, left: int, top: int, ruler: bool) -> None:
    """Names of contours, orientation letters, title and ruler on one pane."""
    n, small = pane.pixels, pane.pixels < SMALL_PIXELS
    draw_labels(draw, place_labels(pane, plan), left, top, _font(14, bold=True), BACKGROUND)
    letters, font = edge_letters(pane), _font(13 if small else 19, bold=True)
    middle = n // 2
    places = {"left": (6, middle, "lm"), "right": (n - 6, middle, "rm"), "top": (middle, 6, "ma"),
              "bottom": (middle, n - 6, "md")}  # fmt: skip
    for edge, (x, y, anchor) in places.items():
        if not (small and edge == "top"):
            _boxed(draw, (left + x, top + y), letters[edge], font, anchor)
    y = 5 if small else 34
    _boxed(draw, (left + 7, top + y), pane.title, _font(13 if small else 15), "la")
    if not ruler:
        return
    length = max(mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= max(1.0, pane.width_mm * 0.3))
    pixels = round(length / pane.width_mm * n)
    x, y = left + 10, top + n - 12
    draw.rectangle((x - 4, y - 5, x + pixels + 4, y + 5), BACKGROUND)
    draw.line((x, y, x + pixels, y), INK, 3)
    _boxed(draw, (x, y - 9), f"{length} mm", _font(12 if small else 14), "ld")


def _boxed(draw: Any, place: tuple[int, int], text: str, font: Any, anchor: str) -> None:
    """Text on a dark box."""
    x0, y0, x1, y1 = draw.textbbox(place, text, font, anchor=anchor)
    draw.rectangle((x0 - 4, y0 - 3, x1 + 4, y1 + 3), BACKGROUND)
    draw.text(place, text, INK, font, anchor=anchor)


def _colour_bar(draw: Any, canvas: Any, overlay: str, plan: Plan, result: Result, top: int) -> None:
    """Colour bar with its window, and the threshold on it and in words."""
    from PIL import Image

    low, high = plan.windows[overlay]
    of_map, left, width = overlay == "map", GAP + 24, BLOCK_WIDTH - 52
    name = f"{'' if of_map else 'Standard deviation of '}{result.images.map.volume.quantity}"
    unit = unit_text(plan.map_unit)
    heading = _fitted(draw, f"{name} ({unit})" if unit else name, _font(15, bold=True), BLOCK_WIDTH)
    draw.text((GAP, top), heading, INK, _font(15, bold=True))
    y = top + 46
    strip = np.repeat((overlay_colours(overlay) * 255).astype(np.uint8)[None], BAR_THICKNESS, axis=0)
    canvas.paste(Image.fromarray(strip).resize((width, BAR_THICKNESS)), (left, y))
    draw.rectangle((left - 1, y - 1, left + width, y + BAR_THICKNESS), outline=FAINT)
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        x = left + round(width * fraction)
        draw.line((x, y + BAR_THICKNESS, x, y + BAR_THICKNESS + 5), FAINT, 1)
        value = f"{low + fraction * (high - low):.3g}"
        draw.text((x, y + BAR_THICKNESS + 7), value, INK, _font(14), anchor="ma")
    if of_map and low <= result.threshold <= high:
        x = left + round(width * (result.threshold - low) / (high - low))
        draw.line((x, y - 6, x, y + BAR_THICKNESS + 3), (255, 255, 255), 3)
        text, font = f"threshold {result.threshold:.4g}", _font(14, bold=True)
        half = draw.textlength(text, font) / 2
        draw.text((min(max(x, left + half), left + width - half), y - 8), text, INK, font, anchor="md")
    text = f"drawn up to {MAP_MARGIN_MM:g} mm around tumour and targets"
    if of_map:
        threshold = threshold_text(result.threshold, result.comparison, plan.map_unit)
        text = f"{volume_word(result.images.map.surrogate)}: {threshold};  {text}"
    draw.text((GAP, y + BAR_THICKNESS + 29), _fitted(draw, text, _font(13), BLOCK_WIDTH), FAINT, _font(13))


def _legend_entry(draw: Any, contour: Contour, left: int, top: int) -> None:
    """Colour and name of a contour."""
    y = top + LEGEND_LINE // 2
    draw.line((left + 4, y, left + 30, y), contour.colour, 5)
    text = _fitted(draw, contour.legend, _font(15), LEGEND_WIDTH - 44)
    draw.text((left + 38, y), text, INK, _font(15), anchor="lm")


@cache
def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans as shipped with matplotlib, so that pictures are the same on every machine.

    Laid out by Pillow itself: beside Qt's libraries in Slicer, Raqm measured a name at millions of pixels.
    """
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
