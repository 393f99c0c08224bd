"""A small Slicer for running the self-tests where there is none: real MRML from slicer-core, Qt from PySide6.

Test stand-in only; it never ships. Only what the modules use is here, anything else raises. Mirrored:
Base/Python/slicer/{ScriptedLoadableModule,i18n,util}.py, parameterNodeWrapper/{wrapper,serializers,guiConnectors}.py,
Base/QTCore/qSlicerCoreApplication.h.
"""

from __future__ import annotations

import collections
import functools
import importlib
import os
import sys
import types
import typing
import unittest
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_LOGGING_RULES", "qt.core.qobject.connect=false")  # of scene signals, made by name here
import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets
from stand_in_qt import PythonQtObject, ctk, qt

APPLICATION = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])

WithinRange = collections.namedtuple("WithinRange", "minimum maximum")  # validators.py
Choice = collections.namedtuple("Choice", "choices")


def _read(node: Any, name: str, kind: type) -> Any:
    if issubclass(kind, slicer.vtkMRMLNode):
        return node.GetNodeReference(name)
    text = node.GetParameter(name)
    return text == "True" if kind is bool else kind(text)


def _write(node: Any, name: str, kind: type, rules: tuple[Any, ...], value: Any) -> None:
    if issubclass(kind, slicer.vtkMRMLNode):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        return
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(f"{name} is {value!r}, not {kind.__name__}")
    for rule in rules:
        if isinstance(rule, WithinRange) and not rule.minimum <= value <= rule.maximum:
            raise ValueError(f"{name} is {value}")
        if isinstance(rule, Choice) and value not in rule.choices:
            raise ValueError(f"{name} is {value!r}")
    node.SetParameter(name, str(kind(value)))


def parameterNodeWrapper(cls: type) -> type:  # noqa: N802
    """wrapper.py, for str, float, int, bool and nodes."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {}
    for name, hint in hints.items():
        rules = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        kind = typing.get_args(hint)[0] if rules else hint
        default = None if issubclass(kind, slicer.vtkMRMLNode) else getattr(cls, name, kind())
        fields[name] = (kind, rules, default)
        getter = lambda self, n=name, k=kind: _read(self.parameterNode, n, k)  # noqa: E731
        setter = lambda self, v, n=name, k=kind, r=rules: _write(self.parameterNode, n, k, r, v)  # noqa: E731
        setattr(cls, name, property(getter, setter))

    def init(self: Any, node: Any) -> None:
        self.parameterNode, self._guis = node, {}
        for name, (kind, rules, default) in fields.items():
            if not node.HasParameter(name):
                _write(node, name, kind, rules, default)

    def connect_gui(self: Any, ui: Any) -> int:
        links, busy = {}, []
        for widget in vars(ui).values():
            name = QtCore.QObject.property(widget, "SlicerParameterName")
            if name:
                links[name] = _Link(widget, *fields[name][:2])

        def to_gui(*_: Any) -> None:
            if not busy:
                busy.append(1)
                for name, link in links.items():
                    link.write(getattr(self, name))
                busy.clear()

        to_gui()
        to_node = lambda *_, n, k: None if busy else setattr(self, n, k.read())  # noqa: E731
        slots = [(link, functools.partial(to_node, n=name, k=link)) for name, link in links.items()]
        for link, slot in slots:
            link.signal.connect(slot)
        self._guis[len(self._guis)] = (self.parameterNode.AddObserver("ModifiedEvent", to_gui), slots)
        return len(self._guis) - 1

    def disconnect_gui(self: Any, tag: int) -> None:
        observer, slots = self._guis.pop(tag)
        self.parameterNode.RemoveObserver(observer)
        _ = [link.signal.disconnect(slot) for link, slot in slots]

    cls.__init__, cls.connectGui, cls.disconnectGui = init, connect_gui, disconnect_gui
    return cls


class _Link:  # guiConnectors.py: classes with a SlicerParameterName: type of the parameter, signal, property
    KINDS: typing.ClassVar[dict[str, tuple[type, str, str]]] = {
        "QCheckBox": (bool, "toggled", "checked"), "QComboBox": (str, "currentIndexChanged", ""),
        "QDoubleSpinBox": (float, "valueChanged", "value"), "QSpinBox": (int, "valueChanged", "value"),
        "ctkSliderWidget": (float, "valueChanged", "value"), "QLineEdit": (str, "textChanged", "text"),
        "qMRMLNodeComboBox": (slicer.vtkMRMLNode, "currentNodeChanged", ""),
    }  # fmt: skip

    def __init__(self, widget: Any, kind: type, rules: tuple[Any, ...]) -> None:
        self.widget, self.rules = widget, rules
        self.name = next(c.__name__ for c in type(widget).__mro__ if c.__name__ in self.KINDS)
        wanted, signal, self.property = self.KINDS[self.name]
        if not issubclass(kind, wanted) or (self.name == "ctkSliderWidget" and not rules):
            raise TypeError(f"{self.name} cannot hold {kind} with {rules}")
        self.signal = getattr(widget, signal)
        if self.name == "QComboBox":
            widget.clear()
            for choice in rules[0].choices:
                widget.addItem(str(choice))
        elif self.property == "value":
            widest = 1e300 if kind is float else 2**31 - 1
            widget.minimum, widget.maximum = (rules[0].minimum, rules[0].maximum) if rules else (-widest, widest)

    def read(self) -> Any:
        if self.name == "qMRMLNodeComboBox":
            return self.widget.currentNode()
        if self.name == "QComboBox":
            return self.rules[0].choices[self.widget.currentIndex]
        return getattr(self.widget, self.property)

    def write(self, value: Any) -> None:
        if self.name == "qMRMLNodeComboBox":
            self.widget.setCurrentNode(value)
        elif self.name == "QComboBox":
            self.widget.currentIndex = self.rules[0].choices.index(value)
        elif self.read() != value:
            setattr(self.widget, self.property, value)


class ScriptedLoadableModule:  # ScriptedLoadableModule.py, as the three below
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any) -> None:
        self.parent, self.layout = parent, parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return str(Path(sys.modules[self.moduleName].__file__).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:  # one parameter node per scene
    def getParameterNode(self) -> Any:  # noqa: N802
        name = type(self).__name__.removesuffix("Logic")
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(name)
            node.SetName(name)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", name)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    on_message: typing.ClassVar[dict[str, Any]] = {}  # what the runner does when a test says so

    def delayDisplay(self, message: str) -> None:  # noqa: N802
        print(message, flush=True)
        slicer.app.processEvents()
        if message in self.on_message:
            self.on_message[message]()


class Application:  # qSlicerCoreApplication.h.
    def __init__(self, temporary_path: Path) -> None:
        self.temporaryPath = str(temporary_path)

    def connect(self, signal: str, slot: Any) -> None:
        assert (signal, callable(slot)) == ("startupCompleted()", True)

    def processEvents(self, *flags: Any) -> None:  # noqa: N802
        APPLICATION.processEvents(*flags)

    testingEnabled = staticmethod(lambda: True)  # noqa: N815

    def _nothing(self, *_: Any) -> None:  # as with --no-main-window
        return

    setOverrideCursor = restoreOverrideCursor = layoutManager = pauseRender = resumeRender = _nothing  # noqa: N815
    startupEnvironment = staticmethod(QtCore.QProcessEnvironment.systemEnvironment)  # noqa: N815


def _make_scene(folder: Path) -> Any:
    """The scene with the nodes that Slicer's views put into it."""
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    scene._logic = logic
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    for layout in ("Red", "Green", "Yellow"):
        node = slicer.vtkMRMLSliceCompositeNode()
        node.SetSingletonTag(layout)
        node.SetLayoutName(layout)
        scene.AddNode(node)
    scene.AddNode(slicer.vtkMRMLCrosshairNode())
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return scene


