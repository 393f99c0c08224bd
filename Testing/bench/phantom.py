"""What the benchmarks work on: a synthetic CT with four targets, and a folder of 2,000 files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

SHAPE = (200, 512, 512)  # slices, rows, columns
SPACING_MM = (2.0, 0.9765625, 0.9765625)
# Name: centre (slice, row, column), radii in mm. The surface is rough, as that of a thresholded map is.
TARGETS = {
    "GTVp": ((100, 260, 250), (22.0, 20.0, 18.0)),
    "GTVp_Hyp": ((100, 262, 248), (9.0, 8.0, 7.0)),
    "PTV_7700": ((100, 262, 248), (14.0, 13.0, 12.0)),
    "PTV_7000": ((98, 258, 254), (60.0, 45.0, 45.0)),
}
ROUGHNESS = 0.25


def write_ct(folder: Path, seed: int = 1) -> None:
    """Write a CT series of 200 slices of 512 x 512 (about 105 MB)."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).integers(-50, 50, SHAPE[1:], dtype=np.int16)
    template = _ct_header()
    for index in range(SHAPE[0]):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        template.InstanceNumber = index + 1
        template.ImagePositionPatient = [-250.0, -250.0, round(-200.0 + index * SPACING_MM[0], 3)]
        template.PixelData = np.roll(noise, index, axis=1).tobytes()
        template.save_as(folder / f"ct{index:04d}.dcm", enforce_file_format=True)


def target_masks(seed: int = 1) -> dict[str, np.ndarray]:
    """Boolean arrays (slice, row, column) of the four targets; the hypoxic one is hollow."""
    roughness = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(50, 128, 128)), 2.0)
    roughness = ndimage.zoom(roughness / roughness.std(), 4, order=1)
    masks = {}
    for name, (centre, radii_mm) in TARGETS.items():
        axes = [
            ((np.arange(n) - c) * s / r) ** 2 for n, c, s, r in zip(SHAPE, centre, SPACING_MM, radii_mm, strict=True)
        ]
        distance = axes[0][:, None, None] + axes[1][:, None] + axes[2]
        masks[name] = distance < 1 + ROUGHNESS * roughness
    hyp = TARGETS["GTVp_Hyp"][0]
    masks["GTVp_Hyp"][hyp[0] - 1 : hyp[0] + 2, hyp[1] - 2 : hyp[1] + 3, hyp[2] - 2 : hyp[2] + 3] = False
    return masks


def write_many_files(folder: Path, count: int = 2000, per_series: int = 200) -> None:
    """Write files with a real scanner's header (pydicom's CT_small, private elements and all), several series."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.StudyInstanceUID = generate_uid()
    for index in range(count):
        if index % per_series == 0:
            series = folder / f"series{index // per_series:02d}"
            series.mkdir(parents=True)
            dataset.SeriesInstanceUID = generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = index % per_series + 1
        dataset.ImagePositionPatient = [-158.0, -179.0, -75.0 + 5.0 * (index % per_series)]
        dataset.save_as(series / f"{index:04d}.dcm", enforce_file_format=True)


def _ct_header() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.PatientID, dataset.PatientName, dataset.PatientSex = "BENCH", "Bench^Mark", "O"
    dataset.PatientBirthDate = dataset.PatientAge = None
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20260101", "120000", "1", ""
    dataset.SeriesNumber, dataset.Modality, dataset.ImageType = 1, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesDate, dataset.SeriesTime, dataset.SeriesDescription = "20260101", "120000", "synthetic"
    dataset.PositionReferenceIndicator, dataset.ReferringPhysicianName, dataset.Manufacturer = "", "", "synthetic"
    dataset.PatientPosition, dataset.KVP, dataset.AcquisitionNumber = "HFS", "120", 1
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = SHAPE[1], SHAPE[2], 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
    return dataset
