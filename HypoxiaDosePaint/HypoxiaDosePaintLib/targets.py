"""From hypoxic subvolume and prescription to the structures that are shown and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.names import unique_names
from HypoxiaMapperLib.volume import Region, Volume, voxel_volume_ml

from .margins import (
    achieved_margins,
    crop_to_organs,
    describe_margins,
    describe_sides,
    expand_in_image,
    rounded_margins,
)
from .prescription import DoseLevel, Prescription
from .request import Margins
from .result import TargetRow
from .selection import union
from .structures import (
    GTV_CODE,
    HYPOXIC_CODE,
    PTV_CODE,
    REFERENCE_CODE,
    SURROGATE_CODE,
    Structure,
    ptv_name,
    tumour_names,
)
from .subvolume import Subvolume
from .wording import volume_word

AIR_HU = -300.0
"""CT numbers below it count as air or lung in the report; a reporting choice of this software."""

_GTV_COLOURS = ((255, 255, 0), (255, 170, 0), (200, 220, 120))
_COLOURS = {  # told apart without red or green sight, too (tested)
    "hypoxic": (255, 0, 195), "boost": (255, 64, 64), "base": (64, 160, 255),
    "reference": (0, 220, 120),
}  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Structures, their table, and what was cut off or must be said."""

    structures: tuple[Structure, ...]
    rows: tuple[TargetRow, ...]
    warnings: tuple[str, ...]
    details: Mapping[str, object] = field(default_factory=dict)


def build_targets(
    gtvs: Sequence[Region],
    subvolume: Subvolume,
    reference: Region | None,
    organs: Sequence[Region],
    organ_gap_mm: float,
    prescription: Prescription,
    base_margins: Margins,
    boost_margins: Margins,
    planning: Volume,
    surrogate: bool,
) -> Targets:
    """GTVs, hypoxic subvolumes, reference region and both planning targets, on the planning grid.

    Raises
    ------
    LimitError
        If nothing of a target is left after cropping.
    RequestError
        If two structures would get the same name.
    """
    structures = _tumour_structures(gtvs, subvolume, surrogate)
    if reference is not None:
        structures.append(_reference_structure(reference, [s.name for s in structures]))
    hypoxic = subvolume.region.with_array(subvolume.region.array, subvolume.region.source, volume_word(surrogate))
    base = _planning_target("base", union(gtvs, "GTV"), base_margins, prescription.base, organs, organ_gap_mm)
    boost = _planning_target("boost", hypoxic, boost_margins, prescription.boost, organs, organ_gap_mm)
    warnings = _target_warnings(base, boost, organs, planning)
    structures += [base.structure, boost.structure]
    _require_unique_names(structures)
    cropped = {t.structure.name: t for t in (base, boost)}
    rows = tuple(_row(s, cropped[s.name].cropped_ml if s.name in cropped else 0.0) for s in structures)
    details = {f"cropped_from_{name}_ml": dict(t.cropped_ml_by_organ) for name, t in cropped.items()}
    return Targets(tuple(structures), rows, tuple(warnings), details)


def _tumour_structures(gtvs: Sequence[Region], subvolume: Subvolume, surrogate: bool) -> list[Structure]:
    """Each GTV as read, and the hypoxic part of each that has one."""
    structures = []
    code = SURROGATE_CODE if surrogate else HYPOXIC_CODE
    names = tumour_names([gtv.name for gtv in gtvs], surrogate)
    for gtv, hypoxic, (name, part_name), colour in zip(
        gtvs, subvolume.per_gtv, names, cycle(_GTV_COLOURS), strict=False
    ):
        named = gtv.with_array(gtv.array, gtv.source, name)
        structures.append(
            Structure(named, "GTV", GTV_CODE, colour, f"{gtv.name} as given, read on the planning CT grid")
        )
        if hypoxic.array.any():
            part = hypoxic.with_array(hypoxic.array, hypoxic.source, part_name)
            generation = "SEMIAUTOMATIC" if subvolume.drawn else "AUTOMATIC"
            text = f"{'surrogate (not measured hypoxia)' if surrogate else 'hypoxic'} part of {gtv.name}, no margin"
            structures.append(
                Structure(part, "GTV", code, _COLOURS["hypoxic"], text, generation, enclosed_by=named.name)
            )
    return structures


def _reference_structure(reference: Region, taken: Sequence[str]) -> Structure:
    """The reference region, exported so that a reviewer can check where the ratio comes from."""
    named = reference.with_array(reference.array, reference.source, unique_names([reference.name], taken=taken)[0])
    return Structure(named, "CONTROL", REFERENCE_CODE, _COLOURS["reference"], "reference region of the ratio")


