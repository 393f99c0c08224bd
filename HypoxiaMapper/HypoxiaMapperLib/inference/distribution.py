"""The out-of-distribution gate: are these images like those the model was trained on?

The bundle's metadata say what it saw: ``ranges`` (lowest 1st and highest 99th percentile of each image inside a GTV),
``structure`` (see ``inference.structure``), ``spacing_range_mm``, ``tracers``, ``gtv_volume_range_ml``, ``body_parts``
(see ``inference.body_site``). Its distribution file holds a Gaussian of the first member's features: ``coefficients``
(1 + images, F), a linear map from (1, presence flags) to the mean features; ``precision`` (F, F), the inverse
covariance about that mean; ``limit`` (1,), the 99th percentile of the distance over held-out training patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..methods._model_use import Finding
from .body_site import body_site_finding
from .channels import CHANNELS, KEYS, NETWORK_SPACING_MM, Channel
from .device import exact_arithmetic
from .prepare import Prepared
from .structure import check_key, structure_findings

if TYPE_CHECKING:
    import torch

    from .ensemble import Ensemble

PERCENTILES = (1.0, 99.0)
SPACING_TOLERANCE = 0.01
"""Voxel sizes are written rounded; so much beyond the range is the same size."""
LEAST_KNOWN = 0.9
"""Part of the GTV an image must have values for: as the limit on the map's coverage; a choice of this software."""
SCAN_WINDOWS_MIN = {"FDG": (30.0, 90.0), "FMISO": (120.0, 180.0), "FAZA": (120.0, 180.0), "HX4": (120.0, 240.0)}
"""What the simulator draws (``simulate.settings``); FDG, which it takes at 60 min, give or take the 30 min that
``tracers.POINT_TOLERANCE_MIN`` allows to a single published time."""
SPECK_ML = 0.1
"""Smaller parts are edges of contours, not tumours; a choice of this software."""
NO_FILE = "no distribution check in this bundle"


def features(network: torch.nn.Module, inputs: np.ndarray, gtv: np.ndarray) -> np.ndarray:
    """What a network sees at its coarsest: bottleneck activations, mean over the GTV.

    The bottleneck is the last elementary layer whose output has the fewest voxels.

    Parameters
    ----------
    network : torch.nn.Module
        Ready to predict, on any device.
    inputs : numpy.ndarray
        float32, shape (N_INPUTS, z, y, x).
    gtv : numpy.ndarray
        bool, shape (z, y, x).

    Returns
    -------
    numpy.ndarray
        float64, shape (F,).
    """
    import torch

    kept: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _arguments: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 5:
            voxels = output[0, 0].numel()
            if not kept or voxels <= kept[0][0, 0].numel():
                kept[:] = [output]

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(keep) for module in leaves]
    device = next(network.parameters()).device
    try:
        with torch.inference_mode(), exact_arithmetic():
            network(torch.from_numpy(np.ascontiguousarray(inputs, np.float32))[None].to(device))
    finally:
        for hook in hooks:
            hook.remove()
    found = kept[0][0].float().cpu()
    depth, height, width = found.shape[1:]
    mask = torch.from_numpy(gtv.astype(np.float32))[None]
    share = torch.nn.functional.adaptive_avg_pool3d(mask, (depth, height, width))
    pooled = (found * share).sum(dim=(1, 2, 3)) / share.sum()
    return pooled.numpy().astype(float)


def presence(present: Iterable[str]) -> np.ndarray:
    """Flags of the images that are there, in channel order; float64, shape (images,)."""
    there = set(present)
    return np.array([float(key in there) for key in KEYS])


def mahalanobis(found: np.ndarray, flags: np.ndarray, coefficients: np.ndarray, precision: np.ndarray) -> float:
    """Distance sqrt((f - m)' P (f - m)) of features from their mean m = (1, flags) C for this set of images.

    Parameters
    ----------
    found : numpy.ndarray
        Of ``features``, shape (F,).
    flags : numpy.ndarray
        Of ``presence``, shape (images,).
    coefficients : numpy.ndarray
        C, shape (1 + images, F).
    precision : numpy.ndarray
        P, shape (F, F).
    """
    away = found - np.concatenate([[1.0], flags]) @ coefficients.astype(float)
    return float(np.sqrt(max(away @ precision.astype(float) @ away, 0.0)))


def check_distribution(
    ensemble: Ensemble, prepared: Prepared, facts: Mapping[str, Mapping[str, Any]], gtv_ml: float
) -> tuple[Finding, ...]:
    """Every check of the gate, passed or not.

    Parameters
    ----------
    facts : mapping
        ``Volume.facts`` of each image: ``tracer``, ``minutes_after_injection``, ``body_parts``, ``planning_body_parts``
        and, where it was resampled, ``native_spacing_mm``.
    gtv_ml : float
        Volume of the GTV.
    """
    hypoxia = ensemble.bundle.hypoxia
    told = {channel.title: facts.get(channel.key, {}) for channel in CHANNELS if channel.key in prepared.present}
    found = [body_site_finding(told, hypoxia.get("body_parts"))]
    for channel in CHANNELS:
        if channel.key in prepared.present:
            own = facts.get(channel.key, {})
            spacing = own.get("native_spacing_mm") or prepared.spacings_mm[channel.key]
            found += _image_findings(channel, prepared, hypoxia)
            scaled = prepared.inputs[KEYS.index(channel.key)]
            found += structure_findings(channel, scaled, prepared.gtv, hypoxia.get("structure", {}).get(channel.key))
            found += _spacing_findings(channel, spacing, hypoxia["spacing_range_mm"].get(channel.key))
            found += _known_findings(channel, prepared)
            found += _time_findings(channel, own)
            found += _tracer_findings(channel, str(own.get("tracer", "unknown")), hypoxia["tracers"].get(channel.key))
    volumes = hypoxia.get("gtv_volume_range_ml")
    if volumes:
        low, high = volumes
        inside = low <= gtv_ml <= high
        found.append(Finding("GTV volume", f"{gtv_ml:.3g} ml", f"{low:.3g} to {high:.3g} ml", inside, "gtv-volume"))
        found += _part_findings(prepared.gtv, low)
    return (*found, _feature_finding(ensemble, prepared))


