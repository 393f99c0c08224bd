"""Steps 3 and 4 of the mapper panel in Qt: the map over the CT, its threshold, the hypoxic segment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import qt
import slicer

from ..errors import HypoxiaError
from ..jobs import make_model
from ..mrml import node_to_volume, segment_to_region
from .choices import MapperChoices
from .hypoxic_segment import (
    cut_from_text,
    hypoxic_mask,
    made_in,
    name_for,
    segment_state,
    segment_text,
    write_hypoxic_segment,
)
from .i18n import _
from .map_display import cut_to_gtv, set_window, window_decimals
from .map_nodes import FACTS, UNCERTAINTY, changed_inputs, map_facts, why_not_as_made
from .model_text import model_html
from .overlay_section import OverlaySection
from .patient_scope import why_not_one_patient
from .plots import ThresholdPlots
from .threshold import ThresholdTable, make_threshold_table
from .views import NO_VALUE, centre_slices, link_crosshair, probe_text, uncover
from .words import shown_words

if TYPE_CHECKING:
    from .widget import MapperPanel

_PAGES_OF_SLIDER = 20  # clicks beside the handle over the range of the map in the GTV; an arrow key moves a digit
_PLOT_MS = 100  # a chart takes as long to draw as all slices together: it follows the slider ten times a second


class MapSection:
    """What is shown of a map and what is cut out of it."""

    def __init__(self, panel: MapperPanel) -> None:
        self.panel, self.ui, self.scene = panel, panel.ui, panel.scene
        self.confirm = slicer.util.confirmYesNoDisplay
        self.table: ThresholdTable | None = None
        self.plots: ThresholdPlots | None = None
        self._table_of: tuple[Any, ...] = ()
        self._crosshair: tuple[Any, int] | None = None
        self._segment_of: tuple[Any, ...] = ()
        self._updating = False
        self.overlay = OverlaySection(self)
        self.plot_timer = qt.QTimer()
        self.plot_timer.setSingleShot(True)
        self.plot_timer.connect("timeout()", self._move_line)
        ui = self.ui
        ui.thresholdSlider.valueChanged.connect(self.on_threshold)
        ui.mapSelector.addAttribute("vtkMRMLScalarVolumeNode", FACTS)  # maps alone, not the images beside them
        ui.mapSelector.currentNodeChanged.connect(self.on_map_changed)
        ui.createSegmentButton.clicked.connect(self.on_create_segment)
        ui.editSegmentButton.clicked.connect(self.on_edit_segment)

    def forget(self) -> None:
        """The scene closes."""
        self.overlay.forget()
        self.plot_timer.stop()
        self.table, self.plots, self._table_of, self._segment_of = None, None, (), ()
        self._observe_crosshair(False)

    def map_node(self) -> Any:
        """The chosen map; None for an ordinary volume."""
        node = self.panel.parameters.map_volume if self.panel.parameters is not None else None
        return node if node is not None and node.GetAttribute(FACTS) else None

    def show_new_map(self, node: Any) -> None:
        """A map that has just been computed: window from its values, overlay, legend, cross-hair, plots."""
        choices = self.panel.choices()
        self.refresh(choices)
        if self.table is not None:
            low, high = self.table.limits()
            set_window(node, (min(0.0, low), high if high > min(0.0, low) else low + 1.0))
        self.overlay.take_window()
        link_crosshair(self.scene)
        uncover(self.scene)
        self.overlay.show()
        if self.table is not None:
            centre_slices(self.scene, cut_to_gtv(node, choices.gtv.node, choices.gtv.segment_id)[1])

    def on_map_changed(self, *_args: Any) -> None:
        """Another map was chosen; while another module is shown, only that it goes is of interest."""
        if self.panel.parameters is None or self.panel.updating:
            return
        if self.panel.shown:
            self.panel.updating = True  # the list tells this before it tells the parameter node
            self.panel.parameters.map_volume = self.ui.mapSelector.currentNode()
            self.panel.updating = False
            self.panel.refresh()
            self.overlay.take_window()
            self.overlay.show()
        elif self.ui.mapSelector.currentNode() is None:
            self.overlay.refresh(None)

    def refresh(self, choices: MapperChoices) -> None:
        """Threshold table, numbers, what is stale, what is possible."""
        node = self.map_node()
        self.ui.thresholdSlider.enabled = self.ui.createSegmentButton.enabled = node is not None
        self.overlay.refresh(node)
        self._show_model(node)
        self._observe_crosshair(node is not None)
        if node is None:
            self.table, self._table_of = None, ()
            self.ui.staleLabel.text = _("No map yet.")
            self.ui.hypoxicLabel.text = self.ui.probeLabel.text = NO_VALUE
        else:
            changed = changed_inputs(node, self.panel.decisions.fingerprint(choices))
            names = ", ".join(shown_words(name) for name in changed)
            stale = _("STALE: changed since the map was made: {names}. Run again.").format(names=names)
            facts = map_facts(node)
            what = _("Surrogate volume:") if facts["surrogate"] else _("Hypoxic volume:")
            # A map without a threshold of its own is cut where the user likes: that is no hypoxic volume yet.
            self.ui.volumeLabel.text = _("Volume beyond it:") if math.isnan(facts["threshold"]) else what
            reason = why_not_as_made(node, self.panel.decisions.fingerprints)
            reason = reason or why_not_one_patient([node, *choices.nodes()], ())
            state = reason or (stale if changed else _("Up to date."))
            note = _("Surrogate: not a measurement of hypoxia.") if facts["surrogate"] else ""
            self.ui.staleLabel.text = f"{state} {note}".strip()
            self._make_table(node, choices)
            self.ui.thresholdSlider.enabled = self.table is not None
            self.ui.createSegmentButton.enabled = self.table is not None and not reason
        self._show_segment()

    def _show_model(self, node: Any) -> None:
        """What a reader must know of the trained model behind the map."""
        model = make_model(map_facts(node)["model"]) if node is not None else None
        self.ui.modelLabel.visible = model is not None
        self.ui.modelLabel.text = model_html(model) if model is not None else ""

    def _make_table(self, node: Any, choices: MapperChoices) -> None:
        """Sort the map inside the GTV when map or GTV has changed, and set the slider."""
        if not choices.gtv.exists():
            self.table, self._table_of, self.ui.hypoxicLabel.text = None, (), _("Choose the GTV in step 1.")
            return
        prints = self.panel.decisions.fingerprints
        key = (prints.volume(node), prints.segment(choices.gtv.node, choices.gtv.segment_id), node.GetID())
        if key == self._table_of:
            return
        self._table_of, facts = key, map_facts(node)
        try:
            volume, gtv = cut_to_gtv(node, choices.gtv.node, choices.gtv.segment_id)
            self.table = make_threshold_table(volume, gtv, facts["comparison"])
        except HypoxiaError as error:
            self.table, self.ui.hypoxicLabel.text = None, str(error)
            return
        p = self.panel.parameters
        if p.threshold_of != node.GetID():
            own = facts["threshold"]
            p.threshold, p.threshold_of = (own if own == own else sum(self.table.limits()) / 2), node.GetID()
        self._set_slider(p.threshold)
        self.plots = ThresholdPlots(self.scene)
        self.plots.show(self.table, volume.quantity, volume.unit)
        self._show_numbers(p.threshold)

    def _set_slider(self, threshold: float) -> None:
        """Range of the slider from the map; its own threshold always fits in."""
        low, high = self.table.limits()
        self._updating = True
        slider = self.ui.thresholdSlider
        slider.decimals = window_decimals((low, high))
        slider.minimum, slider.maximum = min(low, threshold), max(high, threshold)
        slider.singleStep = 10.0**-slider.decimals
        slider.pageStep = (slider.maximum - slider.minimum) / _PAGES_OF_SLIDER
        slider.value = threshold
        self._updating = False

    def on_threshold(self, value: float) -> None:
        """The slider moved: numbers, plots and display only; the segment is written on request."""
        if self._updating or self.table is None:
            return
        self.panel.updating = True  # nothing else in the panel depends on it: the slider stays fast
        self.panel.parameters.threshold = value
        self.panel.updating = False
        self._show_numbers(value)

    def _show_numbers(self, threshold: float) -> None:
        self.ui.hypoxicLabel.text = _(
            "{volume:.2f} ml · {percent:.1f} % ({comparison} {threshold:.3g}) · research use only"
        ).format(
            volume=self.table.volume_ml(threshold), percent=100 * self.table.fraction(threshold),
            comparison=self.table.comparison, threshold=threshold,
        )  # fmt: skip
        if not self.plot_timer.isActive():
            self.plot_timer.start(_PLOT_MS)
        self.overlay.follow_threshold(threshold)

    def _move_line(self) -> None:
        """The line of the plots to where the slider is now."""
        if self.plots is not None and self.panel.parameters is not None:
            self.plots.move_threshold(self.panel.parameters.threshold)

    def _observe_crosshair(self, wanted: bool) -> None:
        """Follow the cross-hair while there is a map."""
        node = self.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if wanted and self._crosshair is None and node is not None:
            tag = node.AddObserver(slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent, self.on_crosshair)
            self._crosshair = (node, tag)
        elif not wanted and self._crosshair is not None:
            self._crosshair[0].RemoveObserver(self._crosshair[1])
            self._crosshair = None

    def on_crosshair(self, node: Any, _event: Any) -> None:
        """Value under the cross-hair."""
        map_node, place = self.map_node(), [0.0, 0.0, 0.0]
        if map_node is not None and node.GetCursorPositionRAS(place):
            unit = map_node.GetAttribute("Hypoxia.Unit")
            text = probe_text(map_node, map_node.GetNodeReference(UNCERTAINTY), unit, (place[0], place[1], place[2]))
            self.ui.probeLabel.text = text

    def on_create_segment(self) -> None:
        """Write the hypoxic voxels as a segment; what was edited by hand is replaced only when the user says so."""
        said = ""
        if self._may_replace():
            with slicer.util.tryWithErrorDisplay(_("The segment could not be made."), waitCursor=True):
                said = self._write_segment()
        self.panel.refresh()
        self.ui.segmentLabel.text = said or self.ui.segmentLabel.text

    def _may_replace(self) -> bool:
        """True unless a person edited the segment that would be made anew, and wants to keep it."""
        p, choices, node = self.panel.parameters, self.panel.choices(), self.map_node()
        if not choices.gtv.exists():
            return False
        segmentation = p.hypoxic_segmentation
        old = made_in(segmentation, choices.gtv, map_facts(node)["surrogate"])
        try:
            state = segment_state(segmentation, old, node_to_volume(node).image) if old else None
        except HypoxiaError as error:
            self.ui.segmentLabel.text = str(error)
            return False
        if state is None or not state.edited:
            return True
        name = segmentation.GetSegmentation().GetSegment(old).GetName()
        question = _(
            "{name} was edited by hand: {added:.2f} ml added, {removed:.2f} ml removed.\n"
            "Make it anew? The edits are then lost. To keep both, answer No and give it another name first."
        )
        text = question.format(name=name, added=state.added_ml, removed=state.removed_ml)
        return bool(self.confirm(text, windowTitle=_("Replace edited segment")))

    def _write_segment(self) -> str:
        """Write it; why there is nothing to write, or empty."""
        p, choices, node = self.panel.parameters, self.panel.choices(), self.map_node()
        facts, volume = map_facts(node), node_to_volume(node)
        gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
        mask = hypoxic_mask(volume, gtv, p.threshold, facts["comparison"])
        if not mask.any():
            said = _("No voxel of {gtv} passes the threshold: no segment was made. Move the threshold (step 3).")
            return said.format(gtv=gtv.name)
        name = name_for(p.hypoxic_segmentation, choices.gtv, facts["surrogate"])
        source = f"{volume.quantity} {facts['comparison']} {p.threshold:g} in {gtv.name}"
        region = gtv.with_array(mask, source, name)
        segmentation, identifier = write_hypoxic_segment(
            self.scene, p.hypoxic_segmentation, p.planning_volume, region, p.threshold, choices.gtv, node
        )
        with slicer.util.NodeModify(p.parameterNode):
            p.hypoxic_segmentation, p.hypoxic_segment = segmentation, identifier
        return ""

    def on_edit_segment(self) -> None:
        """Open the Segment Editor on the hypoxic segment."""
        p = self.panel.parameters
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(p.hypoxic_segmentation)
        editor.setSourceVolumeNode(p.planning_volume)
        editor.setCurrentSegmentID(p.hypoxic_segment)

    def _show_segment(self) -> None:
        """Volume of the segment and what was changed by hand."""
        p = self.panel.parameters
        segmentation = p.hypoxic_segmentation
        segment = segmentation.GetSegmentation().GetSegment(p.hypoxic_segment) if segmentation is not None else None
        self.ui.editSegmentButton.enabled = segment is not None
        node = self.map_node()
        if segment is None or node is None:
            self.ui.segmentLabel.text, self._segment_of = _("No segment yet."), ()
            return
        prints = self.panel.decisions.fingerprints
        key = (prints.segment(segmentation, p.hypoxic_segment), prints.volume(node), node.GetID())
        if self._segment_of != key:
            self._segment_of = key
            try:
                state = segment_state(segmentation, p.hypoxic_segment, node_to_volume(node).image)
            except HypoxiaError as error:
                self.ui.segmentLabel.text = str(error)
                return
            text = segment_text(segment.GetName(), state)
            self.ui.segmentLabel.text = f"{text} {cut_from_text(segmentation, p.hypoxic_segment, node)}".strip()
