"""What the panel says of the trained model behind a map: headings and texts, what decides first. No Qt."""

from __future__ import annotations

import html
import math

from ..inference.channels import CHANNELS
from ..methods import Baseline, Finding, ModelUse

PASSED, FAILED = "✔ ok", "✖ OUTSIDE"
"""A sign and a word, for those who cannot tell colours."""
_TITLES = {channel.key: channel.title for channel in CHANNELS}
_CUT = "Here and beside it, volumes are cut at {own}; they do not follow the slider."
_HEADING_WIDTH = 104  # pixels


def model_rows(model: ModelUse) -> list[tuple[str, str]]:
    """Heading and text of each row; a text may have several lines."""
    changes = [f"without {_titles((key,))} {change:.3g} on average" for key, change in model.occlusion.items()]
    weights = f"weights {', '.join(w[:8] for w in model.weights_sha256)} (SHA-256)"
    rows = [
        ("Label", model.label),
        ("Like training?", "\n".join(distribution_lines(model))),
        ("Volume", _volume(model)),
        ("Beside it", "\n".join(_baseline(b) for b in model.baselines)),
        ("Images", f"used: {_titles(model.images_used)}"
         + (f"\nnot there: {_titles(model.images_missing)}" if model.images_missing else "")),
        ("Map changes", "\n".join(changes)),
        ("Trained on", model.training_data),
        ("Intended for", model.intended_use),
        ("Model", "\n".join(filter(None, (f"{model.title} {model.version}", model.identity, weights)))),
        ("Computed on", model.device),
    ]  # fmt: skip
    return [(heading, text) for heading, text in rows if text]


def model_html(model: ModelUse) -> str:
    """The rows as a table for a label; what failed stands out."""
    cells = []
    for heading, text in model_rows(model):
        shown = html.escape(text).replace("\n", "<br>")
        strong = f"<b>{shown}</b>" if heading == "Label" else shown.replace(FAILED, f"<b>{FAILED}</b>")
        cells.append(f"<tr><td width={_HEADING_WIDTH}><b>{heading}</b></td><td>{strong}</td></tr>")
    return f"<table cellpadding=2>{''.join(cells)}</table>"


def distribution_lines(model: ModelUse) -> list[str]:
    """Whether the images are like those the model was trained on, failed checks by name."""
    failed = [f for f in model.distribution if not f.passed]
    way = f"• to lift: distribution({', '.join(model.failed_checks)}) name: reason"
    if not model.distribution:
        return [f"{FAILED}: the images were not compared with the training data; export needs an override.", way]
    if not failed:
        return [f"{PASSED}: {len(model.distribution)} checks against the training data passed."]
    head = f"{FAILED}: {len(failed)} of {len(model.distribution)} checks failed; export needs an override."
    return [head, *(f"• {_finding(finding)}" for finding in failed), way]


def _finding(finding: Finding) -> str:
    return f"{finding.check}: {finding.value} (allowed: {finding.allowed})"


def _volume(model: ModelUse) -> str:
    """Hypoxic volume with its band, where the model states one."""
    low, high = model.hypoxic_volume_band_ml
    known = not (math.isnan(low) or math.isnan(high))
    band = f"5-95 %: {low:.2f} to {high:.2f} ml" if known else "5-95 % band: not given by this model"
    own = f"{model.threshold_text}, the model's own threshold" if model.threshold_text else "the model's own threshold"
    return f"{model.hypoxic_volume_ml:.2f} ml ({band})\n{_CUT.format(own=own)}"


def _baseline(baseline: Baseline) -> str:
    agreement = "" if math.isnan(baseline.correlation) else f", r = {baseline.correlation:.2f}"
    return f"{baseline.name}: {baseline.hypoxic_volume_ml:.2f} ml{agreement}. {baseline.description}"


def _titles(keys: tuple[str, ...]) -> str:
    return ", ".join(_TITLES.get(key, key) for key in keys)
