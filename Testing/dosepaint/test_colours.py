"""Colours: outlines told apart by readers without red, green or blue sight, and text that stands off its ground."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from HypoxiaDosePaintLib.pictures.plan import ORGAN_COLOURS
from HypoxiaDosePaintLib.report import TEMPLATE_FOLDER
from HypoxiaDosePaintLib.targets import _COLOURS, _GTV_COLOURS
from HypoxiaMapperLib.panel.hypoxic_segment import COLOUR

SIGHT = {  # Machado et al. 2009, severity 1, 10.1109/TVCG.2009.113: linear RGB as seen
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
CLEARLY_DIFFERENT = 17.0  # CIELAB; 2.3 is just noticeable


def linear(colour) -> np.ndarray:
    c = np.array(colour) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x = XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_outlines_look_alike(sight):
    colours = [*_GTV_COLOURS[:2], *_COLOURS.values(), *ORGAN_COLOURS]
    seen = [lab(np.array(SIGHT[sight]) @ linear(c)) for c in colours]
    close = [
        (colours[i], colours[j], round(float(np.linalg.norm(seen[i] - seen[j]))))
        for i, j in itertools.combinations(range(len(colours)), 2)
        if np.linalg.norm(seen[i] - seen[j]) < CLEARLY_DIFFERENT
    ]
    assert close == []


def test_the_hypoxic_segment_has_one_colour_in_both_modules():
    assert _COLOURS["hypoxic"] == COLOUR


def test_text_of_the_report_stands_off_its_ground():
    """Contrast of WCAG 2, at least 4.5, on light and dark screens and on paper."""
    css = (TEMPLATE_FOLDER / "report.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{([^}]*)\}", css)]
    assert len(schemes) == 3
    pairs = [(ink, ground) for ink in ("ink", "faint") for ground in ("paper", "soft")]
    pairs += [(c, "paper") for c in ("red", "green", "amber")] + [("amber", "soft"), ("ink", "amber-back")]
    pairs += [("ink", "red-back"), ("ink", "green-back")]
    for scheme in schemes:
        for ink, ground in pairs:
            assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground)
    for white, ground in re.findall(r"background: (#[0-9a-f]+); color: (#[0-9a-f]+)", css):
        assert contrast(white, ground) >= 4.5


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two CSS colours, ``#rgb`` or ``#rrggbb``."""

    def luminance(text: str) -> float:
        digits = text[1:] if len(text) == 7 else "".join(2 * d for d in text[1:])
        return float(np.dot(linear([int(digits[i : i + 2], 16) for i in (0, 2, 4)]), (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
