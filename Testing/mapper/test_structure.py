"""Constant images, pure noise, images off their place and brains for necks are told from those trained on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from bundle_samples import metadata
from evaluation_samples import plain_case
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.inference.bundle import METADATA, SHIPPED
from HypoxiaMapperLib.inference.channels import CHANNELS, KEYS
from HypoxiaMapperLib.inference.contract import check_metadata
from HypoxiaMapperLib.inference.prepare import network_grid, sample
from HypoxiaMapperLib.inference.structure import MEASURES, smoothness, structure_findings, structure_of
from HypoxiaMapperLib.training.gate import structure_ranges
from HypoxiaMapperLib.volume import Region

FDG, CT = (CHANNELS[KEYS.index(key)] for key in ("fdg", "ct"))
SHAPE = (24, 24, 24)


def scaled(channel, values):
    return channel.scaled(np.asarray(values, float))


def ball(radius=5.0):
    position = np.indices(SHAPE) - 11.5
    return (position**2).sum(axis=0) < radius**2


def test_smoothness_is_the_correlation_two_voxels_apart():
    random = np.random.default_rng(1)
    white = random.standard_normal((40, 40, 40))
    assert abs(smoothness(white)) < 0.02
    # Of noise smoothed by a Gaussian of standard deviation s, the correlation at distance d is exp(-d^2 / (4 s^2)).
    smooth = ndimage.gaussian_filter(random.standard_normal((60, 60, 60)), 1.5, mode="wrap")
    assert smoothness(smooth) == pytest.approx(np.exp(-4 / (4 * 1.5**2)), abs=0.03)
    assert np.isnan(smoothness(np.full(SHAPE, 0.3)))
    assert np.isnan(smoothness(np.full(SHAPE, np.float32(3.7)).astype(float)))


def test_measures_of_a_known_image():
    gtv = ball()
    values = np.where(gtv, 8.0, 2.0)
    found = structure_of(FDG, scaled(FDG, values), gtv)
    assert found["gtv_over_rest"] == pytest.approx(4.0, abs=1e-5)
    assert found["contrast_gtv"] == pytest.approx(0.0, abs=1e-6)
    assert found["contrast_box"] == pytest.approx(values.std() / values.mean(), rel=1e-5)
    ct = np.full(SHAPE, 40.0)
    ct[:6], ct[6:9], ct[9:10] = -1000.0, -90.0, 700.0
    found = structure_of(CT, scaled(CT, ct), gtv)
    assert (found["air"], found["fat"], found["bone"]) == pytest.approx((6 / 24, 3 / 24, 1 / 24))


def test_missing_voxels_and_gain_of_arbitrary_units_change_nothing():
    t1 = CHANNELS[KEYS.index("t1")]
    values = np.random.default_rng(3).uniform(50, 200, SHAPE)
    a, b = (structure_of(t1, scaled(t1, gain * values), ball()) for gain in (1.0, 250.0))
    assert a == pytest.approx(b, rel=1e-4)


def test_ranges_are_the_lowest_and_highest_of_the_training():
    cases = [plain_case(number) for number in range(6)]
    cases[2] = replace(cases[2], present=np.array([key != "adc" for key in KEYS]))
    found = structure_ranges(cases)
    assert set(found) == set(KEYS)
    values = [structure_of(FDG, case.images[0], case.gtv)["contrast_gtv"] for case in cases]
    assert found["fdg"]["contrast_gtv"] == [min(values), max(values)]
    adc = CHANNELS[KEYS.index("adc")]
    without = [
        structure_of(adc, c.images[KEYS.index("adc")], c.gtv)["smoothness"] for i, c in enumerate(cases) if i != 2
    ]
    assert found["adc"]["smoothness"] == [min(without), max(without)]
    check_metadata(_complete(found), "here")


def test_every_training_patient_passes_and_a_constant_image_fails_by_name():
    cases = [plain_case(number) for number in range(6)]
    trained = structure_ranges(cases)
    for case in cases:
        assert all(f.passed for f in structure_findings(FDG, case.images[0], case.gtv, trained["fdg"]))
    flat = np.full(cases[0].gtv.shape, 0.2, np.float32)
    failed = {f.check: f for f in structure_findings(FDG, flat, cases[0].gtv, trained["fdg"]) if not f.passed}
    finding = failed["FDG PET smoothness (correlation of voxels 6 mm apart)"]
    assert finding.value == "none: every voxel is the same"
    assert finding.allowed.startswith("at least ")
    assert "FDG PET contrast in the GTV (standard deviation / mean)" in failed


def test_what_the_bundle_does_not_state_has_not_passed():
    gtv = ball()
    image = scaled(CT, np.random.default_rng(0).normal(30, 40, SHAPE))
    findings = list(structure_findings(CT, image, gtv, None))
    assert findings
    assert not any(f.passed for f in findings)
    assert all("states no range" in f.allowed for f in findings)


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        ({"fdg": {"smoothness": [1.0, 0.0]}}, "fdg.smoothness"),
        ({"mars": {}}, "mars"),
        ([], "object"),
        ({"ct": 3}, "object"),
    ],
)
def test_wrong_ranges_are_refused(structure, words):
    with pytest.raises(InputError, match=words):
        check_metadata(_complete(structure), "here")


def test_the_shipped_bundle_states_every_measure():
    structure = json.loads((SHIPPED / METADATA).read_text(encoding="utf-8"))["hypoxia"]["structure"]
    image = np.random.default_rng(0).standard_normal(SHAPE)
    for channel in CHANNELS:
        assert set(structure[channel.key]) == set(structure_of(channel, image, ball())) <= set(MEASURES)


def test_a_brain_is_no_neck_to_the_shipped_ranges():
    trained = json.loads((SHIPPED / METADATA).read_text(encoding="utf-8"))["hypoxia"]["structure"]["ct"]
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 2.0)
    brain = scaled(CT, 32.0 + 5.0 * smooth / smooth.std())  # smooth: nothing but its tissues tells
    failed = {f.check for f in structure_findings(CT, brain, ball(), trained) if not f.passed}
    assert "CT fat in the GTV and 15 mm around it" in failed
    assert "CT smoothness (correlation of voxels 6 mm apart)" not in failed


@pytest.mark.parametrize(("key", "name"), [("ct", "CT"), ("fdg", "PET"), ("t1", "MR_T1")])
def test_images_of_a_real_tumour_pass_the_shipped_ranges(hypoxia_data, key, name):
    """A sarcoma of a limb: contrast of a real scan is no mistake. The card says that a limb is not told from a neck."""
    folder = hypoxia_data("ibsi_sts_008") / "nifti"
    image = sitk.ReadImage(str(folder / f"{name}_image.nii.gz"), sitk.sitkFloat32)
    gtv = Region("GTV", sitk.ReadImage(str(folder / f"{name}_mask.nii.gz"), sitk.sitkUInt8), "1")
    grid = network_grid(gtv)
    values, _ = sample(image, grid)
    trained = json.loads((SHIPPED / METADATA).read_text(encoding="utf-8"))["hypoxia"]["structure"][key]
    channel = CHANNELS[KEYS.index(key)]
    inside = sitk.GetArrayFromImage(grid).astype(bool)
    failed = [f for f in structure_findings(channel, channel.scaled(values), inside, trained) if not f.passed]
    assert not failed
    noise = np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)
    failed = [f.key for f in structure_findings(channel, channel.scaled(noise), inside, trained) if not f.passed]
    assert f"{key}-smoothness" in failed


def _complete(structure):
    """Metadata with these ranges and all that a written bundle has."""
    from HypoxiaMapperLib.inference.channels import BOX_MARGIN_MM, NETWORK_SPACING_MM
    from HypoxiaMapperLib.inference.contract import CONTRACT, known_channels

    found = metadata(structure=structure)
    found |= {"monai_version": "1", "pytorch_version": "2", "numpy_version": "2"}
    found["hypoxia"] |= {
        "contract": CONTRACT, "channels": known_channels(), "spacing_mm": NETWORK_SPACING_MM,
        "box_margin_mm": BOX_MARGIN_MM, "distribution": None,
        "weights": [{"file": "models/member_0.safetensors", "sha256": "0" * 64}],
    }  # fmt: skip
    return found
