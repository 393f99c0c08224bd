"""What a training run is told: one JSON file, checked to the last key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, RequestError
from ..inference.channels import FUNCTIONAL, KEYS
from ..inference.contract import check_body_parts
from ..inference.network import DEFAULT_NETWORK
from ..inference.prepare import MULTIPLE
from ..simulate.settings import BODY_PART

SOURCES = ("simulated", "pairs")
DEVICES = ("auto", "cpu", "cuda", "mps")
SYNTHETIC_LABEL = "synthetic-trained, not clinically validated"
COMMON_SETS = (
    ("fdg",),
    ("fdg", "ct"),
    ("fdg", "ct", "t1", "adc"),
    ("hypoxia_pet",),
    ("hypoxia_pet", "fdg"),
    ("hypoxia_pet", "fdg", "ct"),
    KEYS,
)
"""Sets of images a clinic is likely to have: half of all samples show one of them, the other half any subset."""


@dataclass(frozen=True)
class DataConfig:
    """Where patients come from.

    Parameters
    ----------
    source : str
        ``"simulated"`` (cohort, patients, seed) or ``"pairs"`` (folder: one folder per patient, see ``pairs``).
    cache : str
        Folder of prepared patients, kept and used again; empty: inside the run's folder.
    workers : int
        Processes that prepare patients; 0: one per core.
    """

    source: str = "simulated"
    cohort: str = "training"
    patients: int = 400
    seed: int = 1
    folder: str = ""
    cache: str = ""
    workers: int = 0


@dataclass(frozen=True)
class SplitConfig:
    """Fractions of patients kept for validation and test; a patient is in one part only."""

    validation: float = 0.1
    test: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class ModalityDropout:
    """Which images a sample shows: one of the common sets, or any subset with a functional image in it.

    Parameters
    ----------
    common : float
        Probability of a common set.
    drop : float
        Otherwise, probability of each image to be left out.
    """

    common: float = 0.5
    drop: float = 0.5
    common_sets: tuple[tuple[str, ...], ...] = COMMON_SETS


@dataclass(frozen=True)
class Augmentation:
    """Flips along every axis, and noise (standard deviation of scaled images, up to this)."""

    flip: bool = True
    noise: float = 0.05


@dataclass(frozen=True)
class BundleText:
    """What the bundle says of itself; every sentence is shown to the user.

    Parameters
    ----------
    body_parts : tuple of str
        Body sites of the patients, DICOM terms as in Body Part Examined: the gate fails on images of another site. Of
        simulated patients it is known.
    """

    name: str
    title: str
    training_data: str
    intended_use: str
    licence: str
    label: str = ""
    body_parts: tuple[str, ...] = ()
    version: str = "1.0.0"
    description: str = "Hypoxia tracer tissue-to-blood ratio from any subset of PET, CT and MR images."
    authors: str = "Hypoxia extension contributors"
    copyright: str = "Copyright the Hypoxia extension contributors"
    quantity: str = "FMISO tissue-to-blood ratio"
    threshold: float = 1.2
    comparison: str = ">"


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Parameters
    ----------
    members : int
        Networks of the ensemble, trained one after the other with seeds of their own.
    epochs : int
        Passes over the training patients per member.
    minutes : float
        Longest time per member; 0: no limit. The learning rate falls to zero by whichever ends first.
    crops_per_patient : int
        Samples drawn from each patient in an epoch.
    patch : int
        Edge of a sample in voxels, a multiple of 4.
    warm_up_epochs : int
        The mean alone is trained first (squared error), then mean and variance.
    shell_weight : float
        Weight of voxels within 6 mm outside the GTV: they bound the interpolation back to the image's grid.
    threads : int
        CPU threads of each process; 0: torch's choice.
    parallel : int
        Members trained side by side, each in a process of its own with ``threads`` threads; on the CPU only, where
        small networks gain little from more threads.
    """

    bundle: BundleText
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    network_def: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_NETWORK))
    modality_dropout: ModalityDropout = field(default_factory=ModalityDropout)
    augmentation: Augmentation = field(default_factory=Augmentation)
    members: int = 5
    epochs: int = 40
    minutes: float = 0.0
    batch: int = 8
    patch: int = 24
    crops_per_patient: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up_epochs: int = 2
    shell_weight: float = 0.3
    device: str = "auto"
    mixed_precision: bool = True
    threads: int = 0
    parallel: int = 1
    seed: int = 1


