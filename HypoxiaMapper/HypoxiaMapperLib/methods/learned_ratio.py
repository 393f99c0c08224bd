"""Hypoxia tracer ratio predicted by a trained network from whatever images there are. Never a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RequestError
from ..inference.bundle import NOT_SHIPPED, Bundle, load_bundle, shipped_bundle
from ..inference.channels import CHANNELS, KEYS
from ..inference.device import DEVICES
from ..volume import Region, Volume, voxel_volume_ml
from ._base import HypoxiaMap, InputSpec, Method, Progress, RegionSpec, no_progress, parameter
from ._learned import (
    ADC_UNITS,
    KTRANS_UNITS,
    R2STAR_UNITS,
    Crop,
    Reference,
    baselines_of,
    crop_around,
    known_only,
    network_images,
    on_grid,
)
from ._model_use import Finding, ModelUse

if TYPE_CHECKING:
    from ..inference.ensemble import Ensemble, Prediction
    from ..inference.prepare import Prepared

LABEL = "synthetic-trained, not clinically validated"
EXPLANATIONS = ("none", "integrated gradients", "occlusion", "both")
_TITLES = {channel.key: channel.title for channel in CHANNELS}


@dataclass(frozen=True)
class LearnedRatioParams:
    """Parameters of ``learned_ratio``."""

    bundle: str = parameter("", label="Model bundle (folder)", source="empty: the bundle that comes with this software")
    flips: bool = parameter(
        True, label="Mirror images", source="mean over the eight mirror images; without them 8 times faster"
    )
    device: str = parameter(
        "auto", label="Device", choices=DEVICES, source="auto: CUDA, then Apple's MPS, then CPU; the map is the same"
    )
    explain: str = parameter(
        "none", label="Explanation", choices=EXPLANATIONS,
        source="integrated gradients per image, and what changes when an image is left out",
    )  # fmt: skip
    band_seed: int = parameter(
        0, label="Seed of the volume band", minimum=0, maximum=2**31 - 1, source="the same seed, the same band"
    )
    reference_kind: str = parameter(
        "", label="Reference tissue", choices=("", "blood"),
        source="empty: read from the name of the reference region; the network was trained on ratios to blood",
    )  # fmt: skip
    minimum_reference_ml: float = parameter(
        0.5, label="Smallest reference region", unit="ml", minimum=0.0, maximum=100.0, source="as tracer_ratio",
    )  # fmt: skip
    adc_unit: str = parameter(
        "", label="Unit of the ADC map", choices=("", *ADC_UNITS), source="empty: as the map says"
    )
    ktrans_unit: str = parameter(
        "", label="Unit of the Ktrans map", choices=("", *KTRANS_UNITS), source="empty: as the map says"
    )
    r2star_unit: str = parameter(
        "", label="Unit of the R2* map", choices=("", *R2STAR_UNITS), source="empty: as the map says"
    )


class LearnedRatio(Method):
    """Ensemble of networks with its uncertainty, gate, baselines and explanation."""

    name = "learned_ratio"
    title = f"Learned tissue-to-blood ratio, predicted ({LABEL})"
    quantity = "predicted tissue-to-blood ratio"
    unit = "{ratio}"
    citation = (
        "Network and training data: the bundle's model card; threshold 1.2: 10.1016/j.phro.2025.100769; integrated "
        "gradients: arXiv:1703.01365"
    )
    inputs = (
        InputSpec("fdg", "SUVbw", "static FDG PET", tracers=("FDG",), required=False),
        InputSpec("hypoxia_pet", "SUVbw", "static PET of a hypoxia tracer (needs a blood region), or its ratio",
                  tracers=("FMISO", "FAZA", "HX4"), required=False),
        InputSpec("ct", "CT number", "CT", required=False, modality="CT"),
        InputSpec("t1", "T1-weighted signal", "T1-weighted MR", required=False, modality="MR", mr_kinds=("T1",)),
        InputSpec("adc", "ADC", "map of ADC", required=False, modality="MR", mr_kinds=("ADC",)),
        InputSpec("ktrans", "Ktrans", "map of Ktrans", required=False, modality="MR", mr_kinds=("Ktrans",)),
        InputSpec("r2star", "R2*", "map of R2*", required=False, modality="MR", mr_kinds=("R2*",)),
    )  # fmt: skip
    regions = (
        RegionSpec("gtv", "gross tumour volume; the map is predicted inside it"),
        RegionSpec("reference", "blood (vessel at least 1 cm wide); needed with a hypoxia PET in SUV", required=False),
    )
    surrogate = True
    learned = True
    packages = ("torch", "monai", "safetensors")
    Params = LearnedRatioParams

    def compute(
        self,
        inputs: Mapping[str, Volume],
        regions: Mapping[str, Region],
        params: LearnedRatioParams,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Predicted ratio inside the GTV, NaN elsewhere, on the grid of the inputs.

        Parameters
        ----------
        inputs : mapping
            Any of ``channels.KEYS``, at least one of the bundle's ``required_any``, all on one grid.
        regions : mapping
            ``gtv``, and ``reference`` (blood) with a hypoxia PET in SUV.

        Raises
        ------
        RequestError
            No functional image, an unknown unit, a missing reference, an unknown device.
        InputError
            A bundle that is refused, or values no such image can hold.
        GeometryError
            Grids that differ, or an image that does not cover the GTV.
        """
        from ..inference.ensemble import Ensemble
        from ..inference.prepare import prepare

        bundle = load_bundle(params.bundle) if params.bundle else shipped_bundle()
        given = _given(inputs, bundle)
        first = next(iter(given.values()))
        gtv = _in_frame(regions["gtv"], first)
        crop = crop_around(gtv)
        units = {"adc": params.adc_unit, "ktrans": params.ktrans_unit, "r2star": params.r2star_unit}
        reference = Reference(regions.get("reference"), params.reference_kind, params.minimum_reference_ml)
        images, details = network_images(given, gtv, crop, units, reference)
        prepared = prepare(images, crop.region(gtv))
        progress(0.1, "network")
        ensemble = Ensemble(bundle, params.device)
        prediction = ensemble.predict(prepared, params.flips, lambda f, text: progress(0.1 + 0.6 * f, text))
        prediction = known_only(prediction, prepared)
        explained = _explain(ensemble, prepared, params.explain, lambda f, text: progress(0.7 + 0.2 * f, text))
        run = _Run(given, gtv, crop, prepared, ensemble, prediction, explained)
        use = _model_use(run, params.band_seed)
        progress(0.95, "maps")
        return _result(run, use, details)


