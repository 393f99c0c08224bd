"""Read the images of a series into one volume on a regular grid, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array

from ..errors import GeometryError, InputError, MissingPackageError
from ..volume import Volume
from .model import ImageSeries, SeriesInfo
from .stack import Grid, SlicePlane, build_grid, doubled_positions, slice_order

_PET_UNITS = {  # Units (0054,1001) to UCUM
    "BQML": "Bq/ml",
    "GML": "g/ml",
    "CM2ML": "cm2/ml",
    "CNTS": "{counts}",
    "CPS": "{counts}/s",
    "PROPCNTS": "{counts}",
    "NONE": "{none}",
}
_FRAME_KEYWORDS = (  # what may tell the frames of a 4D series apart
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "FrameReferenceTime", "AcquisitionNumber", "TriggerTime"),
    *("DiffusionBValue", "EchoTime", "FlipAngle", "InversionTime", "AcquisitionDateTime", "AcquisitionTime"),
)


def read_image_series(info: SeriesInfo) -> ImageSeries:
    """Read a CT, MR or PET series as its files state it (rescale slope and intercept of every slice applied).

    Parameters
    ----------
    info : SeriesInfo
        Series from a scan. The order of its files does not matter.

    Returns
    -------
    ImageSeries
        Volume of shape (slices, rows, columns), float32, slices sorted along their normal; ``headers[k]`` belongs to
        ``array[k]``. CT in Hounsfield units, MR in arbitrary units, PET in the unit of the file. A series of one
        slice takes its Slice Thickness as spacing.

    Raises
    ------
    GeometryError
        If the slices do not fill one regular grid in one frame of reference, naming file, tag or position.
    InputError
        If a file cannot be read, naming it.
    MissingPackageError
        If the images are compressed and no decoder is installed, naming the package.
    """
    series = f"{info.modality or 'image'} series {info.description!r}"
    slices = [_read_slice(path) for path in info.files]
    if not slices:
        raise InputError(f"{series} has no files.", "Scan the folder again.")
    headers, pixels = [s[0] for s in slices], [s[1] for s in slices]
    names = [path.name for path in info.files]
    _require_one_frame(headers, names, series)
    planes = [_plane(header, name) for header, name in zip(headers, names, strict=True)]
    _refuse_4d(planes, headers, series)
    grid = build_grid(planes, series)
    array = np.empty((grid.size[2], grid.size[1], grid.size[0]), np.float32)
    for k, i in enumerate(grid.order):
        slope, intercept = _rescale(headers[i], names[i])
        # In double precision, so that a slope such as 1.3e-5 is applied exactly before rounding to float32 once.
        array[k] = pixels[i] * slope + intercept
        pixels[i] = np.empty(0)
    ordered = tuple(headers[i] for i in grid.order)
    return ImageSeries(info, _volume(info, array, grid, ordered), ordered)


def _volume(info: SeriesInfo, array: np.ndarray, grid: Grid, headers: Sequence[Dataset]) -> Volume:
    """Put the voxels on the grid and say what they are."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    quantity, unit = _quantity(info, headers[0])
    operations = [f"read {len(headers)} slices, rescale slope and intercept per slice"]
    if len(headers) == 1:
        operations.append("single slice: Slice Thickness taken as spacing")
    return Volume(
        image=image,
        quantity=quantity,
        unit=unit,
        frame_of_reference_uid=str(headers[0].get("FrameOfReferenceUID", "") or ""),
        source_uids=tuple(str(header.SOPInstanceUID) for header in headers),
        operations=tuple(operations),
        facts={"series_uid": info.series_uid, "series_description": info.description, "modality": info.modality},
    )


def _quantity(info: SeriesInfo, header: Dataset) -> tuple[str, str]:
    """Quantity and UCUM unit by modality."""
    if info.role == "planning_ct":
        return "CT number", "[hnsf'U]"
    if info.role == "mr":
        return f"MR signal ({info.kind or 'unknown'})", "[arb'U]"
    if info.role == "pet":
        units = str(header.get("Units", "") or "")
        if units not in _PET_UNITS:
            raise InputError(
                f"PET series {info.description!r}: Units (0054,1001) is {units or 'absent'}.",
                f"Known units: {', '.join(_PET_UNITS)}.",
            )
        return f"PET signal ({units})", _PET_UNITS[units]
    raise InputError(f"Series {info.description!r} is a {info.role}, not an image.", "Choose a CT, MR or PET series.")


