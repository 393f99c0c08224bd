"""Names of structures as planning systems take them: short, of plain characters, all different (TG-263)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_NAME_LENGTH = 16  # TG-263, 10.1016/j.ijrobp.2017.12.013


def unique_names(names: Sequence[str], suffix: str = "", taken: Iterable[str] = ()) -> list[str]:
    """Shortened names with a suffix, different from each other and from ``taken`` even without upper and lower case.

    Names that shortening makes equal keep the number they end in; where that does not help they are numbered.
    """
    room = MAX_NAME_LENGTH - len(suffix)
    short = [f"{_legal(name)[:room]}{suffix}" for name in names]
    folded, used = [s.casefold() for s in short], {name.casefold() for name in taken}
    free = [folded.count(f) == 1 and f not in used for f in folded]
    used |= {f for f, kept in zip(folded, free, strict=True) if kept}
    return [
        s if kept else _numbered(_legal(n), room, suffix, used) for n, s, kept in zip(names, short, free, strict=True)
    ]


def hypoxic_ending(surrogate: bool) -> str:
    """Ending of the name of a hypoxic part: a surrogate's must not read as measured hypoxia (METHODS 12.1)."""
    return "_Sur" if surrogate else "_Hyp"


def _numbered(name: str, room: int, suffix: str, used: set[str]) -> str:
    """A free name with the number the long one ends in, or the next one from 2; it is then used."""
    end = re.search(r"_*[0-9]+$", name)
    tail = end.group()[-room:] if end and len(name) > room else ""
    stem, number = name[: room - len(tail)] + tail, 1
    new = f"{stem}{suffix}"
    while new.casefold() in used:
        number += 1
        new = f"{stem[: room - len(f'_{number}')]}_{number}{suffix}"
    used.add(new.casefold())
    return new


def _legal(name: str) -> str:
    """ROI name in the characters of TG-263, of any length."""
    return re.sub(r"[^A-Za-z0-9_^+~-]", "_", name.strip()) or "ROI"
