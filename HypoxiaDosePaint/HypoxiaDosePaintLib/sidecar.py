"""The result as data files: ``result.json`` (everything but the voxels) and ``targets.csv``."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from HypoxiaMapperLib.errors import OutputError

from .limits import distribution_override
from .result import Result, TargetRow
from .wording import RESEARCH_USE, map_mark

FORMAT = "hypoxia-result-1"


def result_to_json(result: Result) -> str:
    """Everything a result knows but its images, as indented JSON; undefined numbers become null.

    Derived figures that a reader would otherwise recompute stand under ``prescription`` (EQD2, BED, residual deficit).
    """
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name != "images"}
    data = {"format": FORMAT, "use": RESEARCH_USE, **_plain(fields)}
    prescription = result.prescription
    for label, level in (("base", prescription.base), ("boost", prescription.boost)):
        data["prescription"][label] |= {
            "dose_per_fraction_gy": level.dose_per_fraction_gy,
            "eqd2_tumour_gy": level.eqd2_tumour_gy,
            "eqd2_late_gy": level.eqd2_late_gy,
            "bed_tumour_gy": level.bed_tumour_gy,
        }
    data["model"] = model_data(result)
    data["prescription"]["offset_pressure_mmhg"] = _plain(prescription.offset_pressure_mmhg)
    data["prescription"]["residual_deficit_gy"] = {f"{p:g}_mmhg": d for p, d in prescription.deficits_gy().items()}
    return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"


def model_data(result: Result) -> dict[str, Any] | None:
    """The trained model behind the map and who overrode its distribution check, as plain data; None without a model."""
    model = result.images.map.model
    if model is None:
        return None
    facts = {"in_distribution": model.in_distribution, "checks_failed": list(model.failed_checks)}
    return {**_plain(model), **facts, "distribution_override": distribution_override(result.images.map, result.request)}


def write_targets_csv(result: Result, path: Path) -> None:
    """Write the target table, one line per structure, field names carrying units.

    The last column holds what must stand wherever the map stands (``wording.map_mark``).

    Raises
    ------
    OutputError
        If the file exists already or cannot be written.
    """
    names = [f.name for f in dataclasses.fields(TargetRow)]
    try:
        with path.open("x", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([*names, "map_label"])
            for row in result.targets:
                writer.writerow([*(_cell(getattr(row, name)) for name in names), map_mark(result.images.map)])
    except FileExistsError as error:
        raise OutputError(f"{path} exists already.", "Choose a new output folder.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Check space and rights.") from error


def _cell(value: Any) -> Any:
    """A CSV cell: empty for none, text that a spreadsheet will not run as a formula."""
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return round(value, 6) if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """JSON types only; NaN and infinity become null, unknown objects their text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