@dataclass(frozen=True)
class _Explained:
    """Explanation maps on the network's grid and numbers, as far as they were asked for."""

    maps: Mapping[str, np.ndarray]
    occlusion: Mapping[str, float]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class _Run:
    """One computation: what went in and what came out."""

    given: Mapping[str, Volume]
    gtv: Region
    crop: Crop
    prepared: Prepared
    ensemble: Ensemble
    prediction: Prediction
    explained: _Explained


def _given(inputs: Mapping[str, Volume], bundle: Bundle) -> dict[str, Volume]:
    """The images there are, in channel order, when the bundle can work with them."""
    unknown = sorted(set(inputs) - set(KEYS))
    if unknown:
        raise RequestError(f"The network knows no image {', '.join(unknown)}.", f"Valid: {', '.join(KEYS)}.")
    required = bundle.hypoxia["required_any"]
    if not any(key in inputs for key in required):
        raise RequestError(
            f"Model {bundle.name} needs at least one of {', '.join(_TITLES[key] for key in required)}; given: "
            f"{', '.join(_TITLES[key] for key in inputs) or 'no image'}.",
            "Name one: anatomy alone says nothing about hypoxia.",
        )
    return {key: inputs[key] for key in KEYS if key in inputs}


def _in_frame(gtv: Region, image: Volume) -> Region:
    """The GTV with the frame of reference of the grid it shares with the images."""
    if gtv.frame_of_reference_uid:
        return gtv
    return replace(gtv, frame_of_reference_uid=image.frame_of_reference_uid)


def _explain(ensemble: Ensemble, prepared: Prepared, wanted: str, progress: Progress) -> _Explained:
    """Integrated gradients and occlusion, as asked for."""
    from ..inference.explain import integrated_gradients, occlusion

    maps: Mapping[str, np.ndarray] = {}
    details: dict[str, Any] = {}
    changes: Mapping[str, float] = {}
    if wanted in ("integrated gradients", "both"):
        found = integrated_gradients(ensemble, prepared, progress=progress)
        maps = found.maps
        details = {
            "explained_ratio": found.value,
            "explained_baseline_ratio": found.baseline,
            "explanation_completeness_error": found.completeness_error,
        }
    if wanted in ("occlusion", "both"):
        changes = occlusion(ensemble, prepared, progress)
    return _Explained(maps, changes, details)


