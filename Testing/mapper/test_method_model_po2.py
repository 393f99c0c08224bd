"""model_po2: Toma-Dasu's numbers, proportions, always labelled a model."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods.model_po2 import METHOD
from kinetic_samples import SHAPE, regions, tumour_mask, volume

SMALL = {"minimum_reference_ml": 0.0}  # the sample's reference has few voxels
PARAMS = METHOD.make_params(SMALL)


def pet(values):
    array = np.full(SHAPE, 2.0)  # reference SUV 2 = uptake 1
    array[tumour_mask()] = 2.0 * np.resize(values, tumour_mask().sum())
    return {"pet": volume(array, "SUVbw", "g/ml", facts={"tracer": "FMISO"})}


def test_validation_row_toma_dasu():
    """U 1.4, 2, 5, 10.9: 19.79, 12.36, 3.07, 0 mmHg."""
    values = np.array([1.4, 2.0, 5.0, 10.9])
    found = METHOD.compute(pet(values), regions("reference"), PARAMS)
    expected = np.resize([19.79, 12.36, 3.07, 0.0], tumour_mask().sum())
    np.testing.assert_allclose(found.volume.array[tumour_mask()], expected, atol=0.01)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("model pO2", "mm[Hg]", "<")
    assert found.surrogate
    assert METHOD.surrogate
    assert np.isnan(found.threshold)
    assert "not measured" in found.warnings[0]
    assert (found.details["HP2.5"], found.details["HP5"], found.details["HP10"]) == (0.25, 0.5, 0.5)


def test_a_map_of_ki_goes_before_the_suv():
    ki = np.full(SHAPE, 0.004)
    ki[tumour_mask()] = 0.02
    inputs = {**pet([1.0]), "uptake": volume(ki, "Ki", "mL/min/mL")}
    found = METHOD.compute(inputs, regions("reference"), PARAMS)
    np.testing.assert_allclose(found.volume.array[tumour_mask()], 3.07, atol=0.01)  # uptake 5


def test_uptake_without_an_answer_has_no_value():
    found = METHOD.compute(pet([0.1, 2.0]), regions("reference"), PARAMS)
    inside = found.volume.array[tumour_mask()]
    assert np.isnan(inside[::2]).all()
    assert "have no value" in " ".join(found.warnings)


def test_missing_coefficients_and_reference_are_refused():
    with pytest.raises(RequestError, match="needs coefficients"):
        METHOD.compute(pet([2.0]), regions("reference"), METHOD.make_params({**SMALL, "form": "bowen_sigmoid"}))
    empty = {"pet": volume(np.zeros(SHAPE), "SUVbw", "g/ml")}
    with pytest.raises(InputError, match="mean of 0"):
        METHOD.compute(empty, regions("reference"), PARAMS)
    with pytest.raises(RequestError, match="needs an image of uptake"):
        METHOD.compute({}, regions("reference"), PARAMS)
    with pytest.raises(RequestError, match="No voxel of GTVp has a model pO2"):
        METHOD.compute(pet([0.1]), regions("reference"), PARAMS)


def test_a_reference_inside_the_tumour_or_too_small_is_refused():
    of = regions("reference")
    tumour = {**of, "reference": of["gtv"]}
    with pytest.raises(InputError, match="overlaps GTVp"):
        METHOD.compute(pet([2.0]), tumour, PARAMS)
    with pytest.raises(InputError, match=r"has .* ml"):
        METHOD.compute(pet([2.0]), of, METHOD.make_params({"minimum_reference_ml": 5.0}))
