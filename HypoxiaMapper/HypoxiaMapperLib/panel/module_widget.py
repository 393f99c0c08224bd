"""What the widgets of both modules do alike: build the panel, follow the scene, let go of both. For Slicer only.

Imported by the module files themselves, when Slicer starts: nothing but the application is imported here.
"""

from __future__ import annotations

import sys
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin
from vtkmodules.vtkCommonCore import vtkCommand


class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Hooks of the application around a panel with ``set_parameters``, ``refresh``, ``pause`` and ``forget``."""

    libraries: tuple[str, ...] = ()  # packages that Reload forgets

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def make_panel(self) -> tuple[Any, Any]:
        """Logic and panel of the module; the widgets of its .ui file are in ``self.ui``."""
        raise NotImplementedError

    def setup(self) -> None:
        """Build the panel, once."""
        ScriptedLoadableModuleWidget.setup(self)
        ui_widget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(ui_widget)
        self.ui = slicer.util.childWidgetVariables(ui_widget)
        ui_widget.setMRMLScene(slicer.mrmlScene)
        self.logic, self.panel = self.make_panel()
        from .labels import reach_by_key

        reach_by_key(ui_widget)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self.on_scene_end_close)
        self.addObserver(scene, scene.EndImportEvent, self.on_scene_end_close)
        self.use_parameter_node()  # after a reload nobody enters the module

    def cleanup(self) -> None:
        """The application closes, or the module is reloaded."""
        self.stop_using_parameter_node()
        if self.panel is not None:
            self.panel.forget()
        self.removeObservers()

    def enter(self) -> None:
        """The user comes to this module."""
        self.use_parameter_node()

    def exit(self) -> None:
        """The user goes to another module: changes there show when he comes back."""
        self.stop_using_parameter_node()

    def on_scene_start_close(self, _caller: Any, _event: Any) -> None:
        """Nodes will be gone, and with them what was computed of them."""
        self.stop_using_parameter_node()
        self.panel.forget()

    def on_scene_end_close(self, _caller: Any, _event: Any) -> None:
        """An empty or another scene."""
        if self.parent.isEntered:
            self.use_parameter_node()

    def use_parameter_node(self) -> None:
        """Observe the module's parameter node."""
        self.stop_using_parameter_node()
        parameters = self.logic.getParameterNode()
        self.panel.set_parameters(parameters)
        self.addObserver(parameters.parameterNode, vtkCommand.ModifiedEvent, self.panel.refresh)

    def stop_using_parameter_node(self) -> None:
        """Show its changes no more."""
        if self.panel is not None and self.panel.parameters is not None:
            node = self.panel.parameters.parameterNode
            if self.hasObserver(node, vtkCommand.ModifiedEvent, self.panel.refresh):
                self.removeObserver(node, vtkCommand.ModifiedEvent, self.panel.refresh)
            self.panel.pause()

    def onReload(self) -> None:
        """Reload the libraries too, or the module would go on with the old ones."""
        for name in [n for n in sys.modules if n.split(".")[0] in self.libraries]:
            del sys.modules[name]
        super().onReload()
