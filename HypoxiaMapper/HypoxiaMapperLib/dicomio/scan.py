"""Scan a folder: every DICOM series with its role, and every file left out with the reason.

One pass over the headers. Of every file only identifiers and position are read and decoded, which keeps the scan near
the speed of reading the headers at all; the first file of each series is read once more for what describes it.
"""

from __future__ import annotations

import functools
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ..errors import InputError
from ..methods._base import Progress, no_progress
from .model import LeftOut, ScanResult
from .series_facts import SERIES_TAGS, ScannedFile, build_series_info
from .stack import SlicePlane

_IMAGE_ROLES = {
    "1.2.840.10008.5.1.4.1.1.2": "planning_ct",
    "1.2.840.10008.5.1.4.1.1.128": "pet",
    "1.2.840.10008.5.1.4.1.1.4": "mr",
    "1.2.840.10008.5.1.4.1.1.4.1": "mr",  # enhanced
    "1.2.840.10008.5.1.4.1.1.130": "pet",  # enhanced
}
_OBJECT_ROLES = {
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
    "1.2.840.10008.5.1.4.1.1.481.2": "rtdose",
    "1.2.840.10008.5.1.4.1.1.481.5": "rtplan",
    "1.2.840.10008.5.1.4.1.1.66.1": "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "registration",
}
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_DICOMDIR = "1.2.840.10008.1.3.10"
_READ_ERRORS = (
    *(InvalidDicomError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(struct.error, zlib.error),
)

_SOP_CLASS, _SOP_INSTANCE, _SERIES = Tag(0x00080016), Tag(0x00080018), Tag(0x0020000E)
_IMAGE_TYPE, _ROWS, _COLUMNS, _SPACING = Tag(0x00080008), Tag(0x00280010), Tag(0x00280011), Tag(0x00280030)
_POSITION, _ORIENTATION, _THICKNESS = Tag(0x00200032), Tag(0x00200037), Tag(0x00180050)
_PATIENT = (Tag(0x00100010), Tag(0x00100020), Tag(0x00100030), Tag(0x00100040))  # name, ID, birth date, sex
_FILE_TAGS = [
    *(_SOP_CLASS, _SOP_INSTANCE, _SERIES, _IMAGE_TYPE, _ROWS, _COLUMNS, _SPACING, _POSITION, _ORIENTATION, _THICKNESS),
    *_PATIENT,
]
_Entries = Mapping[Any, Any]  # undecoded elements by tag
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x10")


@dataclass
class _Group:
    """Files of one series so far: role, header and patient of the first, and the first header of any other patient."""

    role: str
    header: FileDataset
    patient: tuple[bytes, ...]
    files: list[ScannedFile] = field(default_factory=list)
    others: dict[tuple[bytes, ...], tuple[Path, FileDataset]] = field(default_factory=dict)


class _Skip(Exception):
    """A file that is not used; the text is the reason."""


def scan_folder(folder: Path, progress: Progress = no_progress) -> ScanResult:
    """Find every DICOM series below a folder.

    Parameters
    ----------
    folder : Path
        Searched with all folders below it; links to folders are not followed.
    progress : callable
        Called with the fraction done and a line of text.

    Returns
    -------
    ScanResult
        Series in the order of their first file, and every other file with the reason it was left out.

    Raises
    ------
    InputError
        If the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", "Give the folder that holds the DICOM files.")
    left_out: list[LeftOut] = []
    paths = sorted(_walk(folder, left_out))
    groups: dict[tuple[str, str], _Group] = {}
    seen: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number, path in enumerate(paths):
            if number % 50 == 0:
                progress(number / len(paths), f"{number} of {len(paths)} files")
            caught.clear()
            try:
                _scan_file(path, groups, seen, caught)
            except _Skip as skip:
                left_out.append(LeftOut(Path(path), str(skip)))
        series = []
        for group in groups.values():
            try:
                series.append(build_series_info(group.role, group.header, group.files, tuple(group.others.values())))
            except _READ_ERRORS as error:
                reason = f"{group.role} header holds a value that cannot be read ({error})"
                left_out += [LeftOut(file.path, reason) for file in group.files]
    progress(1.0, f"{len(paths)} files, {len(series)} series, {len(left_out)} files left out")
    return ScanResult(folder, tuple(series), tuple(sorted(left_out, key=lambda item: item.path)))


def _walk(folder: Path, left_out: list[LeftOut]) -> Iterator[str]:
    """Paths of all files below a folder; an unreadable folder is noted."""

    def note(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename or folder), f"folder cannot be read: {error.strerror}"))

    for parent, _folders, names in os.walk(folder, onerror=note):
        for name in names:
            yield os.path.join(parent, name)


def _scan_file(
    path: str,
    groups: dict[tuple[str, str], _Group],
    seen: dict[str, str],
    caught: list[warnings.WarningMessage],
) -> None:
    """Read one header and put the file into its series, or raise ``_Skip``."""
    header = _read_header(path, _FILE_TAGS, caught)
    entries = dict(header.items())
    sop_class, instance, series = _sop_class(header), _text(entries, _SOP_INSTANCE), _text(entries, _SERIES)
    role = _role(sop_class, entries)
    if not instance or not series:
        raise _Skip("no SOP Instance UID (0008,0018) or Series Instance UID (0020,000E)")
    if instance in seen:
        raise _Skip(f"duplicate of {seen[instance]}: same SOP Instance UID (0008,0018)")
    is_image = sop_class in _IMAGE_ROLES
    entry = ScannedFile(Path(path), _plane(os.path.basename(path), entries) if is_image else None)
    # Objects such as structure sets may share a series and are still separate things.
    key = (series, sop_class if is_image else instance)
    patient = tuple(_bytes(entries, tag).strip(b" \0") for tag in _PATIENT)
    if key not in groups:  # the first of a series is read again for what describes the series
        groups[key] = _Group(role, _read_header(path, SERIES_TAGS, caught), patient)
    group = groups[key]
    if patient != group.patient and patient not in group.others:
        group.others[patient] = (entry.path, _read_header(path, SERIES_TAGS, caught))
    group.files.append(entry)
    seen[instance] = path


def _role(sop_class: str, entries: _Entries) -> str:
    """Role of a SOP class, or ``_Skip`` for what is not used."""
    if sop_class in _IMAGE_ROLES:
        if b"LOCALIZER" in _bytes(entries, _IMAGE_TYPE):
            raise _Skip("localizer (scout) image")
        return _IMAGE_ROLES[sop_class]
    if sop_class in _OBJECT_ROLES:
        return _OBJECT_ROLES[sop_class]
    if sop_class == _DICOMDIR:
        raise _Skip("DICOMDIR: an index of other files")
    if not sop_class:
        raise _Skip("truncated or broken: no SOP Class UID (0008,0016)")
    name = UID(sop_class).name
    if sop_class == _ENHANCED_CT:
        raise _Skip(f"{name}: an enhanced multi-frame CT cannot be the planning CT; export as single-frame images")
    raise _Skip(f"SOP class is not used here: {name}")


def _read_header(path: str, tags: list[BaseTag], caught: list[warnings.WarningMessage]) -> FileDataset:
    """The wanted entries of a file, or ``_Skip`` with the reason it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise _Skip("empty file")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            _require_complete(file, size, header, caught)
            return header
    except InvalidDicomError:
        raise _Skip("not a DICOM file (no DICM prefix)") from None
    except OSError as error:
        if error.errno is None:  # raised by the parser, not by the system
            raise _Skip(f"truncated or broken DICOM header ({error})") from None
        raise _Skip(f"cannot be read: {error.strerror}") from None
    except _READ_ERRORS as error:
        raise _Skip(f"truncated or broken DICOM header ({type(error).__name__}: {error})") from None


def _require_complete(file: BinaryIO, size: int, header: FileDataset, caught: list[warnings.WarningMessage]) -> None:
    """``_Skip`` a file that ends before its header or pixel data do."""
    position = file.tell()
    start = file.read(12)
    if start[:4] in _PIXEL_TAGS:
        explicit = start[4:6] in (b"OB", b"OW", b"OF", b"OD")
        big = start[:1] == b"\x7f"
        length = int.from_bytes(start[8:12] if explicit else start[4:8], "big" if big else "little")
        missing = position + (12 if explicit else 8) + length - size
        if length != 0xFFFFFFFF and missing > 0:
            raise _Skip(f"truncated: pixel data ends {missing} bytes after the file")
        return
    if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return  # unpacked in memory: the file position says nothing, and a cut stream has raised already
    if position > size or any("file" in str(w.message).lower() and "end" in str(w.message).lower() for w in caught):
        raise _Skip("truncated: the header ends after the file")
    if _sop_class(header) in _IMAGE_ROLES:
        raise _Skip("truncated or without image: no pixel data (7FE0,0010)")


def _sop_class(header: FileDataset) -> str:
    """SOP class of the object, or of the file where the object has none (DICOMDIR)."""
    return _text(dict(header.items()), _SOP_CLASS) or str(header.file_meta.get("MediaStorageSOPClassUID", ""))


def _plane(name: str, entries: _Entries) -> SlicePlane | None:
    """Where an image slice lies; None when the header does not say it."""
    position = _numbers(_bytes(entries, _POSITION))
    orientation, spacing = _numbers(_bytes(entries, _ORIENTATION)), _numbers(_bytes(entries, _SPACING))
    thickness = _numbers(_bytes(entries, _THICKNESS))
    if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2 or _ROWS not in entries:
        return None
    order: Literal["little", "big"] = "little" if entries[_ROWS].is_little_endian else "big"
    return SlicePlane(
        name=name,
        position=position,
        orientation=orientation,
        pixel_spacing_mm=spacing,
        shape=(int.from_bytes(_bytes(entries, _ROWS), order), int.from_bytes(_bytes(entries, _COLUMNS), order)),
        thickness_mm=thickness[0] if thickness else float("nan"),
    )


def _bytes(entries: _Entries, tag: int) -> bytes:
    """Undecoded value; the raw form is many times cheaper than pydicom's value objects."""
    element = entries.get(tag)
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else b""


def _text(entries: _Entries, tag: int) -> str:
    """Undecoded value of an ASCII entry as text without padding."""
    return _bytes(entries, tag).decode("ascii", "replace").strip(" \0")


@functools.lru_cache(maxsize=4096)
def _numbers(text: bytes) -> tuple[float, ...]:
    """Values of a decimal string, empty when it is no number; slices of a series repeat most of them."""
    try:
        return tuple(float(part) for part in text.strip(b" \0").split(b"\\"))
    except ValueError:
        return ()
