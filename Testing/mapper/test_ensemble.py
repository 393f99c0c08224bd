"""Ensemble, mirror images, band of volume, tiles and devices: sums checked by hand, memory checked by running out."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from bundle_samples import make_bundle, scene
from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.inference.prepare import prepare

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
NO_GPU = "this machine has no CUDA device: the comparison of GPU and CPU runs where there is one"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("ensemble") / "b", 3)


@pytest.fixture(scope="module")
def prepared():
    images, regions = scene("fdg", "ct")
    return prepare(images, regions["gtv"])


def _ensemble(bundle, *networks, **options):
    """An ensemble of given networks."""
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    found = Ensemble(bundle, "cpu", **options)
    if networks:
        found.networks = list(networks)
    return found


class Known(torch.nn.Module):
    """Ratio 1 + slope * (fdg + position along x * uneven), log variance as given."""

    def __init__(self, slope: float, log_variance: float = -2.0, uneven: float = 0.0) -> None:
        super().__init__()
        self.slope, self.log_variance, self.uneven = slope, log_variance, uneven

    def forward(self, box):
        x = torch.arange(box.shape[-1], dtype=torch.float32, device=box.device)
        ratio = self.slope * (box[:, 0] + self.uneven * x)
        return torch.stack([ratio, torch.full_like(ratio, self.log_variance)], dim=1)


def test_variances_add_up_as_stated(bundle, prepared):
    found = _ensemble(bundle, Known(0.1, -2.0), Known(0.3, -4.0)).predict(prepared)
    fdg = prepared.inputs[0].astype(float)
    np.testing.assert_allclose(found.mean, 1 + 0.2 * fdg, atol=1e-6)
    np.testing.assert_allclose(found.epistemic_sd, np.abs(0.1 * fdg), atol=1e-4)
    np.testing.assert_allclose(found.aleatoric_sd, np.sqrt((np.exp(-2) + np.exp(-4)) / 2), rtol=1e-5)
    np.testing.assert_allclose(found.sd**2, found.aleatoric_sd**2 + found.epistemic_sd**2, rtol=1e-5)
    np.testing.assert_allclose(found.members[1], 1 + 0.3 * fdg, atol=1e-6)
    assert {a.dtype for a in (found.mean, found.sd, found.members, found.epistemic_sd)} == {np.dtype(np.float32)}


def test_eight_mirror_images_are_flipped_back(bundle, prepared):
    from HypoxiaMapperLib.inference.ensemble import FLIPS

    assert len(set(FLIPS)) == 8
    assert FLIPS[0] == ()
    # A network that works voxel by voxel does not care how its box is held.
    even = _ensemble(bundle, Known(0.2)).predict(prepared)
    np.testing.assert_allclose(even.mean, 1 + 0.2 * prepared.inputs[0], atol=1e-6)
    assert even.epistemic_sd.max() < 1e-3
    # One that leans to one side is evened out, and the leaning counts as spread.
    lean = _ensemble(bundle, Known(0.1, uneven=0.5)).predict(prepared)
    middle = (prepared.gtv.shape[2] - 1) / 2
    np.testing.assert_allclose(lean.mean, 1 + 0.1 * (prepared.inputs[0] + 0.5 * middle), atol=1e-5)
    assert lean.epistemic_sd[0, 0, 0] == pytest.approx(0.1 * 0.5 * middle, rel=1e-4)


def test_the_gtv_is_mirrored_with_the_images(bundle, prepared):
    class Gtv(torch.nn.Module):
        def forward(self, box):
            return torch.stack([box[:, -1], torch.zeros_like(box[:, 0])], dim=1)

    crooked = prepared.gtv.copy()
    crooked[:, : crooked.shape[1] // 2] = False
    inputs = prepared.inputs.copy()
    inputs[-1] = crooked
    found = _ensemble(bundle, Gtv()).predict(SimpleNamespace(inputs=inputs, gtv=crooked))
    np.testing.assert_array_equal(found.mean, 1 + crooked.astype(np.float32))


def test_mirror_images_can_be_left_out(bundle, prepared):
    lean = _ensemble(bundle, Known(0.1, uneven=0.5)).predict(prepared, flips=False)
    x = np.arange(prepared.gtv.shape[2])
    np.testing.assert_allclose(lean.mean, 1 + 0.1 * (prepared.inputs[0] + 0.5 * x), atol=1e-5)
    assert lean.epistemic_sd.max() < 1e-3


def test_the_same_bits_every_time(bundle, prepared):
    first, second = (_ensemble(bundle).predict(prepared) for _ in range(2))
    for name in ("mean", "sd", "members", "aleatoric_sd", "epistemic_sd"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_network_gone_wrong_is_refused(bundle, prepared):
    with pytest.raises(InputError, match="not finite"):
        _ensemble(bundle, Known(float("nan"))).predict(prepared)


def _prediction(members, sd):
    members = np.asarray(members, np.float32)
    spread = np.full(members.shape[1:], sd, np.float32)
    return SimpleNamespace(members=members, aleatoric_sd=spread)


def test_the_band_spans_the_members_when_there_is_no_noise():
    from HypoxiaMapperLib.inference.ensemble import volume_band

    gtv = np.ones((10, 10, 10), bool)
    members = np.ones((2, 10, 10, 10))
    members[0, :2] = 1.5  # 20 % above the threshold in one, 60 % in the other
    members[1, :6] = 1.5
    assert volume_band(_prediction(members, 0.0), gtv, 1.2, ">", 50.0) == pytest.approx((10.0, 30.0))


def test_noise_is_correlated_and_has_the_stated_size():
    from HypoxiaMapperLib.inference.ensemble import _noise

    fields = np.stack(list(_noise((12, 12, 12), 3)))
    assert fields.std() == pytest.approx(1.0, abs=0.03)
    assert np.abs(fields.std(axis=0) - 1).max() < 0.3, "edges must be as noisy as the middle"
    neighbours = (fields[..., 1:] * fields[..., :-1]).mean()
    # Autocorrelation of white noise smoothed by a Gaussian of 6 mm FWHM at one voxel's (3 mm) distance.
    assert neighbours == pytest.approx(0.5**0.5, abs=0.05)
    assert abs((fields[..., 6:] * fields[..., :-6]).mean()) < 0.05


def test_noise_widens_the_band_and_the_seed_fixes_it():
    from HypoxiaMapperLib.inference.ensemble import volume_band

    gtv = np.ones((10, 10, 10), bool)
    members = np.full((3, 10, 10, 10), 1.2)
    narrow, wide = (volume_band(_prediction(members, sd), gtv, 1.2, ">", 27.0) for sd in (0.0, 0.3))
    assert narrow == (0.0, 0.0)
    assert 0 < wide[0] < 13.5 < wide[1] < 27.0
    assert volume_band(_prediction(members, 0.3), gtv, 1.2, ">", 27.0) == wide
    assert volume_band(_prediction(members, 0.3), gtv, 1.2, ">", 27.0, seed=1) != wide


class Limited(torch.nn.Module):
    """Voxel-wise, and out of memory above so many voxels."""

    def __init__(self, voxels: int, message: str = "CUDA out of memory. Tried to allocate 20.00 GiB") -> None:
        super().__init__()
        self.voxels, self.message, self.sizes = voxels, message, []

    def forward(self, box):
        self.sizes.append(tuple(box.shape[2:]))
        if box[0, 0].numel() > self.voxels:
            raise RuntimeError(self.message)
        return torch.stack([0.1 * box[:, 0], torch.zeros_like(box[:, 0])], dim=1)


@pytest.fixture(scope="module")
def large():
    images, regions = scene("fdg", shape=(64, 64, 64), radius_mm=60.0)
    return prepare(images, regions["gtv"])


@pytest.mark.parametrize("message", ["CUDA out of memory.", "DefaultCPUAllocator: can't allocate memory"])
def test_out_of_memory_halves_the_tiles_and_goes_on(bundle, large, message):
    network = Limited(40**3, message)
    found = _ensemble(bundle, network).predict(large, flips=False)
    np.testing.assert_allclose(found.mean, 1 + 0.1 * large.inputs[0], atol=1e-5)
    assert "memory ran out" in found.device_text
    assert "tiles of" in found.device_text
    assert all(n % 4 == 0 for size in network.sizes for n in size)


def test_below_the_smallest_tile_it_says_so(bundle, large):
    with pytest.raises(HypoxiaError, match="does not fit the memory"):
        _ensemble(bundle, Limited(1)).predict(large, flips=False)


def test_a_gpu_that_is_too_small_hands_over_to_the_cpu(large, monkeypatch):
    from HypoxiaMapperLib.inference import tiles

    # A device that is not the CPU to the software, and fails whatever is asked of it.
    runner = tiles.Runner(torch.device("cpu"))
    runner.device = torch.device("meta")
    monkeypatch.setattr(tiles, "bytes_per_voxel", lambda network, probe: 1.0)
    monkeypatch.setattr(tiles, "memory_budget", lambda device: 2**40)

    class Small(Limited):
        def forward(self, box):
            if box.device.type == "meta":
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(box)

    network = Small(10**9)
    box = torch.from_numpy(large.inputs)[None]
    output = runner.run(network, box)
    assert output.device.type == "cpu"
    np.testing.assert_allclose(output[0, 0].numpy(), 0.1 * large.inputs[0], atol=1e-6)
    assert "continued on the CPU" in runner.text
    assert runner.text.count("tiles of") >= 1


def test_errors_that_are_no_lack_of_memory_are_not_hidden(bundle, prepared):
    class Broken(torch.nn.Module):
        def forward(self, box):
            raise RuntimeError("Sizes of tensors must match except in dimension 1")

    with pytest.raises(InputError, match="Sizes of tensors must match"):
        _ensemble(bundle, Broken()).predict(prepared)


def test_a_small_budget_is_kept_to_beforehand(bundle, large):
    network = Limited(10**9)
    budget = 60 * 40**3  # of a network that needs about 100 bytes per voxel
    found = _ensemble(bundle, network, budget_bytes=budget).predict(large, flips=False)
    assert "tiles of" in found.device_text
    assert "the whole box would need" in found.device_text
    np.testing.assert_allclose(found.mean, 1 + 0.1 * large.inputs[0], atol=1e-5)


def test_tiles_are_halved_to_multiples_of_four():
    from HypoxiaMapperLib.inference.tiles import TILE_FLOOR, halved, tile_for

    assert halved((100, 64, 40)) == (52, 64, 40)
    assert halved((52, 64, 40)) == (52, 32, 40)
    assert halved((TILE_FLOOR,) * 3) is None
    assert tile_for((64, 64, 64), 10.0, 10.0 * 64**3) == (64, 64, 64)
    assert tile_for((64, 64, 64), 10.0, 10.0 * 64**3 - 1) == (32, 64, 64)
    assert tile_for((64, 64, 64), 10.0, 0) == (TILE_FLOOR,) * 3


MEASURE = """
import resource, sys, torch
from HypoxiaMapperLib.inference.network import DEFAULT_NETWORK, make_network
from HypoxiaMapperLib.inference.tiles import bytes_per_voxel
torch.set_num_threads(1)

