"""Parametric Map: a quantity per voxel with its code and unit (PS3.3 A.75; METHODS section 11).

Used for the hypoxia map and for the voxel prescription. Undefined voxels are stored as IEEE NaN, which PS3.5 section 8
allows in Float Pixel Data, and NaN is named as Float Pixel Padding Value: no reader can take them for a measurement.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import LimitError
from HypoxiaMapperLib.volume import Volume, require_same_grid

from ..structures import Code
from .common import (
    MAX_SHORT_TEXT,
    RESEARCH_TEXT,
    acceptor,
    code_item,
    finish_object,
    highdicom_equipment,
    object_label,
    quiet_about_copied_values,
    save,
    source_headers,
    title,
)
from .contours import to_patient
from .seg import coded

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Box = tuple[slice, slice, slice]

# METHODS section 11; a quantity that is not here gets a private code, as DICOM has none for hypoxia.
UPTAKE_RATIO = Code("126039", "DCM", "Lesion to background SUV Ratio")
QUANTITY_CODES = {
    "SUVbw": Code("126401", "DCM", "SUVbw"),
    "R1": Code("126393", "DCM", "R1"),
    "R2*": Code("126395", "DCM", "R2*"),
    "ADC": Code("113041", "DCM", "Apparent Diffusion Coefficient"),
    "Ktrans": Code("126312", "DCM", "Ktrans"),
    "IAUC60": Code("126321", "DCM", "IAUC60"),
    "OEF": Code("126392", "DCM", "Oxygen Extraction Fraction"),
}
PRIVATE_SCHEME = "99HYPOX"
WINDOW_FUNCTION = "LINEAR_EXACT"  # LINEAR cannot be narrower than 1, and a ratio map often is (PS3.3 C.11.2.1.2)
WHOLE_BODY = Code("38266002", "SCT", "Entire body")


def quantity_code(quantity: str) -> Code:
    """DICOM code of a quantity ("<tracer> uptake ratio to <reference>" included); else a private one of 99HYPOX."""
    if "uptake ratio to " in quantity and "surrogate" not in quantity.lower():
        return UPTAKE_RATIO
    if quantity in QUANTITY_CODES:
        return QUANTITY_CODES[quantity]
    value = "".join(c if c.isalnum() else "_" for c in quantity.upper())
    if len(value) > 16:  # SH; two long names that begin alike are two codes
        value = f"{value[:11]}_{hashlib.sha256(quantity.encode()).hexdigest()[:4].upper()}"
    return Code(value, PRIVATE_SCHEME, quantity[:64])


def unit_code(unit: str) -> Code:
    """Code of a UCUM unit."""
    return Code(unit, "UCUM", {"{ratio}": "ratio", "mm[Hg]": "mmHg", "Gy": "gray"}.get(unit, unit))


def write_parametric_map(
    path: Path,
    volume: Volume,
    planning: ImageSeries,
    box: Box | None,
    label: str,
    quantity: Code,
    unit: Code,
    provenance: Mapping[str, Any],
    created: datetime,
) -> str:
    """Write a volume on the planning grid as a float32 Parametric Map and return its SOP Instance UID.

    Parameters
    ----------
    box : tuple of slice or None
        Part of the array (z, y, x) to write; None for all.
    label : str
        What the map shows, at most 64 characters.
    quantity, unit : Code
        See ``quantity_code`` and ``unit_code``.

    Raises
    ------
    GeometryError
        If the volume is not on the planning grid.
    LimitError
        If there is no finite voxel in the box.
    OutputError
        If the file exists or cannot be written.
    """
    from highdicom.pm import ParametricMap

    require_same_grid(volume.image, planning.volume.image, label)
    box = box or (slice(None),) * 3
    part = [range(*s.indices(n)) for s, n in zip(box, volume.array.shape, strict=True)]
    voxels = np.array(volume.array[box], dtype=np.float32, order="C")
    voxels[~np.isfinite(voxels)] = np.nan
    if np.isnan(voxels).all():
        raise LimitError(f"{label}: there is no defined voxel to export.", "Check the region and the method.")
    with quiet_about_copied_values():
        ds = ParametricMap(
            source_images=source_headers(planning, part[0]),
            pixel_array=voxels,
            contains_recognizable_visual_features=False,
            **_values(voxels, label, quantity, unit),
            content_label=object_label(provenance),
            content_description=title(provenance, label),
            content_creator_name=acceptor(provenance) or None,
            **_planes(planning, part[0], part[1][0], part[2][0]),
            **highdicom_equipment(created),
        )
    ds.FloatPixelPaddingValue = ds.FloatPixelPaddingRangeLimit = float("nan")
    ds.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_frame_anatomy()]
    ds.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].VOILUTFunction = WINDOW_FUNCTION
    finish_object(ds, provenance, created, label)
    ds.ImageComments = f"{label}. Voxels without a value are NaN. {RESEARCH_TEXT}."[:MAX_SHORT_TEXT]
    return save(ds, path)


def _values(voxels: np.ndarray, label: str, quantity: Code, unit: Code) -> dict[str, Any]:
    """What the stored values mean, and a window that shows all of them."""
    from highdicom.pm import RealWorldValueMapping

    low, high = float(np.nanmin(voxels)), float(np.nanmax(voxels))
    mapping = RealWorldValueMapping(
        lut_label=re.split("[:,]", label)[0][:16], lut_explanation=label[:64], unit=coded(unit),
        value_range=(low, high), slope=1.0, intercept=0.0, quantity_definition=coded(quantity),
    )  # fmt: skip
    return {"real_world_value_mappings": [mapping], **_window((low + high) / 2, max(high - low, 1e-9))}


def _window(centre: float, width: float) -> dict[str, Any]:
    """The window as highdicom takes it; 0.27, which Slicer 5.12 brings, takes no transformation."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap

    if "voi_lut_transformations" not in inspect.signature(ParametricMap.__init__).parameters:
        return {"window_center": centre, "window_width": width}
    return {"voi_lut_transformations": [VOILUTTransformation(centre, width, voi_lut_function=WINDOW_FUNCTION)]}


def _frame_anatomy() -> Dataset:
    """The least that can be said of the region; dcmqi, and through it 3D Slicer, crashes on a map without."""
    from pydicom.dataset import Dataset

    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [code_item(WHOLE_BODY)]
    return anatomy


def _planes(planning: ImageSeries, slices: range, row: int, column: int) -> dict[str, Any]:
    """Geometry arguments of a part of the planning series that begins at a row and column."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    first: Dataset = planning.headers[0]
    gap = planning.volume.image.GetSpacing()[2]
    corner = np.array([[column, row]], dtype=float)
    return {
        "pixel_measures": PixelMeasuresSequence([float(v) for v in first.PixelSpacing], gap, gap),
        "plane_orientation": PlaneOrientationSequence("PATIENT", [float(v) for v in first.ImageOrientationPatient]),
        "plane_positions": [
            PlanePositionSequence("PATIENT", to_patient(corner, planning.headers[k])[0].tolist()) for k in slices
        ],
    }
