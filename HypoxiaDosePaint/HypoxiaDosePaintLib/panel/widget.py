"""The dose-paint panel in Qt: shows what the plain classes say, and hands them what the user does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.panel.busy import busy, draw_progress
from HypoxiaMapperLib.panel.labels import fit_labels, tab_after
from HypoxiaMapperLib.panel.node_images import NodeImages, database_files
from HypoxiaMapperLib.panel.packages import install, missing_packages
from HypoxiaMapperLib.panel.segment_regions import segment_ids

from ..prescription import all_protocols
from .choices import (
    NODE_FIELDS,
    PROOF_COLUMNS,
    ROLE_TEXTS,
    TARGET_COLUMNS,
    Acceptance,
    PaintChoices,
    PaintDecisions,
    Role,
    changed_between,
    deficit_text,
    dropped_text,
    equivalents_text,
    guess_role,
    is_reference_of_map,
    panel_words,
    proof_rows,
    target_rows,
)
from .export_run import add_to_database, copy_new
from .margin_form import MarginForm
from .parameters import PaintParameters
from .tables import fill_table

EXPORT_PACKAGES = ("highdicom", "jinja2", "matplotlib")
SET_NAME = "hypoxia-set"


class PaintPanel:
    """The four steps.

    Parameters
    ----------
    ui : object
        Child widgets of ``HypoxiaDosePaint.ui`` by name.
    scene : vtkMRMLScene
        The scene of the widgets.
    """

    def __init__(self, ui: Any, scene: Any) -> None:
        self.ui, self.scene = ui, scene
        self.parameters: PaintParameters | None = None
        self.images = NodeImages(database_files)
        self.decisions = PaintDecisions(self.images)
        self.computed: Any = None  # pipeline.Computed of the last preview
        self.exported: Path | None = None
        self._told = ""  # of the last export, while nothing has changed
        self._made_of: dict[str, str] = {}
        self._shown_roles: list[Role] | None = None
        self._gui_tag: Any = None
        self._updating = False
        for name, protocol in all_protocols().items():
            ui.protocolComboBox.addItem(protocol.title, name)
        self.base_margins = MarginForm(
            ui.baseSameCheckBox, ui.baseSidesWidget, ui.baseMarginSpinBox,
            lambda text: self._on_sides("base_sides", text),
        )  # fmt: skip
        self.boost_margins = MarginForm(
            ui.boostSameCheckBox, ui.boostSidesWidget, ui.boostMarginSpinBox,
            lambda text: self._on_sides("boost_sides", text),
        )  # fmt: skip
        fill_table(ui.proofTable, PROOF_COLUMNS, [])
        self._connect()

    def _connect(self) -> None:
        ui = self.ui
        ui.structuresSelector.currentNodeChanged.connect(self.refresh)
        ui.hypoxiaSelector.currentNodeChanged.connect(self.refresh)
        ui.protocolComboBox.currentIndexChanged.connect(self.on_protocol)
        ui.previewButton.clicked.connect(self.on_preview)
        for box in (ui.registrationCheckBox, ui.contoursCheckBox, ui.dosesCheckBox):
            box.toggled.connect(self.refresh)
        ui.reviewerLineEdit.textChanged.connect(self.refresh)
        ui.folderButton.directoryChanged.connect(self.refresh)
        ui.exportButton.clicked.connect(self.on_export)
        ui.reportButton.clicked.connect(self.on_report)

    # Parameter node

    def pause(self) -> None:
        """The user goes to another module: nothing is shown, but the export dialog may still ask."""
        if self.parameters is not None and self._gui_tag is not None:
            self.parameters.disconnectGui(self._gui_tag)
        self._gui_tag = None

    def set_parameters(self, parameters: PaintParameters | None) -> None:
        """Show another parameter node; None for none."""
        self.pause()
        self.parameters = parameters
        if parameters is None:
            return
        self._gui_tag = parameters.connectGui(self.ui)
        self.refresh()

    def forget(self) -> None:
        """The scene closed: nothing of it may be exported any more."""
        self.set_parameters(None)
        self.computed, self.exported, self._made_of, self._shown_roles = None, None, {}, None
        fill_table(self.ui.proofTable, PROOF_COLUMNS, [])
        self.images.clear()
        self.decisions = PaintDecisions(self.images)
        self._take_acceptance_back()

    def fill_in(self) -> None:
        """Fill in what is empty from the mapper and from names, when the user comes here."""
        p = self.parameters
        mapper = self.scene.GetSingletonNode("HypoxiaMapper", "vtkMRMLScriptedModuleNode")
        links = (
            ("planning_volume", "planning_volume"), ("map_volume", "map_volume"), ("structures", "gtv_segmentation"),
            ("hypoxia", "hypoxic_segmentation"),
        )  # fmt: skip
        for own, other in links:
            node = mapper.GetNodeReference(other) if mapper is not None else None
            if getattr(p, own) is None and node is not None:
                setattr(p, own, node)

    def choices(self) -> PaintChoices:
        """What the parameter node holds."""
        p = self.parameters
        values = {f.name: getattr(p, f.name) for f in fields(PaintChoices) if f.name not in NODE_FIELDS}
        return PaintChoices(p.planning_volume, p.map_volume, tuple(self._roles()), **values)

    def _roles(self) -> list[Role]:
        """Every segment of both segmentations with its role: as chosen, else as its name says."""
        p = self.parameters
        chosen = json.loads(p.roles)
        found = []
        for which, node in (("structures", p.structures), ("hypoxia", p.hypoxia)):
            if node is None or (which == "hypoxia" and node is p.structures):
                continue
            for identifier in segment_ids(node):
                name = node.GetSegmentation().GetSegment(identifier).GetName()
                is_reference = is_reference_of_map(p.map_volume, node, identifier)
                role = chosen.get(f"{which}/{identifier}", guess_role(name, which == "hypoxia", is_reference))
                found.append(Role(node, identifier, role))
        return found

    # Steps 1 and 2

    def set_role(self, segment_name: str, role: str) -> None:
        """Choose what a segment is used for, as its list does."""
        for row, shown in enumerate(self._shown_roles):
            if shown.name == segment_name:
                self.ui.rolesTable.cellWidget(row, 1).currentIndex = list(ROLE_TEXTS).index(role)

    def _on_role(self, row: int, index: int) -> None:
        """A role was chosen in the table."""
        if self._updating or index < 0:
            return
        role, p = self._shown_roles[row], self.parameters
        which = "structures" if role.node is p.structures else "hypoxia"
        chosen = json.loads(p.roles)
        chosen[f"{which}/{role.segment_id}"] = list(ROLE_TEXTS)[index]
        p.roles = json.dumps(chosen, sort_keys=True)
        self.refresh()

    def on_protocol(self, *_args: Any) -> None:
        """Take over the numbers of a protocol."""
        if self._updating or self.parameters is None:
            return
        protocol = all_protocols()[self.ui.protocolComboBox.currentData]
        p = self.parameters
        with slicer.util.NodeModify(p.parameterNode):
            p.protocol = protocol.name
            p.base_dose_gy, p.boost_dose_gy = float(protocol.base_dose_gy), float(protocol.boost_dose_gy)
            p.fractions = int(protocol.fractions)
            p.base_margin_mm, p.boost_margin_mm = float(protocol.base_margin_mm), float(protocol.boost_margin_mm)
            p.base_sides = p.boost_sides = ""
        self.refresh()

    def _on_sides(self, name: str, text: str) -> None:
        """Margins per side into the parameter node."""
        if not self._updating and self.parameters is not None:
            setattr(self.parameters, name, text)
            self.refresh()

    # Step 3

    def on_preview(self) -> None:
        """Make the targets and show them."""
        from .preview import show_targets
        from .scene_run import compute_targets

        with slicer.util.tryWithErrorDisplay(_("The targets could not be made."), waitCursor=True), self._busy():
            choices = self.choices()
            made_of = self.decisions.fingerprint(choices)  # now: what changes from here on is not in the targets
            self._take_acceptance_back()
            fill_table(self.ui.proofTable, PROOF_COLUMNS, [])  # it proves the targets before these
            try:
                self.computed = compute_targets(self.decisions.ready(choices), self.images, self._progress)
            except HypoxiaError as error:
                self.computed = None
                self.refresh()
                self.ui.staleLabel.text = panel_words(error)
                return
            self._made_of = made_of
            self.ui.progressBar.value = 0
            show_targets(self.scene, self.computed.result, choices.planning)
            slicer.util.resetThreeDViews()
        self.refresh()

    # Step 4

    def acceptance(self) -> Acceptance:
        """The tick list as it stands."""
        ui = self.ui
        return Acceptance(
            ui.registrationCheckBox.checked, ui.contoursCheckBox.checked, ui.dosesCheckBox.checked,
            ui.reviewerLineEdit.text,
        )  # fmt: skip

    def _take_acceptance_back(self) -> None:
        """Untick everything."""
        for box in (self.ui.registrationCheckBox, self.ui.contoursCheckBox, self.ui.dosesCheckBox):
            box.checked = False

    def why_not_export(self) -> str:
        """Why Export is off; empty when it may be pressed."""
        result = self.computed.result if self.computed is not None else None
        return self.decisions.why_not_export(result, self._changed(), self.acceptance(), self.ui.folderButton.directory)

    def _changed(self) -> tuple[str, ...]:
        """What changed since the targets were made."""
        if self.computed is None:
            return ()
        return changed_between(self._made_of, self.decisions.fingerprint(self.choices()))

    def on_export(self) -> None:
        """Export into a new folder of the chosen one."""
        with slicer.util.tryWithErrorDisplay(_("The export failed; nothing was kept."), waitCursor=True), self._busy():
            self.export(Path(self.ui.folderButton.directory) / f"{SET_NAME}-{datetime.now():%Y%m%d-%H%M%S}")

    def export(self, out: Path) -> None:
        """Export the accepted targets into a new folder; the reason is shown when that is not possible."""
        from .scene_run import export_result

        result, reason = self._export(export_result, out)
        if result is None:
            self.ui.exportStatusLabel.text = reason
            return
        self.exported = out
        note = add_to_database(out / "dicom") if self.parameters.to_database else ""
        fill_table(self.ui.proofTable, PROOF_COLUMNS, proof_rows(result))
        self.ui.progressBar.value = 0
        passed = sum(p.passed for p in result.proof)
        self._told = _("Written and proven ({passed} of {all} checks passed), research use only: {folder}").format(
            passed=passed, all=len(result.proof), folder=out
        ) + (f"\n{note}" if note else "")
        self.refresh()

    def export_for_dialog(self, directory: str) -> str:
        """Export the DICOM files of the set into a folder of Slicer's export dialog; why not, or empty.

        The set is written and proven elsewhere first: the dialog never sees a part of it.
        """
        from .scene_run import export_dicom

        target = Path(directory)
        with tempfile.TemporaryDirectory(prefix="hypoxia-set-") as folder:
            exported, reason = self._export(export_dicom, Path(folder) / SET_NAME)
            if exported is None:
                return reason
            return copy_new(sorted((Path(folder) / SET_NAME / "dicom").iterdir()), target)

    def _export(self, write: Callable[..., Any], out: Path) -> tuple[Any, str]:
        """What ``write`` exported, or None and the reason in words."""
        reason = self.why_not_export() if self.parameters is not None else _("Open Hypoxia Dose Paint first.")
        try:
            if not reason and missing_packages(EXPORT_PACKAGES):
                missing = install(EXPORT_PACKAGES, "Hypoxia Dose Paint")
                reason = _("Missing Python packages: {names}.").format(names=", ".join(missing)) if missing else ""
            if reason:
                return None, reason
            return write(self.computed, self.acceptance().reviewer, out, self._progress), ""
        except HypoxiaError as error:
            return None, panel_words(error)

    def on_report(self) -> None:
        """Open the report in the browser."""
        if self.exported is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.exported / "report.html")))

    # What is shown

    def _progress(self, fraction: float, text: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.exportStatusLabel.text = text
        draw_progress()

    def _busy(self) -> AbstractContextManager[None]:
        """Switches the panel off while it works."""
        ui = self.ui
        return busy(ui.targetsSection, ui.prescriptionSection, ui.previewSection, ui.reviewSection)

    def refresh(self, *_args: Any) -> None:
        """Bring every label, table and button up to date."""
        if self.parameters is None or self._updating:
            return
        self._updating = True
        try:
            choices = self.choices()
            self._show_roles(choices)
            self.ui.targetsStatusLabel.text = "\n".join(self.decisions.missing_targets(choices)) or _("Complete.")
            self._show_prescription(choices)
            reason = self.decisions.why_not_preview(choices)
            self.ui.previewButton.enabled = not reason
            self.ui.previewButton.toolTip = reason or _("Build the planning targets and show them in 2D and 3D")
            self._show_targets()
            reason = self.why_not_export()
            self.ui.exportButton.enabled = not reason
            self.ui.exportButton.toolTip = reason or _("Write the set, read it back, write the report")
            self._told = "" if reason else self._told
            self.ui.exportStatusLabel.text = reason or self._told or _("Ready to export.")
            self.ui.reportButton.enabled = self.exported is not None
            self._fit_labels()
        finally:
            self._updating = False

    def _fit_labels(self) -> None:
        ui = self.ui
        fit_labels(
            ui.researchLabel, ui.targetsStatusLabel, ui.protocolLabel, ui.equivalentsLabel, ui.deficitLabel,
            ui.prescriptionStatusLabel, ui.staleLabel, ui.droppedLabel, ui.warningsLabel, ui.exportStatusLabel,
        )  # fmt: skip

    def _show_roles(self, choices: PaintChoices) -> None:
        """One row per segment with the list of roles."""
        table, roles = self.ui.rolesTable, list(choices.roles)
        shown = self._shown_roles
        if shown is None or [(r.node, r.segment_id) for r in roles] != [(r.node, r.segment_id) for r in shown]:
            fill_table(table, (_("Segment"), _("Used as")), [(r.name, "") for r in roles], 1)
            for row in range(len(roles)):
                box = qt.QComboBox()
                for text in ROLE_TEXTS.values():
                    box.addItem(_(text))
                box.currentIndexChanged.connect(lambda *_, row=row, box=box: self._on_role(row, box.currentIndex))
                table.setCellWidget(row, 1, box)
            tab_after(self.ui.hypoxiaSelector, table)
        self._shown_roles = roles
        for row, role in enumerate(roles):
            table.cellWidget(row, 1).currentIndex = list(ROLE_TEXTS).index(role.role)

    def _show_prescription(self, choices: PaintChoices) -> None:
        """Protocol text, equivalents and deficit, or why it is refused."""
        ui, protocol = self.ui, all_protocols().get(choices.protocol)
        ui.protocolComboBox.currentIndex = ui.protocolComboBox.findData(choices.protocol)
        ui.protocolLabel.text = "\n".join((protocol.citation, *protocol.notes)) if protocol else ""
        self.base_margins.show(choices.base_sides)
        self.boost_margins.show(choices.boost_sides)
        problem = self.decisions.prescription_problem(choices)
        ui.prescriptionStatusLabel.text = problem or _("Complete.")
        prescription = None if problem else self.decisions.prescription(choices)
        ui.equivalentsLabel.text = equivalents_text(prescription) if prescription else ""
        ui.deficitLabel.text = deficit_text(prescription) if prescription else ""

    def _show_targets(self) -> None:
        """Table, islands and warnings of the last preview; ticks go when something changed."""
        ui = self.ui
        if self.computed is None:
            ui.staleLabel.text = _("No targets yet.")
            fill_table(ui.targetsTable, TARGET_COLUMNS, [])
            ui.droppedLabel.text = ui.warningsLabel.text = ""
            return
        result, changed = self.computed.result, self._changed()
        if changed:
            self._take_acceptance_back()
        ui.staleLabel.text = (
            _("STALE: changed since the targets were made: {names}.").format(names=", ".join(changed))
            if changed
            else _("Up to date.")
        )
        fill_table(ui.targetsTable, TARGET_COLUMNS, target_rows(result))
        ui.droppedLabel.text = f"{_('Research use only.')} {dropped_text(result)}"
        ui.warningsLabel.text = "\n".join(f"• {w}" for w in result.warnings)
