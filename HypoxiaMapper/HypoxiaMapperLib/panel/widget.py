"""The mapper panel in Qt: shows what the plain classes say, and hands them what the user does. Steps 1 and 2."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from vtk import vtkCollection

from ..errors import HypoxiaError
from ..jobs import read_result, write_job
from ..methods import all_methods
from .child import PACKAGE_PARENT, ChildRun, python_executable, time_left_text, worker_arguments
from .choices import ALIGNMENT_TEXTS, MapperChoices, MapperDecisions, SegmentChoice, guess_choices, why_method_is_grey
from .labels import fit_labels
from .map_nodes import map_to_node
from .map_section import MapSection
from .method_form import MethodForm, new_form
from .node_images import STATED_UNITS, NodeImages, database_files, state_unit, suv_line
from .packages import install, missing_packages
from .parameters import INPUT_ROLE, TRACER_CHOICES, MapperParameters
from .patient_loader import Loaded, load_patient
from .views import unit_text

POLL_MS = 100
VOLUME = "vtkMRMLScalarVolumeNode"


class MapperPanel:
    """The four steps.

    Parameters
    ----------
    ui : object
        Child widgets of ``HypoxiaMapper.ui`` by name.
    scene : vtkMRMLScene
        The scene of the widgets.
    """

    def __init__(self, ui: Any, scene: Any) -> None:
        self.ui, self.scene = ui, scene
        self.parameters: MapperParameters | None = None
        self.images = NodeImages(database_files)
        self.decisions = MapperDecisions(self.images)
        self.run_state: ChildRun | None = None
        self._job_folder: tempfile.TemporaryDirectory[str] | None = None
        self._job_choices = MapperChoices()
        self._job_prints: dict[str, str] = {}
        self._input_selectors: dict[str, Any] = {}
        self._gui_tag: Any = None
        self._updating = False
        self.form = MethodForm(ui.parametersWidget, self._on_parameters)
        self.map_section = MapSection(self)
        self.timer = qt.QTimer()
        self.timer.interval = POLL_MS
        self.timer.connect("timeout()", self.poll)
        self._fill_lists()
        self._connect()

    def _fill_lists(self) -> None:
        """Entries of the lists that do not depend on the scene."""
        for key, text in ALIGNMENT_TEXTS.items():
            self.ui.alignmentComboBox.addItem(_(text), key)
        for text in STATED_UNITS:
            self.ui.unitComboBox.addItem(text)
        for name, method in all_methods().items():
            self.ui.methodComboBox.addItem(method.title, name)
            if why_method_is_grey(method):
                # Qt keeps the flags of a list's item in this role; 0 makes it grey.
                self.ui.methodComboBox.setItemData(self.ui.methodComboBox.count - 1, 0, qt.Qt.UserRole - 1)
        self.ui.tracerComboBox.toolTip = f"{self.ui.tracerComboBox.toolTip} ({', '.join(TRACER_CHOICES[1:])})"

    def _connect(self) -> None:
        """Signals of steps 1 and 2."""
        ui = self.ui
        ui.loadFolderButton.clicked.connect(self.on_load_folder)
        ui.guessButton.clicked.connect(self.fill_in)
        ui.patientSelector.currentItemChanged.connect(self._on_selection)
        ui.stateUnitButton.clicked.connect(self.on_state_unit)
        ui.gtvSelector.currentNodeChanged.connect(self._on_selection)
        ui.gtvSelector.currentSegmentChanged.connect(self._on_selection)
        ui.referenceSelector.currentNodeChanged.connect(self._on_selection)
        ui.referenceSelector.currentSegmentChanged.connect(self._on_selection)
        ui.placeSphereButton.clicked.connect(self.on_place_sphere)
        ui.alignmentComboBox.currentIndexChanged.connect(self._on_selection)
        ui.methodComboBox.currentIndexChanged.connect(self._on_method)
        ui.installButton.clicked.connect(self.on_install)
        ui.runButton.clicked.connect(self.on_run)
        ui.cancelButton.clicked.connect(self.on_cancel)

    # Parameter node

    def pause(self) -> None:
        """The user goes to another module: nothing is shown, a running computation goes on."""
        if self.parameters is not None and self._gui_tag is not None:
            self.parameters.disconnectGui(self._gui_tag)
        self._gui_tag = None

    def forget(self) -> None:
        """The scene closes: let go of everything that came from it."""
        self.timer.stop()
        if self.run_state is not None:
            self.run_state.cancel()
            self.run_state = None
        self.set_parameters(None)
        self.images.clear()
        self.decisions = MapperDecisions(self.images)
        self.map_section.forget()

    def set_parameters(self, parameters: MapperParameters | None) -> None:
        """Show another parameter node; None for none."""
        self.pause()
        self.parameters = parameters
        if parameters is None:
            return
        self._gui_tag = parameters.connectGui(self.ui)
        self._show_method()
        self.refresh()

    def choices(self) -> MapperChoices:
        """What the parameter node holds."""
        p = self.parameters
        node = p.parameterNode
        method = all_methods().get(p.method)
        return MapperChoices(
            planning=p.planning_volume,
            inputs={s.key: node.GetNodeReference(INPUT_ROLE + s.key) for s in (method.inputs if method else ())},
            gtv=SegmentChoice(p.gtv_segmentation, p.gtv_segment),
            reference=SegmentChoice(p.reference_segmentation, p.reference_segment),
            reference_roi=p.reference_roi,
            tracer=p.tracer,
            method=p.method,
            params=json.loads(p.method_parameters),
            alignment=p.alignment,
        )

    def store(self, choices: MapperChoices) -> None:
        """Write choices into the parameter node; the panel follows."""
        p = self.parameters
        with slicer.util.NodeModify(p.parameterNode):
            p.planning_volume = choices.planning
            for key, node in choices.inputs.items():
                p.parameterNode.SetNodeReferenceID(INPUT_ROLE + key, node.GetID() if node is not None else None)
            p.gtv_segmentation, p.gtv_segment = choices.gtv.node, choices.gtv.segment_id
            p.reference_segmentation, p.reference_segment = choices.reference.node, choices.reference.segment_id
            p.alignment, p.method = choices.alignment, choices.method
        self.refresh()

    # Step 1

    def on_load_folder(self) -> None:
        """Ask for a folder and read it."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("DICOM folder of one patient"))
        if folder:
            with slicer.util.tryWithErrorDisplay(_("The folder could not be read."), waitCursor=True):
                try:
                    self.load_folder(Path(folder))
                except HypoxiaError as error:
                    self.ui.imagesStatusLabel.text = str(error)

    def load_folder(self, folder: Path) -> Loaded:
        """Read a DICOM folder into the scene and fill in the choices."""
        loaded = load_patient(self.scene, folder, self._show_progress)
        self.ui.methodStatusLabel.text = "\n".join(loaded.notes)
        self.fill_in()
        planning = self.parameters.planning_volume
        if planning is not None:
            slicer.util.setSliceViewerLayers(background=planning, fit=True)
        return loaded

    def fill_in(self, *_args: Any) -> None:
        """Fill in what is empty from DICOM tags and segment names."""
        volumes = [n for n in self._nodes(VOLUME) if not n.GetAttribute("Hypoxia.Map")]
        self.store(guess_choices(self.choices(), volumes, self._nodes("vtkMRMLSegmentationNode"), self.images))

    def _nodes(self, class_name: str) -> list[Any]:
        """Nodes of the chosen patient or study, or of the whole scene."""
        tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        root = self.ui.patientSelector.currentItem()
        if tree is None or not root:
            return slicer.util.getNodesByClass(class_name, self.scene)
        found = vtkCollection()
        tree.GetDataNodesInBranch(root, found, class_name)
        return [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]

    def on_state_unit(self) -> None:
        """Take the user's word for the unit of the first input."""
        node = next((n for n in self.choices().inputs.values() if n is not None), None)
        if node is not None:
            state_unit(node, self.ui.unitComboBox.currentText)
            self.refresh()

    def on_place_sphere(self) -> None:
        """Make an ROI and let the user place it."""
        roi = self.parameters.reference_roi or self.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Ref_Sphere")
        roi.CreateDefaultDisplayNodes()
        self.parameters.reference_roi = roi
        self.store(self._without_reference_segment())
        slicer.modules.markups.logic().StartPlaceMode(False)

    def _without_reference_segment(self) -> MapperChoices:
        """The choices with the sphere as reference."""
        return dataclasses.replace(self.choices(), reference=SegmentChoice())

    def _on_selection(self, *_args: Any) -> None:
        """Segment selectors and alignment into the parameter node."""
        if self._updating or self.parameters is None:
            return
        p, ui = self.parameters, self.ui
        with slicer.util.NodeModify(p.parameterNode):
            p.gtv_segmentation, p.gtv_segment = ui.gtvSelector.currentNode(), ui.gtvSelector.currentSegmentID()
            p.reference_segmentation = ui.referenceSelector.currentNode()
            p.reference_segment = ui.referenceSelector.currentSegmentID()
            p.alignment = ui.alignmentComboBox.currentData
            for key, selector in self._input_selectors.items():
                node = selector.currentNode()
                p.parameterNode.SetNodeReferenceID(INPUT_ROLE + key, node.GetID() if node is not None else None)
        self.refresh()

    # Step 2

    def _on_method(self, *_args: Any) -> None:
        """Another method: other inputs, other parameters."""
        if not self._updating and self.parameters is not None:
            self.parameters.method = self.ui.methodComboBox.currentData
            self.parameters.method_parameters = "{}"
            self._show_method()
            self.fill_in()

    def _show_method(self) -> None:
        """Rows for the inputs and parameters of the chosen method."""
        method = all_methods()[self.parameters.method]
        self._updating = True
        self.ui.methodComboBox.currentIndex = self.ui.methodComboBox.findData(self.parameters.method)
        layout = new_form(self.ui.inputsWidget)
        self._input_selectors = {}
        for spec in method.inputs:
            selector = slicer.qMRMLNodeComboBox()
            selector.nodeTypes = [VOLUME]
            selector.noneEnabled, selector.addEnabled, selector.removeEnabled = True, False, False
            selector.setMRMLScene(self.scene)
            selector.toolTip = f"{spec.description}: {spec.quantity}" + (
                f" of {', '.join(spec.tracers)}" * bool(spec.tracers)
            )
            selector.currentNodeChanged.connect(self._on_selection)
            layout.addRow(f"{spec.description[:1].upper()}{spec.description[1:]}:", selector)
            self._input_selectors[spec.key] = selector
        self._updating = False
        self.form.show(method, json.loads(self.parameters.method_parameters))

    def _on_parameters(self) -> None:
        """Form into parameter node."""
        self.parameters.method_parameters = json.dumps(self.form.values(), sort_keys=True)
        self.refresh()

    def on_install(self) -> None:
        """Offer the packages of the method."""
        method = all_methods()[self.parameters.method]
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
            install(method.packages, "Hypoxia Mapper")
        self.refresh()

    def on_run(self) -> None:
        """Start the computation in a child process."""
        self.ui.methodStatusLabel.text = ""
        with slicer.util.tryWithErrorDisplay(_("The computation could not be started."), waitCursor=True):
            self._job_choices = self.choices()
            try:
                job = self.decisions.make_job(self._job_choices)
            except HypoxiaError as error:
                self.ui.methodStatusLabel.text = str(error)
                return
            self._job_folder = tempfile.TemporaryDirectory(prefix="hypoxia-job-")
            self._job_prints = self.decisions.fingerprint(self._job_choices)
            write_job(job, Path(self._job_folder.name))
            arguments = worker_arguments(python_executable(), Path(self._job_folder.name))
            self.run_state = ChildRun(slicer.util.launchConsoleProcess(arguments, cwd=str(PACKAGE_PARENT)))
            self.timer.start()
        self.refresh()

    def on_cancel(self) -> None:
        """End the computation."""
        if self.run_state is not None:
            self.run_state.cancel()
            self.poll()

    def poll(self) -> None:
        """Show progress; take the result when the process has ended."""
        run = self.run_state
        if run is None:
            return
        code = run.poll()
        self.ui.progressBar.value = round(100 * run.fraction)
        self.ui.methodStatusLabel.text = f"{run.text}  {time_left_text(run.seconds_left())}".strip()
        if code is None:
            return
        self.timer.stop()
        self.run_state = None
        message = _("Cancelled.") if run.cancelled else self._take_result()
        self._job_folder.cleanup()
        self.ui.progressBar.value = 0
        self.refresh()
        self.ui.methodStatusLabel.text = message
        fit_labels(self.ui.methodStatusLabel)

    def _take_result(self) -> str:
        """Put the result into the scene; what to tell the user."""
        try:
            result = read_result(Path(self._job_folder.name))
        except HypoxiaError as error:
            return str(error)
        choices = self._job_choices
        name = self.scene.GenerateUniqueName(result.map.volume.quantity)
        prints = self._job_prints
        nodes = {"planning": choices.planning, **choices.inputs}
        node = map_to_node(self.scene, result, name, prints, choices.method, nodes, choices.params)
        self.parameters.map_volume = node
        self.map_section.show_new_map(node)
        return "\n".join([_("Map ready."), *result.map.warnings])

    # What is shown

    def _show_progress(self, fraction: float, text: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.methodStatusLabel.text = text
        slicer.app.processEvents()

    def refresh(self, *_args: Any) -> None:
        """Bring every label, list and button up to date."""
        if self.parameters is None or self._updating:
            return
        self._updating = True
        try:
            choices = self.choices()
            self._show_choices(choices)
            missing = self.decisions.missing_images(choices)
            self.ui.imagesStatusLabel.text = "\n".join(missing) or _("Complete.")
            reason = self.decisions.why_not_run(choices, self.run_state is not None)
            self.ui.runButton.enabled = not reason
            self.ui.runButton.toolTip = reason or _("Compute the map in a process of its own")
            self.ui.cancelButton.enabled = self.run_state is not None
            method = all_methods()[choices.method]
            why = why_method_is_grey(method)
            self.ui.methodNoteLabel.text = why or f"{method.quantity} ({unit_text(method.unit)}). {method.citation}"
            self.ui.installButton.visible = bool(missing_packages(method.packages))
            self.ui.deviceLabel.text = _("GPU if there is one, else CPU") if "torch" in method.packages else _("CPU")
            self.map_section.refresh(choices)
            ui = self.ui
            fit_labels(ui.researchLabel, ui.suvLabel, ui.imagesStatusLabel, ui.methodNoteLabel, ui.staleLabel)
        finally:
            self._updating = False

    def _show_choices(self, choices: MapperChoices) -> None:
        """Selectors that the parameter node does not connect itself."""
        ui = self.ui
        for selector, choice in ((ui.gtvSelector, choices.gtv), (ui.referenceSelector, choices.reference)):
            selector.setCurrentNode(choice.node)
            if choice.node is not None:
                selector.setCurrentSegmentID(choice.segment_id)
        for key, selector in self._input_selectors.items():
            selector.setCurrentNode(choices.inputs.get(key))
        ui.alignmentComboBox.currentIndex = ui.alignmentComboBox.findData(choices.alignment)
        node = next((n for n in choices.inputs.values() if n is not None), None)
        try:
            ui.suvLabel.text = suv_line(*self.images.describe(node)) if node is not None else "–"
            unknown = False
        except HypoxiaError as error:
            ui.suvLabel.text, unknown = str(error), True
        ui.unitComboBox.enabled = ui.stateUnitButton.enabled = unknown

    def table_volume_ml(self) -> float:
        """Hypoxic volume at the threshold of the slider."""
        table = self.map_section.table
        return table.volume_ml(self.parameters.threshold) if table is not None else 0.0
