"""What simulated tumours look like together, next to published numbers: how far they are from patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..resample import resample_to
from .cohort import SimulatedCase

THRESHOLD = 1.2
"""FMISO tumour-to-blood ratio above which a voxel is hypoxic (METHODS 2)."""
IMAGING_ONLY = ("fdg", "ct", "t1", "adc", "ktrans", "r2star")
RIDGE = 1e-3
METHODS = "methods.md, section "
RAJENDRAN = "10.1158/1078-0432.CCR-05-1773"
PUBLISHED: dict[str, tuple[str, str]] = {
    # statistic: value in patients, source; empty where none was found that can be cited
    "fmiso_fdg_voxel_r2": ("0.81", "quoted without a source; population and definition not confirmed"),
    "measured_voxel_r": ("0.65", f"voxel r of test and retest of EF5, {METHODS}2"),
    "hypoxic_fraction_median": ("FAZA 0.38 before, 0.15 in week 1 of treatment", f"{METHODS}2; other threshold"),
    "tbr_max": ("mean 1.6 in 73 patients", f"doi {RAJENDRAN}; head and neck, measured with its noise"),
    "fdg_max": ("mean 10.8", f"doi {RAJENDRAN}"),
    "not_hypoxic": ("21% without significant hypoxia", f"doi {RAJENDRAN}; 15 of 73, by its own limit"),
    "hypoxic_volume_fdg_r": ("0.96 and 0.91 with a network", f"doi 10.1016/j.phro.2025.100769, {METHODS}0"),
}
_ROWS = (
    ("cases", "patients", "{:.0f}"),
    ("volume_ml", "GTV volume, ml: median (5-95 %)", ""),
    ("tbr_max", "FMISO TBRmax through the PET: median (5-95 %)", ""),
    ("tbr_mean", "FMISO TBR mean: median (5-95 %)", ""),
    ("fdg_max", "FDG SUVmax: median (5-95 %)", ""),
    ("hypoxic_fraction", "hypoxic fraction (TBR > 1.2): median (5-95 %)", ""),
    ("hypoxic_fraction_median", "hypoxic fraction, median", "{:.2f}"),
    ("not_hypoxic", "patients with a hypoxic fraction below 1 %", "{:.0%}"),
    ("necrotic_fraction", "necrotic fraction: median (5-95 %)", ""),
    ("fmiso_fdg_voxel_r2", "FMISO-FDG R2, all voxels", "{:.2f}"),
    ("fmiso_fdg_patient_r2", "FMISO-FDG R2 within a patient: median (5-95 %)", ""),
    ("hypoxic_volume_fdg_r", "hypoxic volume against metabolic volume (SUV > 4), r", "{:.2f}"),
    ("tbr_max_suv_max_r", "TBRmax against SUVmax, r", "{:.2f}"),
    ("measured_voxel_r", "hypoxia PET against the truth, all voxels, r", "{:.2f}"),
    ("linear_r2_fdg", "R2 of a linear fit of the ratio on FDG", "{:.2f}"),
    ("linear_r2_imaging", "R2 of a linear fit on FDG, CT and MR", "{:.2f}"),
    ("linear_r2_all", "R2 of a linear fit on all images", "{:.2f}"),
)


def joint_statistics(cases: Iterable[SimulatedCase]) -> dict[str, Any]:
    """Joint statistics of simulated patients inside their GTVs.

    Distributions are (median, 5th, 95th percentile) over patients; voxels of all patients are pooled for the others.
    Linear fits are in-sample, on every image and its logarithm-free square, a floor of what can be learned.

    Returns
    -------
    dict
        By the names of ``table_of_statistics``.
    """
    patients: dict[str, list[float]] = {}
    voxels: list[np.ndarray] = []
    for case in cases:
        truth, images = gtv_values(case)
        for name, value in _patient(case, truth, images).items():
            patients.setdefault(name, []).append(value)
        voxels.append(np.column_stack([truth, *(images[key] for key in (*IMAGING_ONLY, "hypoxia_pet"))]))
    pooled = np.concatenate(voxels)
    ratio, fdg, measured = pooled[:, 0], pooled[:, 1], pooled[:, -1]
    spread = {
        name: tuple(float(v) for v in np.percentile(patients[name], (50, 5, 95)))
        for name in ("volume_ml", "tbr_max", "tbr_mean", "fdg_max", "hypoxic_fraction", "necrotic_fraction")
    }
    return {
        "cases": len(voxels),
        **spread,
        "hypoxic_fraction_median": spread["hypoxic_fraction"][0],
        "not_hypoxic": float(np.mean(np.array(patients["hypoxic_fraction"]) < 0.01)),
        "fmiso_fdg_voxel_r2": _r(ratio, fdg) ** 2,
        "fmiso_fdg_patient_r2": tuple(float(v) for v in np.percentile(patients["fdg_r2"], (50, 5, 95))),
        "hypoxic_volume_fdg_r": _r(patients["hypoxic_ml"], patients["metabolic_ml"]),
        "tbr_max_suv_max_r": _r(patients["tbr_max"], patients["fdg_max"]),
        "measured_voxel_r": _r(ratio, measured),
        "linear_r2_fdg": _linear_r2(ratio, pooled[:, 1:2]),
        "linear_r2_imaging": _linear_r2(ratio, pooled[:, 1:-1]),
        "linear_r2_all": _linear_r2(ratio, pooled[:, 1:]),
    }


def gtv_values(case: SimulatedCase) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
    """True ratio and every image at the voxels of the GTV, each (voxels,)."""
    inside = case.gtv.array
    grid, frame = case.gtv.mask, case.gtv.frame_of_reference_uid
    images = {key: np.nan_to_num(resample_to(v, grid, frame).array[inside]) for key, v in case.images.items()}
    signal = images["t1"]
    images["t1"] = signal / max(float(np.median(signal)), 1e-6)  # its unit is arbitrary
    return case.truth_ratio.array[inside].astype(float), images


def _patient(case: SimulatedCase, truth: np.ndarray, images: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Numbers of one patient."""
    voxel_ml = case.truth_ratio.voxel_volume_ml
    return {
        "volume_ml": case.gtv.volume_ml,
        "tbr_max": float(truth.max()),
        "tbr_mean": float(truth.mean()),
        "fdg_max": float(images["fdg"].max()),
        "fdg_r2": _r(truth, images["fdg"]) ** 2,
        "hypoxic_fraction": float(np.mean(truth > THRESHOLD)),
        "hypoxic_ml": float(np.count_nonzero(truth > THRESHOLD) * voxel_ml),
        "metabolic_ml": float(np.count_nonzero(images["fdg"] > 4.0) * voxel_ml),
        "necrotic_fraction": float(case.facts["necrotic_fraction"]),
    }


