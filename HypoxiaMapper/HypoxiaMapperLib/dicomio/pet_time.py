"""When a PET was injected and scanned: DICOM dates and times as datetimes, with where each came from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from ..errors import InputError
from ..tracers import HYPOXIA_TRACERS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# QIBA FDG-PET/CT (METHODS section 1): believed from 1 h after to less than 2 half-lives before the scan.
EARLIEST_MINUTES = -60.0
LATEST_HALF_LIVES = 2.0
# Hypoxia tracers are also scanned 4 h after injection (METHODS section 2), just over two half-lives of fluorine-18.
LATE_PROTOCOL_MINUTES = dict.fromkeys(HYPOXIA_TRACERS, 270.0)

EARLY_HOUR, LATE_HOUR = 6, 18  # between which a scan over midnight has no image
NO_PAUSE = timedelta(hours=12)

_TIMESTAMP = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})?(\d{2})?(\.\d{1,6})?([+-]\d{4})?")


@dataclass(frozen=True)
class TimeFact:
    """A moment in the scanner's local time, and the entry it came from."""

    time: datetime
    source: str
    warnings: tuple[str, ...] = ()


def parse_datetime(text: str, timezone_offset: str = "") -> datetime | None:
    """Local time of a DICOM DT (or DA and TM joined); None for text that is no full date and hour.

    A DT with an offset from UTC is brought to ``timezone_offset`` (Timezone Offset From UTC, 0008,0201) so that it
    can be compared with times without one; without any the offset is the scanner's own and is dropped.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute or 0), min(int(second or 0), 59))
    except ValueError:
        return None
    moment += timedelta(seconds=float(fraction or 0))
    if offset and timezone_offset:
        moment -= _offset(offset) - _offset(timezone_offset)
    return moment


def _offset(text: str) -> timedelta:
    """Offset from UTC as a time difference."""
    zone = datetime.strptime(text.strip(), "%z").tzinfo or timezone.utc
    return zone.utcoffset(None) or timedelta()


def acquisition_time(header: Dataset) -> TimeFact | None:
    """Start of acquisition of a slice, from Acquisition DateTime or Acquisition Date and Time."""
    moment = parse_datetime(_text(header, "AcquisitionDateTime"), _zone(header))
    if moment:
        return TimeFact(moment, "Acquisition DateTime (0008,002A)")
    for keyword, tag in (("AcquisitionDate", "0008,0022"), ("SeriesDate", "0008,0021"), ("StudyDate", "0008,0020")):
        moment = parse_datetime(_text(header, keyword) + _text(header, "AcquisitionTime"))
        if moment:
            return TimeFact(moment, f"{keyword} ({tag}) and Acquisition Time (0008,0032)")
    return None


def carry_midnight(headers: Sequence[Dataset]) -> tuple[str, ...]:
    """Give the images after midnight their day, in a series whose entries hold one date (or none) for all.

    Half a day between images late in the evening and early in the morning of one date is no pause: the clock went over
    midnight. Returns the warning that says so, if it did.
    """
    moments = [found.time if (found := acquisition_time(h)) else None for h in headers]
    known = sorted({m for m in moments if m is not None})
    if len(known) < 2 or known[0].date() != known[-1].date():
        return ()
    gaps = [b - a for a, b in itertools.pairwise(known)]
    widest = max(range(len(gaps)), key=gaps.__getitem__)
    if gaps[widest] < NO_PAUSE or known[0].hour >= EARLY_HOUR or known[-1].hour < LATE_HOUR:
        return ()
    for header, moment in zip(headers, moments, strict=True):
        if moment is not None and moment <= known[widest]:
            set_acquisition(header, moment + timedelta(days=1))
    return (f"All images bear one date, with times from {known[widest + 1]:%H:%M} to {known[widest]:%H:%M}: those "
            "after midnight were counted to the next day.",)  # fmt: skip


def series_time(header: Dataset) -> TimeFact | None:
    """Series Date and Time."""
    moment = parse_datetime(_text(header, "SeriesDate") + _text(header, "SeriesTime"))
    return TimeFact(moment, "Series Date and Time (0008,0021), (0008,0031)") if moment else None


def ge_scan_time(header: Dataset) -> TimeFact | None:
    """GE's private scan date and time (0009,xx0D) of the creator GEMS_PETD_01."""
    try:
        element = header.private_block(0x0009, "GEMS_PETD_01")[0x0D]
    except KeyError:
        element = header.get((0x0009, 0x100D))  # the creator entry is often lost in anonymisation
    if element is None:
        return None
    value = element.value
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)
    moment = parse_datetime(text.strip(" \0"), _zone(header))
    return TimeFact(moment, "GE scan date and time (0009,100D)") if moment else None


