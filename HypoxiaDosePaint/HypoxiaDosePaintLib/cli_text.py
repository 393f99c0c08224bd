"""What ``hypoxia`` prints: the facts as data, and the same facts as lines a clinician reads."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from HypoxiaMapperLib.dicomio.model import ScanResult, SeriesInfo
from HypoxiaMapperLib.inference.channels import CHANNELS
from HypoxiaMapperLib.methods import Method, ModelUse
from HypoxiaMapperLib.tracers import TracerProtocol

from .alignment import TRANSFORM_FILE
from .limits import distribution_override, override_to_type
from .method_inputs import NONE
from .planqa import dice
from .prescription import Protocol
from .result import ProofRow, Result, TargetRow
from .sidecar import model_data
from .subvolume import find_subvolume
from .wording import (
    band_text,
    gtv_words,
    map_mark,
    model_threshold_text,
    prescribed_text,
    threshold_text,
    ucum_text,
    volume_word,
)

LEFT_OUT_SHOWN = 3  # files named for each reason why a scan left them out

if TYPE_CHECKING:
    from HypoxiaMapperLib.simulate.digital_patient import DigitalPatient


def shown(arguments: Namespace, facts: Any, lines: str | Sequence[str]) -> str:
    """Facts as JSON, or the lines that say the same, as asked."""
    if arguments.json:
        return json.dumps(facts, indent=2, default=str)
    return lines if isinstance(lines, str) else "\n".join(lines)


def result_facts(result: Result, out: Path) -> dict[str, Any]:
    """The numbers of a result."""
    return {
        "hypoxic_volume_ml": result.hypoxic_volume_ml,
        "hypoxic_fraction": result.hypoxic_fraction,
        "threshold": result.threshold,
        "comparison": result.comparison,
        "threshold_source": result.threshold_source,
        "surrogate": result.method["surrogate"],
        "map_label": map_mark(result.images.map),
        "model": model_data(result),
        "findings": [asdict(f) for f in result.findings],
        "targets": [asdict(t) for t in result.targets],
        "dropped": [asdict(d) for d in result.dropped],
        "warnings": list(result.warnings),
        "notes": list(result.notes),
        "accepted_by": result.accepted_by,
        "exported": list(result.exported),
        "proof": [asdict(p) for p in result.proof],
        "truth": dict(result.truth),
        "report": str(out / "report.html"),
    }


def result_lines(result: Result, out: Path) -> str:
    """A result on one screen."""
    mark, word = map_mark(result.images.map), volume_word(result.images.map.surrogate).capitalize()
    unit = result.images.map.volume.unit
    lines = [
        f"Map              {result.images.map.volume.quantity}{f'  ({mark})' if mark else ''}",
        f"Threshold        {threshold_text(result.threshold, result.comparison, unit)}  [{result.threshold_source}]",
        f"{word:<17}{result.hypoxic_volume_ml:.2f} ml, {100 * result.hypoxic_fraction:.1f} % of "
        f"{gtv_words(len(result.findings))}",
    ]
    lines += [
        f"  {f.gtv:<14} {f.hypoxic_volume_ml:.2f} of {f.gtv_volume_ml:.2f} ml, maximum {f.map_maximum:.3g}"
        for f in result.findings
    ]
    lines += _model_lines(result)
    lines += ["", f"{'Structure':<17}{'ml':>9}{'Gy':>7}{'Gy/fx':>7}{'EQD2 a/b 10':>13}{'cropped ml':>12}"]
    lines += [_target_line(row) for row in result.targets]
    deficits = ", ".join(f"{gap:.1f} Gy at {p:g} mmHg" for p, gap in result.prescription.deficits_gy().items())
    lines += [
        "",
        f"The boost makes up for a model pO2 down to {result.prescription.offset_pressure_mmhg:.0f} mmHg; "
        f"missing to iso-effect: {deficits} ({result.prescription.oxygen_model_text}).",
    ]
    lines += [f"Dropped          {d.volume_ml:.2f} ml of {d.structure}: {d.reason}" for d in result.dropped]
    lines += ["", *_truth_lines(result.truth)]
    lines += [f"WARNING          {w}" for w in result.warnings]
    lines += [f"Note             {n}" for n in result.notes]
    if result.accepted_by:
        lines += [f"Accepted by      {result.accepted_by}", f"Exported         {', '.join(result.exported)}"]
        lowest = min(row.dice for row in result.proof if not math.isnan(row.dice))
        lines += [f"Read-back proof  {len(result.proof)} checks passed, lowest Dice of a structure {lowest:.4f}"]
    else:
        lines += [
            "NOT ACCEPTED     no DICOM was written. Read the report, warnings first; when it is right:",
            _next(result, out),
        ]
    return "\n".join([*lines, f"Report           {out / 'report.html'}", "Research use only."])


def _next(result: Result, out: Path) -> str:
    """What to type to accept a result: its own request, and the registration that was computed here as a file."""
    words = f"{'':17}hypoxia run {_quoted(out / 'request.json')}"
    if result.request.registration.mode == "rigid":
        words += f" --registration {_quoted(out / TRANSFORM_FILE)}"
    words += " --accepted-by NAME --out NEW"
    override = override_to_type(result.images.map)  # a request file holds none: each result's images are judged anew
    return (
        f'{words}\n{"":17}and, only if you answer for the failed checks, --override "{override}"' if override else words
    )


def _quoted(path: Path) -> str:
    """A path as every shell takes it."""
    return f'"{path}"' if " " in str(path) else str(path)


def _model_lines(result: Result) -> list[str]:
    """The trained model behind the map, if there is one: what it is, what it was given, how far it can be believed."""
    model = result.images.map.model
    if model is None:
        return []
    failed = [ucum_text(f"{f.check} {f.value} (allowed: {f.allowed})") for f in model.distribution if not f.passed]
    override = distribution_override(result.images.map, result.request)
    state = (
        f"{len(model.distribution)} of {len(model.distribution)} checks passed: {_checks_by_image(model)}; see report"
    )
    if not model.in_distribution:
        way = f"Overridden by {override}" if override else f"To lift it: {override_to_type(result.images.map)}"
        state = f"FAILED: {'; '.join(failed) or 'nothing was compared'}. {way}"
    asked = {key for key, wanted in result.request.inputs.items() if wanted == NONE}
    missing = ", ".join(f"{key} (left out as asked)" if key in asked else key for key in model.images_missing)
    return [
        f"Model            {model.title} ({model.name} {model.version}): {model.label}",
        f"  identity       {model.identity or 'not known'}",
        f"  trained on     {model.training_data}",
        f"  images         {', '.join(model.images_used)}; without {missing or 'none'}",
        f"  volume         {model.hypoxic_volume_ml:.2f} ml, all islands, {band_text(model.hypoxic_volume_band_ml)}; "
        f"{model_threshold_text(model.threshold_text, result.threshold, result.comparison)}",
        f"  distribution   {state}",
        *(f"  baseline       {b.name}: {b.hypoxic_volume_ml:.2f} ml, voxel-wise r {b.correlation:.2f}"
          for b in model.baselines),
        f"  weights        SHA-256 {', '.join(d[:12] for d in model.weights_sha256)}; ran on {model.device}",
    ]  # fmt: skip


def _checks_by_image(model: ModelUse) -> str:
    """How many checks each image had, then by name those of no single image."""
    titles = {channel.key.replace("_", "-"): channel.title for channel in CHANNELS}
    whose = [next((t for key, t in titles.items() if f.name.startswith(f"{key}-")), "") for f in model.distribution]
    counts = [f"{title} {whose.count(title)}" for title in titles.values() if title in whose]
    return ", ".join([*counts, *(f.name for f, title in zip(model.distribution, whose, strict=True) if not title)])


def _target_line(row: TargetRow) -> str:
    """One structure of the target table."""
    if row.dose_gy is None:
        return f"{row.name:<17}{row.volume_ml:>9.2f}{'-':>7}{'-':>7}{'-':>13}{'-':>12}"
    return (
        f"{row.name:<17}{row.volume_ml:>9.2f}{prescribed_text(row.dose_gy, ''):>7}{row.dose_per_fraction_gy:>7.2f}"
        f"{row.eqd2_tumour_gy:>13.2f}{row.cropped_ml:>12.2f}"
    )


def truth_facts(patient: DigitalPatient, result: Result) -> dict[str, Any]:
    """The found hypoxic volume against the truth of a digital patient, cut out by the same rule.

    The blurred truth is what a noise-free scanner of the same resolution would show; the unblurred truth is what the
    tissue holds.
    """
    images, request = result.images, result.request
    allowed = request.override_for("volume"), request.override_for("coverage")
    blurred, unblurred = (
        find_subvolume(replace(images.map, volume=truth), images.gtvs, request.subvolume, *allowed)
        for truth in (patient.blurred_ratio, patient.truth_ratio)
    )
    found_ml = result.hypoxic_volume_ml
    return {
        "found_ml": found_ml,
        "blurred_truth_ml": blurred.hypoxic_volume_ml,
        "error_against_blurred_percent": 100 * (found_ml / blurred.hypoxic_volume_ml - 1),
        "unblurred_truth_ml": unblurred.hypoxic_volume_ml,
        "error_against_unblurred_percent": 100 * (found_ml / unblurred.hypoxic_volume_ml - 1),
        "dice_against_unblurred": float(dice(images.hypoxic, unblurred.region)),
    }


def _truth_lines(truth: Mapping[str, Any]) -> list[str]:
    """Truth of a digital patient, if there is one."""
    if not truth:
        return []
    return [
        f"Truth, scanner   {truth['blurred_truth_ml']:.2f} ml noise-free at the same resolution: "
        f"error {truth['error_against_blurred_percent']:+.1f} %",
        f"Truth, tissue    {truth['unblurred_truth_ml']:.2f} ml unblurred: "
        f"error {truth['error_against_unblurred_percent']:+.1f} %, Dice {truth['dice_against_unblurred']:.3f}",
    ]


def scan_facts(found: ScanResult) -> dict[str, Any]:
    """A scan as data; files as counts."""
    series = []
    for s in found.series:
        facts = {k: v for k, v in asdict(s).items() if k != "files"}
        series.append({**facts, "file_count": len(s.files)})
    left_out = [{"path": str(x.path), "reason": x.reason} for x in found.left_out]
    return {"folder": str(found.folder), "series": series, "left_out": left_out}


def scan_lines(found: ScanResult) -> str:
    """A scan as an indented list."""
    lines: list[str] = []
    for patient in dict.fromkeys((s.patient_id, s.patient_name) for s in found.series):
        lines.append(f"Patient {patient[0]} {patient[1]}")
        mine = [s for s in found.series if (s.patient_id, s.patient_name) == patient]
        for study in dict.fromkeys((s.study_date, s.study_uid) for s in mine):
            lines.append(f"  Study {study[0]} {study[1]}")
            for s in (s for s in mine if s.study_uid == study[1]):
                lines += _series_lines(s)
    if found.left_out:
        lines.append(f"Left out: {len(found.left_out)} file(s)")
        lines += _left_out_lines(found)
    return "\n".join(lines)


def _left_out_lines(found: ScanResult) -> list[str]:
    """Each reason once, with the first of its files: the pictures beside an export are no news one by one."""
    lines: list[str] = []
    for reason in dict.fromkeys(x.reason for x in found.left_out):
        paths = [str(x.path) for x in found.left_out if x.reason == reason]
        lines += [f"  {reason}: {len(paths)} file(s)", *(f"    {path}" for path in paths[:LEFT_OUT_SHOWN])]
        if len(paths) > LEFT_OUT_SHOWN:
            lines.append(f"    and {len(paths) - LEFT_OUT_SHOWN} more; --json lists all")
    return lines


def _series_lines(s: SeriesInfo) -> list[str]:
    """One series of a scan."""
    role = s.role.replace("_", " ") + (f" ({s.kind})" if s.kind else "")
    lines = [f"    {role:<22} {s.description or 'no description'}  [{len(s.files)} file(s), {s.series_uid}]"]
    if s.geometry:
        lines.append(f"      {s.geometry}")
    if s.roi_names:
        lines.append(f"      ROIs: {', '.join(s.roi_names)}")
    lines += [f"      {key.replace('_', ' ')}: {value}" for key, value in s.details.items()]
    return lines


def method_facts(found: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Methods as data."""
    return [
        {
            "name": m.name, "title": m.title, "quantity": m.quantity, "unit": m.unit, "citation": m.citation,
            "surrogate": m.surrogate, "inputs": [asdict(i) for i in m.inputs],
            "regions": [asdict(r) for r in m.regions],
            "parameters": [
                {"name": f.name, "default": None if f.default is MISSING else f.default, **f.metadata}
                for f in fields(m.Params)
            ],
            "unavailable": m.unavailable_reason(),
        }
        for m in found.values()
    ]  # fmt: skip


