"""Send an exported set to a DICOM server (C-STORE), so that an interrupted transfer goes on where it stopped.

What the server has confirmed is noted line by line in a small file beside the set; a second call sends only the rest.
Source: DICOM PS3.4 Annex B (Storage Service Class), status codes of PS3.4 table B.2-1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pydicom

from HypoxiaMapperLib.errors import InputError, NetworkError, OutputError, RequestError
from HypoxiaMapperLib.methods import Progress, no_progress

STATE_NAME = "send_state.jsonl"
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
MAX_AE_TITLE = 16  # DICOM PS3.5 section 6.2, value representation AE
MAX_CONTEXTS = 128  # DICOM PS3.8 section 9.3.2.2: odd context identifiers 1 to 255
RESUME_HINT = "Send again with the same command: what was accepted is not sent twice."


@dataclass(frozen=True)
class Peer:
    """A DICOM server: application entity title, host and port."""

    ae_title: str
    host: str
    port: int

    def __post_init__(self) -> None:
        _check_ae_title(self.ae_title)
        if not self.host or not 1 <= self.port <= 65535:
            raise RequestError(f"DICOM server {self}: host or port is wrong.", "Ports are 1 to 65535.")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


@dataclass(frozen=True)
class FileStatus:
    """What became of one file: ``accepted``, ``accepted before``, ``refused`` or ``not sent``, and what was said."""

    file: str
    sop_instance_uid: str
    status: str
    message: str = ""


@dataclass(frozen=True)
class SendReport:
    """The status of every file of a set at a server."""

    peer: Peer
    files: tuple[FileStatus, ...]

    def count(self, status: str) -> int:
        """Number of files with a status."""
        return sum(f.status == status for f in self.files)

    @property
    def complete(self) -> bool:
        """True when the server has confirmed every file, now or before."""
        return self.count("accepted") + self.count("accepted before") == len(self.files)

    def summary(self) -> str:
        """Lines for a person: the counts, then every file that carries a message."""
        counts = [f"{n} {s}" for s in ("accepted", "accepted before", "refused", "not sent") if (n := self.count(s))]
        remarks = [f"  {f.file}: {f.status}: {f.message}" for f in self.files if f.message]
        return "\n".join([f"{self.peer}: {', '.join(counts) or 'no files'}", *remarks])


class SendError(NetworkError):
    """A transfer that did not end well; ``report`` holds the status of every file."""

    def __init__(self, message: str, hint: str, report: SendReport) -> None:
        super().__init__(message, hint)
        self.report = report


class _Item(NamedTuple):
    """A file and what an association must agree on to take it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def parse_peer(text: str) -> Peer:
    """Read ``AE@host:port``, e.g. ``ORTHANC@localhost:4242`` or ``PACS@[::1]:104``.

    Raises
    ------
    RequestError
        If the text has another form, the title is over 16 characters, or the port is none.
    """
    match = re.fullmatch(r"([^@]+)@(\[[0-9A-Fa-f:.]+\]|[^\s@:\[\]]+):(\d{1,5})", text.strip())
    if match is None:
        raise RequestError(f"DICOM server {text!r} is not understood.", "Write AE@host:port, e.g. PACS@localhost:104.")
    return Peer(match[1].strip(), match[2].strip("[]"), int(match[3]))


def send_folder(folder: Path, peer: Peer, calling_ae: str = "HYPOXIA", progress: Progress = no_progress) -> SendReport:
    """Send every ``*.dcm`` file of a result, or of its folder ``dicom``; the state file lies in the folder itself.

    See ``send_set``.

    Raises
    ------
    InputError
        If the folder holds no DICOM set.
    """
    files = sorted((folder / "dicom" if (folder / "dicom").is_dir() else folder).rglob("*.dcm"))
    if not files:
        raise InputError(f"{folder} holds no exported DICOM set.", "Run with --accepted-by NAME first.")
    return send_set(files, peer.host, peer.port, peer.ae_title, calling_ae, folder / STATE_NAME, progress)


def send_set(
    files: Sequence[Path],
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str = "HYPOXIA",
    state: Path | None = None,
    progress: Progress = no_progress,
) -> SendReport:
    """Send DICOM files over one association, in the order given.

    Parameters
    ----------
    files : sequence of Path
        DICOM Part 10 files.
    host, port, called_ae
        The server and the title it answers to.
    calling_ae : str
        Own title, as the server knows this station.
    state : Path or None
        File that notes each confirmed instance (one JSON object per line, appended at once). With it a later call to
        the same server skips what is confirmed; None notes nothing.
    progress : callable
        Called with the fraction done and the file just confirmed; may raise to cancel.

    Raises
    ------
    InputError
        If a file is no DICOM Part 10 file.
    OutputError
        If the state file cannot be written.
    SendError
        (a NetworkError) If the association is refused, the server vanishes or refuses a file; ``report`` tells the
        status of every file.
    """
    peer = Peer(called_ae, host, port)
    _check_ae_title(calling_ae)
    items = [_read_item(Path(p)) for p in files]
    confirmed = _read_state(state, peer)
    statuses = {
        item.path: FileStatus(item.path.name, item.sop_instance_uid, "accepted before")
        if item.sop_instance_uid in confirmed
        else FileStatus(item.path.name, item.sop_instance_uid, "not sent")
        for item in items
    }
    waiting = [item for item in items if item.sop_instance_uid not in confirmed]
    if waiting:
        _send_waiting(waiting, peer, calling_ae, state, statuses, progress)
    report = SendReport(peer, tuple(statuses[item.path] for item in items))
    if not report.complete:
        refused = [f"{f.file} ({f.message})" for f in report.files if f.status == "refused"]
        raise SendError(
            f"{peer} refused {len(refused)} of {len(items)} files: {', '.join(refused)}.",
            f"Ask the server's administrator, then send again. {RESUME_HINT}",
            report,
        )
    return report


