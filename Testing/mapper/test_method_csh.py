"""csh: the user's cutting line, its units, and that none is built in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods.csh import METHOD
from kinetic_samples import SHAPE, regions, tumour_mask, volume

LINE = {"consumption": "ADC", "consumption_unit": "10*-3.mm2/s", "supply": "Ktrans", "supply_unit": "/min",
        "slope": -0.1, "intercept": 0.25, "provenance": "pimonidazole, own series 2026"}  # fmt: skip


def calibration(tmp_path, **changes):
    path = tmp_path / "line.json"
    path.write_text(json.dumps({**LINE, **changes}))
    return METHOD.make_params({"calibration": str(path)})


def maps(unit="mm2/s", factor=1.0):
    adc = np.broadcast_to(np.linspace(0.5e-3, 2e-3, SHAPE[2]), SHAPE)
    supply = np.broadcast_to(np.linspace(0.0, 0.3, SHAPE[1])[:, None], SHAPE)
    return adc, supply, {"consumption": volume(adc * factor, "ADC", unit), "supply": volume(supply, "Ktrans", "/min")}


@pytest.mark.parametrize(("unit", "factor"), [("mm2/s", 1.0), ("10*-6.mm2/s", 1e6), ("10*-3.mm2/s", 1e3)])
def test_score_is_the_distance_below_the_line(tmp_path, unit, factor):
    adc, supply, inputs = maps(unit, factor)
    found = METHOD.compute(inputs, regions("vein"), calibration(tmp_path))
    expected = -0.1 * adc * 1e3 + 0.25 - supply
    np.testing.assert_allclose(found.volume.array, expected, atol=1e-5)
    assert (found.threshold, found.comparison, found.volume.unit) == (0.0, ">", "/min")
    assert "pimonidazole, own series 2026" in found.threshold_source
    fraction = (expected[tumour_mask()] > 0).mean()
    assert found.details["hypoxic_fraction"] == pytest.approx(fraction, abs=1e-6)


def test_none_is_built_in_and_broken_files_are_named(tmp_path):
    _, _, inputs = maps()
    with pytest.raises(RequestError, match="none is built in"):
        METHOD.compute(inputs, regions("vein"), METHOD.make_params({}))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="lacks consumption"):
        METHOD.compute(inputs, regions("vein"), METHOD.make_params({"calibration": str(tmp_path / "x.json")}))
    with pytest.raises(RequestError, match="no provenance"):
        METHOD.compute(inputs, regions("vein"), calibration(tmp_path, provenance=" "))


def test_units_must_be_those_of_the_calibration(tmp_path):
    _, _, inputs = maps()
    with pytest.raises(RequestError, match="unit of input supply"):
        METHOD.compute(inputs, regions("vein"), calibration(tmp_path, supply_unit="{ratio}"))
    inputs["consumption"] = volume(np.ones(SHAPE), "MR signal (ADC)", "[arb'U]")
    with pytest.raises(RequestError, match="unit of input consumption"):
        METHOD.compute(inputs, regions("vein"), calibration(tmp_path))
    with pytest.raises(RequestError, match="calibration has ADC in furlong"):
        METHOD.compute(maps()[2], regions("vein"), calibration(tmp_path, consumption_unit="furlong"))
