"""Steps 3 and 4 of the mapper panel in Qt: the map over the CT, its threshold, the hypoxic segment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import HypoxiaError
from ..mrml import node_to_volume, segment_to_region
from .choices import MapperChoices
from .hypoxic_segment import hypoxic_mask, segment_state, write_hypoxic_segment
from .map_nodes import FACTS, UNCERTAINTY, changed_inputs, map_facts, show_map
from .plots import ThresholdPlots
from .threshold import ThresholdTable, make_threshold_table
from .views import (
    NO_VALUE,
    centre_slices,
    colour_legend,
    link_crosshair,
    overlay,
    probe_text,
    set_display_threshold,
    show_whole_map,
    side_by_side,
)

if TYPE_CHECKING:
    from .widget import MapperPanel

_STEPS_OF_SLIDER = 500  # over the range of the map in the GTV
# The views wait this many times what their last change took, so that slider and numbers never wait for a slow renderer.
_WAIT_FACTOR = 4
_LONGEST_WAIT_MS = 300


class MapSection:
    """What is shown of a map and what is cut out of it."""

    def __init__(self, panel: MapperPanel) -> None:
        self.panel, self.ui, self.scene = panel, panel.ui, panel.scene
        self.table: ThresholdTable | None = None
        self.plots: ThresholdPlots | None = None
        self._table_of: tuple[Any, ...] = ()
        self._crosshair: tuple[Any, int] | None = None
        self._segment_of: tuple[Any, ...] = ()
        self._updating, self._view_waits, self._wait_ms = False, False, 0
        self.view_timer = qt.QTimer()
        self.view_timer.setSingleShot(True)
        self.view_timer.connect("timeout()", self._show_threshold)
        self.ui.overlayComboBox.addItem(_("Map"))
        self.ui.overlayComboBox.addItem(_("Uncertainty"))
        self._connect()

    def _connect(self) -> None:
        ui = self.ui
        ui.thresholdSlider.valueChanged.connect(self.on_threshold)
        ui.onlyHypoxicCheckBox.toggled.connect(self.show)
        ui.opacitySlider.valueChanged.connect(self.show)
        ui.windowLowSpinBox.valueChanged.connect(self.show)
        ui.windowHighSpinBox.valueChanged.connect(self.show)
        ui.overlayComboBox.currentIndexChanged.connect(self.show)
        ui.mapSelector.currentNodeChanged.connect(self.on_map_changed)
        ui.fourUpButton.clicked.connect(self.on_four_up)
        ui.sideBySideButton.clicked.connect(self.on_side_by_side)
        ui.threeDButton.clicked.connect(self.on_three_d)
        ui.plotsButton.clicked.connect(self.on_plots)
        ui.createSegmentButton.clicked.connect(self.on_create_segment)
        ui.editSegmentButton.clicked.connect(self.on_edit_segment)

    def forget(self) -> None:
        """The scene closes."""
        self.view_timer.stop()
        self._view_waits = False
        self.table, self.plots, self._table_of, self._segment_of = None, None, (), ()
        self._observe_crosshair(False)

    def map_node(self) -> Any:
        """The chosen map; None for an ordinary volume."""
        node = self.panel.parameters.map_volume if self.panel.parameters is not None else None
        return node if node is not None and node.GetAttribute(FACTS) else None

    def show_new_map(self, node: Any) -> None:
        """A map that has just been computed: window from its values, overlay, legend, cross-hair, plots."""
        facts, volume = map_facts(node), node_to_volume(node)
        self.refresh(self.panel.choices())
        if self.table is not None:
            low, high = self.table.limits()
            self.panel.parameters.window_low = min(0.0, low)
            self.panel.parameters.window_high = high
        colour_legend(node, volume.quantity, volume.unit)
        link_crosshair(self.scene)
        self.show()
        gtv = self.panel.choices().gtv
        if gtv.exists():
            centre_slices(self.scene, segment_to_region(gtv.node, gtv.segment_id, volume.image))
        if facts["surrogate"]:
            self.ui.staleLabel.text = _("Surrogate: not a measurement of hypoxia.")

    def on_map_changed(self, *_args: Any) -> None:
        """Another map was chosen."""
        if self.panel.parameters is not None and not self.panel._updating:
            self.panel.refresh()
            self.show()

    def refresh(self, choices: MapperChoices) -> None:
        """Threshold table, numbers, what is stale, what is possible."""
        node = self.map_node()
        for name in ("thresholdSlider", "createSegmentButton", "fourUpButton", "sideBySideButton", "threeDButton"):
            getattr(self.ui, name).enabled = node is not None
        self._observe_crosshair(node is not None)
        if node is None:
            self.table, self._table_of = None, ()
            self.ui.staleLabel.text = _("No map yet.")
            self.ui.hypoxicLabel.text = self.ui.probeLabel.text = NO_VALUE
        else:
            changed = changed_inputs(node, self.panel.decisions.fingerprint(choices))
            self.ui.staleLabel.text = (
                _("STALE: changed since the map was made: {names}. Run again.").format(names=", ".join(changed))
                if changed
                else _("Up to date.")
            )
            self._make_table(node, choices)
        self._show_segment()

    def _make_table(self, node: Any, choices: MapperChoices) -> None:
        """Sort the map inside the GTV when map or GTV has changed, and set the slider."""
        if not choices.gtv.exists():
            self.table, self.ui.hypoxicLabel.text = None, _("Choose the GTV in step 1.")
            return
        gtv_print = self.panel.decisions.fingerprints.segment(choices.gtv.node, choices.gtv.segment_id)
        key = (node.GetID(), node.GetImageData().GetMTime(), gtv_print)
        if key == self._table_of:
            return
        self._table_of = key
        facts, volume = map_facts(node), node_to_volume(node)
        try:
            gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
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
        slider.minimum, slider.maximum = min(low, threshold), max(high, threshold)
        slider.singleStep = (slider.maximum - slider.minimum) / _STEPS_OF_SLIDER
        slider.value = threshold
        self._updating = False

    def on_threshold(self, value: float) -> None:
        """The slider moved: numbers, plots and display only; the segment is written on request."""
        if self._updating or self.table is None:
            return
        self.panel.parameters.threshold = value
        self._show_numbers(value)

    def _show_numbers(self, threshold: float) -> None:
        text = f"{self.table.volume_ml(threshold):.2f} ml · {100 * self.table.fraction(threshold):.1f} %"
        self.ui.hypoxicLabel.text = f"{text} ({self.table.comparison} {threshold:.3g})"
        self.plots.move_threshold(threshold)
        if self.ui.onlyHypoxicCheckBox.checked and not self._view_waits:
            self._view_waits = True
            self.view_timer.start(self._wait_ms)

    def _show_threshold(self) -> None:
        """The views follow the slider, the less often the longer they take."""
        self._view_waits = False
        p, node = self.panel.parameters, self.map_node()
        if node is None or self.table is None or not p.only_hypoxic:
            return
        start = time.monotonic()
        set_display_threshold(node, p.threshold, self.table.comparison)
        self._wait_ms = min(_LONGEST_WAIT_MS, round(1000 * _WAIT_FACTOR * (time.monotonic() - start)))

    def show(self, *_args: Any) -> None:
        """Map or uncertainty over the CT, with window and opacity."""
        node = self.map_node()
        if node is None or self.panel.parameters is None:
            return
        p = self.panel.parameters
        uncertainty = node.GetNodeReference(UNCERTAINTY)
        shown = uncertainty if self.ui.overlayComboBox.currentIndex == 1 and uncertainty is not None else node
        if p.window_high > p.window_low:
            show_map(self.scene, shown, (p.window_low, p.window_high))
        if p.only_hypoxic and self.table is not None and shown is node:
            set_display_threshold(node, p.threshold, self.table.comparison)
        else:
            show_whole_map(shown)
        overlay(self.scene, p.planning_volume, shown, p.opacity)

    def on_four_up(self) -> None:
        """Three slices and 3D, linked."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.show()

    def on_side_by_side(self) -> None:
        """PET beside the map."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        pet = next((n for n in self.panel.choices().inputs.values() if n is not None), None)
        if pet is not None and self.panel.parameters.planning_volume is not None:
            side_by_side(self.scene, pet, self.map_node(), self.panel.parameters.planning_volume)

    def on_three_d(self) -> None:
        """3D view alone."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
        segmentation = self.panel.parameters.hypoxic_segmentation
        if segmentation is not None:
            segmentation.CreateClosedSurfaceRepresentation()
        slicer.util.resetThreeDViews()

    def on_plots(self) -> None:
        """Slices and a plot; the button changes between both charts."""
        if self.plots is None:
            return
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView)
        view = self.scene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
        if view is not None:
            now = view.GetPlotChartNodeID()
            chart = self.plots.histogram if now == self.plots.curve.GetID() else self.plots.curve
            view.SetPlotChartNodeID(chart.GetID())

    @staticmethod
    def _layout(number: int) -> None:
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(number)

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
        """Write the hypoxic voxels as a segment."""
        with slicer.util.tryWithErrorDisplay(_("The segment could not be made."), waitCursor=True):
            p, choices, node = self.panel.parameters, self.panel.choices(), self.map_node()
            facts, volume = map_facts(node), node_to_volume(node)
            gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
            mask = hypoxic_mask(volume, gtv, p.threshold, facts["comparison"])
            # Slicer names a segment as the planning system will see it: at most 16 characters (TG-263).
            name = f"{gtv.name[:12]}_{'Sur' if facts['surrogate'] else 'Hyp'}"
            source = f"{volume.quantity} {facts['comparison']} {p.threshold:g} in {gtv.name}"
            region = gtv.with_array(mask, source, name)
            segmentation, identifier = write_hypoxic_segment(
                self.scene, p.hypoxic_segmentation, p.planning_volume, region, p.threshold
            )
            with slicer.util.NodeModify(p.parameterNode):
                p.hypoxic_segmentation, p.hypoxic_segment = segmentation, identifier
        self.panel.refresh()

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
            self.ui.segmentLabel.text = _("No segment yet.")
            return
        key = (self.panel.decisions.fingerprints.segment(segmentation, p.hypoxic_segment), node.GetID())
        if self._segment_of != key:
            self._segment_of = key
            state = segment_state(segmentation, p.hypoxic_segment, node_to_volume(node).image)
            self.ui.segmentLabel.text = f"{segment.GetName()}: {state.volume_ml:.2f} ml" + (
                _("; edited by hand: {added:.2f} ml added, {removed:.2f} ml removed").format(
                    added=state.added_ml, removed=state.removed_ml
                )
                if state.edited
                else ""
            )
