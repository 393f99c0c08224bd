"""A Slicer sequence as a series: the same map as from its DICOM files, and nothing guessed without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from HypoxiaMapperLib.errors import GeometryError, HypoxiaError
from HypoxiaMapperLib.jobs import SeriesSource, read_job, write_job
from HypoxiaMapperLib.methods import all_methods, no_progress
from HypoxiaMapperLib.timeseries import TimeSeries, Timing
from HypoxiaMapperLib.worker import run_job

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from vtkmodules.vtkCommonMath import vtkMatrix4x4  # noqa: E402

from dicom_samples import write_ct  # noqa: E402
from dynamic_samples import write_mr_frames  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import Fingerprints, changed_inputs, map_to_node  # noqa: E402
from HypoxiaMapperLib.panel.node_images import state_unit  # noqa: E402
from HypoxiaMapperLib.panel.patient_loader import add_frame  # noqa: E402
from HypoxiaMapperLib.panel.sequence_input import sequence_labels, sequences_in  # noqa: E402
from HypoxiaMapperLib.panel.sequence_times import Stated  # noqa: E402
from kinetic_samples import SHAPE, grid, tumour_mask  # noqa: E402
from panel_samples import save_and_reload  # noqa: E402
from sequence_samples import (  # noqa: E402
    BQ_PER_SUV,
    KI,
    LENGTHS_S,
    LENGTHS_TEXT,
    STARTS_S,
    DynamicFiles,
    DynamicPatient,
    add_sequence,
    imported_sequence,
    plain_volume,
)

SUV, ACTIVITY, SIGNAL = "suv", "activity", "mr_signal"
DCE, FLIP = all_methods()["dce_tofts"].inputs[0], all_methods()["dce_tofts"].inputs[2]


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> DynamicFiles:
    return DynamicFiles(tmp_path_factory.mktemp("dicom"))


@pytest.fixture
def patient(dicom: DynamicFiles) -> DynamicPatient:
    return DynamicPatient(dicom)


def chosen(patient: DynamicPatient, sequence: Any, **changes: Any) -> Any:
    return replace(patient.choices, sequences={"pet": sequence}, **changes)


def through_files(job: Any, folder: Path) -> Any:
    """Result of a job that was written and read again, as between panel and worker."""
    folder.mkdir(exist_ok=True)
    write_job(job, folder)
    return run_job(read_job(folder), no_progress)


def ki(result: Any) -> np.ndarray:
    return result.map.volume.array[tumour_mask()]


@pytest.fixture(scope="module")
def by_dicom(dicom: DynamicFiles) -> Any:
    patient = DynamicPatient(dicom)
    choices = replace(patient.choices, series={"pet": patient.info.series_uid})
    patient.ct.SetAttribute("Hypoxia.DicomFolder", str(patient.info.files[0].parents[1]))
    return run_job(patient.decisions.make_job(choices), no_progress)


def stated(patient: DynamicPatient, sequence: Any, unit: str = SUV, **changes: Any) -> Any:
    """Choices in which the user says everything about a sequence without files."""
    patient.in_database = False
    state_unit(sequence, unit)
    words = {"tracer": "FMISO", "frame_lengths": LENGTHS_TEXT, "alignment": "scene", **changes}
    return chosen(patient, sequence, **words)


def test_a_sequence_from_dicom_is_read_from_its_files_and_gives_the_same_map(patient, by_dicom, tmp_path):
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    choices = chosen(patient, sequence)
    assert patient.decisions.why_not_run(choices) == ""
    job = patient.decisions.make_job(choices)
    assert isinstance(job.sources["pet"], SeriesSource)
    assert len(job.sources["pet"].infos[0].files) == len(LENGTHS_S) * 5
    found = through_files(job, tmp_path / "job")
    np.testing.assert_array_equal(ki(found), ki(by_dicom))
    np.testing.assert_allclose(ki(found), KI[tumour_mask().ravel()], rtol=0.05)
    assert found.map.volume.frame_of_reference_uid == by_dicom.map.volume.frame_of_reference_uid


def test_without_a_database_the_paths_of_the_importer_are_taken(patient):
    files = [patient.files[uid] for frame in patient.uids for uid in frame]
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids, files)
    patient.in_database = False
    assert patient.decisions.make_job(chosen(patient, sequence)).sources["pet"].infos[0].files == patient.info.files


def test_the_voxels_of_a_sequence_give_the_same_map(patient, by_dicom, tmp_path):
    sequence = add_sequence(patient.scene, patient.frames / BQ_PER_SUV, STARTS_S, "time", "s")
    choices = stated(patient, sequence)
    assert patient.decisions.why_not_run(choices) == ""
    (tmp_path / "job").mkdir()
    job = patient.decisions.make_job(choices, tmp_path / "job")
    series = job.inputs["pet"]
    assert isinstance(series, TimeSeries)
    np.testing.assert_array_equal(series.frame_start_s, STARTS_S)
    np.testing.assert_array_equal(series.frame_duration_s, LENGTHS_S)
    assert series.operations == ("34 frames of the Slicer sequence 'FMISO'", "unit stated by the user")
    assert "taken as frame start; lengths stated by the user" in series.facts["time_source"]
    found = through_files(job, tmp_path / "job")
    assert [p.name for p in (tmp_path / "job").glob("*.npy")] == ["frames_pet.npy"]  # written once, never in memory
    np.testing.assert_allclose(ki(found), ki(by_dicom), rtol=1e-4)
    assert any("this must be the injection" in line for line in found.map.warnings)
    assert found.shown["pet"].operations[-1] == "frame 34 of 34"
    node = add_frame(patient.scene, found.shown["pet"], None, patient.ct)
    assert node.GetName() == "FMISO, frame 34 of 34"
    assert add_frame(patient.scene, found.shown["pet"], None, patient.ct) is node


@pytest.mark.parametrize(
    ("index", "unit", "changes"),
    [
        (STARTS_S / 60, "min", {}),
        (STARTS_S * 1000, "ms", {}),
        (STARTS_S + LENGTHS_S / 2, "s", {}),  # mid-times leave no gap, starts would
        (STARTS_S + LENGTHS_S / 2, "s", {"timing": Timing(frame_time="mid")}),
        (STARTS_S, "", {"timing": Timing(time_unit="s")}),
        (range(34), "s", {}),  # a count; the lengths say it all
    ],
)
def test_units_and_mid_times_are_told_apart(patient, by_dicom, index, unit, changes):
    sequence = add_sequence(patient.scene, patient.frames, index, "time", unit)
    job = patient.decisions.make_job(stated(patient, sequence, ACTIVITY, **changes))
    np.testing.assert_allclose(job.inputs["pet"].frame_start_s, STARTS_S, atol=1e-3)
    np.testing.assert_allclose(ki(run_job(job, no_progress)), ki(by_dicom), rtol=1e-4)


def test_tags_of_the_importer_are_times_when_the_files_are_gone(patient, by_dicom):
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    job = patient.decisions.make_job(stated(patient, sequence, ACTIVITY))
    assert "DICOM tag 'AcquisitionTime'" in job.inputs["pet"].facts["time_source"]
    assert job.inputs["pet"].source_uids == tuple(uid for frame in patient.uids for uid in frame)
    np.testing.assert_allclose(ki(run_job(job, no_progress)), ki(by_dicom), rtol=1e-4)


def test_a_dce_sequence_gives_the_area_of_its_dicom_series(patient, tmp_path):
    """Repetition time and flip angle come with the importer's tags, times with Acquisition Time."""
    times_s = 5.0 * np.arange(24)
    rise = np.clip((times_s - 40) / 20, 0, 1)[:, None, None, None]
    frames = np.round(500 + 300 * rise * np.linspace(0.5, 1.5, SHAPE[2]) * np.ones(SHAPE))
    clock = [f"10{s // 60:02d}{s % 60:02d}" for s in times_s.astype(int)]
    write_mr_frames(
        tmp_path / "dce", frames, SeriesDescription="DCE", AcquisitionDate="20250101", AcquisitionTime=clock,
        RepetitionTime=4.5, FlipAngle=20.0, spacing_mm=grid().GetSpacing()[::-1], origin_mm=grid().GetOrigin(),
    )  # fmt: skip
    patient.ct.SetAttribute("Hypoxia.DicomFolder", str(tmp_path / "dce"))
    choices = replace(patient.choices, method="dce_iauc", params={"t10_s": 1.2}, regions={})
    by_files = run_job(patient.decisions.make_job(replace(choices, series={"dce": "DCE"})), no_progress)
    sequence = imported_sequence(patient.scene, frames, (), times_s=times_s)
    for tag, value in (("RepetitionTime", "4.5"), ("FlipAngle", "20")):
        sequence.SetAttribute(f"MultiVolume.DICOM.{tag}", value)
    state_unit(sequence, SIGNAL)
    choices = replace(choices, sequences={"dce": sequence}, alignment="scene")
    found = through_files(patient.decisions.make_job(choices), tmp_path / "job")
    assert np.nanmax(ki(by_files)) > 1
    np.testing.assert_allclose(ki(found), ki(by_files), rtol=1e-5)


