"""A Slicer sequence as the series of an input: its DICOM files where they are known, else the voxels in the scene.

The files say times, units and doses exactly. Without them nothing but voxels and an index is left, and the user states
what these do not say. No Qt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dicomio.model import SeriesInfo
from ..errors import InputError, RequestError
from ..jobs import PlacedFrames, SeriesSource
from ..methods import InputSpec
from ..mrml.geometry import image_data_array, require_no_transform
from ..mrml.sequences import (
    MULTI_VOLUME,
    SEQUENCE,
    data_nodes,
    frame_index,
    is_volume_sequence,
    sequence_frame_of_reference,
    sequence_frames,
    sequence_grid,
    sequence_unit,
    shown_nodes,
    volume_grid,
)
from ..mrml.volumes import OPERATIONS
from ..timeseries import FrameStack, ParameterSeries, TimeSeries, spread
from .i18n import _
from .node_images import INSTANCE_UIDS, NodeImages
from .patient_scope import all_nodes, nodes_in, patient_of
from .sequence_times import Stated, mr_times, parameter_values, pet_times

SCENE_FRAME = "world of the Slicer scene"
"""Stands for the frame of reference of frames that know none: they are where they were placed."""
FILE_LIST = "MultiVolume.FrameFileList"  # paths, separated by commas, by Slicer's MultiVolumeImporter
FRAME_COUNT = "MultiVolume.NumberOfFrames"
PET_QUANTITIES = ("SUVbw", "Activity concentration")
_SCANNER_TAGS = (  # also by the importer, as in the files: ms and degrees
    ("repetition_time_ms", "RepetitionTime"), ("echo_time_ms", "EchoTime"), ("flip_angle_deg", "FlipAngle"),
)  # fmt: skip


def sequences_in(scene: Any, item: int) -> list[Any]:
    """Sequences of scalar volumes, and MultiVolumes, of a patient or study (0: of the scene).

    A sequence stands in the subject hierarchy through the frame that is shown; one without a place is offered always.
    """
    found = [n for n in all_nodes(scene, SEQUENCE) if is_volume_sequence(n)] + all_nodes(scene, MULTI_VOLUME)
    inside = {n.GetID() for n in nodes_in(scene, item, "vtkMRMLScalarVolumeNode")}
    return [n for n in found if not item or not patient_of(n) or any(p.GetID() in inside for p in (n, *shown_nodes(n)))]


def sequence_labels(nodes: Sequence[Any]) -> dict[str, Any]:
    """Sequences by the text they are offered under; the identifier tells those of one name apart."""
    names = [node.GetName().strip() for node in nodes]
    twins = {name for name in names if names.count(name) > 1}
    named, twin = _("{name} (sequence)"), _("{name} (sequence {id})")
    return {
        (twin if name in twins else named).format(name=name, id=node.GetID()): node
        for name, node in zip(names, nodes, strict=True)
    }


@dataclass(frozen=True)
class _Files:
    """Where the frames of a sequence come from."""

    infos: tuple[SeriesInfo, ...]
    missing: str  # why there are none; empty when there are


class SequenceInputs:
    """What sequence nodes are, as inputs; files that were found are kept while the scene is open.

    Parameters
    ----------
    images : NodeImages
        Finds and scans DICOM files.
    """

    def __init__(self, images: NodeImages) -> None:
        self._images = images
        self._files: dict[tuple[str, ...], _Files] = {}

    def infos(self, node: Any) -> tuple[SeriesInfo, ...]:
        """DICOM series the frames were loaded from, cut to their files; empty when they are not to be found."""
        return self._find(node).infos

    def needs_unit(self, node: Any) -> bool:
        """True if the frames have no files and do not say what they measure."""
        if node.IsA(MULTI_VOLUME) or self.infos(node):
            return False
        try:
            sequence_unit(node)
        except RequestError:
            return True
        return False

    def check(self, node: Any, spec: InputSpec, tracer: str, stated: Stated) -> None:
        """Refuse a sequence that cannot be the series of an input, without touching voxels.

        Raises
        ------
        HypoxiaError
            Naming what to state or to choose instead.
        """
        if self.infos(node):
            _require_modality(node, spec, self.infos(node))
        else:
            self._describe(node, spec, tracer, stated)

    def source(
        self, node: Any, spec: InputSpec, tracer: str, stated: Stated, folder: Path | None = None
    ) -> SeriesSource | FrameStack:
        """Its files, for the worker to read, or its voxels in a file of ``folder``; errors as ``check``."""
        infos = self.infos(node)
        if infos:
            _require_modality(node, spec, infos)
            return SeriesSource(infos, placed=_placed(node))
        common, own = self._describe(node, spec, tracer, stated)
        frames = sequence_frames(node, folder / f"frames_{spec.key}.npy" if folder else None)
        return (TimeSeries if spec.kind == "time" else ParameterSeries)(frames=frames, **common, **own)

    def _describe(
        self, node: Any, spec: InputSpec, tracer: str, stated: Stated
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Everything but the voxels: what all stacks have, and times or values."""
        name = node.GetName()
        if node.IsA(MULTI_VOLUME):
            raise InputError(
                _("The DICOM files of the MultiVolume {name!r} were not found.").format(name=name),
                _("Load it as a volume sequence, or take its DICOM series or 4D NIfTI file in this row."),
            )
        grid = sequence_grid(node)
        quantity, unit = sequence_unit(node)
        facts: dict[str, Any] = {"sequence": name, "series_description": name,
                                 "modality": spec.modality, "no_files": self._find(node).missing}  # fmt: skip
        if spec.modality == "PT":
            facts |= _pet_facts(name, quantity, spec, tracer)
        elif unit == "g/ml" or quantity in PET_QUANTITIES:
            text = _("Sequence {name!r} is {quantity}; wanted: {image}.")
            message = text.format(name=name, quantity=quantity, image=spec.description)
            raise RequestError(message, _("Choose another."))
        else:
            facts |= _scanner_facts(node)
        index, count = frame_index(node), node.GetNumberOfDataNodes()
        if spec.kind == "time":
            times = (pet_times if spec.modality == "PT" else mr_times)(index, count, stated, name)
            facts |= {**times.facts, "time_unit_stated": bool(stated.timing.time_unit)}
            if spec.modality == "PT":
                facts["warnings"] = (f"Times of the PET count from {facts['time_zero']}: this must be the injection.",)
            own: dict[str, Any] = {"frame_start_s": times.start_s, "frame_duration_s": times.duration_s}
        else:
            own = {"parameter": spec.kind, "values": parameter_values(index, spec.kind, name)}
        said = json.loads(node.GetAttribute(OPERATIONS) or "[]")
        common = {
            "grid": grid, "quantity": quantity, "unit": unit, "facts": facts,
            "frame_of_reference_uid": sequence_frame_of_reference(node) or SCENE_FRAME,
            "source_uids": tuple(dict.fromkeys(_uids(node))),
            "operations": (f"{count} frames of the Slicer sequence {node.GetName()!r}", *said),
        }  # fmt: skip
        return common, own

    def _find(self, node: Any) -> _Files:
        """The files by the database, else by the paths that Slicer's importer left."""
        uids = _uids(node)
        listed = [part for part in (node.GetAttribute(FILE_LIST) or "").split(",") if part]
        key = (*uids, "|", *listed)
        found = self._files.get(key) or self._look_up(uids, listed)
        if found.infos:  # files that are missing may be imported yet
            self._files[key] = found
        return found

    def _look_up(self, uids: Sequence[str], listed: Sequence[str]) -> _Files:
        paths = self._images.paths_of(uids) or [Path(p) for p in listed]
        if not paths or not all(p.is_file() for p in paths):
            return _Files((), "its DICOM files are not in the database" if uids or listed else "not loaded from DICOM")
        wanted = set(paths)
        folder = Path(os.path.commonpath([str(p.parent) for p in wanted]))
        infos = [
            replace(info, files=kept)
            for info in self._images.scan(folder)
            if (kept := tuple(f for f in info.files if f in wanted))
        ]
        if sum(len(info.files) for info in infos) != len(wanted):
            return _Files((), "some of its DICOM files cannot be used")
        return _Files(tuple(infos), "")


