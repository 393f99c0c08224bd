"""The one way a model meets a series: check, cut in chunks, fit, and put the maps together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, RequestError
from . import equations, levenberg
from .codes import FitCode
from .compress import compress
from .device import Backend, FitOptions, choose_backend, chunk_size, in_order
from .model import FunctionModel, Model, SeparableModel, require_frames
from .result import FitResult, information_criteria
from .starts import start_search
from .statistics import standard_errors

if TYPE_CHECKING:
    import torch

Progress = Callable[[float, str], None]
"""Called with the fraction done (0..1) and a line of text; may raise to cancel."""
RATE_MARGIN = 0.999
"""A rate this close to the end of the table has run against it: beyond it curves no longer change."""


@dataclass(frozen=True)
class Problem:
    """A model made ready on a device: how to start, and its normal equations."""

    model: Model
    solve: Callable[[torch.Tensor, torch.Tensor | None, int], levenberg.Solution]


class Selected:
    """Arrays of which the voxels at work are wanted, copied only when these have become fewer."""

    def __init__(self, *arrays: torch.Tensor | None) -> None:
        self.arrays = self.chosen = arrays
        self.index: torch.Tensor | None = None

    def voxels(self, index: torch.Tensor) -> tuple:
        """Every array at these voxels of its last axis."""
        if index is not self.index:
            whole = self.arrays[0] is not None and len(index) == self.arrays[0].shape[-1]
            self.chosen = self.arrays if whole else tuple(a if a is None else a[..., index] for a in self.arrays)
            self.index = index
        return self.chosen


@dataclass(frozen=True)
class Chunk:
    """Fit of the voxels ``first`` to ``last`` of the flattened series; rows are fitted, then derived parameters."""

    first: int
    last: int
    values: np.ndarray
    errors: np.ndarray
    code: np.ndarray
    sum_of_squares: np.ndarray


def no_progress(fraction: float, text: str) -> None:
    """A progress sink that does nothing."""


def fit(
    model: Model,
    data: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    preset: np.ndarray | None = None,
    extra: Sequence[np.ndarray] = (),
    weights: np.ndarray | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008
    progress: Progress = no_progress,
) -> FitResult:
    """Fit a model to every voxel of a series.

    Parameters
    ----------
    model : Model
        The model, made for the frames of the data.
    data : numpy.ndarray
        Shape (frames, ...), any real type; may be a memory map, which is read chunk by chunk.
    mask : numpy.ndarray or None
        Voxels to fit, the spatial shape of the data; None: all.
    preset : numpy.ndarray or None
        ``FitCode`` per voxel decided before the fit (no arrival, impossible T1); voxels that are not 0 are not fitted.
    extra : sequence of numpy.ndarray
        Maps a ``FunctionModel`` needs per voxel (B1 ...), in its order.
    weights : numpy.ndarray or None
        Weight of each frame's squared residual, shape (frames,); None: all equal.
    options : FitOptions
        Device, number type, chunk, iterations.
    progress : Progress
        Told after each chunk; raise in it to cancel.

    Raises
    ------
    RequestError
        Too few frames for the model, shapes or weights that do not fit.
    InputError
        A frame that holds no finite value, or no voxel that can be fitted: never a map of zeros.
    """
    check(model, data, mask, preset, extra, weights)
    skip = preset_codes(mask, preset, data.shape[1:])
    found = fit_checked(model, data, skip, extra=extra, weights=weights, options=options, progress=progress)
    require_fitted(model, found)
    return found


def fit_checked(
    model: Model,
    data: np.ndarray,
    skip: np.ndarray,
    *,
    extra: Sequence[np.ndarray] = (),
    weights: np.ndarray | None = None,
    options: FitOptions,
    progress: Progress,
) -> FitResult:
    """``fit`` of what ``check`` let pass, with a code per voxel (``preset_codes``); it may fit none."""
    names = [*model.parameters, *model.derived_parameters]
    shape, n = data.shape[1:], skip.size
    values = np.full((len(names), n), np.nan, dtype=np.float32 if options.dtype == "float32" else np.float64)
    errors = values.copy()
    code = np.full(n, FitCode.OUTSIDE, dtype=np.uint8)
    squares = np.full(n, np.nan)
    backend = choose_backend(options)
    for chunk in _chunks(model, data, skip, extra, weights, backend, options, progress):
        part = slice(chunk.first, chunk.last)
        values[:, part], errors[:, part] = chunk.values, chunk.errors
        code[part], squares[part] = chunk.code, chunk.sum_of_squares
    aic, bic = information_criteria(squares, data.shape[0], len(model.parameters))
    return FitResult(
        {q.name: row.reshape(shape) for q, row in zip(names, values, strict=True)},
        {q.name: row.reshape(shape) for q, row in zip(names, errors, strict=True)},
        code.reshape(shape), squares.reshape(shape), aic.reshape(shape), bic.reshape(shape),
        {q.name: q.unit for q in names}, backend.name, data.shape[0] - len(model.parameters),
    )  # fmt: skip


def require_fitted(model: Model, found: FitResult) -> None:
    """Refuse a result without any value: never a map of zeros.

    Raises
    ------
    InputError
        With the number of voxels per code.
    """
    if not np.isfinite(found.sum_of_squares).any():
        raise InputError(
            f"{type(model).__name__}: no voxel could be fitted ({found.count()}).", "Check data, mask and units."
        )


def fit_chunks(
    model: Model,
    data: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    preset: np.ndarray | None = None,
    extra: Sequence[np.ndarray] = (),
    weights: np.ndarray | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008
    progress: Progress = no_progress,
) -> Iterator[Chunk]:
    """As ``fit``, but hands out each chunk when it is done: memory holds one chunk, whatever the size of the series."""
    check(model, data, mask, preset, extra, weights)
    skip = preset_codes(mask, preset, data.shape[1:])
    yield from _chunks(model, data, skip, extra, weights, choose_backend(options), options, progress)


def _chunks(model: Model, data: np.ndarray, skip: np.ndarray, extra: Sequence[np.ndarray],
            weights: np.ndarray | None, backend: Backend, options: FitOptions,
            progress: Progress) -> Iterator[Chunk]:  # fmt: skip
    """Chunks of checked data."""
    n = skip.size
    flat = data.reshape(data.shape[0], n)
    problem = prepare(model, _normalised_weights(weights, data.shape[0]), backend, options)
    maps = [np.asarray(e).reshape(n) for e in extra]
    size = chunk_size(backend, options, data.shape[0], len(model.parameters))

    def work(first: int) -> Chunk:
        return _fit_chunk(problem, flat, maps, skip, first, min(first + size, n), backend, options)

    for chunk in in_order(work, range(0, n, size), backend):
        yield chunk
        progress(chunk.last / n, f"{type(model).__name__}: {chunk.last} of {n} voxels")


def prepare(model: Model, weight: np.ndarray, backend: Backend, options: FitOptions) -> Problem:
    """Make a model ready: compress a separable one, bind bounds and tolerances."""
    import torch

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a).to(backend.device, backend.dtype)

    low, high = (tensor(limit)[:, None] for limit in model.limits())
    tolerance = max(options.tolerance, 1e-5 if backend.dtype == torch.float32 else 0.0)

    def run(start: torch.Tensor, floor: torch.Tensor, problem: levenberg.NormalEquations,
            limit: int) -> levenberg.Solution:  # fmt: skip
        # A start on a bound can lie where the model does not depend on some parameter: begin a little inside.
        inset = torch.where(torch.isfinite(high - low), 1e-3 * (high - low), torch.zeros_like(low))
        start = torch.clamp(torch.nan_to_num(start), low + inset, high - inset)
        return levenberg.solve(problem, start, low, high, floor, limit, tolerance)

    if isinstance(model, SeparableModel):
        table = compress(model, weight, backend)
        search = start_search(table)

        def solve_separable(y: torch.Tensor, extra: torch.Tensor | None, limit: int) -> levenberg.Solution:
            z, outside = table.project(y)
            selected = Selected(z, outside)
            return run(search.best(z), z.square().sum(0) * table.error**2,
                       lambda p, i: equations.separable_equations(table, p, *selected.voxels(i)), limit)  # fmt: skip

        return Problem(model, solve_separable)
    if not isinstance(model, FunctionModel):
        raise RequestError(f"{type(model).__name__} is no model.", "Derive it from SeparableModel or FunctionModel.")
    root = tensor(np.sqrt(weight)[:, None])
    rounding = 100 * torch.finfo(backend.dtype).eps ** 2

    def solve_function(y: torch.Tensor, extra: torch.Tensor | None, limit: int) -> levenberg.Solution:
        target = y * root
        model.places(y)  # before differentiation wraps what is created in it
        selected = Selected(target, extra)
        return run(model.start(y, extra), target.square().sum(0) * rounding,
                   lambda p, i: equations.function_equations(model, root, p, *selected.voxels(i)), limit)  # fmt: skip

    return Problem(model, solve_function)


def _fit_chunk(problem: Problem, flat: np.ndarray, maps: list[np.ndarray], skip: np.ndarray, first: int, last: int,
               backend: Backend, options: FitOptions) -> Chunk:  # fmt: skip
    """Read, sort out, fit and hand back one chunk."""
    import torch

    code = skip[first:last].copy()
    block = np.asarray(flat[:, first:last])
    wanted = np.flatnonzero(code == FitCode.OK)
    y = torch.as_tensor(np.ascontiguousarray(block if len(wanted) == last - first else block[:, wanted])).to(
        backend.device, backend.dtype)  # fmt: skip
    extra = None
    if maps:
        rows = np.stack([m[first:last][wanted] for m in maps]).astype(float)
        extra = torch.as_tensor(rows).to(backend.device, backend.dtype)
    bad, flat_curve = _faults(y, extra)
    code[wanted[bad.cpu().numpy()]] = FitCode.INVALID
    code[wanted[flat_curve.cpu().numpy()]] = FitCode.FLAT
    usable = ~(bad | flat_curve)
    if not bool(usable.all()):
        y = y[:, usable]
        extra = None if extra is None else extra[:, usable]
        wanted = wanted[usable.cpu().numpy()]
    model = problem.model
    count = len(model.parameters) + len(model.derived_parameters)
    values = np.full((count, last - first), np.nan)
    errors, squares = values.copy(), np.full(last - first, np.nan)
    if len(wanted):
        solution = problem.solve(y, extra, options.max_iterations)
        found, spread = standard_errors(model, solution, y.shape[0])
        values[:, wanted], errors[:, wanted] = found.cpu().numpy(), spread.cpu().numpy()
        squares[wanted] = solution.sum_of_squares.cpu().numpy()
        code[wanted] = _codes(model, solution, spread)
    return Chunk(first, last, values, errors, code, squares)


def _faults(y: torch.Tensor, extra: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels with a frame (or a given map) that is not finite, and voxels whose frames are all equal."""
    import torch

    # A sum is finite only if all its terms are, and is far cheaper than looking at each.
    bad = ~torch.isfinite(y.sum(0))
    if extra is not None:
        bad = bad | ~torch.isfinite(extra.sum(0))
    return bad, (y.amax(0) == y.amin(0)) & ~bad


