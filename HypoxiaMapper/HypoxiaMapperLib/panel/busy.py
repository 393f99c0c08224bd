"""While a panel itself works, in Slicer's own thread: progress is drawn, and nothing a user does gets in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer


@contextmanager
def busy(*sections: Any) -> Iterator[None]:
    """Switch the sections of a panel off while it works.

    Clicks and keys wait meanwhile (``draw_progress``). At the end those for the panel are thrown away, because its
    sections are still off, and all others take effect: a scene is closed after the work, not under it.
    """
    for section in sections:
        section.enabled = False
    try:
        yield
    finally:
        slicer.app.processEvents()
        for section in sections:
            section.enabled = True


def draw_progress() -> None:
    """Draw what changed in the application; clicks and keys wait."""
    slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
