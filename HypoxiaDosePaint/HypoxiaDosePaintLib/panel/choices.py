"""What the user chose in the dose-paint panel, why a step is refused, and the result that follows. No Qt."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from HypoxiaMapperLib.errors import HypoxiaError, LimitError, RequestError
from HypoxiaMapperLib.panel.map_nodes import (
    FACTS,
    INPUTS,
    MADE_OF,
    REGION_OF,
    Fingerprints,
    made_of,
    region_of_map,
    region_words,
    why_not_as_made,
)
from HypoxiaMapperLib.panel.node_images import NodeImages
from HypoxiaMapperLib.panel.patient_scope import why_not_one_patient

from ..limits import override_to_type, require_distribution
from ..prescription import Prescription, all_protocols, make_prescription
from ..request import parse_overrides
from ..result import Result
from ..wording import prescribed_text

ROLE_TEXTS = {
    "": "not used", "gtv": "GTV", "hypoxic": "hypoxic segment", "organ": "organ at risk",
    "reference": "reference region",
}  # fmt: skip
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


@dataclass(frozen=True)
class Acceptance:
    """The tick list of a person. Any change of the choices takes it back."""

    registration_seen: bool = False
    contours_seen: bool = False
    doses_checked: bool = False
    reviewer: str = ""

    def missing(self) -> list[str]:
        """What the reviewer still has to do."""
        lines = []
        if not self.registration_seen:
            lines.append("Tick: registration seen.")
        if not self.contours_seen:
            lines.append("Tick: contours seen on all slices.")
        if not self.doses_checked:
            lines.append("Tick: doses and fractions checked.")
        if not self.reviewer.strip():
            lines.append("Enter the reviewer's name.")
        return lines


@dataclass
class PaintDecisions:
    """Answers the panel's questions about a set of choices."""

    images: NodeImages
    fingerprints: Fingerprints = field(default_factory=Fingerprints)

    def missing_targets(self, choices: PaintChoices) -> list[str]:
        """What step 1 still needs, one line each."""
        lines = []
        if choices.planning is None:
            lines.append("Choose the planning CT.")
        elif self.images.info(choices.planning) is None:
            lines.append(
                f"The DICOM files of {choices.planning.GetName()!r} were not found: contours must refer to its "
                "original slices. Load it from DICOM."
            )
        if not _is_map(choices.map_node):
            lines.append("Choose a hypoxia map (Hypoxia Mapper, step 2).")
        elif changed := changed_since_map(choices.map_node, self.fingerprints):
            lines.append(f"The map is stale, changed since it was made: {', '.join(changed)}. Compute it again.")
        elif reason := why_not_as_made(choices.map_node, self.fingerprints):
            lines.append(reason)
        if not choices.of_role("gtv"):
            lines.append("Give at least one segment the role GTV.")
        if not choices.of_role("hypoxic"):
            lines.append("Give at least one segment the role hypoxic segment (Hypoxia Mapper, step 4).")
        lines += filter(None, [why_not_reference(choices)])
        mixed = self._why_not_one_patient(choices)
        return [*lines, mixed] if mixed else lines

    def _why_not_one_patient(self, choices: PaintChoices) -> str:
        """Why CT, map, its images and the segments are not of one patient; empty when nothing says so."""
        found = [choices.planning, choices.map_node, *(r.node for r in choices.roles if r.role)]
        if choices.map_node is not None:
            found += made_of(choices.map_node).values()
        nodes = [node for node in found if node is not None]
        infos = [self.images.info(n) for n in nodes if n.IsA("vtkMRMLVolumeNode")]
        return why_not_one_patient(nodes, [info for info in infos if info is not None])

    def prescription(self, choices: PaintChoices) -> Prescription:
        """The prescription of the choices, checked against order and ceilings.

        Raises
        ------
        HypoxiaError
            As ``make_prescription``.
        """
        return make_prescription(
            choices.protocol,
            choices.base_dose_gy,
            choices.boost_dose_gy,
            choices.fractions,
            parse_overrides(choices.override).get("dose", ""),
        )

    def prescription_problem(self, choices: PaintChoices) -> str:
        """Why a prescription is refused; empty when it is not."""
        if choices.protocol not in all_protocols():
            return f"There is no protocol {choices.protocol!r}."
        try:
            self.prescription(choices)
        except HypoxiaError as error:
            return panel_words(error)
        return ""

    def why_not_preview(self, choices: PaintChoices) -> str:
        """Why targets cannot be made; empty when they can."""
        problem = self.prescription_problem(choices)
        return "\n".join(self.missing_targets(choices) + ([problem] if problem else []))

    def ready(self, choices: PaintChoices) -> PaintChoices:
        """The choices, looked at once more: the button may be older than the last change in another module.

        Raises
        ------
        RequestError
            As ``why_not_preview`` says.
        """
        reason = self.why_not_preview(choices)
        if reason:
            raise RequestError(reason.replace("\n", " "), "Complete steps 1 and 2.")
        return choices

    def fingerprint(self, choices: PaintChoices) -> dict[str, str]:
        """Text per input that changes when the input does; targets made with another are stale."""
        prints = self.fingerprints
        found = {f"{r.role} {r.name}": prints.segment(r.node, r.segment_id) for r in choices.roles if r.role}
        if choices.planning is not None:
            found["planning CT"] = prints.volume(choices.planning)
        if choices.map_node is not None:
            found["map"] = prints.volume(choices.map_node)
            stale = changed_since_map(choices.map_node, prints)
            found |= {f"{name}, which the map was made of": "changed" for name in stale}
        numbers = asdict_without_nodes(choices)
        return found | {key.replace("_", " "): json.dumps(value) for key, value in numbers.items()}

    def why_not_export(self, result: Result | None, changed: Sequence[str], acceptance: Acceptance, folder: str) -> str:
        """Why Export is off; empty when it may be pressed."""
        if result is None:
            return "Make the targets first (step 3)."
        if changed:
            return f"Changed since the targets were made: {', '.join(changed)}. Make them again."
        lines = acceptance.missing()
        try:
            require_distribution(result.images.map, result.request)
        except LimitError as error:
            way_out = (
                f"Check them, use another method, or write in Override (step 2): {override_to_type(result.images.map)}"
            )
            lines.insert(0, f"{error.message} {way_out}")
        if not folder:
            lines.append("Choose a folder.")
        return "\n".join(lines)


