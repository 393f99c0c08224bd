"""The report: one self-contained HTML file, rendered from a result and its pictures. Says what is, decides nothing."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.errors import OutputError
from HypoxiaMapperLib.inference.channels import CHANNELS

from . import wording
from .limits import distribution_override, override_to_type
from .plots import fit_curve_svg, histogram_svg, volume_by_threshold_svg
from .request import Margins
from .result import Result
from .seen import request_to_store

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
PICTURE_CAPTIONS = {
    "axial": "Axial slice of the planning image through the {volume}, with the map.",
    "coronal": "Coronal slice of the planning image through the {volume}, with the map.",
    "sagittal": "Sagittal slice of the planning image through the {volume}, with the map.",
    "three_d": "Gross tumour, {volume} and planning targets as surfaces.",
    "uncertainty": "Standard deviation of the map, voxel by voxel: where it is large the map may be wrong.",
    "overview": "Where it lies in the patient.",
    "slices": "Contours on every slice of the {volume}, from superior to inferior, all at the scale of the first.",
    "registration": "Look at this before accepting: outlines must follow the PET, and squares must join.",
}
OBJECT_CHECKS = {
    "identity": "patient, study and frame of reference of every file are the planning CT's; its UIDs are new",
    "label of the model": "every file and every part of it carries the label of the model behind the map",
    "RTSTRUCT": "it refers to the slices of the planning CT; types, codes, volumes and doses stated for its ROIs",
    "SEG": "segments can be read on the slices of the planning CT",
    "RTPLAN": "no beams, not approved; each target with its dose; refers to this RTSTRUCT",
    "PRESCRIPTION": "unit, and in every voxel the highest dose of the targets it lies in",
    "RTDOSE": "says that it is a prescription, and of which plan; its dose in every voxel",
    "MAP": "quantity, unit and the value of every voxel",
    "file": "bytes are those delivered (SHA-256)",
}
TRUTH_LABELS = {
    "found_ml": "Found by this run",
    "blurred_truth_ml": "Blurred truth",
    "error_against_blurred_percent": "Error against the blurred truth",
    "unblurred_truth_ml": "Unblurred truth",
    "error_against_unblurred_percent": "Error against the unblurred truth",
    "dice_against_unblurred": "Overlap (Dice) with the unblurred truth, 1 is perfect",
}


def write_report(result: Result, pictures: Mapping[str, bytes], path: Path) -> None:
    """Write ``report.html``: no network, images inside, safe for print, light and dark screens.

    Parameters
    ----------
    result : Result
        What to report. All its text is escaped.
    pictures : mapping
        PNG files by name, as ``render_pictures`` gives them; its ``warnings``, if any, join the result's.
    path : Path
        The file, which must not exist.

    Raises
    ------
    OutputError
        If the file exists already or cannot be written.
    """
    text = report_html(result, pictures)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise OutputError(f"{path} exists already.", "Choose a new output folder.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Check space and rights.") from error


def report_html(result: Result, pictures: Mapping[str, bytes]) -> str:
    """The report as text (see ``write_report``)."""
    volume = wording.volume_word(result.images.map.surrogate)
    return (
        _environment()
        .get_template("report.html")
        .render(
            r=result,
            map_unit=result.images.map.volume.unit,
            map_unit_words=f" ({unit})" if (unit := wording.unit_text(result.images.map.volume.unit)) else "",
            map_quantity=result.images.map.volume.quantity,
            surrogate=result.images.map.surrogate,
            mark=wording.map_mark(result.images.map),
            model=result.images.map.model,
            distribution_override=distribution_override(result.images.map, result.request),
            override_to_type=override_to_type(result.images.map),
            **_model_threshold(result),
            image_names=image_names,
            curves=[(fit_curve_svg(c, f"curve{n}"), c.x_label) for n, c in enumerate(result.images.map.curves)],
            research_use=wording.RESEARCH_USE,
            threshold=wording.threshold_text(result.threshold, result.comparison, result.images.map.volume.unit),
            state=acceptance(result),
            warnings=list(dict.fromkeys((*getattr(pictures, "warnings", ()), *result.warnings))),
            volume_word=volume,
            gtv_words=wording.gtv_words(len(result.findings)),
            pictures=[
                (name, _data_url(png), _caption(name, volume), getattr(pictures, "descriptions", {}).get(name, ""))
                for name, png in pictures.items()
            ],
            histogram=histogram_svg(result),
            volume_curve=volume_by_threshold_svg(result),
            deficits=result.prescription.deficits_gy(),
            oxygen_model=result.prescription.oxygen_model_text,
            proof_passed=bool(result.proof) and all(row.passed for row in result.proof),
            request_json=request_to_store(result).to_json(),
            choices=choices(result),
            crops=crops(result),
            object_checks=[(row, object_check(row.structure)) for row in result.proof if row.dice != row.dice],
            truth=truth_rows(result.truth),
            steps=result.images.map.volume.operations,
            details=other_details(result.details),
        )
    )


def _environment() -> Any:
    """Templates with the filters of ``wording``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters = (wording.ml_text, wording.gy_text, wording.prescribed_text, wording.percent_text, wording.number_text,
               wording.label_text,
               wording.unit_text, wording.ucum_text, wording.name_text, wording.date_text,
               wording.band_text, wording.css_text)  # fmt: skip
    environment.filters.update({f.__name__.removesuffix("_text"): f for f in filters})
    environment.filters["rows"] = flatten
    return environment


