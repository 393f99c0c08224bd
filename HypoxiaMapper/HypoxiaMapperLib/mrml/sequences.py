"""A sequence of scalar volumes (vtkMRMLSequenceNode) to frames on one grid, and what it says of their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.lib.format import open_memmap

from ..errors import GeometryError, RequestError
from ..volume import GRID_TOLERANCE_MM
from .geometry import from_vtk_matrix, image_data_array, require_no_transform, set_geometry
from .volumes import FRAME_OF_REFERENCE, QUANTITY, UNIT, quantity_and_unit

SEQUENCE = "vtkMRMLSequenceNode"
MULTI_VOLUME = (
    "vtkMRMLMultiVolumeNode"  # of Slicer's MultiVolumeExplorer; one volume whose voxels have a component each
)
_VOLUME, _BROWSER = "vtkMRMLScalarVolumeNode", "vtkMRMLSequenceBrowserNode"
_TAG, _TAG_UNIT, _LABELS = (  # written by Slicer's MultiVolumeImporter onto sequences and MultiVolumes alike
    f"MultiVolume.{name}" for name in ("FrameIdentifyingDICOMTagName", "FrameIdentifyingDICOMTagUnits", "FrameLabels")
)


@dataclass(frozen=True)
class FrameIndex:
    """What tells the frames of a sequence apart.

    Parameters
    ----------
    name, unit : str
        As Slicer shows them; either may be empty.
    values : tuple of float
        One per frame; empty when they are no numbers.
    tag : bool
        True for the values of a DICOM tag that the importer found to differ between frames.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    tag: bool = False

    def text(self) -> str:
        """In words, for a message."""
        shown = ", ".join(f"{v:g}" for v in self.values[:3]) + (" ..." if len(self.values) > 3 else "")
        return f"{self.name or 'index without name'} {shown or 'without numbers'} {self.unit or '(no unit)'}"


def data_nodes(sequence: Any) -> list[Any]:
    """The volume node of every frame, in order."""
    return [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())]


def is_volume_sequence(node: Any) -> bool:
    """True for a sequence of scalar volumes."""
    return node.IsA(SEQUENCE) and node.GetDataNodeClassName() == _VOLUME


def frame_index(sequence: Any) -> FrameIndex:
    """The DICOM tag that Slicer's importer told the frames by, else the index of the sequence."""
    labels = _numbers((sequence.GetAttribute(_LABELS) or "").split(","))
    if len(labels) == sequence.GetNumberOfDataNodes():
        return FrameIndex(sequence.GetAttribute(_TAG) or "", sequence.GetAttribute(_TAG_UNIT) or "", labels, True)
    texts = [sequence.GetNthIndexValue(n) for n in range(sequence.GetNumberOfDataNodes())]
    return FrameIndex(sequence.GetIndexName(), sequence.GetIndexUnit(), _numbers(texts))


def _numbers(texts: Sequence[str]) -> tuple[float, ...]:
    """Numbers of texts; empty when one is none."""
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        return ()


def shown_nodes(node: Any) -> list[Any]:
    """Nodes of the scene that show a frame of a sequence (Slicer calls them proxies)."""
    scene = node.GetScene()
    browsers = scene.GetNodesByClass(_BROWSER)
    browsers.UnRegister(None)
    items = [browsers.GetItemAsObject(n) for n in range(browsers.GetNumberOfItems())]
    return [shown for shown in (browser.GetProxyNode(node) for browser in items) if shown is not None]


def sequence_grid(sequence: Any) -> sitk.Image:
    """The one grid of all frames, as an image of zeros in LPS millimetres; voxels are not touched.

    Raises
    ------
    RequestError
        If a frame is no image of one number per voxel, or there are fewer than two.
    GeometryError
        If frames lie on different grids, or a transform moves the frame that is shown.
    """
    name = sequence.GetName()
    for node in shown_nodes(sequence):
        require_no_transform(node)
    nodes = data_nodes(sequence)
    if len(nodes) < 2:
        raise RequestError(f"Sequence {name!r} holds {len(nodes)} frame.", "A series has at least two.")
    place = None
    for k, node in enumerate(nodes, 1):
        data = node.GetImageData() if node is not None and node.IsA(_VOLUME) else None
        if data is None or data.GetNumberOfScalarComponents() != 1:
            raise RequestError(
                f"Sequence {name!r}: frame {k} is no image of one number per voxel.", "Take this frame out of it."
            )
        corners = _corners(node)
        place = corners if place is None else place
        if (
            data.GetDimensions() != nodes[0].GetImageData().GetDimensions()
            or np.abs(corners - place).max() > GRID_TOLERANCE_MM
        ):
            raise GeometryError(
                f"Sequence {name!r}: frame {k} lies on another grid than frame 1.",
                "Resample its frames to one grid first, or leave this one out.",
            )
    return volume_grid(nodes[0])


def _corners(node: Any) -> np.ndarray:
    """Corner voxels of a volume in RAS mm, shape (8, 3)."""
    far = np.array(node.GetImageData().GetDimensions()) - 1
    index = [[*(far * ((b & 1, b >> 1 & 1, b >> 2))), 1] for b in range(8)]
    return (_index_to_ras(node) @ np.array(index, float).T)[:3].T


def _index_to_ras(node: Any) -> np.ndarray:
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return from_vtk_matrix(matrix)


def volume_grid(node: Any) -> sitk.Image:
    """The grid of a volume node as an image of zeros in LPS millimetres (see ``set_geometry`` for errors)."""
    grid = sitk.Image(node.GetImageData().GetDimensions(), sitk.sitkUInt8)
    set_geometry(grid, _index_to_ras(node))
    return grid


def sequence_frames(sequence: Any, path: Path | None = None) -> np.ndarray:
    """Voxels of every frame, copied: float32, shape (frames, z, y, x); a memory map of ``path`` where given."""
    nodes = data_nodes(sequence)
    shape = (len(nodes), *reversed(nodes[0].GetImageData().GetDimensions()))
    frames = np.empty(shape, np.float32) if path is None else open_memmap(path, "w+", np.float32, shape)
    for k, node in enumerate(nodes):
        frames[k] = image_data_array(node.GetImageData())
    return frames


def sequence_unit(sequence: Any) -> tuple[str, str]:
    """Quantity and UCUM unit of the voxels: those of the frames, else as stated for the sequence.

    Raises
    ------
    RequestError
        If neither says it, or frames differ.
    """
    if sequence.GetAttribute(QUANTITY) and sequence.GetAttribute(UNIT):
        return sequence.GetAttribute(QUANTITY), sequence.GetAttribute(UNIT)
    try:
        found = {quantity_and_unit(node) for node in data_nodes(sequence)}
    except RequestError as error:
        raise RequestError(
            f"Sequence {sequence.GetName()!r}: unit unknown.",
            "Load it from DICOM, or state its unit below after making sure what its voxels measure.",
        ) from error
    if len(found) != 1:
        texts = " and ".join(f"{quantity} in {unit}" for quantity, unit in sorted(found))
        raise RequestError(f"Sequence {sequence.GetName()!r} holds {texts}.", "Give all frames one unit.")
    return found.pop()


def sequence_frame_of_reference(sequence: Any) -> str:
    """DICOM frame of reference of the frames, empty unless all say the same."""
    found = {node.GetAttribute(FRAME_OF_REFERENCE) or "" for node in data_nodes(sequence)}
    return found.pop() if len(found) == 1 else ""
