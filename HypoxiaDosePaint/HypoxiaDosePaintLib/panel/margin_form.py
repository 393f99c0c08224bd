"""Margins per side in Qt: one number for all sides, or six. An empty text means: same on all sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.labels import tab_after

from ..request import LARGEST_MARGIN_MM
from .choices import SIDES, sides_of, sides_text
from .texts import side_text, side_tip

STEP_MM = 0.5


class MarginForm:
    """Six spin boxes beside a check box "same on all sides".

    Parameters
    ----------
    same_box : QCheckBox
        Ticked: ``all_sides_box`` counts.
    container : QWidget
        With a box layout; receives the six spin boxes.
    all_sides_box : QDoubleSpinBox
        The margin of all sides, in mm.
    changed : callable
        Called with the text for the parameter node when the user changes something.
    """

    def __init__(self, same_box: Any, container: Any, all_sides_box: Any, changed: Callable[[str], None]) -> None:
        self._same, self._container, self._all, self._changed = same_box, container, all_sides_box, changed
        self._updating, self._all_tip = False, all_sides_box.toolTip
        self.boxes: dict[str, Any] = {}
        grid = qt.QGridLayout()
        for number, side in enumerate(SIDES):
            box = qt.QDoubleSpinBox()
            box.decimals, box.singleStep, box.suffix = 1, STEP_MM, " mm"
            box.minimum, box.maximum = 0.0, LARGEST_MARGIN_MM
            box.toolTip = side_tip(side)
            box.valueChanged.connect(self._on_side)
            grid.addWidget(qt.QLabel(side_text(side)), number // 2, 2 * (number % 2))
            grid.addWidget(box, number // 2, 2 * (number % 2) + 1)
            self.boxes[side] = box
        container.layout().addLayout(grid)
        tab_after(same_box, container)
        same_box.toggled.connect(self._on_same)

    def show(self, text: str) -> None:
        """Show what the parameter node holds."""
        self._updating = True
        self._same.checked, self._container.visible, self._all.enabled = not text, bool(text), not text
        self._all.toolTip = _("Each side has a margin of its own, below") if text else self._all_tip
        if text:
            for box, value in zip(self.boxes.values(), sides_of(text, 0.0), strict=True):
                if box.value != value:
                    box.value = value
        self._updating = False

    def _on_same(self, same: bool) -> None:
        """Begin with the same margin on six sides, or go back to one number."""
        if not self._updating:
            self._changed("" if same else sides_text([self._all.value] * len(SIDES)))

    def _on_side(self, *_args: Any) -> None:
        if not self._updating:
            self._changed(sides_text([box.value for box in self.boxes.values()]))
