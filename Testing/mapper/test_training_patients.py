"""``hypoxia train``: configuration, split by patient, samples, a site's own pairs, networks from plain names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.inference.channels import CHANNELS, FUNCTIONAL, KEYS, N_INPUTS
from HypoxiaMapperLib.training.config import COMMON_SETS, ModalityDropout, SplitConfig, check_config, load_config
from HypoxiaMapperLib.training.dataset import Case, make_case, split_patients
from HypoxiaMapperLib.training.pairs import patient_folders, read_patient
from HypoxiaMapperLib.training.samples import Sampler, choose_images, cut, place
from training_samples import TEXTS, TINY, change

SHIPPED = Path(__file__).parents[2] / "HypoxiaMapper" / "HypoxiaMapperLib" / "training" / "configs" / "shipped.json"


def fake_case(patient: str = "1", size: int = 16, missing: tuple[str, ...] = ()) -> Case:
    """A case whose images are their channel number and whose ratio says where it is."""
    present = np.array([key not in missing for key in KEYS])
    images = np.stack([np.full((size,) * 3, i + 1.0) * there for i, there in enumerate(present)]).astype(np.float16)
    gtv = np.zeros((size,) * 3, bool)
    gtv[5:11, 5:11, 5:11] = True
    ratio = np.fromfunction(lambda z, y, x: 1 + (z + 2 * y + 4 * x) / 64, (size,) * 3).astype(np.float16)
    return Case(patient, images, present, gtv, ratio, np.ones((len(KEYS), 3)), np.full((len(KEYS), 3), 2.0))


# --- configuration


def test_the_shipped_configuration_is_valid():
    config = load_config(SHIPPED)
    assert config.members == 5
    assert config.data.source == "simulated"


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


# --- the network from plain names


def test_outputs_are_mean_ratio_and_variance():
    torch = pytest.importorskip("torch", reason="networks need torch")
    from HypoxiaMapperLib.inference.network import split_output

    output = torch.zeros(1, 2, 1, 1, 3)
    output[0, 0, 0, 0] = torch.tensor([-0.5, 0.0, 1.0])
    output[0, 1, 0, 0] = torch.tensor([-100.0, 0.0, 100.0])
    mean, variance = split_output(output)
    assert mean.flatten().tolist() == [0.5, 1.0, 2.0]
    assert variance.flatten().tolist() == pytest.approx([np.exp(-9), 1.0, np.exp(3)], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_target_": "os.system"}, "os.system"),
        ({"_target_": "NoSuchNet"}, "NoSuchNet"),
        ({"_target_": "unet"}, "unet"),  # a module of that package, no network
        ({"in_channels": 3}, "in_channels"),
        ({"out_channels": 1}, "out_channels"),
        ({"act": "$__import__('os')"}, "could run code"),
        ({"colour": 3}, "colour"),
        ({"channels": [4]}, "channels"),
    ],
)
def test_a_network_that_is_no_plain_one_is_refused(changes, words):
    pytest.importorskip("monai", reason="networks need MONAI")
    from HypoxiaMapperLib.inference.network import make_network

    with pytest.raises((InputError, RequestError)) as caught:
        make_network({**TINY["network_def"], **changes})
    assert words in str(caught.value)


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
    values["bundle"] = {**TEXTS, "label": "trained at one site, not validated", "body_parts": ["CERVIX"]}
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
    values["bundle"] = {**TEXTS, "label": "x", "body_parts": ["HEADNECK"]}
    with pytest.raises(InputError, match="Bq/ml"):
        make_case(check_config(values).data, "d")


def test_a_ratio_that_is_its_own_input_is_refused(tmp_path):
    make_patient(tmp_path / "a")
    for suffix in (".nii.gz", ".json"):
        shutil.copy(tmp_path / "a" / f"ratio{suffix}", tmp_path / "a" / f"hypoxia_pet{suffix}")
    with pytest.raises(InputError, match="hypoxia_pet is the ratio itself"):
        read_patient(tmp_path / "a")
