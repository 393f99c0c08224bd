"""A DICOM folder into the scene with this extension's own exact readers: images, SUV, structures."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..dicomio.model import ImageSeries, ScanResult, SeriesInfo
from ..dicomio.patient import patient_warnings, require_one_patient
from ..dicomio.pet import read_pet_series
from ..dicomio.rtstruct import read_structure_set, region_warnings
from ..dicomio.scan import scan_folder
from ..dicomio.series import read_image_series
from ..errors import HypoxiaError, InputError
from ..jobs import SeriesSource
from ..method_images import is_series
from ..methods import Progress, no_progress
from ..mrml import make_segmentation, region_to_segment, show_as_background, volume_to_node
from ..volume import Volume
from .as_read import remember_as_read
from .i18n import _
from .node_images import FOLDER, INSTANCE_UIDS, SERIES
from .patient_scope import all_nodes

CT_WINDOW_HU = (-160.0, 240.0)  # soft tissue, window 400 level 40
SUV_WINDOW = (0.0, 6.0)  # window 6, level 3: what readers of PET are used to
_COLOURS = (
    (230, 60, 60), (240, 150, 40), (250, 225, 60), (90, 200, 90), (70, 160, 240), (200, 90, 220), (150, 100, 70),
)  # fmt: skip
_WORDS = {"PT": "PET"}
FRAME_OF = "Hypoxia.FrameOfSeries"  # attribute of a node that is one frame: which one


@dataclass(frozen=True)
class Loaded:
    """Nodes that a folder gave, and what was left out with the reason."""

    volumes: tuple[Any, ...]
    segmentations: tuple[Any, ...]
    notes: tuple[str, ...]


def load_patient(scene: Any, folder: Path, progress: Progress = no_progress) -> Loaded:
    """Read every CT, PET and MR series and every structure set of one patient into the scene.

    Raises
    ------
    InputError
        If the folder holds several patients or nothing usable.
    """
    scan = scan_folder(folder, lambda f, t: progress(0.2 * f, t))
    require_one_patient(scan)
    infos = [s for s in scan.series if s.role in ("planning_ct", "pet", "mr")]
    if not infos:
        message = _("{folder} holds no CT, PET or MR series.").format(folder=folder)
        raise InputError(message, _("Choose the folder with the images."))
    images: dict[str, ImageSeries] = {}
    nodes, notes = [], list(patient_warnings(scan))
    for number, info in enumerate(infos):
        name = info.description or info.modality
        progress(0.2 + 0.6 * number / len(infos), _("reading {name}").format(name=name))
        if is_series(info):
            notes.append(_("{name}: a series of frames, offered to methods that take one.").format(name=name))
            continue
        try:
            image = read_pet_series(info) if info.role == "pet" else read_image_series(info)
        except HypoxiaError as error:
            notes.append(_("{name} was not loaded: {reason}").format(name=name, reason=error))
            continue
        images[info.series_uid] = image
        nodes.append(_add_volume(scene, image, folder))
    segmentations = []
    for info in scan.by_role("rtstruct"):
        progress(0.9, _("reading structures of {name}").format(name=info.description or "RTSTRUCT"))
        segmentations += _add_structures(scene, info, scan, images, nodes, notes)
    text = _("images: {images}, structure sets: {sets}")
    progress(1.0, text.format(images=len(nodes), sets=len(segmentations)))
    return Loaded(tuple(nodes), tuple(segmentations), tuple(notes))


def _add_volume(scene: Any, image: ImageSeries, folder: Path) -> Any:
    """One image with its unit, window, series and place in the subject hierarchy."""
    info = image.info
    name = f"{_WORDS.get(info.modality, info.modality)} {info.kind}".strip() or info.description
    node = volume_to_node(scene, image.volume, scene.GenerateUniqueName(name))
    node.SetAttribute(INSTANCE_UIDS, " ".join(image.volume.source_uids))
    node.SetAttribute(FOLDER, str(folder))
    node.SetAttribute(SERIES, info.series_uid)
    if info.role == "planning_ct":
        show_as_background(node, CT_WINDOW_HU)
    elif info.role == "pet":
        show_as_background(node, SUV_WINDOW)
        node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
    else:
        node.CreateDefaultDisplayNodes()
    place_in_hierarchy(scene, node, info)
    return node


def add_frame(scene: Any, frame: Volume, source: SeriesSource | None, planning_node: Any) -> Any:
    """One frame of a series as a node, to be looked at and to be registered by; a second time the same node.

    Parameters
    ----------
    source : SeriesSource or None
        Where the frames were read; None: taken from a sequence of the scene.
    planning_node : vtkMRMLScalarVolumeNode
        The frame is put into its study when it came from a file that names none.
    """
    infos = source.infos if source is not None else ()
    if source is None:
        what = str(frame.facts["sequence"])
        uid = f"{what} {zlib.crc32(np.ascontiguousarray(frame.array).tobytes()):08x}"
    else:
        what = (infos[0].description or infos[0].modality) if infos else source.files[0].name
        uid = infos[0].series_uid if infos else str(source.files[0])
    for node in all_nodes(scene, "vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(SERIES) == uid and node.GetAttribute(FRAME_OF) == frame.operations[-1]:
            return node
    node = volume_to_node(scene, frame, scene.GenerateUniqueName(f"{what}, {frame.operations[-1]}"))
    node.SetAttribute(FRAME_OF, frame.operations[-1])
    node.SetAttribute(SERIES, uid)
    node.CreateDefaultDisplayNodes()
    if infos:
        node.SetAttribute(FOLDER, os.path.commonpath([str(f.parent) for f in infos[0].files]))
        place_in_hierarchy(scene, node, infos[0])
    else:
        place_beside(scene, node, planning_node)
    return node


def place_beside(scene: Any, node: Any, planning_node: Any) -> None:
    """Put a node into the study of the planning image."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    planning = tree.GetItemByDataNode(planning_node) if tree is not None else 0
    if planning:
        study = tree.GetItemParent(planning)
        tree.SetItemParent(tree.GetItemByDataNode(node) or tree.CreateItem(study, node), study)


