"""The one request every front end builds, and its exact JSON round trip."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.timeseries import Timing

from .overrides import DISTRIBUTION, checks_named, is_dicom_text, parse_overrides

LARGEST_MARGIN_MM = 50.0  # as for the protocol files: anything larger is a slip of the unit
LARGEST_CLOSING_MM = 20.0
_LARGEST_FLOAT = sys.float_info.max  # JSON numbers may be larger; NaN fails the comparison too


def _require_word(what: str, value: str, valid: tuple[str, ...]) -> None:
    """Refuse a word that is not in the list."""
    if value not in valid:
        raise RequestError(f"{what} is {value!r}.", f"Valid: {', '.join(v or 'empty' for v in valid)}.")


def _require_between(what: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside a range, and what is no finite number."""
    if not (math.isfinite(value) and low <= value <= high):
        raise RequestError(f"{what} is {value}.", f"It must be a number from {low:g} to {high:g}.")


def _require_person_name(what: str, value: str) -> None:
    """Refuse what a DICOM person name (PS3.5 6.2, VR PN) cannot hold."""
    nobody = bool(value.strip()) and not any(letter.isalpha() for letter in value)
    if nobody or len(value) > 64 or value.count("^") > 4 or "=" in value or not is_dicom_text(value):
        raise RequestError(
            f"{what} is {value!r}, which is no DICOM person name.",
            'Write "Family^Given" in at most 64 characters, without backslash, "=" and control characters.',
        )


@dataclass(frozen=True)
class Sphere:
    """A sphere in the planning frame of reference: centre LPS mm and radius mm."""

    centre_mm: tuple[float, float, float]
    radius_mm: float

    def __post_init__(self) -> None:
        if len(self.centre_mm) != 3 or not all(math.isfinite(c) for c in self.centre_mm):
            raise RequestError(f"Sphere centre_mm is {self.centre_mm}.", "It must be three numbers, LPS millimetres.")
        _require_between("Sphere radius_mm", self.radius_mm, 0.1, 500.0)


@dataclass(frozen=True)
class Margins:
    """Expansion in millimetres towards each side of the patient (LPS directions)."""

    left_mm: float = 0.0
    right_mm: float = 0.0
    anterior_mm: float = 0.0
    posterior_mm: float = 0.0
    superior_mm: float = 0.0
    inferior_mm: float = 0.0

    def __post_init__(self) -> None:
        for side, value in vars(self).items():
            _require_between(f"Margin {side}", value, 0.0, LARGEST_MARGIN_MM)

    @classmethod
    def uniform(cls, margin_mm: float) -> Margins:
        """The same margin on every side."""
        return cls(*(float(margin_mm),) * 6)


