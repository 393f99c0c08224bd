"""``hypoxia evaluate``: a bundle on simulated patients it was never trained on, beside every baseline."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import OutputError, RequestError
from ..inference.bundle import Bundle, load_bundle
from ..inference.device import exact_arithmetic
from ..inference.ensemble import Ensemble
from ..inference.network import split_output
from ..methods import Progress, no_progress
from ..simulate.settings import COHORTS
from .config import check_config
from .dataset import patients_of
from .evaluation_case import CaseResult, evaluate_case
from .model_card import write_model_card
from .summary import gate_numbers, planning_summary, summarise, write_csv

HELD_OUT = "training"
"""Simulated as the training patients were, from seeds of their own."""
EVALUATION_SEEDS = range(1_900_000_000, 2_000_000_000)
"""Reserved: no training may use one (checked before every evaluation)."""
MOST_PATIENTS = 10_000  # of one evaluation; its seeds end where those of the next begin
STATISTICS_PATIENTS = 50
PLANNING_PATIENTS = 60
"""The first so many of the held-out cohort go through a planning grid, too."""
PLAN, ROWS, CSV, SUMMARY, CARD = "evaluation.json", "rows.jsonl", "patients.csv", "summary.json", "models.md"


def evaluate(
    bundle: Path | str,
    out: Path | str,
    cohorts: Sequence[str] = tuple(COHORTS),
    patients: int = 100,
    seed: int = 0,
    progress: Progress = no_progress,
    workers: int = 0,
) -> Path:
    """Judge a bundle and write ``patients.csv``, ``summary.json`` and the model card with its pictures.

    Interrupted, it goes on where it stopped when it is called again with the same folder.

    Parameters
    ----------
    bundle : path
        Folder of the bundle.
    out : path
        New, empty, or of an evaluation of this very bundle and seed.
    cohorts : sequence of str
        ``"training"`` is the held-out cohort; the others shift scanner, coupling or anatomy.
    patients : int
        Of the held-out cohort; of each shifted one half as many.
    seed : int
        Another seed takes other patients.
    workers : int
        Processes, one core each; 0: one per core.

    Returns
    -------
    Path
        ``summary.json``.

    Raises
    ------
    RequestError
        Unknown cohort, number of patients out of range, or a bundle trained on the patients it would be judged on.
    OutputError
        The folder holds something else or cannot be written.
    """
    model, out = load_bundle(bundle), Path(out)
    seeds = evaluation_seeds(patients, seed)
    jobs = [(cohort, number) for cohort in cohorts for number in seeds[: patients_in(cohort, patients)]]
    for cohort in cohorts:
        if cohort not in COHORTS:
            raise RequestError(f"There is no simulated cohort {cohort!r}.", f"Valid ones: {', '.join(COHORTS)}.")
    require_unseen(model, seeds)
    try:
        _open_folder(out, model, seed)
        done = read_results(out / ROWS)
        wanting = [job for job in jobs if job not in done]
        with (out / ROWS).open("a", encoding="utf-8") as file:
            for count, result in enumerate(_results(model.folder, wanting, workers), 1):
                done[result.cohort, result.seed] = result
                file.write(json.dumps(vars(result)) + "\n")
                file.flush()
                progress(0.95 * count / len(wanting), f"{result.cohort}: {count} of {len(wanting)} patients judged")
        return _write(out, model, [done[job] for job in jobs], seed, workers, progress)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.", "Check folder and disk.") from error


def evaluation_seeds(patients: int, seed: int) -> range:
    """Seeds of the simulated patients of an evaluation, all of them reserved.

    Raises
    ------
    RequestError
        If there are not so many.
    """
    first = EVALUATION_SEEDS.start + seed * MOST_PATIENTS
    if not 1 <= patients <= MOST_PATIENTS or first not in EVALUATION_SEEDS:
        raise RequestError(
            f"{patients} patients of seed {seed} were asked for.",
            f"Give 1 to {MOST_PATIENTS} patients and a seed of 0 to {len(EVALUATION_SEEDS) // MOST_PATIENTS - 1}.",
        )
    return range(first, first + patients)


def patients_in(cohort: str, patients: int) -> int:
    """Patients of one cohort: the shifted ones are half as large."""
    return patients if cohort == HELD_OUT else (patients + 1) // 2


def require_unseen(bundle: Bundle, seeds: range) -> None:
    """Refuse a bundle that was trained on a patient it would be judged on (its configs/train.json tells).

    Raises
    ------
    RequestError
        Naming the first such patient.
    """
    path = bundle.folder / "configs" / "train.json"
    if not path.is_file():
        return
    data = check_config(json.loads(path.read_text(encoding="utf-8")), str(path)).data
    if data.source != "simulated":
        return
    seen = sorted(number for number in map(int, patients_of(data)) if number in EVALUATION_SEEDS or number in seeds)
    if seen:
        raise RequestError(
            f"{bundle.name} was trained on simulated patient {seen[0]}, which is kept for evaluation.",
            f"Train with seeds below {EVALUATION_SEEDS.start}.",
        )


def read_results(path: Path) -> dict[tuple[str, int], CaseResult]:
    """Patients judged so far; a line cut off by an interruption is left out (and cut off the file)."""
    found: dict[tuple[str, int], CaseResult] = {}
    if not path.is_file():
        return found
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    for line in whole.splitlines():
        result = CaseResult(**json.loads(line))
        found[result.cohort, result.seed] = result
    return found


def _open_folder(out: Path, bundle: Bundle, seed: int) -> None:
    """Make the folder, or check that it is of the same bundle and seed."""
    plan = {"bundle": bundle.name, "metadata_sha256": bundle.metadata_sha256, "seed": seed, "software": __version__}
    path = out / PLAN
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != plan:
            raise OutputError(f"{out} holds the evaluation of another bundle or seed.", "Give another folder.")
        return
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty.", "Nothing is overwritten: give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def _results(folder: Path, jobs: Sequence[tuple[str, int]], workers: int) -> Iterator[CaseResult]:
    """Judge patients, several at a time, in the order they get ready."""
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        for cohort, seed in jobs:
            yield _judge(folder, cohort, seed)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = [pool.submit(_judge, folder, *job) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judge(folder: Path, cohort: str, seed: int) -> CaseResult:
    from ..simulate.cohort import simulate_case

    held_out = cohort == HELD_OUT
    planning = held_out and (seed - EVALUATION_SEEDS.start) % MOST_PATIENTS < PLANNING_PATIENTS
    return evaluate_case(simulate_case(seed, cohort), _ensemble(folder), held_out, planning)


class PairedEnsemble(Ensemble):
    """The ensemble with two mirror images at a time: the same map but for rounding, in a third of the time.

    On one CPU thread torch takes three times as long for a batch of one (measured with torch 2.13).
    """

    def _passes(
        self, inputs: np.ndarray, passes: tuple[tuple[int, ...], ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        import torch

        box = torch.from_numpy(np.ascontiguousarray(inputs, np.float32))[None]
        for network in self.networks:
            for first in range(0, len(passes), 2):
                pair = passes[first : first + 2]
                with exact_arithmetic():
                    output = self.runner.run(network, torch.cat([torch.flip(box, axes) for axes in pair]))
                for number, axes in enumerate(pair):
                    ratio, variance = split_output(torch.flip(output[number : number + 1], axes))
                    yield ratio[0].numpy(), variance[0].numpy()


@lru_cache(maxsize=1)
def _ensemble(folder: Path) -> PairedEnsemble:
    """The networks, read once in every process."""
    return PairedEnsemble(load_bundle(folder), "cpu")


def _one_thread() -> None:
    """Every process is one core's worth."""
    import SimpleITK as sitk
    import torch

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    torch.set_num_threads(1)


