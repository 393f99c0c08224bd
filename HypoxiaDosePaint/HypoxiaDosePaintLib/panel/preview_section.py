"""Step 3 of the dose-paint panel in Qt: the targets are made and shown, until something they were made of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.panel.i18n import _

from ..pipeline import Computed
from .choices import PaintChoices
from .decisions import changed_between, panel_words
from .preview import show_targets
from .scene_run import compute_targets
from .tables import fill_table
from .texts import InputKey, dropped_text, target_columns, target_rows

if TYPE_CHECKING:
    from .widget import PaintPanel


class PreviewSection:
    """The last targets, and what they were made of."""

    def __init__(self, panel: PaintPanel) -> None:
        self.panel, self.ui = panel, panel.ui
        self.computed: Computed | None = None
        self._made_of: dict[InputKey, str] = {}
        self.ui.previewButton.clicked.connect(self.on_preview)

    def forget(self) -> None:
        """The scene closes: nothing of it may be exported any more."""
        self.computed, self._made_of = None, {}

    def on_preview(self) -> None:
        """Make the targets and show them."""
        panel = self.panel
        with slicer.util.tryWithErrorDisplay(_("The targets could not be made."), waitCursor=True), panel.busy():
            choices = panel.choices()
            made_of = panel.decisions.fingerprint(choices)  # now: what changes from here on is not in the targets
            panel.review.begin_anew()
            try:
                self.computed = compute_targets(panel.decisions.ready(choices), panel.images, panel.progress)
            except HypoxiaError as error:
                self.computed = None
                panel.refresh()
                self.ui.staleLabel.text = panel_words(error)
                return
            self._made_of = made_of
            self.ui.progressBar.value = 0
            show_targets(panel.scene, self.computed.result, choices.planning)
        panel.refresh()

    def changed(self) -> tuple[str, ...]:
        """What changed since the targets were made, in words."""
        if self.computed is None:
            return ()
        return changed_between(self._made_of, self.panel.decisions.fingerprint(self.panel.choices()))

    def refresh(self, choices: PaintChoices) -> None:
        """Table, islands and warnings of the last targets, and whether they can be made."""
        ui, reason = self.ui, self.panel.decisions.why_not_preview(choices)
        ui.previewButton.enabled = not reason
        ui.previewButton.toolTip = reason or _("Build the planning targets and show them in 2D and 3D")
        if self.computed is None:
            ui.staleLabel.text = _("No targets yet.")
            fill_table(ui.targetsTable, target_columns(), [])
            ui.droppedLabel.text = ui.warningsLabel.text = ""
            return
        result, changed = self.computed.result, self.changed()
        ui.staleLabel.text = (
            _("STALE: changed since the targets were made: {names}.").format(names=", ".join(changed))
            if changed
            else _("Up to date.")
        )
        fill_table(ui.targetsTable, target_columns(), target_rows(result))
        ui.droppedLabel.text = _("Research use only.") + " " + dropped_text(result)
        ui.warningsLabel.text = "\n".join(f"• {w}" for w in result.warnings)
