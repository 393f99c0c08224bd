"""``hypoxia train``: configuration, split, samples, the loop, resuming, several processes."""

from __future__ import annotations

import copy
import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError, OutputError, RequestError
from HypoxiaMapperLib.inference.channels import CHANNELS, FUNCTIONAL, KEYS, N_INPUTS
from HypoxiaMapperLib.training.config import COMMON_SETS, ModalityDropout, SplitConfig, check_config, load_config
from HypoxiaMapperLib.training.dataset import Case, make_case, split_patients
from HypoxiaMapperLib.training.pairs import patient_folders, read_patient
from HypoxiaMapperLib.training.samples import Sampler, choose_images, cut, place

LIBRARY = Path(__file__).parents[2] / "HypoxiaMapper"
SHIPPED = LIBRARY / "HypoxiaMapperLib" / "training" / "configs" / "shipped.json"
TEXTS = {
    "name": "tiny",
    "title": "Tiny",
    "training_data": "8 simulated tumours",
    "intended_use": "tests",
    "licence": "Apache-2.0",
}
TINY = {
    "bundle": TEXTS,
    "data": {"patients": 8, "seed": 7, "workers": 1},
    "split": {"validation": 0.25},
    "network_def": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": N_INPUTS, "out_channels": 2, "channels": [4, 4, 8],
        "strides": [1, 2], "num_res_units": 0, "norm": "BATCH",
    },
    "members": 1, "epochs": 2, "batch": 3, "patch": 12, "crops_per_patient": 1, "warm_up_epochs": 1, "device": "cpu",
    "threads": 1, "seed": 5,
}  # fmt: skip


def written(folder: Path, **changes) -> Path:
    """A configuration file."""
    path = folder / "train.json"
    path.write_text(json.dumps({**TINY, **changes}), encoding="utf-8")
    return path


def fake_case(patient: str = "1", size: int = 16, missing: tuple[str, ...] = ()) -> Case:
    """A case whose images are their channel number and whose ratio says where it is."""
    present = np.array([key not in missing for key in KEYS])
    images = np.stack([np.full((size,) * 3, i + 1.0) * there for i, there in enumerate(present)]).astype(np.float16)
    gtv = np.zeros((size,) * 3, bool)
    gtv[5:11, 5:11, 5:11] = True
    ratio = np.fromfunction(lambda z, y, x: 1 + (z + 2 * y + 4 * x) / 64, (size,) * 3).astype(np.float16)
    return Case(patient, images, present, gtv, ratio, np.ones((len(KEYS), 3)), np.full((len(KEYS), 3), 2.0))


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


# --- configuration


def test_the_shipped_configuration_is_valid():
    config = load_config(SHIPPED)
    assert config.members == 5
    assert config.data.source == "simulated"


def change(path: str, value: object) -> dict:
    """The tiny configuration with one value changed; ``None`` removes it."""
    values = copy.deepcopy(TINY)
    *parents, last = path.split(".")
    inner = values
    for name in parents:
        inner = inner.setdefault(name, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("learning_rat", 0.1, "unknown key 'learning_rat'"),
        ("data.cohorts", "training", "unknown key 'cohorts'"),
        ("bundle", None, "'bundle' is missing"),
        ("bundle.title", None, "'title' is missing"),
        ("bundle.licence", " ", "licence"),
        ("epochs", "ten", "epochs is 'ten'"),
        ("epochs", True, "epochs is True"),
        ("epochs", 0, "epochs is 0"),
        ("batch", 2.5, "batch is 2.5"),
        ("learning_rate", -1.0, "learning_rate is -1.0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("patch", 13, "multiple of 4"),
        ("device", "tpu", "device is 'tpu'"),
        ("data.source", "web", "data.source"),
        ("data.source", "pairs", "data.folder"),
        ("split", {"validation": 0.6, "test": 0.5}, "no patient to train on"),
        ("split", 3, "JSON object"),
        ("modality_dropout", {"common_sets": [["ct"]]}, "common_sets"),
        ("modality_dropout", {"common_sets": [["fdg", "pet"]]}, "common_sets"),
        ("modality_dropout", {"common_sets": []}, "common_sets"),
        ("bundle.label", "validated", "simulated"),
    ],
)
def test_a_wrong_configuration_is_refused(path, value, words):
    with pytest.raises(RequestError) as caught:
        check_config(change(path, value))
    assert words in str(caught.value)


