"""Choosing ROIs and saying what was not exact: names used twice, notes of the reader, days between the images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from HypoxiaDosePaintLib.request import Request, Sphere
from HypoxiaDosePaintLib.selection import day_warnings, find_roi, gather, unused_reference
from HypoxiaMapperLib.dicomio.model import ScanResult, SeriesInfo
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods import all_methods, no_progress


def structure_set(*names: str, uid: str = "1.2.3", description: str = "RS") -> SeriesInfo:
    return SeriesInfo("P1", "", "1", "", uid, "RTSTRUCT", description, "rtstruct", "", "1.9", (Path("rs.dcm"),),
                      roi_names=names)  # fmt: skip


def scan_of(*series: SeriesInfo) -> ScanResult:
    return ScanResult(Path("."), series, ())


def test_name_used_twice_is_refused_and_can_be_named_by_its_number():
    scan = scan_of(structure_set("GTVp #1", "Cord", "GTVp #7"))
    with pytest.raises(RequestError, match=r"2 ROIs of RS are called 'GTVp'.*'GTVp #1', 'GTVp #7'"):
        find_roi("GTVp", scan, "")
    assert find_roi("GTVp #7", scan, "").series_uid == "1.2.3"
    assert find_roi("Cord", scan, "").series_uid == "1.2.3"


def test_name_used_twice_in_one_set_and_once_in_another_is_ambiguous():
    scan = scan_of(structure_set("GTVp #1", "GTVp #7"), structure_set("GTVp", uid="1.2.4", description="Other"))
    with pytest.raises(RequestError, match="in 2 structure sets"):
        find_roi("GTVp", scan, "")
    assert find_roi("GTVp", scan, "Other").series_uid == "1.2.4"


def test_a_number_that_belongs_to_the_name_is_no_second_roi():
    with pytest.raises(RequestError, match="in no structure set"):
        find_roi("GTVp", scan_of(structure_set("GTVp #2")), "")


@pytest.fixture
def patient(digital_patient, tmp_path) -> Path:
    """A copy of CT, FMISO PET and structure set that a test may spoil."""
    for part in ("CT", "PET_FMISO", "RTSTRUCT"):
        shutil.copytree(digital_patient.folder / part, tmp_path / part)
    return tmp_path


def edit_contours(folder: Path, name: str, change) -> None:
    """Replace the contours of one ROI by what ``change`` makes of them."""
    (path,) = (folder / "RTSTRUCT").glob("*.dcm")
    ds = pydicom.dcmread(path)
    number = next(r.ROINumber for r in ds.StructureSetROISequence if r.ROIName == name)
    item = next(c for c in ds.ROIContourSequence if c.ReferencedROINumber == number)
    item.ContourSequence = change(sorted(item.ContourSequence, key=lambda c: float(c.ContourData[2])))
    ds.save_as(path)


def warnings_of(folder: Path) -> str:
    request = Request(
        folder=str(folder), output="unused", method="tracer_ratio", protocol="welz_77_70_35", gtv_rois=("GTVp",),
        reference_roi="Ref_Blood",
    )  # fmt: skip
    return "\n".join(gather(request, all_methods()["tracer_ratio"], no_progress).warnings)


def test_what_the_reader_could_not_do_exactly_reaches_the_run(patient):
    assert "GTVp" not in warnings_of(patient)

    def spoil(contours):
        middle = len(contours) // 2
        z = float(contours[middle].ContourData[2])
        for contour in contours[:2]:
            data = [float(v) for v in contour.ContourData]
            data[2::3] = [v + 0.5 for v in data[2::3]]
            contour.ContourData = [f"{v:.3f}" for v in data]
        return [c for c in contours if float(c.ContourData[2]) != z]

    edit_contours(patient, "GTVp", spoil)
    found = warnings_of(patient)
    assert "GTVp: 2 contours lie between slice planes, moved by up to 0.50 mm." in found
    assert "GTVp: no contour on 1 slice(s) between contours that lie over each other" in found


def test_every_second_contour_lost_is_refused(patient):
    edit_contours(patient, "GTVp", lambda contours: contours[::2])
    with pytest.raises(InputError, match=r"'GTVp' has contours on .* exported incompletely"):
        warnings_of(patient)


@pytest.mark.parametrize(
    ("planning", "pet", "words"),
    [
        ("20260104", "20260104", ()),
        ("2026.01.04", "20260104", ()),
        ("20260104", "2026.01.06", ("2 days after",)),
        ("20260301", "20260228", ("1 day before",)),
        ("", "20260104", ("unknown",)),
        ("20260104", "20261304", ("unknown", "20261304")),
        ("20260104", "January", ("unknown", "January")),
    ],
)
def test_days_between_planning_ct_and_pet(planning, pet, words):
    def series(modality, date):
        return SeriesInfo("P1", "", "1", date, "1.2", modality, "", "", "", "1.9", ())

    notes = day_warnings(series("CT", planning), series("PT", pet))
    assert len(notes) == bool(words)
    for word in words:
        assert word in notes[0]


def test_a_reference_that_the_method_does_not_use_is_told(digital_patient):
    request = Request(
        str(digital_patient.folder), "out", "fdg_surrogate", "welz_77_70_35", gtv_rois=("GTVp",),
        reference_roi="Ref_Blood",
    )  # fmt: skip
    text = "Method fdg_surrogate uses no reference region: Ref_Blood was given for one and changes nothing in the map."
    assert text in gather(request, all_methods()["fdg_surrogate"], no_progress).warnings
    assert unused_reference(request, all_methods()["tracer_ratio"]) == ()
    assert unused_reference(replace(request, reference_roi=""), all_methods()["fdg_surrogate"]) == ()
    sphere = replace(request, reference_roi="", reference_sphere=Sphere((0.0, 0.0, 0.0), 6.0))
    assert "the reference sphere was given" in unused_reference(sphere, all_methods()["fdg_surrogate"])[0]
