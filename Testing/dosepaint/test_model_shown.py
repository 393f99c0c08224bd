"""A learned map says what it is everywhere, and leaves the house only if its images were like those of its training."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pydicom
import pytest
from pydicom import Dataset

from HypoxiaDosePaintLib.cli_text import result_facts, result_lines
from HypoxiaDosePaintLib.dicomrt.common import object_label, private_provenance, title
from HypoxiaDosePaintLib.dicomrt.export import export_set
from HypoxiaDosePaintLib.dicomrt.proof_objects import _dose_item_faults
from HypoxiaDosePaintLib.dicomrt.verify import verify_set
from HypoxiaDosePaintLib.limits import note_on_distribution, require_distribution
from HypoxiaDosePaintLib.plots import fit_curve_svg
from HypoxiaDosePaintLib.report import report_html
from HypoxiaDosePaintLib.sidecar import result_to_json, write_targets_csv
from HypoxiaDosePaintLib.wording import map_mark
from HypoxiaMapperLib.errors import LimitError
from HypoxiaMapperLib.methods import FitCurve
from model_samples import DIGESTS, LABEL, OVERRIDE, learned, learned_map, sample_model
from result_samples import sample_result
from rt_samples import make_run


@pytest.fixture(scope="module")
def result():
    return learned(sample_result(surrogate=True, size=48))


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A learned result, its exported set and the planning CT."""
    folder = tmp_path_factory.mktemp("learned")
    result, planning = make_run(folder)
    result = learned(result)
    return folder / "out", planning, export_set(result, planning, folder / "out")


def test_report_shows_the_model_beside_the_map(result):
    html = report_html(result, {})
    head = html[: html.index("<main>")]
    assert LABEL in head
    section = html[html.index("<h2>Model</h2>") : html.index("<h2>Targets</h2>")]
    model = sample_model()
    for text in (
        model.title, model.training_data, model.licence, "FDG PET, CT", "hypoxia PET, ADC", "5.31 ml",
        "5-95 % band 3.20 to 7.90 ml", "41.2 g/ml", "3.0 to 38.5 g/ml", "Every check passed", "scaled FDG",
        "0.71", "undefined", DIGESTS[0][:12], DIGESTS[1], "Without FDG PET", "0.123",
    ):  # fmt: skip
        assert text in section, text


def test_report_of_other_images_cannot_be_overlooked():
    strange = learned(sample_result(surrogate=True, accepted=False, size=48), in_distribution=False)
    assert "NOT every check passed: nothing is exported" in report_html(strange, {})
    overridden = report_html(replace(strange, request=replace(strange.request, override=OVERRIDE)), {})
    assert overridden.count("Dr B. Example: FDG of another scanner") >= 2


def test_a_model_without_uncertainty_says_so(result, tmp_path):
    silent = replace(result.images.map.model, hypoxic_volume_band_ml=(float("nan"), float("nan")))
    shown = replace(result, images=replace(result.images, map=replace(result.images.map, model=silent)))
    for text in (report_html(shown, {}), result_lines(shown, tmp_path)):
        assert "5-95 % band not given by this model" in text


def test_report_without_a_model_has_no_such_section():
    html = report_html(sample_result(size=48), {})
    assert "<h2>Model</h2>" not in html
    assert "trained" not in html[: html.index("<main>")]


def test_terminal_json_and_table_carry_the_label(result, tmp_path):
    lines = result_lines(result, tmp_path)
    assert lines.splitlines()[0].endswith(f"(SURROGATE, not a measurement of hypoxia; {LABEL})")
    for text in ("images         fdg, ct; without hypoxia_pet, adc", "5-95 % band 3.20 to 7.90", "2 of 2 checks passed",
                 "scaled FDG: 6.10 ml", DIGESTS[0][:12]):  # fmt: skip
        assert text in lines
    facts = result_facts(result, tmp_path)
    assert facts["model"]["weights_sha256"] == list(DIGESTS)
    assert LABEL in facts["map_label"]
    stored = json.loads(result_to_json(result))["model"]
    assert stored["weights_sha256"] == list(DIGESTS)
    assert stored["images_missing"] == ["hypoxia_pet", "adc"]
    assert stored["occlusion"] == {"fdg": 0.123, "ct": 0.004}
    assert stored["baselines"][1]["correlation"] is None
    assert stored["in_distribution"] is True
    assert stored["hypoxic_volume_band_ml"] == [3.2, 7.9]
    write_targets_csv(result, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    assert all(row["map_label"] == map_mark(result.images.map) for row in rows)
    assert json.loads(result_to_json(sample_result(size=32)))["model"] is None


def test_every_dicom_object_carries_the_label(delivered):
    out, planning, exported = delivered
    objects = {p.stem: pydicom.dcmread(p) for p in (out / "dicom").glob("*.dcm")}
    for name, ds in objects.items():
        assert LABEL in ds.SeriesDescription, name
        assert private_provenance(ds)["model"]["weights_sha256"] == list(DIGESTS)
    assert objects["MAP"].ContentLabel == "MODEL_PREDICTED"
    assert LABEL in objects["MAP"].ContentDescription
    assert all(LABEL in roi.ROIDescription for roi in objects["RTSTRUCT"].StructureSetROISequence)
    assert all(LABEL in s.SegmentDescription for s in objects["SEG"].SegmentSequence)
    descriptions = [item.DoseReferenceDescription for item in objects["RTPLAN"].DoseReferenceSequence]
    assert f"PTV_7700 77 Gy; {LABEL}" in descriptions
    assert all(len(text) <= 64 for text in descriptions)
    assert all(row.passed for row in verify_set(out, planning.info.files, exported.reference))
    assert "label of the model" in {row.structure for row in exported.proof}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("MAP", lambda ds: setattr(ds, "ContentDescription", "Hypoxia map"), "description of content lacks"),
        ("SEG", lambda ds: setattr(ds.SegmentSequence[0], "SegmentDescription", "x"), "description of segment"),
        ("RTPLAN", lambda ds: setattr(ds.DoseReferenceSequence[0], "DoseReferenceDescription",
                                      "PTV_7700 77 Gy in 35 fractions"), "is described as"),
    ],
)  # fmt: skip
def test_an_object_that_lost_its_label_fails_the_proof(delivered, tmp_path, name, change, said):
    out, planning, exported = delivered
    for path in (out / "dicom").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        if path.stem == name:
            change(ds)
        ds.save_as(tmp_path / path.name)
    rows = verify_set(tmp_path, planning.info.files, {**exported.reference, "files": {}})
    assert any(said in row.reason for row in rows if not row.passed)