def method_lines(found: Mapping[str, Method], with_parameters: bool) -> str:
    """Methods as text."""
    lines: list[str] = []
    for m in found.values():
        lines += [f"{m.name}: {m.title}", f"  gives    {m.quantity}, unit {m.unit}"]
        lines += [
            f"  {'needs' if i.required else 'may use':<8} {i.key}: {i.description} "
            f"({', '.join(i.tracers) or i.quantity})"
            for i in m.inputs
        ]
        lines += [f"  region   {r.key}: {r.description}" for r in m.regions]
        lines.append(f"  source   {m.citation}")
        if m.unavailable_reason():
            lines.append(f"  UNAVAILABLE: {m.unavailable_reason()}")
        if with_parameters:
            lines += [_parameter_line(f) for f in fields(m.Params)]
    if not with_parameters:
        lines.append("`hypoxia methods NAME` shows the parameters of one.")
    return "\n".join(lines)


def _parameter_line(f: Field[Any]) -> str:
    """One parameter of a method."""
    meta = f.metadata
    choices = ", ".join(repr(c) for c in meta["choices"])
    bounded = meta["minimum"] is not None or meta["maximum"] is not None
    allowed = choices or (f"{meta['minimum']} to {meta['maximum']}" if bounded else "any text")
    unit = f" {meta['unit']}" if meta["unit"] else ""
    return f"  --param {f.name}={f.default!r}{unit}  {meta['label']}; allowed: {allowed}; {meta['source']}"


