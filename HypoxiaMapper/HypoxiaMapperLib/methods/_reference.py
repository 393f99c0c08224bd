"""The reference tissue of an uptake ratio: blood or muscle, and how much it takes up."""

from __future__ import annotations

import numpy as np

from ..errors import InputError, RequestError
from ..volume import Region, Volume

_BLOOD_WORDS = ("blood", "aorta", "carotid", "vessel", "artery", "jugular")  # no ventricle: the brain's hold no blood
POSSIBLE_SUV = (0.2, 5.0)  # wide of any tracer's blood or muscle; tenfold errors of activity or weight lie outside
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


def reference_doubts(reference: Region, suv: float) -> list[str]:
    """A word on a reference whose SUV (g/ml) neither blood nor muscle has: a ratio hides a wrong dose or weight."""
    if POSSIBLE_SUV[0] <= suv <= POSSIBLE_SUV[1]:
        return []
    return [
        f"The mean SUV of {reference.name} is {suv:.3g} g/ml; blood and muscle have about 1 to 2. Check injected "
        "activity, weight and unit of the PET: the ratio hides such an error, other maps do not."
    ]


def reference_uptake(pet: Volume, reference: Region, gtv: Region, statistic: str, minimum_ml: float) -> float:
    """Mean or median uptake of the reference region, in the unit of the image.

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
            f"Reference region {reference.name} has a {statistic} of {uptake:.4g} {pet.unit}.",
            "A ratio needs uptake in the reference.",
        )
    return uptake
