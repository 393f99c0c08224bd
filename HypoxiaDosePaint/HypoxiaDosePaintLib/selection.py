"""From a scanned folder to the images and regions of one run: the only candidate, or the one the user named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.dicomio.model import ImageSeries, ScanResult, SeriesInfo
from HypoxiaMapperLib.dicomio.patient import patient_warnings, require_one_patient
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set, region_warnings
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import InputError, LimitError, RequestError
from HypoxiaMapperLib.method_images import is_series
from HypoxiaMapperLib.methods import Method, Progress
from HypoxiaMapperLib.resample import resample_region, sphere_region
from HypoxiaMapperLib.volume import Region, Volume

from .method_inputs import MethodInput, read_inputs
from .request import Request


@dataclass(frozen=True)
class Inputs:
    """Everything a run reads: images on their own grids, regions on the planning grid.

    ``pet`` is the image that is shown and registered: the first PET of the method, else its first other image (of a
    series, one frame). ``others`` are segments of a scene that have no role: name, and what reads it on a part of the
    planning grid.
    """

    scan: ScanResult
    planning: ImageSeries
    pet: ImageSeries
    gtvs: tuple[Region, ...]
    reference: Region | None
    organs: tuple[Region, ...]
    structure_sets: tuple[SeriesInfo, ...]
    warnings: tuple[str, ...]
    images: Mapping[str, MethodInput] = field(default_factory=dict)
    regions: Mapping[str, Region] = field(default_factory=dict)
    others: tuple[tuple[str, Callable[[sitk.Image], Region]], ...] = ()


def gather(request: Request, method: Method, progress: Progress) -> Inputs:
    """Scan the folder, choose the series, read images and regions.

    Raises
    ------
    HypoxiaError
        Naming the series, ROI or file that is missing, ambiguous or unusable.
    """
    scan = scan_folder(Path(request.folder), lambda f, t: progress(0.3 * f, t))
    require_one_patient(scan)
    cts = scan.by_role("planning_ct")
    planning_info = choose_series(cts, request.planning_series, "planning CT", "--planning-series", request.folder)
    first = method.inputs[0]
    if first.required and first.modality == "PT" and first.kind == "volume" and not request.inputs:
        request = replace(request, pet_series=choose_pet(scan, method, request).series_uid)
    names = requested_rois(request, scan, method)
    homes = {name: find_roi(name, scan, request.structure_set) for name in names}
    progress(0.35, f"reading planning CT ({len(planning_info.files)} files)")
    planning = read_image_series(planning_info)
    images = read_inputs(request, method, scan, lambda f, t: progress(0.5 + 0.35 * f, t), planning)
    pet = _shown(images, planning, request)
    progress(0.85, "reading structures")
    regions = {name: read_roi(name, home, planning, scan) for name, home in homes.items()}
    for region in regions.values():
        if not region.array.any():
            raise LimitError(f"ROI {region.name!r} is empty on the planning CT.", "Check the structure set.")
    gtvs = tuple(regions[n] for n in names if n in gtv_names(request, scan))
    return Inputs(
        scan, planning, pet, gtvs,
        reference_region(request, regions, planning.volume),
        tuple(regions[n] for n in request.organ_rois),
        tuple({s.series_uid: s for s in homes.values()}.values()),
        (*patient_warnings(scan), *unused_reference(request, method), *(w for i in images.values() for w in i.warnings),
         *(w for i in images.values() for info in i.infos if info is not planning_info
           for w in day_warnings(planning_info, info)),
         *(w for r in regions.values() for w in _roi_notes(r))),
        images, {key: regions[name] for key, name in request.region_rois.items()},
    )  # fmt: skip


def _shown(images: Mapping[str, MethodInput], planning: ImageSeries, request: Request) -> ImageSeries:
    """The image that is shown and registered: the first PET, else another image, else the planning CT itself.

    Without a registration one in the planning frame goes before one that is not: the latter cannot be used.
    """
    if not images:
        raise InputError("The folder holds no image that the method takes.", "Name one with --input KEY=SERIES.")

    def rank(found: MethodInput) -> tuple[int, bool]:
        elsewhere = found.image.frame_of_reference_uid != planning.volume.frame_of_reference_uid
        kind = ("PT", "MR", "CT").index(found.spec.modality)
        return kind, elsewhere and not found.spec.required and request.registration.mode == "none"

    first = min(images.values(), key=rank)
    return ImageSeries(first.infos[0], first.shown, ())


def choose_series(
    candidates: Sequence[SeriesInfo], wanted: str, what: str, option: str, folder: str = "The folder"
) -> SeriesInfo:
    """The series named by UID or description, or the only one there is.

    Raises
    ------
    RequestError
        None, or several: all are listed.
    """
    listing = "; ".join(f"{s.description or 'no description'} ({s.series_uid})" for s in candidates) or "none"
    if wanted:
        hits = [s for s in candidates if wanted in (s.series_uid, s.description)]
        if len(hits) != 1:
            raise RequestError(f"{len(hits)} {what} series match {wanted!r}.", f"Found: {listing}.")
        return hits[0]
    if not candidates:
        raise InputError(f"{folder} holds no {what} series.", "Run `hypoxia scan` to see what it holds and why.")
    if len(candidates) > 1:
        raise RequestError(f"The folder holds {len(candidates)} {what} series.", f"Choose with {option}: {listing}.")
    return candidates[0]


def choose_pet(scan: ScanResult, method: Method, request: Request) -> SeriesInfo:
    """The PET whose tracer the method takes; several or none are refused with the list."""
    tracers = method.inputs[0].tracers
    found = scan.by_role("pet")
    if request.pet_series:
        info = choose_series(found, request.pet_series, "PET", "--pet-series")
    else:
        fitting = [s for s in found if s.kind in tracers or (s.kind == "unknown" and request.tracer in tracers)]
        if found and not fitting:
            kinds = ", ".join(f"{s.description or s.series_uid}: {s.kind}" for s in found)
            raise RequestError(
                f"Method {method.name} needs a PET of {' or '.join(tracers)}; found {kinds}.",
                "If a tag is missing, state the tracer with --tracer.",
            )
        fitting = [s for s in fitting if not is_series(s)] or fitting  # beside a static PET a dynamic one is no rival
        info = choose_series(fitting, "", f"{' or '.join(tracers)} PET", "--pet-series", request.folder)
    kind = request.tracer if info.kind == "unknown" else info.kind
    if kind not in tracers:
        raise RequestError(
            f"Method {method.name} needs {' or '.join(tracers)}; {info.description!r} is {info.kind}.",
            "Choose another PET or method, or state a missing tracer with --tracer.",
        )
    return info


def gtv_names(request: Request, scan: ScanResult) -> tuple[str, ...]:
    """GTVs of the request, or the only ROI whose name begins with GTV."""
    if request.gtv_rois:
        return request.gtv_rois
    names = [n for s in scan.by_role("rtstruct") for n in s.roi_names if n.upper().startswith("GTV")]
    if len(names) == 1:
        return (names[0],)
    listing = ", ".join(sorted({n for s in scan.by_role("rtstruct") for n in s.roi_names})) or "none"
    if not names:
        raise RequestError("No ROI has a name that begins with GTV.", f"Choose with --gtv. ROIs found: {listing}.")
    raise RequestError(
        f"{len(names)} ROIs have names that begin with GTV: {', '.join(names)}.",
        f"Choose with --gtv, repeated for several. ROIs found: {listing}.",
    )


def requested_rois(request: Request, scan: ScanResult, method: Method) -> tuple[str, ...]:
    """Every ROI name the run needs, each once; a method's missing reference is refused here."""
    if request.reference_roi and request.reference_sphere:
        raise RequestError("Both a reference ROI and a reference sphere are given.", "Give one of them.")
    needs_reference = any(r.key == "reference" and r.required for r in method.regions)
    if needs_reference and not request.reference_roi and request.reference_sphere is None:
        raise RequestError(
            f"Method {method.name} needs a reference region.",
            "Give --reference-roi NAME or --reference-sphere X,Y,Z,RADIUS (LPS mm).",
        )
    further = {r.key: r for r in method.regions if r.key not in ("gtv", "reference")}
    unknown = sorted(set(request.region_rois) - set(further))
    if unknown:
        raise RequestError(
            f"Method {method.name} has no region {', '.join(unknown)}.", f"Valid: {', '.join(further) or 'none'}."
        )
    missing = [r for key, r in further.items() if r.required and key not in request.region_rois]
    if missing:
        raise RequestError(
            f"Method {method.name} needs the region {missing[0].key}: {missing[0].description}.",
            f"Give --region {missing[0].key}=ROI.",
        )
    reference = (request.reference_roi,) if request.reference_roi else ()
    extra = request.region_rois.values()
    return tuple(dict.fromkeys((*gtv_names(request, scan), *reference, *extra, *request.organ_rois)))


