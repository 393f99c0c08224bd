"""Prescription: ceilings, shipped protocols, broken protocol files, dose painting by numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from HypoxiaDosePaintLib.pipeline import prescribe
from HypoxiaDosePaintLib.prescription import (
    PROTOCOL_FOLDER,
    all_protocols,
    dose_painting_by_numbers_gy,
    doses_changed,
    get_protocol,
    make_prescription,
    read_protocol,
    redistributed_low_dose_gy,
)
from HypoxiaDosePaintLib.request import Request
from HypoxiaMapperLib.errors import InputError, LimitError, RequestError


def test_welz_levels():
    """VALIDATION row 10 through the prescription, and the deficits of METHODS 9."""
    prescription = make_prescription("welz_77_70_35", 70, 77, 35)
    boost = prescription.boost
    assert boost.dose_per_fraction_gy == pytest.approx(2.2)
    assert boost.eqd2_tumour_gy == pytest.approx(78.283, abs=0.01)
    assert boost.bed_tumour_gy == pytest.approx(93.94, abs=0.01)
    assert boost.eqd2_late_gy == pytest.approx(80.08, abs=0.01)
    assert prescription.offset_pressure_mmhg == pytest.approx(19, abs=0.05)
    assert prescription.deficits_gy() == pytest.approx({10.0: 82.7 - 77, 5.0: 93.3 - 77, 2.5: 110 - 77}, abs=0.06)
    wanted = {p: 70 * 3 * (2.5 + p) / (2.5 + 3 * p) - 77 for p in (10.0, 5.0, 2.5)}  # h = m(K + p)/(K + m p), K 2.5
    assert prescription.deficits_gy(2.5) == pytest.approx(wanted)
    assert "K 3 mmHg" in prescription.oxygen_model_text
    assert "with K 2.5 mmHg, as others have it, 16 mmHg and 3.8, 13.0, 28.0 Gy" in prescription.oxygen_model_text


def test_ceilings_need_an_override():
    """METHODS 12.10: 84 Gy in 35 and 2.4 Gy per fraction are the last that pass."""
    assert make_prescription("x", 70, 84, 35).boost.dose_gy == 84
    with pytest.raises(LimitError, match=r"84\.5 Gy total is above 84 Gy"):
        make_prescription("x", 70, 84.5, 40)
    with pytest.raises(LimitError, match=r"2\.5 Gy per fraction is above 2\.4 Gy"):
        make_prescription("x", 60, 75, 30)
    with pytest.raises(LimitError):
        make_prescription("x", 60, 75, 30, override="   ")
    assert make_prescription("x", 66, 84, 24, override="Dr A: trial").override == "Dr A: trial"
    assert make_prescription("x", 70, 77, 35, override="Dr A: trial").override == ""  # RTPLAN: "overridden by Dr A"


def test_a_dose_finer_than_a_centigray_is_refused():
    with pytest.raises(RequestError, match=r"70\.004 Gy.*whole cGy"):  # two levels could be one PTV_7000
        make_prescription("x", 70.0, 70.004, 35)
    assert make_prescription("x", 55.05, 66.05, 30).boost.dose_gy == 66.05
    with pytest.raises(LimitError, match=r"2\.4024 Gy per fraction is above 2\.4 Gy"):
        make_prescription("x", 50, 60.06, 25)


def test_other_doses_are_not_the_protocols_prescription():
    protocol = get_protocol("welz_77_70_35")
    request = Request(".", "", "tracer_ratio", protocol.name)
    assert prescribe(request, protocol).protocol == "welz_77_70_35"
    for change in ({"base_dose_gy": 66.0}, {"boost_dose_gy": 76.0}, {"fractions": 36}):
        changed = prescribe(replace(request, **change), protocol)
        assert changed.protocol == "welz_77_70_35, doses changed"
        assert doses_changed(protocol, changed)


def test_a_boost_must_lie_above_the_base():
    for boost in (60, 70):
        with pytest.raises(LimitError, match="does not lie above"):
            make_prescription("x", 70, boost, 35)
    with pytest.raises(LimitError):
        make_prescription("x", 70, 60, 35, override="Dr A: no override helps here")


@pytest.mark.parametrize(
    ("base", "boost", "fractions", "named"),
    [
        (0, 77, 35, "base dose"),
        (-70, 77, 35, "base dose"),
        (math.nan, 77, 35, "base dose"),
        (70, math.inf, 35, "boost dose"),
        (7000, 7700, 35, "cGy"),
        (2, 2.2, 35, "total dose of all fractions"),
        (70, 77, 0, "fractions"),
        (70, 77, 35.5, "fractions"),
        (70, 77, math.nan, "fractions"),
        (70, 77, math.inf, "fractions"),
        (70, 77, True, "fractions"),
        (70, 77, 1000, "fractions"),
    ],
)
def test_numbers_that_are_no_prescription(base, boost, fractions, named):
    with pytest.raises(RequestError, match=named):
        make_prescription("x", base, boost, fractions)


def test_redistribution():
    """VALIDATION row 13, and the floor of METHODS 9."""
    assert redistributed_low_dose_gy(70, 77, 0.2) == pytest.approx(68.25, abs=1e-6)
    assert redistributed_low_dose_gy(70, 77, 0.0) == 70
    with pytest.raises(LimitError, match=r"68\.25 Gy for the rest, below the floor of 69 Gy"):
        redistributed_low_dose_gy(70, 77, 0.2, floor_gy=69)
    with pytest.raises(LimitError):
        redistributed_low_dose_gy(20, 84, 0.5)
    for fraction in (1.0, -0.1, math.nan):
        with pytest.raises(RequestError, match="fraction"):
            redistributed_low_dose_gy(70, 77, fraction)


def test_dose_painting_by_numbers():
    """VALIDATION row 12; undefined voxels get the lowest dose."""
    dose = dose_painting_by_numbers_gy([1.0, 1.7, 2.0, 3.0, math.nan], 1.4, 2.4, 70, 77)
    np.testing.assert_allclose(dose, [70, 72.1, 74.2, 77, 70], atol=1e-6)
    assert dose_painting_by_numbers_gy(np.zeros((2, 3, 4)), 1, 2, 70, 77).shape == (2, 3, 4)
    with pytest.raises(RequestError, match="Map limits"):
        dose_painting_by_numbers_gy([1], 2.4, 1.4, 70, 77)
    with pytest.raises(RequestError, match="Dose limits"):
        dose_painting_by_numbers_gy([1], 1.4, 2.4, 77, 70)
    with pytest.raises(RequestError, match="cGy"):
        dose_painting_by_numbers_gy([1], 1.4, 2.4, 7000, 7700)


def test_every_shipped_protocol_loads_and_says_what_it_is():
    assert {"welz_77_70_35", "escalox_80p5_70_35"} <= all_protocols().keys()
    for path in PROTOCOL_FOLDER.glob("*.json"):
        protocol = all_protocols()[path.stem]
        assert protocol.name == path.stem
        assert any("Research use only" in note and "no claim of efficacy" in note for note in protocol.notes)
        assert "set your own" in protocol.margin_source
        assert not protocol.margin_source.endswith(".")
        assert protocol.citation.count("NCT") == 1
        doses = protocol.base_dose_gy, protocol.boost_dose_gy, protocol.fractions
        assert make_prescription(protocol.name, *doses, "Dr A: test").boost.dose_gy == protocol.boost_dose_gy


def test_escalox_is_not_shown_as_a_hypoxia_trial():
    notes = " ".join(get_protocol("escalox_80p5_70_35").notes)
    assert "whole GTV" in notes
    assert "56 Gy" in notes


def test_a_protocol_above_the_ceiling_needs_the_override_too():
    protocol = get_protocol("petboost_84_66_24")
    with pytest.raises(LimitError, match=r"3\.5 Gy per fraction"):
        make_prescription(protocol.name, protocol.base_dose_gy, protocol.boost_dose_gy, protocol.fractions)


def test_an_unknown_protocol_lists_the_valid_ones():
    with pytest.raises(RequestError, match="welz_77_70_35"):
        get_protocol("welz")


@pytest.fixture
def protocol_data():
    return json.loads((PROTOCOL_FOLDER / "welz_77_70_35.json").read_text(encoding="utf-8"))


def test_a_users_own_file(tmp_path, protocol_data):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**protocol_data, "name": "mine", "boost_dose_gy": 75}), encoding="utf-8")
    assert get_protocol(str(path)).boost_dose_gy == 75
    with pytest.raises(InputError, match="does not exist"):
        get_protocol(str(tmp_path / "none.json"))


@pytest.mark.parametrize("field", json.loads((PROTOCOL_FOLDER / "welz_77_70_35.json").read_text(encoding="utf-8")))
def test_a_missing_or_mistyped_field_is_named(tmp_path, protocol_data, field):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({k: v for k, v in protocol_data.items() if k != field}), encoding="utf-8")
    with pytest.raises(InputError, match=f"lacks {field}"):
        read_protocol(path)
    for wrong in (None, {"a": 1}, True):
        path.write_text(json.dumps({**protocol_data, field: wrong}), encoding="utf-8")
        with pytest.raises(InputError, match=rf"broken\.json: {field} is"):
            read_protocol(path)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("base_dose_gy", -70, "base dose"),
        ("base_dose_gy", math.nan, "base dose"),
        ("base_dose_gy", 7000, "cGy"),
        ("boost_dose_gy", 60, "boost_dose_gy"),
        ("boost_dose_gy", 70, "boost_dose_gy"),
        ("fractions", 0, "fractions"),
        ("fractions", 35.0, "fractions"),
        ("base_margin_mm", -1, "base_margin_mm"),
        ("boost_margin_mm", math.nan, "boost_margin_mm"),
        ("boost_margin_mm", 500, "boost_margin_mm"),
        ("name", " ", "name"),
        ("citation", "", "citation"),
        ("margin_source", "", "margin_source"),
        ("notes", ["fine", 3], "notes"),
        ("dose_cgy", 7700, "unknown"),
    ],
)
def test_values_out_of_range_are_refused_with_the_file(tmp_path, protocol_data, field, value, named):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({**protocol_data, field: value}), encoding="utf-8")
    with pytest.raises(InputError, match=named) as error:
        read_protocol(path)
    assert str(path) in error.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe\x00"])
def test_files_that_are_no_protocol(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.json"):
        read_protocol(path)
