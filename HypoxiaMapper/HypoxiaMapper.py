"""Hypoxia Mapper: hypoxia maps from PET (and other images) on the planning CT, and the hypoxic subvolume."""

from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

from HypoxiaMapperLib.panel.module_widget import PanelWidget

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


class HypoxiaMapperWidget(PanelWidget):
    """The panel itself is ``HypoxiaMapperLib.panel.widget.MapperPanel``."""

    libraries = ("HypoxiaMapperLib", "HypoxiaDosePaintLib")  # the second imports the first

    def make_panel(self):
        """Logic and panel."""
        from HypoxiaMapperLib.panel.widget import MapperPanel

        self.say_if_shadowed()
        return HypoxiaMapperLogic(), MapperPanel(self.ui, slicer.mrmlScene)

    def say_if_shadowed(self):
        """A wheel installed into Slicer comes before the extension on the path: then another version runs."""
        import HypoxiaMapperLib

        own, used = Path(__file__).resolve().parent, Path(HypoxiaMapperLib.__file__).resolve()
        if own not in used.parents:
            self.ui.researchLabel.text = _(
                "Another installation is in use: {path}. Remove it: PythonSlicer -m pip uninstall slicer-hypoxia"
            ).format(path=used.parent)

    def onReload(self):
        """Dose Paint goes on with the new libraries, too."""
        super().onReload()
        if hasattr(slicer.modules, "HypoxiaDosePaintWidget"):
            slicer.util.reloadScriptedModule("HypoxiaDosePaint")


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
        for name in ("map_and_subvolume", "refusals", "one_patient", "series_and_curves", "changes_elsewhere"):
            self.setUp()
            getattr(self, f"test_{name}")()

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

    def test_changes_elsewhere(self):
        """Inputs edited, moved and removed outside the panel."""
        from HypoxiaMapperLib.panel.self_test_changes import changes_elsewhere

        changes_elsewhere(self)
