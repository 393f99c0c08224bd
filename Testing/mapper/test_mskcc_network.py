"""The MSKCC generator written fresh: published names and shapes, strict loading, and no pickle that is run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest

from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.inference.mskcc import tensors_of
from HypoxiaMapperLib.inference.mskcc_network import make_generator, own_state, published_names

torch = pytest.importorskip("torch", reason="torch is not installed (pip install torch)")

SHAPES = {  # of the published file, by the place of a layer in its nested blocks
    "model.0": (64, 1, 4, 4), "model.1.model.1": (128, 64, 4, 4), "model.1.model.3.model.1": (128, 128, 4, 4),
    "model.1.model.3.model.3": (128, 128, 4, 4), "model.1.model.5": (256, 64, 4, 4), "model.4": (128, 1, 4, 4),
}  # fmt: skip
TRANSPOSED = ("model.3", "model.5", "model.4")


def published_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors under the names and shapes of the published file."""
    generator = torch.Generator().manual_seed(seed)
    own = {}
    for place, shape in SHAPES.items():
        own[f"{place}.weight"] = torch.randn(shape, generator=generator) * 0.05
        outputs = shape[1] if place.endswith(TRANSPOSED) else shape[0]
        own[f"{place}.bias"] = torch.randn(outputs, generator=generator) * 0.05
    own["model.3.excitation.0.weight"] = torch.randn((8, 128), generator=generator) * 0.05
    own["model.3.excitation.2.weight"] = torch.randn((128, 8), generator=generator) * 0.05
    state = {}
    for name, tensor in own.items():
        for block in ("model.", "unet_block_3."):
            state[block + name] = tensor
        if name.startswith("model.1."):
            state["unet_block_2." + name.removeprefix("model.1.")] = tensor
        if name.startswith("model.1.model.3."):
            state["unet_block_1." + name.removeprefix("model.1.model.3.")] = tensor
    return state


def test_network_has_the_published_names_and_shapes_and_loads_strictly():
    published = published_state()
    assert {name for several in published_names().values() for name in several} == set(published)
    assert len(published) == 40
    network = make_generator()
    network.load_state_dict(own_state(published), strict=True)
    assert sum(p.numel() for p in network.parameters()) == 923_137
    patches = torch.rand((3, 1, 32, 32)) * 2 - 1
    with torch.inference_mode():
        output = network(patches)
        assert output.shape == (3, 1, 32, 32)
        assert float(output.abs().max()) <= 1.0
        # No batch statistics, no dropout: a patch alone gives what it gives among others, again and again.
        assert torch.allclose(network(patches[1:2]), output[1:2], atol=1e-6)
        assert torch.equal(network(patches), output)
    assert not network.training


def test_every_tensor_has_a_say_in_the_output():
    state = own_state(published_state())
    patches = torch.rand((1, 1, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1
    network = make_generator()

    def run(changed):
        network.load_state_dict(changed, strict=True)
        with torch.inference_mode():
            return network(patches)

    before = run(state)
    for name, tensor in state.items():
        same = torch.allclose(run({**state, name: tensor * 1.5 + 0.1}), before, atol=1e-5)
        # A constant before an instance normalisation is taken away by it.
        assert same == (name in ("down_2.bias", "up_3.bias", "up_2.bias")), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("model.model.4.bias"), r"lacks model\.model\.4\.bias"),
        (lambda s: s.update({"model.model.9.weight": torch.zeros(1)}), r"has unknown model\.model\.9\.weight"),
        (lambda s: s.update({"unet_block_1.model.1.bias": torch.zeros(128)}), "two different tensors"),
    ],
)
def test_another_state_dict_is_refused(change, words):
    state = published_state()
    change(state)
    with pytest.raises(InputError, match=words):
        own_state(state)


class _Executes:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_executes_is_never_run_even_with_the_right_digest(tmp_path):
    victim, stream = tmp_path / "executed", io.BytesIO()
    torch.save({"model.model.0.weight": _Executes(victim)}, stream)
    for data in (stream.getvalue(), pickle.dumps(_Executes(victim)), b"", b"no file of any kind"):
        with pytest.raises(InputError, match="no plain tensors"):
            tensors_of(data)
    assert not victim.exists()


def test_plain_tensors_are_read():
    stream = io.BytesIO()
    torch.save(published_state(), stream)
    found = tensors_of(stream.getvalue())
    assert torch.equal(found["model.model.4.bias"], published_state()["model.model.4.bias"])
    torch.save([1, 2], stream := io.BytesIO())
    with pytest.raises(InputError, match="something else"):
        tensors_of(stream.getvalue())
