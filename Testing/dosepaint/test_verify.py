"""The proof: an untouched set passes, and every damage that would reach a patient fails it."""

import math
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from HypoxiaDosePaintLib.dicomrt import export
from HypoxiaDosePaintLib.dicomrt.export import Exported
from HypoxiaDosePaintLib.dicomrt.readback import fill_polygon, find_planning_files, read_grid
from HypoxiaDosePaintLib.dicomrt.rtstruct import write_rtstruct
from HypoxiaDosePaintLib.dicomrt.verify import verify_rtstruct, verify_set
from HypoxiaMapperLib.errors import InputError
from rt_samples import CREATED, GEOMETRIES, PROVENANCE, make_ct, shape_structures, write_ct


def test_an_untouched_set_passes(exported):
    out, planning, delivered = exported
    assert isinstance(delivered, Exported)
    assert delivered.files == tuple(
        f"dicom/{n}.dcm" for n in ("MAP", "PRESCRIPTION", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG")
    )
    assert all((out / f).is_file() for f in delivered.files)
    rows = verify_set(out, find_planning_files(out, out.parent))
    for row in (*delivered.proof, *rows):
        assert row.passed, row
    structures = [r for r in rows if not math.isnan(r.dice)]
    assert [r.structure for r in structures] == ["GTVp", "GTVp_Hyp", "PTV_7700", "PTV_7000", "Blood"]
    assert all(r.dice == 1.0 and r.centroid_shift_mm < 0.01 for r in structures)
    assert len(planning.info.files) == 48


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_row_33_every_shape_on_every_geometry(geometry, holes, tmp_path):
    """VALIDATION row 33 and more: holes, islands, one slice, one voxel, first and last slice, image border."""
    planning = make_ct(tmp_path / "ct", geometry)
    structures = shape_structures(planning)
    write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED, holes)
    files = list(reversed(planning.info.files))  # the order of files must not matter
    rows = verify_rtstruct(tmp_path / "rs.dcm", {s.name: s.region for s in structures}, files)
    assert len(rows) == 1 + len(structures)
    for row in rows:
        assert row.passed, row
    for row in rows[1:]:
        assert row.dice == 1.0, row
        assert row.centroid_shift_mm < 0.01
        assert row.read_ml == pytest.approx(row.written_ml, rel=1e-5)


def shift(ds, dx, dy, dz=0.0, roi=1):
    for contour in ds.ROIContourSequence[roi].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3) + np.array([dx, dy, dz])
        contour.ContourData = [f"{v:.3f}" for v in points.ravel()]


def test_contours_shifted_by_one_pixel_fail(exported, damaged):
    _, planning, _ = exported
    step = np.array(planning.headers[0].ImageOrientationPatient[:3], float) * 2.5
    failed = damaged("RTSTRUCT", lambda ds: shift(ds, *step))
    assert "GTVp_Hyp" in failed
    assert "centroid" in failed["GTVp_Hyp"].reason


def test_left_and_right_swapped_fail(exported, damaged):
    _, planning, _ = exported
    header = planning.headers[0]
    axis = np.array(header.ImageOrientationPatient[:3], float)
    middle = np.array(header.ImagePositionPatient, float) @ axis + 47 / 2 * 2.5

    def mirror(ds):
        for roi in ds.ROIContourSequence:
            for contour in roi.ContourSequence:
                points = np.array(contour.ContourData, float).reshape(-1, 3)
                points -= 2 * ((points @ axis) - middle)[:, None] * axis
                contour.ContourData = [f"{v:.3f}" for v in points.ravel()]

    failed = damaged("RTSTRUCT", mirror)
    assert {"GTVp", "GTVp_Hyp", "PTV_7700", "PTV_7000", "Blood"} <= set(failed)


def test_a_dropped_slice_fails(damaged):
    failed = damaged("RTSTRUCT", lambda ds: ds.ROIContourSequence[1].ContourSequence.pop(0))
    assert list(failed) == ["GTVp_Hyp"]


def set_first_contour(keyword, value):
    def change(ds):
        setattr(ds.ROIContourSequence[1].ContourSequence[0], keyword, value)

    return change


