"""The panes as 3D Slicer draws them, off screen. Runs as a child process: ``python -m ...slicer_views FOLDER``.

A crash of the graphics driver ends the child and not the run.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.mrml import (
    make_segmentation,
    region_to_segment,
    show_as_background,
    show_as_map,
    volume_to_node,
)
from HypoxiaMapperLib.mrml.geometry import matrix_to_ras, to_ras
from HypoxiaMapperLib.volume import Region, Volume

from .plain_views import MAP_OPACITY, OVERLAYS, overlay_colours
from .plan import Contour, Pane, Plan

JOB_FILE = "plan.json"
LINE_PIXELS = 3


def write_plan(plan: Plan, folder: Path) -> None:
    """Put a plan into a folder as NRRD and JSON, for the child."""
    for name, image in plan.images.items():
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    for number, contour in enumerate(plan.contours):
        sitk.WriteImage(contour.mask, str(folder / f"contour_{number}.nrrd"), useCompression=True)
    contours = [{f.name: getattr(c, f.name) for f in dataclasses.fields(c) if f.name != "mask"} for c in plan.contours]
    facts = {
        "images": list(plan.images), "windows": plan.windows, "contours": contours,
        "panes": [dataclasses.asdict(p) for p in plan.panes], "map_unit": plan.map_unit,
    }  # fmt: skip
    (folder / JOB_FILE).write_text(json.dumps(facts), encoding="utf-8")


def read_plan(folder: Path) -> Plan:
    """The plan that ``write_plan`` put into a folder."""
    facts = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    contours = [
        Contour(**{**c, "colour": tuple(c["colour"]), "mask": sitk.ReadImage(str(folder / f"contour_{n}.nrrd"))})
        for n, c in enumerate(facts["contours"])
    ]
    vectors = ("right", "up", "centre_mm")
    panes = [Pane(**{**p, **{name: tuple(p[name]) for name in vectors}}) for p in facts["panes"]]
    images = {name: sitk.ReadImage(str(folder / f"{name}.nrrd")) for name in facts["images"]}
    windows = {name: (w[0], w[1]) for name, w in facts["windows"].items()}
    return Plan(images, windows, tuple(contours), tuple(panes), facts["map_unit"])


class SlicerViews:
    """A scene with the images and contours of a plan, one slice view and one 3D view."""

    def __init__(self, plan: Plan) -> None:
        from trame_slicer.core import SlicerApp

        self.plan = plan
        self.app = SlicerApp()
        self.scene = self.app.scene
        self.nodes = {name: self._volume(name) for name in plan.images}
        self.segmentations = {group: self._segmentation(group) for group in ("targets", "body")}
        self.slice_view: Any = None

    def _volume(self, name: str) -> Any:
        """Node of an image, shown in gray or in the map's colours."""
        unit = self.plan.map_unit if name in OVERLAYS else "1"
        node = volume_to_node(self.scene, Volume(self.plan.images[name], name, unit), name)
        low, high = self.plan.windows[name]
        if name in OVERLAYS:
            colours = overlay_colours(name).tolist()
            show_as_map(self.scene, node, (low, high), colours, transparent_below=low - (high - low) / 2)
        else:
            show_as_background(node, (low, high))
        if name == "pet":
            node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
        return node

    def _segmentation(self, group: str) -> Any:
        """Segmentation of a group of contours, drawn as lines."""
        node = make_segmentation(self.scene, group)
        for contour in self.plan.drawn(group):
            region_to_segment(self.scene, node, Region(contour.name, contour.mask), contour.colour)
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetOpacity2DOutline(1.0)
        display.SetSliceIntersectionThickness(LINE_PIXELS)
        display.SetVisibility3D(False)
        return node

    def slice_picture(self, pane: Pane) -> np.ndarray:
        """A slice pane, shape (pixels, pixels, 3), uint8."""
        view = self._slice_view()
        view.update_size(pane.pixels, pane.pixels)
        view.set_background_volume_id(self.nodes[pane.background].GetID())
        view.set_foreground_volume_id(self.nodes[pane.overlay].GetID() if pane.overlay else None)
        view.set_foreground_opacity(MAP_OPACITY)
        for group, node in self.segmentations.items():
            node.GetDisplayNode().SetVisibility(group == pane.contours)
        node = view.get_view_node()
        matrix = _slice_to_ras(pane)
        for row, column in np.ndindex(4, 4):
            node.GetSliceToRAS().SetElement(row, column, float(matrix[row, column]))
        node.SetDimensions(pane.pixels, pane.pixels, 1)
        node.SetFieldOfView(pane.width_mm, pane.width_mm, 1.0)
        node.UpdateMatrices()
        return _grab(view)

    def _slice_view(self) -> Any:
        """The slice view, made on first use."""
        if self.slice_view is None:
            from trame_slicer.views import SliceView
            from trame_slicer.views.render_scheduler import NoScheduleRendering

            self.slice_view = SliceView(
                self.scene, self.app.app_logic, "Red", scheduled_render_strategy=NoScheduleRendering()
            )
        return self.slice_view

    def solid_pictures(self, panes: list[Pane]) -> dict[str, np.ndarray]:
        """3D panes by key: targets as surfaces, looked at along the normal of the pane, in parallel projection."""
        from trame_slicer.views import ThreeDView
        from trame_slicer.views.render_scheduler import NoScheduleRendering

        targets = self.segmentations["targets"]
        targets.CreateClosedSurfaceRepresentation()
        display = targets.GetDisplayNode()
        display.SetPreferredDisplayRepresentationName3D("Closed surface")
        segmentation = targets.GetSegmentation()
        for number, contour in enumerate(self.plan.drawn("targets")):
            identifier = segmentation.GetNthSegmentID(number)
            display.SetSegmentOpacity3D(identifier, contour.opacity_3d)
            display.SetSegmentVisibility3D(identifier, contour.opacity_3d > 0)
        display.SetVisibility(True)
        display.SetVisibility3D(True)
        view = ThreeDView(self.scene, self.app.app_logic, "1", scheduled_render_strategy=NoScheduleRendering())
        view.render_window().SetAlphaBitPlanes(1)  # depth peeling needs alpha and no multisampling
        view.render_window().SetMultiSamples(0)
        view.set_box_visible(False)
        view.set_background_color([28, 30, 36])
        return {pane.key: _solid(view, pane) for pane in panes}


