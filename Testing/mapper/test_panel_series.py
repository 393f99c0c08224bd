"""Series of frames in the panel: which are offered, what a text names, and the worker that reads and fits them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_samples import write_mr
from dynamic_samples import write_mr_frames, write_pet_frames
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.jobs import Job, SeriesSource, read_curves, read_job, read_result, write_job
from HypoxiaMapperLib.methods import ModelUse, all_methods, no_progress
from HypoxiaMapperLib.methods._model_use import Baseline, Finding
from HypoxiaMapperLib.timeseries import Timing
from HypoxiaMapperLib.volume import Region, Volume, image_like
from HypoxiaMapperLib.worker import main, run_job

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.panel.device_line import DeviceQuestion, cpu_text
from HypoxiaMapperLib.panel.model_text import FAILED, PASSED, model_html, model_rows
from HypoxiaMapperLib.panel.series_choice import candidates, guess_series, resolve

FRAMES = np.arange(3 * 4 * 6 * 5).reshape(3, 4, 6, 5) + 1.0
CLOCK = {"AcquisitionDate": "20250101", "AcquisitionTime": ["100000", "100005", "100010"]}
DCE, FLIP = all_methods()["dce_tofts"].inputs[0], all_methods()["dce_tofts"].inputs[2]


@pytest.fixture
def infos(tmp_path: Path) -> tuple:
    write_mr_frames(tmp_path / "dce", FRAMES, SeriesDescription="DCE dynamic", **CLOCK)
    for angle in (3, 15):
        write_mr(tmp_path / f"fa{angle}", FRAMES[0], SeriesDescription=f"VFA {angle}", FlipAngle=angle)
    write_mr(tmp_path / "t1", FRAMES[0], SeriesDescription="T1 map")
    return scan_folder(tmp_path).series


def test_series_are_offered_by_what_they_hold(infos):
    assert candidates(DCE, infos) == ["DCE dynamic"]
    assert "VFA 3; VFA 15" in [c.replace("VFA 15; VFA 3", "VFA 3; VFA 15") for c in candidates(FLIP, infos)]
    assert guess_series(DCE, infos, "") == "DCE dynamic"
    assert guess_series(all_methods()["patlak_ki"].inputs[0], infos, "FMISO") == ""


def test_a_text_names_series_or_files_as_on_the_command_line(infos, tmp_path):
    found = resolve("VFA 3; VFA 15", FLIP, infos)
    assert [i.description for i in found.infos] == ["VFA 3", "VFA 15"]
    assert resolve(found.infos[0].series_uid, FLIP, infos).infos == found.infos[:1]
    with pytest.raises(RequestError, match="0 series are named 'DC'"):
        resolve("DC", DCE, infos)
    with pytest.raises(InputError, match="File not found"):
        resolve(str(tmp_path / "x.nii"), DCE, infos)
    (tmp_path / "x.nii.gz").write_bytes(b"")
    assert resolve(str(tmp_path / "x.nii.gz"), DCE, infos) == SeriesSource(files=(tmp_path / "x.nii.gz",))


def late_job(folder: Path) -> Job:
    """Late ratio of an FMISO series whose GTV doubles from frame to frame; blood stays at 1."""
    frames = np.full((3, 4, 6, 5), 100.0)
    for k in range(3):
        frames[k, :, 3:, :] = 100.0 * 2**k
    info = write_pet_frames(
        folder, frames, Radiopharmaceutical="FMISO", AcquisitionTime=["120000", "121000", "122000"],
        ActualFrameDuration=600000, SeriesDescription="dynamic FMISO",
    )  # fmt: skip
    info = next(i for i in scan_folder(folder).series if i.series_uid == info.series_uid)
    from HypoxiaMapperLib.dicomio.dynamic import read_dynamic_pet

    grid = read_dynamic_pet((info,)).grid
    masks = {"gtv": np.zeros((4, 6, 5), np.uint8), "reference": np.zeros((4, 6, 5), np.uint8)}
    masks["gtv"][:, 4:, :] = 1
    masks["reference"][:, :2, :] = 1
    frame = info.frame_of_reference_uid
    regions = {
        k: Region({"gtv": "GTVp", "reference": "Ref_Blood"}[k], image_like(m, grid), frame) for k, m in masks.items()
    }
    planning = Volume(image_like(np.zeros((4, 6, 5), np.int16), grid), "CT number", "[hnsf'U]", frame)
    params = {"reference_kind": "blood", "minimum_reference_ml": 0.0, "start_min": 0.0}
    return Job("late_ratio", params, planning, {}, regions, sources={"pet": SeriesSource((info,))})


def test_the_worker_reads_a_series_and_hands_out_a_frame_to_look_at(tmp_path):
    job = late_job(tmp_path / "dicom")
    (tmp_path / "job").mkdir()
    write_job(job, tmp_path / "job")
    again = read_job(tmp_path / "job")
    assert again.sources["pet"].infos[0].files == job.sources["pet"].infos[0].files
    assert again.timing == Timing()
    assert main([str(tmp_path / "job")]) == 0
    found = read_result(tmp_path / "job")
    assert found.shown["pet"].operations[-1] == "frame 3 of 3"
    ratio = found.map.volume.array[job.regions["gtv"].array]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert ratio[0] > 1.5


def test_a_series_of_another_frame_needs_the_users_word(tmp_path):
    job = late_job(tmp_path)
    other = replace(job.planning, frame_of_reference_uid="9.9")
    moved = {key: replace(region, frame_of_reference_uid="9.9") for key, region in job.regions.items()}
    with pytest.raises(Exception, match="frame of reference"):
        run_job(replace(job, planning=other, regions=moved), no_progress)
    found = run_job(replace(job, planning=other, regions=moved, alignment="scene"), no_progress)
    assert "look at the overlay" in found.map.warnings[0]


def test_a_voxel_of_a_volume_method_has_no_curve(tmp_path):
    job = late_job(tmp_path / "dicom")
    (tmp_path / "job").mkdir()
    write_job(replace(job, voxel_mm=(1e4, 0.0, 0.0)), tmp_path / "job")
    assert main([str(tmp_path / "job")]) != 0
    with pytest.raises(Exception, match="outside the series"):
        read_curves(tmp_path / "job")


def model(passed: bool) -> ModelUse:
    return ModelUse(
        "m", "A model", "1", "synthetic-trained, not clinically validated", "10 simulated patients", "research", "CC0",
        ("ab" * 32,), "CPU", ("fdg",), ("ct",), 12.3, (10.0, 15.0), (Finding("SUV", "30", "0 to 20 g/ml", passed),),
        (Baseline("scaled FDG", "FDG times a factor", 9.0, float("nan")),), {"fdg": 0.2}, "cd" * 32, "> 1.2", "whose",
    )  # fmt: skip


def test_a_learned_map_says_what_it_is_in_words():
    rows = dict(model_rows(model(True)))
    assert list(rows)[:3] == ["Label", "Like training?", "Volume"]  # what decides comes first
    assert rows["Label"] == "synthetic-trained, not clinically validated"
    volume, cut = rows["Volume"].splitlines()
    assert volume == "12.30 ml (5-95 %: 10.00 to 15.00 ml)"
    assert (
        cut == "Here and beside it, volumes are cut at > 1.2, the model's own threshold; they do not follow the slider."
    )
    assert "whose; metadata SHA-256 cdcdcdcdcdcd" in rows["Model"]
    assert rows["Beside it"] == "scaled FDG: 9.00 ml. FDG times a factor"
    assert rows["Images"] == "used: FDG PET\nnot there: CT"
    assert rows["Trained on"] == "10 simulated patients"
    assert rows["Like training?"].startswith(PASSED)
    failed = model_html(model(False))
    assert f"<b>{FAILED} OUTSIDE: 1 of 1 checks failed; export needs an override.</b>" in failed
    assert "SUV: 30 (allowed: 0 to 20 g/ml)" in failed
    assert "to lift: distribution(suv) name: reason" in failed


def test_a_model_without_uncertainty_says_that_it_gives_none():
    silent = replace(model(True), hypoxic_volume_band_ml=(float("nan"), float("nan")), distribution=(), title="A < B")
    text = model_html(silent)
    assert "(5-95 % band: not given by this model)" in text
    assert "nan" not in text
    assert "were not compared with the training data" in text
    assert "A &lt; B" in text


def test_the_device_is_asked_in_the_background_and_an_empty_answer_is_no_lie():
    import subprocess
    import sys
    import time

    def answer(text: str) -> DeviceQuestion:
        question = DeviceQuestion(lambda _: subprocess.Popen([sys.executable, "-c", f"print({text!r})"], text=True,
                                                             stdout=subprocess.PIPE))  # fmt: skip
        question.ask()
        end = time.monotonic() + 60
        while not question.poll() and time.monotonic() < end:
            time.sleep(0.02)
        return question

    assert answer("DEVICE GPU X, 80 GiB").answer == "GPU X, 80 GiB"
    assert "could not be found out" in answer("Traceback").answer
    assert DeviceQuestion(lambda _: None).text(all_methods()["tracer_ratio"]) == cpu_text()