def injection_time(
    header: Dataset, scan_start: datetime, half_life_s: float, tracer: str = "", allow_unknown: bool = False
) -> TimeFact | None:
    """Time of injection, believed only if it fits the start of the scan.

    Radiopharmaceutical Start DateTime is preferred. Start Time alone is put on the day of the scan, or the day before
    when it would lie after the scan (midnight crossing).

    Raises
    ------
    InputError
        If the time is absent (unless ``allow_unknown``) or implausible, naming the tag.
    """
    candidates = _injection_candidates(header, scan_start)
    latest_min = max(LATEST_HALF_LIVES * half_life_s / 60.0, LATE_PROTOCOL_MINUTES.get(tracer, 0.0))
    doubts: list[str] = []
    for fact in candidates:
        elapsed_min = (scan_start - fact.time).total_seconds() / 60.0
        if EARLIEST_MINUTES <= elapsed_min < latest_min:
            late = elapsed_min >= LATEST_HALF_LIVES * half_life_s / 60.0
            said = [f"The scan is {elapsed_min:.0f} min after injection, over two half-lives: few counts are left."]
            return TimeFact(fact.time, fact.source, (*fact.warnings, *doubts, *(said if late else ())))
        doubts.append(f"{fact.source} is {elapsed_min:.0f} min before the scan and was not believed.")
    if allow_unknown:
        return None
    if doubts:
        raise InputError(
            f"Implausible injection time: {' '.join(doubts)} Believed: {EARLIEST_MINUTES:.0f} to {latest_min:.0f} min.",
            "Correct Radiopharmaceutical Start DateTime (0018,1078) or the acquisition time.",
        )
    raise InputError(
        "Injection time is missing: neither Radiopharmaceutical Start DateTime (0018,1078) nor Start Time (0018,1072).",
        "Enter the injection time in the PET headers; SUV needs it for this decay correction.",
    )


def _injection_candidates(header: Dataset, scan_start: datetime) -> list[TimeFact]:
    """Injection times the header offers, most trusted first."""
    items = header.get("RadiopharmaceuticalInformationSequence") or []
    if not items:
        return []
    candidates = []
    stamp = parse_datetime(_text(items[0], "RadiopharmaceuticalStartDateTime"), _zone(header))
    if stamp:
        candidates.append(TimeFact(stamp, "Radiopharmaceutical Start DateTime (0018,1078)"))
    clock = _text(items[0], "RadiopharmaceuticalStartTime")
    moment = parse_datetime(scan_start.strftime("%Y%m%d") + clock)
    if moment:
        source = "Radiopharmaceutical Start Time (0018,1072) on the day of the scan"
        warning: tuple[str, ...] = ()
        # Times within an hour after the start stay on the same day: a dynamic scan may begin before the injection.
        if (scan_start - moment).total_seconds() / 60.0 < EARLIEST_MINUTES:
            moment -= timedelta(days=1)
            source = "Radiopharmaceutical Start Time (0018,1072) on the day before the scan"
            warning = ("The injection time has no date and lies after the scan: the day before was taken.",)
        elif (scan_start - moment) > timedelta(hours=23):  # scanned just before midnight, injected just after
            moment += timedelta(days=1)
            source = "Radiopharmaceutical Start Time (0018,1072) on the day after the scan started"
        candidates.append(TimeFact(moment, source, warning))
    return candidates


def _zone(header: Dataset) -> str:
    """Offset from UTC of the scanner's clock: Timezone Offset From UTC, else that of the acquisition itself."""
    match = _TIMESTAMP.fullmatch(_text(header, "AcquisitionDateTime"))
    return _text(header, "TimezoneOffsetFromUTC") or (match[8] or "" if match else "")


def set_acquisition(header: Dataset, moment: datetime) -> None:
    """Put a moment of the scanner's clock into Acquisition DateTime, under the offset from UTC the header has."""
    header.AcquisitionDateTime = moment.strftime("%Y%m%d%H%M%S.%f") + _zone(header)


def _text(header: Dataset, keyword: str) -> str:
    """Value as text, empty when absent."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip()
