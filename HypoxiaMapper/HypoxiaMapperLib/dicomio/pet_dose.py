"""Weight, injected activity and half-life of a PET series: one value for all slices, and a value that can be true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError
from ..suv import MAXIMUM_WEIGHT_KG, POSSIBLE_ACTIVITY_MBQ
from ..tracers import FLUORINE18_HALF_LIFE_S, FLUORINE18_TRACERS

_MBQ_LIMIT = 1e4  # a smaller Radionuclide Total Dose (0.01 MBq) cannot be in Bq: it was written in MBq
_USUAL_ACTIVITY_MBQ = (20.0, 1500.0)
_USUAL_WEIGHT_KG = (2.0, 400.0)
_MAXIMUM_HEIGHT_CM = 300.0  # taller than anyone known: centimetres in a field for metres
_FLUORINE18_CODES = {"C-111A1", "77004003"}  # Radionuclide Code Sequence, CID 4020
_PRIVATE_CREATOR = "Philips PET Private Group"


def read_weight_and_dose(headers: Sequence[Dataset], tracer: str) -> tuple[dict[str, Any], list[str]]:
    """Weight, height, sex, injected activity and half-life of a series with their sources, and warnings.

    A number that is absent is None, an absent sex an empty text.

    Parameters
    ----------
    headers : sequence of pydicom.Dataset
        One for each slice.
    tracer : str
        Name by ``find_tracer``; tells the nuclide where no code does.

    Raises
    ------
    InputError
        If slices disagree, or a value cannot be true, naming the tag.
    """
    require_one_injection(headers)
    header, warnings = headers[0], []
    weight_kg = number(header, "PatientWeight")
    if weight_kg and weight_kg > MAXIMUM_WEIGHT_KG:
        raise InputError(f"Patient's Weight (0010,1030) is {weight_kg:g} kg.", "Enter it in kilograms, not grams.")
    if weight_kg and not _USUAL_WEIGHT_KG[0] <= weight_kg <= _USUAL_WEIGHT_KG[1]:
        warnings.append(f"Patient's Weight (0010,1030) is {weight_kg:g} kg: unusual.")
    items = header.get("RadiopharmaceuticalInformationSequence") or []
    if len(items) > 1:
        warnings.append(f"{len(items)} radiopharmaceuticals are listed (0054,0016); the first was used.")
    item = _radiopharmaceutical(header)
    activity_mbq, source = _activity(item, warnings)
    half_life_s, half_life_source = _half_life(item, tracer, warnings)
    values = {
        "weight_kg": weight_kg,
        "weight_source": "Patient's Weight (0010,1030)",
        "height_cm": _height_cm(header, warnings),
        "height_source": "Patient's Size (0010,1020)",
        "sex": str(header.get("PatientSex", "") or "").strip().upper(),
        "sex_source": "Patient's Sex (0010,0040)",
        "injected_activity_mbq": activity_mbq,
        "injected_activity_source": source,
        "half_life_s": half_life_s,
        "half_life_source": half_life_source,
    }
    return values, warnings


def number(header: Dataset, keyword: str, zero_allowed: bool = False) -> float | None:
    """A finite number, None when absent, empty, negative or (unless allowed) zero.

    Raises
    ------
    InputError
        If the entry holds no number.
    """
    value = header.get(keyword)
    try:
        found = float(value) if value not in (None, "") else None
    except (TypeError, ValueError):
        raise InputError(f"{keyword} holds {value!r}, not a number.", "Correct the header.") from None
    if found is None or not np.isfinite(found) or (found <= 0 and not (zero_allowed and found == 0)):
        return None
    return found


def philips_factors(headers: Sequence[Dataset], tag: tuple[int, int], name: str) -> np.ndarray | None:
    """A Philips private factor of every slice, shape (slices,); None where no slice has one.

    Zero on all slices counts as absent: so the scanner writes a factor it could not compute (QIBA: "missing or empty
    or zero").

    Raises
    ------
    InputError
        If a factor is negative or no number, or only some slices have one.
    """
    label = f"Philips {name} ({tag[0]:04x},{tag[1]:04x})"
    values = np.array([_private_number(header, tag, label) for header in headers])
    if not values.any():
        return None
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            f"{label} is {values.min():g} on slice {int(values.argmin()) + 1} of {len(values)}: not above zero.",
            "Export the original reconstruction again, or reconstruct in Bq/ml.",
        )
    return values


def require_one_injection(headers: Sequence[Dataset], between: str = "slices") -> None:
    """Refuse slices (or frames) of several patients or injections joined in one series.

    Raises
    ------
    InputError
        If weight, dose, half-life or injection time differ, naming the tag and the values.
    """

    def of_item(keyword: str) -> Callable[[Dataset], Any]:
        return lambda header: _radiopharmaceutical(header).get(keyword)

    for label, read in (
        ("Patient's Weight (0010,1030)", lambda header: header.get("PatientWeight")),
        ("Radionuclide Total Dose (0018,1074)", of_item("RadionuclideTotalDose")),
        ("Radionuclide Half Life (0018,1075)", of_item("RadionuclideHalfLife")),
        ("Radiopharmaceutical Start Time (0018,1072)", of_item("RadiopharmaceuticalStartTime")),
        ("Radiopharmaceutical Start DateTime (0018,1078)", of_item("RadiopharmaceuticalStartDateTime")),
    ):
        found = {str(value) if (value := read(header)) is not None else "" for header in headers}
        if len(found) > 1 and len({_as_number(text) for text in found}) > 1:
            shown = sorted(text or "absent" for text in found)
            raise InputError(
                f"{label} differs between {between}: {', '.join(shown[:3])}{' ...' if len(shown) > 3 else ''}.",
                "Split the series, or export the original reconstruction again.",
            )


def _height_cm(header: Dataset, warnings: list[str]) -> float | None:
    """Body height in cm, None when absent or no number; a height of more than 3 m was written in centimetres."""
    try:
        height_m = number(header, "PatientSize")
    except InputError as error:  # most PET needs no height: only what needs it may refuse
        warnings.append(error.message)
        return None
    if height_m is None:
        return None
    if height_m * 100.0 <= _MAXIMUM_HEIGHT_CM:
        return height_m * 100.0
    warnings.append(f"Patient's Size (0010,1020) is {height_m:g}, taken as cm instead of m.")
    return height_m


def _as_number(text: str) -> float | str:
    """70 and 70.0 are one weight, 100000 and 100000.00 one time."""
    try:
        return float(text)
    except ValueError:
        return text


def _radiopharmaceutical(header: Dataset) -> Dataset:
    """The first radiopharmaceutical item; empty when there is none."""
    items = header.get("RadiopharmaceuticalInformationSequence") or []
    return items[0] if items else Dataset()


def _activity(item: Dataset, warnings: list[str]) -> tuple[float | None, str]:
    """Injected activity in MBq, by the unit it must have been written in, and its source."""
    source = "Radionuclide Total Dose (0018,1074)"
    activity_bq = number(item, "RadionuclideTotalDose")
    if not activity_bq:
        return None, source
    stated, read_as = activity_bq, "Bq"
    if activity_bq < _MBQ_LIMIT:
        warnings.append(f"{source} is {activity_bq:g}, taken as MBq instead of Bq.")
        activity_bq, source, read_as = activity_bq * 1e6, f"{source}, read as MBq", "MBq"
    activity_mbq = activity_bq / 1e6
    if not POSSIBLE_ACTIVITY_MBQ[0] <= activity_mbq <= POSSIBLE_ACTIVITY_MBQ[1]:
        raise InputError(
            f"Radionuclide Total Dose (0018,1074) is {stated:g}: as {read_as} it is {activity_mbq:g} MBq, which nobody "
            f"injects for PET (believed: {POSSIBLE_ACTIVITY_MBQ[0]:g} to {POSSIBLE_ACTIVITY_MBQ[1]:g} MBq).",
            "Enter it in Bq; it may have been written in kBq or GBq.",
        )
    if not _USUAL_ACTIVITY_MBQ[0] <= activity_mbq <= _USUAL_ACTIVITY_MBQ[1]:
        warnings.append(f"Injected activity is {activity_mbq:g} MBq: unusual.")
    return activity_mbq, source


def _half_life(item: Dataset, tracer: str, warnings: list[str]) -> tuple[float | None, str]:
    """Half-life in s and its source: the tag, checked against the nuclide, or that of a known nuclide."""
    tag = "Radionuclide Half Life (0018,1075)"
    half_life_s = number(item, "RadionuclideHalfLife")
    codes = {str(code.get("CodeValue", "")) for code in item.get("RadionuclideCodeSequence") or []}
    if not (codes & _FLUORINE18_CODES or (not codes and tracer in FLUORINE18_TRACERS)):
        return half_life_s, tag
    if not half_life_s:
        warnings.append(f"{tag} is missing: that of fluorine-18 was taken, {FLUORINE18_HALF_LIFE_S:g} s.")
        return FLUORINE18_HALF_LIFE_S, "half-life of fluorine-18"
    if abs(half_life_s / FLUORINE18_HALF_LIFE_S - 1) > 0.05:
        raise InputError(
            f"{tag} is {half_life_s:g} s, but the radionuclide is fluorine-18 ({FLUORINE18_HALF_LIFE_S:g} s).",
            "Correct the half-life (in seconds) or the Radionuclide Code Sequence (0054,0300).",
        )
    return half_life_s, tag


def _private_number(header: Dataset, tag: tuple[int, int], label: str) -> float:
    """A Philips private number, 0 when absent or empty; undecoded when its creator entry was lost."""
    try:
        value = header.private_block(tag[0], _PRIVATE_CREATOR)[tag[1] & 0xFF].value
    except KeyError:
        value = header[tag].value if tag in header else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore").strip(" \0")
    try:
        return float(value) if value not in (None, "") else 0.0
    except (TypeError, ValueError):
        raise InputError(f"{label} holds {value!r}, not a number.", "Export the original reconstruction.") from None
