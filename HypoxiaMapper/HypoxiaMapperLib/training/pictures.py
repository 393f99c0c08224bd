"""The two pictures of a model card: calibration, and Bland–Altman of the hypoxic volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .evaluation_case import IMAGE_SETS, NETWORK
from .metrics import NOMINAL_COVERAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 110
_SHOWN = ("FDG", "FDG + CT + MR", "hypoxia PET", "all")
_COLOURS = dict(zip(IMAGE_SETS, ("#b35806", "#e08214", "#8073ac", "#1b7837", "#5aae61", "#2166ac"), strict=True))


def draw_pictures(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write calibration.png and bland_altman.png of the first cohort (the held-out one)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    cohort, numbers = next(iter(summary["cohorts"].items()))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _reliability(left, numbers["sets"])
    _coverage(right, numbers["sets"])
    figure.savefig(folder / "calibration.png", dpi=DPI)

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    shown = [images for images in _SHOWN if images in numbers["sets"]]
    for axes, images in zip(figure.subplots(2, 2, sharex=True, sharey=True).ravel(), shown, strict=False):
        mine = [r for r in rows if (r["cohort"], r["images"], r["map"]) == (cohort, images, NETWORK)]
        _bland_altman(axes, images, mine, numbers["sets"][images]["maps"][NETWORK])
    figure.savefig(folder / "bland_altman.png", dpi=DPI)


def _reliability(axes: Axes, sets: Mapping[str, Any]) -> None:
    """Predicted probability of hypoxia against how often it is true; bins of fewer than 100 voxels are not drawn."""
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="ideal")
    for images, cell in sets.items():
        count, predicted, true = np.array(cell["maps"][NETWORK]["reliability"])
        enough = count >= 100
        axes.plot(
            predicted[enough] / count[enough], true[enough] / count[enough], "o-", ms=3, label=images,
            color=_COLOURS[images],
        )  # fmt: skip
    axes.set(xlabel="predicted probability of hypoxia", ylabel="share of voxels that are hypoxic", title="Probability")
    axes.legend(fontsize=8, frameon=False)


def _coverage(axes: Axes, sets: Mapping[str, Any]) -> None:
    """Nominal against found coverage of the ratio's central intervals."""
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for images, cell in sets.items():
        axes.plot(NOMINAL_COVERAGE, cell["maps"][NETWORK]["coverage"], "o-", ms=3, color=_COLOURS[images])
    axes.set(xlabel="interval of the ratio", ylabel="share of voxels inside it", title="Intervals")


def _bland_altman(axes: Axes, images: str, rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any]) -> None:
    """Difference against mean of predicted and true hypoxic volume, one point per patient."""
    found, true = (np.array([row[key] for row in rows]) for key in ("volume_ml", "true_volume_ml"))
    axes.plot((found + true) / 2, found - true, "o", ms=4, alpha=0.6, color=_COLOURS[images])
    axes.axhline(0, color="0.8", linewidth=1)
    for key, style in (("volume_bias_ml", "-"), ("volume_lower_ml", "--"), ("volume_upper_ml", "--")):
        if numbers[key] is not None:
            axes.axhline(numbers[key], color="0.3", linestyle=style, linewidth=1)
    axes.set(title=images, xlabel="mean of predicted and true volume, ml", ylabel="predicted − true, ml")
