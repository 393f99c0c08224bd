"""The part of the body: do the images' tags name one that a model was trained on?

Compared are Body Part Examined (0018,0015) and Anatomic Region Sequence (0008,2218) of the images and of the planning
image with the terms a bundle names. Terms and codes are DICOM's (PS3.16 Annex L, CID 4031), in whatever spelling: upper
and lower case, blanks and signs do not count. Images without tags, and tags of the whole body, tell no site: that is
not known, and what is not known has not passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..methods._model_use import Finding

KEY = "body-site"
HEAD_AND_NECK = "HEADNECK"
PARTS = {
    HEAD_AND_NECK: (
        *("HEADNECK", "HEADANDNECK", "HN", "HEAD", "NECK", "FACE", "JAW", "MANDIBLE", "MAXILLA", "MOUTH", "TONGUE"),
        *("NOSE", "NASOPHARYNX", "OROPHARYNX", "HYPOPHARYNX", "PHARYNX", "PHARYNXLARYNX", "LARYNX", "PAROTID"),
        *("PAROTIDGLAND", "SUBMANDIBULAR", "SUBMANDIBULARGLAND"),
    )
}
"""What a term of a bundle takes in beside itself."""
NO_SITE = (
    *("WHOLEBODY", "TBODY", "TOTALBODY", "ENTIREBODY", "BODY", "UNKNOWN"),
    *("NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "NECKCHESTABDPELVIS"),
)
"""Tags that leave open in which part of the body the tumour lies."""
CODES = {
    "774007": "HEADNECK", "T-D1000": "HEADNECK", "69536005": "HEAD", "T-D1100": "HEAD", "45048000": "NECK",
    "T-D1600": "NECK", "89545001": "FACE", "T-D1200": "FACE", "661005": "JAW", "T-D1213": "JAW",
    "91609006": "MANDIBLE", "T-11180": "MANDIBLE", "70925003": "MAXILLA", "T-11170": "MAXILLA", "123851003": "MOUTH",
    "T-D0662": "MOUTH", "21974007": "TONGUE", "T-53000": "TONGUE", "45206002": "NOSE", "T-21000": "NOSE",
    "360955006": "NASOPHARYNX", "T-2300C": "NASOPHARYNX", "31389004": "OROPHARYNX", "T-55200": "OROPHARYNX",
    "81502006": "HYPOPHARYNX", "T-55300": "HYPOPHARYNX", "54066008": "PHARYNX", "T-55000": "PHARYNX",
    "4596009": "LARYNX", "T-24100": "LARYNX", "45289007": "PAROTID", "T-61100": "PAROTID",
    "54019009": "SUBMANDIBULAR", "T-61300": "SUBMANDIBULAR", "38266002": "WHOLEBODY", "T-D0010": "WHOLEBODY",
    "417437006": "NECKCHEST", "R-FAB52": "NECKCHEST", "416152001": "NECKCHESTABDOMEN", "R-FAB53": "NECKCHESTABDOMEN",
    "416319003": "NECKCHESTABDPELV", "R-FAB54": "NECKCHESTABDPELV",
}  # fmt: skip
"""SNOMED CT and SRT codes to DICOM's terms; another code counts by its meaning."""
HOW_TO_SAY = f'the bundle\'s metadata name no body site: write e.g. "body_parts": ["{HEAD_AND_NECK}"] under "hypoxia"'
UNSTATED = "not known: no Body Part Examined (0018,0015) in the images"


def term_of(stated: str) -> str:
    """DICOM's term for what an image states: a term, or a meaning with its code in brackets at the end."""
    code = re.search(r"\[([^\]]*)\]\s*$", stated)
    if code and code[1] in CODES:
        return CODES[code[1]]
    meaning = re.sub(r"[^A-Z0-9]", "", stated[: code.start() if code else None].upper())
    return meaning or (code[1] if code else "")


def body_site_finding(facts: Mapping[str, Mapping[str, Any]], trained: Sequence[str] | None) -> Finding:
    """The check ``body-site`` of the gate.

    It passes if an image's tags name a body site the model was trained on and none names another one.

    Parameters
    ----------
    facts : mapping
        Title of an image to its ``Volume.facts``: ``body_parts`` are its own tags, ``planning_body_parts`` those of
        the planning image.
    trained : sequence of str, optional
        DICOM terms; None where the bundle names none.
    """
    told = {title: tuple(filter(None, own.get("body_parts") or ())) for title, own in facts.items()}
    planning = next((own["planning_body_parts"] for own in facts.values() if own.get("planning_body_parts")), ())
    told = {title: stated for title, stated in {"planning image": tuple(planning), **told}.items() if stated}
    value = _by_tag(told) or UNSTATED
    if not trained:
        return Finding("body site", value, HOW_TO_SAY, False, KEY)
    allowed = {term for name in trained for term in (term_of(name), *PARTS.get(term_of(name), ()))}
    named = {term for stated in told.values() for term in map(term_of, stated)} - set(NO_SITE) - {""}
    if told and not named:
        value = f"not known: {value}"
    wanted = f"{' or '.join(trained)} or a part of it, and no other site"
    return Finding("body site", value, wanted, bool(named) and named <= allowed, KEY)


def _by_tag(told: Mapping[str, Sequence[str]]) -> str:
    """Every tag with the images that have it, e.g. ``"HEADNECK (planning image, CT), WHOLEBODY (FDG PET)"``."""
    titles: dict[str, list[str]] = {}
    for title, stated in told.items():
        for tag in stated:
            titles.setdefault(tag, []).append(title)
    return ", ".join(f"{tag} ({', '.join(found)})" for tag, found in titles.items())
