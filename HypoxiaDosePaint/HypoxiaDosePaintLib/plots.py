"""The curves of the report as inline SVG: histogram of the map, hypoxic volume against threshold, fits of regions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from HypoxiaMapperLib.methods import FitCurve

from .result import Result
from .wording import gtv_words, ml_text, percent_text, threshold_text, unit_text, volume_word

HYPOXIC_COLOUR, REST_COLOUR, LINE_COLOUR = "#c2185b", "#9aa3ad", "#1a1c20"
SIZE_INCHES = (6.4, 3.6)


def histogram_svg(result: Result) -> str:
    """Histogram of the map inside the GTVs (ml per bin), the hypoxic side coloured, the threshold as a line."""
    figure, axes = _figure()
    x, y = np.array(result.histogram.x), np.array(result.histogram.y)
    if x.size:
        hypoxic = _hypoxic(x, result)
        width = float(np.diff(x).min()) if x.size > 1 else 1.0
        axes.bar(x[~hypoxic], y[~hypoxic], width, color=REST_COLOUR, label="rest of the GTV")
        label = f"{volume_word(result.images.map.surrogate)} side of the threshold"
        axes.bar(x[hypoxic], y[hypoxic], width, color=HYPOXIC_COLOUR, label=label)
    _threshold_line(axes, result)
    axes.set_xlabel(_readable(result.histogram.x_label))
    axes.set_ylabel(_readable(result.histogram.y_label))
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return _svg(figure, "histogram", "Histogram of the map inside the gross tumour, with the threshold as a line")


def volume_by_threshold_svg(result: Result) -> str:
    """Hypoxic volume (ml and per cent of the GTVs) against threshold, the chosen one marked."""
    figure, axes = _figure()
    curve, gtv_ml = result.volume_by_threshold, sum(f.gtv_volume_ml for f in result.findings)
    axes.plot(curve.x, curve.y, color=HYPOXIC_COLOUR, linewidth=2)
    _threshold_line(axes, result)
    fraction = f"{percent_text(result.hypoxic_fraction)} of\n{gtv_words(len(result.findings))}"
    text = f"{ml_text(result.hypoxic_volume_ml)}\n{fraction}"
    if np.isfinite(result.threshold):
        place = (result.threshold, result.hypoxic_volume_ml)
        axes.plot(*place, "o", color=LINE_COLOUR, markersize=7)
        axes.annotate(text, place, (10, 8), textcoords="offset points", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(_readable(curve.x_label))
    axes.set_ylabel(_readable(curve.y_label))
    if gtv_ml > 0:
        share = axes.secondary_yaxis("right", functions=(lambda v: 100 * v / gtv_ml, lambda v: v * gtv_ml / 100))
        share.set_ylabel("% of GTV")
    words = text.replace(" of\n", " of ").replace("\n", ", ")
    return _svg(figure, "volume", f"Volume beyond the threshold against the threshold; at the one used {words}")


def fit_curve_svg(curve: FitCurve, name: str) -> str:
    """Measured points of a region with the model's curve, and the residual (measured - fitted) below.

    Parameters
    ----------
    name : str
        Unique on the page.
    """
    figure, _ = _figure()
    figure.clear()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    x, measured, fitted = (np.array(v, dtype=float) for v in (curve.x, curve.measured, curve.fitted))
    above.plot(x, measured, "o", color=REST_COLOUR, markersize=4, label="measured")
    above.plot(x, fitted, color=HYPOXIC_COLOUR, linewidth=1.8, label="fitted model")
    above.legend(frameon=False, fontsize=9)
    above.set_title(curve.name.replace("$", r"\$"), fontsize=10, loc="left")
    above.set_ylabel(_readable(curve.y_label))
    residual = measured - fitted
    below.axhline(0, color=LINE_COLOUR, linewidth=1)
    below.vlines(x, 0, residual, color=REST_COLOUR, linewidth=1)
    below.plot(x, residual, "o", color=REST_COLOUR, markersize=3)
    below.set_ylabel("residual")
    below.set_xlabel(_readable(curve.x_label))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e7ea")
    return _svg(figure, name, f"Measured points, fitted curve and residual of {curve.name}")


def _hypoxic(x: np.ndarray, result: Result) -> np.ndarray:
    """Which values lie on the hypoxic side of the threshold."""
    return x < result.threshold if result.comparison.startswith("<") else x > result.threshold


def _threshold_line(axes: Any, result: Result) -> None:
    """Vertical line at the threshold, named in the axes' title."""
    unit = result.images.map.volume.unit
    if np.isfinite(result.threshold):
        axes.axvline(result.threshold, color=LINE_COLOUR, linewidth=1.5, linestyle="--")
    label = f"{volume_word(result.images.map.surrogate)}: {threshold_text(result.threshold, result.comparison, unit)}"
    axes.set_title(label.replace("$", r"\$"), fontsize=10, loc="left")


def _readable(label: str) -> str:
    """Axis label with its UCUM unit as people write it."""
    head, bracket, unit = label.rpartition(" (")
    text = f"{head} ({unit_text(unit[:-1])})" if bracket and unit.endswith(")") else label
    return text.replace("$", r"\$")  # a lone $ would begin mathematics


def _figure() -> tuple[Any, Any]:
    """Figure with one pair of axes; no global state of matplotlib is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7ea")
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, name: str, words: str) -> str:
    """The figure as an SVG element: the same bytes every time, its ids unique on the page, letters as shapes.

    ``words`` is what a screen reader says of it.
    """
    from html import escape

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(stream, metadata=no_metadata)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace('id="', f'id="{name}_').replace('="#', f'="#{name}_')
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(words)}"', 1)
    return text.replace("url(#", f"url(#{name}_")
