"""Step 2 of the dose-paint panel in Qt: protocol, doses, margins, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from HypoxiaMapperLib.panel.i18n import _

from ..prescription import all_protocols
from .choices import PaintChoices
from .margin_form import MarginForm
from .texts import deficit_text, equivalents_text

if TYPE_CHECKING:
    from .widget import PaintPanel


class PrescriptionSection:
    """The numbers of the prescription; most of them are tied to the parameter node in the .ui file."""

    def __init__(self, panel: PaintPanel) -> None:
        self.panel, self.ui = panel, panel.ui
        ui = self.ui
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
        ui.protocolComboBox.currentIndexChanged.connect(self.on_protocol)

    def on_protocol(self, *_args: Any) -> None:
        """Take over the numbers of a protocol."""
        p = self.panel.parameters
        if self.panel.updating or p is None:
            return
        protocol = all_protocols()[self.ui.protocolComboBox.currentData]
        with slicer.util.NodeModify(p.parameterNode):
            p.protocol = protocol.name
            p.base_dose_gy, p.boost_dose_gy = float(protocol.base_dose_gy), float(protocol.boost_dose_gy)
            p.fractions = int(protocol.fractions)
            p.base_margin_mm, p.boost_margin_mm = float(protocol.base_margin_mm), float(protocol.boost_margin_mm)
            p.base_sides = p.boost_sides = ""
        self.panel.refresh()

    def _on_sides(self, name: str, text: str) -> None:
        """Margins per side into the parameter node."""
        if not self.panel.updating and self.panel.parameters is not None:
            setattr(self.panel.parameters, name, text)
            self.panel.refresh()

    def refresh(self, choices: PaintChoices) -> None:
        """Protocol text, equivalents and deficit, or why it is refused."""
        ui, protocol = self.ui, all_protocols().get(choices.protocol)
        ui.protocolComboBox.currentIndex = ui.protocolComboBox.findData(choices.protocol)
        tip = _("{title}. Published dose levels; every number can be changed")
        ui.protocolComboBox.toolTip = tip.format(title=protocol.title) if protocol else ""
        ui.protocolLabel.text = "\n".join((protocol.citation, *protocol.notes)) if protocol else ""
        self.base_margins.show(choices.base_sides)
        self.boost_margins.show(choices.boost_sides)
        problem = self.panel.decisions.prescription_problem(choices)
        ui.prescriptionStatusLabel.text = problem or _("Complete.")
        prescription = None if problem else self.panel.decisions.prescription(choices)
        ui.equivalentsLabel.text = equivalents_text(prescription) if prescription else ""
        ui.deficitLabel.text = deficit_text(prescription) if prescription else ""
