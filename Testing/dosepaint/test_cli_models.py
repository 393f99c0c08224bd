"""The commands around trained models, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle_samples import LABEL, make_bundle
from HypoxiaDosePaintLib.cli import build_parser, main
from HypoxiaDosePaintLib.cli_commands import request_from_arguments
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.inference.channels import KEYS

pytest.importorskip("torch")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code and both outputs of one command."""
    code = main(["--quiet", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPOXIA_SETTINGS", str(tmp_path / "settings.json"))


def test_models_lists_what_is_here_and_how_to_get_the_rest(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert "mskcc_tbr" in out
    assert "UNAVAILABLE: The user's own copy of latest_net_G.pth is not registered." in out
    assert "approved by an ethics board" in out
    assert "hypoxia models add mskcc_tbr latest_net_G.pth --accepted-by" in out
    facts = json.loads(run(capsys, "models", "--json")[1])
    assert facts["published"][0]["available"] is False
    if facts["shipped"]["available"]:
        assert facts["shipped"]["label"] == "synthetic-trained, not clinically validated"
        assert facts["shipped"]["label"] in out
        assert len(facts["shipped"]["sha256"]) >= 5
    else:
        assert facts["shipped"]["reason"] in out


def test_another_file_is_not_registered_and_a_person_must_be_named(capsys, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"no such network")
    code, _, err = run(capsys, "models", "add", "mskcc_tbr", str(tmp_path / "x.pth"), "--accepted-by", "A. Person")
    assert code == 3
    assert "is not the published latest_net_G.pth" in err
    assert not (tmp_path / "settings.json").exists()
    assert run(capsys, "models", "add", "other", "x", "--accepted-by", "A")[0] == 2
    with pytest.raises(SystemExit):
        main(["models", "add", "mskcc_tbr", str(tmp_path / "x.pth")])
    assert run(capsys, "models", "forget", "mskcc_tbr")[0] == 0


def test_check_names_the_model_and_finds_changed_weights(capsys, tmp_path):
    bundle = make_bundle(tmp_path / "b")
    code, out, _ = run(capsys, "models", "check", str(bundle.folder))
    assert code == 0
    assert LABEL in out
    assert bundle.sha256[1] in out
    assert "distribution check: MISSING" in out
    assert "body site: HEADNECK" in out
    assert json.loads(run(capsys, "models", "check", str(bundle.folder), "--json")[1])["members"] == 2
    data = bytearray(bundle.weights[0].read_bytes())
    data[-1] ^= 1
    bundle.weights[0].write_bytes(bytes(data))
    code, _, err = run(capsys, "models", "check", str(bundle.folder))
    assert code == 3
    assert "other or changed weights" in err


def test_simulated_patients_are_written_for_training_and_for_the_street(capsys, tmp_path):
    code, out, _ = run(capsys, "simulate", str(tmp_path / "n"), "--patients", "1", "--seed", "3")
    assert code == 0
    assert "simulated; no patient" in out
    (patient,) = (tmp_path / "n").iterdir()
    assert {f"{key}.nii.gz" for key in KEYS} <= {p.name for p in patient.iterdir()}
    words = ("simulate", str(tmp_path / "d"), "--patients", "2", "--format", "dicom", "--cohort", "shifted_scanner")
    facts = json.loads(run(capsys, *words, "--json")[1])
    assert facts["patients"] == ["shifted_scanner_1800000000", "shifted_scanner_1800000001"]
    found = scan_folder(tmp_path / "d" / facts["patients"][0])
    assert {s.role for s in found.series} >= {"planning_ct", "pet", "mr", "rtstruct"}
    assert run(capsys, *words)[0] == 6
    assert run(capsys, "simulate", str(tmp_path / "e"), "--patients", "0")[0] == 2


def test_train_hands_over_what_was_asked(capsys, tmp_path, monkeypatch):
    import HypoxiaMapperLib.training.loop as loop

    asked = []

    def fake(config, out, resume, progress):
        asked.append((config, out, resume))
        return out / "bundle"

    monkeypatch.setattr(loop, "train", fake)
    code, out, _ = run(capsys, "train", "c.json", "--output", str(tmp_path / "run"), "--resume")
    assert code == 0
    assert f"hypoxia run ... --method learned_ratio --bundle {tmp_path / 'run' / 'bundle'}" in out
    assert run(capsys, "train", "shipped", "--output", str(tmp_path / "run"))[0] == 0
    assert asked[0] == (Path("c.json"), tmp_path / "run", True)
    assert asked[1][0].is_file()
    assert not asked[1][2]


def test_train_refuses_a_configuration_with_its_reason(capsys, tmp_path):
    (tmp_path / "c.json").write_text('{"bundle": {"name": "x"}, "epoch": 3}', encoding="utf-8")
    code, _, err = run(capsys, "train", str(tmp_path / "c.json"), "--output", str(tmp_path / "run"))
    assert code == 2
    assert "epoch" in err
    assert not (tmp_path / "run").exists()
    assert run(capsys, "train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run"))[0] == 3


def test_evaluate_hands_over_what_was_asked(capsys, tmp_path, monkeypatch):
    import HypoxiaMapperLib.training.evaluation as evaluation

    asked = {}

    def judge(*given):
        asked["given"] = given
        path = Path(given[1])
        path.mkdir()
        (path / "summary.json").write_text('{"cohorts": {}}', encoding="utf-8")
        return path / "summary.json"

    monkeypatch.setattr(evaluation, "evaluate", judge)
    bundle = make_bundle(tmp_path / "b")
    words = ("evaluate", str(bundle.folder), "--output", str(tmp_path / "e"), "--patients", "7", "--seed", "2",
             "--cohort", "training", "--workers", "1")  # fmt: skip
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert str(tmp_path / "e" / "models.md") in out
    assert asked["given"][:5] == (bundle.folder, tmp_path / "e", ("training",), 7, 2)
    assert asked["given"][6] == 1
    assert run(capsys, "evaluate", str(tmp_path / "none"), "--output", str(tmp_path / "f"))[0] == 3


def test_a_bundle_becomes_a_parameter_of_the_method(tmp_path):
    words = ["run", "folder", "--method", "learned_ratio", "--protocol", "welz_77_70_35", "--out", "out", "--bundle",
             str(tmp_path / "b"), "--param", "flips=false", "--param", "device=cpu", "--input", "t1=none"]  # fmt: skip
    request = request_from_arguments(build_parser().parse_args(words))
    assert request.method_params == {"bundle": str(tmp_path / "b"), "flips": False, "device": "cpu"}
    assert request.inputs == {"t1": "none"}


def test_the_demo_knows_the_learned_method():
    assert build_parser().parse_args(["demo"]).method == "tracer_ratio"
    assert build_parser().parse_args(["demo", "--method", "learned_ratio"]).method == "learned_ratio"
