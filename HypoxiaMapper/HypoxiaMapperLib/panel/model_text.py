"""What the panel says of the trained model behind a map: headings and texts, what decides first. No Qt."""

from __future__ import annotations

import html
import math

from ..inference.channels import CHANNELS
from ..methods import Baseline, Finding, ModelUse
from .i18n import _

PASSED, FAILED = "✔", "✖"
"""Signs before a word, for those who cannot tell colours."""
_TITLES = {channel.key: channel.title for channel in CHANNELS}
_HEADING_WIDTH = 104  # pixels


def model_rows(model: ModelUse) -> list[tuple[str, str]]:
    """Heading and text of each row; a text may have several lines."""
    change = _("without {image} {change:.3g} on average")
    changes = [change.format(image=_titles((key,)), change=value) for key, value in model.occlusion.items()]
    hashes = ", ".join(w[:8] for w in model.weights_sha256)
    weights = _("weights {hashes} (SHA-256)").format(hashes=hashes)
    images = [_("used: {images}").format(images=_titles(model.images_used))]
    if model.images_missing:
        images.append(_("not there: {images}").format(images=_titles(model.images_missing)))
    rows = [
        (_("Label"), model.label),
        (_("Like training?"), "\n".join(distribution_lines(model))),
        (_("Volume"), _volume(model)),
        (_("Beside it"), "\n".join(_baseline(b) for b in model.baselines)),
        (_("Images"), "\n".join(images)),
        (_("Map changes"), "\n".join(changes)),
        (_("Trained on"), model.training_data),
        (_("Intended for"), model.intended_use),
        (_("Model"), "\n".join(filter(None, (f"{model.title} {model.version}", model.identity, weights)))),
        (_("Computed on"), model.device),
    ]
    return [(heading, text) for heading, text in rows if text]


def model_html(model: ModelUse) -> str:
    """The rows as a table for a label; what failed stands out."""
    cells = []
    for heading, text in model_rows(model):
        lines = [html.escape(line) for line in text.split("\n")]
        strong = "<br>".join(f"<b>{s}</b>" if text == model.label or s.startswith(FAILED) else s for s in lines)
        cells.append(f"<tr><td width={_HEADING_WIDTH}><b>{html.escape(heading)}</b></td><td>{strong}</td></tr>")
    return f"<table cellpadding=2>{''.join(cells)}</table>"


def distribution_lines(model: ModelUse) -> list[str]:
    """Whether the images are like those the model was trained on, failed checks by name."""
    failed = [f for f in model.distribution if not f.passed]
    way = _("• to lift: {request} name: reason").format(request=f"distribution({', '.join(model.failed_checks)})")
    if not model.distribution:
        text = _("OUTSIDE: the images were not compared with the training data; export needs an override.")
        return [f"{FAILED} {text}", way]
    if not failed:
        text = _("ok: {count} checks against the training data passed.")
        return [f"{PASSED} {text.format(count=len(model.distribution))}"]
    text = _("OUTSIDE: {failed} of {count} checks failed; export needs an override.")
    head = text.format(failed=len(failed), count=len(model.distribution))
    return [f"{FAILED} {head}", *(_finding(finding) for finding in failed), way]


def _finding(finding: Finding) -> str:
    text = _("• {check}: {value} (allowed: {allowed})")
    return text.format(check=finding.check, value=finding.value, allowed=finding.allowed)


def _volume(model: ModelUse) -> str:
    """Hypoxic volume with its band, where the model states one."""
    low, high = model.hypoxic_volume_band_ml
    known = not (math.isnan(low) or math.isnan(high))
    volume = (
        _("{volume:.2f} ml (5-95 %: {low:.2f} to {high:.2f} ml)")
        if known
        else _("{volume:.2f} ml (5-95 % band: not given by this model)")
    )
    cut = (
        _(
            "Here and beside it, volumes are cut at {threshold}, the model's own threshold; they do not follow the "
            "slider."
        )
        if model.threshold_text
        else _("Here and beside it, volumes are cut at the model's own threshold; they do not follow the slider.")
    )
    lines = (
        volume.format(volume=model.hypoxic_volume_ml, low=low, high=high),
        cut.format(threshold=model.threshold_text),
    )
    return "\n".join(lines)


def _baseline(baseline: Baseline) -> str:
    agreement = "" if math.isnan(baseline.correlation) else f", r = {baseline.correlation:.2f}"
    return f"{baseline.name}: {baseline.hypoxic_volume_ml:.2f} ml{agreement}. {baseline.description}"


def _titles(keys: tuple[str, ...]) -> str:
    return ", ".join(_TITLES.get(key, key) for key in keys)
