"""Times and values of a sequence's frames: from its index, its tags or the user; anything else is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.jobs import Job, read_job, write_job
from HypoxiaMapperLib.methods import all_methods
from HypoxiaMapperLib.timeseries import ParameterSeries, Timing

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml.sequences import FrameIndex  # noqa: E402
from HypoxiaMapperLib.panel.node_images import NodeImages, state_unit  # noqa: E402
from HypoxiaMapperLib.panel.sequence_input import SequenceInputs  # noqa: E402
from HypoxiaMapperLib.panel.sequence_times import Stated, parse_lengths, pet_times  # noqa: E402
from kinetic_samples import SHAPE, volume  # noqa: E402
from sequence_samples import add_sequence  # noqa: E402

DCE, FLIP = all_methods()["dce_tofts"].inputs[0], all_methods()["dce_tofts"].inputs[2]
SUV, SIGNAL = "suv", "mr_signal"
FRAMES = np.arange(3.0)[:, None, None, None] * np.ones(SHAPE)


@pytest.fixture
def scene() -> Any:
    return slicer.vtkMRMLScene()


def inputs() -> SequenceInputs:
    return SequenceInputs(NodeImages(lambda uids: [""] * len(uids)))


def test_starts_and_mid_times_that_both_fit_are_asked_for():
    index = FrameIndex("time", "s", (5.0, 15.0, 25.0))
    with pytest.raises(HypoxiaError, match="can be frame starts or mid-times"):
        pet_times(index, 3, Stated(lengths="3x10"), "PET")
    found = pet_times(index, 3, Stated(Timing(frame_time="mid"), "3x10"), "PET")
    np.testing.assert_array_equal(found.start_s, [0, 10, 20])
    from_zero = FrameIndex("time", "s", (0.0, 10.0, 20.0))  # no middle of a frame
    np.testing.assert_array_equal(pet_times(from_zero, 3, Stated(lengths="3x10"), "PET").start_s, [0, 10, 20])
    np.testing.assert_array_equal(parse_lengths("2x10, 5;0.5"), [10, 10, 5, 0.5])
    for text in ("0x10", "ten", "-5", "3x"):
        with pytest.raises(RequestError, match="not understood"):
            parse_lengths(text)


def mr(scene: Any, index: Any, name: str, unit: str, spec: Any, **timing: Any) -> Any:
    sequence = add_sequence(scene, FRAMES[: len(index)], index, name, unit)
    state_unit(sequence, SIGNAL)
    return inputs().source(sequence, spec, "", Stated(Timing(**timing)))


def test_an_mr_sequence_gets_its_times_from_index_or_user(scene):
    np.testing.assert_array_equal(mr(scene, (3, 8, 13.5), "time", "s", DCE).frame_start_s, [0, 5, 10.5])
    by_step = mr(scene, range(3), "frame", "", DCE, frame_interval_s=4.0)
    np.testing.assert_array_equal(by_step.frame_start_s, [0, 4, 8])
    assert "stated by the user: 4 s" in by_step.facts["time_source"]
    np.testing.assert_array_equal(mr(scene, range(3), "time", "s", DCE, time_unit="s").frame_start_s, [0, 1, 2])
    for index, name, unit, words in (
        (range(3), "frame", "", "does not say when its frames were measured"),
        (range(3), "time", "s", "does not say when its frames were measured"),  # untouched in Slicer
        (("a", "b", "c"), "phase", "", "does not say when"),
        ((0, 4, 8), "time", "ms", "which is too short"),
    ):
        with pytest.raises(HypoxiaError, match=words):
            mr(scene, index, name, unit, DCE)
    with pytest.raises(HypoxiaError, match="5 s from frame to frame were stated"):
        mr(scene, (0, 4, 8), "time", "s", DCE, frame_interval_s=5.0)
    sequence = add_sequence(scene, FRAMES[:3], (0, 4, 8), "time", "s")
    state_unit(sequence, SUV)
    with pytest.raises(HypoxiaError, match="is SUVbw"):
        inputs().source(sequence, DCE, "", Stated())


def test_a_stated_unit_of_times_is_not_doubted(scene):
    pet = next(spec for spec in all_methods()["patlak_ki"].inputs if spec.key == "pet")
    sequence = add_sequence(scene, FRAMES, (0, 600, 1200), "time", "s")
    state_unit(sequence, SUV)
    with pytest.raises(HypoxiaError, match="60 times as long"):
        inputs().source(sequence, pet, "FMISO", Stated(Timing(frame_time="start"), "3x10"))
    found = inputs().source(sequence, pet, "FMISO", Stated(Timing(frame_time="start", time_unit="s"), "3x10"))
    np.testing.assert_array_equal(found.frame_mid_s, [5, 605, 1205])


def test_flip_angles_come_from_an_index_that_says_so(scene):
    found = mr(scene, (3, 15), "Flip Angle", "deg", FLIP)
    assert isinstance(found, ParameterSeries)
    np.testing.assert_array_equal(found.values, [3, 15])
    with pytest.raises(HypoxiaError, match="does not say the flip angle"):
        mr(scene, (3, 15), "time", "s", FLIP)
    sequence = add_sequence(scene, FRAMES[:2], (0, 1), "", "")
    for key, value in {
        "FrameLabels": "3.0,15.0", "FrameIdentifyingDICOMTagName": "FlipAngle",
        "FrameIdentifyingDICOMTagUnits": "degrees", "DICOM.RepetitionTime": "4.5",
    }.items():  # fmt: skip
        sequence.SetAttribute(f"MultiVolume.{key}", value)
    state_unit(sequence, SIGNAL)
    found = inputs().source(sequence, FLIP, "", Stated())
    np.testing.assert_array_equal(found.values, [3, 15])
    assert found.facts["repetition_time_ms"] == 4.5


def test_frames_go_to_the_worker_as_they_are(scene, tmp_path):
    found = mr(scene, (3, 15), "flip angle", "deg", FLIP)
    planning = volume(np.zeros(SHAPE), "CT number", "[hnsf'U]")
    write_job(Job("dce_tofts", {}, planning, {"fa": found}, {}), tmp_path)
    again = read_job(tmp_path).inputs["fa"]
    np.testing.assert_array_equal(again.frames, found.frames)
    np.testing.assert_array_equal(again.values, found.values)
    assert again.grid.GetOrigin() == found.grid.GetOrigin()
    assert (again.quantity, again.unit, again.operations) == (found.quantity, found.unit, found.operations)
