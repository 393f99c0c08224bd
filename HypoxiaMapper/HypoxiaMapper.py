"""Hypoxia Mapper: hypoxia maps from PET (and other images) on the planning CT, and the hypoxic subvolume."""

import sys
from pathlib import Path

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

PATIENT_NAME = "HypoxiaDigitalPatient"


class HypoxiaMapper(ScriptedLoadableModule):
    """What the module selector shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Hypoxia Mapper")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        parent.dependencies = []
        parent.contributors = ["Slicer Hypoxia contributors"]
        parent.helpText = _("Hypoxia maps from tracer PET on the planning CT, with threshold, volume and subvolume.")
        parent.helpText += "<p>" + _("Research use only.") + "</p>"
        parent.acknowledgementText = _("Methods and thresholds are cited where they are chosen.")
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data():
    """The digital patient in the Sample Data module: made here, nothing is downloaded."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # newer than Slicer 5.10
        logic.registerCustomSampleDataCategory("Hypoxia", title=_("Hypoxia"))
    logic.registerCustomSampleDataSource(
        category="Hypoxia",
        sampleName=PATIENT_NAME,
        uris=[],  # nothing to download; without the empty lists Slicer refuses the entry
        fileNames=[],
        customDownloader=load_digital_patient,
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "HypoxiaMapper.png"),
    )


def load_digital_patient(source=None, seed=None):
    """Make the digital patient in the folder for temporary files (once a session) and load it.

    Returns
    -------
    HypoxiaMapperLib.panel.patient_loader.Loaded
        Its volumes and segmentations.
    """
    from HypoxiaMapperLib.panel.patient_loader import load_patient
    from HypoxiaMapperLib.simulate.digital_patient import DEFAULT_SEED, make_patient

    seed = DEFAULT_SEED if seed is None else seed
    folder = Path(slicer.app.temporaryPath) / f"{PATIENT_NAME}-{seed}"
    if not folder.exists():
        make_patient(folder, seed)
    loaded = load_patient(slicer.mrmlScene, folder)
    planning = next(v for v in loaded.volumes if v.GetName().startswith("CT"))
    slicer.util.setSliceViewerLayers(background=planning, fit=True)
    return loaded


class HypoxiaMapperWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Hooks of the application; the panel itself is ``HypoxiaMapperLib.panel.widget.MapperPanel``."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        """Build the panel, once."""
        ScriptedLoadableModuleWidget.setup(self)
        from HypoxiaMapperLib.panel.widget import MapperPanel

        ui_widget = slicer.util.loadUI(self.resourcePath("UI/HypoxiaMapper.ui"))
        self.layout.addWidget(ui_widget)
        self.ui = slicer.util.childWidgetVariables(ui_widget)
        ui_widget.setMRMLScene(slicer.mrmlScene)
        self.say_if_shadowed()
        self.logic = HypoxiaMapperLogic()
        self.panel = MapperPanel(self.ui, slicer.mrmlScene)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.on_scene_end_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.on_scene_end_close)
        self.use_parameter_node()

    def say_if_shadowed(self):
        """A wheel installed into Slicer comes before the extension on the path: then another version runs."""
        import HypoxiaMapperLib

        own, used = Path(__file__).resolve().parent, Path(HypoxiaMapperLib.__file__).resolve()
        if own not in used.parents:
            self.ui.researchLabel.text = _(
                "Another installation is in use: {path}. Remove it: PythonSlicer -m pip uninstall slicer-hypoxia"
            ).format(path=used.parent)

    def cleanup(self):
        """The application closes, or the module is reloaded."""
        self.stop_using_parameter_node()
        if self.panel is not None:
            self.panel.forget()
        self.removeObservers()

    def enter(self):
        """The user comes to this module."""
        self.use_parameter_node()

    def exit(self):
        """The user goes to another module: changes there show when he comes back."""
        self.stop_using_parameter_node()

    def on_scene_start_close(self, caller, event):
        """Nodes will be gone."""
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
        """Reload the libraries too, or the module would go on with the old ones."""
        for name in [n for n in sys.modules if n.split(".")[0] in ("HypoxiaMapperLib", "HypoxiaDosePaintLib")]:
            del sys.modules[name]
        super().onReload()


class HypoxiaMapperLogic(ScriptedLoadableModuleLogic):
    """Gives the parameter node; the work is done by ``HypoxiaMapperLib``."""

    def getParameterNode(self):
        """The module's parameter node, typed."""
        from HypoxiaMapperLib.panel.parameters import MapperParameters

        return MapperParameters(super().getParameterNode())


class HypoxiaMapperTest(ScriptedLoadableModuleTest):
    """Walks the panel as a user does."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        """All tests, from the developer section of the panel."""
        for name in ("map_and_subvolume", "refusals", "one_patient", "series_and_curves"):
            self.setUp()
            self.walk(name)

    def walk(self, name):
        """One of ``HypoxiaMapperLib.panel.self_test``."""
        from HypoxiaMapperLib.panel import self_test

        getattr(self_test, name)(self)

    def test_map_and_subvolume(self):
        """Load, choose, run, threshold, segment, stale, save and reload."""
        self.walk("map_and_subvolume")

    def test_refusals(self):
        """Missing unit, nothing chosen, cancel."""
        self.walk("refusals")

    def test_one_patient(self):
        """Only the chosen patient's images are offered; two patients are refused."""
        self.walk("one_patient")

    def test_series_and_curves(self):
        """Dynamic series, further maps, curves of region and voxel."""
        self.walk("series_and_curves")
