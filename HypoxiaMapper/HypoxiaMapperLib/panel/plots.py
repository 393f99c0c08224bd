"""Plots of a map as Slicer plot nodes: histogram and volume against threshold with its line, and curves with fits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..methods import FitCurve
from .i18n import _
from .threshold import ThresholdTable
from .views import unit_text

FOLDER = "Hypoxia plots"  # in the subject hierarchy: they show one map at a time, of whichever patient
OWNER = "Hypoxia.PlotOf"  # attribute of the nodes: which plot they belong to
_BLUE, _RED, _GRAY = (0.2, 0.45, 0.8), (0.85, 0.2, 0.2), (0.4, 0.4, 0.4)  # on the plot's own white ground
CURVE_CHART = "Hypoxia curve"
LEGEND_SHARE = 0.5  # of the span of the values, left free above them


class ThresholdPlots:
    """Two charts of one map.

    Parameters
    ----------
    scene : vtkMRMLScene
        Receives tables, series and charts; charts made before are used again.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self.histogram = _chart(scene, "Hypoxia histogram")
        self.curve = _chart(scene, "Hypoxic volume by threshold")
        self._tops = {"histogram": 1.0, "curve": 1.0}

    def show(self, table: ThresholdTable, quantity: str, unit: str) -> None:
        """Fill both charts from a threshold table."""
        self.histogram.SetTitle(_("Hypoxia histogram"))
        self.curve.SetTitle(_("Hypoxic volume by threshold"))
        label = f"{quantity} ({unit_text(unit)})"
        y_label = _("Volume per bin (ml)")
        self._tops["histogram"] = _fill(self.scene, self.histogram, *table.histogram(), label, y_label)
        x_label = _("Threshold: {quantity} ({unit})").format(quantity=quantity, unit=unit_text(unit))
        y_label = _("Volume {comparison} threshold (ml)").format(comparison=table.comparison)
        self._tops["curve"] = _fill(self.scene, self.curve, *table.curve(), x_label, y_label)

    def move_threshold(self, threshold: float) -> None:
        """Move the line of both charts."""
        for chart, key in ((self.histogram, "histogram"), (self.curve, "curve")):
            line = _series(self.scene, chart, "threshold", _RED).GetTableNode()
            _move_line(line, threshold, self._tops[key])


def show_curve(scene: Any, curve: FitCurve) -> Any:
    """Measured points, the fit through them and what is left over, in one chart; the chart.

    A curve whose fit is the measurement itself (a method without a model) is shown as measured alone.
    """
    chart = _chart(scene, CURVE_CHART)
    x, measured, fitted = (np.array(values, float) for values in (curve.x, curve.measured, curve.fitted))
    chart.SetTitle(curve.name)
    chart.SetLegendVisibility(True)
    chart.SetXAxisTitle(curve.x_label)
    chart.SetYAxisTitle(curve.y_label)
    modelled = not np.array_equal(measured, fitted, equal_nan=True)
    nothing = np.full(x.shape, np.nan)
    for key, legend, values, colour, points in (
        ("measured", _("measured"), measured, _BLUE, True),
        ("fitted", _("fitted"), fitted if modelled else nothing, _RED, False),
        ("residual", _("residual (measured - fitted)"), measured - fitted if modelled else nothing, _GRAY, True),
    ):
        kept = np.isfinite(values)
        series = _series(scene, chart, key, colour)
        series.SetName(legend)
        if points:
            series.SetMarkerStyle(series.MarkerStyleCircle if key == "measured" else series.MarkerStyleCross)
            series.SetLineStyle(series.LineStyleNone)
        _set_columns(series.GetTableNode(), x[kept], values[kept])
    _leave_room_for_legend(chart, np.concatenate([measured, fitted, measured - fitted if modelled else nothing]))
    return chart


def _leave_room_for_legend(chart: Any, values: np.ndarray) -> None:
    """The legend lies in the upper corner, over the curve if the axis ends with it."""
    finite = values[np.isfinite(values)]
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        span = high - low or 1.0
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(low - 0.1 * span, high + LEGEND_SHARE * span)


def _chart(scene: Any, name: str) -> Any:
    """The chart of that name, made if it is not there."""
    chart = scene.GetFirstNodeByName(name)
    if chart is None or not chart.IsA("vtkMRMLPlotChartNode"):
        chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
        chart.SetLegendVisibility(False)
        _gather(scene, chart)
    return chart


def _gather(scene: Any, *nodes: Any) -> None:
    """Nodes of the plots into their folder of the subject hierarchy."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if tree is None:
        return
    root = tree.GetSceneItemID()
    folder = tree.GetItemChildWithName(root, FOLDER) or tree.CreateFolderItem(root, FOLDER)
    for node in nodes:
        tree.SetItemParent(tree.GetItemByDataNode(node) or tree.CreateItem(folder, node), folder)


def _fill(scene: Any, chart: Any, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str) -> float:
    """Put one curve into a chart; its highest value."""
    series = _series(scene, chart, "map", _BLUE)
    _set_columns(series.GetTableNode(), x, y)
    chart.SetXAxisTitle(x_label)
    chart.SetYAxisTitle(y_label)
    return float(y.max())


def _series(scene: Any, chart: Any, key: str, colour: tuple[float, float, float]) -> Any:
    """The series of a chart with that key, with its table; made if it is not there."""
    for number in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(number)
        if series.GetAttribute(OWNER) == key:
            return series
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", f"{chart.GetName()} {key} table")
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", f"{chart.GetName()} {key}")
    series.SetAttribute(OWNER, key)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetLineWidth(2)
    series.SetColor(*colour)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    _gather(scene, table, series)
    return series


def _move_line(table_node: Any, x: float, height: float) -> None:
    """Put a line from the axis to a height at a place; the table of a line that stands already is written into."""
    if table_node.GetNumberOfRows() != 2:
        _set_columns(table_node, np.array([x, x]), np.array([0.0, height]))
        return
    table = table_node.GetTable()
    for row, y in enumerate((0.0, height)):
        table.SetValue(row, 0, x)
        table.SetValue(row, 1, y)
    table.Modified()


def _set_columns(table_node: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Replace both columns of a table node by arrays of equal length."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkTable

    table = vtkTable()
    for name, values in (("x", x), ("y", y)):
        column = numpy_to_vtk(np.ascontiguousarray(values, np.float64), deep=True)
        column.SetName(name)
        table.AddColumn(column)
    table_node.SetAndObserveTable(table)
