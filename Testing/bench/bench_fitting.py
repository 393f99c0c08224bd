"""Voxel-wise fits beside scipy and packages from PyPI: voxels per second and error against the truth, in one run.

    python Testing/bench/bench_fitting.py                      speed, this machine
    python Testing/bench/bench_fitting.py --memory             peak memory of a 256x256x120x60 series as well
    python Testing/bench/bench_fitting.py --voxels 2000        quick look whether everything runs
    python Testing/bench/bench_fitting.py --peer-python PATH   interpreter that has the peers (osipy needs Python 3.12)
    python Testing/bench/bench_fitting.py --device cuda        on a GPU; ``--no-peers`` leaves out the rest

``make bench`` runs it with the rest (``bench.py fitting``).

All programs get the same curves and the same sampled input function. Peers get fewer voxels when they are slow; the
errors of all are then taken over the same first voxels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

NOISE = 0.02
VOXELS = 100_000
DIFFERENT = 5_000  # sets of parameters; every voxel has noise of its own
GOAL = 20
PEER_VOXELS = {"osipy": 5_000, "sepal": 50, "dcmri": 50, "scipy": 200}
PET_SECONDS = np.repeat([5, 10, 30, 60, 120, 300, 600], [6, 3, 4, 4, 3, 6, 4]).astype(float)
TOFTS_RANGES = {"Ktrans": (0.05, 0.5), "ve": (0.1, 0.6), "vp": (0.01, 0.1)}
PET_RANGES = {"K1": (0.05, 0.4), "k2": (0.1, 0.5), "k3": (0.02, 0.1), "k4": (0.01, 0.05), "vB": (0.01, 0.1)}
MEMORY_SHAPE = (60, 120, 256, 256)
MEMORY_LIMIT_GIB = 6.0


HEADER = ("| what | program | voxels/s | ratio | cores busy | median relative error, % |\n"
          "|---|---|---|---|---|---|")  # fmt: skip


def tofts_case(voxels: int) -> tuple[object, dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Extended Tofts over 60 frames of 5 s: model, truth, curves (frames, voxels), what a peer needs."""
    from HypoxiaMapperLib.kinetics.input_function import InputFunction
    from HypoxiaMapperLib.kinetics.perfusion import ExtendedTofts
    from HypoxiaMapperLib.kinetics.populations import parker
    from HypoxiaMapperLib.kinetics.timing import Frames

    frames = Frames.instants(np.arange(60) * 5.0, "s")
    plasma = parker(frames.mid_min - 0.5) / 0.58
    model = ExtendedTofts(InputFunction(frames.mid_min, plasma, "mmol/L"), frames)
    truth, data = curves(model, TOFTS_RANGES, voxels)
    return model, truth, data, {"time_s": frames.mid_min * 60, "plasma": plasma}


