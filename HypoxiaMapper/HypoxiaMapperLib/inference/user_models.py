"""Published models whose terms forbid passing them on: where the user's own copy lies, and who accepted the terms.

The settings file is one JSON object; other parts of the software may keep their own entries in it::

    {"user_models": {"mskcc_tbr": {"path": "...", "accepted_by": "A. Person", "accepted_on": "2026-11-21",
                                   "accepted_terms": "..."}}}

Nothing is ever downloaded, and a file is read only if it is byte by byte the published one (SHA-256).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, RequestError

SETTINGS_VARIABLE = "HYPOXIA_SETTINGS"
_SECTION = "user_models"
_LARGEST_BYTES = 256 * 2**20  # of a file named by mistake no more than this is read; its digest is wrong anyway


@dataclass(frozen=True)
class PublishedModel:
    """A model the user can bring.

    Parameters
    ----------
    file_name, sha256 : str
        The file as published, and its digest (hexadecimal).
    repository, place : str
        Where it is published, and where it lies there.
    terms : str
        Summary of the terms in our words; the terms themselves are in the repository.
    """

    name: str
    title: str
    file_name: str
    sha256: str
    repository: str
    place: str
    terms: str
    citation: str

    @property
    def how_to_get(self) -> str:
        """What the user does to have the model here, in one text."""
        return (
            f"Read the terms at {self.repository} and, if you accept them, download {self.place} there and register "
            f"your copy of {self.file_name} as {self.name}, with your name."
        )


MSKCC_TBR = PublishedModel(
    name="mskcc_tbr",
    title="MSKCC FDG to FMISO ratio generator (head and neck)",
    file_name="latest_net_G.pth",
    sha256="348a6330680b71a6a5203f1820b71f368d9ca20cc12dae24265b5b6baa93b29b",  # of the published file, commit 69c09fb
    repository="https://github.com/cerr/fdg2fmiso_hn_pix2pix",
    place="checkpoints/fdg_tbr_pix2pix/latest_net_G.pth",
    terms=(
        "Summary, not the terms: research use only, non-commercial and approved by an ethics board (IRB); not approved "
        "for clinical use, and nothing it produces may enter the care of a patient. No copy, and no copy of software "
        "derived from it, may be given to others outside your organisation without written permission. No warranty, "
        "no liability; Memorial Sloan Kettering Cancer Center keeps all rights. US export law applies. Publications "
        "cite what the repository names. The terms in the repository are what counts: read them there."
    ),
    citation="Zhao et al., Phys Imaging Radiat Oncol 2025, doi 10.1016/j.phro.2025.100769",
)
PUBLISHED_MODELS = {model.name: model for model in (MSKCC_TBR,)}


@dataclass(frozen=True)
class Registration:
    """The user's copy of a model: where it lies, and who accepted its terms when (ISO date)."""

    path: str
    accepted_by: str
    accepted_on: str
    accepted_terms: str


@dataclass(frozen=True)
class ModelStatus:
    """A published model as it stands on this machine, for panel and command line.

    Parameters
    ----------
    available : bool
        True if a file is registered and is the published one.
    reason : str
        Empty when available, else what is missing.
    sha256_matches : bool or None
        None where there is no file to compare.
    registration : Registration or None
        None where nothing is registered.
    """

    model: PublishedModel
    available: bool
    reason: str
    sha256_matches: bool | None
    registration: Registration | None


def settings_path() -> Path:
    """The settings file: ``HYPOXIA_SETTINGS``, else ``hypoxia/settings.json`` in the user's configuration folder."""
    stated = os.environ.get(SETTINGS_VARIABLE, "")
    if stated:
        return Path(stated)
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA", "") or str(Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        folder = str(Path.home() / "Library" / "Application Support")
    else:
        folder = os.environ.get("XDG_CONFIG_HOME", "") or str(Path.home() / ".config")
    return Path(folder) / "hypoxia" / "settings.json"


def published_model(name: str) -> PublishedModel:
    """The published model of that name.

    Raises
    ------
    RequestError
        If there is none, listing the valid names.
    """
    if name not in PUBLISHED_MODELS:
        raise RequestError(f"There is no published model {name!r}.", f"Known: {', '.join(PUBLISHED_MODELS)}.")
    return PUBLISHED_MODELS[name]


