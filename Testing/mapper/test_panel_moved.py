"""Images that were moved in the scene are never taken for what their files say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from HypoxiaMapperLib.errors import GeometryError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml.volumes import displacement  # noqa: E402
from panel_samples import Patient, run_here  # noqa: E402


def harden_shift(scene, node, right_mm: float) -> None:
    """Move a node and harden the transform, as the refusal of a transform advises."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    transform, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift"), vtkMatrix4x4()
    matrix.SetElement(0, 3, right_mm)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert node.HardenTransform()


def test_a_moved_pet_is_refused_unless_placed_by_a_person():
    patient = Patient()
    before = run_here(patient).map.volume.array.copy()
    harden_shift(patient.scene, patient.pet, 4.0)
    for alignment in ("same_frame", "rigid"):
        choices = dataclasses.replace(patient.choices, alignment=alignment)
        assert "'PET FMISO' was moved in the scene" in patient.decisions.why_not_run(choices)
    patient.choices = dataclasses.replace(patient.choices, alignment="scene")
    assert patient.decisions.why_not_run(patient.choices) == ""
    assert not np.allclose(run_here(patient).map.volume.array, before, equal_nan=True)


def test_a_moved_planning_ct_is_refused():
    patient = Patient()
    harden_shift(patient.scene, patient.ct, 4.0)
    with pytest.raises(GeometryError, match="'CT' was moved in the scene"):
        patient.decisions.make_job(patient.choices)


def test_displacement_leads_from_the_scene_to_the_files_in_lps():
    patient = Patient()
    assert displacement(patient.pet) is None
    harden_shift(patient.scene, patient.pet, 0.04)  # as far as Slicer rounds
    assert displacement(patient.pet) is None
    harden_shift(patient.scene, patient.pet, 4.0)  # to the patient's right in RAS is -x in LPS
    np.testing.assert_allclose(displacement(patient.pet) @ [-4.04, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], atol=1e-9)
