"""The street with a learned map: images found, predicted, checked against the training, exported with the label."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from bundle_samples import LABEL as RANDOM_LABEL
from bundle_samples import make_bundle
from HypoxiaDosePaintLib.cli_text import result_lines
from HypoxiaDosePaintLib.pipeline import compute, deliver
from HypoxiaDosePaintLib.request import Request, SubvolumeOptions
from HypoxiaMapperLib.errors import LimitError
from HypoxiaMapperLib.methods import all_methods

LABEL = "synthetic-trained, not clinically validated"
METHOD = all_methods()["learned_ratio"]
if METHOD.unavailable_reason():
    pytest.skip(METHOD.unavailable_reason(), allow_module_level=True)


def request_of(patient, **changes) -> Request:
    given = {
        "folder": str(patient.folder), "output": "", "method": "learned_ratio", "protocol": "welz_77_70_35",
        "method_params": {"flips": False, "device": "cpu"}, "gtv_rois": patient.gtv_rois,
        "reference_roi": patient.reference_roi, "organ_rois": patient.organ_rois, "inputs": {"t1": "none"},
        "accepted_by": "Test Reviewer", **changes,
    }  # fmt: skip
    return Request(**given)


@pytest.fixture(scope="module")
def predicted(digital_patient):
    """The shipped model on the digital patient, whose T1 has thicker slices than it was trained on."""
    return compute(request_of(digital_patient))


@pytest.fixture(scope="module")
def delivered(predicted, tmp_path_factory):
    out = tmp_path_factory.mktemp("learned") / "out"
    return out, deliver(predicted.result, predicted.planning, out)


def test_images_of_every_kind_are_found_and_the_prediction_is_checked(predicted):
    result = predicted.result
    model = result.images.map.model
    assert model.images_used == ("fdg", "hypoxia_pet", "ct")
    assert model.label == LABEL
    assert model.in_distribution, [f for f in model.distribution if not f.passed]
    assert {"PET (FDG)", "hypoxia_pet (PT)", "planning CT"} <= {s.role for s in result.series}
    assert len([s for s in result.series if s.modality == "CT"]) == 1
    low, high = model.hypoxic_volume_band_ml
    assert low < model.hypoxic_volume_ml < high
    assert model.baselines


def test_its_volume_lies_near_the_truth_of_the_digital_patient(predicted, digital_patient):
    found = predicted.result.images.map.volume.array
    truth = digital_patient.blurred_ratio.array
    inside = np.logical_or.reduce([g.array for g in predicted.result.images.gtvs])
    assert np.corrcoef(found[inside], truth[inside])[0, 1] > 0.8
    assert predicted.result.hypoxic_volume_ml == pytest.approx(
        np.count_nonzero(inside & (truth > 1.2)) * predicted.planning.volume.voxel_volume_ml, rel=0.5
    )


def test_its_subvolume_feeds_the_dose_painting_and_everything_carries_the_label(delivered):
    out, result = delivered
    assert {"PTV_7000", "PTV_7700", "GTVp_Sur"} <= {t.name for t in result.targets}
    assert result.proof
    assert all(row.passed for row in result.proof)
    for path in (out / "dicom").glob("*.dcm"):
        assert LABEL in pydicom.dcmread(path).SeriesDescription, path.name
    assert {"MAP_UNCERTAINTY.dcm", "MAP_ALEATORIC_SD.dcm", "MAP_EPISTEMIC_SD.dcm"} <= {
        p.name for p in (out / "dicom").iterdir()
    }
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count(LABEL) > 10
    assert "<h2>Model</h2>" in html
    assert "Standard deviation of the map, voxel by voxel" in html
    model = json.loads((out / "result.json").read_text(encoding="utf-8"))["model"]
    assert model["weights_sha256"] == list(result.images.map.model.weights_sha256)
    assert LABEL in (out / "targets.csv").read_text(encoding="utf-8")
    assert LABEL in result_lines(replace(result, truth={}), out)


def test_a_model_that_cannot_check_its_images_exports_only_with_an_override(digital_patient, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")  # without statistics of its training images
    params = {"flips": False, "device": "cpu", "bundle": str(bundle.folder)}
    loose = SubvolumeOptions(threshold=0.0, maximum_fraction_of_gtv=1.0)
    given = {"method_params": params, "subvolume": loose}
    computed = compute(request_of(digital_patient, override="volume Dr B: random weights", **given))
    assert not computed.result.images.map.model.in_distribution
    assert any("so it is not exported" in w for w in computed.result.warnings)
    with pytest.raises(LimitError, match="was trained on"):
        deliver(computed.result, computed.planning, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    failed = computed.result.images.map.model.failed_checks
    assert "features" in failed
    both = f"volume Dr B: random weights; distribution({', '.join(failed)}) Dr B: a test"
    result = replace(computed.result, request=replace(computed.result.request, override=both))
    delivered = deliver(result, computed.planning, tmp_path / "out")
    assert all(row.passed for row in delivered.proof)
    assert RANDOM_LABEL in pydicom.dcmread(tmp_path / "out" / "dicom" / "MAP.dcm").ContentDescription
    stored = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["model"]
    assert stored["distribution_override"] == f"Dr B: a test (checks lifted: {', '.join(failed)})"
    assert stored["origin"] == "user's bundle, not the shipped one"


def test_a_real_tumour_of_a_limb_is_not_exported(hypoxia_data, tmp_path):
    folder = hypoxia_data("ibsi_sts_008/dicom")
    computed = compute(
        Request(
            folder=str(folder), output="", method="learned_ratio", protocol="welz_77_70_35",
            method_params={"flips": False, "device": "cpu"}, gtv_rois=("GTV_Mass_CT",), accepted_by="Test Reviewer",
        )
    )  # fmt: skip
    model = computed.result.images.map.model
    site = next(finding for finding in model.distribution if finding.name == "body-site")
    assert (site.passed, site.value) == (False, "EXTREMITY (planning image, FDG PET, CT, T1-weighted MR)")
    with pytest.raises(LimitError, match=r"body site EXTREMITY .* so nothing is exported") as error:
        deliver(computed.result, computed.planning, tmp_path / "out")
    assert "distribution(body-site, " in error.value.hint
    others = [name for name in model.failed_checks if name != "body-site"]
    half = replace(computed.result.request, override=f"distribution({', '.join(others)}) Dr B: a test")
    with pytest.raises(LimitError, match="does not name body-site"):
        deliver(replace(computed.result, request=half), computed.planning, tmp_path / "out")
