"""A trained model as a folder (MONAI bundle): read, checked down to every byte of its weights, and written.

Weights are safetensors only; nothing in a bundle is ever executed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, OutputError, RequestError
from .channels import BOX_MARGIN_MM, NETWORK_SPACING_MM
from .contract import CONTRACT, PICKLES, check_metadata, check_network_def, known_channels, pickle_error
from .weights import as_tensors, load_strictly, read_tensors, require_digest, save_tensors

if TYPE_CHECKING:
    import torch

METADATA, NETWORK = "configs/metadata.json", "configs/inference.json"
DISTRIBUTION = "models/distribution.safetensors"
SHIPPED = Path(__file__).parent / "bundles" / "hypoxia_synthetic_v1"
SHIPPED_METADATA_SHA256 = "724cd663ff5b0194786f7a0a04eb2ab1975ad90553308d0ac06eccd6492d284b"
"""Of the shipped configs/metadata.json (line ends as LF), which holds the SHA-256 of everything else."""
NOT_SHIPPED = "not the shipped one"
MAX_JSON_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose metadata and file digests were checked.

    Parameters
    ----------
    metadata : mapping
        configs/metadata.json as it stands.
    network_def : mapping
        ``{"_target_": name of a network in monai.networks.nets, **arguments}``.
    weights : tuple of Path
        One safetensors file per member of the ensemble.
    sha256 : tuple of str
        Of each weights file.
    distribution : Path or None
        Statistics of the training images, see ``inference.distribution``.
    metadata_sha256 : str
        Of the metadata file, line ends as LF: it holds the digests of everything else.
    """

    folder: Path
    metadata: Mapping[str, Any]
    network_def: Mapping[str, Any]
    weights: tuple[Path, ...]
    sha256: tuple[str, ...]
    distribution: Path | None
    distribution_sha256: str
    metadata_sha256: str

    @property
    def hypoxia(self) -> Mapping[str, Any]:
        """The part of the metadata that this software's contract names."""
        return self.metadata["hypoxia"]

    @property
    def name(self) -> str:
        """Short name; marked where a bundle that is not the shipped one carries the shipped name."""
        name = str(self.hypoxia["name"])
        return name if name != SHIPPED.name or self.is_shipped else f"{name} ({NOT_SHIPPED})"

    @property
    def is_shipped(self) -> bool:
        """True for the very bundle this software was released with, wherever it lies."""
        return self.metadata_sha256 == SHIPPED_METADATA_SHA256

    @property
    def origin(self) -> str:
        """Whose bundle it is, in words."""
        if self.is_shipped:
            return "the bundle this software was released with"
        if self.hypoxia["name"] == SHIPPED.name or set(self.sha256) & _shipped_weights():
            return f"EDITED COPY of the shipped bundle, {NOT_SHIPPED}"
        return f"user's bundle, {NOT_SHIPPED}"

    @property
    def label(self) -> str:
        """What must stand wherever its map stands."""
        return str(self.hypoxia["label"])

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return str(self.metadata["version"])

    def network(self, member: int) -> torch.nn.Module:
        """The network of one member with its weights, on the CPU, ready to predict.

        Raises
        ------
        InputError
            If the weights are not those of this network, naming the keys.
        """
        from .network import make_network

        network = make_network(self.network_def)
        load_strictly(network, read_tensors(self.weights[member], self.sha256[member]), str(self.weights[member]))
        return network.eval()

    def distribution_tensors(self) -> dict[str, np.ndarray]:
        """Tensors of the distribution file by name; empty when there is none."""
        if self.distribution is None:
            return {}
        tensors = read_tensors(self.distribution, self.distribution_sha256)
        return {name: tensor.numpy() for name, tensor in tensors.items()}


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and check everything but the weights' fit to the network (``Bundle.network`` does).

    Raises
    ------
    InputError
        Naming file and field: missing or of the wrong type, another contract, other channels, an expression, a
        pickle, a path that leaves the bundle, a weights file whose SHA-256 is not the one in the metadata.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no bundle folder {folder}.", "Give the folder that holds configs/metadata.json.")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise pickle_error(str(path))
    metadata = _read_json(folder / METADATA)
    check_metadata(metadata, str(folder / METADATA))
    network_def = _network_def(folder, metadata)
    hypoxia = metadata["hypoxia"]
    weights = tuple(_checked_file(folder, entry) for entry in hypoxia["weights"])
    found = hypoxia["distribution"]
    return Bundle(
        folder,
        metadata,
        network_def,
        weights,
        tuple(entry["sha256"] for entry in hypoxia["weights"]),
        _checked_file(folder, found) if found else None,
        found["sha256"] if found else "",
        _metadata_sha256(folder),
    )