def _solid(view: Any, pane: Pane) -> np.ndarray:
    """One picture of a 3D view."""
    view.update_size(pane.pixels, pane.pixels)
    centre = np.array(to_ras(pane.centre_mm))
    towards_eye = np.array(to_ras(np.cross(pane.right, pane.up)))
    camera = view.renderer().GetActiveCamera()
    camera.ParallelProjectionOn()
    camera.SetParallelScale(pane.width_mm / 2)
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + 4 * pane.width_mm * towards_eye))
    camera.SetViewUp(*to_ras(pane.up))
    view.renderer().ResetCameraClippingRange()
    view.renderer().UpdateLightsGeometryToFollowCamera()
    return _grab(view)


def _slice_to_ras(pane: Pane) -> np.ndarray:
    """SliceToRAS matrix (4, 4): columns screen right, screen up, towards the viewer, centre."""
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = pane.right, pane.up
    matrix[:3, 2] = np.cross(pane.right, pane.up)
    matrix[:3, 3] = pane.centre_mm
    return matrix_to_ras(matrix)


def _grab(view: Any) -> np.ndarray:
    """Pixels of a view, first row on top, shape (height, width, 3)."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

    view.render()
    grabber = vtkWindowToImageFilter()
    grabber.SetInput(view.render_window())
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


def main(folder: Path) -> None:
    """Render every pane of the plan in ``folder`` to ``KEY.npy``."""
    plan = read_plan(folder)
    views = SlicerViews(plan)
    for pane in plan.panes:
        if pane.background != "solid":
            np.save(folder / f"{pane.key}.npy", views.slice_picture(pane))
    for key, picture in views.solid_pictures([p for p in plan.panes if p.background == "solid"]).items():
        np.save(folder / f"{key}.npy", picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
