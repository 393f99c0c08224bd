"""Tells when sequences came into the scene or left it, in Qt: a list of them does not follow the scene by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from ..mrml.sequences import MULTI_VOLUME, SEQUENCE
from .patient_scope import all_nodes

_SETTLE_MS = 300  # a sequence comes into the scene before its frames do


class SequenceWatch:
    """Watches a scene while a panel is shown.

    Parameters
    ----------
    changed : callable
        Called when there are other sequences than before.
    """

    def __init__(self, scene: Any, changed: Callable[[], None]) -> None:
        self._scene, self._changed = scene, changed
        self._tags: list[int] = []
        self._known: list[str] = []
        self._timer = qt.QTimer()
        self._timer.interval = _SETTLE_MS
        self._timer.connect("timeout()", self._look)

    def start(self) -> None:
        """Begin to watch."""
        self._known = self._present()
        if not self._tags:
            events = (self._scene.NodeAddedEvent, self._scene.NodeRemovedEvent)
            self._tags = [self._scene.AddObserver(event, self._on_node) for event in events]

    def stop(self) -> None:
        """Watch no more."""
        self._timer.stop()
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _on_node(self, *_args: Any) -> None:
        self._timer.start()

    def _look(self) -> None:
        self._timer.stop()
        if self._present() != self._known:
            self._known = self._present()
            self._changed()

    def _present(self) -> list[str]:
        return [node.GetID() for name in (SEQUENCE, MULTI_VOLUME) for node in all_nodes(self._scene, name)]
