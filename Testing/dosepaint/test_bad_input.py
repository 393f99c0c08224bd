"""Bad input through the command line: one line that says what and where, a hint, an exit code, nothing written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from HypoxiaDosePaintLib import cli, output, pipeline
from HypoxiaDosePaintLib.prescription import all_protocols
from HypoxiaDosePaintLib.request import Request

RUN = ("--method", "tracer_ratio", "--protocol", "welz_77_70_35", "--gtv", "GTVp", "--reference-roi", "Ref_Blood")
ACCEPT = ("--accepted-by", "Test Reviewer")


@pytest.fixture
def patient(digital_patient, tmp_path) -> Path:
    """A copy of CT, FMISO PET and structure set that a test may spoil."""
    folder = tmp_path / "patient"
    for part in ("CT", "PET_FMISO", "RTSTRUCT"):
        shutil.copytree(digital_patient.folder / part, folder / part)
    return folder


def edit(folder: Path, part: str, change: Callable[[pydicom.Dataset], None], only: slice = slice(None)) -> list[Path]:
    """Change the headers of some files of a series."""
    files = sorted((folder / part).glob("*.dcm"))[only]
    for path in files:
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)
    return files


def refused(
    capsys, folder: Path, code: int, *words: str, options: tuple[str, ...] = RUN, extra: tuple[str, ...] = ()
) -> str:
    """Run and check: exit code, one error line with the words, one hint, nothing written."""
    out = folder.parent / "out"
    before = sorted(p.name for p in folder.parent.iterdir())
    got = cli.main(["--quiet", "run", str(folder), "--out", str(out), *options, *ACCEPT, *extra])
    lines = capsys.readouterr().err.strip().splitlines()
    text = "\n".join(lines)
    assert got == code, text
    assert lines[0].startswith("hypoxia: error: ")
    assert len(lines) == 2, text
    assert lines[1].startswith("hypoxia: hint: ")
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    assert sorted(p.name for p in folder.parent.iterdir()) == before
    return text


def _item(ds: pydicom.Dataset) -> pydicom.Dataset:
    return ds.RadiopharmaceuticalInformationSequence[0]


def _drop(*names: str) -> Callable[[pydicom.Dataset], None]:
    def change(ds: pydicom.Dataset) -> None:
        for name in names:
            for place in (ds, _item(ds)):
                if name in place:
                    del place[name]

    return change


def _set(**values: object) -> Callable[[pydicom.Dataset], None]:
    def change(ds: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop("PatientWeight"), ("Weight (0010,1030)",)),
        (_set(PatientWeight=0), ("Weight (0010,1030)",)),
        (_drop("RadionuclideTotalDose"), ("Total Dose (0018,1074)",)),
        (_drop("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"), ("Injection time", "(0018,1078)")),
        (_set(Units="CNTS"), ("CNTS",)),
        (_set(Units="PROPCPS"), ("PROPCPS",)),
        (_set(CorrectedImage=["DECY"]), ("ATTN",)),
        (_set(CorrectedImage=["ATTN"]), ("DECY",)),
    ],
    ids=["weight", "weight0", "dose", "injection", "cnts", "unit", "attn", "decy"],
)  # fmt: skip
def test_pet_facts_that_suv_needs(patient, capsys, change, words):
    edit(patient, "PET_FMISO", change)
    refused(capsys, patient, 3, *words)


def test_two_patients(patient, capsys):
    edit(patient, "PET_FMISO", _set(PatientID="SOMEBODY-ELSE"))
    refused(capsys, patient, 3, "SOMEBODY-ELSE", "patients")


def test_missing_slice(patient, capsys):
    sorted((patient / "CT").glob("*.dcm"))[30].unlink()
    refused(capsys, patient, 4, "missing slice", "Planning CT")


def test_duplicate_slice(patient, capsys):
    first = sorted((patient / "CT").glob("*.dcm"))[30]
    ds = pydicom.dcmread(first)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.save_as(patient / "CT" / "again.dcm")
    refused(capsys, patient, 4, "duplicate slice position", "again.dcm")


def test_gantry_tilt(patient, capsys):
    def shear(ds: pydicom.Dataset) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, round(y + 0.2 * z, 4), z]

    edit(patient, "CT", shear)
    refused(capsys, patient, 4, "tilt")


def test_time_series_without_order(patient, capsys):
    for path in sorted((patient / "PET_FMISO").glob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        ds.save_as(path.with_name(f"second_{path.name}"))
    refused(capsys, patient, 4, "4D series without order")


def test_other_frame_of_reference(patient, capsys):
    edit(patient, "PET_FMISO", _set(FrameOfReferenceUID="1.2.3.4.5"))
    refused(capsys, patient, 4, "1.2.3.4.5", "registration")


def test_unknown_gtv_lists_the_names(patient, capsys):
    refused(capsys, patient, 2, "GTV_X", "GTVp", "GTVn", "SpinalCord", options=(*RUN[:4], "--gtv", "GTV_X", *RUN[6:]))


def test_gtv_must_be_named_when_there_are_two(patient, capsys):
    words = ("2 ROIs have names that begin with GTV: GTVp, GTVn.", "--gtv, repeated for several")
    refused(capsys, patient, 2, *words, options=(*RUN[:4], *RUN[6:]))


def test_empty_gtv(patient, capsys):
    def empty(ds: pydicom.Dataset) -> None:
        number = next(r.ROINumber for r in ds.StructureSetROISequence if r.ROIName == "GTVp")
        item = next(c for c in ds.ROIContourSequence if c.ReferencedROINumber == number)
        del item.ContourSequence

    edit(patient, "RTSTRUCT", empty)
    refused(capsys, patient, 3, "GTVp")


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (("--threshold", "9"), 5, ("threshold", "9")),
        (("--maximum-fraction", "0.05"), 5, ("5", "GTVp")),
        (("--minimum-component", "500"), 5, ("500 ml",)),
        (("--boost-dose", "66"), 5, ("66 Gy", "70 Gy")),
        (("--boost-dose", "90"), 5, ("84 Gy", "--override")),
        (("--boost-dose", "77", "--base-dose", "60", "--fractions", "25"), 5, ("2.4 Gy",)),
        (("--boost-dose", "7700"), 2, ("cGy",)),
        (("--boost-dose", "nan"), 2, ("boost dose",)),
        (("--fractions", "0"), 2, ("fractions",)),
        (("--override", "because"), 2, ("name: reason",)),
        (("--boost-dose", "90", "--override", "volume Dr X: another limit"), 5, ("84 Gy",)),
        (("--boost-margin", "3,3"), 2, ("--boost-margin has 2 numbers", "3,3,3,3,2,2")),
        (("--boost-margin", "0.3cm"), 2, ("--boost-margin", "'0.3cm'", "Millimetres without unit: one number")),
        (("--reference-sphere", "1,2,3"), 2, ("--reference-sphere has 3 numbers", "X,Y,Z,RADIUS")),
        (("--boost-margin", "-3"), 2, ("-3",)),
        (("--organ", "Parotid"), 2, ("Parotid", "Brainstem")),
        (("--organ-gap", "-1"), 2, ("-1",)),
        (("--param", "statistic=mode"), 2, ("mean, median",)),
        (("--param", "nothing"), 2, ("NAME=VALUE",)),
        (("--reference-sphere", "0,0,0,5"), 2, ("reference",)),
        (("--registration", "no-such.tfm"), 3, ("no-such.tfm",)),
        (("--tracer", "FAZA"), 2, ("FMISO", "FAZA")),
        (("--planning-series", "9.9"), 2, ("9.9", "Planning CT")),
    ],
)  # fmt: skip
def test_refused_options(patient, capsys, extra, code, words):
    refused(capsys, patient, code, *words, extra=extra)


def test_unknown_method_and_protocol_list_the_valid_ones(patient, capsys):
    refused(capsys, patient, 2, "no_such", "tracer_ratio", options=("--method", "no_such", *RUN[2:]))
    refused(capsys, patient, 2, "no_such", "welz_77_70_35", options=(*RUN[:2], "--protocol", "no_such", *RUN[4:]))


def test_tumour_as_reference(patient, capsys):
    options = (*RUN[:6], "--reference-roi", "GTVn", "--param", "reference_kind=blood")
    refused(capsys, patient, 3, "GTVn", "tumour", options=options)


def test_reference_sphere_in_a_tumour_nobody_named(patient, digital_patient, capsys):
    region = digital_patient.regions["GTVn"]
    z, y, x = (float(v) for v in np.argwhere(region.array).mean(axis=0))
    centre = ",".join(f"{v:.1f}" for v in region.mask.TransformContinuousIndexToPhysicalPoint((x, y, z)))
    options = (*RUN[:6], f"--reference-sphere={centre},6", "--param", "reference_kind=blood")
    refused(capsys, patient, 3, "GTVn", "overlaps", options=options)


def test_organ_that_nobody_named_is_reported(patient, tmp_path):
    def overlap(ds: pydicom.Dataset) -> None:
        numbers = {r.ROIName: r.ROINumber for r in ds.StructureSetROISequence}
        items = {c.ReferencedROINumber: c for c in ds.ROIContourSequence}
        items[numbers["SpinalCord"]].ContourSequence = items[numbers["GTVp"]].ContourSequence

    edit(patient, "RTSTRUCT", overlap)
    request = Request(
        str(patient), str(tmp_path / "out"), "tracer_ratio", "welz_77_70_35", gtv_rois=("GTVp",),
        reference_roi="Ref_Blood", organ_rois=("Brainstem",),
    )  # fmt: skip
    found = [w for w in pipeline.compute(request).result.warnings if "SpinalCord" in w]
    assert len(found) == 1
    assert "ml of PTV_7700" in found[0]


def test_broken_protocol_file(patient, capsys, tmp_path):
    path = tmp_path / "own.json"
    path.write_text("{", encoding="utf-8")
    options = (*RUN[:2], "--protocol", str(path), *RUN[4:])
    refused(capsys, patient, 3, "own.json", options=options)
    good = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(all_protocols()["welz_77_70_35"]).items()}
    path.write_text(json.dumps({k: v for k, v in good.items() if k != "fractions"}), encoding="utf-8")
    words = ("own.json lacks fractions.", "All of these must be there: name, title", "`hypoxia protocols NAME`")
    refused(capsys, patient, 3, *words, options=options)
    path.write_text(json.dumps({**good, "dose": 70}), encoding="utf-8")
    refused(capsys, patient, 3, "own.json has unknown field(s) dose.", options=options)


def test_unreadable_files_are_left_out_and_said(patient, capsys):
    truncated = sorted((patient / "CT").glob("*.dcm"))[5]
    truncated.write_bytes(truncated.read_bytes()[:700])
    (patient / "notes.txt").write_text("not DICOM", encoding="utf-8")
    (patient / "empty.dcm").write_bytes(b"")
    assert cli.main(["--quiet", "scan", str(patient), "--json"]) == 0
    left_out = {Path(x["path"]).name: x["reason"] for x in json.loads(capsys.readouterr().out)["left_out"]}
    assert set(left_out) == {truncated.name, "notes.txt", "empty.dcm"}
    assert all(left_out.values())
    refused(capsys, patient, 4, "missing slice")


def test_folder_without_images(tmp_path, capsys):
    folder = tmp_path / "nothing"
    folder.mkdir()
    refused(capsys, folder, 3, "nothing")
    refused(capsys, tmp_path / "absent", 3, "absent")
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    refused(capsys, tmp_path / "notes.txt", 3, "notes.txt is neither a folder nor a request file (.json)")


def test_a_scan_names_each_reason_once(patient, capsys):
    for number in range(5):
        (patient / f"{number}.png").write_bytes(b"picture")
    assert cli.main(["scan", str(patient)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Left out: 5 file(s)")
    assert lines[start + 1].startswith("  not a DICOM file")
    assert lines[start + 1].endswith(": 5 file(s)")
    assert lines[start + 2 :] == [
        *(f"    {patient / f'{n}.png'}" for n in range(3)),
        "    and 2 more; --json lists all",
    ]


def test_existing_output_is_not_touched(patient, capsys, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep", encoding="utf-8")
    refused(capsys, patient, 6, "exists already")
    assert [p.name for p in out.iterdir()] == ["precious.txt"]


def test_unwritable_output(patient, capsys, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("a file where a folder is needed", encoding="utf-8")
    got = cli.main(["--quiet", "run", str(patient), "--out", str(blocker / "out"), *RUN, *ACCEPT])
    assert got == 6
    assert str(blocker) in capsys.readouterr().err


def test_read_only_folder(patient, capsys, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; run as another user to test a read-only folder")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert cli.main(["--quiet", "run", str(patient), "--out", str(locked / "out"), *RUN, *ACCEPT]) == 6
    assert "Cannot write" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB; needs the right to mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode
    ):
        pytest.skip("no right to mount a small file system; a full disk is then only simulated, in the next test")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_really_full_disk_leaves_nothing(patient, capsys, small_disk):
    got = cli.main(["--quiet", "run", str(patient), "--out", str(small_disk / "out"), *RUN, *ACCEPT])
    assert got == 6
    assert "disk is full" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("step", ["export_set", "render_pictures", "write_report"])
def test_full_disk_at_every_step_leaves_nothing(patient, capsys, monkeypatch, step):
    """Simulated: the step raises what a full disk raises."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pipeline, step, full)
    refused(capsys, patient, 6, "disk is full")