def _write(
    out: Path, bundle: Bundle, results: Sequence[CaseResult], seed: int, workers: int, progress: Progress
) -> Path:
    """The table, the summary and the card."""
    rows = [row for result in results for row in result.rows]
    write_csv(rows, out / CSV)
    progress(0.96, "statistics of the simulated patients")
    summary = {
        "bundle": {"name": bundle.name, "version": bundle.version, "metadata_sha256": bundle.metadata_sha256},
        "software": __version__,
        "seed": seed,
        "threshold": bundle.hypoxia["threshold"],
        "cohorts": {name: {"title": COHORTS[name].title, **numbers} for name, numbers in summarise(rows, seed).items()},
        "gate": gate_numbers(results),
        "planning_grid": planning_summary(results),
        "simulator": simulator_statistics(results, workers),
    }
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    (out / SUMMARY).write_text(text, encoding="utf-8", newline="\n")
    write_model_card(bundle, json.loads(text), out / CARD, rows)
    progress(1.0, f"model card {out / CARD}")
    return out / SUMMARY


def simulator_statistics(results: Sequence[CaseResult], workers: int) -> Mapping[str, Any]:
    """What the judged patients look like (the first ``STATISTICS_PATIENTS`` of each cohort), cohort by cohort."""
    seeds: dict[str, list[int]] = {}
    for result in results:
        seeds.setdefault(result.cohort, []).append(result.seed)
    jobs = [(cohort, tuple(numbers[:STATISTICS_PATIENTS])) for cohort, numbers in seeds.items()]
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        found = [_statistics(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            found = list(pool.map(_statistics, *zip(*jobs, strict=True)))
    return dict(zip(seeds, found, strict=True))


def _statistics(cohort: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    from ..simulate.cohort import simulate_case
    from ..simulate.statistics import joint_statistics

    return joint_statistics(simulate_case(seed, cohort) for seed in seeds)
