"""From the nodes of the scene to the result of the pipeline: the same street, entered where the map is ready."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.dicomio.model import ImageSeries, ScanResult, SeriesInfo
from HypoxiaMapperLib.errors import GeometryError, RequestError
from HypoxiaMapperLib.methods import HypoxiaMap, Progress, all_methods, no_progress
from HypoxiaMapperLib.mrml.segments import segment_part
from HypoxiaMapperLib.panel.hypoxic_segment import region_with_history, threshold_of_segment
from HypoxiaMapperLib.panel.i18n import _
from HypoxiaMapperLib.panel.map_nodes import INPUTS, MADE_OF, map_facts, node_to_map
from HypoxiaMapperLib.panel.node_images import FOLDER, NodeImages
from HypoxiaMapperLib.panel.segment_regions import outside_note, region_of_segment, segment_ids
from HypoxiaMapperLib.panel.sphere import SPHERE_NAME, sphere_of_roi
from HypoxiaMapperLib.resample import resample_to, sphere_region
from HypoxiaMapperLib.volume import Region, Volume, same_grid

from ..bystanders import cut, refuse_tumour_reference
from ..dicomrt.export import Exported, export_set
from ..pipeline import Computed, deliver, paint
from ..prescription import get_protocol
from ..request import Margins, Registration, Request, Sphere, SubvolumeOptions
from ..result import RegistrationUse, Result
from ..selection import Inputs, day_warnings, union
from .choices import PaintChoices, Role, sides_of
from .map_used import reference_of_map, why_not_hypoxic, why_not_reference
from .repeatable import complete

_REGISTRATION_WORDS = {
    "same_frame": "same frame of reference",
    "scene": "as placed in the scene by the user",
    "rigid": "rigid, computed here",
}


def compute_targets(choices: PaintChoices, images: NodeImages, progress: Progress = no_progress) -> Computed:
    """Targets and everything that is said of them, nothing written.

    Raises
    ------
    HypoxiaError
        If something is missing, does not fit together or exceeds a limit.
    """
    planning = images.series(choices.planning)
    _require_in_place(choices.planning, planning, images)
    grid, frame = planning.volume.image, planning.volume.frame_of_reference_uid
    facts = map_facts(choices.map_node)
    hypoxia_map = _map_on(choices.map_node, planning.volume)
    progress(0.2, _("reading segments"))
    on = Planning(grid, frame, _alignment(choices.map_node) == "scene")
    if reason := why_not_hypoxic(choices):
        raise RequestError(reason, _("Change its role in step 1."))
    gtvs = tuple(_region(r, on) for r in choices.of_role("gtv"))
    organs = tuple(_region(r, on) for r in choices.of_role("organ"))
    reference, sphere = _reference(choices, on)
    cut_off = organs if reference is None else (*organs, reference)  # of others nothing may lie outside the CT
    hypoxic = tuple(_hypoxic_region(r, on) for r in choices.of_role("hypoxic"))
    drawn = replace(union(hypoxic, hypoxic[0].name), source="; ".join(region.source for region in hypoxic))
    pet, aligned, registration = _pet(choices.map_node, facts, planning.volume, images)
    scan = ScanResult(Path(choices.planning.GetAttribute(FOLDER) or "."), (planning.info, pet.info), ())
    inputs = Inputs(
        scan, planning, pet, gtvs, reference, organs, (),
        (*day_warnings(planning.info, pet.info), *filter(None, map(outside_note, cut_off))),
        others=_others(choices, on),
    )  # fmt: skip
    tumours = tuple((g.name, partial(cut, g)) for g in gtvs)
    if any(spec.key == "reference" for spec in all_methods()[facts["method"]].regions):
        refuse_tumour_reference(replace(inputs, gtvs=(), others=inputs.others + tumours))
    request = make_request(choices, facts, inputs, registration)
    if sphere is not None:
        request = replace(request, reference_roi="", reference_sphere=sphere)
    request = complete(request, choices, images, inputs, drawn, hypoxia_map)
    progress(0.4, _("building targets"))
    return paint(request, inputs, aligned, registration, hypoxia_map, drawn, lambda f, t: progress(0.4 + 0.6 * f, t))


def make_request(
    choices: PaintChoices, facts: dict[str, Any], inputs: Inputs, registration: RegistrationUse
) -> Request:
    """The request that a result of the panel stores: what the command line would be asked."""
    first, protocol = choices.of_role("hypoxic")[0], get_protocol(choices.protocol)
    return Request(
        folder=str(inputs.scan.folder),
        output="",
        method=facts["method"],
        protocol=choices.protocol,
        method_params=facts.get("params", {}),
        planning_series=inputs.planning.info.series_uid,
        pet_series=inputs.pet.info.series_uid,
        gtv_rois=tuple(g.name for g in inputs.gtvs),
        reference_roi=inputs.reference.name if inputs.reference else "",
        organ_rois=tuple(o.name for o in inputs.organs),
        organ_gap_mm=choices.organ_gap_mm,
        subvolume=SubvolumeOptions(
            threshold=threshold_of_segment(first.node, first.segment_id),
            minimum_component_ml=choices.minimum_island_ml,
            maximum_fraction_of_gtv=choices.maximum_fraction,
        ),
        boost_margins=_own(sides_of(choices.boost_sides, choices.boost_margin_mm), protocol.boost_margin_mm),
        base_margins=_own(sides_of(choices.base_sides, choices.base_margin_mm), protocol.base_margin_mm),
        base_dose_gy=choices.base_dose_gy,
        boost_dose_gy=choices.boost_dose_gy,
        fractions=choices.fractions,
        registration=Registration("rigid" if registration.mode.startswith("rigid") else "none"),
        override=choices.override,
        write_rtdose=choices.write_rtdose,
    )


def _own(sides_mm: tuple[float, ...], of_protocol_mm: float) -> Margins | None:
    """The margins that a person set; None for those of the protocol file, of which the report says so."""
    margins = Margins(*sides_mm)
    return None if margins == Margins.uniform(of_protocol_mm) else margins


def export_result(computed: Computed, reviewer: str, out: Path, progress: Progress = no_progress) -> Result:
    """Write the accepted result into a new folder, proven by read-back.

    Raises
    ------
    RequestError
        If no reviewer is named.
    HypoxiaError
        As the writers and the proof say; the folder is then not there.
    """
    return deliver(_accepted(computed, reviewer, out), computed.planning, out, progress)


def export_dicom(computed: Computed, reviewer: str, out: Path, progress: Progress = no_progress) -> Exported:
    """Write the DICOM files alone, proven by read-back, to ``out/dicom``; raises as ``export_result``."""
    return export_set(_accepted(computed, reviewer, out), computed.planning, out, progress)


def _accepted(computed: Computed, reviewer: str, out: Path) -> Result:
    """The result with the name of the person who accepted it."""
    if not reviewer.strip():
        raise RequestError(_("Nobody accepted the result."), _("Enter the reviewer's name."))
    request = replace(computed.result.request, output=str(out), accepted_by=reviewer.strip())
    return replace(computed.result, request=request, accepted_by=reviewer.strip())


def _require_in_place(node: Any, planning: ImageSeries, images: NodeImages) -> None:
    """Refuse a planning CT that was moved or changed in the scene: contours are written onto its original slices."""
    shown = images.volume(node)
    if images.displacement(node) is not None:
        raise GeometryError(
            _("Planning CT {name!r} was moved in the scene.").format(name=node.GetName()),
            _("Take its transform off, or load it again: contours must lie where the original slices are."),
        )
    if sorted(shown.image.GetSize()) != sorted(planning.volume.image.GetSize()):
        raise GeometryError(
            _("Planning CT {name!r} was cropped or resampled in Slicer.").format(name=node.GetName()),
            _("Use it as loaded from DICOM."),
        )


def _map_on(node: Any, planning: Volume) -> HypoxiaMap:
    """The map on the grid of the planning series; Slicer may keep its slices in the opposite order."""
    found = node_to_map(node)
    if same_grid(found.volume.image, planning.image):
        return found
    identity = sitk.Transform(3, sitk.sitkIdentity)
    nearest, undefined = sitk.sitkNearestNeighbor, float("nan")
    image = sitk.Resample(found.volume.image, planning.image, identity, nearest, undefined, sitk.sitkFloat32)
    if np.isfinite(sitk.GetArrayViewFromImage(image)).sum() != np.isfinite(found.volume.array).sum():
        raise GeometryError(
            _("Map {name!r} does not lie on the planning CT's grid.").format(name=node.GetName()),
            _("Compute it on this planning CT."),
        )
    return replace(found, volume=replace(found.volume, image=image), uncertainty=None, quality=None)


@dataclass(frozen=True)
class Planning:
    """Grid and frame of reference of the planning CT, and whether a person stated that all lies as placed."""

    grid: sitk.Image
    frame: str
    as_placed: bool


def _region(role: Role, on: Planning) -> Region:
    """A segment on the planning grid; an organ or a reference may reach beyond the CT, as most do."""
    whole = role.role in ("gtv", "hypoxic")
    return region_of_segment(role.node, role.segment_id, on.grid, on.frame, on.as_placed, whole)


def _hypoxic_region(role: Role, on: Planning) -> Region:
    """A hypoxic segment whose source tells what was edited."""
    return replace(_region(role, on), source=region_with_history(role.node, role.segment_id, on.grid).source)


def _others(choices: PaintChoices, on: Planning) -> tuple[tuple[str, Callable[[sitk.Image], Region]], ...]:
    """Segments beside those with a role, which targets or reference region may reach into, to be read one at a time."""
    roles = {(r.node, r.segment_id): r for r in choices.roles}
    reference = reference_of_map(choices.map_node)
    for node in {r.node.GetID(): r.node for r in choices.roles}.values():
        for segment_id in segment_ids(node):
            roles.setdefault((node, segment_id), Role(node, segment_id, ""))
    return tuple(
        (role.name, partial(_unnamed, role, on)) for key, role in roles.items() if not role.role and key != reference
    )


def _unnamed(role: Role, on: Planning, box: sitk.Image) -> Region:
    """A segment without a role in a box of the planning grid; why not goes into the record, which is in English."""
    region = segment_part(role.node, role.segment_id, box)
    drawn_in = region.frame_of_reference_uid
    if drawn_in and on.frame and drawn_in != on.frame and not on.as_placed:
        raise GeometryError(
            f"{region.name} was drawn in the frame of reference {drawn_in}; the planning image is in {on.frame}.",
            "Use a contour drawn on the planning CT.",
        )
    return region


def _reference(choices: PaintChoices, on: Planning) -> tuple[Region | None, Sphere | None]:
    """The reference region that the map was made with, and the sphere if it was one.

    Raises
    ------
    RequestError
        If a segment has this role that the map was not made with, or the map's own is no longer in the scene.
    """
    reason = why_not_reference(choices)
    if reason:
        raise RequestError(reason, _("Change its role in step 1."))
    found = reference_of_map(choices.map_node)
    if found is None:
        return None, None
    node, segment_id = found
    if node is None:
        raise RequestError(_("The reference region of the map is no longer in the scene."), _("Compute the map again."))
    if segment_id:
        return _region(Role(node, segment_id, "reference"), on), None
    centre, radius = sphere_of_roi(node)
    return sphere_region(on.grid, centre, radius, SPHERE_NAME, on.frame), Sphere(centre, radius)


def _alignment(map_node: Any) -> str:
    """How the images were brought together for a map."""
    return str(json.loads(map_node.GetAttribute(INPUTS) or "{}").get("alignment", "same_frame"))


def _pet(
    map_node: Any, facts: dict[str, Any], planning: Volume, images: NodeImages
) -> tuple[ImageSeries, Volume, RegistrationUse]:
    """The first image the map was made of, as read and on the planning grid, and how it came there.

    Of a series it is the frame that the worker handed out to be looked at.

    Raises
    ------
    RequestError
        If its node is no longer in the scene.
    """
    specs = all_methods()[facts["method"]].inputs
    nodes = {spec.key: map_node.GetNodeReference(MADE_OF + spec.key) for spec in specs}
    key, node = next(((k, n) for k, n in nodes.items() if n is not None), ("", None))
    if node is None:
        raise RequestError(
            _("The images of map {name!r} are no longer in the scene.").format(name=map_node.GetName()),
            _("Compute the map again."),
        )
    volume = images.volume(node)
    info = images.info(node)
    if info is None:
        modality = next(spec.modality for spec in specs if spec.key == key)
        role = "pet" if modality == "PT" else "mr"
        info = SeriesInfo("", "", "", "", "", modality, node.GetName(), role, "", volume.frame_of_reference_uid, ())
    alignment = _alignment(map_node)
    matrix = tuple(facts["matrices"].get(key, ()))
    use = RegistrationUse(_REGISTRATION_WORDS[alignment], matrix, dict(facts["residuals"].get(key, {})))
    transform = None if alignment == "same_frame" else _transform(matrix)
    moved = images.displacement(node)
    if alignment == "scene" and moved is not None:  # the node's own place shows it; the report says how it came there
        use = replace(use, matrix=tuple(float(v) for v in moved.ravel()))
    aligned = resample_to(
        volume, planning.image, planning.frame_of_reference_uid, transform, "linear", use.mode
    )  # fmt: skip
    return ImageSeries(info, volume, ()), aligned, use


def _transform(matrix: tuple[float, ...]) -> sitk.Transform:
    """Affine transform of a 4x4 row-major matrix; identity when it is empty."""
    transform = sitk.AffineTransform(3)
    if matrix:
        rows = np.array(matrix).reshape(4, 4)
        transform.SetMatrix(rows[:3, :3].ravel().tolist())
        transform.SetTranslation(rows[:3, 3].tolist())
    return transform
