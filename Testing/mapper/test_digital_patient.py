"""The digital patient: same seed, same bytes; valid DICOM; contours exact; images that agree with the stated truth."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from scipy import ndimage

from HypoxiaMapperLib.errors import OutputError, RequestError
from HypoxiaMapperLib.simulate import digital_patient as module
from HypoxiaMapperLib.simulate.digital_patient import DigitalPatient, make_patient
from HypoxiaMapperLib.simulate.structure_set import trace_pixel_edges

SEED = 7


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> DigitalPatient:
    """A digital patient of this file alone."""
    return make_patient(tmp_path_factory.mktemp("digital") / "dicom", seed=SEED)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def read_series(folder: Path) -> sitk.Image:
    """An image series read by GDCM: code that shares nothing with the writer."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.Cast(reader.Execute(), sitk.sitkFloat32)


def on_ct(patient: DigitalPatient, series: str) -> np.ndarray:
    """A series sampled linearly on the CT grid."""
    grid = patient.truth_ratio.image
    image = sitk.Resample(read_series(patient.folder / series), grid, sitk.Transform(3, sitk.sitkIdentity))
    return sitk.GetArrayFromImage(image)


def fill(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Even-odd filling at pixel centres: a pixel is inside if a ray to the left crosses an odd number of edges."""
    rows, columns = np.indices(shape)
    crossings = np.zeros(shape, dtype=int)
    for outline in outlines:
        for (c0, r0), (c1, r1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            between = (np.minimum(r0, r1) <= rows) & (rows < np.maximum(r0, r1))
            if r0 != r1:
                crossings += between & (c0 + (rows - r0) / (r1 - r0) * (c1 - c0) < columns)
    return crossings % 2 == 1


def test_same_seed_gives_the_same_bytes(patient: DigitalPatient, tmp_path: Path) -> None:
    again = make_patient(tmp_path / "again", seed=SEED)
    assert digests(again.folder) == digests(patient.folder)
    assert again.truth() == patient.truth()
    assert np.array_equal(again.blurred_ratio.array, patient.blurred_ratio.array)


def test_another_seed_is_another_patient(patient: DigitalPatient, tmp_path: Path) -> None:
    other = make_patient(tmp_path / "other", seed=SEED + 1)
    ours, theirs = digests(patient.folder), digests(other.folder)
    assert ours.keys() == theirs.keys()
    assert not set(ours.values()) & set(theirs.values())
    mine, yours = (dcmread(p.folder / "CT" / "001.dcm") for p in (patient, other))
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert mine[keyword].value != yours[keyword].value


def test_objects_belong_together(patient: DigitalPatient) -> None:
    headers = [dcmread(f, stop_before_pixels=True) for f in sorted(patient.folder.rglob("*.dcm"))]
    assert {str(h.PatientName) for h in headers} == {"DIGITAL^PATIENT"}
    assert {h.PatientID for h in headers} == {f"DIGITAL-{SEED}"}
    assert {h.FrameOfReferenceUID for h in headers} == {patient.truth_ratio.frame_of_reference_uid}
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert all(h.SOPInstanceUID == h.file_meta.MediaStorageSOPInstanceUID for h in headers)
    ct_uids = {h.SOPInstanceUID for h in headers if h.Modality == "CT"}
    structures = next(h for h in headers if h.Modality == "RTSTRUCT")
    used = {
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        for roi in structures.ROIContourSequence
        for contour in roi.ContourSequence
    }
    assert used <= ct_uids


def test_every_kind_of_object_passes_dciodvfy(patient: DigitalPatient, require_tool) -> None:
    tool = require_tool("dciodvfy")
    folders = [f for f in sorted(patient.folder.iterdir()) if f.is_dir()]
    assert len(folders) == 5
    for path in (p for folder in folders for p in sorted(folder.iterdir())[::12]):
        done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        assert lines, path
        assert not [line for line in lines if line.startswith(("Error", "Warning"))], path


def test_objects_agree_for_dcentvfy_and_drtdump(patient: DigitalPatient, require_tool) -> None:
    files = [str(f) for f in sorted(patient.folder.rglob("*.dcm"))]
    done = subprocess.run([require_tool("dcentvfy"), *files], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr
    structures = str(patient.folder / "RTSTRUCT" / "structures.dcm")
    done = subprocess.run([require_tool("drtdump"), structures], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "RT Structure Set object" in done.stdout
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]


@pytest.mark.parametrize("density", [0.1, 0.5, 0.8])
def test_pixel_edges_give_any_plane_back(density: float) -> None:
    plane = np.random.default_rng(3).random((23, 31)) < density
    outlines = trace_pixel_edges(plane)
    assert np.array_equal(fill(outlines, plane.shape), plane)


def test_pixel_edges_of_simple_planes() -> None:
    assert trace_pixel_edges(np.zeros((4, 4), dtype=bool)) == []
    (one,) = trace_pixel_edges(np.pad([[True]], ((2, 1), (3, 0))))
    assert sorted(map(tuple, one)) == [(2.5, 1.5), (2.5, 2.5), (3.5, 1.5), (3.5, 2.5)]
    assert len(trace_pixel_edges(np.eye(2, dtype=bool))) == 2


def test_contours_give_every_roi_back(patient: DigitalPatient) -> None:
    structures = dcmread(patient.folder / "RTSTRUCT" / "structures.dcm")
    grid = patient.truth_ratio.image
    names = {roi.ROINumber: roi.ROIName for roi in structures.StructureSetROISequence}
    assert list(names.values()) == ["GTVp", "GTVn", "SpinalCord", "Brainstem", "Ref_Blood", "Ref_Muscle"]
    for roi in structures.ROIContourSequence:
        planes: dict[int, list[np.ndarray]] = {}
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            index = (points - grid.GetOrigin()) / grid.GetSpacing()
            planes.setdefault(round(index[0, 2]), []).append(index[:, :2])
        mask = np.zeros(patient.truth_ratio.array.shape, dtype=bool)
        for number, outlines in planes.items():
            mask[number] = fill(outlines, mask.shape[1:])
        assert np.array_equal(mask, patient.regions[names[roi.ReferencedROINumber]].array)


def test_hypoxic_volume_of_the_images_is_the_truth_within_five_percent(patient: DigitalPatient) -> None:
    activity = on_ct(patient, "PET_FMISO")
    ratio = activity / activity[patient.regions["Ref_Blood"].array].mean()
    for threshold in (1.2, 1.4):
        hypoxic = (ratio > threshold) & patient.regions["GTVp"].array
        measured_ml = np.count_nonzero(hypoxic) * patient.truth_ratio.voxel_volume_ml
        assert measured_ml == pytest.approx(patient.blurred_hypoxic_volume_ml(threshold), rel=0.05)


def test_blurred_truth_is_the_unblurred_truth_behind_a_six_millimetre_gaussian(patient: DigitalPatient) -> None:
    truth = sitk.Cast(patient.truth_ratio.image, sitk.sitkFloat64)
    variance = (6.0 / 2.354820045) ** 2
    blurred = sitk.DiscreteGaussian(truth, variance, 64, 0.001)
    identity = sitk.Transform(3, sitk.sitkIdentity)
    on_pet = sitk.Resample(blurred, read_series(patient.folder / "PET_FMISO"), identity, sitk.sitkBSpline)
    expected = sitk.GetArrayFromImage(sitk.Resample(on_pet, truth, identity, sitk.sitkLinear))
    primary = patient.regions["GTVp"].array
    assert np.abs(patient.blurred_ratio.array - expected)[primary].max() < 0.06  # kernels differ on 3 mm slices
    assert np.abs(patient.blurred_ratio.array - expected)[primary].mean() < 0.005


def test_sizes_are_those_of_a_patient(patient: DigitalPatient) -> None:
    volume = {name: region.volume_ml for name, region in patient.regions.items()}
    assert 25 <= volume["GTVp"] <= 35
    assert 6 <= volume["GTVn"] <= 8
    assert 6 <= patient.true_hypoxic.volume_ml <= 10
    assert patient.true_hypoxic.volume_ml == pytest.approx(patient.true_hypoxic_volume_ml(), abs=1e-6)
    assert patient.truth()["true_hypoxic_volume_ml"]["GTVn"] < 1.0
    pieces, count = ndimage.label((patient.blurred_ratio.array > 1.2) & patient.regions["GTVp"].array)
    islands_ml = np.sort(np.bincount(pieces.ravel())[1:] * patient.truth_ratio.voxel_volume_ml)
    assert count == 2
    assert islands_ml[0] > 0.5
    assert islands_ml[1] > 4.0


def test_reference_regions_measure_their_tissue(patient: DigitalPatient) -> None:
    truth, blurred = patient.truth_ratio.array, patient.blurred_ratio.array
    blood, muscle = patient.regions["Ref_Blood"].array, patient.regions["Ref_Muscle"].array
    assert np.all(truth[blood] == 1.0)
    assert blurred[blood].mean() == pytest.approx(1.0, abs=0.005)  # no partial-volume bias
    assert blurred[muscle].mean() == pytest.approx(0.92, abs=0.05)
    gtv = patient.regions["GTVp"].array | patient.regions["GTVn"].array
    for name in ("SpinalCord", "Brainstem", "Ref_Blood", "Ref_Muscle"):
        assert not (gtv & patient.regions[name].array).any()


def test_ct_numbers_are_those_of_tissues(patient: DigitalPatient) -> None:
    hu = sitk.GetArrayFromImage(read_series(patient.folder / "CT"))
    assert hu.shape == patient.truth_ratio.array.shape
    assert hu[0, 0, 0] < -900
    assert hu[patient.regions["Ref_Muscle"].array].mean() == pytest.approx(58, abs=8)
    assert hu[patient.regions["SpinalCord"].array].mean() == pytest.approx(36, abs=15)
    assert (hu > 700).sum() * patient.truth_ratio.voxel_volume_ml > 100  # jaw, skull, spine


def test_pet_is_decay_corrected_bq_per_ml_on_its_own_grid(patient: DigitalPatient) -> None:
    headers = [dcmread(f, stop_before_pixels=True) for f in sorted((patient.folder / "PET_FMISO").iterdir())]
    first, isotope = headers[0], headers[0].RadiopharmaceuticalInformationSequence[0]
    assert (first.Units, first.DecayCorrection) == ("BQML", "START")
    assert {"DECY", "ATTN"} <= set(first.CorrectedImage)
    assert isotope.RadiopharmaceuticalCodeSequence[0].CodeValue == "422598008"
    assert len({h.RescaleSlope for h in headers}) > 10
    assert list(first.PixelSpacing) != list(dcmread(patient.folder / "CT" / "001.dcm").PixelSpacing)
    start, injection = str(first.SeriesTime), str(isotope.RadiopharmaceuticalStartTime)
    delay_s = 3600 * (int(start[:2]) - int(injection[:2])) + 60 * (int(start[2:4]) - int(injection[2:4]))
    assert delay_s == 150 * 60
    dose_bq = float(isotope.RadionuclideTotalDose) * 2 ** (-delay_s / float(isotope.RadionuclideHalfLife))
    suv = on_ct(patient, "PET_FMISO") * float(first.PatientWeight) * 1000 / dose_bq
    assert suv[patient.regions["Ref_Blood"].array].mean() == pytest.approx(1.25, rel=0.02)
    # Frame reference time of a single frame: METHODS section 1, 15 min of F-18.
    assert float(first.FrameReferenceTime) == pytest.approx(446_460, abs=500)


def test_fdg_follows_hypoxia_only_partly(patient: DigitalPatient) -> None:
    primary = patient.regions["GTVp"].array
    fdg, fmiso = (on_ct(patient, series)[primary] for series in ("PET_FDG", "PET_FMISO"))
    assert 0.1 < np.corrcoef(fdg, fmiso)[0, 1] < 0.9


def test_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        make_patient(tmp_path, seed=SEED)
    assert [f.name for f in tmp_path.iterdir()] == ["keep.txt"]


def test_failed_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_rtstruct", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        make_patient(tmp_path / "patient", seed=SEED)
    assert list(tmp_path.iterdir()) == []


def test_unknown_words_are_refused(patient: DigitalPatient, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="="):
        patient.blurred_hypoxic_volume_ml(1.2, "==")
    with pytest.raises(RequestError, match="GTVx"):
        patient.true_hypoxic_volume_ml(roi="GTVx")
    with pytest.raises(RequestError, match="negative"):
        make_patient(tmp_path / "negative", seed=-1)
