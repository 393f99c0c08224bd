"""RTSTRUCT to mask: exact on the real patient, and on shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from dicom_samples import FRAME, write_ct, write_rtstruct
from HypoxiaMapperLib.dicomio.contour_gaps import find_gaps
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set, region_warnings
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError

OBLIQUE = np.array([[0.96, -0.224, 0.168], [0.28, 0.768, -0.576], [0.0, 0.6, 0.8]])


def grid(size=(20, 16, 6), spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.asarray(direction).ravel().tolist())
    return image


def to_mm(image, points_index):
    """LPS mm of continuous indices (x, y, z)."""
    return np.array([image.TransformContinuousIndexToPhysicalPoint([float(v) for v in p]) for p in points_index])


def box(x0, x1, y0, y1, z):
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], float)


def read_one(tmp_path, contours, image=None, **options):
    image = grid() if image is None else image
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": [to_mm(image, c) for c in contours]}, **options)
    return read_structure_set(path, image, FRAME, ["A"])["A"]


@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_real_patient_equals_nifti_mask(hypoxia_data, modality):
    folder = hypoxia_data("ibsi_sts_008")
    image = read_image_series(scan_folder(folder / "dicom" / modality / "image").series[0]).volume
    path = folder / "dicom" / modality / "mask" / "RS.dcm"
    (region,) = read_structure_set(path, image.image, image.frame_of_reference_uid).values()
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "nifti" / f"{modality}_mask.nii.gz"))) > 0
    assert np.count_nonzero(region.array != truth) == 0
    assert region_warnings(region) == ()
    assert region.frame_of_reference_uid == image.frame_of_reference_uid


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE, -np.eye(3)[[1, 0, 2]]])
def test_box_on_any_grid(tmp_path, direction):
    image = grid(spacing=(0.7, 1.3, 2.1), origin=(-31.0, 12.5, 99.0), direction=direction)
    region = read_one(tmp_path, [box(2.5, 7.5, 3.5, 5.5, k) for k in (1, 2)], image)
    expected = np.zeros((6, 16, 20), bool)
    expected[1:3, 4:6, 3:8] = True
    np.testing.assert_array_equal(region.array, expected)


def test_polygon_agrees_with_the_crossing_rule_point_by_point(tmp_path):
    rng = np.random.default_rng(5)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radius = rng.uniform(2, 8, 40)
    x, y = 9.5 + radius * np.cos(angle), 7.5 + radius * np.sin(angle) * 0.9
    region = read_one(tmp_path, [np.column_stack([x, y, np.full(40, 3.0)])])
    rows, columns = np.mgrid[:16, :20]
    inside = np.zeros((16, 20), bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        crosses = (y0 <= rows) != (y1 <= rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (columns > x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    np.testing.assert_array_equal(region.array[3], inside)
    assert inside.sum() > 40
    assert not region.array[[0, 1, 2, 4, 5]].any()


def test_hole_island_in_hole_and_xor(tmp_path):
    nested = [box(0.5, 14.5, 0.5, 14.5, 2), box(3.5, 11.5, 3.5, 11.5, 2), box(6.5, 8.5, 6.5, 8.5, 2)]
    for kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        region = read_one(tmp_path, nested, kind=kind)
        assert region.array.sum() == 14 * 14 - 8 * 8 + 2 * 2
        assert not region.array[2, 5, 5]
        assert region.array[2, 7, 7]


def test_keyhole(tmp_path):
    hole = box(4.5, 8.5, 4.5, 8.5, 2)[::-1]
    keyhole = np.vstack([box(0.5, 12.5, 0.5, 12.5, 2), [[0.5, 0.5, 2]], hole, hole[:1]])
    assert read_one(tmp_path, [keyhole]).array.sum() == 12 * 12 - 4 * 4


def test_shared_edges_leave_no_gap_and_no_overlap(tmp_path):
    image = grid()
    halves = {"L": [to_mm(image, box(2, 6, 2, 9, 1))], "R": [to_mm(image, box(6, 11, 2, 9, 1))]}
    regions = read_structure_set(write_rtstruct(tmp_path / "rs.dcm", halves), image, FRAME)
    total = regions["L"].array.astype(int) + regions["R"].array
    assert total.max() == 1
    assert total.sum() == 9 * 7


def test_explicitly_closed_and_one_voxel_contours(tmp_path):
    closed = np.vstack([box(2.5, 4.5, 2.5, 4.5, 0), [[2.5, 2.5, 0]]])
    assert read_one(tmp_path, [closed, box(9.6, 10.4, 9.6, 10.4, 5)]).array.sum() == 5


def test_points_are_ignored_with_a_note(tmp_path):
    image = grid()
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": [box(1.5, 4.5, 1.5, 4.5, 2), np.array([[5.0, 5, 2]])]})
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "POINT"
    dataset.save_as(path)
    region = read_structure_set(path, image, FRAME)["A"]
    assert region_warnings(region) == ("1 POINT item(s) ignored",)
    assert region.array[1].sum() == 9


def test_contour_between_planes_goes_to_the_nearest_with_a_warning(tmp_path):
    region = read_one(tmp_path, [box(1.5, 4.5, 1.5, 4.5, 2.4)])
    assert region.array[2].sum() == 9
    assert region_warnings(region) == ("1 contours lie between slice planes, moved by up to 0.80 mm",)


def test_contours_denser_than_slices_do_not_cancel(tmp_path):
    region = read_one(tmp_path, [box(1.5, 4.5, 1.5, 4.5, z) for z in (1, 1.4, 2, 2.4)])
    assert region.array.sum(axis=(1, 2)).tolist() == [0, 9, 9, 0, 0, 0]
    assert "nearest of each slice" in " ".join(region_warnings(region))


def test_tilted_contour_and_contour_outside_are_refused(tmp_path):
    tilted = box(1.5, 4.5, 1.5, 4.5, 2)
    tilted[2:, 2] = 3.2
    with pytest.raises(GeometryError, match=r"'A'.*slice plane"):
        read_one(tmp_path, [tilted])
    with pytest.raises(GeometryError, match=r"'A'.*above or below"):
        read_one(tmp_path, [box(1.5, 4.5, 1.5, 4.5, 7)])


def test_contour_beyond_the_border_is_cut_with_a_note(tmp_path):
    region = read_one(tmp_path, [box(-9.5, 4.5, 1.5, 30.5, 2)])
    assert region.array[2].sum() == 5 * 14
    assert region_warnings(region) == ("contours reach outside the image and are cut at its border",)


def test_names(tmp_path):
    image = grid()
    rois = {"GTVp": [box(1.5, 4.5, 1.5, 4.5, 2)], "Cord": [box(6.5, 8.5, 1.5, 4.5, 2)], "Empty": []}
    path = write_rtstruct(tmp_path / "rs.dcm", rois)
    assert list(read_structure_set(path, image, FRAME)) == ["GTVp", "Cord"]
    assert list(read_structure_set(path, image, FRAME, ["Cord"])) == ["Cord"]
    with pytest.raises(RequestError, match=r"no ROI named 'GTVx'.*GTVp, Cord, Empty"):
        read_structure_set(path, image, FRAME, ["GTVx"])
    with pytest.raises(InputError, match="'Empty' is empty"):
        read_structure_set(path, image, FRAME, ["Empty"])
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence[1].ROIName = "GTVp"
    dataset.save_as(path)
    assert read_structure_set(path, image, FRAME, ["GTVp #2"])["GTVp #2"].array[1, 2, 7]
    with pytest.raises(RequestError, match=r"no ROI named 'GTVp'.*GTVp #1, GTVp #2, Empty"):
        read_structure_set(path, image, FRAME, ["GTVp"])


@pytest.mark.parametrize(
    ("sequence", "keyword", "tag"),
    [
        ("StructureSetROISequence", "ROINumber", "3006,0022"),
        ("ROIContourSequence", "ReferencedROINumber", "3006,0084"),
    ],
)
def test_a_number_used_twice_is_refused(tmp_path, sequence, keyword, tag):
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": [box(1.5, 4.5, 1.5, 4.5, 2)], "B": [box(6.5, 8.5, 1.5, 4.5, 2)]})
    dataset = pydicom.dcmread(path)
    setattr(dataset[sequence].value[1], keyword, 1)
    dataset.save_as(path)
    with pytest.raises(InputError, match=tag):
        read_structure_set(path, grid(), FRAME, ["A"])


def test_names_that_cannot_be_told_apart_are_refused(tmp_path):
    square = [box(1.5, 4.5, 1.5, 4.5, 2)]
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": square, "B": square, "A #1": square})
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence[1].ROIName = "A"
    dataset.save_as(path)
    with pytest.raises(InputError, match="told apart"):
        read_structure_set(path, grid(), FRAME, ["A #2"])


TALL = (20, 16, 30)


def test_one_missing_contour_is_told_with_its_place_and_volume(tmp_path):
    levels = [k for k in range(4, 14) if k != 9]
    region = read_one(tmp_path, [box(1.5, 4.5, 1.5, 4.5, k) for k in levels], grid(TALL, origin=(0, 0, -100.0)))
    (note,) = region_warnings(region)
    assert "no contour on 1 slice(s)" in note
    assert "z = -82.0 mm" in note
    assert "about 0.02 ml" in note  # 9 voxels of 2 mm3
    assert not region.array[9].any()


@pytest.mark.parametrize("step", [2, 3, 6])
def test_contours_on_every_other_slice_are_refused_by_name_and_told_in_a_list(tmp_path, step):
    image = grid(TALL)
    contours = [to_mm(image, box(1.5, 4.5, 1.5, 4.5, k)) for k in range(2, 27, step)]
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": contours, "B": contours[:1]})
    with pytest.raises(InputError, match=rf"'A' has contours on {len(contours)} of .*exported incompletely") as error:
        read_structure_set(path, image, FRAME, ["A"])
    assert "interpolated" in error.value.hint
    regions = read_structure_set(path, image, FRAME)
    assert "exported incompletely" in region_warnings(regions["A"])[0]
    assert region_warnings(regions["B"]) == ()


@pytest.mark.parametrize(
    "levels",
    [
        {5: 1, 6: 1, 7: 1, 11: 1, 12: 1},  # long gap: islands one above the other
        {5: 1, 6: 1, 7: 1, 9: 8, 10: 8},  # short gap, side by side
        {5: 1, 15: 1},  # two small islands far apart
        {5: 1},
    ],
)
def test_islands_are_no_missing_contours(tmp_path, levels):
    region = read_one(tmp_path, [box(x + 0.5, x + 4.5, 1.5, 4.5, k) for k, x in levels.items()], grid(TALL))
    assert region_warnings(region) == ()


def test_distances_between_contours_may_be_rounded_and_islands_are_judged_alone():
    mask = np.zeros((40, 8, 8), bool)
    rounded = np.array([0, 3, 7, 10, 14])  # every 3.5 slices
    mask[rounded, 2:5, 2:5] = True
    assert find_gaps(mask, rounded).incomplete
    planes = np.array([*range(20), 30, 32, 34])
    mask[planes, 2:5, 2:5] = True
    gaps = find_gaps(mask, planes)
    assert gaps.slices == (31, 33)
    assert (gaps.contoured, gaps.expected, gaps.incomplete) == (3, 5, True)
    assert gaps.voxels == 18


def test_other_frame_of_reference_is_refused(tmp_path):
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": [box(1.5, 4.5, 1.5, 4.5, 2)]}, frame_uid="1.2.99")
    with pytest.raises(GeometryError, match=r"1.2.99"):
        read_structure_set(path, grid(), FRAME)
    with pytest.raises(GeometryError, match="none given"):
        read_structure_set(path, grid(), "")


def test_broken_contour_data_and_wrong_files_are_refused(tmp_path):
    path = write_rtstruct(tmp_path / "rs.dcm", {"A": [box(1.5, 4.5, 1.5, 4.5, 2)]})
    broken = path.read_bytes().replace(b"4.5\\1.5\\2", b"x.5\\1.5\\2", 1)
    (tmp_path / "broken.dcm").write_bytes(broken)
    with pytest.raises(InputError, match=r"'A'.*3006,0050"):
        read_structure_set(tmp_path / "broken.dcm", grid(), FRAME)
    with pytest.raises(InputError, match="not an RTSTRUCT"):
        read_structure_set(write_ct(tmp_path / "ct")[0], grid(), FRAME)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="cannot be read"):
        read_structure_set(tmp_path / "x.txt", grid(), FRAME)