def _r(a: Any, b: Any) -> float:
    """Correlation coefficient; 0 where one side does not vary."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(np.corrcoef(a, b)[0, 1]) if a.size > 1 and a.std() > 0 and b.std() > 0 else 0.0


def _linear_r2(wanted: np.ndarray, columns: np.ndarray) -> float:
    """Share of variance a linear fit on standardised columns and their squares explains, in-sample."""
    scaled = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    design = np.column_stack([np.ones(len(scaled)), scaled, scaled**2])
    weights = np.linalg.solve(design.T @ design + RIDGE * np.eye(design.shape[1]), design.T @ wanted)
    return float(1.0 - np.var(wanted - design @ weights) / np.var(wanted))


def table_of_statistics(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown table of one or more cohorts beside the published numbers.

    Parameters
    ----------
    columns : mapping of str to dict
        Cohort name to ``joint_statistics``.
    """
    lines = [
        f"| statistic | {' | '.join(columns)} | published | source |",
        f"|---|{'---|' * len(columns)}---|---|",
    ]
    for name, title, form in _ROWS:
        values = [_text(found[name], form) for found in columns.values()]
        published, source = PUBLISHED.get(name, ("", ""))
        lines.append(f"| {title} | {' | '.join(values)} | {published} | {source} |")
    return "\n".join(lines) + "\n"


def _text(value: Any, form: str) -> str:
    """A number, or median and range."""
    if not form:
        middle, low, high = value
        return f"{middle:.2g} ({low:.2g}-{high:.2g})" if abs(middle) < 10 else f"{middle:.0f} ({low:.0f}-{high:.0f})"
    return form.format(value)
