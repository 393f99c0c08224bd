"""Learned maps: the whole inference over the bare forwards of its networks, and time and memory on a planning grid.

    python Testing/bench/bench_inference.py                    shipped bundle, CPU or the GPU that is there
    python Testing/bench/bench_inference.py --bundle FOLDER --device cuda

Inference: images on the planning grid brought to the network's grid, ensemble with mirror images, uncertainty, gate,
band and baselines, over as many bare forward passes on the same box. The whole: weights read and checked, and four maps
written to the planning grid as well, that of a head-and-neck planning CT (512x512x150 voxels, 157 MB a map).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import SimpleITK as sitk
from measure import alternate, machine, peak_memory_mib, table

SHAPE, SPACING_MM = (150, 512, 512), (1.0, 1.0, 2.5)
RADII_MM = (30.0, 20.0)  # 113 ml and 34 ml
OVERHEAD_GOAL, SECONDS_GOAL, MEMORY_GOAL_GIB = 1.3, 180.0, 4.0
FRAME = "1.2.3"


def patient(radius_mm: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """FDG PET and CT of a spherical tumour on the planning grid."""
    from HypoxiaMapperLib.volume import Region, Volume

    z, y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, reversed(SPACING_MM), strict=True))
    distance = np.sqrt((z**2)[:, None, None] + (y**2)[:, None] + x**2).astype(np.float32)
    inside = distance <= radius_mm
    suv = 1.5 + 6 * np.exp(-((distance / radius_mm) ** 2), dtype=np.float32)
    ct = np.where(distance < 90, 40, -900).astype(np.float32)

    def image(array: np.ndarray) -> sitk.Image:
        found = sitk.GetImageFromArray(array)
        found.SetSpacing(SPACING_MM)
        return found

    images = {
        "fdg": Volume(image(suv), "SUVbw", "g/ml", FRAME, facts={"tracer": "FDG", "native_spacing_mm": (4, 4, 4)}),
        "ct": Volume(image(ct), "CT number", "[hnsf'U]", FRAME),
    }
    return images, {"gtv": Region("GTV", image(inside.astype(np.uint8)), FRAME)}


def bare_forwards(bundle: Any, device: str, shape: tuple[int, ...], flips: bool) -> None:
    """As many forward passes as the method makes, and nothing else. Networks are loaded before, see ``run``."""
    import torch

    from HypoxiaMapperLib.inference.device import choose_device, exact_arithmetic

    where = choose_device(device)
    box = torch.rand(1, 15, *shape, device=where)
    with torch.inference_mode(), exact_arithmetic():
        for network in bundle:
            network.to(where)
            for _ in range(8 if flips else 1):
                network(box).cpu()


def run(folder: str, device: str, radius_mm: float, repeats: int) -> tuple[dict[str, float], str]:
    """Seconds of the bare forwards, of the inference and of the whole, and the box."""
    from HypoxiaMapperLib.inference.bundle import SHIPPED, load_bundle
    from HypoxiaMapperLib.inference.ensemble import Ensemble
    from HypoxiaMapperLib.methods import get_method

    method, path = get_method("learned_ratio"), folder or str(SHIPPED)
    images, regions = patient(radius_mm)
    params = method.make_params({"bundle": path, "device": device})
    box = str(method.compute(images, regions, params).details["network_box_voxels"])
    shape = tuple(reversed([int(n) for n in box.split("x")]))
    bundle = load_bundle(path)
    networks = [bundle.network(member) for member in range(len(bundle.weights))]
    ensemble = Ensemble(bundle, device)
    seconds, _ = alternate(
        {
            "bare": lambda: bare_forwards(networks, device, shape, True),
            "inference": lambda: inference(ensemble, images, regions),
            "whole": lambda: method.compute(images, regions, params),
        },
        repeats,
    )
    return seconds, box


def inference(ensemble: Any, images: dict[str, Any], regions: dict[str, Any]) -> None:
    """What the method does between reading the weights and writing the maps."""
    from HypoxiaMapperLib.inference.distribution import check_distribution
    from HypoxiaMapperLib.inference.ensemble import volume_band
    from HypoxiaMapperLib.inference.prepare import prepare
    from HypoxiaMapperLib.methods._learned import Reference, baselines_of, crop_around, network_images

    gtv = regions["gtv"]
    crop = crop_around(gtv)
    given, _ = network_images(images, gtv, crop, {}, Reference(None, "", 0.5))
    part = crop.region(gtv)
    prepared = prepare(given, part)
    prediction = ensemble.predict(prepared)
    check_distribution(ensemble, prepared, {key: image.facts for key, image in images.items()}, gtv.volume_ml)
    volume_band(prediction, prepared.gtv, 1.2, ">", gtv.volume_ml)
    baselines_of(ensemble.bundle, prepared, prediction, part)


def once(folder: str, device: str, explain: str) -> None:
    """One patient in this process, images made here as well: its peak memory is what is measured."""
    from HypoxiaMapperLib.inference.bundle import SHIPPED
    from HypoxiaMapperLib.methods import get_method

    method = get_method("learned_ratio")
    images, regions = patient(RADII_MM[0])
    params = method.make_params({"bundle": folder or str(SHIPPED), "device": device, "explain": explain})
    method.compute(images, regions, params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="", help="folder of a bundle; empty: the shipped one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        once(given.bundle, given.device, given.once)
        return
    from HypoxiaMapperLib.inference.device import choose_device, describe_device

    print(f"{machine()}; {describe_device(choose_device(given.device))}\n")
    rows = []
    for radius_mm in RADII_MM:
        seconds, box = run(given.bundle, given.device, radius_mm, given.repeats)
        times = [f"{seconds[name]:.2f}" for name in ("bare", "inference", "whole")]
        ratios = [f"{seconds[name] / seconds['bare']:.2f}" for name in ("inference", "whole")]
        rows.append([f"{radius_mm:g} mm", box, *times, *ratios])
    header = ["GTV radius", "box", "bare forwards, s", "inference, s", "whole, s"]
    print(table([*header, f"inference over bare (goal {OVERHEAD_GOAL:g})", "whole over bare"], rows), "\n")
    rows = []
    for explain in ("none", "both"):
        command = [sys.executable, __file__, "--once", explain, "--bundle", given.bundle, "--device", given.device]
        peak_mib, seconds = peak_memory_mib(command)
        rows.append([explain, f"{seconds:.1f}", f"{peak_mib / 1024:.2f}"])
    goals = f"goals {SECONDS_GOAL:g} s, {MEMORY_GOAL_GIB:g} GiB"
    print(table(["explanation", "process, s", f"peak memory, GiB ({goals})"], rows))


if __name__ == "__main__":
    main()
