"""What the dose-paint panel keeps in the scene. The acceptance is not kept: a person gives it anew. For Slicer only."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class PaintParameters:
    """Choices of steps 1 and 2. ``roles`` is JSON: ``structures/<segment>`` or ``hypoxia/<segment>`` to role."""

    planning_volume: vtkMRMLScalarVolumeNode
    map_volume: vtkMRMLScalarVolumeNode
    structures: vtkMRMLSegmentationNode
    hypoxia: vtkMRMLSegmentationNode
    roles: str = "{}"
    protocol: str = "welz_77_70_35"
    base_dose_gy: Annotated[float, WithinRange(0.0, 300.0)] = 70.0
    boost_dose_gy: Annotated[float, WithinRange(0.0, 300.0)] = 77.0
    fractions: Annotated[int, WithinRange(1, 100)] = 35
    base_margin_mm: Annotated[float, WithinRange(0.0, 50.0)] = 5.0
    boost_margin_mm: Annotated[float, WithinRange(0.0, 50.0)] = 3.0
    base_sides: str = ""
    boost_sides: str = ""
    organ_gap_mm: Annotated[float, WithinRange(0.0, 50.0)] = 3.0
    minimum_island_ml: Annotated[float, WithinRange(0.0, 100.0)] = 0.5
    maximum_fraction: Annotated[float, WithinRange(0.01, 1.0)] = 0.8
    override: str = ""
    write_rtdose: bool = False
    to_database: bool = True