def panel_words(error: HypoxiaError) -> str:
    """An error as the panel says it: what is an option of the command line is a field here."""
    return str(error).replace("give --override", "write in Override (step 2):")


def asdict_without_nodes(choices: PaintChoices) -> dict[str, Any]:
    """Numbers and texts of the choices."""
    return {k: v for k, v in vars(choices).items() if k not in NODE_FIELDS}


def changed_between(then: dict[str, str], now: dict[str, str]) -> tuple[str, ...]:
    """Names of the inputs that differ."""
    return tuple(sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k)))


def changed_since_map(map_node: Any, fingerprints: Fingerprints) -> tuple[str, ...]:
    """Images and regions that changed, or are gone, since the map was made of them."""
    then = json.loads(map_node.GetAttribute(INPUTS) or "{}")
    changed = []
    for name, known in then.items():
        if name == "planning CT" or name.startswith("image "):
            role = "planning" if name == "planning CT" else name.removeprefix("image ")
            node = map_node.GetNodeReference(MADE_OF + role)
            if node is None or fingerprints.volume(node) != known:
                changed.append(name)
        elif name.startswith("sequence "):
            node = map_node.GetNodeReference(MADE_OF + name.replace(" ", "."))
            if node is None or fingerprints.sequence(node) != known:
                changed.append(name)
    segments = json.loads(map_node.GetAttribute(FACTS) or "{}").get("segments", {})
    for name in (n for n in then if n in ("GTV", "reference") or n.startswith("region ")):
        key = next((k for k in segments if region_words(k) == name), "")
        node = map_node.GetNodeReference(MADE_OF + REGION_OF + key) if key else None
        if node is None or fingerprints.region(node, segments[key]) != then[name]:
            changed.append(name)
    return tuple(changed)


def _is_map(node: Any) -> bool:
    """True for a hypoxia map, not for no node or another volume."""
    return node is not None and bool(node.GetAttribute(FACTS))


def reference_of_map(map_node: Any) -> tuple[Any, str] | None:
    """Segmentation (or ROI) and segment of the reference region of a map; None for no map, or one made without."""
    return region_of_map(map_node, "reference") if _is_map(map_node) else None


