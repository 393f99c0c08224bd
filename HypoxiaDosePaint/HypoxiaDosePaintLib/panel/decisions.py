"""Why a step of the dose-paint panel is refused, and what makes its targets stale. No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from HypoxiaMapperLib.errors import HypoxiaError, LimitError, RequestError
from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.map_nodes import Fingerprints, made_of, why_not_as_made
from HypoxiaMapperLib.panel.node_images import NodeImages
from HypoxiaMapperLib.panel.patient_scope import why_not_one_patient
from HypoxiaMapperLib.panel.segment_regions import transformed, without_labelmap
from HypoxiaMapperLib.panel.words import shown_words

from ..limits import override_to_type, require_distribution
from ..prescription import Prescription, all_protocols, make_prescription
from ..request import parse_overrides
from ..result import Result
from .choices import PaintChoices, asdict_without_nodes
from .map_used import changed_since_map, is_map, why_not_hypoxic, why_not_reference
from .texts import InputKey, changed_text


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
            lines.append(_("Tick: registration seen."))
        if not self.contours_seen:
            lines.append(_("Tick: contours seen on all slices."))
        if not self.doses_checked:
            lines.append(_("Tick: doses and fractions checked."))
        if not self.reviewer.strip():
            lines.append(_("Enter the reviewer's name."))
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
            lines.append(_("Choose the planning CT."))
        elif self.images.info(choices.planning) is None:
            said = _(
                "The DICOM files of {name!r} were not found: contours must refer to its original slices. Load it from "
                "DICOM."
            )
            lines.append(said.format(name=choices.planning.GetName()))
        if not is_map(choices.map_node):
            lines.append(_("Choose a hypoxia map (Hypoxia Mapper, step 2)."))
        elif changed := changed_since_map(choices.map_node, self.fingerprints):
            names = ", ".join(map(shown_words, changed))
            said = _("The map is stale, changed since it was made: {names}. Compute it again.")
            lines.append(said.format(names=names))
        elif reason := why_not_as_made(choices.map_node, self.fingerprints):
            lines.append(reason)
        if not choices.of_role("gtv"):
            lines.append(_("Give at least one segment the role GTV."))
        if not choices.of_role("hypoxic"):
            lines.append(_("Give at least one segment the role hypoxic segment (Hypoxia Mapper, step 4)."))
        lines += filter(None, [why_not_hypoxic(choices), why_not_reference(choices)])
        used = [r for r in choices.roles if r.role]
        lines += transformed([r.node for r in used]) + without_labelmap([(r.node, r.segment_id) for r in used])
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
            return _("There is no protocol {name!r}.").format(name=choices.protocol)
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
            raise RequestError(reason.replace("\n", " "), _("Complete steps 1 and 2."))
        return choices

    def fingerprint(self, choices: PaintChoices) -> dict[InputKey, str]:
        """Text per input that changes when the input does; targets made with another are stale."""
        prints = self.fingerprints
        found: dict[InputKey, str] = {
            (r.role, r.name, r.node.GetID(), r.segment_id): prints.segment(r.node, r.segment_id)
            for r in choices.roles
            if r.role
        }
        if choices.planning is not None:
            found["planning",] = prints.volume(choices.planning)
        if choices.map_node is not None:
            found["map",] = prints.volume(choices.map_node)
            stale = changed_since_map(choices.map_node, prints)
            found |= {("made of", name): "changed" for name in stale}
        numbers = asdict_without_nodes(choices)
        return found | {("number", key): json.dumps(value) for key, value in numbers.items()}

    def why_not_accept(self, result: Result | None, changed: Sequence[str]) -> str:
        """Why there is nothing to accept; empty when there is."""
        if result is None:
            return _("Make the targets first (step 3).")
        if changed:
            said = _("Changed since the targets were made: {names}. Make them again.")
            return said.format(names=", ".join(changed))
        return ""

    def why_not_export(self, result: Result | None, changed: Sequence[str], acceptance: Acceptance, folder: str) -> str:
        """Why Export is off; empty when it may be pressed."""
        reason = self.why_not_accept(result, changed)
        if result is None or reason:
            return reason
        lines = acceptance.missing()
        try:
            require_distribution(result.images.map, result.request)
        except LimitError as error:
            way_out = _("Check them, use another method, or write in Override (step 2): {text}")
            lines.insert(0, f"{error.message} {way_out.format(text=override_to_type(result.images.map))}")
        if not folder:
            lines.append(_("Choose a folder."))
        return "\n".join(lines)


def panel_words(error: HypoxiaError) -> str:
    """An error as the panel says it: what is an option of the command line is a field here."""
    words = {
        "give --override": "write in Override (step 2):",
        "Choose another --out": "Choose another folder",
        "choose another folder with --out": "choose another folder",
    }
    return reduce(lambda text, pair: text.replace(*pair), words.items(), str(error))


def changed_between(then: Mapping[InputKey, str], now: Mapping[InputKey, str]) -> tuple[str, ...]:
    """What differs, in words."""
    keys = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    return tuple(dict.fromkeys(map(changed_text, keys)))
