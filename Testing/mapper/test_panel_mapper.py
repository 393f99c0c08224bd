"""The mapper panel's decisions and nodes on the real MRML: what is missing, what is stale, what a threshold gives."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.volume import Region, Volume, image_like

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")


from HypoxiaMapperLib.methods import FitCurve  # noqa: E402
from HypoxiaMapperLib.methods._learned import Reference, crop_around, network_images  # noqa: E402
from HypoxiaMapperLib.mrml import node_to_volume, region_to_segment, volume_to_node  # noqa: E402
from HypoxiaMapperLib.panel.choices import MapperChoices  # noqa: E402
from HypoxiaMapperLib.panel.guess import guess_choices, without_unfitting  # noqa: E402
from HypoxiaMapperLib.panel.hypoxic_segment import (  # noqa: E402
    hypoxic_mask,
    region_with_history,
    segment_state,
    write_hypoxic_segment,
)
from HypoxiaMapperLib.panel.map_display import inside_only, set_window, window_decimals, window_of  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import (  # noqa: E402
    changed_inputs,
    map_facts,
    map_to_node,
    node_to_map,
    parts_of,
)
from HypoxiaMapperLib.panel.node_images import state_unit, suv_line  # noqa: E402
from HypoxiaMapperLib.panel.patient_scope import hidden_ids  # noqa: E402
from HypoxiaMapperLib.panel.plots import ThresholdPlots, show_curve  # noqa: E402
from HypoxiaMapperLib.panel.threshold import ThresholdTable, make_threshold_table  # noqa: E402
from HypoxiaMapperLib.panel.views import probe_text, set_display_threshold, value_at  # noqa: E402
from panel_samples import FRAME, GTV, SHAPE, Patient, box, grid, pet_volume, run_here  # noqa: E402


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_a_complete_choice_may_run(patient):
    assert patient.decisions.why_not_run(patient.choices) == ""
    assert patient.decisions.why_not_run(patient.choices, running=True) == "A computation is running."


def test_every_missing_thing_is_named(patient):
    reason = patient.decisions.why_not_run(MapperChoices())
    for word in ("planning CT", "static PET of a hypoxia tracer", "GTV segment", "reference segment"):
        assert word in reason
    assert len(reason.splitlines()) == 4


def test_a_node_without_unit_is_refused_and_stating_it_fixes_that(patient):
    for key in ("Hypoxia.Unit", "Hypoxia.Quantity"):
        patient.pet.RemoveAttribute(key)
    assert "unit unknown" in patient.decisions.why_not_run(patient.choices)
    state_unit(patient.pet, "suv")
    assert patient.decisions.why_not_run(patient.choices) == ""
    with pytest.raises(RequestError, match="furlong"):
        state_unit(patient.pet, "furlong")


def test_wrong_quantity_and_wrong_tracer_are_refused(patient):
    state_unit(patient.pet, "hounsfield")
    assert "needs SUVbw" in patient.decisions.why_not_run(patient.choices)
    state_unit(patient.pet, "suv")
    patient.pet.SetAttribute("Hypoxia.Facts", '{"tracer": "FDG"}')
    assert "is a FDG PET" in patient.decisions.why_not_run(patient.choices)
    patient.pet.SetAttribute("Hypoxia.Facts", "{}")
    assert "no known tracer" in patient.decisions.why_not_run(patient.choices)
    stated = dataclasses.replace(patient.choices, tracer="FMISO")
    assert patient.decisions.why_not_run(stated) == ""
    assert patient.decisions.make_job(stated).inputs["pet"].facts["tracer_source"] == "stated by the user"


def test_a_bad_parameter_is_named(patient):
    bad = dataclasses.replace(patient.choices, params={"statistic": "mode"})
    assert "statistic" in patient.decisions.why_not_run(bad)


def test_roles_are_guessed_from_names_and_never_overwrite(patient):
    found = guess_choices(MapperChoices(), [patient.ct, patient.pet], [patient.structures], patient.images)
    assert (found.gtv.segment_id, found.reference.segment_id) == (patient.gtv.segment_id, patient.blood.segment_id)
    chosen = guess_choices(MapperChoices(gtv=patient.blood), [], [patient.structures], patient.images)
    assert chosen.gtv == patient.blood


def test_an_image_of_another_tracer_is_let_go_of_with_the_method(patient):
    fdg = dataclasses.replace(patient.choices, method="fdg_surrogate")
    assert without_unfitting(patient.choices, patient.images).inputs["pet"] is patient.pet
    assert without_unfitting(fdg, patient.images).inputs["pet"] is None
    patient.pet.SetAttribute("Hypoxia.Facts", "{}")  # a person may know what the file does not say
    assert without_unfitting(fdg, patient.images).inputs["pet"] is patient.pet


def test_small_values_get_the_decimals_they_need():
    assert [window_decimals(w) for w in ((0.0, 2.5), (0.0, 60.0), (-2e-4, 3e-4), (1.0, 1.0))] == [2, 2, 6, 2]


def test_the_map_node_keeps_everything_through_a_saved_scene(patient, tmp_path):
    result = run_here(patient)
    uncertainty = result.map.volume.with_array(np.full(SHAPE, 0.1, np.float32), "made up")
    result = dataclasses.replace(result, map=dataclasses.replace(result.map, uncertainty=uncertainty))
    prints = patient.decisions.fingerprint(patient.choices)
    node = map_to_node(patient.scene, result, "Map", prints, "tracer_ratio")
    text = tmp_path / "s.mrml"
    patient.scene.SetURL(str(text))
    node.AddDefaultStorageNode()
    facts_before = map_facts(node)
    assert patient.scene.Commit(str(text))
    again = slicer.vtkMRMLScene()
    again.SetURL(str(text))
    again.Import()
    loaded = again.GetFirstNodeByName("Map")
    assert map_facts(loaded) == facts_before
    assert json.loads(loaded.GetAttribute("Hypoxia.Inputs")) == prints
    back = node_to_map(node)
    assert (back.threshold, back.comparison, back.surrogate) == (1.2, ">", False)
    assert back.uncertainty.array.max() == pytest.approx(0.1)
    np.testing.assert_array_equal(back.volume.array, result.map.volume.array)


def test_what_changed_is_named(patient):
    prints = patient.decisions.fingerprint(patient.choices)
    node = map_to_node(patient.scene, run_here(patient), "Map", prints, "tracer_ratio")
    assert changed_inputs(node, patient.decisions.fingerprint(patient.choices)) == ()
    inner = patient.structures.GetSegmentation()
    inner.RemoveSegment(patient.gtv.segment_id)
    smaller = region_to_segment(patient.scene, patient.structures, box("GTVp", 9, 15), (255, 0, 0))
    assert smaller == patient.gtv.segment_id
    assert changed_inputs(node, patient.decisions.fingerprint(patient.choices)) == ("GTV",)
    other = dataclasses.replace(patient.choices, params={"statistic": "median", "reference_kind": "blood"})
    assert changed_inputs(node, patient.decisions.fingerprint(other)) == ("GTV", "parameters")


def test_a_changed_voxel_makes_the_map_stale(patient):
    node = map_to_node(
        patient.scene, run_here(patient), "Map", patient.decisions.fingerprint(patient.choices), "tracer_ratio"
    )
    patient.pet.GetImageData().SetScalarComponentFromDouble(3, 3, 3, 0, 7.0)
    patient.pet.GetImageData().GetPointData().GetScalars().Modified()
    patient.pet.GetImageData().Modified()
    patient.pet.Modified()
    assert changed_inputs(node, patient.decisions.fingerprint(patient.choices)) == ("image pet",)


def test_threshold_table_against_counting(patient):
    found = run_here(patient).map
    table = make_threshold_table(found.volume, GTV, ">")
    values = found.volume.array[GTV.array]
    for threshold in (0.5, 1.0, 1.2, float(values[100]), 2.0, 3.0):
        assert table.volume_ml(threshold) == pytest.approx(np.count_nonzero(values > threshold) * 0.01)
        at_least = dataclasses.replace(table, comparison=">=")
        assert at_least.volume_ml(threshold) == pytest.approx(np.count_nonzero(values >= threshold) * 0.01)
        below = dataclasses.replace(table, comparison="<")
        assert below.volume_ml(threshold) == pytest.approx(np.count_nonzero(values < threshold) * 0.01)
    assert table.fraction(-1.0) == 1.0
    assert table.histogram()[1].sum() == pytest.approx(GTV.volume_ml)


def test_threshold_table_counts_undefined_voxels_as_gtv():
    array = np.ones(SHAPE, np.float32)
    array[8, 8, 8] = np.nan
    table = make_threshold_table(Volume(image_like(array, grid()), "q", "1", FRAME), GTV, ">=")
    assert table.fraction(1.0) == pytest.approx(511 / 512)


def test_the_slider_is_fast_on_a_large_map():
    """At least 15 updates a second on 256 cubed, numbers, display threshold and both plot lines together."""
    scene = slicer.vtkMRMLScene()
    values = np.random.default_rng(1).random(256**3, dtype=np.float32)
    image = sitk.GetImageFromArray(values.reshape(256, 256, 256))
    node = volume_to_node(scene, Volume(image, "ratio", "{ratio}", FRAME), "map")
    node.CreateDefaultDisplayNodes()
    table = ThresholdTable(np.sort(values), 0.001, values.size * 0.001, ">")
    plots = ThresholdPlots(scene)
    plots.show(table, "ratio", "{ratio}")
    start = time.perf_counter()
    for number in range(60):
        threshold = number / 60
        table.volume_ml(threshold)
        set_display_threshold(node, threshold, ">")
        plots.move_threshold(threshold)
    assert 60 / (time.perf_counter() - start) > 15


def test_plots_follow_the_threshold(patient):
    table = make_threshold_table(run_here(patient).map.volume, GTV, ">")
    plots = ThresholdPlots(patient.scene)
    plots.show(table, "ratio", "{ratio}")
    plots.move_threshold(1.3)
    assert ThresholdPlots(patient.scene).curve is plots.curve
    line = plots.curve.GetNthPlotSeriesNode(1).GetTableNode().GetTable()
    assert [line.GetValue(r, 0).ToDouble() for r in (0, 1)] == [1.3, 1.3]
    curve = plots.curve.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    assert curve.GetValue(0, 1).ToDouble() == pytest.approx(table.volume_ml(table.limits()[0]))
    assert plots.curve.GetXAxisTitle() == "Threshold: ratio (ratio)"


@pytest.mark.parametrize(("comparison", "expected"), [(">", [False, False, True]), (">=", [False, True, True])])
def test_display_threshold_shows_what_is_counted(patient, comparison, expected):
    patient.pet.CreateDefaultDisplayNodes()
    set_display_threshold(patient.pet, 1.2, comparison)
    display = patient.pet.GetDisplayNode()
    voxels = [float(np.float32(v)) for v in (1.1, 1.2, 1.3)]
    shown = [display.GetLowerThreshold() <= v <= display.GetUpperThreshold() for v in voxels]
    assert shown == expected


def test_hypoxic_segment_is_made_refreshed_and_its_edits_are_told(patient):
    found = run_here(patient).map
    mask = hypoxic_mask(found.volume, GTV, 1.2, ">")
    region = GTV.with_array(mask, "ratio > 1.2", "GTVp_Hyp")
    node, identifier = write_hypoxic_segment(patient.scene, None, patient.ct, region, 1.2)
    state = segment_state(node, identifier, grid())
    table = make_threshold_table(found.volume, GTV, ">")
    assert state.volume_ml == pytest.approx(table.volume_ml(1.2))
    assert not state.edited
    assert "~99HYPOX^HYPOXIC_VOLUME^" in terminology(node, identifier)
    edited = mask.copy()
    edited[8, 8, 15] = False
    edited[7, 8, 15] = edited[7, 9, 15] = True
    labelmap = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(identifier, labelmap)
    assert replace_voxels(node, identifier, GTV.with_array(edited, "", "GTVp_Hyp"))
    state = segment_state(node, identifier, grid())
    assert (state.added_ml, state.removed_ml) == (pytest.approx(0.02), pytest.approx(0.01))
    assert "0.02 ml added, 0.01 ml removed" in region_with_history(node, identifier, grid()).source
    again, second = write_hypoxic_segment(patient.scene, node, patient.ct, region, 1.2)
    assert (again, second, node.GetSegmentation().GetNumberOfSegments()) == (node, identifier, 1)
    assert not segment_state(node, identifier, grid()).edited


def terminology(node, identifier: str) -> str:
    from vtkmodules.vtkCommonCore import reference

    value, segment = reference(""), node.GetSegmentation().GetSegment(identifier)
    segment.GetTag(segment.GetTerminologyEntryTagName(), value)
    return str(value)


def replace_voxels(node, identifier: str, region: Region) -> bool:
    """What the Segment Editor does: new voxels in the same segment."""
    from HypoxiaMapperLib.mrml.geometry import fill_image_data, index_to_ras, to_vtk_matrix

    labelmap = slicer.vtkOrientedImageData()
    fill_image_data(labelmap, region.array.astype(np.uint8))
    labelmap.SetImageToWorldMatrix(to_vtk_matrix(index_to_ras(region.mask)))
    return slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(labelmap, node, identifier)


def test_probe_gives_value_unit_and_uncertainty(patient):
    x, y, z = grid().TransformIndexToPhysicalPoint((15, 10, 9))
    here = (-x, -y, z)
    assert value_at(patient.pet, here) == pytest.approx(2.0)
    assert probe_text(patient.pet, None, "g/ml", here) == "2.00 g/ml"
    assert probe_text(patient.pet, patient.pet, "g/ml", here) == "2.00 ± 2.00 g/ml"
    assert probe_text(patient.pet, None, "g/ml", (999.0, 0.0, 0.0)) == "–"


def test_suv_line_says_what_a_physicist_checks():
    line = suv_line("SUVbw", pet_volume().facts)
    assert line == "FMISO · 150 min p.i. · factor 0.5 · decay START · weight unknown · activity unknown"


def test_an_ordinary_volume_is_no_map(patient):
    with pytest.raises(RequestError, match="no hypoxia map"):
        map_facts(patient.ct)
    with pytest.raises(RequestError, match="There is no hypoxia map"):
        map_facts(None)


def test_images_of_two_patients_are_refused(patient):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(patient.scene)
    homes = {}
    for name, node in (("A", patient.ct), ("B", patient.pet)):
        homes[name] = tree.CreateSubjectItem(tree.GetSceneItemID(), f"Patient {name}")
        tree.SetItemParent(tree.GetItemByDataNode(node) or tree.CreateItem(homes[name], node), homes[name])
    reason = patient.decisions.why_not_run(patient.choices)
    assert (
        reason == "'CT' belongs to patient Patient A, 'PET FMISO' to patient Patient B: choose images of one patient."
    )
    assert hidden_ids(patient.scene, homes["A"], "vtkMRMLScalarVolumeNode") == [patient.pet.GetID()]
    assert hidden_ids(patient.scene, 0, "vtkMRMLScalarVolumeNode") == []
    tree.SetItemParent(tree.GetItemByDataNode(patient.pet), homes["A"])
    assert patient.decisions.why_not_run(patient.choices) == ""


def test_further_maps_uncertainty_and_codes_are_overlays_in_one_folder(patient):
    found = run_here(patient)
    spread = found.map.volume.with_array(np.full(SHAPE, 0.1, np.float32), "made up")
    vb = dataclasses.replace(spread, quantity="blood volume", unit="mL/mL")
    whole = dataclasses.replace(
        found.map, uncertainty=spread, extra={"vB": vb}, quality=np.zeros(SHAPE, np.uint8),
        curves=(FitCurve("GTVp", (0.0, 1.0, 2.0), (1.0, 2.0, 3.5), (1.0, 2.0, 3.0), "time (min)", "SUV"),),
    )  # fmt: skip
    node = map_to_node(patient.scene, dataclasses.replace(found, map=whole), "M", {}, "tracer_ratio")
    parts = parts_of(node)
    assert list(parts) == ["Map", "Uncertainty", "blood volume", "quality code (0: ok)"]
    assert parts["blood volume"].GetAttribute("Hypoxia.Unit") == "mL/mL"
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(patient.scene)
    homes = {tree.GetItemParent(tree.GetItemByDataNode(n)) for n in parts.values()}
    assert [tree.GetItemName(h) for h in homes] == ["M"]
    assert window_of(parts["blood volume"]) == pytest.approx((0.0, 0.1))
    set_window(parts["blood volume"], (0.02, 0.3))
    assert window_of(parts["blood volume"]) == (0.02, 0.3)
    chart = show_curve(patient.scene, node_to_map(node).curves[0])
    tables = [chart.GetNthPlotSeriesNode(n).GetTableNode().GetTable() for n in range(3)]
    assert [tables[2].GetValue(r, 1).ToDouble() for r in range(3)] == [0.0, 0.0, 0.5]
    assert [tables[0].GetValue(r, 1).ToDouble() for r in range(3)] == [1.0, 2.0, 3.5]


def test_the_view_of_a_map_holds_the_gtv_alone_at_the_same_place(patient):
    node = map_to_node(patient.scene, run_here(patient), "M", {}, "tracer_ratio")
    view = inside_only(patient.scene, node, node_to_volume(node), GTV, "1")
    volume = node_to_volume(view)
    assert volume.array.shape == (8, 8, 8)
    x, y, z = grid().TransformIndexToPhysicalPoint((15, 10, 9))
    assert value_at(view, (-x, -y, z)) == pytest.approx(value_at(node, (-x, -y, z)))
    assert inside_only(patient.scene, node, node_to_volume(node), GTV, "1") is view


@pytest.mark.parametrize(
    ("quantity", "taken"),
    [
        ("tissue-to-blood ratio", True),
        ("predicted tissue-to-blood ratio", False),
        ("FMISO uptake ratio to muscle", False),
    ],
)
def test_panel_and_method_take_the_same_ratio_in_place_of_suv(patient, quantity, taken):
    patient.pet.SetAttribute("Hypoxia.Quantity", quantity)
    patient.pet.SetAttribute("Hypoxia.Unit", "{ratio}")
    inputs = {"hypoxia_pet": patient.pet}
    choices = dataclasses.replace(patient.choices, method="learned_ratio", inputs=inputs, reference=type(patient.gtv)())
    problems = patient.decisions.missing_images(dataclasses.replace(choices, params={}))
    assert (problems == []) is taken, problems
    assert taken or "or a measured tissue-to-blood ratio" in problems[0]
    volume = node_to_volume(patient.pet)
    units, reference = dict.fromkeys(("adc", "ktrans", "r2star"), ""), Reference(None, "", 0.5)
    with contextlib.nullcontext() if taken else pytest.raises(RequestError, match="measured tissue-to-blood ratio"):
        network_images({"hypoxia_pet": volume}, GTV, crop_around(GTV), units, reference)
    plain = dataclasses.replace(patient.choices, inputs={"pet": patient.pet})
    assert "needs SUVbw" in patient.decisions.missing_images(plain)[0]


def test_a_ratio_may_be_stated_for_an_image_without_unit(patient):
    for key in ("Hypoxia.Unit", "Hypoxia.Quantity"):
        patient.pet.RemoveAttribute(key)
    state_unit(patient.pet, "ratio")
    choices = dataclasses.replace(patient.choices, method="learned_ratio", inputs={"hypoxia_pet": patient.pet})
    assert patient.decisions.missing_images(choices) == []
