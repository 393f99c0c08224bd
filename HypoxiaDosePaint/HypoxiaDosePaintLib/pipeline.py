"""The whole street, in order. The only file that knows it; every front end calls ``run``."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

import HypoxiaMapperLib
from HypoxiaMapperLib.dicomio.model import ImageSeries, SeriesInfo
from HypoxiaMapperLib.mapping import compute_map
from HypoxiaMapperLib.methods import HypoxiaMap, Method, Progress, get_method, no_progress
from HypoxiaMapperLib.niftiio import write_nifti
from HypoxiaMapperLib.volume import Region, Volume

from .alignment import TRANSFORM_FILE, find_alignment, leave_out_elsewhere, require_reviewed, write_transform
from .bystanders import bystander_warnings, refuse_tumour_reference
from .dicomrt.export import export_set
from .limits import note_on_distribution, require_model
from .margins import describe_margins
from .output import require_free, staged_output
from .prescription import Prescription, Protocol, ceiling_reasons, doses_changed, get_protocol, make_prescription
from .render import render_pictures
from .report import write_report
from .request import Margins, Request, require_repeatable
from .result import Images, RegistrationUse, Result, SeriesUse
from .seen import PLANNING, request_to_store, require_seen
from .selection import Inputs, gather, union
from .sidecar import result_to_json, write_targets_csv
from .subvolume import Subvolume, find_subvolume, map_histogram, volume_by_threshold
from .targets import Targets, build_targets

SOFTWARE = f"slicer-hypoxia {HypoxiaMapperLib.__version__}"
TRANSIENT_WARNING = (
    "Hypoxia changes during treatment: a baseline subvolume describes the day of the scan. In one FAZA series the "
    "median hypoxic fraction fell from 38 % to 15, 17 and 1.5 % within four weeks."
)  # METHODS section 2
# METHODS 12.18
RESEARCH_WARNING = (
    "Research use only. Boosting hypoxic subvolumes has not been shown to improve outcome, and toxicity is real."
)


@dataclass(frozen=True)
class Computed:
    """A result and what its export still needs."""

    result: Result
    planning: ImageSeries


@dataclass(frozen=True)
class Parts:
    """What the steps of one run produced, on the way into its result."""

    request: Request
    method: Method
    params: Any
    protocol: Protocol
    prescription: Prescription
    inputs: Inputs
    pet: Volume
    registration: RegistrationUse
    hypoxia_map: HypoxiaMap
    subvolume: Subvolume
    targets: Targets
    margins: tuple[Margins, Margins]


def run(
    request: Request,
    progress: Progress = no_progress,
    truth: Callable[[Result], Mapping[str, Any]] | None = None,
) -> Result:
    """Run a request and write its output folder in one piece.

    Parameters
    ----------
    truth : callable, optional
        Compares the result with the known truth of a digital patient; what it returns is stored and shown beside it.

    Raises
    ------
    HypoxiaError
        With a message and a hint; the output folder is then not there.
    """
    out = Path(request.output)
    require_free(out)
    computed = compute(request, lambda f, t: progress(0.6 * f, t))
    require_seen(computed.result)
    result = replace(computed.result, truth=dict(truth(computed.result)) if truth else {})
    result = deliver(result, computed.planning, out, lambda f, t: progress(0.6 + 0.4 * f, t))
    progress(1.0, f"finished: {out}")
    return result


def deliver(result: Result, planning: ImageSeries, out: Path, progress: Progress = no_progress) -> Result:
    """Write a result into a new folder, whole or not at all (see ``write``)."""
    with staged_output(out) as stage:
        return write(result, planning, stage, progress)


def compute(request: Request, progress: Progress = no_progress) -> Computed:
    """Everything up to the result, nothing written."""
    require_reviewed(request)
    require_repeatable(request)
    method = get_method(request.method)
    params = method.make_params(request.method_params)
    prescribe(request, get_protocol(request.protocol))  # refused before the long reading begins
    inputs = gather(request, method, lambda f, t: progress(0.5 * f, t))
    refuse_tumour_reference(inputs)
    gtv = union(inputs.gtvs, "GTV")
    alignment = find_alignment(request, inputs, lambda f, t: progress(0.5 + 0.1 * f, t))
    inputs = leave_out_elsewhere(inputs, alignment, request)
    planning = inputs.planning.volume
    regions = {"gtv": gtv, **inputs.regions} | ({"reference": inputs.reference} if inputs.reference else {})
    progress(0.6, f"computing {method.title}")
    images = {key: found.image for key, found in inputs.images.items()}
    hypoxia_map = compute_map(
        method, params, images, regions, planning, alignment, lambda f, t: progress(0.6 + 0.2 * f, t)
    )
    shown = alignment.bring(inputs.pet.volume, planning)
    return paint(request, inputs, shown, alignment.use, hypoxia_map, progress=lambda f, t: progress(0.8 + 0.2 * f, t))


def paint(
    request: Request,
    inputs: Inputs,
    pet: Volume,
    registration: RegistrationUse,
    hypoxia_map: HypoxiaMap,
    drawn: Region | None = None,
    progress: Progress = no_progress,
) -> Computed:
    """From a map on the planning grid to the result, nothing written.

    Parameters
    ----------
    drawn : Region, optional
        Hypoxic region that a person drew or edited; it then takes the place of the threshold.
    """
    method = get_method(request.method)
    require_model(method, hypoxia_map)
    params = method.make_params(request.method_params)
    protocol = get_protocol(request.protocol)
    prescription = prescribe(request, protocol)
    progress(0.0, "finding the hypoxic subvolume")
    allowed = request.override_for("volume"), request.override_for("coverage")
    subvolume = find_subvolume(hypoxia_map, inputs.gtvs, request.subvolume, *allowed, drawn=drawn)
    progress(0.5, "building targets")
    base_margins, boost_margins = margins(request, protocol)
    reference = inputs.reference if any(r.key == "reference" for r in method.regions) else None
    targets = build_targets(
        inputs.gtvs, subvolume, reference, inputs.organs, request.organ_gap_mm, prescription, base_margins,
        boost_margins, inputs.planning.volume, hypoxia_map.surrogate,
    )  # fmt: skip
    parts = Parts(
        request, method, params, protocol, prescription, inputs, pet, registration, hypoxia_map, subvolume, targets,
        margins=(base_margins, boost_margins),
    )  # fmt: skip
    return Computed(assemble(parts), inputs.planning)


def write(result: Result, planning: ImageSeries, folder: Path, progress: Progress = no_progress) -> Result:
    """Export (if accepted), prove, picture and report a result into a folder; the result with its proof."""
    if result.accepted_by:
        exported = export_set(result, planning, folder, lambda f, t: progress(0.5 * f, t))
        result = replace(
            result, exported=exported.files, proof=exported.proof, proof_reference=exported.reference,
            warnings=(*exported.notes, *result.warnings),
        )  # fmt: skip
    progress(0.5, "rendering pictures")
    pictures = render_pictures(result, folder / "pictures")
    result = replace(result, warnings=(*pictures.warnings, *result.warnings))
    progress(0.9, "writing the report")
    if result.registration.mode.startswith("rigid"):
        write_transform(result.registration, folder / TRANSFORM_FILE)
    (folder / "request.json").write_text(request_to_store(result).to_json() + "\n", encoding="utf-8")
    (folder / "result.json").write_text(result_to_json(result), encoding="utf-8")
    write_targets_csv(result, folder / "targets.csv")
    _write_further_maps(result, folder / "maps")
    write_report(result, pictures, folder / "report.html")
    return result


def _write_further_maps(result: Result, folder: Path) -> None:
    """Uncertainty, other parameters of a fit and their errors as NIfTI with quantity and unit, cut to their values."""
    found = result.images.map
    volumes = {**({"uncertainty": found.uncertainty} if found.uncertainty else {}), **found.extra}
    if volumes:
        folder.mkdir()
    for name, volume in volumes.items():
        write_nifti(_cut_to_values(volume), folder / f"{name.replace(' ', '_')}.nii.gz")


def _cut_to_values(volume: Volume) -> Volume:
    """The part of a volume that holds every defined voxel: a fitted tumour is a hundredth of a planning CT."""
    defined = np.isfinite(volume.array)
    if not defined.any():
        return volume
    spans = [np.flatnonzero(defined.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    first, size = [int(s[0]) for s in spans], [int(s[-1] - s[0] + 1) for s in spans]
    return replace(volume, image=sitk.RegionOfInterest(volume.image, size, first))


def prescribe(request: Request, protocol: Protocol) -> Prescription:
    """The protocol's doses, or the request's own: then it is not the protocol's prescription any more, and says so."""
    found = make_prescription(
        protocol.name,
        protocol.base_dose_gy if request.base_dose_gy is None else request.base_dose_gy,
        protocol.boost_dose_gy if request.boost_dose_gy is None else request.boost_dose_gy,
        protocol.fractions if request.fractions is None else request.fractions,
        request.override_for("dose"),
    )
    return replace(found, protocol=f"{protocol.name}, doses changed") if doses_changed(protocol, found) else found


