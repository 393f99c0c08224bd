"""Images of a file one by one: a classic file holds one, an enhanced multi-frame file many.

The frames of an enhanced file get headers as if each were a classic file, so that no other reader needs to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..errors import InputError, MissingPackageError

PYDICOM_2 = pydicom.__version__.startswith("2.")
"""What Slicer 5.10 brings; it has no ``pydicom.pixels``."""

_GROUPS = {  # functional group: {keyword in it: classic keyword}
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelValueTransformationSequence": {
        "RescaleSlope": "RescaleSlope", "RescaleIntercept": "RescaleIntercept", "RescaleType": "RescaleType",
    },
    "FrameContentSequence": {
        "FrameAcquisitionDateTime": "AcquisitionDateTime", "FrameAcquisitionDuration": "ActualFrameDuration",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
    },
    "TemporalPositionSequence": {"TemporalPositionTimeOffset": "TemporalPositionTimeOffset"},
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue", "DiffusionDirectionality": "DiffusionDirectionality"},
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "MRImageFrameTypeSequence": {"FrameType": "ImageType", "ComplexImageComponent": "ComplexImageComponent"},
    "FrameAnatomySequence": {"AnatomicRegionSequence": "AnatomicRegionSequence"},
}  # fmt: skip
_ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
_PHILIPS_GROUP, _PHILIPS_CREATOR, _PHILIPS_FRAME = 0x2005, "Philips MR Imaging DD 005", 0x0F
"""Philips' private sequence in a functional group: what the classic image would hold."""
_TEMPORAL_POSITION_INDEX = 0x00209128
_BECQUEREL_UNITS = ("Bq/ml", "{Bq}/ml", "Bq/mL")


def read_headers(path: Path) -> list[Dataset]:
    """Headers of every image of a file, without pixels.

    Raises
    ------
    InputError
        If the file cannot be read, naming it.
    """
    return _split(_read(path, stop_before_pixels=True), path)


