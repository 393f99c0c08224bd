"""The digital patient in a scene with its map and hypoxic segment, as the mapper panel leaves it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import SimpleITK as sitk
import slicer

from HypoxiaDosePaintLib.panel.choices import PaintChoices, Role
from HypoxiaDosePaintLib.panel.decisions import PaintDecisions
from HypoxiaMapperLib.dicomio.model import SeriesInfo
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.methods import no_progress
from HypoxiaMapperLib.mrml import segment_to_region
from HypoxiaMapperLib.mrml.geometry import fill_image_data, index_to_ras, to_vtk_matrix
from HypoxiaMapperLib.panel.choices import MapperChoices, MapperDecisions
from HypoxiaMapperLib.panel.guess import guess_choices
from HypoxiaMapperLib.panel.hypoxic_segment import hypoxic_mask, write_hypoxic_segment
from HypoxiaMapperLib.panel.map_nodes import map_to_node
from HypoxiaMapperLib.panel.node_images import INSTANCE_UIDS, NodeImages
from HypoxiaMapperLib.panel.patient_loader import load_patient
from HypoxiaMapperLib.worker import run_job


def make_street(folder: Path) -> SimpleNamespace:
    """Scene, choices of both panels and the hypoxic region."""
    scene = slicer.vtkMRMLScene()
    loaded = load_patient(scene, folder)
    images = NodeImages(lambda uids: [""] * len(uids))
    mapper = MapperDecisions(images)
    choices = guess_choices(MapperChoices(), list(loaded.volumes), list(loaded.segmentations), images)
    found = run_job(mapper.make_job(choices), no_progress)
    nodes = {"planning": choices.planning, **choices.inputs}
    prints, used = mapper.fingerprint(choices), choices.used_regions()
    map_node = map_to_node(scene, found, "Map", prints, choices.method, nodes, choices.params, used)
    volume = found.map.volume
    gtv = segment_to_region(choices.gtv.node, choices.gtv.segment_id, volume.image)
    region = gtv.with_array(hypoxic_mask(volume, gtv, 1.2, ">"), "ratio > 1.2 in GTVp", "GTVp_Hyp")
    segmentation, identifier = write_hypoxic_segment(scene, None, choices.planning, region, 1.2, choices.gtv, map_node)
    structures = loaded.segmentations[0]
    roles = (
        Role(structures, "GTVp", "gtv"), Role(structures, "SpinalCord", "organ"),
        Role(structures, "Ref_Blood", "reference"), Role(segmentation, identifier, "hypoxic"),
    )  # fmt: skip
    return SimpleNamespace(
        scene=scene, images=images, choices=PaintChoices(choices.planning, map_node, roles), region=region,
        decisions=PaintDecisions(images), pet=choices.inputs["pet"], mapper=mapper, mapper_choices=choices,
        structures=structures,
    )  # fmt: skip


def as_slicer_loads(scene: Any, info: SeriesInfo, flip: bool) -> tuple[Any, dict[str, str]]:
    """An image node as Slicer's own DICOM reader leaves it: values of the file, instance UIDs, maybe slices turned."""
    volume = read_image_series(info).volume
    image = sitk.Flip(volume.image, [False, False, flip])
    from vtkmodules.vtkCommonDataModel import vtkImageData

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "as Slicer loads")
    data = vtkImageData()
    fill_image_data(data, sitk.GetArrayFromImage(image))
    node.SetIJKToRASMatrix(to_vtk_matrix(index_to_ras(image)))
    node.SetAndObserveImageData(data)
    uids = volume.source_uids[::-1] if flip else volume.source_uids
    node.SetAttribute(INSTANCE_UIDS, " ".join(uids))
    return node, dict(zip(volume.source_uids, map(str, info.files), strict=True))
