"""DICOM Segmentation of the voxels of the structure set, on the original CT slices (PS3.3 A.51; METHODS 11).

It holds the raw hypoxic volume without margin, the GTVs and the targets, so that masks can be had without contours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from HypoxiaMapperLib import __version__
from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.errors import LimitError, RequestError

from ..structures import Code, Structure
from .common import (
    MODEL,
    RESEARCH_TEXT,
    acceptor,
    category_code,
    describe_part,
    finish_object,
    highdicom_equipment,
    new_uid,
    object_label,
    quiet_about_copied_values,
    save,
    source_headers,
    title,
)
from .contours import require_planning_grid

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

# PS3.16 CID 7162: the volumes come from thresholds, components and margins
ALGORITHM_FAMILY = Code("123104", "DCM", "Morphological Operations")


def write_seg(
    path: Path,
    structures: Sequence[Structure],
    planning: ImageSeries,
    provenance: Mapping[str, Any],
    created: datetime,
) -> str:
    """Write the structures as a binary Segmentation, one segment each in the order given; return its SOP Instance UID.

    Frames exist for the slices that hold a voxel, each bound to its original CT instance.

    Raises
    ------
    RequestError
        If there is no structure.
    LimitError
        If a structure is empty.
    GeometryError
        If a structure is not on the grid of the planning series.
    OutputError
        If the file exists or cannot be written.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    if not structures:
        raise RequestError("There is no structure to export.", "Give at least one.")
    slices = _used_slices(structures, planning)
    with quiet_about_copied_values():
        ds = Segmentation(
            source_images=source_headers(planning, slices),
            pixel_array=np.stack([s.region.array[slices] for s in structures], axis=-1).view(np.uint8),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(n, s, provenance) for n, s in enumerate(structures, start=1)],
            content_label=object_label(provenance),
            content_description=title(provenance, RESEARCH_TEXT),
            content_creator_name=acceptor(provenance) or None,
            **highdicom_equipment(created),
        )
    finish_object(ds, provenance, created, "Hypoxia targets as voxels")
    return save(ds, path)


def _used_slices(structures: Sequence[Structure], planning: ImageSeries) -> np.ndarray:
    """Indices of the slices on which any structure has a voxel."""
    used = np.zeros(len(planning.headers), dtype=bool)
    for structure in structures:
        require_planning_grid(structure.region, planning)
        filled = structure.region.array.any(axis=(1, 2))
        if not filled.any():
            raise LimitError(f"Structure {structure.name} is empty.", "Leave it out, or lower the threshold.")
        used |= filled
    return np.flatnonzero(used)


def _segment(number: int, structure: Structure, provenance: Mapping[str, Any]) -> SegmentDescription:
    """Description of one segment, with the same name, code and colour as the ROI."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    # Segment Algorithm Type has the same words as ROI Generation Algorithm; only algorithms are identified.
    manual = structure.generation_algorithm == "MANUAL"
    algorithm = AlgorithmIdentificationSequence(
        name=str(provenance.get("method", MODEL)),
        family=coded(ALGORITHM_FAMILY),
        version=__version__,
    )
    segment = SegmentDescription(
        segment_number=number,
        segment_label=structure.name,
        segmented_property_category=coded(category_code(structure)),
        segmented_property_type=coded(structure.code),
        algorithm_type=structure.generation_algorithm,
        algorithm_identification=None if manual else algorithm,
        tracking_uid=new_uid(),
        tracking_id=structure.name,
        display_color=CIELabColor.from_rgb(*structure.colour),
    )
    segment.SegmentDescription = describe_part(provenance, structure.description)
    return segment


def coded(code: Code) -> Any:
    """The code as highdicom takes it."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
