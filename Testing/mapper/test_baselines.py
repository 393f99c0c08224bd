"""Baselines find the coefficients that made the data, and come back from the metadata as they were fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.inference.baselines import (
    REGRESSION,
    SCALED_FDG,
    TRACER_RATIO,
    predict_from_metadata,
    set_name,
    unscaled,
)
from HypoxiaMapperLib.inference.channels import CHANNELS, KEYS, N_INPUTS
from HypoxiaMapperLib.training.baselines import FEWEST_CASES, BaselineFit, usable_sets
from HypoxiaMapperLib.training.dataset import Case

SHAPE = (4, 5, 6)


def make_case(seed, line, keys=KEYS):
    """A case whose ratio is a line through its images, exact in the GTV and nonsense outside."""
    random = np.random.default_rng(seed)
    present = np.array([key in keys for key in KEYS])
    images = random.normal(size=(len(KEYS), *SHAPE)) * present[:, None, None, None]
    gtv = random.random(SHAPE) < 0.5
    ratio = np.where(gtv, line[0] + np.tensordot(line[1:], images, 1), 99.0)
    ratio[0, 0, 0] = np.nan
    return Case(str(seed), images, present, gtv, ratio, np.zeros((len(KEYS), 3)), np.ones((len(KEYS), 3)))


def fit(cases):
    found = BaselineFit()
    for case in cases:
        found.add(case)
    return found


def network_input(images):
    return np.concatenate([images, np.zeros((N_INPUTS - len(KEYS), *SHAPE))]).astype(np.float32)


def test_line_through_all_images_is_found_and_applied_again():
    line = np.array([1.3, 0.2, 0.5, -0.1, 0.05, -0.2, 0.15, 0.3])
    metadata = json.loads(json.dumps(fit(make_case(i, line) for i in range(6)).coefficients_to_metadata()))
    assert metadata["regression"]["coefficients"][set_name(KEYS)] == pytest.approx(line, abs=1e-5)
    case = make_case(99, line)
    maps = {m.name: m for m in predict_from_metadata(metadata, network_input(case.images), KEYS)}
    inside = case.gtv & np.isfinite(case.ratio)
    assert maps[REGRESSION].ratio[inside] == pytest.approx(case.ratio[inside], abs=1e-4)


def test_line_through_some_images_is_the_one_of_numpy():
    line = np.array([1.3, 0.2, 0.5, -0.1, 0.05, -0.2, 0.15, 0.3])
    cases = [make_case(i, line) for i in range(6)]
    found, count = fit(cases).regression(("fdg", "adc"))
    rows, truth = [], []
    for case in cases:
        inside = case.gtv & np.isfinite(case.ratio)
        rows.append(np.stack([np.ones(inside.sum()), case.images[0][inside], case.images[4][inside]], axis=1))
        truth.append(case.ratio[inside])
    wanted = np.linalg.lstsq(np.concatenate(rows), np.concatenate(truth), rcond=None)[0]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert count == 6


def test_patients_without_an_image_serve_only_the_sets_they_have():
    line = np.array([1.0, 0.3, 0, 0, 0, 0, 0, 0])
    cases = [make_case(i, line) for i in range(FEWEST_CASES)] + [make_case(50, line, ("fdg", "ct"))]
    cases += [make_case(60 + i, line, ("adc",)) for i in range(FEWEST_CASES - 1)]
    metadata = fit(cases).coefficients_to_metadata()
    assert metadata["regression"]["cases"]["fdg+ct"] == FEWEST_CASES + 1
    assert metadata["regression"]["cases"]["fdg+adc"] == FEWEST_CASES
    few = fit(cases[FEWEST_CASES:]).coefficients_to_metadata()["regression"]["coefficients"]
    assert few == {}, "a line from fewer patients than FEWEST_CASES"


def test_one_factor_scales_fdg():
    random = np.random.default_rng(3)
    images = np.zeros((len(KEYS), *SHAPE))
    suv = random.uniform(2, 20, SHAPE)
    images[0] = (suv - CHANNELS[0].centre) / CHANNELS[0].scale
    present = np.array([key == "fdg" for key in KEYS])
    everywhere = np.ones(SHAPE, bool)
    case = Case("1", images, present, everywhere, 0.21 * suv, np.zeros((7, 3)), np.zeros((7, 3)))
    metadata = fit([case]).coefficients_to_metadata()
    assert metadata["scaled_fdg"]["ratio_per_suv"] == pytest.approx(0.21, rel=1e-5)
    (found,) = predict_from_metadata(metadata, network_input(images), ("fdg",))
    assert found.name == SCALED_FDG
    assert found.ratio == pytest.approx(0.21 * suv, rel=1e-4)


def test_hypoxia_pet_is_shown_as_it_was_measured_with_no_coefficient_at_all():
    images = np.random.default_rng(4).normal(size=(len(KEYS), *SHAPE))
    (found,) = predict_from_metadata({}, network_input(images), ("hypoxia_pet", "ct"))
    assert found.name == TRACER_RATIO
    assert found.ratio == pytest.approx(images[1] * 0.5 + 1.0, abs=1e-5)
    assert unscaled(network_input(images), "fdg") == pytest.approx(images[0] * 5 + 5, abs=1e-4)


def test_sets_of_images():
    sets = list(usable_sets())
    assert len(sets) == len(set(sets)) == 2**7 - 2**2
    assert set_name({"ct", "fdg"}) == "fdg+ct"
    with pytest.raises(InputError, match="no patient"):
        BaselineFit().coefficients_to_metadata()
