"""Registry of methods: every file in this folder that defines ``METHOD`` is one. Nothing to register by hand."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ..errors import RequestError
from ._base import FitCurve, HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._model_use import Baseline, Finding, ModelUse

__all__ = [
    "Baseline", "Finding", "FitCurve", "HypoxiaMap", "InputSpec", "Method", "ModelUse", "Progress", "RegionSpec",
    "all_methods", "get_method", "no_progress", "parameter",
]  # fmt: skip


@cache
def all_methods() -> dict[str, Method]:
    """Every method by name, sorted. Unavailable ones are listed too (see ``unavailable_reason``)."""
    found: dict[str, Method] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue
        method = importlib.import_module(f"{__name__}.{info.name}").METHOD
        found[method.name] = method
    return dict(sorted(found.items()))


def get_method(name: str) -> Method:
    """The method of that name.

    Raises
    ------
    RequestError
        If there is none (the valid names are listed) or its packages are missing.
    """
    methods = all_methods()
    if name not in methods:
        raise RequestError(f"There is no method {name!r}.", f"Valid methods: {', '.join(methods)}.")
    reason = methods[name].unavailable_reason()
    if reason:
        raise RequestError(f"Method {name} is unavailable: {reason}.", "Install it or choose another method.")
    return methods[name]
