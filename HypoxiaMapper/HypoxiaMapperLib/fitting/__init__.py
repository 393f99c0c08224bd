"""Batched voxel-wise least squares: every kinetic and MRI model is fitted by this engine.

``fit(model, data)`` gives maps, standard errors and a quality code per voxel; ``fit_chunks`` the same piece by piece.
"""

from __future__ import annotations

from .codes import NO_VALUES, FitCode
from .device import FitOptions
from .engine import Chunk, fit, fit_chunks
from .model import FunctionModel, Model, Parameter, SeparableModel
from .result import FitResult, choose_model

__all__ = [
    "NO_VALUES", "Chunk", "FitCode", "FitOptions", "FitResult", "FunctionModel", "Model", "Parameter",
    "SeparableModel", "choose_model", "fit", "fit_chunks",
]  # fmt: skip
