"""Tracer ratio: known ratios, protocol choice, and every mismatch refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.methods import all_methods, get_method
from HypoxiaMapperLib.tracers import TRACER_PROTOCOLS, get_tracer_protocol, protocols_of
from HypoxiaMapperLib.volume import Region, Volume

METHOD = get_method("tracer_ratio")


def _image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    return image


def _scene(tracer: str = "FMISO", minutes: float | None = 150.0, reference_name: str = "Blood"):
    """A 12x12x12 PET of SUV 1 with a tumour of 1.8, a reference of 1.5 and known answers."""
    suv = np.ones((12, 12, 12), dtype=np.float32)
    gtv = np.zeros_like(suv, dtype=np.uint8)
    gtv[2:6, 2:6, 2:6] = 1
    reference = np.zeros_like(gtv)
    reference[8:12, 7:12, 7:12] = 1
    suv[gtv > 0] = 1.8
    suv[reference > 0] = 1.5
    facts = {"tracer": tracer} | ({} if minutes is None else {"minutes_after_injection": minutes})
    pet = Volume(_image(suv), "SUVbw", "g/ml", "1.2.3", facts=facts)
    return pet, {"reference": Region(reference_name, _image(reference)), "gtv": Region("GTVp", _image(gtv))}


def _run(pet, regions, **params):
    return METHOD.compute({"pet": pet}, regions, METHOD.make_params(params))


def test_ratio_is_suv_over_mean_reference():
    result = _run(*_scene())
    ratio = result.volume.array
    assert ratio[3, 3, 3] == pytest.approx(1.2, abs=1e-6)
    assert ratio[9, 8, 8] == pytest.approx(1.0, abs=1e-6)
    assert result.volume.unit == "{ratio}"
    assert not result.surrogate
    assert (result.threshold, result.comparison) == (1.2, ">")
    assert "fmiso_blood_1.2" in result.threshold_source
    assert result.details["reference_suv_g_per_ml"] == pytest.approx(1.5)


def test_median_reference_ignores_an_outlier():
    pet, regions = _scene()
    array = pet.array.copy()
    array[11, 11, 11] = 100.0
    spiked = pet.with_array(array, "outlier for the test")
    assert _run(spiked, regions, statistic="median").details["reference_suv_g_per_ml"] == pytest.approx(1.5)
    assert _run(spiked, regions).details["reference_suv_g_per_ml"] == pytest.approx((99 * 1.5 + 100) / 100, rel=1e-6)


def test_tumour_at_exactly_the_threshold_follows_the_protocols_comparison():
    assert get_tracer_protocol("faza_muscle_1.6").comparison == ">="
    assert get_tracer_protocol("faza_muscle_1.5").comparison == ">="  # "at least 50 % more" in its abstract
    assert get_tracer_protocol("fmiso_blood_1.2").comparison == ">"


@pytest.mark.parametrize("protocol", TRACER_PROTOCOLS, ids=lambda p: p.name)
def test_the_source_of_a_threshold_can_be_looked_up(protocol):
    """A DOI, or a journal with volume and pages where no DOI could be confirmed."""
    assert re.search(r"10\.\d{4,}/\S+|Radiother Oncol \d+:\d+-\d+", protocol.citation)


@pytest.mark.parametrize("protocol", TRACER_PROTOCOLS, ids=lambda p: p.name)
def test_every_protocol_accepts_its_own_scan_and_no_other_reference(protocol):
    minutes = sum(protocol.scan_windows_min[0]) / 2
    pet, regions = _scene(protocol.tracer, minutes, protocol.reference)
    result = _run(pet, regions, tracer_protocol=protocol.name)
    assert result.threshold == protocol.threshold
    assert not any("after injection" in w for w in result.warnings)
    other = {"blood": "muscle", "muscle": "blood"}[protocol.reference]
    wrong = {**regions, "reference": replace(regions["reference"], name=other)}
    with pytest.raises(RequestError, match=protocol.name):
        _run(pet, wrong, tracer_protocol=protocol.name)


def test_default_protocol_is_the_first_published_for_tracer_and_tissue():
    for tracer in ("FMISO", "FAZA", "HX4", "EF5"):
        protocol = protocols_of(tracer)[0]
        result = _run(*_scene(tracer, 130.0, protocol.reference))
        assert result.details["tracer_protocol"] == protocol.name


def test_threshold_of_another_tracer_is_refused():
    with pytest.raises(RequestError, match="FAZA over muscle"):
        _run(*_scene("FMISO"), tracer_protocol="faza_muscle_1.6")


def test_tracer_without_published_threshold_is_refused():
    with pytest.raises(RequestError, match="No published threshold for Cu-ATSM over blood"):
        _run(*_scene("Cu-ATSM"))


def test_wrong_scan_time_and_unknown_scan_time_warn():
    late = _run(*_scene(minutes=60.0))
    assert any("60 min after injection" in w and "120-180" in w for w in late.warnings)
    unknown = _run(*_scene(minutes=None))
    assert any("unknown" in w for w in unknown.warnings)
    assert not any("threshold may not apply" in w for w in _run(*_scene()).warnings)


def test_necrosis_is_always_mentioned():
    assert any("necrosis" in w for w in _run(*_scene()).warnings)


def test_reference_must_say_what_it_is():
    with pytest.raises(RequestError, match="blood or muscle"):
        _run(*_scene(reference_name="ROI_7"))
    assert _run(*_scene(reference_name="ROI_7"), reference_kind="blood").threshold == 1.2
    with pytest.raises(RequestError, match="sounds like muscle"):
        _run(*_scene(reference_name="Muscle_L"), reference_kind="blood")


def test_reference_overlapping_tumour_is_refused_with_the_overlap():
    pet, regions = _scene()
    both = regions["reference"].array | regions["gtv"].array
    with pytest.raises(InputError, match=r"overlaps GTVp by 0\.51 ml"):
        _run(pet, {**regions, "reference": regions["reference"].with_array(both, "test")})


def test_small_empty_and_cold_references_are_refused():
    pet, regions = _scene()
    tiny = np.zeros((12, 12, 12), dtype=bool)
    tiny[9, 9, 9] = True
    with pytest.raises(InputError, match=r"0\.01 ml"):
        _run(pet, {**regions, "reference": regions["reference"].with_array(tiny, "test")})
    cold = pet.with_array(np.zeros_like(pet.array), "cold")
    with pytest.raises(InputError, match="mean of 0"):
        _run(cold, regions)
    outside = pet.array.copy()
    outside[9, 9, 9] = np.nan
    with pytest.raises(InputError, match="outside the PET"):
        _run(pet.with_array(outside, "cut"), regions)


def test_other_grid_is_refused():
    pet, regions = _scene()
    moved = sitk.Image(regions["gtv"].mask)
    moved.SetOrigin((5.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="grids differ"):
        _run(pet, {**regions, "gtv": replace(regions["gtv"], mask=moved)})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"no_such": 1}, "no_such"),
        ({"statistic": "mode"}, "mean, median"),
        ({"minimum_reference_ml": "2"}, "kind of its default"),
        ({"minimum_reference_ml": True}, "kind of its default"),
        ({"statistic": 3}, "kind of its default"),
        ({"minimum_reference_ml": -1.0}, "0.0 to 100.0 ml"),
        ({"minimum_reference_ml": float("nan")}, "nan"),
        ({"tracer_protocol": "x"}, "fmiso_blood_1.2"),
    ],
)
def test_bad_parameters_are_refused_by_name(values, words):
    with pytest.raises(RequestError) as caught:
        METHOD.make_params(values)
    assert words in str(caught.value)


def test_registry_lists_valid_names_for_an_unknown_one():
    with pytest.raises(RequestError, match="no_such") as caught:
        get_method("no_such")
    assert all(name in str(caught.value) for name in all_methods())


def test_a_reference_of_impossible_suv_is_told():
    pet, regions = _scene()
    tenfold = pet.with_array(10 * pet.array, "activity a tenth of the true one")
    assert any("mean SUV of" in w and "15 g/ml" in w for w in _run(tenfold, regions).warnings)
    assert not any("mean SUV of" in w for w in _run(pet, regions).warnings)


def test_a_ventricle_of_the_brain_is_no_blood():
    with pytest.raises(RequestError, match="blood or muscle"):
        _run(*_scene(reference_name="Ventricle_Brain_L"))
