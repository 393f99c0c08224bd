"""Hypoxia Dose Paint: from a hypoxia map to planning targets, a prescription and a proven DICOM set."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HypoxiaDosePaint(ScriptedLoadableModule):
    """What the module selector shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Hypoxia Dose Paint")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        parent.dependencies = ["HypoxiaMapper"]
        parent.contributors = ["Slicer Hypoxia contributors"]
        parent.helpText = _("Planning targets and prescription from a hypoxia map, exported as DICOM and proven.")
        parent.helpText += "<p>" + _("Research use only.") + "</p>"
        parent.acknowledgementText = _("Protocols and limits are cited where they are chosen.")


class HypoxiaDosePaintWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Hooks of the application; the panel itself is ``HypoxiaDosePaintLib.panel.widget.PaintPanel``."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self):
        """Build the panel, once."""
        ScriptedLoadableModuleWidget.setup(self)
        from HypoxiaDosePaintLib.panel.widget import PaintPanel

        ui_widget = slicer.util.loadUI(self.resourcePath("UI/HypoxiaDosePaint.ui"))
        self.layout.addWidget(ui_widget)
        self.ui = slicer.util.childWidgetVariables(ui_widget)
        ui_widget.setMRMLScene(slicer.mrmlScene)
        self.logic = HypoxiaDosePaintLogic()
        self.panel = PaintPanel(self.ui, slicer.mrmlScene)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.on_scene_end_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.on_scene_end_close)

    def cleanup(self):
        """The application closes, or the module is reloaded."""
        self.stop_using_parameter_node()
        if self.panel is not None:
            self.panel.forget()
        self.removeObservers()

    def enter(self):
        """The user comes to this module."""
        self.use_parameter_node()
        self.panel.fill_in()

    def exit(self):
        """The user goes to another module: changes there show when he comes back."""
        self.stop_using_parameter_node()

    def on_scene_start_close(self, caller, event):
        """Nodes will be gone, and with them what could be exported."""
        self.stop_using_parameter_node()
        self.panel.forget()

    def on_scene_end_close(self, caller, event):
        """An empty or another scene."""
        if self.parent.isEntered:
            self.use_parameter_node()

    def use_parameter_node(self):
        """Observe the module's parameter node."""
        self.stop_using_parameter_node()
        parameters = self.logic.getParameterNode()
        self.panel.set_parameters(parameters)
        self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.panel.refresh)

    def stop_using_parameter_node(self):
        """Show its changes no more."""
        if self.panel is not None and self.panel.parameters is not None:
            node = self.panel.parameters.parameterNode
            if self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self.panel.refresh):
                self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self.panel.refresh)
            self.panel.pause()

    def onReload(self):
        """Reload the library too, or the module would go on with the old one."""
        import sys

        for name in [n for n in sys.modules if n.split(".")[0] == "HypoxiaDosePaintLib"]:
            del sys.modules[name]
        super().onReload()


class HypoxiaDosePaintLogic(ScriptedLoadableModuleLogic):
    """Gives the parameter node; the work is done by ``HypoxiaDosePaintLib``."""

    def getParameterNode(self):
        """The module's parameter node, typed."""
        from HypoxiaDosePaintLib.panel.parameters import PaintParameters

        return PaintParameters(super().getParameterNode())


class HypoxiaDosePaintTest(ScriptedLoadableModuleTest):
    """Walks the panel as a user does."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        """All tests, from the developer section of the panel."""
        self.setUp()
        self.test_street_to_export()

    def test_street_to_export(self):
        """Map, targets, prescription, preview, acceptance, export, read-back, change."""
        from HypoxiaDosePaintLib.panel import self_test

        self_test.street_to_export(self)