def test_the_late_ratio_of_a_sequence_in_activity_is_that_of_its_files(patient):
    params = {"reference_kind": "blood", "minimum_reference_ml": 0.0, "start_min": 60.0}
    choices = replace(patient.choices, method="late_ratio", params=params, reference=patient.choices.regions["artery"])
    own = {"pet": imported_sequence(patient.scene, patient.frames, patient.uids)}
    by_files = run_job(patient.decisions.make_job(replace(choices, regions={}, sequences=own)), no_progress)
    words = {"tracer": "FMISO", "frame_lengths": LENGTHS_TEXT, "alignment": "scene", "regions": {}}
    sequence = sequence_of_pet(patient)
    state_unit(sequence, ACTIVITY)
    job = patient.decisions.make_job(replace(choices, sequences={"pet": sequence}, **words))
    assert np.isfinite(ki(by_files)).all()
    np.testing.assert_allclose(ki(run_job(job, no_progress)), ki(by_files), rtol=1e-5)


def test_every_unstated_thing_is_asked_for(patient):
    sequence = add_sequence(patient.scene, patient.frames, STARTS_S, "time", "s")
    choices = chosen(patient, sequence, alignment="scene")
    decisions = patient.decisions
    assert "unit unknown" in decisions.why_not_run(choices)
    assert decisions.sequences.needs_unit(sequence)
    state_unit(sequence, SUV)
    assert not decisions.sequences.needs_unit(sequence)
    assert "has no known tracer: state it" in decisions.why_not_run(choices)
    choices = replace(choices, tracer="FMISO")
    assert "does not say how long its frames are" in decisions.why_not_run(choices)
    assert "2 lengths are stated" in decisions.why_not_run(replace(choices, frame_lengths="10 30"))
    assert "'6y10' is not understood" in decisions.why_not_run(replace(choices, frame_lengths="6y10"))
    assert decisions.why_not_run(replace(choices, frame_lengths=LENGTHS_TEXT)) == ""
    wrong = replace(choices, frame_lengths=LENGTHS_TEXT, timing=Timing(time_unit="ms"))
    assert "its index is in s, ms is stated" in decisions.why_not_run(wrong)
    assert "this method needs SUVbw" in _refused(patient, stated(patient, sequence, SIGNAL))
    assert "is a FDG PET" in _refused(patient, stated(patient, sequence, tracer="FDG"))


