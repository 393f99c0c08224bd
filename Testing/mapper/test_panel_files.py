"""Files of nodes that are missing: looked up again when that may help, and not at every click."""

from __future__ import annotations

import dataclasses
import os
import types

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.panel.choices import MapperDecisions  # noqa: E402
from HypoxiaMapperLib.panel.node_images import NodeImages, database_stamp  # noqa: E402
from HypoxiaMapperLib.panel.series_choice import SeriesCatalogue  # noqa: E402
from sequence_samples import DynamicFiles, DynamicPatient, imported_sequence, plain_volume  # noqa: E402


class Database:
    """Knows the files it is told, and counts the questions."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.version = self.asked = 0
        self.images = NodeImages(self.files_of, lambda: self.version)

    def files_of(self, uids):
        self.asked += 1
        return [self.files.get(uid, "") for uid in uids]


def test_a_failed_look_up_is_repeated_when_the_database_or_the_node_changes(tmp_path):
    database, path = Database(), tmp_path / "a.dcm"
    paths = lambda *uids: database.images.paths_of(uids)  # noqa: E731
    assert [paths("1"), paths("1")] == [[], []]
    assert database.asked == 1
    database.files, database.version = {"1": str(path)}, 1
    assert [paths("1"), paths("1")] == [[], []]  # known, but not there
    assert database.asked == 2
    path.touch()
    assert paths("1") == [path]
    path.unlink()
    assert [paths("1"), paths("1")] == [[], []]
    assert database.asked == 4
    assert paths("2") == []  # the node names another
    assert database.asked == 5


def test_a_sequence_without_files_does_not_ask_for_them_at_every_refresh(tmp_path):
    patient, database = DynamicPatient(DynamicFiles(tmp_path)), Database()
    patient.decisions = MapperDecisions(database.images, SeriesCatalogue(lambda uid: (), database.images.scan))
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    choices = dataclasses.replace(patient.choices, sequences={"pet": sequence})
    for _ in range(3):
        assert patient.decisions.why_not_run(choices) != ""
    assert database.asked == 1
    database.files, database.version = {uid: str(file) for uid, file in patient.files.items()}, 1
    assert patient.decisions.why_not_run(choices) == ""


def test_a_volume_without_files_does_not_either():
    database = Database()
    node = plain_volume(slicer.vtkMRMLScene(), np.zeros((2, 3, 4)), ["1", "2"])
    assert [database.images.info(node), database.images.info(node)] == [None, None]
    assert database.asked == 1


def test_writing_to_the_database_changes_its_stamp(tmp_path, monkeypatch):
    file = tmp_path / "ctkDICOM.sql"
    database = types.SimpleNamespace(isOpen=False, databaseFilename=str(file))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    closed = database_stamp()
    file.touch()
    database.isOpen = True
    opened = database_stamp()
    os.utime(file, ns=(1, 1))
    assert len({closed, opened, database_stamp()}) == 3
    database.databaseFilename = ":memory:"
    assert database_stamp() is None


def test_a_series_that_is_imported_later_is_offered(tmp_path):
    """The database did not know the patient's dynamic series when it was asked first."""
    dicom = DynamicFiles(tmp_path)
    known, asked, version = [], [], [0]

    def files_of_patient(uid):
        asked.append(uid)
        return known

    catalogue = SeriesCatalogue(files_of_patient, NodeImages(lambda uids: []).scan, lambda: version[0])
    node = plain_volume(slicer.vtkMRMLScene(), np.zeros((2, 3, 4)), ["1"])
    assert [catalogue.infos([node]), catalogue.infos([node])] == [(), ()]
    assert len(asked) == 1
    known.append([str(file) for file in dicom.files.values()])
    version[0] = 1
    assert [info.series_uid for info in catalogue.infos([node])] == [dicom.info.series_uid]
    assert catalogue.infos([node])
    assert len(asked) == 2
