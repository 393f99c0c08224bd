"""Simulated patients the way a real run takes them: through the grid of a planning CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..inference.channels import BOX_MARGIN_MM
from ..inference.ensemble import Ensemble, hypoxic_ml
from ..inference.prepare import back_to, prepare, sample
from ..methods._learned import REACH_MM, Reference, crop_around, network_images
from ..resample import resample_region, resample_to
from ..volume import COMPARISONS, voxel_volume_ml
from . import metrics
from .spoiled import gate_row

if TYPE_CHECKING:
    from ..simulate.cohort import SimulatedCase

PLANNING_SPACING_MM = (1.0, 1.0, 3.0)
PLANNING_SETS: dict[str, tuple[str, ...]] = {
    "FDG + CT": ("fdg", "ct"),
    "hypoxia PET + FDG + CT": ("fdg", "hypoxia_pet", "ct"),
    "all": ("fdg", "hypoxia_pet", "ct", "t1", "adc", "ktrans", "r2star"),
}
NO_UNITS = {"adc": "", "ktrans": "", "r2star": ""}  # the simulated maps state theirs


def planning_rows(case: SimulatedCase, ensemble: Ensemble) -> list[dict[str, Any]]:
    """The network's map with images and GTV on a planning grid, for some sets of images.

    Map and truth are compared on the planning grid, where a run cuts out the hypoxic volume.
    """
    grid = planning_grid(case)
    frame = case.gtv.frame_of_reference_uid
    images = {key: resample_to(volume, grid, frame) for key, volume in case.images.items()}
    whole = resample_region(case.gtv, grid)
    crop = crop_around(whole)
    gtv = crop.region(whole)
    inside, voxel_ml = gtv.array, voxel_volume_ml(gtv.mask)
    truth, _ = sample(case.truth_ratio.image, gtv.mask)
    hypoxia = ensemble.bundle.hypoxia
    threshold, comparison = float(hypoxia["threshold"]), str(hypoxia["comparison"])
    rows = []
    for name, keys in PLANNING_SETS.items():
        given, _ = network_images({key: images[key] for key in keys}, whole, crop, NO_UNITS, Reference(None, "", 0.0))
        prepared = prepare(given, gtv)
        prediction = ensemble.predict(prepared)
        found = back_to(prediction.mean, prepared.grid, gtv)
        facts = {key: images[key].facts for key in keys}
        rows.append(
            {
                "images": name,
                "r": metrics.pearson(found[inside], truth[inside]),
                "mae": metrics.mean_absolute_error(found[inside], truth[inside]),
                "volume_ml": hypoxic_ml(found, inside, threshold, comparison, voxel_ml),
                "true_volume_ml": float(np.count_nonzero(COMPARISONS[comparison](truth[inside], threshold))) * voxel_ml,
                **gate_row(ensemble, prepared, facts, whole.volume_ml),
            }
        )
    return rows


def planning_grid(case: SimulatedCase) -> sitk.Image:
    """An empty grid of ``PLANNING_SPACING_MM`` around the GTV, wide enough for all a run reads there."""
    region = case.gtv
    spots = np.argwhere(region.array)[:, ::-1]
    corners = [region.mask.TransformIndexToPhysicalPoint([int(n) for n in spot]) for spot in
               (spots.min(axis=0), spots.max(axis=0))]  # fmt: skip
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    margin = BOX_MARGIN_MM + 2 * REACH_MM
    spacing = np.array(PLANNING_SPACING_MM)
    size = np.ceil((high - low + 2 * margin) / spacing).astype(int)
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing(PLANNING_SPACING_MM)
    grid.SetOrigin([float(v) for v in low - margin])
    return grid


def planning_numbers(rows: Sequence[Mapping[str, Any]], native: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Set of images to the numbers of both ways, on the same patients.

    Parameters
    ----------
    rows : sequence of mapping
        Of ``planning_rows``, each with its patient's ``seed``.
    native : sequence of mapping
        The network's rows of the same cohort, images on their own grids.
    """
    beside = {(row["seed"], row["images"]): row for row in native}
    found: dict[str, Any] = {}
    for name in PLANNING_SETS:
        pairs = [(row, beside[row["seed"], name]) for row in rows if row["images"] == name]
        if pairs:
            found[name] = {
                "patients": len(pairs),
                "native": _numbers([own for _, own in pairs]),
                "planning": _numbers([row for row, _ in pairs]),
                "volume_difference_ml": _mean([abs(row["volume_ml"] - own["volume_ml"]) for row, own in pairs]),
            }
    return found


def _numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over patients."""
    return {
        "r": _mean([row["r"] for row in rows]),
        "mae": _mean([row["mae"] for row in rows]),
        "volume_error_ml": _mean([abs(row["volume_ml"] - row["true_volume_ml"]) for row in rows]),
        "volume_bias_ml": _mean([row["volume_ml"] - row["true_volume_ml"] for row in rows]),
        "gate_stopped": _mean([row["gate_stopped"] for row in rows]),
    }


def _mean(values: Sequence[float]) -> float:
    known = np.array(values, dtype=float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
