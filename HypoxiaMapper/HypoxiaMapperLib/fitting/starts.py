"""Where a separable fit starts: the best non-negative combination of curves on a coarse grid of thetas."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .compress import CompressedModel

if TYPE_CHECKING:
    import torch

CPU_BLOCK = 1024
"""Voxels searched at once on a CPU: weights of all candidates then stay in its cache."""
GPU_BLOCK = 2**16
"""Voxels searched at once on a GPU: the weights of all candidates are many times what else a voxel needs."""


@dataclass(frozen=True)
class StartSearch:
    """Candidates common to all voxels: sets of curves, with the matrix that gives their best weights.

    Parameters
    ----------
    atoms : torch.Tensor
        All curves, fixed ones first, in the compressed space: (A, R).
    groups : tuple
        For each number s of curves per candidate: members (C, s) as indices of atoms, solver (C * s, R), the
        places of the members among the weights of the mixture (C, s), and the thetas (C, members of the family).
    """

    table: CompressedModel
    atoms: torch.Tensor
    groups: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], ...]

    def best(self, z: torch.Tensor) -> torch.Tensor:
        """Start parameters (P, n) for compressed data (R, n), not yet inside the bounds."""
        import torch

        block = CPU_BLOCK if z.device.type == "cpu" else GPU_BLOCK
        return torch.cat([self._best(part) for part in z.split(block, dim=1)], dim=1)

    def _best(self, z: torch.Tensor) -> torch.Tensor:
        """``best`` for a block of voxels."""
        import torch

        m, k = self.table.fixed.shape[0], self.table.model.n_members
        n = z.shape[1]
        overlap = self.atoms @ z
        best_gain = torch.full((n,), -1.0, dtype=z.dtype, device=z.device)
        weights = torch.zeros((m + k, n), dtype=z.dtype, device=z.device)
        theta = self.groups[0][3][0][:, None].expand(k, n).clone()
        for members, solver, slots, thetas in self.groups:
            count, size = members.shape
            c = (solver @ z).reshape(count, size, n)
            gain = (c * overlap[members.reshape(-1)].reshape(count, size, n)).sum(1)
            gain = torch.where((c >= 0).all(1), gain, torch.full_like(gain, -1.0))
            top, which = gain.max(0)
            chosen = torch.gather(c, 0, which.expand(1, size, n)).squeeze(0)
            better = top > best_gain
            best_gain = torch.where(better, top, best_gain)
            fresh = torch.zeros_like(weights).scatter_(0, slots[which].T, chosen)
            weights = torch.where(better, fresh, weights)
            theta = torch.where(better, thetas[which].T, theta)
        return self.table.model.parameters_of(weights, theta)


def start_search(table: CompressedModel) -> StartSearch:
    """Build the candidates of a model: every subset of its curves, at every combination of grid thetas."""
    import torch

    model = table.model
    m, k = table.fixed.shape[0], model.n_members
    device, dtype = table.fixed.device, table.fixed.dtype
    grids = [torch.as_tensor(g, dtype=dtype, device=device) for g in model.start_grids]
    curves = [table.family(g[None])[0, :, 0].T for g in grids]
    atoms = torch.cat([table.fixed, *curves])
    offsets = np.cumsum([m, *(len(g) for g in grids)])[:-1]
    combos = [c for c in itertools.product(*(range(len(g)) for g in grids)) if _descending(model.start_grids, c)]
    matrix = atoms.cpu().double().numpy()
    groups = []
    for size in range(1, m + k + 1):
        found: dict[tuple[int, ...], tuple[tuple[int, ...], list[float]]] = {}
        for combo in combos:
            all_atoms = [*range(m), *(int(offsets[i] + combo[i]) for i in range(k))]
            values = [float(model.start_grids[i][combo[i]]) for i in range(k)]
            for slots in itertools.combinations(range(m + k), size):
                found.setdefault(tuple(all_atoms[s] for s in slots), (slots, values))
        members = np.array(list(found))
        solver = np.linalg.pinv(matrix[members]).transpose(0, 2, 1).reshape(members.size, -1)
        groups.append((
            torch.as_tensor(members, device=device),
            torch.as_tensor(solver, dtype=dtype, device=device),
            torch.as_tensor([slots for slots, _ in found.values()], device=device),
            torch.as_tensor([values for _, values in found.values()], dtype=dtype, device=device),
        ))  # fmt: skip
    return StartSearch(table, atoms, tuple(groups))


def _descending(grids: tuple[np.ndarray, ...], combo: tuple[int, ...]) -> bool:
    """True if the thetas of a combination fall strictly, so that no pair is tried twice or is degenerate."""
    values = [grid[i] for grid, i in zip(grids, combo, strict=True)]
    return all(a > 1.2 * b for a, b in itertools.pairwise(values))
