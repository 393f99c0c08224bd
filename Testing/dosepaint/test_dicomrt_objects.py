"""Plan, dose, segmentation and maps: right for the standard's validators and for readers of other projects."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib.dicomrt.common import private_provenance
from HypoxiaDosePaintLib.dicomrt.parametric_map import quantity_code, unit_code, write_parametric_map
from HypoxiaDosePaintLib.dicomrt.rtdose import GRID_SCALING_GY, write_rtdose
from HypoxiaDosePaintLib.dicomrt.rtplan import write_rtplan
from HypoxiaDosePaintLib.dicomrt.rtstruct import write_rtstruct
from HypoxiaDosePaintLib.dicomrt.seg import write_seg
from HypoxiaDosePaintLib.prescription import make_prescription
from HypoxiaMapperLib.errors import GeometryError, LimitError, OutputError, RequestError
from HypoxiaMapperLib.volume import Volume, image_like
from rt_samples import (
    CREATED,
    GEOMETRIES,
    PROVENANCE,
    iod_errors,
    make_ct,
    output_of,
    painted_structures,
    scripts_tool,
    shape_structures,
)

PRESCRIPTION = make_prescription("welz77", 70.0, 77.0, 35)
BOX = (slice(2, 9), slice(5, 35), slice(4, 33))
NAMES = ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "MAP")


def ratio_map(planning):
    """A map with noise inside a box, undefined (NaN) in one corner of it."""
    values = np.random.default_rng(0).random(planning.volume.array.shape).astype(np.float32) + 0.5
    values[:4, :10, :10] = np.nan
    return Volume(image_like(values, planning.volume.image), "FMISO uptake ratio to blood", "{ratio}")


def dose_map(planning, structures):
    dose = np.full(planning.volume.array.shape, np.nan, np.float32)
    dose[structures[3].region.array] = 70.0
    dose[structures[2].region.array] = 72.13
    return Volume(image_like(dose, planning.volume.image), "Prescribed dose", "Gy")


@pytest.fixture(scope="module", params=list(GEOMETRIES))
def written(request, tmp_path_factory):
    """Every kind of object on one geometry."""
    folder = tmp_path_factory.mktemp(request.param)
    planning = make_ct(folder / "ct", request.param)
    structures = painted_structures(planning)
    uid = write_rtstruct(folder / "RTSTRUCT.dcm", structures, planning, PROVENANCE, CREATED)
    plan = write_rtplan(folder / "RTPLAN.dcm", structures, PRESCRIPTION, uid, planning, PROVENANCE, CREATED)
    write_rtdose(folder / "RTDOSE.dcm", dose_map(planning, structures), plan, planning, PROVENANCE, CREATED)
    write_seg(folder / "SEG.dcm", structures, planning, PROVENANCE, CREATED)
    ratio = ratio_map(planning)
    write_parametric_map(
        folder / "MAP.dcm", ratio, planning, BOX, "Hypoxia map", quantity_code(ratio.quantity), unit_code("{ratio}"),
        PROVENANCE, CREATED,
    )  # fmt: skip
    return folder, planning, structures


# --- validators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_no_validator_finds_an_error(written, name, require_tool):
    folder, planning, _ = written
    path = folder / f"{name}.dcm"
    assert iod_errors(require_tool("dciodvfy"), path) == []
    assert output_of(require_tool("dcentvfy"), path, *planning.info.files).strip() == ""


def test_the_whole_set_is_one_patient_and_study(written, require_tool):
    folder, planning, _ = written
    paths = [folder / f"{n}.dcm" for n in NAMES]
    assert output_of(require_tool("dcentvfy"), *paths, *planning.info.files).strip() == ""


@pytest.mark.parametrize("name", ["RTPLAN", "RTDOSE"])
def test_drtdump_reads_plan_and_dose(written, name, require_tool):
    dump = output_of(require_tool("drtdump"), written[0] / f"{name}.dcm")
    assert f"{ {'RTPLAN': 'RT Plan', 'RTDOSE': 'RT Dose'}[name] } object" in dump
    assert not [line for line in dump.splitlines() if line.startswith(("E:", "W:", "F:"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_object_has_its_own_series_and_whole_provenance(written, name):
    folder, planning, _ = written
    objects = {n: pydicom.dcmread(folder / f"{n}.dcm") for n in NAMES}
    ds = objects[name]
    assert private_provenance(ds) == PROVENANCE
    assert "tracer_ratio" in ds.ContributingEquipmentSequence[-1].ContributionDescription
    assert (ds.InstanceCreationDate, ds.InstanceCreationTime) == ("20260304", "050607")
    assert len({o.SeriesInstanceUID for o in objects.values()}) == len(NAMES)
    assert len({o.SeriesDescription for o in objects.values()}) == len(NAMES)  # an archive lists nothing else
    assert ds.SeriesDescription.endswith("Research use only") or name == "RTDOSE"
    assert len({o.SOPInstanceUID for o in objects.values()}) == len(NAMES)
    assert ds.FrameOfReferenceUID == planning.info.frame_of_reference_uid
    assert str(ds.PatientName) == "Muster^Anna"
    assert ds.get("ContentQualification", "RESEARCH") == "RESEARCH"


# --- plan -------------------------------------------------------------------------------------------------------------


def test_the_plan_carries_the_prescription_and_no_beam(written):
    folder, *_ = written
    ds = pydicom.dcmread(folder / "RTPLAN.dcm")
    structure_set = pydicom.dcmread(folder / "RTSTRUCT.dcm")
    names = {r.ROINumber: r.ROIName for r in structure_set.StructureSetROISequence}
    found = {names[d.ReferencedROINumber]: d for d in ds.DoseReferenceSequence}
    assert {n: float(d.TargetPrescriptionDose) for n, d in found.items()} == {"PTV_7700": 77.0, "PTV_7000": 70.0}
    for d in found.values():
        assert (d.DoseReferenceStructureType, d.DoseReferenceType) == ("VOLUME", "TARGET")
    (group,) = ds.FractionGroupSequence
    assert (group.NumberOfFractionsPlanned, group.NumberOfBeams, group.NumberOfBrachyApplicationSetups) == (35, 0, 0)
    assert "BeamSequence" not in ds
    assert (ds.PlanIntent, ds.ApprovalStatus, ds.RTPlanGeometry) == ("RESEARCH", "UNAPPROVED", "PATIENT")
    assert ds.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structure_set.SOPInstanceUID
    assert "research use only" in ds.RTPlanDescription.lower()
    assert "total physical dose in 35 fractions" in ds.PrescriptionDescription


def test_an_override_is_written_into_the_plan(tmp_path):
    planning = make_ct(tmp_path / "ct")
    structures = painted_structures(planning)
    prescription = make_prescription("own", 70, 90, 35, "Dr B: trial 7")
    write_rtplan(tmp_path / "rp.dcm", structures, prescription, "1.2", planning, PROVENANCE, CREATED)
    assert "Ceiling overridden by Dr B: trial 7" in pydicom.dcmread(tmp_path / "rp.dcm").PrescriptionDescription


def test_a_plan_without_targets_or_with_other_fractions_is_refused(tmp_path):
    planning = make_ct(tmp_path / "ct")
    structures = painted_structures(planning)
    with pytest.raises(RequestError, match="No structure carries a dose"):
        write_rtplan(tmp_path / "rp.dcm", structures[:2], PRESCRIPTION, "1.2", planning, PROVENANCE, CREATED)
    other = make_prescription("own", 60, 66, 30)
    with pytest.raises(RequestError, match="35 fractions, the prescription 30"):
        write_rtplan(tmp_path / "rp.dcm", structures, other, "1.2", planning, PROVENANCE, CREATED)
    assert not (tmp_path / "rp.dcm").exists()


# --- dose -------------------------------------------------------------------------------------------------------------


def test_the_dose_resolves_a_hundredth_of_a_gray(written):
    folder, planning, structures = written
    ds = pydicom.dcmread(folder / "RTDOSE.dcm")
    assert (ds.DoseUnits, ds.DoseType, ds.DoseSummationType) == ("GY", "PHYSICAL", "PLAN")
    assert ds.DoseComment == "PRESCRIPTION, NOT CALCULATED"
    assert ds.BitsAllocated == 16
    dose = ds.pixel_array * float(ds.DoseGridScaling)
    wanted = np.nan_to_num(dose_map(planning, structures).array)
    assert np.abs(dose - wanted).max() <= GRID_SCALING_GY / 2 + 1e-5
    assert float(ds.DoseGridScaling) <= 0.01
    positions = np.array([h.ImagePositionPatient for h in planning.headers], float)
    assert np.linalg.norm(positions - positions[0], axis=1) == pytest.approx(
        np.array(ds.GridFrameOffsetVector, float), abs=2e-3
    )


def test_plastimatch_reads_the_dose(require_tool, tmp_path):
    program = require_tool("plastimatch")
    planning = make_ct(tmp_path / "ct")
    structures = painted_structures(planning)
    dose = dose_map(planning, structures)
    write_rtdose(tmp_path / "rd.dcm", dose, "1.2", planning, PROVENANCE, CREATED)
    output_of(program, "convert", "--input-dose-img", tmp_path / "rd.dcm", "--output-dose-img", tmp_path / "rd.nrrd")
    image = sitk.ReadImage(str(tmp_path / "rd.nrrd"))
    assert np.abs(sitk.GetArrayFromImage(image) - np.nan_to_num(dose.array)).max() < 0.01
    assert image.GetOrigin() == pytest.approx(planning.volume.image.GetOrigin(), abs=1e-3)
    assert image.GetSpacing() == pytest.approx(planning.volume.image.GetSpacing(), abs=1e-3)


def test_doses_that_cannot_be_are_refused(tmp_path):
    planning = make_ct(tmp_path / "ct")

    def volume(value, unit="Gy"):
        return Volume(
            image_like(np.full(planning.volume.array.shape, value, np.float32), planning.volume.image), "d", unit
        )

    path = tmp_path / "rd.dcm"
    for dose, error, text in (
        (volume(70, "cGy"), RequestError, "cGy"),
        (volume(-1), RequestError, "-1 Gy"),
        (volume(7000), LimitError, "7000 Gy"),
    ):
        with pytest.raises(error, match=text):
            write_rtdose(path, dose, "1.2", planning, PROVENANCE, CREATED)
    assert not path.exists()


# --- segmentation -----------------------------------------------------------------------------------------------------


def test_highdicom_reads_the_segmentation(written):
    seg = pytest.importorskip("highdicom.seg")
    folder, planning, structures = written
    read = seg.segread(folder / "SEG.dcm")
    uids = [h.SOPInstanceUID for h in planning.headers]
    pixels = read.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=False, assert_missing_frames_are_empty=True
    )
    for n, structure in enumerate(structures):
        assert np.array_equal(pixels[..., n].astype(bool), structure.region.array), structure.name
        description = read.get_segment_description(n + 1)
        assert description.segment_label == structure.name
        assert description.segmented_property_type.value == structure.code.value
    assert read.SegmentationType == "BINARY"


def test_dcmqi_reads_the_segmentation(written):
    program = scripts_tool("segimage2itkimage")
    folder, planning, structures = written
    out = folder / "dcmqi"
    out.mkdir()
    output_of(program, "--inputDICOM", folder / "SEG.dcm", "--outputDirectory", out, "--outputType", "nrrd")
    for n, structure in enumerate(structures, start=1):
        image = sitk.ReadImage(str(out / f"{n}.nrrd"))
        on_ct = sitk.Resample(image, planning.volume.image, interpolator=sitk.sitkNearestNeighbor)
        assert np.array_equal(sitk.GetArrayFromImage(on_ct) > 0, structure.region.array), structure.name


def test_hard_shapes_survive_the_segmentation(tmp_path):
    planning = make_ct(tmp_path / "ct", "oblique")
    structures = shape_structures(planning)
    write_seg(tmp_path / "seg.dcm", structures, planning, PROVENANCE, CREATED)
    seg = pytest.importorskip("highdicom.seg")
    read = seg.segread(tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_instance([h.SOPInstanceUID for h in planning.headers])
    for n, structure in enumerate(structures):
        assert np.array_equal(pixels[..., n].astype(bool), structure.region.array), structure.name


def heights(ds, planning):
    """Position of every frame along the slice normal of the planning CT, mm."""
    normal = np.array(planning.volume.image.GetDirection()).reshape(3, 3)[:, 2]
    return [
        np.dot(g.PlanePositionSequence[0].ImagePositionPatient, normal) for g in ds.PerFrameFunctionalGroupsSequence
    ]


# --- parametric map ---------------------------------------------------------------------------------------------------


def test_pydicom_reads_the_map(written):
    folder, planning, _ = written
    ds = pydicom.dcmread(folder / "MAP.dcm")
    (mapping,) = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "{ratio}"
    assert mapping.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"
    concept = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (concept.CodeValue, concept.CodingSchemeDesignator) == ("126039", "DCM")
    values = ds.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    values = values[np.argsort(heights(ds, planning))]
    wanted = ratio_map(planning).array[BOX]
    assert np.isnan(wanted).any()
    assert np.array_equal(values.astype(np.float32), wanted, equal_nan=True)
    assert (mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped) == (
        np.nanmin(wanted),
        np.nanmax(wanted),
    )
    assert np.isnan(ds.FloatPixelPaddingValue)
    assert "NaN" in ds.ImageComments


def test_highdicom_reads_the_map_in_place(written):
    hd = pytest.importorskip("highdicom")
    folder, planning, _ = written
    volume = hd.imread(folder / "MAP.dcm").get_volume(apply_real_world_transform=True)
    part = planning.volume.image[4:33, 5:35, 2:9]
    wanted = sitk.GetImageFromArray(ratio_map(planning).array[BOX])
    wanted.CopyInformation(part)
    for index in ((6, 20, 20), (0, 29, 28), (5, 12, 3)):
        x, y, z = wanted.TransformIndexToPhysicalPoint(tuple(reversed(index)))
        found = np.round(volume.map_reference_to_indices(np.array([[x, y, z]]))[0]).astype(int)
        assert volume.array[tuple(found)] == pytest.approx(wanted[tuple(reversed(index))], rel=1e-6)


def test_dcmqi_reads_the_map(written):
    program = scripts_tool("paramap2itkimage")
    folder, planning, _ = written
    out = folder / "dcmqi_map"
    out.mkdir()
    output_of(program, "--inputDICOM", folder / "MAP.dcm", "--outputDirectory", out, "--outputType", "nrrd")
    (path,) = out.glob("*.nrrd")
    image = sitk.ReadImage(str(path))
    wanted = ratio_map(planning).array[BOX]
    assert np.array_equal(np.sort(sitk.GetArrayFromImage(image).ravel()), np.sort(wanted.ravel()), equal_nan=True)


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        ("HX4 uptake ratio to muscle", ("126039", "DCM")),
        ("ADC", ("113041", "DCM")),
        ("Ktrans", ("126312", "DCM")),
        ("SUVbw", ("126401", "DCM")),
        ("FDG surrogate: FDG scaled to FMISO ratio", ("FDG_SURROGA_11D8", "99HYPOX")),
        ("FDG surrogate: uptake ratio to blood", ("FDG_SURROGA_CFE7", "99HYPOX")),
        ("model pO2", ("MODEL_PO2", "99HYPOX")),
    ],
)
def test_quantities_have_codes(quantity, code):
    found = quantity_code(quantity)
    assert (found.value, found.scheme) == code
    assert len(found.value) <= 16


def test_a_constant_map_and_a_whole_map_can_be_written(tmp_path, require_tool):
    planning = make_ct(tmp_path / "ct")
    image = image_like(np.full(planning.volume.array.shape, 70.0, np.float32), planning.volume.image)
    volume = Volume(image, "Prescribed dose", "Gy")
    path = tmp_path / "pm.dcm"
    write_parametric_map(
        path, volume, planning, None, "Dose", quantity_code("Prescribed dose"), unit_code("Gy"), PROVENANCE, CREATED
    )
    assert pydicom.dcmread(path).pixel_array.shape == planning.volume.array.shape
    assert iod_errors(require_tool("dciodvfy"), path) == []


def test_an_undefined_map_and_a_foreign_grid_are_refused(tmp_path):
    planning, other = make_ct(tmp_path / "a"), make_ct(tmp_path / "b", "oblique")
    nothing = Volume(image_like(np.full((12, 40, 44), np.nan, np.float32), planning.volume.image), "q", "1")
    codes = (quantity_code("q"), unit_code("1"))
    with pytest.raises(LimitError, match="no defined voxel"):
        write_parametric_map(tmp_path / "pm.dcm", nothing, planning, None, "m", *codes, PROVENANCE, CREATED)
    with pytest.raises(GeometryError, match="grids differ"):
        write_parametric_map(tmp_path / "pm.dcm", ratio_map(other), planning, None, "m", *codes, PROVENANCE, CREATED)
    assert not (tmp_path / "pm.dcm").exists()


@pytest.mark.parametrize("name", NAMES)
def test_no_writer_overwrites(written, name):
    folder, planning, structures = written
    before = (folder / f"{name}.dcm").read_bytes()
    ratio = ratio_map(planning)
    arguments = {
        "RTSTRUCT": (write_rtstruct, structures, planning),
        "RTPLAN": (write_rtplan, structures, PRESCRIPTION, "1.2", planning),
        "RTDOSE": (write_rtdose, dose_map(planning, structures), "1.2", planning),
        "SEG": (write_seg, structures, planning),
        "MAP": (write_parametric_map, ratio, planning, BOX, "m", quantity_code("q"), unit_code("1")),
    }
    write, *rest = arguments[name]
    with pytest.raises(OutputError, match="exists already"):
        write(folder / f"{name}.dcm", *rest, PROVENANCE, CREATED)
    assert (folder / f"{name}.dcm").read_bytes() == before
