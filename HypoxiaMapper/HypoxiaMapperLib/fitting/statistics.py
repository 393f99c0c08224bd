"""Standard errors at a solution, and derived parameters with theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .levenberg import Solution, cholesky, cholesky_solve
from .model import Model, value_and_gradients

if TYPE_CHECKING:
    import torch


def standard_errors(model: Model, solution: Solution, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fitted and derived values, and their standard errors.

    Covariance s^2 (J'J)^-1 over the parameters that are not held on a bound, s^2 = SS / (frames - parameters); a
    derived quantity g(p) has the variance grad g' Cov grad g.

    Returns
    -------
    values, errors : torch.Tensor
        Shape (fitted + derived, n). An error is NaN on a bound and infinite where the data leave it undetermined.
    """
    import torch

    p, free = solution.parameters, (~solution.at_bound).to(solution.normal.dtype)
    count = len(p)
    free_frames = n_frames - count  # none where the solution is exact: the errors then are unknown
    variance = solution.sum_of_squares / (free_frames if free_frames > 0 else torch.nan)
    diagonal = torch.diagonal(solution.normal).T
    # Unit diagonal: parameters differ by orders of magnitude, their correlations do not.
    scale = torch.rsqrt(torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)))
    correlation = solution.normal * scale[:, None] * scale[None]
    factor = cholesky(correlation, torch.ones_like(diagonal), free)
    rows, gradients = [p], [torch.eye(count, dtype=p.dtype, device=p.device)[:, :, None].expand(-1, -1, p.shape[1])]
    derived = _derived(model, p)
    if derived is not None:
        rows.append(derived[0])
        gradients.append(derived[1])
    sides = (torch.cat(gradients) * scale * free).transpose(0, 1)
    spread = torch.sqrt(variance * (sides * cholesky_solve(factor, sides)).sum(0))
    undetermined = (diagonal <= 0) & (free > 0)
    spread[:count] = torch.where(undetermined, torch.full_like(p, torch.inf), spread[:count])
    spread[:count] = torch.where(free > 0, spread[:count], torch.full_like(p, torch.nan))
    return torch.cat(rows), spread


def _derived(model: Model, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Derived quantities (D, n) and their gradients (D, P, n)."""
    import torch

    if not model.derived_parameters:
        return None

    def rows(q: torch.Tensor) -> torch.Tensor:
        named = model.derived(q)
        return torch.stack([named[d.name] for d in model.derived_parameters])

    return value_and_gradients(rows, p)
