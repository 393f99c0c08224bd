"""The street with a dynamic PET: series found, fitted on its own grid, its map cut on the planning grid."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from dicom_samples import write_pet
from HypoxiaDosePaintLib.cli import main
from HypoxiaDosePaintLib.pipeline import compute, write
from HypoxiaDosePaintLib.request import Registration, Request, SubvolumeOptions, request_from_json
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.volume import same_grid
from kinetic_samples import pet_frames, pet_input, write_input_csv

THRESHOLD = 0.02
SPACING_MM = 4.0
KI_RANGE = (0.0, 0.04)  # left to right through the tumour


@pytest.fixture(scope="module")
def dynamic(digital_patient: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planning CT and structures of the digital patient with a dynamic FMISO PET whose Ki rises along x."""
    folder = tmp_path_factory.mktemp("dynamic")
    found = scan_folder(digital_patient.folder)
    planning, structures = found.by_role("planning_ct")[0], found.by_role("rtstruct")[0]
    for path in (*planning.files, *structures.files):
        shutil.copy(path, folder / f"{path.parent.name}_{path.name}")
    ct = read_image_series(planning).volume
    gtv = read_structure_set(structures.files[0], ct.image, ct.frame_of_reference_uid, ["GTVp"])["GTVp"]
    write_dynamic(folder / "pet", gtv, dcmread(planning.files[0], stop_before_pixels=True))
    write_input_csv(folder / "input.csv", pet_input())
    return folder


def write_dynamic(folder: Path, gtv: Any, header: Any) -> None:
    """Late frames around the GTV: Ct = Ki(x) int(Cp) + 0.4 Cp, in SUV times 1000."""
    box = np.argwhere(gtv.array)
    low = np.array(gtv.mask.TransformIndexToPhysicalPoint([int(v) for v in box.min(0)[::-1]])) - 24
    high = np.array(gtv.mask.TransformIndexToPhysicalPoint([int(v) for v in box.max(0)[::-1]])) + 24
    size = np.ceil((high - low) / SPACING_MM).astype(int) + 1
    x = low[0] + SPACING_MM * np.arange(size[0])
    ki = ki_at(x, gtv)[None, None, :] * np.ones((size[2], size[1], 1))
    frames, source = pet_frames(), pet_input()
    running, plasma = source.integral_on_frames(frames), source.on_frames(frames)
    for k in range(30, frames.count):
        write_pet(
            folder / f"t{k}", 100 * (ki * running[k] + 0.4 * plasma[k]), spacing_mm=(SPACING_MM,) * 3,
            origin_mm=low, SeriesInstanceUID="1.2.3.4.5", FrameOfReferenceUID=header.FrameOfReferenceUID,
            PatientID=header.PatientID, PatientName=header.PatientName, StudyInstanceUID=header.StudyInstanceUID,
            StudyDate=header.StudyDate, Units="GML", SUVType="BW", RescaleSlope=0.01, Radiopharmaceutical="FMISO",
            SeriesDescription="dynamic FMISO", SeriesTime="100000",
            AcquisitionTime=_clock(frames.start_min[k] * 60), ActualFrameDuration=int(frames.duration_min[k] * 60000),
        )  # fmt: skip


