"""The job folder, the child process that works on it, its errors, and how it is ended."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError
from HypoxiaMapperLib.jobs import Job, JobResult, read_result, write_job
from HypoxiaMapperLib.worker import parse_progress, run_job

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.methods import FitCurve, HypoxiaMap, no_progress  # noqa: E402
from HypoxiaMapperLib.panel.child import PACKAGE_PARENT, ChildRun, worker_arguments  # noqa: E402
from panel_samples import GTV, SHAPE, Patient, run_here  # noqa: E402


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_job_survives_the_folder_and_the_child_process(patient, tmp_path):
    """The map of a child process equals the one computed here, and progress was told."""
    write_job(patient.decisions.make_job(patient.choices), tmp_path)
    process = subprocess.Popen(
        worker_arguments(sys.executable, tmp_path),
        cwd=PACKAGE_PARENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = ChildRun(process)
    while run.poll() is None:
        time.sleep(0.05)
    assert process.returncode == 0, run.log
    assert run.fraction == pytest.approx(1.0)
    here, there = run_here(patient).map, read_result(tmp_path).map
    np.testing.assert_array_equal(there.volume.array, here.volume.array)
    assert (there.threshold, there.comparison, there.warnings) == (1.2, ">", here.warnings)
    assert there.volume.quantity == here.volume.quantity == "FMISO uptake ratio to blood"


def test_an_error_of_the_child_is_told_word_for_word(patient, tmp_path):
    job = patient.decisions.make_job(patient.choices)
    write_job(dataclasses.replace(job, regions={**job.regions, "reference": GTV}), tmp_path)
    finished = subprocess.run(
        worker_arguments(sys.executable, tmp_path), cwd=PACKAGE_PARENT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 3
    with pytest.raises(HypoxiaError, match="overlaps GTVp"):
        read_result(tmp_path)


def test_a_child_that_died_without_a_word_is_reported(tmp_path):
    with pytest.raises(HypoxiaError, match="without a result"):
        read_result(tmp_path)


def test_cancel_ends_the_worker_behind_a_launcher():
    """What was started is a launcher (as PythonSlicer is); the worker it starts must end too."""
    worker = "import os, time; print('PID', os.getpid(), flush=True); time.sleep(60)"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    run = ChildRun(subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True))
    while run.worker_pid is None:
        assert run.poll() is None
        time.sleep(0.02)
    run.cancel()
    assert run.cancelled
    deadline = time.monotonic() + 10
    while run.poll() is None and time.monotonic() < deadline:  # the pipe closes when the last writer is gone
        time.sleep(0.02)
    assert run.poll() is not None


def test_progress_lines():
    assert parse_progress("PROGRESS 0.42 computing ratio\n") == (0.42, "computing ratio")
    assert parse_progress("something else") is None
    assert parse_progress("PROGRESS soon text") is None


def test_rigid_and_scene_alignment_warn(patient):
    job: Job = dataclasses.replace(patient.decisions.make_job(patient.choices), alignment="scene")
    other = dataclasses.replace(job.inputs["pet"], frame_of_reference_uid="9.9")
    found = run_job(dataclasses.replace(job, inputs={"pet": other}), no_progress)
    assert "look at the overlay" in found.map.warnings[0]
    with pytest.raises(HypoxiaError, match="frame of reference"):
        run_job(dataclasses.replace(job, inputs={"pet": other}, alignment="same_frame"), no_progress)


def test_result_of_a_map_without_threshold_survives(patient, tmp_path):
    from HypoxiaMapperLib.jobs import write_result

    found: HypoxiaMap = dataclasses.replace(run_here(patient).map, threshold=math.nan, quality=np.ones(SHAPE, np.uint8))
    curve = FitCurve("GTV", (0.0, 1.0), (2.0, 3.0), (2.1, 2.9), "time (min)", "SUV")
    found = dataclasses.replace(found, extra={"k3": found.volume}, curves=(curve,))
    write_result(JobResult(found), tmp_path)
    back = read_result(tmp_path).map
    assert math.isnan(back.threshold)
    assert back.quality.sum() == np.prod(SHAPE)
    np.testing.assert_array_equal(back.extra["k3"].array, found.volume.array)
    assert back.extra["k3"].unit == found.volume.unit
    assert back.curves == (curve,)