def unused_reference(request: Request, method: Method) -> tuple[str, ...]:
    """A warning where a reference region is given to a method that has none: nothing is divided by it."""
    given = request.reference_roi or ("the reference sphere" if request.reference_sphere else "")
    if not given or any(r.key == "reference" for r in method.regions):
        return ()
    return (
        f"Method {method.name} uses no reference region: {given} was given for one and changes nothing in the map.",
    )


def find_roi(name: str, scan: ScanResult, structure_set: str) -> SeriesInfo:
    """The structure set that holds an ROI of that name.

    Raises
    ------
    RequestError
        If none or several do; the names found are listed.
    """
    sets = scan.by_role("rtstruct")
    if structure_set:
        sets = (choose_series(sets, structure_set, "structure set", "--structure-set"),)
    homes = [s for s in sets if name in s.roi_names or _numbered(name, s)]
    if len(homes) == 1 and name not in homes[0].roi_names:
        found = _numbered(name, homes[0])
        raise RequestError(
            f"{len(found)} ROIs of {homes[0].description or homes[0].files[0].name} are called {name!r}.",
            f"Name one by its number: {', '.join(repr(n) for n in found)}.",
        )
    if not homes:
        listing = ", ".join(dict.fromkeys(n for s in sets for n in s.roi_names)) or "none"
        raise RequestError(f"ROI {name!r} is in no structure set.", f"ROIs found: {listing}.")
    if len(homes) > 1:
        listing = ", ".join(f"{s.description} ({s.series_uid})" for s in homes)
        raise RequestError(f"ROI {name!r} is in {len(homes)} structure sets.", f"Choose --structure-set: {listing}.")
    return homes[0]


