"""The ensemble: every member sees the box in all its mirror images; mean, spread and a band of hypoxic volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..methods._base import Progress, no_progress
from ..volume import COMPARISONS, beyond
from .bundle import Bundle
from .channels import NETWORK_SPACING_MM
from .device import choose_device, exact_arithmetic
from .distribution import features
from .network import split_output
from .prepare import Prepared
from .tiles import Runner

FLIPS = tuple(axes for n in range(4) for axes in itertools.combinations((-3, -2, -1), n))
"""The eight mirror images of a box, the box itself first."""
CORRELATION_FWHM_MM = 6.0
"""Width of the Gaussian that smooths the noise of ``volume_band``: a PET's resolution (5-7 mm, METHODS 10)."""
DRAWS = 200
BAND_PERCENT = (5.0, 95.0)


@dataclass(frozen=True)
class Prediction:
    """What the ensemble says of a box; arrays are float32 on the network's grid.

    Parameters
    ----------
    mean : numpy.ndarray
        Ratio, shape (z, y, x): mean over members and mirror images.
    sd : numpy.ndarray
        Total: root of mean variance plus variance of the means.
    aleatoric_sd, epistemic_sd : numpy.ndarray
        Root of the mean of the variances the members state, and root of the variance of their means.
    members : numpy.ndarray
        Mean of each member over its mirror images, shape (members, z, y, x).
    device_text : str
        Where it ran, with what was changed on the way.
    """

    mean: np.ndarray
    sd: np.ndarray
    aleatoric_sd: np.ndarray
    epistemic_sd: np.ndarray
    members: np.ndarray
    device_text: str


class Ensemble:
    """The networks of a bundle, loaded once.

    Parameters
    ----------
    bundle : Bundle
        Checked by ``load_bundle``.
    device : str
        ``"auto"`` (CUDA, then MPS, then CPU), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    budget_bytes : int, optional
        Memory to plan with; None: what is free on the device.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", budget_bytes: int | None = None) -> None:
        self.bundle = bundle
        self.networks = [bundle.network(member) for member in range(len(bundle.weights))]
        self.runner = Runner(choose_device(device), budget_bytes)

    def predict(self, prepared: Prepared, flips: bool = True, progress: Progress = no_progress) -> Prediction:
        """Mean and spread over members and, with ``flips``, the eight mirror images.

        Raises
        ------
        InputError
            If a network gives values that are not finite.
        """
        passes = FLIPS if flips else FLIPS[:1]
        shape = prepared.gtv.shape
        members = np.zeros((len(self.networks), *shape), np.float32)
        total, squares, variance = (np.zeros(shape) for _ in range(3))
        for number, (ratio, spread) in enumerate(self._passes(prepared.inputs, passes)):
            progress(number / (len(passes) * len(self.networks)), "network")
            member = number // len(passes)
            total += ratio
            squares += ratio.astype(float) ** 2
            variance += spread
            members[member] += ratio / np.float32(len(passes))
        count = len(passes) * len(self.networks)
        mean = total / count
        epistemic = np.maximum(squares / count - mean**2, 0.0)
        aleatoric = variance / count
        sd = np.sqrt(epistemic + aleatoric)
        if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
            raise InputError(
                f"The network of bundle {self.bundle.name} gives values that are not finite.", "Use another bundle."
            )
        progress(1.0, "network")
        return Prediction(
            mean.astype(np.float32),
            sd.astype(np.float32),
            np.sqrt(aleatoric).astype(np.float32),
            np.sqrt(epistemic).astype(np.float32),
            members,
            self.runner.text,
        )

    def mean_map(self, inputs: np.ndarray) -> np.ndarray:
        """Mean ratio of the members on a network input, no mirror images; shape (z, y, x)."""
        return np.mean([ratio for ratio, _ in self._passes(inputs, FLIPS[:1])], axis=0)

    def features(self, prepared: Prepared) -> np.ndarray:
        """Features of the first member for the gate, shape (F,); computed on the CPU, the same wherever the map is."""
        import torch

        return features(self.networks[0].to(torch.device("cpu")), prepared.inputs, prepared.gtv)

    def _passes(
        self, inputs: np.ndarray, passes: tuple[tuple[int, ...], ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ratio and variance (z, y, x) of every member and mirror image, members outermost, mirrored back."""
        import torch

        box = torch.from_numpy(np.ascontiguousarray(inputs, np.float32))[None]
        for network in self.networks:
            for axes in passes:
                with exact_arithmetic():
                    output = self.runner.run(network, torch.flip(box, axes))
                ratio, variance = split_output(torch.flip(output, axes))
                yield ratio[0].numpy(), variance[0].numpy()


