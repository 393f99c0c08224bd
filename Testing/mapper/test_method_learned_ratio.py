"""Learned ratio from end to end: what comes out, what it says of itself, and every bad input refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from bundle_samples import FRAME, LABEL, image_of, make_bundle, scene
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.inference.channels import KEYS
from HypoxiaMapperLib.methods import all_methods, get_method
from HypoxiaMapperLib.volume import Region

pytest.importorskip("torch")
pytest.importorskip("monai")
METHOD = get_method("learned_ratio")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(
        tmp_path_factory.mktemp("bundle") / "random",
        scaled_fdg={"ratio_per_suv": 0.2},
        regression={"coefficients": {"fdg+ct": [1.3, 0.2, -0.01]}},
    )


def _run(bundle, images, regions, flips=False, **params):
    values = {"bundle": str(bundle.folder), "device": "cpu", "flips": flips, **params}
    return METHOD.compute(images, regions, METHOD.make_params(values))


def test_map_lies_inside_the_gtv_with_its_uncertainty_and_parts(bundle):
    images, regions = scene("fdg", "ct")
    result = _run(bundle, images, regions, flips=True)
    inside = regions["gtv"].array
    for volume in (result.volume, result.uncertainty, *result.extra.values()):
        assert np.isfinite(volume.array[inside]).all()
        assert np.isnan(volume.array[~inside]).all()
        assert volume.array.dtype == np.float32
        assert volume.unit == "{ratio}"
    parts = result.extra["aleatoric sd"].array[inside] ** 2 + result.extra["epistemic sd"].array[inside] ** 2
    # Interpolated one by one, the parts add up but for the curvature between voxels.
    np.testing.assert_allclose(result.uncertainty.array[inside] ** 2, parts, rtol=0.05)
    assert result.surrogate
    assert METHOD.surrogate
    assert (result.threshold, result.comparison) == (1.2, ">")
    assert result.volume.quantity.startswith("predicted")


def test_label_comes_first_and_the_title_carries_the_shipped_one(bundle):
    assert "synthetic-trained, not clinically validated" in all_methods()["learned_ratio"].title
    result = _run(bundle, *scene("fdg", "ct"))
    assert result.warnings[0].startswith(LABEL)
    assert "not measured" in result.warnings[0]
    assert any("hypoxia PET" in w and "without" in w for w in result.warnings)


def test_model_use_says_what_ran_on_what(bundle):
    images, regions = scene("fdg", "ct")
    use = _run(bundle, images, regions).model
    assert use.weights_sha256 == bundle.sha256
    assert use.images_used == ("fdg", "ct")
    assert set(use.images_missing) == set(KEYS) - {"fdg", "ct"}
    assert use.device.startswith("CPU")
    low, high = use.hypoxic_volume_band_ml
    assert 0 <= low <= high <= regions["gtv"].volume_ml
    assert [b.name for b in use.baselines] == ["scaled FDG", "linear regression"]
    assert all(np.isfinite(b.correlation) for b in use.baselines)


def test_scaled_fdg_baseline_counts_what_it_says(bundle):
    images, regions = scene("fdg")
    flat = images["fdg"].with_array(np.full(images["fdg"].array.shape, 7.0, np.float32), "flat")
    use = _run(bundle, {"fdg": flat}, regions).model
    assert use.baselines[0].hypoxic_volume_ml == pytest.approx(regions["gtv"].volume_ml)  # 7 * 0.2 > 1.2
    assert np.isnan(use.baselines[0].correlation)


def test_hypoxic_volume_is_that_of_the_map(bundle):
    images, regions = scene("fdg", "ct")
    result = _run(bundle, images, regions)
    values = result.volume.array[regions["gtv"].array]
    expected = np.count_nonzero(values > 1.2) * result.volume.voxel_volume_ml
    assert result.model.hypoxic_volume_ml == pytest.approx(expected)


def test_bundle_without_baselines_and_gate_still_has_a_baseline_and_a_failed_finding(tmp_path):
    result = _run(make_bundle(tmp_path / "bare"), *scene("adc"))
    assert [b.name for b in result.model.baselines] == ["constant"]
    assert not result.model.in_distribution
    assert any("no distribution check in this bundle" in w for w in result.warnings)
    assert any(w.startswith("Check against the training not passed") for w in result.warnings)


def test_same_seed_same_map_bit_for_bit(bundle):
    first, second = (_run(bundle, *scene("fdg", "adc"), flips=True) for _ in range(2))
    np.testing.assert_array_equal(first.volume.array, second.volume.array)
    np.testing.assert_array_equal(first.uncertainty.array, second.uncertainty.array)
    assert first.model.hypoxic_volume_band_ml == second.model.hypoxic_volume_band_ml


def test_a_large_grid_around_changes_nothing(bundle):
    small, small_regions = scene("fdg", shape=(40, 40, 40))
    large, large_regions = scene("fdg", shape=(60, 70, 80))
    cut = (slice(10, 50), slice(15, 55), slice(20, 60))
    large["fdg"] = large["fdg"].with_array(_pasted(small["fdg"].array, (60, 70, 80), cut), "pasted")
    a = _run(bundle, small, small_regions).volume.array
    b = _run(bundle, large, large_regions).volume.array[cut]
    np.testing.assert_allclose(a, b, atol=1e-6)


def _pasted(array, shape, cut):
    found = np.full(shape, 1.0, np.float32)
    found[cut] = array
    return found


def test_explanations_are_added_where_asked_for(bundle):
    result = _run(bundle, *scene("fdg", "adc"), explain="both")
    assert {"explanation fdg", "explanation adc"} < set(result.extra)
    assert set(result.model.occlusion) == {"fdg", "adc"}
    assert abs(result.details["explanation_completeness_error"]) < 0.05
    outside = ~scene("fdg")[1]["gtv"].array
    assert np.isfinite(result.extra["explanation fdg"].array[outside]).any()
    assert not _run(bundle, *scene("fdg")).model.occlusion


def test_hypoxia_pet_in_suv_is_divided_by_blood(bundle):
    ratio, regions = scene("hypoxia_pet")
    pet = ratio["hypoxia_pet"]
    suv_array = pet.array * np.float32(1.5)
    suv_array[regions["reference"].array] = 1.5
    suv = pet.with_array(suv_array, "suv", quantity="SUVbw", unit="g/ml")
    given = _run(bundle, {"hypoxia_pet": pet}, {"gtv": regions["gtv"]})
    divided = _run(bundle, {"hypoxia_pet": suv}, regions)
    assert divided.details["reference_suv_g_per_ml"] == pytest.approx(1.5)
    assert [b.name for b in divided.model.baselines] == ["tracer ratio"]
    np.testing.assert_allclose(
        given.model.baselines[0].hypoxic_volume_ml, divided.model.baselines[0].hypoxic_volume_ml, rtol=1e-6
    )
    with pytest.raises(RequestError, match=r"no reference region.*--reference-roi"):
        _run(bundle, {"hypoxia_pet": suv}, {"gtv": regions["gtv"]})
    with pytest.raises(RequestError, match="muscle"):
        _run(bundle, {"hypoxia_pet": suv}, {**regions, "reference": replace(regions["reference"], name="Muscle")})
    overlapping = replace(regions["gtv"], name="Blood")
    with pytest.raises(InputError, match="overlaps"):
        _run(bundle, {"hypoxia_pet": suv}, {"gtv": regions["gtv"], "reference": overlapping})
    lean = replace(suv, quantity="SUVlbm")
    with pytest.raises(RequestError, match="SUVlbm"):
        _run(bundle, {"hypoxia_pet": lean}, regions)


def test_units_of_maps_are_converted_stated_or_refused(bundle):
    images, regions = scene("adc", "ktrans")
    known = _run(bundle, images, regions).volume.array
    scaled = {
        "adc": images["adc"].with_array(images["adc"].array * 1e6, "scaled", unit="um2/s"),
        "ktrans": images["ktrans"].with_array(images["ktrans"].array / np.float32(60), "scaled", unit="/s"),
    }
    np.testing.assert_allclose(_run(bundle, scaled, regions).volume.array, known, atol=1e-4)
    silent = {**scaled, "adc": replace(scaled["adc"], unit="[arb'U]")}
    with pytest.raises(RequestError, match="adc_unit"):
        _run(bundle, silent, regions)
    np.testing.assert_allclose(_run(bundle, silent, regions, adc_unit="um2/s").volume.array, known, atol=1e-4)


def test_missing_images_are_refused_or_listed(bundle):
    images, regions = scene("ct", "t1")
    with pytest.raises(RequestError, match="at least one of FDG PET"):
        _run(bundle, images, regions)
    with pytest.raises(RequestError, match="no image"):
        _run(bundle, {}, regions)
    with pytest.raises(RequestError, match="knows no image pet"):
        _run(bundle, {"pet": scene("fdg")[0]["fdg"]}, regions)


def test_impossible_values_are_refused(bundle):
    images, regions = scene("fdg")
    array = images["fdg"].array.copy()
    array[15, 18, 18] = np.nan
    with pytest.raises(InputError, match="NaN"):
        _run(bundle, {"fdg": images["fdg"].with_array(array, "hole")}, regions)
    with pytest.raises(InputError, match="never negative"):
        _run(bundle, {"fdg": images["fdg"].with_array(-images["fdg"].array, "negative")}, regions)
    with pytest.raises(InputError, match="SUVlbm"):
        _run(bundle, {"fdg": replace(images["fdg"], quantity="SUVlbm")}, regions)
    absurd = images["fdg"].with_array(images["fdg"].array * 1e4, "Bq/ml")
    with pytest.raises(InputError, match="another unit"):
        _run(bundle, {"fdg": absurd}, regions)


def test_geometry_is_refused(bundle):
    images, regions = scene("fdg")
    other = image_of(regions["gtv"].array.astype(np.uint8))
    other.SetOrigin((500.0, 0.0, 0.0))
    with pytest.raises(GeometryError, match="grids differ"):
        _run(bundle, images, {"gtv": Region("GTVp", other, FRAME)})
    with pytest.raises(InputError, match="empty"):
        _run(bundle, images, {"gtv": regions["gtv"].with_array(np.zeros(regions["gtv"].array.shape), "empty")})
    half = images["fdg"].array.copy()
    half[:, :, :22] = np.nan  # what an image that ends there looks like on the planning grid
    with pytest.raises((GeometryError, InputError), match="GTV"):
        _run(bundle, {"fdg": images["fdg"].with_array(half, "cut")}, regions)
    with pytest.raises(GeometryError, match="frame of reference"):
        _run(bundle, {"fdg": replace(images["fdg"], frame_of_reference_uid="9.9")}, regions)


def test_absurd_spacing_is_refused(bundle):
    images, regions = scene("fdg", spacing=30.0, radius_mm=150.0)
    with pytest.raises(InputError, match="30 x 30 x 30 mm"):
        _run(bundle, images, regions)


def test_bad_bundles_are_refused_before_anything_is_computed(tmp_path):
    images, regions = scene("fdg")
    tampered = make_bundle(tmp_path / "tampered")
    data = bytearray(tampered.weights[0].read_bytes())
    data[-1] ^= 1
    tampered.weights[0].write_bytes(bytes(data))
    with pytest.raises(InputError, match="other or changed weights"):
        _run(tampered, images, regions)
    evil = make_bundle(tmp_path / "evil")
    (evil.folder / "models" / "extra.pth").write_bytes(pickle.dumps(print))
    with pytest.raises(InputError, match="pickle"):
        _run(evil, images, regions)
    with pytest.raises(InputError, match="no bundle folder"):
        METHOD.compute(images, regions, METHOD.make_params({"bundle": str(tmp_path / "absent")}))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"device": "tpu"}, "mps"), ({"explain": "all"}, "occlusion"), ({"band_seed": -1}, "0"), ({"flips": 1}, "flips")],
)
def test_bad_parameters_are_refused_by_name(values, words):
    with pytest.raises(RequestError) as caught:
        METHOD.make_params(values)
    assert words in str(caught.value)


def test_progress_runs_to_its_end_and_can_cancel(bundle):
    seen = []
    images, regions = scene("fdg")
    METHOD.compute(
        images, regions, METHOD.make_params({"bundle": str(bundle.folder), "flips": False}), lambda f, t: seen.append(f)
    )
    assert seen == sorted(seen)
    assert seen[-1] > 0.9

    def cancel(fraction, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHOD.compute(images, regions, METHOD.make_params({"bundle": str(bundle.folder)}), cancel)
