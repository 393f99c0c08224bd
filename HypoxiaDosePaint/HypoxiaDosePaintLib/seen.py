"""What a person looked at: an acceptance beside a stored request holds for the structures of its result, no others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from HypoxiaMapperLib.errors import InputError

from .request import Request
from .result import Result
from .structures import Structure

DIGEST_CHARACTERS = 16  # of SHA-256: against files that changed, not against an attacker
PLANNING = "planning CT"


def request_to_store(result: Result) -> Request:
    """The request that makes a result again, with what the result showed and without what was said of it."""
    return replace(result.request.for_next_run(), seen=_digests(result))


def require_seen(result: Result) -> None:
    """Refuse an acceptance of a stored request whose structures are no longer those that were looked at.

    Images or contours in the folder may have been exchanged since, the request edited, the software updated.

    Raises
    ------
    InputError
        Naming every structure that differs.
    """
    before, now = result.request.seen, _digests(result)
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if before and different and result.accepted_by:
        raise InputError(
            f"{', '.join(different)}: not as in the result whose request this is. Images, contours, request or "
            "software changed since, and nobody has seen what comes out now.",
            "Run it without --accepted-by, read the new report, and accept with the request.json beside that.",
        )


def _digests(result: Result) -> dict[str, str]:
    """Digest of the planning CT's identity and grid, and of voxels and dose of each structure, by name."""
    image = result.images.planning.image
    grid = (*image.GetSize(), *(round(v, 6) for v in (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())))
    own = json.dumps([result.patient["id"], [use.series_uid for use in result.series if use.role == PLANNING], grid])
    return {PLANNING: _short(own.encode()), **{s.name: _short(_content(s)) for s in result.images.structures}}


def _content(structure: Structure) -> bytes:
    """Kind, dose, fractions and voxels of a structure."""
    dose = structure.dose
    said = [structure.interpreted_type, structure.code.value, dose and [dose.dose_gy, dose.fractions]]
    return json.dumps(said).encode() + np.packbits(structure.region.array).tobytes()


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]
