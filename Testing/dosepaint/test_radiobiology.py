"""Radiobiological arithmetic against the numbers of METHODS sections 3 and 9."""

from __future__ import annotations

import math

import numpy as np
import pytest

from HypoxiaDosePaintLib.radiobiology import (
    bed_gy,
    eqd2_gy,
    geud_gy,
    hypoxia_reduction_factor,
    iso_effect_dose_gy,
    oer,
    offset_pressure_mmhg,
    tcp_poisson,
)
from HypoxiaMapperLib.errors import RequestError


def test_oxygen_enhancement():
    """VALIDATION row 6."""
    np.testing.assert_allclose(oer([3, 10, 0]), [2.0, 2.53846, 1.0], atol=1e-5)
    with pytest.raises(RequestError, match="-3"):
        oer([5, -3])


def test_hypoxia_reduction_factor():
    """VALIDATION row 7, and OER x h = m."""
    assert hypoxia_reduction_factor(2.5) == pytest.approx(1.57143, abs=1e-5)
    assert hypoxia_reduction_factor(2.5, 2.5) == pytest.approx(1.5, abs=1e-5)
    p = np.linspace(0, 100, 11)
    np.testing.assert_allclose(hypoxia_reduction_factor(p) * oer(p), 3.0)


@pytest.mark.parametrize(
    ("dose", "fractions", "eqd2_10", "eqd2_3"),
    [
        (77, 35, 78.283, 80.08),
        (80.5, 35, 82.5125, 85.33),
        (84, 35, 86.80, 90.72),
        (76, 56, 71.929, 66.229),
        (70, 35, 70, 70),
    ],
)
def test_eqd2(dose, fractions, eqd2_10, eqd2_3):
    """VALIDATION rows 10 and 11."""
    assert eqd2_gy(dose, fractions, 10) == pytest.approx(eqd2_10, abs=0.01)
    assert eqd2_gy(dose, fractions, 3) == pytest.approx(eqd2_3, abs=0.01)


def test_bed():
    """VALIDATION row 10."""
    assert bed_gy(77, 35, 10) == pytest.approx(93.94, abs=0.01)


def test_tcp():
    """VALIDATION row 14."""
    assert tcp_poisson(70, 35, 1e8) == pytest.approx(0.99886, abs=1e-4)
    assert tcp_poisson(70, 35, 1e7, reduction_factor=1.4) == pytest.approx(0.69846, abs=1e-4)
    assert tcp_poisson(77, 35, 1e7, reduction_factor=1.4) == pytest.approx(0.95022, abs=1e-4)


def test_reduction_factor_is_an_iso_effect_of_dose():
    """Under alpha/h and beta/h^2 the dose h D in h d fractions has the same effect (METHODS 3)."""
    assert tcp_poisson(70 * 1.2, 35, 1e7, reduction_factor=1.2) == pytest.approx(tcp_poisson(70, 35, 1e7))


def test_geud():
    """VALIDATION row 15."""
    assert geud_gy([70, 77], -10) == pytest.approx(72.617, abs=0.001)
    assert geud_gy([70, 77], 8) == pytest.approx(74.071, abs=0.001)
    assert geud_gy([70, 77], 1, weights=[3, 1]) == pytest.approx(71.75)
    assert geud_gy([60.0] * 5, -20) == pytest.approx(60)


def test_geud_survives_cold_voxels_and_large_exponents():
    assert geud_gy([0, 70], -10) == 0
    assert geud_gy([0, 70], -10, weights=[0, 1]) == pytest.approx(70)
    assert geud_gy([0, 0], 8) == 0
    assert geud_gy([70, 77], -500) == pytest.approx(70, rel=0.01)
    assert geud_gy([70, 77], 500) == pytest.approx(77, rel=0.01)


@pytest.mark.parametrize(("p", "dose"), [(10, 82.7), (5, 93.3), (2.5, 110.0)])
def test_iso_effect_of_70_gy(p, dose):
    """METHODS 9."""
    assert iso_effect_dose_gy(70, p) == pytest.approx(dose, abs=0.06)


def test_offset_pressure_is_the_inverse_of_the_reduction_factor():
    assert offset_pressure_mmhg(77 / 70) == pytest.approx(19, abs=0.05)
    for p in (0.5, 2.5, 10, 40):
        assert offset_pressure_mmhg(float(hypoxia_reduction_factor(p))) == pytest.approx(p)
    assert offset_pressure_mmhg(1.0) == math.inf
    assert offset_pressure_mmhg(3.5) == 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bed_gy(70, 0, 10), "fractions"),
        (lambda: bed_gy(70, 35, 0), "alpha_beta_gy"),
        (lambda: bed_gy(-1, 35, 10), "dose_gy"),
        (lambda: eqd2_gy(math.nan, 35, 10), "dose_gy"),
        (lambda: oer(5, 0), "half_pressure_mmhg"),
        (lambda: tcp_poisson(70, 35, 0), "clonogens"),
        (lambda: tcp_poisson(70, 35, 1e7, reduction_factor=0), "reduction_factor"),
        (lambda: geud_gy([], -10), "gEUD"),
        (lambda: geud_gy([70, math.nan], -10), "gEUD"),
        (lambda: geud_gy([70], 0), "gEUD"),
        (lambda: geud_gy([70, 77], 8, weights=[0, 0]), "gEUD"),
        (lambda: geud_gy([70, 77], 8, weights=[1]), "gEUD"),
    ],
)
def test_senseless_numbers_are_refused_by_name(call, named):
    with pytest.raises(RequestError, match=named):
        call()