@dataclass(frozen=True)
class _PlanningTarget:
    """A planning target, what it was grown from, and what was cut off it."""

    structure: Structure
    source: Region
    rounded: str
    cropped_ml: float
    cropped_ml_by_organ: Mapping[str, float]
    outside_image_ml: float


def _planning_target(
    key: str, source: Region, margins: Margins, level: DoseLevel, organs: Sequence[Region], gap_mm: float
) -> _PlanningTarget:
    """Expanded and cropped target of one dose level."""
    grown = expand_in_image(source, margins, ptv_name(level.dose_gy))
    cropped = crop_to_organs(grown.region, organs, gap_mm)
    text = f"{source.name} + {describe_margins(margins)}, {level.dose_gy:g} Gy in {level.fractions}"
    if organs:
        text += f", kept {gap_mm:g} mm from {', '.join(o.name for o in organs)}"
    text += f"; margin achieved on this grid: {describe_sides(achieved_margins(source.mask, margins))}"
    structure = Structure(cropped.region, "PTV", PTV_CODE, _COLOURS[key], text, "SEMIAUTOMATIC", dose=level)
    lost_ml = grown.region.volume_ml - cropped.region.volume_ml
    return _PlanningTarget(
        structure, source, _note_on_rounding(structure.name, source, margins), lost_ml, cropped.cropped_ml_by_organ,
        grown.outside_image_ml,
    )  # fmt: skip


def _note_on_rounding(name: str, source: Region, margins: Margins) -> str:
    """Sides where the grid is too coarse for the margin, empty for none."""
    rounded = rounded_margins(source.mask, margins)
    if not rounded:
        return ""
    spacing = " x ".join(f"{s:.3g}" for s in source.mask.GetSpacing())
    return (
        f"{name}: the margin of {describe_margins(margins)} is rounded to whole voxels ({spacing} mm) and comes to "
        f"{describe_sides(rounded)}."
    )


def _uncovered_ml(target: _PlanningTarget) -> float:
    """What of its own source a target does not hold, after cropping."""
    missing = target.source.array & ~target.structure.region.array
    return float(np.count_nonzero(missing) * voxel_volume_ml(target.source.mask))


def _target_warnings(
    base: _PlanningTarget, boost: _PlanningTarget, organs: Sequence[Region], planning: Volume
) -> list[str]:
    """Tumour outside its target, rounded margins, targets leaving the image, boost outside base or in air, organs."""
    warnings = [
        f"{lost_ml:.2f} ml of the {t.source.name} lie outside {t.structure.name}: the crop to organs took them out, "
        "and they do not get its dose."
        for t in (base, boost)
        if (lost_ml := _uncovered_ml(t)) > 0
    ]
    warnings += [t.rounded for t in (base, boost) if t.rounded]
    warnings += [
        f"{t.outside_image_ml:.2f} ml of {t.structure.name} would lie outside the planning CT and are missing."
        for t in (base, boost)
        if t.outside_image_ml > 0
    ]
    voxel_ml, name = planning.voxel_volume_ml, boost.structure.name
    high = boost.structure.region.array
    outside_ml = float(np.count_nonzero(high & ~base.structure.region.array) * voxel_ml)
    if outside_ml > 0:
        warnings.append(f"{outside_ml:.2f} ml of {name} lie outside {base.structure.name}: check the margins.")
    air = planning.array < AIR_HU
    in_air = [
        f"{air_ml:.2f} ml of {t.structure.name}"
        for t in (base, boost)
        if (air_ml := float(np.count_nonzero(t.structure.region.array & air) * voxel_ml)) > 0
    ]
    if in_air:
        warnings.append(f"{' and '.join(in_air)} lie in air (below {AIR_HU:g} HU) and were not cut off.")
    for organ in organs:
        shared_ml = float(np.count_nonzero(high & organ.array) * voxel_ml)
        if shared_ml > 0:
            warnings.append(f"{shared_ml:.2f} ml of {name} overlap {organ.name}.")
    if not organs:
        warnings.append("No organs at risk were given: no target was cropped. Check the boost against cord, brainstem, "
                        "carotid and mandible.")  # fmt: skip
    return warnings


def _row(structure: Structure, cropped_ml: float) -> TargetRow:
    """Table line of a structure."""
    level = structure.dose
    return TargetRow(
        structure.name, structure.interpreted_type, structure.region.volume_ml,
        level.dose_gy if level else None, level.fractions if level else None,
        level.dose_per_fraction_gy if level else None, level.eqd2_tumour_gy if level else None,
        level.eqd2_late_gy if level else None, cropped_ml, structure.description,
    )  # fmt: skip


def _require_unique_names(structures: Sequence[Structure]) -> None:
    """Refuse two structures of one name."""
    names = [s.name for s in structures]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RequestError(
            f"Several structures would be called {', '.join(twice)}.", "Rename the ROIs: they are the names of targets."
        )
