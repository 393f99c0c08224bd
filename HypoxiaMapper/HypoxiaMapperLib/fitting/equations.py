"""Normal equations of the two kinds of models, for ``levenberg.solve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compress import CompressedModel
from .model import FunctionModel

if TYPE_CHECKING:
    import torch


def separable_equations(
    table: CompressedModel, p: torch.Tensor, z: torch.Tensor, outside: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of squares, J'r and J'J of a separable model at parameters (P, n) for compressed data (R, n).

    The Jacobian is a product: of the curves and their slopes, and of the derivatives of weights and thetas with
    respect to the parameters. So J'J needs the inner products of the few curves only.
    """
    import torch

    rows, chain = table.model.mixture_with_jacobian(p)
    m, k = table.fixed.shape[0], table.model.n_members
    weights, theta = rows[: m + k], rows[m + k :]
    low, high = table.model.theta_limits
    curve, slope = table.family(theta.clamp(low, high))  # (R, k, n) each
    parts = [table.fixed[i][:, None] for i in range(m)]
    parts += [curve[:, i] for i in range(k)]
    residual = z.clone()
    for weight, part in zip(weights, parts, strict=True):
        residual.addcmul_(part, weight, value=-1.0)
    parts += [slope[:, i] * weights[m + i] for i in range(k)]
    cost = residual.square().sum(0) + outside
    fall = torch.stack([(part * residual).sum(0) for part in parts])
    gram = _gram(parts)
    gradient = torch.stack([_combine(chain[:, i], fall) for i in range(len(p))])
    return cost, gradient, _sandwich(gram, chain)


def _gram(parts: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Inner products of curves (R, n) or (R, 1) over R, lower triangle."""
    return [[(parts[i] * parts[j]).sum(0) for j in range(i + 1)] for i in range(len(parts))]


def _combine(factors: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    """Sum over the first axis of a product of (S, n) tensors."""
    return (factors * terms).sum(0)


def _sandwich(gram: list[list[torch.Tensor]], chain: torch.Tensor) -> torch.Tensor:
    """chain' * gram * chain per voxel, for chain (S, P, n)."""
    import torch

    s, count, n = chain.shape
    full = torch.empty((s, s, n), dtype=chain.dtype, device=chain.device)
    for i in range(s):
        for j in range(i + 1):
            full[i, j] = gram[i][j]
            if i != j:
                full[j, i] = gram[i][j]
    half = torch.stack([(full[:, t, None] * chain[t]) for t in range(s)]).sum(0)  # (S, P, n)
    normal = torch.empty((count, count, n), dtype=chain.dtype, device=chain.device)
    for i in range(count):
        for j in range(i + 1):
            normal[i, j] = (chain[:, i] * half[:, j]).sum(0)
            if i != j:
                normal[j, i] = normal[i, j]
    return normal


def function_equations(
    model: FunctionModel, root_weight: torch.Tensor, p: torch.Tensor, y: torch.Tensor, extra: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of squares, J'r and J'J of a function model at parameters (P, n) for weighted data (frames, n)."""
    import torch

    count = len(p)

    def weighted(q: torch.Tensor) -> torch.Tensor:
        return model.value(q, extra) * root_weight

    units = torch.eye(count, dtype=p.dtype, device=p.device)[:, :, None].expand(-1, -1, p.shape[1])
    both = [torch.func.jvp(weighted, (p,), (unit,)) for unit in units]
    columns = [pair[1] for pair in both]
    residual = y - both[0][0]
    gradient = torch.stack([(column * residual).sum(0) for column in columns])
    normal = torch.empty((count, count, p.shape[1]), dtype=p.dtype, device=p.device)
    for i in range(count):
        for j in range(i + 1):
            normal[i, j] = normal[j, i] = (columns[i] * columns[j]).sum(0)
    return residual.square().sum(0), gradient, normal
