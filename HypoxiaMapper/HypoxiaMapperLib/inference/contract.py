"""What a bundle's metadata must say: fields, types and values, each refused with file, field and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import InputError
from ..volume import COMPARISONS
from .body_site import NO_SITE, term_of
from .channels import BOX_MARGIN_MM, CHANNELS, KEYS, NETWORK_SPACING_MM

CONTRACT = 1
"""Version of what stands under ``hypoxia`` in metadata.json. Raised when an older reader would misread a newer file."""
LONGEST_LABEL = 50
"""Characters; the title of a DICOM object holds 64 and also says that the map is a surrogate."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
WEIGHTS_NAME = re.compile(r"models/[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")
BODY_PART = re.compile(r"[A-Z0-9 _]{1,16}")
"""What Body Part Examined may hold (value representation CS)."""
MONAI_FIELDS: dict[str, type] = {
    "version": str, "monai_version": str, "pytorch_version": str, "numpy_version": str, "task": str,
    "description": str, "authors": str, "copyright": str, "data_type": str, "network_data_format": dict,
}  # fmt: skip
HYPOXIA_FIELDS: dict[str, type] = {
    "contract": int, "name": str, "title": str, "label": str, "training_data": str, "intended_use": str,
    "licence": str, "quantity": str, "unit": str, "threshold": float, "comparison": str, "channels": list,
    "required_any": list, "spacing_mm": float, "box_margin_mm": float, "tracers": dict, "weights": list,
    "ranges": dict, "spacing_range_mm": dict, "seed": int,
}  # fmt: skip
_WORDS = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
_HINT = "Write the bundle with `hypoxia train`, or complete it by the contract in Resources/docs/models.md."


def known_channels() -> list[dict[str, Any]]:
    """The channels of this software as they stand in a bundle's metadata."""
    return [asdict(channel) for channel in CHANNELS]


def check_metadata(metadata: Any, where: str) -> None:
    """Refuse metadata that break the contract.

    Parameters
    ----------
    metadata : object
        What the JSON file holds.
    where : str
        Its path, for the message.

    Raises
    ------
    InputError
        Naming the field, what it holds and what is expected.
    """
    _check_fields(metadata, MONAI_FIELDS, where, "")
    hypoxia = _field(metadata, "hypoxia", dict, where, "")
    contract = _field(hypoxia, "contract", int, where, "hypoxia.")
    if contract != CONTRACT:
        raise InputError(
            f"{where}: hypoxia.contract is {contract}; this software reads contract {CONTRACT}.",
            "Use the software version the bundle was written with, or train the bundle again.",
        )
    _check_fields(hypoxia, HYPOXIA_FIELDS, where, "hypoxia.")
    if hypoxia["comparison"] not in COMPARISONS:
        raise InputError(
            f"{where}: hypoxia.comparison is {hypoxia['comparison']!r}.", f"Valid: {', '.join(COMPARISONS)}."
        )
    if len(hypoxia["label"]) > LONGEST_LABEL:
        raise InputError(
            f"{where}: hypoxia.label has {len(hypoxia['label'])} characters.",
            f"At most {LONGEST_LABEL} stay readable in a DICOM title: put the rest into intended_use.",
        )
    if "body_parts" in hypoxia:
        check_body_parts(hypoxia["body_parts"], f"{where}: hypoxia.body_parts")
    _check_channels(hypoxia, where)
    _check_ranges(hypoxia, where)
    _check_files(hypoxia, where)


def check_body_parts(found: Any, where: str) -> None:
    """Refuse body sites that are no DICOM terms, or that name no site.

    Raises
    ------
    InputError
        Naming the term.
    """
    hint = 'Terms as in Body Part Examined (0018,0015), PS3.16 Annex L, e.g. ["HEADNECK"].'
    if not isinstance(found, list | tuple) or not found:
        raise InputError(f"{where} is {found!r}; a list of terms is expected.", hint)
    for term in found:
        if not isinstance(term, str) or not BODY_PART.fullmatch(term) or term_of(term) in (*NO_SITE, ""):
            raise InputError(f"{where} holds {term!r}, which is no term of one body site.", hint)


