"""The mapper panel in Qt: shows what the plain classes say, and hands them what the user does. Step 1."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import qt
import slicer

from ..errors import HypoxiaError
from ..methods import all_methods
from ..timeseries import Timing
from .busy import busy, draw_progress
from .child import ChildRun
from .choices import MapperChoices, MapperDecisions, SegmentChoice
from .guess import guess_choices
from .i18n import _
from .input_rows import SEGMENTATION, VOLUME, InputRows, node_list_of, restrict
from .labels import fit_labels, tab_after
from .map_display import INSIDE
from .map_nodes import FACTS, PART
from .map_section import MapSection
from .method_form import MethodForm
from .method_section import MethodSection
from .module_panel import ModulePanel
from .node_images import database_stamp, state_unit, suv_line
from .parameters import INPUT_ROLE, REGION, SEQUENCE_ROLE, TRACER_CHOICES, MapperParameters
from .patient_loader import Loaded, load_patient
from .patient_scope import nodes_in
from .sequence_input import sequences_in
from .sequence_watch import SequenceWatch
from .series_choice import SeriesCatalogue, database_patient_files
from .sphere import SPHERE_NAME, place_by_mouse, stop_placing
from .words import alignment_texts, frame_time_texts, stated_unit_texts


class MapperPanel(ModulePanel):
    """The four steps."""

    def __init__(self, ui: Any, scene: Any) -> None:
        super().__init__(ui, scene)
        self.catalogue = SeriesCatalogue(database_patient_files, self.images.scan, database_stamp)
        self.decisions = MapperDecisions(self.images, self.catalogue)
        self.rows = InputRows(ui.inputsWidget, scene, self._on_selection)
        self.watch = SequenceWatch(scene, self.refresh)
        self.method_section = MethodSection(self)
        self.map_section = MapSection(self)
        self._fill_lists()
        self._connect()

    @property
    def run_state(self) -> ChildRun | None:
        """The computation that runs."""
        return self.method_section.run_state

    @property
    def form(self) -> MethodForm:
        """The parameters of the method."""
        return self.method_section.form

    def _fill_lists(self) -> None:
        """Entries of the lists that do not depend on the scene."""
        for box, texts in ((self.ui.alignmentComboBox, alignment_texts()), (self.ui.unitComboBox, stated_unit_texts())):
            for key, text in texts.items():
                box.addItem(text, key)
        self.ui.tracerComboBox.toolTip = f"{self.ui.tracerComboBox.toolTip} ({', '.join(TRACER_CHOICES[1:])})"

    def _connect(self) -> None:
        """Signals of step 1."""
        ui = self.ui
        ui.loadFolderButton.clicked.connect(self.on_load_folder)
        ui.guessButton.clicked.connect(self.fill_in)
        ui.patientSelector.currentItemChanged.connect(self.on_patient)
        ui.stateUnitButton.clicked.connect(self.on_state_unit)
        ui.gtvSelector.currentNodeChanged.connect(self._on_selection)
        ui.gtvSelector.currentSegmentChanged.connect(self._on_selection)
        ui.referenceSelector.currentNodeChanged.connect(self._on_selection)
        ui.referenceSelector.currentSegmentChanged.connect(self._on_selection)
        ui.placeSphereButton.clicked.connect(self.on_place_sphere)
        ui.alignmentComboBox.currentIndexChanged.connect(self._on_selection)

    # Parameter node

    def pause(self) -> None:
        """The user goes to another module: nothing is shown or placed, a running computation goes on."""
        if self.parameters is not None:
            stop_placing(self.scene, self.parameters.reference_roi)
        super().pause()
        self.watch.stop()

    def forget(self) -> None:
        """The scene closes: let go of everything that came from it."""
        self.method_section.forget()
        self.set_parameters(None)
        self.images.clear()
        self.catalogue.clear()
        self.decisions = MapperDecisions(self.images, self.catalogue)
        self.map_section.forget()

    def set_parameters(self, parameters: MapperParameters | None) -> None:
        """Show another parameter node; None for none. A method that is not here, of a scene from elsewhere, is told."""
        gone = parameters.method if parameters is not None and parameters.method not in all_methods() else ""
        if gone:
            parameters.method, parameters.method_parameters = MapperChoices.method, "{}"
        super().set_parameters(parameters)
        if parameters is not None:
            self.map_section.overlay.show_again()
        if gone:
            text = _("This scene was made with the method {name!r}, which is not installed here: choose another.")
            self.ui.methodStatusLabel.text = text.format(name=gone)

    def begin(self) -> None:
        """Lists in the user's language, what is watched, and the rows of the method."""
        for number, text in enumerate(frame_time_texts()):  # Slicer filled in the choices as they are stored
            self.ui.frameTimeComboBox.setItemText(number, text)
        self.watch.start()
        self.show_method()

    def choices(self) -> MapperChoices:
        """What the parameter node holds."""
        p = self.parameters
        node = p.parameterNode
        method = all_methods()[p.method]
        series, segments = json.loads(p.series_inputs), json.loads(p.region_segments)
        return MapperChoices(
            planning=p.planning_volume,
            inputs={s.key: node.GetNodeReference(INPUT_ROLE + s.key) for s in method.inputs if s.kind == "volume"},
            gtv=SegmentChoice(p.gtv_segmentation, p.gtv_segment),
            reference=SegmentChoice(p.reference_segmentation, p.reference_segment),
            reference_roi=p.reference_roi,
            tracer=p.tracer,
            method=p.method,
            params=json.loads(p.method_parameters),
            alignment=p.alignment,
            series={s.key: series.get(s.key, "") for s in method.inputs if s.kind != "volume"},
            regions={
                key: SegmentChoice(node.GetNodeReference(REGION + key), segments.get(key, ""))
                for key in self.rows.regions
            },
            timing=Timing(p.frame_time, p.time_unit, p.frame_interval_s or None),
            motion_reference=p.motion_reference,
            sequences={
                s.key: node.GetNodeReference(SEQUENCE_ROLE + s.key) for s in method.inputs if s.kind != "volume"
            },
            frame_lengths=p.frame_lengths,
        )

    def store(self, choices: MapperChoices) -> None:
        """Write choices into the parameter node; the panel follows."""
        p = self.parameters
        with slicer.util.NodeModify(p.parameterNode):
            p.planning_volume = choices.planning
            p.gtv_segmentation, p.gtv_segment = choices.gtv.node, choices.gtv.segment_id
            p.reference_segmentation, p.reference_segment = choices.reference.node, choices.reference.segment_id
            p.alignment, p.method = choices.alignment, choices.method
            self._store_rows(choices.inputs, choices.series, choices.regions, choices.sequences)
        self.refresh()

    def _store_rows(self, inputs: Any, series: Any, regions: Any, sequences: Any) -> None:
        """What the rows of the method hold into the parameter node; that of other methods stays."""
        p = self.parameters
        for role, nodes in ((INPUT_ROLE, inputs), (SEQUENCE_ROLE, sequences)):
            for key, node in nodes.items():
                p.parameterNode.SetNodeReferenceID(role + key, node.GetID() if node is not None else None)
        p.series_inputs = json.dumps({**json.loads(p.series_inputs), **series})
        for key, choice in regions.items():
            home = choice.node.GetID() if choice.node is not None else None
            p.parameterNode.SetNodeReferenceID(REGION + key, home)
        named = {key: choice.segment_id for key, choice in regions.items()}
        p.region_segments = json.dumps({**json.loads(p.region_segments), **named})

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
        ui = self.ui
        with busy(ui.imagesSection, ui.methodSection, ui.mapSection, ui.subvolumeSection):
            loaded = load_patient(self.scene, folder, self._show_progress)
            ui.methodStatusLabel.text = "\n".join(loaded.notes)
            self.fill_in()
            planning = self.parameters.planning_volume
            if planning is not None:
                slicer.util.setSliceViewerLayers(background=planning, fit=True)
        return loaded

    def fill_in(self, *_args: Any) -> None:
        """Fill in what is empty from DICOM tags and segment names, of the chosen patient or study."""
        volumes = [n for n in self._nodes(VOLUME) if not any(n.GetAttribute(a) for a in (FACTS, PART, INSIDE))]
        infos = self.catalogue.infos(volumes)
        self.store(guess_choices(self.choices(), volumes, self._nodes(SEGMENTATION), self.images, infos))

    def _nodes(self, class_name: str) -> list[Any]:
        """Nodes of the chosen patient or study, or of the whole scene."""
        return nodes_in(self.scene, self.ui.patientSelector.currentItem(), class_name)

    def _sequences(self) -> list[Any]:
        """Sequences of the chosen patient or study, or of the whole scene."""
        return sequences_in(self.scene, self.ui.patientSelector.currentItem())

    def node_selectors(self) -> list[Any]:
        """Selectors whose node may be removed from the scene."""
        ui, rows = self.ui, self.rows
        own = [ui.planningSelector, ui.gtvSelector, ui.referenceSelector, ui.roiSelector, ui.mapSelector]
        return [*own, *rows.volumes.values(), *rows.regions.values()]

    def watched(self, choices: MapperChoices) -> list[Any]:
        """The chosen nodes, the sphere, and the segments that were made."""
        return [*choices.nodes(), choices.reference_roi, self.parameters.hypoxic_segmentation]

    def on_patient(self, *_args: Any) -> None:
        """Another patient or study: only its nodes are offered, others are let go of; what is empty is filled in."""
        if self.updating or self.parameters is None:
            return
        inside = {node.GetID() for c in (VOLUME, SEGMENTATION) for node in self._nodes(c)}
        inside |= {node.GetID() for node in self._sequences()}
        keep = lambda node: node if node is not None and node.GetID() in inside else None  # noqa: E731
        c = self.choices()
        own = lambda choice: choice if keep(choice.node) is not None else SegmentChoice()  # noqa: E731
        kept = dataclasses.replace(
            c, planning=keep(c.planning), inputs={k: keep(n) for k, n in c.inputs.items()}, gtv=own(c.gtv),
            reference=own(c.reference), regions={k: own(choice) for k, choice in c.regions.items()},
            series=dict.fromkeys(c.series, "") if keep(c.planning) is None else c.series,
            sequences={k: keep(n) for k, n in c.sequences.items()},
        )  # fmt: skip
        self.updating = True
        self._restrict()
        self.updating = False
        self.store(kept)
        p = self.parameters
        p.map_volume, p.hypoxic_segmentation = keep(p.map_volume), keep(p.hypoxic_segmentation)
        p.reference_roi = p.reference_roi if kept.planning is not None else None
        self.fill_in()

    def _restrict(self) -> None:
        """Offer only nodes of the chosen patient or study."""
        ui = self.ui
        segments = [node_list_of(s) for s in (ui.gtvSelector, ui.referenceSelector, *self.rows.regions.values())]
        item = ui.patientSelector.currentItem()
        restrict(self.scene, item, [ui.planningSelector, *self.rows.volumes.values()], segments)

    def on_state_unit(self) -> None:
        """Take the user's word for the unit of the first image without one."""
        choices, ui = self.choices(), self.ui
        node, key = self._without_unit(choices), ui.unitComboBox.currentData
        if node is not None and node is choices.planning and key != "hounsfield":
            text = _("{name} is the planning CT: its unit is CT number (HU).").format(name=node.GetName())
            ui.imagesStatusLabel.text = text
        elif node is not None:
            state_unit(node, key)
            self.refresh()

    def _without_unit(self, choices: MapperChoices) -> Any:
        """The first chosen image or sequence whose unit is unknown."""
        for node in filter(None, choices.sequences.values()):
            if self.decisions.sequences.needs_unit(node):
                return node
        for node in (*choices.inputs.values(), choices.planning):
            # A planning CT of DICOM says its unit, and need not be read for that.
            if node is not None and not (node is choices.planning and self.images.info(node)):
                try:
                    self.images.describe(node)
                except HypoxiaError:
                    return node
        return None

    def on_place_sphere(self) -> None:
        """Make an ROI and let the user place it; an ROI that stands somewhere is placed anew."""
        roi = self.parameters.reference_roi or self.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", SPHERE_NAME)
        roi.CreateDefaultDisplayNodes()
        self.parameters.reference_roi = roi
        self.store(self._without_reference_segment())
        roi.RemoveAllControlPoints()
        place_by_mouse(self.scene, roi)

    def _without_reference_segment(self) -> MapperChoices:
        """The choices with the sphere as reference."""
        return dataclasses.replace(self.choices(), reference=SegmentChoice())

    def _on_selection(self, *_args: Any) -> None:
        """Segment selectors and alignment into the parameter node."""
        if self.updating or self.parameters is None:
            return
        p, ui, rows, before = self.parameters, self.ui, self.rows, self.choices()
        gtv = before.gtv.then(ui.gtvSelector.currentNode(), ui.gtvSelector.currentSegmentID())
        reference = before.reference.then(ui.referenceSelector.currentNode(), ui.referenceSelector.currentSegmentID())
        regions = rows.chosen_regions(before.regions)
        with slicer.util.NodeModify(p.parameterNode):
            p.gtv_segmentation, p.gtv_segment = gtv.node, gtv.segment_id
            p.reference_segmentation, p.reference_segment = reference.node, reference.segment_id
            p.alignment = ui.alignmentComboBox.currentData
            self._store_rows(rows.chosen_nodes(), rows.chosen_series(), regions, rows.chosen_sequences())
        self.refresh()

    def show_method(self) -> None:
        """Rows for the inputs, regions and parameters of the chosen method."""
        method = all_methods()[self.parameters.method]
        self.updating = True
        self.rows.show(method)
        self._restrict()
        self.ui.timingWidget.visible = any(spec.kind == "time" for spec in method.inputs)
        self.method_section.show(method)
        tab_after(self.ui.planningSelector, self.ui.inputsWidget)
        tab_after(self.ui.locateButton, self.ui.parametersWidget)
        self.updating = False

    # What is shown

    def _show_progress(self, fraction: float, text: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.methodStatusLabel.text = text
        draw_progress()

    def show(self, choices: MapperChoices) -> None:
        """Every label, list and button."""
        self._show_choices(choices)
        missing = self.decisions.missing_images(choices)
        self.ui.imagesStatusLabel.text = "\n".join(missing) or _("Complete.")
        self.method_section.refresh(choices)
        self.map_section.refresh(choices)
        ui = self.ui
        fit_labels(ui.researchLabel, ui.suvLabel, ui.imagesStatusLabel, ui.staleLabel, ui.modelLabel)

    def _show_choices(self, choices: MapperChoices) -> None:
        """Selectors that the parameter node does not connect itself."""
        ui = self.ui
        for selector, choice in ((ui.gtvSelector, choices.gtv), (ui.referenceSelector, choices.reference)):
            selector.setCurrentNode(choice.node)
            if choice.node is not None:
                selector.setCurrentSegmentID(choice.segment_id)
        self.rows.show_choices(choices, self.decisions.infos(choices), self._sequences())
        ui.alignmentComboBox.currentIndex = ui.alignmentComboBox.findData(choices.alignment)
        specs = all_methods()[choices.method].inputs
        pets = [choices.inputs.get(spec.key) for spec in specs if spec.modality == "PT" and spec.kind == "volume"]
        lines = []
        for node in filter(None, pets):
            try:
                lines.append(suv_line(*self.images.describe(node)))
            except HypoxiaError as error:
                lines.append(str(error))
        ui.suvLabel.text = "\n".join(lines) or "–"
        unknown = self._without_unit(choices) is not None
        ui.unitComboBox.enabled = ui.stateUnitButton.enabled = unknown

    def table_volume_ml(self) -> float:
        """Hypoxic volume at the threshold of the slider."""
        table = self.map_section.table
        return table.volume_ml(self.parameters.threshold) if table is not None else 0.0