def _model_use(run: _Run, band_seed: int) -> ModelUse:
    """Everything a reader must know of the model on these images."""
    from ..inference.distribution import check_distribution
    from ..inference.ensemble import hypoxic_ml, volume_band
    from ..inference.prepare import back_to

    bundle, prepared, gtv_ml = run.ensemble.bundle, run.prepared, run.gtv.volume_ml
    hypoxia = bundle.hypoxia
    threshold, comparison = float(hypoxia["threshold"]), str(hypoxia["comparison"])
    region = run.crop.region(run.gtv)
    mean = back_to(run.prediction.mean, prepared.grid, region)
    facts = {key: volume.facts for key, volume in run.given.items()}
    shared = float(hypoxia.get("shared_error", 0.0))
    return ModelUse(
        name=bundle.name,
        title=str(hypoxia["title"]),
        version=bundle.version,
        label=bundle.label,
        training_data=str(hypoxia["training_data"]),
        intended_use=str(hypoxia["intended_use"]),
        licence=str(hypoxia["licence"]),
        weights_sha256=bundle.sha256,
        device=run.ensemble.runner.text,
        images_used=prepared.present,
        images_missing=tuple(key for key in KEYS if key not in prepared.present),
        hypoxic_volume_ml=hypoxic_ml(mean, region.array, threshold, comparison, voxel_volume_ml(region.mask)),
        hypoxic_volume_band_ml=volume_band(
            run.prediction, prepared.gtv, threshold, comparison, gtv_ml, band_seed, shared
        ),
        distribution=check_distribution(run.ensemble, prepared, facts, gtv_ml),
        baselines=baselines_of(bundle, prepared, run.prediction, region),
        occlusion=run.explained.occlusion,
        metadata_sha256=bundle.metadata_sha256,
        threshold_text=f"{comparison} {threshold:g}",
        origin=bundle.origin,
    )


def _result(run: _Run, use: ModelUse, details: Mapping[str, Any]) -> HypoxiaMap:
    """Maps on the whole grid with their texts."""
    first, prepared, prediction, hypoxia = (
        next(iter(run.given.values())), run.prepared, run.prediction, run.ensemble.bundle.hypoxia
    )  # fmt: skip
    operation = f"predicted by {use.name} {use.version} ({use.label}; {use.identity}) from {', '.join(use.images_used)}"
    quantity = str(hypoxia["quantity"])
    quantity = quantity if quantity.startswith("predicted") else f"predicted {quantity}"

    def volume(values: np.ndarray, name: str, everywhere: bool = False) -> Volume:
        array = on_grid(values, prepared, run.crop, run.gtv, everywhere)
        return first.with_array(array, operation, quantity=name, unit=str(hypoxia["unit"]))

    extra = {
        "aleatoric sd": volume(prediction.aleatoric_sd, f"{quantity}: aleatoric standard deviation"),
        "epistemic sd": volume(prediction.epistemic_sd, f"{quantity}: epistemic standard deviation"),
    }
    for key, found in run.explained.maps.items():
        name = f"contribution of {_TITLES[key]} to the mean ratio of the GTV, per 3 mm voxel"
        extra[f"explanation {key}"] = volume(found, name, everywhere=True)
    return HypoxiaMap(
        volume(prediction.mean, quantity),
        float(hypoxia["threshold"]),
        str(hypoxia["comparison"]),
        f"model {use.name} {use.version}: ratio it was trained and judged at",
        surrogate=True,
        uncertainty=volume(prediction.sd, f"{quantity}: standard deviation"),
        warnings=_warnings(use),
        details={
            "model": use.name,
            "members": len(prediction.members),
            "gtv_mean_ratio": float(np.nanmean(prediction.mean[prepared.gtv])),
            "gtv_mean_standard_deviation": float(np.nanmean(prediction.sd[prepared.gtv])),
            "network_box_voxels": "x".join(str(n) for n in reversed(prepared.gtv.shape)),
            **details,
            **run.explained.details,
        },
        extra=extra,
        model=use,
    )


def _warnings(use: ModelUse) -> tuple[str, ...]:
    """The label first, then what is missing or unlike the training data."""
    warnings = [f"{use.label}: this map is predicted by a model, not measured hypoxia."]
    if use.images_missing:
        missing = ", ".join(_TITLES[key] for key in use.images_missing)
        warnings.append(f"Predicted without {missing}: the fewer images, the less it knows of this tumour.")
    if NOT_SHIPPED in use.origin:
        warnings.append(f"Model {use.name}: {use.identity}.")
    if ";" in use.device:
        warnings.append(f"Computed on {use.device}.")
    warnings += [_gate_text(finding) for finding in use.distribution if not finding.passed]
    return tuple(warnings)


def _gate_text(finding: Finding) -> str:
    return f"Check against the training not passed: {finding.check}: {finding.value} (allowed: {finding.allowed})."


METHOD = LearnedRatio()
