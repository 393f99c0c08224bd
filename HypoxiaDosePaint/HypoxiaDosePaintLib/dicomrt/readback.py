"""Reading exported objects again, for the proof alone.

Nothing here is shared with the writers or with the DICOM readers of the package: an error in a common helper would hide
itself. Geometry comes from the headers of the planning CT files, masks from an even-odd scan of polygon edges. Only
what a digest is (``plane_digest``) the record of the export takes from here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from HypoxiaMapperLib.errors import InputError

PLANE_TOLERANCE_MM = 0.01
INDEX_TOLERANCE = 0.25  # of a voxel; between planes that drift a little sideways
MAX_DS = 16
Planes = dict[int, np.ndarray]
"""Pixels of some CT planes by slice index: of a large CT most planes of a structure are empty."""
CONTOUR_DATA = 0x30060050
IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
FAULTS = (
    OSError, EOFError, InvalidDicomError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError,
    NotImplementedError, struct.error,
)  # fmt: skip
"""What reading a damaged or foreign object raises; each becomes the reason of a failed row."""


@dataclass(frozen=True)
class Grid:
    """The planning CT as its files tell: planes in the order of the slice normal.

    ``positions``, ``column_steps`` and ``row_steps`` have shape (slices, 3): the first pixel in LPS mm, and the
    millimetres from one column and from one row to the next. ``gap_mm`` is the distance of two planes.
    """

    positions: np.ndarray
    column_steps: np.ndarray
    row_steps: np.ndarray
    gap_mm: float
    rows: int
    columns: int
    uids: tuple[str, ...]
    frame_uid: str
    series_uid: str
    study_uid: str
    patient: dict[str, str]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the slices."""
        n = np.cross(self.column_steps[0], self.row_steps[0])
        return n / np.linalg.norm(n)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.uids), self.rows, self.columns

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(np.linalg.norm(np.cross(self.column_steps[0], self.row_steps[0])) * self.gap_mm / 1000)

    def to_pixels(self, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(column, row) of LPS points (N, 3) on plane k, and their distance from it in mm."""
        delta = points - self.positions[k]
        across = np.cross(self.column_steps[k], self.row_steps[k])
        axes = np.column_stack([self.column_steps[k], self.row_steps[k], across / np.linalg.norm(across)])
        solved = np.linalg.solve(axes, delta.T).T
        return solved[:, :2], np.abs(solved[:, 2])

    def centre_mm(self, planes: Planes, row: int = 0, column: int = 0) -> np.ndarray:
        """Weighted mean position of voxels in LPS mm; ``row`` and ``column`` are those of each plane's first pixel."""
        total, moment = 0.0, np.zeros(3)
        for k, weights in planes.items():
            by_row, by_column = weights.sum(axis=1, dtype=float), weights.sum(axis=0, dtype=float)
            total += by_row.sum()
            moment += by_row.sum() * self.positions[k]
            moment += by_row @ (np.arange(by_row.size) + row) * self.row_steps[k]
            moment += by_column @ (np.arange(by_column.size) + column) * self.column_steps[k]
        return moment / total

    def plane_of(self, position: Sequence[float]) -> tuple[int, int, int]:
        """Slice, row and column of the voxel centred at a position.

        Raises
        ------
        ValueError
            If there is none.
        """
        point = np.asarray(position, dtype=float)
        distance = np.abs((self.positions - point) @ self.normal)
        k = int(distance.argmin())
        (column, row), off = (v[0] for v in self.to_pixels(point[None], k))
        if off > PLANE_TOLERANCE_MM or max(abs(column - round(column)), abs(row - round(row))) > INDEX_TOLERANCE:
            raise ValueError(f"position {point.tolist()} mm is not a voxel of the planning CT")
        return k, round(row), round(column)


@dataclass
class RoiRead:
    """One ROI as read: its mask on the CT planes that it touches, and everything that is wrong with it."""

    number: int
    planes: Planes = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def voxels(planes: Planes) -> int:
    """Number of voxels of a mask."""
    return sum(int(np.count_nonzero(mask)) for mask in planes.values())


def shared_voxels(a: Planes, b: Planes) -> int:
    """Number of voxels that two masks have in common."""
    return sum(int(np.count_nonzero(mask & b[k])) for k, mask in a.items() if k in b)


def read_grid(files: Sequence[Path]) -> Grid:
    """Geometry of the planning CT from its files.

    Raises
    ------
    InputError
        If there is no file, or one is unreadable or of another series.
    """
    by_uid = {}  # a file that lies there twice counts once
    for path in files:
        try:
            header = dcmread(path, stop_before_pixels=True)
            by_uid[str(header.SOPInstanceUID)] = header
        except FAULTS as error:
            raise InputError(
                f"Planning CT file {path} cannot be read: {error}.", "Give the original series."
            ) from error
    headers = list(by_uid.values())
    if not headers:
        raise InputError("There is no planning CT to verify against.", "Give the folder of the original series.")
    first = headers[0]
    if any(h.SeriesInstanceUID != first.SeriesInstanceUID for h in headers):
        raise InputError("The planning CT files are of several series.", "Give the files of one series.")
    orientation = np.array(first.ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    headers.sort(key=lambda h: float(np.dot(np.array(h.ImagePositionPatient, dtype=float), normal)))
    positions = np.array([h.ImagePositionPatient for h in headers], dtype=float)
    cosines = np.array([h.ImageOrientationPatient for h in headers], dtype=float)
    spacings = np.array([h.PixelSpacing for h in headers], dtype=float)  # between rows, between columns
    gaps = np.diff(positions @ normal)
    return Grid(
        positions, cosines[:, :3] * spacings[:, 1:], cosines[:, 3:] * spacings[:, :1],
        float(gaps.mean()) if gaps.size else float(first.SliceThickness), int(first.Rows), int(first.Columns),
        tuple(str(h.SOPInstanceUID) for h in headers), str(first.FrameOfReferenceUID), str(first.SeriesInstanceUID),
        str(first.StudyInstanceUID), {keyword: str(first.get(keyword) or "") for keyword in IDENTITY},
    )  # fmt: skip


def find_planning_files(folder: Path, search: Path) -> list[Path]:
    """Files under ``search`` of the image series that the structure set in ``folder`` was drawn on.

    Raises
    ------
    InputError
        If the structure set is unreadable, or no file of its series is there.
    """
    dicom = folder / "dicom" if (folder / "dicom").is_dir() else folder
    path = dicom / "RTSTRUCT.dcm"
    try:
        ds = dcmread(path, specific_tags=["ReferencedFrameOfReferenceSequence"])
        study = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        wanted = str(study.RTReferencedSeriesSequence[0].SeriesInstanceUID)
    except FAULTS as error:
        raise InputError(f"{path} cannot be read: {error}.", "Give the output folder of a run.") from error
    found = []
    for file in sorted(p for p in search.rglob("*") if p.is_file()):
        try:
            if str(dcmread(file, specific_tags=["SeriesInstanceUID"]).get("SeriesInstanceUID")) == wanted:
                found.append(file)
        except FAULTS:
            continue  # not DICOM: reports, pictures, notes beside the images
    if not found:
        raise InputError(
            f"{search} holds no image of planning series {wanted}.",
            "Name the folder of the planning CT with --ct FOLDER.",
        )
    return found


def fill_polygon(points: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pixels whose centre lies inside a polygon of (column, row) points (N, 2), even-odd rule.

    Every edge that crosses a row of centres toggles all centres to its right; the parity of the toggles is the mask.
    """
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    low = max(0, int(np.floor(y0.min())))
    scan = np.arange(low, min(rows, int(np.ceil(y0.max())) + 1))
    crosses = (y0[:, None] <= scan) != (y1[:, None] <= scan)
    edge, line = np.nonzero(crosses)
    x = x0[edge] + (scan[line] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    toggles = np.zeros((rows, columns + 1), dtype=np.int32)
    np.add.at(toggles, (scan[line], np.clip(np.ceil(x), 0, columns).astype(int)), 1)
    return (np.cumsum(toggles, axis=1)[:, :columns] % 2).astype(bool)


def read_rois(ds: Dataset, grid: Grid) -> dict[str, RoiRead]:
    """Every ROI of a structure set on the CT grid, with its faults."""
    numbers = {int(r.ROINumber): r for r in ds.StructureSetROISequence}
    found = {}
    for item in ds.ROIContourSequence:
        roi = numbers[int(item.ReferencedROINumber)]
        read = RoiRead(int(roi.ROINumber))
        if str(roi.ReferencedFrameOfReferenceUID) != grid.frame_uid:
            read.reasons.append("frame of reference is not that of the planning CT")
        for contour in item.get("ContourSequence", []):
            _add_contour(contour, grid, read)
        found[str(roi.ROIName)] = read
    return found


def _add_contour(contour: Dataset, grid: Grid, read: RoiRead) -> None:
    """Add one contour to a mask, or say why it cannot be."""
    raw = contour.get_item(CONTOUR_DATA).value
    numbers = raw.rstrip(b" \0").split(b"\\") if isinstance(raw, bytes) else [str(v).encode() for v in raw]
    longest = max(map(len, numbers))
    points = np.array([float(v) for v in numbers]).reshape(-1, 3)
    uids = [str(i.ReferencedSOPInstanceUID) for i in contour.get("ContourImageSequence", [])]
    faults = []
    if longest > MAX_DS:
        faults.append(f"a coordinate has {longest} characters")
    if len(points) < 3 or len(points) != int(contour.NumberOfContourPoints):
        faults.append(f"a contour has {len(points)} points, states {contour.NumberOfContourPoints}")
    if np.array_equal(points[0], points[-1]):
        faults.append("a contour repeats its first point")
    if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        faults.append(f"contour type {contour.ContourGeometricType}")
    if len(uids) != 1 or uids[0] not in grid.uids:
        read.reasons.extend([*faults, "a contour refers to an image that is not of the planning CT"])
        return
    k = grid.uids.index(uids[0])
    pixels, off_plane = grid.to_pixels(points, k)
    if off_plane.max() > PLANE_TOLERANCE_MM:
        faults.append(f"a contour lies {off_plane.max():.3f} mm off its CT plane")
    read.reasons.extend(f for f in faults if f not in read.reasons)
    filled = fill_polygon(pixels, grid.rows, grid.columns)
    before = read.planes.get(k, np.zeros_like(filled))
    read.planes[k] = before ^ filled if contour.ContourGeometricType == "CLOSEDPLANAR_XOR" else before | filled


def read_segments(ds: Dataset, grid: Grid) -> dict[str, Planes]:
    """Masks of a binary segmentation on the CT planes, by segment label.

    Raises
    ------
    ValueError
        If a frame is not on its CT plane or refers to an image that is not of the planning CT.
    """
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in ds.SegmentSequence}
    if (int(ds.Rows), int(ds.Columns)) != (grid.rows, grid.columns):
        raise ValueError(f"frames are {ds.Rows} x {ds.Columns}, the CT {grid.rows} x {grid.columns}")
    stored = np.frombuffer(ds.PixelData, np.uint8)
    masks: dict[str, Planes] = {label: {} for label in labels.values()}
    for n, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        k, row, column = grid.plane_of(position)
        if (row, column) != (0, 0) or str(source) != grid.uids[k]:
            raise ValueError(f"the frame at {[float(v) for v in position]} mm is not bound to its CT slice")
        label = labels[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        masks[label][k] = _unpack_frame(stored, n, grid)
    return masks


def _unpack_frame(stored: np.ndarray, n: int, grid: Grid) -> np.ndarray:
    """Frame n of one-bit pixels that are packed without padding between frames, lowest bit first (PS3.5 8.1.1)."""
    size = grid.rows * grid.columns
    first, last = n * size, (n + 1) * size
    bits = np.unpackbits(stored[first // 8 : -(-last // 8)], bitorder="little")
    return bits[first % 8 : first % 8 + size].reshape(grid.rows, grid.columns).astype(bool)


def plane_digest(values: np.ndarray) -> str:
    """SHA-256 of the values of a slice as float32, whatever bits stand for an undefined one or for zero."""
    plain = np.where(np.isfinite(values), values, np.nan).astype("<f4") + np.float32(0.0)
    return hashlib.sha256(plain.astype("<f4").tobytes()).hexdigest()


@dataclass(frozen=True)
class MapRead:
    """A map as read: real-world values (NaN where there is none) by CT plane from a first row and column on."""

    planes: Planes
    row: int
    column: int
    quantity: str
    unit: str


def read_parametric_map(ds: Dataset, grid: Grid) -> MapRead:
    """Real-world values of a Parametric Map on the CT planes.

    Raises
    ------
    ValueError
        If a frame does not lie on the CT voxels.
    """
    shared = ds.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    stored = np.frombuffer(ds.FloatPixelData, "<f4").reshape(-1, int(ds.Rows), int(ds.Columns))
    values = stored * float(mapping.RealWorldValueSlope) + float(mapping.RealWorldValueIntercept)
    _check_axes(shared.PlaneOrientationSequence[0].ImageOrientationPatient, shared.PixelMeasuresSequence[0], grid)
    positions = [g.PlanePositionSequence[0].ImagePositionPatient for g in ds.PerFrameFunctionalGroupsSequence]
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue
    unit = mapping.MeasurementUnitsCodeSequence[0].CodeValue
    return MapRead(*_on_planes(values, positions, grid), str(quantity), str(unit))


def read_dose(ds: Dataset, grid: Grid) -> MapRead:
    """Dose of an RT Dose on the CT planes in gray, NaN where it is 0; its comment stands for the quantity.

    Raises
    ------
    ValueError
        If a frame does not lie on the CT voxels.
    """
    shape = int(ds.NumberOfFrames), int(ds.Rows), int(ds.Columns)
    stored = np.frombuffer(ds.PixelData, "<u2")[: np.prod(shape)].reshape(shape)
    dose = stored * np.float32(ds.DoseGridScaling)
    dose[dose == 0] = np.nan
    _check_axes(ds.ImageOrientationPatient, ds, grid)
    origin = np.array(ds.ImagePositionPatient, dtype=float)
    positions = [(origin + float(v) * grid.normal).tolist() for v in ds.GridFrameOffsetVector]
    unit = {"GY": "Gy"}.get(str(ds.DoseUnits), str(ds.DoseUnits))
    return MapRead(*_on_planes(dose, positions, grid), str(ds.DoseComment), unit)


def _on_planes(frames: np.ndarray, positions: Sequence[Sequence[float]], grid: Grid) -> tuple[Planes, int, int]:
    """Frames by CT plane, and the CT row and column that all of them begin at.

    Raises
    ------
    ValueError
        If two frames begin at different pixels, or share a plane.
    """
    places = [grid.plane_of(p) for p in positions]
    starts = {(row, column) for _, row, column in places}
    planes = {k: frame for (k, *_), frame in zip(places, frames, strict=True)}
    if len(starts) != 1 or len(planes) != len(frames):
        raise ValueError("frames do not lie straight above each other")
    return planes, *starts.pop()


def _check_axes(orientation: Sequence[float], spacing: Dataset, grid: Grid) -> None:
    """Refuse pixels that do not run along those of the CT."""
    cosines = np.array(orientation, dtype=float)
    between_rows, between_columns = (float(v) for v in spacing.PixelSpacing)
    steps = np.concatenate([cosines[:3] * between_columns, cosines[3:] * between_rows])
    if not np.allclose(steps, np.concatenate([grid.column_steps[0], grid.row_steps[0]]), atol=2e-4):
        raise ValueError("orientation or pixel spacing is not that of the planning CT")