def two_tissue_case(voxels: int) -> tuple[object, dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Reversible two-tissue model over 30 frames."""
    from HypoxiaMapperLib.kinetics.populations import feng_input
    from HypoxiaMapperLib.kinetics.timing import Frames
    from HypoxiaMapperLib.kinetics.tissue import TwoTissueReversible

    starts = np.concatenate([[0.0], np.cumsum(PET_SECONDS)[:-1]])
    frames = Frames.from_start_duration(starts, PET_SECONDS, "s")
    source = feng_input(frames.end_min[-1])
    model = TwoTissueReversible(source, frames)
    truth, data = curves(model, PET_RANGES, voxels)
    return model, truth, data, {"start_min": frames.start_min, "end_min": frames.end_min,
                                "time_min": source.time_min, "plasma": source.plasma}  # fmt: skip


def curves(
    model: object, ranges: dict[str, tuple[float, float]], voxels: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random parameters within ranges, and their curves with noise relative to each peak."""
    rng = np.random.default_rng(0)
    few = {name: rng.uniform(low, high, DIFFERENT) for name, (low, high) in ranges.items()}
    which = np.arange(voxels) % DIFFERENT
    clean = model.curves(np.stack(list(few.values())))[:, which]  # type: ignore[attr-defined]
    truth = {name: row[which] for name, row in few.items()}
    return truth, clean + NOISE * clean.max(axis=0) * rng.standard_normal(clean.shape)


def fit_osipy(data: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The vectorised fit of osipy."""
    from osipy.dce.fitting import fit_model

    result = fit_model("extended_tofts", data.T.reshape(-1, 1, 1, data.shape[0]), given["plasma"], given["time_s"])
    return {name: np.asarray(result.parameter_maps[name].values).ravel() for name in TOFTS_RANGES}


def fit_sepal(data: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """sepal, voxel by voxel, input upsampled tenfold as its authors advise."""
    from sepal import aifs, dce_fit, pk_models

    aif = aifs.PatientSpecific(given["time_s"], given["plasma"])
    fitter = dce_fit.ConcToPKP(pk_models.ExtendedTofts(given["time_s"], aif, upsample_factor=10))
    found = np.array([fitter.proc(curve)[:3] for curve in data.T], dtype=float)
    return {"vp": found[:, 0], "Ktrans": found[:, 1], "ve": found[:, 2]}


def fit_dcmri(data: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """dcmri's model HF (extended Tofts), voxel by voxel with curve_fit, which its own ``train`` uses for signals."""
    import dcmri
    from scipy.optimize import curve_fit

    t = given["time_s"]

    def model(_: np.ndarray, ktrans: float, ve: float, vp: float) -> np.ndarray:
        return dcmri.conc_tissue(given["plasma"], t=t, kinetics="HF", H=0.0, vb=vp, vi=ve, PS=ktrans / 60)

    bounds = ([0, 1e-3, 0], [5, 1, 1])
    found = np.array([curve_fit(model, t, y, p0=[0.2, 0.3, 0.05], bounds=bounds)[0] for y in data.T])
    return dict(zip(TOFTS_RANGES, found.T, strict=True))


def fit_scipy_tofts(data: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """curve_fit per voxel, with the fastest exact convolution (a recursive filter)."""
    from scipy.optimize import curve_fit
    from scipy.signal import lfilter

    t, c = given["time_s"] / 60, given["plasma"]
    h = t[1] - t[0]

    def model(_: np.ndarray, ktrans: float, ve: float, vp: float) -> np.ndarray:
        z = max(ktrans / ve * h, 1e-9)
        e = np.exp(-z)
        f1, f2 = (1 - e) / z, (z - 1 + e) / z**2
        gain = h * (c[:-1] * f1 + np.diff(c) * f2)
        return vp * c + ktrans * lfilter([1.0], [1.0, -e], np.concatenate([[0.0], gain]))

    bounds = ([0, 1e-3, 0], [5, 1, 1])
    found = np.array([curve_fit(model, t, y, p0=[0.2, 0.3, 0.05], bounds=bounds)[0] for y in data.T])
    return dict(zip(TOFTS_RANGES, found.T, strict=True))


def fit_scipy_pet(data: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """curve_fit per voxel of the frame-averaged reversible two-tissue model."""
    from scipy.optimize import curve_fit

    from HypoxiaMapperLib.kinetics.input_function import InputFunction
    from HypoxiaMapperLib.kinetics.timing import Frames
    from HypoxiaMapperLib.kinetics.tissue import TwoTissueReversible

    frames = Frames(given["start_min"], given["end_min"])
    exact = TwoTissueReversible(InputFunction(given["time_min"], given["plasma"], "kBq/ml"), frames)
    # A fine table of the two exponentials, as a careful user would make: the exact convolution takes seconds per voxel.
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 3.6, 2000)])
    table, blood = exact.family(grid), exact.fixed()[0]

    def member(theta: float) -> np.ndarray:
        k = min(max(int(np.searchsorted(grid, theta)) - 1, 0), len(grid) - 2)
        u = (theta - grid[k]) / (grid[k + 1] - grid[k])
        return (1 - u) * table[k] + u * table[k + 1]

    def model(_: np.ndarray, k1: float, k2: float, k3: float, k4: float, vb: float) -> np.ndarray:
        total = k2 + k3 + k4
        root = np.sqrt(max(total**2 - 4 * k2 * k4, 1e-18))
        fast, slow = (total + root) / 2, (total - root) / 2
        a, b = k1 * (fast - k3 - k4) / root, k1 * (k3 + k4 - slow) / root
        return (1 - vb) * (a * member(fast) + b * member(slow)) + vb * blood

    bounds = ([0] * 5, [2, 3, 0.5, 0.1, 0.5])
    start = [0.2, 0.3, 0.05, 0.02, 0.05]
    found = np.array([curve_fit(model, blood, y, p0=start, bounds=bounds, x_scale=start)[0] for y in data.T])
    return dict(zip(PET_RANGES, found.T, strict=True))


PEERS: dict[str, dict[str, Callable]] = {
    "extended Tofts, 60 frames": {"osipy": fit_osipy, "sepal": fit_sepal, "dcmri": fit_dcmri, "scipy": fit_scipy_tofts},
    "2T4k with vB, 30 frames": {"scipy": fit_scipy_pet},
}
CASES = {"extended Tofts, 60 frames": tofts_case, "2T4k with vB, 30 frames": two_tissue_case}


def run_peer(case: str, name: str, file: str) -> None:
    """In the peer's interpreter: fit, write the parameters, print the seconds."""
    stored = dict(np.load(file))
    data = stored.pop("data")[:, : PEER_VOXELS[name]]
    PEERS[case][name](data[:, :10], stored)  # imports and caches are not counted
    begin, busy = time.perf_counter(), time.process_time()
    found = PEERS[case][name](data, stored)
    seconds = time.perf_counter() - begin
    cores = (time.process_time() - busy) / seconds
    np.savez(file + f".{name}.npz", **found)
    print(json.dumps({"seconds": seconds, "voxels": data.shape[1], "cores": cores}))


def relative_errors(found: dict[str, np.ndarray], truth: dict[str, np.ndarray], n: int) -> str:
    """Median relative error of each parameter over the first n voxels, in per cent."""
    parts = [f"{name} {100 * np.nanmedian(np.abs(found[name][:n] / row[:n] - 1)):.2f}" for name, row in truth.items()]
    return ", ".join(parts)


def rows_of(
    case: str, peer_python: str, device: str, dtype: str, voxels: int = VOXELS, peers: bool = True
) -> Iterator[list[str]]:
    """Ours and each peer: voxels per second, ratio, cores kept busy, errors over the same first voxels."""
    from HypoxiaMapperLib.fitting import FitOptions, fit

    model, truth, data, given = CASES[case](voxels)
    options = FitOptions(device=device, dtype=dtype)
    fit(model, data[:, :20_000], options=options)  # type: ignore[arg-type]
    best, cores = np.inf, 0.0
    for _ in range(3):
        begin, busy = time.perf_counter(), time.process_time()
        result = fit(model, data, options=options)  # type: ignore[arg-type]
        seconds = time.perf_counter() - begin
        if seconds < best:
            best, cores = seconds, (time.process_time() - busy) / seconds
    speed = voxels / best
    least = min(min(PEER_VOXELS[name] for name in PEERS[case]), voxels)
    yield [case, f"ours ({result.device})", f"{speed:,.0f}", "1", f"{cores:.1f}",
           relative_errors(dict(result.values), truth, least)]  # fmt: skip
    if not peers:
        return
    with tempfile.TemporaryDirectory(prefix="hypoxia-bench-") as folder:
        file = str(Path(folder) / "case.npz")
        np.savez(file, data=data[:, : max(PEER_VOXELS.values())], **given)
        for name in PEERS[case]:
            command = [peer_python, __file__, "--case", case, "--peer", name, "--file", file]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=peer_environment())
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["no message"])[-1][:80]
                why = "needs Python 3.12 or later" if name == "osipy" and "No module" in why else why
                yield [case, name, "not run", "", "", why]
                continue
            facts = json.loads(done.stdout.strip().splitlines()[-1])
            peer = facts["voxels"] / facts["seconds"]
            found = dict(np.load(f"{file}.{name}.npz"))
            yield [case, name, f"{peer:,.0f}", f"ours {speed / peer:.0f}x", f"{facts['cores']:.1f}",
                   relative_errors(found, truth, least)]  # fmt: skip