def _add_structures(
    scene: Any,
    info: SeriesInfo,
    scan: ScanResult,
    images: dict[str, ImageSeries],
    nodes: Sequence[Any],
    notes: list[str],
) -> list[Any]:
    """The ROIs of one structure set as segments on the grid they were drawn on."""
    drawn_on = [u for u in info.referenced_series_uids if u in images]
    candidates = drawn_on or [s.series_uid for s in scan.by_role("planning_ct") if s.series_uid in images]
    if not candidates:
        text = _("{name} was not loaded: its images are not in the folder.")
        notes.append(text.format(name=info.description or "RTSTRUCT"))
        return []
    volume = images[candidates[0]].volume
    try:
        regions = read_structure_set(info.files[0], volume.image, volume.frame_of_reference_uid)
    except HypoxiaError as error:
        text = _("{name} was not loaded: {reason}")
        notes.append(text.format(name=info.description or "RTSTRUCT", reason=error))
        return []
    node = make_segmentation(scene, scene.GenerateUniqueName(info.description or "Structures"))
    reference = next((n for n in nodes if n.GetAttribute(SERIES) == candidates[0]), None)
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    for number, region in enumerate(regions.values()):
        identifier = region_to_segment(scene, node, region, _COLOURS[number % len(_COLOURS)])
        remember_as_read(node, identifier, region, info.series_uid)
        notes.extend(f"{region.name}: {note}." for note in region_warnings(region))
    place_in_hierarchy(scene, node, info)
    return [node]


def place_in_hierarchy(scene: Any, node: Any, info: SeriesInfo) -> None:
    """Put a node under its patient and study in the subject hierarchy, making them if they are new."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if tree is None:
        return
    names = slicer.vtkMRMLSubjectHierarchyConstants
    uid_name = names.GetDICOMUIDName()

    def branch(parent: int, uid: str, title: str, level: str) -> int:
        found = tree.GetItemByUID(uid_name, uid)
        if found:
            return found
        item = tree.CreateHierarchyItem(parent, title, level)
        tree.SetItemUID(item, uid_name, uid)
        return item

    patient_uid = info.patient_id or info.patient_name or "unknown"
    title = info.patient_name or patient_uid
    patient = branch(tree.GetSceneItemID(), patient_uid, title, names.GetDICOMLevelPatient())
    study = branch(patient, info.study_uid, f"Study {info.study_date}".strip(), names.GetDICOMLevelStudy())
    item = tree.GetItemByDataNode(node) or tree.CreateItem(study, node)
    tree.SetItemParent(item, study)
