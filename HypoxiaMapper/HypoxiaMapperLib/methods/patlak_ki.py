"""Patlak analysis of dynamic PET: net uptake rate of a trapped tracer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kinetics.graphical import patlak, patlak_points
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress
from ._graphical import GraphicalParams, Line, line_map
from ._pet_input import ARTERY, GTV, PET_SERIES

PATLAK = Line(
    "Patlak", patlak, patlak_points, {"Ki": ("Ki", "mL/min/mL"), "V0": ("Patlak V0", "mL/mL")},
    "stretched time (min)", "Ct/Cp (mL/mL)", "gtv_mean_ki_ml_per_min_per_ml",
)  # fmt: skip


class PatlakKi(Method):
    """Slope of Ct/Cp over the stretched time int(Cp)/Cp."""

    name = "patlak_ki"
    title = "Patlak net uptake rate Ki (dynamic PET, trapped tracer)"
    quantity = "Ki"
    unit = "mL/min/mL"
    citation = "Patlak et al. 1983, 10.1038/jcbfm.1983.1"
    inputs = (PET_SERIES,)
    regions = (GTV, ARTERY)
    Params = GraphicalParams

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: GraphicalParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Ki with V0 and their standard errors; inputs, regions and errors as ``line_map``."""
        return line_map(PATLAK, inputs, regions, params, progress)


METHOD = PatlakKi()
