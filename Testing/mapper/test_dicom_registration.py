"""Registration files: known landmarks must land where they should, in both directions."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from dicom_samples import DEFORMABLE_REGISTRATION, SPATIAL_REGISTRATION, new_dataset, write_ct
from HypoxiaMapperLib.dicomio.registration import read_transform, transform_warnings
from HypoxiaMapperLib.errors import GeometryError, InputError

PLAN, PET, OTHER = "1.2.1", "1.2.2", "1.2.3"
LANDMARKS = [(0.0, 0.0, 0.0), (10.0, -20.0, 30.0), (-55.5, 42.0, -7.25)]


def rigid(degrees=20.0, shift=(5.0, -3.0, 11.0)):
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    matrix[:3, 3] = shift
    return matrix


def matrix_item(matrix, kind="RIGID"):
    item = Dataset()
    item.FrameOfReferenceTransformationMatrixType = kind
    item.FrameOfReferenceTransformationMatrix = [f"{v:.12g}"[:16] for v in np.asarray(matrix).ravel()]
    return item


def write_rigid(path, matrices, registered=PLAN, kind="RIGID"):
    """``matrices``: frame of reference to a matrix, or to a list of them, into the registered frame."""
    dataset = new_dataset(SPATIAL_REGISTRATION)
    dataset.FrameOfReferenceUID, dataset.Modality = registered, "REG"
    items = []
    for frame, value in matrices.items():
        item, holder = Dataset(), Dataset()
        item.FrameOfReferenceUID = frame
        holder.MatrixSequence = [matrix_item(m, kind) for m in (value if isinstance(value, list) else [value])]
        item.MatrixRegistrationSequence = [holder]
        items.append(item)
    dataset.RegistrationSequence = items
    dataset.save_as(path, enforce_file_format=True)
    return path


def apply(matrix, point):
    return (np.asarray(matrix) @ [*point, 1.0])[:3]


@pytest.mark.parametrize("with_identity", [True, False])
def test_rigid_both_directions(tmp_path, with_identity):
    to_plan = rigid()
    matrices = {PLAN: np.eye(4), PET: to_plan} if with_identity else {PET: to_plan}
    path = write_rigid(tmp_path / "reg.dcm", matrices)
    forward, backward = read_transform(path, PLAN, PET), read_transform(path, PET, PLAN)
    for moving_point in LANDMARKS:
        planning_point = apply(to_plan, moving_point)
        np.testing.assert_allclose(forward.TransformPoint(tuple(planning_point)), moving_point, atol=1e-6)
        np.testing.assert_allclose(backward.TransformPoint(moving_point), planning_point, atol=1e-6)
    assert transform_warnings(forward) == ()


def test_both_frames_registered_to_a_third(tmp_path):
    plan_to_atlas, pet_to_atlas = rigid(15, (1, 2, 3)), rigid(-30, (-7, 0, 4))
    path = write_rigid(tmp_path / "reg.dcm", {PLAN: plan_to_atlas, PET: pet_to_atlas}, registered=OTHER)
    forward = read_transform(path, PLAN, PET)
    for point in LANDMARKS:
        expected = np.linalg.solve(pet_to_atlas, plan_to_atlas @ [*point, 1.0])[:3]
        np.testing.assert_allclose(forward.TransformPoint(point), expected, atol=1e-6)


def test_resampling_with_it_brings_a_landmark_home(tmp_path):
    shift = np.eye(4)
    shift[:3, 3] = (4, -2, 6)  # moving to planning
    moving = sitk.Image(20, 20, 20, sitk.sitkFloat32)
    moving[5, 9, 3] = 1.0
    transform = read_transform(write_rigid(tmp_path / "reg.dcm", {PET: shift}), PLAN, PET)
    result = sitk.Resample(moving, sitk.Image(20, 20, 20, sitk.sitkFloat32), transform)
    assert result[9, 7, 9] == pytest.approx(1.0)


def test_several_matrices_are_multiplied_only_where_order_does_not_matter(tmp_path):
    a, b = rigid(10, (0, 0, 2)), rigid(25, (0, 0, 5))
    path = write_rigid(tmp_path / "a.dcm", {PET: [a, b]})
    np.testing.assert_allclose(
        read_transform(path, PET, PLAN).TransformPoint(LANDMARKS[1]), apply(a @ b, LANDMARKS[1]), atol=1e-6
    )
    with pytest.raises(InputError, match="order matters"):
        read_transform(write_rigid(tmp_path / "b.dcm", {PET: [rigid(10), rigid(25)]}), PET, PLAN)


def test_wrong_frames_are_named(tmp_path):
    path = write_rigid(tmp_path / "reg.dcm", {PET: rigid()})
    with pytest.raises(GeometryError, match=r"moving frame of reference 1.2.3.*1.2.2"):
        read_transform(path, PLAN, OTHER)
    with pytest.raises(GeometryError, match=r"planning frame of reference \(none given\)"):
        read_transform(path, "", PET)


def test_contradicting_items_are_refused(tmp_path):
    path = write_rigid(tmp_path / "reg.dcm", {PET: rigid(), PLAN: rigid(3)})
    with pytest.raises(GeometryError, match="not the identity"):
        read_transform(path, PLAN, PET)


def test_not_rigid_is_flagged_and_a_false_declaration_refused(tmp_path):
    scaled = rigid() @ np.diag([1.05, 1, 1, 1])
    transform = read_transform(write_rigid(tmp_path / "a.dcm", {PET: scaled}, kind="AFFINE"), PLAN, PET)
    assert "not rigid" in transform_warnings(transform)[0]
    with pytest.raises(GeometryError, match="declared RIGID"):
        read_transform(write_rigid(tmp_path / "b.dcm", {PET: scaled}), PLAN, PET)
    mirrored = read_transform(write_rigid(tmp_path / "c.dcm", {PET: np.diag([-1, 1, 1, 1])}, kind="AFFINE"), PLAN, PET)
    assert "mirrors" in transform_warnings(mirrored)[0]


@pytest.mark.parametrize("values", [[1, 0, 0], np.zeros(16), [*np.eye(4).ravel()[:12], 0, 0, 1, 1]])
def test_broken_matrix_is_refused(tmp_path, values):
    with pytest.raises((GeometryError, InputError), match="3006,00C6"):
        read_transform(write_rigid(tmp_path / "a.dcm", {PET: np.array(values)}, kind="AFFINE"), PLAN, PET)


def write_deformable(path, vectors, pre=None, post=None, size=(6, 5, 4)):
    """Vectors of shape (z, y, x, 3) on a 10 mm grid from (-10, -20, -30) in the planning frame."""
    dataset, item, field = new_dataset(DEFORMABLE_REGISTRATION), Dataset(), Dataset()
    dataset.FrameOfReferenceUID, dataset.Modality = PLAN, "REG"
    item.SourceFrameOfReferenceUID = PET
    for keyword, matrix in (("Pre", pre), ("Post", post)):
        if matrix is not None:
            setattr(item, f"{keyword}DeformationMatrixRegistrationSequence", [matrix_item(matrix)])
    field.ImagePositionPatient, field.ImageOrientationPatient = [-10, -20, -30], [1, 0, 0, 0, 1, 0]
    field.GridDimensions, field.GridResolution = list(size), [10.0, 10.0, 10.0]
    field.VectorGridData = np.asarray(vectors, "<f4").tobytes()
    item.DeformableRegistrationGridSequence = [field]
    dataset.DeformableRegistrationSequence = [item]
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_deformable_follows_the_equation_of_the_standard(tmp_path):
    vectors = np.random.default_rng(1).uniform(-4, 4, (4, 5, 6, 3))
    pre, post = rigid(10, (1, 2, 3)), rigid(-25, (9, 8, 7))
    transform = read_transform(write_deformable(tmp_path / "d.dcm", vectors, pre, post), PLAN, PET)
    for k, j, i in ((0, 0, 0), (3, 4, 5), (2, 1, 3)):
        point = np.array([-10 + 10 * i, -20 + 10 * j, -30 + 10 * k], float)
        expected = apply(post, apply(pre, point) + vectors[k, j, i])
        np.testing.assert_allclose(transform.TransformPoint(tuple(point)), expected, atol=1e-4)
    outside = (500.0, 0.0, 0.0)
    np.testing.assert_allclose(transform.TransformPoint(outside), apply(post @ pre, outside), atol=1e-6)
    assert "deformable" in transform_warnings(transform)[0]


def test_deformable_refusals(tmp_path):
    path = write_deformable(tmp_path / "d.dcm", np.zeros((4, 5, 6, 3)))
    with pytest.raises(GeometryError, match="opposite direction"):
        read_transform(path, PET, PLAN)
    with pytest.raises(GeometryError, match=r"1.2.3"):
        read_transform(path, PLAN, OTHER)
    with pytest.raises(InputError, match="0064,0009"):
        read_transform(write_deformable(tmp_path / "e.dcm", np.zeros((3, 5, 6, 3))), PLAN, PET)
    with pytest.raises(GeometryError, match="NaN"):
        read_transform(write_deformable(tmp_path / "f.dcm", np.full((4, 5, 6, 3), np.nan)), PLAN, PET)


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".txt"])
def test_itk_files_map_planning_to_moving(tmp_path, suffix):
    transform = sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3, (1, 2, 3))
    path = tmp_path / f"t{suffix}"
    sitk.WriteTransform(transform, str(path))
    again = read_transform(path, PLAN, PET)
    for point in LANDMARKS:
        np.testing.assert_allclose(again.TransformPoint(point), transform.TransformPoint(point), atol=1e-9)


def test_wrong_files_are_refused(tmp_path):
    (tmp_path / "broken.tfm").write_text("nothing")
    for path, message in (
        (tmp_path / "broken.tfm", "cannot be read as an ITK transform"),
        (tmp_path / "absent.tfm", "does not exist"),
        (tmp_path / "absent.dcm", "cannot be read"),
        (write_ct(tmp_path / "ct")[0], "not a registration"),
    ):
        with pytest.raises(InputError, match=message):
            read_transform(path, PLAN, PET)
