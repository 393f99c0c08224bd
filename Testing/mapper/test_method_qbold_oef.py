"""qbold_oef: the formula with its constants, units asked for, impossible values shown."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.methods.qbold_oef import METHOD
from kinetic_samples import SHAPE, grid, regions, tumour_mask, volume

GAMMA, SUSCEPTIBILITY = 2.6752218744e8, 0.264e-6  # rad/s/T; cgs per unit hematocrit
OEF = 0.4


def maps(oef=OEF, dbv=0.03, hct=0.42, field=3.0, unit="/s"):
    prime = 4 / 3 * np.pi * GAMMA * SUSCEPTIBILITY * hct * field * dbv * oef
    r2 = 12.0
    scale = 1e-3 if unit == "/ms" else 1.0
    return {
        "r2star": volume(np.full(SHAPE, (r2 + prime) * scale), "R2*", unit, facts={"field_strength_t": field}),
        "r2": volume(np.full(SHAPE, r2 * scale), "R2", unit), "dbv": volume(np.full(SHAPE, dbv), "DBV", "{ratio}"),
    }  # fmt: skip


@pytest.mark.parametrize("unit", ["/s", "/ms"])
def test_oef_of_known_rates(unit):
    found = METHOD.compute(maps(unit=unit), regions("vein"), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array, OEF, rtol=1e-4)
    assert (found.volume.quantity, found.volume.unit) == ("OEF", "{ratio}")
    assert np.isnan(found.threshold)
    assert "brain" in found.warnings[0]
    assert found.extra["R2prime"].unit == "/s"


def test_metabolism_from_flow():
    inputs = {**maps(), "cbf": volume(np.full(SHAPE, 50.0), "CBF", "mL/min/100g")}
    found = METHOD.compute(inputs, regions("vein"), METHOD.make_params({"arterial_oxygen": 8.0}))
    np.testing.assert_allclose(found.extra["CMRO2"].array, 50 * OEF * 8, rtol=1e-4)


def test_impossible_values_are_shown_and_not_cut():
    found = METHOD.compute(maps(oef=1.5), regions("vein"), METHOD.make_params({}))
    np.testing.assert_allclose(found.volume.array, 1.5, rtol=1e-4)
    assert "above 1, which is impossible" in " ".join(found.warnings)
    zero = {**maps(), "dbv": volume(np.where(tumour_mask(), 0.0, 0.03), "DBV", "{ratio}")}
    found = METHOD.compute(zero, regions("vein"), METHOD.make_params({}))
    assert np.isnan(found.volume.array[tumour_mask()]).all()
    assert "have no value" in " ".join(found.warnings)


def test_unit_blood_volume_and_field_are_asked_for():
    arbitrary = {**maps(), "r2star": volume(np.ones(SHAPE), "MR signal", "[arb'U]")}
    with pytest.raises(RequestError, match="unit of input r2star"):
        METHOD.compute(arbitrary, regions("vein"), METHOD.make_params({}))
    with pytest.raises(RequestError, match="field strength is unknown"):
        METHOD.compute(arbitrary, regions("vein"), METHOD.make_params({"r2star_unit": "/s"}))
    without = {k: v for k, v in maps().items() if k != "dbv"}
    with pytest.raises(RequestError, match="No blood volume"):
        METHOD.compute(without, regions("vein"), METHOD.make_params({}))
    found = METHOD.compute(without, regions("vein"), METHOD.make_params({"blood_volume": 0.03}))
    np.testing.assert_allclose(found.volume.array, OEF, rtol=1e-4)


def test_swapped_maps_are_refused():
    given = maps()
    swapped = {**given, "r2star": given["r2"], "r2": given["r2star"]}
    with pytest.raises(InputError, match=r"R2 is above R2\*"):
        METHOD.compute(swapped, regions("vein"), METHOD.make_params({"field_t": 3.0}))


def test_maps_on_other_grids_are_refused():
    from dataclasses import replace

    image = grid()
    image.SetOrigin((0.0, 0.0, 0.0))
    other = maps()
    moved = other["r2"].image
    moved.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="grids differ"):
        METHOD.compute({**other, "r2": replace(other["r2"], image=moved)}, regions("vein"), METHOD.make_params({}))