def test_a_broken_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no JSON"):
        load_config(tmp_path / "a.json")


# --- split


def test_no_patient_is_in_two_parts():
    names = [f"p{i}" for i in range(101)]
    parts = split_patients(names, SplitConfig(0.2, 0.1, seed=3))
    together = [name for part in parts.values() for name in part]
    assert sorted(together) == sorted(names)
    assert len(parts["validation"]) == 20
    assert len(parts["test"]) == 10
    assert split_patients(names[::-1], SplitConfig(0.2, 0.1, seed=3)) == parts
    assert split_patients(names, SplitConfig(0.2, 0.1, seed=4)) != parts


def test_too_few_patients_and_doubles_are_refused():
    with pytest.raises(InputError, match="to train"):
        split_patients(["a"], SplitConfig(0.5))
    with pytest.raises(InputError, match="to validate"):
        split_patients(["a", "b"], SplitConfig(0.0))
    with pytest.raises(InputError, match="twice"):
        split_patients(["a", "b", "a"], SplitConfig(0.5))


# --- samples


def test_every_sample_shows_a_functional_image():
    random = np.random.default_rng(1)
    present = np.array([key != "ktrans" for key in KEYS])
    shown = np.array([choose_images(present, ModalityDropout(), random) for _ in range(2000)])
    functional = [KEYS.index(key) for key in FUNCTIONAL]
    assert shown[:, functional].any(axis=1).all()
    assert not shown[:, KEYS.index("ktrans")].any()
    sets = {tuple(key for key, there in zip(KEYS, row, strict=True) if there) for row in shown}
    for keys in COMMON_SETS:
        assert tuple(key for key in KEYS if key in keys and key != "ktrans") in sets
    assert 0.35 < shown[:, KEYS.index("t1")].mean() < 0.65


def test_samples_keep_image_and_ratio_together():
    config = check_config({**TINY, "augmentation": {"noise": 0.0}, "batch": 16, "crops_per_patient": 16})
    (batch,) = list(Sampler([fake_case(missing=("adc",))], config).epoch(0, 0))
    assert batch.inputs.shape == (16, N_INPUTS, 12, 12, 12)
    for inputs, ratio, weight in zip(batch.inputs, batch.ratio, batch.weight, strict=True):
        assert inputs[-1].any(), "no GTV in the sample"
        assert np.array_equal(weight == 1, inputs[-1] == 1)
        assert not inputs[KEYS.index("adc")].any()
        for i in range(len(KEYS)):
            assert np.array_equal(inputs[i], (i + 1) * inputs[len(KEYS) + i])
        # Flipped or not, the ratio's steps along z, y, x stay 1, 2, 4 of 64.
        steps = [abs(float(np.diff(ratio, axis=axis).mean())) * 64 for axis in range(3)]
        assert steps == pytest.approx([1, 2, 4], rel=0.02)


def test_a_patch_larger_than_the_box_is_padded():
    case = fake_case(size=16)
    start = place(case, 24, np.random.default_rng(0))
    assert start.tolist() == [-4, -4, -4]
    padded = cut(case.gtv, start, 24)
    assert padded.sum() == case.gtv.sum()
    assert np.array_equal(padded[4:20, 4:20, 4:20], case.gtv)


