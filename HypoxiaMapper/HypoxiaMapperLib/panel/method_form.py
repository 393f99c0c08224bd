"""A form for the parameters of a method, rendered from what its ``Params`` declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from typing import Any

import ctk
import qt

from ..methods import Method
from .i18n import _

PATHS = ("bundle", "input_csv", "calibration")  # parameters that name a folder or a file
_WIDEST = 1e6  # where a parameter declares no limit
_DECIMALS = 3  # at least


@dataclass(frozen=True)
class _Field:
    """A widget and the name of its Qt property that holds the value."""

    widget: Any
    name: str

    def set(self, value: Any) -> None:
        """Set the value, as a user would."""
        if self.name == "currentData":
            self.widget.currentIndex = max(0, self.widget.findData(value))
        else:
            if isinstance(value, float):
                self.widget.decimals = max(self.widget.decimals, decimals_of(value))
            setattr(self.widget, self.name, value)


class MethodForm:
    """Widgets of one method's parameters.

    Parameters
    ----------
    container : QWidget
        Receives one row per parameter; rows of another method are removed.
    changed : callable
        Called without arguments when a value changes.
    """

    def __init__(self, container: Any, changed: Callable[[], None]) -> None:
        self._container, self._changed = container, changed
        self._fields: dict[str, _Field] = {}

    def show(self, method: Method, values: Mapping[str, Any]) -> None:
        """Rows for a method, filled with given values or the defaults."""
        layout = new_form(self._container)
        self._fields = {}
        for parameter in fields(method.Params):
            default = parameter.default if parameter.default is not MISSING else _empty(parameter.type)
            value = values.get(parameter.name, default)
            is_path = parameter.name in PATHS
            field = (_path_field if is_path else _field)(parameter.metadata, value, self._changed)
            field.widget.toolTip = tool_tip(parameter.metadata)
            layout.addRow(f"{parameter.metadata['label']}:", field.widget)
            self._fields[parameter.name] = field

    def values(self) -> dict[str, Any]:
        """Parameter values as they stand."""
        return {name: getattr(field.widget, field.name) for name, field in self._fields.items()}

    def set_value(self, name: str, value: Any) -> None:
        """Set one parameter, as typing it would."""
        self._fields[name].set(value)


def _empty(kind: Any) -> Any:
    """Value to begin with where a parameter has no default."""
    return {"float": 0.0, "int": 0, "bool": False}.get(getattr(kind, "__name__", str(kind)), "")


def tool_tip(metadata: Mapping[str, Any]) -> str:
    """Unit, range and source of a parameter."""
    low, high, unit = metadata.get("minimum"), metadata.get("maximum"), metadata.get("unit")
    lines = [_("Unit: {unit}").format(unit=unit)] if unit else []
    if low is not None or high is not None:
        ends = ("-∞" if low is None else f"{low:g}", "∞" if high is None else f"{high:g}")
        lines.append(_("Range: {low} to {high}").format(low=ends[0], high=ends[1]))
    return "\n".join([*lines, _("Source: {source}").format(source=metadata["source"])])


def new_form(container: Any) -> Any:
    """An empty form layout in a widget with a box layout; what was in it before is removed."""
    for child in container.children():
        if getattr(child, "isWidgetType", bool)():  # PythonQt gives layouts no such method
            child.hide()
            child.setParent(None)
            child.deleteLater()
    holder = qt.QWidget()
    layout = qt.QFormLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    container.layout().addWidget(holder)
    return layout


def decimals_of(value: float) -> int:
    """Digits after the point that a number has."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _field(metadata: Mapping[str, Any], value: Any, changed: Callable[[], None]) -> _Field:
    """The widget that fits a parameter."""

    def told(*_: Any) -> None:
        changed()

    if metadata.get("choices"):
        widget = qt.QComboBox()
        for choice in metadata["choices"]:
            widget.addItem(str(choice) or _("(automatic)"), choice)
        widget.currentIndex = max(0, widget.findData(value))
        widget.currentIndexChanged.connect(told)
        return _Field(widget, "currentData")
    if isinstance(value, bool):
        widget = qt.QCheckBox()
        widget.checked = value
        widget.toggled.connect(told)
        return _Field(widget, "checked")
    if isinstance(value, int | float):
        return _number_field(metadata, value, told)
    widget = qt.QLineEdit()
    widget.text = str(value)
    widget.textChanged.connect(told)
    return _Field(widget, "text")


def _path_field(_metadata: Mapping[str, Any], value: Any, changed: Callable[[], None]) -> _Field:
    """A line with a button to browse for a folder or a file."""
    widget = ctk.ctkPathLineEdit()
    widget.currentPath = str(value)
    widget.currentPathChanged.connect(lambda *_: changed())
    return _Field(widget, "currentPath")


def _number_field(metadata: Mapping[str, Any], value: float, told: Callable[..., None]) -> _Field:
    """A spin box within the parameter's range, with its unit."""
    kind = type(value)
    widget = qt.QSpinBox() if kind is int else qt.QDoubleSpinBox()
    if kind is float:  # a box rounds what it is given: nothing of a stored value, or of the range, may be lost
        widget.decimals = max(_DECIMALS, decimals_of(metadata.get("minimum") or 0) + 1, decimals_of(value))
    widget.minimum = kind(-_WIDEST if metadata.get("minimum") is None else metadata["minimum"])
    widget.maximum = kind(_WIDEST if metadata.get("maximum") is None else metadata["maximum"])
    if metadata.get("unit"):
        widget.suffix = f" {metadata['unit']}"
    widget.value = value
    widget.valueChanged.connect(told)
    return _Field(widget, "value")
