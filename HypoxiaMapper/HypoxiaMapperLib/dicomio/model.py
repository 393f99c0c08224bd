"""What a folder of DICOM holds, as plain data: the types that scan, readers and writers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class OtherPatient:
    """What a file of a series says of its patient, where it is not what the first file says."""

    file: Path
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str


@dataclass(frozen=True)
class SeriesInfo:
    """One series found by a scan, headers only.

    Parameters
    ----------
    role : str
        One of ``planning_ct``, ``pet``, ``mr``, ``rtstruct``, ``rtdose``, ``rtplan``, ``registration``, ``other``.
    kind : str
        Refinement of the role: tracer name for PET (``FMISO``, ``FDG`` ..., ``unknown``), kind of MR (``T1``,
        ``ADC`` ...), empty otherwise.
    files : tuple of Path
        Image files in slice order where the order is known, else in name order.
    roi_names : tuple of str
        ROI names of an RTSTRUCT, in file order.
    referenced_series_uids : tuple of str
        Image series an RTSTRUCT was drawn on.
    geometry : str
        One line: size, spacing, origin; empty for non-images.
    details : dict
        Further facts for display (units, decay correction, minutes after injection ...).
    other_patients : tuple of OtherPatient
        One for each other spelling of patient ID, name, birth date or sex among the files; the fields here are those
        of the first file.
    """

    patient_id: str
    patient_name: str
    study_uid: str
    study_date: str
    series_uid: str
    modality: str
    description: str
    role: str
    kind: str
    frame_of_reference_uid: str
    files: tuple[Path, ...]
    geometry: str = ""
    roi_names: tuple[str, ...] = ()
    referenced_series_uids: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    patient_birth_date: str = ""
    patient_sex: str = ""
    other_patients: tuple[OtherPatient, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A file the scan did not use, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ScanResult:
    """Everything a folder holds."""

    folder: Path
    series: tuple[SeriesInfo, ...]
    left_out: tuple[LeftOut, ...]

    def by_role(self, role: str) -> tuple[SeriesInfo, ...]:
        """Series of one role, in scan order."""
        return tuple(s for s in self.series if s.role == role)


@dataclass(frozen=True)
class ImageSeries:
    """A decoded image series: voxels, and the header of every slice for writers that must refer to it.

    ``headers`` are datasets without pixel data in slice order: ``headers[k]`` belongs to ``volume.array[k]``.
    """

    info: SeriesInfo
    volume: Volume
    headers: tuple[Dataset, ...]
