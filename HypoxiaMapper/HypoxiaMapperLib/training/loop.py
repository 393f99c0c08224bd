"""``hypoxia train``: an ensemble from a configuration to a bundle, resumable after every epoch."""

from __future__ import annotations

import csv
import math
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, OutputError, RequestError
from ..inference.bundle import write_bundle
from ..inference.network import make_network, split_output
from ..methods import Progress, no_progress
from . import checkpoint
from .bundle_text import metadata_of
from .checkpoint import Checkpoint
from .config import TrainingConfig, as_json, load_config, without_places
from .dataset import Case, load_cases, split_patients
from .gate import add_gate_and_baselines
from .ranks import Ranks, open_ranks
from .samples import Batch, Sampler
from .validation import validate

if TYPE_CHECKING:
    import torch

BETA = 0.5
"""Weight var**BETA of the likelihood's gradient (beta-NLL, Seitzer et al. 2022, arXiv:2203.09168)."""
RISE = 0.03
"""Fraction of the training during which the learning rate rises."""
GRADIENT_NORM = 1.0
_POLL_S = 5.0  # between two looks at members that train in processes of their own
CONFIG, LOG, BUNDLE = "config.json", "training_log.csv", "bundle"


def train(config_path: Path | str, out: Path | str, resume: bool = False, progress: Progress = no_progress) -> Path:
    """Train an ensemble and write it as a bundle.

    Parameters
    ----------
    config_path : path
        JSON file, see ``config.TrainingConfig``.
    out : path
        Folder of the run: members, log, cache of patients (unless the configuration names one) and ``bundle``. Must
        be new or empty, or, with ``resume``, hold an interrupted run of the same configuration.

    Returns
    -------
    Path
        The bundle.

    Raises
    ------
    RequestError
        Configuration not valid, or not the one of the run to resume.
    OutputError
        The folder exists or cannot be written.
    """
    config, out = load_config(config_path), Path(out)
    with open_ranks(config.device) as ranks:
        _set_threads(config)
        if ranks.first:
            _open_folder(out, config, resume)
        ranks.wait()
        cases = _load(config, out, ranks, progress)
        parts = split_patients(list(cases), config.split)
        if config.parallel > 1 and ranks.world == 1 and ranks.device.type == "cpu":
            _train_side_by_side(config, out, progress)
        else:
            for member in range(config.members):
                _train_member(config, member, out, cases, parts, ranks, progress)
        if ranks.first:
            training, validation = ([cases[name] for name in parts[part]] for part in ("training", "validation"))
            _write(config, out, training, validation, progress)
        ranks.wait()
    return out / BUNDLE


def learning_rate(config: TrainingConfig, fraction: float) -> float:
    """Rises linearly, then falls as a cosine to zero at the end of the training (``fraction`` 1)."""
    return config.learning_rate * min(1.0, (fraction + 1e-3) / RISE) * 0.5 * (1 + math.cos(math.pi * min(fraction, 1)))


def loss_of(output: torch.Tensor, ratio: torch.Tensor, weight: torch.Tensor, mean_only: bool) -> torch.Tensor:
    """Weighted squared error, or Gaussian negative log-likelihood with weights var**BETA.

    Parameters
    ----------
    output : torch.Tensor
        Of the network, shape (n, 2, z, y, x).
    ratio, weight : torch.Tensor
        Shape (n, z, y, x).
    """
    mean, variance = split_output(output)
    loss = (ratio - mean) ** 2
    if not mean_only:
        loss = 0.5 * (variance.log() + loss / variance) * variance.detach() ** BETA
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def _open_folder(out: Path, config: TrainingConfig, resume: bool) -> None:
    """Make the run's folder, or check that it holds this very run."""
    path, text = out / CONFIG, as_json(config)
    if resume:
        if not path.is_file():
            raise RequestError(f"{out} holds no training to resume.", "Leave out --resume.")
        if path.read_text(encoding="utf-8") != text:
            raise RequestError(f"{path} is another configuration than the one given.", "Resume with the same one.")
        if (out / BUNDLE).exists():
            raise OutputError(f"{out / BUNDLE} exists: this training is finished.", "Give another folder.")
        return
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty.", "Nothing is overwritten: give another folder, or --resume.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Choose another folder.") from error


