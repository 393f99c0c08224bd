"""Which slices of a series belong to one frame: by time, or by echo time, flip angle, b-value or inversion time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError, RequestError
from ..timeseries import PARAMETERS
from .pet_time import acquisition_time
from .stack import SlicePlane, doubled_positions, require_alike, slice_order

PARAMETER_KEYWORDS = {
    "echo time": ("EchoTime", "0018,0081"),
    "flip angle": ("FlipAngle", "0018,1314"),
    "b-value": ("DiffusionBValue", "0018,9087"),
    "inversion time": ("InversionTime", "0018,0082"),
}
# Where scanners put the b-value before DICOM had an entry for it: creator, group, element.
_PRIVATE_B_VALUES = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("GEMS_PARM_01", 0x0043, 0x39),
    ("Philips Imaging DD 001", 0x2001, 0x03),
)
_SIEMENS_SEQUENCE = re.compile(r"\*?ep_b(\d+)")  # as in "*ep_b800t", where only the CSA header has the b-value
_MAP = re.compile(r"(E?ADC|FA|TENSOR|CALC_BVALUE)\b|.*[ _]MAP$")  # in Image Type: computed from the signals beside it
_COMPONENT = re.compile(r"([MPRI]|MAG|MAGNITUDE|PHASE|REAL|IMAGINARY)( MAP|_[A-Z0-9]+)?$")
_GE_COMPONENT = ("GEMS_PARM_01", 0x0043, 0x2F)  # 0 to 3: magnitude, phase, real, imaginary
_STEP = 0.9  # of the time from frame to frame: gated slices vary less, a lost image is a whole step
_WHOLE_SECONDS = 1.0  # by which acquisition times without fraction may differ from slice to slice
_GE_B_VALUE_FLAG = 1e9  # GE adds it to mark a b-value it computed


@dataclass(frozen=True)
class Slice:
    """One image: its header without pixels, file, number within the file, and where it lies."""

    header: Dataset
    path: Path
    index: int
    plane: SlicePlane


def by_time(slices: Sequence[Slice], what: str) -> list[list[Slice]]:
    """Frames of a dynamic series in order of time.

    The first entry that tells all images of every slice position apart decides: Temporal Position, acquisition time,
    Frame Reference Time, Trigger Time, Acquisition Number, Instance Number.

    Raises
    ------
    InputError
        If slice positions have unequal numbers of images, there is only one frame, no entry tells them apart, or the
        slices of a frame were not measured together.
    GeometryError
        If images differ in size, spacing or orientation.
    """
    slices = _magnitude(slices)
    require_alike([s.plane for s in slices], what)
    places = _places(slices)
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        odd = next(place for place in places if len(place) != len(places[0]))
        raise InputError(
            f"{what}: incomplete frames, slice position {odd[0].plane.position} has {len(odd)} images and "
            f"{places[0][0].plane.position} has {len(places[0])}.",
            "Send the complete series, or leave out the unfinished frame, images sent twice, and projections.",
        )
    if counts == [1]:
        raise InputError(
            f"{what}: only one frame.",
            "A dynamic series has several, with their slices at the same places; name all its series.",
        )
    for name, key in _ORDER.items():
        values = [[key(s.header) for s in place] for place in places]
        if all(None not in row and len(set(row)) == len(row) for row in values):
            numbers = np.array(values, float)
            order = np.argsort(numbers, axis=1, kind="stable")
            _require_together(np.take_along_axis(numbers, order, axis=1), name, what)
            return [[place[row[k]] for place, row in zip(places, order, strict=True)] for k in range(counts[0])]
    raise InputError(
        f"{what}: {counts[0]} images at every slice position, and no entry tells the frames apart (Temporal Position, "
        "Acquisition Time, Frame Reference Time, Trigger Time, Acquisition and Instance Number were tried).",
        "Export every frame as its own series.",
    )


def _require_together(values: np.ndarray, name: str, what: str) -> None:
    """Refuse frames whose slices lost different images, or were measured after the next frame had begun.

    Parameters
    ----------
    values : numpy.ndarray
        The entry ``name`` of every image, shape (places, frames), rising along frames.
    """
    steps = np.diff(values, axis=1).min(axis=0)
    slack = _WHOLE_SECONDS if name == "Acquisition Time" else 0.0
    # Against the first frame of its own slice; a lost image shifts all later ones of its slice by a step.
    shifts = np.ptp(values - values[:, :1], axis=0)
    uneven = shifts > np.maximum(_STEP * np.minimum(np.r_[np.inf, steps], np.r_[steps, np.inf]), slack)
    begins, ends = values.min(axis=0), values.max(axis=0)
    late = ends[:-1] > begins[1:]
    # One slice without its first image, another without its last: then they meet.
    met = ~late & (ends[:-1] >= begins[1:] - 1e-3 * steps) & (steps > 2 * slack)
    if uneven.any() or (name not in _COUNTS and met.any()):
        k = int(np.argmax(uneven if uneven.any() else met))
        raise InputError(
            f"{what}: at frame {k + 1} the slices differ in {name} by as much as one frame from the next: images "
            "are missing.",
            "Send the complete series.",
        )
    if name not in _COUNTS and late.any():
        k = int(np.argmax(late))
        raise InputError(
            f"{what}: the slices of frame {k + 1} were not all measured before frame {k + 2} began ({name}): they have "
            "no common time.",
            "Give slices that were measured together: one bed, one stack, or one slice.",
        )


def by_parameter(slices: Sequence[Slice], parameter: str, what: str) -> list[tuple[float, list[list[Slice]]]]:
    """Values of a parameter, rising, each with its repeats; every repeat holds one slice per position.

    Raises
    ------
    RequestError
        For an unknown parameter.
    InputError
        If a slice does not state it, there are fewer than two values, or slices are missing at one.
    """
    if parameter not in PARAMETERS:
        raise RequestError(f"Parameter {parameter!r} is unknown.", f"Valid: {', '.join(PARAMETERS)}.")
    slices = _signals(_magnitude(slices))
    require_alike([s.plane for s in slices], what)
    found: dict[float, list[Slice]] = {}
    for item in slices:
        value, source = parameter_value(item.header, parameter)
        if value is None:
            raise InputError(
                f"{what}: {item.plane.name} does not state its {parameter} ({source}).", "Export the original series."
            )
        found.setdefault(round(value, 4), []).append(item)
    if len(found) < 2:
        raise InputError(
            f"{what}: only one {parameter}, {', '.join(f'{v:g}' for v in found)} {PARAMETERS[parameter]}.",
            "Name all series that belong together.",
        )
    groups, number = [], len(_places(slices))
    for value in sorted(found):
        places = _places(_trace_only(found[value]) if parameter == "b-value" else found[value])
        repeats = {len(place) for place in places}
        if len(places) != number or len(repeats) > 1:
            raise InputError(
                f"{what}: {parameter} {value:g} {PARAMETERS[parameter]} has {len(places)} slice positions with "
                f"{sorted(repeats)} images each; the series has {number} positions.",
                "Send the complete series.",
            )
        groups.append((value, [[place[k] for place in places] for k in range(repeats.pop())]))
    return groups


def parameter_value(header: Dataset, parameter: str) -> tuple[float | None, str]:
    """Value of a parameter in its unit and the entry it came from; None when the header does not say it."""
    keyword, tag = PARAMETER_KEYWORDS[parameter]
    source = f"{keyword} ({tag})"
    value = header.get(keyword)
    if value not in (None, ""):
        return float(value), source
    if parameter == "b-value":
        for creator, group, element in _PRIVATE_B_VALUES:
            number = _private_number(header, creator, group, element)
            if number is not None:
                return number % _GE_B_VALUE_FLAG, f"{creator} private b-value ({group:04x},xx{element:02x})"
        named = _SIEMENS_SEQUENCE.match(str(header.get("SequenceName", "") or ""))
        if named:
            return float(named[1]), f"Sequence Name (0018,0024) {header.SequenceName}"
    return None, source


def _private_number(header: Dataset, creator: str, group: int, element: int) -> float | None:
    """First number of a private entry; None where its creator or a number is not there."""
    try:
        value = header.private_block(group, creator)[element].value
    except KeyError:
        return None
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore").strip(" \0").split("\\")
    if not isinstance(value, str | float | int) and value:
        value = value[0]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _places(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Images by slice position, along the normal; within a position in the order given."""
    order, along = slice_order([s.plane for s in slices])
    ends = np.flatnonzero(~doubled_positions(along)) + 1
    return [[slices[i] for i in sorted(group)] for group in np.split(order, ends)]