def volume_band(
    prediction: Prediction,
    gtv: np.ndarray,
    threshold: float,
    comparison: str,
    gtv_ml: float,
    seed: int = 0,
    shared_error: float = 0.0,
) -> tuple[float, float]:
    """5th and 95th percentile of the hypoxic volume in ml.

    Each draw takes one member's map, adds the stated noise and counts the GTV's voxels that pass. The noise has the
    aleatoric standard deviation at every voxel. ``shared_error`` of its variance is one number for the whole tumour
    (the error of a blood reference, a tumour unlike others); the rest is correlated like PET noise, by a Gaussian of
    ``CORRELATION_FWHM_MM``, an assumption of this software. Draws go round the members, so that each counts alike. As
    noise lifts voxels near the threshold, the volume of the mean map may lie outside the band.

    Parameters
    ----------
    gtv : numpy.ndarray
        bool, shape (z, y, x), on the network's grid.
    gtv_ml : float
        Volume of the GTV; the band is this times the fraction that passes.
    seed : int
        The same seed gives the same band.
    shared_error : float
        0 to 1; a bundle carries what was found on its validation patients (``training.gate``).
    """
    compare = COMPARISONS[comparison]
    box = _box(gtv)
    inside, spread = gtv[box], prediction.aleatoric_sd[box]
    members = [member[box] for member in prediction.members]
    whole = np.random.default_rng([seed, 1]).standard_normal(DRAWS, np.float32) * np.float32(np.sqrt(shared_error))
    own = np.float32(np.sqrt(1.0 - shared_error))
    fractions = [
        float(compare(members[draw % len(members)] + spread * (whole[draw] + own * noise), threshold)[inside].mean())
        for draw, noise in enumerate(_noise(inside.shape, seed))
    ]
    low, high = np.percentile(fractions, BAND_PERCENT)
    return float(low) * gtv_ml, float(high) * gtv_ml


def hypoxic_ml(values: np.ndarray, inside: np.ndarray, threshold: float, comparison: str, voxel_ml: float) -> float:
    """Volume of a region whose map passes the threshold; voxels without a value do not."""
    return float(np.count_nonzero(beyond(values[inside], threshold, comparison))) * voxel_ml


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask."""
    spots = np.argwhere(mask)
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(spots.min(axis=0), spots.max(axis=0), strict=True))


def _noise(shape: tuple[int, ...], seed: int) -> Iterator[np.ndarray]:
    """Fields of standard normal noise, correlated over the PET's resolution; smoothed beyond the edge and cut."""
    from scipy import ndimage

    sigma = CORRELATION_FWHM_MM / NETWORK_SPACING_MM / (2 * np.sqrt(2 * np.log(2)))
    edge = int(np.ceil(4 * sigma))
    padded = tuple(n + 2 * edge for n in shape)
    weight = np.zeros((2 * edge + 1,) * 3)
    weight[edge, edge, edge] = 1.0
    kernel_norm = np.sqrt((ndimage.gaussian_filter(weight, sigma) ** 2).sum())
    random = np.random.default_rng(seed)
    for _ in range(DRAWS):
        field = ndimage.gaussian_filter(random.standard_normal(padded, np.float32), sigma)
        yield field[tuple(slice(edge, -edge) for _ in shape)] / np.float32(kernel_norm)
