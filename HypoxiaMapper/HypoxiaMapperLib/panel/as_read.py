"""Whether a segment is still as it was read from a structure set: otherwise no request can name it by its ROI."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..mrml import segment_to_region
from ..mrml.segments import segment_tag
from ..volume import Region

AS_READ = "Hypoxia.AsRead"  # JSON: series of the structure set, grid and checksum of the segment as read


def remember_as_read(node: Any, segment_id: str, region: Region, series_uid: str) -> None:
    """Keep with a segment of which structure set it was read, and a checksum of it."""
    facts = {"series": series_uid, "grid": grid_facts(region.mask), "crc": _checksum(region)}
    node.GetSegmentation().GetSegment(segment_id).SetTag(AS_READ, json.dumps(facts))


def series_as_read(node: Any, segment_id: str) -> str:
    """Series UID of the structure set a segment was read from; empty when it was drawn, renamed or changed since.

    Raises
    ------
    GeometryError
        If it stands under a transform.
    """
    facts = json.loads(segment_tag(node.GetSegmentation().GetSegment(segment_id), AS_READ) or "{}")
    if not facts or _checksum(segment_to_region(node, segment_id, grid_of(facts["grid"]))) != facts["crc"]:
        return ""
    return str(facts["series"])


def grid_facts(image: sitk.Image) -> list[Any]:
    """Size, spacing, origin and direction of a grid, for JSON."""
    return [image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()]


def grid_of(facts: list[Any]) -> sitk.Image:
    """Grid of ``grid_facts``, empty."""
    image = sitk.Image(facts[0], sitk.sitkUInt8)
    image.SetSpacing(facts[1])
    image.SetOrigin(facts[2])
    image.SetDirection(facts[3])
    return image


def _checksum(region: Region) -> int:
    """Of name and voxels."""
    return zlib.crc32(np.packbits(region.array).tobytes(), zlib.crc32(region.name.encode()))
