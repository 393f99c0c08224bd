"""How often a drag of Hypoxia Mapper's threshold slider is drawn, for a map of 256 x 256 x 256 voxels over a CT.

Runs inside Slicer, whose window it needs::

    Slicer --additional-module-paths HypoxiaMapper HypoxiaDosePaint
           --python-script Testing/bench/bench_threshold_slicer.py

A timer moves the slider as a hand does, more often than any screen is drawn, in a window of 1600 x 1000. An update
counts when every slice view has drawn a threshold that it did not show before. Beside it: what the panel and the scene
take of an update (rendering paused), what the views take to render, and the processor time of all of it, Qt's painting
included.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import numpy as np
import qt
import SimpleITK as sitk
import slicer

from HypoxiaMapperLib.jobs import JobResult
from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.mrml import make_segmentation, region_to_segment, show_as_background, volume_to_node
from HypoxiaMapperLib.panel.map_nodes import map_to_node
from HypoxiaMapperLib.panel.patient_loader import CT_WINDOW_HU
from HypoxiaMapperLib.volume import Region, Volume

VOXELS, BODY_MM, GTV_MM = 256, 110.0, 60.0
WINDOW = (1600, 1000)
SECONDS, HAND_MS = 6.0, 8  # a mouse tells its place about every 8 ms
LOW, HIGH = 0.9, 2.1
VIEWS = ("Red", "Green", "Yellow")


def image_of(array: np.ndarray) -> sitk.Image:
    """On a grid of 1 mm around the origin."""
    image = sitk.GetImageFromArray(array)
    image.SetOrigin([-VOXELS / 2] * 3)
    return image


def fill_scene(panel: Any) -> None:
    """CT, map and GTV, chosen in the panel."""
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[:VOXELS, :VOXELS, :VOXELS]
    distance = np.sqrt((z - VOXELS / 2) ** 2 + (y - VOXELS / 2) ** 2 + (x - VOXELS / 2) ** 2).astype(np.float32)
    hu = np.where(distance < BODY_MM, 40, -1000).astype(np.float32) + random.normal(0, 20, distance.shape).astype(
        np.float32
    )
    ratio = (2.2 - distance / GTV_MM + random.normal(0, 0.1, distance.shape)).astype(np.float32)
    scene, p = slicer.mrmlScene, panel.parameters
    planning = volume_to_node(scene, Volume(image_of(hu), "CT number", "[hnsf'U]", "1.2.3"), "CT")
    show_as_background(planning, CT_WINDOW_HU)
    structures = make_segmentation(scene, "Structures")
    gtv = Region("GTVp", image_of((distance < GTV_MM).astype(np.uint8)), "1.2.3", "made up")
    segment = region_to_segment(scene, structures, gtv, (250, 225, 60))
    p.planning_volume, p.gtv_segmentation, p.gtv_segment = planning, structures, segment
    volume = Volume(image_of(ratio), "FMISO uptake ratio", "{ratio}", "1.2.3")
    found = HypoxiaMap(volume, 1.2, ">", "made up", False, None, None, (), {})
    prints = panel.decisions.fingerprint(panel.choices())
    node = map_to_node(scene, JobResult(found, {}, {}, {}), "Map", prints, "tracer_ratio", {"planning": planning})
    p.map_volume = node
    panel.map_section.show_new_map(node)


class Watch:
    """Counts and times what each view draws, and the thresholds that were new to a slice view."""

    def __init__(self, shown: Any) -> None:
        self.updates, self.render_s = dict.fromkeys(VIEWS, 0), 0.0
        self._display, self._seen, self._begun, self._windows = shown.GetDisplayNode(), {}, 0.0, []
        manager = slicer.app.layoutManager()
        views = {name: manager.sliceWidget(name).sliceView() for name in VIEWS}
        views |= {"3D": manager.threeDWidget(0).threeDView()}
        if manager.plotViewCount:
            views["plot"] = manager.plotWidget(0).plotView()
        for name, view in views.items():
            window = view.renderWindow()
            tags = [window.AddObserver("StartEvent", self._begin)]
            tags.append(window.AddObserver("EndEvent", lambda *_, name=name: self._drawn(name)))
            self._windows.append((window, tags))

    def _begin(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _drawn(self, name: str) -> None:
        self.render_s += time.perf_counter() - self._begun
        edge = self._display.GetLowerThreshold()
        if name in VIEWS and self._seen.get(name) != edge:
            self._seen[name] = edge
            self.updates[name] += 1

    def stop(self) -> None:
        """Count no more."""
        for window, tags in self._windows:
            for tag in tags:
                window.RemoveObserver(tag)


def drag(panel: Any) -> list[str]:
    """Move the slider to and fro for some seconds; one row of the table."""
    settle()
    paused_ms = handler_ms(panel)
    slider, watch, moves = panel.ui.thresholdSlider, Watch(panel.map_section.overlay.shown), [0]
    timer = qt.QTimer()
    timer.interval = HAND_MS

    def move() -> None:
        moves[0] += 1
        phase = (time.monotonic() - start) % 2.0
        slider.value = LOW + (HIGH - LOW) * abs(1.0 - phase)

    timer.connect("timeout()", move)
    start, cpu = time.monotonic(), time.process_time()
    timer.start()
    while time.monotonic() - start < SECONDS:
        slicer.app.processEvents(qt.QEventLoop.AllEvents, 50)
    timer.stop()
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    watch.stop()
    updates = max(1, min(watch.updates.values()))
    return [
        f"{updates / seconds:.1f}", f"{moves[0] / seconds:.0f}", f"{paused_ms:.1f}",
        f"{1000 * watch.render_s / updates:.0f}", f"{1000 * cpu / updates:.0f}", f"{cpu / seconds:.2f}",
    ]  # fmt: skip


def handler_ms(panel: Any, count: int = 50) -> float:
    """Milliseconds that panel and scene take for an update while nothing is drawn."""
    slicer.app.pauseRender()
    start = time.perf_counter()
    for number in range(count):
        panel.ui.thresholdSlider.value = LOW + (HIGH - LOW) * number / count
    seconds = time.perf_counter() - start
    slicer.app.resumeRender()
    return 1000 * seconds / count


def settle() -> None:
    """Let everything be drawn that is to be drawn."""
    for _ in range(20):
        slicer.app.processEvents()
        time.sleep(0.02)


def main() -> None:
    """Measure and print."""
    window = slicer.util.mainWindow()
    window.setGeometry(0, 0, *WINDOW)
    window.show()
    slicer.util.selectModule("HypoxiaMapper")
    panel = slicer.modules.HypoxiaMapperWidget.panel
    fill_scene(panel)
    ui = panel.ui
    ui.onlyHypoxicCheckBox.checked = True
    rows = []
    for button, layout in ((ui.fourUpButton, "four-up"), (ui.plotsButton, "four-up and plot")):
        button.click()
        slicer.util.resetSliceViews()
        for inside, text in ((True, "in the GTV only"), (False, "whole map")):
            ui.insideGtvCheckBox.checked = inside
            rows.append([f"{layout}, {text}", *drag(panel)])
    about = slicer.app.layoutManager().sliceWidget("Red").sliceView().renderWindow().ReportCapabilities()
    renderer = next((line.split(":", 1)[1].strip() for line in about.splitlines() if "renderer string" in line), "?")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{platform.platform()}, {os.cpu_count()} cores{load}; {renderer}; Slicer {slicer.app.applicationVersion}")
    heads = "case | updates/s drawn | moves/s | panel and scene ms | render ms | CPU ms | CPU share"
    print("\n".join([f"| {heads} |", "|---" * 7 + "|", *(f"| {' | '.join(row)} |" for row in rows)]), flush=True)


if __name__ == "__main__":
    main()
    slicer.util.exit(0)
