"""What a run found, as plain data: the report, the JSON, the CSV and every panel are rendered from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from HypoxiaMapperLib.methods import HypoxiaMap
from HypoxiaMapperLib.volume import Region, Volume

from .prescription import Prescription
from .request import Request
from .structures import Structure


@dataclass(frozen=True)
class SeriesUse:
    """A series and what it was used for."""

    role: str  # "planning CT", "hypoxia PET (FMISO)", "structure set" ...
    description: str
    modality: str
    series_uid: str
    date: str
    geometry: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """A piece of volume that was left out of the hypoxic subvolume or a target, and why."""

    structure: str
    reason: str
    volume_ml: float
    centre_mm: tuple[float, float, float]


@dataclass(frozen=True)
class GtvFinding:
    """Hypoxia in one GTV: volumes in ml, fraction 0-1."""

    gtv: str
    gtv_volume_ml: float
    hypoxic_volume_ml: float
    hypoxic_fraction: float
    map_maximum: float
    map_mean: float


@dataclass(frozen=True)
class TargetRow:
    """One line of the target table. Doses in gray; None where a structure carries no dose."""

    name: str
    interpreted_type: str
    volume_ml: float
    dose_gy: float | None
    fractions: int | None
    dose_per_fraction_gy: float | None
    eqd2_tumour_gy: float | None
    eqd2_late_gy: float | None
    cropped_ml: float
    description: str


@dataclass(frozen=True)
class ProofRow:
    """One structure written and read back."""

    structure: str
    written_ml: float
    read_ml: float
    dice: float
    centroid_shift_mm: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Curve:
    """A plottable curve: histogram of the map, or hypoxic volume against threshold."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class RegistrationUse:
    """How the PET came onto the planning CT, and how well."""

    mode: str  # "same frame of reference", "file ...", "rigid, computed here"
    matrix: tuple[float, ...] = ()  # 4x4 row-major, planning LPS to moving LPS; empty when deformable or none
    residual: Mapping[str, float] = field(default_factory=dict)  # named figures with units in the name
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Voxels of a run, all on the planning-CT grid. Kept out of JSON."""

    planning: Volume
    map: HypoxiaMap
    gtvs: tuple[Region, ...]
    reference: Region | None
    hypoxic: Region
    structures: tuple[Structure, ...]
    organs: tuple[Region, ...]
    pet: Volume | None = None


@dataclass(frozen=True)
class Result:
    """Everything a reader of the result must know. ``images`` and nothing else is left out of ``result.json``."""

    software: str  # "slicer-hypoxia 0.1.0"
    created: str  # ISO 8601 with time zone
    request: Request
    patient: Mapping[str, str]  # id, name, sex, birth_date
    series: tuple[SeriesUse, ...]
    method: Mapping[str, Any]  # name, title, quantity, unit, citation, parameters, surrogate
    threshold: float
    comparison: str
    threshold_source: str
    findings: tuple[GtvFinding, ...]
    hypoxic_volume_ml: float
    hypoxic_fraction: float
    dropped: tuple[Dropped, ...]
    prescription: Prescription
    targets: tuple[TargetRow, ...]
    histogram: Curve
    volume_by_threshold: Curve
    registration: RegistrationUse
    warnings: tuple[str, ...]
    notes: tuple[str, ...]  # what the protocol's trial did and did not do
    details: Mapping[str, Any]
    images: Images
    accepted_by: str = ""
    exported: tuple[str, ...] = ()  # file names relative to the output folder
    proof: tuple[ProofRow, ...] = ()
    proof_reference: Mapping[str, Any] = field(default_factory=dict)  # by which the set is proven again from its files
    truth: Mapping[str, Any] = field(default_factory=dict)  # digital patients only