def protocol_lines(dose: Iterable[Protocol], tracer: Sequence[TracerProtocol]) -> str:
    """Dose and tracer protocols as text."""
    lines = [
        "Dose protocols (--protocol NAME, or the path of your own JSON file)",
        f"  Your own needs all of: {', '.join(f.name for f in fields(Protocol))};",
        "  `hypoxia protocols NAME` prints one to copy.",
    ]
    for p in dose:
        lines += [
            f"  {p.name}: {p.title} ({p.site})",
            f"    {p.base_dose_gy:g} Gy base, {p.boost_dose_gy:g} Gy boost in {p.fractions}; margins "
            f"{p.base_margin_mm:g} / {p.boost_margin_mm:g} mm ({p.margin_source})",
            f"    source: {p.citation}",
            *(f"    note: {n}" for n in p.notes),
        ]
    lines.append("Tracer protocols (--param tracer_protocol=NAME of tracer_ratio)")
    lines += [
        f"  {t.name}: {t.tracer} over {t.reference} {t.comparison} {t.threshold:g}, scan {t.windows_text()} after "
        f"injection; source: {t.citation}"
        for t in tracer
    ]
    return "\n".join(lines)


def proof_lines(rows: Sequence[ProofRow]) -> str:
    """A read-back proof as a table."""
    lines = [f"{'Structure':<18}{'written ml':>12}{'read ml':>12}{'Dice':>9}{'shift mm':>10}  result"]
    for r in rows:
        numbers = f"{r.written_ml:>12.3f}{r.read_ml:>12.3f}{r.dice:>9.4f}{r.centroid_shift_mm:>10.3f}"
        if math.isnan(r.dice):  # a whole object, not a structure
            numbers = f"{'-':>12}{'-':>12}{'-':>9}{'-':>10}"
        lines.append(f"{r.structure:<18}{numbers}  {'passed' if r.passed else 'FAILED: ' + r.reason}")
    return "\n".join(lines)