def peer_environment() -> dict[str, str]:
    """This process's, in which another interpreter finds our package too: scipy's two-tissue model takes the input's
    convolution from it."""
    import HypoxiaMapperLib

    ours = str(Path(HypoxiaMapperLib.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])}


def memory_row() -> list[str]:
    """Peak resident memory of this process after fitting a mapped series of full size."""
    import resource

    from HypoxiaMapperLib.fitting import fit

    model, _, data, _ = tofts_case(VOXELS)
    small = data[:, : 256 * 120].astype(np.float32).reshape(60, 120, 1, 256)
    with tempfile.NamedTemporaryFile(prefix="hypoxia-bench-") as file:
        series = np.memmap(file.name, np.float32, "w+", shape=MEMORY_SHAPE)
        for k in range(MEMORY_SHAPE[0]):
            series[k] = small[k]
        begin = time.perf_counter()
        fit(model, series)  # type: ignore[arg-type]
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    voxels = int(np.prod(MEMORY_SHAPE[1:]))
    what = f"peak memory of {'x'.join(map(str, MEMORY_SHAPE))} (frames first), limit {MEMORY_LIMIT_GIB} GiB"
    return [what, "ours", f"{peak:.2f} GiB", "", "", f"{voxels / seconds:,.0f} voxels/s, {seconds:.0f} s"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter in which the peers are installed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--voxels", type=int, default=VOXELS, help="voxels of our fit (default %(default)s)")
    parser.add_argument("--memory", action="store_true", help="also the full-size series (2 GB on disk)")
    parser.add_argument("--no-peers", action="store_true", help="ours only")
    parser.add_argument("--only", default="", help="only the cases whose name begins so")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_peer(arguments.case, arguments.peer, arguments.file)
        return
    print(HEADER)
    if arguments.memory:
        print("| " + " | ".join(memory_row()) + " |", flush=True)
    wanted = [c for c in CASES if c.startswith(arguments.only)]
    for case in wanted:
        for row in rows_of(case, arguments.peer_python, arguments.device, arguments.dtype, arguments.voxels,
                           not arguments.no_peers):  # fmt: skip
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nGoal: at least {GOAL} times the fastest peer at no larger error. Noise {NOISE:.0%} of each curve's peak.")
    from bandwidth import HEADER as LIMIT_HEADER
    from bandwidth import NOTE, limit_rows

    print(f"\n{LIMIT_HEADER}")
    for case in wanted:
        model, _, data, _ = CASES[case](arguments.voxels)
        for row in limit_rows(case, model, data, arguments.device):
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{NOTE}")


if __name__ == "__main__":
    main()
