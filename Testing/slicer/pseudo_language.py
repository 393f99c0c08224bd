"""Walk a panel in a made-up language, and print what it still says in English.

``python Testing/slicer/pseudo_language.py HypoxiaMapper --work FOLDER --patient FOLDER``

The language has wide letters for the plain ones. A word in plain letters was not translated, or came from outside the
panel: from the pipeline, which is English for everyone, or from the scene (``sources_of`` names all of them).
"""

from __future__ import annotations

import argparse
import dataclasses
import html
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from run_self_test import MODULES, SAMPLE_NAME, keep_none  # beside this file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

WIDE = {n: n + 0xFEE0 for n in (*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1))}
WORD = re.compile("[A-Za-z]{2,}")
CODES = ("ml", "mm", "kg", "MBq", "Gy", "min", "ms", "deg", "START", "EQD")  # units, and a word of DICOM
PROPERTIES = ("text", "title", "toolTip", "suffix", "prefix", "placeholderText", "specialValueText", "format")
RUN_SECONDS = 120.0
REVIEWER = "Somebody"


def in_wide_letters(text: str) -> str:
    """The translation of a text: placeholders and tags stay."""
    return "".join(p if p[:1] in "{<" else p.translate(WIDE) for p in re.split(r"(\{[^{}]*\}|<[^<>]*>)", text))


def case(text: str) -> str:
    """Regular expression for a text, also with a capital at its beginning."""
    return "|".join(re.escape(first + text[1:]) for first in {text[0], text[0].upper()})


class Panel:
    """A panel, and every text that it has shown."""

    def __init__(self, module: str) -> None:
        import slicer

        slicer.util.selectModule(module)
        self.widget = getattr(slicer.modules, f"{module}Widget")
        self.panel, self.ui = self.widget.panel, self.widget.panel.ui
        self.shown: dict[str, str] = {}  # text: widget
        self.english: set[str] = set()

    def look(self) -> None:
        """Take down what the panel shows now, and what of it is English for everyone."""
        from PySide6 import QtCore, QtWidgets

        for widget in self.widget.parent.findChildren(QtWidgets.QWidget):
            where = QtCore.QObject.objectName(widget) or type(widget).__name__
            for name in PROPERTIES[isinstance(widget, QtWidgets.QProgressBar) :]:  # its text is a percentage
                value = QtCore.QObject.property(widget, name)
                if isinstance(value, str):
                    self.shown.setdefault(value, f"{where}.{name}")
            if isinstance(widget, QtWidgets.QComboBox):
                for n in range(QtWidgets.QComboBox.count(widget)):
                    self.shown.setdefault(QtWidgets.QComboBox.itemText(widget, n), f"{where}[{n}]")
            if isinstance(widget, QtWidgets.QTableWidget):
                self._look_at_table(widget, where)
        self._look_at_charts()
        self.english |= scene_sources()

    def _look_at_table(self, table: Any, where: str) -> None:
        from PySide6 import QtWidgets

        kind = QtWidgets.QTableWidget
        heads = [kind.horizontalHeaderItem(table, n) for n in range(kind.columnCount(table))]
        cells = [kind.item(table, r, c) for r in range(kind.rowCount(table)) for c in range(kind.columnCount(table))]
        for item in filter(None, (*heads, *cells)):
            self.shown.setdefault(item.text(), where)

    def _look_at_charts(self) -> None:
        import slicer

        for chart in slicer.util.getNodesByClass("vtkMRMLPlotChartNode"):
            series = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
            legends = series if chart.GetLegendVisibility() else []
            for text in (chart.GetTitle(), chart.GetXAxisTitle(), chart.GetYAxisTitle(), *legends):
                self.shown.setdefault(text or "", f"chart {chart.GetName()}")

    def left(self) -> list[str]:
        """What is still in plain letters."""
        known = sorted(filter(WORD.search, self.english | method_sources()), key=len, reverse=True)
        ways = [re.compile(rf"(?<![A-Za-z])(?:{case(part)})(?![A-Za-z])") for part in known]
        found = []
        for text, where in self.shown.items():
            rest = html.unescape(text)
            for way in ways:
                rest = way.sub(" ", rest)
            words = [w for w in WORD.findall(re.sub("<[^<>]*>", " ", rest)) if w not in CODES]
            if words:
                found.append(f"{where}: {text!r}: {' '.join(words)}")
        return found


def method_sources() -> set[str]:
    """What methods say of themselves: titles, quantities, sources, inputs and parameters."""
    from HypoxiaMapperLib.methods import all_methods
    from HypoxiaMapperLib.panel.views import unit_text
    from HypoxiaMapperLib.tracers import HYPOXIA_TRACERS

    found = {*HYPOXIA_TRACERS, "FDG"}
    for method in all_methods().values():
        found |= {method.title, method.quantity, unit_text(method.unit), method.citation, method.unavailable_reason()}
        for spec in (*method.inputs, *method.regions):
            found |= {spec.description, spec.description.partition(";")[0], spec.key, getattr(spec, "quantity", "")}
        for parameter in dataclasses.fields(method.Params):
            facts = parameter.metadata
            found |= {facts["label"], facts["source"], str(facts.get("unit") or "")}
            found |= {str(choice) for choice in facts.get("choices") or ()}
    return found


