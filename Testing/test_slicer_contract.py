"""Panels and .ui files agree: every widget, its class, every parameter name and every signal in use exists."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PANELS = {
    "HypoxiaMapper": ROOT / "HypoxiaMapper" / "HypoxiaMapperLib" / "panel",
    "HypoxiaDosePaint": ROOT / "HypoxiaDosePaint" / "HypoxiaDosePaintLib" / "panel",
}
# From the headers of Qt 5.15, CTK Libs/Widgets, Slicer Libs/MRML/Widgets and SubjectHierarchy/Widgets.
WIDGET = {"enabled", "visible", "toolTip", "minimumHeight", "maximumHeight"}
BUTTON = WIDGET | {"text", "checked", "clicked", "toggled", "click"}
SPIN = WIDGET | {"value", "minimum", "maximum", "valueChanged", "suffix", "decimals", "singleStep", "pageStep"}
MEMBERS = {
    "QLabel": WIDGET | {"text"},
    "QPushButton": BUTTON,
    "QCheckBox": BUTTON,
    "QComboBox": WIDGET
    | {"addItem", "setItemData", "setItemText", "findData", "count", "clear", "itemText", "palette"}
    | {"currentIndex", "currentData", "currentText", "currentIndexChanged"},
    "QSpinBox": SPIN,
    "QDoubleSpinBox": SPIN,
    "QLineEdit": WIDGET | {"text", "textChanged", "editingFinished"},
    "QProgressBar": WIDGET | {"value"},
    "QWidget": WIDGET | {"layout", "children"},
    "QTableWidget": WIDGET | {"rowCount", "columnCount", "item", "setItem", "cellWidget", "setCellWidget"},
    "qMRMLNodeComboBox": WIDGET
    | {"currentNode", "setCurrentNode", "currentNodeChanged", "setMRMLScene", "nodeTypes", "noneEnabled"}
    | {"addAttribute"},
    "qMRMLSegmentSelectorWidget": WIDGET
    | {"currentNode", "setCurrentNode", "currentSegmentID", "setCurrentSegmentID", "currentNodeChanged",
       "currentSegmentChanged"},
    "qMRMLSubjectHierarchyComboBox": WIDGET | {"currentItem", "setCurrentItem", "currentItemChanged"},
    "ctkSliderWidget": SPIN,
    "ctkDirectoryButton": WIDGET | {"directory", "directorySelected", "text"},
}  # fmt: skip


def widgets_of(module: str) -> dict[str, ElementTree.Element]:
    """Widgets of a .ui file by name."""
    tree = ElementTree.parse(ROOT / module / "Resources" / "UI" / f"{module}.ui")
    found = list(tree.iter("widget"))
    names = [w.attrib["name"] for w in found]
    assert len(names) == len(set(names)), "a widget name occurs twice"
    return {w.attrib["name"]: w for w in found}


def uses(module: str) -> set[tuple[str, str, str]]:
    """``(file, widget, member)`` of every ``ui.widget.member`` and ``ui.widget`` (member empty) in a panel."""
    found = set()
    for path in PANELS[module].glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_ui(node.value):
                if id(node) not in inner:
                    found.add((path.name, node.attr, ""))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and is_ui(node.value.value):
                found.add((path.name, node.value.attr, node.attr))
    return found


def is_ui(node: ast.AST) -> bool:
    """True for ``ui``, ``self.ui``, ``panel.ui``."""
    return (isinstance(node, ast.Name) and node.id == "ui") or (isinstance(node, ast.Attribute) and node.attr == "ui")


@pytest.mark.parametrize("module", list(PANELS))
def test_every_widget_used_is_in_the_file_and_has_that_member(module):
    widgets, used = widgets_of(module), uses(module)
    assert len(used) > 40
    own = {u for u in used if not (module == "HypoxiaDosePaint" and u[0] == "self_test.py" and u[1] not in widgets)}
    for file, name, member in own:
        assert name in widgets, f"{file}: ui.{name}"
        kind = widgets[name].attrib["class"]
        assert not member or member in MEMBERS[kind], f"{file}: {kind} {name} has no {member!r} in this test's list"


@pytest.mark.parametrize("module", list(PANELS))
def test_every_parameter_name_is_a_field(module):
    source = (PANELS[module] / "parameters.py").read_text(encoding="utf-8")
    (cls,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
    fields = {n.target.id: ast.unparse(n.annotation) for n in cls.body if isinstance(n, ast.AnnAssign)}
    count = 0
    for name, widget in widgets_of(module).items():
        for item in widget.findall("property[@name='SlicerParameterName']"):
            parameter, kind, count = item.findtext("string"), widget.attrib["class"], count + 1
            assert parameter in fields, f"{name}: {parameter}"
            assert re.search(FITTING[kind], fields[parameter]), f"{kind} {name} cannot hold {fields[parameter]}"
    assert count >= 5


# Base/Python/slicer/parameterNodeWrapper/guiConnectors.py: canRepresent, and what each connector demands.
FITTING = {
    "qMRMLNodeComboBox": r"^vtkMRML", "QComboBox": r"^Annotated\[str, Choice", "QCheckBox": "^bool$",
    "QDoubleSpinBox": r"^(float|Annotated\[float, WithinRange.*)$",
    "QSpinBox": r"^(int|Annotated\[int, WithinRange.*)$",
    "ctkSliderWidget": r"^Annotated\[float, WithinRange", "QLineEdit": "^str$",
}  # fmt: skip


@pytest.mark.parametrize("module", list(PANELS))
def test_a_user_is_told_and_can_go_by_keyboard(module):
    tree = ElementTree.parse(ROOT / module / "Resources" / "UI" / f"{module}.ui")
    stops = [t.text for t in tree.iter("tabstop")]
    passive = ("QLabel", "QProgressBar", "ctkCollapsibleButton", "qMRMLWidget")
    for name, widget in widgets_of(module).items():
        kind = widget.attrib["class"]
        if kind in passive:
            continue
        assert widget.findtext("property[@name='toolTip']/string"), f"{name} has no tool tip"
        if kind != "QWidget":
            assert name in stops, f"{name} cannot be reached in order"
    assert len(stops) == len(set(stops))


@pytest.mark.parametrize("module", list(PANELS))
def test_colours_are_left_to_the_theme(module):
    text = (ROOT / module / "Resources" / "UI" / f"{module}.ui").read_text(encoding="utf-8")
    assert "styleSheet" not in text
    assert "palette" not in text
    for name in ("widget.py", "map_section.py", "method_form.py"):
        path = PANELS[module] / name
        assert not path.exists() or "styleSheet" not in path.read_text(encoding="utf-8")
