"""Step 4 of the dose-paint panel in Qt: a person looks and accepts, then the set is written and proven."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer

from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.packages import install, missing_packages

from .decisions import Acceptance, panel_words
from .export_run import add_to_database, copy_new
from .scene_run import export_dicom, export_result
from .tables import fill_table
from .texts import proof_columns, proof_rows

if TYPE_CHECKING:
    from .widget import PaintPanel

EXPORT_PACKAGES = ("pydicom", "highdicom", "jinja2", "matplotlib")
SET_NAME = "hypoxia-set"


class ReviewSection:
    """The tick list, the export, its proof and its report."""

    def __init__(self, panel: PaintPanel) -> None:
        self.panel, self.ui = panel, panel.ui
        self.exported: Path | None = None
        self.folder = ""  # the button names the working directory until a folder is chosen
        self._told = ""  # of the last export, while nothing has changed
        self._ticked_by = ""  # the reviewer's name when the boxes were ticked
        ui = self.ui
        boxes = (ui.registrationCheckBox, ui.contoursCheckBox, ui.dosesCheckBox)
        self._tips = tuple((box, box.toolTip) for box in boxes)
        fill_table(ui.proofTable, proof_columns(), [])
        for box in boxes:
            box.toggled.connect(self._on_tick)
        ui.reviewerLineEdit.textChanged.connect(panel.refresh)
        ui.reviewerLineEdit.editingFinished.connect(self._on_name)
        ui.folderButton.text = _("Choose a folder...")
        ui.folderButton.directorySelected.connect(self._on_folder)
        ui.exportButton.clicked.connect(self.on_export)
        ui.reportButton.clicked.connect(self.on_report)

    def forget(self) -> None:
        """The scene closes: nothing of it was accepted or exported, and the next patient has a folder of its own."""
        self.exported, self.folder = None, ""
        self.ui.folderButton.text, self.ui.reviewerLineEdit.text = _("Choose a folder..."), ""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Other targets are to come: untick everything, and show no proof of those before."""
        self._untick()
        fill_table(self.ui.proofTable, proof_columns(), [])

    def _untick(self) -> None:
        for box, _tip in self._tips:
            box.checked = False

    def _on_tick(self, *_args: Any) -> None:
        """A box was ticked or cleared: by whom."""
        name = self.ui.reviewerLineEdit.text.strip()
        ticked = any(box.checked for box, _tip in self._tips)
        self._ticked_by = (self._ticked_by or name) if ticked else ""
        self.panel.refresh()

    def _on_name(self) -> None:
        """A name was written: what another person ticked is not this one's review."""
        if self._ticked_by and self._ticked_by != self.ui.reviewerLineEdit.text.strip():
            self._untick()
        self._on_tick()

    def _on_folder(self, folder: str) -> None:
        """A folder was chosen."""
        self.folder = self.ui.folderButton.text = str(folder)
        self.panel.refresh()

    def acceptance(self) -> Acceptance:
        """The tick list as it stands."""
        ui = self.ui
        return Acceptance(
            ui.registrationCheckBox.checked, ui.contoursCheckBox.checked, ui.dosesCheckBox.checked,
            ui.reviewerLineEdit.text,
        )  # fmt: skip

    def why_not_export(self, folder: str) -> str:
        """Why the set may not be exported into a folder; empty when it may."""
        panel, acceptance = self.panel, self.acceptance()
        reason = panel.decisions.why_not_export(panel.result, panel.preview.changed(), acceptance, folder)
        if reason or self._ticked_by in ("", acceptance.reviewer.strip()):
            return reason
        said = _("{first} ticked the boxes: {second} has to tick them anew.")
        return said.format(first=self._ticked_by, second=acceptance.reviewer.strip())

    def refresh(self) -> None:
        """What may be ticked and pressed; ticks go when something changed."""
        ui, panel = self.ui, self.panel
        nothing = panel.decisions.why_not_accept(panel.result, panel.preview.changed())
        if nothing:
            self._untick()
        for box, tip in self._tips:
            box.enabled, box.toolTip = not nothing, nothing or tip
        reason = self.why_not_export(self.folder)
        ui.exportButton.enabled = not reason
        ui.exportButton.toolTip = reason or _("Write the set, read it back, write the report")
        self._told = "" if reason else self._told
        ui.exportStatusLabel.text = reason or self._told or _("Ready to export.")
        ui.reportButton.enabled = self.exported is not None
        ui.reportButton.toolTip = (
            _("There is no report yet: it is written by the export")
            if self.exported is None
            else _("Open the report in the browser")
        )

    def on_export(self) -> None:
        """Export into a new folder of the chosen one."""
        said = _("The export failed; nothing was kept.")
        with slicer.util.tryWithErrorDisplay(said, waitCursor=True), self.panel.busy():
            self.export(Path(self.folder) / f"{SET_NAME}-{datetime.now():%Y%m%d-%H%M%S}")

    def export(self, out: Path) -> None:
        """Export the accepted targets into a new folder; the reason is shown when that is not possible."""
        result, reason = self._export(export_result, out, str(out.parent) if out.is_absolute() else "")
        if result is None:
            self.ui.exportStatusLabel.text = reason
            return
        self.exported = out
        note = add_to_database(out / "dicom") if self.panel.parameters.to_database else ""
        fill_table(self.ui.proofTable, proof_columns(), proof_rows(result))
        self.ui.progressBar.value = 0
        passed = sum(p.passed for p in result.proof)
        self._told = _("Written and proven ({passed} of {all} checks passed), research use only: {folder}").format(
            passed=passed, all=len(result.proof), folder=out
        ) + (f"\n{note}" if note else "")
        self.panel.refresh()

    def export_for_dialog(self, directory: str) -> str:
        """Export the DICOM files of the set into a folder of Slicer's export dialog; why not, or empty.

        The set is written and proven elsewhere first: the dialog never sees a part of it.
        """
        target = Path(directory)
        with tempfile.TemporaryDirectory(prefix="hypoxia-set-") as folder:
            exported, reason = self._export(export_dicom, Path(folder) / SET_NAME, directory)
            self.ui.progressBar.value = 0
            if exported is None:
                return reason
            return copy_new(sorted((Path(folder) / SET_NAME / "dicom").iterdir()), target)

    def _export(self, write: Callable[..., Any], out: Path, chosen: str) -> tuple[Any, str]:
        """What ``write`` exported, or None and the reason in words; ``chosen`` is the folder a person chose."""
        reason = (
            self.why_not_export(chosen) if self.panel.parameters is not None else _("Open Hypoxia Dose Paint first.")
        )
        try:
            if not reason and missing_packages(EXPORT_PACKAGES):
                missing = install(EXPORT_PACKAGES, _("Hypoxia Dose Paint"))
                reason = _("Missing Python packages: {names}.").format(names=", ".join(missing)) if missing else ""
            if reason:
                return None, reason
            return write(self.panel.computed, self.acceptance().reviewer, out, self.panel.progress), ""
        except HypoxiaError as error:
            return None, panel_words(error)

    def on_report(self) -> None:
        """Open the report in the browser."""
        if self.exported is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.exported / "report.html")))