def set_observation(keyword, value):
    return lambda ds: setattr(ds.RTROIObservationsSequence[1], keyword, value)


def change_image_uid(ds):
    ds.ROIContourSequence[1].ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def next_slice(ds):
    """Contours bound to the neighbour slice, their coordinates left: the planes no longer agree."""
    contours = ds.ROIContourSequence[0].ContourSequence
    contours[0].ContourImageSequence = contours[-1].ContourImageSequence


def frame(ds):
    ds.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"


def long_ds(ds):
    contour = ds.ROIContourSequence[1].ContourSequence[0]
    raw = b"\\".join(
        v + b"0000000000000" if i == 0 else v for i, v in enumerate(contour.get_item("ContourData").value.split(b"\\"))
    )
    contour["ContourData"] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("ContourData"), "DS", len(raw), raw, 0, True, True
    )


def repeat_first_point(ds):
    contour = ds.ROIContourSequence[1].ContourSequence[0]
    contour.ContourData = [*contour.ContourData, *contour.ContourData[:3]]
    contour.NumberOfContourPoints = len(contour.ContourData) // 3


def two_points(ds):
    contour = ds.ROIContourSequence[1].ContourSequence[0]
    contour.ContourData, contour.NumberOfContourPoints = contour.ContourData[:6], 2


def off_plane(ds):
    shift(ds, 0.02, 0.02, 0.02)


def rename(ds):
    ds.StructureSetROISequence[1].ROIName = "Other"


@pytest.mark.parametrize(
    ("change", "row", "reason"),
    [
        (change_image_uid, "GTVp_Hyp", "not of the planning CT"),
        (next_slice, "GTVp", "off its CT plane"),
        (frame, "GTVp_Hyp", "frame of reference"),
        (long_ds, "GTVp_Hyp", "characters"),
        (repeat_first_point, "GTVp_Hyp", "first point"),
        (two_points, "GTVp_Hyp", "2 points"),
        (off_plane, "GTVp_Hyp", "off its CT plane"),
        (rename, "GTVp_Hyp", "missing"),
        (rename, "Other", "not shown"),
        (set_first_contour("NumberOfContourPoints", 3), "GTVp_Hyp", "states 3"),
        (set_first_contour("ContourGeometricType", "POINT"), "GTVp_Hyp", "POINT"),
        (lambda ds: setattr(ds, "ApprovalStatus", "APPROVED"), "RTSTRUCT", "APPROVED"),
        (lambda ds: setattr(ds, "PatientID", "P2"), "identity", "another patient"),
        (lambda ds: setattr(ds, "FrameOfReferenceUID", "1.2.3"), "identity", "frame of reference"),
        (lambda ds: setattr(ds, "PatientName", "Other^Anna"), "identity", "PatientName 'Other^Anna'"),
        (lambda ds: setattr(ds, "PatientBirthDate", "19600103"), "identity", "PatientBirthDate"),
        (lambda ds: setattr(ds, "PatientSex", "M"), "identity", "PatientSex"),
        (set_observation("RTROIInterpretedType", "EXTERNAL"), "RTSTRUCT", "GTVp_Hyp is EXTERNAL instead of GTV"),
        (set_observation("ROIObservationLabel", "PTV_7700"), "RTSTRUCT", "GTVp_Hyp is PTV_7700"),
        (set_observation("ReferencedROINumber", 1), "RTSTRUCT", "GTVp_Hyp has 0 observations"),
        (
            lambda ds: setattr(
                ds.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0], "CodeValue", "228793007"
            ),
            "RTSTRUCT",
            "228793007 instead of HYPOXIC_VOLUME",
        ),
        (
            lambda ds: setattr(ds.StructureSetROISequence[2], "ROIDescription", "Prescribed 90 Gy in 35"),
            "RTSTRUCT",
            "does not say 'Prescribed 77 Gy in 35'",
        ),
        (lambda ds: setattr(ds.StructureSetROISequence[2], "ROIVolume", "1"), "RTSTRUCT", "states a volume of 1 ml"),
        (lambda ds: ds.__delattr__("ROIContourSequence"), "RTSTRUCT", "ROIContourSequence"),
    ],
)  # fmt: skip
def test_a_damaged_structure_set_fails(damaged, change, row, reason):
    failed = damaged("RTSTRUCT", change)
    assert row in failed
    assert reason in failed[row].reason


