"""A small patient in a scene for the panel tests: CT, FMISO PET, GTV and blood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from HypoxiaMapperLib.jobs import JobResult
from HypoxiaMapperLib.methods import no_progress
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, volume_to_node
from HypoxiaMapperLib.panel.choices import MapperChoices, MapperDecisions, SegmentChoice
from HypoxiaMapperLib.panel.node_images import NodeImages
from HypoxiaMapperLib.volume import Region, Volume, image_like
from HypoxiaMapperLib.worker import run_job

SHAPE = (20, 24, 28)
FRAME = "1.2.3"


def grid() -> sitk.Image:
    image = sitk.Image(list(reversed(SHAPE)), sitk.sitkFloat32)
    image.SetSpacing((2.0, 2.0, 2.5))
    image.SetOrigin((-20.0, -30.0, 40.0))
    return image


def box(name: str, low: int, high: int) -> Region:
    mask = np.zeros(SHAPE, np.uint8)
    mask[low:high, low:high, low:high] = 1
    return Region(name, image_like(mask, grid()), FRAME, "drawn")


GTV, BLOOD = box("GTVp", 8, 16), box("Ref_Blood", 1, 6)


def pet_volume() -> Volume:
    """Blood 1.0, GTV rising from 1.0 to 2.0 along x, elsewhere 0.8 g/ml."""
    array = np.full(SHAPE, 0.8, np.float32)
    array[BLOOD.array] = 1.0
    array[8:16, 8:16, 8:16] = np.linspace(1.0, 2.0, 8, dtype=np.float32)
    facts = {"tracer": "FMISO", "minutes_after_injection": 150.0, "suv_factor": 0.5, "decay_correction": "START"}
    return Volume(image_like(array, grid()), "SUVbw", "g/ml", FRAME, (), (), facts)


class Patient:
    """A scene with CT, PET, GTV and blood."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        ct = Volume(image_like(np.zeros(SHAPE, np.int16), grid()), "CT number", "[hnsf'U]", FRAME)
        self.ct = volume_to_node(self.scene, ct, "CT")
        self.pet = volume_to_node(self.scene, pet_volume(), "PET FMISO")
        self.structures = make_segmentation(self.scene, "Structures")
        self.gtv = SegmentChoice(self.structures, region_to_segment(self.scene, self.structures, GTV, (255, 0, 0)))
        self.blood = SegmentChoice(self.structures, region_to_segment(self.scene, self.structures, BLOOD, (0, 255, 0)))
        self.images = NodeImages(lambda uids: [""] * len(uids))
        self.decisions = MapperDecisions(self.images)
        self.choices = MapperChoices(
            planning=self.ct, inputs={"pet": self.pet}, gtv=self.gtv, reference=self.blood,
            params={"reference_kind": "blood"},
        )  # fmt: skip


def run_here(patient: Patient) -> JobResult:
    return run_job(patient.decisions.make_job(patient.choices), no_progress)


def save_and_reload(scene: Any, folder: Path) -> None:
    """Write a scene as .mrb, close it, and read it back."""
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    assert scene.WriteToMRB(str(folder / "scene.mrb"))
    scene.Clear(0)
    assert scene.ReadFromMRB(str(folder / "scene.mrb"))
