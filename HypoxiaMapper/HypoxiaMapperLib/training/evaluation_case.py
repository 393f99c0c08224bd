"""One simulated patient judged: every set of images, the network and every baseline on the same voxels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inference.baselines import predict_from_metadata
from ..inference.channels import KEYS, NETWORK_SPACING_MM
from ..inference.ensemble import Ensemble, Prediction, volume_band
from ..inference.prepare import Prepared, network_inputs, prepare, sample
from ..volume import COMPARISONS
from . import metrics
from .planning_path import planning_rows
from .spoiled import gate_row, spoiled_rows

if TYPE_CHECKING:
    from ..inference.bundle import Bundle
    from ..simulate.cohort import SimulatedCase

NETWORK = "network"
VOXEL_ML = NETWORK_SPACING_MM**3 / 1000.0
IMAGE_SETS: dict[str, tuple[str, ...]] = {
    "FDG": ("fdg",),
    "FDG + CT": ("fdg", "ct"),
    "FDG + CT + MR": ("fdg", "ct", "t1", "adc", "ktrans", "r2star"),
    "hypoxia PET": ("hypoxia_pet",),
    "hypoxia PET + FDG + CT": ("fdg", "hypoxia_pet", "ct"),
    "all": KEYS,
}
"""MR: T1, ADC, Ktrans and R2*. The sets a clinic is likely to have, from one PET to everything."""

Row = dict[str, Any]
"""One map of one patient: plain numbers, texts and lists, so that it can stand in a line of JSON."""


def only(prepared: Prepared, keys: Iterable[str]) -> Prepared:
    """The same patient with some of the images left out."""
    values = {key: prepared.values[key] for key in prepared.present if key in set(keys)}
    spacings = {key: prepared.spacings_mm[key] for key in values}
    inputs = network_inputs(values, prepared.gtv)
    return replace(prepared, inputs=inputs, present=tuple(values), values=values, spacings_mm=spacings)


@dataclass(frozen=True)
class CaseResult:
    """A judged patient.

    Parameters
    ----------
    rows : list of Row
        One per set of images and map.
    wrong : list of Row
        What the gate said to images made wrong on purpose; empty: not asked for.
    planning : list of Row
        The network's map through a planning grid; empty: not asked for.
    """

    cohort: str
    seed: int
    rows: list[Row]
    wrong: list[Row]
    planning: list[Row]


def evaluate_case(case: SimulatedCase, ensemble: Ensemble, wrong: bool = False, planning: bool = False) -> CaseResult:
    """Judge one patient with every set of images.

    Parameters
    ----------
    case : SimulatedCase
        Its truth is compared on the network's grid, inside the GTV.
    ensemble : Ensemble
        Of the bundle to judge, on the device to run on.
    wrong : bool
        Show the gate spoiled images, too.
    planning : bool
        Take the images through a planning grid, too.
    """
    bundle, whole = ensemble.bundle, prepare(case.images, case.gtv)
    truth, _ = sample(case.truth_ratio.image, whole.grid)
    facts_of = {key: volume.facts for key, volume in case.images.items()}
    rows = []
    for name, keys in IMAGE_SETS.items():
        prepared = only(whole, keys)
        prediction = ensemble.predict(prepared)
        facts = {"cohort": case.cohort, "seed": case.seed, "images": name}
        row = {**facts, "map": NETWORK, **judge(prediction.mean, truth, whole.gtv, bundle)}
        row |= _uncertainty(prediction, truth, whole.gtv, bundle) | gate_row(
            ensemble, prepared, facts_of, case.gtv.volume_ml
        )
        rows.append(row)
        for baseline in predict_from_metadata(bundle.hypoxia, prepared.inputs, prepared.present):
            rows.append({**facts, "map": baseline.name, **judge(baseline.ratio, truth, whole.gtv, bundle)})
    return CaseResult(
        case.cohort,
        case.seed,
        rows,
        spoiled_rows(case, ensemble) if wrong else [],
        planning_rows(case, ensemble) if planning else [],
    )


def judge(found: np.ndarray, truth: np.ndarray, gtv: np.ndarray, bundle: Bundle) -> Row:
    """Agreement of a map with the truth in the GTV, all of shape (z, y, x)."""
    found, truth = found[gtv], truth[gtv]
    hypoxic, truly = (
        COMPARISONS[bundle.hypoxia["comparison"]](values, bundle.hypoxia["threshold"]) for values in (found, truth)
    )
    return {
        "gtv_ml": truth.size * VOXEL_ML,
        "true_volume_ml": np.count_nonzero(truly) * VOXEL_ML,
        "volume_ml": np.count_nonzero(hypoxic) * VOXEL_ML,
        "r": metrics.pearson(found, truth),
        "mae": metrics.mean_absolute_error(found, truth),
        "dice": metrics.dice(hypoxic, truly),
        "moments": asdict(metrics.moments(found, truth)),
    }


def _uncertainty(prediction: Prediction, truth: np.ndarray, gtv: np.ndarray, bundle: Bundle) -> Row:
    """Whether the network's standard deviation and its band of hypoxic volume hold the truth."""
    threshold, comparison = float(bundle.hypoxia["threshold"]), str(bundle.hypoxia["comparison"])
    mean, sd, wanted = prediction.mean[gtv], prediction.sd[gtv], truth[gtv]
    hypoxic = COMPARISONS[comparison](wanted, threshold)
    probability = metrics.probability_above(mean, sd, threshold)
    if comparison.startswith("<"):
        probability = 1 - probability
    shared = float(bundle.hypoxia.get("shared_error", 0.0))
    low, high = volume_band(prediction, gtv, threshold, comparison, wanted.size * VOXEL_ML, shared_error=shared)
    return {
        "mean_sd": float(sd.mean()),
        "error_slope": metrics.standardised_slope(mean, sd, wanted),
        "volume_low_ml": low,
        "volume_high_ml": high,
        "interval_hits": metrics.interval_hits(mean, sd, wanted).tolist(),
        "reliability": metrics.reliability(probability, hypoxic).tolist(),
    }
