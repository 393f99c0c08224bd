"""What the views show of a map, in Qt: which of its maps, window, opacity, legend, layout, plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from ..mrml.geometry import to_lps
from .map_display import (
    INSIDE,
    cut_to_gtv,
    inside_only,
    set_window,
    show_map,
    view_inside_gtv,
    window_decimals,
    window_of,
)
from .map_nodes import curves_of, map_facts, parts_of
from .patient_scope import all_nodes
from .plots import show_curve
from .views import (
    LEFT,
    colour_legend,
    leave_side_by_side,
    overlay,
    set_display_threshold,
    show_above,
    side_by_side,
    take_away,
)
from .words import shown_part

if TYPE_CHECKING:
    from .map_section import MapSection

WIDEST_WINDOW = 1e5


class OverlaySection:
    """The overlay and the layouts of step 3."""

    def __init__(self, section: MapSection) -> None:
        self.section, self.panel, self.ui, self.scene = section, section.panel, section.ui, section.scene
        self.shown: Any = None  # the node that the views show: a map, or its view cut to the GTV
        self._parts: list[str] = []
        self._beside, self._updating = False, False
        ui = self.ui
        for signal in (
            ui.onlyHypoxicCheckBox.toggled, ui.insideGtvCheckBox.toggled, ui.opacitySlider.valueChanged,
            ui.windowLowSpinBox.valueChanged, ui.windowHighSpinBox.valueChanged,
        ):  # fmt: skip
            signal.connect(self.show)
        ui.overlayComboBox.currentIndexChanged.connect(self.on_part)
        ui.fourUpButton.clicked.connect(self.on_four_up)
        ui.sideBySideButton.clicked.connect(self.on_side_by_side)
        ui.threeDButton.clicked.connect(self.on_three_d)
        ui.plotsButton.clicked.connect(self.on_plots)
        ui.curveButton.clicked.connect(self.on_curve)
        ui.voxelCurveButton.clicked.connect(self.on_voxel_curve)

    def forget(self) -> None:
        """The scene closes."""
        self._beside, self.shown = False, None

    def refresh(self, node: Any) -> None:
        """The list of overlays and which buttons work; without a map its overlay and legend go."""
        if node is None and self.shown is not None:
            self.shown = None
            take_away(self.scene)
        ui, names = self.ui, list(parts_of(node)) if node is not None else []
        if names != self._parts:
            self._parts, self._updating = names, True
            ui.overlayComboBox.clear()
            for name in names:
                ui.overlayComboBox.addItem(shown_part(name))
            self._updating = False
        for name in ("fourUpButton", "sideBySideButton", "threeDButton", "plotsButton"):
            getattr(ui, name).enabled = node is not None
        curves = curves_of(map_facts(node)) if node is not None else ()
        ui.curveButton.enabled = ui.voxelCurveButton.enabled = bool(curves)

    def part(self) -> Any:
        """The map chosen in the list of overlays."""
        node = self.section.map_node()
        parts = list(parts_of(node).values()) if node is not None else []
        index = self.ui.overlayComboBox.currentIndex
        return parts[index] if 0 <= index < len(parts) else node

    def on_part(self, *_args: Any) -> None:
        """Another map of the same computation, with its own window."""
        if not self._updating:
            self.take_window()
            self.show()

    def take_window(self) -> None:
        """The window of the chosen map into the panel."""
        part, p = self.part(), self.panel.parameters
        if part is not None and p is not None:
            self._updating = True
            window = window_of(part)
            decimals = window_decimals(window)
            for box in (self.ui.windowLowSpinBox, self.ui.windowHighSpinBox):
                box.decimals, box.singleStep = decimals, 10.0 ** (1 - decimals)
                box.minimum, box.maximum = -WIDEST_WINDOW, WIDEST_WINDOW
            p.window_low, p.window_high = window
            self._updating = False

    def show_again(self) -> None:
        """The map of a scene that was opened: the view inside the GTV is not saved with it, and nothing else shown."""
        views = all_nodes(self.scene, "vtkMRMLSliceCompositeNode")
        if self.section.map_node() is not None and not any(view.GetForegroundVolumeID() for view in views):
            self.show()

    def show(self, *_args: Any) -> None:
        """The chosen map over the CT, with window and opacity; transparent below the window and outside the GTV."""
        part, p, ui = self.part(), self.panel.parameters, self.ui
        if part is None or p is None or self._updating:
            return
        # The widgets are asked: the parameter node learns of a change after this.
        low, high = ui.windowLowSpinBox.value, ui.windowHighSpinBox.value
        shown = self._inside(part) if ui.insideGtvCheckBox.checked else part
        if high > low:
            set_window(part, (low, high))
        show_map(self.scene, shown, window_of(part))
        self.shown = shown
        if ui.onlyHypoxicCheckBox.checked and self.section.table is not None and part is self.section.map_node():
            set_display_threshold(shown, p.threshold, self.section.table.comparison)
        else:
            show_above(shown, low)
        manager = slicer.app.layoutManager()
        if (
            self._beside
            and manager is not None
            and manager.layout != slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
        ):
            self._beside = False  # the layout was changed by Slicer's own menu
            leave_side_by_side(self.scene)
        if self._beside:
            self._show_beside()
        else:
            overlay(self.scene, p.planning_volume, shown, ui.opacitySlider.value)
        quantity, unit = part.GetAttribute("Hypoxia.Quantity"), part.GetAttribute("Hypoxia.Unit")
        colour_legend(self.scene, shown, quantity, unit, LEFT if self._beside else "")

    def _inside(self, part: Any) -> Any:
        """The map cut to the GTV; the map itself while there is no GTV."""
        gtv = self.panel.choices().gtv
        if not gtv.exists():
            return part
        print_ = self.panel.decisions.fingerprints.segment(gtv.node, gtv.segment_id)
        known = f"{part.GetID()} {part.GetImageData().GetMTime()} {print_}"
        view = view_inside_gtv(self.scene)
        if view is not None and view.GetAttribute(INSIDE) == known:
            return view
        return inside_only(self.scene, part, *cut_to_gtv(part, gtv.node, gtv.segment_id), known)

    def follow_threshold(self, threshold: float) -> None:
        """Show what lies beyond the slider; at once, so that views, slider and numbers are painted together.

        A timer would paint the window twice for each place of the slider. The views draw no more often than the screen.
        """
        table, node = self.section.table, self.section.map_node()
        if self.ui.onlyHypoxicCheckBox.checked and self.shown is not None and table is not None and self.part() is node:
            set_display_threshold(self.shown, threshold, table.comparison)

    def on_four_up(self) -> None:
        """Three slices and 3D, linked."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def on_side_by_side(self) -> None:
        """The method's image beside the map, both axial."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView, beside=True)

    def on_three_d(self) -> None:
        """3D view alone."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
        segmentation = self.panel.parameters.hypoxic_segmentation
        if segmentation is not None:
            segmentation.CreateClosedSurfaceRepresentation()
        slicer.util.resetThreeDViews()

    def on_plots(self) -> None:
        """Slices and a plot; the button changes between both charts."""
        plots = self.section.plots
        view = self.scene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
        if plots is not None:
            now = view.GetPlotChartNodeID() if view is not None else None
            self.show_plot(plots.histogram if now == plots.curve.GetID() else plots.curve)

    def on_curve(self) -> None:
        """Measured and fitted curve of the region."""
        self.show_plot(show_curve(self.scene, curves_of(map_facts(self.section.map_node()))[0]))

    def on_voxel_curve(self) -> None:
        """Measured and fitted curve of the voxel under the cross-hair, computed by the worker."""
        crosshair = self.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None:
            self.panel.method_section.start(to_lps(crosshair.GetCrosshairRAS()))

    def show_plot(self, chart: Any) -> None:
        """Slices and a chart."""
        self._layout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView)
        view = self.scene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
        if view is not None:
            view.SetPlotChartNodeID(chart.GetID())

    def _layout(self, number: int, beside: bool = False) -> None:
        """Change the layout and show the map in it."""
        self._beside = beside
        if not beside:
            leave_side_by_side(self.scene)
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(number)
        self.show()

    def _show_beside(self) -> None:
        """The method's image in the left view; the planning image where the method has none in the scene."""
        p = self.panel.parameters
        image = next((n for n in self.panel.choices().inputs.values() if n is not None), p.planning_volume)
        if image is not None and p.planning_volume is not None:
            side_by_side(self.scene, image, self.shown, p.planning_volume)