def test_cancelling_leaves_nothing(patient, monkeypatch, tmp_path, capsys):
    def cancel(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_report", cancel)
    assert cli.main(["--quiet", "run", str(patient), "--out", str(tmp_path / "out"), *RUN, *ACCEPT]) == 130
    assert capsys.readouterr().err == "hypoxia: cancelled. Nothing was kept.\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["patient"]


def test_a_job_that_is_ended_leaves_nothing(patient, monkeypatch, tmp_path, capsys):
    """As a batch system ends it, in the midst of writing."""
    monkeypatch.setattr(pipeline, "write_report", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["--quiet", "run", str(patient), "--out", str(tmp_path / "out"), *RUN, *ACCEPT]) == 130
    assert capsys.readouterr().err == "hypoxia: cancelled. Nothing was kept.\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["patient"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_output_that_cannot_be_made_is_refused_before_the_work(patient, capsys, tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    out = str(tmp_path / "file" / "out")
    assert cli.main(["--quiet", "run", str(patient), "--out", out, "--method", "none", *RUN[2:]]) == 6  # not yet read
    assert f"Output {out} cannot be made in" in capsys.readouterr().err
    with pytest.raises(output.OutputError, match="cannot be made in"):
        output.require_free(tmp_path / "file" / "a" / "b")
    with pytest.raises(output.OutputError, match="cannot be made: File name too long"):
        output.require_free(tmp_path / (300 * "a"))


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path):
    out = tmp_path / "out"

    def write_while_another_does() -> None:
        with output.staged_output(out) as stage:
            (stage / "mine.txt").write_text("mine", encoding="utf-8")
            out.mkdir()
            (out / "theirs.txt").write_text("theirs", encoding="utf-8")

    with pytest.raises(output.OutputError, match="exists already"):
        write_while_another_does()
    assert [p.name for p in out.iterdir()] == ["theirs.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_fault_of_the_software_says_so(patient, monkeypatch, tmp_path, capsys):
    def fault(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "build_targets", fault)
    assert cli.main(["--quiet", "run", str(patient), "--out", str(tmp_path / "out"), *RUN, *ACCEPT]) == 1
    assert "fault of slicer-hypoxia" in capsys.readouterr().err