def _read_slice(path: Path) -> tuple[Dataset, np.ndarray]:
    """Header without pixel data and stored pixel values, shape (rows, columns)."""
    try:
        dataset = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as DICOM ({error}).", "Remove or replace the file.") from error
    frames, samples = int(dataset.get("NumberOfFrames", 1) or 1), int(dataset.get("SamplesPerPixel", 1) or 1)
    if frames > 1 or "SharedFunctionalGroupsSequence" in dataset:
        raise InputError(
            f"{path.name}: enhanced multi-frame images are not supported yet (Number of Frames (0028,0008) {frames}).",
            "Export the series as single-frame images.",
        )
    if samples != 1:
        raise InputError(f"{path.name}: Samples per Pixel (0028,0002) is {samples}.", "Give gray images.")
    _require_decoder(dataset, path)
    try:
        pixels = pixel_array(dataset)  # unlike Dataset.pixel_array this one keeps no second copy in the dataset
    except (ValueError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        raise InputError(f"{path}: pixel data cannot be decoded ({error}).", "Replace the file.") from error
    del dataset.PixelData
    return dataset, pixels


def _require_decoder(dataset: Dataset, path: Path) -> None:
    """Say which package is missing for a compressed image."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise InputError(f"{path.name}: Transfer Syntax UID (0002,0010) is absent.", "Replace the file.")
    if not syntax.is_compressed or syntax.is_deflated:
        return
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


def _rescale(header: Dataset, name: str) -> tuple[float, float]:
    """Rescale slope and intercept of one slice; 1 and 0 when absent, as DICOM says."""
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    slope = 1.0 if slope is None else float(slope)
    if not np.isfinite(slope) or slope == 0:
        raise InputError(f"{name}: Rescale Slope (0028,1053) is {slope}.", "Export the series again.")
    return slope, 0.0 if intercept is None else float(intercept)


def _plane(header: Dataset, name: str) -> SlicePlane:
    """Where a slice lies."""
    values: dict[str, Any] = {}
    for keyword, tag, count in (
        ("ImagePositionPatient", "0020,0032", 3),
        ("ImageOrientationPatient", "0020,0037", 6),
        ("PixelSpacing", "0028,0030", 2),
    ):
        value = header.get(keyword)
        if value is None or isinstance(value, str | float) or len(value) != count:
            raise GeometryError(
                f"{name}: {keyword} ({tag}) is {'absent' if value is None else value}.",
                "Export the series with its geometry.",
            )
        values[keyword] = tuple(float(v) for v in value)
    thickness = header.get("SliceThickness")
    return SlicePlane(
        name=name,
        position=values["ImagePositionPatient"],
        orientation=values["ImageOrientationPatient"],
        pixel_spacing_mm=values["PixelSpacing"],
        shape=(int(header.Rows), int(header.Columns)),
        thickness_mm=float("nan") if thickness is None else float(thickness),
    )


def _require_one_frame(headers: Sequence[Dataset], names: Sequence[str], series: str) -> None:
    """Refuse slices of different frames of reference in one series."""
    first = str(headers[0].get("FrameOfReferenceUID", "") or "")
    for header, name in zip(headers, names, strict=True):
        frame = str(header.get("FrameOfReferenceUID", "") or "")
        if frame != first:
            raise GeometryError(
                f"{series}: mixed frames of reference, Frame of Reference UID (0020,0052) is {frame or 'absent'} in "
                f"{name} and {first or 'absent'} in {names[0]}.",
                "Split the series.",
            )


def _refuse_4d(planes: Sequence[SlicePlane], headers: Sequence[Dataset], series: str) -> None:
    """Refuse a series that holds every slice several times, saying whether its frames can be told apart."""
    _order, along = slice_order(planes)
    places = 1 + int(np.count_nonzero(~doubled_positions(along)))
    count = len(planes) // places
    if places * count != len(planes) or count < 2 or (places == 1 and count == 2):
        return
    groups = np.split(np.arange(len(planes)), np.flatnonzero(~doubled_positions(along)) + 1)
    if any(len(group) != count for group in groups):
        return
    for keyword in _FRAME_KEYWORDS:
        values = {str(header.get(keyword)) for header in headers}
        if len(values) == count:
            raise GeometryError(
                f"{series}: 4D series, {count} frames of {places} slices told apart by {keyword}.",
                "Export one frame as its own series.",
            )
    raise GeometryError(
        f"{series}: 4D series without order, every slice position exists {count} times and no tag tells the frames "
        "apart.",
        "Export the frames as separate series.",
    )
