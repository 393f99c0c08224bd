"""Model pO2 from tracer uptake: a formula, not a measurement, and not unique."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import RequestError
from ..kinetics.model_po2 import (
    BOWEN_FORMS,
    TOMA_DASU_A,
    TOMA_DASU_B,
    TOMA_DASU_C_MMHG,
    bowen,
    hypoxic_proportions,
    toma_dasu,
)
from ..tracers import HYPOXIA_TRACERS
from ..volume import Region, Volume, require_same_grid
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._maps import arithmetic_code, missing_note
from ._reference import reference_uptake
from ._voxelwise import NO_THRESHOLD, NO_THRESHOLD_WARNING

MODEL_NOTE = (
    "Model pO2, not measured: uptake to pO2 is not unique; uptake peaks near 5 mmHg and falls in necrosis, which then "
    "looks oxygenated (Warren and Partridge 2016)."
)


@dataclass(frozen=True)
class ModelPo2Params:
    """Parameters of ``model_po2``."""

    form: str = parameter(
        "toma_dasu", label="Model", choices=("toma_dasu", *(f"bowen_{f}" for f in BOWEN_FORMS)),
        source="Toma-Dasu 2009; Bowen (PMC2858011) needs coefficients that are not built in",
    )  # fmt: skip
    a: float = parameter(
        TOMA_DASU_A, label="A", minimum=0.1, maximum=100.0, source="METHODS 3, not confirmed: check before use"
    )
    b: float = parameter(
        TOMA_DASU_B, label="B", minimum=0.1, maximum=100.0, source="METHODS 3, not confirmed: check before use"
    )
    minimum_reference_ml: float = parameter(
        0.5, label="Smallest reference region", unit="ml", minimum=0.0, maximum=100.0,
        source="as of tracer_ratio: fewer voxels make a noisy mean",
    )  # fmt: skip
    c_mmhg: float = parameter(
        TOMA_DASU_C_MMHG, label="C", unit="mm[Hg]", minimum=0.1, maximum=50.0,
        source="METHODS 3, not confirmed: check before use",
    )  # fmt: skip


class ModelPo2(Method):
    """pO2 of U = A - B p / (C + p), U the uptake relative to well-oxygenated tissue."""

    name = "model_po2"
    title = "Model pO2 from the uptake of a hypoxia tracer (not measured pO2)"
    quantity = "model pO2"
    unit = "mm[Hg]"
    citation = "Toma-Dasu et al. 2009, in Warren and Partridge 2016; METHODS 3"
    inputs = (
        InputSpec("uptake", "Ki or ratio", "map of Ki or uptake, in place of the PET", required=False, modality="MR"),
        InputSpec("pet", "SUVbw", "static PET of a hypoxia tracer", tracers=HYPOXIA_TRACERS, required=False),
    )  # fmt: skip
    regions = (
        RegionSpec("reference", "well-oxygenated tissue (blood or muscle): uptake 1"),
        RegionSpec("gtv", "gross tumour volume"),
    )
    surrogate = True
    Params = ModelPo2Params

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: ModelPo2Params,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Model pO2 in mmHg, with HP2.5, HP5 and HP10 of the GTV in the details.

        Parameters
        ----------
        inputs : mapping
            ``pet`` in SUV, or ``uptake`` (a map of Ki or of a ratio), which goes before it.
        regions : mapping
            ``reference`` whose mean is uptake 1, and ``gtv``.

        Raises
        ------
        RequestError
            Bowen's forms, which need coefficients, or impossible constants.
        InputError
            The reference overlaps the GTV, is too small, leaves the image or has no uptake.
        """
        volume: Volume | None = inputs.get("uptake") or inputs.get("pet")
        if volume is None:
            raise RequestError("model_po2 needs an image of uptake.", "Name the input pet or uptake.")
        reference, gtv = regions["reference"], regions["gtv"]
        require_same_grid(volume.image, reference.mask, "uptake and reference region")
        require_same_grid(volume.image, gtv.mask, "uptake and GTV")
        mean = reference_uptake(volume, reference, gtv, "mean", params.minimum_reference_ml)
        uptake = volume.array.astype(float) / mean
        if params.form != "toma_dasu":
            bowen(uptake, params.form.removeprefix("bowen_"))
        pressure = toma_dasu(uptake, params.a, params.b, params.c_mmhg)
        inside = gtv.array
        if not np.isfinite(pressure[inside]).any():
            raise RequestError(
                f"No voxel of {gtv.name} has a model pO2: every uptake is at or below A - B ({params.a - params.b:g}).",
                "Check the reference region.",
            )
        shares = hypoxic_proportions(pressure, inside)
        text = f"model pO2, Toma-Dasu A {params.a:g} B {params.b:g} C {params.c_mmhg:g}, reference {reference.name}"
        progress(1.0, "model pO2 ready")
        return HypoxiaMap(
            volume.with_array(pressure.astype(np.float32), text, quantity=self.quantity, unit=self.unit),
            float("nan"), "<", NO_THRESHOLD, surrogate=True, quality=arithmetic_code(pressure),
            warnings=(MODEL_NOTE, *missing_note(pressure, inside), NO_THRESHOLD_WARNING),
            details={"reference_uptake": mean, "reference_region": reference.name,
                     **{f"HP{limit:g}": share for limit, share in shares.items()}},
        )  # fmt: skip


METHOD = ModelPo2()
