"""The request that a result of the panel stores: run again it gives the same, or it is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from HypoxiaDosePaintLib.pipeline import compute
from HypoxiaDosePaintLib.request import request_from_json
from HypoxiaDosePaintLib.seen import request_to_store, require_seen
from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.methods import all_methods

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.choices import Role  # noqa: E402
from HypoxiaDosePaintLib.panel.scene_run import compute_targets  # noqa: E402
from HypoxiaMapperLib.mrml import node_to_volume, segment_to_region  # noqa: E402
from HypoxiaMapperLib.mrml.geometry import image_data_array  # noqa: E402
from HypoxiaMapperLib.mrml.segments import LABELMAP  # noqa: E402
from HypoxiaMapperLib.panel.hypoxic_segment import hypoxic_mask, write_hypoxic_segment  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import FACTS, INPUTS  # noqa: E402
from HypoxiaMapperLib.panel.node_images import FOLDER, NodeImages  # noqa: E402
from paint_samples import make_street  # noqa: E402


@pytest.fixture
def street(digital_patient):
    return make_street(digital_patient.folder)


def erase(node, segment_id: str) -> None:
    """What a person does with the eraser: half of a segment's voxels."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    labels = segment.GetRepresentation(LABELMAP)
    array = image_data_array(labels)
    places = np.argwhere(array == segment.GetLabelValue())
    array[tuple(places[: len(places) // 2].T)] = 0
    labels.GetPointData().GetScalars().Modified()
    labels.Modified()


def test_the_request_of_an_untouched_patient_gives_the_same_result(street):
    made = compute_targets(street.choices, street.images).result
    assert made.request.not_repeatable == ()
    assert made.request.structure_set
    stored = request_from_json(request_to_store(made).to_json())
    again = compute(dataclasses.replace(stored, accepted_by="Dr B")).result
    require_seen(again)  # what was looked at in the panel may be accepted on the command line
    assert {t.name: t.volume_ml for t in again.targets} == {t.name: t.volume_ml for t in made.targets}
    np.testing.assert_array_equal(again.images.map.volume.array, made.images.map.volume.array)


def test_what_no_request_can_say_is_named_and_such_a_request_is_refused(street):
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    hypoxic = street.choices.of_role("hypoxic")[0]
    erase(hypoxic.node, hypoxic.segment_id)
    erase(street.structures, "Ref_Blood")
    street.structures.GetSegmentation().GetSegment("SpinalCord").SetName("Cord")
    inputs = json.loads(street.choices.map_node.GetAttribute(INPUTS))
    street.choices.map_node.SetAttribute(INPUTS, json.dumps({**inputs, "alignment": "scene"}))
    matrix = vtkMatrix4x4()
    street.pet.GetIJKToRASMatrix(matrix)
    matrix.SetElement(0, 3, matrix.GetElement(0, 3) + 5.0)
    street.pet.SetIJKToRASMatrix(matrix)
    image_data_array(street.pet.GetImageData())[30, 30, 30] += 1.0
    street.pet.GetImageData().GetPointData().GetScalars().Modified()
    series = [street.images.series(node) for node in (street.pet, street.choices.planning)]
    files = {uid: str(f) for s in series for uid, f in zip(s.volume.source_uids, s.info.files, strict=True)}
    request = compute_targets(street.choices, street.images).result.request
    assert "image pet was changed in Slicer, or its files are gone" in request.not_repeatable
    street.pet.RemoveAttribute(FOLDER)  # as one that Slicer's own DICOM module loaded
    street.images = NodeImages(lambda uids: [files[uid] for uid in uids])
    request = compute_targets(street.choices, street.images).result.request
    assert set(request.not_repeatable) == {
        "image pet was loaded by Slicer itself, from no folder that a request could name",
        "image pet was moved in the scene",
        "Ref_Blood was drawn or changed in Slicer",
        "Cord was drawn or changed in Slicer",
        "the hypoxic region in GTVp was drawn or edited by hand",
    }
    with pytest.raises(RequestError, match="image pet was moved in the scene"):
        compute(request_from_json(request.to_json()))


def test_a_second_gtv_is_no_hand_edit(street):
    roles = (*street.choices.roles, Role(street.structures, "GTVn", "gtv"))
    request = compute_targets(dataclasses.replace(street.choices, roles=roles), street.images).result.request
    assert request.not_repeatable == ("GTVn was left without a hypoxic segment",)


def test_two_gtvs_cut_at_different_thresholds_are_no_hand_edit(street):
    """Each is said with its own threshold, in the request and in the warnings of the result."""
    result = compute_targets(with_node(street, 1.1), street.images).result
    assert result.request.not_repeatable == ("the hypoxic region in GTVn was cut at 1.1, not at 1.2",)
    (warning,) = [text for text in result.warnings if "differs from the threshold" in text]
    assert "The region is ratio > 1.2 in GTVp; ratio > 1.1 in GTVn" in warning


def with_node(street, threshold: float, **changes):
    """The choices with the nodal GTV and its own hypoxic segment, cut from the map that was made with the primary."""
    volume = node_to_volume(street.choices.map_node)
    nodal = segment_to_region(street.structures, "GTVn", volume.image)
    mask = hypoxic_mask(volume, nodal, threshold, ">")
    assert mask.any()
    region = nodal.with_array(mask, f"ratio > {threshold:g} in GTVn", "GTVn_Hyp")
    home = street.choices.of_role("hypoxic")[0].node
    _node, identifier = write_hypoxic_segment(street.scene, home, street.choices.planning, region, threshold)
    roles = (*street.choices.roles, Role(street.structures, "GTVn", "gtv"), Role(home, identifier, "hypoxic"))
    return dataclasses.replace(street.choices, roles=roles, **changes)


def test_two_gtvs_on_a_map_that_hangs_on_neither_give_the_same_again(street):
    """A ratio is the same whichever GTV it was computed for; a request computes it for both together."""
    made = compute_targets(with_node(street, 1.2), street.images).result
    assert made.request.not_repeatable == ()
    assert made.request.gtv_rois == ("GTVp", "GTVn")
    stored = request_from_json(request_to_store(made).to_json())
    again = compute(dataclasses.replace(stored, accepted_by="Dr B")).result
    require_seen(again)  # what was looked at in the panel may be accepted on the command line
    assert {t.name: t.volume_ml for t in again.targets} == {t.name: t.volume_ml for t in made.targets}
    assert again.findings == made.findings
    assert again.warnings == made.warnings
    np.testing.assert_array_equal(again.images.map.volume.array, made.images.map.volume.array)
    checked = {(name, r.key) for name, method in all_methods().items() for r in method.regions if r.only_checked}
    assert checked == {("tracer_ratio", "gtv")}  # one more would have to be shown here, too


def test_two_gtvs_are_not_repeatable_where_map_or_registration_hangs_on_one(street):
    node = street.choices.map_node
    facts, inputs = json.loads(node.GetAttribute(FACTS)), json.loads(node.GetAttribute(INPUTS))
    node.SetAttribute(INPUTS, json.dumps({**inputs, "alignment": "rigid"}))
    node.SetAttribute(FACTS, json.dumps({**facts, "matrices": {"pet": np.eye(4).ravel().tolist()}}))
    choices = with_node(street, 1.2)
    request = compute_targets(choices, street.images).result.request
    assert request.not_repeatable == ("the images were registered at GTVp, a request registers them at GTVp and GTVn",)
    node.SetAttribute(INPUTS, json.dumps(inputs))
    surrogate = {"method": "fdg_surrogate", "params": {}, "segments": {"gtv": "GTVp"}}
    node.SetAttribute(FACTS, json.dumps({**facts, **surrogate}))
    roles = tuple(r for r in choices.roles if r.role != "reference")
    request = compute_targets(dataclasses.replace(choices, roles=roles), street.images).result.request
    assert "the map was made with GTVp, a request makes it with GTVp and GTVn" in request.not_repeatable
