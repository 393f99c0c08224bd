"""Hypoxia Dose Paint: from a hypoxia map to planning targets, a prescription and a proven DICOM set."""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

from HypoxiaMapperLib.panel.module_widget import PanelWidget  # its folder is on the path before any module starts


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


class HypoxiaDosePaintWidget(PanelWidget):
    """The panel itself is ``HypoxiaDosePaintLib.panel.widget.PaintPanel``."""

    libraries = ("HypoxiaDosePaintLib",)

    def make_panel(self):
        """Logic and panel."""
        from HypoxiaDosePaintLib.panel.widget import PaintPanel

        return HypoxiaDosePaintLogic(), PaintPanel(self.ui, slicer.mrmlScene)

    def enter(self):
        """The user comes to this module."""
        super().enter()
        self.panel.fill_in()


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