def shipped_bundle() -> Bundle:
    """The bundle that comes with this software; its metadata must be the pinned ones.

    Raises
    ------
    InputError
        If it is not installed, or anything in it was changed.
    """
    if not (SHIPPED / METADATA).is_file():
        raise InputError(
            f"This installation has no shipped bundle ({SHIPPED.name}).",
            "Install the released package, or name a bundle of your own (`hypoxia train` writes one).",
        )
    digest = _metadata_sha256(SHIPPED)
    if digest != SHIPPED_METADATA_SHA256:
        raise InputError(
            f"{SHIPPED / METADATA} is not the one this software was released with (SHA-256 {digest}).",
            "Install the package again. A bundle of your own is named by its folder.",
        )
    return load_bundle(SHIPPED)


def _shipped_weights() -> set[str]:
    """SHA-256 of the shipped weights; empty where no bundle is installed."""
    path = SHIPPED / METADATA
    if not path.is_file():
        return set()
    return {str(entry["sha256"]) for entry in _read_json(path)["hypoxia"]["weights"]}


def _metadata_sha256(folder: Path) -> str:
    """SHA-256 of a bundle's metadata; line ends as LF, so that a checkout on Windows is the same file."""
    return hashlib.sha256((folder / METADATA).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def write_bundle(
    folder: Path | str,
    metadata: Mapping[str, Any],
    network_def: Mapping[str, Any],
    member_states: Sequence[Mapping[str, torch.Tensor]],
    distribution: Mapping[str, np.ndarray] | None = None,
) -> Bundle:
    """Write a bundle whole or not at all, and read it back.

    Parameters
    ----------
    folder : path
        Must not exist.
    metadata : mapping
        MONAI's fields and ``hypoxia``. Contract, channels, grid, versions of packages and digests are filled in here.
    network_def : mapping
        See ``Bundle``.
    member_states : sequence of mappings
        State dictionary of each member.
    distribution : mapping, optional
        Arrays of the distribution gate; ``amend_bundle`` adds them later as well.

    Raises
    ------
    OutputError
        If the folder exists or cannot be written.
    InputError
        If what is written would be refused by ``load_bundle``.
    """
    folder = Path(folder)
    if folder.exists():
        raise OutputError(f"{folder} exists.", "Nothing is overwritten: give another folder.")
    work = _work_folder(folder)
    try:
        entries = []
        for i, state in enumerate(member_states):
            tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
            entries.append(save_tensors(work, f"models/member_{i}.safetensors", tensors))
        filled = _filled(metadata, network_def, entries)
        if distribution is not None:
            filled["hypoxia"]["distribution"] = save_tensors(work, DISTRIBUTION, as_tensors(distribution))
        _write_json(work / NETWORK, {"network_def": dict(network_def)})
        _write_json(work / METADATA, filled)
        _write_texts(work, filled)
        load_bundle(work)
        work.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.", "Check the disk.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_bundle(folder)


def amend_bundle(folder: Path | str, distribution: Mapping[str, np.ndarray] | None = None, **hypoxia: Any) -> Bundle:
    """Add to a bundle what is only known after training: the distribution gate, ranges, regression coefficients.

    The weights stay. New metadata are checked before the old ones are replaced.

    Parameters
    ----------
    distribution : mapping, optional
        Arrays of models/distribution.safetensors.
    **hypoxia
        Fields of ``hypoxia`` in the metadata, replaced whole.
    """
    bundle = load_bundle(folder)
    metadata = {**bundle.metadata, "hypoxia": {**bundle.hypoxia, **hypoxia}}
    work = _work_folder(bundle.folder)
    try:
        if distribution is not None:
            metadata["hypoxia"]["distribution"] = save_tensors(work, DISTRIBUTION, as_tensors(distribution))
        check_metadata(metadata, METADATA)
        _write_json(work / METADATA, metadata)
        if distribution is not None:
            (work / DISTRIBUTION).replace(bundle.folder / DISTRIBUTION)
        (work / METADATA).replace(bundle.folder / METADATA)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_bundle(folder)


def _network_def(folder: Path, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The checked network definition; its digest is compared where the metadata give one."""
    content = _read_json(folder / NETWORK)
    if not isinstance(content, dict) or not isinstance(content.get("network_def"), dict):
        raise InputError(f"{folder / NETWORK}: the field network_def is missing.", 'Expected: {"network_def": {...}}.')
    network_def = content["network_def"]
    check_network_def(network_def, str(folder / NETWORK))
    pinned = metadata["hypoxia"].get("network_sha256")
    if pinned is not None and _json_digest(network_def) != pinned:
        raise InputError(
            f"{folder / NETWORK}: network_def is not the one the weights were trained with (SHA-256 differs).",
            "Take the bundle again from its source.",
        )
    return network_def


def _checked_file(folder: Path, entry: Mapping[str, str]) -> Path:
    """Path of a file of the bundle whose digest is the one in the metadata."""
    path = folder / entry["file"]
    if not path.is_file():
        raise InputError(f"{path} is missing from the bundle.", "Take the bundle again from its source.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} points out of the bundle.", "Put the file itself into models/.")
    require_digest(path, path.read_bytes(), entry["sha256"])
    return path


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} is missing from the bundle.", "A bundle holds configs/metadata.json and models/.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path} is larger than {MAX_JSON_BYTES // 2**20} MiB.", "That is no bundle's configuration.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON text ({error}).", "Take the bundle again from its source.") from error


def _json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _work_folder(folder: Path) -> Path:
    """A folder beside the target, on the same disk, so that the finished one is moved in one step."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        work.chmod(0o755)  # mkdtemp's 0o700 would keep other users of a shared disk out
        return work
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Choose a folder you may write.") from error


def _filled(
    metadata: Mapping[str, Any], network_def: Mapping[str, Any], weights: list[dict[str, str]]
) -> dict[str, Any]:
    """Metadata with what this software knows itself."""
    versions = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
    hypoxia = metadata.get("hypoxia")
    if not isinstance(hypoxia, Mapping):
        raise RequestError("Metadata without `hypoxia` cannot become a bundle.", "Give the contract's fields.")
    own = {
        "contract": CONTRACT,
        "channels": known_channels(),
        "spacing_mm": NETWORK_SPACING_MM,
        "box_margin_mm": BOX_MARGIN_MM,
        "network_sha256": _json_digest(dict(network_def)),
        "weights": weights,
        "distribution": None,
    }
    return {
        **{field: importlib.metadata.version(package) for field, package in versions.items()},
        **metadata,
        "hypoxia": {"ranges": {}, "spacing_range_mm": {}, **hypoxia, **own},
    }


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def _write_texts(folder: Path, metadata: Mapping[str, Any]) -> None:
    """What a person reads first, from the metadata."""
    hypoxia = metadata["hypoxia"]
    rows = [
        f"# {hypoxia['title']}",
        f"**{hypoxia['label']}**",
        metadata["description"],
        f"Trained on: {hypoxia['training_data']}",
        f"Body site: {', '.join(hypoxia.get('body_parts', ())) or 'not stated'}",
        f"Intended use: {hypoxia['intended_use']}",
        f"Licence: {hypoxia['licence']}",
        "Weights are safetensors; their SHA-256 stands in configs/metadata.json.",
    ]
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text("\n\n".join(rows) + "\n", encoding="utf-8", newline="\n")
    text = f"{metadata['copyright']}\n\nLicence of this bundle, its weights included: {hypoxia['licence']}\n"
    (folder / "LICENSE").write_text(text, encoding="utf-8", newline="\n")
