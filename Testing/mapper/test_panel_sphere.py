"""The sphere as reference region: where it lies, when it counts, and that the user's clicks place it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from HypoxiaMapperLib.errors import RequestError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.panel.choices import SegmentChoice  # noqa: E402
from HypoxiaMapperLib.panel.sphere import place_by_mouse, sphere_of_roi, sphere_print, stop_placing, why_no_sphere  # noqa: E402
from panel_samples import GTV, Patient, grid  # noqa: E402


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_sphere_of_a_placed_roi_is_in_lps(patient):
    roi = patient.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    with pytest.raises(RequestError, match="not been placed"):
        sphere_of_roi(roi)
    roi.SetCenter(10.0, 20.0, 55.0)
    roi.SetSize(8.0, 10.0, 12.0)
    centre, radius = sphere_of_roi(roi)
    assert centre == pytest.approx((-10.0, -20.0, 55.0))
    assert radius == pytest.approx(4.0)


def test_the_sphere_is_the_reference_when_no_segment_is_chosen(patient):
    roi = patient.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    x, y, z = grid().TransformContinuousIndexToPhysicalPoint((3.0, 3.0, 3.0))
    roi.SetCenter(-x, -y, z)
    roi.SetSize(10.0, 10.0, 10.0)
    choices = dataclasses.replace(patient.choices, reference=SegmentChoice(), reference_roi=roi)
    assert "blood or in muscle" in patient.decisions.why_not_run(dataclasses.replace(choices, params={}))
    choices = dataclasses.replace(choices, params={"reference_kind": "blood"})
    reference = patient.decisions.make_job(choices).regions["reference"]
    assert reference.volume_ml == pytest.approx(4 / 3 * math.pi * 0.125, rel=0.1)
    assert (reference.array & GTV.array).sum() == 0


def test_the_next_clicks_place_the_sphere_and_nothing_else(patient):
    scene = patient.scene
    selection = scene.AddNode(scene.CreateNodeByClass("vtkMRMLSelectionNode"))
    interaction = scene.AddNode(scene.CreateNodeByClass("vtkMRMLInteractionNode"))
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    place_by_mouse(scene, roi)
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsROINode"
    assert selection.GetActivePlaceNodeID() == roi.GetID()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    stop_placing(scene, scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "another's"))
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    stop_placing(scene, roi)
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert "click on two" in why_no_sphere(roi, True, "")
    assert why_no_sphere(None, False, "") == why_no_sphere(None, False, None) == sphere_print(None) == ""


def test_a_sphere_that_is_still_being_placed_has_a_fingerprint(patient):
    """A refresh while placing must not raise; once placed, the map that was made before is stale."""
    roi = patient.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    choices = dataclasses.replace(patient.choices, reference=SegmentChoice(), reference_roi=roi)
    before = patient.decisions.fingerprint(choices)["reference"]
    roi.SetSize(10.0, 10.0, 10.0)
    assert before == "not placed"
    assert patient.decisions.fingerprint(choices)["reference"] != before
