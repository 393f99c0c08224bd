"""The rows of step 1 that depend on the method, in Qt: images, series of frames, further regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
import slicer

from ..dicomio.model import SeriesInfo
from ..methods import InputSpec, Method, RegionSpec
from .choices import MapperChoices, SegmentChoice
from .i18n import _
from .method_form import new_form
from .patient_scope import hidden_ids
from .sequence_input import sequence_labels
from .series_choice import SEPARATOR, candidates

VOLUME, SEGMENTATION = "vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode"
LONGEST_LABEL = 36  # characters beside a field
NAME_MAY_BE_LONG = (qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)  # the panel must not grow with it
OWN_REGIONS = ("gtv", "reference")  # have rows of their own in the .ui


class InputRows:
    """Selectors of one method's images and regions.

    Parameters
    ----------
    container : QWidget
        Receives the rows; those of another method are removed.
    changed : callable
        Called when the user chooses.
    """

    def __init__(self, container: Any, scene: Any, changed: Callable[..., None]) -> None:
        self._container, self._scene, self._changed = container, scene, changed
        self._specs: dict[str, InputSpec] = {}
        self.volumes: dict[str, Any] = {}
        self.series: dict[str, Any] = {}
        self.regions: dict[str, Any] = {}
        self._sequences: dict[str, Any] = {}  # by the text they are offered under

    def show(self, method: Method) -> None:
        """Rows for a method."""
        layout = new_form(self._container)
        specs: list[InputSpec | RegionSpec] = [*method.inputs, *(r for r in method.regions if r.key not in OWN_REGIONS)]
        long = any(len(_label(spec)) > LONGEST_LABEL for spec in specs)  # a long label would make the panel wide
        layout.setRowWrapPolicy(qt.QFormLayout.WrapAllRows if long else qt.QFormLayout.WrapLongRows)
        self._specs = {spec.key: spec for spec in method.inputs}
        self.volumes, self.series, self.regions = {}, {}, {}
        for spec in method.inputs:
            row = self._volume_row(spec) if spec.kind == "volume" else self._series_row(spec)
            layout.addRow(_label(spec), row)
        for region in method.regions:
            if region.key not in OWN_REGIONS:
                layout.addRow(_label(region), self._region_row(region))

    def _volume_row(self, spec: InputSpec) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = [VOLUME]
        selector.noneEnabled, selector.addEnabled, selector.removeEnabled = True, False, False
        selector.setMRMLScene(self._scene)
        selector.setSizePolicy(*NAME_MAY_BE_LONG)
        text, tracers = f"{spec.description}: {spec.quantity}", ", ".join(spec.tracers)
        selector.toolTip = _("{image} of {tracers}").format(image=text, tracers=tracers) if tracers else text
        selector.currentNodeChanged.connect(self._changed)
        self.volumes[spec.key] = selector
        return selector

    def _series_row(self, spec: InputSpec) -> Any:
        holder, box, button = qt.QWidget(), qt.QComboBox(), qt.QPushButton(_("File..."))
        box.setEditable(True)
        box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        box.toolTip = _(
            "{image}: {quantity}. Choose a DICOM series of the patient or a sequence of the scene, or type a "
            "description or UID, or a NIfTI file; several with ;"
        ).format(image=spec.description, quantity=spec.quantity)
        box.currentTextChanged.connect(self._changed)
        button.toolTip = _("Choose NIfTI files with their sidecars")
        button.clicked.connect(lambda *_args, key=spec.key: self._choose_files(key))
        layout = qt.QHBoxLayout(holder)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(box, 1)
        layout.addWidget(button)
        self.series[spec.key] = box
        return holder

    def _region_row(self, spec: RegionSpec) -> Any:
        selector = slicer.qMRMLSegmentSelectorWidget()
        selector.noneEnabled = True
        selector.setMRMLScene(self._scene)
        selector.setSizePolicy(*NAME_MAY_BE_LONG)
        selector.toolTip = spec.description
        selector.currentNodeChanged.connect(self._changed)
        selector.currentSegmentChanged.connect(self._changed)
        self.regions[spec.key] = selector
        return selector

    def _choose_files(self, key: str) -> None:
        files = qt.QFileDialog.getOpenFileNames(None, _("NIfTI files"), "", _("NIfTI (*.nii *.nii.gz)"))
        if files:
            self.series[key].setEditText(f"{SEPARATOR} ".join(files))

    def show_choices(self, choices: MapperChoices, infos: Sequence[SeriesInfo], sequences: Sequence[Any]) -> None:
        """What is chosen, and which series and sequences there are to choose from."""
        self._sequences = sequence_labels(sequences)
        named = {node.GetID(): text for text, node in self._sequences.items()}
        for key, selector in self.volumes.items():
            selector.setCurrentNode(choices.inputs.get(key))
        for key, box in self.series.items():
            node = choices.sequences.get(key)
            offered = [*candidates(self._specs[key], infos), *self._sequences]
            text = choices.series.get(key, "") if node is None else named.get(node.GetID(), "")
            if [box.itemText(n) for n in range(box.count)] != offered:
                box.clear()
                for item in offered:
                    box.addItem(item)
            if box.currentText != text:
                box.setEditText(text)
        for key, selector in self.regions.items():
            choice = choices.regions.get(key, SegmentChoice())
            selector.setCurrentNode(choice.node)
            if choice.node is not None:
                selector.setCurrentSegmentID(choice.segment_id)

    def chosen_nodes(self) -> dict[str, Any]:
        """Volume nodes by key."""
        return {key: selector.currentNode() for key, selector in self.volumes.items()}

    def chosen_series(self) -> dict[str, str]:
        """Texts of series by key; empty where a sequence is chosen."""
        texts = {key: box.currentText.strip() for key, box in self.series.items()}
        return {key: "" if text in self._sequences else text for key, text in texts.items()}

    def chosen_sequences(self) -> dict[str, Any]:
        """Sequence nodes by key."""
        return {key: self._sequences.get(box.currentText.strip()) for key, box in self.series.items()}

    def chosen_regions(self, before: Mapping[str, SegmentChoice]) -> dict[str, SegmentChoice]:
        """Further regions by key, after those that were chosen before."""
        return {
            key: before.get(key, SegmentChoice()).then(s.currentNode(), s.currentSegmentID())
            for key, s in self.regions.items()
        }


def restrict(scene: Any, item: int, volume_selectors: Sequence[Any], segment_selectors: Sequence[Any]) -> None:
    """Offer only nodes of a patient or study (item of the subject hierarchy; 0: of the whole scene)."""
    for class_name, selectors in ((VOLUME, volume_selectors), (SEGMENTATION, segment_selectors)):
        hidden = hidden_ids(scene, item, class_name)
        for selector in selectors:
            selector.sortFilterProxyModel().hiddenNodeIDs = hidden


def node_list_of(segment_selector: Any) -> Any:
    """The list of segmentations inside a segment selector."""
    return slicer.util.findChildren(segment_selector, className="qMRMLNodeComboBox")[0]


def _label(spec: InputSpec | RegionSpec) -> str:
    """Description with a capital letter, and whether it may be left out."""
    text = spec.description.partition(";")[0]  # the rest is in the tool tip
    text = f"{text[:1].upper()}{text[1:]}"
    return f"{text}:" if spec.required else _("{image} (optional):").format(image=text)
