"""An exported set for the tests of its proof."""

from __future__ import annotations

import hashlib
import json
import shutil

import pydicom
import pytest

from HypoxiaDosePaintLib.dicomrt.export import export_set
from HypoxiaDosePaintLib.dicomrt.verify import verify_set
from rt_samples import make_run


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """An exported set with its record; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("oblique")
    result, planning = make_run(folder, oblique=True)
    delivered = export_set(result, planning, folder / "out")
    record = {"proof_reference": delivered.reference}
    (folder / "out" / "result.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    return folder / "out", planning, delivered


@pytest.fixture
def damaged(exported, tmp_path):
    """A copy of the set, and a function that edits one object in it and proves the set again.

    The record gets the checksum of the edited file, so that what the object says is judged without it.
    """
    out, planning, _ = exported
    copy = tmp_path / "set"
    shutil.copytree(out, copy)

    def damage(name, change):
        path = copy / "dicom" / f"{name}.dcm"
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)
        record = json.loads((copy / "result.json").read_text(encoding="utf-8"))
        record["proof_reference"]["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (copy / "result.json").write_text(json.dumps(record), encoding="utf-8")
        return {r.structure: r for r in verify_set(copy, planning.info.files) if not r.passed}

    return damage
