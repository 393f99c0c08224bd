"""What a person changes in Slicer after loading, or after the map, is used or refused; never lost without a word."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, InputError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.choices import Role  # noqa: E402
from HypoxiaDosePaintLib.panel.scene_run import compute_targets  # noqa: E402
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, segment_to_region  # noqa: E402
from HypoxiaMapperLib.mrml.geometry import image_data_array  # noqa: E402
from HypoxiaMapperLib.panel.node_images import NodeImages  # noqa: E402
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
    for role in ("gtv", "organ", "reference"):
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
