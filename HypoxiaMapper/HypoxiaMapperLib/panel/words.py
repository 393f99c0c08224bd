"""What keys and stored names are called in the panel, in the user's language."""

from __future__ import annotations

from .i18n import _


def alignment_texts() -> dict[str, str]:
    """How images are brought onto the planning image, by the word of a request."""
    return {
        "same_frame": _("Same frame of reference"),
        "scene": _("As placed in the scene (checked by me)"),
        "rigid": _("Rigid registration, computed now"),
    }


def frame_time_texts() -> list[str]:
    """What a single time of a frame is, in the order of the parameter's choices."""
    return ["", _("start"), _("mid")]


def shown_words(name: str) -> str:
    """The input of a fingerprint, where it is said to have changed."""
    alone = {
        "GTV": _("GTV"),
        "reference": _("reference"),
        "planning CT": _("planning CT"),
        "timing": _("timing"),
        "method": _("method"),
        "parameters": _("parameters"),
        "alignment": _("alignment"),
        "tracer": _("tracer"),
    }
    kind, _blank, key = name.partition(" ")
    followed = {
        "image": _("image {key}"),
        "region": _("region {key}"),
        "series": _("series {key}"),
        "sequence": _("sequence {key}"),
    }
    return alone.get(name) or followed.get(kind, name).format(key=key)


def shown_part(name: str) -> str:
    """A map in the list of overlays; a further map is called by its quantity."""
    return {"Map": _("Map"), "Uncertainty": _("Uncertainty")}.get(name, name)


def stated_unit_texts() -> dict[str, str]:
    """What a person may state that voxels measure, by the key of ``node_images.STATED_UNITS``."""
    return {
        "suv": _("SUVbw (g/ml)"),
        "hounsfield": _("CT number (HU)"),
        "ratio": _("Ratio to blood, measured"),
        "mr_map": _("MR map (unit in step 2)"),
        "activity": _("Bq/ml, decay-corrected"),
        "mr_signal": _("MR signal (arbitrary)"),
    }