@dataclass(frozen=True)
class SubvolumeOptions:
    """How the hypoxic subvolume is cut out of the map.

    Parameters
    ----------
    threshold : float or None
        In the map's unit; None takes the tracer protocol's own.
    comparison : str
        ``">"`` or ``">="``; empty takes the tracer protocol's own.
    minimum_component_ml : float
        Smaller islands are dropped and reported (METHODS 9: 0.5-1 ml).
    closing_mm : float
        Radius of a morphological closing inside the GTV; 0 for none.
    maximum_fraction_of_gtv : float
        Largest hypoxic fraction that is accepted as a boost volume (0-1].
    """

    threshold: float | None = None
    comparison: str = ""
    minimum_component_ml: float = 0.5
    closing_mm: float = 0.0
    maximum_fraction_of_gtv: float = 0.8

    def __post_init__(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise RequestError(f"threshold is {self.threshold}.", "It must be a number in the unit of the map.")
        _require_word("comparison", self.comparison, ("", ">", ">=", "<", "<="))
        _require_between("minimum_component_ml", self.minimum_component_ml, 0.0, math.inf)
        _require_between("closing_mm", self.closing_mm, 0.0, LARGEST_CLOSING_MM)
        if not 0 < self.maximum_fraction_of_gtv <= 1:
            raise RequestError(
                f"maximum_fraction_of_gtv is {self.maximum_fraction_of_gtv}.", "It must lie above 0 and up to 1."
            )


@dataclass(frozen=True)
class Registration:
    """How the PET frame is brought onto the planning frame.

    ``mode`` is ``none`` (same frame of reference required), ``file`` (a DICOM registration object or ITK transform
    given by ``path``), ``rigid`` (computed here; must be signed off by a person) or ``stated`` (the user states that
    the images share the planning frame, as for NIfTI files, which cannot say it).
    """

    mode: str = "none"
    path: str = ""

    def __post_init__(self) -> None:
        _require_word("registration mode", self.mode, ("none", "file", "rigid", "stated"))


@dataclass(frozen=True)
class Request:
    """Everything that defines a run. Stored whole in every result.

    Empty strings and tuples mean "find the only candidate, refuse if there are several".

    Parameters
    ----------
    inputs : dict
        Series UID or description, or NIfTI file, of each input of the method by its key; several separated by ``;``.
    region_rois : dict
        ROI name of each further region of the method (``artery`` ...) by its key.
    timing : Timing
        Times of a series that its files cannot say.
    motion_reference : int
        Frame (from 1) of a dynamic series that its other frames are rigidly registered to; 0 for no correction.
    tracer : str
        Tracer of the PET, only where the DICOM tags do not say it; a contradiction is refused.
    gtv_rois : tuple of str
        Names of the gross tumour volumes to search for hypoxia.
    reference_roi, reference_sphere
        The reference region of a ratio method, one of both.
    organ_rois : tuple of str
        Organs at risk that targets are cropped to, with ``organ_gap_mm`` distance.
    boost_margins, base_margins : Margins or None
        None takes the protocol file's.
    override : str
        ``"LIMIT name: reason"`` of the person who takes responsibility for exceeding a limit (see ``overrides``).
    accepted_by : str
        Name of the person who accepts the result; without it nothing is exported as DICOM.
    write_rtdose : bool
        Also write the voxel prescription as RTDOSE (labelled PRESCRIPTION, NOT CALCULATED).
    holes : str
        ``"keyhole"`` or ``"xor"`` (CLOSEDPLANAR_XOR).
    not_repeatable : tuple of str
        What went into the result of a panel and no request can say; a request that names something is not run again.
    seen : dict
        Digests of what the result showed that this request was stored with; an acceptance is of that (see ``seen``).
    """

    folder: str
    output: str
    method: str
    protocol: str
    method_params: dict[str, Any] = field(default_factory=dict)
    planning_series: str = ""
    pet_series: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    region_rois: dict[str, str] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    motion_reference: int = 0
    tracer: str = ""
    structure_set: str = ""
    gtv_rois: tuple[str, ...] = ()
    reference_roi: str = ""
    reference_sphere: Sphere | None = None
    organ_rois: tuple[str, ...] = ()
    organ_gap_mm: float = 3.0
    subvolume: SubvolumeOptions = SubvolumeOptions()
    boost_margins: Margins | None = None
    base_margins: Margins | None = None
    base_dose_gy: float | None = None
    boost_dose_gy: float | None = None
    fractions: int | None = None
    registration: Registration = Registration()
    override: str = ""
    accepted_by: str = ""
    write_rtdose: bool = False
    holes: str = "keyhole"
    not_repeatable: tuple[str, ...] = ()
    seen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_word("holes", self.holes, ("keyhole", "xor"))
        _require_between("organ_gap_mm", self.organ_gap_mm, 0.0, LARGEST_MARGIN_MM)
        _require_json_values("method_params", self.method_params)
        _require_person_name("accepted_by", self.accepted_by)
        for what, names in (("inputs", self.inputs), ("region_rois", self.region_rois), ("seen", self.seen)):
            if not all(isinstance(value, str) and value for value in names.values()):
                raise RequestError(f"{what} is {names!r}.", "It must map keys to names (texts).")
        if not self.folder.strip():
            raise RequestError("The folder of the request is empty.", "Name the DICOM folder.")
        parse_overrides(self.override)

    def override_for(self, limit: str) -> str:
        """``"name: reason"`` of the person who lifts one limit, empty for none."""
        return parse_overrides(self.override).get(limit, "")

    @property
    def checks_overridden(self) -> tuple[str, ...]:
        """Names of the distribution checks that the override of ``distribution`` names; they alone are lifted."""
        return checks_named(self.override)

    def for_next_run(self) -> Request:
        """The request without what a person said of this very result: the acceptance, and the word for its images."""
        kept = {k: text for k, text in parse_overrides(self.override).items() if k != DISTRIBUTION}
        return dataclasses.replace(self, accepted_by="", override="; ".join(f"{k} {text}" for k, text in kept.items()))

    def to_json(self) -> str:
        """Indented JSON with every field."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)


def require_repeatable(request: Request) -> None:
    """Refuse to run a request that does not say everything its result was made of: another result would come out.

    Raises
    ------
    RequestError
        Naming what is missing.
    """
    if request.not_repeatable:
        raise RequestError(
            f"This request of a panel cannot be run again: {'; '.join(request.not_repeatable)}.",
            "Make the result again in the panel. For another result from the files alone, empty not_repeatable.",
        )


def request_from_json(text: str, where: str = "request") -> Request:
    """Parse a request; unknown fields and wrong types are refused by name.

    Raises
    ------
    InputError
        If the text is no JSON.
    RequestError
        Naming the field that is unknown, missing, given twice, of the wrong type or out of range.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique_fields)
    except (ValueError, RecursionError) as error:
        hint = "Write one with `hypoxia run ... --save-request`."
        raise InputError(f"{where} is not valid JSON: {error}.", hint) from error
    return _build(Request, data, where)