def margins(request: Request, protocol: Protocol) -> tuple[Margins, Margins]:
    """Base and boost margins: the request's own, else the protocol file's."""
    return (
        request.base_margins or Margins.uniform(protocol.base_margin_mm),
        request.boost_margins or Margins.uniform(protocol.boost_margin_mm),
    )


def assemble(parts: Parts) -> Result:
    """Collect everything a reader must know into one result."""
    inputs, hypoxia_map, subvolume = parts.inputs, parts.hypoxia_map, parts.subvolume
    images = Images(
        inputs.planning.volume, hypoxia_map, inputs.gtvs, inputs.reference, subvolume.region, parts.targets.structures,
        inputs.organs, parts.pet,
    )  # fmt: skip
    return Result(
        software=SOFTWARE,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        request=parts.request,
        patient=_patient(inputs.planning),
        series=_series_used(inputs),
        method=_method_facts(parts.method, parts.params),
        threshold=subvolume.threshold,
        comparison=subvolume.comparison,
        threshold_source=subvolume.threshold_source,
        findings=subvolume.findings,
        hypoxic_volume_ml=subvolume.hypoxic_volume_ml,
        hypoxic_fraction=subvolume.hypoxic_fraction,
        dropped=subvolume.dropped,
        prescription=parts.prescription,
        targets=parts.targets.rows,
        histogram=map_histogram(hypoxia_map, inputs.gtvs),
        volume_by_threshold=volume_by_threshold(hypoxia_map, inputs.gtvs),
        registration=parts.registration,
        warnings=_warnings(parts),
        notes=_protocol_notes(parts),
        details={
            **hypoxia_map.details,
            **parts.targets.details,
            **{f"{key}_margin": describe_margins(m) for key, m in zip(("base", "boost"), parts.margins, strict=True)},
            "map_operations": list(hypoxia_map.volume.operations),
            "curves": [asdict(curve) for curve in hypoxia_map.curves],
            "packages": _package_versions(parts.method.packages),
        },
        images=images,
        accepted_by=parts.request.accepted_by.strip(),
    )


