"""Levenberg-Marquardt with bounds for many small problems at once; it sees only normal equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NormalEquations = Callable[["torch.Tensor", "torch.Tensor"], "tuple[torch.Tensor, torch.Tensor, torch.Tensor]"]
"""Of parameters (P, n) and the voxels' numbers (n,): sum of squares (n,), J'r (P, n) and J'J (P, P, n).

The numbers are the same tensor from call to call until some voxels are done and left out.
"""

FIRST_DAMPING = 1e-3
LESS_DAMPING, SAME_DAMPING, MORE_DAMPING = 0.2, 1.0, 6.0
KEEP_BELOW = 0.25
"""Share of the promised fall of the sum of squares below which a step, though taken, does not lessen the damping."""
MAX_DAMPING = 1e12
BOUND_MARGIN = 1e-7
"""Share of a parameter's range that counts as its bound: rounding leaves a value that near instead of on it."""
LOOK_EVERY = {"cpu": 1, "cuda": 4, "mps": 4}
"""Iterations between two looks at how many voxels are done: on a GPU each look waits for all work given to it."""
COMPACT_BELOW = 0.7
"""The voxels still at work are copied together when less than this share of those carried is left."""


@dataclass(frozen=True)
class Solution:
    """Where the iteration ended: parameters (P, n), sum of squares (n,), J'J (P, P, n), flags (n,) or (P, n)."""

    parameters: torch.Tensor
    sum_of_squares: torch.Tensor
    normal: torch.Tensor
    converged: torch.Tensor
    at_bound: torch.Tensor


def solve(
    equations: NormalEquations,
    start: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    floor: torch.Tensor,
    max_iterations: int,
    tolerance: float,
) -> Solution:
    """Minimise the sum of squares of every voxel within bounds.

    A projected Levenberg-Marquardt iteration: parameters on a bound whose gradient points outwards are held, the
    rest take a damped Gauss-Newton step, which is clipped to the bounds and taken only if it lowers the sum of squares.

    Parameters
    ----------
    equations : NormalEquations
        The problem.
    start : torch.Tensor
        Start parameters, shape (P, n), inside the bounds.
    lower, upper : torch.Tensor
        Bounds, shape (P, 1).
    floor : torch.Tensor
        Sum of squares below which a fit is exact to rounding, shape (n,).
    max_iterations : int
        Steps per voxel.
    tolerance : float
        See ``FitOptions``.
    """
    import torch

    n = start.shape[1]
    final = _empty_solution(start)
    index = torch.arange(n, device=start.device)
    p = start.clone()
    cost, gradient, normal = equations(p, index)
    damping = torch.full_like(cost, FIRST_DAMPING)
    done = torch.zeros_like(cost, dtype=torch.bool)
    every = LOOK_EVERY[start.device.type]
    for iteration in range(max_iterations):
        held = ((p <= lower) & (gradient <= 0)) | ((p >= upper) & (gradient >= 0))
        step, gain = _step(normal, gradient, held, damping)
        done = done | (gain <= tolerance * cost) | (cost <= floor) | (damping > MAX_DAMPING)
        left = int((~done).sum()) if (iteration + 1) % every == 0 else len(index)
        if left == 0:
            break
        if left < COMPACT_BELOW * len(index):
            _store(final, index, p, cost, normal, done, _on_bound(p, lower, upper))
            keep = (~done).nonzero().squeeze(1)
            index, cost, damping, done, floor = (a[keep] for a in (index, cost, damping, done, floor))
            p, gradient, step, gain = p[:, keep], gradient[:, keep], step[:, keep], gain[keep]
            normal = normal[:, :, keep]
        trial = torch.clamp(p + step, lower, upper)
        new_cost, new_gradient, new_normal = equations(trial, index)
        fall = cost - new_cost
        better = (fall > 0) & ~done
        p = torch.where(better, trial, p)
        cost = torch.where(better, new_cost, cost)
        gradient = torch.where(better, new_gradient, gradient)
        normal = torch.where(better, new_normal, normal)
        # A step that gave little of what it promised runs along a bent valley: less damping would only be taken back.
        kept = torch.where(fall > KEEP_BELOW * gain, LESS_DAMPING, SAME_DAMPING)
        damping = damping * torch.where(better, kept, MORE_DAMPING)
    _store(final, index, p, cost, normal, done, _on_bound(p, lower, upper))
    return final