def _codes(model: Model, solution: levenberg.Solution, errors: torch.Tensor) -> np.ndarray:
    """Code per voxel of a solution with its standard errors; a later one in this list goes before an earlier one."""
    import torch

    code = torch.zeros_like(solution.converged, dtype=torch.uint8)
    code[_undetermined(model, solution, errors)] = int(FitCode.UNDETERMINED)
    code[solution.at_bound.any(0)] = int(FitCode.BOUND_HIT)
    code[~solution.converged] = int(FitCode.NOT_CONVERGED)
    code[~torch.isfinite(solution.sum_of_squares)] = int(FitCode.INVALID)
    return code.cpu().numpy()


def _undetermined(model: Model, solution: levenberg.Solution, errors: torch.Tensor) -> torch.Tensor:
    """Voxels (n,) with a standard error beyond the parameter's range, or a rate beyond those tabulated."""
    import torch

    low, high = model.limits()
    span = torch.as_tensor(high - low).to(errors.device, errors.dtype)[:, None]
    lost = (errors[: len(span)] > span).any(0) | torch.isinf(errors[: len(span)]).any(0)
    if isinstance(model, SeparableModel):
        rates = model.mixture(solution.parameters)[-model.n_members :]
        lost = lost | (rates >= RATE_MARGIN * model.theta_limits[1]).any(0)
    return lost


