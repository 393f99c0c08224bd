"""Logan analysis of dynamic PET: distribution volume of a reversibly bound tracer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kinetics.graphical import logan, logan_points
from ..volume import Region
from ._base import HypoxiaMap, Method, Progress, no_progress
from ._graphical import GraphicalParams, Line, line_map
from ._pet_input import ARTERY, GTV, PET_SERIES

BIAS_NOTE = (
    "Noise biases the Logan VT of single voxels low (Slifstein and Laruelle 2000). Its standard error is too small, as "
    "the same noise stands on both axes of the plot; the method two_tissue gives VT with its full error."
)
LOGAN = Line(
    "Logan", logan, logan_points, {"VT": ("VT", "mL/mL"), "intercept": ("Logan intercept", "min")},
    "int Cp / Ct (min)", "int Ct / Ct (min)", "gtv_mean_vt_ml_per_ml",
)  # fmt: skip


class LoganVt(Method):
    """Slope of int(Ct)/Ct over int(Cp)/Ct."""

    name = "logan_vt"
    title = "Logan distribution volume VT (dynamic PET, reversible tracer)"
    quantity = "VT"
    unit = "mL/mL"
    citation = "Logan et al. 1990, 10.1038/jcbfm.1990.127; HX4 ratio against VT: METHODS 2"
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
        """VT with its standard error; inputs, regions and errors as ``line_map``."""
        return line_map(LOGAN, inputs, regions, params, progress, (BIAS_NOTE,))


METHOD = LoganVt()
