"""How images lie on the planning image, and what the report says of it; the map: ``HypoxiaMapperLib.mapping``."""

from __future__ import annotations

from dataclasses import dataclass

from HypoxiaMapperLib.mapping import Placement, compute_map

from .result import RegistrationUse

__all__ = ["Alignment", "compute_map"]


@dataclass(frozen=True)
class Alignment(Placement):
    """A placement, and what the report says of it."""

    use: RegistrationUse
