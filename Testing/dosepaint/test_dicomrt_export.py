"""Export of a whole set: all or nothing, never over anything, named for what it is."""

import warnings
from dataclasses import replace

import pydicom
import pytest

from HypoxiaDosePaintLib.dicomrt import export, rtstruct
from HypoxiaDosePaintLib.dicomrt.common import private_provenance
from HypoxiaDosePaintLib.dicomrt.export import export_set, without_folders
from HypoxiaDosePaintLib.dicomrt.rtstruct import write_rtstruct
from HypoxiaMapperLib.errors import InputError, MissingPackageError, OutputError, ProofError, RequestError
from rt_samples import CREATED, PROVENANCE, iod_errors, make_ct, make_run, painted_structures, write_ct


def test_nothing_is_exported_without_acceptance(tmp_path):
    result, planning = make_run(tmp_path)
    with pytest.raises(RequestError, match="accepted"):
        export_set(replace(result, accepted_by=" "), planning, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path):
    result, planning = make_run(tmp_path)
    (tmp_path / "out" / "dicom").mkdir(parents=True)
    (tmp_path / "out" / "dicom" / "keep").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        export_set(result, planning, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out" / "dicom").iterdir()] == ["keep"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["dicom"]


def test_a_failed_proof_delivers_nothing(tmp_path, monkeypatch):
    """A writer that loses a slice of every structure is found out."""
    result, planning = make_run(tmp_path)
    whole = rtstruct.region_contours
    monkeypatch.setattr(rtstruct, "region_contours", lambda *a: whole(*a)[1:])
    with pytest.raises(ProofError, match=r"GTVp_Hyp: .*Dice"):
        export_set(result, planning, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(tmp_path):
    """The operating system refuses to let files grow, as a full disk does."""
    resource = pytest.importorskip("resource")
    result, planning = make_run(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            export_set(result, planning, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out").exists()


def test_an_old_pydicom_says_what_to_do(tmp_path, monkeypatch):
    """In Slicer 5.10 until pydicom 3 was installed and Slicer restarted."""
    result, planning = make_run(tmp_path)
    monkeypatch.setattr(export, "PYDICOM_2", True)
    with pytest.raises(MissingPackageError) as error:
        export_set(result, planning, tmp_path / "out")
    assert "restart Slicer" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_the_dose_is_said_however_many_organs_a_target_avoids(tmp_path):
    """A head and neck has more organs than a description holds; a segment's name in Slicer may hold a backslash."""
    result, planning = make_run(tmp_path)
    text = "GTV + 5 mm, kept 3 mm from " + ", ".join(f"L\\R Organ_{n:03d}" for n in range(100))
    structures = tuple(replace(s, description=text) for s in result.images.structures)
    export_set(replace(result, images=replace(result.images, structures=structures)), planning, tmp_path / "out")
    items = pydicom.dcmread(tmp_path / "out" / "dicom" / "RTSTRUCT.dcm").StructureSetROISequence
    said = [item.ROIDescription for item in items]
    assert [sum(f"Prescribed {dose} Gy in 35" in t for t in said) for dose in (70, 77)] == [1, 1]
    assert all("kept 3 mm from" in t and len(t) <= 1024 for t in said)
    assert {item["ROIGenerationDescription"].VM for item in items} == {1}


@pytest.mark.parametrize("value", [None, "absent"])
def test_a_ct_that_does_not_say_its_slice_thickness(tmp_path, value):
    result, planning = make_run(tmp_path)
    for header, path in zip(planning.headers, planning.info.files, strict=True):
        ds = pydicom.dcmread(path)
        for dataset in (header, ds):
            dataset.SliceThickness = None
            if value == "absent":
                del dataset.SliceThickness
        ds.save_as(path)
    export_set(result, planning, tmp_path / "out")
    groups = pydicom.dcmread(tmp_path / "out" / "dicom" / "SEG.dcm").SharedFunctionalGroupsSequence[0]
    assert groups.PixelMeasuresSequence[0].SliceThickness == planning.volume.image.GetSpacing()[2]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_ct_that_nothing_can_refer_to_is_refused(tmp_path, keyword, value):
    result, planning = make_run(tmp_path)
    for header in planning.headers:
        setattr(header, keyword, value)
    with pytest.raises(InputError, match=f"has no {keyword}"):
        export_set(result, planning, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_said(tmp_path):
    result, planning = make_run(tmp_path)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        export_set(result, planning, tmp_path / "file" / "out")


def test_a_cancelled_export_leaves_nothing(tmp_path):
    result, planning = make_run(tmp_path)

    def cancel(fraction, text):
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_set(result, planning, tmp_path / "out", cancel)
    assert not (tmp_path / "out").exists()


def test_a_surrogate_says_so_in_every_object(tmp_path):
    result, planning = make_run(tmp_path, surrogate=True)
    export_set(result, planning, tmp_path / "out")
    for path in (tmp_path / "out" / "dicom").iterdir():
        ds = pydicom.dcmread(path)
        assert ds.SeriesDescription.startswith("FDG surrogate, not measured hypoxia"), path.name
    ds = pydicom.dcmread(tmp_path / "out" / "dicom" / "RTSTRUCT.dcm")
    assert ds.StructureSetName.startswith("FDG surrogate")
    assert ds.StructureSetDescription.startswith("FDG surrogate")
    assert all(r.ROIDescription.startswith("FDG surrogate") for r in ds.StructureSetROISequence)


def test_no_object_of_a_surrogate_is_labelled_hypoxia(tmp_path):
    result, planning = make_run(tmp_path, surrogate=True)
    export_set(result, planning, tmp_path / "out")
    objects = {p.stem: pydicom.dcmread(p) for p in (tmp_path / "out" / "dicom").iterdir()}
    for name, ds in objects.items():
        found = [str(e) for e in ds.iterall() if e.VR != "SQ" and "hypoxic" in str(e.value).lower()]
        assert not found, name
    assert {objects[n].ContentLabel for n in ("SEG", "MAP", "PRESCRIPTION")} == {"FDG_SURROGATE"}
    assert {objects["RTSTRUCT"].StructureSetLabel, objects["RTPLAN"].RTPlanLabel} == {"FDG_SURROGATE"}
    mapping = objects["MAP"].SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTLabel == "Surrogate map"
    assert mapping.LUTExplanation.startswith("Surrogate map: ")
    assert "Hypoxia map" not in objects["MAP"].ImageComments


def test_what_the_ct_header_holds_is_no_warning_of_the_export(tmp_path, recwarn):
    """A name of one component and a study ID of 18 characters, as the real patient of the tests has them."""
    result, _ = make_run(tmp_path)
    image, frame = result.images.planning.image, result.images.planning.frame_of_reference_uid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of making such a CT
        planning = write_ct(tmp_path / "odd", image, frame, PatientName="STS_008", StudyID="18 characters long")
    export_set(result, planning, tmp_path / "out")
    # Python 3.13 also tells of highdicom's in-memory databases, when it happens to collect them here.
    assert [str(w.message) for w in recwarn if not issubclass(w.category, ResourceWarning)] == []
    seg = pydicom.dcmread(tmp_path / "out" / "dicom" / "SEG.dcm")
    assert (str(seg.PatientName), seg.StudyID) == ("STS_008", "")


def test_the_order_of_structures_binds_doses(tmp_path):
    """ROI numbers of the plan are those of the structure set, whatever the order."""
    planning = make_ct(tmp_path / "ct")
    structures = list(reversed(painted_structures(planning)))
    write_rtstruct(tmp_path / "rs.dcm", structures, planning, PROVENANCE, CREATED)
    ds = pydicom.dcmread(tmp_path / "rs.dcm")
    assert [r.ROIName for r in ds.StructureSetROISequence] == ["PTV_7000", "PTV_7700", "GTVp_Hyp", "GTVp"]


def test_the_request_travels_with_the_set_but_for_its_folders(tmp_path):
    result, planning = make_run(tmp_path, write_rtdose=False)
    delivered = export_set(result, planning, tmp_path / "out")
    assert "dicom/RTDOSE.dcm" not in delivered.files
    for name in delivered.files:
        provenance = private_provenance(pydicom.dcmread(tmp_path / "out" / name))
        assert provenance["request"]["protocol"] == "welz77", name
        assert provenance["request"]["subvolume"]["threshold"] == 1.4
        assert not {"folder", "output"} & set(provenance["request"])
        assert provenance["input_uids"]["planning CT"] == "1.2.3.10"


def test_files_travel_without_their_folders(tmp_path, monkeypatch):
    (tmp_path / "Mustermann").mkdir()
    (tmp_path / "Mustermann" / "aif.csv").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    told = {
        "registration": {"path": "/home/Mustermann/reg.tfm"}, "windows": r"C:\Mustermann\reg.tfm",
        "inputs": {"pet": f"{tmp_path}/Mustermann/a.nii;/x/Mustermann/b.nii", "dce": "1.2.3"},
        "relative": "Mustermann/aif.csv", "description": "T1 tra/cor 3 mm", "number": 2.5, "names": ("GTVp/old",),
        "r2star_unit": "/s", "ktrans_unit": "/min",
    }  # fmt: skip
    assert without_folders(told) == {
        "registration": {"path": "reg.tfm"}, "windows": "reg.tfm", "inputs": {"pet": "a.nii;b.nii", "dce": "1.2.3"},
        "relative": "aif.csv", "description": "T1 tra/cor 3 mm", "number": 2.5, "names": ["GTVp/old"],
        "r2star_unit": "/s", "ktrans_unit": "/min",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Dr Müller^Anna", 64 * "u", 'q"<b>&'])
def test_any_name_that_may_accept_makes_valid_objects(tmp_path, name, require_tool):
    result, planning = make_run(tmp_path)
    request = replace(result.request, accepted_by=name, override=f"dose {name}: trial arm")
    prescription = replace(result.prescription, override=request.override_for("dose"))
    result = replace(result, request=request, prescription=prescription, accepted_by=name)
    export_set(result, planning, tmp_path / "out")
    for path in (tmp_path / "out" / "dicom").iterdir():
        assert iod_errors(require_tool("dciodvfy"), path) == [], path.name
    seg = pydicom.dcmread(tmp_path / "out" / "dicom" / "SEG.dcm")
    assert str(seg.ContentCreatorName).rstrip("^") == name