def register(name: str, path: Path, accepted_by: str, accepted_on: date | None = None) -> Registration:
    """Remember the user's copy of a model; the person named has read and accepted its terms.

    Parameters
    ----------
    name : str
        Of a published model.
    path : Path
        The user's file; it stays where it is.
    accepted_by : str
        The person's name.
    accepted_on : date, optional
        Today, if not given.

    Raises
    ------
    RequestError
        Unknown model, or no name of a person.
    InputError
        If the file is missing or is not the published one; nothing is stored then.
    OutputError
        If the settings file cannot be written.
    """
    model = published_model(name)
    person = " ".join(accepted_by.split())
    if not person:
        raise RequestError(f"{name}: the terms were accepted by nobody.", "Give the name of the person who read them.")
    path = Path(path).expanduser().absolute()
    _checked_bytes(model, path)
    found = Registration(str(path), person, (accepted_on or date.today()).isoformat(), model.terms)
    settings = _read_settings()
    _write_settings({**settings, _SECTION: {**_section(settings), name: asdict(found)}})
    return found


def forget(name: str) -> None:
    """Remove a registration, if there is one; the user's file is left alone.

    Raises
    ------
    RequestError
        For an unknown model.
    OutputError
        If the settings file cannot be written.
    """
    settings = _read_settings()
    entries = _section(settings)
    if published_model(name).name in entries:
        _write_settings({**settings, _SECTION: {key: value for key, value in entries.items() if key != name}})


def registered(name: str) -> Registration | None:
    """The registration of a published model; None where there is none.

    Raises
    ------
    RequestError
        For an unknown model.
    InputError
        If the settings file cannot be read or its entry lacks something.
    """
    entry = _section(_read_settings()).get(published_model(name).name)
    if entry is None:
        return None
    keys = tuple(Registration.__dataclass_fields__)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) and entry[key] for key in keys):
        raise InputError(
            f"{settings_path()}: the entry of {name} lacks one of {', '.join(keys)}.", "Register the model again."
        )
    return Registration(**{key: entry[key] for key in keys})


def list_models() -> tuple[ModelStatus, ...]:
    """Every published model and whether it can be used here; a damaged settings file is a reason, no error."""
    return tuple(_status(model) for model in PUBLISHED_MODELS.values())


def unavailable_reason(name: str) -> str:
    """Empty where the user's file is registered and is the published one, else what is missing and how to get it."""
    status = _status(published_model(name))
    return "" if status.available else f"{status.reason} {status.model.how_to_get}"


def read_weights(name: str) -> bytes:
    """The registered file's bytes, checked against the published digest.

    Raises
    ------
    RequestError
        If nothing is registered.
    InputError
        If the file is missing or is not the published one; it is not interpreted then.
    """
    model, found = published_model(name), registered(name)
    if found is None:
        raise RequestError(f"No file is registered for {name}.", model.how_to_get)
    return _checked_bytes(model, Path(found.path))


def _status(model: PublishedModel) -> ModelStatus:
    """See ``list_models``."""
    try:
        found = registered(model.name)
    except InputError as error:
        return ModelStatus(model, False, str(error), None, None)
    if found is None:
        return ModelStatus(model, False, f"The user's own copy of {model.file_name} is not registered.", None, None)
    try:
        _checked_bytes(model, Path(found.path))
    except InputError as error:
        return ModelStatus(model, False, error.message, False if Path(found.path).is_file() else None, found)
    return ModelStatus(model, True, "", True, found)


def _checked_bytes(model: PublishedModel, path: Path) -> bytes:
    """A file's bytes if they are the published ones."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", model.how_to_get) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.sha256:
        raise InputError(
            f"{path} is not the published {model.file_name}: its SHA-256 is {digest[:12]}..., that of the published "
            f"file {model.sha256[:12]}... It was not opened.",
            model.how_to_get,
        )
    return data


def _section(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of user models."""
    section = settings.get(_SECTION, {})
    if not isinstance(section, dict):
        raise InputError(f"{settings_path()}: {_SECTION} is no JSON object.", "Repair or remove the settings file.")
    return section


def _read_settings() -> dict[str, Any]:
    """The settings; empty where there is no file."""
    path = settings_path()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Repair or remove the settings file.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object.", "Repair or remove the settings file.")
    return found


def _write_settings(settings: Mapping[str, Any]) -> None:
    """Write the settings whole or not at all: a new file beside the old one, then one rename."""
    path = settings_path()
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f"{path.name}.", delete=False
        ) as stream:
            temporary = stream.name
            json.dump(settings, stream, indent=2, ensure_ascii=False)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", f"Name another file in {SETTINGS_VARIABLE}."
        ) from error
