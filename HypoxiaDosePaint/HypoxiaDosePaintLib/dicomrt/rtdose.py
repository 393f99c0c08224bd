"""Voxel prescription as RT Dose, for planning systems that read no Parametric Map (METHODS section 11).

It is a wish, not a calculation: the comment, the series and the summation say so wherever a reader looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import RTDoseStorage, RTPlanStorage

from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import LimitError, RequestError
from HypoxiaMapperLib.volume import Volume, require_same_grid

from .common import format_ds, new_object, reference_item, save

DOSE_COMMENT = "PRESCRIPTION, NOT CALCULATED"
GRID_SCALING_GY = 0.005  # resolves 0.01 Gy (METHODS 11) and reaches 327 Gy, above any dose a request may hold


def write_rtdose(
    path: Path,
    dose_gy: Volume,
    plan_uid: str,
    planning: ImageSeries,
    provenance: Mapping[str, Any],
    created: datetime,
) -> str:
    """Write a prescribed physical dose on the planning grid as 16-bit RT Dose and return its SOP Instance UID.

    Voxels without a prescription (NaN) become 0 Gy, as RT Dose has no undefined voxel. The summation type is PLAN: the
    values are the total of all fractions of the referenced, beam-less plan; every other type would claim beams, control
    points or a delivered record.

    Raises
    ------
    RequestError
        If the volume is not in Gy or holds a negative dose.
    LimitError
        If a dose is above what 16 bits hold at this resolution.
    GeometryError
        If the volume is not on the planning grid.
    OutputError
        If the file exists or cannot be written.
    """
    require_same_grid(dose_gy.image, planning.volume.image, "Dose")
    dose = _checked(dose_gy)
    first = planning.headers[0]
    ds = new_object(RTDoseStorage, "RTDOSE", planning, provenance, created, "PRESCRIBED, NOT CALCULATED")
    ds.ContentDate, ds.ContentTime = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType, ds.DoseComment = "GY", "PHYSICAL", "PLAN", DOSE_COMMENT
    ds.DoseGridScaling = format_ds(GRID_SCALING_GY)
    ds.ReferencedRTPlanSequence = [reference_item(RTPlanStorage, plan_uid)]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = first.ImagePositionPatient, first.ImageOrientationPatient
    ds.PixelSpacing, ds.SliceThickness = first.PixelSpacing, None
    ds.FrameIncrementPointer = (0x3004, 0x000C)
    ds.GridFrameOffsetVector = [format_ds(v) for v in _offsets_mm(planning)]
    ds.NumberOfFrames, ds.Rows, ds.Columns = dose.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    stored = np.round(dose / GRID_SCALING_GY).astype("<u2").tobytes()
    ds.PixelData = stored + b"\0" * (len(stored) % 2)
    ds["PixelData"].VR = "OW"
    return save(ds, path)


def _checked(dose_gy: Volume) -> np.ndarray:
    """Dose in gray, 0 where there is none; refuses what cannot be a dose or be stored."""
    if dose_gy.unit != "Gy":
        raise RequestError(f"The dose volume is in {dose_gy.unit!r}.", "Give the prescription in Gy.")
    dose = np.nan_to_num(dose_gy.array, nan=0.0)
    if dose.min() < 0:
        raise RequestError(f"The dose volume holds {dose.min():g} Gy.", "A prescribed dose is at least 0.")
    if dose.max() > 65535 * GRID_SCALING_GY:
        raise LimitError(f"The dose of {dose.max():g} Gy is too high to be stored.", "Is the unit Gy?")
    return dose


def _offsets_mm(planning: ImageSeries) -> np.ndarray:
    """Distance of each plane from the first along the normal, mm, rounded to 0.001 (PS3.3 C.8.8.3.2)."""
    cosines = np.array(planning.headers[0].ImageOrientationPatient, dtype=float)
    positions = np.array([h.ImagePositionPatient for h in planning.headers], dtype=float)
    return np.round((positions - positions[0]) @ np.cross(cosines[:3], cosines[3:]), 3) + 0.0