def _on_bound(p: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Parameters on a bound, whatever the gradient: it vanishes where another parameter takes this one's influence."""
    import torch

    width = upper - lower
    margin = torch.where(torch.isfinite(width), BOUND_MARGIN * width, torch.zeros_like(width))
    return (p <= lower + margin) | (p >= upper - margin)


def _empty_solution(start: torch.Tensor) -> Solution:
    """Arrays for the results of all voxels."""
    import torch

    count, n = start.shape
    return Solution(
        start.clone(),
        torch.empty_like(start[0]),
        torch.empty((count, count, n), dtype=start.dtype, device=start.device),
        torch.zeros(n, dtype=torch.bool, device=start.device),
        torch.zeros((count, n), dtype=torch.bool, device=start.device),
    )


def _store(final: Solution, index: torch.Tensor, p: torch.Tensor, cost: torch.Tensor, normal: torch.Tensor,
           done: torch.Tensor, at_bound: torch.Tensor) -> None:  # fmt: skip
    """Write the state of the voxels at work into the results."""
    final.parameters[:, index] = p
    final.sum_of_squares[index] = cost
    final.normal[:, :, index] = normal
    final.converged[index] = done
    final.at_bound[:, index] = at_bound


def _step(
    normal: torch.Tensor, gradient: torch.Tensor, held: torch.Tensor, damping: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Damped step (P, n) with held parameters fixed, and the fall of the sum of squares it promises (n,)."""
    import torch

    free = (~held).to(normal.dtype)
    free_gradient = gradient * free
    diagonal = torch.diagonal(normal).T.clone()
    # A parameter without any influence gets a unit of its own, so that its step is zero and not NaN.
    largest = diagonal.max(dim=0).values.clamp_min(torch.finfo(normal.dtype).tiny)
    # Nothing but zero counts as that: parameters have units, so a small number may be a strong influence.
    diagonal = torch.where(diagonal <= 0, largest, diagonal)
    factor = cholesky(normal, diagonal * (1.0 + damping), free)
    step = cholesky_solve(factor, free_gradient[:, None])[:, 0] * free
    gain = (step * (free_gradient + damping * diagonal * step)).sum(0)
    return step, gain


def cholesky(normal: torch.Tensor, diagonal: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Lower factors of (P, P, n) matrices with another diagonal; rows that are not free become those of the identity.

    Written out over P instead of using a batched library routine, which calls LAPACK once per voxel and costs ten
    times as much for matrices of this size. What stands above the diagonal of the result means nothing.
    """
    import torch

    smallest = 1e-13 if normal.dtype == torch.float64 else 1e-6
    pivots = diagonal * free + (1.0 - free)
    least = smallest * pivots
    factor = normal * free[:, None] * free
    torch.diagonal(factor).T.copy_(pivots)
    for i in range(len(diagonal)):
        root = torch.maximum(factor[i, i], least[i]).sqrt_()
        factor[i, i] = root
        column = factor[i + 1 :, i].div_(root)
        factor[i + 1 :, i + 1 :].addcmul_(column[:, None], column, value=-1.0)
    return factor


def cholesky_solve(factor: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve for right-hand sides (P, sides, n) with the factors of ``cholesky``."""
    x = right.clone()
    count = len(x)
    for i in range(count):
        x[i].div_(factor[i, i])
        x[i + 1 :].addcmul_(factor[i + 1 :, i, None], x[i], value=-1.0)
    for i in reversed(range(count)):
        x[i].div_(factor[i, i])
        x[:i].addcmul_(factor[i, :i, None], x[i], value=-1.0)
    return x
