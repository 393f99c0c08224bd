"""What the mapper panel keeps in the scene: saved, closed and reloaded with it. For Slicer only."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from ..tracers import HYPOXIA_TRACERS

INPUT_ROLE = "Hypoxia.Input."  # node reference of each input image, followed by the method's key
SEQUENCE_ROLE = "Hypoxia.Sequence."  # node reference of the sequence chosen for a series, followed by the method's key
REGION = "Hypoxia.Region."  # node reference of each further region's segmentation, followed by the method's key
TRACER_CHOICES = ["", *HYPOXIA_TRACERS, "FDG"]


@parameterNodeWrapper
class MapperParameters:
    """Choices of the four steps. Input images are node references of the underlying node, see ``INPUT_ROLE``."""

    planning_volume: vtkMRMLScalarVolumeNode
    gtv_segmentation: vtkMRMLSegmentationNode
    gtv_segment: str
    reference_segmentation: vtkMRMLSegmentationNode
    reference_segment: str
    reference_roi: vtkMRMLMarkupsROINode
    tracer: Annotated[str, Choice(TRACER_CHOICES)] = ""
    series_inputs: str = "{}"  # JSON: method's key of a series to the text of ``series_choice``
    region_segments: str = "{}"  # JSON: key of a further region to the segment; nodes are references, see ``REGION``
    frame_time: Annotated[str, Choice(["", "start", "mid"])] = ""
    time_unit: Annotated[str, Choice(["", "s", "ms"])] = ""
    frame_interval_s: Annotated[float, WithinRange(0.0, 3600.0)] = 0.0  # 0: as the files say
    frame_lengths: str = ""  # of a PET sequence, see ``sequence_times.parse_lengths``
    motion_reference: Annotated[int, WithinRange(0, 1000)] = 0
    alignment: str = "same_frame"
    method: str = "tracer_ratio"
    method_parameters: str = "{}"
    map_volume: vtkMRMLScalarVolumeNode
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    window_low: float = 0.0
    window_high: float = 2.5
    threshold: float = 0.0
    threshold_of: str = ""  # identifier of the map the threshold belongs to
    only_hypoxic: bool = False
    only_gtv: bool = True
    hypoxic_segmentation: vtkMRMLSegmentationNode
    hypoxic_segment: str
