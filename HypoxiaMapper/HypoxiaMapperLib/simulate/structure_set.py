"""Write masks as an RTSTRUCT (PS3.3 A.19.3) whose contours run along the pixel edges.

Rasterised by "pixel centre inside contour", such contours give the mask back exactly, in every program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from .dicom_writer import STUDY_DAYS, Identity, clock, new_dataset, save

WRITTEN_AT_S = 15 * 3600


def trace_pixel_edges(plane: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of a plane's pixels along their edges.

    Parameters
    ----------
    plane : numpy.ndarray
        Boolean (rows, columns), without holes inside its face-connected pieces.

    Returns
    -------
    list of numpy.ndarray
        One array (n, 2) of corners (column, row) per outline, in pixel units with pixel centres at whole numbers; the
        first corner is not repeated, no three corners lie on a line, pixels that touch at a corner are not joined.
    """
    padded = np.pad(plane.astype(bool), 1)
    core = padded[1:-1, 1:-1]
    # Edges as (start, end) corners with the pixel to the right of the way, so that each outline closes on itself.
    sides = (
        (~padded[:-2, 1:-1], (0, 0), (0, 1)),
        (~padded[1:-1, 2:], (0, 1), (1, 1)),
        (~padded[2:, 1:-1], (1, 1), (1, 0)),
        (~padded[1:-1, :-2], (1, 0), (0, 0)),
    )
    onward: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for outside, (r0, c0), (r1, c1) in sides:
        for row, column in np.argwhere(core & outside).tolist():
            onward.setdefault((row + r0, column + c0), []).append((row + r1, column + c1))
    outlines = []
    while onward:
        start = min(onward)
        path, corner, heading = [start], start, (0, 0)
        while True:
            corner, heading = _step(onward, corner, heading)
            if corner == start:
                break
            path.append(corner)
        outlines.append(_corners_only(np.array(path, dtype=float)[:, ::-1] - 0.5))
    return outlines


def _step(
    onward: dict[tuple[int, int], list[tuple[int, int]]], corner: tuple[int, int], heading: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Take (and use up) the edge that leaves a corner; where two do, the right turn, which stays with its own pixel."""
    choices = onward[corner]
    right_turn = (corner[0] + heading[1], corner[1] - heading[0])
    chosen = right_turn if right_turn in choices else choices[0]
    choices.remove(chosen)
    if not choices:
        del onward[corner]
    return chosen, (chosen[0] - corner[0], chosen[1] - corner[1])


def _corners_only(path: np.ndarray) -> np.ndarray:
    """Drop the points of a closed path at which it goes straight on."""
    turns = np.any(path - np.roll(path, 1, axis=0) != np.roll(path, -1, axis=0) - path, axis=1)
    return path[turns]


def write_rtstruct(
    path: Path,
    masks: Mapping[str, tuple[np.ndarray, str, tuple[int, int, int]]],
    grid: sitk.Image,
    ct_slices: Sequence[Dataset],
    identity: Identity,
) -> Dataset:
    """Write an RTSTRUCT on the planning CT.

    Parameters
    ----------
    masks : mapping
        ROI name to (boolean array (z, y, x), RT ROI interpreted type, display colour).
    grid : SimpleITK.Image
        The CT's grid, axial.
    ct_slices : sequence of Dataset
        The CT's datasets, in the order of z.
    """
    ds = new_dataset(identity, "PLAN", "RTSTRUCT", RTStructureSetStorage, "Digital patient structures", 0)
    ds.SeriesNumber = "10"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = identity.frame_of_reference_uid, ""
    ds.StructureSetLabel, ds.StructureSetName = "DIGITAL", "Digital patient"
    ds.StructureSetDate, ds.StructureSetTime = STUDY_DAYS["PLAN"], clock(WRITTEN_AT_S)
    ds.InstanceNumber, ds.ApprovalStatus = "1", "UNAPPROVED"
    ds.ReferencedFrameOfReferenceSequence = [_referenced_frame(ct_slices, identity)]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, (name, (mask, kind, colour)) in enumerate(masks.items(), start=1):
        ds.StructureSetROISequence.append(_roi(number, name, identity))
        ds.ROIContourSequence.append(_roi_contours(number, mask, colour, grid, ct_slices))
        ds.RTROIObservationsSequence.append(_observation(number, kind))
    path.parent.mkdir(parents=True)
    save(ds, path)
    return ds


def _referenced_frame(ct_slices: Sequence[Dataset], identity: Identity) -> Dataset:
    """Referenced Frame of Reference item: frame, study, series and every CT image."""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = ct_slices[0].SeriesInstanceUID
    series.ContourImageSequence = [_reference(ct) for ct in ct_slices]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, as PS3.3 C.8.8.5 asks
    study.ReferencedSOPInstanceUID = ct_slices[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = identity.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(ct: Dataset) -> Dataset:
    """Reference to one CT image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ct.SOPClassUID, ct.SOPInstanceUID
    return item


def _roi(number: int, name: str, identity: Identity) -> Dataset:
    """Structure Set ROI item."""
    item = Dataset()
    item.ROINumber, item.ROIName, item.ROIGenerationAlgorithm = number, name, "AUTOMATIC"
    item.ReferencedFrameOfReferenceUID = identity.frame_of_reference_uid
    return item


def _roi_contours(
    number: int, mask: np.ndarray, colour: tuple[int, int, int], grid: sitk.Image, ct_slices: Sequence[Dataset]
) -> Dataset:
    """ROI Contour item: outlines of every plane, in LPS mm rounded to 0.001."""
    origin, spacing = np.array(grid.GetOrigin()), np.array(grid.GetSpacing())
    item = Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor, item.ContourSequence = number, list(colour), []
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for outline in trace_pixel_edges(mask[index]):
            points = np.column_stack([outline, np.full(len(outline), index)]) * spacing + origin
            contour = Dataset()
            contour.ContourImageSequence = [_reference(ct_slices[index])]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.3f}".rstrip("0").rstrip(".") for v in points.ravel()]
            item.ContourSequence.append(contour)
    return item


def _observation(number: int, kind: str) -> Dataset:
    """RT ROI Observations item."""
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType, item.ROIInterpreter = kind, ""
    return item