def test_a_changed_series_or_image_list_fails(damaged):
    def change(ds):
        series = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        series.ContourImageSequence.pop()
        series.SeriesInstanceUID = "1.2.3"

    reason = damaged("RTSTRUCT", change)["RTSTRUCT"].reason
    assert "series" in reason
    assert "referenced images" in reason


@pytest.mark.parametrize("name", ["RTSTRUCT", "RTPLAN", "SEG", "MAP", "PRESCRIPTION", "RTDOSE"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "not DICOM"])
def test_a_missing_or_broken_file_fails(exported, tmp_path, name, damage):
    out, planning, _ = exported
    shutil.copytree(out, tmp_path / "set")
    path = tmp_path / "set" / "dicom" / f"{name}.dcm"
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"no DICOM at all")
    failed = {r.structure for r in verify_set(tmp_path / "set", planning.info.files) if not r.passed}
    assert {name, f"file {name}.dcm"} <= failed


def test_another_ct_fails(exported, tmp_path):
    out, planning, _ = exported
    other = write_ct(tmp_path / "ct", planning.volume.image, planning.info.frame_of_reference_uid)
    rows = verify_set(out, other.info.files)
    assert not any(r.passed for r in rows if r.structure in ("RTSTRUCT", "SEG", "GTVp", "GTVp_Hyp", "identity"))


def test_without_record_or_ct_the_reason_is_said(exported, tmp_path):
    out, planning, _ = exported
    shutil.copytree(out / "dicom", tmp_path / "dicom")
    with pytest.raises(InputError, match=r"result\.json"):
        verify_set(tmp_path, planning.info.files)
    (tmp_path / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="no record"):
        verify_set(tmp_path, planning.info.files)
    with pytest.raises(InputError, match="no planning CT"):
        verify_set(out, [])
    with pytest.raises(InputError, match="no image of planning series"):
        find_planning_files(out, tmp_path)


def test_the_proof_shares_nothing_with_the_writers():
    """Neither a writer nor what the writers share may be imported by the reading side."""
    folder = Path(export.__file__).parent
    for name in ("verify.py", "proof_objects.py", "readback.py"):
        text = (folder / name).read_text(encoding="utf-8")
        for forbidden in ("contours", "common", "rtstruct", "rtplan", "rtdose", "seg", "parametric_map", "export"):
            assert f"from .{forbidden} import" not in text
        assert "highdicom" not in text
        assert "dicomio" not in text


@pytest.mark.parametrize("seed", range(20))
def test_the_rasteriser_agrees_with_matplotlib(seed):
    """Arbitrary, self-crossing polygons with even-odd filling."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(-3, 23, (int(generator.integers(3, 12)), 2))
    rows, columns = np.mgrid[:17, :21]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    # winding by crossing count of a ray, written out; matplotlib fills by non-zero winding, so compare convex hulls too
    odd = np.zeros(len(centres), bool)
    for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
        straddles = (ya <= centres[:, 1]) != (yb <= centres[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            odd ^= straddles & (centres[:, 0] >= xa + (centres[:, 1] - ya) / (yb - ya) * (xb - xa))
    assert np.array_equal(fill_polygon(points, 17, 21), odd.reshape(17, 21))
    triangle = points[:3]
    inside = Polygon(np.vstack([triangle, triangle[:1]])).contains_points(centres).reshape(17, 21)
    assert np.array_equal(fill_polygon(triangle, 17, 21), inside)


def test_the_grid_is_that_of_the_headers(tmp_path):
    planning = make_ct(tmp_path, "oblique")
    grid = read_grid(planning.info.files)
    assert grid.voxel_ml == pytest.approx(planning.volume.voxel_volume_ml, rel=1e-6)
    k, row, column = 4, 7, 9
    point = planning.volume.image.TransformIndexToPhysicalPoint((column, row, k))
    assert grid.plane_of(point) == (k, row, column)
