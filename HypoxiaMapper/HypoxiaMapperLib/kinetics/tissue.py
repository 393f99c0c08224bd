"""Compartment models of dynamic PET. Rates in 1/min (K1 in ml/min/ml), frame-averaged, bounds of METHODS section 4.

All are sums of blood, the integral of plasma and plasma convolved with exponentials, so all are separable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..fitting.model import Parameter
from .convolved import ConvolvedModel

if TYPE_CHECKING:
    import torch

# METHODS section 4.
K1 = Parameter("K1", "mL/min/mL", 0.0, 2.0)
K2 = Parameter("k2", "/min", 0.0, 3.0)
K3 = Parameter("k3", "/min", 0.0, 0.5)
K4 = Parameter("k4", "/min", 0.0, 0.1)
VB = Parameter("vB", "mL/mL", 0.0, 0.5)
KI = Parameter("Ki", "mL/min/mL")
VT = Parameter("VT", "mL/mL")
SMALL = 1e-9
"""Keeps quotients of rates finite; a rate this small changes nothing in a study of hours."""
FAST_GRID = 8
SLOW_GRID = 6


class TissueModel(ConvolvedModel):
    """Common part: which rates can be told apart."""

    theta_limits: tuple[float, float] = (0.0, K2.upper + K3.upper + K4.upper)

    def _grids(self) -> tuple[np.ndarray, ...]:
        high = self.theta_limits[1]
        return (np.geomspace(high / 200, high / 1.2, FAST_GRID),)

    def fixed(self) -> np.ndarray:
        """Whole blood."""
        return self.input_function.on_frames(self.frames, "blood")[None]


class OneTissue(TissueModel):
    """Ct = (1-vB) K1 Cp*exp(-k2 t) + vB Cb; VT = K1/k2."""

    parameters = (K1, K2, VB)
    derived_parameters: ClassVar = (VT,)
    n_members = 1

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights of blood and response, and k2."""
        import torch

        k1, k2, vb = p
        return torch.stack([vb, (1 - vb) * k1, k2])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        vb = weights[0].clamp(max=VB.upper)
        return torch.stack([weights[1] / (1 - vb), theta[0], vb])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """VT."""
        return {"VT": p[0] / (p[1] + SMALL)}


class TwoTissueIrreversible(TissueModel):
    """2T3k: Ct = (1-vB) [K1 k2/(k2+k3) Cp*exp(-(k2+k3)t) + Ki int Cp] + vB Cb; Ki = K1 k3/(k2+k3) (k4 = 0)."""

    parameters = (K1, K2, K3, VB)
    derived_parameters: ClassVar = (KI,)
    n_members = 1

    def fixed(self) -> np.ndarray:
        """Whole blood and the running integral of plasma."""
        return np.stack([self.input_function.on_frames(self.frames, "blood"),
                         self.input_function.integral_on_frames(self.frames)])  # fmt: skip

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights of blood, integral and response, and k2 + k3."""
        import torch

        k1, k2, k3, vb = p
        total = k2 + k3 + SMALL
        tissue = (1 - vb) * k1
        return torch.stack([vb, tissue * k3 / total, tissue * k2 / total, k2 + k3])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        vb = weights[0].clamp(max=VB.upper)
        ki, rest = weights[1] / (1 - vb), weights[2] / (1 - vb)
        k1 = ki + rest
        k3 = theta[0] * ki / (k1 + SMALL)
        return torch.stack([k1, theta[0] - k3, k3, vb])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Ki."""
        return {"Ki": p[0] * p[2] / (p[1] + p[2] + SMALL)}


class TwoTissueReversible(TissueModel):
    """2T4k with vB: two exponentials; Ki = K1 k3/(k2+k3), VT = K1/k2 (1 + k3/k4).

    The eigenvalues are theta = (s +- sqrt(s^2 - 4 k2 k4))/2 with s = k2+k3+k4 (Gunn 2001, doi
    10.1097/00004647-200106000-00002).
    """

    parameters = (K1, K2, K3, K4, VB)
    derived_parameters: ClassVar = (KI, VT)
    n_members = 2

    def _grids(self) -> tuple[np.ndarray, ...]:
        fast = np.geomspace(0.02, self.theta_limits[1] / 1.2, FAST_GRID)
        slow = np.concatenate([[0.0], np.geomspace(K4.upper / 60, K4.upper, SLOW_GRID - 1)])
        return fast, slow

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights of blood and the two responses, and the two eigenvalues, faster first."""
        import torch

        k1, k2, k3, k4, vb = p
        total = k2 + k3 + k4
        root = torch.sqrt(torch.clamp(total * total - 4 * k2 * k4, min=SMALL**2)) + SMALL
        fast = (total + root) / 2
        slow = k2 * k4 / fast
        tissue = (1 - vb) * k1 / root
        return torch.stack([vb, tissue * (fast - k3 - k4), tissue * (k3 + k4 - slow), fast, slow])

    def mixture_with_jacobian(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``mixture``, with the derivatives written out."""
        import torch

        k1, k2, _, k4, vb = p
        rows = self.mixture(p)
        weights, rates = rows[1:3], rows[3:]
        root = rates[0] - rates[1] + SMALL
        tissue = (1 - vb) * k1
        chain = torch.zeros((5, 5, p.shape[1]), dtype=p.dtype, device=p.device)
        chain[0, 4] = 1.0
        # With respect to k2, k3 and k4, from fast + slow = k2 + k3 + k4 and fast * slow = k2 k4.
        slopes = (rates[:, None] - torch.stack([k4, torch.zeros_like(k4), k2])) / torch.stack([root, -root])[:, None]
        chain[3:, 1:4] = slopes
        # weight = +-(1-vB) K1 (near - k3 - k4) / (fast - slow), near being the rate of the same row
        inner = slopes.clone()
        inner[:, 1:].sub_(1.0)
        inner.mul_(torch.stack([tissue, -tissue])[:, None])
        inner.addcmul_(weights[:, None], slopes[0] - slopes[1], value=-1.0)
        chain[1:3, 1:4] = inner.div_(root)
        chain[1:3, 0] = weights / (k1 + SMALL)
        chain[1:3, 4] = weights / (vb - 1)
        return rows, chain

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        vb = weights[0].clamp(max=VB.upper)
        a, b = weights[1] / (1 - vb), weights[2] / (1 - vb)
        fast, slow = theta
        k1 = a + b
        k2 = (a * fast + b * slow) / (k1 + SMALL) + SMALL
        k4 = fast * slow / k2
        return torch.stack([k1, k2, fast + slow - k2 - k4, k4, vb])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Ki and VT."""
        k1, k2, k3, k4, _ = p
        return {"Ki": k1 * k3 / (k2 + k3 + SMALL), "VT": k1 / (k2 + SMALL) * (1 + k3 / (k4 + SMALL))}
