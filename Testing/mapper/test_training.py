"""``hypoxia train``: the loop, resuming, several processes."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from HypoxiaMapperLib.errors import OutputError, RequestError
from HypoxiaMapperLib.inference.channels import KEYS, N_INPUTS
from training_samples import TINY

LIBRARY = Path(__file__).parents[2] / "HypoxiaMapper"


def written(folder: Path, **changes) -> Path:
    """A configuration file."""
    path = folder / "train.json"
    path.write_text(json.dumps({**TINY, **changes}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory) -> str:
    """Prepared patients, shared by all tests of this file."""
    return str(tmp_path_factory.mktemp("patients"))


def tiny(tiny_cache: str, **changes) -> dict:
    """Changes of the configuration that use the shared cache."""
    return {"data": {**TINY["data"], "cache": tiny_cache}, **changes}


def run(config: Path, out: Path, resume: bool = False) -> Path:
    pytest.importorskip("torch", reason="training needs torch")
    pytest.importorskip("monai", reason="training needs MONAI")
    pytest.importorskip("safetensors", reason="training needs safetensors")
    from HypoxiaMapperLib.training.loop import train

    return train(config, out, resume)


def weights(bundle: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(bundle / "models" / "member_0.safetensors")


# --- the loop


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_cache) -> Path:
    """A run of two epochs, uninterrupted."""
    folder = tmp_path_factory.mktemp("trained")
    run(written(folder, **tiny(tiny_cache)), folder / "run")
    return folder / "run"


def test_a_training_gives_a_bundle(trained):
    from HypoxiaMapperLib.inference.bundle import load_bundle

    bundle = load_bundle(trained / "bundle")
    assert bundle.label == "synthetic-trained, not clinically validated"
    assert bundle.hypoxia["body_parts"] == ["HEADNECK"]
    assert bundle.hypoxia["threshold"] == 1.2
    assert set(bundle.hypoxia["ranges"]) == set(KEYS)
    assert bundle.distribution is not None, "a bundle without its gate"
    assert bundle.hypoxia["scaled_fdg"], "a bundle without its baselines"
    for entry in bundle.hypoxia["ranges"].values():
        assert entry["low"] <= entry["median"] <= entry["high"]
    assert bundle.network(0)(__import__("torch").zeros(1, N_INPUTS, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    kept = json.loads((trained / "bundle" / "configs" / "train.json").read_text())
    assert kept["seed"] == 5
    assert kept["data"]["cache"] == "patients0", "a bundle does not tell where things lie on the computer it is from"
    rows = list(csv.DictReader((trained / "bundle" / "docs" / "training_log.csv").open()))
    assert [(row["member"], row["epoch"]) for row in rows] == [("0", "1"), ("0", "2")]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert not list((trained / "bundle").rglob("*.pt*"))


def test_the_same_seed_gives_the_same_weights(trained, tmp_path, tiny_cache):
    again = weights(run(written(tmp_path, **tiny(tiny_cache)), tmp_path / "run"))
    first = weights(trained / "bundle")
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    other = weights(run(written(tmp_path, **tiny(tiny_cache, seed=6)), tmp_path / "other"))
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(trained, tmp_path, tiny_cache, monkeypatch):
    from HypoxiaMapperLib.training import loop

    config, out = written(tmp_path, **tiny(tiny_cache)), tmp_path / "run"
    step, steps = loop.MemberTrainer._step, []

    def interrupted(self, *arguments):
        steps.append(1)
        if len(steps) == 4:  # in the second epoch of two batches
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(loop.MemberTrainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(config, out)
    monkeypatch.undo()
    assert not (out / "bundle").exists()
    with pytest.raises(OutputError, match="not empty"):
        run(config, out)
    resumed, whole = weights(run(config, out, resume=True)), weights(trained / "bundle")
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    rows = list(csv.DictReader((out / "training_log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    with pytest.raises(OutputError, match="finished"):
        run(config, out, resume=True)


def test_resuming_needs_the_same_configuration(trained, tmp_path, tiny_cache):
    with pytest.raises(RequestError, match="another configuration"):
        run(written(tmp_path, **tiny(tiny_cache, learning_rate=0.1)), trained, resume=True)
    with pytest.raises(RequestError, match="no training to resume"):
        run(written(tmp_path, **tiny(tiny_cache)), tmp_path / "empty", resume=True)


def test_members_side_by_side_are_the_same_members(trained, tmp_path, tiny_cache):
    bundle = run(written(tmp_path, **tiny(tiny_cache, members=2, parallel=2)), tmp_path / "run")
    found, alone = weights(bundle), weights(trained / "bundle")
    assert all(np.array_equal(found[name], alone[name]) for name in alone)
    assert (bundle / "models" / "member_1.safetensors").is_file()


def test_the_clock_ends_a_training(tmp_path, tiny_cache):
    out = tmp_path / "run"
    run(written(tmp_path, **tiny(tiny_cache, epochs=5000, minutes=0.02)), out)
    last = list(csv.DictReader((out / "training_log.csv").open()))[-1]
    assert int(last["epoch"]) < 5000
    assert float(last["seconds"]) < 20


def test_the_loss_falls_on_patients_it_sees(tmp_path, tiny_cache):
    out = tmp_path / "run"
    changes = {
        "epochs": 25,
        "warm_up_epochs": 25,
        "learning_rate": 0.01,
        "modality_dropout": {"common": 1.0, "common_sets": [["hypoxia_pet"]]},
    }
    run(written(tmp_path, **tiny(tiny_cache, **changes)), out)
    losses = [float(row["training_loss"]) for row in csv.DictReader((out / "training_log.csv").open())]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:2])


WORKER = """
import sys
from HypoxiaMapperLib.training.loop import train
print(train(sys.argv[1], sys.argv[2]))
"""


def test_two_processes_train_one_network(trained, tmp_path, tiny_cache):
    """Started as torchrun starts them; both see the gradients of both."""
    config = written(tmp_path, **tiny(tiny_cache))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "PYTHONPATH": str(LIBRARY),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(config), str(tmp_path / "run")],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    found, alone = weights(tmp_path / "run" / "bundle"), weights(trained / "bundle")
    assert found.keys() == alone.keys()
    assert any(not np.array_equal(found[name], alone[name]) for name in alone)
    assert len(list(csv.DictReader((tmp_path / "run" / "training_log.csv").open()))) == 2


def test_a_bundle_holds_the_last_part_of_folders_only():
    from HypoxiaMapperLib.training.config import check_config, without_places

    data = {"source": "pairs", "folder": "/home/jane.doe/trial/patients", "cache": "/scratch/jane.doe/cache"}
    ours = {"label": "ours", "body_parts": ["HEADNECK"]}
    config = check_config({**TINY, "bundle": {**TINY["bundle"], **ours}, "data": data})
    assert (without_places(config).data.folder, without_places(config).data.cache) == ("patients", "cache")
    assert without_places(check_config(TINY)).data.folder == ""


def test_training_asks_for_its_device_as_inference_does(monkeypatch):
    torch = pytest.importorskip("torch")
    from HypoxiaMapperLib.errors import RequestError
    from HypoxiaMapperLib.training.ranks import _device

    assert _device("cpu", 2) == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device("auto", 1).type == "mps"
    assert _device("auto", 2).type == "cpu", "MPS is one GPU for one process"
    with pytest.raises(RequestError, match="Several processes"):
        _device("mps", 2)
    with pytest.raises(RequestError, match="cuda is not available"):
        _device("cuda", 1)
