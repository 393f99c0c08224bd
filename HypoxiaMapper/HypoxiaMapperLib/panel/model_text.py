"""What the panel says of the trained model behind a map. Texts only, no Qt."""

from __future__ import annotations

import math

from ..methods import Finding, ModelUse

PASSED, FAILED = "✔ ok", "✖ OUTSIDE"
"""A sign and a word, for those who cannot tell colours."""


def model_lines(model: ModelUse) -> list[str]:
    """Label, training data, images, hypoxic volume with its band, distribution check and baselines, one line each."""
    low, high = model.hypoxic_volume_band_ml
    lines = [
        f"{model.title} {model.version}: {model.label}.",
        f"Trained on: {model.training_data}",
        f"Intended use: {model.intended_use}",
        f"Images used: {', '.join(model.images_used) or 'none'}"
        + (f"; done without: {', '.join(model.images_missing)}." if model.images_missing else "."),
        f"Hypoxic volume {model.hypoxic_volume_ml:.2f} ml (5-95 %: {low:.2f} to {high:.2f} ml).",
        *distribution_lines(model),
        "Beside it:",
    ]
    for baseline in model.baselines:
        r = "–" if math.isnan(baseline.correlation) else f"{baseline.correlation:.2f}"
        lines.append(f"  {baseline.name}: {baseline.hypoxic_volume_ml:.2f} ml, r = {r}. {baseline.description}")
    lines += [f"  Without {key} the map changes by {change:.3g} on average." for key, change in model.occlusion.items()]
    return [
        *lines,
        f"Computed on: {model.device}",
        f"Weights (SHA-256): {', '.join(w[:12] for w in model.weights_sha256)}",
    ]


def distribution_lines(model: ModelUse) -> list[str]:
    """Whether the images are like those the model was trained on, failed checks by name."""
    failed = [f for f in model.distribution if not f.passed]
    if not model.distribution:
        return [f"{FAILED}: the images were not compared with the training data; export needs an override."]
    if not failed:
        return [f"{PASSED}: {len(model.distribution)} checks against the training data passed."]
    head = f"{FAILED}: {len(failed)} of {len(model.distribution)} checks against the training data failed:"
    return [head, *(f"  {_finding(finding)}" for finding in failed)]


def _finding(finding: Finding) -> str:
    return f"{finding.check}: {finding.value} (trained on {finding.allowed})"