def _warnings(parts: Parts) -> tuple[str, ...]:
    """All warnings, the ones that change a decision first."""
    over = ceiling_reasons(parts.prescription.boost)
    found = [f"Dose ceiling overridden ({'; '.join(over)}) by {parts.prescription.override}."] if over else []
    if doses_changed(parts.protocol, parts.prescription):
        found.append(f"The doses are not those of {parts.protocol.name}, {parts.protocol.doses_text}.")
    found += note_on_distribution(parts.hypoxia_map, parts.request)
    found += parts.registration.warnings
    found += [*parts.hypoxia_map.warnings, *parts.subvolume.warnings, *parts.targets.warnings, *parts.inputs.warnings]
    found += bystander_warnings(parts.inputs, parts.targets.structures)
    found += margins_not_set(parts.request, parts.protocol)
    found += [TRANSIENT_WARNING, RESEARCH_WARNING]
    return tuple(dict.fromkeys(found))


def _protocol_notes(parts: Parts) -> tuple[str, ...]:
    """Notes of the protocol; where its doses were changed, first that they are about its own."""
    site = f"The protocol is for: {parts.protocol.site}. Whether this patient is such a one is not checked."
    if not doses_changed(parts.protocol, parts.prescription):
        return (site, *parts.protocol.notes)
    return (site, f"These notes are about the protocol's own {parts.protocol.doses_text}.", *parts.protocol.notes)


