"""The structure set: modules, references and numbers as the standard and planning systems want them."""

import json
import time

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib.dicomrt.common import describe, format_ds, format_points, private_provenance, save, title
from HypoxiaDosePaintLib.dicomrt.contours import region_contours
from HypoxiaDosePaintLib.dicomrt.rtstruct import write_rtstruct
from HypoxiaDosePaintLib.dicomrt.verify import verify_rtstruct
from HypoxiaDosePaintLib.structures import GTV_CODE, Structure
from HypoxiaMapperLib import __version__
from HypoxiaMapperLib.dicomio.model import ImageSeries, SeriesInfo
from HypoxiaMapperLib.errors import GeometryError, LimitError, OutputError, RequestError
from HypoxiaMapperLib.volume import Region, Volume
from rt_samples import (
    CREATED,
    GEOMETRIES,
    PROVENANCE,
    dice,
    iod_errors,
    make_ct,
    make_region,
    output_of,
    painted_structures,
    plastimatch_masks,
    shape_structures,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A structure set of GTV, hypoxic volume and two targets, read back by pydicom."""
    folder = tmp_path_factory.mktemp("rtstruct")
    planning = make_ct(folder / "ct")
    structures = painted_structures(planning)
    write_rtstruct(folder / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    return folder / "rs.dcm", planning, structures, pydicom.dcmread(folder / "rs.dcm")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-123.456789012345678, "-123.45678901235"),  # VALIDATION row 32
        (0.1 + 0.2, "0.3"),
        (77.0, "77.0"),
        (-1e-5, "-1e-05"),
        (123456789012345678.0, "1.2345678901e+17"),
    ],
)
def test_row_32_decimal_strings(value, text):
    assert format_ds(value) == text or float(format_ds(value)) == float(text)
    assert len(format_ds(value)) <= 16


def test_row_32_exactly():
    assert format_ds(-123.456789012345678) == "-123.45678901235"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_is_refused(value):
    with pytest.raises(OutputError, match="decimal string"):
        format_ds(value)
    with pytest.raises(OutputError, match="not a number"):
        format_points(np.array([[0.0, 1.0, value]]))


def test_points_are_rounded_to_a_micrometre():
    assert format_points(np.array([[-0.0001, 1.23456, -12345.6789]])) == b"0.000\\1.235\\-12345.679"


def test_points_are_padded_to_an_even_length():
    assert format_points(np.array([[1, 2, 30]])) == b"1.000\\2.000\\30.000"
    assert format_points(np.array([[1, 2, 3]])) == b"1.000\\2.000\\3.000 "


# --- what the object says ---------------------------------------------------------------------------------------------


def test_the_object_names_patient_study_and_frame(written):
    _, planning, _, ds = written
    header = planning.headers[0]
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "AccessionNumber",
                    "StudyDate", "FrameOfReferenceUID"):  # fmt: skip
        assert ds[keyword].value == header[keyword].value, keyword
    assert str(ds.PatientName) == str(header.PatientName)
    assert ds.Modality == "RTSTRUCT"
    assert ds.SeriesInstanceUID != header.SeriesInstanceUID
    assert ds.SOPInstanceUID not in {h.SOPInstanceUID for h in planning.headers}
    assert ds.ApprovalStatus == "UNAPPROVED"
    assert (ds.StructureSetDate, ds.StructureSetTime) == ("20260304", "050607")
    assert __version__ in ds.SoftwareVersions


def test_two_exports_have_different_uids(written, tmp_path):
    _, planning, structures, ds = written
    uid = write_rtstruct(tmp_path / "again.dcm", structures, planning, PROVENANCE, CREATED)
    assert uid != ds.SOPInstanceUID
    assert pydicom.dcmread(tmp_path / "again.dcm").SeriesInstanceUID != ds.SeriesInstanceUID


def test_references_are_the_original_slices(written):
    _, planning, _, ds = written
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == planning.info.frame_of_reference_uid
    (study,) = frame.RTReferencedStudySequence
    assert study.ReferencedSOPInstanceUID == planning.headers[0].StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == planning.headers[0].SeriesInstanceUID
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == [
        h.SOPInstanceUID for h in planning.headers
    ]
    heights = {h.SOPInstanceUID: float(h.ImagePositionPatient[2]) for h in planning.headers}
    for roi in ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            (image,) = contour.ContourImageSequence
            assert set(np.array(contour.ContourData, float)[2::3]) == {heights[image.ReferencedSOPInstanceUID]}
            assert contour.ContourGeometricType == "CLOSED_PLANAR"


def test_every_roi_says_what_it_is(written):
    _, planning, structures, ds = written
    for n, structure in enumerate(structures, start=1):
        roi, contour = ds.StructureSetROISequence[n - 1], ds.ROIContourSequence[n - 1]
        observation = ds.RTROIObservationsSequence[n - 1]
        assert roi.ROINumber == contour.ReferencedROINumber == observation.ReferencedROINumber == n
        assert roi.ROIName == structure.name
        assert roi.ReferencedFrameOfReferenceUID == planning.info.frame_of_reference_uid
        assert roi.ROIGenerationAlgorithm == "SEMIAUTOMATIC"
        assert structure.description in roi.ROIDescription
        assert float(roi.ROIVolume) == pytest.approx(structure.region.volume_ml, rel=1e-5)
        assert tuple(contour.ROIDisplayColor) == structure.colour
        assert observation.RTROIInterpretedType == structure.interpreted_type
        assert observation.RTROIIdentificationCodeSequence[0].CodeValue == structure.code.value
        assert observation.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "130041"
        assert str(observation.ROIInterpreter) == "Dr Müller^"
    assert "77 Gy in 35" in ds.StructureSetROISequence[2].ROIDescription


def test_the_hypoxic_volume_is_enclosed_by_its_gtv(written):
    """PS3.3 C.8.8.8: ENCLOSED, the referenced ROI encloses this one; ENCLOSING, the other way round."""
    *_, ds = written
    (relation,) = ds.RTROIObservationsSequence[1].RTRelatedROISequence
    assert (relation.ReferencedROINumber, relation.RTROIRelationship) == (1, "ENCLOSED")
    (back,) = ds.RTROIObservationsSequence[0].RTRelatedROISequence
    assert (back.ReferencedROINumber, back.RTROIRelationship) == (2, "ENCLOSING")


def test_provenance_is_in_words_and_whole(written):
    *_, ds = written
    assert private_provenance(ds) == PROVENANCE
    for word in ("Research use only", "tracer_ratio", "muscle", "> 1.2", "1.2.3.4", __version__):
        assert word in ds.StructureSetDescription
    assert "tracer_ratio" in ds.ContributingEquipmentSequence[0].ContributionDescription


def test_long_provenance_is_cut_in_words_and_kept_in_the_private_block(tmp_path):
    planning = make_ct(tmp_path / "ct")
    provenance = PROVENANCE | {"input_uids": {f"role {i}": f"1.2.840.{i}" * 4 for i in range(200)}}
    write_rtstruct(tmp_path / "rs.dcm", painted_structures(planning), planning, provenance, CREATED)
    ds = pydicom.dcmread(tmp_path / "rs.dcm")
    assert len(ds.StructureSetDescription) == 1024
    assert private_provenance(ds) == json.loads(json.dumps(provenance))


def test_a_surrogate_is_named_first():
    surrogate = PROVENANCE | {"surrogate": True, "quantity": "FDG surrogate of hypoxia [1]"}
    assert describe(surrogate).startswith("FDG surrogate, not measured hypoxia")
    assert title(surrogate, "xx " * 80) == "FDG surrogate, not measured hypoxia; " + " ".join(["xx"] * 9)
    other = surrogate | {"quantity": "model pO2 [mm[Hg]]"}
    assert title(other, "x") == "Surrogate, not measured hypoxia; x"
    assert "surrogate" not in describe(PROVENANCE)


@pytest.mark.parametrize("name", ["Жуков^Георгий", "山田^太郎", "Müller^Jürgen"])
@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", "ISO_IR 144"])
def test_names_of_any_script_survive(name, charset, tmp_path):
    try:
        name.encode({"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", "ISO_IR 144": "iso8859-5"}[charset])
    except UnicodeEncodeError:
        return  # such a CT cannot exist
    planning = make_ct(tmp_path / "ct", SpecificCharacterSet=charset, PatientName=name)
    write_rtstruct(tmp_path / "rs.dcm", painted_structures(planning), planning, PROVENANCE, CREATED)
    assert str(pydicom.dcmread(tmp_path / "rs.dcm").PatientName) == name


def test_missing_patient_attributes_become_empty(tmp_path):
    planning = make_ct(tmp_path / "ct")
    for header in planning.headers:
        for keyword in ("StudyID", "AccessionNumber", "PatientSex", "ReferringPhysicianName", "StudyTime"):
            del header[keyword]
    write_rtstruct(tmp_path / "rs.dcm", painted_structures(planning), planning, PROVENANCE, CREATED)
    ds = pydicom.dcmread(tmp_path / "rs.dcm")
    assert ds.StudyID == ds.PatientSex == ds.AccessionNumber == ""


def test_a_contour_longer_than_explicit_vr_can_hold(tmp_path):
    """A comb with ragged teeth has thousands of corners: over 65,534 bytes in one element."""
    image = sitk.GetImageFromArray(np.zeros((2, 90, 160), np.int16))
    planning = _series(tmp_path, image)
    mask = np.zeros((2, 90, 160), bool)
    mask[0, 0] = mask[0, :, ::4] = mask[0, 1::2, 1::4] = True
    structure = Structure(make_region(planning, "Comb", mask), "GTV", GTV_CODE, (1, 2, 3), "comb")
    write_rtstruct(tmp_path / "rs.dcm", [structure], planning, PROVENANCE, CREATED)
    ds = pydicom.dcmread(tmp_path / "rs.dcm")
    (contour,) = ds.ROIContourSequence[0].ContourSequence
    assert len(contour.get_item("ContourData").value) > 65534
    assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints
    assert max(len(str(v)) for v in contour.ContourData) <= 16


def _series(folder, image):
    from rt_samples import write_ct

    return write_ct(folder / "ct", image, "1.2.3.4.5")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_bad_structures_are_refused_and_nothing_is_written(tmp_path):
    planning = make_ct(tmp_path / "ct")
    gtv, hypoxic, *_ = painted_structures(planning)
    empty = Structure(
        make_region(planning, "Empty", np.zeros(planning.volume.array.shape)), "GTV", GTV_CODE, (1, 1, 1), ""
    )
    cases = [
        ([], RequestError, "no structure"),
        ([gtv, gtv], RequestError, "not unique"),
        ([hypoxic], RequestError, "enclosed by GTVp"),
        ([gtv, empty], LimitError, "Empty is empty"),
    ]
    for structures, error, text in cases:
        with pytest.raises(error, match=text):
            write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    assert not (tmp_path / "rs.dcm").exists()


def test_a_structure_off_the_planning_grid_is_refused(tmp_path):
    planning, other = make_ct(tmp_path / "a"), make_ct(tmp_path / "b", "oblique")
    with pytest.raises(GeometryError, match="GTVp"):
        write_rtstruct(tmp_path / "rs.dcm", painted_structures(other), planning, PROVENANCE, CREATED)
    region = painted_structures(planning)[0].region
    foreign = Region(region.name, region.mask, "1.2.3", "")
    with pytest.raises(GeometryError, match="frame of reference"):
        region_contours(foreign, planning)


def test_headers_that_contradict_the_volume_are_refused(tmp_path):
    """Slices in the wrong order, or one missing, must never shift contours."""
    planning = make_ct(tmp_path / "ct")
    region = painted_structures(planning)[0].region
    backwards = ImageSeries(planning.info, planning.volume, tuple(reversed(planning.headers)))
    with pytest.raises(GeometryError, match="slice 0"):
        region_contours(region, backwards)


def test_an_existing_file_is_never_overwritten(written, tmp_path):
    _, planning, structures, _ = written
    (tmp_path / "rs.dcm").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    assert (tmp_path / "rs.dcm").read_bytes() == b"mine"


def test_a_half_written_file_is_removed(written, tmp_path, monkeypatch):
    *_, ds = written
    from HypoxiaDosePaintLib.dicomrt import common

    def full(stream, dataset, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(common, "dcmwrite", full)
    with pytest.raises(OutputError, match="No space left"):
        save(ds, tmp_path / "rs.dcm")
    assert not (tmp_path / "rs.dcm").exists()


# --- other programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g != "sagittal"])  # plastimatch sorts slices by z alone
def test_plastimatch_reads_back_every_shape_exactly(geometry, require_tool, tmp_path):
    program = require_tool("plastimatch")
    planning = make_ct(tmp_path / "ct", geometry)
    structures = shape_structures(planning)
    write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    masks = plastimatch_masks(program, tmp_path / "rs.dcm", tmp_path / "ct", tmp_path)
    for structure in structures:
        assert dice(masks[structure.name], structure.region.array) == 1.0, structure.name


def test_xor_marks_only_what_has_holes(tmp_path):
    planning = make_ct(tmp_path / "ct")
    write_rtstruct(tmp_path / "rs.dcm", shape_structures(planning), planning, PROVENANCE, CREATED, "xor")
    ds = pydicom.dcmread(tmp_path / "rs.dcm")
    kinds = {
        roi.ROIName: {c.ContourGeometricType for c in contours.ContourSequence}
        for roi, contours in zip(ds.StructureSetROISequence, ds.ROIContourSequence, strict=True)
    }
    assert kinds["hollow"] == {"CLOSEDPLANAR_XOR"}
    assert kinds["ball"] == kinds["one_voxel"] == kinds["islands"] == {"CLOSED_PLANAR"}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_validators_find_no_error(geometry, require_tool, tmp_path):
    planning = make_ct(tmp_path / "ct", geometry)
    path = tmp_path / "rs.dcm"
    write_rtstruct(path, [*painted_structures(planning), *shape_structures(planning)], planning, PROVENANCE, CREATED)
    assert iod_errors(require_tool("dciodvfy"), path) == []
    assert output_of(require_tool("dcentvfy"), path, *planning.info.files).strip() == ""
    dump = output_of(require_tool("drtdump"), path)
    assert "RT Structure Set object" in dump
    assert not [line for line in dump.splitlines() if line.startswith(("E:", "W:", "F:"))]


# --- a real patient ---------------------------------------------------------------------------------------------------


def test_a_real_patient_comes_back_through_plastimatch(hypoxia_data, require_tool, tmp_path):
    """Soft-tissue sarcoma (IBSI validation set): NIfTI mask, our RTSTRUCT, plastimatch: Dice at least 0.99."""
    program = require_tool("plastimatch")
    folder = hypoxia_data("ibsi_sts_008/dicom/CT/image")
    planning = real_series(folder)
    mask = sitk.ReadImage(str(hypoxia_data("ibsi_sts_008/nifti/CT_mask.nii.gz")))
    array = (
        sitk.GetArrayFromImage(sitk.Resample(mask, planning.volume.image, interpolator=sitk.sitkNearestNeighbor)) > 0
    )
    structure = Structure(make_region(planning, "GTV", array), "GTV", GTV_CODE, (255, 0, 0), "GTV of the data set")
    path = tmp_path / "rs.dcm"
    write_rtstruct(path, [structure], planning, PROVENANCE, CREATED)
    read = plastimatch_masks(program, path, folder, tmp_path)["GTV"]
    assert array.sum() > 5_000
    assert dice(read, array) >= 0.99
    assert iod_errors(require_tool("dciodvfy"), path) == []  # though the study ID of this CT is too long for its VR
    assert "Error" not in output_of(require_tool("dcentvfy"), path, *planning.info.files)


def real_series(folder) -> ImageSeries:
    """A CT folder as a series, without the readers under test."""
    headers = [(pydicom.dcmread(p, stop_before_pixels=True), p) for p in sorted(folder.glob("*.dcm"))]
    headers.sort(key=lambda item: float(item[0].ImagePositionPatient[2]))
    image = sitk.ReadImage([str(p) for _, p in headers])
    first = headers[0][0]
    info = SeriesInfo(first.PatientID, str(first.PatientName), first.StudyInstanceUID, "", first.SeriesInstanceUID,
                      "CT", "", "planning_ct", "", first.FrameOfReferenceUID, tuple(p for _, p in headers))  # fmt: skip
    volume = Volume(image, "CT number", "[hnsf'U]", first.FrameOfReferenceUID)
    return ImageSeries(info, volume, tuple(h for h, _ in headers))


def test_four_targets_on_a_large_ct_are_written_quickly(tmp_path):
    """512 x 512 x 60, four targets: the bound is ten times what it takes, to hold on a busy machine too."""
    image = sitk.GetImageFromArray(np.zeros((60, 512, 512), np.int16))
    image.SetSpacing((0.9, 0.9, 2.0))
    planning = _series(tmp_path, image)
    z, y, x = np.ogrid[:60, :512, :512]
    structures = []
    for n in range(4):
        mask = ((z - 30) / 25) ** 2 + ((y - 200 - 20 * n) / 60) ** 2 + ((x - 256) / (50 + 10 * n)) ** 2 <= 1
        structures.append(Structure(make_region(planning, f"T{n}", mask), "PTV", GTV_CODE, (1, 2, 3), "target"))
    start = time.perf_counter()
    write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    assert time.perf_counter() - start < 5.0


def test_a_series_that_drifts_a_little_is_written_on_its_own_planes(tmp_path):
    """Positions that wobble as real ones do: every contour lies on the plane of its slice, and the proof agrees."""
    planning = make_ct(tmp_path / "ct")
    generator = np.random.default_rng(3)
    for header, path in zip(planning.headers, planning.info.files, strict=True):
        position = np.array(header.ImagePositionPatient, float) + generator.uniform(-0.02, 0.02, 3)
        header.ImagePositionPatient = [f"{v:.4f}" for v in position]
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient = header.ImagePositionPatient
        ds.save_as(path)
    structures = shape_structures(planning)
    write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    rows = verify_rtstruct(tmp_path / "rs.dcm", {s.name: s.region for s in structures}, planning.info.files)
    assert [r.reason for r in rows if not r.passed] == []
    assert all(r.dice == 1.0 for r in rows[1:])
