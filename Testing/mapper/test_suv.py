"""SUV formulas against VALIDATION rows 2 to 5 and against independent integration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from HypoxiaMapperLib import suv
from HypoxiaMapperLib.errors import InputError

F18_S = 6586.2


def test_row_2_start_and_admin():
    start = 5000 * suv.suvbw_factor(70, 370e6, 3600, F18_S)
    admin = 5000 * suv.suvbw_factor(70, 370e6)
    assert start == pytest.approx(1.38168, abs=1e-4)
    assert admin == pytest.approx(0.94595, abs=1e-4)


@pytest.mark.parametrize(("minutes", "left"), [(120, 0.46872), (180, 0.32090), (240, 0.21970)])
def test_row_3_decay(minutes, left):
    assert suv.decay_factor(minutes * 60, F18_S) == pytest.approx(left, abs=1e-5)


def test_row_4_male():
    assert suv.lean_body_mass_james_kg(80, 180, "M") == pytest.approx(64.296, abs=0.01)
    assert suv.lean_body_mass_james128_kg(80, 180, "M") == pytest.approx(62.716, abs=0.01)
    assert suv.lean_body_mass_janmahasatian_kg(80, 180, "M") == pytest.approx(61.731, abs=0.01)
    assert suv.body_surface_area_m2(80, 180) == pytest.approx(1.9964, abs=0.01)


def test_row_5_female():
    assert suv.lean_body_mass_james_kg(60, 165, "F") == pytest.approx(44.630, abs=0.01)
    assert suv.lean_body_mass_james128_kg(60, 165, "F") == pytest.approx(44.630, abs=0.01)
    assert suv.lean_body_mass_janmahasatian_kg(60, 165, "F") == pytest.approx(39.287, abs=0.01)
    assert suv.body_surface_area_m2(60, 165) == pytest.approx(1.6587, abs=0.01)


def test_ideal_weight_and_mean_of_sexes():
    assert suv.ideal_body_weight_kg(180, "M") == pytest.approx(77.68)
    assert suv.ideal_body_weight_kg(180, "F") == pytest.approx(70.98)
    assert suv.ideal_body_weight_kg(180, "O") == pytest.approx(74.33)
    assert suv.lean_body_mass_james_kg(80, 180, "O") == pytest.approx(
        (suv.lean_body_mass_james_kg(80, 180, "M") + suv.lean_body_mass_james_kg(80, 180, "F")) / 2
    )


@pytest.mark.parametrize("frame_s", [1.0, 300.0, 3600.0, 20000.0])
def test_mean_decay_time_is_where_activity_equals_its_frame_mean(frame_s):
    t = np.linspace(0, frame_s, 200_001)
    activity = np.exp(-math.log(2) * t / F18_S)
    mean = np.sum((activity[1:] + activity[:-1]) / 2 * np.diff(t)) / frame_s
    assert suv.decay_factor(suv.mean_decay_time_s(frame_s, F18_S), F18_S) == pytest.approx(mean, rel=1e-9)


def test_mean_decay_time_of_a_very_short_frame():
    assert suv.mean_decay_time_s(1e-3, F18_S) == pytest.approx(5e-4, rel=1e-6)
    assert suv.mean_decay_time_s(0, F18_S) == 0


@pytest.mark.parametrize(
    ("suv_type", "grams"),
    [("LBM", 64296.3), ("LBMJAMES128", 62716.0), ("LBMJANMA", 61731.5), ("IBW", 77680.0), ("BSA", 19964.0)],
)
def test_other_normalisations_come_back_to_body_weight(suv_type, grams):
    concentration, activity = 5000.0, 370e6
    other = concentration * grams / activity
    back = other * suv.suvbw_from_suv_factor(suv_type, 80, 180, "M")
    assert back == pytest.approx(concentration * 80000 / activity, rel=1e-4)


def test_body_weight_needs_no_patient():
    assert suv.suvbw_from_suv_factor("BW", float("nan"), float("nan"), "") == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: suv.suvbw_factor(0, 370e6),
        lambda: suv.suvbw_factor(70, -1),
        lambda: suv.suvbw_factor(70, 370e6, 3600, 0),
        lambda: suv.suvbw_factor(float("nan"), 370e6),
        lambda: suv.mean_decay_time_s(-1, F18_S),
        lambda: suv.suvbw_from_suv_factor("LEAN", 70, 170, "M"),
        lambda: suv.suvbw_from_suv_factor("LBM", 70, float("nan"), "M"),
        lambda: suv.lean_body_mass_james_kg(70, 170, "X"),
    ],
)
def test_impossible_numbers_are_refused(call):
    with pytest.raises(InputError):
        call()