def test_ranks_share_an_epoch():
    cases = [fake_case(str(i)) for i in range(8)]
    config = check_config({**TINY, "batch": 2})
    assert Sampler(cases, config).steps == 4
    assert Sampler(cases, config, 1, 2).steps == 2
    one = next(Sampler(cases, config, 0, 2).epoch(0, 0))
    same = next(Sampler(cases, config, 0, 2).epoch(0, 0))
    other = next(Sampler(cases, config, 1, 2).epoch(0, 0))
    assert np.array_equal(one.inputs, same.inputs)
    assert not np.array_equal(one.inputs, other.inputs)


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
    assert bundle.hypoxia["threshold"] == 1.2
    assert set(bundle.hypoxia["ranges"]) == set(KEYS)
    for entry in bundle.hypoxia["ranges"].values():
        assert entry["low"] <= entry["median"] <= entry["high"]
    assert bundle.network(0)(__import__("torch").zeros(1, N_INPUTS, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    assert json.loads((trained / "bundle" / "configs" / "train.json").read_text())["seed"] == 5
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
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    found, alone = weights(tmp_path / "run" / "bundle"), weights(trained / "bundle")
    assert found.keys() == alone.keys()
    assert any(not np.array_equal(found[name], alone[name]) for name in alone)
    assert len(list(csv.DictReader((tmp_path / "run" / "training_log.csv").open()))) == 2


# --- a site's own pairs


def make_patient(folder: Path, unit: str = "g/ml", frame: str = "1.2") -> None:
    from HypoxiaMapperLib.niftiio import write_nifti
    from HypoxiaMapperLib.volume import Volume

    folder.mkdir(parents=True)
    shape = (24, 24, 24)
    mask = np.zeros(shape, np.float32)
    mask[6:18, 6:18, 6:18] = 1
    random = np.random.default_rng(len(folder.name))
    for name, quantity, its_unit, values in (
        ("fdg", "SUVbw", unit, random.uniform(2, 12, shape)),
        ("ratio", "FMISO tissue-to-blood ratio", "{ratio}", random.uniform(0.8, 2, shape)),
        ("gtv", "mask", "1", mask),
    ):
        image = sitk.GetImageFromArray(values.astype(np.float32))
        image.SetSpacing((2.0, 2.0, 2.0))
        write_nifti(Volume(image, quantity, its_unit, frame if name == "fdg" else "1.2"), folder / f"{name}.nii.gz")


def test_a_sites_pairs_are_read(tmp_path):
    for name in ("anna", "bert"):
        make_patient(tmp_path / name)
    assert [folder.name for folder in patient_folders(tmp_path)] == ["anna", "bert"]
    values = change("data", {"source": "pairs", "folder": str(tmp_path)})
    values["bundle"] = {**TEXTS, "label": "trained at one site, not validated"}
    case = make_case(check_config(values).data, "anna")
    assert case.present.tolist() == [key == "fdg" for key in KEYS]
    assert case.gtv_ml == pytest.approx(24**3 / 1000, rel=0.05)
    assert 1.2 < float(case.ratio[case.gtv].astype(float).mean()) < 1.6
    channel = CHANNELS[0]
    fdg = case.images[0][case.gtv].astype(float) * channel.scale + channel.centre
    assert case.percentiles[0, 0] == pytest.approx(np.percentile(fdg, 1), abs=0.05)
    assert case.spacings_mm[0].tolist() == [2.0, 2.0, 2.0]


def test_broken_pairs_are_refused(tmp_path):
    with pytest.raises(InputError, match="patient folders"):
        patient_folders(tmp_path / "none")
    make_patient(tmp_path / "other frame", frame="9.9")
    with pytest.raises(GeometryError, match="frames of reference"):
        read_patient(tmp_path / "other frame")
    make_patient(tmp_path / "a")
    (tmp_path / "a" / "fdg.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="Quantity and Units"):
        read_patient(tmp_path / "a")
    make_patient(tmp_path / "b")
    (tmp_path / "b" / "ratio.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no ratio\.nii\.gz"):
        read_patient(tmp_path / "b")
    (tmp_path / "c").mkdir()
    make_patient(tmp_path / "d", unit="Bq/ml")
    values = change("data", {"source": "pairs", "folder": str(tmp_path)})
    values["bundle"] = {**TEXTS, "label": "x"}
    with pytest.raises(InputError, match="Bq/ml"):
        make_case(check_config(values).data, "d")
