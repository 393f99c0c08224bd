"""What the user chose in the mapper panel, what is still missing, and the job that follows. No Qt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dicomio.model import SeriesInfo
from ..errors import GeometryError, HypoxiaError, RequestError
from ..inference.channels import CHANNELS
from ..jobs import Job
from ..methods import InputSpec, Method, all_methods
from ..resample import sphere_region
from ..timeseries import UNSTATED, FrameStack, Timing
from ..tumour_overlap import refuse_tumour_reference
from ..volume import Region, Volume
from .i18n import _
from .map_nodes import EMPTY, Fingerprints, region_words
from .node_images import CT_NUMBER, NodeImages
from .patient_scope import why_not_one_patient
from .segment_regions import other_tumours, region_of_segment, transformed, without_labelmap
from .sequence_input import SCENE_FRAME, SequenceInputs, why_no_tracer
from .sequence_times import Stated
from .series_choice import SeriesCatalogue, resolve
from .sphere import SPHERE_NAME, sphere_of_roi, why_no_sphere
from .words import alignment_texts, shown_words


@dataclass(frozen=True)
class SegmentChoice:
    """A segment of a segmentation node."""

    node: Any = None
    segment_id: str = ""

    def exists(self) -> bool:
        """True if the segment is there."""
        return self.node is not None and self.node.GetSegmentation().GetSegment(self.segment_id) is not None

    def then(self, node: Any, segment_id: str) -> SegmentChoice:
        """What a selector shows after this choice: nothing where this segment was removed.

        Slicer's selector then goes to the next segment of the list by itself, which nobody chose.
        """
        removed = bool(self.segment_id) and node is not None and node is self.node and not self.exists()
        return SegmentChoice(node, "" if removed else segment_id)


@dataclass(frozen=True)
class MapperChoices:
    """Everything step 1 and 2 ask for."""

    planning: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    gtv: SegmentChoice = SegmentChoice()
    reference: SegmentChoice = SegmentChoice()
    reference_roi: Any = None  # markups ROI node, taken when no reference segment is chosen
    tracer: str = ""  # stated by the user where the header does not say it
    method: str = "tracer_ratio"
    params: Mapping[str, Any] = field(default_factory=dict)
    alignment: str = "same_frame"
    series: Mapping[str, str] = field(default_factory=dict)  # inputs that are no volumes, see ``series_choice``
    regions: Mapping[str, SegmentChoice] = field(default_factory=dict)  # beyond GTV and reference: artery ...
    timing: Timing = UNSTATED
    motion_reference: int = 0  # frame to which a dynamic series is registered; 0: none
    sequences: Mapping[str, Any] = field(default_factory=dict)  # sequence nodes, taken in place of ``series``
    frame_lengths: str = ""  # stated for a PET sequence

    def nodes(self) -> list[Any]:
        """Every node that is chosen."""
        chosen = (self.gtv, self.reference, *self.regions.values())
        images = (*self.inputs.values(), *self.sequences.values())
        nodes = [self.planning, *images, *(choice.node for choice in chosen)]
        return [node for node in nodes if node is not None]

    @property
    def takes_reference(self) -> bool:
        """Whether the method has a reference region."""
        method = all_methods().get(self.method)
        return method is None or any(spec.key == "reference" for spec in method.regions)

    def used_regions(self) -> dict[str, tuple[Any, str]]:
        """Segmentation and segment of each region that is there, by the method's key; a sphere has no segment."""
        chosen = {"gtv": self.gtv, **self.regions}
        if self.takes_reference:  # one may be left from another method
            chosen["reference"] = self.reference
        found = {key: (choice.node, choice.segment_id) for key, choice in chosen.items() if choice.exists()}
        if self.takes_reference and "reference" not in found and self.reference_roi is not None:
            found["reference"] = (self.reference_roi, "")
        return found