def scene_sources() -> set[str]:
    """What the scene holds: names of nodes and segments, quantities, warnings of maps, the curve of a region."""
    import slicer

    from HypoxiaMapperLib.panel.map_nodes import FACTS, curves_of, map_facts
    from HypoxiaMapperLib.panel.views import unit_text

    found = set()
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        found |= {node.GetName() or "", *(node.GetAttribute(a) or "" for a in ("Hypoxia.Quantity",))}
        found.add(unit_text(node.GetAttribute("Hypoxia.Unit") or ""))
        if node.GetAttribute(FACTS):
            facts = map_facts(node)
            found |= {*facts["warnings"], facts["threshold_source"]}
            found |= {t for curve in curves_of(facts) for t in (curve.name, curve.x_label, curve.y_label)}
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        inner = node.GetSegmentation()
        found |= {inner.GetNthSegment(n).GetName() for n in range(inner.GetNumberOfSegments())}
    return found


def wait(panel: Panel) -> None:
    """Until the computation has ended; what the worker reports meanwhile is English."""
    import slicer

    end = time.monotonic() + RUN_SECONDS
    while panel.panel.run_state is not None and time.monotonic() < end:
        panel.english.add(panel.panel.run_state.text)
        slicer.app.processEvents()
        panel.look()
        time.sleep(0.2)
    assert panel.panel.run_state is None


def walk_mapper() -> Panel:
    """Load, choose each method, run, threshold, segment, edit, stale, refused inputs."""
    import slicer

    import HypoxiaMapper
    from HypoxiaMapperLib.panel.self_test import erase_one_voxel

    panel = Panel("HypoxiaMapper")
    panel.look()
    HypoxiaMapper.load_digital_patient()
    ui, own = panel.ui, panel.panel
    ui.guessButton.click()
    panel.look()
    ui.runButton.click()
    wait(panel)
    panel.look()
    node = own.parameters.map_volume
    assert node is not None, ui.methodStatusLabel.text
    ui.thresholdSlider.value = 1.4
    ui.createSegmentButton.click()
    panel.look()
    erase_one_voxel(own.parameters.hypoxic_segmentation, own.parameters.hypoxic_segment)
    asked: list[str] = []
    own.map_section.confirm = lambda text, windowTitle: asked.extend([text, windowTitle])  # noqa: N803
    ui.createSegmentButton.click()
    panel.shown |= dict.fromkeys(asked, "question")
    assert len(asked) == 2
    show_rare(panel)
    for n in range(ui.methodComboBox.count):
        ui.methodComboBox.currentIndex = n
        panel.look()
    ui.methodComboBox.currentIndex = ui.methodComboBox.findData("tracer_ratio")
    refuse(panel)
    slicer.app.processEvents()
    return panel


def show_rare(panel: Panel) -> None:
    """What a run of this method does not show: a fitted curve, and what is known of a trained model."""
    import slicer

    from HypoxiaMapperLib.inference.channels import CHANNELS
    from HypoxiaMapperLib.methods import Baseline, Finding, FitCurve, ModelUse
    from HypoxiaMapperLib.panel.model_text import model_html
    from HypoxiaMapperLib.panel.plots import show_curve

    show_curve(slicer.mrmlScene, FitCurve("1", (0.0, 1.0), (1.0, 2.0), (1.0, 1.0), "2", "3"))
    panel.english |= {channel.title for channel in CHANNELS} | {
        "distribution",
        "unchecked",
    }  # the second: words of a request
    for passed, band, threshold in ((True, (1.0, 2.0), "> 1.2"), (False, (float("nan"),) * 2, "")):
        model = ModelUse(
            "1", "2", "3", "4", "5", "6", "7", ("8",), "9", ("fdg",), ("ct",), 12.3, band,
            (Finding("1", "2", "3", passed),), (Baseline("1", "2", 9.0, 0.5),), {"fdg": 0.2}, "", threshold, "",
        )  # fmt: skip
        for shown in (model, dataclasses.replace(model, distribution=())):
            panel.shown[model_html(shown)] = "model"


