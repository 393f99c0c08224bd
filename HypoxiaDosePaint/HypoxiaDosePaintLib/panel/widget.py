"""The dose-paint panel in Qt: shows what the plain classes say, and hands them what the user does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.panel.busy import busy, draw_progress
from HypoxiaMapperLib.panel.labels import fit_labels
from HypoxiaMapperLib.panel.node_images import database_images

from ..pipeline import Computed
from ..result import Result
from .choices import NODE_FIELDS, PaintChoices
from .decisions import PaintDecisions
from .parameters import PaintParameters
from .prescription_section import PrescriptionSection
from .preview_section import PreviewSection
from .review_section import ReviewSection
from .targets_section import TargetsSection


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
        self.images = database_images()
        self.decisions = PaintDecisions(self.images)
        self.updating = False  # while labels and lists are written, no signal of theirs is a user's
        self._gui_tag: Any = None
        self.targets = TargetsSection(self)
        self.prescription = PrescriptionSection(self)
        self.preview = PreviewSection(self)
        self.review = ReviewSection(self)

    @property
    def computed(self) -> Computed | None:
        """The last targets with what they were made of; None without."""
        return self.preview.computed

    @property
    def result(self) -> Result | None:
        """What is said of the last targets; None without."""
        return self.computed.result if self.computed is not None else None

    @property
    def exported(self) -> Path | None:
        """Folder of the last export; None without."""
        return self.review.exported

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
        self.targets.forget()
        self.preview.forget()
        self.images.clear()
        self.decisions = PaintDecisions(self.images)
        self.review.forget()

    def fill_in(self) -> None:
        """Fill in what is empty, when the user comes here."""
        self.targets.fill_in()

    def set_role(self, segment_name: str, role: str) -> None:
        """Choose what a segment is used for, as its list does."""
        self.targets.set_role(segment_name, role)

    def choices(self) -> PaintChoices:
        """What the parameter node holds."""
        p = self.parameters
        values = {f.name: getattr(p, f.name) for f in fields(PaintChoices) if f.name not in NODE_FIELDS}
        return PaintChoices(p.planning_volume, p.map_volume, tuple(self.targets.roles()), **values)

    def export_for_dialog(self, directory: str) -> str:
        """Export into a folder of Slicer's export dialog; why not, or empty."""
        return self.review.export_for_dialog(directory)

    # What is shown

    def progress(self, fraction: float, text: str) -> None:
        """How far the work is."""
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.exportStatusLabel.text = text
        draw_progress()

    def busy(self) -> AbstractContextManager[None]:
        """Switches the panel off while it works."""
        ui = self.ui
        return busy(ui.targetsSection, ui.prescriptionSection, ui.previewSection, ui.reviewSection)

    def refresh(self, *_args: Any) -> None:
        """Bring every label, table and button up to date."""
        if self.parameters is None or self.updating:
            return
        self.updating = True
        try:
            choices = self.choices()
            self.targets.refresh(choices)
            self.prescription.refresh(choices)
            self.preview.refresh(choices)
            self.review.refresh()
            self._fit_labels()
        finally:
            self.updating = False

    def _fit_labels(self) -> None:
        ui = self.ui
        fit_labels(
            ui.researchLabel, ui.targetsStatusLabel, ui.protocolLabel, ui.equivalentsLabel, ui.deficitLabel,
            ui.prescriptionStatusLabel, ui.staleLabel, ui.droppedLabel, ui.warningsLabel, ui.exportStatusLabel,
        )  # fmt: skip
