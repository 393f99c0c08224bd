"""measured_po2: units, proportions, impossible pressures."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods.measured_po2 import METHOD
from kinetic_samples import SHAPE, regions, volume

PO2 = np.broadcast_to(np.linspace(0.5, 40.0, SHAPE[2]), SHAPE)


@pytest.mark.parametrize(("unit", "factor"), [("mm[Hg]", 1.0), ("kPa", 1 / 7.500617), ("%{O2}", 1 / 7.6)])
def test_map_is_taken_over_in_mmhg(unit, factor):
    found = METHOD.compute({"po2": volume(PO2 * factor, "pO2", unit)}, regions("vein"), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array, PO2, rtol=1e-5)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("pO2", "mm[Hg]", "<")
    assert not found.surrogate
    inside = PO2[..., 2:]
    assert found.details["HP10"] == pytest.approx((inside < 10).mean())
    assert found.details["HP2.5"] == pytest.approx((inside < 2.5).mean())


def test_unit_is_asked_for_and_impossible_pressures_are_refused():
    with pytest.raises(RequestError, match="unit of input po2"):
        METHOD.compute({"po2": volume(PO2, "MR signal", "[arb'U]")}, regions("vein"), METHOD.make_params({}))
    params = METHOD.make_params({"po2_unit": "mm[Hg]"})
    METHOD.compute({"po2": volume(PO2, "MR signal", "[arb'U]")}, regions("vein"), params)
    for array in (PO2 - 20, PO2 * 100):
        with pytest.raises(InputError, match="runs from"):
            METHOD.compute({"po2": volume(array, "pO2", "mm[Hg]")}, regions("vein"), params)
    with pytest.raises(RequestError, match="is in kPa, mm"):
        METHOD.compute({"po2": volume(PO2, "pO2", "kPa")}, regions("vein"), params)
