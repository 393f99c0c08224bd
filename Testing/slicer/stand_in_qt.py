"""Qt and CTK for running the panels without Slicer: PySide6 behaving as PythonQt does, no more than the panels use.

Test stand-in only; it never ships. Mirrored: PythonQt (properties are attributes; ``connect("signal()", slot)``; an
unknown attribute raises), CTK Libs/Widgets/{ctkCollapsibleButton,ctkSliderWidget,...}.h.
"""

from __future__ import annotations

import types
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import Property, Signal

VIRTUAL = ("sizeHint", "minimumSizeHint")  # Qt itself looks these up as methods


class PythonQtObject:
    """PythonQt: a Qt property is read and set as an attribute, and wins over a method of the same name."""

    def __getattribute__(self, name: str) -> Any:
        if name == "name":
            name = "objectName"
        if name in VIRTUAL or (name == "text" and isinstance(self, QtWidgets.QProgressBar)):
            return super().__getattribute__(name)
        if not name.startswith("_") and QtCore.QObject.metaObject(self).indexOfProperty(name) >= 0:
            return QtCore.QObject.property(self, name)
        if name == "connect":  # PythonQt: connect("timeout()", slot)
            return lambda signal, slot: getattr(self, signal.split("(")[0]).connect(slot)
        return (lambda: type(self).__name__) if name == "className" else super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        name = "objectName" if name == "name" else name
        if QtCore.QObject.metaObject(self).indexOfProperty(name) >= 0:
            if not QtCore.QObject.setProperty(self, name, list(value) if isinstance(value, tuple) else value):
                raise TypeError(f"{type(self).__name__}.{name} does not take {value!r}")
        elif name.startswith("_") or isinstance(value, QtCore.QObject):  # PySide's loader keeps children by name
            super().__setattr__(name, value)
        else:
            raise AttributeError(f"{type(self).__name__} has no property {name!r}")


WIDGETS = "QWidget QLabel QPushButton QComboBox QSpinBox QDoubleSpinBox QLineEdit QCheckBox QProgressBar QTableWidget"
PLAIN = "QVBoxLayout QHBoxLayout QFormLayout QGridLayout QTableWidgetItem QFileDialog QHeaderView QAbstractItemView"
qt = types.ModuleType("qt", "Only the classes named here; another one raises.")
for _name in WIDGETS.split():
    setattr(qt, _name, type(_name, (PythonQtObject, getattr(QtWidgets, _name)), {}))
for _name in PLAIN.split():
    setattr(qt, _name, getattr(QtWidgets, _name))
qt.QTimer = type("QTimer", (PythonQtObject, QtCore.QTimer), {})
qt.QFile, qt.Qt, qt.QUrl, qt.QEventLoop = QtCore.QFile, QtCore.Qt, QtCore.QUrl, QtCore.QEventLoop
qt.QDesktopServices, qt.QBrush, qt.QPalette = QtGui.QDesktopServices, QtGui.QBrush, QtGui.QPalette
qt.QSizePolicy, qt.QInputDialog = QtWidgets.QSizePolicy, QtWidgets.QInputDialog


class ctkCollapsibleButton(PythonQtObject, QtWidgets.QGroupBox):  # noqa: N801
    """ctkCollapsibleButton.h: ``text``, ``collapsed``."""

    _collapsed = False

    def _set_collapsed(self, value: bool) -> None:
        self._collapsed = value
        for child in self.children():
            if child.isWidgetType():
                child.setVisible(not value)

    text = Property(str, lambda self: QtWidgets.QGroupBox.title(self), lambda self, v: self.setTitle(v))
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)


class ctkSliderWidget(PythonQtObject, QtWidgets.QWidget):  # noqa: N801
    """ctkSliderWidget.h: slider with spin box; ``valueChanged(double)``."""

    valueChanged = Signal(float)  # noqa: N815

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider, self._page = QtWidgets.QSlider(QtCore.Qt.Horizontal), 10.0
        self._spin = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._slider.setMaximum(1000)
        self._spin.valueChanged.connect(self._moved)

    def _moved(self, value: float) -> None:
        span = self._spin.maximum() - self._spin.minimum()
        self._slider.setValue(round(1000 * (value - self._spin.minimum()) / span) if span else 0)
        self.valueChanged.emit(value)

    minimum = Property(float, lambda self: self._spin.minimum(), lambda self, v: self._spin.setMinimum(v))
    maximum = Property(float, lambda self: self._spin.maximum(), lambda self, v: self._spin.setMaximum(v))
    pageStep = Property(float, lambda s: s._page, lambda s, v: setattr(s, "_page", v))  # noqa: N815
    singleStep = Property(float, lambda s: s._spin.singleStep(), lambda s, v: s._spin.setSingleStep(v))  # noqa: N815
    decimals = Property(int, lambda self: self._spin.decimals(), lambda self, v: self._spin.setDecimals(v))
    value = Property(float, lambda self: self._spin.value(), lambda self, v: self._spin.setValue(v))


class ctkDirectoryButton(PythonQtObject, QtWidgets.QPushButton):  # noqa: N801
    """ctkDirectoryButton.h: ``directory``, ``directorySelected(QString)``."""

    directorySelected = Signal(str)  # noqa: N815
    _directory = "."

    def _set(self, value: str) -> None:
        self._directory = value
        self.setText(value)
        self.directorySelected.emit(value)

    directory = Property(str, lambda self: self._directory, _set)


class ctkPathLineEdit(PythonQtObject, QtWidgets.QLineEdit):  # noqa: N801  # ctkPathLineEdit.h
    currentPathChanged = Signal(str)  # noqa: N815

    def _set(self, value: str) -> None:
        self.setText(value)
        self.currentPathChanged.emit(value)

    currentPath = Property(str, lambda self: QtWidgets.QLineEdit.text(self), _set)  # noqa: N815


ctk = types.ModuleType("ctk", "Only the classes named here; another one raises.")
for _class in (ctkCollapsibleButton, ctkSliderWidget, ctkDirectoryButton, ctkPathLineEdit):
    setattr(ctk, _class.__name__, _class)


class QUiLoader(QtUiTools.QUiLoader):
    """Loads the .ui for real; a class that is not here raises. Scene connections of the file are made by name."""

    custom: ClassVar[dict[str, type]] = {}

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:  # noqa: N802
        kind = self.custom.get(class_name) or getattr(ctk, class_name, None) or getattr(qt, class_name)
        widget = kind(parent)
        widget.setObjectName(name)
        return widget

    def load(self, file: Any) -> Any:
        tree = ElementTree.fromstring(bytes(file.readAll()))
        file.seek(0)
        widget = super().load(file)
        widget._receivers = [
            widget.findChild(QtWidgets.QWidget, c.findtext("receiver")) for c in tree.findall("connections/connection")
        ]
        return widget


qt.QUiLoader = QUiLoader
