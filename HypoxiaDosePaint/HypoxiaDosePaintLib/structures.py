"""Structure: a region as it is shown, prescribed and exported. The unit every writer and picture works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.names import MAX_NAME_LENGTH, hypoxic_ending, unique_names
from HypoxiaMapperLib.volume import Region

from .prescription import DoseLevel


@dataclass(frozen=True)
class Code:
    """A DICOM code triple."""

    value: str
    scheme: str
    meaning: str


GTV_CODE = Code("228791009", "SCT", "Gross tumor volume")
PTV_CODE = Code("228793007", "SCT", "Planning target volume")
HYPOXIC_CODE = Code("HYPOXIC_VOLUME", "99HYPOX", "Hypoxic subvolume of gross tumor volume")
SURROGATE_CODE = Code("SURROGATE_VOLUME", "99HYPOX", "Surrogate subvolume, not measured hypoxia")
REFERENCE_CODE = Code("REFERENCE_REGION", "99HYPOX", "Reference region of tracer uptake ratio")


@dataclass(frozen=True)
class Structure:
    """A region with everything its export needs.

    Parameters
    ----------
    region : Region
        Mask on the planning-CT grid; its name is the ROI name (TG-263, at most 16 characters).
    interpreted_type : str
        RT ROI Interpreted Type: GTV, CTV, PTV, CONTROL, ORGAN.
    code : Code
        Anatomy/category code written with the observation.
    colour : tuple of int
        Red, green, blue 0-255.
    description : str
        How it was made, for a reader of the RTSTRUCT.
    generation_algorithm : str
        AUTOMATIC, SEMIAUTOMATIC or MANUAL.
    dose : DoseLevel or None
        Prescribed level; None for structures without a dose.
    enclosed_by : str
        Name of the structure that encloses this one, empty for none.
    """

    region: Region
    interpreted_type: str
    code: Code
    colour: tuple[int, int, int]
    description: str
    generation_algorithm: str = "SEMIAUTOMATIC"
    dose: DoseLevel | None = None
    enclosed_by: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME_LENGTH:
            raise RequestError(
                f"Structure name {self.name!r} has {len(self.name)} characters.",
                f"Planning systems take 1 to {MAX_NAME_LENGTH} (TG-263).",
            )

    @property
    def name(self) -> str:
        """ROI name."""
        return self.region.name


def tumour_names(gtv_names: Sequence[str], surrogate: bool = False) -> list[tuple[str, str]]:
    """Structure names of GTVs and of their hypoxic parts, in the order given, all different, at most 16 characters.

    ``GTVp`` gives ``GTVp`` and ``GTVp_Hyp``, of a surrogate map ``GTVp_Sur``: a surrogate's name must not read as
    measured hypoxia in the planning system (METHODS 12.1). ``GTV_node_left_1`` and ``GTV_node_left_2``, which are too
    long for the suffix, keep their numbers: ``GTV_node_l_1_Hyp``, ``GTV_node_l_2_Hyp``.

    Raises
    ------
    RequestError
        If two GTVs have the same name.
    """
    twice = sorted({name for name in gtv_names if list(gtv_names).count(name) > 1})
    if twice:
        raise RequestError(f"Several GTVs are called {', '.join(twice)}.", "Name each ROI once, and differently.")
    whole = unique_names(gtv_names)
    return list(zip(whole, unique_names(gtv_names, hypoxic_ending(surrogate), whole), strict=True))


def ptv_name(dose_gy: float) -> str:
    """TG-263 name of a planning target with its dose in cGy: 77 Gy gives ``PTV_7700``."""
    return f"PTV_{round(dose_gy * 100):04d}"
