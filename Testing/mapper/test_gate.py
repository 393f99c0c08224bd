"""The fitted out-of-distribution gate lets patients of the same kind pass and stops grossly wrong images."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation_samples import TINY, plain_case, tiny_bundle
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.inference.baselines import set_name
from HypoxiaMapperLib.inference.bundle import load_bundle, shipped_bundle
from HypoxiaMapperLib.inference.channels import KEYS
from HypoxiaMapperLib.inference.distribution import features, mahalanobis
from HypoxiaMapperLib.inference.network import make_network
from HypoxiaMapperLib.training.config import ModalityDropout
from HypoxiaMapperLib.training.gate import fit_gate
from HypoxiaMapperLib.training.samples import assemble, choose_images

ANY = ModalityDropout()


@pytest.fixture(scope="module")
def fitted():
    import torch

    torch.manual_seed(3)
    network = make_network(TINY).eval()
    gate = fit_gate(network, [plain_case(i) for i in range(80)], [plain_case(i) for i in range(80, 110)], ANY, seed=1)
    return network, gate


def distances(network, gate, cases, spoil=lambda images: images):
    random = np.random.default_rng(7)
    found = []
    for case in cases:
        shown = choose_images(case.present, ANY, random)
        inputs = assemble(spoil(case.images.astype(np.float32)), case.gtv, shown)
        there = shown.astype(float)
        found.append(mahalanobis(features(network, inputs, case.gtv), there, gate["coefficients"], gate["precision"]))
    return np.array(found)


def test_the_gate_has_the_shapes_that_inference_reads(fitted):
    _, gate = fitted
    count = gate["precision"].shape[0]
    assert gate["coefficients"].shape == (1 + len(KEYS), count)
    assert gate["limit"].shape == (1,)
    assert np.linalg.eigvalsh(gate["precision"]).min() > 0


def test_99_of_100_new_patients_of_the_same_kind_pass(fitted):
    found = distances(*fitted, [plain_case(i) for i in range(1000, 1200)])
    assert 0.95 <= np.mean(found <= fitted[1]["limit"][0]) <= 1.0
    assert np.median(found) > 0.2 * fitted[1]["limit"][0], "a limit far off lets everything pass"


@pytest.mark.parametrize(
    ("mistake", "spoil"),
    [
        ("ten times", lambda images: images * 10 + 9),
        ("noise", lambda images: 6 * np.random.default_rng(1).normal(size=images.shape).astype(np.float32)),
        ("constant", lambda images: np.full_like(images, 8.0)),
    ],
)
def test_grossly_wrong_images_are_stopped(fitted, mistake, spoil):
    found = distances(*fitted, [plain_case(i) for i in range(2000, 2040)], spoil)
    assert np.mean(found > fitted[1]["limit"][0]) > 0.9


def test_too_few_patients_cannot_fit_a_gate():
    with pytest.raises(InputError, match="1 training and 0 validation"):
        fit_gate(make_network(TINY), [plain_case(1)], [], ANY, seed=1)


def test_a_bundle_is_completed_and_its_weights_stay(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    again = load_bundle(tmp_path / "b")
    assert again.distribution is not None
    assert set(again.distribution_tensors()) == {"coefficients", "precision", "limit"}
    coefficients = again.hypoxia["regression"]["coefficients"][set_name(("fdg", "hypoxia_pet"))]
    assert coefficients == pytest.approx([1.2, 0.1, 0.3], abs=0.01)
    assert again.hypoxia["scaled_fdg"]["ratio_per_suv"] > 0
    assert again.sha256 == bundle.sha256


def test_shipped_bundle_stops_wrong_images_of_a_simulated_patient():
    from HypoxiaMapperLib.inference.ensemble import Ensemble
    from HypoxiaMapperLib.simulate.cohort import simulate_case
    from HypoxiaMapperLib.training.evaluation import EVALUATION_SEEDS
    from HypoxiaMapperLib.training.spoiled import spoiled_rows

    case = simulate_case(EVALUATION_SEEDS[-1])
    found = {row["mistake"]: row["gate_stopped"] for row in spoiled_rows(case, Ensemble(shipped_bundle(), "cpu"))}
    for mistake in ("FDG SUV ten times too high", "FDG in voxels of 8 mm", "CT as stored values (1024 too high)"):
        assert found[mistake] == 1.0, mistake


def test_share_of_the_error_that_a_whole_tumour_has_in_common(monkeypatch):
    """Errors of a common part and a part of every voxel's own, of variances 3 to 1."""
    from dataclasses import replace

    from HypoxiaMapperLib.training import gate

    random = np.random.default_rng(5)
    cases = []
    for number in range(400):
        case = plain_case(number % 5)
        error = np.sqrt(0.75) * random.normal() + 0.5 * random.normal(size=case.gtv.shape)
        cases.append(replace(case, ratio=error))
    monkeypatch.setattr(gate, "predict", lambda network, case, *_: (0 * case.ratio, 0 * case.ratio + 1))
    assert gate.shared_error(None, cases, ANY, seed=1) == pytest.approx(0.75, abs=0.05)


def test_the_band_of_hypoxic_volume_widens_with_the_shared_error():
    from HypoxiaMapperLib.inference.ensemble import Prediction, volume_band

    shape = (12, 12, 12)
    mean, sd = np.full(shape, 1.2, np.float32), np.full(shape, 0.1, np.float32)
    prediction = Prediction(mean, sd, sd, 0 * sd, mean[None], "CPU")
    gtv = np.ones(shape, bool)
    own, common = (volume_band(prediction, gtv, 1.2, ">", 100.0, shared_error=share) for share in (0.0, 1.0))
    assert common == pytest.approx((0.0, 100.0)), "a tumour at the threshold is wholly hypoxic, or not at all"
    assert 30 < own[0] < 50 < own[1] < 70
