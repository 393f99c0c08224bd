"""What a model must tell the engine: its parameters, and its curves or its values.

A model is one of two kinds. A ``SeparableModel`` is a sum of curves common to all voxels; its fit never touches the
frames again after one projection (see ``compress``). A ``FunctionModel`` is any differentiable function.
Both work on tensors of shape (parameters, voxels): voxels lie last because the frames of a series do so too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import RequestError

if TYPE_CHECKING:
    import torch

CURVE_BLOCK = 1024


@dataclass(frozen=True)
class Parameter:
    """One fitted or derived quantity.

    Parameters
    ----------
    name : str
        As in the literature: ``K1``, ``Ktrans``, ``vB``.
    unit : str
        UCUM unit.
    lower, upper : float
        Bounds of a fitted parameter; infinite for a derived one.
    """

    name: str
    unit: str
    lower: float = -np.inf
    upper: float = np.inf


class Model:
    """Base of all models.

    Attributes
    ----------
    parameters : tuple of Parameter
        Fitted parameters, in the order of the first axis of every parameter tensor.
    derived_parameters : tuple of Parameter
        Quantities computed from the fitted ones, with standard errors by the delta method.
    may_be_exact : bool
        True if as many frames as parameters will do: two flip angles give T1, with no residual and so no error.
    n_frames : int
        Values per voxel.
    """

    parameters: tuple[Parameter, ...]
    derived_parameters: ClassVar[tuple[Parameter, ...]] = ()
    may_be_exact: ClassVar[bool] = False
    n_frames: int

    def derived(self, p: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Derived quantities of parameters (parameters, voxels), each of shape (voxels,)."""
        return {}

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, each of shape (parameters,)."""
        return np.array([q.lower for q in self.parameters]), np.array([q.upper for q in self.parameters])


def require_frames(model: Model | type[Model], count: int) -> None:
    """Refuse a series that cannot determine a model's parameters.

    Raises
    ------
    RequestError
        If there are not more frames than parameters, or fewer where an exact solution will do.
    """
    if count < len(model.parameters) + (not model.may_be_exact):
        name = model.__name__ if isinstance(model, type) else type(model).__name__
        raise RequestError(
            f"{name}: {count} frames cannot determine {len(model.parameters)} parameters "
            f"({', '.join(q.name for q in model.parameters)}).",
            "Use a series with more frames or a simpler model.",
        )


class SeparableModel(Model):
    """y(t) = sum of c_j(p) * fixed_j(t) + sum of a_k(p) * family(theta_k(p), t), all c and a non-negative.

    Attributes
    ----------
    n_members : int
        Number of members of the family in the sum (1 for Tofts, 2 for a reversible two-tissue model).
    theta_limits : tuple of float
        Range of theta that is tabulated; beyond it theta is held at the limit.
    theta_scale : float
        Theta below which the family changes linearly, above which logarithmically (the table's coordinate is
        log(1 + theta / theta_scale)).
    start_grids : tuple of numpy.ndarray
        For each member the values of theta that the start search tries.
    """

    n_members: int
    theta_limits: tuple[float, float]
    theta_scale: float
    start_grids: tuple[np.ndarray, ...]

    def fixed(self) -> np.ndarray:
        """Curves that do not depend on theta, shape (curves, frames); (0, frames) when there is none."""
        return np.zeros((0, self.n_frames))

    def family(self, theta: np.ndarray) -> np.ndarray:
        """Curves of the family, shape (len(theta), frames), exact."""
        raise NotImplementedError

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights and thetas of parameters (P, n): rows are c (fixed), a (members), theta (members)."""
        raise NotImplementedError

    def mixture_with_jacobian(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``mixture`` (S, n) and its derivatives (S, P, n); automatic unless a model writes them out for speed."""
        return value_and_gradients(self.mixture, p)

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``: parameters (P, n) of weights (fixed + members, n) and theta (members, n)."""
        raise NotImplementedError

    def curves(self, p: np.ndarray) -> np.ndarray:
        """Exact model curves, shape (frames, n), of parameters (P, n): for display and tests."""
        import torch

        rows = self.mixture(torch.as_tensor(np.asarray(p, dtype=float))).numpy()
        fixed = self.fixed()
        m, k = len(fixed), self.n_members
        total = fixed.T @ rows[:m]
        for member in range(k):
            theta = np.clip(rows[m + k + member], *self.theta_limits)
            # In blocks: an exact convolution needs room for every sample of the input.
            for first in range(0, theta.size, CURVE_BLOCK):
                part = slice(first, first + CURVE_BLOCK)
                total[:, part] += self.family(theta[part]).T * rows[m + member, part]
        return total


class FunctionModel(Model):
    """Any model whose value torch can differentiate.

    Attributes
    ----------
    measured_at : numpy.ndarray
        Echo time, flip angle or b-value of each frame, shape (frames,).
    """

    measured_at: np.ndarray

    def places(self, like: torch.Tensor) -> torch.Tensor:
        """``measured_at`` as a column on the device and in the type of a tensor; copied there once, not every step."""
        import torch

        known: dict = self.__dict__.setdefault("_places", {})
        key = (like.device, like.dtype)
        if key not in known:
            known[key] = torch.as_tensor(self.measured_at).to(*key)[:, None]
        return known[key]

    def value(self, p: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Model values (frames, n) of parameters (P, n); ``extra`` (E, n) are given quantities per voxel, e.g. B1."""
        raise NotImplementedError

    def curves(self, p: np.ndarray) -> np.ndarray:
        """``value`` without given quantities as an array, for display and tests."""
        import torch

        return self.value(torch.as_tensor(np.asarray(p, dtype=float)), None).numpy()

    def start(self, y: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Start parameters (P, n) from the data (frames, n)."""
        raise NotImplementedError


def value_and_gradients(
    function: Callable[[torch.Tensor], torch.Tensor], p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (S, n) of a function of parameters (P, n) and their derivatives (S, P, n), by automatic differentiation."""
    import torch

    with torch.enable_grad():
        inner = p.detach().requires_grad_(True)
        rows = function(inner)
        # Voxels do not mix, so the gradient of a row's sum is every voxel's own gradient.
        grads = [torch.autograd.grad(row.sum(), inner, retain_graph=True, materialize_grads=True)[0] for row in rows]
    return rows.detach(), torch.stack(grads)
