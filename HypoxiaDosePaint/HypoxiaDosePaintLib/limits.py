"""Limits on a hypoxic subvolume: how much of a GTV must be imaged, how much of it may be boosted,
and which images a trained model may be asked about.

A limit is lifted by a person's name and reason for this one limit, never silently.
"""

from __future__ import annotations

from HypoxiaMapperLib.errors import InputError, LimitError
from HypoxiaMapperLib.methods import HypoxiaMap, Method

from .overrides import DISTRIBUTION
from .request import Request, SubvolumeOptions
from .wording import ucum_text

MINIMUM_COVERAGE = 0.9
"""Part of each GTV that must have a map value; a choice of this software, no trial states one."""

LARGEST_FRACTION = SubvolumeOptions().maximum_fraction_of_gtv
"""Hypoxic fraction that needs no override; a request may lower it alone, but raise it only together with one."""


def require_coverage(gtv_name: str, gtv_ml: float, imaged_ml: float, override: str) -> None:
    """Refuse a GTV that the map covers too little, unless a person answers for it.

    Raises
    ------
    LimitError
        If less than ``MINIMUM_COVERAGE`` of the GTV has a map value and there is no override.
    """
    if imaged_ml >= MINIMUM_COVERAGE * gtv_ml - 1e-9 or override.strip():
        return
    raise LimitError(
        f"{_coverage(gtv_name, gtv_ml, imaged_ml)}, below the limit of {MINIMUM_COVERAGE:.0%}: hypoxia elsewhere in it "
        "cannot be found.",
        'Leave this GTV out, use images that cover it, or give --override "coverage name: reason".',
    )


def note_on_coverage(gtv_name: str, gtv_ml: float, imaged_ml: float, hypoxic_ml: float, override: str) -> list[str]:
    """What must be said of a GTV that is not imaged as a whole; nothing if it is."""
    if imaged_ml >= gtv_ml - 1e-9:
        return []
    text = (
        f"{gtv_ml - imaged_ml:.2f} ml of {gtv_name} have no map value; they count as GTV volume below the threshold. "
        f"{_coverage(gtv_name, gtv_ml, imaged_ml)}; the fraction of this imaged part is "
        f"{hypoxic_ml / imaged_ml:.1%}, of the whole GTV {hypoxic_ml / gtv_ml:.1%}."
    )
    if imaged_ml < MINIMUM_COVERAGE * gtv_ml - 1e-9:
        text += f" That is below the limit of {MINIMUM_COVERAGE:.0%}. Overridden by {override.strip()}."
    return [text]


def limit_fraction(gtv_names: str, hypoxic_ml: float, gtv_ml: float, maximum: float, override: str) -> list[str]:
    """Refuse a hypoxic volume above its share of the GTV, or say who took responsibility.

    Raises
    ------
    LimitError
        If the share exceeds the limit, or the limit was raised above ``LARGEST_FRACTION``, without an override.
    """
    fraction, limit = hypoxic_ml / gtv_ml, min(maximum, LARGEST_FRACTION)
    if not override.strip() and maximum > LARGEST_FRACTION:
        raise LimitError(
            f"The limit of the fraction was raised to {maximum:.1%}, above {LARGEST_FRACTION:.1%}; the "
            f"subvolume is {fraction:.1%} of {gtv_names}.",
            'Leave the limit, or give --override "volume name: reason".',
        )
    if fraction <= limit + 1e-9:
        return []
    text = f"The subvolume ({hypoxic_ml:.2f} ml) is {fraction:.1%} of {gtv_names}, above the limit of {limit:.1%}"
    if not override.strip():
        hint = 'Check threshold and reference region, or give --override "volume name: reason".'
        raise LimitError(f"{text}.", hint)
    return [f"{text}. Overridden by {override.strip()}."]


def require_model(method: Method, hypoxia_map: HypoxiaMap) -> None:
    """Refuse a learned method's map that does not tell of its model: its label and its checks would be lost.

    Raises
    ------
    InputError
        If the map came without them, from an older scene for example.
    """
    if method.learned and hypoxia_map.model is None:
        raise InputError(
            f"The map of {method.name} does not say which model it is from.", "Compute the map again, then go on."
        )


def distribution_override(hypoxia_map: HypoxiaMap, request: Request) -> str:
    """Who answers for the failed checks of a learned map, and for which; empty unless every one of them was named.

    Checks that a person named on other images lift nothing here that fails beside them.
    """
    words, named = request.override_for(DISTRIBUTION), request.checks_overridden
    failed = hypoxia_map.model.failed_checks if hypoxia_map.model else ()
    if not words or not failed or not set(failed) <= set(named):
        return ""
    return f"{words} (checks lifted: {', '.join(failed)})"


def require_distribution(hypoxia_map: HypoxiaMap, request: Request) -> None:
    """Refuse to hand out a learned map of images unlike those its model was trained on, unless a person answers for it.

    Raises
    ------
    LimitError
        Naming every check that failed, if no override names them all; the hint holds the words to type.
    """
    text = _distribution(hypoxia_map)
    if text and not distribution_override(hypoxia_map, request):
        raise LimitError(
            f"{text}, so nothing is exported.{_not_named(hypoxia_map, request)}",
            "Run without --accepted-by to see map and report. Then use other images or another method or, if you "
            f'answer for this map, add --override "{override_to_type(hypoxia_map)}".',
        )


def override_to_type(hypoxia_map: HypoxiaMap) -> str:
    """The override that would lift what failed on these images, but for name and reason; empty if nothing failed."""
    failed = hypoxia_map.model.failed_checks if hypoxia_map.model else ()
    return f"{DISTRIBUTION}({', '.join(failed)}) name: reason" if failed else ""


def note_on_distribution(hypoxia_map: HypoxiaMap, request: Request) -> list[str]:
    """What must be said of a learned map that failed its distribution check; nothing if it passed."""
    text = _distribution(hypoxia_map)
    if not text:
        return []
    override = distribution_override(hypoxia_map, request)
    if override:
        return [f"{text}. Overridden by {override}."]
    not_named = _not_named(hypoxia_map, request)
    return [f"{text}, so it is not exported.{not_named} To lift it: {override_to_type(hypoxia_map)}"]


def _not_named(hypoxia_map: HypoxiaMap, request: Request) -> str:
    """Which failed checks an override does not name; empty without an override."""
    words = request.override_for(DISTRIBUTION)
    if not words or hypoxia_map.model is None:
        return ""
    left = [check for check in hypoxia_map.model.failed_checks if check not in request.checks_overridden]
    return f" The override by {words} does not name {', '.join(left)}."


def _distribution(hypoxia_map: HypoxiaMap) -> str:
    """The failed checks of the model behind a map; empty when there is none."""
    model = hypoxia_map.model
    if model is None or model.in_distribution:
        return ""
    failed = "; ".join(f"{f.check} {f.value} (allowed: {f.allowed})" for f in model.distribution if not f.passed)
    failed = failed or "nothing was compared"
    return f"The images did not pass every check against those that {model.name} was trained on: {ucum_text(failed)}"


def _coverage(gtv_name: str, gtv_ml: float, imaged_ml: float) -> str:
    """How much of a GTV the map covers."""
    return f"The map covers {imaged_ml:.2f} ml of {gtv_ml:.2f} ml ({imaged_ml / gtv_ml:.1%}) of {gtv_name}"
