"""What a person changes in Slicer after loading, or after the map, is used or refused; never lost without a word."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.choices import Role, guess_role  # noqa: E402
from HypoxiaDosePaintLib.panel.decisions import changed_between  # noqa: E402
from HypoxiaDosePaintLib.panel.map_used import is_cut_from, is_reference_of_map  # noqa: E402
from HypoxiaDosePaintLib.panel.scene_run import compute_targets  # noqa: E402
from HypoxiaMapperLib.methods import no_progress  # noqa: E402
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, segment_to_region  # noqa: E402
from HypoxiaMapperLib.mrml.geometry import image_data_array  # noqa: E402
from HypoxiaMapperLib.panel.choices import SegmentChoice  # noqa: E402
from HypoxiaMapperLib.panel.hypoxic_segment import write_hypoxic_segment  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import map_to_node  # noqa: E402
from HypoxiaMapperLib.panel.node_images import NodeImages, state_unit  # noqa: E402
from HypoxiaMapperLib.worker import run_job  # noqa: E402
from paint_samples import as_slicer_loads, make_street  # noqa: E402


@pytest.fixture(scope="module")
def street(digital_patient):
    return make_street(digital_patient.folder)


def fmiso(patient):
    return next(s for s in scan_folder(patient.folder).by_role("pet") if s.kind == "FMISO")


def edit(node, change) -> None:
    """Change voxels as Slicer's modules do."""
    data = node.GetImageData()
    change(image_data_array(data))
    data.GetPointData().GetScalars().Modified()
    data.Modified()
    node.Modified()


def harden_deformation(scene, node) -> None:
    """A grid transform that shifts a part of the image, hardened: as after a deformable registration."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersHybrid import vtkGridTransform

    bounds, field = [0.0] * 6, vtkImageData()
    node.GetRASBounds(bounds)
    field.SetDimensions(9, 9, 9)
    field.SetSpacing([(high - low) / 8 for low, high in zip(bounds[::2], bounds[1::2], strict=True)])
    field.SetOrigin(bounds[::2])
    field.AllocateScalars(11, 3)  # double
    shifts = vtk_to_numpy(field.GetPointData().GetScalars()).reshape(9, 9, 9, 3)
    shifts[:] = 0.0
    shifts[3:6, 3:6, 3:6, 0] = 20.0
    transform = vtkGridTransform()
    transform.SetDisplacementGridData(field)
    transform.SetInterpolationModeToCubic()
    parent = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "deformed")
    parent.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(parent.GetID())
    assert node.HardenTransform()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", ["FMISO", "CT"])
def test_voxels_changed_in_slicer_are_not_replaced_by_those_of_the_files(digital_patient, kind, flip):
    info = scan_folder(digital_patient.folder).by_role("planning_ct")[0] if kind == "CT" else fmiso(digital_patient)
    scene = slicer.vtkMRMLScene()
    node, files = as_slicer_loads(scene, info, flip)
    images = NodeImages(lambda uids: [files[u] for u in uids])
    images.volume(node)
    images.describe(node)

    def scale_a_corner(array):
        array[:2, :3, :4] += 100

    edit(node, scale_a_corner)
    for ask in (images.volume, images.describe):
        with pytest.raises(InputError, match="24 voxels are not those of its DICOM files"):
            ask(node)


def test_a_hardened_deformation_is_not_undone(digital_patient):
    scene, info = slicer.vtkMRMLScene(), fmiso(digital_patient)
    node, files = as_slicer_loads(scene, info, False)
    size = node.GetImageData().GetDimensions()
    harden_deformation(scene, node)
    assert node.GetImageData().GetDimensions() == size
    with pytest.raises(InputError, match="a transform that was hardened"):
        NodeImages(lambda uids: [files[u] for u in uids]).volume(node)


def test_the_suv_of_slicer_is_known_again(digital_patient):
    scene = slicer.vtkMRMLScene()
    node, files = as_slicer_loads(scene, fmiso(digital_patient), False)
    images = NodeImages(lambda uids: [files[u] for u in uids])
    factor = images.describe(node)[1]["suv_factor"]
    edit(node, lambda array: np.multiply(array, np.float32(factor), out=array))
    assert images.volume(node).quantity == "SUVbw"
    edit(node, lambda array: np.multiply(array, np.float32(0.5), out=array))
    with pytest.raises(InputError, match="changed in Slicer"):
        images.volume(node)


def with_segment(street, role: str, region):
    """The choices of the street with a segment of its own in one role."""
    identifier = region_to_segment(street.scene, street.structures, region, (255, 0, 0))
    kept = tuple(r for r in street.choices.roles if r.role != role)
    return dataclasses.replace(street.choices, roles=(*kept, Role(street.structures, identifier, role)))


def test_segments_of_another_frame_of_reference_are_no_targets(street):
    gtv = segment_to_region(street.structures, "GTVp", street.region.mask)
    for role in ("gtv", "organ"):
        choices = with_segment(street, role, dataclasses.replace(gtv, name="From_MR", frame_of_reference_uid="1.2.999"))
        with pytest.raises(GeometryError, match="From_MR was drawn in the frame of reference"):
            compute_targets(choices, street.images)


def test_segments_of_another_patient_are_refused(street):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(street.scene)
    other = make_segmentation(street.scene, "Structures of B")
    region_to_segment(street.scene, other, dataclasses.replace(street.region, name="GTVp"), (255, 0, 0))
    home = tree.CreateSubjectItem(tree.GetSceneItemID(), "Patient B")
    tree.SetItemParent(tree.GetItemByDataNode(other) or tree.CreateItem(home, other), home)
    choices = dataclasses.replace(street.choices, roles=(*street.choices.roles[1:], Role(other, "GTVp", "gtv")))
    assert "'Structures of B' to patient Patient B: choose" in street.decisions.why_not_preview(choices)
    ignored = dataclasses.replace(street.choices, roles=(*street.choices.roles, Role(other, "GTVp", "")))
    assert street.decisions.why_not_preview(ignored) == ""


@pytest.mark.parametrize("flip", [False, True])
def test_a_volume_of_slicer_was_moved_when_it_lies_elsewhere_than_its_files(digital_patient, flip):
    scene = slicer.vtkMRMLScene()
    node, files = as_slicer_loads(scene, fmiso(digital_patient), flip)
    images = NodeImages(lambda uids: [files[u] for u in uids])
    assert images.displacement(node) is None
    set_shift(node, 15.0)
    np.testing.assert_allclose(images.displacement(node) @ [0.0, 0.0, 0.0, 1.0], [15.0, 0.0, 0.0, 1.0], atol=1e-6)


def test_a_pet_without_weight_whose_unit_was_stated_is_placed_like_any_other(digital_patient, tmp_path):
    """The header lacks what SUV needs, so a person stated the unit: nothing may break, and a move is still seen."""
    import pydicom

    info = fmiso(digital_patient)
    for file in info.files:
        header = pydicom.dcmread(file)
        header.PatientWeight = None
        header.save_as(tmp_path / file.name)
    info = next(s for s in scan_folder(tmp_path).by_role("pet"))
    scene = slicer.vtkMRMLScene()
    node, files = as_slicer_loads(scene, info, False)
    images = NodeImages(lambda uids: [files[u] for u in uids])
    with pytest.raises(InputError, match="Weight"):
        images.describe(node)
    state_unit(node, "suv")
    assert images.describe(node)[0] == "SUVbw"
    assert images.displacement(node) is None
    set_shift(node, 15.0)
    assert images.displacement(node) is not None


def set_shift(node, right_mm: float) -> None:
    """Move a volume along R, as hardening a transform does."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    matrix.SetElement(0, 3, matrix.GetElement(0, 3) + right_mm)
    node.SetIJKToRASMatrix(matrix)


