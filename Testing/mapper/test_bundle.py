"""Bundles: written and read back, and every way one can be wrong or hostile refused with file and field."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle_samples import NETWORK, make_bundle, make_states, metadata
from HypoxiaMapperLib.errors import InputError, OutputError, RequestError
from HypoxiaMapperLib.inference import bundle as bundle_module
from HypoxiaMapperLib.inference.bundle import METADATA, SHIPPED, amend_bundle, load_bundle, shipped_bundle, write_bundle
from HypoxiaMapperLib.inference.bundle import NETWORK as NETWORK_FILE

torch = pytest.importorskip("torch")
pytest.importorskip("monai")


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_bundle(tmp_path / "random").folder


def _edit(path: Path, change) -> None:
    """Change a JSON file in place: ``change`` gets its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _refused(folder: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_bundle(folder)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint


def test_what_is_written_is_read(tmp_path):
    states = make_states(2)
    bundle = write_bundle(tmp_path / "b", metadata(), NETWORK, states, {"limit": np.array([3.5])})
    assert (bundle.name, bundle.version, bundle.label) == ("random", "0.0.1", "random weights, for tests only")
    assert len(bundle.weights) == len(bundle.sha256) == 2
    for member, state in enumerate(states):
        for key, tensor in bundle.network(member).state_dict().items():
            assert torch.equal(tensor, state[key])
    assert bundle.distribution_tensors()["limit"] == pytest.approx(3.5)
    files = {p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*") if p.is_file()}
    assert {"LICENSE", "docs/README.md", METADATA, NETWORK_FILE, "models/member_0.safetensors"} <= files
    told = (bundle.folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "random weights, for tests only" in told
    assert "Body site: HEADNECK" in told
    assert not list(tmp_path.glob(".b*")), "a work folder was left behind"


def test_digests_are_those_of_the_files(folder):
    import hashlib

    bundle = load_bundle(folder)
    assert bundle.sha256 == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.weights)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, folder):
    with pytest.raises(OutputError, match="exists"):
        write_bundle(folder, metadata(), NETWORK, make_states(1))
    with pytest.raises(InputError, match="threshold"):
        write_bundle(tmp_path / "bad", metadata(threshold="high"), NETWORK, make_states(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["random"]
    with pytest.raises(RequestError, match="hypoxia"):
        write_bundle(tmp_path / "bad", {"version": "1"}, NETWORK, make_states(1))


def test_gate_and_ranges_are_added_later(folder):
    before = load_bundle(folder)
    after = amend_bundle(folder, {"limit": np.array([2.0])}, ranges={"fdg": {"low": 0.5, "high": 9.0}})
    assert after.sha256 == before.sha256
    assert after.hypoxia["ranges"] == {"fdg": {"low": 0.5, "high": 9.0}}
    assert float(after.distribution_tensors()["limit"][0]) == 2.0
    with pytest.raises(InputError, match=r"ranges\.fdg"):
        amend_bundle(folder, ranges={"fdg": {"low": 9.0, "high": 0.5}})
    assert load_bundle(folder).hypoxia["ranges"] == after.hypoxia["ranges"]


@pytest.mark.parametrize("field", ["contract", "label", "channels", "weights", "threshold", "ranges", "distribution"])
def test_missing_fields_are_named(folder, field):
    _edit(folder / METADATA, lambda m: m["hypoxia"].pop(field))
    _refused(folder, "metadata.json", f"hypoxia.{field}", "missing")


def test_missing_monai_fields_and_files_are_named(folder, tmp_path):
    _edit(folder / METADATA, lambda m: m.pop("monai_version"))
    _refused(folder, "monai_version")
    (folder / METADATA).unlink()
    _refused(folder, "metadata.json", "missing")
    _refused(tmp_path / "nowhere", "no bundle folder")
    second = make_bundle(tmp_path / "second")
    second.weights[1].unlink()
    _refused(second.folder, "member_1.safetensors", "missing")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("threshold", "1.2", "a number"),
        ("threshold", True, "a number"),
        ("threshold", float("nan"), "finite"),
        ("label", "", "empty"),
        ("label", 3, "a text"),
        ("comparison", "=>", "Valid: >"),
        ("contract", 2, "is 2"),
        ("required_any", [], "required_any"),
        ("required_any", ["pet"], "'pet'"),
        ("spacing_mm", 2.0, "2 mm"),
        ("weights", [], "weights"),
        ("ranges", {"fdg": {"low": 0}}, "hypoxia.ranges.fdg.high"),
        ("spacing_range_mm", {"fdg": [4, 2]}, "spacing_range_mm.fdg"),
        ("gtv_volume_range_ml", [1], "gtv_volume_range_ml"),
    ],
)
def test_wrong_values_are_named(folder, field, value, words):
    _edit(folder / METADATA, lambda m: m["hypoxia"].update({field: value}))
    _refused(folder, field, words)


def test_text_that_is_no_json_is_refused(folder):
    (folder / METADATA).write_text("{", encoding="utf-8")
    _refused(folder, "no JSON")
    (folder / METADATA).write_text("[" * 100_000, encoding="utf-8")
    _refused(folder, "no JSON")
    (folder / METADATA).write_text("[]", encoding="utf-8")
    _refused(folder, "no object")


def test_other_channels_are_refused(folder):
    _edit(folder / METADATA, lambda m: m["hypoxia"]["channels"][0].update({"high": 20.0}))
    _refused(folder, "channels", "20.0")
    _edit(folder / METADATA, lambda m: m["hypoxia"].update({"channels": m["hypoxia"]["channels"][1:]}))
    _refused(folder, "channels")


def test_changed_weights_are_refused_when_read_and_when_used(folder):
    bundle = load_bundle(folder)
    data = bytearray(bundle.weights[0].read_bytes())
    data[-1] ^= 1
    bundle.weights[0].write_bytes(bytes(data))
    _refused(folder, "member_0.safetensors", "SHA-256", "other or changed weights")
    with pytest.raises(InputError, match="other or changed weights"):
        bundle.network(0)  # changed between check and use


def test_changed_network_definition_is_refused(folder):
    _edit(folder / NETWORK_FILE, lambda m: m["network_def"].update({"act": "RELU"}))
    _refused(folder, "inference.json", "not the one the weights were trained with")


class _Evil:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["models/member_9.pt", "models/net.PTH", "models/x.pkl", "docs/last.ckpt"])
def test_a_pickle_in_the_bundle_is_refused_and_never_read(folder, tmp_path, name):
    (folder / name).write_bytes(pickle.dumps(_Evil(tmp_path / "executed")))
    _refused(folder, Path(name).name, "can execute code", "safetensors.torch.save_file")
    assert not (tmp_path / "executed").exists()