def why_not_reference(choices: PaintChoices) -> str:
    """Why the segments with the role of reference region cannot have it; empty when they can.

    A ratio has the reference it was computed with and no other.
    """
    if not _is_map(choices.map_node):
        return ""
    given = choices.of_role("reference")
    node, segment_id = reference_of_map(choices.map_node) or (None, "")
    wrong = [r.name for r in given if (r.node, r.segment_id) != (node, segment_id)]
    if not wrong:
        return ""
    own = node.GetSegmentation().GetSegment(segment_id) if node is not None and segment_id else node
    was = f"with the reference region {own.GetName()}" if own is not None else "without this reference region"
    return f"The map was made {was}: {', '.join(wrong)} cannot be its reference region (role: not used)."


def is_reference_of_map(map_node: Any, node: Any, segment_id: str) -> bool | None:
    """True if a map was made with a segment as reference region; None without a map."""
    return reference_of_map(map_node) == (node, segment_id) if _is_map(map_node) else None


def guess_role(name: str, in_hypoxia_segmentation: bool, is_reference: bool | None = None) -> str:
    """Role of a segment: reference region if the map was made with it (None: not known), else from its name."""
    low = name.lower()
    if is_reference:
        return "reference"
    if in_hypoxia_segmentation or low.endswith(("_hyp", "_sur")):
        return "hypoxic"
    if low.startswith("gtv"):
        return "gtv"
    if low.startswith("ref"):
        return "reference" if is_reference is None else ""
    return "organ" if any(word in low for word in _ORGAN_WORDS) else ""


def equivalents_text(prescription: Prescription) -> str:
    """EQD2 and BED of both levels, alpha/beta 10 and 3 Gy."""
    lines = [
        f"{level.label.capitalize()} {level.dose_gy:g} Gy in {level.fractions} ({level.dose_per_fraction_gy:.2f} Gy): "
        f"EQD2₁₀ {level.eqd2_tumour_gy:.1f} Gy, EQD2₃ {level.eqd2_late_gy:.1f} Gy, BED₁₀ {level.bed_tumour_gy:.1f} Gy"
        for level in (prescription.base, prescription.boost)
    ]
    return "\n".join(lines)


def deficit_text(prescription: Prescription) -> str:
    """What the boost makes up for and what it does not (model numbers)."""
    deficits = ", ".join(f"{gap:.1f} Gy at {p:g} mmHg" for p, gap in prescription.deficits_gy().items())
    return (
        f"Model: the boost makes up for {prescription.offset_pressure_mmhg:.0f} mmHg and above; "
        f"still missing for iso-effect: {deficits} ({prescription.oxygen_model_text})."
    )


def target_rows(result: Result) -> list[tuple[str, ...]]:
    """Table of the preview: name, ml, Gy, Gy per fraction, EQD2 with alpha/beta 10 and 3, cut off in ml."""

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    return [
        (
            t.name, f"{t.volume_ml:.2f}", prescribed_text(t.dose_gy, ""), number(t.dose_per_fraction_gy, 2),
            number(t.eqd2_tumour_gy, 1), number(t.eqd2_late_gy, 1), f"{t.cropped_ml:.2f}",
        )
        for t in result.targets
    ]  # fmt: skip


TARGET_COLUMNS = ("Target", "ml", "Gy", "Gy/fx", "EQD2₁₀", "EQD2₃", "cut off ml")
PROOF_COLUMNS = ("Structure", "written ml", "read ml", "Dice", "shift mm", "passed")


def proof_rows(result: Result) -> list[tuple[str, ...]]:
    """Table of the read-back proof."""

    def number(value: float, digits: int) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    return [
        (
            p.structure, number(p.written_ml, 2), number(p.read_ml, 2), number(p.dice, 4),
            number(p.centroid_shift_mm, 3), "yes" if p.passed else f"NO: {p.reason}",
        )
        for p in result.proof
    ]  # fmt: skip


def dropped_text(result: Result) -> str:
    """Islands that were left out."""
    if not result.dropped:
        return "No hypoxic island was left out."
    total_ml = sum(d.volume_ml for d in result.dropped)
    return f"Left out: {len(result.dropped)} hypoxic islands, {total_ml:.2f} ml in all ({result.dropped[0].reason})."
