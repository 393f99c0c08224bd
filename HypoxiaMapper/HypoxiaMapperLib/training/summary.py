"""From rows of patients to the table of the model card: one number per cohort, set of images and map."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics
from .evaluation_case import IMAGE_SETS, NETWORK, CaseResult, Row
from .metrics import Moments
from .planning_path import planning_numbers

MEASURES = {
    "mae": ("mean absolute error", True),
    "r": ("voxel r", False),
    "dice": ("Dice", False),
    "volume_error_ml": ("error of the hypoxic volume", True),
}
"""Measures on which the network is compared with a baseline: title, and whether lower is better."""
NOT_A_COLUMN = ("moments", "reliability", "interval_hits")  # lists: for sums over patients, not for people


def summarise(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Cohort to set of images to map to its numbers, and the network against each baseline.

    Parameters
    ----------
    rows : sequence of Row
        Of any order and any number of patients.
    seed : int
        Of the bootstrap.
    """
    cohorts: dict[str, Any] = {}
    for cohort in dict.fromkeys(row["cohort"] for row in rows):
        mine = sorted((row for row in rows if row["cohort"] == cohort), key=lambda row: row["seed"])
        cohorts[cohort] = {"patients": len({row["seed"] for row in mine}), "truth": _truth(mine), "sets": {}}
        for images in IMAGE_SETS:
            by_map: dict[str, list[Row]] = {}
            for row in mine:
                if row["images"] == images:
                    by_map.setdefault(row["map"], []).append(row)
            if by_map:
                cohorts[cohort]["sets"][images] = {
                    "maps": {name: _map_numbers(found) for name, found in by_map.items()},
                    "network_against": {
                        name: _against(by_map[NETWORK], found, seed)
                        for name, found in by_map.items()
                        if name != NETWORK
                    },
                }
    return _rounded(cohorts)


def verdicts(cohorts: Mapping[str, Any], measure: str = "mae") -> dict[str, list[tuple[str, str, str]]]:
    """Verdict to the cells (cohort, set of images, baseline) where it holds for a measure."""
    found: dict[str, list[tuple[str, str, str]]] = {"better": [], "worse": [], "no difference shown": []}
    for cohort, numbers in cohorts.items():
        for images, cell in numbers["sets"].items():
            for baseline, against in cell["network_against"].items():
                found[against[measure]["verdict"]].append((cohort, images, baseline))
    return found


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per map of a patient."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in NOT_A_COLUMN))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def column(rows: Sequence[Row], key: str) -> np.ndarray:
    """A measure of every row; NaN where it is missing."""
    if key == "volume_error_ml":
        return np.abs(column(rows, "volume_ml") - column(rows, "true_volume_ml"))
    values = [row.get(key) for row in rows]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def gate_numbers(results: Sequence[CaseResult]) -> dict[str, Any]:
    """How often the gate stops patients as they are (by cohort), and images made wrong (by mistake)."""
    alarms: dict[str, Any] = {}
    mistakes: dict[str, list[Row]] = {}
    for cohort in dict.fromkeys(result.cohort for result in results):
        rows = [row for r in results if r.cohort == cohort for row in r.rows if row["map"] == NETWORK]
        alarms[cohort] = {**_stops(rows), "reasons": _reasons(rows)}
    for result in results:
        for row in result.wrong:
            mistakes.setdefault(row["mistake"], []).append(row)
    found = {name: {**_stops(rows), "patients": len(rows)} for name, rows in mistakes.items()}
    return _rounded({"false_alarms": alarms, "mistakes": found})


def planning_summary(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Set of images to the network's numbers on native images and through the planning grid, same patients."""
    rows = [{"seed": result.seed, **row} for result in results for row in result.planning]
    native = [row for result in results if result.planning for row in result.rows if row["map"] == NETWORK]
    return _rounded(planning_numbers(rows, native))


def _stops(rows: Sequence[Row]) -> dict[str, float]:
    """Share of rows the whole gate stops, and share that the distance of features alone stops."""
    return {key: _mean(column(rows, key)) for key in ("gate_stopped", "distance_stopped")}


def _reasons(rows: Sequence[Row]) -> dict[str, float]:
    """Share of rows stopped by each check, the most frequent first."""
    counted = Counter(check for row in rows for check in row["gate_failed"].split("; ") if check)
    return {check: count / len(rows) for check, count in counted.most_common()}


def _truth(rows: Sequence[Row]) -> dict[str, Any]:
    """What the cohort is like: tumour volumes and hypoxic fractions."""
    patients = list({row["seed"]: row for row in rows}.values())
    gtv, hypoxic = column(patients, "gtv_ml"), column(patients, "true_volume_ml")
    quantiles = {
        "gtv_ml": np.percentile(gtv, [5, 50, 95]).tolist(),
        "hypoxic_fraction": np.percentile(hypoxic / gtv, [5, 50, 95]).tolist(),
    }
    return {**quantiles, "without_hypoxia": int(np.count_nonzero(hypoxic == 0))}


def _map_numbers(rows: Sequence[Row]) -> dict[str, Any]:
    """Numbers of one map over the patients of a cohort."""
    volume, true_volume = column(rows, "volume_ml"), column(rows, "true_volume_ml")
    agreement = metrics.bland_altman(volume, true_volume)
    line = sum((Moments(**row["moments"]) for row in rows), Moments(0, 0, 0, 0, 0, 0))
    dice = column(rows, "dice")
    numbers = {
        "patients": len(rows),
        "r": _mean(column(rows, "r")),
        "mae": _mean(column(rows, "mae")),
        "dice": _mean(dice),
        "dice_patients": int(np.isfinite(dice).sum()),
        "volume_r": metrics.pearson(volume, true_volume),
        "volume_bias_ml": agreement.bias,
        "volume_lower_ml": agreement.lower,
        "volume_upper_ml": agreement.upper,
        "slope": line.slope,
        "intercept": line.intercept,
    }
    return {**numbers, **_trust_numbers(rows)} if "interval_hits" in rows[0] else numbers


def _trust_numbers(rows: Sequence[Row]) -> dict[str, Any]:
    """Numbers of the network's uncertainty, voxels of all patients together, and of its gate."""
    table = np.sum([row["reliability"] for row in rows], axis=0)
    voxels = sum(row["moments"]["count"] for row in rows)
    hits = np.sum([row["interval_hits"] for row in rows], axis=0) / voxels
    low, high, truth = (column(rows, key) for key in ("volume_low_ml", "volume_high_ml", "true_volume_ml"))
    return {
        "ece": metrics.expected_calibration_error(table),
        "reliability": table.tolist(),
        "coverage": hits.tolist(),
        "coverage_90": float(hits[-1]),
        "error_slope": _mean(column(rows, "error_slope")),
        "volume_band_coverage": float(np.mean((low <= truth) & (truth <= high))),
        "volume_band_width_ml": _mean(high - low),
    }


def _against(network: Sequence[Row], baseline: Sequence[Row], seed: int) -> dict[str, Any]:
    """Network minus baseline on the same patients, for every measure."""
    found = {}
    for measure, (_, lower_is_better) in MEASURES.items():
        pair = metrics.paired_difference(column(network, measure), column(baseline, measure), lower_is_better, seed)
        found[measure] = dict(vars(pair))
    return found


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _rounded(value: Any) -> Any:
    """Six digits, and null where there is no number: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
