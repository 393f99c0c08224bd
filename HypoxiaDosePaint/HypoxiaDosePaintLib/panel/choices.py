"""What the user chose in the dose-paint panel. No Qt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ROLES = ("", "gtv", "hypoxic", "organ", "reference")
"""What a segment may be used for; empty: nothing."""
_ORGAN_WORDS = (
    "cord", "brainstem", "parotid", "mandible", "chiasm", "optic", "larynx", "lung", "heart", "esophag", "cochlea",
    "lens", "carotid",
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """What a segment is used for; ``role`` is a key of ``ROLE_TEXTS``."""

    node: Any
    segment_id: str
    role: str

    @property
    def name(self) -> str:
        """Name of the segment."""
        return str(self.node.GetSegmentation().GetSegment(self.segment_id).GetName())


@dataclass(frozen=True)
class PaintChoices:
    """Everything step 1 and 2 ask for. Doses in gray, lengths in millimetres."""

    planning: Any = None
    map_node: Any = None
    roles: tuple[Role, ...] = ()
    protocol: str = "welz_77_70_35"
    base_dose_gy: float = 70.0
    boost_dose_gy: float = 77.0
    fractions: int = 35
    base_margin_mm: float = 5.0
    boost_margin_mm: float = 3.0
    base_sides: str = ""  # six margins in mm, see ``sides_of``; empty: ``base_margin_mm`` on all sides
    boost_sides: str = ""
    organ_gap_mm: float = 3.0
    minimum_island_ml: float = 0.5
    maximum_fraction: float = 0.8
    override: str = ""
    write_rtdose: bool = False

    def of_role(self, role: str) -> tuple[Role, ...]:
        """Segments of one role."""
        return tuple(r for r in self.roles if r.role == role)


NODE_FIELDS = ("planning", "map_node", "roles")
SIDES = ("left", "right", "anterior", "posterior", "superior", "inferior")
"""Order of the margins per side, that of ``request.Margins``."""


def sides_text(margins_mm: Sequence[float]) -> str:
    """Six margins as the parameter node keeps them."""
    return json.dumps([round(float(m), 3) for m in margins_mm])


def sides_of(text: str, margin_mm: float) -> tuple[float, ...]:
    """Margins in mm towards ``SIDES``: the six of a text, else the same on all sides."""
    return tuple(json.loads(text)) if text else (margin_mm,) * len(SIDES)


def asdict_without_nodes(choices: PaintChoices) -> dict[str, Any]:
    """Numbers and texts of the choices."""
    return {k: v for k, v in vars(choices).items() if k not in NODE_FIELDS}


def guess_role(
    name: str, in_hypoxia_segmentation: bool, is_reference: bool | None = None, is_cut_from_map: bool | None = None
) -> str:
    """Role of a segment: reference region if the map was made with it (None: not known), else from its name.

    One that was cut from another map has none.
    """
    low = name.lower()
    if is_reference:
        return "reference"
    if is_cut_from_map is False:
        return ""
    if in_hypoxia_segmentation or low.endswith(("_hyp", "_sur")):
        return "hypoxic"
    if low.startswith("gtv"):
        return "gtv"
    if low.startswith("ref"):
        return "reference" if is_reference is None else ""
    return "organ" if any(word in low for word in _ORGAN_WORDS) else ""
