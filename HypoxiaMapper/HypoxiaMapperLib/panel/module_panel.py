"""What the panels of both modules do alike with their parameter node, in Qt."""

from __future__ import annotations

from typing import Any

from .node_images import database_images
from .node_watch import NodeWatch
from .removal_watch import RemovalWatch


class ModulePanel:
    """A panel over the widgets of a .ui file.

    Parameters
    ----------
    ui : object
        Child widgets of the .ui file by name.
    scene : vtkMRMLScene
        The scene of the widgets.
    """

    def __init__(self, ui: Any, scene: Any) -> None:
        self.ui, self.scene = ui, scene
        self.parameters: Any = None
        self.images = database_images()
        self.updating = False  # while labels and lists are written, no signal of theirs is a user's
        self._gui_tag: Any = None
        self.watch_inputs = NodeWatch(self.refresh)
        self.removals = RemovalWatch(scene, self.node_selectors)

    @property
    def shown(self) -> bool:
        """Whether the user is in this module."""
        return self._gui_tag is not None

    def pause(self) -> None:
        """The user goes to another module: nothing is shown, what runs goes on."""
        if self.parameters is not None and self._gui_tag is not None:
            self.parameters.disconnectGui(self._gui_tag)
        self._gui_tag = None
        self.watch_inputs.follow([])

    def set_parameters(self, parameters: Any) -> None:
        """Show another parameter node; None for none."""
        self.pause()
        self.parameters = parameters
        if parameters is None:
            self.removals.stop()
        else:
            self.removals.start()
            self._gui_tag = parameters.connectGui(self.ui)
            self.begin()
            self.refresh()

    def begin(self) -> None:
        """What a panel does besides when a parameter node comes."""

    def refresh(self, *_args: Any) -> None:
        """Bring every label, list, table and button up to date."""
        if self.parameters is None or self.updating:
            return
        self.updating = True
        try:
            choices = self.choices()
            self.watch_inputs.follow(self.watched(choices))
            self.show(choices)
        finally:
            self.updating = False

    def choices(self) -> Any:
        """What the parameter node holds."""
        raise NotImplementedError

    def node_selectors(self) -> list[Any]:
        """Selectors whose node may be removed from the scene."""
        raise NotImplementedError

    def watched(self, choices: Any) -> list[Any]:
        """Nodes whose change is to be seen at once."""
        raise NotImplementedError

    def show(self, choices: Any) -> None:
        """Every label, list, table and button of these choices."""
        raise NotImplementedError
