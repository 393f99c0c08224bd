"""Images that were moved in the scene are never taken for what their files say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import GeometryError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaMapperLib.mrml import region_to_segment  # noqa: E402
from HypoxiaMapperLib.mrml.volumes import displacement  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import (  # noqa: E402
    Fingerprints,
    made_of,
    map_to_node,
    region_of_map,
    region_words,
    why_not_as_made,
)
from HypoxiaMapperLib.panel.views import value_at  # noqa: E402
from panel_samples import GTV, Patient, grid, run_here, save_and_reload  # noqa: E402


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


def test_a_transform_on_gtv_reference_or_image_makes_the_map_stale():
    patient = Patient()
    prints = patient.decisions.fingerprint(patient.choices)
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    transform, matrix = patient.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T"), vtkMatrix4x4()
    names = {}
    for node in (patient.structures, patient.pet):
        node.SetAndObserveTransformNodeID(transform.GetID())
        under = patient.decisions.fingerprint(patient.choices)
        names[node.GetName()] = [key for key in prints if prints[key] != under[key]]
        matrix.SetElement(0, 3, matrix.GetElement(0, 3) + 5.0)
        transform.SetMatrixTransformToParent(matrix)
        moved = patient.decisions.fingerprint(patient.choices)
        assert all(moved[key] != under[key] for key in names[node.GetName()])
        reason = patient.decisions.why_not_run(patient.choices)
        assert f"{node.GetName()!r} stands under the transform 'T'" in reason
        node.SetAndObserveTransformNodeID(None)
    assert names == {"Structures": ["GTV", "reference"], "PET FMISO": ["image pet"]}
    assert patient.decisions.fingerprint(patient.choices) == prints


def test_a_turned_labelmap_is_another_segment():
    """Same voxels, origin and spacing, other axes."""
    patient, sides = Patient(), []
    for direction in ((1, 0, 0, 0, 1, 0, 0, 0, 1), (0, -1, 0, 1, 0, 0, 0, 0, 1)):
        mask = sitk.Image(GTV.mask)
        mask.SetDirection(direction)
        region = dataclasses.replace(GTV, mask=mask)
        identifier = region_to_segment(patient.scene, patient.structures, region, (255, 0, 0))
        sides.append(patient.decisions.fingerprints.segment(patient.structures, identifier))
    assert sides[0] != sides[1]


def test_the_probe_reads_the_map_where_it_is_shown():
    patient = Patient()
    x, y, z = grid().TransformIndexToPhysicalPoint((15, 10, 9))
    shown = (-x, -y, z)
    assert value_at(patient.pet, shown) == pytest.approx(2.0)
    transform = patient.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    matrix.SetElement(0, 3, 20.0)
    transform.SetMatrixTransformToParent(matrix)
    patient.pet.SetAndObserveTransformNodeID(transform.GetID())
    assert value_at(patient.pet, (20.0 - x, -y, z)) == pytest.approx(2.0)


def test_a_saved_scene_is_not_stale(tmp_path):
    """Slicer cuts labelmaps to a box of its own when it writes them."""
    patient = Patient()
    prints, used = patient.decisions.fingerprint(patient.choices), patient.choices.used_regions()
    nodes = {"planning": patient.ct, "pet": patient.pet}
    map_to_node(patient.scene, run_here(patient), "Map", prints, "tracer_ratio", nodes, {}, used)
    save_and_reload(patient.scene, tmp_path)
    node, again = patient.scene.GetFirstNodeByName("Map"), Fingerprints()
    assert why_not_as_made(node, again) == ""
    for key in ("gtv", "reference"):
        assert again.region(*region_of_map(node, key)) == prints[region_words(key)]
    for key, source in (("pet", "image pet"), ("planning", "planning CT")):
        reloaded = made_of(node)[key]
        assert again.volume(reloaded) == prints[source]
        assert displacement(reloaded) is None
