"""Sentences and tables of the dose-paint panel, made where they are shown, in the language of Slicer. No Qt."""

from __future__ import annotations

import math

from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.words import shown_words

from ..prescription import DoseLevel, Prescription
from ..result import Result
from ..wording import prescribed_text

InputKey = tuple[str, ...]
"""An input of the targets: role, name and identifiers of a segment; ``planning``; ``map``; ``made of`` and the name
of an input of the map; ``number`` and a field of ``PaintChoices``."""


def role_text(role: str) -> str:
    """A role of a segment, as its list says it."""
    texts = {
        "": _("not used"), "gtv": _("GTV"), "hypoxic": _("hypoxic segment"), "organ": _("organ at risk"),
        "reference": _("reference region"),
    }  # fmt: skip
    return texts[role]


def side_text(side: str) -> str:
    """A side of the patient, as the label of its margin."""
    texts = {
        "left": _("Left"), "right": _("Right"), "anterior": _("Anterior"), "posterior": _("Posterior"),
        "superior": _("Superior"), "inferior": _("Inferior"),
    }  # fmt: skip
    return texts[side]


def side_tip(side: str) -> str:
    """Tool tip of the margin towards a side of the patient."""
    texts = {
        "left": _("Margin towards the patient's left"), "right": _("Margin towards the patient's right"),
        "anterior": _("Margin towards the front of the patient"), "posterior": _("Margin towards the patient's back"),
        "superior": _("Margin towards the head of the patient"),
        "inferior": _("Margin towards the feet of the patient"),
    }  # fmt: skip
    return texts[side]


def changed_text(key: InputKey) -> str:
    """What an input of the targets is called where it is said to have changed."""
    kind, name = key[0], key[1] if len(key) > 1 else ""
    if kind == "number":
        return _number_text(name)
    if kind == "planning":
        return _("planning CT")
    if kind == "map":
        return _("map")
    if kind == "made of":
        return _("{name}, which the map was made of").format(name=shown_words(name))
    return _("{role} {name}").format(role=role_text(kind), name=name)


def _number_text(field: str) -> str:
    """A number or text of ``PaintChoices``, as its label says it."""
    texts = {
        "protocol": _("protocol"), "base_dose_gy": _("base dose"), "boost_dose_gy": _("boost dose"),
        "fractions": _("fractions"), "base_margin_mm": _("base margin"), "boost_margin_mm": _("boost margin"),
        "base_sides": _("base margin of the sides"), "boost_sides": _("boost margin of the sides"),
        "organ_gap_mm": _("distance to organs"), "minimum_island_ml": _("smallest island"),
        "maximum_fraction": _("largest share of GTV"), "override": _("override"),
        "write_rtdose": _("prescription as RTDOSE"),
    }  # fmt: skip
    return texts[field]


def equivalents_text(prescription: Prescription) -> str:
    """EQD2 and BED of both levels, alpha/beta 10 and 3 Gy."""
    base = _(
        "Base {dose} Gy in {fractions} ({each} Gy): EQD2₁₀ {eqd2_10} Gy, EQD2₃ {eqd2_3} Gy, BED₁₀ {bed_10} Gy"
    ).format(**_numbers(prescription.base))
    boost = _(
        "Boost {dose} Gy in {fractions} ({each} Gy): EQD2₁₀ {eqd2_10} Gy, EQD2₃ {eqd2_3} Gy, BED₁₀ {bed_10} Gy"
    ).format(**_numbers(prescription.boost))
    return f"{base}\n{boost}"


def _numbers(level: DoseLevel) -> dict[str, str]:
    """Doses of a level in gray, with alpha/beta 10 and 3 Gy."""
    return {
        "dose": f"{level.dose_gy:g}", "fractions": str(level.fractions), "each": f"{level.dose_per_fraction_gy:.2f}",
        "eqd2_10": f"{level.eqd2_tumour_gy:.1f}", "eqd2_3": f"{level.eqd2_late_gy:.1f}",
        "bed_10": f"{level.bed_tumour_gy:.1f}",
    }  # fmt: skip


def deficit_text(prescription: Prescription) -> str:
    """What the boost makes up for and what it does not (model numbers)."""
    at = _("{gap} Gy at {pressure} mmHg")
    deficits = [at.format(gap=f"{gap:.1f}", pressure=f"{p:g}") for p, gap in prescription.deficits_gy().items()]
    return _(
        "Model: the boost makes up for {pressure} mmHg and above; still missing for iso-effect: {deficits} ({model})."
    ).format(
        pressure=f"{prescription.offset_pressure_mmhg:.0f}",
        deficits=", ".join(deficits),
        model=prescription.oxygen_model_text,
    )


def target_rows(result: Result) -> list[tuple[str, ...]]:
    """Table of the preview: name, ml, Gy, Gy per fraction, EQD2 with alpha/beta 10 and 3, cut off in ml."""

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    return [
        (
            t.name, f"{t.volume_ml:.2f}", prescribed_text(t.dose_gy, ""), number(t.dose_per_fraction_gy, 2),
            number(t.eqd2_tumour_gy, 1), number(t.eqd2_late_gy, 1), f"{t.cropped_ml:.2f}",
        )
        for t in result.targets
    ]  # fmt: skip


def target_columns() -> tuple[str, ...]:
    """Headers of ``target_rows``."""
    return (_("Target"), "ml", "Gy", _("Gy/fx"), "EQD2₁₀", "EQD2₃", _("cut off ml"))


def proof_columns() -> tuple[str, ...]:
    """Headers of ``proof_rows``."""
    return (_("Structure"), _("written ml"), _("read ml"), _("Dice"), _("shift mm"), _("passed"))


def proof_rows(result: Result) -> list[tuple[str, ...]]:
    """Table of the read-back proof."""

    def number(value: float, digits: int) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    return [
        (
            p.structure, number(p.written_ml, 2), number(p.read_ml, 2), number(p.dice, 4),
            number(p.centroid_shift_mm, 3), _("yes") if p.passed else _("NO: {reason}").format(reason=p.reason),
        )
        for p in result.proof
    ]  # fmt: skip


def dropped_text(result: Result) -> str:
    """Islands that were left out."""
    if not result.dropped:
        return _("No hypoxic island was left out.")
    total_ml = sum(d.volume_ml for d in result.dropped)
    return _("Left out: {count} hypoxic islands, {volume} ml in all ({reason}).").format(
        count=len(result.dropped), volume=f"{total_ml:.2f}", reason=result.dropped[0].reason
    )
