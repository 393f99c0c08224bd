"""Explanations: contributions add up, follow a network whose answer is known, and leaving images out is measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bundle_samples import make_bundle, scene
from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.inference.channels import KEYS
from HypoxiaMapperLib.inference.prepare import prepare

torch = pytest.importorskip("torch")
pytest.importorskip("monai")


class Sum(torch.nn.Module):
    """Ratio 1 + 2 fdg + fdg * ct: its integrated gradients are known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, box: torch.Tensor) -> torch.Tensor:
        ratio = self.weight * box[:, 0] + box[:, 0] * box[:, 2]
        return torch.stack([ratio, torch.zeros_like(ratio)], dim=1)


def _ensemble(*networks):
    from HypoxiaMapperLib.inference.tiles import Runner

    return SimpleNamespace(networks=list(networks), runner=Runner(torch.device("cpu")))


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    return Ensemble(make_bundle(tmp_path_factory.mktemp("explain") / "b"), "cpu")


@pytest.fixture(scope="module")
def prepared():
    images, regions = scene("fdg", "ct", "adc")
    return prepare(images, regions["gtv"])


def test_contributions_of_a_known_function(prepared):
    from HypoxiaMapperLib.inference.explain import integrated_gradients

    found = integrated_gradients(_ensemble(Sum()), prepared, steps=4)
    fdg, ct = prepared.inputs[0].astype(float), prepared.inputs[2].astype(float)
    share = prepared.gtv / prepared.gtv.sum()
    # A product of two images is shared equally between them.
    np.testing.assert_allclose(found.maps["fdg"], (2 * fdg + fdg * ct / 2) * share, atol=1e-6)
    np.testing.assert_allclose(found.maps["ct"], fdg * ct / 2 * share, atol=1e-6)
    assert not found.maps["adc"].any()
    assert set(found.maps) == {"fdg", "ct", "adc"}
    assert found.baseline == pytest.approx(1.0)
    assert abs(found.completeness_error) < 1e-5


def test_contributions_add_up_within_one_percent(ensemble, prepared):
    from HypoxiaMapperLib.inference.explain import integrated_gradients

    found = integrated_gradients(ensemble, prepared, steps=64)
    total = sum(float(m.sum(dtype=float)) for m in found.maps.values())
    assert total == pytest.approx(found.value - found.baseline, rel=0.01)
    assert abs(found.completeness_error) < 0.01
    assert found.value == pytest.approx(float(ensemble.mean_map(prepared.inputs)[prepared.gtv].mean()), abs=1e-5)


def test_the_shipped_network_is_complete_within_one_percent_at_the_default_steps():
    from HypoxiaMapperLib.inference.bundle import SHIPPED, load_bundle
    from HypoxiaMapperLib.inference.ensemble import Ensemble
    from HypoxiaMapperLib.inference.explain import integrated_gradients

    shipped = Ensemble(load_bundle(SHIPPED), "cpu")
    shipped.networks = shipped.networks[:1]  # one member is enough, and five times faster
    images, regions = scene("fdg", "ct")
    found = integrated_gradients(shipped, prepare(images, regions["gtv"]))
    assert abs(found.completeness_error) < 0.01


def test_a_part_of_the_gtv_can_be_explained(ensemble, prepared):
    from HypoxiaMapperLib.inference.explain import integrated_gradients

    part = prepared.gtv.copy()
    part[: part.shape[0] // 2] = False
    found = integrated_gradients(ensemble, prepared, part, steps=2)
    assert found.value == pytest.approx(float(ensemble.mean_map(prepared.inputs)[part].mean()), abs=1e-5)
    with pytest.raises(RequestError, match="empty"):
        integrated_gradients(ensemble, prepared, np.zeros_like(part))
    with pytest.raises(RequestError, match="0 steps"):
        integrated_gradients(ensemble, prepared, steps=0)


def test_occlusion_is_the_change_of_the_map(ensemble, prepared):
    from HypoxiaMapperLib.inference.explain import occlusion

    found = occlusion(ensemble, prepared)
    assert set(found) == {"fdg", "ct", "adc"}
    images, regions = scene("fdg", "adc")
    without = prepare(images, regions["gtv"])
    change = np.abs(ensemble.mean_map(without.inputs) - ensemble.mean_map(prepared.inputs))[prepared.gtv].mean()
    assert found["ct"] == pytest.approx(float(change))
    assert found["fdg"] > 0


def test_the_last_functional_image_is_not_left_out(ensemble):
    from HypoxiaMapperLib.inference.explain import occlusion

    images, regions = scene("fdg", "ct")
    assert set(occlusion(ensemble, prepare(images, regions["gtv"]))) == {"ct"}


def test_memory_that_runs_out_is_said(prepared):
    from HypoxiaMapperLib.inference.explain import integrated_gradients

    class Full(torch.nn.Module):
        def forward(self, box):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(HypoxiaError, match="does not fit the memory"):
        integrated_gradients(_ensemble(Full()), prepared)


def test_order_of_keys_is_that_of_the_channels():
    assert KEYS.index("fdg") == 0
    assert KEYS.index("ct") == 2
