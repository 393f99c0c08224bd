"""Segments as the mapper panel takes them: whole, and drawn in the frame of reference of the planning CT."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError, InputError
from HypoxiaMapperLib.methods import no_progress
from HypoxiaMapperLib.volume import Region

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml import region_to_segment  # noqa: E402
from HypoxiaMapperLib.panel.choices import SegmentChoice  # noqa: E402
from HypoxiaMapperLib.panel.segment_regions import outside_note, region_of_segment, with_losses  # noqa: E402
from HypoxiaMapperLib.worker import run_job  # noqa: E402
from panel_samples import FRAME, GTV, Patient, box, grid  # noqa: E402


def upwards(slices: int, name: str = "GTVp", frame: str = "") -> Region:
    """8 x 8 voxels of 0.01 ml over 20 slices, of which so many lie above the planning CT."""
    image = sitk.Image([28, 24, 20], sitk.sitkUInt8)
    image.SetSpacing(grid().GetSpacing())
    image.SetOrigin(grid().TransformIndexToPhysicalPoint((0, 0, slices)))
    array = np.zeros((20, 24, 28), np.uint8)
    array[:, 8:16, 8:16] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    return Region(name, mask, frame, "drawn")


def with_gtv(patient: Patient, region: Region):
    identifier = region_to_segment(patient.scene, patient.structures, region, (255, 0, 0))
    return dataclasses.replace(patient.choices, gtv=SegmentChoice(patient.structures, identifier))


def test_a_gtv_that_reaches_beyond_the_planning_ct_is_refused():
    patient = Patient()
    with pytest.raises(GeometryError, match=r"6\.40 ml of GTVp lie outside the planning image: it would be cut off"):
        patient.decisions.make_job(with_gtv(patient, upwards(10)))
    job = patient.decisions.make_job(with_gtv(patient, upwards(0)))
    assert job.regions["gtv"].volume_ml == pytest.approx(12.8)


def test_of_a_reference_the_part_on_the_planning_ct_counts_and_the_map_says_what_is_missing():
    """Blood in an aorta that was drawn on a PET of the whole body."""
    patient = Patient()
    aorta = upwards(10, "Ref_Aorta")
    array = np.zeros((20, 24, 28), np.uint8)
    array[:, 1:6, 1:6] = 1
    aorta = aorta.with_array(array.astype(bool), "drawn on the PET", "Ref_Aorta")
    identifier = region_to_segment(patient.scene, patient.structures, aorta, (0, 255, 0))
    choices = dataclasses.replace(patient.choices, reference=SegmentChoice(patient.structures, identifier))
    assert patient.decisions.why_not_run(choices) == ""
    job = patient.decisions.make_job(choices)
    assert job.regions["reference"].volume_ml == pytest.approx(2.5)
    result = with_losses(run_job(job, no_progress), job.regions)
    assert result.map.warnings[0] == "2.50 ml of Ref_Aorta lie outside the planning image."
    assert with_losses(result, {"gtv": job.regions["gtv"]}) == result
    patient.structures.GetSegmentation().GetSegment(identifier).SetName("Aorta")  # the input function of a series
    artery = dataclasses.replace(patient.choices, regions={"artery": choices.reference})
    assert "2.50 ml of Aorta" in patient.decisions.make_job(artery).regions["artery"].source


def test_what_an_organ_loses_is_told():
    patient = Patient()
    identifier = region_to_segment(patient.scene, patient.structures, upwards(10, "Cord"), (0, 0, 255))
    found = region_of_segment(patient.structures, identifier, grid(), FRAME, whole=False)
    assert outside_note(found) == "6.40 ml of Cord lie outside the planning image."
    assert outside_note(region_of_segment(patient.structures, patient.gtv.segment_id, grid(), FRAME)) == ""


def test_half_a_voxel_of_a_finer_grid_is_no_loss():
    patient, whole = Patient(), box("GTVp", 0, 20)
    fine = sitk.Expand(whole.mask, [2, 2, 2], sitk.sitkNearestNeighbor)
    job = patient.decisions.make_job(with_gtv(patient, Region("GTVp", fine, FRAME, "drawn")))
    assert job.regions["gtv"].volume_ml == pytest.approx(whole.volume_ml)


def test_a_segment_of_another_frame_of_reference_is_refused_unless_placed():
    patient = Patient()
    other = with_gtv(patient, Region("GTV_MR", GTV.mask, "1.2.999", "drawn on an MR"))
    with pytest.raises(GeometryError, match=r"GTV_MR was drawn in the frame of reference 1\.2\.999"):
        patient.decisions.make_job(other)
    placed = patient.decisions.make_job(dataclasses.replace(other, alignment="scene")).regions["gtv"]
    assert placed.frame_of_reference_uid == FRAME
    assert "frame of reference 1.2.999, taken as placed in the scene" in placed.source
    unknown = with_gtv(patient, Region("GTV_drawn", GTV.mask, "", "drawn in Slicer"))
    assert patient.decisions.make_job(unknown).regions["gtv"].frame_of_reference_uid == FRAME


def test_a_reference_that_reaches_into_another_tumour_is_refused():
    """Also into one that nobody chose, as on the command line."""
    patient = Patient()
    region_to_segment(patient.scene, patient.structures, box("GTVn", 5, 8), (255, 0, 0))
    with pytest.raises(InputError, match=r"Reference region Ref_Blood overlaps GTVn by 0\.01 ml"):
        patient.decisions.make_job(patient.choices)


def test_a_sphere_in_another_tumour_and_a_reference_called_tumour_are_refused():
    patient = Patient()
    nodal = region_to_segment(patient.scene, patient.structures, box("GTVn", 1, 6), (255, 0, 0))
    roi = patient.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Ref_Sphere")
    x, y, z = grid().TransformContinuousIndexToPhysicalPoint((3.0, 3.0, 3.0))
    roi.SetCenter(-x, -y, z)
    roi.SetSize(10.0, 10.0, 10.0)
    choices = dataclasses.replace(patient.choices, reference=SegmentChoice(), reference_roi=roi)
    with pytest.raises(InputError, match="Ref_Sphere overlaps GTVn"):
        patient.decisions.make_job(choices)
    choices = dataclasses.replace(patient.choices, reference=SegmentChoice(patient.structures, nodal))
    with pytest.raises(InputError, match="'GTVn' is a tumour by its name"):
        patient.decisions.make_job(choices)


def test_a_reference_left_from_another_method_refuses_nothing():
    """The FDG surrogate takes no reference region: one that stands in a tumour does not matter to it."""
    patient = Patient()
    patient.pet.SetAttribute("Hypoxia.Facts", '{"tracer": "FDG"}')
    region_to_segment(patient.scene, patient.structures, box("GTVn", 1, 6), (255, 0, 0))
    choices = dataclasses.replace(patient.choices, method="fdg_surrogate", params={})
    assert set(patient.decisions.make_job(choices).regions) == {"gtv"}
    assert set(choices.used_regions()) == {"gtv"}  # nor does a change of it make the map stale