def ki_at(x_mm: np.ndarray, gtv: Any) -> np.ndarray:
    """True Ki along the patient's x."""
    columns = np.flatnonzero(gtv.array.any(axis=(0, 1)))
    first, last = (gtv.mask.TransformIndexToPhysicalPoint((int(c), 0, 0))[0] for c in columns[[0, -1]])
    return np.clip(KI_RANGE[0] + (x_mm - first) / (last - first) * (KI_RANGE[1] - KI_RANGE[0]), 0.0, 0.08)


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{10 + hours:02d}{rest // 60:02d}{rest % 60:02d}"


def request_of(folder: Path, **changes: Any) -> Request:
    params = {"input_source": "csv", "input_csv": str(folder / "input.csv"), "input_csv_time_unit": "min",
              "input_csv_unit": "g/ml"}  # fmt: skip
    given = {
        "folder": str(folder), "output": "", "method": "patlak_ki", "protocol": "welz_77_70_35",
        "method_params": params, "gtv_rois": ("GTVp",), "subvolume": SubvolumeOptions(threshold=THRESHOLD), **changes,
    }  # fmt: skip
    return Request(**given)


def test_map_of_a_series_becomes_a_hypoxic_volume_on_the_planning_ct(dynamic):
    result = compute(request_of(dynamic)).result
    images = result.images
    gtv = images.gtvs[0]
    x = np.array([gtv.mask.TransformIndexToPhysicalPoint((i, 0, 0))[0] for i in range(gtv.mask.GetSize()[0])])
    truth = ki_at(x, gtv)
    inside = gtv.array
    found = images.map.volume.array
    np.testing.assert_allclose(found[inside], np.broadcast_to(truth, inside.shape)[inside], atol=0.0012)
    expected = np.count_nonzero(inside & (truth > THRESHOLD)) / np.count_nonzero(inside)
    assert result.hypoxic_fraction == pytest.approx(expected, abs=0.05)
    assert images.map.volume.quantity == "Ki"
    assert (images.map.quality[inside] == 0).all()
    assert "V0" in images.map.extra
    assert same_grid(images.map.extra["V0"].image, images.planning.image)
    assert result.details["curves"][0]["name"] == "GTV"
    assert any("computed on the grid of the series" in w for w in result.warnings)
    assert any("PET (FMISO)" in s.role for s in result.series)


def test_further_maps_are_written_with_the_result(dynamic, tmp_path, monkeypatch):
    import HypoxiaDosePaintLib.pipeline as pipeline

    monkeypatch.setattr(pipeline, "render_pictures", lambda result, folder: type("P", (), {"warnings": ()})())
    monkeypatch.setattr(pipeline, "write_report", lambda *a: None)
    computed = compute(request_of(dynamic, accepted_by="Dr A. Example"))
    result = write(computed.result, computed.planning, tmp_path)
    names = ("uncertainty", "V0", "V0_error")
    assert {p.name for p in (tmp_path / "maps").iterdir()} == {f"{n}{e}" for n in names for e in (".nii.gz", ".json")}
    assert json.loads((tmp_path / "maps" / "V0.json").read_text())["Units"] == "mL/mL"
    nifti, whole = sitk.ReadImage(str(tmp_path / "maps" / "V0.nii.gz")), result.images.map.extra["V0"]
    assert np.prod(nifti.GetSize()) < 0.1 * whole.array.size  # cut to its values, which keep their place
    centre = nifti.TransformIndexToPhysicalPoint([n // 2 for n in nifti.GetSize()])
    index = whole.image.TransformPhysicalPointToIndex(centre)
    np.testing.assert_allclose(nifti[tuple(n // 2 for n in nifti.GetSize())], whole.image[index], rtol=1e-6)
    proven = {row.structure for row in result.proof}
    assert {"MAP", "MAP_UNCERTAINTY", "MAP_V0", "MAP_V0_ERROR"} <= proven
    ds = dcmread(tmp_path / "dicom" / "MAP_V0.dcm")
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "mL/mL"
    values = np.frombuffer(ds.FloatPixelData, "<f4")
    np.testing.assert_allclose(np.nanmax(values), np.nanmax(whole.array), rtol=1e-6)


def test_a_shift_between_the_frames_is_undone_by_its_transform(dynamic, tmp_path):
    shift = sitk.TranslationTransform(3, (0.0, 4.0, 0.0))  # planning to PET
    sitk.WriteTransform(shift, str(tmp_path / "shift.tfm"))
    plain = compute(request_of(dynamic)).result
    moved = compute(request_of(dynamic, registration=Registration("file", str(tmp_path / "shift.tfm")))).result
    # The map does not vary along y, so the shifted GTV must find the same.
    assert moved.hypoxic_volume_ml == pytest.approx(plain.hypoxic_volume_ml, rel=0.02)
    assert moved.registration.mode.startswith("file")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"subvolume": SubvolumeOptions()}, HypoxiaError, "no threshold"),
        ({"inputs": {"dce": "x"}}, RequestError, "has no input dce"),
        ({"inputs": {"pet": "nothing"}}, RequestError, "0 series match pet='nothing'"),
        ({"region_rois": {"vein": "GTVp"}}, RequestError, "has no region vein"),
        ({"region_rois": {"artery": "NoSuch"}}, RequestError, "ROI 'NoSuch' is in no structure set"),
        ({"method": "tracer_ratio", "method_params": {}, "reference_roi": "GTVp"}, HypoxiaError, "4D series"),
        ({"tracer": "HX4"}, RequestError, "The PET is FMISO, not HX4"),
        ({"method_params": {}}, RequestError, "no arterial region"),
    ],
)
def test_wrong_requests_are_refused(dynamic, changes, kind, words):
    with pytest.raises(kind) as error:
        compute(request_of(dynamic, **changes))
    assert words in error.value.message
    assert error.value.hint


def test_no_series_of_the_kind_names_what_there_is(digital_patient):
    request = replace(request_of(digital_patient.folder), method_params={})
    with pytest.raises(InputError) as error:
        compute(request)
    assert "needs dynamic PET" in error.value.message
    assert "--input pet=" in error.value.hint


def test_options_become_the_request(dynamic, tmp_path, capsys):
    path = tmp_path / "request.json"
    code = main([
        "run", str(dynamic), "--method", "patlak_ki", "--protocol", "welz_77_70_35", "--out", str(tmp_path / "o"),
        "--input", "pet=dynamic FMISO", "--region", "artery=Blood", "--frame-time", "mid", "--time-unit", "ms",
        "--frame-interval", "5", "--motion-reference", "3",
        "--registration", "stated", "--comparison", "<", "--save-request", str(path),
    ])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    request = request_from_json(path.read_text())
    assert request.inputs == {"pet": "dynamic FMISO"}
    assert request.region_rois == {"artery": "Blood"}
    assert (request.timing.frame_time, request.timing.time_unit, request.timing.frame_interval_s) == ("mid", "ms", 5.0)
    assert request.registration.mode == "stated"
    assert request.motion_reference == 3
    assert request_from_json(request.to_json()) == request