def _uids(node: Any) -> list[str]:
    """SOP Instance UIDs of all frames; empty unless every frame says its own."""
    nodes = [node] if node.IsA(MULTI_VOLUME) else data_nodes(node)
    found = [(n.GetAttribute(INSTANCE_UIDS) or "").split() for n in nodes if n is not None]
    return [uid for uids in found for uid in uids] if all(found) else []


def _placed(node: Any) -> PlacedFrames:
    """Where the frames lie in the scene, how many there are and their voxels: the files must say the same."""
    spreads: tuple[float, ...]
    if node.IsA(MULTI_VOLUME):
        require_no_transform(node)
        grid, count, spreads = volume_grid(node), int(node.GetAttribute(FRAME_COUNT) or 0), ()
    else:
        grid, count = sequence_grid(node), node.GetNumberOfDataNodes()
        spreads = tuple(spread(image_data_array(frame.GetImageData())) for frame in data_nodes(node))
    corners = [
        [c * (n - 1) for c, n in zip((b & 1, b >> 1 & 1, b >> 2), grid.GetSize(), strict=True)] for b in range(8)
    ]
    return PlacedFrames(
        node.GetName(), count, grid.GetSize(), tuple(grid.TransformIndexToPhysicalPoint(c) for c in corners), spreads
    )


def _require_modality(node: Any, spec: InputSpec, infos: Sequence[SeriesInfo]) -> None:
    wrong = next((info for info in infos if info.modality != spec.modality), None)
    if wrong is not None:
        text = _("Sequence {name!r} is {modality}; wanted: {image}.")
        message = text.format(name=node.GetName(), modality=wrong.modality, image=spec.description)
        raise RequestError(message, _("Choose another."))
    if not node.IsA(MULTI_VOLUME):
        sequence_grid(node)


def why_no_tracer(name: str, tracer: str, spec: InputSpec) -> str:
    """Why a PET of a tracer (empty or "unknown" where nothing says it) cannot be an input."""
    text = (
        _("{name!r} has no known tracer: state it; this method needs one of: {wanted}.")
        if tracer in ("", "unknown")
        else _("{name!r} is a {tracer} PET; this method needs one of: {wanted}.")
    )
    return text.format(name=name, tracer=tracer, wanted=", ".join(spec.tracers))


def _pet_facts(name: str, quantity: str, spec: InputSpec, tracer: str) -> dict[str, Any]:
    """Facts of a PET without header."""
    if quantity not in PET_QUANTITIES:
        text = _("Sequence {name!r} is {quantity}; this method needs {wanted}.")
        message = text.format(name=name, quantity=quantity, wanted=spec.quantity)
        raise RequestError(message, _("Choose another."))
    if spec.tracers and tracer not in spec.tracers:
        raise RequestError(why_no_tracer(name, tracer, spec), _("State the tracer below."))
    return {"tracer": tracer or "unknown", "tracer_source": "stated by the user"}


def _scanner_facts(node: Any) -> Mapping[str, float]:
    """Repetition time, echo time and flip angle that Slicer's importer kept."""
    found = {}
    for key, tag in _SCANNER_TAGS:
        text = node.GetAttribute(f"MultiVolume.DICOM.{tag}") or ""
        try:
            found[key] = float(text)
        except ValueError:
            continue
    return found
