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
    both = table.family(theta.clamp(*table.model.theta_limits))  # (2, R, k, n): curves and slopes
    residual = torch.addmm(z, table.fixed.T, weights[:m], alpha=-1.0) if m else z.clone()
    for member in range(k):
        residual.addcmul_(both[0, :, member], weights[m + member], value=-1.0)
    both[1].mul_(weights[m:])
    cost = residual.square().sum(0) + outside
    fall = torch.cat([table.fixed @ residual, (both * residual[None, :, None]).sum(1).reshape(2 * k, -1)])
    gradient = (chain * fall[:, None]).sum(0)
    return cost, gradient, _sandwich(_gram(table.fixed, both), chain)


def _gram(fixed: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """Inner products (S, S, n) of the fixed curves (m, R), and the curves and slopes (2, R, k, n), S = m + 2 k."""
    import torch

    m, (_, rank, k, n) = fixed.shape[0], both.shape
    gram = torch.empty((m + 2 * k, m + 2 * k, n), dtype=both.dtype, device=both.device)
    if m:
        gram[:m, :m] = (fixed @ fixed.T)[:, :, None]
        for half in range(2):
            part = slice(m + half * k, m + half * k + k)
            cross = (fixed @ both[half].reshape(rank, k * n)).reshape(m, k, n)
            gram[:m, part] = cross
            gram[part, :m] = cross.transpose(0, 1)
    for i in range(k):
        gram[m + i, m : m + i + 1] = (both[0, :, i, None] * both[0, :, : i + 1]).sum(0)
        gram[m : m + i, m + i] = gram[m + i, m : m + i]
    for i in range(k):
        row = (both[1, :, i, None] * both).sum(1).reshape(2 * k, n)
        gram[m + k + i, m:] = row
        gram[m:, m + k + i] = row
    return gram


def _sandwich(gram: torch.Tensor, chain: torch.Tensor) -> torch.Tensor:
    """chain' * gram * chain per voxel, for gram (S, S, n) and chain (S, P, n)."""
    half = gram[:, 0, None] * chain[0]  # (S, P, n)
    for s in range(1, len(chain)):
        half.addcmul_(gram[:, s, None], chain[s])
    normal = chain[0][:, None] * half[0]
    for s in range(1, len(chain)):
        normal.addcmul_(chain[s][:, None], half[s])
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
