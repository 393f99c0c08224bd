"""Structure: a region as it is shown, prescribed and exported. The unit every writer and picture works on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.volume import Region

from .prescription import DoseLevel

MAX_NAME_LENGTH = 16  # TG-263, 10.1016/j.ijrobp.2017.12.013


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


def hypoxic_name(gtv_name: str, surrogate: bool = False) -> str:
    """Name of the hypoxic part of a GTV: ``GTVp`` gives ``GTVp_Hyp``, of a surrogate map ``GTVp_Sur``; 16 characters.

    A surrogate's name must not read as measured hypoxia in the planning system (METHODS 12.1).
    """
    return f"{safe_name(gtv_name)[: MAX_NAME_LENGTH - 4]}_{'Sur' if surrogate else 'Hyp'}"


def ptv_name(dose_gy: float) -> str:
    """TG-263 name of a planning target with its dose in cGy: 77 Gy gives ``PTV_7700``."""
    return f"PTV_{round(dose_gy * 100):04d}"


def safe_name(name: str) -> str:
    """ROI name in letters, digits, ``_ ^ + ~ -`` only (TG-263), at most 16 characters."""
    return re.sub(r"[^A-Za-z0-9_^+~-]", "_", name.strip())[:MAX_NAME_LENGTH] or "ROI"
