"""FMISO ratio predicted from FDG by the published MSKCC network, with weights the user brings.

Zhao et al., Phys Imaging Radiat Oncol 2025, doi 10.1016/j.phro.2025.100769: hypoxic volumes above a predicted ratio of
1.2 correlated with measured ones with R = 0.96 in 21 patients and 0.91 in 16 more; globally scaled FDG correlated, too,
so it stands beside every map (METHODS 0.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..inference import user_models
from ..inference.body_site import HEAD_AND_NECK, body_site_finding
from ..inference.device import describe_device
from ..inference.mskcc import (
    FDG_MAX,
    HYPOXIC_ABOVE,
    LARGEST_BOX_MM,
    Network,
    Prediction,
    load_network,
    predict_ratio,
    to_suv_lbm,
)
from ..volume import Region, Volume
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress
from ._model_use import Baseline, Finding, ModelUse
from .fdg_surrogate import FdgSurrogate, FdgSurrogateParams

LABEL = "FDG-derived, not measured; research use only"
TRAINING_DATA = (
    "FDG and dynamic FMISO PET/CT of head and neck carcinoma before chemoradiotherapy, one institution, 2011-2018: 84 "
    "patients for training, 13 for validation; hypoxic volumes of 21 and 16 further patients correlated with FMISO's "
    "with R = 0.96 and 0.91 (doi 10.1016/j.phro.2025.100769)."
)
INTENDED_USE = (
    "Research on FDG PET of head and neck carcinoma before treatment; nothing it gives may enter patient care."
)
VERSION = "repository commit 69c09fb"
THRESHOLD_SOURCE = "predicted FMISO target-to-blood ratio > 1.2, 10.1016/j.phro.2025.100769"
_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class MskccTbrParams:
    """The published processing has nothing to choose."""


class MskccTbr(Method):
    """FMISO target-to-blood ratio predicted from FDG: a surrogate, not a hypoxia measurement."""

    name = "mskcc_tbr"
    title = "MSKCC network: FMISO ratio predicted from FDG (not measured hypoxia)"
    quantity = "predicted FMISO target-to-blood ratio"
    unit = "{ratio}"
    citation = f"{user_models.MSKCC_TBR.citation}; {user_models.MSKCC_TBR.repository}"
    inputs = (InputSpec("pet", "SUVbw", "static FDG PET before treatment", tracers=("FDG",)),)
    regions = (RegionSpec("gtv", "gross tumour volume, primary and nodes; the network sees nothing outside it"),)
    surrogate = True
    learned = True
    packages = ("torch",)
    on_native_grid = True
    Params = MskccTbrParams

    def unavailable_reason(self) -> str:
        """Empty when the user's file is registered and is the published one, and torch is there."""
        reasons = (super().unavailable_reason(), user_models.unavailable_reason(self.name))
        return "; ".join(reason.rstrip(".") for reason in reasons if reason)

    def compute(
        self,
        inputs: Mapping[str, Volume],
        regions: Mapping[str, Region],
        params: MskccTbrParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Predicted ratio in the GTV and one voxel around it, NaN elsewhere.

        Parameters
        ----------
        inputs : mapping
            ``pet``: FDG as SUVbw with the patient's weight, height and sex in its facts, or as SUVlbm; g/ml.
        regions : mapping
            ``gtv`` on the same grid.

        Raises
        ------
        RequestError, InputError
            If the weights are not registered or not the published ones; as ``to_suv_lbm`` and ``predict_ratio``.
        GeometryError
            As ``predict_ratio``.
        """
        progress(0.1, "reading the registered weights")
        return self.compute_with(load_network(), inputs, regions, progress)

    def compute_with(
        self, network: Network, inputs: Mapping[str, Volume], regions: Mapping[str, Region], progress: Progress
    ) -> HypoxiaMap:
        """As ``compute``, with a network at hand."""
        fdg, gtv = to_suv_lbm(inputs["pet"]), regions["gtv"]
        progress(0.4, "predicting slice by slice")
        found = predict_ratio(fdg, gtv, network)
        progress(0.9, "comparing with scaled FDG")
        volume = found.ratio.with_array(
            _with_border(found, gtv.array), "nearest value in one voxel around the GTV, for resampling; NaN beyond"
        )
        model = _model_use(found, fdg, gtv)
        progress(1.0, "predicted map ready")
        return HypoxiaMap(
            volume,
            HYPOXIC_ABOVE,
            ">",
            THRESHOLD_SOURCE,
            surrogate=True,
            warnings=_warnings(found, gtv),
            details={
                "components": found.components, "largest_box_mm": found.largest_box_mm,
                "fdg_suv_lbm_max": found.maximum_suv, "tracer": str(fdg.facts.get("tracer", "unknown")),
            },
            model=model,
        )  # fmt: skip


def _with_border(found: Prediction, gtv: np.ndarray) -> np.ndarray:
    """Ratio with its nearest value in the voxels that touch the GTV: a finer grid's GTV reaches half-way into them."""
    known = found.known
    around = ndimage.binary_dilation(known, _TOUCHING)
    box = ndimage.find_objects(around.astype(np.uint8))[0] if around.any() else (slice(0, 0),) * 3
    result = np.full(known.shape, np.nan, np.float32)
    nearest = ndimage.distance_transform_edt(
        ~known[box], sampling=found.ratio.image.GetSpacing()[::-1], return_distances=False, return_indices=True
    )
    wanted = known[box] | (around[box] & ~gtv[box])
    result[box] = np.where(wanted, found.ratio.array[box][tuple(nearest)], np.nan)
    return result


def _warnings(found: Prediction, gtv: Region) -> tuple[str, ...]:
    """What a physicist must read."""
    notes = [
        f"Predicted from FDG: {LABEL}. The network was shown head and neck carcinoma before treatment only; whether "
        "this is one cannot be seen in the images.",
        "The network states no uncertainty: there is no band of the hypoxic volume.",
    ]
    unknown = int(np.count_nonzero(gtv.array & ~found.known))
    if unknown:
        notes.append(
            f"{unknown} voxels of GTV {gtv.name} have no prediction: in their slices the GTV is too small for the "
            "network's 1.95 mm pixels."
        )
    return tuple(notes)


def _model_use(found: Prediction, fdg: Volume, gtv: Region) -> ModelUse:
    """What the reader is told of the model."""
    import torch

    model = user_models.MSKCC_TBR
    hypoxic = found.known & (found.ratio.array > HYPOXIC_ABOVE)
    return ModelUse(
        name=model.name,
        title=model.title,
        version=VERSION,
        label=LABEL,
        training_data=TRAINING_DATA,
        intended_use=INTENDED_USE,
        licence=f"{model.terms} {model.repository}",
        weights_sha256=(model.sha256,),
        device=describe_device(torch.device("cpu")),
        images_used=("fdg",),
        images_missing=(),
        hypoxic_volume_ml=float(np.count_nonzero(hypoxic) * found.ratio.voxel_volume_ml),
        hypoxic_volume_band_ml=(float("nan"), float("nan")),
        distribution=_findings(found, fdg),
        baselines=(_scaled_fdg(found, fdg, gtv),),
        threshold_text=f"> {HYPOXIC_ABOVE:g}",
        origin="published weights, given by the user and told by their SHA-256",
    )


def _findings(found: Prediction, fdg: Volume) -> tuple[Finding, ...]:
    """The images at hand against those of the training."""
    tracer = str(fdg.facts.get("tracer", "unknown"))
    return (
        Finding("tracer", tracer, "FDG", tracer == "FDG", "fdg-tracer"),
        Finding(
            "FDG SUV by lean body mass, maximum in the GTV", f"{found.maximum_suv:.2f} g/ml",
            f"up to {FDG_MAX:.2f} g/ml; above, it is clipped", found.maximum_suv <= FDG_MAX, "fdg-maximum",
        ),
        Finding(
            "largest side of a part of the GTV in an axial slice", f"{found.largest_box_mm:.1f} mm",
            f"up to {LARGEST_BOX_MM:.1f} mm", 0.0 < found.largest_box_mm <= LARGEST_BOX_MM, "gtv-size",
        ),
        body_site_finding({"FDG PET": fdg.facts}, (HEAD_AND_NECK,)),
        Finding(
            "disease and earlier treatment", "not known: the images do not say it, a person must confirm it",
            "head and neck carcinoma before treatment", False, "treatment",
        ),
    )  # fmt: skip


def _scaled_fdg(found: Prediction, fdg: Volume, gtv: Region) -> Baseline:
    """Globally scaled FDG on the same GTV."""
    scaled = FdgSurrogate().compute({"pet": fdg}, {"gtv": gtv}, FdgSurrogateParams())
    inside = found.known
    a, b = scaled.volume.array[inside].astype(float), found.ratio.array[inside].astype(float)
    constant = a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0
    return Baseline(
        "scaled FDG",
        "FDG as a fraction of its maximum in the GTV; volume at or above 70 % of it (10.1186/s13014-018-1147-2), not "
        "above a ratio",
        float(np.count_nonzero(scaled.volume.array[gtv.array] >= scaled.threshold) * fdg.voxel_volume_ml),
        float("nan") if constant else float(np.corrcoef(a, b)[0, 1]),
    )


METHOD = MskccTbr()
