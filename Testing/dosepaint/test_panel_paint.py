"""The dose-paint panel without Qt: from nodes to the pipeline's result, what is refused, what takes acceptance back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib.request import Margins, request_from_json
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, RequestError
from HypoxiaMapperLib.volume import same_grid

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.choices import PaintChoices, guess_role, sides_text  # noqa: E402
from HypoxiaDosePaintLib.panel.decisions import Acceptance, changed_between  # noqa: E402
from HypoxiaDosePaintLib.panel.preview import show_targets  # noqa: E402
from HypoxiaDosePaintLib.panel.scene_run import compute_targets, export_result  # noqa: E402
from HypoxiaDosePaintLib.panel.texts import deficit_text, equivalents_text, target_rows  # noqa: E402
from HypoxiaMapperLib.methods import Finding, ModelUse  # noqa: E402
from HypoxiaMapperLib.mrml import node_to_volume, region_to_segment, segment_to_region  # noqa: E402
from HypoxiaMapperLib.panel.node_images import NodeImages, suv_line  # noqa: E402
from paint_samples import as_slicer_loads, make_street  # noqa: E402


@pytest.fixture(scope="module")
def street(digital_patient):
    return make_street(digital_patient.folder)


@pytest.fixture(scope="module")
def computed(street):
    return compute_targets(street.choices, street.images)


def test_the_result_is_the_pipelines_and_says_where_it_comes_from(street, computed):
    result = computed.result
    assert result.hypoxic_volume_ml == pytest.approx(street.region.volume_ml)
    assert result.registration.mode == "same frame of reference"
    assert not any("edited" in w or "drawn" in w for w in result.warnings)
    assert {t.name for t in result.targets} == {"GTVp", "GTVp_Hyp", "Ref_Blood", "PTV_7000", "PTV_7700"}
    assert result.threshold == 1.2
    assert result.patient["id"]
    assert same_grid(result.images.map.volume.image, computed.planning.volume.image)


def test_the_request_comes_back_from_json_and_names_everything(computed):
    request = computed.result.request
    assert request_from_json(request.to_json()) == request
    assert (request.method, request.protocol) == ("tracer_ratio", "welz_77_70_35")
    assert (request.gtv_rois, request.reference_roi, request.organ_rois) == (("GTVp",), "Ref_Blood", ("SpinalCord",))
    assert request.subvolume.threshold == 1.2


def test_every_missing_thing_is_named(street):
    reason = street.decisions.why_not_preview(PaintChoices())
    for word in ("planning CT", "hypoxia map", "role GTV", "role hypoxic segment"):
        assert word in reason
    assert street.decisions.why_not_preview(street.choices) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boost_dose_gy": 69.0}, "does not lie above"),
        ({"boost_dose_gy": 90.0}, "above 84 Gy"),
        ({"fractions": 28}, "per fraction"),
        ({"protocol": "nobody"}, "no protocol"),
    ],
)
def test_refused_prescriptions_say_why(street, change, words):
    assert words in street.decisions.prescription_problem(dataclasses.replace(street.choices, **change))


def test_lines_of_the_prescription(street):
    prescription = street.decisions.prescription(street.choices)
    assert "EQD2₁₀ 78.3 Gy, EQD2₃ 80.1 Gy, BED₁₀ 93.9 Gy" in equivalents_text(prescription)  # VALIDATION row 10
    text = deficit_text(prescription)
    assert "5.7 Gy at 10 mmHg, 16.3 Gy at 5 mmHg, 33.0 Gy at 2.5 mmHg" in text  # 82.7, 93.3, 110 Gy against 77
    assert "19 mmHg" in text


def test_export_gate_gives_every_reason_in_turn(street, computed):
    gate, result = street.decisions.why_not_export, computed.result
    assert gate(None, (), Acceptance(), "f") == "Make the targets first (step 3)."
    assert gate(result, ("GTV",), Acceptance(True, True, True, "A"), "f").startswith("Changed since")
    assert len(gate(result, (), Acceptance(), "").splitlines()) == 5
    assert gate(result, (), Acceptance(True, True, True, "  "), "f") == "Enter the reviewer's name."
    assert gate(result, (), Acceptance(True, True, True, "A"), "f") == ""


def test_export_waits_for_an_override_where_the_model_was_not_trained(street, computed):
    finding = Finding("FDG maximum", "60 g/ml", "0 to 40 g/ml", False)
    model = ModelUse("m", "A model", "1", "label", "", "", "", (), "CPU", (), (), 1.0, (0.5, 1.5), (finding,), ())
    result = computed.result
    hypoxia_map = dataclasses.replace(result.images.map, model=model)
    learned = dataclasses.replace(result, images=dataclasses.replace(result.images, map=hypoxia_map))
    accepted = Acceptance(True, True, True, "Dr A")
    reason = street.decisions.why_not_export(learned, (), accepted, "/tmp")
    assert "FDG maximum 60 g/ml (allowed: 0 to 40 g/ml)" in reason
    assert "Override (step 2)" in reason
    stated = dataclasses.replace(
        learned,
        request=dataclasses.replace(
            learned.request, override="distribution(fdg-maximum) Dr A: looked at by two readers"
        ),
    )
    assert street.decisions.why_not_export(stated, (), accepted, "/tmp") == ""


def test_margins_of_each_side_reach_the_request(street, computed):
    sides = sides_text([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = compute_targets(dataclasses.replace(street.choices, boost_sides=sides), street.images).result
    assert found.request.boost_margins == Margins(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert found.request.base_margins is None  # the protocol's own
    (note,) = [w for w in found.warnings if w.startswith("Margins of the protocol file")]
    assert note.startswith("Margins of the protocol file: 5 mm (base),")
    (note,) = [w for w in computed.result.warnings if w.startswith("Margins of the protocol file")]
    assert note.startswith("Margins of the protocol file: 5 mm (base) and 3 mm (boost),")
    volumes = {t.name: t.volume_ml for t in found.targets}
    before = {t.name: t.volume_ml for t in computed.result.targets}
    assert volumes["PTV_7700"] != before["PTV_7700"]
    then = street.decisions.fingerprint(street.choices)
    now = street.decisions.fingerprint(dataclasses.replace(street.choices, boost_sides=sides))
    assert changed_between(then, now) == ("boost margin of the sides",)


def test_any_change_is_named(street):
    then = street.decisions.fingerprint(street.choices)
    assert changed_between(then, street.decisions.fingerprint(street.choices)) == ()
    other = dataclasses.replace(street.choices, boost_margin_mm=4.0, fractions=34)
    assert changed_between(then, street.decisions.fingerprint(other)) == ("boost margin", "fractions")
    fewer = dataclasses.replace(street.choices, roles=street.choices.roles[:2] + street.choices.roles[3:])
    assert changed_between(then, street.decisions.fingerprint(fewer)) == ("reference region Ref_Blood",)


def test_a_map_whose_pet_has_changed_is_stale(street):
    pet, transform = street.pet, street.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    pet.SetAndObserveTransformNodeID(transform.GetID())
    assert "stale, changed since it was made: image pet" in street.decisions.why_not_preview(street.choices)
    pet.SetAndObserveTransformNodeID(None)
    assert street.decisions.why_not_preview(street.choices) == ""


def test_a_moved_planning_ct_is_refused(street):
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    node, matrix = street.choices.planning, vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    moved = vtkMatrix4x4()
    moved.DeepCopy(matrix)
    moved.SetElement(0, 3, matrix.GetElement(0, 3) + 2.0)
    node.SetIJKToRASMatrix(moved)
    with pytest.raises(GeometryError, match="moved in the scene"):
        compute_targets(street.choices, street.images)
    node.SetIJKToRASMatrix(matrix)


def test_nobody_exports_without_a_name(computed, tmp_path):
    with pytest.raises(RequestError, match="Nobody accepted"):
        export_result(computed, "  ", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_preview_shows_the_targets_and_replaces_itself(street, computed, capfd):
    for _ in range(2):
        node = show_targets(street.scene, computed.result, street.choices.planning)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(street.scene)
    hypoxic, labels = street.choices.of_role("hypoxic")[0].node, street.scene.GetFirstNodeByName("Dose labels")
    study = tree.GetItemParent(tree.GetItemByDataNode(street.choices.planning))
    assert [tree.GetItemParent(tree.GetItemByDataNode(n)) for n in (node, hypoxic, labels)] == [study] * 3
    assert "inconsistency" not in capfd.readouterr().err
    assert node.GetSegmentation().GetNumberOfSegments() == 5
    assert street.scene.GetNodesByClass("vtkMRMLMarkupsFiducialNode").GetNumberOfItems() == 1
    rows = {row[0]: row for row in target_rows(computed.result)}
    assert rows["PTV_7700"][2:6] == ("77.0", "2.20", "78.3", "80.1")
    assert rows["GTVp"][2] == "–"


@pytest.mark.parametrize(
    ("name", "mapped", "role"),
    [
        ("GTVp", False, "gtv"), ("gtv_n", False, "gtv"), ("GTVp_Hyp", False, "hypoxic"), ("Anything", True, "hypoxic"),
        ("Ref_Blood", False, "reference"), ("SpinalCord", False, "organ"), ("Couch", False, ""),
    ],
)  # fmt: skip
def test_roles_are_guessed_from_names(name, mapped, role):
    assert guess_role(name, mapped) == role


@pytest.mark.parametrize("flip", [False, True])
def test_a_pet_loaded_by_slicer_becomes_suv_through_the_database(street, digital_patient, flip):
    info = next(s for s in scan_folder(digital_patient.folder).by_role("pet") if s.kind == "FMISO")
    node, files = as_slicer_loads(slicer.vtkMRMLScene(), info, flip)
    images = NodeImages(lambda uids: [files[u] for u in uids])
    found, direct = images.volume(node), node_to_volume(street.pet)
    assert (found.quantity, found.unit) == ("SUVbw", "g/ml")
    assert "150 min p.i." in suv_line(*images.describe(node))
    array = found.array[::-1] if flip else found.array
    np.testing.assert_array_equal(array, direct.array)
    point = direct.image.TransformIndexToPhysicalPoint((30, 31, 7))
    there = found.image.TransformPhysicalPointToIndex(point)
    assert found.image[there] == direct.image[30, 31, 7]
    lost = NodeImages(lambda uids: [""] * len(uids))
    with pytest.raises(RequestError, match="unit unknown"):
        lost.volume(node)


def test_what_the_map_was_made_of_is_kept(street):
    facts = json.loads(street.choices.map_node.GetAttribute("Hypoxia.Map"))
    assert facts["method"] == "tracer_ratio"
    assert street.choices.map_node.GetNodeReference("Hypoxia.MadeOf.pet") is street.pet


def test_a_refusal_names_the_field_of_the_panel_and_no_option_of_the_command_line(street):
    high = dataclasses.replace(street.choices, boost_dose_gy=90.0)
    problem = street.decisions.prescription_problem(high)
    assert 'write in Override (step 2): "dose name: reason"' in problem
    assert "--" not in problem


def test_a_reference_may_reach_beyond_the_planning_ct_and_it_is_said(digital_patient):
    """As in the mapper: of the blood in an aorta the part on the CT counts. A GTV must be there whole."""
    street = make_street(digital_patient.folder)
    blood = segment_to_region(street.structures, "Ref_Blood", street.region.mask)
    longer = sitk.ConstantPad(blood.mask, [0, 0, 0], [0, 0, 4], 0)
    array = sitk.GetArrayFromImage(longer)
    array[-4:] = array[np.flatnonzero(array.any(axis=(1, 2)))[0]]
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(longer)
    street.structures.GetSegmentation().RemoveSegment("Ref_Blood")
    named = region_to_segment(street.scene, street.structures, dataclasses.replace(blood, mask=mask), (0, 255, 0))
    assert named == "Ref_Blood"
    result = compute_targets(street.choices, street.images).result
    (said,) = [text for text in result.warnings if "outside the planning image" in text]
    assert said.endswith("ml of Ref_Blood lie outside the planning image.")
