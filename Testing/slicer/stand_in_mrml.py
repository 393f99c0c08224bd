"""MRML widgets over the real scene. Test stand-in only; it never ships.

Mirrored: Libs/MRML/Widgets/{qMRMLWidget,qMRMLNodeComboBox,qMRMLSegmentSelectorWidget}.h and
Modules/Loadable/SubjectHierarchy/Widgets/qMRMLSubjectHierarchyComboBox.h.
"""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal
from stand_in_qt import PythonQtObject, QUiLoader


class qMRMLWidget(PythonQtObject, QtWidgets.QWidget):  # noqa: N801
    """Hands its scene to the widgets that the .ui connects."""

    _receivers: tuple[Any, ...] = ()

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        _ = [receiver.setMRMLScene(scene) for receiver in self._receivers]


class _NodeList(PythonQtObject, QtWidgets.QComboBox):
    """A list that follows the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene, self._ids, self._types, self._none, self._hidden, self._attribute = None, [], [], False, [], ""
        self.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.currentIndexChanged.connect(self._index_changed)

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
            scene.AddObserver(event, lambda *_: self._refill())
        self._refill()

    def _node_ids(self) -> list[str]:
        nodes = [n for t in self._types for n in slicer.util.getNodesByClass(t, self._scene)]
        nodes = [n for n in nodes if not self._attribute or n.GetAttribute(self._attribute)]
        return [n.GetID() for n in nodes if not n.GetHideFromEditors() and n.GetID() not in self._hidden]

    def sortFilterProxyModel(self) -> Any:  # noqa: N802
        return self  # qMRMLSortFilterProxyModel.h: hiddenNodeIDs, the one property in use, is here

    hiddenNodeIDs = Property(  # noqa: N815
        "QStringList", lambda s: s._hidden, lambda s, v: (setattr(s, "_hidden", list(v)), s._refill())
    )

    def _refill(self) -> None:
        if self._scene is None or self._scene.IsBatchProcessing():
            return
        now, row = self.currentNode(), QtWidgets.QComboBox.currentIndex(self)
        keep = self._ids[row] if 0 <= row < len(self._ids) else ""
        self.blockSignals(True)
        self.clear()
        self._ids = ([""] if self._none else []) + self._node_ids()
        for identifier in self._ids:
            self.addItem(self._scene.GetNodeByID(identifier).GetName() if identifier else "None")
        neighbour = max(0, min(row, len(self._ids) - 1))  # where Qt goes when the row is removed
        self.setCurrentIndex(self._ids.index(keep) if keep in self._ids else neighbour)
        self.blockSignals(False)
        if self.currentNode() is not now:
            self._index_changed()

    def currentNode(self) -> Any:  # noqa: N802
        index = QtWidgets.QComboBox.currentIndex(self)
        identifier = self._ids[index] if 0 <= index < len(self._ids) else ""
        return self._scene.GetNodeByID(identifier) if identifier else None

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        self._refill()  # the proxy model looks again at a node that was given its attribute
        identifier = node.GetID() if node is not None else ""
        self.setCurrentIndex(self._ids.index(identifier) if identifier in self._ids else 0)

    noneEnabled = Property(bool, lambda s: s._none, lambda s, v: setattr(s, "_none", v))  # noqa: N815


class qMRMLNodeComboBox(_NodeList):  # noqa: N801
    """``currentNodeChanged(vtkMRMLNode*)``."""

    currentNodeChanged = Signal(object)  # noqa: N815

    def _index_changed(self, *_: Any) -> None:
        self.currentNodeChanged.emit(self.currentNode())

    def addAttribute(self, _node_type: str, name: str) -> None:  # noqa: N802
        self._attribute = name

    nodeTypes = Property("QStringList", lambda s: s._types, lambda s, v: setattr(s, "_types", list(v)))  # noqa: N815
    addEnabled = removeEnabled = Property(bool, lambda self: True, lambda self, v: None)  # noqa: N815


class qMRMLSubjectHierarchyComboBox(_NodeList):  # noqa: N801
    """Shows 'none' alone: the patients of the tree need Slicer's own model. An item is chosen by its number."""

    currentItemChanged = Signal(int)  # noqa: N815

    _item = 0

    def _index_changed(self, *_: Any) -> None:
        self.setCurrentItem(0)

    def currentItem(self) -> int:  # noqa: N802
        return self._item

    def setCurrentItem(self, item: int) -> None:  # noqa: N802
        self._item = item
        self.currentItemChanged.emit(item)


class qMRMLSegmentSelectorWidget(PythonQtObject, QtWidgets.QWidget):  # noqa: N801
    """Segmentation and segment; ``currentNodeChanged(vtkMRMLNode*)``, ``currentSegmentChanged(QString)``."""

    currentNodeChanged = Signal(object)  # noqa: N815
    currentSegmentChanged = Signal(str)  # noqa: N815

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._nodes, self._segments = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self._nodes._types = ["vtkMRMLSegmentationNode"]
        self._segments.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._ids: list[str] = []
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._nodes.currentNodeChanged.connect(self._node_changed)
        self._segments.currentIndexChanged.connect(lambda _: self.currentSegmentChanged.emit(self.currentSegmentID()))

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self._nodes.setMRMLScene(scene)

    def _node_changed(self, node: Any) -> None:
        self._segments.blockSignals(True)
        self._segments.clear()
        inner = node.GetSegmentation() if node is not None else None
        self._ids = [inner.GetNthSegmentID(n) for n in range(inner.GetNumberOfSegments())] if inner else []
        for identifier in self._ids:
            self._segments.addItem(inner.GetSegment(identifier).GetName())
        self._segments.blockSignals(False)
        self.currentNodeChanged.emit(node)

    def currentNode(self) -> Any:  # noqa: N802
        return self._nodes.currentNode()

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        self._nodes.setCurrentNode(node)

    def currentSegmentID(self) -> str:  # noqa: N802
        index = self._segments.currentIndex()
        return self._ids[index] if 0 <= index < len(self._ids) else ""

    def setCurrentSegmentID(self, identifier: str) -> None:  # noqa: N802
        if identifier in self._ids:
            self._segments.setCurrentIndex(self._ids.index(identifier))

    noneEnabled = Property(bool, lambda s: s._nodes._none, lambda s, v: setattr(s._nodes, "_none", v))  # noqa: N815


CLASSES = (qMRMLWidget, qMRMLNodeComboBox, qMRMLSubjectHierarchyComboBox, qMRMLSegmentSelectorWidget)
QUiLoader.custom = {c.__name__: c for c in CLASSES}