def test_a_label_that_is_cut_at_a_blank_is_no_fault():
    item = Dataset()
    item.DoseReferenceType, item.DoseReferenceStructureType = "TARGET", "VOLUME"
    item.DoseReferenceDescription = "PTV_7000 70 Gy; research use only, non-commercial; not approved"
    label = "research use only, non-commercial; not approved for clinical use; FDG-derived, not measured hypoxia"
    facts = {"fractions": 35, "label": label}
    assert _dose_item_faults(item, "PTV_7000", 70.0, facts) == []
    assert _dose_item_faults(item, "PTV_7000", 70.0, {**facts, "label": f"not {label}"}) != []


def test_titles_keep_to_their_length():
    facts = {"surrogate": True, "label": LABEL}
    assert title(facts, "x" * 80) == f"Surrogate; {LABEL}"
    assert title(facts, "a b", "c d e f g") == f"Surrogate; {LABEL}; a b; c d"
    assert len(object_label(facts)) <= 16


def test_images_unlike_the_training_block_the_export_until_overridden(tmp_path):
    run, planning = make_run(tmp_path)
    with pytest.raises(LimitError) as error:
        export_set(learned(run, in_distribution=False), planning, tmp_path / "out")
    assert "FDG 99th percentile in the GTV 41.2 g/ml (allowed: 3.0 to 38.5 g/ml)" in error.value.message
    assert "CT spacing" not in error.value.message
    assert '--override "distribution' in error.value.hint
    assert not (tmp_path / "out").exists()
    with pytest.raises(LimitError):
        export_set(learned(run, False, "dose Dr A: trial"), planning, tmp_path / "out")
    overridden = learned(run, False, OVERRIDE)
    export_set(overridden, planning, tmp_path / "out")
    stored = private_provenance(pydicom.dcmread(tmp_path / "out" / "dicom" / "MAP.dcm"))["model"]
    assert stored["distribution_override"] == OVERRIDE.removeprefix("distribution ")
    assert stored["in_distribution"] is False
    assert json.loads(result_to_json(overridden))["model"]["distribution_override"].startswith("Dr B. Example")
    assert "Overridden by Dr B. Example" in result_lines(overridden, tmp_path)


def test_what_is_said_of_the_distribution():
    images = sample_result(size=32).images
    passed, failed = (learned_map(images.map, in_distribution=ok) for ok in (True, False))
    require_distribution(images.map, "")
    require_distribution(passed, "")
    assert note_on_distribution(images.map, "") == note_on_distribution(passed, "Dr B: x") == []
    assert "not exported" in note_on_distribution(failed, "")[0]
    assert note_on_distribution(failed, "Dr B: x")[0].endswith("Overridden by Dr B: x.")


def test_fit_curve_shows_points_line_and_residual():
    curve = FitCurve("GTV", (0.0, 1.0, 2.0), (1.0, 2.5, 3.0), (1.1, 2.2, 3.2), "Time (min)", "Concentration (mmol/L)")
    svg = fit_curve_svg(curve, "curve0")
    assert svg.startswith("<svg")
    assert svg == fit_curve_svg(curve, "curve0")
    run = sample_result(size=32)
    run = replace(run, images=replace(run.images, map=replace(run.images.map, curves=(curve, curve))))
    html = report_html(run, {})
    assert html.count("Measured mean of the region") == 2
    assert "curve0_" in html
    assert "curve1_" in html


def test_a_learned_map_without_its_model_is_refused():
    from types import SimpleNamespace

    from HypoxiaDosePaintLib.limits import require_model
    from HypoxiaMapperLib.errors import InputError
    from HypoxiaMapperLib.methods import all_methods

    nothing_told = SimpleNamespace(model=None)
    require_model(all_methods()["tracer_ratio"], nothing_told)
    for name in ("learned_ratio", "mskcc_tbr"):
        with pytest.raises(InputError, match="which model"):
            require_model(all_methods()[name], nothing_told)
