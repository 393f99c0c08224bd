"""Volume to vtkMRMLScalarVolumeNode and back, with quantity, unit and history in node attributes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, RequestError
from ..volume import LARGEST_SHIFT_MM, Volume
from .geometry import (
    LPS_TO_RAS,
    fill_image_data,
    from_vtk_matrix,
    image_data_array,
    index_to_ras,
    require_no_transform,
    set_geometry,
    spans_about,
    to_vtk_matrix,
)

QUANTITY = "Hypoxia.Quantity"
UNIT = "Hypoxia.Unit"
FRAME_OF_REFERENCE = "Hypoxia.FrameOfReferenceUID"
SOURCE_UIDS = "Hypoxia.SourceInstanceUIDs"  # separated by blanks, as in Slicer's DICOM.instanceUIDs
OPERATIONS = "Hypoxia.Operations"  # JSON list
FACTS = "Hypoxia.Facts"  # JSON object
PLACE = "Hypoxia.Place"  # JSON: voxels along each axis, and matrix from voxel index to RAS, when the node was made


def volume_to_node(scene: Any, volume: Volume, name: str) -> Any:
    """Add a scalar volume node with the voxels, geometry and history of a Volume.

    Parameters
    ----------
    scene : vtkMRMLScene
        Scene that receives the node.
    volume : Volume
        In LPS millimetres; voxels are copied.
    name : str
        Name of the node.

    Returns
    -------
    vtkMRMLScalarVolumeNode
        With attributes ``Hypoxia.Quantity``, ``Hypoxia.Unit``, ``Hypoxia.FrameOfReferenceUID`` and further.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    put_volume(node, volume)
    return node


def put_volume(node: Any, volume: Volume) -> None:
    """Give a scalar volume node the voxels, geometry and history of a Volume, in place of what it held."""
    from vtkmodules.vtkCommonDataModel import vtkImageData

    data = vtkImageData()
    fill_image_data(data, volume.array)
    node.SetIJKToRASMatrix(to_vtk_matrix(index_to_ras(volume.image)))
    node.SetAndObserveImageData(data)
    attributes = {
        QUANTITY: volume.quantity,
        UNIT: volume.unit,
        FRAME_OF_REFERENCE: volume.frame_of_reference_uid,
        SOURCE_UIDS: " ".join(volume.source_uids),
        OPERATIONS: json.dumps(list(volume.operations)),
        FACTS: json.dumps(dict(volume.facts), default=str),
        PLACE: json.dumps([volume.image.GetSize(), index_to_ras(volume.image).ravel().tolist()]),
    }
    for key, value in attributes.items():
        node.SetAttribute(key, value)


def node_to_volume(node: Any, near: sitk.Image | None = None) -> Volume:
    """Volume of a scalar volume node, or only its part about the grid ``near``; voxels are copied.

    Quantity and unit come from the attributes that ``volume_to_node`` writes, else from the coded quantity and the
    UCUM unit that Slicer's DICOM readers set on the node.

    Raises
    ------
    RequestError
        If quantity or unit is unknown (never guessed), or the node holds no voxels.
    GeometryError
        If the node stands under a transform, its axes are sheared, or none of it lies about ``near``.
    """
    if node.GetImageData() is None:
        raise RequestError(f"Volume {node.GetName()!r} holds no voxels.", "Load or compute it first.")
    require_no_transform(node)
    quantity, unit = quantity_and_unit(node)
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array, place = image_data_array(node.GetImageData()), from_vtk_matrix(matrix)
    if near is not None:
        i, j, k = spans = spans_about(near, place, array.shape[::-1])
        array = array[k, j, i]
        place[:3, 3] += place[:3, :3] @ [float(span.start) for span in spans]
    if array.size == 0:
        raise GeometryError(f"No voxel of {node.GetName()!r} lies there.", "Choose images and segments of one place.")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    set_geometry(image, place)
    return Volume(
        image,
        quantity,
        unit,
        node.GetAttribute(FRAME_OF_REFERENCE) or "",
        tuple((node.GetAttribute(SOURCE_UIDS) or node.GetAttribute("DICOM.instanceUIDs") or "").split()),
        tuple(json.loads(node.GetAttribute(OPERATIONS) or "[]")),
        json.loads(node.GetAttribute(FACTS) or "{}"),
    )


def displacement(node: Any, made: np.ndarray | None = None) -> np.ndarray | None:
    """Matrix (4, 4) from where a point of a volume lies now to where it lay when the volume was read, in LPS mm.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        Its matrix counts; a parent transform is refused elsewhere (``require_no_transform``).
    made : numpy.ndarray, optional
        Matrix (4, 4) from voxel index to RAS at reading; without it the one that ``volume_to_node`` kept.

    Returns
    -------
    numpy.ndarray or None
        None when it was not moved by more than ``LARGEST_SHIFT_MM``, was cropped, or nothing says where it lay.
    """
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    data = node.GetImageData()
    if made is None and data is not None:
        size, elements = json.loads(node.GetAttribute(PLACE) or "[[], []]")
        made = np.array(elements).reshape(4, 4) if size == list(data.GetDimensions()) else None
    if made is None:
        return None
    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    now, far = from_vtk_matrix(matrix), [n - 1 for n in data.GetDimensions()]
    corners = np.array([[*(f if bit >> axis & 1 else 0 for axis, f in enumerate(far)), 1] for bit in range(8)]).T
    if np.linalg.norm((now @ corners - made @ corners)[:3], axis=0).max() <= LARGEST_SHIFT_MM:
        return None
    return LPS_TO_RAS @ made @ np.linalg.inv(now) @ LPS_TO_RAS


def quantity_and_unit(node: Any) -> tuple[str, str]:
    """What the voxels of a node measure and in which UCUM unit.

    Raises
    ------
    RequestError
        If neither attributes nor coded entries of the node say both.
    """
    quantity, unit = node.GetAttribute(QUANTITY) or "", node.GetAttribute(UNIT) or ""
    if not unit and _coded(node.GetVoxelValueUnits(), "GetCodingSchemeDesignator") == "UCUM":
        unit = _coded(node.GetVoxelValueUnits(), "GetCodeValue")
        quantity = quantity or _coded(node.GetVoxelValueQuantity(), "GetCodeMeaning")
    if not quantity or not unit:
        raise RequestError(
            f"Volume {node.GetName()!r} does not say what its voxels measure "
            f"(quantity {quantity or 'unknown'}, unit {unit or 'unknown'}).",
            f"Load it through the DICOM module, or set the node attributes {QUANTITY} (e.g. SUVbw) "
            f"and {UNIT} (UCUM, e.g. g/ml) after making sure.",
        )
    return quantity, unit


def _coded(entry: Any, getter: str) -> str:
    """Field of a vtkCodedEntry that may be absent."""
    return (getattr(entry, getter)() or "") if entry is not None else ""
