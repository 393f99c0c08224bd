"""Which nodes belong to a patient or study, and that a choice holds one patient only. Nodes only, no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..dicomio.model import ScanResult, SeriesInfo
from ..dicomio.patient import require_one_patient
from ..errors import InputError
from ..mrml.sequences import SEQUENCE, shown_nodes
from .i18n import _

CHOICE = Path("This choice")  # stands for the folder in the message of ``require_one_patient``


def all_nodes(scene: Any, class_name: str) -> list[Any]:
    """Every node of a class."""
    nodes = scene.GetNodesByClass(class_name)
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def nodes_in(scene: Any, item: int, class_name: str) -> list[Any]:
    """Nodes of a class below an item of the subject hierarchy; of the whole scene for item 0."""
    import slicer
    from vtkmodules.vtkCommonCore import vtkCollection

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if tree is None or not item:
        return all_nodes(scene, class_name)
    found = vtkCollection()
    tree.GetDataNodesInBranch(item, found, class_name)
    return [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]


def hidden_ids(scene: Any, item: int, class_name: str) -> list[str]:
    """Identifiers of the nodes of a class that do not belong to an item; none for item 0."""
    inside = {node.GetID() for node in nodes_in(scene, item, class_name)}
    return [node.GetID() for node in nodes_in(scene, 0, class_name) if node.GetID() not in inside]


def patient_of(node: Any) -> str:
    """Patient a node stands under in the subject hierarchy: its UID there (the Patient ID), else its name; or empty.

    A sequence stands there through the frame that is shown.
    """
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    names = slicer.vtkMRMLSubjectHierarchyConstants
    stand_ins = shown_nodes(node) if node.IsA(SEQUENCE) else []
    items = [tree.GetItemByDataNode(n) for n in (node, *stand_ins)] if tree is not None else []
    item = next((i for i in items if i and tree.GetItemAncestorAtLevel(i, names.GetDICOMLevelPatient())), 0)
    patient = tree.GetItemAncestorAtLevel(item, names.GetDICOMLevelPatient()) if item else 0
    if not patient:
        return ""
    return str(tree.GetItemUID(patient, names.GetDICOMUIDName()) or tree.GetItemName(patient))


def why_not_one_patient(nodes: Iterable[Any], infos: Iterable[SeriesInfo]) -> str:
    """Why images and segments cannot be used together; empty when nothing says that they are of several patients.

    Parameters
    ----------
    nodes : iterable of vtkMRMLNode
        Compared by their patient in the subject hierarchy.
    infos : iterable of SeriesInfo
        DICOM series they were read from, as far as known: compared by ID, birth date, sex and name.
    """
    homes: dict[str, str] = {}
    for node in nodes:
        patient = patient_of(node)
        if patient:
            homes.setdefault(patient, node.GetName())
    if len(homes) > 1:
        (first, one), (second, two) = list(homes.items())[:2]
        text = _("{one!r} belongs to patient {first}, {two!r} to patient {second}: choose images of one patient.")
        return text.format(one=one, first=first, two=two, second=second)
    try:
        require_one_patient(ScanResult(CHOICE, tuple(infos), ()))
    except InputError as error:
        return error.message
    return ""