def _magnitude(slices: Sequence[Slice]) -> list[Slice]:
    """Images without phase, real and imaginary ones; all, if there are only such."""
    return [s for s in slices if _component(s.header) in ("M", "")] or list(slices)


def _signals(slices: Sequence[Slice]) -> list[Slice]:
    """Images without the maps that a scanner put beside them (ADC, T2 map ...); all, if there are only maps."""
    signals = [s for s in slices if not any(_MAP.match(str(v)) for v in list(s.header.get("ImageType") or [])[2:])]
    return signals or list(slices)


def _component(header: Dataset) -> str:
    """M, P, R or I by Complex Image Component, Image Type (``P``, ``PHASE MAP``, ``M_FFE``), or GE; else empty."""
    word = str(header.get("ComplexImageComponent", "") or "")
    if word and word != "MIXED":
        return word[0]
    for value in [str(v) for v in header.get("ImageType") or []][2:]:
        named = _COMPONENT.match(value)
        if named:
            return value[0]
    number = _private_number(header, *_GE_COMPONENT)
    return "" if number is None else dict(enumerate("MPRI")).get(int(number), "")


def _trace_only(slices: Sequence[Slice]) -> list[Slice]:
    """Trace images of a b-value where the scanner made them, else all directions."""
    trace = [s for s in slices if str(s.header.get("DiffusionDirectionality", "")) == "ISOTROPIC"]
    return trace or list(slices)


def _acquisition(header: Dataset) -> float | None:
    """Acquisition time in seconds after a fixed day."""
    found = acquisition_time(header)
    return (found.time - _DAY_ZERO).total_seconds() if found else None


def _number(keyword: str) -> Callable[[Dataset], float | None]:
    """A key that reads a number."""

    def read(header: Dataset) -> float | None:
        value = header.get(keyword)
        return None if value in (None, "") else float(value)

    return read


_DAY_ZERO = datetime(2000, 1, 1)
_ORDER: Mapping[str, Callable[[Dataset], float | None]] = {
    "Temporal Position": _number("TemporalPositionIdentifier"), "Acquisition Time": _acquisition,
    "Frame Reference Time": _number("FrameReferenceTime"), "Trigger Time": _number("TriggerTime"),
    "Acquisition Number": _number("AcquisitionNumber"), "Instance Number": _number("InstanceNumber"),
}  # fmt: skip
"""What may tell frames apart, most trusted first."""
_COUNTS = ("Acquisition Number", "Instance Number")
"""Of these, what may count slices first and frames second, or the other way round."""
