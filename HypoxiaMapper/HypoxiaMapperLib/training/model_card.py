"""The model card, from a bundle's metadata and the summary of its evaluation: no number in it is typed by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..inference.bundle import METADATA, Bundle
from ..inference.channels import CHANNELS
from ..simulate.statistics import METHODS, table_of_statistics
from . import card_text
from .evaluation_case import IMAGE_SETS, NETWORK
from .planning_path import PLANNING_SPACING_MM
from .summary import MEASURES, verdicts

HELD_OUT = "training"
PICTURES = "pictures"
OFF_NOMINAL = 0.05
_NO_NUMBER = "–"


def model_card(bundle: Bundle, summary: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Parameters
    ----------
    summary : mapping
        summary.json of ``evaluate`` for this very bundle.
    """
    parts = [
        _what_it_is(bundle),
        _training(bundle),
        _verdict(summary),
        *(_cohort(name, numbers) for name, numbers in summary["cohorts"].items()),
        _uncertainty(bundle, summary),
        _gate(summary),
        _planning(summary),
        card_text.SIMULATOR.format(table=table_of_statistics(summary["simulator"]).rstrip()),
        card_text.LIMITATIONS,
        _files(bundle),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def models_page(bundle: Bundle, summary: Mapping[str, Any]) -> str:
    """Resources/docs/models.md: the shipped bundle's card, how to train one's own, the contract, models of others."""
    card = model_card(bundle, summary).replace(METHODS, f"[methods.md](methods.md){METHODS.removeprefix('methods.md')}")
    parts = (card_text.PAGE_HEAD, card, card_text.own_model(), card_text.published_models())
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write_model_card(bundle: Bundle, summary: Mapping[str, Any], path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the card and, beside it, its pictures."""
    from .pictures import draw_pictures

    draw_pictures(summary, rows, path.parent / PICTURES)
    path.write_text(model_card(bundle, summary), encoding="utf-8", newline="\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash where there is none."""
    return _NO_NUMBER if value is None else f"{value:{form}}".replace("-", "−")


def _what_it_is(bundle: Bundle) -> str:
    """Name, label, quantity, inputs, what it is for and what not."""
    hypoxia = bundle.hypoxia
    needed = ", ".join(c.title for c in CHANNELS if c.key in hypoxia["required_any"])
    rows = [[c.title, c.quantity, f"`{c.unit}`", f"{c.low:g} to {c.high:g}"] for c in CHANNELS]
    return card_text.WHAT_IT_IS.format(
        title=hypoxia["title"],
        name=bundle.name,
        version=bundle.version,
        label=hypoxia["label"],
        description=bundle.metadata["description"],
        quantity=hypoxia["quantity"],
        comparison=hypoxia["comparison"],
        threshold=f"{hypoxia['threshold']:g}",
        needed=needed,
        inputs=table(["image", "quantity", "unit", "clipped to"], rows),
        spacing=f"{hypoxia['spacing_mm']:g}",
        margin=f"{hypoxia['box_margin_mm']:g}",
        sites=", ".join(hypoxia.get("body_parts", ())) or "not stated, so the gate never passes",
        intended_use=hypoxia["intended_use"],
        licence=hypoxia["licence"],
    )


def _training(bundle: Bundle) -> str:
    """Data, architecture, sizes, time and machine."""
    hypoxia, network = bundle.hypoxia, bundle.network_def
    arguments = ", ".join(f"{key} {json.dumps(value)}" for key, value in network.items() if key != "_target_")
    size = sum(path.stat().st_size for path in bundle.weights)
    parameters = sum(p.numel() for p in bundle.network(0).parameters())
    told = hypoxia.get("training", {})
    log = _training_log(bundle.folder / "docs" / "training_log.csv")
    return card_text.TRAINING.format(
        data=hypoxia["training_data"],
        patients=hypoxia.get("patients", "an unknown number of"),
        seed=hypoxia["seed"],
        target=network["_target_"],
        arguments=arguments,
        members=len(bundle.weights),
        parameters=f"{parameters:,}",
        megabytes=f"{size / 1e6:.1f}",
        machine=told.get("machine", "not recorded"),
        log=log,
        monai=bundle.metadata["monai_version"],
        torch=bundle.metadata["pytorch_version"],
    )


def _training_log(path: Path) -> str:
    """Last row of every member in the log."""
    if not path.is_file():
        return "The bundle carries no training log."
    with path.open(encoding="utf-8", newline="") as file:
        last = {row["member"]: row for row in csv.DictReader(file)}
    keys = [key for key in next(iter(last.values())) if key.startswith("mae_")]
    head = ["member", "epochs", "minutes", "training loss", *(f"validation {key.replace('_', ' ')}" for key in keys)]
    rows = [
        [
            str(int(row["member"]) + 1),
            row["epoch"],
            f"{float(row['seconds']) / 60:.0f}",
            number(float(row["training_loss"]), ".3f"),
            *(number(float(row[key]), ".3f") for key in keys),
        ]
        for row in last.values()
    ]
    return table(head, rows)


def _verdict(summary: Mapping[str, Any]) -> str:
    """Where the network is better than a baseline and, in words, where it is not."""
    cohorts = summary["cohorts"]
    lines = []
    for measure, (title, _) in MEASURES.items():
        found = verdicts(cohorts, measure)
        total = sum(map(len, found.values()))
        line = f"- **{title}**: better in {len(found['better'])} of {total} comparisons"
        for verdict in ("no difference shown", "worse"):
            cells = [
                f"{images} against {baseline} ({cohort_name(cohort)})" for cohort, images, baseline in found[verdict]
            ]
            line += f"; {verdict} in {len(cells)}" + (f": {'; '.join(cells)}" if cells else "")
        lines.append(line + ".")
    patients = [f"{numbers['patients']} ({cohort_name(name)})" for name, numbers in cohorts.items()]
    return card_text.VERDICT.format(
        version=summary["bundle"]["version"],
        digest=summary["bundle"]["metadata_sha256"],
        patients=", ".join(patients),
        seed=summary["seed"],
        lines="\n".join(lines),
    )


def cohort_name(cohort: str) -> str:
    """Name of a cohort as the card writes it."""
    return "held-out" if cohort == HELD_OUT else cohort.replace("_", " ").replace("shifted", "shifted:")


def _cohort(name: str, numbers: Mapping[str, Any]) -> str:
    """The table of one cohort."""
    rows = []
    for images in IMAGE_SETS:
        cell = numbers["sets"].get(images)
        if cell is None:
            continue
        for label, found in cell["maps"].items():
            against = cell["network_against"].get(label, {}).get("mae")
            rows.append([images if label == NETWORK else "", *_cohort_row(label, found, against)])
    fraction, gtv = numbers["truth"]["hypoxic_fraction"], numbers["truth"]["gtv_ml"]
    head = ["images", "map", "voxel r", "MAE", "Dice", "HV r", "HV bias (95 % limits), ml", "slope", "network's MAE"]
    return card_text.COHORT.format(
        name=cohort_name(name).capitalize(),
        title=numbers["title"],
        patients=numbers["patients"],
        gtv=" / ".join(f"{v:.0f}" for v in gtv),
        fraction=" / ".join(f"{100 * v:.0f}" for v in fraction),
        without=numbers["truth"]["without_hypoxia"],
        table=table(head, rows),
    )


def _cohort_row(label: str, found: Mapping[str, Any], against: Mapping[str, Any] | None) -> list[str]:
    limits = f"{number(found['volume_lower_ml'], '.1f')} to {number(found['volume_upper_ml'], '.1f')}"
    verdict = ""
    if against:
        low, high = (number(against[key], "+.3f") for key in ("lower", "upper"))
        verdict = f"{against['verdict']} ({low} to {high})"
    bold = "**" if label == NETWORK else ""
    return [
        f"{bold}{label}{bold}",
        number(found["r"]),
        number(found["mae"], ".3f"),
        number(found["dice"]),
        number(found["volume_r"]),
        f"{number(found['volume_bias_ml'], '+.1f')} ({limits})",
        number(found["slope"]),
        verdict,
    ]


def _uncertainty(bundle: Bundle, summary: Mapping[str, Any]) -> str:
    """Calibration of the network's spread, every cohort and set of images."""
    rows = []
    for name, numbers in summary["cohorts"].items():
        for images, cell in numbers["sets"].items():
            found = cell["maps"][NETWORK]
            rows.append(
                [
                    cohort_name(name),
                    images,
                    number(found["ece"], ".3f"),
                    f"{100 * found['coverage_90']:.0f} %",
                    number(found["error_slope"]),
                    f"{100 * found['volume_band_coverage']:.0f} %",
                    number(found["volume_band_width_ml"], ".1f"),
                ]
            )
    head = ["cohort", "images", "ECE", "90 % interval holds", "error slope", "volume band holds", "band width, ml"]
    return card_text.UNCERTAINTY.format(
        table=table(head, rows),
        shared=f"{100 * bundle.hypoxia.get('shared_error', 0.0):.0f}",
        words=_off_nominal(summary),
        pictures=PICTURES,
    )


def _off_nominal(summary: Mapping[str, Any]) -> str:
    """In words, where interval or band hold clearly less or more than the 90 % they are said to hold."""
    lines = []
    for key, title in (("coverage_90", "The 90 % interval"), ("volume_band_coverage", "The band of hypoxic volume")):
        off = [
            f"{images} ({cohort_name(name)}) {100 * share:.0f} %"
            for name, numbers in summary["cohorts"].items()
            for images, cell in numbers["sets"].items()
            if abs((share := cell["maps"][NETWORK][key]) - 0.9) > OFF_NOMINAL
        ]
        held = "is within 5 percentage points of its 90 % everywhere" if not off else f"is off: {'; '.join(off)}"
        lines.append(f"- {title} {held}.")
    return "\n".join(lines)


def _gate(summary: Mapping[str, Any]) -> str:
    """False alarms and detections of the out-of-distribution gate."""
    gate = summary["gate"]
    alarms = [
        [cohort_name(name), _percent(found["gate_stopped"]), _percent(found["distance_stopped"]), _reasons(found)]
        for name, found in gate["false_alarms"].items()
    ]
    mistakes = [
        [name, str(found["patients"]), _percent(found["gate_stopped"]), _percent(found["distance_stopped"])]
        for name, found in gate["mistakes"].items()
    ]
    missed = [name for name, found in gate["mistakes"].items() if (found["gate_stopped"] or 0) < 0.95]
    return card_text.GATE.format(
        alarms=table(["cohort", "stopped", "by the features' distance", "most frequent reasons"], alarms),
        mistakes=table(["mistake", "patients", "stopped", "by the features' distance"], mistakes),
        missed=card_text.MISSED.format(names="; ".join(missed)) if missed else card_text.NONE_MISSED,
    )


def _planning(summary: Mapping[str, Any]) -> str:
    """Native images beside the way through a planning grid; nothing where that was not evaluated."""
    found = summary.get("planning_grid")
    if not found:
        return ""
    rows = []
    for images, cell in found.items():
        for way in ("native", "planning"):
            numbers, last = cell[way], way == "planning"
            rows.append(
                [
                    "" if last else images,
                    way,
                    number(numbers["r"]),
                    number(numbers["mae"], ".3f"),
                    number(numbers["volume_error_ml"]),
                    number(numbers["volume_bias_ml"], "+.2f"),
                    number(cell["volume_difference_ml"]) if last else "",
                    _percent(numbers["gate_stopped"]) if last else "",
                ]
            )
    head = ["images", "way", "voxel r", "MAE", "HV error, ml", "HV bias, ml", "between both, ml", "stopped"]
    return card_text.PLANNING.format(
        patients=max(cell["patients"] for cell in found.values()),
        spacing=" × ".join(f"{s:g}" for s in PLANNING_SPACING_MM),
        table=table(head, rows),
    )


def _percent(value: float | None) -> str:
    return _NO_NUMBER if value is None else f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def _reasons(found: Mapping[str, Any]) -> str:
    worst = list(found["reasons"].items())[:3]
    return ", ".join(f"{check} {_percent(share)}" for check, share in worst) or "none"


def _files(bundle: Bundle) -> str:
    """SHA-256 of every file the metadata pin."""
    entries = [*bundle.hypoxia["weights"], *filter(None, [bundle.hypoxia["distribution"]])]
    rows = [[f"`{entry['file']}`", f"`{entry['sha256']}`"] for entry in entries]
    rows.append([f"`{METADATA}`", "pinned in `inference/bundle.py` for the shipped bundle"])
    return "## Files\n\n" + table(["file", "SHA-256"], rows)