class MapperDecisions:
    """Answers the panel's questions about a set of choices.

    Parameters
    ----------
    images : NodeImages
        Gives the Volume of a node.
    catalogue : SeriesCatalogue, optional
        Gives the DICOM series of a patient; without it, those of the folders that nodes were loaded from.
    """

    def __init__(self, images: NodeImages, catalogue: SeriesCatalogue | None = None) -> None:
        self.images = images
        self.catalogue = catalogue or SeriesCatalogue(lambda uid: (), images.scan)
        self.fingerprints = Fingerprints()
        self.sequences = SequenceInputs(images)

    def infos(self, choices: MapperChoices) -> tuple[SeriesInfo, ...]:
        """DICOM series of the patient of the chosen images."""
        return self.catalogue.infos([n for n in choices.nodes() if n.IsA("vtkMRMLVolumeNode")])

    def method(self, choices: MapperChoices) -> Method:
        """The chosen method.

        Raises
        ------
        RequestError
            Listing the valid names.
        """
        if choices.method not in all_methods():
            message = _("There is no method {name!r}.").format(name=choices.method)
            raise RequestError(message, _("Valid: {names}.").format(names=", ".join(all_methods())))
        return all_methods()[choices.method]

    def missing_images(self, choices: MapperChoices) -> list[str]:
        """What step 1 still needs, one line each; empty when it is complete."""
        method = self.method(choices)
        lines = self._problems_of_planning(choices.planning)
        infos: list[SeriesInfo] = []
        for spec in method.inputs:
            sequence, text = choices.sequences.get(spec.key), choices.series.get(spec.key)
            given = choices.inputs.get(spec.key) if spec.kind == "volume" else sequence or text
            if not given:
                lines += [_("Choose the {image}.").format(image=spec.description)] if spec.required else []
            elif spec.kind == "volume":
                lines += self._problems_of_input(spec, choices)
            else:
                try:
                    if sequence is not None:
                        self.sequences.check(sequence, spec, choices.tracer, _stated(choices))
                        infos += self.sequences.infos(sequence)
                    else:
                        infos += resolve(str(text), spec, self.infos(choices)).infos
                except HypoxiaError as error:
                    lines.append(str(error))
        lines += self._without_frame(choices)
        lines += self._missing_regions(method, choices) + transformed(choices.nodes())
        lines += without_labelmap(choices.used_regions().values())
        of_nodes = [self.images.info(n) for n in choices.nodes() if n.IsA("vtkMRMLVolumeNode")]
        mixed = why_not_one_patient(choices.nodes(), [*infos, *(info for info in of_nodes if info is not None)])
        return [*lines, mixed] if mixed else lines

    def _without_frame(self, choices: MapperChoices) -> list[str]:
        """Images that name no frame of reference cannot be said to share one; empty when all do, or need not."""
        if choices.alignment != "same_frame":
            return []
        nodes = [node for node in (choices.planning, *choices.inputs.values()) if node is not None]
        lost = [node.GetName() for node in nodes if not self.images.names_its_frame(node)]
        text = _("{names} name no frame of reference: choose another alignment, {alignment!r} or registration.")
        return [text.format(names=", ".join(lost), alignment=alignment_texts()["scene"])] if lost else []

    def _empty_segments(self, choices: MapperChoices) -> list[str]:
        """One line for each region that was erased."""
        prints = {key: self.fingerprints.region(*used) for key, used in choices.used_regions().items() if used[1]}
        empty = [key for key, text in prints.items() if text.startswith(EMPTY)]
        text = _("The segment of {region} has no voxel.")
        return [text.format(region=shown_words(region_words(key))) for key in empty]

    def _missing_regions(self, method: Method, choices: MapperChoices) -> list[str]:
        """Regions that are still to be chosen."""
        lines = [] if choices.gtv.exists() else [_("Choose the GTV segment.")]
        lines += self._empty_segments(choices)
        for spec in method.regions:
            if spec.key == "reference":
                if not choices.reference.exists():
                    asked = any(f.name == "reference_kind" for f in dataclasses.fields(method.Params))
                    kind = choices.params.get("reference_kind", "") if asked else None
                    lines += filter(None, [why_no_sphere(choices.reference_roi, spec.required, kind)])
            elif spec.required and spec.key != "gtv" and not choices.regions.get(spec.key, SegmentChoice()).exists():
                text = _("Choose the region {key} ({description}).")
                lines.append(text.format(key=spec.key, description=spec.description))
        return lines

    def _problems_of_planning(self, node: Any) -> list[str]:
        """Why the planning image cannot be used; empty when it can. A CT of DICOM need not be read for that."""
        if node is None:
            return [_("Choose the planning CT.")]
        info = self.images.info(node)
        try:
            quantity = CT_NUMBER if info is not None and info.modality == "CT" else self.images.describe(node)[0]
        except HypoxiaError as error:
            return [str(error)]
        text = _("{name!r} is {quantity}, no CT: choose the planning CT.")
        return [] if quantity == CT_NUMBER else [text.format(name=node.GetName(), quantity=quantity)]

    def _problems_of_input(self, spec: Any, choices: MapperChoices) -> list[str]:
        """Why a chosen input cannot be used; empty when it can."""
        node = choices.inputs[spec.key]
        try:
            quantity, facts = self.images.describe(node)
        except HypoxiaError as error:
            return [str(error)]
        # The unit of an MR map is a parameter of the method, which checks it.
        if spec.modality == "PT" and spec.quantity and quantity != spec.quantity:
            ratio = ratio_instead(self.method(choices), spec)
            if not ratio or ratio not in quantity.lower() or "predicted" in quantity.lower():
                text = (
                    _("{name!r} is {quantity}; this method needs {wanted} or a measured {ratio}.")
                    if ratio
                    else _("{name!r} is {quantity}; this method needs {wanted}.")
                )
                return [text.format(name=node.GetName(), quantity=quantity, wanted=spec.quantity, ratio=ratio)]
        tracer = self.tracer_of(facts, choices)
        if spec.tracers and tracer not in spec.tracers:
            return [why_no_tracer(node.GetName(), tracer, spec)]
        return self._why_not_in_place(node, choices)

    def _why_not_in_place(self, node: Any, choices: MapperChoices) -> list[str]:
        """Why an image that was moved in the scene cannot be taken as its files say; empty when it can."""
        if choices.alignment == "scene" or self.images.displacement(node) is None:
            return []
        text = _("{name!r} was moved in the scene since it was read: put it back, or choose {alignment!r}.")
        return [text.format(name=node.GetName(), alignment=alignment_texts()["scene"])]

    @staticmethod
    def tracer_of(facts: Mapping[str, Any], choices: MapperChoices) -> str:
        """Tracer of a PET: what the header says, else what the user stated."""
        in_file = str(facts.get("tracer", "unknown"))
        return in_file if in_file != "unknown" else (choices.tracer or "unknown")

    def missing_method(self, choices: MapperChoices) -> list[str]:
        """What step 2 still needs."""
        method = self.method(choices)
        reason = why_method_is_grey(method)
        lines = [f"{method.title}: {reason}."] if reason else []
        try:
            method.make_params(dict(choices.params))
        except RequestError as error:
            lines.append(str(error))
        return lines

    def why_not_run(self, choices: MapperChoices, running: bool = False) -> str:
        """Why Run is off, in words for its tooltip; empty when it may be pressed."""
        if running:
            return _("A computation is running.")
        return "\n".join(self.missing_images(choices) + self.missing_method(choices))

    def make_job(self, choices: MapperChoices, folder: Path | None = None) -> Job:
        """The job of the choices; the voxels of a sequence go to files of ``folder``, where given, not into memory.

        Raises
        ------
        HypoxiaError
            If something is missing or does not fit together.
        """
        reason = self.why_not_run(choices)
        if reason:
            raise RequestError(reason.splitlines()[0], _("Complete the steps above."))
        planning = self.images.volume(choices.planning)
        if not planning.frame_of_reference_uid:  # then everything is brought to where it is shown, or registered
            planning = dataclasses.replace(planning, frame_of_reference_uid=SCENE_FRAME)
        if moved := self._why_not_in_place(choices.planning, choices):
            raise GeometryError(moved[0], _("Complete the steps above."))
        inputs: dict[str, Volume | FrameStack] = {}
        for key, node in choices.inputs.items():
            if node is not None:
                inputs[key] = self._with_tracer(self.images.volume(node), choices)
        specs = {spec.key: spec for spec in self.method(choices).inputs}
        sources = {k: resolve(t, specs[k], self.infos(choices)) for k, t in choices.series.items() if t and k in specs}
        for key, node in choices.sequences.items():
            if node is not None and key in specs:
                found = self.sequences.source(node, specs[key], choices.tracer, _stated(choices), folder)
                sources.pop(key, None)
                if isinstance(found, FrameStack):
                    inputs[key] = found
                else:
                    sources[key] = found
        regions = {"gtv": self._region(choices.gtv, choices, planning, whole=True)}
        regions |= {k: self._region(c, choices, planning) for k, c in choices.regions.items() if c.exists()}
        reference = self.reference_region(choices, planning)
        if reference is not None:
            regions["reference"] = reference
            refuse_tumour_reference(reference, other_tumours(choices.used_regions(), planning.image))
        for region in regions.values():
            if not region.array.any():
                message = _("{name} has no voxel on the planning CT.").format(name=region.name)
                raise GeometryError(message, _("Check the segment."))
        return Job(
            choices.method, dict(choices.params), planning, inputs, regions, choices.alignment, sources,
            choices.timing, choices.tracer, choices.motion_reference,
        )  # fmt: skip

    def _with_tracer(self, volume: Volume, choices: MapperChoices) -> Volume:
        """The PET with the tracer the user stated, where the header does not say one."""
        if volume.facts.get("tracer", "unknown") != "unknown" or not choices.tracer:
            return volume
        facts = {**volume.facts, "tracer": choices.tracer, "tracer_source": "stated by the user"}
        return dataclasses.replace(volume, facts=facts)

    @staticmethod
    def _region(choice: SegmentChoice, choices: MapperChoices, planning: Volume, whole: bool = False) -> Region:
        """Of an aorta the part on the planning CT is blood enough; a volume that is reported must be there whole."""
        as_placed, frame = choices.alignment == "scene", planning.frame_of_reference_uid
        return region_of_segment(choice.node, choice.segment_id, planning.image, frame, as_placed, whole)

    def reference_region(self, choices: MapperChoices, planning: Volume) -> Region | None:
        """The reference segment, else a sphere in the placed ROI; None for neither and where the method has none."""
        if not choices.takes_reference:
            return None
        if choices.reference.exists():
            return self._region(choices.reference, choices, planning)
        if choices.reference_roi is None:
            return None
        centre, radius = sphere_of_roi(choices.reference_roi)
        return sphere_region(planning.image, centre, radius, SPHERE_NAME, planning.frame_of_reference_uid)

    def fingerprint(self, choices: MapperChoices) -> dict[str, str]:
        """Text per input that changes when the input does; a map made with another is stale."""
        prints = self.fingerprints
        found = {f"image {k}": prints.volume(n) for k, n in choices.inputs.items() if n is not None}
        if choices.planning is not None:
            found["planning CT"] = prints.volume(choices.planning)
        found |= {region_words(k): prints.region(*used) for k, used in choices.used_regions().items()}
        found |= {f"series {key}": text for key, text in choices.series.items() if text}
        found |= {f"sequence {key}": prints.sequence(n) for key, n in choices.sequences.items() if n is not None}
        if choices.series or choices.sequences:
            found["timing"] = f"{dataclasses.astuple(choices.timing)}, motion {choices.motion_reference}"
            found["timing"] += f", lengths {choices.frame_lengths}" * bool(choices.frame_lengths)
        found["method"] = choices.method
        found["parameters"] = json.dumps(self._all_params(choices), sort_keys=True)
        found["alignment"], found["tracer"] = choices.alignment, choices.tracer
        return found

    def _all_params(self, choices: MapperChoices) -> dict[str, Any]:
        """Parameters with the defaults of those that were not touched; as they are when one is not valid."""
        try:
            return dataclasses.asdict(self.method(choices).make_params(dict(choices.params)))
        except RequestError:
            return dict(choices.params)


def ratio_instead(method: Method, spec: InputSpec) -> str:
    """The quantity that a learned method takes in place of SUV: the one its network reads; empty for none."""
    channel = next((c for c in CHANNELS if method.learned and c.key == spec.key), None)
    return channel.quantity if channel is not None and channel.quantity != spec.quantity else ""


def _stated(choices: MapperChoices) -> Stated:
    """What the user states about times."""
    return Stated(choices.timing, choices.frame_lengths)


def why_method_is_grey(method: Method) -> str:
    """Why a method cannot be chosen in the panel; empty when it can."""
    return method.unavailable_reason()
