"""``_()`` for the panel: Slicer's translation, or the text itself where there is no Slicer."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _  # the function itself: it takes its context from the file that calls it
except ImportError:  # the plain classes also run on slicer-core, which has no translations

    def _(text: str) -> str:
        """The text as it is."""
        return text


__all__ = ["_"]
