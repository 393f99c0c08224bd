"""Series of frames as inputs: which DICOM series of the study may be one, and what a text in the panel names. No Qt.

The text is that of the command line's ``--input``: series UID, description or NIfTI files, several separated by ``;``.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..dicomio.model import SeriesInfo
from ..errors import InputError, RequestError
from ..jobs import SeriesSource
from ..method_images import is_series
from ..methods import InputSpec
from .i18n import _
from .node_images import FOLDER, INSTANCE_UIDS

StudyFiles = Callable[[str], Sequence[Sequence[str]]]
"""Files of every series of the patient that a SOP Instance UID belongs to, as ``slicer.dicomDatabase`` knows them."""
SEPARATOR = ";"
NIFTI_ENDINGS = (".nii", ".nii.gz")


def database_patient_files(uid: str) -> list[list[str]]:
    """Files per series of a patient in Slicer's DICOM database; none while no database is open."""
    import slicer

    database = slicer.dicomDatabase
    file = database.fileForInstance(uid) if database is not None and database.isOpen else ""
    if not file:
        return []
    study = database.studyForSeries(database.seriesForFile(file))
    studies = database.studiesForPatient(database.patientForStudy(study))
    return [list(database.filesForSeries(s)) for one in studies for s in database.seriesForStudy(one)]


class SeriesCatalogue:
    """DICOM series of the patients in the scene, from the folders they were loaded from and from the database.

    Parameters
    ----------
    patient_files : callable
        See ``StudyFiles``.
    scan : callable
        Series of a folder (``NodeImages.scan``).
    stamp : callable, optional
        Gives something else when ``patient_files`` may know more than before.
    """

    def __init__(
        self,
        patient_files: StudyFiles,
        scan: Callable[[Path], tuple[SeriesInfo, ...]],
        stamp: Callable[[], Any] = lambda: None,
    ) -> None:
        self._patient_files, self._scan, self._stamp = patient_files, scan, stamp
        self._patients: dict[str, tuple[Any, tuple[SeriesInfo, ...]]] = {}

    def clear(self) -> None:
        """Forget everything, when the scene closes."""
        self._patients.clear()

    def infos(self, nodes: Iterable[Any]) -> tuple[SeriesInfo, ...]:
        """PET and MR series of the patients that volume nodes belong to, each once."""
        found: dict[str, SeriesInfo] = {}
        for node in nodes:
            for info in (*self._of_folder(node.GetAttribute(FOLDER) or ""), *self._of_database(node)):
                if info.role in ("pet", "mr"):
                    found.setdefault(info.series_uid, info)
        return tuple(found.values())

    def _of_folder(self, folder: str) -> tuple[SeriesInfo, ...]:
        return self._scan(Path(folder)) if folder else ()

    def _of_database(self, node: Any) -> tuple[SeriesInfo, ...]:
        uid = (node.GetAttribute(INSTANCE_UIDS) or "").partition(" ")[0]
        if not uid:
            return ()
        now = self._stamp()
        if uid not in self._patients or self._patients[uid][0] != now:
            files = [[Path(f) for f in series] for series in self._patient_files(uid) if series]
            found = itertools.chain.from_iterable(self._of_files(series) for series in files)
            self._patients[uid] = (now, tuple(found))
        return self._patients[uid][1]

    def _of_files(self, files: Sequence[Path]) -> list[SeriesInfo]:
        """The series that some files hold."""
        wanted = set(files)
        folder = os.path.commonpath([str(f.parent) for f in files])
        held = [(info, tuple(f for f in info.files if f in wanted)) for info in self._of_folder(folder)]
        return [replace(info, files=kept) for info, kept in held if kept]


def candidates(spec: InputSpec, infos: Sequence[SeriesInfo]) -> list[str]:
    """Texts to offer for an input: every series of frames of its modality, and sets of images with one value each.

    A set are images whose descriptions differ in their numbers only ("VFA 3", "VFA 15").
    """
    own = [info for info in infos if info.modality == spec.modality]
    single = [info for info in own if not is_series(info)]
    texts = [_name(info, infos) for info in own if is_series(info)]
    if spec.kind == "time":
        return texts
    for _stem_of, group in itertools.groupby(sorted(single, key=_stem), key=_stem):
        names = [_name(info, infos) for info in group]
        if len(names) > 1:
            texts.append(f"{SEPARATOR} ".join(names))
    return texts


def _stem(info: SeriesInfo) -> str:
    return re.sub(r"\d+", "#", info.description)


def _name(info: SeriesInfo, infos: Sequence[SeriesInfo]) -> str:
    """Description of a series, or its UID where the description is empty, separates, or is not the only one."""
    same = [other for other in infos if other.description == info.description]
    plain = info.description and len(same) == 1 and SEPARATOR not in info.description
    return info.description if plain else info.series_uid


def guess_series(spec: InputSpec, infos: Sequence[SeriesInfo], tracer: str) -> str:
    """The only series of frames that fits an input by tracer or kind of MR; empty when there is none or a choice."""
    fitting = [
        info
        for info in infos
        if info.modality == spec.modality
        and is_series(info)
        and (
            not spec.tracers or (tracer if info.kind == "unknown" else info.kind) in spec.tracers
            if spec.modality == "PT"
            else info.kind in spec.mr_kinds
        )
    ]
    return _name(fitting[0], infos) if len(fitting) == 1 else ""


def resolve(text: str, spec: InputSpec, infos: Sequence[SeriesInfo]) -> SeriesSource:
    """What a text names.

    Raises
    ------
    InputError
        A NIfTI file that is not there.
    RequestError
        A name that fits no series or several, or one of another modality.
    """
    names = [name.strip() for name in text.split(SEPARATOR) if name.strip()]
    if names and all(name.endswith(NIFTI_ENDINGS) for name in names):
        files = tuple(Path(name) for name in names)
        gone = [str(file) for file in files if not file.is_file()]
        if gone:
            raise InputError(_("File not found: {names}.").format(names=", ".join(gone)), _("Choose the file again."))
        return SeriesSource(files=files)
    chosen = []
    for name in names:
        hits = [info for info in infos if name in (info.series_uid, info.description)]
        if len(hits) != 1:
            offered = ", ".join(_name(info, infos) for info in infos if info.modality == spec.modality) or _("none")
            message = _("{count} series are named {name!r}.").format(name=name, count=len(hits))
            raise RequestError(message, _("There are: {names}.").format(names=offered))
        if hits[0].modality != spec.modality:
            text = _("{name!r} is {modality}; wanted: {image}.")
            message = text.format(name=name, modality=hits[0].modality, image=spec.description)
            raise RequestError(message, _("Choose another."))
        chosen.append(hits[0])
    return SeriesSource(infos=tuple(chosen))