def test_the_place_a_person_gave_the_pet_is_told(street):
    """The map is made with the moved PET; report and DICOM say the matrix that leads back to the file."""
    moved = dataclasses.replace(street.mapper_choices, alignment="scene")
    set_shift(street.pet, 3.0)
    map_node = make_map(street, moved)
    result = compute_targets(with_map(street, map_node), street.images).result
    set_shift(street.pet, -3.0)
    assert result.registration.mode == "as placed in the scene by the user"
    assert result.registration.matrix == pytest.approx((1, 0, 0, 3, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1), abs=1e-6)


def test_rounding_of_slice_positions_is_no_move(street):
    """ITK takes the spacing from the first two slices; corners may then differ from ours by rounding."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    node, matrix, own = street.choices.planning, vtkMatrix4x4(), vtkMatrix4x4()
    node.GetIJKToRASMatrix(own)
    matrix.DeepCopy(own)
    matrix.SetElement(2, 2, own.GetElement(2, 2) * (1 + 1e-5))
    matrix.SetElement(0, 3, own.GetElement(0, 3) + 0.005)
    node.SetIJKToRASMatrix(matrix)
    compute_targets(street.choices, street.images)
    node.SetIJKToRASMatrix(own)


def erase_half(segmentation, segment_id: str):
    """Take away half of a segment as the Segment Editor does; gives back a function that puts it back."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    labels = segment.GetRepresentation("Binary labelmap")
    array = image_data_array(labels)
    before = array.copy()
    places = np.argwhere(array == segment.GetLabelValue())
    array[tuple(places[: len(places) // 2].T)] = 0

    def tell():
        labels.GetPointData().GetScalars().Modified()
        labels.Modified()

    def put_back():
        array[:] = before
        tell()

    tell()
    return put_back


@pytest.mark.parametrize(("segment", "word"), [("Ref_Blood", "reference"), ("GTVp", "GTV")])
def test_a_region_edited_after_the_map_makes_it_stale(street, segment, word):
    assert street.decisions.why_not_preview(street.choices) == ""
    put_back = erase_half(street.structures, segment)
    assert f"stale, changed since it was made: {word}." in street.decisions.why_not_preview(street.choices)
    with pytest.raises(RequestError, match="The map is stale"):
        street.decisions.ready(street.choices)
    put_back()
    assert street.decisions.why_not_preview(street.choices) == ""


def test_a_region_that_is_gone_makes_the_map_stale(digital_patient):
    own = make_street(digital_patient.folder)
    own.structures.GetSegmentation().RemoveSegment("Ref_Blood")
    choices = dataclasses.replace(own.choices, roles=tuple(r for r in own.choices.roles if r.role != "reference"))
    assert "made: reference." in own.decisions.why_not_preview(choices)


def test_a_sphere_moved_after_the_map_makes_it_stale(street):
    roi = street.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Ref_Sphere")
    blood = segment_to_region(street.structures, "Ref_Blood", street.region.mask)
    middle = [float(v) for v in np.argwhere(blood.array).mean(axis=0)[::-1]]
    x, y, z = street.region.mask.TransformContinuousIndexToPhysicalPoint(middle)
    roi.SetCenter(-x, -y, z)
    roi.SetSize(16.0, 16.0, 16.0)
    chosen = dataclasses.replace(
        street.mapper_choices, reference=SegmentChoice(), reference_roi=roi, params={"reference_kind": "blood"}
    )
    map_node = make_map(street, chosen)
    choices = with_map(street, map_node)
    choices = dataclasses.replace(choices, roles=tuple(r for r in choices.roles if r.role != "reference"))
    assert street.decisions.why_not_preview(choices) == ""
    request = compute_targets(choices, street.images).result.request
    assert (request.reference_roi, request.reference_sphere.radius_mm) == ("", 8.0)
    assert request.reference_sphere.centre_mm == pytest.approx((x, y, z))
    roi.SetCenter(-x + 5.0, -y, z)
    assert "made: reference." in street.decisions.why_not_preview(choices)
    street.scene.RemoveNode(roi)
    assert "made: reference." in street.decisions.why_not_preview(choices)


def with_map(street, map_node):
    """Choices with another map and a segment that was cut from it."""
    cut = write_hypoxic_segment(street.scene, None, street.choices.planning, street.region, 1.2, None, map_node)
    others = tuple(r for r in street.choices.roles if r.role != "hypoxic")
    return dataclasses.replace(street.choices, map_node=map_node, roles=(*others, Role(*cut, "hypoxic")))


def make_map(street, chosen):
    """A map of the choices of the mapper panel."""
    found = run_job(street.mapper.make_job(chosen), no_progress)
    prints, nodes = street.mapper.fingerprint(chosen), {"planning": chosen.planning, **chosen.inputs}
    used = chosen.used_regions()
    return map_to_node(street.scene, found, "Another", prints, chosen.method, nodes, chosen.params, used)


def test_a_map_that_was_moved_or_changed_is_refused(street):
    map_node = make_map(street, street.mapper_choices)
    choices = dataclasses.replace(street.choices, map_node=map_node)
    transform = street.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    map_node.SetAndObserveTransformNodeID(transform.GetID())
    assert "The map stands under the transform 'shift'" in street.decisions.why_not_preview(choices)
    map_node.SetAndObserveTransformNodeID(None)
    set_shift(map_node, 2.0)
    assert street.decisions.why_not_preview(choices) == "The map was moved in the scene: compute it again."
    set_shift(map_node, -2.0)
    assert street.decisions.why_not_preview(choices) == ""
    edit(map_node, lambda array: np.multiply(array, np.float32(2.0), out=array))
    assert "values of the map were changed" in street.decisions.why_not_preview(choices)


def with_reference(street, *names: str):
    others = tuple(r for r in street.choices.roles if r.role != "reference")
    roles = tuple(Role(street.structures, name, "reference") for name in names)
    return dataclasses.replace(street.choices, roles=(*others, *roles))


def test_the_reference_is_the_one_the_map_was_made_with(street):
    """Whatever the roles say: another segment is refused, none is needed."""
    assert street.decisions.why_not_preview(with_reference(street, "Ref_Blood")) == ""
    for names in (("Ref_Muscle",), ("Ref_Blood", "Ref_Muscle")):
        reason = street.decisions.why_not_preview(with_reference(street, *names))
        assert reason == (
            "The map was made with the reference region Ref_Blood: Ref_Muscle cannot be its reference region "
            "(role: not used)."
        )
        with pytest.raises(RequestError, match="Ref_Muscle cannot be its reference region"):
            compute_targets(with_reference(street, *names), street.images)
    result = compute_targets(with_reference(street), street.images).result
    assert result.request.reference_roi == "Ref_Blood"
    assert "Ref_Blood" in {t.name for t in result.targets}


def test_only_the_maps_reference_is_offered_as_one(street):
    used = is_reference_of_map(street.choices.map_node, street.structures, "Ref_Blood")
    other = is_reference_of_map(street.choices.map_node, street.structures, "Ref_Muscle")
    assert (guess_role("Ref_Blood", False, used), guess_role("Ref_Muscle", False, other)) == ("reference", "")
    assert guess_role("Aorta", False, True) == "reference"


def test_a_map_that_does_not_say_what_its_regions_were_is_stale(street):
    found = run_job(street.mapper.make_job(street.mapper_choices), no_progress)
    nodes = {"planning": street.mapper_choices.planning, **street.mapper_choices.inputs}
    prints = street.mapper.fingerprint(street.mapper_choices)
    map_node = map_to_node(street.scene, found, "Without", prints, "tracer_ratio", nodes)
    reason = street.decisions.why_not_preview(dataclasses.replace(with_reference(street), map_node=map_node))
    assert "stale, changed since it was made: GTV, reference." in reason


def test_targets_are_stale_when_the_map_became_so(street):
    then = street.decisions.fingerprint(street.choices)
    put_back = erase_half(street.structures, "Ref_Blood")
    unused = with_reference(street)
    changed = changed_between(then, street.decisions.fingerprint(unused))
    put_back()
    assert "reference, which the map was made of" in changed


def test_an_organ_nobody_gave_a_role_is_told_of(street):
    """As the command line does of ROIs that were not named."""
    gtv = segment_to_region(street.structures, "GTVp", street.region.mask)
    for name in ("Mandible", "BODY"):
        region_to_segment(street.scene, street.structures, dataclasses.replace(gtv, name=name), (9, 9, 9))
    warnings = compute_targets(street.choices, street.images).result.warnings
    for name in ("Mandible", "BODY"):
        street.structures.GetSegmentation().RemoveSegment(name)
    told = [w for w in warnings if "not given as an organ at risk" in w]
    assert len(told) == 1
    assert f"{gtv.volume_ml:.2f} ml of PTV_7000" in told[0]
    assert "overlap Mandible" in told[0]


def test_a_reference_in_another_tumour_makes_no_targets(digital_patient):
    """The map was made before the other GTV was drawn; it may have a role or none."""
    own = make_street(digital_patient.folder)
    blood = segment_to_region(own.structures, "Ref_Blood", own.region.mask)
    identifier = region_to_segment(own.scene, own.structures, dataclasses.replace(blood, name="GTV_new"), (9, 9, 9))
    for role in ("", "gtv"):
        roles = (*own.choices.roles, Role(own.structures, identifier, role))
        with pytest.raises(InputError, match="Ref_Blood overlaps GTV_new by 16"):
            compute_targets(dataclasses.replace(own.choices, roles=roles), own.images)


def test_a_segment_of_another_map_makes_no_targets_of_this_one(street):
    other = map_to_node(street.scene, other_result(street), "FDG surrogate", {}, "fdg_surrogate")
    choices = dataclasses.replace(street.choices, map_node=other)
    hypoxic = choices.of_role("hypoxic")[0]
    reason = "GTVp_Hyp was cut from the map 'Map', not from 'FDG surrogate' as it is now"
    assert any(line.startswith(reason) for line in street.decisions.missing_targets(choices))
    with pytest.raises(RequestError, match="GTVp_Hyp was cut from the map 'Map'"):
        compute_targets(choices, street.images)
    assert not any("was cut from" in line for line in street.decisions.missing_targets(street.choices))
    cut = [is_cut_from(node, hypoxic.node, hypoxic.segment_id) for node in (street.choices.map_node, other, None)]
    assert cut == [True, False, None]
    assert [guess_role("GTVp_Hyp", True, False, answer) for answer in cut] == ["hypoxic", "", "hypoxic"]


def other_result(street):
    """A map with other values."""
    found = run_job(street.mapper.make_job(street.mapper_choices), no_progress)
    volume = found.map.volume
    scaled = dataclasses.replace(volume, image=volume.image * 2.0)
    return dataclasses.replace(found, map=dataclasses.replace(found.map, volume=scaled))
