"""The model card holds what was measured, says where the network is not better, and is never typed by hand."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from HypoxiaMapperLib.inference.bundle import SHIPPED, SHIPPED_METADATA_SHA256, shipped_bundle
from HypoxiaMapperLib.training import model_card
from HypoxiaMapperLib.training.config import SYNTHETIC_LABEL
from HypoxiaMapperLib.training.evaluation_case import IMAGE_SETS

DOCS = Path(__file__).resolve().parents[2] / "Resources" / "docs"


@pytest.fixture(scope="module")
def shipped():
    return shipped_bundle(), json.loads((SHIPPED / "docs" / "summary.json").read_text(encoding="utf-8"))


def test_models_page_is_the_one_generated_from_the_shipped_summary(shipped):
    written = (DOCS / "models.md").read_text(encoding="utf-8")
    assert written == model_card.models_page(*shipped), "run tools/update-model-card"


def test_shipped_summary_is_of_the_shipped_bundle(shipped):
    bundle, summary = shipped
    assert summary["bundle"] == {
        "name": bundle.name,
        "version": bundle.version,
        "metadata_sha256": SHIPPED_METADATA_SHA256,
    }
    assert summary["cohorts"]["training"]["patients"] >= 100
    for cohort in ("shifted_scanner", "shifted_coupling", "shifted_anatomy"):
        assert summary["cohorts"][cohort]["patients"] >= 50
        assert list(summary["cohorts"][cohort]["sets"]) == list(IMAGE_SETS)


def test_card_names_every_comparison_in_which_the_network_is_not_better(shipped):
    bundle, summary = shipped
    card = model_card.model_card(bundle, summary)
    assert card.count(SYNTHETIC_LABEL) >= 1
    changed = copy.deepcopy(summary)
    cell = changed["cohorts"]["shifted_coupling"]["sets"]["FDG"]["network_against"]["scaled FDG"]["mae"]
    cell["verdict"] = "worse"
    line = next(x for x in model_card.model_card(bundle, changed).splitlines() if x.startswith("- **mean absolute"))
    assert "FDG against scaled FDG (shifted: coupling)" in line.split("worse in")[1]


def test_pictures_of_the_card_are_there(shipped):
    names = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (DOCS / "models.md").read_text(encoding="utf-8"))
    assert len(names) == 2
    for name in names:
        assert (DOCS / name).read_bytes()[:4] == b"\x89PNG"


def test_every_digest_of_the_bundle_is_in_the_card(shipped):
    card = model_card.model_card(*shipped)
    for digest in shipped[0].sha256:
        assert digest in card


def test_what_has_no_number_is_a_dash():
    assert model_card.number(None) == "–"
    assert model_card.number(-0.123, "+.2f") == "−0.12"
    assert model_card.table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
