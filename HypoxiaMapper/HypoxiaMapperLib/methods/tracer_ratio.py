"""Hypoxia tracer uptake over a reference tissue: the measured map every other map is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import RequestError
from ..tracers import (
    HYPOXIA_TRACERS,
    POINT_TOLERANCE_MIN,
    TRACER_PROTOCOLS,
    TracerProtocol,
    get_tracer_protocol,
    protocols_of,
)
from ..volume import Region, Volume, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._reference import reference_doubts, reference_kind, reference_uptake


@dataclass(frozen=True)
class TracerRatioParams:
    """Parameters of ``tracer_ratio``."""

    tracer_protocol: str = parameter(
        "",
        label="Tracer protocol",
        choices=("", *(p.name for p in TRACER_PROTOCOLS)),
        source="empty: the first published protocol of the tracer and reference tissue",
    )
    reference_kind: str = parameter(
        "",
        label="Reference tissue",
        choices=("", "blood", "muscle"),
        source="empty: read from the name of the reference region",
    )
    statistic: str = parameter(
        "mean",
        label="Reference statistic",
        choices=("mean", "median"),
        source="published ratios divide by the mean of the reference region",
    )
    minimum_reference_ml: float = parameter(
        0.5,
        label="Smallest reference region",
        unit="ml",
        minimum=0.0,
        maximum=100.0,
        source="about eight 4 mm PET voxels; a choice of this software against noise and partial volume",
    )


class TracerRatio(Method):
    """SUV divided by the mean SUV of blood or muscle."""

    name = "tracer_ratio"
    title = "Hypoxia tracer uptake ratio (target to blood or muscle)"
    quantity = "Tracer uptake ratio"
    unit = "{ratio}"
    citation = "Thresholds per tracer protocol: " + "; ".join(f"{p.name}: {p.citation}" for p in TRACER_PROTOCOLS)
    inputs = (InputSpec("pet", "SUVbw", "static PET of a hypoxia tracer", tracers=HYPOXIA_TRACERS),)
    regions = (
        RegionSpec("reference", "blood (vessel at least 1 cm wide) or muscle, outside any tumour"),
        RegionSpec("gtv", "gross tumour volume; the reference must not overlap it", only_checked=True),
    )
    Params = TracerRatioParams

    def compute(
        self,
        inputs: Mapping[str, Volume],
        regions: Mapping[str, Region],
        params: TracerRatioParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Ratio map on the grid of the PET.

        Parameters
        ----------
        inputs : mapping
            ``pet``: SUVbw in g/ml, any grid shared with the regions; ``facts["tracer"]`` and
            ``facts["minutes_after_injection"]`` are checked against the protocol.
        regions : mapping
            ``reference`` and ``gtv`` on the same grid.

        Raises
        ------
        RequestError
            Tracer, reference tissue and protocol do not belong together.
        InputError
            Reference region overlapping the tumour, too small, outside the PET or without uptake.
        """
        pet, reference, gtv = inputs["pet"], regions["reference"], regions["gtv"]
        require_same_grid(pet.image, reference.mask, "PET and reference region")
        require_same_grid(pet.image, gtv.mask, "PET and GTV")
        tracer = str(pet.facts.get("tracer", "unknown"))
        protocol = _choose_protocol(tracer, reference_kind(reference, params.reference_kind), params)
        uptake = reference_uptake(pet, reference, gtv, params.statistic, params.minimum_reference_ml)
        progress(0.5, f"reference {params.statistic} {uptake:.3f} g/ml")
        ratio = pet.array.astype(np.float32) / np.float32(uptake)
        volume = pet.with_array(
            ratio,
            f"divided by the {params.statistic} of {reference.name} ({uptake:.4f} g/ml)",
            quantity=f"{tracer} uptake ratio to {protocol.reference}",
            unit=self.unit,
        )
        progress(1.0, "ratio map ready")
        return HypoxiaMap(
            volume,
            protocol.threshold,
            protocol.comparison,
            f"tracer protocol {protocol.name} ({protocol.citation})",
            warnings=(*reference_doubts(reference, uptake), *_warnings(pet, protocol)),
            details={
                "tracer": tracer,
                "tracer_protocol": protocol.name,
                "reference_tissue": protocol.reference,
                "reference_region": reference.name,
                "reference_suv_g_per_ml": uptake,
                "reference_volume_ml": reference.volume_ml,
            },
        )


def _choose_protocol(tracer: str, kind: str, params: TracerRatioParams) -> TracerProtocol:
    """The requested protocol, or the first one of this tracer and reference tissue; mismatches are refused."""
    if params.tracer_protocol:
        protocol = get_tracer_protocol(params.tracer_protocol)
        if protocol.tracer != tracer or protocol.reference != kind:
            raise RequestError(
                f"Protocol {protocol.name} is for {protocol.tracer} over {protocol.reference}; "
                f"the scan is {tracer} over {kind}.",
                "Choose the protocol, PET and reference region that belong together.",
            )
        return protocol
    published = protocols_of(tracer)
    for protocol in published:
        if protocol.reference == kind:
            return protocol
    known = ", ".join(p.name for p in published) or "none"
    raise RequestError(
        f"No published threshold for {tracer} over {kind}.", f"Protocols of this tracer: {known}; use their reference."
    )


def _warnings(pet: Volume, protocol: TracerProtocol) -> tuple[str, ...]:
    """What a physicist must know about tracer, time and low uptake."""
    warnings = []
    minutes: Any = pet.facts.get("minutes_after_injection")
    if minutes is None:
        warnings.append(
            f"Time from injection to scan is unknown; {protocol.name} asks for {protocol.windows_text()}. "
            "The threshold may not apply."
        )
    elif not protocol.in_window(float(minutes)):
        warnings.append(
            f"Scan started {float(minutes):.0f} min after injection; {protocol.name} asks for "
            f"{protocol.windows_text()} (single published times taken as +-{POINT_TOLERANCE_MIN:g} min). "
            "The threshold may not apply."
        )
    warnings.append("Low uptake inside the tumour can be necrosis; it does not prove oxygenation.")
    return tuple(warnings)


METHOD = TracerRatio()
