"""From a volume node of the scene to a Volume with a unit: its own attributes, else its DICOM files, else refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..dicomio.model import ImageSeries, SeriesInfo
from ..dicomio.pet import read_pet_series
from ..dicomio.scan import scan_folder
from ..dicomio.series import read_image_series
from ..errors import GeometryError, HypoxiaError, InputError, RequestError
from ..mrml import node_to_volume
from ..mrml.geometry import from_vtk_matrix, index_to_ras, require_no_transform, set_geometry
from ..mrml.volumes import FACTS, FRAME_OF_REFERENCE, PLACE, QUANTITY, UNIT, displacement
from ..volume import Volume
from .i18n import _
from .node_voxels import changed_voxels, file_values

FileLookup = Callable[[Sequence[str]], Sequence[str]]
"""Paths of SOP Instance UIDs, as ``slicer.dicomDatabase`` knows them; empty text for an unknown one."""

INSTANCE_UIDS = "DICOM.instanceUIDs"  # written by Slicer's own DICOM readers, separated by blanks
FOLDER = "Hypoxia.DicomFolder"  # where this extension read the series from
SERIES = "Hypoxia.SeriesInstanceUID"
CT_NUMBER = "CT number"
STATED_UNITS = {
    "suv": ("SUVbw", "g/ml"),
    "hounsfield": (CT_NUMBER, "[hnsf'U]"),
    "ratio": ("tissue-to-blood ratio", "{ratio}"),
    "mr_map": ("MR map", "[arb'U]"),
    "activity": ("Activity concentration", "Bq/ml"),
    "mr_signal": ("MR signal", "[arb'U]"),
}
"""Units a person may state for a node that does not say its own: key of its text in ``words``, quantity, UCUM unit."""


def _way_out() -> str:
    return _(
        "Use it as loaded from DICOM, or load it with 'Load DICOM folder' and do the same to that volume: its voxels "
        "say their unit themselves."
    )


def database_files(uids: Sequence[str]) -> list[str]:
    """Paths of SOP Instance UIDs in Slicer's DICOM database; none while no database is open."""
    import slicer

    database = slicer.dicomDatabase
    return [database.fileForInstance(uid) for uid in uids] if database is not None and database.isOpen else []


def database_stamp() -> Any:
    """Changes when Slicer's DICOM database does: its file is written, or another one is opened."""
    import slicer

    database = slicer.dicomDatabase
    if database is None or not database.isOpen:
        return None
    file = Path(database.databaseFilename)
    return (str(file), file.stat().st_mtime_ns) if file.is_file() else None


def database_images() -> NodeImages:
    """Images of nodes whose files Slicer's DICOM database knows."""
    return NodeImages(database_files, database_stamp)


