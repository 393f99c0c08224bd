"""Read the images of a series into one volume on a regular grid, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ..errors import GeometryError, InputError
from ..volume import Volume
from .frames import image_names, read_images
from .model import ImageSeries, SeriesInfo
from .real_world import real_world_of
from .recognise import find_body_parts
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
        Volume of shape (slices, rows, columns), int16 where that is exact, else float32, slices sorted along their
        normal; ``headers[k]`` belongs to ``array[k]``. CT in Hounsfield units, MR in the unit of its real-world mapping
        or else arbitrary ones, PET in the unit of the file. A series of one slice takes its Slice Thickness as spacing.

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
    images = [list(read_images(path)) for path in info.files]
    if not images:
        raise InputError(f"{series} has no files.", "Scan the folder again.")
    headers, pixels = [h for file in images for h, _ in file], [p for file in images for _, p in file]
    names = image_names(info.files, [len(file) for file in images])
    del images
    require_one_frame(headers, names, series)
    planes = [plane_of(header, name) for header, name in zip(headers, names, strict=True)]
    _refuse_4d(planes, headers, series)
    grid = build_grid(planes, series)
    rescales = [rescale_of(header, name) for header, name in zip(headers, names, strict=True)]
    array: np.ndarray = np.empty((grid.size[2], grid.size[1], grid.size[0]), _voxel_type(pixels, rescales))
    for k, i in enumerate(grid.order):
        slope, intercept = rescales[i]
        if array.dtype == np.int16:
            np.add(pixels[i], int(intercept), out=array[k], dtype=np.int32, casting="unsafe")
        else:  # in double precision, so that a slope such as 1.3e-5 is applied exactly before one rounding
            array[k] = pixels[i] * slope + intercept
        pixels[i] = np.empty(0)
    ordered = tuple(headers[i] for i in grid.order)
    return ImageSeries(info, _volume(info, array, grid, ordered), ordered)


def _voxel_type(pixels: Sequence[np.ndarray], rescales: Sequence[tuple[float, float]]) -> type:
    """int16 where it holds every value exactly (a usual CT: half the memory), else float32."""
    for stored, (slope, intercept) in zip(pixels, rescales, strict=True):
        if slope != 1 or not intercept.is_integer() or stored.dtype.kind not in "iu" or stored.size == 0:
            return np.float32
        if stored.min() + intercept < -32768 or stored.max() + intercept > 32767:
            return np.float32
    return np.int16


def _volume(info: SeriesInfo, array: np.ndarray, grid: Grid, headers: Sequence[Dataset]) -> Volume:
    """Put the voxels on the grid and say what they are."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    found = {quantity_of(info, header) for header in headers}
    if len(found) > 1:
        units = " and ".join(sorted(unit for _, unit in found))
        raise InputError(f"Series {info.description!r} is in {units}, slice by slice.", "Export the series again.")
    quantity, unit = found.pop()
    operations = [f"read {len(headers)} slices, rescale slope and intercept per slice"]
    if len(headers) == 1:
        operations.append("single slice: Slice Thickness taken as spacing")
    return Volume(
        image=image,
        quantity=quantity,
        unit=unit,
        frame_of_reference_uid=str(headers[0].get("FrameOfReferenceUID", "") or ""),
        source_uids=tuple(dict.fromkeys(str(header.SOPInstanceUID) for header in headers)),
        operations=tuple(operations),
        facts={
            "series_uid": info.series_uid, "series_description": info.description, "modality": info.modality,
            "body_parts": find_body_parts(headers),
        },
    )  # fmt: skip


def quantity_of(info: SeriesInfo, header: Dataset) -> tuple[str, str]:
    """Quantity and UCUM unit by modality."""
    if info.role == "planning_ct":
        return "CT number", "[hnsf'U]"
    if info.role == "mr":
        mapping = real_world_of(header)
        if mapping is not None:
            return info.kind or "MR map", mapping.unit
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


def rescale_of(header: Dataset, name: str) -> tuple[float, float]:
    """Slope and intercept of one slice: an MR map's real-world mapping, else the rescale ones; MR may have none."""
    mapping = real_world_of(header)
    if mapping is not None:
        return mapping.slope, mapping.intercept
    if header.get("ModalityLUTSequence"):
        raise InputError(f"{name}: a Modality LUT (0028,3000) stands for Rescale Slope.", "Export it with a slope.")
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if header.get("Modality") in ("CT", "PT") and (slope is None or intercept is None):
        raise InputError(
            f"{name}: Rescale Slope (0028,1053) or Intercept (0028,1052) is absent: the scale of its values is lost.",
            "Export the series again.",
        )
    slope = 1.0 if slope is None else float(slope)
    if not np.isfinite(slope) or slope == 0:
        raise InputError(f"{name}: Rescale Slope (0028,1053) is {slope}.", "Export the series again.")
    return slope, 0.0 if intercept is None else float(intercept)


def plane_of(header: Dataset, name: str) -> SlicePlane:
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


def require_one_frame(headers: Sequence[Dataset], names: Sequence[str], series: str) -> None:
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
                "Use it with a method that takes a series, or export one frame as its own series.",
            )
    raise GeometryError(
        f"{series}: 4D series without order, every slice position exists {count} times and no tag tells the frames "
        "apart.",
        "Export the frames as separate series.",
    )
