"""Tells when a node that was chosen changes: its voxels, segments, points or place. In Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_SETTLE_MS = 200  # dragging and painting tell every place of the mouse


class NodeWatch:
    """Watches the chosen nodes while a panel is shown.

    Parameters
    ----------
    changed : callable
        Called a moment after the last change.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        import qt

        self._followed: list[str] = []
        self._observed: list[tuple[Any, int]] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", changed)

    def follow(self, nodes: Iterable[Any]) -> None:
        """Watch these nodes instead of others; nothing for none. None among them is passed over."""
        nodes = [node for node in nodes if node is not None]
        names = sorted({node.GetID() for node in nodes})
        if names == self._followed:
            return
        self._timer.stop()
        for watched, tag in self._observed:
            watched.RemoveObserver(tag)
        self._followed = names
        what = [pair for node in {node.GetID(): node for node in nodes}.values() for pair in what_to_observe(node)]
        self._observed = [(watched, watched.AddObserver(event, self._on_change)) for watched, event in what]

    def _on_change(self, *_args: Any) -> None:
        self._timer.start(_SETTLE_MS)


def what_to_observe(node: Any) -> list[tuple[Any, Any]]:
    """Objects and events that tell of a change of a node; its display is another node."""
    import slicer

    pairs = [(node, "ModifiedEvent")]
    if node.IsA("vtkMRMLTransformableNode"):
        pairs.append((node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent))
    if node.IsA("vtkMRMLVolumeNode"):
        pairs.append((node, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent))
    if node.IsA("vtkMRMLMarkupsNode"):
        pairs += [(node, node.PointModifiedEvent), (node, node.PointPositionDefinedEvent)]
    if node.IsA("vtkMRMLSegmentationNode"):
        inner = node.GetSegmentation()
        events = (inner.SegmentAdded, inner.SegmentRemoved, inner.SegmentModified, inner.SourceRepresentationModified)
        pairs += [(inner, event) for event in events]
    return pairs