class NodeImages:
    """Images of nodes; what was read from DICOM is kept, because headers do not change while a scene is open.

    Parameters
    ----------
    files_of : callable
        Paths of SOP Instance UIDs.
    stamp : callable, optional
        Gives something else when ``files_of`` may know more than before; without it, it is asked every time.
    """

    def __init__(self, files_of: FileLookup, stamp: Callable[[], Any] | None = None) -> None:
        self._files_of, self._stamp = files_of, stamp
        self._lost: dict[tuple[str, ...], tuple[Any, Path | None]] = {}
        self._infos: dict[tuple[str, str], SeriesInfo] = {}
        self._series: dict[tuple[str, tuple[Path, ...]], ImageSeries] = {}
        self._scans: dict[Path, tuple[SeriesInfo, ...]] = {}
        self._changed: dict[str, tuple[int, int]] = {}
        self._grids: dict[tuple[str, tuple[Path, ...]], sitk.Image | None] = {}

    def paths_of(self, uids: Sequence[str]) -> list[Path]:
        """Files of instances; none unless each is known and there.

        A look-up that failed is repeated when the database has changed, or the file that was missing is back: a panel
        asks at every click, for every frame of a sequence.
        """
        key, stamp = tuple(uids), self._stamp() if self._stamp else object()
        before, missing = self._lost.get(key, (None, None))
        if not key or (key in self._lost and before == stamp and not (missing and missing.is_file())):
            return []
        paths = [Path(p) for p in self._files_of(uids) if p]
        missing = next((p for p in paths if not p.is_file()), None)
        if len(paths) == len(key) and missing is None:
            self._lost.pop(key, None)
            return paths
        self._lost[key] = (stamp, missing)
        return []

    def clear(self) -> None:
        """Forget everything, when the scene closes."""
        self._lost.clear()
        self._infos.clear()
        self._series.clear()
        self._scans.clear()
        self._changed.clear()
        self._grids.clear()

    def info(self, node: Any) -> SeriesInfo | None:
        """The DICOM series a node was read from, or None when its files cannot be found."""
        key = (node.GetAttribute(SERIES) or "", node.GetAttribute(INSTANCE_UIDS) or "")
        found = self._infos.get(key) or self._find(node)
        if found is not None:  # files that are missing may be imported yet
            self._infos[key] = found
        return found

    def names_its_frame(self, node: Any) -> bool:
        """Whether a node says in which frame of reference it lies."""
        return bool(node.GetAttribute(FRAME_OF_REFERENCE)) or self.info(node) is not None

    def series(self, node: Any) -> ImageSeries:
        """The series of a node as read from its files; a PET comes as SUVbw.

        Raises
        ------
        InputError
            If the files cannot be found or read, or SUV cannot be computed: naming tag and way out.
        """
        info = self.info(node)
        if info is None:
            raise InputError(
                _("The DICOM files of {name!r} were not found.").format(name=node.GetName()),
                _(
                    "Load it from the DICOM module or with 'Load DICOM folder'; "
                    "import its files again if they have moved."
                ),
            )
        key = (info.series_uid, info.files)  # Slicer shows a series of several frames as several nodes
        if key not in self._series:
            read = read_pet_series if info.modality == "PT" else read_image_series
            self._series[key] = read(info)
        return self._series[key]

    def volume(self, node: Any) -> Volume:
        """Volume of a node: voxels with a known unit, at the place the node has in the scene.

        Raises
        ------
        RequestError
            If nothing says what the voxels measure, with the ways to fix it.
        InputError
            If its voxels are not those of its files any more.
        GeometryError
            If the node stands under a transform, or its grid is not the one of its files.
        """
        require_no_transform(node)
        if node.GetAttribute(UNIT) and node.GetAttribute(QUANTITY):
            volume = node_to_volume(node)
            return replace(volume, facts={**volume.facts, "node": node.GetName()})
        if self.info(node) is None:
            try:
                return node_to_volume(node)
            except RequestError as error:
                raise RequestError(
                    _("{name!r}: unit unknown.").format(name=node.GetName()),
                    _("Load it from DICOM, or state its unit below after making sure what its voxels measure."),
                ) from error
        volume = self.series(node).volume
        self._require_as_read(node, volume)
        return replace(volume, image=_at_node(volume.image, node))

    def _require_as_read(self, node: Any, volume: Volume) -> None:
        """Refuse a node whose voxels were changed in Slicer: taking those of the files would undo it without a word."""
        data = node.GetImageData()
        if data is None or tuple(data.GetDimensions()) != volume.image.GetSize():
            raise GeometryError(
                _("{name!r} does not have the grid of its DICOM files (cropped or resampled in Slicer).").format(
                    name=node.GetName()
                ),
                _way_out(),
            )
        stamp = max(node.GetMTime(), data.GetMTime())
        if self._changed.get(node.GetID(), (0, 0))[0] != stamp:
            is_mr = volume.facts.get("modality") == "MR"
            count = changed_voxels(node, _array_at(file_values(volume).image, node), is_mr)
            if count and "suv_factor" in volume.facts:  # Slicer's own SUV
                count = min(count, changed_voxels(node, _array_at(volume.image, node)))
            self._changed[node.GetID()] = (stamp, count)
        count = self._changed[node.GetID()][1]
        if count:
            raise InputError(
                _(
                    "{name!r}: {count} voxels are not those of its DICOM files (changed in Slicer, or deformed by a "
                    "transform that was hardened), so their unit is not known."
                ).format(name=node.GetName(), count=count),
                _way_out(),
            )

    def displacement(self, node: Any) -> np.ndarray | None:
        """Matrix (4, 4) from where a point of a node lies in the scene to where it lies in its files, in LPS mm.

        None when it lies where the files say, or nothing says where that is.
        """
        info = self.info(node)
        if node.GetAttribute(PLACE) or info is None:
            return displacement(node)
        image = self._grid(info)
        if image is None or node.GetImageData() is None:
            return None
        if tuple(node.GetImageData().GetDimensions()) != image.GetSize():
            return None
        made = index_to_ras(image)
        for axis, turned in enumerate(_turned_axes(image, node)):
            if turned:
                made[:3, 3] += made[:3, axis] * (image.GetSize()[axis] - 1)
                made[:3, axis] *= -1
        return displacement(node, made)

    def _grid(self, info: SeriesInfo) -> sitk.Image | None:
        """An image where the files of a series lie; None for files that cannot be read.

        SUV is not needed for it: a person may have stated the unit because the header lacks what SUV needs.
        """
        key = (info.series_uid, info.files)
        if key in self._series:
            return self._series[key].volume.image
        if key not in self._grids:
            try:
                self._grids[key] = read_image_series(info).volume.image
            except HypoxiaError:
                self._grids[key] = None
        return self._grids[key]

    def describe(self, node: Any) -> tuple[str, Mapping[str, Any]]:
        """Quantity and facts of a node's voxels without touching them, cheap enough for every change of the panel.

        Raises
        ------
        HypoxiaError
            As ``volume``.
        """
        if node.GetAttribute(UNIT) and node.GetAttribute(QUANTITY):
            return node.GetAttribute(QUANTITY), json.loads(node.GetAttribute(FACTS) or "{}")
        if self.info(node) is not None:
            volume = self.series(node).volume
            self._require_as_read(node, volume)
        else:
            volume = self.volume(node)
        return volume.quantity, volume.facts

    def scan(self, folder: Path) -> tuple[SeriesInfo, ...]:
        """DICOM series of a folder, looked at once while the scene is open."""
        if folder not in self._scans:
            self._scans[folder] = scan_folder(folder).series if folder.is_dir() else ()
        return self._scans[folder]

    def _find(self, node: Any) -> SeriesInfo | None:
        """The series by the database, else by the folder it was read from."""
        uids = (node.GetAttribute(INSTANCE_UIDS) or "").split()
        paths = self.paths_of(uids)
        folder, wanted = node.GetAttribute(FOLDER) or "", node.GetAttribute(SERIES) or ""
        if paths:
            parent = Path(os.path.commonpath([p.parent for p in paths]))
            for info in self.scan(parent):
                if set(paths) <= set(info.files):
                    return replace(info, files=tuple(f for f in info.files if f in set(paths)))
        if folder and Path(folder).is_dir():
            return next((s for s in self.scan(Path(folder)) if s.series_uid == wanted), None)
        return None


