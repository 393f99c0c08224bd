"""Fit of the baselines a network must beat: one factor for FDG, and a line through every set of images.

The coefficients travel in the bundle's metadata; ``inference.baselines`` states the format and applies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import InputError
from ..inference.baselines import set_name, unscaled
from ..inference.channels import FUNCTIONAL, KEYS
from .dataset import Case

FEWEST_CASES = 5  # a set of images seen in fewer patients than this gets no line


@dataclass
class BaselineFit:
    """Sums over training voxels from which every baseline's coefficients follow; patients are added one by one.

    Patients with the same images share one matrix of sums, so that all 124 sets of images cost one pass.
    """

    _normal: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    _cases: dict[tuple[str, ...], int] = field(default_factory=dict)
    _fdg_truth: float = 0.0
    _fdg_fdg: float = 0.0
    _fdg_cases: int = 0

    def add(self, case: Case) -> None:
        """Add the GTV voxels of one patient; voxels without a ratio are left out."""
        inside = case.gtv & np.isfinite(case.ratio)
        target = case.ratio[inside].astype(float)
        present = tuple(key for key, there in zip(KEYS, case.present, strict=True) if there)
        rows = [np.ones_like(target), *(case.images[KEYS.index(key)][inside] for key in present), target]
        matrix = np.stack(rows).astype(float)
        self._normal[present] = self._normal.get(present, 0.0) + matrix @ matrix.T
        self._cases[present] = self._cases.get(present, 0) + 1
        if "fdg" in present:
            suv = unscaled(case.images.astype(np.float32), "fdg")[inside].astype(float)
            self._fdg_truth += float(suv @ target)
            self._fdg_fdg += float(suv @ suv)
            self._fdg_cases += 1

    def regression(self, keys: tuple[str, ...]) -> tuple[list[float], int]:
        """Intercept and slopes of one set of images, and the patients behind them (those that have all of it)."""
        total, cases = np.zeros((len(keys) + 2, len(keys) + 2)), 0
        for present, normal in self._normal.items():
            if set(keys) <= set(present):
                index = [0, *(1 + present.index(key) for key in keys), len(present) + 1]
                total += normal[np.ix_(index, index)]
                cases += self._cases[present]
        if cases == 0:
            return [], 0
        solution = np.linalg.lstsq(total[:-1, :-1], total[:-1, -1], rcond=None)[0]
        return [float(f"{value:.6g}") for value in solution], cases

    def coefficients_to_metadata(self) -> dict[str, Any]:
        """``scaled_fdg`` and ``regression`` as the bundle carries them.

        Raises
        ------
        InputError
            No patient was added.
        """
        if not self._normal:
            raise InputError("The baselines were fitted on no patient.", "Add the training patients first.")
        coefficients, cases = {}, {}
        for keys in usable_sets():
            line, count = self.regression(keys)
            if count >= FEWEST_CASES:
                coefficients[set_name(keys)], cases[set_name(keys)] = line, count
        found: dict[str, Any] = {
            "regression": {
                "order": "intercept, then one slope per key",
                "cases": cases,
                "coefficients": coefficients,
            }
        }
        if self._fdg_fdg > 0:
            factor = float(f"{self._fdg_truth / self._fdg_fdg:.6g}")
            found["scaled_fdg"] = {"ratio_per_suv": factor, "unit": "ml/g", "cases": self._fdg_cases}
        return found


def usable_sets() -> Iterator[tuple[str, ...]]:
    """Every set of images with at least one that says something about hypoxia, in the order of the channels."""
    for size in range(1, len(KEYS) + 1):
        for keys in combinations(KEYS, size):
            if set(keys) & set(FUNCTIONAL):
                yield keys
