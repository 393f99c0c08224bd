"""Hypoxia PET tracers: when to scan, against which reference, above which ratio, and who says so.

Only thresholds with a published source stand here. A threshold belongs to its tracer, reference tissue and scan time;
using it with another is refused by the methods.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import RequestError

FLUORINE18_HALF_LIFE_S = 6586.2  # 109.77 min, METHODS section 2
FLUORINE18_TRACERS = ("FDG", "FMISO", "FAZA", "HX4", "EF5")  # Cu-ATSM comes with several nuclides
HYPOXIA_TRACERS = ("FMISO", "FAZA", "HX4", "EF5", "Cu-ATSM")


@dataclass(frozen=True)
class TracerProtocol:
    """One published way to call a voxel hypoxic on a static scan.

    Parameters
    ----------
    reference : str
        ``"blood"`` or ``"muscle"``.
    comparison : str
        ``">"`` or ``">="``, part of the protocol.
    scan_windows_min : tuple of (float, float)
        Minutes after injection between which the scan should start. Where the source names one time only, the window is
        that time give or take ``POINT_TOLERANCE_MIN``.
    """

    name: str
    tracer: str
    reference: str
    threshold: float
    comparison: str
    scan_windows_min: tuple[tuple[float, float], ...]
    citation: str

    def in_window(self, minutes_after_injection: float) -> bool:
        """True if a scan started that long after injection fits the protocol."""
        return any(low <= minutes_after_injection <= high for low, high in self.scan_windows_min)

    def windows_text(self) -> str:
        """The windows as text, e.g. ``"120-180 min"``."""
        return " or ".join(f"{low:g}-{high:g} min" for low, high in self.scan_windows_min)


POINT_TOLERANCE_MIN = 30.0
"""Half-width of the window around a single published scan time; a choice of this software, stated in its warnings."""


def _around(*minutes: float) -> tuple[tuple[float, float], ...]:
    """Windows around single scan times."""
    return tuple((m - POINT_TOLERANCE_MIN, m + POINT_TOLERANCE_MIN) for m in minutes)


# METHODS section 2. The first protocol of a tracer is its default. Left out: the lung study 10.1186/s13014-018-1147-2
# (its 1.4 is an SUV, not a ratio) and Cu-ATSM (2-3.5 against muscle, unconfirmed).
TRACER_PROTOCOLS: tuple[TracerProtocol, ...] = (
    TracerProtocol(
        "fmiso_blood_1.2", "FMISO", "blood", 1.2, ">", ((120.0, 180.0),), "MSKCC, in 10.1016/j.phro.2025.100769"
    ),
    TracerProtocol(
        "faza_muscle_1.6",
        "FAZA",
        "muscle",
        1.6,
        ">=",
        _around(120),
        "DAHANCA 24 (NCT01017224), Saksø et al. 2020, Radiother Oncol 151:126-133",
    ),
    TracerProtocol(
        "faza_muscle_1.5", "FAZA", "muscle", 1.5, ">=", _around(120), "Grosu et al. 2007, 10.1016/j.ijrobp.2007.05.079"
    ),
    TracerProtocol(
        "faza_blood_1.4",
        "FAZA",
        "blood",
        1.4,
        ">=",
        _around(120),
        "Bollineni et al. 2014, Radiother Oncol 113:198-203 (blood as the background of its T/B was not confirmed)",
    ),
    TracerProtocol(
        "hx4_blood_1.2",
        "HX4",
        "blood",
        1.2,
        ">",
        _around(120, 240),
        "Zegers et al. 2015, 10.1007/s00259-015-3100-z (blood as the background of its TBR was not confirmed)",
    ),
    TracerProtocol(
        "ef5_muscle_1.5", "EF5", "muscle", 1.5, ">", _around(180), "Silvoniemi et al. 2018, 10.1007/s00259-017-3857-3"
    ),
)


def protocols_of(tracer: str) -> tuple[TracerProtocol, ...]:
    """Protocols of a tracer, default first; empty for a tracer without a published threshold."""
    return tuple(p for p in TRACER_PROTOCOLS if p.tracer == tracer)


def get_tracer_protocol(name: str) -> TracerProtocol:
    """Protocol by name.

    Raises
    ------
    RequestError
        Listing the valid names.
    """
    for protocol in TRACER_PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise RequestError(
        f"There is no tracer protocol {name!r}.", f"Valid ones: {', '.join(p.name for p in TRACER_PROTOCOLS)}."
    )