def _refused(patient: DynamicPatient, choices: Any) -> str:
    with pytest.raises(HypoxiaError) as error:
        patient.decisions.make_job(choices)
    return str(error.value)


def test_frames_on_different_grids_or_under_a_transform_are_refused(patient):
    sequence = add_sequence(patient.scene, patient.frames, STARTS_S, "time", "s")
    sequence.GetNthDataNode(3).SetSpacing(2.0, 3.0, 4.5)
    assert "frame 4 lies on another grid" in _refused(patient, stated(patient, sequence))
    short = add_sequence(patient.scene, patient.frames[:1], [0], "time", "s")
    assert "holds 1 frame" in _refused(patient, stated(patient, short))
    moved = add_sequence(patient.scene, patient.frames, STARTS_S, "time", "s")
    shown = browse(patient.scene, moved)
    shown.SetAndObserveTransformNodeID(patient.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T").GetID())
    assert "under the transform 'T'" in _refused(patient, stated(patient, moved))


def browse(scene: Any, sequence: Any) -> Any:
    """The volume that shows the current frame, as Slicer makes it after loading a sequence."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence)


def test_a_sequence_that_no_longer_shows_its_files_is_refused(patient):
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    for n in range(sequence.GetNumberOfDataNodes()):
        sequence.GetNthDataNode(n).SetOrigin(1.0, 2.0, 3.0)
    with pytest.raises(GeometryError, match="does not lie where its DICOM files do"):
        run_job(patient.decisions.make_job(chosen(patient, sequence)), no_progress)
    doubled = imported_sequence(patient.scene, patient.frames, [*patient.uids[:-1], patient.uids[-2]])
    with pytest.raises(HypoxiaError, match="holds 34 frames, its DICOM files 33"):
        run_job(patient.decisions.make_job(chosen(patient, doubled)), no_progress)
    smooth = [*patient.frames[:-1], (patient.frames[-1] + np.roll(patient.frames[-1], 1, axis=1)) / 2]
    filtered = imported_sequence(patient.scene, np.array(smooth), patient.uids)
    with pytest.raises(HypoxiaError, match="does not show the voxels of its DICOM files"):
        run_job(patient.decisions.make_job(chosen(patient, filtered)), no_progress)


def test_a_sequence_turned_by_slicer_is_still_that_of_its_files(patient):
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    for n in range(sequence.GetNumberOfDataNodes()):
        node = sequence.GetNthDataNode(n)
        matrix = vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        slicer.vtkMRMLVolumeNode.ReverseSliceOrder(node.GetImageData(), matrix)
        node.SetIJKToRASMatrix(matrix)
    assert run_job(patient.decisions.make_job(chosen(patient, sequence)), no_progress).map.volume is not None


def test_a_change_of_frame_index_or_unit_makes_the_map_stale(patient):
    sequence = add_sequence(patient.scene, patient.frames / BQ_PER_SUV, STARTS_S, "time", "s")
    choices = stated(patient, sequence)
    prints = patient.decisions.fingerprint(choices)
    result = run_job(patient.decisions.make_job(choices), no_progress)
    node = map_to_node(patient.scene, result, "Ki", prints, "patlak_ki")
    stale = lambda c=choices: changed_inputs(node, patient.decisions.fingerprint(c))  # noqa: E731
    assert stale() == ()
    sequence.SetIndexUnit("min")
    assert stale() == ("sequence pet",)
    sequence.SetIndexUnit("s")
    assert stale() == ()
    sequence.UpdateIndexValue("0.0", "-1")
    assert stale() == ("sequence pet",)
    sequence.UpdateIndexValue("-1", "0.0")
    assert stale() == ()
    state_unit(sequence, ACTIVITY)
    assert stale() == ("sequence pet",)
    state_unit(sequence, SUV)
    frame = plain_volume(patient.scene, patient.frames[2] / BQ_PER_SUV + 1)
    sequence.UpdateDataNodeAtValue(frame, sequence.GetNthIndexValue(2))
    assert stale() == ("sequence pet",)
    assert stale(replace(choices, frame_lengths="34x60")) == ("sequence pet", "timing")


def test_frames_of_two_sequences_do_not_share_a_fingerprint(patient):
    prints = Fingerprints()
    first = add_sequence(patient.scene, patient.frames[:3], (0, 5, 9), "time", "s")
    second = add_sequence(patient.scene, patient.frames[:3] + 1, (0, 5, 9), "time", "s")
    assert first.GetNthDataNode(0).GetID() == second.GetNthDataNode(0).GetID()  # each has a scene of its own
    assert prints.sequence(first) != prints.sequence(second)


def test_sequences_of_another_patient_are_refused(patient):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(patient.scene)
    names = slicer.vtkMRMLSubjectHierarchyConstants
    sequence = add_sequence(patient.scene, patient.frames, STARTS_S, "time", "s")
    homes = {}
    for node, title in ((patient.ct, "Ada"), (browse(patient.scene, sequence), "Bea")):
        homes[title] = tree.CreateSubjectItem(tree.GetSceneItemID(), title)
        tree.SetItemLevel(homes[title], names.GetDICOMLevelPatient())
        tree.SetItemParent(tree.GetItemByDataNode(node) or tree.CreateItem(homes[title], node), homes[title])
    text = _refused(patient, stated(patient, sequence))
    assert "'CT' belongs to patient Ada, 'FMISO' to patient Bea" in text
    assert sequences_in(patient.scene, homes["Ada"]) == []
    assert sequences_in(patient.scene, homes["Bea"]) == sequences_in(patient.scene, 0) == [sequence]


def test_the_files_of_another_patient_are_refused(patient, tmp_path):
    patient.ct.SetAttribute("Hypoxia.DicomFolder", str(tmp_path / "ct"))
    patient.ct.SetAttribute("Hypoxia.SeriesInstanceUID", "1.2.3.4")
    write_ct(tmp_path / "ct", SeriesInstanceUID="1.2.3.4", PatientID="P2", PatientName="Other^Two")
    sequence = imported_sequence(patient.scene, patient.frames, patient.uids)
    assert "P1" in _refused(patient, chosen(patient, sequence))


def test_only_sequences_of_volumes_are_offered_and_equal_names_told_apart(patient):
    scene = patient.scene
    first = add_sequence(scene, patient.frames[:2], (0, 5), "time", "s")
    second = add_sequence(scene, patient.frames[:2], (0, 5), "time", "s")
    transforms = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "motion")
    transforms.SetDataNodeAtValue(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), "0")
    scene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
    found = sequence_labels(sequences_in(scene, 0))
    assert list(found.values()) == [first, second]
    assert list(found) == [f"FMISO (sequence {n.GetID()})" for n in (first, second)]
    first.SetName(" FMISO")  # Slicer's importer begins a name with a blank where there is no series number
    second.SetName("HX4")
    assert list(sequence_labels([first, second])) == ["FMISO (sequence)", "HX4 (sequence)"]


class MultiVolume:
    """A volume that says it is Slicer's MultiVolume, whose class is not in slicer-core."""

    def __init__(self, node: Any, attributes: dict[str, str]) -> None:
        self._node, self._attributes = node, attributes

    def IsA(self, name: str) -> bool:  # noqa: N802
        return name == "vtkMRMLMultiVolumeNode" or self._node.IsA(name)

    def GetAttribute(self, name: str) -> str | None:  # noqa: N802
        return self._attributes.get(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def test_a_multi_volume_is_read_from_its_files_or_refused(patient, by_dicom):
    uids = " ".join(uid for frame in patient.uids for uid in frame)
    said = {"DICOM.instanceUIDs": uids, "MultiVolume.NumberOfFrames": "34"}
    node = plain_volume(patient.scene, patient.frames[0])
    sequences, spec = patient.decisions.sequences, all_methods()["patlak_ki"].inputs[0]
    source = sequences.source(MultiVolume(node, said), spec, "", Stated())
    job = patient.decisions.make_job(chosen(patient, imported_sequence(patient.scene, patient.frames, patient.uids)))
    np.testing.assert_array_equal(ki(run_job(replace(job, sources={"pet": source}), no_progress)), ki(by_dicom))
    assert not sequences.needs_unit(MultiVolume(node, said))
    with pytest.raises(HypoxiaError, match="Load it as a volume sequence"):
        sequences.check(MultiVolume(node, {}), spec, "", Stated())


def sequence_of_pet(patient: DynamicPatient) -> Any:
    return add_sequence(patient.scene, patient.frames, STARTS_S, "time", "s")


def test_frames_that_differ_in_unit_are_refused(patient):
    sequence = sequence_of_pet(patient)
    for n, unit in enumerate(("g/ml", "Bq/ml")):
        sequence.GetNthDataNode(n).SetAttribute("Hypoxia.Quantity", "SUVbw")
        sequence.GetNthDataNode(n).SetAttribute("Hypoxia.Unit", unit)
    for n in range(2, sequence.GetNumberOfDataNodes()):
        sequence.GetNthDataNode(n).SetAttribute("Hypoxia.Quantity", "SUVbw")
        sequence.GetNthDataNode(n).SetAttribute("Hypoxia.Unit", "g/ml")
    patient.in_database = False
    assert "holds SUVbw in Bq/ml and SUVbw in g/ml" in _refused(patient, chosen(patient, sequence, tracer="FMISO"))


def test_a_saved_scene_keeps_the_sequence(patient, tmp_path):
    sequence = add_sequence(patient.scene, patient.frames / BQ_PER_SUV, STARTS_S, "time", "s")
    before = patient.decisions.fingerprint(stated(patient, sequence))["sequence pet"]
    node = patient.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
    node.SetNodeReferenceID("Hypoxia.Sequence.pet", sequence.GetID())
    save_and_reload(patient.scene, tmp_path)
    again = patient.scene.GetFirstNodeByName("parameters").GetNodeReference("Hypoxia.Sequence.pet")
    assert again.GetNumberOfDataNodes() == 34
    assert patient.decisions.fingerprint(chosen(patient, again))["sequence pet"] == before