def test_a_pickle_under_another_name_is_not_executed(folder, tmp_path):
    import hashlib

    data = pickle.dumps(_Evil(tmp_path / "executed"))
    path = load_bundle(folder).weights[0]
    path.write_bytes(data)
    _edit(folder / METADATA, lambda m: m["hypoxia"]["weights"][0].update({"sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(InputError, match="no safetensors file"):
        load_bundle(folder).network(0)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("models/member_0.pth", "pickle"),
        ("../outside.safetensors", "models/"),
        ("models/../../outside.safetensors", "models/"),
        ("/etc/passwd", "models/"),
        ("models\\member_0.safetensors", "models/"),
        ("member_0.safetensors", "models/"),
    ],
)
def test_paths_that_leave_the_bundle_are_refused(folder, file, words):
    _edit(folder / METADATA, lambda m: m["hypoxia"]["weights"][0].update({"file": file}))
    _refused(folder, "weights[0].file", words)


def test_a_link_out_of_the_bundle_is_refused(folder, tmp_path):
    path = load_bundle(folder).weights[0]
    outside = tmp_path / "outside.safetensors"
    path.rename(outside)
    try:
        path.symlink_to(outside)
    except OSError:
        pytest.skip("this system gives no symbolic links to this user")
    _refused(folder, "points out of the bundle")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_target_": "monai.networks.nets.UNet"}, "plain name"),
        ({"_target_": "os.system"}, "plain name"),
        ({"_target_": "$import os"}, "plain name"),
        ({"_target_": 3}, "a text"),
        ({"act": "$__import__('os').system('true')"}, "expression"),
        ({"act": ["PRELU", {"init": "$1"}]}, "expression"),
        ({"channels": "@other"}, "expression"),
        ({"norm": {"_target_": "os.system"}}, "not an argument"),
        ({"_requires_": "x"}, "not an argument"),
        ({"pretrained": True}, "from elsewhere"),
    ],
)
def test_expressions_in_the_network_definition_are_refused(folder, change, words):
    _edit(folder / NETWORK_FILE, lambda m: m["network_def"].update(change))
    _refused(folder, "inference.json", words)


