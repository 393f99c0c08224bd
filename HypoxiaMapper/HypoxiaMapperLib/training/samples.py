"""Samples of a training: which images a sample shows, where it is cut out, how it is flipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference.channels import CHANNELS, FUNCTIONAL, KEYS, N_INPUTS
from .config import Augmentation, ModalityDropout, TrainingConfig
from .dataset import Case

SHELL_VOXELS = 2  # 6 mm: as far as linear interpolation and a GTV drawn on another grid reach


@dataclass(frozen=True)
class Batch:
    """Arrays of one step: inputs (n, N_INPUTS, z, y, x), ratio and weight (n, z, y, x), all float32."""

    inputs: np.ndarray
    ratio: np.ndarray
    weight: np.ndarray


def choose_images(present: np.ndarray, dropout: ModalityDropout, random: np.random.Generator) -> np.ndarray:
    """Which of the images there are a sample shows: bool, shape (channels,); always a functional one."""
    functional = np.array([key in FUNCTIONAL for key in KEYS]) & present
    if random.random() < dropout.common:
        wanted = dropout.common_sets[random.integers(len(dropout.common_sets))]
        chosen = np.array([key in wanted for key in KEYS]) & present
    else:
        chosen = present & (random.random(len(KEYS)) >= dropout.drop)
    if not (chosen & functional).any():
        chosen[random.choice(np.flatnonzero(functional))] = True
    return chosen


def assemble(images: np.ndarray, gtv: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Network input of the images shown: float32, shape (N_INPUTS, z, y, x)."""
    inputs = np.empty((N_INPUTS, *gtv.shape), np.float32)
    inputs[: len(CHANNELS)] = images * shown[:, None, None, None]
    inputs[len(CHANNELS) : -1] = shown[:, None, None, None]
    inputs[-1] = gtv
    return inputs


def loss_weight(case: Case, shell: float) -> np.ndarray:
    """Weight of every voxel in the loss: 1 in the GTV, ``shell`` around it, 0 where the ratio is unknown."""
    from scipy.ndimage import binary_dilation

    around = binary_dilation(case.gtv, iterations=SHELL_VOXELS)
    weight = np.where(case.gtv, 1.0, shell * around).astype(np.float16)
    return np.where(np.isfinite(case.ratio), weight, np.float16(0.0))


def cut(array: np.ndarray, start: np.ndarray, patch: int) -> np.ndarray:
    """A cube of the last three axes, zero where it leaves the array."""
    found = np.zeros((*array.shape[:-3], patch, patch, patch), array.dtype)
    size = np.array(array.shape[-3:])
    low, high = np.maximum(start, 0), np.minimum(start + patch, size)
    found[_box(low - start, high - start)] = array[_box(low, high)]
    return found


def _box(low: np.ndarray, high: np.ndarray) -> tuple[Any, ...]:
    """Index of a box in the last three axes."""
    return (..., *(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))


def place(case: Case, patch: int, random: np.random.Generator) -> np.ndarray:
    """First voxel of a sample: anywhere that stays inside the box, with a random voxel of the GTV in it."""
    size = np.array(case.gtv.shape)
    spots = np.argwhere(case.gtv)
    spot = spots[random.integers(len(spots))]
    low, high = np.maximum(spot - patch + 1, 0), np.minimum(spot, size - patch)
    start = [random.integers(a, b + 1) if b >= a else (n - patch) // 2 for a, b, n in zip(low, high, size, strict=True)]
    return np.array(start, dtype=int)


class Sampler:
    """Batches of one rank. The same seed, member and epoch give the same batches.

    Parameters
    ----------
    rank, world : int
        This process and how many there are; every sample goes to one of them.
    """

    def __init__(self, cases: Sequence[Case], config: TrainingConfig, rank: int = 0, world: int = 1) -> None:
        self.cases = list(cases)
        self.config = config
        self.rank = rank
        self.world = world
        self.weights = [loss_weight(case, config.shell_weight) for case in self.cases]

    @property
    def steps(self) -> int:
        """Batches per epoch and rank, at least one; what does not fill a batch on every rank is left out."""
        samples = len(self.cases) * self.config.crops_per_patient
        return max(1, samples // (self.config.batch * self.world))

    def epoch(self, member: int, epoch: int) -> Iterator[Batch]:
        """Batches of one epoch."""
        order = np.random.default_rng([self.config.seed, member, epoch]).permutation(
            np.repeat(np.arange(len(self.cases)), self.config.crops_per_patient)
        )
        mine = np.resize(order, self.steps * self.config.batch * self.world)[self.rank :: self.world]
        random = np.random.default_rng([self.config.seed, member, epoch, self.rank])
        for step in range(self.steps):
            chosen = mine[step * self.config.batch : (step + 1) * self.config.batch]
            parts = [self._sample(int(i), random) for i in chosen]
            yield Batch(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))

    def _sample(self, index: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        case, patch = self.cases[index], self.config.patch
        start = place(case, patch, random)
        shown = choose_images(case.present, self.config.modality_dropout, random)
        images = _noisy(cut(case.images, start, patch).astype(np.float32), self.config.augmentation, random)
        inputs = assemble(images, cut(case.gtv, start, patch), shown)
        ratio = np.nan_to_num(cut(case.ratio, start, patch).astype(np.float32), nan=1.0)
        weight = cut(self.weights[index], start, patch).astype(np.float32)
        if self.config.augmentation.flip:
            axes = tuple(-1 - axis for axis in range(3) if random.random() < 0.5)
            return np.flip(inputs, axes), np.flip(ratio, axes), np.flip(weight, axes)
        return inputs, ratio, weight


def _noisy(images: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    """Images with white noise of a random strength each."""
    if not augmentation.noise:
        return images
    strength = random.uniform(0, augmentation.noise, (len(images), 1, 1, 1)).astype(np.float32)
    return images + strength * random.standard_normal(images.shape, np.float32)
