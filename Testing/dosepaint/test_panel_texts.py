"""The dose-paint panel in another language: what it says is translated, what is kept with a result is not."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel import decisions, texts  # noqa: E402
from HypoxiaDosePaintLib.panel.choices import NODE_FIELDS, ROLES, SIDES, PaintChoices, Role  # noqa: E402
from HypoxiaDosePaintLib.panel.decisions import Acceptance, changed_between  # noqa: E402
from HypoxiaDosePaintLib.panel.scene_run import compute_targets  # noqa: E402
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment  # noqa: E402
from paint_samples import make_street  # noqa: E402

MODULES = ("decisions", "map_used", "scene_run", "texts")


@pytest.fixture(scope="module")
def street(digital_patient):
    return make_street(digital_patient.folder)


@pytest.fixture
def translated(monkeypatch):
    """Every sentence in angle brackets, as if it were in another language."""
    for name in MODULES:
        module = importlib.import_module(f"HypoxiaDosePaintLib.panel.{name}")
        monkeypatch.setattr(module, "_", lambda text: f"‹{text}›")


def is_translated(text: str) -> bool:
    return bool(text) and all(line.startswith("‹") and line.endswith("›") for line in text.splitlines())


def test_everything_the_panel_says_is_translated(street, translated):
    say = street.decisions
    assert all(map(is_translated, say.missing_targets(PaintChoices())))
    assert is_translated(say.prescription_problem(dataclasses.replace(street.choices, protocol="nobody")))
    assert is_translated(say.why_not_export(None, (), Acceptance(), ""))
    wrong = Role(street.structures, "Ref_Muscle", "reference")
    (line,) = say.missing_targets(dataclasses.replace(street.choices, roles=(*street.choices.roles, wrong)))
    assert is_translated(line)
    prescription = say.prescription(street.choices)
    assert is_translated(texts.equivalents_text(prescription))
    assert is_translated(texts.deficit_text(prescription))
    for name in [*map(texts.role_text, ROLES), *map(texts.side_text, SIDES), *map(texts.side_tip, SIDES)]:
        assert is_translated(name)


def test_every_input_of_the_targets_has_a_name_for_people(street, translated):
    then, now = street.decisions.fingerprint(street.choices), {}
    names = changed_between(then, now)
    assert len(names) == len(then)
    assert all(map(is_translated, names))
    numbers = [f.name for f in dataclasses.fields(PaintChoices) if f.name not in NODE_FIELDS]
    assert {texts.changed_text(("number", name)) for name in numbers} <= set(names)


def test_tables_are_translated_but_for_names_and_numbers(street, translated):
    result = compute_targets(street.choices, street.images).result
    heads = [*texts.target_columns(), *texts.proof_columns()]
    assert {h for h in heads if not is_translated(h)} == {"ml", "Gy", "EQD2₁₀", "EQD2₃"}
    assert is_translated(texts.dropped_text(result))
    assert {row[0] for row in texts.target_rows(result)} == {t.name for t in result.targets}


def test_one_record_in_every_language(street, monkeypatch):
    def record():
        result = compute_targets(two_gtvs, street.images).result
        kept = [result.request.to_json(), result.warnings, result.registration, result.series, result.details]
        return kept, [(s.name, s.description, s.region.source) for s in result.images.structures]

    roles = (*street.choices.roles, Role(street.structures, "GTVn", "gtv"))
    two_gtvs = dataclasses.replace(street.choices, roles=roles)

    english = record()
    for name in (*MODULES, "repeatable", "preview"):
        module = importlib.import_module(f"HypoxiaDosePaintLib.panel.{name}")
        monkeypatch.setattr(module, "_", lambda text: f"‹{text}›", raising=False)
    assert record() == english


def test_a_refusal_is_translated_when_it_is_said(street, translated):
    with pytest.raises(decisions.RequestError) as raised:
        street.decisions.ready(PaintChoices())
    assert raised.value.hint == "‹Complete steps 1 and 2.›"


def test_segments_of_one_name_are_two_inputs(street):
    """A GTV of the same name in each segmentation: a change of either makes the targets stale."""
    other = make_segmentation(street.scene, "Again")
    identifier = region_to_segment(street.scene, other, dataclasses.replace(street.region, name="GTVp"), (9, 9, 9))
    both = (Role(street.structures, "GTVp", "gtv"), Role(other, identifier, "gtv"))
    for roles in (both, both[::-1]):
        choices = dataclasses.replace(street.choices, roles=(*roles, *street.choices.roles[1:]))
        then = street.decisions.fingerprint(choices)
        without = dataclasses.replace(choices, roles=(*street.choices.roles,))
        assert changed_between(then, street.decisions.fingerprint(without)) == ("GTV GTVp",)
    street.scene.RemoveNode(other)
