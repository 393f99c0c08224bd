"""How numbers, units and states read: one wording for report, pictures, plots and tables."""

from __future__ import annotations

import math
import re

from HypoxiaMapperLib.methods import HypoxiaMap

RESEARCH_USE = "Research use only"
NO_PERSON = "(digital patient, no person)"  # ends what demonstrations write where a person's name would stand
SURROGATE_LABEL = "SURROGATE, not a measurement of hypoxia"
_UNITS = {"[hnsf'U]": "HU", "mm[Hg]": "mmHg", "1": "", "{ratio}": "ratio"}


def volume_word(surrogate: bool) -> str:
    """What the volume beyond the threshold is called: that of a surrogate must never read as hypoxic."""
    return "surrogate volume" if surrogate else "hypoxic volume"


def map_mark(hypoxia_map: HypoxiaMap) -> str:
    """What must stand wherever a map stands: that it is a surrogate, and the label of its model; empty for neither."""
    label = hypoxia_map.model.label if hypoxia_map.model else ""
    return "; ".join(part for part in (SURROGATE_LABEL if hypoxia_map.surrogate else "", label) if part)


def gtv_words(count: int) -> str:
    """What a share of all GTVs is a share of: with several it belongs to none of them."""
    return {1: "the GTV", 2: "both GTVs together"}.get(count, f"all {count} GTVs together")


def map_word(surrogate: bool) -> str:
    """What the map is called."""
    return "surrogate map" if surrogate else "hypoxia map"


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it: ``{ratio}`` gives ``ratio``, ``[hnsf'U]`` gives ``HU``."""
    return _UNITS.get(unit, re.sub(r"[{}\[\]]", "", unit))


def ucum_text(text: str) -> str:
    """A text with every UCUM unit in brackets as people write it: ``0.7 to 1.7 {ratio}`` gives ``0.7 to 1.7 ratio``."""
    return re.sub(r"\[hnsf'U\]|mm\[Hg\]|\{[^{}]*\}", lambda found: unit_text(found.group()), text)


def ml_text(volume_ml: float) -> str:
    """Millilitres with two decimals under 10 and one above, e.g. ``3.07 ml``."""
    return f"{volume_ml:.2f} ml" if abs(volume_ml) < 10 else f"{volume_ml:.1f} ml"


def band_text(band_ml: tuple[float, float]) -> str:
    """5th to 95th percentile of a model's volume; says so where the model states no uncertainty."""
    low, high = band_ml
    if math.isnan(low) or math.isnan(high):
        return "5-95 % band not given by this model"
    return f"5-95 % band {low:.2f} to {high:.2f} ml"


def at_other_threshold(own: str, threshold: float, comparison: str) -> bool:
    """Whether a model's volumes, cut at ``own`` (``"> 1.2"``), are cut elsewhere than the result."""
    return bool(own) and own != f"{comparison} {threshold:g}"


def model_threshold_text(own: str, threshold: float, comparison: str) -> str:
    """What a model's volume, band and baselines are cut at; loud where the result is cut at another threshold."""
    text = f"cut at the model's own threshold {own}".rstrip()
    if not at_other_threshold(own, threshold, comparison):
        return text
    return f"{text}, NOT at {comparison} {threshold:g} as this result: the volumes cannot be compared"


def gy_text(dose_gy: float | None, decimals: int = 1) -> str:
    """Gray with fixed decimals; a dash where there is no dose."""
    return "–" if dose_gy is None else f"{dose_gy:.{decimals}f} Gy"


def prescribed_text(dose_gy: float | None, unit: str = " Gy") -> str:
    """A prescribed dose, which is whole cGy: one decimal, or two where one would round it."""
    if dose_gy is None:
        return "–"
    return f"{dose_gy:.{1 if abs(10 * dose_gy - round(10 * dose_gy)) < 1e-6 else 2}f}{unit}"


def percent_text(fraction: float) -> str:
    """A fraction 0-1 as per cent with one decimal."""
    return f"{100 * fraction:.1f} %"


def change_text(percent: float) -> str:
    """A deviation in per cent with its sign, e.g. ``+3.3 %``."""
    return f"{percent:+.1f} %"


def css_text(text: str) -> str:
    """Any text as a CSS string, every character escaped, for what stands at the edge of printed pages."""
    return '"' + "".join(f"\\{ord(character):06x}" for character in text) + '"'


def number_text(value: object) -> str:
    """Any value of a table: numbers to four significant digits, booleans as yes/no, the rest as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(number_text(v) for v in value)
    return str(value)


def threshold_text(threshold: float, comparison: str, unit: str) -> str:
    """Threshold with its comparison and unit, e.g. ``> 1.4 (ratio)``."""
    if math.isnan(threshold):
        return "none"
    shown = unit_text(unit)
    return f"{comparison} {threshold:g} ({shown})" if shown else f"{comparison} {threshold:g}"


def name_text(person_name: str) -> str:
    """A DICOM person name as people write it: ``Doe^Jane^M`` gives ``Doe, Jane M``."""
    family, _, given = person_name.partition("^")
    return ", ".join(part for part in (family.strip(), given.replace("^", " ").strip()) if part)


def date_text(date: str) -> str:
    """A DICOM date as ISO 8601: ``20260227`` gives ``2026-02-27``; anything else unchanged."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


_ENDINGS = (
    ("_percent", "%"), ("_mm", "mm"), ("_ml", "ml"), ("_gy", "Gy"), ("_mmhg", "mmHg"), ("_g_ml", "g/ml"), ("_kg", "kg"),
    ("_g_per_ml", "g/ml"), ("_s", "s"), ("_min", "min"), ("_mbq", "MBq"), ("_bq_ml", "Bq/ml"), ("_cm", "cm"),
)  # fmt: skip
_LABELS = {"suv_factor": "SUV factor (SUV per unit in the file)"}
_ACRONYMS = {w.lower(): w for w in ("SUV", "UID", "PET", "CT", "MR", "ROI", "ROIs", "GTV", "PTV", "SOP", "ID")}


def label_text(key: str, capital: bool = True) -> str:
    """A field name as a label: ``hypoxic_volume_ml`` gives ``Hypoxic volume (ml)``."""
    if key in _LABELS:
        return _LABELS[key]
    unit = ""
    for ending, text in sorted(_ENDINGS, key=lambda e: -len(e[0])):
        if key.lower().endswith(ending):
            key, unit = key[: -len(ending)], f" ({text})"
            break
    words = " ".join(_ACRONYMS.get(w, w) for w in key.replace("_", " ").split())
    return (words[:1].upper() + words[1:] if capital else words) + unit
