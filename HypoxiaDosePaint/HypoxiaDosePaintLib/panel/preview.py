"""Planning targets in the scene: segments in 2D and 3D, and a label with the dose on each."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment
from HypoxiaMapperLib.mrml.geometry import to_ras
from HypoxiaMapperLib.panel.patient_loader import place_beside

from ..result import Result
from ..structures import REFERENCE_CODE, Structure

TARGETS = "Hypoxia.Targets"  # attribute of the preview's nodes
SEGMENTATION_NAME, LABELS_NAME = "Dose painting targets", "Dose labels"
LABEL_SCALE, POINT_SCALE = 2.4, 1.2  # per cent of the view: small enough that two labels do not touch in 3D


def show_targets(scene: Any, result: Result, planning_node: Any) -> Any:
    """Show the structures of a result; those of an earlier preview are replaced.

    Returns
    -------
    vtkMRMLSegmentationNode
        With one segment per structure.
    """
    remove_targets(scene)
    node = make_segmentation(scene, SEGMENTATION_NAME)
    node.SetAttribute(TARGETS, "1")
    node.SetReferenceImageGeometryParameterFromVolumeNode(planning_node)
    for structure in result.images.structures:
        identifier = region_to_segment(scene, node, structure.region, structure.colour)
        segment = node.GetSegmentation().GetSegment(identifier)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(structure))
    node.CreateClosedSurfaceRepresentation()
    display = node.GetDisplayNode()
    for structure in result.images.structures:  # far from the targets, it would make them small in 3D
        if structure.code == REFERENCE_CODE:
            inner = node.GetSegmentation()
            display.SetSegmentVisibility3D(inner.GetSegmentIdBySegmentName(structure.name), False)
    display.SetAllSegmentsOpacity2DFill(False)
    display.SetOpacity3D(0.5)
    for shown in (node, _show_labels(scene, result)):
        place_beside(scene, shown, planning_node)
    return node


def terminology(structure: Structure) -> str:
    """Code of a structure as Slicer serialises a terminology entry."""
    code = structure.code
    category = "SCT^49755003^Morphologically Altered Structure"
    return f"Hypoxia~{category}~{code.scheme}^{code.value}^{code.meaning}~^^~Hypoxia~^^~^^"


def remove_targets(scene: Any) -> None:
    """Take an earlier preview out of the scene."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for class_name in ("vtkMRMLSegmentationNode", "vtkMRMLMarkupsFiducialNode"):
        nodes = scene.GetNodesByClass(class_name)
        nodes.UnRegister(None)
        for node in [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]:
            if node.GetAttribute(TARGETS):
                item = tree.GetItemByDataNode(node) if tree is not None else 0
                if item:  # first, alone: with its node the tree would keep a dead entry, and complain of it later
                    tree.RemoveItem(item, False)
                scene.RemoveNode(node)


def _show_labels(scene: Any, result: Result) -> Any:
    """A point in each target that carries a dose, named after it: the lower the dose the higher up, so none overlap."""
    labels = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", LABELS_NAME)
    labels.SetAttribute(TARGETS, "1")
    labels.CreateDefaultDisplayNodes()
    display = labels.GetDisplayNode()
    display.SetTextScale(LABEL_SCALE)
    display.SetGlyphScale(POINT_SCALE)
    display.SetOccludedVisibility(True)  # the boost lies inside the other target
    display.SetOccludedOpacity(1.0)
    dosed = [s for s in result.images.structures if s.dose is not None]
    for number, structure in enumerate(sorted(dosed, key=lambda s: -s.dose.dose_gy if s.dose else 0.0)):
        if structure.dose is not None:
            centre = to_ras(_middle_mm(structure, number / max(1, len(dosed) - 1)))
            text = f"{structure.name}: {structure.dose.dose_gy:g} Gy in {structure.dose.fractions}"
            labels.AddControlPoint(list(centre), text)
    labels.SetLocked(True)
    return labels


def _middle_mm(structure: Structure, height: float) -> tuple[float, ...]:
    """The voxel nearest to the centre of gravity of a slice, in LPS mm; height 0: middle slice, 1: uppermost."""
    inside = np.argwhere(structure.region.array)
    middle, top = (int(inside[:, 0].min()) + int(inside[:, 0].max())) // 2, int(inside[:, 0].max())
    mask: sitk.Image = structure.region.mask
    if mask.GetDirection()[8] < 0:  # slices go down
        top = int(inside[:, 0].min())
    wanted = round(middle + height * (top - middle))
    inside = inside[np.abs(inside[:, 0] - wanted) == np.abs(inside[:, 0] - wanted).min()]
    nearest = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
    return tuple(mask.TransformIndexToPhysicalPoint([int(i) for i in nearest[::-1]]))
