"""What an image shows, from its header: the PET tracer and the kind of MR, and which entry decided; the body part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UNKNOWN = "unknown"

# CID 4021 and METHODS section 11; FAZA, HX4, EF5 and Cu-ATSM have no standard code, so their text decides.
_TRACER_CODES = {
    ("SCT", "422598008"): "FMISO",
    ("SCT", "35321007"): "FDG",
    ("SRT", "C-B1031"): "FDG",
    ("SNM3", "C-B1031"): "FDG",
    ("99SDM", "Y-X1743"): "FDG",
}
_TRACER_PATTERNS = (
    ("FMISO", r"f[\s-]?miso|fluoro-?misonidazole"),
    ("FAZA", r"f[\s-]?aza(?![a-z])|fluoro-?azomycin"),
    ("HX4", r"hx[\s-]?4|flortanidazole"),
    ("EF5", r"(?<![a-z])ef[\s-]?5(?!\d)"),
    ("Cu-ATSM", r"atsm"),
    ("FDG", r"fdg|fluoro-?deoxy-?(d-?)?glucose|fludeoxyglucose"),
)
# First match decides, so that the derived maps come before the sequences they are computed from.
_MR_PATTERNS = (
    ("R2*", r"r2\s?(\*|star)"),
    ("T2*", r"t2\s?(\*|star)"),
    ("ADC", r"(?<![a-z])adc(?![a-z])|apparent diffusion"),
    ("Ktrans", r"k[\s_-]?trans"),
    ("OE", r"(?<![a-z])oe[\s-]?mri|oxygen[\s-]?enhanced"),
    ("DCE", r"(?<![a-z])dce(?![a-z])|dynamic contrast"),
    ("DSC", r"(?<![a-z])(dsc|perfusion|rcbv|cbv|cbf)(?![a-z])"),
    ("DWI", r"(?<![a-z])(dwi|dti|diff|diffusion|ivim)(?![a-z])|b[\s_=-]?\d{2,4}(?!\d)\s?(trace|s/mm)"),
    ("FLAIR", r"flair|tirm.?dark"),
    ("T1 map", r"t1[\s_-]?map|molli"),
    ("T2 map", r"t2[\s_-]?map"),
    ("R1", r"(?<![a-z])r1(?![a-z0-9])"),
    ("T1", r"(?<![a-z])t1(?![0-9])|mprage|mp-?rage|vibe|bravo|spgr|dixon"),
    ("T2", r"(?<![a-z])t2(?![0-9])"),
    ("PD", r"(?<![a-z])pd(w|_|\s|$)|proton.?density"),
)
# exp(-b ADC), exported beside ADC under nearly its name: the inverse contrast.
_EXPONENTIAL_ADC = r"(?<![a-z])eadc(?![a-z])|exponential (adc|apparent)"


def find_tracer(header: Dataset) -> dict[str, Any]:
    """Tracer of a PET image and the entry that decided.

    Returns
    -------
    dict
        ``tracer``, ``tracer_source`` and, when another entry names another tracer, ``tracer_conflict``.
    """
    found = [(tracer, source) for tracer, source in _tracer_votes(header) if tracer]
    if not found:
        return {"tracer": UNKNOWN, "tracer_source": "no code, radiopharmaceutical or description names a known tracer"}
    tracer, source = found[0]
    facts: dict[str, Any] = {"tracer": tracer, "tracer_source": source}
    others = [f"{other} by {other_source}" for other, other_source in found[1:] if other != tracer]
    if others:
        facts["tracer_conflict"] = f"{tracer} by {source}, but {'; '.join(others)}"
    return facts


def _tracer_votes(header: Dataset) -> list[tuple[str, str]]:
    """(tracer or "", source) of every entry that may name the tracer, most trusted first."""
    votes: list[tuple[str, str]] = []
    for item in header.get("RadiopharmaceuticalInformationSequence") or []:
        for code in item.get("RadiopharmaceuticalCodeSequence") or []:
            scheme, value = str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", ""))
            votes.append(
                (_TRACER_CODES.get((scheme, value), ""), f"RadiopharmaceuticalCodeSequence ({scheme} {value})")
            )
            meaning = str(code.get("CodeMeaning", ""))
            votes.append((_tracer_in(meaning), f"RadiopharmaceuticalCodeSequence meaning {meaning!r}"))
        text = str(item.get("Radiopharmaceutical", "") or "")
        votes.append((_tracer_in(text), f"Radiopharmaceutical {text!r}"))
    description = str(header.get("SeriesDescription", "") or "")
    votes.append((_tracer_in(description), f"SeriesDescription {description!r}"))
    return votes


def _tracer_in(text: str) -> str:
    """Tracer named in a text, empty if none or several are."""
    found = [tracer for tracer, pattern in _TRACER_PATTERNS if re.search(pattern, text, re.IGNORECASE)]
    return found[0] if len(found) == 1 else ""


def find_body_parts(headers: Sequence[Dataset]) -> tuple[str, ...]:
    """What Body Part Examined (0018,0015) and Anatomic Region Sequence (0008,2218) of a series state, as it stands.

    A code comes as its meaning with the code's value in brackets, e.g. ``"Neck [45048000]"``.
    """
    found = []
    for header in headers:
        found.append(str(header.get("BodyPartExamined", "") or "").strip())
        for code in header.get("AnatomicRegionSequence") or []:
            found.append(f"{code.get('CodeMeaning', '')} [{code.get('CodeValue', '')}]")
    return tuple(dict.fromkeys(stated for stated in found if stated))


def find_mr_kind(header: Dataset) -> tuple[str, str]:
    """Kind of an MR image (T1, T2, ADC, DWI, DCE, R2* ...; ``unknown``) and the entry that decided.

    ImageType names derived maps most reliably, then the description, then the sequence's own numbers. Weighting
    from TR and TE follows the usual spin-echo limits: TE < 30 ms and TR < 1000 ms is T1, TE > 60 ms is T2.
    """
    image_type = " ".join(str(v) for v in header.get("ImageType") or [])
    entries = (
        ("ImageType", image_type),
        ("SeriesDescription", str(header.get("SeriesDescription", "") or "")),
        ("ProtocolName", str(header.get("ProtocolName", "") or "")),
    )
    for entry, text in entries:
        if re.search(_EXPONENTIAL_ADC, text.replace("_", " "), re.IGNORECASE):
            return "eADC", f"{entry} {text!r}"
    for entry, text in entries:
        for kind, pattern in _MR_PATTERNS:
            if re.search(pattern, text.replace("_", " "), re.IGNORECASE):
                return kind, f"{entry} {text!r}"
    if header.get("DiffusionBValue") is not None:
        return "DWI", f"DiffusionBValue {header.DiffusionBValue}"
    return _weighting(header)


def _weighting(header: Dataset) -> tuple[str, str]:
    """Weighting of a spin echo from repetition and echo time; gradient echoes are not guessed."""
    repetition_ms, echo_ms = header.get("RepetitionTime"), header.get("EchoTime")
    sequence = header.get("ScanningSequence") or ""
    names = [sequence] if isinstance(sequence, str) else list(sequence)
    if repetition_ms is None or echo_ms is None or "SE" not in names or "IR" in names:
        return UNKNOWN, "neither image type, description nor spin-echo times tell"
    source = f"spin echo with TR {float(repetition_ms):g} ms, TE {float(echo_ms):g} ms"
    if echo_ms < 30 and repetition_ms < 1000:
        return "T1", source
    if echo_ms > 60:
        return "T2", source
    return UNKNOWN, source