def _part_findings(gtv: np.ndarray, smallest_ml: float) -> Iterator[Finding]:
    """The smallest separate part of a GTV: the network saw single tumours, a small node beside one is no part of it."""
    labels, count = ndimage.label(gtv)
    parts_ml = np.bincount(labels.ravel())[1:] * NETWORK_SPACING_MM**3 / 1000.0
    parts_ml = parts_ml[parts_ml >= SPECK_ML]
    if count > 1 and parts_ml.size:
        least = float(parts_ml.min())
        text = f"{least:.3g} ml of {count} parts"
        check, allowed = "smallest separate part of the GTV", f"at least {smallest_ml:.3g} ml"
        yield Finding(check, text, allowed, least >= smallest_ml, "gtv-parts")


def _known_findings(channel: Channel, prepared: Prepared) -> Iterator[Finding]:
    """How much of the GTV an image has values for; said only where some are missing."""
    share = float(np.isfinite(prepared.values[channel.key][prepared.gtv]).mean())
    if share < 1.0:
        yield Finding(
            f"{channel.title} has values in the GTV", f"{100 * share:.0f} %", f"at least {100 * LEAST_KNOWN:.0f} %",
            share >= LEAST_KNOWN, check_key(channel, "holes"),
        )  # fmt: skip


def _time_findings(channel: Channel, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """When a PET was taken after the injection; a time nobody knows has not passed."""
    window = SCAN_WINDOWS_MIN.get(str(facts.get("tracer", "")))
    if channel.key not in ("fdg", "hypoxia_pet") or window is None:
        return  # the check of the tracer fails then
    minutes = facts.get("minutes_after_injection")
    value = float(minutes) if isinstance(minutes, int | float) else float("nan")
    text = "not known" if np.isnan(value) else f"{value:.0f} min"
    allowed = f"{window[0]:g} to {window[1]:g} min"
    passed = window[0] <= value <= window[1]
    yield Finding(f"{channel.title} scan after injection", text, allowed, passed, check_key(channel, "scan_time"))


def _image_findings(channel: Channel, prepared: Prepared, hypoxia: Mapping[str, Any]) -> Iterator[Finding]:
    """Lowest and highest values inside the GTV against what the training images spanned."""
    values = prepared.values[channel.key]
    trained = hypoxia["ranges"].get(channel.key)
    check, key = f"{channel.title} in the GTV, 1st to 99th percentile", check_key(channel, "range")
    if trained is None:
        yield Finding(check, "given", "the bundle states no range: not seen in training", False, key)
        return
    unit = f" {channel.unit}"
    if channel.relative:
        if not trained.get("relative"):
            return  # a range of an arbitrary unit says nothing of another scanner
        positive = values[np.isfinite(values) & (values > 0)]
        values, unit = values / (float(np.median(positive)) if positive.size else 1.0), " of the box's median"
    low, high = np.nanpercentile(values[prepared.gtv], PERCENTILES)
    passed = trained["low"] <= low and high <= trained["high"]
    allowed = f"{trained['low']:.3g} to {trained['high']:.3g}{unit}"
    yield Finding(check, f"{low:.3g} to {high:.3g}{unit}", allowed, bool(passed), key)


def _spacing_findings(channel: Channel, spacing: Sequence[float], trained: Any) -> Iterator[Finding]:
    """Voxel size the image came with.

    Only coarser is unlike the training: finer voxels are averaged onto the network's grid (``inference.prepare``).
    """
    if trained is None:
        return
    coarsest = float(trained[1])
    yield Finding(
        f"{channel.title} voxel size",
        " x ".join(f"{s:.3g}" for s in spacing) + " mm",
        f"at most {coarsest:.3g} mm",
        max(spacing) <= coarsest * (1 + SPACING_TOLERANCE),
        check_key(channel, "voxel_size"),
    )


def _tracer_findings(channel: Channel, tracer: str, trained: Any) -> Iterator[Finding]:
    """Tracer of a PET."""
    if trained:
        key = check_key(channel, "tracer")
        yield Finding(f"{channel.title} tracer", tracer, ", ".join(trained), tracer in trained, key)


def _feature_finding(ensemble: Ensemble, prepared: Prepared) -> Finding:
    """Distance of the first member's features from those of the training patients with the same set of images."""
    bundle, check, key = ensemble.bundle, "distance of the network's features (Mahalanobis)", "features"
    tensors = bundle.distribution_tensors()
    if not tensors:
        return Finding(check, NO_FILE, "at most the 99th percentile of the training patients", False, key)
    found = ensemble.features(prepared)
    wanted = {"coefficients": (1 + len(KEYS), found.size), "precision": (found.size, found.size), "limit": (1,)}
    for name, shape in wanted.items():
        if name not in tensors or tensors[name].shape != shape:
            have = tensors[name].shape if name in tensors else "missing"
            raise InputError(
                f"{bundle.distribution}: {name} is {have}, expected is shape {shape}.",
                "The distribution file belongs to another network: fit it again.",
            )
    distance = mahalanobis(found, presence(prepared.present), tensors["coefficients"], tensors["precision"])
    limit = float(tensors["limit"][0])
    return Finding(check, f"{distance:.3g}", f"at most {limit:.3g}", bool(distance <= limit), key)