def _module(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    if name.startswith("slicer."):
        setattr(slicer, name.split(".", 1)[1], module)


def start(temporary_path: Path) -> None:
    """Make ``qt``, ``ctk`` and the missing parts of ``slicer`` importable."""
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    wrapper = (parameterNodeWrapper, WithinRange, Choice)
    _module("slicer.parameterNodeWrapper", **{c.__name__: c for c in wrapper})
    bases = (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic)
    _module("slicer.ScriptedLoadableModule", **{c.__name__: c for c in (*bases, ScriptedLoadableModuleTest)})
    slicer.mrmlScene, slicer.app = _make_scene(temporary_path), Application(temporary_path)
    slicer.modules = types.SimpleNamespace()
    slicer.dicomDatabase = types.SimpleNamespace(isOpen=False)  # ctkDICOMDatabase.h, not set up yet
    import stand_in_mrml

    vars(slicer).update({cls.__name__: cls for cls in stand_in_mrml.CLASSES})
    settable = "confidence directory name pluginClass subjectHierarchyItemID tooltip"  # qSlicerDICOMExportable.h
    slicer.qSlicerDICOMExportable = type("qSlicerDICOMExportable", (), {"__slots__": settable.split()})
    slicer.util.selectModule = select_module
    slicer.util.saveScene = lambda path: slicer.mrmlScene.WriteToMRB(path)  # coreIOManager.saveScene
    slicer.util.loadScene = lambda path: slicer.mrmlScene.ReadFromMRB(path)  # coreIOManager.loadScene
    slicer.util.setSliceViewerLayers = slicer.util.resetThreeDViews = lambda **_: None  # need the views


def load_module(folder: Path, name: str) -> Any:
    """Import a module file and make its module, as qSlicerScriptedLoadableModule does."""
    sys.path.append(str(folder))
    getattr(importlib.import_module(name), name)(types.SimpleNamespace(path=str(folder / f"{name}.py"), helpText=""))
    return sys.modules[name]


def select_module(name: str) -> None:
    """Make the widget of a module once, and enter it."""
    key = f"{name}Widget"
    if not hasattr(slicer.modules, key):
        parent = ModuleParent()
        QtWidgets.QVBoxLayout(parent)
        widget = getattr(sys.modules[name], key)(parent)
        widget.setup()
        parent.resize(480, 1400)
        setattr(slicer.modules, key, widget)
    for widget in [w for n, w in vars(slicer.modules).items() if n.endswith("Widget") and w.parent._entered]:
        widget.parent._entered = False
        widget.exit()
    getattr(slicer.modules, key).parent._entered = True
    getattr(slicer.modules, key).enter()


class ModuleParent(PythonQtObject, QtWidgets.QWidget):  # qSlicerScriptedLoadableModuleWidget.h
    _entered = False
    isEntered = QtCore.Property(bool, lambda self: self._entered)  # noqa: N815
