"""Hidden module: dose-painting targets in Slicer's own DICOM export dialog, behind the same acceptance."""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate

PLUGIN = "HypoxiaDICOMExportPlugin"
CONFIDENCE = 1.0  # above Slicer's own segmentation export, which would lose doses and prescription


class HypoxiaDICOMExportPluginClass:
    """Export plugin as the DICOM module and its export dialog call it (DICOMLib.DICOMPlugin); it reads nothing."""

    def __init__(self):
        self.loadType = _("Hypoxia dose-painting set")
        self.tags = {}

    def cleanup(self):
        """Nothing is kept open."""

    def examineForImport(self, file_lists):
        """No file is this plugin's: RTSTRUCT, SEG and maps have readers of their own."""
        return []

    def examine(self, file_lists):
        """Older name of ``examineForImport``; Slicer's DICOM utilities call it on every plugin."""
        return self.examineForImport(file_lists)

    def examineForExport(self, subject_hierarchy_item):
        """One exportable for the targets that Hypoxia Dose Paint shows, none for anything else."""
        tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        node = tree.GetItemDataNode(subject_hierarchy_item) if tree is not None and subject_hierarchy_item else None
        if node is None or not node.IsA("vtkMRMLSegmentationNode") or not node.GetAttribute("Hypoxia.Targets"):
            return []
        exportable = slicer.qSlicerDICOMExportable()
        exportable.name = _("Hypoxia dose-painting set")
        exportable.tooltip = _("RTSTRUCT, RTPLAN, SEG and maps, read back and proven before they are handed out")
        exportable.subjectHierarchyItemID = subject_hierarchy_item
        exportable.pluginClass = PLUGIN
        exportable.confidence = CONFIDENCE
        return [exportable]

    def export(self, exportables):
        """Export the set into the dialog's folder.

        Returns
        -------
        str
            Empty when it was written, else why not.
        """
        widget = getattr(slicer.modules, "HypoxiaDosePaintWidget", None)
        if widget is None or widget.panel is None:
            return _("Open Hypoxia Dose Paint and accept the targets first.")
        return widget.panel.export_for_dialog(exportables[0].directory)


class HypoxiaDICOMExportPlugin:
    """The hook by which Slicer finds the plugin."""

    def __init__(self, parent):
        parent.title = _("Hypoxia DICOM Export Plugin")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Developer Tools.DICOM Plugins")]
        parent.contributors = ["Slicer Hypoxia contributors"]
        parent.helpText = _("Exports the targets of Hypoxia Dose Paint from the DICOM module. No interface of its own.")
        parent.acknowledgementText = ""
        parent.hidden = True
        if not hasattr(slicer.modules, "dicomPlugins"):
            slicer.modules.dicomPlugins = {}
        slicer.modules.dicomPlugins[PLUGIN] = HypoxiaDICOMExportPluginClass


class HypoxiaDICOMExportPluginWidget:
    """No interface."""

    def __init__(self, parent=None):
        self.parent = parent

    def setup(self):
        """Nothing to show."""

    def enter(self):
        """Nothing to do."""

    def exit(self):
        """Nothing to do."""
