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
from ..wording import RESEARCH_USE, SURROGATE_LABEL, threshold_text, unit_text, volume_word
from .plain_views import map_colours
from .plan import Pane, Plan

BACKGROUND, INK, FAINT, AMBER = (17, 19, 24), (240, 240, 240), (165, 170, 180), (255, 190, 60)
GAP, SIDE_WIDTH, HEADER, FOOTER = 8, 280, 62, 34
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
    body = max(sum(heights) + GAP * (len(heights) - 1), _side_height(picture, plan))
    width, height = panes_width + 3 * GAP + SIDE_WIDTH, HEADER + body + FOOTER
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
    _side(draw, canvas, picture, plan, result, panes_width + 2 * GAP)
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
    label = SURROGATE_LABEL if result.images.map.surrogate else ""
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


def _side_height(picture: Picture, plan: Plan) -> int:
    """Room that colour bar and legend need."""
    lines = sum(c.group == picture.group for c in plan.contours)
    return (330 if picture.colour_bar else 0) + 30 + 28 * lines


def _side(draw: Any, canvas: Any, picture: Picture, plan: Plan, result: Result, left: int) -> None:
    """Colour bar with window and threshold, then the legend of the contours."""
    from PIL import Image

    top = HEADER
    if picture.colour_bar:
        low, high = plan.windows["map"]
        height = 240
        strip = np.repeat((map_colours()[::-1] * 255).astype(np.uint8)[:, None], 26, axis=1)
        canvas.paste(Image.fromarray(strip).resize((26, height)), (left + 6, top + 34))
        draw.rectangle((left + 5, top + 33, left + 32, top + 34 + height), outline=FAINT)
        draw.text((left + 4, top + 2), f"Map ({unit_text(plan.map_unit)})", INK, _font(16, bold=True))
        for fraction in (0, 0.25, 0.5, 0.75, 1):
            y = top + 34 + height * (1 - fraction)
            draw.line((left + 32, y, left + 38, y), FAINT, 1)
            draw.text((left + 43, y), f"{low + fraction * (high - low):.3g}", INK, _font(14), anchor="lm")
        if low <= result.threshold <= high:
            y = round(top + 34 + height * (1 - (result.threshold - low) / (high - low)))
            draw.line((left + 1, y, left + 100, y), (255, 255, 255), 3)
            draw.text((left + 104, y), "threshold", INK, _font(14, bold=True), anchor="lm")
        text = threshold_text(result.threshold, result.comparison, plan.map_unit)
        label = f"{volume_word(result.images.map.surrogate)}: {text}"
        draw.text((left + 4, top + 284), _fitted(draw, label, _font(14), SIDE_WIDTH - 12), INK, _font(14))
        draw.text((left + 4, top + 304), f"window {low:g} to {high:g}", FAINT, _font(13))
        top += 334
    for contour in plan.contours:
        if contour.group == picture.group:
            draw.line((left + 6, top + 12, left + 34, top + 12), contour.colour, 5)
            legend = _fitted(draw, contour.legend, _font(15), SIDE_WIDTH - 52)
            draw.text((left + 44, top + 12), legend, INK, _font(15), anchor="lm")
            top += 28


@cache
def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans as shipped with matplotlib, so that pictures are the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
