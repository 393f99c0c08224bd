"""Step 1 of the dose-paint panel in Qt: which nodes are used, and what each segment is used for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import qt

from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.labels import tab_after
from HypoxiaMapperLib.panel.segment_regions import segment_ids

from .choices import ROLES, PaintChoices, Role, guess_role
from .map_used import is_cut_from, is_reference_of_map
from .tables import fill_table
from .texts import role_text

if TYPE_CHECKING:
    from .widget import PaintPanel


class TargetsSection:
    """Selectors and the table of roles."""

    def __init__(self, panel: PaintPanel) -> None:
        self.panel, self.ui = panel, panel.ui
        self._shown: list[tuple[Any, str, str]] | None = None  # node, segment and name of each row
        self.ui.structuresSelector.currentNodeChanged.connect(panel.refresh)
        self.ui.hypoxiaSelector.currentNodeChanged.connect(panel.refresh)

    def forget(self) -> None:
        """The scene closes: its segments are gone."""
        self._shown = None

    def fill_in(self) -> None:
        """Fill in what is empty from the mapper."""
        parameters = self.panel.parameters
        mapper = self.panel.scene.GetSingletonNode("HypoxiaMapper", "vtkMRMLScriptedModuleNode")
        links = (
            ("planning_volume", "planning_volume"), ("map_volume", "map_volume"), ("structures", "gtv_segmentation"),
            ("hypoxia", "hypoxic_segmentation"),
        )  # fmt: skip
        for own, other in links:
            node = mapper.GetNodeReference(other) if mapper is not None else None
            if getattr(parameters, own) is None and node is not None:
                setattr(parameters, own, node)

    def roles(self) -> list[Role]:
        """Every segment of both segmentations with its role: as chosen, else as its name says."""
        p = self.panel.parameters
        chosen = json.loads(p.roles)
        found = []
        for which, node in (("structures", p.structures), ("hypoxia", p.hypoxia)):
            if node is None or (which == "hypoxia" and node is p.structures):
                continue
            for identifier in segment_ids(node):
                name = node.GetSegmentation().GetSegment(identifier).GetName()
                is_reference = is_reference_of_map(p.map_volume, node, identifier)
                is_cut = is_cut_from(p.map_volume, node, identifier)
                guess = guess_role(name, which == "hypoxia", is_reference, is_cut)
                role = chosen.get(f"{which}/{identifier}", guess)
                found.append(Role(node, identifier, role))
        return found

    def set_role(self, segment_name: str, role: str) -> None:
        """Choose what a segment is used for, as its list does."""
        for row, (_node, _segment_id, name) in enumerate(self._shown or ()):
            if name == segment_name:
                self.ui.rolesTable.cellWidget(row, 1).currentIndex = ROLES.index(role)

    def _on_role(self, row: int, index: int) -> None:
        """A role was chosen in the table."""
        if self.panel.updating or index < 0 or self._shown is None:
            return
        (node, segment_id, _name), p = self._shown[row], self.panel.parameters
        which = "structures" if node is p.structures else "hypoxia"
        chosen = json.loads(p.roles)
        chosen[f"{which}/{segment_id}"] = ROLES[index]
        p.roles = json.dumps(chosen, sort_keys=True)
        self.panel.refresh()

    def refresh(self, choices: PaintChoices) -> None:
        """The table, and what is missing."""
        rows = [(r.node, r.segment_id, r.name) for r in choices.roles]
        if rows != self._shown:
            self._fill(choices.roles)
        self._shown = rows
        for row, role in enumerate(choices.roles):
            self.ui.rolesTable.cellWidget(row, 1).currentIndex = ROLES.index(role.role)
        lines = self.panel.decisions.missing_targets(choices)
        self.ui.targetsStatusLabel.text = "\n".join(lines) or _("Complete.")

    def _fill(self, roles: tuple[Role, ...]) -> None:
        """One row per segment with the list of roles."""
        table = self.ui.rolesTable
        fill_table(table, (_("Segment"), _("Used as")), [(r.name, "") for r in roles], 1)
        for row, role in enumerate(roles):
            box = qt.QComboBox()
            for key in ROLES:
                box.addItem(role_text(key))
            box.toolTip = _("What {name} is used for").format(name=role.name)
            box.currentIndexChanged.connect(lambda *_args, row=row, box=box: self._on_role(row, box.currentIndex))
            table.setCellWidget(row, 1, box)
        tab_after(self.ui.hypoxiaSelector, table)