def margins_not_set(request: Request, protocol: Protocol) -> list[str]:
    """The margins that come from the protocol file, and where that has them from."""
    own = {
        "base": (request.base_margins, protocol.base_margin_mm),
        "boost": (request.boost_margins, protocol.boost_margin_mm),
    }
    texts = [f"{mm:g} mm ({key})" for key, (given, mm) in own.items() if given is None]
    return [f"Margins of the protocol file: {' and '.join(texts)}, {protocol.margin_source}."] if texts else []


def _patient(planning: ImageSeries) -> dict[str, str]:
    """Patient identity from the planning CT."""
    header = planning.headers[0]
    return {
        "id": str(header.get("PatientID", "")),
        "name": str(header.get("PatientName", "")),
        "sex": str(header.get("PatientSex", "")),
        "birth_date": str(header.get("PatientBirthDate", "")),
    }


def _series_used(inputs: Inputs) -> tuple[SeriesUse, ...]:
    """Planning CT, PET and structure sets as used."""

    def use(role: str, info: SeriesInfo, facts: Mapping[str, Any]) -> SeriesUse:
        return SeriesUse(
            role, info.description, info.modality, info.series_uid, info.study_date, info.geometry, dict(facts)
        )

    tracer = inputs.pet.volume.facts.get("tracer", "")
    first = f"PET ({tracer or 'unknown'})" if inputs.pet.info.modality in ("PT", "") else inputs.pet.info.modality
    listed = {inputs.planning.info.series_uid, inputs.pet.info.series_uid} - {""}
    shown = [use(first, inputs.pet.info, inputs.pet.volume.facts)] if inputs.pet.info != inputs.planning.info else []
    others = [
        use(f"{found.spec.key} ({info.modality})", info, found.image.facts if info is found.infos[0] else {})
        for found in inputs.images.values() for info in found.infos
        if info is not inputs.pet.info and info.series_uid not in listed
    ]  # fmt: skip
    return (
        use(PLANNING, inputs.planning.info, {"sop_instances": len(inputs.planning.headers)}),
        *shown,
        *others,
        *(use("structure set", s, {"rois": list(s.roi_names)}) for s in inputs.structure_sets),
    )


def _method_facts(method: Method, params: Any) -> dict[str, Any]:
    """Name, source and parameters of the method."""
    return {
        "name": method.name,
        "title": method.title,
        "quantity": method.quantity,
        "unit": method.unit,
        "citation": method.citation,
        "surrogate": method.surrogate,
        "parameters": asdict(params),
    }


def _package_versions(of_method: tuple[str, ...]) -> dict[str, str]:
    """Versions of the packages that touched the numbers."""
    names = ("numpy", "scipy", "SimpleITK", "pydicom", "highdicom", *of_method)
    return {name: _version(name) for name in names}


def _version(package: str) -> str:
    """Version of a package; one may be missing: Slicer installs highdicom at the export, a map comes from elsewhere."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed when the targets were made"
