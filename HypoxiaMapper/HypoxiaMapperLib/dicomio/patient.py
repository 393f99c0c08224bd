"""One folder, one patient: ID, name, birth date and sex of every file against each other.

An equal Patient ID proves nothing: anonymised sets often share "ANON" or "0".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from itertools import combinations

from ..errors import InputError
from .model import ScanResult, SeriesInfo

_SEX_KNOWN = ("M", "F")  # "O" (other) is also what exporters write for "not known": in doubt, it is only said


def require_one_patient(scan: ScanResult) -> None:
    """Refuse a folder that holds more than one patient.

    Compared are Patient ID, birth date, sex (M against F) and family name; of the last three only what both series
    state. Letter case, accents, umlauts written out, separators, and words that only one of two family names has
    (title, second name) make no difference.

    Raises
    ------
    InputError
        Listing the patients (by ID, or by name where the ID is empty), or naming two series that contradict each
        other although their ID is the same.
    """
    _require_one_id_per_series(scan)
    patients = sorted({s.patient_id or f"no ID, name {s.patient_name!r}" for s in scan.series})
    if len(patients) > 1:
        raise InputError(
            f"{scan.folder} holds {len(patients)} patients: {', '.join(patients)}.", "Give a folder with one patient."
        )
    for a, b in _different_identities(scan):
        for tag, value_a, value_b, other in (
            ("Patient's Birth Date (0010,0030)", a.patient_birth_date, b.patient_birth_date, _other_date(a, b)),
            ("Patient's Sex (0010,0040)", a.patient_sex, b.patient_sex, _other_sex(a, b)),
            ("Patient's Name (0010,0010)", a.patient_name, b.patient_name, _other_family(a, b)),
        ):
            if other:
                raise InputError(
                    f"{_label(a)} and {_label(b)} have the same Patient ID {a.patient_id!r} but different {tag}: "
                    f"{value_a!r} and {value_b!r}.",
                    "Give a folder with one patient; if it is one, correct the header that is wrong.",
                )


def patient_warnings(scan: ScanResult) -> tuple[str, ...]:
    """Differences of name or sex that do not prove two patients, one line for each pair of values."""
    notes = []
    for a, b in _different_identities(scan):
        if a.patient_name and b.patient_name and _words(a.patient_name) != _words(b.patient_name):
            notes.append(
                f"Patient's Name (0010,0010) differs: {a.patient_name!r} in {_label(a)}, {b.patient_name!r} in "
                f"{_label(b)}; check that this is one patient."
            )
        sexes = (a.patient_sex.upper(), b.patient_sex.upper())
        if all(sexes) and sexes[0] != sexes[1]:
            notes.append(
                f"Patient's Sex (0010,0040) differs: {a.patient_sex} in {_label(a)}, {b.patient_sex} in {_label(b)}; "
                "check that this is one patient."
            )
    return tuple(dict.fromkeys(notes))


def _different_identities(scan: ScanResult) -> list[tuple[SeriesInfo, SeriesInfo]]:
    """Pairs of series, one for each pair of different sets of name, birth date and sex."""
    first: dict[tuple[str, str, str], SeriesInfo] = {}
    for series in scan.series:
        for one in (series, *_as_series(series)):
            first.setdefault((one.patient_name, one.patient_birth_date, one.patient_sex), one)
    return list(combinations(first.values(), 2))


def _require_one_id_per_series(scan: ScanResult) -> None:
    """Refuse a series whose files carry several Patient IDs."""
    for series in scan.series:
        for other in _as_series(series):
            if other.patient_id != series.patient_id:
                raise InputError(
                    f"{_label(series)} mixes patients: Patient ID (0010,0020) is {series.patient_id!r} there and "
                    f"{other.patient_id!r} in {other.files[0].name}.",
                    "Give a folder with one patient; if it is one, correct the header that is wrong.",
                )


def _as_series(series: SeriesInfo) -> list[SeriesInfo]:
    """The files of a series that state another patient, each as a series of its own."""
    return [
        replace(series, patient_id=o.patient_id, patient_name=o.patient_name, patient_sex=o.patient_sex,
                patient_birth_date=o.patient_birth_date, files=(o.file,))
        for o in series.other_patients
    ]  # fmt: skip


def _label(series: SeriesInfo) -> str:
    """A series as the user may find it: what it is, its description and its first file."""
    description = f" {series.description!r}" if series.description else ""
    return f"{series.modality or series.role}{description} ({series.files[0].name})"


def _other_date(a: SeriesInfo, b: SeriesInfo) -> bool:
    """Both state a birth date and they differ; 1950.01.02 is the form of DICOM before 1993."""
    dates = [re.sub(r"\D", "", s.patient_birth_date) for s in (a, b)]
    return all(dates) and dates[0] != dates[1]


def _other_sex(a: SeriesInfo, b: SeriesInfo) -> bool:
    """One is a man and the other a woman."""
    sexes = (a.patient_sex.upper(), b.patient_sex.upper())
    return sexes[0] != sexes[1] and all(sex in _SEX_KNOWN for sex in sexes)


def _other_family(a: SeriesInfo, b: SeriesInfo) -> bool:
    """Both have a name and neither family name holds all words of the other."""
    families = [{_without_umlaut(w) for w in _words(_family(s.patient_name))} for s in (a, b)]
    return all(families) and not (families[0] <= families[1] or families[1] <= families[0])


def _family(name: str) -> str:
    """The family name: before the first ``^`` or comma; the whole name where neither is there."""
    return re.split(r"[\^,]", name, maxsplit=1)[0]


def _words(name: str) -> frozenset[str]:
    """Words of family name and first given name without case, accents, separators, middle name, prefix and suffix."""
    parts = name.split("=")[0].split("^")
    given = parts[1].split()[:1] if len(parts) > 1 else []
    plain = unicodedata.normalize("NFKD", " ".join([parts[0], *given])).casefold()
    return frozenset(re.findall(r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c))))


def _without_umlaut(word: str) -> str:
    """Mueller as muller, so that it equals Müller without its dots."""
    return re.sub(r"(?<=[aou])e", "", word)