def peak():
    # Highest resident memory in bytes. On Linux not ru_maxrss: a child begins with its parent's.
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(text for text in open("/proc/self/status") if text.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

network = make_network(DEFAULT_NETWORK).eval()
estimate = bytes_per_voxel(network, torch.zeros(1, 15, 32, 32, 32))
edge = 96
before = peak()
with torch.inference_mode():
    network(torch.zeros(1, 15, edge, edge, edge))
after = peak()
print(estimate, (after - before) / edge**3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory of a process is read the way Unix tells it")
def test_memory_is_estimated_within_a_factor_of_two_of_the_measured_peak():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=300, check=True)
    estimate, measured = (float(word) for word in run.stdout.split())
    assert 0.5 < estimate / measured < 2.0, (estimate, measured)


def test_devices_are_named_and_refused_by_name():
    from HypoxiaMapperLib.fitting.device import DEVICES as FIT_DEVICES
    from HypoxiaMapperLib.inference.device import DEVICES, choose_device, describe_device, memory_budget

    assert FIT_DEVICES is DEVICES, "one rule"
    cpu = choose_device("cpu")
    assert describe_device(cpu) == f"CPU ({torch.get_num_threads()} threads)"
    assert 0 < memory_budget(cpu) <= 1.5 * 2**30
    with pytest.raises(RequestError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="cuda is not available"):
            choose_device("cuda")


def test_arithmetic_settings_are_put_back():
    from HypoxiaMapperLib.inference.device import exact_arithmetic

    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_float32_matmul_precision())
    with exact_arithmetic():
        assert torch.backends.cudnn.deterministic
    after = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_float32_matmul_precision())
    assert after == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_gpu_and_cpu_agree_within_a_thousandth_of_the_maps_range(bundle):
    from HypoxiaMapperLib.inference.bundle import METADATA, SHIPPED, load_bundle
    from HypoxiaMapperLib.inference.ensemble import Ensemble

    images, regions = scene("fdg", "ct", "adc")
    box = prepare(images, regions["gtv"])
    used = load_bundle(SHIPPED) if (SHIPPED / METADATA).is_file() else bundle
    on_cpu, on_gpu, again = (Ensemble(used, device).predict(box) for device in ("cpu", "cuda", "cuda"))
    span = float(np.ptp(on_cpu.mean))
    assert np.abs(on_gpu.mean - on_cpu.mean).max() < 1e-3 * span
    assert np.abs(on_gpu.sd - on_cpu.sd).max() < 1e-3 * span
    np.testing.assert_array_equal(on_gpu.mean, again.mean)
    assert "GiB" in on_gpu.device_text
