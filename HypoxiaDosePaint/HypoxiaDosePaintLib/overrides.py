"""Overrides: which limit a person lifts, by name and with a reason."""

from __future__ import annotations

import re

from HypoxiaMapperLib.errors import RequestError

LIMITS = ("dose", "volume", "coverage", "distribution")
"""What an override can lift: dose ceiling, hypoxic fraction, map coverage of the GTV, out-of-distribution gate."""
DISTRIBUTION = "distribution"
_OVERRIDE = re.compile(r"(?P<limit>\w+)\s*(?:\((?P<checks>[^()]*)\))?\s+(?P<name>[^:]*[^:\s])\s*:(?P<reason>.*\S.*)")


def parse_overrides(text: str) -> dict[str, str]:
    """Overrides by the limit they lift: ``"dose Dr A: reason; volume Dr B: reason"``.

    One override lifts one limit: a person who accepts a higher dose has not thereby accepted a larger volume. That of
    the distribution also names the checks it lifts, ``"distribution(ct-voxel-size, fdg-range) Dr A: reason"``: a
    person who looked at one failed check has not thereby looked at another.

    Raises
    ------
    RequestError
        If a part names no limit, no person or no reason.
    """
    return {limit: words for limit, _, words in _override_parts(text)}


def checks_named(text: str) -> tuple[str, ...]:
    """The checks that the override of the distribution names; empty without one, or where it names none."""
    named = next((checks for limit, checks, _ in _override_parts(text) if limit == DISTRIBUTION), "")
    return tuple(filter(None, (check.strip() for check in named.split(","))))


def _override_parts(text: str) -> list[tuple[str, str, str]]:
    """Limit, checks in brackets, and ``"name: reason"`` of every override; errors as ``parse_overrides``."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        match = _OVERRIDE.fullmatch(part)
        if not match or match["limit"] not in LIMITS or not is_dicom_text(part):
            raise RequestError(
                f"The override {part!r} does not name a limit, a person and a reason.",
                f'Write "LIMIT name: reason"; limits: {", ".join(LIMITS)}; several are separated by ";".',
            )
        if match["checks"] and match["limit"] != DISTRIBUTION:
            raise RequestError(
                f"The override {part!r} names checks in brackets.", f"Only {DISTRIBUTION} has some: leave them out."
            )
        found.append((match["limit"], match["checks"] or "", f"{match['name'].strip()}: {match['reason'].strip()}"))
        if [limit for limit, _, _ in found].count(match["limit"]) > 1:
            raise RequestError(
                f"The override names {match['limit']} twice.", "One person and reason lift a limit: name it once."
            )
    return found


def is_dicom_text(text: str) -> bool:
    """True for text that DICOM can hold: no control character, no backslash."""
    return text.isprintable() and "\\" not in text
