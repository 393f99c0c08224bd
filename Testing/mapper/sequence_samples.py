"""A dynamic FMISO PET of known Ki as DICOM files, and as sequences of a scene as Slicer's own readers make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from dicom_samples import AXIAL, write_pet
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, volume_to_node
from HypoxiaMapperLib.mrml.geometry import fill_image_data, index_to_ras, to_vtk_matrix
from HypoxiaMapperLib.panel.choices import MapperChoices, MapperDecisions, SegmentChoice
from HypoxiaMapperLib.panel.node_images import NodeImages
from HypoxiaMapperLib.panel.series_choice import SeriesCatalogue
from HypoxiaMapperLib.volume import Volume, image_like
from kinetic_samples import FRAME, SHAPE, grid, pet_input, regions, truth_grid, tumour_mask

LENGTHS_S = np.repeat([5.0, 30.0, 60.0, 300.0, 600.0], [12, 4, 5, 5, 8])
LENGTHS_TEXT = "12x5 4x30 5x60 5x300 8x600"
STARTS_S = np.r_[0.0, np.cumsum(LENGTHS_S)[:-1]]
KI = truth_grid(Ki=(0.005, 0.05))["Ki"]
BQ_PER_SUV = 370e6 / 70e3  # dose over weight, decay-corrected to the injection


def activity() -> np.ndarray:
    """Frames (t, z, y, x) in whole Bq/ml: Ki int(Cp) + 0.4 Cp, and Cp itself in the artery."""
    frames, source = Frames.from_start_duration(STARTS_S, LENGTHS_S, "s"), pet_input()
    plasma = source.on_frames(frames)[:, None]
    curves = KI * source.integral_on_frames(frames)[:, None] + 0.4 * plasma
    curves[:, ~tumour_mask().ravel()] = plasma
    scale = min(BQ_PER_SUV, 65000 / curves.max())  # of 16 bits
    return np.round(curves * scale).reshape(len(curves), *SHAPE)


def write_dynamic(folder: Path, frames: np.ndarray, **tags: Any) -> list[list[str]]:
    """One DICOM series of the frames, from the injection at 10:00 on; SOP Instance UIDs of each."""
    spacing, origin = grid().GetSpacing(), grid().GetOrigin()
    uids = []
    for t, frame in enumerate(frames):
        clock = f"{10 + int(STARTS_S[t]) // 3600:02d}{int(STARTS_S[t]) % 3600 // 60:02d}{int(STARTS_S[t]) % 60:02d}"
        paths = write_pet(
            folder / f"t{t:02d}", frame, SeriesInstanceUID="1.2.3.9", SeriesDescription="FMISO dynamic",
            SeriesTime="100000", AcquisitionTime=clock, ActualFrameDuration=int(LENGTHS_S[t] * 1000),
            FrameReferenceTime=(STARTS_S[t] + LENGTHS_S[t] / 2) * 1000, Radiopharmaceutical="FMISO",
            spacing_mm=spacing[::-1], origin_mm=origin, orientation=AXIAL, **tags,
        )  # fmt: skip
        uids.append([_uid(path) for path in paths])
    return uids


def _uid(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def plain_volume(scene: Any, array: np.ndarray, uids: Sequence[str] = ()) -> Any:
    """A volume as a reader of Slicer makes it: voxels, matrix, and the instances of its slices."""
    from vtkmodules.vtkCommonDataModel import vtkImageData

    node, data = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "frame"), vtkImageData()
    fill_image_data(data, np.asarray(array, np.float32))
    node.SetIJKToRASMatrix(to_vtk_matrix(index_to_ras(grid())))
    node.SetAndObserveImageData(data)
    if uids:
        node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    return node


def add_sequence(
    scene: Any, frames: np.ndarray, index: Sequence[Any], name: str, unit: str, uids: Sequence[Sequence[str]] = ()
) -> Any:
    """A sequence of volumes; ``name`` and ``unit`` are those of its index."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "FMISO")
    sequence.SetIndexName(name)
    sequence.SetIndexUnit(unit)
    if isinstance(index[0], str):
        sequence.SetIndexTypeFromString("text")
    for t, frame in enumerate(frames):
        node = plain_volume(scene, frame, uids[t] if len(uids) else ())
        sequence.SetDataNodeAtValue(node, str(index[t]))
        scene.RemoveNode(node)
    return sequence


def imported_sequence(
    scene: Any, frames: np.ndarray, uids: Sequence[Sequence[str]], files: Sequence[Path] = (), times_s: Any = STARTS_S
) -> Any:
    """As MultiVolumeImporterPlugin.load does: no index name or unit, frames numbered, tags as attributes."""
    sequence = add_sequence(scene, frames, range(len(frames)), "", "", uids)
    labels = ",".join(str(s * 1000) for s in times_s[: len(frames)])
    for key, value in {
        "FrameLabels": labels, "FrameIdentifyingDICOMTagName": "AcquisitionTime", "FrameIdentifyingDICOMTagUnits": "ms",
        "NumberOfFrames": str(len(frames)), "FrameFileList": ",".join(str(f) for f in files),
    }.items():  # fmt: skip
        sequence.SetAttribute(f"MultiVolume.{key}", value)
    return sequence


class DynamicFiles:
    """The DICOM series in a folder, which stands for Slicer's database."""

    def __init__(self, folder: Path) -> None:
        self.frames = activity()
        self.uids = write_dynamic(folder, self.frames)
        self.files = {_uid(path): path for path in sorted(folder.rglob("*.dcm"))}
        self.info = scan_folder(folder).series[0]


class DynamicPatient:
    """A scene with CT, GTV and artery; the files are in the database or not."""

    def __init__(self, dicom: DynamicFiles) -> None:
        self.frames, self.uids, self.files, self.info = dicom.frames, dicom.uids, dicom.files, dicom.info
        self.in_database = True
        self.scene = slicer.vtkMRMLScene()
        ct = Volume(image_like(np.zeros(SHAPE, np.int16), grid()), "CT number", "[hnsf'U]", FRAME)
        self.ct = volume_to_node(self.scene, ct, "CT")
        structures = make_segmentation(self.scene, "Structures")
        gtv, artery = regions()["gtv"], regions()["artery"]
        segments = {r.name: region_to_segment(self.scene, structures, r, (255, 0, 0)) for r in (gtv, artery)}
        self.images = NodeImages(lambda uids: [str(self.files[u]) if self.in_database else "" for u in uids])
        self.decisions = MapperDecisions(self.images, SeriesCatalogue(lambda uid: (), self.images.scan))
        self.choices = MapperChoices(
            planning=self.ct, gtv=SegmentChoice(structures, segments[gtv.name]), method="patlak_ki",
            regions={"artery": SegmentChoice(structures, segments[artery.name])}, params={"start_min": 20.0},
        )  # fmt: skip
