"""What a bundle can only be told after training: its out-of-distribution gate and the baselines' coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..inference.bundle import Bundle, amend_bundle, load_bundle
from ..inference.channels import CHANNELS, KEYS
from ..inference.distribution import features, mahalanobis
from ..inference.structure import structure_of
from ..methods import Progress, no_progress
from .baselines import BaselineFit
from .config import ModalityDropout, load_config
from .dataset import Case, load_cases, split_patients
from .samples import assemble, choose_images
from .validation import predict

if TYPE_CHECKING:
    import torch

LIMIT_PERCENTILE = 99.0
"""Of the distance over held-out patients (METHODS §6)."""
FIT_DRAWS, LIMIT_DRAWS = 2000, 1000
"""Sets of images drawn over all training and all validation patients, at least one for each, at most ``MOST_SETS``."""
SHARED_DRAWS = 400
MOST_SETS = 20
"""Of one patient: with few patients, more of the same images tell nothing more."""
RIDGE = 1e-3  # keeps the linear map finite when an image is there in every patient


def complete_bundle(
    folder: Path | str, cache: Path | str = "", patients: Path | str = "", progress: Progress = no_progress
) -> Bundle:
    """Fit gate and baselines on the patients a bundle was trained on, and add them to it.

    Parameters
    ----------
    folder : path
        Bundle with its configs/train.json.
    cache : path
        Folder of prepared patients; empty: ``cache``.
    patients : path
        Folder of the patients of a bundle trained on pairs: its configuration holds the last part of the path only.

    Raises
    ------
    InputError
        If the bundle does not say what it was trained on.
    """
    bundle = load_bundle(folder)
    config = load_config(bundle.folder / "configs" / "train.json")
    config = replace(config, data=replace(config.data, folder=str(patients) or config.data.folder))
    cases = load_cases(config, Path(cache or "cache"), progress)
    parts = split_patients(list(cases), config.split)
    training, validation = ([cases[name] for name in parts[part]] for part in ("training", "validation"))
    return add_gate_and_baselines(bundle, training, validation, config.modality_dropout, progress)


def add_gate_and_baselines(
    bundle: Bundle,
    training: Sequence[Case],
    validation: Sequence[Case],
    dropout: ModalityDropout,
    progress: Progress = no_progress,
) -> Bundle:
    """Fit gate and baselines and write them into the bundle; see ``complete_bundle``."""
    baselines = BaselineFit()
    for case in training:
        baselines.add(case)
    gate = fit_gate(bundle.network(0), training, validation, dropout, int(bundle.hypoxia["seed"]), progress)
    shared = shared_error(bundle.network(0), validation, dropout, int(bundle.hypoxia["seed"]))
    fitted = {"shared_error": shared, "structure": structure_ranges(training), **baselines.coefficients_to_metadata()}
    return amend_bundle(bundle.folder, gate, **fitted)


def structure_ranges(training: Sequence[Case]) -> dict[str, dict[str, list[float]]]:
    """Lowest and highest of every measure of ``inference.structure`` among the training patients, image by image."""
    found: dict[str, dict[str, list[float]]] = {}
    for case in training:
        for channel, scaled, there in zip(CHANNELS, case.images, case.present, strict=True):
            if not there:
                continue
            limits = found.setdefault(channel.key, {})
            for name, value in structure_of(channel, scaled, case.gtv).items():
                if np.isfinite(value):  # a constant image has no smoothness
                    low, high = limits.get(name, (value, value))
                    limits[name] = [min(low, value), max(high, value)]
    return found


def fit_gate(
    network: torch.nn.Module,
    training: Sequence[Case],
    validation: Sequence[Case],
    dropout: ModalityDropout,
    seed: int,
    progress: Progress = no_progress,
) -> dict[str, np.ndarray]:
    """Gaussian of the features of training patients, any set of images, and the distance held-out ones keep within.

    Parameters
    ----------
    network : torch.nn.Module
        The bundle's first member.
    dropout : ModalityDropout
        The mixture of sets of images, as in training.

    Returns
    -------
    dict
        ``coefficients`` (1 + images, F), ``precision`` (F, F) by Ledoit and Wolf's shrinkage
        (10.1016/S0047-259X(03)00096-4), ``limit`` (1,).

    Raises
    ------
    InputError
        If there are too few patients.
    """
    from sklearn.covariance import LedoitWolf

    if len(training) < 2 or not validation:
        raise InputError(
            f"{len(training)} training and {len(validation)} validation patients cannot fit a gate.", "Give more."
        )
    random = np.random.default_rng([seed, 1])
    flags, found = _draw(network, training, FIT_DRAWS, dropout, random, progress)
    design = np.column_stack([np.ones(len(flags)), flags])
    normal = design.T @ design + RIDGE * np.eye(design.shape[1])
    coefficients = np.linalg.solve(normal, design.T @ found)
    shrunk = LedoitWolf(assume_centered=True).fit(found - design @ coefficients)
    precision = np.asarray(shrunk.precision_)
    flags, found = _draw(network, validation, LIMIT_DRAWS, dropout, random, progress)
    distances = [mahalanobis(one, there, coefficients, precision) for one, there in zip(found, flags, strict=True)]
    limit = np.percentile(distances, LIMIT_PERCENTILE)
    return {"coefficients": coefficients, "precision": precision, "limit": np.array([limit])}


def shared_error(network: torch.nn.Module, validation: Sequence[Case], dropout: ModalityDropout, seed: int) -> float:
    """Share of a network's error that is one number for the whole tumour: what the band of hypoxic volume needs.

    Of errors over their stated standard deviation: the variance of their means over the GTV, as a part of their mean
    square. 0 where every voxel errs on its own, 1 where all of a tumour err alike.
    """
    import torch

    random = np.random.default_rng([seed, 2])
    means, squares = [], []
    for case in validation:
        inside = case.gtv & np.isfinite(case.ratio)
        for _ in range(_sets_each(SHARED_DRAWS, validation)):
            shown = choose_images(case.present, dropout, random)
            mean, variance = predict(network, case, shown, torch.device("cpu"))
            error = (case.ratio[inside].astype(float) - mean[inside]) / np.sqrt(variance[inside])
            means.append(error.mean())
            squares.append((error**2).mean())
    return float(f"{np.mean(np.square(means)) / np.mean(squares):.3g}")


def _sets_each(draws: int, cases: Sequence[Case]) -> int:
    """Sets of images of each patient that make up so many draws, at least one."""
    return min(MOST_SETS, max(1, round(draws / len(cases))))


def _draw(
    network: torch.nn.Module,
    cases: Sequence[Case],
    draws: int,
    dropout: ModalityDropout,
    random: np.random.Generator,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Presence flags and features of every patient with some random sets of images."""
    flags, found = [], []
    times = _sets_each(draws, cases)
    for number, case in enumerate(cases, 1):
        for _ in range(times):
            shown = choose_images(case.present, dropout, random)
            inputs = assemble(case.images.astype(np.float32), case.gtv, shown)
            flags.append(shown.astype(float))
            found.append(features(network, inputs, case.gtv))
        progress(number / len(cases), f"features of patient {number} of {len(cases)}")
    return np.array(flags).reshape(-1, len(KEYS)), np.array(found)