def test_networks_that_do_not_exist_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "b", metadata(), {**NETWORK, "_target_": "NoSuchNet"}, make_states(1))
    with pytest.raises(RequestError, match="NoSuchNet"):
        bundle.network(0)


def test_weights_of_another_network_are_refused_by_key(tmp_path):
    wider = {**NETWORK, "channels": [4, 8, 16]}
    bundle = write_bundle(tmp_path / "b", metadata(), wider, make_states(1))
    with pytest.raises(InputError, match="of another shape") as caught:
        bundle.network(0)
    assert "instead of" in str(caught.value)
    state = make_states(1)[0]
    state["extra.weight"] = state.pop("model.0.conv.weight")
    bundle = write_bundle(tmp_path / "c", metadata(), NETWORK, [state])
    with pytest.raises(InputError) as caught:
        bundle.network(0)
    assert "missing model.0.conv.weight" in str(caught.value)
    assert "left over extra.weight" in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = make_states(1)[0]
    state["model.0.conv.weight"][0] = float("nan")
    bundle = write_bundle(tmp_path / "b", metadata(), NETWORK, [state])
    with pytest.raises(InputError, match="not finite"):
        bundle.network(0)


def test_the_shipped_bundle_is_the_pinned_one():
    bundle = shipped_bundle()
    assert bundle.label == "synthetic-trained, not clinically validated"
    assert len(bundle.weights) == 5
    assert sum(path.stat().st_size for path in bundle.weights) <= 20 * 2**20
    assert bundle.distribution is not None
    for member in range(5):
        bundle.network(member)


def test_tampering_with_the_shipped_metadata_is_noticed(folder, monkeypatch):
    import hashlib

    monkeypatch.setattr(bundle_module, "SHIPPED", folder)
    digest = hashlib.sha256((folder / METADATA).read_bytes()).hexdigest()
    monkeypatch.setattr(bundle_module, "SHIPPED_METADATA_SHA256", digest)
    assert shipped_bundle().name == "random"
    windows = (folder / METADATA).read_bytes().replace(b"\n", b"\r\n")
    (folder / METADATA).write_bytes(windows)
    assert shipped_bundle().name == "random", "line ends of another system are no tampering"
    _edit(folder / METADATA, lambda m: m["hypoxia"].update({"label": "clinically validated"}))
    with pytest.raises(InputError, match="not the one this software was released with"):
        shipped_bundle()


def test_an_installation_without_the_bundle_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "SHIPPED", tmp_path / "absent")
    with pytest.raises(InputError, match="no shipped bundle"):
        shipped_bundle()


def test_a_bundle_says_whose_it_is(folder, tmp_path, monkeypatch):
    mine = load_bundle(folder)
    assert (mine.name, mine.is_shipped) == ("random", False)
    assert mine.origin == "user's bundle, not the shipped one"
    monkeypatch.setattr(bundle_module, "SHIPPED_METADATA_SHA256", mine.metadata_sha256)
    assert mine.origin == "the bundle this software was released with"
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    assert load_bundle(copied).is_shipped, "the same bytes in another folder are the same bundle"


@pytest.mark.parametrize("renamed", [False, True])
def test_an_edited_copy_of_the_shipped_bundle_is_marked(tmp_path, renamed):
    shutil.copytree(SHIPPED, tmp_path / "copy")

    def change(content):
        content["hypoxia"]["gtv_volume_range_ml"] = [0.001, 5000.0]
        if renamed:
            content["hypoxia"]["name"] = "mine"

    _edit(tmp_path / "copy" / METADATA, change)
    copy = load_bundle(tmp_path / "copy")
    assert copy.origin == "EDITED COPY of the shipped bundle, not the shipped one"
    assert copy.name == ("mine" if renamed else "hypoxia_synthetic_v1 (not the shipped one)")
    assert shipped_bundle().name == SHIPPED.name == "hypoxia_synthetic_v1"
