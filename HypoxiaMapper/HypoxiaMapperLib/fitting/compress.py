"""Compression of a separable model: frames to a few numbers, curves to a Chebyshev table.

All curves of a model, over every theta, lie to one part in ten million in a space of some 15 to 20 dimensions, whatever
the number of frames. An orthonormal basis of it (singular value decomposition) turns each voxel's frames into that
many numbers by one matrix product, with no loss for the fit: what is left over is orthogonal to every model curve. In
that basis the family is a smooth function of theta, so a Chebyshev series of some 30 terms gives it, and its
derivative, for all voxels by one more matrix product. The convolutions themselves are computed only at the series'
nodes, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RequestError
from .device import Backend
from .model import SeparableModel

if TYPE_CHECKING:
    import torch

SERIES_TERMS = (16, 24, 32, 40, 48, 64, 96, 128, 192)
"""Lengths of the Chebyshev series that are tried, shortest first."""
CHECK_POINTS = 129
"""Thetas between the nodes at which the table is checked against the exact curves; more for a series as long."""


@dataclass(frozen=True)
class CompressedModel:
    """A separable model on a device, in the compressed space of R dimensions.

    Parameters
    ----------
    model : SeparableModel
        The model.
    span : torch.Tensor
        Orthonormal basis of the model's weighted curves, shape (frames, R).
    root_weight : torch.Tensor
        Square roots of the frame weights, shape (frames, 1).
    fixed : torch.Tensor
        Fixed curves in the basis, shape (curves, R).
    series : torch.Tensor
        Chebyshev coefficients of the family (first R rows) and of its derivative with respect to x (last R rows),
        shape (2 R, terms), x in -1..1 being the scaled log(1 + theta / scale).
    log_range : float
        log(1 + theta_max / scale) - log(1 + theta_min / scale).
    error : float
        Largest relative error of a tabulated curve.
    """

    model: SeparableModel
    span: torch.Tensor
    root_weight: torch.Tensor
    fixed: torch.Tensor
    series: torch.Tensor
    log_range: float
    error: float

    def project(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Data (frames, n) to the compressed space: (R, n) and the sum of squares outside it (n,)."""
        weighted = y * self.root_weight
        inside = self.span.T @ weighted
        outside = (weighted - self.span @ inside).square_().sum(0)
        return inside, outside

    def family(self, theta: torch.Tensor) -> torch.Tensor:
        """Family and its derivative with respect to theta, shape (2, R, members, n), for theta (members, n)."""
        import torch

        low, scale = self.model.theta_limits[0], self.model.theta_scale
        flat = theta.reshape(-1)
        shift = float(np.log1p(low / scale))
        x = (torch.log1p(flat / scale) - shift) * (2.0 / self.log_range) - 1.0
        both = (self.series @ chebyshev(x, self.series.shape[1])).reshape(2, -1, *theta.shape)
        both[1].mul_((2.0 / self.log_range) / (scale + theta))
        return both


def chebyshev(x: torch.Tensor, terms: int) -> torch.Tensor:
    """Chebyshev polynomials T_0 .. T_(terms-1) at x (n,), shape (terms, n).

    By T_(m+k) = 2 T_m T_k - T_(m-k) each pass doubles the number of terms known: few operations, as a GPU wants it.
    """
    import torch

    table = torch.empty((terms, x.numel()), dtype=x.dtype, device=x.device)
    table[0] = 1.0
    table[1] = x
    known = 2
    while known < terms:
        m = known - 1
        more = min(m, terms - known)
        fresh = table[known : known + more]
        torch.mul(table[1 : more + 1], 2.0 * table[m], out=fresh)
        fresh.sub_(table[m - more : m].flip(0))
        known += more
    return table


def compress(model: SeparableModel, weights: np.ndarray, backend: Backend) -> CompressedModel:
    """Tabulate a model to the tolerance of the backend.

    Parameters
    ----------
    model : SeparableModel
        The model.
    weights : numpy.ndarray
        Weight of each frame's squared residual, shape (frames,).
    backend : Backend
        Device, number type and tolerance.

    Raises
    ------
    RequestError
        If no series of 192 terms reaches the tolerance (an input function with jumps, or a wrong ``theta_scale``).
    """
    root = np.sqrt(weights)
    low, high = model.theta_limits
    shift = np.log1p(low / model.theta_scale)
    log_range = float(np.log1p(high / model.theta_scale) - shift)

    def exact(x: np.ndarray) -> np.ndarray:
        theta = model.theta_scale * np.expm1((x + 1) / 2 * log_range + shift)
        return model.family(np.clip(theta, low, high)) * root

    check_x, check, size = _checks(exact, CHECK_POINTS)
    if not np.all(size > 0):
        raise RequestError(
            f"{type(model).__name__}: the model is zero in every frame.",
            "The input function must be positive before the last frame.",
        )
    fixed = model.fixed() * root
    span = _basis(np.vstack([check / size[:, None], *(c[None] / np.linalg.norm(c) for c in fixed)]),
                  backend.table_tolerance)  # fmt: skip
    for terms in SERIES_TERMS:
        if 2 * terms > len(check_x):
            check_x, check, size = _checks(exact, 4 * terms + 1)
        nodes = np.cos(np.pi * (np.arange(terms) + 0.5) / terms)
        series = np.polynomial.chebyshev.chebfit(nodes, exact(nodes) @ span, terms - 1)
        error = float(
            np.max(np.linalg.norm(np.polynomial.chebyshev.chebval(check_x, series).T @ span.T - check, axis=1) / size)
        )
        if error <= backend.table_tolerance:
            return _to_device(model, span, root, fixed @ span, series, log_range, error, backend)
    raise RequestError(
        f"{type(model).__name__}: the curves could not be tabulated (relative error {error:.1e}).",
        "Check the input function for jumps and gaps.",
    )


def _checks(exact: Callable[[np.ndarray], np.ndarray], points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places between -1 and 1, the exact curves there and their lengths."""
    x = np.linspace(-1, 1, points)
    curves = exact(x)
    return x, curves, np.linalg.norm(curves, axis=1)


def _basis(curves: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal basis (frames, R) that holds unit curves (curves, frames) to half the tolerance."""
    left, singular, _ = np.linalg.svd(curves.T, full_matrices=False)
    left = left[:, singular > 1e-14 * singular[0]]
    kept = np.cumsum((left.T @ curves.T) ** 2, axis=0)  # (R, curves): share of each curve inside the first R
    missing = np.sqrt(np.clip(kept[-1] - kept, 0, None)).max(axis=1)
    rank = int(np.argmax(missing <= tolerance / 2)) + 1
    return left[:, :rank]


def _to_device(model: SeparableModel, span: np.ndarray, root: np.ndarray, fixed: np.ndarray, series: np.ndarray,
               log_range: float, error: float, backend: Backend) -> CompressedModel:  # fmt: skip
    """The arrays as tensors; the series gets its derivative appended."""
    import torch

    slope = np.zeros_like(series)
    slope[:-1] = np.polynomial.chebyshev.chebder(series)

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(a)).to(backend.device, backend.dtype)

    both = np.concatenate([series.T, slope.T])
    return CompressedModel(model, tensor(span), tensor(root[:, None]), tensor(fixed), tensor(both), log_range, error)
