"""Lets selectors go of a node that is being removed: Slicer's lists go to its neighbour, which nobody chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vtkmodules.util.misc import calldata_type
from vtkmodules.util.vtkConstants import VTK_OBJECT

_BEFORE_THE_LISTS = 10.0  # priority of the observer: the lists of the widgets have 0


class RemovalWatch:
    """Watches a scene as long as a panel has a parameter node, also while another module is shown.

    Parameters
    ----------
    scene : vtkMRMLScene
        The scene.
    selectors : callable
        Gives the node and segment selectors of the panel, all with "none" among their choices.
    """

    def __init__(self, scene: Any, selectors: Callable[[], Iterable[Any]]) -> None:
        self._scene, self._selectors = scene, selectors
        self._tag = 0

    def start(self) -> None:
        """Begin to watch."""
        if not self._tag:
            event = self._scene.NodeAboutToBeRemovedEvent
            self._tag = self._scene.AddObserver(event, self._on_removal, _BEFORE_THE_LISTS)

    def stop(self) -> None:
        """Watch no more."""
        if self._tag:
            self._scene.RemoveObserver(self._tag)
        self._tag = 0

    @calldata_type(VTK_OBJECT)
    def _on_removal(self, _scene: Any, _event: str, node: Any) -> None:
        for selector in self._selectors():
            chosen = selector.currentNode()
            if chosen is not None and chosen.GetID() == node.GetID():
                selector.setCurrentNode(None)