def _model_threshold(result: Result) -> dict[str, Any]:
    """What the model's own volumes are cut at, and whether the result is cut elsewhere."""
    model = result.images.map.model
    if model is None:
        return {"model_threshold": "", "other_threshold": False}
    return {
        "model_threshold": wording.model_threshold_text(model.threshold_text, result.threshold, result.comparison),
        "other_threshold": wording.at_other_threshold(model.threshold_text, result.threshold, result.comparison),
    }


def acceptance(result: Result) -> dict[str, Any]:
    """Whether a person accepted the result, and what that means, in words."""
    if not result.accepted_by:
        return {"kind": "stop", "title": "NOT ACCEPTED", "text": "No person has accepted this result. "
                "No DICOM was exported."}  # fmt: skip
    files = f"{len(result.exported)} DICOM files exported." if result.exported else "No DICOM was exported."
    if result.accepted_by.endswith(wording.NO_PERSON):
        return {"kind": "demo", "title": "DEMONSTRATION, accepted by no person",
                "text": f"Digital patient. {files}"}  # fmt: skip
    return {"kind": "ok", "title": f"Accepted by {result.accepted_by}", "text": files}


def image_names(keys: Sequence[str]) -> str:
    """Names of a model's images; a key that is no channel of this software stands for itself."""
    titles = {channel.key: channel.title for channel in CHANNELS}
    return ", ".join(titles.get(key, key) for key in keys) or "none"


def choices(result: Result) -> dict[str, Any]:
    """What the request chose for subvolume and targets, for the table of what was done."""
    request = result.request
    sphere = request.reference_sphere
    centre = "" if sphere is None else ", ".join(f"{c:g}" for c in sphere.centre_mm)
    return {
        "GTV": request.gtv_rois,
        "reference": f"sphere of {sphere.radius_mm:g} mm at {centre} mm LPS" if sphere else request.reference_roi,
        "organs_at_risk": request.organ_rois,
        "distance_to_organs_mm": request.organ_gap_mm,
        "subvolume": dataclasses.asdict(request.subvolume),
        "margin_of_boost": margin(request.boost_margins) or _of_protocol(result, "boost_margin"),
        "margin_of_base": margin(request.base_margins) or _of_protocol(result, "base_margin"),
    }


def _of_protocol(result: Result, key: str) -> str:
    """A margin that the request left to the protocol."""
    return f"{result.details.get(key, '')} (the protocol's own)".strip()


def crops(result: Result) -> dict[str, str]:
    """What each organ took off each target, in words."""
    found = {t.name: result.details.get(f"cropped_from_{t.name}_ml", {}) for t in result.targets}
    return {
        name: ", ".join(f"{organ} {wording.ml_text(ml)}" for organ, ml in organs.items())
        for name, organs in found.items()
        if organs
    }


def other_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details of a result that no other place of the report shows; the packages in one line."""
    shown = ("map_operations", "curves", "base_margin", "boost_margin", "packages")
    rest = {k: v for k, v in details.items() if k not in shown and not k.startswith("cropped_from_")}
    packages = details.get("packages", {})
    return {**rest, "python_packages": [f"{name} {version}" for name, version in packages.items()] or "–"}


def object_check(name: str) -> str:
    """What the proof compared for a whole object or file."""
    known = OBJECT_CHECKS.get(name) or OBJECT_CHECKS.get(name.split("_")[0]) or OBJECT_CHECKS.get(name.split()[0])
    return known or ""


def truth_rows(truth: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of what is known of a digital patient."""
    rows = []
    for key, value in truth.items():
        label = TRUTH_LABELS.get(key)
        if label is None:
            rows += flatten({key: value})
        elif key.endswith("_percent"):
            rows.append((label, wording.change_text(value)))
        else:
            rows.append((label, wording.ml_text(value) if key.endswith("_ml") else f"{value:.3f}"))
    return rows


def margin(margins: Margins | None) -> str:
    """Margins in words, one number where they are equal; empty for none."""
    if margins is None:
        return ""
    sides = {f.name.removesuffix("_mm"): getattr(margins, f.name) for f in dataclasses.fields(margins)}
    if len(set(sides.values())) == 1:
        return f"{margins.left_mm:g} mm on every side"
    return ", ".join(f"{side} {mm:g}" for side, mm in sides.items()) + " mm"


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Label and text of every entry of a mapping; mappings inside it become ``outer: inner``."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        label = prefix + wording.label_text(str(key), capital=not prefix)
        if isinstance(value, Mapping):
            rows += flatten(value, f"{label}: ")
        else:
            rows.append((label, _join(value)))
    return rows


def _join(value: Any) -> str:
    """One cell of a table; a dash where nothing was said."""
    if value is None:
        return "–"
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], str):
        return "; ".join(value)
    return wording.number_text(value) or "–"


def _caption(name: str, volume: str) -> str:
    """Caption of a picture by its name, pages of one kind sharing one; ``volume`` is the word for what it shows."""
    return PICTURE_CAPTIONS.get(name, PICTURE_CAPTIONS.get(name.rsplit("_", 1)[0], name)).format(volume=volume)


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
