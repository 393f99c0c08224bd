"""patlak_ki: the slope of an analytic trapped tracer; input functions; what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.kinetics.input_function import InputFunction
from HypoxiaMapperLib.methods import get_method
from HypoxiaMapperLib.timeseries import TimeSeries
from kinetic_samples import (
    pet_frames,
    pet_input,
    regions,
    time_series,
    truth_grid,
    tumour_mask,
    volume,
    write_input_csv,
)

METHOD = get_method("patlak_ki")
TRUTH = truth_grid(Ki=(0.005, 0.05), V0=(0.2, 0.8))


def exact_series(**options) -> TimeSeries:
    """Curves Ki int(Cp) + V0 Cp, for which the line is exact; the artery shows plasma."""
    frames, source = pet_frames(), pet_input()
    curves = TRUTH["Ki"] * source.integral_on_frames(frames)[:, None] + TRUTH["V0"] * source.on_frames(frames)[:, None]
    curves[:, ~tumour_mask().ravel()] = source.on_frames(frames)[:, None]
    return time_series(curves, frames, **options)


def csv_params(tmp_path, **changes):
    write_input_csv(tmp_path / "input.csv", pet_input())
    values = {"input_source": "csv", "input_csv": str(tmp_path / "input.csv"), "input_csv_time_unit": "min",
              "input_csv_unit": "g/ml", **changes}  # fmt: skip
    return METHOD.make_params(values)


def test_exact_lines_give_their_slope_and_intercept(tmp_path):
    found = METHOD.compute({"pet": exact_series()}, regions(), csv_params(tmp_path, start_min=20.0))
    inside = tumour_mask().ravel()
    np.testing.assert_allclose(found.volume.array.ravel()[inside], TRUTH["Ki"][inside], rtol=2e-3)
    np.testing.assert_allclose(found.extra["V0"].array.ravel()[inside], TRUTH["V0"][inside], rtol=0.02)
    assert (found.volume.quantity, found.volume.unit) == ("Ki", "mL/min/mL")
    assert np.nanmax(found.uncertainty.array.ravel()[inside]) < 1e-3 * 0.05
    assert not found.quality.ravel()[inside].any()
    assert np.isnan(found.threshold)
    assert "No published threshold" in " ".join(found.warnings)
    np.testing.assert_allclose(found.curves[0].fitted, found.curves[0].measured, rtol=1e-3)


def test_input_from_the_artery_is_close_and_says_so():
    found = METHOD.compute({"pet": exact_series()}, regions(), METHOD.make_params({"start_min": 20.0}))
    inside = tumour_mask().ravel()
    np.testing.assert_allclose(found.volume.array.ravel()[inside], TRUTH["Ki"][inside], rtol=0.05)
    text = " ".join(found.warnings)
    assert "partial-volume" in text
    assert "free of metabolites" in text


def test_standard_error_covers_the_truth_in_two_thirds_of_voxels(tmp_path):
    series = exact_series()
    rng = np.random.default_rng(2)
    plasma = pet_input().on_frames(pet_frames())[:, None, None, None]
    noisy = series.with_frames((series.frames + 0.03 * plasma * rng.standard_normal(series.frames.shape)).astype("f4"),
                               "noise")  # fmt: skip
    found = METHOD.compute({"pet": noisy}, regions(), csv_params(tmp_path, start_min=20.0))
    inside = tumour_mask().ravel()
    off = np.abs(found.volume.array.ravel() - TRUTH["Ki"])[inside] / found.uncertainty.array.ravel()[inside]
    assert 0.58 < (off < 1).mean() < 0.78
    assert (off < 1.96).mean() > 0.88


def test_units_of_the_table_are_converted_with_weight_and_activity(tmp_path):
    series = exact_series(facts={"tracer": "FMISO", "weight_kg": 70.0, "injected_activity_mbq": 350.0})
    by_unit = []
    for unit in ("g/ml", "kBq/ml"):
        write_input_csv(tmp_path / "input.csv", pet_input())
        params = csv_params(tmp_path, input_csv_unit=unit)
        by_unit.append(METHOD.compute({"pet": series}, regions(), params).volume.array)
    # 1 kBq/ml is 1000 Bq/ml * 70000 g / 350 MBq = 0.2 g/ml
    np.testing.assert_allclose(by_unit[1] * 0.2, by_unit[0], rtol=1e-4)


def test_whole_image_and_margin(tmp_path):
    params = csv_params(tmp_path, extent="whole_image")
    assert np.isfinite(METHOD.compute({"pet": exact_series()}, regions(), params).volume.array).all()
    params = csv_params(tmp_path, fit_margin_mm=2.5)
    found = np.isfinite(METHOD.compute({"pet": exact_series()}, regions(), params).volume.array)
    np.testing.assert_array_equal(found[0, 0], [False, True] + [True] * 8)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_table_in_a_unit_a_thousand_times_off_is_refused(tmp_path, factor):
    params, source = csv_params(tmp_path), pet_input()
    write_input_csv(tmp_path / "input.csv", InputFunction(source.time_min, source.plasma * factor, "g/ml", source="x"))
    with pytest.raises(InputError, match="peak is an SUV of"):
        METHOD.compute({"pet": exact_series()}, regions(), params)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"input_csv_unit": ""}, RequestError, "input_csv_unit"),
        ({"input_csv_unit": "kBq/ml"}, RequestError, "weight and injected activity"),
        ({"input_csv_time_unit": "s"}, InputError, "input function ends"),
        ({"start_min": 155.0}, RequestError, "a line needs 3"),
        ({"input_csv": "no.csv"}, InputError, "cannot be read"),
    ],
)
def test_bad_input_is_a_message_and_no_map(tmp_path, changes, kind, words):
    with pytest.raises(kind) as error:
        METHOD.compute({"pet": exact_series()}, regions(), csv_params(tmp_path, **changes))
    assert words in str(error.value)
    assert error.value.hint


def test_series_region_and_input_are_asked_for(tmp_path):
    params = METHOD.make_params({})
    with pytest.raises(RequestError, match="must be a dynamic series; it is Volume"):
        METHOD.compute({"pet": volume(np.ones(1), "SUVbw", "g/ml")}, regions(), params)
    with pytest.raises(RequestError, match="no arterial region"):
        METHOD.compute({"pet": exact_series()}, {"gtv": regions()["gtv"]}, params)
    late = exact_series().part(30, 50)
    with pytest.raises(InputError, match="holds no input function before"):
        METHOD.compute({"pet": late}, regions(), params)
    few = exact_series().part(0, 2)
    with pytest.raises(HypoxiaError):
        METHOD.compute({"pet": few}, regions(), params)


def test_voxels_with_nan_are_coded_and_reported(tmp_path):
    series = exact_series()
    frames = series.frames.copy()
    frames[-1, 2, 3, 5] = np.nan
    found = METHOD.compute({"pet": series.with_frames(frames, "hole")}, regions(), csv_params(tmp_path))
    assert np.isnan(found.volume.array[2, 3, 5])
    assert found.quality[2, 3, 5] == 5
    assert "1 of 240 voxels of the GTV" in " ".join(found.warnings)


def test_an_unknown_injection_time_holds_back_what_needs_it(tmp_path):
    unknown = {"tracer": "FMISO", "time_zero": "start of the first frame"}
    series = exact_series(facts=unknown)
    with pytest.raises(InputError, match="injection time of the PET is unknown"):
        METHOD.compute({"pet": series}, regions(), csv_params(tmp_path))
    bolus_seen = METHOD.compute({"pet": series}, regions(), METHOD.make_params({"start_min": 20.0}))
    assert np.isfinite(bolus_seen.volume.array[tumour_mask()]).all()
    late = series.frame_start_s >= 1800
    later = TimeSeries(
        frames=series.frames[late], grid=series.grid, quantity=series.quantity, unit=series.unit,
        frame_of_reference_uid=series.frame_of_reference_uid, facts=unknown,
        frame_start_s=series.frame_start_s[late] - series.frame_start_s[late][0],
        frame_duration_s=series.frame_duration_s[late],
    )  # fmt: skip
    with pytest.raises(InputError, match="shows no bolus"):
        METHOD.compute({"pet": later}, regions(), METHOD.make_params({"start_min": 20.0}))
