"""A reference region must lie outside every tumour, also those that nobody chose."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from .errors import InputError
from .volume import Region, voxel_volume_ml

_GTV = re.compile(r"^i?gtv", re.IGNORECASE)
_TUMOUR = re.compile(r"tumou?r", re.IGNORECASE)
_NOT_TUMOUR = re.compile(r"(non|no|body|peri|contra|minus|outside|without)[-_ ]?tumou?r", re.IGNORECASE)


def is_tumour_name(name: str) -> bool:
    """True if the name of an ROI or segment says gross tumour."""
    return bool(_GTV.search(name) or (_TUMOUR.search(name) and not _NOT_TUMOUR.search(name)))


def refuse_tumour_reference(reference: Region, tumours: Iterable[tuple[str, Region | str]]) -> None:
    """Refuse a reference region that reaches into a gross tumour.

    Parameters
    ----------
    tumours : iterable of (name, Region or str)
        On the grid of the reference, one at a time; a text for one that cannot be read, which is passed over.

    Raises
    ------
    InputError
        Naming the tumour and the overlap in ml, or the reference that is a tumour by its name.
    """
    if is_tumour_name(reference.name):
        raise InputError(f"Reference region {reference.name!r} is a tumour by its name.", "Give blood or muscle.")
    mask = reference.array
    for name, region in tumours:
        if isinstance(region, Region) and (shared := np.count_nonzero(mask & region.array)):
            raise InputError(
                f"Reference region {reference.name} overlaps {name} by "
                f"{shared * voxel_volume_ml(reference.mask):.2f} ml.",
                "A reference must lie outside every tumour: choose or redraw it.",
            )