def _normalised_weights(weights: np.ndarray | None, n_frames: int) -> np.ndarray:
    """Weights with mean one, so that the residual variance keeps its meaning."""
    weight = np.ones(n_frames) if weights is None else np.asarray(weights, dtype=float)
    return weight / weight.mean()


def preset_codes(mask: np.ndarray | None, preset: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Code of every voxel before the fit, flat: OK where it is to be fitted."""
    n = int(np.prod(shape))
    code = np.zeros(n, np.uint8) if preset is None else np.asarray(preset, np.uint8).reshape(n).copy()
    if mask is not None:
        code[~np.asarray(mask, bool).reshape(n)] = FitCode.OUTSIDE
    return code


def check(model: Model, data: np.ndarray, mask: np.ndarray | None, preset: np.ndarray | None,
          extra: Sequence[np.ndarray], weights: np.ndarray | None) -> None:  # fmt: skip
    """Refuse what cannot give a map."""
    if data.ndim < 2 or data.shape[0] != model.n_frames:
        raise RequestError(
            f"The series has shape {data.shape}, the model {model.n_frames} frames.",
            "Give an array (frames, ...) with the frames the model was made for.",
        )
    require_frames(model, data.shape[0])
    for what, array in (("mask", mask), ("preset codes", preset), *((f"map {i + 1}", e) for i, e in enumerate(extra))):
        if array is not None and np.shape(array) != data.shape[1:]:
            raise RequestError(f"The {what} has shape {np.shape(array)}, the series {data.shape[1:]}.", "Resample it.")
    if weights is not None:
        w = np.asarray(weights, dtype=float)
        if w.shape != (data.shape[0],) or not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
            raise RequestError(f"{w.size} frame weights for {data.shape[0]} frames.", "Give one per frame, >= 0.")
    for k in range(data.shape[0]):
        frame = np.asarray(data[k])
        inside = frame if mask is None else frame[np.asarray(mask, bool)]
        if not np.isfinite(inside).any():
            raise InputError(
                f"Frame {k + 1} of {data.shape[0]} holds no finite value (NaN or infinite throughout).",
                "Leave this frame out of the series and of its times.",
            )
