"""Write dynamic, multi-echo and enhanced multi-frame series for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_samples import AXIAL, FRAME, new_dataset, write_mr, write_pet
from HypoxiaMapperLib.dicomio.model import SeriesInfo
from HypoxiaMapperLib.dicomio.scan import scan_folder

ENHANCED_MR, ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.130"


def write_mr_frames(folder: Path, frames: np.ndarray, **tags: Sequence[Any] | Any) -> SeriesInfo:
    """One MR series of frames (t, z, y, x); a tag given as a list holds one value per frame."""
    series = generate_uid()
    for t, frame in enumerate(frames):
        own = {k: v[t] if isinstance(v, list) else v for k, v in tags.items()}
        own.setdefault("InstanceNumber", lambda k, t=t: t * len(frames[0]) + k + 1)
        write_mr(folder / f"t{t}", frame, SeriesInstanceUID=series, **own)
    return scan_folder(folder).series[0]


def write_pet_frames(folder: Path, frames: np.ndarray, **tags: Sequence[Any] | Any) -> SeriesInfo:
    """One PET series of frames (t, z, y, x) after injection at 10:00; lists hold one value per frame."""
    series = generate_uid()
    for t, frame in enumerate(frames):
        own = {k: v[t] if isinstance(v, list) else v for k, v in tags.items()}
        write_pet(folder / f"t{t}", frame, SeriesInstanceUID=series, **own)
    return scan_folder(folder).series[0]


def write_enhanced(
    path: Path, sop_class: str, frames: np.ndarray, groups: Sequence[Dataset], **tags: Any
) -> SeriesInfo:
    """One enhanced file of frames (t, z, y, x), slices fastest; ``groups`` are functional groups per frame t."""
    dataset = new_dataset(sop_class)
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = "P1", "Test^One", "1.2.3"
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = generate_uid(), FRAME
    dataset.Modality, dataset.StudyDate, dataset.SeriesDescription = "MR", "20250101", "enhanced"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 1.0], 2.0
    orientation.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    per_frame = []
    for group in groups:
        for z in range(frames.shape[1]):
            item, position = Dataset(), Dataset()
            item.update(group)
            position.ImagePositionPatient = [0, 0, 2.0 * z]
            item.PlanePositionSequence = [position]
            per_frame.append(item)
    dataset.PerFrameFunctionalGroupsSequence = per_frame
    dataset.NumberOfFrames = len(per_frame)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = frames.shape[2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = frames.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return scan_folder(path.parent).series[0]


def group(sequence: str, **values: Any) -> Dataset:
    """A functional group holding one sequence with one item."""
    item, outer = Dataset(), Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(outer, sequence, [item])
    return outer