def read_images(path: Path) -> Iterator[tuple[Dataset, np.ndarray]]:
    """Header and stored pixel values (rows, columns) of every image of a file.

    Raises
    ------
    InputError
        If the file cannot be read or decoded, or holds colour images.
    MissingPackageError
        If it is compressed and no decoder is installed, naming the package.
    """
    dataset = _read(path, stop_before_pixels=False)
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise InputError(
            f"{path.name}: Samples per Pixel (0028,0002) is {dataset.SamplesPerPixel}.", "Give gray images."
        )
    _functional_groups(dataset, path)
    _require_decoder(dataset, path)
    try:
        pixels = _stored_values(dataset)
    except (ValueError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        raise InputError(f"{path}: pixel data cannot be decoded ({error}).", "Replace the file.") from error
    del dataset.PixelData
    headers = _split(dataset, path)
    yield from zip(headers, pixels if pixels.ndim == 3 else pixels[None], strict=True)


def _stored_values(dataset: Dataset) -> np.ndarray:
    """Pixels as stored, without a copy where pydicom can do so: nothing here or after writes into them."""
    if PYDICOM_2:
        return dataset.pixel_array
    from pydicom.pixels import pixel_array

    return pixel_array(dataset, view_only=True)


def image_names(paths: Sequence[Path], counts: Sequence[int]) -> list[str]:
    """File names for messages, with the number of the frame where a file holds several."""
    return [
        path.name if count == 1 else f"{path.name} frame {k + 1}"
        for path, count in zip(paths, counts, strict=True)
        for k in range(count)
    ]


def _read(path: Path, stop_before_pixels: bool) -> Dataset:
    """The dataset of a file."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as DICOM ({error}).", "Remove or replace the file.") from error


MOST_FRAMES, MOST_FILES = 10_000, 200_000
"""Of a file and of a series: an Instance Number, as DICOM writes it, holds their product."""


def _split(dataset: Dataset, path: Path) -> list[Dataset]:
    """One classic header per image."""
    groups = _functional_groups(dataset, path)
    if groups is None:
        return [dataset]
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    common = _copy(dataset)
    del common.PerFrameFunctionalGroupsSequence
    common.pop("SharedFunctionalGroupsSequence", None)
    if common.get("SOPClassUID") == _ENHANCED_PET:
        _classic_pet(common)
    time_index = _time_index(dataset)
    return [_flat(common, shared, group, k + 1, time_index) for k, group in enumerate(groups)]


def _functional_groups(dataset: Dataset, path: Path) -> Sequence[Dataset] | None:
    """Functional groups of every frame; None for a classic image."""
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        if count > 1:
            raise InputError(
                f"{path.name}: a multi-frame image without functional groups ({count} frames, (5200,9230) absent).",
                "Export the series as single-frame or enhanced images.",
            )
        return None
    if len(groups) != count:
        raise InputError(
            f"{path.name}: {count} frames (0028,0008) and {len(groups)} functional groups (5200,9230).",
            "Export the series again.",
        )
    return groups


def _time_index(dataset: Dataset) -> int | None:
    """Which of a frame's Dimension Index Values counts time; None when the file names none."""
    pointers = [item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []]
    return pointers.index(_TEMPORAL_POSITION_INDEX) if _TEMPORAL_POSITION_INDEX in pointers else None


def _flat(common: Dataset, shared: Dataset, own: Dataset, number: int, time_index: int | None) -> Dataset:
    """Header of one frame: entries of the file, of the shared groups, of its own groups, later ones winning."""
    header = _copy(common)
    # All frames of a file share its Instance Number; their order in it tells them apart, its own number the files.
    _put(header, "InstanceNumber", int(common.get("InstanceNumber") or 0) % MOST_FILES * MOST_FRAMES + number)
    for item in (own.get("FrameContentSequence") or [])[:1]:
        index = item.get("DimensionIndexValues")
        values = list(index) if _many(index) else [index]
        if time_index is not None and time_index < len(values) and values[time_index] is not None:
            _put(header, "TemporalPositionIdentifier", int(values[time_index]))
    for source in (shared, own):
        for group, names in _GROUPS.items():
            for item in (source.get(group) or [])[:1]:
                for keyword, classic in names.items():
                    value = item.get(keyword)
                    if value not in (None, ""):
                        _put(header, classic, value[0] if keyword == "InversionTimes" and _many(value) else value)
        if source.get("RealWorldValueMappingSequence"):
            _put(header, "RealWorldValueMappingSequence", source.RealWorldValueMappingSequence)
        for item in _philips_frame(source):
            header.update({element.tag: element for element in item if element.tag.group == _PHILIPS_GROUP})
        for item in (source.get("RealWorldValueMappingSequence") or [])[:1]:
            codes = [c.get("CodeValue") for c in item.get("MeasurementUnitsCodeSequence") or []]
            if common.get("SOPClassUID") == _ENHANCED_PET and codes and codes[0] in _BECQUEREL_UNITS:
                _put(header, "Units", "BQML")
                _put(header, "RescaleSlope", f"{item.RealWorldValueSlope:.10g}")
                _put(header, "RescaleIntercept", f"{item.RealWorldValueIntercept:.10g}")
    return header


def _philips_frame(group: Dataset) -> Sequence[Dataset]:
    """The private item of a functional group, none where another maker wrote it."""
    try:
        value = group.private_block(_PHILIPS_GROUP, _PHILIPS_CREATOR)[_PHILIPS_FRAME].value
    except KeyError:
        return []
    return value[:1] if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []


def _put(header: Dataset, keyword: str, value: object) -> None:
    """Give a header an entry of its own: setting the value of one it shares with others would change theirs."""
    header.pop(keyword, None)
    setattr(header, keyword, value)


def _copy(dataset: Dataset) -> Dataset:
    """A dataset of its own with the same elements."""
    own = Dataset()
    own.update(dataset)
    return own


def _many(value: object) -> bool:
    """True for a value of several entries."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def _classic_pet(header: Dataset) -> None:
    """Say the corrections of an enhanced PET in the words of a classic one.

    Decay Correction DateTime is the moment the voxels are corrected to, which the classic rules look for in the series
    time.
    """
    flags = {"DECY": "DecayCorrected", "ATTN": "AttenuationCorrected", "SCAT": "ScatterCorrected"}
    header.CorrectedImage = [word for word, keyword in flags.items() if header.get(keyword) == "YES"] or ["NONE"]
    moment = str(header.get("DecayCorrectionDateTime", "") or "")
    if header.get("DecayCorrected") != "YES":
        header.DecayCorrection = "NONE"
    elif len(moment) >= 10:
        header.DecayCorrection, header.SeriesDate, header.SeriesTime = "START", moment[:8], moment[8:].split("+")[0]


def _require_decoder(dataset: Dataset, path: Path) -> None:
    """Say which package is missing for a compressed image."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise InputError(f"{path.name}: Transfer Syntax UID (0002,0010) is absent.", "Replace the file.")
    if not syntax.is_compressed or syntax.is_deflated or PYDICOM_2:
        return
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(
            f"{path.name}: transfer syntax {syntax.name} is not supported.", "Export the series uncompressed."
        ) from None
    if not decoder.is_available:
        raise MissingPackageError(
            f"{path.name}: images are compressed ({syntax.name}) and no decoder is installed.",
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or export the series uncompressed.",
        )