def said_by(call: Any) -> str:
    """Why the library refuses."""
    from HypoxiaMapperLib.errors import HypoxiaError

    try:
        call()
    except HypoxiaError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def refuse(panel: Panel) -> None:
    """Inputs that cannot be used."""
    import slicer

    from HypoxiaMapperLib.mrml.geometry import require_no_transform

    own = panel.panel
    pet = own.choices().inputs["pet"]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    own.parameters.map_volume.SetAndObserveTransformNodeID(transform.GetID())
    panel.english.add(said_by(lambda: require_no_transform(own.parameters.map_volume)))
    own.refresh()
    panel.look()
    own.parameters.reference_segmentation, own.parameters.reference_segment = None, ""
    own.refresh()
    panel.look()
    panel.ui.placeSphereButton.click()
    panel.look()
    for attribute in ("Hypoxia.Unit", "Hypoxia.SeriesInstanceUID", "DICOM.instanceUIDs"):
        pet.RemoveAttribute(attribute)
    own.refresh()
    panel.look()
    panel.ui.stateUnitButton.click()
    panel.look()
    slicer.mrmlScene.Clear()
    panel.look()


def accept_and_export(panel: Panel) -> None:
    """Preview, tick, sign, export: every reason on the way."""
    import slicer

    ui, own = panel.ui, panel.panel
    ui.previewButton.click()
    assert own.result is not None, (ui.staleLabel.text, ui.previewButton.toolTip, ui.targetsStatusLabel.text)
    panel.english |= set(own.result.warnings) | {t.name for t in own.result.targets}
    panel.look()
    ui.folderButton.directory = str(Path(slicer.app.temporaryPath))
    panel.english.add(ui.folderButton.directory)
    for box in (ui.registrationCheckBox, ui.contoursCheckBox, ui.dosesCheckBox):
        panel.look()
        box.checked = True
    panel.look()
    ui.reviewerLineEdit.text = REVIEWER
    ui.databaseCheckBox.checked = False
    ui.exportButton.click()
    assert own.exported is not None, ui.exportStatusLabel.text
    panel.english |= {row["structure"] for row in json.loads((own.exported / "result.json").read_text())["proof"]}
    panel.english.add(own.exported.name)
    panel.look()


def walk_dose_paint() -> Panel:
    """Prescribe, be refused, preview, accept, export, change."""
    import slicer

    import HypoxiaMapper
    from HypoxiaDosePaintLib.panel.decisions import panel_words
    from HypoxiaMapperLib.errors import HypoxiaError

    HypoxiaMapper.load_digital_patient()
    mapper = Panel("HypoxiaMapper")
    mapper.ui.guessButton.click()
    mapper.ui.runButton.click()
    wait(mapper)
    mapper.ui.createSegmentButton.click()
    panel = Panel("HypoxiaDosePaint")
    ui, own = panel.ui, panel.panel
    panel.english |= paint_sources() | {own.decisions.prescription(own.choices()).oxygen_model_text}
    panel.look()
    own.set_role("GTVn", "")
    for dose in (69.0, 90.0):
        ui.boostDoseSpinBox.value = dose
        panel.english.add(panel_words(HypoxiaError(said_by(lambda: own.decisions.prescription(own.choices())))))
        panel.look()
    ui.boostDoseSpinBox.value = 77.0
    ui.baseSameCheckBox.checked = False
    panel.look()
    ui.baseSameCheckBox.checked = True
    accept_and_export(panel)
    for box in (ui.boostMarginSpinBox, ui.baseDoseSpinBox):
        box.value += 1.0
        panel.english.add(own.decisions.prescription(own.choices()).oxygen_model_text)
        panel.look()
    own.set_role("SpinalCord", "")
    own.set_role("Ref_Muscle", "reference")
    panel.look()
    slicer.mrmlScene.Clear()
    panel.look()
    return panel


def paint_sources() -> set[str]:
    """What protocols say of themselves, and who reviews."""
    from HypoxiaDosePaintLib.prescription import all_protocols

    found = {REVIEWER}
    for protocol in all_protocols().values():
        found |= {protocol.title, protocol.citation, *protocol.notes}
    return found


WALKS = {"HypoxiaMapper": walk_mapper, "HypoxiaDosePaint": walk_dose_paint}


def main() -> int:
    """Walk and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=list(WALKS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patient", type=Path, required=True)
    arguments = parser.parse_args()
    keep_none()
    import stand_in
    from PySide6 import QtCore

    class Translator(QtCore.QTranslator):
        """For the .ui files."""

        def translate(self, _context: str, text: str, *_rest: Any) -> str:
            return in_wide_letters(text)

        def isEmpty(self) -> bool:  # noqa: N802
            return False

    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / SAMPLE_NAME).symlink_to(arguments.patient)
    stand_in.start(arguments.work)
    translator = Translator()
    stand_in.APPLICATION.installTranslator(translator)
    sys.modules["slicer.i18n"].tr = in_wide_letters
    for name in MODULES[: MODULES.index(arguments.module) + 1]:
        stand_in.load_module(ROOT / name, name)
    panel = WALKS[arguments.module]()
    print(json.dumps({"shown": len(panel.shown), "left": panel.left()}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
