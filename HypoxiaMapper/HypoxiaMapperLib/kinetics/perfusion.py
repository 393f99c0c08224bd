"""Tracer models of DCE-MRI. Concentrations in mmol/L, times in minutes, rates in 1/min, sampled at instants.

Ktrans and kep as in Tofts 1999, doi 10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S; two-compartment
exchange and uptake as in Sourbron and Buckley 2013, doi 10.1002/nbm.2940.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..fitting.model import Parameter
from .convolved import ConvolvedModel

if TYPE_CHECKING:
    import torch

KTRANS = Parameter("Ktrans", "/min", 0.0, 5.0)
VE = Parameter("ve", "mL/mL", 0.001, 1.0)
VP = Parameter("vp", "mL/mL", 0.0, 1.0)
KEP = Parameter("kep", "/min")
FP = Parameter("Fp", "mL/min/mL", 0.0, 10.0)
PS = Parameter("PS", "mL/min/mL", 0.0, 5.0)
FASTEST_PER_MIN = 60.0
"""A washout within a second is faster than any DCE frame: the tissue then is a copy of the input."""
FASTEST_PLASMA_PER_MIN = 300.0
"""Plasma of 2CXM and 2CUM stays a fifth of a second at the least: faster voxels get the code UNDETERMINED."""
SMALL = 1e-9
GRID = 24
PAIR_GRID = 12
FAST_GRID = 14


class PerfusionModel(ConvolvedModel):
    """Common part: which rates can be told apart."""

    theta_limits: tuple[float, float] = (0.0, FASTEST_PER_MIN)

    def _grids(self) -> tuple[np.ndarray, ...]:
        return (np.concatenate([[0.0], np.geomspace(0.02, 30.0, GRID - 1)]),)


class Tofts(PerfusionModel):
    """Ct = Ktrans Cp*exp(-kep t), kep = Ktrans/ve."""

    parameters = (KTRANS, VE)
    derived_parameters: ClassVar = (KEP,)
    n_members = 1

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Ktrans and kep."""
        import torch

        return torch.stack([p[0], p[0] / p[1]])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        return torch.stack([weights[0], weights[0] / (theta[0] + SMALL)])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """kep."""
        return {"kep": p[0] / p[1]}


class ExtendedTofts(PerfusionModel):
    """Ct = vp Cp + Ktrans Cp*exp(-kep t), kep = Ktrans/ve."""

    parameters = (KTRANS, VE, VP)
    derived_parameters: ClassVar = (KEP,)
    n_members = 1

    def fixed(self) -> np.ndarray:
        """Plasma."""
        return self.input_function.on_frames(self.frames)[None]

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """vp, Ktrans and kep."""
        import torch

        return torch.stack([p[2], p[0], p[0] / p[1]])

    def mixture_with_jacobian(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``mixture``, with the derivatives written out."""
        import torch

        rows = self.mixture(p)
        chain = torch.zeros((3, 3, p.shape[1]), dtype=p.dtype, device=p.device)
        chain[0, 2] = 1.0
        chain[1, 0] = 1.0
        chain[2, 0] = 1.0 / p[1]
        chain[2, 1] = -rows[2] / p[1]
        return rows, chain

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        return torch.stack([weights[1], weights[1] / (theta[0] + SMALL), weights[0]])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """kep."""
        return {"kep": p[0] / p[1]}


class TwoCompartmentUptake(PerfusionModel):
    """2CUM: Ct = Fp Cp*[E + (1-E) exp(-t/Tp)], E = PS/(Fp+PS), Tp = vp/(Fp+PS): exchange without return.

    For series so short, or tissue so large, that nothing comes back from it; ve does not exist then.
    """

    parameters = (FP, PS, VP)
    derived_parameters: ClassVar = (KTRANS,)
    n_members = 1
    theta_limits = (0.0, FASTEST_PLASMA_PER_MIN)

    def _grids(self) -> tuple[np.ndarray, ...]:
        return (np.geomspace(0.1, FASTEST_PLASMA_PER_MIN / 1.2, GRID),)

    def fixed(self) -> np.ndarray:
        """Running integral of plasma: what has stayed in the tissue."""
        return self.input_function.integral_on_frames(self.frames)[None]

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights Fp E and Fp (1-E), and 1/Tp."""
        import torch

        fp, ps, vp = p
        stays = fp * ps / (fp + ps + SMALL)
        return torch.stack([stays, fp - stays, (fp + ps) / (vp + SMALL)])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        fp = weights[0] + weights[1]
        ps = fp * weights[0] / (weights[1] + SMALL)
        return torch.stack([fp, ps, (fp + ps) / (theta[0] + SMALL)])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Ktrans = Fp PS/(Fp+PS)."""
        return {"Ktrans": p[0] * p[1] / (p[0] + p[1] + SMALL)}


class TwoCompartmentExchange(PerfusionModel):
    """2CXM: Ct = Fp Cp*[(1-E) exp(-K+ t) + E exp(-K- t)].

    K+- = [s +- sqrt(s^2 - 4 q)]/2 with s = (Fp+PS)/vp + PS/ve, q = Fp PS/(vp ve), E = (K+ - Fp/vp)/(K+ - K-).
    """

    parameters = (FP, PS, VP, VE)
    derived_parameters: ClassVar = (KTRANS,)
    n_members = 2
    theta_limits = (0.0, FASTEST_PLASMA_PER_MIN)

    def _grids(self) -> tuple[np.ndarray, ...]:
        fast = np.geomspace(0.3, FASTEST_PLASMA_PER_MIN / 1.2, FAST_GRID)
        return fast, np.concatenate([[0.0], np.geomspace(0.01, 5.0, PAIR_GRID - 1)])

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights of the fast and the slow response, and their rates."""
        import torch

        fp, ps, vp, ve = p[0], p[1], p[2] + SMALL, p[3]
        total = (fp + ps) / vp + ps / ve
        product = fp * ps / (vp * ve)
        root = torch.sqrt(torch.clamp(total * total - 4 * product, min=SMALL**2)) + SMALL
        fast = (total + root) / 2
        slow = product / (fast + SMALL)
        share = (fast - fp / vp) / root
        return torch.stack([fp * (1 - share), fp * share, fast, slow])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        a, b = weights
        fast, slow = theta
        fp = a + b
        per_vp = (a * fast + b * slow) / (fp + SMALL) + SMALL  # Fp / vp
        vp = fp / per_vp
        per_te = fast * slow / per_vp  # PS / ve
        ps = torch.clamp((fast + slow - per_te) * vp - fp, min=0.0)
        return torch.stack([fp, ps, vp, ps / (per_te + SMALL)])

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Ktrans = Fp PS/(Fp+PS)."""
        return {"Ktrans": p[0] * p[1] / (p[0] + p[1] + SMALL)}
