"""A learned map says what it is everywhere, and leaves the house only if its images were like those of its training."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from HypoxiaDosePaintLib.cli_text import result_facts, result_lines
from HypoxiaDosePaintLib.dicomrt.common import object_label, private_provenance, title
from HypoxiaDosePaintLib.dicomrt.export import export_set
from HypoxiaDosePaintLib.dicomrt.proof_objects import _dose_item_faults
from HypoxiaDosePaintLib.dicomrt.verify import verify_set
from HypoxiaDosePaintLib.limits import (
    distribution_override,
    note_on_distribution,
    override_to_type,
    require_distribution,
)
from HypoxiaDosePaintLib.plots import fit_curve_svg
from HypoxiaDosePaintLib.report import report_html
from HypoxiaDosePaintLib.sidecar import result_to_json, write_targets_csv
from HypoxiaDosePaintLib.wording import map_mark
from HypoxiaMapperLib.errors import LimitError
from HypoxiaMapperLib.methods import Finding, FitCurve
from model_samples import DIGESTS, LABEL, OVERRIDE, WORDS, learned, learned_map, sample_model
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
    section = html[html.index("<h2>Model</h2>") : html.index("<h2>Patient and series</h2>")]
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
    for text in ("images         fdg, ct; without hypoxia_pet, adc", "5-95 % band 3.20 to 7.90",
                 "2 of 2 checks passed: FDG PET 1, CT 1; see report",
                 "scaled FDG: 6.10 ml", DIGESTS[0][:12]):  # fmt: skip
        assert text in lines
    asked = replace(result, request=replace(result.request, inputs={"adc": "none"}))
    assert "without hypoxia_pet, adc (left out as asked)" in result_lines(asked, tmp_path)
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
    assert '--override "distribution(fdg-range) name: reason"' in error.value.hint
    assert error.value.hint.startswith("Run without --accepted-by to see map and report. Then ")
    assert not (tmp_path / "out").exists()
    with pytest.raises(LimitError):
        export_set(learned(run, False, "dose Dr A: trial"), planning, tmp_path / "out")
    with pytest.raises(LimitError, match="The override by Dr A: trial does not name fdg-range"):
        export_set(learned(run, False, "distribution(ct-voxel-size) Dr A: trial"), planning, tmp_path / "out")
    overridden = learned(run, False, OVERRIDE)
    export_set(overridden, planning, tmp_path / "out")
    stored = private_provenance(pydicom.dcmread(tmp_path / "out" / "dicom" / "MAP.dcm"))["model"]
    assert stored["distribution_override"] == f"{WORDS} (checks lifted: fdg-range)"
    assert stored["checks_failed"] == ["fdg-range"]
    assert stored["in_distribution"] is False
    assert json.loads(result_to_json(overridden))["model"]["distribution_override"].startswith("Dr B. Example")
    assert "Overridden by Dr B. Example" in result_lines(overridden, tmp_path)


def test_what_is_said_of_the_distribution():
    run = sample_result(size=32)
    passed, failed = (learned_map(run.images.map, in_distribution=ok) for ok in (True, False))
    silent, named = run.request, replace(run.request, override="distribution(fdg-range) Dr B: x")
    require_distribution(run.images.map, silent)
    require_distribution(passed, silent)
    assert note_on_distribution(run.images.map, silent) == note_on_distribution(passed, named) == []
    assert note_on_distribution(failed, silent)[0].endswith("To lift it: distribution(fdg-range) name: reason")
    assert note_on_distribution(failed, named)[0].endswith("Overridden by Dr B: x (checks lifted: fdg-range).")
    words = 'only if you answer for the failed checks, --override "distribution(fdg-range) name: reason"'
    for shown, told in ((failed, True), (passed, False)):
        unaccepted = replace(run, images=replace(run.images, map=shown), accepted_by="", truth={})
        assert (words in result_lines(unaccepted, Path("out"))) == told


def test_an_override_lifts_the_checks_it_names_and_no_other():
    run = sample_result(size=32)
    failed = learned_map(run.images.map, in_distribution=False)
    spacing = Finding("CT voxel size", "9 mm", "at most 3 mm", False)
    both = replace(failed, model=replace(failed.model, distribution=(failed.model.distribution[0], spacing)))
    assert both.model.failed_checks == ("fdg-range", "ct-voxel-size")

    def lifted(hypoxia_map, override):
        return distribution_override(hypoxia_map, replace(run.request, override=override))

    assert lifted(failed, "distribution(fdg-range) Dr B: x")
    assert not lifted(both, "distribution(fdg-range) Dr B: x"), "signed before the CT was another one"
    assert not lifted(failed, "distribution Dr B: x"), "nothing was named"
    assert not lifted(failed, "distribution() Dr B: x")
    assert lifted(both, "distribution( ct-voxel-size,fdg-range ) Dr B: x").endswith(
        "(checks lifted: fdg-range, ct-voxel-size)"
    )
    assert lifted(both, override_to_type(both)) == "name: reason (checks lifted: fdg-range, ct-voxel-size)"
    unchecked = replace(failed, model=replace(failed.model, distribution=()))
    assert not lifted(unchecked, "distribution(fdg-range) Dr B: x")
    assert lifted(unchecked, override_to_type(unchecked)).endswith("(checks lifted: unchecked)")
    with pytest.raises(LimitError, match="nothing was compared"):
        require_distribution(unchecked, run.request)


def test_whose_model_it_is_stands_on_every_way_out(result, delivered, tmp_path):
    origin, digest = "not the shipped one", "c3" * 32
    html = report_html(result, {})
    assert "user&#39;s bundle, not the shipped one" in html
    assert digest in html
    assert f"identity       user's bundle, {origin}; metadata SHA-256 {digest[:12]}" in result_lines(result, tmp_path)
    stored = json.loads(result_to_json(result))["model"]
    assert (stored["origin"], stored["metadata_sha256"]) == (f"user's bundle, {origin}", digest)
    for path in (delivered[0] / "dicom").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        assert private_provenance(ds)["model"]["metadata_sha256"] == digest
        words = ds.ContributingEquipmentSequence[-1].ContributionDescription
        assert origin in words
        assert digest in words


def test_a_threshold_of_the_user_beside_the_models_own_cannot_be_overlooked(result, tmp_path):
    same = replace(result, threshold=1.2, comparison=">")
    other = replace(result, threshold=1.4, comparison=">")
    for text in (report_html(same, {}), result_lines(same, tmp_path)):
        assert (
            "cut at the model&#39;s own threshold &gt; 1.2" in text or "cut at the model's own threshold > 1.2" in text
        )
        assert "NOT at" not in text
    assert report_html(other, {}).count("NOT at &gt; 1.4 as this result: the volumes cannot be compared") == 2
    assert "NOT at > 1.4 as this result" in result_lines(other, tmp_path)


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
