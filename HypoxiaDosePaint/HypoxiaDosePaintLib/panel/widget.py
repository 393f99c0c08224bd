"""The dose-paint panel in Qt: shows what the plain classes say, and hands them what the user does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.panel.busy import busy, draw_progress
from HypoxiaMapperLib.panel.labels import fit_labels
from HypoxiaMapperLib.panel.map_nodes import made_of
from HypoxiaMapperLib.panel.module_panel import ModulePanel

from ..pipeline import Computed
from ..result import Result
from .choices import NODE_FIELDS, PaintChoices
from .decisions import PaintDecisions
from .prescription_section import PrescriptionSection
from .preview_section import PreviewSection
from .review_section import ReviewSection
from .targets_section import TargetsSection


class PaintPanel(ModulePanel):
    """The four steps. While another module is shown, the export dialog may still ask."""

    def __init__(self, ui: Any, scene: Any) -> None:
        super().__init__(ui, scene)
        self.decisions = PaintDecisions(self.images)
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

    def node_selectors(self) -> list[Any]:
        """Selectors of step 1."""
        ui = self.ui
        return [ui.planningSelector, ui.mapSelector, ui.structuresSelector, ui.hypoxiaSelector]

    def watched(self, choices: PaintChoices) -> list[Any]:
        """What targets are made of, and what their map was made of."""
        made = made_of(choices.map_node).values() if choices.map_node is not None else ()
        return [choices.planning, choices.map_node, *made, *(role.node for role in choices.roles)]

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

    def show(self, choices: PaintChoices) -> None:
        """Every label, table and button."""
        self.targets.refresh(choices)
        self.prescription.refresh(choices)
        self.preview.refresh(choices)
        self.review.refresh()
        self._fit_labels()

    def _fit_labels(self) -> None:
        ui = self.ui
        fit_labels(
            ui.researchLabel, ui.targetsStatusLabel, ui.protocolLabel, ui.equivalentsLabel, ui.deficitLabel,
            ui.prescriptionStatusLabel, ui.staleLabel, ui.droppedLabel, ui.warningsLabel, ui.exportStatusLabel,
        )  # fmt: skip
