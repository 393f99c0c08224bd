"""Step 2 of the mapper panel in Qt: the method, its parameters, the device, and the computation in a child process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer

from ..errors import HypoxiaError
from ..jobs import Job, read_curves, read_result, write_job
from ..methods import Method, all_methods
from .child import PACKAGE_PARENT, ChildRun, python_executable, time_left_text, worker_arguments
from .choices import MapperChoices, why_method_is_grey
from .device_line import DeviceQuestion, uses_torch
from .guess import without_unfitting
from .i18n import _
from .labels import fit_labels
from .map_nodes import map_to_node
from .method_form import MethodForm
from .packages import install, missing_packages
from .patient_loader import add_frame
from .plots import show_curve
from .segment_regions import with_losses
from .views import unit_text

if TYPE_CHECKING:
    from .widget import MapperPanel

POLL_MS = 100
USER_MODELS = ("mskcc_tbr",)  # methods whose weights the user brings


class MethodSection:
    """Choice of the method and what computes it."""

    def __init__(self, panel: MapperPanel) -> None:
        self.panel, self.ui, self.scene = panel, panel.ui, panel.scene
        self.run_state: ChildRun | None = None
        self.device = DeviceQuestion(launch_worker)
        self.form = MethodForm(panel.ui.parametersWidget, self._on_parameters)
        self._job_folder: tempfile.TemporaryDirectory[str] | None = None
        self._job: Job | None = None
        self._job_choices = MapperChoices()
        self._job_prints: dict[str, str] = {}
        self.timer = qt.QTimer()
        self.timer.interval = POLL_MS
        self.timer.connect("timeout()", self.poll)
        self._fill_list()
        self.ui.methodComboBox.currentIndexChanged.connect(self._on_method)
        self.ui.installButton.clicked.connect(self.on_install)
        self.ui.locateButton.clicked.connect(self.on_locate)
        self.ui.runButton.clicked.connect(self.on_run)
        self.ui.cancelButton.clicked.connect(self.on_cancel)

    def _fill_list(self) -> None:
        """Every method. Those that cannot run here look grey; chosen, they say why and how to mend it."""
        for name, method in all_methods().items():
            self.ui.methodComboBox.addItem(method.title, name)
        self._show_grey()

    def _show_grey(self) -> None:
        """Colour of the methods in the list, anew after something was installed or registered."""
        box = self.ui.methodComboBox
        colours = {
            grey: qt.QBrush(box.palette.color(qt.QPalette.Disabled if grey else qt.QPalette.Active, qt.QPalette.Text))
            for grey in (True, False)
        }
        for number in range(box.count):
            grey = bool(why_method_is_grey(all_methods()[box.itemData(number)]))
            box.setItemData(number, colours[grey], qt.Qt.ForegroundRole)

    def forget(self) -> None:
        """The scene closes, or the module goes: end what runs."""
        self.timer.stop()
        self.device.cancel()
        if self.run_state is not None:
            self.run_state.cancel()
            self.run_state = None
            self._job_folder.cleanup()
        self.ui.progressBar.value, self.ui.methodStatusLabel.text = 0, ""

    def show(self, method: Method) -> None:
        """Rows for the parameters of a method."""
        self.ui.methodComboBox.currentIndex = self.ui.methodComboBox.findData(method.name)
        self.form.show(method, json.loads(self.panel.parameters.method_parameters))

    def refresh(self, choices: MapperChoices) -> None:
        """Whether Run is possible, notes on the method, the device."""
        ui, method = self.ui, all_methods()[choices.method]
        reason = self.panel.decisions.why_not_run(choices, self.run_state is not None)
        ui.runButton.enabled = not reason
        ui.runButton.toolTip = reason or _("Compute the map in a process of its own")
        ui.cancelButton.enabled = self.run_state is not None
        why = why_method_is_grey(method)
        note = _("{quantity} ({unit}). Point here for its sources.")
        ui.methodNoteLabel.text = why or note.format(quantity=method.quantity, unit=unit_text(method.unit))
        ui.methodNoteLabel.toolTip = method.citation
        ui.installButton.visible = bool(missing_packages(method.packages))
        ui.locateButton.visible = bool(why) and method.name in USER_MODELS
        if uses_torch(method):
            self.device.ask()
            self.timer.start()
        ui.deviceLabel.text = self.device.text(method)
        fit_labels(ui.methodNoteLabel, ui.deviceLabel)

    def _on_method(self, *_args: Any) -> None:
        """Another method: other inputs, other parameters."""
        panel = self.panel
        if not panel.updating and panel.parameters is not None:
            panel.parameters.method = self.ui.methodComboBox.currentData
            panel.parameters.method_parameters = "{}"
            panel.show_method()
            panel.store(without_unfitting(panel.choices(), panel.images))
            panel.fill_in()

    def _on_parameters(self) -> None:
        """Form into parameter node."""
        self.panel.parameters.method_parameters = json.dumps(self.form.values(), sort_keys=True)
        self.panel.refresh()

    def on_install(self) -> None:
        """Offer the packages of the method."""
        method = all_methods()[self.panel.parameters.method]
        self.ui.methodStatusLabel.text = ""
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed.")):
            try:
                install(method.packages, _("Hypoxia Mapper"))
            except HypoxiaError as error:
                self.ui.methodStatusLabel.text = str(error)
                fit_labels(self.ui.methodStatusLabel)
        self._show_grey()
        self.panel.refresh()

    def on_locate(self) -> None:
        """Let the user point to the weights of a model that cannot be shipped."""
        from .user_weights import locate

        self.ui.methodStatusLabel.text = locate(all_methods()[self.panel.parameters.method])
        self._show_grey()
        self.panel.refresh()

    def on_run(self) -> None:
        """Start the computation in a child process."""
        self.start(None)

    def start(self, voxel_mm: tuple[float, float, float] | None) -> None:
        """Compute the map, or the curve of the series' voxel at a point (LPS mm) of the planning image."""
        self.ui.methodStatusLabel.text = ""
        with slicer.util.tryWithErrorDisplay(_("The computation could not be started."), waitCursor=True):
            self._job_choices = self.panel.choices()
            self._job_folder = tempfile.TemporaryDirectory(prefix="hypoxia-job-")
            folder = Path(self._job_folder.name)
            try:
                self._job = replace(self.panel.decisions.make_job(self._job_choices, folder), voxel_mm=voxel_mm)
            except HypoxiaError as error:
                self.ui.methodStatusLabel.text = str(error)
                self._job_folder.cleanup()
                return
            self._job_prints = self.panel.decisions.fingerprint(self._job_choices)
            write_job(self._job, folder)
            self._job = replace(self._job, inputs={})  # lets go of the frames of a sequence
            self.run_state = ChildRun(launch_worker([self._job_folder.name]))
            self.timer.start()
        self.panel.refresh()

    def on_cancel(self) -> None:
        """End the computation."""
        if self.run_state is not None:
            self.run_state.cancel()
            self.poll()

    def poll(self) -> None:
        """Show progress; take the result, or the answer about the device, when the process has ended."""
        if self.device.poll():
            self.panel.refresh()
        run = self.run_state
        if run is None:
            if not self.device.asking:
                self.timer.stop()
            return
        code = run.poll()
        self.ui.progressBar.value = round(100 * run.fraction)
        self.ui.methodStatusLabel.text = f"{run.text}  {time_left_text(run.seconds_left())}".strip()
        if code is None:
            return
        self.run_state = None
        message = _("Cancelled.") if run.cancelled else self._take_result(run.log)
        if code < 0 and not run.cancelled:  # ended by a signal: it could not say why itself
            message += "\n" + _("The process was ended by signal {number}.").format(number=-code)
        self._job_folder.cleanup()
        self.ui.progressBar.value = 0
        self.panel.refresh()
        self.ui.methodStatusLabel.text = message
        fit_labels(self.ui.methodStatusLabel)

    def _take_result(self, log: Sequence[str]) -> str:
        """Put the result into the scene; what to tell the user, with the worker's last word when it broke down."""
        folder, choices = Path(self._job_folder.name), self._job_choices
        try:
            if self._job.voxel_mm is not None:
                return self._take_curves(folder)
            result = with_losses(read_result(folder), self._job.regions)
        except HypoxiaError as error:
            return "\n".join([str(error), *(line for line in log[-1:] if not line.startswith("ERROR "))])
        name = self.scene.GenerateUniqueName(result.map.volume.quantity)
        nodes = {"planning": choices.planning, **choices.inputs}
        nodes |= {f"sequence.{key}": node for key, node in choices.sequences.items()}
        for key, frame in result.shown.items():
            nodes[key] = add_frame(self.scene, frame, self._job.sources.get(key), choices.planning)
        node = map_to_node(
            self.scene, result, name, self._job_prints, choices.method, nodes, choices.params, choices.used_regions()
        )
        self.panel.updating = True  # the list of maps would show it a first time
        self.panel.parameters.map_volume = node
        self.panel.updating = False
        self.panel.map_section.show_new_map(node)
        return "\n".join([_("Map ready."), *result.map.warnings])

    def _take_curves(self, folder: Path) -> str:
        """Show the curve of a voxel."""
        curves = read_curves(folder)
        if not curves:
            return _("This method gives no curve.")
        self.panel.map_section.overlay.show_plot(show_curve(self.scene, curves[0]))
        return _("Curve of {name}.").format(name=curves[0].name)


def launch_worker(arguments: Sequence[str]) -> Any:
    """A worker process with its output piped."""
    command = worker_arguments(python_executable(), *arguments)
    return slicer.util.launchConsoleProcess(command, cwd=str(PACKAGE_PARENT))
