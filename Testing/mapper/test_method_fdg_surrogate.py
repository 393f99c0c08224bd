"""FDG surrogate: scaling, and the word surrogate in every place."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods import get_method
from HypoxiaMapperLib.volume import Region, Volume

METHOD = get_method("fdg_surrogate")


def _scene():
    suv = np.ones((6, 6, 6), dtype=np.float32)
    suv[0, 0, 0] = 50.0  # a hot bladder outside the tumour must not scale the map
    suv[2, 2, 2] = 8.0
    suv[2, 2, 3] = 5.6
    gtv = np.zeros((6, 6, 6), dtype=np.uint8)
    gtv[2:4, 2:4, 2:4] = 1
    pet = Volume(sitk.GetImageFromArray(suv), "SUVbw", "g/ml", facts={"tracer": "FDG"})
    return pet, {"gtv": Region("GTVp", sitk.GetImageFromArray(gtv))}


def _run(pet, regions, **params):
    return METHOD.compute({"pet": pet}, regions, METHOD.make_params(params))


def test_fraction_of_gtv_maximum():
    result = _run(*_scene())
    assert result.volume.array[2, 2, 2] == pytest.approx(1.0)
    assert result.volume.array[2, 2, 3] == pytest.approx(0.7, abs=1e-6)
    assert (result.threshold, result.comparison) == (0.7, ">=")


def test_surrogate_is_said_everywhere():
    result = _run(*_scene())
    assert result.surrogate
    assert METHOD.surrogate
    assert "surrogate" in result.volume.quantity
    assert "surrogate" in METHOD.title
    assert any("not measured hypoxia" in w for w in result.warnings)


def test_global_factor_is_an_empty_slot_until_given():
    with pytest.raises(RequestError, match="coefficient"):
        _run(*_scene(), scaling="global_factor")
    result = _run(*_scene(), scaling="global_factor", global_factor=0.3)
    assert result.volume.array[2, 2, 2] == pytest.approx(2.4)
    assert (result.threshold, result.comparison) == (1.2, ">")


def test_gtv_without_uptake_is_refused():
    pet, regions = _scene()
    with pytest.raises(InputError, match="no FDG uptake"):
        _run(pet.with_array(np.full((6, 6, 6), np.nan, np.float32), "outside"), regions)