def _numbered(name: str, structure_set: SeriesInfo) -> tuple[str, ...]:
    """ROIs that share the name and are therefore listed with their number (``roi_names`` of the reader)."""
    found = tuple(n for n in structure_set.roi_names if re.fullmatch(re.escape(name) + r" #\d+", n))
    return found if len(found) > 1 else ()


def read_roi(name: str, home: SeriesInfo, planning: ImageSeries, scan: ScanResult) -> Region:
    """An ROI on the planning grid; one drawn on another series of the frame is resampled and says so."""
    grid, frame = planning.volume.image, planning.volume.frame_of_reference_uid
    drawn_on = home.referenced_series_uids
    if not drawn_on or planning.info.series_uid in drawn_on:
        return read_structure_set(home.files[0], grid, frame, [name])[name]
    own = next((s for s in scan.series if s.series_uid in drawn_on), None)
    if own is None:
        raise InputError(
            f"ROI {name!r} was drawn on series {drawn_on[0]}, which is not in the folder.",
            "Add that series, or use a structure set drawn on the planning CT.",
        )
    own_grid = read_image_series(own).volume.image
    return resample_region(read_structure_set(home.files[0], own_grid, frame, [name])[name], grid)


def reference_region(request: Request, regions: dict[str, Region], planning: Volume) -> Region | None:
    """The reference region by name or as a sphere; None when the request has neither."""
    if request.reference_roi:
        return regions[request.reference_roi]
    if request.reference_sphere is None:
        return None
    sphere = request.reference_sphere
    return sphere_region(
        planning.image, sphere.centre_mm, sphere.radius_mm, "Ref_Sphere", planning.frame_of_reference_uid
    )


def union(regions: Sequence[Region], name: str) -> Region:
    """Union of regions on one grid."""
    array = np.zeros(tuple(reversed(regions[0].mask.GetSize())), dtype=bool)
    for region in regions:
        array |= region.array
    return regions[0].with_array(array, "union of " + ", ".join(r.name for r in regions), name)


def day_warnings(planning: SeriesInfo, pet: SeriesInfo) -> tuple[str, ...]:
    """A warning when planning CT and PET (or MR) were not made on the same day."""
    what = "PET" if pet.modality in ("PT", "") else pet.modality
    what += f" {pet.description!r}" if pet.description else ""
    dates = (_day(planning.study_date), _day(pet.study_date))
    if dates[0] is None or dates[1] is None:
        found = f"{planning.study_date or 'none'} and {pet.study_date or 'none'}"
        return (
            f"The study date of the planning CT or the {what} is missing or no date ({found}): their distance in time "
            "is unknown.",
        )
    days = (dates[1] - dates[0]).days
    if days == 0:
        return ()
    count = "1 day" if abs(days) == 1 else f"{abs(days)} days"
    return (f"The {what} was acquired {count} {'after' if days > 0 else 'before'} the planning CT.",)


def _day(dicom_date: str) -> datetime | None:
    """20260102, or 2026.01.02 as before DICOM 3.0 (PS3.5, table 6.2-1, DA); None for what is no date."""
    if not re.fullmatch(r"\d{8}|\d{4}\.\d{2}\.\d{2}", dicom_date):
        return None
    try:
        return datetime.strptime(dicom_date.replace(".", ""), "%Y%m%d")
    except ValueError:
        return None


def _roi_notes(region: Region) -> tuple[str, ...]:
    """What was not exact in reading an ROI, and that it is not on the grid it was drawn on."""
    notes = [f"{region.name}: {note}." for note in region_warnings(region)]
    if "nearest neighbour" in region.source:
        notes.append(f"{region.name} was drawn on another series and resampled to the planning CT; check its outline.")
    return tuple(notes)