def _load(config: TrainingConfig, out: Path, ranks: Ranks, progress: Progress) -> dict[str, Case]:
    """All patients; the first process prepares what is missing while the others wait."""
    cache = Path(config.data.cache) if config.data.cache else out / "cache"
    if not ranks.first:
        ranks.wait()
    cases = load_cases(config, cache, progress if ranks.first else no_progress)
    if ranks.first:
        ranks.wait()
    return cases


def _train_side_by_side(config: TrainingConfig, out: Path, progress: Progress) -> None:
    """Members in processes of their own; the first error ends the training, what was saved stays."""
    with ProcessPoolExecutor(config.parallel, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_train_apart, config, member, out) for member in range(config.members)}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                states = [checkpoint.read_state(_folder(out, member)) for member in range(config.members)]
                texts = [_row_text(state.history[-1]) for state in states if state.history]
                finished = sum(state.finished for state in states)
                progress(
                    _mean_fraction(config, states), f"{finished} of {config.members} finished; " + "; ".join(texts[:1])
                )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _train_apart(config: TrainingConfig, member: int, out: Path) -> None:
    """One member, in a process of its own."""
    _set_threads(config)
    with open_ranks("cpu") as ranks:
        cases = _load(config, out, ranks, no_progress)
        _train_member(config, member, out, cases, split_patients(list(cases), config.split), ranks, no_progress)


def _mean_fraction(config: TrainingConfig, states: Sequence[Checkpoint]) -> float:
    """How far all members are together."""
    clock = 60 * config.minutes or math.inf
    done = [1.0 if s.finished else min(1.0, max(s.epoch / config.epochs, s.elapsed_s / clock)) for s in states]
    return sum(done) / len(done)


def _set_threads(config: TrainingConfig) -> None:
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)


def _train_member(
    config: TrainingConfig,
    member: int,
    out: Path,
    cases: dict[str, Case],
    parts: dict[str, tuple[str, ...]],
    ranks: Ranks,
    progress: Progress,
) -> None:
    """Train one network from where it stands to its end."""
    folder = _folder(out, member)
    state = checkpoint.read_state(folder)
    if state.finished:
        return
    trainer = MemberTrainer(config, member, ranks, state, folder)
    sampler = Sampler([cases[name] for name in parts["training"]], config, ranks.rank, ranks.world)
    held_out = [cases[name] for name in parts["validation"]]
    while not state.finished:
        loss, rate, done = trainer.run_epoch(sampler, state)
        ranks.wait()
        elapsed = trainer.elapsed_s
        row = {"member": member, "epoch": state.epoch + 1, "seconds": round(elapsed, 1), "learning_rate": rate}
        row |= {"training_loss": loss}
        if ranks.first:
            row |= validate(trainer.network, held_out, ranks.device)
        state = Checkpoint(state.epoch + 1, elapsed, done, (*state.history, row))
        if ranks.first:
            checkpoint.save(folder, state, trainer.network.state_dict(), trainer.optimiser.state_dict())
            write_log(out, config.members)
            _to_tensorboard(out, row)
        fraction = (member + (1.0 if done else trainer.fraction(state.epoch, 0, sampler.steps))) / config.members
        progress(fraction, f"member {member + 1} of {config.members}, epoch {state.epoch}: " + _row_text(row))


