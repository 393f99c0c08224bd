"""RT Structure Set on the original planning-CT slices (PS3.3 A.19.3; METHODS section 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage
from scipy import ndimage

from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import LimitError, RequestError

from ..structures import Structure
from .common import (
    MAX_LONG_STRING,
    RESEARCH_TEXT,
    acceptor,
    category_code,
    code_item,
    describe,
    describe_part,
    format_points,
    new_object,
    object_label,
    reference_item,
    save,
    title,
)
from .contours import region_contours

DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # retired, but what planning systems expect here
CONTOUR_DATA = Tag(0x3006, 0x0050)


def write_rtstruct(
    path: Path,
    structures: Sequence[Structure],
    planning: ImageSeries,
    provenance: Mapping[str, Any],
    created: datetime,
    holes: str = "keyhole",
) -> str:
    """Write the structures as an RT Structure Set and return its SOP Instance UID.

    ROI numbers are 1, 2, ... in the order given. Contours follow the pixel edges (see ``contours``).

    Raises
    ------
    RequestError
        If there is no structure, two have the same name, or an enclosing structure is missing.
    LimitError
        If a structure is empty.
    GeometryError
        If a structure is not on the grid of the planning series.
    OutputError
        If the file exists or cannot be written.
    """
    _check(structures)
    ds = new_object(RTStructureSetStorage, "RTSTRUCT", planning, provenance, created, "Hypoxia targets")
    ds.StructureSetLabel = object_label(provenance)
    ds.StructureSetName = title(provenance, f"Dose painting. {RESEARCH_TEXT}")
    ds.StructureSetDescription = describe(provenance)
    ds.StructureSetDate, ds.StructureSetTime = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    ds.ApprovalStatus = "UNAPPROVED"
    ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(planning)]
    numbers = {s.name: n for n, s in enumerate(structures, start=1)}
    ds.StructureSetROISequence = [_roi(n, s, planning, provenance) for n, s in enumerate(structures, start=1)]
    ds.ROIContourSequence = [_contours(n, s, planning, holes) for n, s in enumerate(structures, start=1)]
    ds.RTROIObservationsSequence = [_observation(s, numbers, structures, provenance) for s in structures]
    return save(ds, path)


def _check(structures: Sequence[Structure]) -> None:
    """Refuse what cannot become a sound structure set."""
    names = [s.name for s in structures]
    if not names:
        raise RequestError("There is no structure to export.", "Give at least one.")
    if len(set(names)) < len(names):
        raise RequestError(f"Structure names are not unique: {', '.join(names)}.", "Rename one.")
    for s in structures:
        if not s.region.array.any():
            raise LimitError(f"Structure {s.name} is empty.", "Leave it out, or lower the threshold.")
        if s.enclosed_by and s.enclosed_by not in names:
            raise RequestError(f"{s.name} is enclosed by {s.enclosed_by}, which is not exported.", "Export it too.")


def _frame_of_reference(planning: ImageSeries) -> Dataset:
    """Frame of reference, study and series with every original slice: the planning system finds its CT by these."""
    series = Dataset()
    series.SeriesInstanceUID = planning.headers[0].SeriesInstanceUID
    series.ContourImageSequence = [reference_item(h.SOPClassUID, h.SOPInstanceUID) for h in planning.headers]
    study = reference_item(DETACHED_STUDY_MANAGEMENT, planning.headers[0].StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = planning.info.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, structure: Structure, planning: ImageSeries, provenance: Mapping[str, Any]) -> Dataset:
    """Item of the Structure Set ROI Sequence."""
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = planning.info.frame_of_reference_uid
    roi.ROIName = structure.name
    dose = f"Prescribed {structure.dose.dose_gy:g} Gy in {structure.dose.fractions}. " if structure.dose else ""
    roi.ROIDescription = describe_part(provenance, dose + structure.description.rstrip("."))  # a long list goes last
    roi.ROIVolume = f"{structure.region.volume_ml:.6g}"  # cubic centimetres
    roi.ROIGenerationAlgorithm = structure.generation_algorithm
    roi.ROIGenerationDescription = structure.description[:MAX_LONG_STRING].replace("\\", "/")  # it parts values of LO
    return roi


def _contours(number: int, structure: Structure, planning: ImageSeries, holes: str) -> Dataset:
    """Item of the ROI Contour Sequence: one item per polygon, each with its CT slice."""
    item = Dataset()
    item.ROIDisplayColor = list(structure.colour)
    item.ReferencedROINumber = number
    slices = region_contours(structure.region, planning, holes)
    # An ROI with XOR contours has no contour of another kind (PS3.3 C.8.8.6.3). Many readers do not know the kind, so
    # an ROI without holes keeps to the one that all know.
    xor = holes == "xor" and _holes(structure.region.array)
    kind = "CLOSEDPLANAR_XOR" if xor else "CLOSED_PLANAR"
    item.ContourSequence = []
    for k, polygons in slices:
        header = planning.headers[k]
        for points in polygons:
            item.ContourSequence.append(_contour(len(item.ContourSequence) + 1, points, kind, header))
    return item


def _holes(mask: np.ndarray) -> bool:
    """True if any slice (z, y, x) holds background that is cut off from its border, corners counting as passage."""
    passage = np.ones((3, 3), dtype=bool)
    return any(ndimage.label(np.pad(~m, 1, constant_values=True), passage)[1] > 1 for m in mask if m.any())


def _contour(number: int, points: np.ndarray, kind: str, header: Dataset) -> Dataset:
    """Item of the Contour Sequence. The points are put in as bytes: a list of DS objects costs a hundred times more."""
    contour = Dataset()
    contour.ContourImageSequence = [reference_item(header.SOPClassUID, header.SOPInstanceUID)]
    contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = len(points)
    contour.ContourNumber = number
    data = format_points(points)
    contour[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", len(data), data, 0, True, True)
    contour.set_original_encoding(True, True, default_encoding)  # else pydicom decodes the bytes to encode them anew
    return contour


def _observation(
    structure: Structure, numbers: Mapping[str, int], structures: Sequence[Structure], provenance: Mapping[str, Any]
) -> Dataset:
    """Item of the RT ROI Observations Sequence: what the ROI is, and which others it lies in or holds."""
    item = Dataset()
    number = numbers[structure.name]
    item.ObservationNumber = item.ReferencedROINumber = number
    item.ROIObservationLabel = structure.name
    item.RTROIInterpretedType = structure.interpreted_type
    item.ROIInterpreter = acceptor(provenance)
    item.SegmentedPropertyCategoryCodeSequence = [code_item(category_code(structure))]
    item.RTROIIdentificationCodeSequence = [code_item(structure.code)]
    related = [(numbers[structure.enclosed_by], "ENCLOSED")] if structure.enclosed_by else []
    related += [(numbers[s.name], "ENCLOSING") for s in structures if s.enclosed_by == structure.name]
    if related:
        item.RTRelatedROISequence = [_related(n, relationship) for n, relationship in related]
    return item


def _related(number: int, relationship: str) -> Dataset:
    """Item of the RT Related ROI Sequence."""
    item = Dataset()
    item.ReferencedROINumber, item.RTROIRelationship = number, relationship
    return item