def load_config(path: Path | str) -> TrainingConfig:
    """Read and check a configuration.

    Raises
    ------
    InputError
        If the file cannot be read or is no JSON object.
    RequestError
        Naming the key: unknown, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Give the JSON file of a training.") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON text: {error}.", "See the configuration shipped as an example.") from error
    return check_config(values, path.name)


def check_config(values: Any, where: str = "configuration") -> TrainingConfig:
    """A configuration from its JSON value; errors as ``load_config``."""
    config = _build(TrainingConfig, values, where)
    _check_data(config, where)
    _check_dropout(config.modality_dropout, where)
    for name, low, high in (
        ("members", 1, 100), ("epochs", 1, 100_000), ("minutes", 0, 100_000), ("batch", 1, 4096), ("patch", 8, 256),
        ("crops_per_patient", 1, 1000), ("learning_rate", 1e-8, 1), ("weight_decay", 0, 1), ("warm_up_epochs", 0, 1000),
        ("shell_weight", 0, 1), ("threads", 0, 1024), ("parallel", 1, 64), ("seed", 0, 2**31),
    ):  # fmt: skip
        _check_range(getattr(config, name), low, high, f"{where}: {name}")
    if config.patch % MULTIPLE:
        raise RequestError(f"{where}: patch is {config.patch}.", f"It must be a multiple of {MULTIPLE}.")
    if config.device not in DEVICES:
        raise RequestError(f"{where}: device is {config.device!r}.", f"Valid: {', '.join(DEVICES)}.")
    return config


def as_json(config: TrainingConfig) -> str:
    """The whole configuration, defaults included, as JSON text."""
    return json.dumps(asdict(config), indent=2) + "\n"


def without_places(config: TrainingConfig) -> TrainingConfig:
    """The configuration as a bundle carries it: only the last part of folders, as the rest may tell names."""
    data = replace(config.data, folder=Path(config.data.folder).name, cache=Path(config.data.cache).name)
    return replace(config, data=data)


def _check_data(config: TrainingConfig, where: str) -> None:
    data, split = config.data, config.split
    if data.source not in SOURCES:
        raise RequestError(f"{where}: data.source is {data.source!r}.", f"Valid: {', '.join(SOURCES)}.")
    if data.source == "pairs" and not data.folder:
        raise RequestError(f"{where}: data.folder is missing.", "Name the folder that holds one folder per patient.")
    if data.source == "simulated" and SYNTHETIC_LABEL not in (config.bundle.label or SYNTHETIC_LABEL):
        raise RequestError(
            f"{where}: bundle.label is {config.bundle.label!r}, but the patients are simulated.",
            f"Leave it out; it becomes {SYNTHETIC_LABEL!r}.",
        )
    if data.source == "simulated" and config.bundle.body_parts not in ((), (BODY_PART,)):
        raise RequestError(
            f"{where}: bundle.body_parts is {list(config.bundle.body_parts)}, but the patients are simulated.",
            f'Leave it out; it becomes ["{BODY_PART}"].',
        )
    if data.source == "pairs" and not config.bundle.label:
        raise RequestError(f"{where}: bundle.label is missing.", "Say in a few words what the model was trained on.")
    if data.source == "pairs":
        if not config.bundle.body_parts:
            raise RequestError(
                f"{where}: bundle.body_parts is missing.",
                'Name the body sites of the patients in DICOM terms, e.g. ["HEADNECK"]; the gate compares them.',
            )
        check_body_parts(config.bundle.body_parts, f"{where}: bundle.body_parts")
    _check_range(data.patients, 2, 1_000_000, f"{where}: data.patients")
    _check_range(data.seed, 0, 2**31, f"{where}: data.seed")
    _check_range(data.workers, 0, 1024, f"{where}: data.workers")
    _check_range(split.validation, 0, 0.9, f"{where}: split.validation")
    _check_range(split.test, 0, 0.9, f"{where}: split.test")
    if split.validation + split.test >= 1:
        raise RequestError(f"{where}: split leaves no patient to train on.", "Choose smaller fractions.")


def _check_dropout(dropout: ModalityDropout, where: str) -> None:
    _check_range(dropout.common, 0, 1, f"{where}: modality_dropout.common")
    _check_range(dropout.drop, 0, 1, f"{where}: modality_dropout.drop")
    if not dropout.common_sets:
        raise RequestError(f"{where}: modality_dropout.common_sets is empty.", "Name at least one set of images.")
    for keys in dropout.common_sets:
        unknown = [key for key in keys if key not in KEYS]
        if unknown or not any(key in FUNCTIONAL for key in keys):
            raise RequestError(
                f"{where}: modality_dropout.common_sets holds {list(keys)}.",
                f"Known images: {', '.join(KEYS)}; at least one of {', '.join(FUNCTIONAL)} in each set.",
            )


def _check_range(value: float, low: float, high: float, where: str) -> None:
    if not low <= value <= high:
        raise RequestError(f"{where} is {value}.", f"Allowed: {low:g} to {high:g}.")


def _build(kind: Any, values: Any, where: str) -> Any:
    """A dataclass from a JSON object: no unknown key, every required one, types as the defaults'."""
    if not isinstance(values, Mapping):
        raise RequestError(f"{where} is {values!r}.", "A JSON object is expected.")
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            raise RequestError(f"{where}: unknown key {key!r}.", f"Valid: {', '.join(known)}.")
    arguments = {}
    for name, declared in known.items():
        default = declared.default_factory() if declared.default_factory is not MISSING else declared.default
        if name not in values:
            if default is MISSING and name != "bundle":
                raise RequestError(f"{where}: the key {name!r} is missing.", "Add it.")
            if name == "bundle":
                raise RequestError(f"{where}: the key 'bundle' is missing.", "Say name, title and texts of the bundle.")
            continue
        nested = BundleText if name == "bundle" else type(default) if is_dataclass(default) else None
        arguments[name] = (
            _build(nested, values[name], f"{where}: {name}") if nested else _value(values[name], default, where, name)
        )
    return kind(**arguments)


def _value(value: Any, default: Any, where: str, name: str) -> Any:
    """One plain value of the default's type (text where there is no default)."""
    if name == "common_sets":
        if not isinstance(value, list) or not all(isinstance(keys, list) for keys in value):
            raise RequestError(f"{where}: {name} is {value!r}.", "A list of lists of image keys is expected.")
        return tuple(tuple(str(key) for key in keys) for keys in value)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise RequestError(f"{where}: {name} is {value!r}.", "A list of texts is expected.")
        return tuple(value)
    kind = str if default is MISSING else dict if isinstance(default, Mapping) else type(default)
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool) or (default is MISSING and not value.strip()):
        raise RequestError(f"{where}: {name} is {value!r}.", f"A {kind.__name__} is expected.")
    return float(value) if kind is float else value