def check_network_def(network_def: Any, where: str) -> None:
    """Refuse a network definition that could run code: only a plain class name and plain values.

    Raises
    ------
    InputError
        Naming the expression. MONAI evaluates texts that start with "$" and imports dotted names; here nothing is.
    """
    target = _field(network_def, "_target_", str, where, "network_def.")
    if not target.isidentifier():
        raise InputError(
            f"{where}: network_def._target_ is {target!r}.",
            "Only the plain name of a network in monai.networks.nets is taken, such as UNet.",
        )
    for key, value in network_def.items():
        if key != "_target_":
            _check_plain(key, value, f"{where}: network_def.{key}")


def _check_plain(key: str, value: Any, where: str) -> None:
    """Refuse expressions, references, nested objects to build and downloads."""
    if key.startswith("_"):
        raise InputError(f"{where} is not an argument of a network.", "Remove it: only plain values are taken.")
    if key == "pretrained" and value:
        raise InputError(f"{where} asks for weights from elsewhere.", "Set it to false; weights come from models/.")
    if isinstance(value, Mapping):
        for inner, content in value.items():
            _check_plain(str(inner), content, f"{where}.{inner}")
    elif isinstance(value, list | tuple):
        for content in value:
            _check_plain("", content, where)
    elif isinstance(value, str) and value[:1] in ("$", "@", "%"):
        raise InputError(
            f"{where} is the expression {value!r}, which could run code.", "Write the value itself instead."
        )
    elif not isinstance(value, str | int | float | bool | None):
        raise InputError(f"{where} holds a {type(value).__name__}.", "Only plain values are taken.")