class MemberTrainer:
    """One network, its optimiser and its clock."""

    def __init__(self, config: TrainingConfig, member: int, ranks: Ranks, state: Checkpoint, folder: Path) -> None:
        import torch

        self.config, self.member, self.ranks = config, member, ranks
        torch.manual_seed(_seed(config, member, 0))
        self.network = make_network(config.network_def).to(ranks.device)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if state.epoch:
            self.network.load_state_dict(checkpoint.read_weights(folder, state))
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        if state.epoch:
            self.optimiser.load_state_dict(checkpoint.read_optimiser(folder, state))
        self.model: torch.nn.Module = self.network
        if ranks.world > 1:
            from torch.nn.parallel import DistributedDataParallel

            ids = [ranks.device.index] if ranks.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.network, device_ids=ids)
        self.mixed = config.mixed_precision and ranks.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed and not torch.cuda.is_bf16_supported())
        self._started = time.monotonic() - state.elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Training time of this member, earlier sessions included."""
        return time.monotonic() - self._started

    def fraction(self, epoch: int, step: int, steps: int) -> float:
        """How far the training is, by epochs or by the clock, whichever is further."""
        by_steps = (epoch + step / steps) / self.config.epochs
        if not self.config.minutes:
            return by_steps
        return self.ranks.agreed(max(by_steps, self.elapsed_s / (60 * self.config.minutes)))

    def run_epoch(self, sampler: Sampler, state: Checkpoint) -> tuple[float, float, bool]:
        """One pass; mean loss, last learning rate, and whether the training is at its end."""
        import torch

        torch.manual_seed(_seed(self.config, self.member, state.epoch + 1) + self.ranks.rank)
        self.model.train()
        losses: list[float] = []
        rate = 0.0
        for step, batch in enumerate(sampler.epoch(self.member, state.epoch)):
            fraction = self.fraction(state.epoch, step, sampler.steps)
            if fraction >= 1 and losses:
                break
            rate = learning_rate(self.config, fraction)
            losses.append(self._step(batch, rate, state.epoch < self.config.warm_up_epochs))
        done = self.fraction(state.epoch + 1, 0, sampler.steps) >= 1
        return float(np.mean(losses)), rate, done

    def _step(self, batch: Batch, rate: float, mean_only: bool) -> float:
        """One step of the optimiser; the loss before it."""
        import torch

        device = self.ranks.device
        inputs = torch.from_numpy(batch.inputs).to(device, memory_format=torch.channels_last_3d)
        ratio, weight = torch.from_numpy(batch.ratio).to(device), torch.from_numpy(batch.weight).to(device)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        narrow = torch.float16 if self.scaler.is_enabled() else torch.bfloat16
        with torch.autocast(device.type, dtype=narrow, enabled=self.mixed):
            output = self.model(inputs)
        loss = loss_of(output, ratio, weight, mean_only)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"Member {self.member + 1}: the loss is no longer finite.", "Resume with a smaller learning_rate."
            )
        return value


def write_log(out: Path, members: int) -> None:
    """training_log.csv of all members, from their checkpoints: the same rows however often it was interrupted."""
    rows = [row for member in range(members) for row in checkpoint.read_state(_folder(out, member)).history]
    if not rows:
        return
    part = out / f"{LOG}.{os.getpid()}.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    part.replace(out / LOG)


def _write(
    config: TrainingConfig, out: Path, training: Sequence[Case], validation: Sequence[Case], progress: Progress
) -> None:
    """The bundle with gate, baselines, log and configuration: whole or not at all."""
    states = []
    for member in range(config.members):
        folder = _folder(out, member)
        states.append(checkpoint.read_weights(folder, checkpoint.read_state(folder)))
    work = out / f".{BUNDLE}"
    shutil.rmtree(work, ignore_errors=True)
    bundle = write_bundle(work, metadata_of(config, training), config.network_def, states)
    add_gate_and_baselines(bundle, training, validation, config.modality_dropout, progress)
    shutil.copyfile(out / LOG, work / "docs" / LOG)
    text = as_json(without_places(config))
    (work / "configs" / "train.json").write_text(text, encoding="utf-8", newline="\n")
    work.rename(out / BUNDLE)


def _folder(out: Path, member: int) -> Path:
    return out / "members" / f"member_{member}"


def _seed(config: TrainingConfig, member: int, epoch: int) -> int:
    return int(np.random.SeedSequence([config.seed, member, epoch]).generate_state(1)[0])


def _row_text(row: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.3g}" for k, v in row.items() if isinstance(v, float) and k != "seconds")


def _to_tensorboard(out: Path, row: dict[str, Any]) -> None:
    """The row to TensorBoard, where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with SummaryWriter(str(out / "tensorboard" / f"member_{row['member']}")) as writer:
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, row["epoch"])
