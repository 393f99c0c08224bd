"""Write tiny DICOM series for tests. Any tag can be overridden by keyword; None removes it.

A value may be a function of the slice index, so that one slice can be made to differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
DEFORMABLE_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.3"
FRAME = "1.2.826.0.1.3680043.8.498.1001"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_RADIOPHARMACEUTICAL = (
    *("Radiopharmaceutical", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"),
    *("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalCodeSequence", "RadionuclideCodeSequence"),
)


def write_ct(folder: Path, array: np.ndarray | None = None, **options: Any) -> list[Path]:
    """Write a CT series; stored values are the array (z, y, x) plus 1024."""
    array = np.zeros((5, 8, 8)) if array is None else array
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU", **options}
    return write_images(folder, CT, "CT", np.asarray(array) + 1024, **tags)


def write_mr(folder: Path, array: np.ndarray | None = None, **options: Any) -> list[Path]:
    """Write an MR series without rescale tags."""
    array = np.ones((5, 8, 8)) if array is None else array
    return write_images(folder, MR, "MR", np.asarray(array), **options)


def write_pet(folder: Path, array: np.ndarray | None = None, **tag_overrides: Any) -> list[Path]:
    """Write a PET series: 70 kg, 370 MBq of FDG at 10:00, scanned for 300 s at 11:00, START, Bq/ml.

    Tags of the radiopharmaceutical item can be overridden like any other.
    """
    tags: dict[str, Any] = {
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["NORM", "ATTN", "SCAT", "DECY"],
        "SeriesDate": "20250101",
        "SeriesTime": "110000",
        "AcquisitionDate": "20250101",
        "AcquisitionTime": "110000",
        "ActualFrameDuration": 300000,
        "FrameReferenceTime": 150000,
        "PatientWeight": 70,
        "PatientSize": 1.75,
        "PatientSex": "M",
        "Radiopharmaceutical": "FDG",
        "RadiopharmaceuticalStartTime": "100000",
        "RadiopharmaceuticalStartDateTime": "20250101100000",
        "RadionuclideTotalDose": 370e6,
        "RadionuclideHalfLife": 6586.2,
        **tag_overrides,
    }
    item = Dataset()
    for keyword in _RADIOPHARMACEUTICAL:
        if tags.get(keyword) is not None:
            setattr(item, keyword, tags[keyword])
        tags.pop(keyword, None)
    tags.setdefault("RadiopharmaceuticalInformationSequence", [item])
    array = np.full((5, 8, 8), 5000) if array is None else array
    return write_images(folder, PET, "PT", np.asarray(array), **tags)


def write_images(
    folder: Path,
    sop_class: str,
    modality: str,
    stored: np.ndarray,
    spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0),
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = AXIAL,
    positions: Sequence[Sequence[float]] | None = None,
    private: Mapping[str, tuple[int, int, str, Any]] | None = None,
    **tags: Any,
) -> list[Path]:
    """Write one file per slice of ``stored`` (z, y, x); ``spacing_mm`` is (z, y, x), ``private`` maps creators."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {
        "PatientID": "P1",
        "PatientName": "Test^One",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": FRAME,
        "Modality": modality,
        "StudyDate": "20250101",
        "SeriesDescription": f"{modality} test",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PixelSpacing": list(spacing_mm[1:]),
        "SliceThickness": spacing_mm[0],
        "ImageOrientationPatient": list(orientation),
        **tags,
    }
    axes = np.array(orientation, float).reshape(2, 3)
    normal = np.cross(*axes)
    paths = []
    for k, pixels in enumerate(stored):
        dataset = new_dataset(sop_class)
        dataset.InstanceNumber = k + 1
        position = np.array(origin_mm) + k * spacing_mm[0] * normal if positions is None else positions[k]
        dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
        _put_pixels(dataset, np.asarray(pixels))
        for keyword, value in common.items():
            value = value(k) if callable(value) else value
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        for creator, (group, element, vr, value) in (private or {}).items():
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
        paths.append(folder / f"{modality}_{k:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_rtstruct(
    path: Path,
    rois: Mapping[str, Sequence[np.ndarray]],
    frame_uid: str = FRAME,
    kind: str = "CLOSED_PLANAR",
    series_uid: str = "1.2.3",
) -> Path:
    """Write an RTSTRUCT; every ROI is a list of contours of shape (n, 3) in LPS mm."""
    dataset = new_dataset(RTSTRUCT)
    dataset.Modality, dataset.PatientID, dataset.PatientName = "RTSTRUCT", "P1", "Test^One"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", generate_uid()
    dataset.StructureSetLabel = "TEST"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = series_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = frame_uid, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = DicomSequence(), DicomSequence()
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, holder = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame_uid
        holder.ReferencedROINumber, holder.ContourSequence = number, DicomSequence()
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.6g}" for v in np.asarray(points, float).ravel()]
            holder.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(holder)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def new_dataset(sop_class: str) -> Dataset:
    """An empty object of a SOP class with file meta and new SOP Instance UID."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    return dataset


def _put_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """16-bit unsigned pixel data."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