def _field(values: Any, key: str, kind: type, where: str, prefix: str) -> Any:
    """A field of the right type, never empty; a whole number serves as a number."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {prefix.rstrip('.') or 'the file'} is no object.", _HINT)
    if key not in values:
        raise InputError(f"{where}: the field {prefix}{key} is missing.", _HINT)
    value = values[key]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where}: {prefix}{key} is {value!r}; {_WORDS[kind]} is expected.", _HINT)
    if kind is float and not abs(value) < float("inf"):
        raise InputError(f"{where}: {prefix}{key} is {value!r}.", "A finite number is expected.")
    if kind is str and not value.strip():
        raise InputError(f"{where}: {prefix}{key} is empty.", _HINT)
    return value


def _check_fields(values: Any, wanted: Mapping[str, type], where: str, prefix: str) -> None:
    for key, kind in wanted.items():
        _field(values, key, kind, where, prefix)


def _check_channels(hypoxia: Mapping[str, Any], where: str) -> None:
    """Channels, grid and required images must be those this software prepares."""
    for found, known in zip(hypoxia["channels"], known_channels(), strict=False):
        if found != known:
            raise InputError(
                f"{where}: hypoxia.channels holds {found!r}; this software prepares {known!r}.",
                "The network was trained on other inputs: train it again, or use the software it was written with.",
            )
    if len(hypoxia["channels"]) != len(CHANNELS):
        raise InputError(
            f"{where}: hypoxia.channels has {len(hypoxia['channels'])} entries; {len(CHANNELS)} are expected.",
            f"In this order: {', '.join(KEYS)}.",
        )
    for key, wanted_mm in (("spacing_mm", NETWORK_SPACING_MM), ("box_margin_mm", BOX_MARGIN_MM)):
        if float(hypoxia[key]) != wanted_mm:
            raise InputError(
                f"{where}: hypoxia.{key} is {hypoxia[key]:g} mm; this software prepares {wanted_mm:g} mm.",
                "Train the network again on this software's grid.",
            )
    _check_keys(hypoxia["required_any"], where, "required_any")
    _check_keys(hypoxia["tracers"], where, "tracers")
    if not hypoxia["required_any"]:
        raise InputError(f"{where}: hypoxia.required_any is empty.", "Name the images of which one must be there.")


def _check_keys(keys: Any, where: str, name: str) -> None:
    for key in keys:
        if key not in KEYS:
            raise InputError(f"{where}: hypoxia.{name} names {key!r}.", f"Known images: {', '.join(KEYS)}.")


def _check_ranges(hypoxia: Mapping[str, Any], where: str) -> None:
    """Ranges are pairs of finite numbers, the lower one first."""
    _check_keys(hypoxia["ranges"], where, "ranges")
    _check_keys(hypoxia["spacing_range_mm"], where, "spacing_range_mm")
    pairs = {f"spacing_range_mm.{key}": pair for key, pair in hypoxia["spacing_range_mm"].items()}
    for key, entry in hypoxia["ranges"].items():
        low = _field(entry, "low", float, where, f"hypoxia.ranges.{key}.")
        pairs[f"ranges.{key}"] = [low, _field(entry, "high", float, where, f"hypoxia.ranges.{key}.")]
    structure = _field(hypoxia, "structure", dict, where, "hypoxia.") if "structure" in hypoxia else {}
    _check_keys(structure, where, "structure")
    for key in structure:
        measures = _field(structure, key, dict, where, "hypoxia.structure.")
        pairs |= {f"structure.{key}.{name}": pair for name, pair in measures.items()}
    if "gtv_volume_range_ml" in hypoxia:
        pairs["gtv_volume_range_ml"] = hypoxia["gtv_volume_range_ml"]
    for name, pair in pairs.items():
        numbers = isinstance(pair, list | tuple) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < float("inf") for v in pair
        )
        if not numbers or len(pair) != 2 or pair[0] > pair[1]:
            raise InputError(f"{where}: hypoxia.{name} is {pair!r}.", "Two numbers are expected, the lower one first.")


def _check_files(hypoxia: Mapping[str, Any], where: str) -> None:
    """Every weights file by name and SHA-256, inside models/."""
    if not hypoxia["weights"]:
        raise InputError(f"{where}: hypoxia.weights is empty.", "A bundle needs at least one weights file.")
    entries = [(f"weights[{i}]", entry) for i, entry in enumerate(hypoxia["weights"])]
    if "distribution" not in hypoxia:
        raise InputError(f"{where}: the field hypoxia.distribution is missing.", "Write null if there is none.")
    if hypoxia["distribution"] is not None:
        entries.append(("distribution", hypoxia["distribution"]))
    for name, entry in entries:
        file = _field(entry, "file", str, where, f"hypoxia.{name}.")
        digest = _field(entry, "sha256", str, where, f"hypoxia.{name}.")
        if file.lower().endswith(PICKLES):
            raise pickle_error(f"{where}: hypoxia.{name}.file {file!r}")
        if not WEIGHTS_NAME.fullmatch(file) or ".." in file:
            raise InputError(
                f"{where}: hypoxia.{name}.file is {file!r}.", "Weights lie in models/ and end in .safetensors."
            )
        if not SHA256.fullmatch(digest):
            raise InputError(f"{where}: hypoxia.{name}.sha256 is {digest!r}.", "64 hexadecimal digits are expected.")
    files = [entry["file"] for _, entry in entries]
    if len(set(files)) != len(files):
        raise InputError(f"{where}: one file stands twice in hypoxia.weights.", "Every member has weights of its own.")


def pickle_error(what: str) -> InputError:
    """A pickle can run any code while it is read: refused, with the way to convert it."""
    return InputError(
        f"{what} is a pickle, which can execute code when it is read.",
        "Convert it where you trust it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
        "'models/member_0.safetensors'), and remove the pickle.",
    )
