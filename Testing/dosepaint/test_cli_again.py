"""A stored request made again, and an exported set proven again, as a person types it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from HypoxiaDosePaintLib import cli
from HypoxiaDosePaintLib.cli_commands import request_from_arguments
from HypoxiaDosePaintLib.request import Registration, Request, read_request


def typed(*words: str) -> Request:
    """The request that a person's words make."""
    return request_from_arguments(cli.build_parser().parse_args(words))


def refused(capsys, code: int, *words: str) -> str:
    """The error and the hint of a command that ends with that code."""
    assert cli.main(["--quiet", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    return captured.err


@pytest.fixture
def stored(tmp_path) -> Path:
    """A request file whose folder exists."""
    request = Request(
        str(tmp_path), str(tmp_path / "out"), "tracer_ratio", "welz_77_70_35",
        gtv_rois=("GTVp",), override="dose Dr A: small volume; volume Dr A: seen",
    )  # fmt: skip
    path = tmp_path / "request.json"
    path.write_text(request.to_json(), encoding="utf-8")
    return path


def test_where_to_write_and_what_a_person_says_are_given_beside_a_request_file(stored, tmp_path):
    was = read_request(stored)
    assert typed("run", str(stored)) == was
    words = ("--out", str(tmp_path / "new"), "--accepted-by", "Dr B", "--override", "volume Dr B: seen anew")
    assert typed("run", str(stored), *words) == replace(
        was, output=str(tmp_path / "new"), accepted_by="Dr B",
        override="dose Dr A: small volume; volume Dr B: seen anew",
    )  # fmt: skip


def test_a_registration_that_was_computed_is_given_beside_the_request_of_its_result(stored, tmp_path):
    file = tmp_path / "registration.tfm"
    request = typed("run", str(stored), "--registration", str(file), "--accepted-by", "Dr B")
    assert request == replace(read_request(stored), registration=Registration("file", str(file)), accepted_by="Dr B")


def test_no_option_of_a_run_is_passed_over_beside_a_request_file(capsys, stored):
    """Every option there is, so that a new one cannot be forgotten."""
    beside = {"--out", "--accepted-by", "--override", "--registration", "--save-request"}
    run = next(action for action in cli.build_parser()._actions if action.choices).choices["run"]
    options = [a for a in run._actions if a.option_strings and a.nargs != 0 and a.option_strings[0] not in beside]
    assert len(options) > 25
    for option in options:
        value = option.choices[0] if option.choices else "1"
        text = refused(capsys, 2, "run", str(stored), option.option_strings[0], value)
        assert f"Beside a request file {option.option_strings[0]} cannot be given." in text
    assert "--rtdose cannot be given." in refused(capsys, 2, "run", str(stored), "--rtdose")


def test_a_saved_request_names_files_by_their_whole_path(tmp_path, monkeypatch):
    """A request also runs from another folder than the one it was typed in."""
    monkeypatch.chdir(tmp_path)
    for name in ("own.json", "a.nii.gz", "b.nii"):
        (tmp_path / name).write_bytes(b"")
    words = (
        "--method",
        "m",
        "--protocol",
        "own.json",
        "--out",
        "o",
        "--input",
        "t1=a.nii.gz; b.nii",
        "--input",
        "x=T1",
    )
    request = typed("run", "P", *words)
    assert request.protocol == str(tmp_path / "own.json")
    assert request.inputs == {"t1": f"{tmp_path / 'a.nii.gz'};{tmp_path / 'b.nii'}", "x": "T1"}
    assert typed("run", "P", *words[:3], "none.json", *words[4:]).protocol == "none.json"


def test_every_other_option_beside_a_request_file_is_refused(capsys, stored):
    text = refused(capsys, 2, "run", str(stored), "--gtv", "GTVn", "--boost-dose", "77", "--out", "x")
    assert "Beside a request file --gtv, --boost-dose cannot be given." in text
    assert "Only --out, --accepted-by, --override, --registration can" in text


def test_a_request_whose_folder_is_gone_names_folder_and_file(capsys, stored, tmp_path):
    request = replace(read_request(stored), folder=str(tmp_path / "gone"))
    stored.write_text(request.to_json(), encoding="utf-8")
    text = refused(capsys, 3, "run", str(stored), "--out", str(tmp_path / "new"))
    assert f"{tmp_path / 'gone'}, the folder of the request {stored}, is not there." in text
    assert "Correct `folder`" in text


def test_the_request_of_a_result_is_run_again_accepted_and_proven(digital_patient, tmp_path, capsys):
    """As README promises: run, read, run the result's own request again with a name, prove it."""
    patient = tmp_path / "patient"
    for part in ("CT", "PET_FMISO", "RTSTRUCT"):
        shutil.copytree(digital_patient.folder / part, patient / part)
    first, second = tmp_path / "first", tmp_path / "second"
    words = ("--method", "tracer_ratio", "--protocol", "welz_77_70_35", "--gtv", "GTVp", "--reference-roi", "Ref_Blood")
    assert cli.main(["--quiet", "run", str(patient), "--out", str(first), *words]) == 0
    again = str(first / "request.json")
    assert f"hypoxia run {again} --accepted-by NAME --out NEW" in capsys.readouterr().out
    assert "choose another folder with --out" in refused(capsys, 6, "run", again)
    text = refused(capsys, 3, "verify", str(first))
    assert "holds no exported DICOM set." in text
    assert "Run with --accepted-by NAME first." in text

    assert cli.main(["--quiet", "run", again, "--out", str(second), "--accepted-by", "Dr B"]) == 0
    assert "Accepted by      Dr B" in capsys.readouterr().out
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (first, second)]
    assert results[0]["targets"] == results[1]["targets"]
    assert results[1]["accepted_by"] == "Dr B"
    assert read_request(second / "request.json").accepted_by == ""
    for folder in (second, second / "dicom"):
        assert cli.main(["--quiet", "verify", str(folder)]) == 0
        assert "passed" in capsys.readouterr().out

    patient.rename(tmp_path / "moved")
    text = refused(capsys, 3, "verify", str(second))
    assert f"{patient}, is not there." in text
    assert "--ct FOLDER" in text
    assert cli.main(["--quiet", "verify", str(second), "--ct", str(tmp_path / "moved")]) == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    text = refused(capsys, 3, "verify", str(second), "--ct", str(tmp_path / "empty"))
    assert "holds no image of planning series" in text
    assert "--ct FOLDER" in text


def test_what_nobody_looked_at_is_not_accepted(digital_patient, tmp_path, capsys):
    """Between looking at a result and accepting its request the PET of the folder is exchanged."""
    patient = tmp_path / "patient"
    for part in ("CT", "PET_FMISO", "RTSTRUCT"):
        shutil.copytree(digital_patient.folder / part, patient / part)
    words = ("--method", "tracer_ratio", "--protocol", "welz_77_70_35", "--gtv", "GTVp", "--reference-roi", "Ref_Blood")
    assert cli.main(["--quiet", "run", str(patient), "--out", str(tmp_path / "looked_at"), *words]) == 0
    capsys.readouterr()
    for path in (patient / "PET_FMISO").iterdir():
        ds = pydicom.dcmread(path)
        ds.PixelData = np.roll(ds.pixel_array, 3, axis=1).tobytes()
        ds.save_as(path)
    again = ("run", str(tmp_path / "looked_at" / "request.json"), "--out", str(tmp_path / "new"))
    text = refused(capsys, 3, *again, "--accepted-by", "Dr B")
    assert "GTVp_Hyp, PTV_7700: not as in the result whose request this is." in text
    assert "Run it without --accepted-by" in text
    assert not (tmp_path / "new").exists()
    assert cli.main(["--quiet", *again]) == 0  # to be looked at, and accepted from its own request
    again = ("run", str(tmp_path / "new" / "request.json"), "--out", str(tmp_path / "accepted"))
    assert cli.main(["--quiet", *again, "--accepted-by", "Dr B"]) == 0


def test_what_is_no_result_is_not_proven(capsys, tmp_path):
    assert "nosuch is not a folder." in refused(capsys, 3, "verify", str(tmp_path / "nosuch"))
    text = refused(capsys, 3, "verify", str(tmp_path))
    assert "holds no exported DICOM set." in text
    assert "Give the output folder of an accepted run." in text


def test_a_sphere_may_begin_with_a_minus():
    words = ["run", "F", "--reference-sphere", "-12.5,30,-104,6", "--method", "m", "--protocol", "p", "--out", "o"]
    arguments, unknown = cli.build_parser().parse_known_args(cli.with_signed_values(words))
    assert (arguments.reference_sphere, unknown) == ("-12.5,30,-104,6", [])
    assert cli.with_signed_values(["--reference-sphere", "--out"]) == ["--reference-sphere", "--out"]
