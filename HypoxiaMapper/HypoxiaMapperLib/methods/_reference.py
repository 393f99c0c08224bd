"""The reference tissue of an uptake ratio: blood or muscle, and how much it takes up."""

from __future__ import annotations

import numpy as np

from ..errors import InputError, RequestError
from ..volume import Region, Volume

_BLOOD_WORDS = ("blood", "aorta", "carotid", "vessel", "artery", "jugular", "ventricle")
_MUSCLE_WORDS = ("muscle", "musc", "masseter", "sternocleid", "trapezius")


def reference_kind(reference: Region, stated: str) -> str:
    """Blood or muscle: as stated, else as the region's name says.

    Raises
    ------
    RequestError
        If name and statement contradict each other, or neither tells.
    """
    name = reference.name.lower()
    named = {
        kind
        for kind, words in (("blood", _BLOOD_WORDS), ("muscle", _MUSCLE_WORDS))
        if any(word in name for word in words)
    }
    if stated:
        if named and stated not in named:
            raise RequestError(
                f"Reference region {reference.name!r} sounds like {' and '.join(named)}, not {stated}.",
                "Choose the region that matches, or rename it.",
            )
        return stated
    if len(named) == 1:
        return named.pop()
    raise RequestError(
        f"It is not clear whether reference region {reference.name!r} is blood or muscle.",
        "Give the parameter reference_kind=blood or reference_kind=muscle.",
    )


def reference_uptake(pet: Volume, reference: Region, gtv: Region, statistic: str, minimum_ml: float) -> float:
    """Mean or median SUV of the reference region in g/ml.

    Raises
    ------
    InputError
        If the region overlaps the GTV, is smaller than ``minimum_ml``, leaves the PET or holds no uptake.
    """
    inside = reference.array
    overlap_ml = np.count_nonzero(inside & gtv.array) * pet.voxel_volume_ml
    if overlap_ml > 0:
        raise InputError(
            f"Reference region {reference.name} overlaps {gtv.name} by {overlap_ml:.2f} ml.",
            "A reference must lie outside the tumour: choose or redraw it.",
        )
    if reference.volume_ml < minimum_ml:
        raise InputError(
            f"Reference region {reference.name} has {reference.volume_ml:.2f} ml.",
            f"At least {minimum_ml:g} ml are needed (parameter minimum_reference_ml).",
        )
    values = pet.array[inside]
    if not np.isfinite(values).all():
        raise InputError(
            f"Reference region {reference.name} reaches outside the PET.", "Choose one inside the field of view."
        )
    uptake = float(np.mean(values) if statistic == "mean" else np.median(values))
    if uptake <= 0:
        raise InputError(
            f"Reference region {reference.name} has a {statistic} SUV of {uptake:.4g} g/ml.",
            "A ratio needs uptake in the reference.",
        )
    return uptake
