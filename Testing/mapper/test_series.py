"""Image series: voxels and geometry exact, irregular series refused by file, tag or position."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEG2000Lossless, RLELossless

from dicom_samples import new_dataset, write_ct, write_mr, write_pet
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import GeometryError, InputError, MissingPackageError

RAMP = np.arange(5 * 8 * 8).reshape(5, 8, 8)
OBLIQUE = (0.96, 0.28, 0.0, -0.28 * 0.8, 0.96 * 0.8, 0.6)


def read(folder):
    return read_image_series(scan_folder(folder).series[0])


def test_ct_values_geometry_and_headers(tmp_path):
    write_ct(tmp_path, RAMP, spacing_mm=(3.0, 1.5, 0.5), origin_mm=(10, -20, 30))
    series = read(tmp_path)
    volume = series.volume
    np.testing.assert_array_equal(volume.array, RAMP)
    assert (volume.quantity, volume.unit) == ("CT number", "[hnsf'U]")
    assert volume.image.GetSpacing() == pytest.approx((0.5, 1.5, 3.0))
    assert volume.image.GetOrigin() == pytest.approx((10, -20, 30))
    assert [h.SOPInstanceUID for h in series.headers] == list(volume.source_uids)
    assert [float(h.ImagePositionPatient[2]) for h in series.headers] == [30, 33, 36, 39, 42]
    assert all("PixelData" not in h for h in series.headers)


def test_slices_are_sorted_by_position_not_by_name(tmp_path):
    positions = [(0, 0, z) for z in (8, 2, 6, 0, 4)]
    write_ct(tmp_path, RAMP, positions=positions)
    volume = read(tmp_path).volume
    np.testing.assert_array_equal(volume.array, RAMP[[3, 1, 4, 2, 0]])
    assert volume.image.GetOrigin()[2] == 0


def test_oblique_orientation_is_kept(tmp_path):
    write_mr(tmp_path, RAMP, orientation=OBLIQUE, origin_mm=(5, 6, 7), spacing_mm=(2.5, 1.2, 0.8))
    series = read(tmp_path)
    image = series.volume.image
    assert series.volume.quantity == "MR signal (unknown)"
    for k in (0, 4):
        expected = np.array(series.headers[k].ImagePositionPatient, float)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, k)), expected, atol=1e-3)
    step = np.array(image.TransformIndexToPhysicalPoint((1, 0, 0))) - image.TransformIndexToPhysicalPoint((0, 0, 0))
    np.testing.assert_allclose(step, 0.8 * np.array(OBLIQUE[:3]), atol=1e-6)
    step = np.array(image.TransformIndexToPhysicalPoint((0, 1, 0))) - image.TransformIndexToPhysicalPoint((0, 0, 0))
    np.testing.assert_allclose(step, 1.2 * np.array(OBLIQUE[3:]), atol=1e-6)


def test_rescale_of_every_slice(tmp_path):
    write_ct(tmp_path, np.full((5, 8, 8), 976), RescaleSlope=lambda k: k + 1, RescaleIntercept=lambda k: -k)
    np.testing.assert_allclose(read(tmp_path).volume.array[:, 0, 0], [2000 * (k + 1) - k for k in range(5)])


@pytest.mark.parametrize(("write", "keyword"), [(write_ct, "RescaleIntercept"), (write_pet, "RescaleSlope")])
def test_a_lost_rescale_entry_of_ct_or_pet_is_no_one(tmp_path, write, keyword):
    write(tmp_path, **{keyword: None})
    with pytest.raises(InputError, match="the scale of its values is lost"):
        read_image_series(scan_folder(tmp_path).series[0])


def test_single_slice_takes_its_thickness(tmp_path):
    write_ct(tmp_path / "a", RAMP[:1], spacing_mm=(4.0, 1.0, 1.0))
    volume = read(tmp_path / "a").volume
    assert volume.image.GetSpacing()[2] == 4.0
    assert "Slice Thickness" in " ".join(volume.operations)
    write_ct(tmp_path / "b", RAMP[:1], SliceThickness=None)
    with pytest.raises(GeometryError, match="single slice"):
        read(tmp_path / "b")


def _z(*values):
    return [(0, 0, z) for z in values]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": _z(0, 2, 2, 4, 6)}, "duplicate slice position 2.00 mm in CT_001.dcm and CT_002.dcm"),
        ({"positions": _z(0, 2, 4, 8, 10)}, "1 missing slice.*between positions 4.00 and 8.00"),
        ({"positions": _z(0, 2, 4, 6, 8.5)}, "unequal slice spacing between positions 6.00 and 8.50"),
        ({"positions": [(0, 0.4 * k, 2 * k) for k in range(5)]}, "gantry tilt"),
        ({"ImageOrientationPatient": lambda k: [1, 0, 0, 0, 1, 0] if k else [0, 1, 0, 1, 0, 0]}, "mixed orientation"),
        ({"PixelSpacing": lambda k: [1, 1] if k else [1, 1.01]}, "mixed pixel spacing"),
        ({"FrameOfReferenceUID": lambda k: "1.2.3" if k else "1.2.4"}, "mixed frames of reference"),
        ({"ImagePositionPatient": lambda k: None if k == 2 else [0, 0, 2 * k]}, "CT_002.dcm: ImagePositionPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
    ],
)
def test_irregular_series_are_refused(tmp_path, options, message):
    write_ct(tmp_path, RAMP, **options)
    with pytest.raises(GeometryError, match=message):
        read(tmp_path)


def test_rounding_of_positions_is_tolerated(tmp_path):
    write_ct(tmp_path, RAMP, positions=_z(0, 2.0004, 3.9996, 6.0, 8.0004))
    assert read(tmp_path).volume.image.GetSpacing()[2] == pytest.approx(2.0001)


def test_mixed_size_is_refused(tmp_path):
    write_ct(tmp_path, RAMP[:3], SeriesInstanceUID="1.2.3")
    first = pydicom.dcmread(tmp_path / "CT_000.dcm")
    first.Rows = 4
    first.PixelData = first.PixelData[: len(first.PixelData) // 2]
    first.save_as(tmp_path / "CT_000.dcm")
    with pytest.raises(GeometryError, match="mixed size"):
        read(tmp_path)


def test_4d_series_with_and_without_order(tmp_path):
    positions = _z(0, 2, 4, 0, 2, 4)
    stored = np.ones((6, 8, 8))
    write_mr(tmp_path / "a", stored, positions=positions)
    with pytest.raises(GeometryError, match="4D series without order, every slice position exists 2 times"):
        read(tmp_path / "a")
    write_mr(tmp_path / "b", stored, positions=positions, TemporalPositionIdentifier=lambda k: 1 + k // 3)
    with pytest.raises(GeometryError, match="2 frames of 3 slices told apart by TemporalPositionIdentifier"):
        read(tmp_path / "b")


def test_multiframe_and_colour_are_refused(tmp_path):
    write_ct(tmp_path, RAMP[:2], NumberOfFrames=2)
    with pytest.raises(InputError, match="multi-frame"):
        read(tmp_path)


def test_run_length_encoded_series_is_read(tmp_path):
    paths = write_ct(tmp_path, RAMP)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(read(tmp_path).volume.array, RAMP)


def test_compressed_series_names_the_package(tmp_path, monkeypatch):
    for path in write_ct(tmp_path, RAMP[:2]):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.save_as(path)
    decoder = type("Decoder", (), {"is_available": False})
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda syntax: decoder)
    with pytest.raises(MissingPackageError, match="pip install pylibjpeg"):
        read(tmp_path)


def test_broken_pixel_data_names_the_file(tmp_path):
    info_paths = write_ct(tmp_path, RAMP)
    info = scan_folder(tmp_path).series[0]
    data = info_paths[2].read_bytes()
    info_paths[2].write_bytes(data[:-40])
    with pytest.raises(InputError, match=r"CT_002.dcm"):
        read_image_series(info)


def test_a_structure_set_is_no_image(tmp_path):
    path = tmp_path / "x.dcm"
    write_ct(tmp_path / "ct")
    info = scan_folder(tmp_path / "ct").series[0]
    dataset = new_dataset("1.2.840.10008.5.1.4.1.1.481.3")
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError):
        read_image_series(type(info)(**{**info.__dict__, "files": (path,), "role": "rtstruct"}))


@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_real_patient_images_equal_their_nifti_copies(hypoxia_data, modality):
    folder = hypoxia_data("ibsi_sts_008")
    image = read(folder / "dicom" / modality / "image").volume.image
    reference = sitk.ReadImage(str(folder / "nifti" / f"{modality}_image.nii.gz"))
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), reference.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(image.GetSpacing(), reference.GetSpacing(), atol=1e-5)
