"""The gate: which images pass, which stop the export, and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bundle_samples import image_of, make_bundle, scene
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.inference.channels import KEYS
from HypoxiaMapperLib.inference.prepare import prepare
from HypoxiaMapperLib.resample import resample_to

pytest.importorskip("torch")
pytest.importorskip("monai")

FEATURES = 8


def _gate(ensemble, prepared, facts=None, gtv_ml=14.0):
    from HypoxiaMapperLib.inference.distribution import check_distribution

    usual = {"fdg": ("FDG", 60.0), "hypoxia_pet": ("FMISO", 150.0)}
    own = {key: dict(zip(("tracer", "minutes_after_injection"), usual.get(key, ("", None)), strict=True))
           for key in prepared.present}  # fmt: skip
    own = {key: {**told, "body_parts": ("HEADNECK",)} for key, told in own.items()}
    for key, changed in (facts or {}).items():
        own[key] = {**own.get(key, {}), **changed}
    found = check_distribution(ensemble, prepared, own, gtv_ml)
    return {finding.check: finding for finding in found}


def _statistics(limit=50.0, mean=0.0):
    coefficients = np.zeros((1 + len(KEYS), FEATURES))
    coefficients[0] = mean
    return {"coefficients": coefficients, "precision": np.eye(FEATURES), "limit": np.array([limit])}


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    return Ensemble(make_bundle(tmp_path_factory.mktemp("gate") / "b", 1, _statistics()), "cpu")


@pytest.fixture(scope="module")
def prepared():
    images, regions = scene("fdg", "ct", "t1")
    return prepare(images, regions["gtv"])


def test_images_like_those_trained_on_pass_every_check(ensemble, prepared):
    found = _gate(ensemble, prepared)
    assert all(f.passed for f in found.values()), found
    assert any("Mahalanobis" in check for check in found)


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (8.0, False)])
def test_values_beyond_the_training_range_fail(ensemble, factor, passed):
    images, regions = scene("fdg")
    bright = images["fdg"].with_array(images["fdg"].array * np.float32(factor), "brighter")
    found = _gate(ensemble, prepare({"fdg": bright}, regions["gtv"]))
    finding = found["FDG PET in the GTV, 1st to 99th percentile"]
    assert finding.passed is passed
    assert "g/ml" in finding.value
    assert finding.allowed == "0 to 40 g/ml"


def test_the_range_is_of_percentiles_not_of_single_voxels(ensemble):
    images, regions = scene("fdg", shape=(44, 44, 44), radius_mm=30.0)
    array = images["fdg"].array.copy()
    array[21, 21, 21] = 500.0
    found = _gate(ensemble, prepare({"fdg": images["fdg"].with_array(array, "one voxel")}, regions["gtv"]))
    assert found["FDG PET in the GTV, 1st to 99th percentile"].passed


def test_arbitrary_units_are_judged_relative_to_the_box(ensemble, prepared):
    images, regions = scene("t1", "adc")
    for factor in (1e-3, 1.0, 1e3):
        t1 = images["t1"].with_array(images["t1"].array * np.float32(factor), "gain")
        found = _gate(ensemble, prepare({**images, "t1": t1}, regions["gtv"]))
        assert found["T1-weighted MR in the GTV, 1st to 99th percentile"].passed


def test_an_image_the_bundle_never_saw_fails(tmp_path, prepared):
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    bundle = make_bundle(tmp_path / "b", 1, _statistics(), ranges={"fdg": {"low": 0.0, "high": 40.0}})
    found = _gate(Ensemble(bundle, "cpu"), prepared)
    assert not found["CT in the GTV, 1st to 99th percentile"].passed
    assert found["FDG PET in the GTV, 1st to 99th percentile"].passed


@pytest.mark.parametrize(("tracer", "passed"), [("FMISO", True), ("HX4", True), ("FDG", False), ("unknown", False)])
def test_tracers_not_trained_on_fail(ensemble, tracer, passed):
    images, regions = scene("hypoxia_pet")
    found = _gate(ensemble, prepare(images, regions["gtv"]), {"hypoxia_pet": {"tracer": tracer}})
    finding = found["hypoxia PET tracer"]
    assert (finding.passed, finding.value) == (passed, tracer)


@pytest.mark.parametrize(
    ("spacing", "passed"), [((1.0, 1.0, 3.0), True), ((5.0, 5.0, 5.0), True), ((4.0, 4.0, 9.0), False)]
)
def test_the_voxel_size_an_image_came_with_is_judged(ensemble, prepared, spacing, passed):
    found = _gate(ensemble, prepared, {"ct": {"native_spacing_mm": spacing}})
    assert found["CT voxel size"].passed is passed


def test_resampling_keeps_the_first_voxel_size():
    images, _ = scene("fdg", spacing=4.0)
    once = resample_to(
        images["fdg"], image_of(np.zeros((40, 40, 40), np.float32), 2.0), images["fdg"].frame_of_reference_uid
    )
    assert once.facts["native_spacing_mm"] == (4.0, 4.0, 4.0)
    twice = resample_to(once, image_of(np.zeros((20, 20, 20), np.float32), 3.0), once.frame_of_reference_uid)
    assert twice.facts["native_spacing_mm"] == (4.0, 4.0, 4.0)
    assert twice.facts["tracer"] == "FDG"


@pytest.mark.parametrize(("volume_ml", "passed"), [(0.5, False), (1.0, True), (14.0, True), (301.0, False)])
def test_the_volume_of_the_gtv_is_judged(ensemble, prepared, volume_ml, passed):
    assert _gate(ensemble, prepared, gtv_ml=volume_ml)["GTV volume"].passed is passed


def test_features_are_of_the_bottleneck(ensemble, prepared):
    from HypoxiaMapperLib.inference.distribution import features

    network = ensemble.networks[0]
    found = features(network, prepared.inputs, prepared.gtv)
    assert found.shape == (FEATURES,)
    np.testing.assert_array_equal(found, features(network, prepared.inputs, prepared.gtv))
    assert not any(module._forward_hooks for module in network.modules()), "a hook was left behind"


def test_features_are_the_mean_over_the_gtv(prepared):
    import torch

    from HypoxiaMapperLib.inference.distribution import features

    # Its bottleneck is known: the inputs, averaged over cubes of four voxels.
    known = torch.nn.Sequential(torch.nn.AvgPool3d(4), torch.nn.Upsample(scale_factor=4), torch.nn.Conv3d(15, 2, 1))
    found = features(known, prepared.inputs, prepared.gtv)

    def pooled(array):
        n = [m // 4 for m in array.shape]
        return array.reshape(n[0], 4, n[1], 4, n[2], 4).mean(axis=(1, 3, 5))

    share = pooled(prepared.gtv.astype(float))
    expected = [(pooled(image.astype(float)) * share).sum() / share.sum() for image in prepared.inputs]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_distance_is_mahalanobis_about_a_mean_that_knows_the_images():
    from HypoxiaMapperLib.inference.distribution import mahalanobis, presence

    flags = presence(("fdg", "ct"))
    np.testing.assert_array_equal(flags, [1, 0, 1, 0, 0, 0, 0])
    coefficients = np.zeros((8, 2))
    coefficients[0], coefficients[1], coefficients[3] = (1.0, 0.0), (2.0, 0.0), (0.0, 5.0)
    precision = np.diag([4.0, 0.25])
    assert mahalanobis(np.array([3.0, 5.0]), flags, coefficients, precision) == 0.0
    assert mahalanobis(np.array([4.0, 9.0]), flags, coefficients, precision) == pytest.approx(np.sqrt(4 + 4))


def test_features_beyond_the_limit_fail(tmp_path, prepared):
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    bundle = make_bundle(tmp_path / "b", 1, _statistics(limit=1.0, mean=100.0))
    found = _gate(Ensemble(bundle, "cpu"), prepared)
    finding = next(f for check, f in found.items() if "Mahalanobis" in check)
    assert not finding.passed
    assert finding.allowed == "at most 1"
    assert float(finding.value) > 100


def test_a_bundle_without_the_file_fails_and_a_wrong_file_is_refused(tmp_path, prepared):
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    found = _gate(Ensemble(make_bundle(tmp_path / "none", 1), "cpu"), prepared)
    finding = next(f for check, f in found.items() if "Mahalanobis" in check)
    assert (finding.passed, finding.value) == (False, "no distribution check in this bundle")
    wrong = {**_statistics(), "precision": np.eye(3)}
    with pytest.raises(InputError, match="precision"):
        _gate(Ensemble(make_bundle(tmp_path / "wrong", 1, wrong), "cpu"), prepared)


@pytest.mark.parametrize(("minutes", "passed"), [(60.0, True), (90.0, True), (150.0, False), (None, False)])
def test_a_pet_too_late_or_of_unknown_time_does_not_pass(ensemble, prepared, minutes, passed):
    found = _gate(ensemble, prepared, {"fdg": {"minutes_after_injection": minutes}})
    assert found["FDG PET scan after injection"].passed is passed


@pytest.mark.parametrize(("share", "passed"), [(0.95, True), (0.6, False)])
def test_an_image_with_holes_in_the_gtv_does_not_pass(ensemble, prepared, share, passed):
    values = prepared.values["ct"].copy()
    inside = np.argwhere(prepared.gtv)
    values[tuple(inside[: round((1 - share) * len(inside))].T)] = np.nan
    holed = replace(prepared, values={**prepared.values, "ct": values})
    assert _gate(ensemble, holed)["CT has values in the GTV"].passed is passed


def test_a_small_node_beside_a_tumour_does_not_pass(ensemble, prepared):
    from HypoxiaMapperLib.inference.distribution import _part_findings

    gtv = np.zeros((20, 20, 20), bool)
    gtv[2:12, 2:12, 2:12] = True
    assert not list(_part_findings(gtv, 1.8))
    gtv[15:18, 15:18, 15:17] = True  # 18 voxels of 0.027 ml
    (finding,) = _part_findings(gtv, 1.8)
    assert not finding.passed
    assert finding.value == "0.486 ml of 2 parts"
    gtv[15:18, 15:18, 15:17] = False
    gtv[15, 15, 15:17] = True  # a speck of the contour's edge
    assert all(found.passed for found in _part_findings(gtv, 1.8))