def _send_waiting(
    waiting: Sequence[_Item],
    peer: Peer,
    calling_ae: str,
    state: Path | None,
    statuses: dict[Path, FileStatus],
    progress: Progress,
) -> None:
    """Send the files that are not confirmed yet, noting each status at once."""
    association = _associate(waiting, peer, calling_ae, statuses)
    try:
        for number, item in enumerate(waiting, 1):
            status, message = _store(association, item)
            if status == "lost":
                raise SendError(
                    f"{peer} vanished while {item.path.name} was on its way ({number - 1} of {len(waiting)} done).",
                    RESUME_HINT,
                    SendReport(peer, tuple(statuses.values())),
                )
            statuses[item.path] = FileStatus(item.path.name, item.sop_instance_uid, status, message)
            if status == "accepted":
                _note(state, peer, item, message)
            progress(number / len(waiting), f"{item.path.name} {status}")
    finally:
        if association.is_established:
            association.release()


def _associate(items: Sequence[_Item], peer: Peer, calling_ae: str, statuses: Mapping[Path, FileStatus]) -> Any:
    """Open an association that offers each file as it is encoded.

    Raises
    ------
    SendError
        Telling a closed port from a refusal and from an abort.
    """
    from pynetdicom import AE, build_context, evt

    entity = AE(ae_title=calling_ae)
    entity.connection_timeout = CONNECT_TIMEOUT_S
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_TIMEOUT_S
    wanted = sorted({(item.sop_class_uid, item.transfer_syntax_uid) for item in items})[:MAX_CONTEXTS]
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in wanted]
    connected: list[bool] = []
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, lambda event: connected.append(True))]
    association = entity.associate(peer.host, peer.port, contexts, peer.ae_title, evt_handlers=handlers)
    if association.is_established:
        return association
    report = SendReport(peer, tuple(statuses.values()))
    if not connected:
        message, hint = f"Nothing answers at {peer}.", "Check host, port and that the server runs."
    elif association.is_rejected:
        reason = getattr(association.acceptor.primitive, "reason_str", "no reason given")
        message = f"{peer} refused the association from {calling_ae}: {reason}."
        hint = f"Check the server's title {peer.ae_title!r} and that it knows this station as {calling_ae!r}."
    else:
        message, hint = (
            f"{peer} broke the association off or is no DICOM server.",
            "Check the port and the server's log.",
        )
    raise SendError(f"{message} Nothing was sent.", f"{hint} {RESUME_HINT}", report)


def _store(association: Any, item: _Item) -> tuple[str, str]:
    """Send one file: ``accepted``, ``refused`` or ``lost``, with what the server said."""
    from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

    offered = [c for c in association.accepted_contexts if c.abstract_syntax == item.sop_class_uid]
    if not any(item.transfer_syntax_uid in context.transfer_syntax for context in offered):
        kind = pydicom.uid.UID(item.sop_class_uid).name
        return "refused", f"the server takes no {kind} as {pydicom.uid.UID(item.transfer_syntax_uid).name}"
    try:
        answer = association.send_c_store(pydicom.dcmread(item.path))
    except RuntimeError:  # pynetdicom's word for an association that ended meanwhile
        return "lost", ""
    if "Status" not in answer:
        return "lost", ""
    code = int(answer.Status)
    category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(code, (code_to_category(code), ""))
    said = ": ".join(filter(None, [f"status 0x{code:04X}", meaning, str(answer.get("ErrorComment", ""))]))
    if category == "Success":
        return "accepted", ""
    return ("accepted", said) if category == "Warning" else ("refused", said)


def _read_item(path: Path) -> _Item:
    """What a file holds and how it is encoded, from its header alone."""
    try:
        dataset = pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        uids = dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.file_meta.TransferSyntaxUID
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except (pydicom.errors.InvalidDicomError, AttributeError) as error:
        raise InputError(
            f"{path} is no complete DICOM file: {error}.", "Send files of an exported set only."
        ) from error
    return _Item(path, *(str(uid) for uid in uids))


def _read_state(state: Path | None, peer: Peer) -> set[str]:
    """SOP Instance UIDs that a server has confirmed in earlier calls."""
    if state is None or not state.exists():
        return set()
    confirmed = set()
    for line in state.read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
        except ValueError:  # the last line of a process that was killed while writing: that file is sent again
            continue
        if note["peer"] == str(peer):
            confirmed.add(note["sop_instance_uid"])
    return confirmed


def _note(state: Path | None, peer: Peer, item: _Item, message: str) -> None:
    """Append one confirmation to the state file, on the disk before the next file is sent."""
    if state is None:
        return
    note = {
        "peer": str(peer),
        "sop_instance_uid": item.sop_instance_uid,
        "file": item.path.name,
        "message": message,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    try:
        with closing(state.open("a", encoding="utf-8")) as file:
            file.write(json.dumps(note) + "\n")
    except OSError as error:
        raise OutputError(
            f"{item.path.name} was accepted by {peer}, but {state} cannot be written: {error.strerror}.",
            "Free space or permissions there, then send again.",
        ) from error


def _check_ae_title(title: str) -> None:
    """Refuse what is no application entity title."""
    if not 1 <= len(title.strip()) <= MAX_AE_TITLE or "\\" in title or not title.isascii() or not title.isprintable():
        raise RequestError(
            f"{title!r} is no DICOM title.", f"Titles have 1 to {MAX_AE_TITLE} plain characters, no backslash."
        )