def read_request(path: Path) -> Request:
    """Read a request file (see ``request_from_json``)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"Request file {path} cannot be read: {error.strerror}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"Request file {path} is not text (UTF-8).", "Give a JSON file.") from error
    return request_from_json(text, str(path))


def _require_json_values(what: str, values: dict[str, Any]) -> None:
    """Refuse values that JSON would not give back as they are (NaN, tuples, objects)."""
    try:
        same = json.loads(json.dumps(values, allow_nan=False)) == values
    except (TypeError, ValueError):
        same = False
    if not same:
        raise RequestError(f"{what} is {values!r}.", "It may hold numbers, texts, true/false, lists and objects.")


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose fields occur once each."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise RequestError(f"The request gives {', '.join(twice)} more than once.", "Keep one of them.")
    return fields


def _build(cls: type, data: Any, where: str) -> Any:
    """Build a dataclass from a mapping, recursively, naming what does not fit."""
    if not isinstance(data, Mapping):
        raise RequestError(f"{where} is {data!r}.", f"It must be an object with the fields of {cls.__name__}.")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(data.keys() - known.keys())
    if unknown:
        raise RequestError(f"{where} has unknown field(s) {', '.join(unknown)}.", f"Valid: {', '.join(known)}.")
    required = [
        n for n, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in data
    ]  # fmt: skip
    if required:
        raise RequestError(f"{where} lacks field(s) {', '.join(required)}.", "Add them.")
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in data.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to the type of a field."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return dict(value)
    if isinstance(value, bool):  # Python counts it as an int, a reader of the request does not
        if hint is bool:
            return value
    elif hint is float and isinstance(value, int | float):
        if abs(value) <= _LARGEST_FLOAT:
            return float(value)
    elif isinstance(hint, type) and origin is None and isinstance(value, hint):
        return value
    kind = _TYPE_WORDS.get(hint, _TYPE_WORDS.get(origin, str(hint)))
    raise RequestError(f"{where} is {value!r}.", f"It must be {kind}.")


_TYPE_WORDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", dict: "an object",
}  # fmt: skip
