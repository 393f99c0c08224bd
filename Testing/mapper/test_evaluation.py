"""The evaluation runs whole, goes on where it stopped, and never judges a network on patients it has seen."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from evaluation_samples import TEXTS, tiny_bundle
from HypoxiaMapperLib.errors import OutputError, RequestError
from HypoxiaMapperLib.training.evaluation import EVALUATION_SEEDS, evaluate, evaluation_seeds, require_unseen
from HypoxiaMapperLib.training.evaluation_case import IMAGE_SETS, NETWORK
from HypoxiaMapperLib.training.summary import summarise, verdicts

COHORTS = ("training", "shifted_scanner")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    bundle = tiny_bundle(folder / "bundle")
    evaluate(bundle.folder, folder / "out", COHORTS, patients=2, workers=1)
    return bundle, folder / "out"


def test_every_map_of_every_patient_is_in_the_table(evaluated):
    with (evaluated[1] / "patients.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["cohort"], row["seed"]) for row in rows}) == 3
    maps = {images: {row["map"] for row in rows if row["images"] == images} for images in IMAGE_SETS}
    assert maps["FDG"] == {NETWORK, "scaled FDG", "linear regression"}
    assert maps["hypoxia PET"] == {NETWORK, "tracer ratio", "linear regression"}
    assert maps["all"] == {NETWORK, "scaled FDG", "tracer ratio", "linear regression"}
    truths = {(row["cohort"], row["seed"]): set() for row in rows}
    for row in rows:
        truths[row["cohort"], row["seed"]].add((row["gtv_ml"], row["true_volume_ml"]))
    assert all(len(found) == 1 for found in truths.values()), "maps of a patient are judged on other voxels"


def test_summary_and_card_are_written(evaluated):
    _, out = evaluated
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["cohorts"]) == list(COHORTS)
    cell = summary["cohorts"]["training"]["sets"]["all"]
    assert set(cell["network_against"]) == {"scaled FDG", "tracer ratio", "linear regression"}
    assert 0 <= cell["maps"][NETWORK]["coverage_90"] <= 1
    assert summary["gate"]["mistakes"]["FDG in voxels of 8 mm"]["gate_stopped"] == 1.0
    assert summary["gate"]["mistakes"]["FDG constant"]["gate_stopped"] == 1.0
    assert set(summary["simulator"]) == set(COHORTS)
    for cell in summary["planning_grid"].values():
        assert cell["patients"] == 2, "held-out patients only"
        assert cell["planning"]["mae"] == pytest.approx(cell["native"]["mae"], rel=0.1), (
            "another truth or another place"
        )
    card = (out / "models.md").read_text(encoding="utf-8")
    assert "synthetic-trained, not clinically validated" in card
    assert "### Through the planning grid" in card
    for picture in ("calibration", "bland_altman"):
        assert (out / "pictures" / f"{picture}.png").stat().st_size > 10_000


def test_measured_ratio_is_judged_as_what_the_hypoxia_pet_shows(evaluated):
    """The tracer ratio of the table is the simulated scan, sampled by other means here."""
    import SimpleITK as sitk

    from HypoxiaMapperLib.simulate.cohort import simulate_case

    rows = [json.loads(line) for line in (evaluated[1] / "rows.jsonl").read_text().splitlines()]
    (mine,) = (r for r in rows if (r["cohort"], r["seed"]) == ("training", EVALUATION_SEEDS.start))
    (row,) = (r for r in mine["rows"] if (r["images"], r["map"]) == ("hypoxia PET", "tracer ratio"))
    case = simulate_case(EVALUATION_SEEDS.start)
    grid = case.gtv.mask
    scan, truth = (
        sitk.GetArrayFromImage(sitk.Resample(volume.image, grid, sitk.Transform(), sitk.sitkLinear))
        for volume in (case.images["hypoxia_pet"], case.truth_ratio)
    )
    inside = case.gtv.array
    assert row["mae"] == pytest.approx(np.abs(scan[inside] - truth[inside]).mean(), rel=0.1)
    assert row["r"] == pytest.approx(np.corrcoef(scan[inside], truth[inside])[0, 1], abs=0.05)
    assert row["gtv_ml"] == pytest.approx(case.gtv.volume_ml, rel=0.05)


def test_interrupted_evaluation_goes_on_and_ends_the_same(evaluated, tmp_path):
    bundle, out = evaluated
    lines = (out / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "evaluation.json").write_bytes((out / "evaluation.json").read_bytes())
    (tmp_path / "rows.jsonl").write_text("".join(lines[:2]) + lines[2][: len(lines[2]) // 2], encoding="utf-8")
    told = []
    evaluate(bundle.folder, tmp_path, COHORTS, 2, progress=lambda fraction, text: told.append(text), workers=1)
    assert sum("patients judged" in text for text in told) == 1, "only the patient cut off is judged again"
    assert (tmp_path / "summary.json").read_text() == (out / "summary.json").read_text()


def test_folder_of_another_evaluation_is_refused(evaluated, tmp_path):
    bundle, out = evaluated
    with pytest.raises(OutputError, match="another bundle or seed"):
        evaluate(bundle.folder, out, COHORTS, patients=2, seed=1)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        evaluate(bundle.folder, tmp_path, COHORTS, patients=2)


def test_network_is_never_judged_on_patients_it_was_trained_on(evaluated):
    bundle, _ = evaluated
    path = bundle.folder / "configs" / "train.json"
    seeds = evaluation_seeds(100, 0)
    data = {"source": "simulated", "patients": 20, "seed": EVALUATION_SEEDS.start - 10}
    path.write_text(json.dumps({"bundle": TEXTS, "data": data}))
    with pytest.raises(RequestError, match=f"{EVALUATION_SEEDS.start}, which is kept for evaluation"):
        require_unseen(bundle, seeds)
    path.write_text(json.dumps({"bundle": TEXTS, "data": {**data, "patients": 10}}))
    require_unseen(bundle, seeds)
    path.unlink()


def test_two_mirror_images_at_a_time_give_the_map_of_one_at_a_time(evaluated):
    from evaluation_samples import plain_case
    from HypoxiaMapperLib.inference.ensemble import FLIPS, Ensemble
    from HypoxiaMapperLib.training.evaluation import PairedEnsemble
    from HypoxiaMapperLib.training.samples import assemble

    case = plain_case(5)
    inputs = assemble(case.images.astype(np.float32), case.gtv, case.present)
    one, two = (list(kind(evaluated[0], "cpu")._passes(inputs, FLIPS)) for kind in (Ensemble, PairedEnsemble))
    assert len(one) == len(two) == 16
    for a, b in zip(one, two, strict=True):
        assert np.allclose(a, b, atol=1e-4)


def test_wrong_requests_name_what_is_valid(evaluated, tmp_path):
    bundle, _ = evaluated
    with pytest.raises(RequestError, match="no simulated cohort 'mars'"):
        evaluate(bundle.folder, tmp_path / "a", ("mars",))
    with pytest.raises(RequestError, match="0 patients"):
        evaluate(bundle.folder, tmp_path / "a", COHORTS, patients=0)
    assert set(evaluation_seeds(5, 0)).isdisjoint(evaluation_seeds(5, 1))


def row(seed, name, mae, **more):
    moments = {"count": 10, "p": 10, "t": 11, "pp": 11, "pt": 12, "tt": 13}
    facts = {"cohort": "training", "seed": seed, "images": "FDG", "map": name, "gtv_ml": 10.0}
    return (
        facts
        | {"true_volume_ml": 4.0, "volume_ml": 4.0 + mae, "r": 0.5, "mae": mae, "dice": 0.7, "moments": moments}
        | more
    )


def test_summary_says_where_the_network_is_worse():
    trust = {
        "interval_hits": [1] * 9,
        "reliability": np.zeros((3, 15)).tolist(),
        "volume_low_ml": 3,
        "volume_high_ml": 5,
    }
    noise = np.random.default_rng(1).normal(0, 0.01, 40)
    rows = [row(i, NETWORK, 0.3 + noise[i], error_slope=1.0, **trust) for i in range(40)]
    rows += [row(i, "scaled FDG", 0.2 + noise[39 - i]) for i in range(40)]
    rows += [row(i, "linear regression", 0.4) for i in range(40)]
    cohorts = json.loads(json.dumps(summarise(rows, seed=1), allow_nan=False))
    found = verdicts(cohorts)
    assert found["worse"] == [("training", "FDG", "scaled FDG")]
    assert found["better"] == [("training", "FDG", "linear regression")]
    numbers = cohorts["training"]["sets"]["FDG"]["maps"][NETWORK]
    assert numbers["volume_band_coverage"] == 1.0
    assert numbers["volume_bias_ml"] == pytest.approx(0.3 + noise.mean(), abs=1e-5)