def _at_node(image: sitk.Image, node: Any) -> sitk.Image:
    """The same voxels with the geometry of the node.

    Slicer may show slices in the opposite order; then the voxels are turned to the node's own order first.
    """
    target, axes = _grid_of(node, image.GetSize()), _turned_axes(image, node)
    turned = sitk.Flip(image, axes) if any(axes) else sitk.Image(image)
    turned.CopyInformation(target)
    return turned


def _turned_axes(image: sitk.Image, node: Any) -> list[bool]:
    """For each voxel axis, True if the node counts along it in the opposite direction."""
    target = _grid_of(node, (1, 1, 1))
    return [sum(a * b for a, b in zip(_axis(image, n), _axis(target, n), strict=True)) < 0 for n in range(3)]


def _grid_of(node: Any, size: tuple[int, ...]) -> sitk.Image:
    """An image of zeros with the geometry of a node."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    target = sitk.Image(size, sitk.sitkUInt8)
    set_geometry(target, from_vtk_matrix(matrix))
    return target


def _array_at(image: sitk.Image, node: Any) -> np.ndarray:
    """Voxels of an image in the order of the node's slices, shape (z, y, x)."""
    return sitk.GetArrayFromImage(_at_node(image, node))


def _axis(image: sitk.Image, number: int) -> tuple[float, float, float]:
    """Direction of one voxel axis in LPS."""
    direction = image.GetDirection()
    return direction[number], direction[3 + number], direction[6 + number]


def state_unit(node: Any, key: str) -> None:
    """Take a person's word for what the voxels of a node measure, and say so in its history.

    Raises
    ------
    RequestError
        Unknown key.
    """
    if key not in STATED_UNITS:
        valid = ", ".join(STATED_UNITS)
        raise RequestError(_("Unit {key!r} is unknown.").format(key=key), _("Valid: {names}.").format(names=valid))
    quantity, unit = STATED_UNITS[key]
    node.SetAttribute(QUANTITY, quantity)
    node.SetAttribute(UNIT, unit)
    node.SetAttribute("Hypoxia.Operations", '["unit stated by the user"]')


def role_of(node: Any, images: NodeImages) -> tuple[str, str]:
    """Role and kind of a volume node (``("pet", "FMISO")``), from DICOM; two empty texts when unknown."""
    info = images.info(node)
    return (info.role, info.kind) if info else ("", "")


def suv_line(quantity: str, facts: Mapping[str, Any]) -> str:
    """How the PET became SUV, in one line for a physicist: tracer, time, factor, decay reference, weight, activity."""
    if quantity != "SUVbw":
        return _("{quantity}: not SUV").format(quantity=quantity)
    if "suv_factor" not in facts:
        return _("SUVbw as stated; no DICOM header to check it against")
    factor, tracer = facts["suv_factor"], facts.get("tracer", "unknown")
    minutes, weight, dose = (facts.get(k) for k in ("minutes_after_injection", "weight_kg", "injected_activity_mbq"))
    by_slice, decay = not isinstance(factor, int | float), facts.get("decay_correction")
    parts = [
        _("tracer unknown") if tracer == "unknown" else str(tracer),
        _("scan start unknown") if minutes is None else _("{minutes:.0f} min p.i.").format(minutes=minutes),
        _("factor by slice") if by_slice else _("factor {factor:.4g}").format(factor=factor),
        _("decay {reference}").format(reference=decay) if decay else _("decay unknown"),
        _("weight unknown") if weight is None else f"{weight:g} kg",
        _("activity unknown") if dose is None else f"{dose:.0f} MBq",
    ]
    return " · ".join(parts)
