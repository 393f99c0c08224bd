"""Oxygen between microvessels: steady diffusion and consumption on small patches, tabulated once for the simulator.

The equation holds at the scale of micrometres and is solved there only. A voxel of millimetres holds a distribution of
pO2, so the simulator looks up means over patches, by vascular fraction, consumption and vessel pO2.

Constants: METHODS section 10, marked [O] there (common knowledge, not confirmed); they make simulated tumours and are
no clinical default.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse.linalg import splu

from ..errors import RequestError

DIFFUSION_UM2_PER_S = 2000.0
"""D = 2e-9 m2/s (METHODS 10)."""
MICHAELIS_MMHG = 1.75
"""K, the middle of 1-2.5 mmHg (METHODS 10)."""
EXCHANGE_PER_S = 60.0
"""P, exchange through the vessel wall: high enough that a vessel at 4 % vascular fraction loses some 6 mmHg [O]."""
PIXEL_UM = 5.0
PATCH_PIXELS = 96
"""Patches of 480 um: several vessels even at the lowest fraction (distances of 50-300 um, METHODS 10)."""
VESSEL_RADIUS_UM = (4.0, 10.0)
"""Capillaries and dilated tumour vessels [O]."""
PATCHES_PER_ROW = 6

BINDING_P1_MMHG = 1.4
NECROSIS_MMHG = 1.2
"""Half-maximal binding and half-maximal loss of living cells (METHODS 10; Warren and Partridge 2016, METHODS 3)."""
HRE_HALF_MMHG = 10.0
HRE_HILL = 2.0
"""Hypoxia response: half at about 1.4 % oxygen, rising within one decade [O]."""
ANOXIC_MMHG = 0.5

VASCULAR_FRACTIONS = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.055, 0.075, 0.10, 0.14)
CONSUMPTIONS_MMHG_PER_S = (4.0, 9.0, 15.0, 22.0, 32.0)
VESSEL_PO2_MMHG = (20.0, 40.0, 80.0)
"""METHODS 10: M0 about 15 mmHg/s, pv 40 (20-80), vascular fraction 1-10 %; the table reaches a little further."""
COLUMNS = ("mean_po2_mmhg", "hp2_5", "hp5", "hp10", "binding", "hre", "anoxic")
TABLE_FILE = Path(__file__).with_name("oxygen_table.json")
_TOLERANCE_MMHG = 1e-6
_MOST_STEPS = 200


def binding(po2_mmhg: np.ndarray) -> np.ndarray:
    """Relative rate at which a nitroimidazole binds, p1/(p1 + p): 1 without oxygen, 1/2 at 1.4 mmHg."""
    return BINDING_P1_MMHG / (BINDING_P1_MMHG + np.asarray(po2_mmhg, dtype=float))


def living(po2_mmhg: np.ndarray) -> np.ndarray:
    """Share of cells that live, p/(p + p_nec)."""
    po2 = np.asarray(po2_mmhg, dtype=float)
    return po2 / (po2 + NECROSIS_MMHG)


def hypoxia_response(po2_mmhg: np.ndarray) -> np.ndarray:
    """HRE(p): activity of hypoxia-inducible transcription, 1 without oxygen, a Hill curve."""
    po2 = np.asarray(po2_mmhg, dtype=float)
    return 1.0 / (1.0 + (po2 / HRE_HALF_MMHG) ** HRE_HILL)


def solve_po2(
    supply_per_s: np.ndarray,
    vessel_po2_mmhg: float,
    consumption_mmhg_per_s: float,
    michaelis_mmhg: float = MICHAELIS_MMHG,
    pixel_um: float = PIXEL_UM,
) -> np.ndarray:
    """Steady state of D lap p - M0 p/(p + K) + P S (pv - p) = 0 with no flux through the edges.

    Newton's method from p = 0. Diffusion and supply form an M-matrix and consumption is concave, so every step stays
    below the solution and above the step before: it converges from there without damping.

    Parameters
    ----------
    supply_per_s : numpy.ndarray
        P S, shape (rows, columns): the exchange rate in vessels, 0 elsewhere. One row makes the problem 1-D.

    Returns
    -------
    numpy.ndarray
        pO2 in mmHg, shape of ``supply_per_s``.

    Raises
    ------
    RequestError
        If a constant is not positive, or supply is negative or nowhere.
    """
    supply = np.asarray(supply_per_s, dtype=float)
    constants = np.array([vessel_po2_mmhg, consumption_mmhg_per_s, michaelis_mmhg, pixel_um])
    if not np.all(constants > 0) or supply.min() < 0 or not np.any(supply > 0):
        raise RequestError(
            f"Oxygen: pv, M0, K, pixel {constants.tolist()}, supply from {supply.min():g} to {supply.max():g}.",
            "All constants must be positive, supply at least somewhere.",
        )
    linear = _diffusion(supply.shape[0], supply.shape[1], pixel_um) + sparse.diags(supply.ravel())
    source = supply.ravel() * vessel_po2_mmhg
    po2 = np.zeros(supply.size)
    for _ in range(_MOST_STEPS):
        consumed = consumption_mmhg_per_s * po2 / (po2 + michaelis_mmhg)
        slope = consumption_mmhg_per_s * michaelis_mmhg / (po2 + michaelis_mmhg) ** 2
        step = splu((linear + sparse.diags(slope)).tocsc()).solve(source - linear @ po2 - consumed)
        po2 = np.maximum(po2 + step, 0.0)
        if np.max(np.abs(step)) < _TOLERANCE_MMHG:
            return po2.reshape(supply.shape)
    raise RequestError(
        f"Oxygen did not settle in {_MOST_STEPS} steps (K {michaelis_mmhg:g} mmHg).", "Take a larger K or finer pixels."
    )


def _diffusion(rows: int, columns: int, pixel_um: float) -> Any:
    """Minus D times the five-point Laplacian with no flux through the edges, sparse (pixels, pixels)."""
    along = [sparse.diags([np.ones(n - 1), -np.ones(n - 1)], [1, 0], shape=(n - 1, n)) for n in (rows, columns)]
    down, across = (difference.T @ difference for difference in along)
    both = sparse.kron(down, sparse.identity(columns)) + sparse.kron(sparse.identity(rows), across)
    return (both * (DIFFUSION_UM2_PER_S / pixel_um**2)).tocsc()


def vessel_patch(vascular_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Random vessel discs that cover a fraction of a patch, boolean (pixels, pixels)."""
    vessels = np.zeros((PATCH_PIXELS, PATCH_PIXELS), dtype=bool)
    wanted = vascular_fraction * vessels.size
    rows, columns = np.indices(vessels.shape)
    while True:
        row, column = rng.uniform(-0.5, PATCH_PIXELS - 0.5, 2)
        radius = rng.uniform(*VESSEL_RADIUS_UM) / PIXEL_UM
        disc = np.hypot(rows - row, columns - column) <= radius
        grown = vessels | disc
        over = np.count_nonzero(grown) - wanted
        if over >= 0:
            return grown if over < wanted - np.count_nonzero(vessels) or not vessels.any() else vessels
        vessels = grown


def table_row(vascular_fraction: float, consumption_mmhg_per_s: float, vessel_po2_mmhg: float) -> list[float]:
    """Means over ``PATCHES_PER_ROW`` patches, in the order of ``COLUMNS``; without vessels there is no oxygen."""
    if vascular_fraction == 0:
        return _moments(np.zeros(1))
    found = []
    for number in range(PATCHES_PER_ROW):
        rng = np.random.default_rng(number)  # the same vessels first, so that more vessels never mean less oxygen
        supply = EXCHANGE_PER_S * vessel_patch(vascular_fraction, rng)
        found.append(solve_po2(supply, vessel_po2_mmhg, consumption_mmhg_per_s).ravel())
    return _moments(np.concatenate(found))


def _moments(po2: np.ndarray) -> list[float]:
    """One row of the table from pO2 values."""
    fractions = [float(np.mean(po2 < limit)) for limit in (2.5, 5.0, 10.0)]
    bound = float(np.mean(binding(po2) * living(po2)))
    values = [
        float(po2.mean()),
        *fractions,
        bound,
        float(hypoxia_response(po2).mean()),
        float(np.mean(po2 < ANOXIC_MMHG)),
    ]
    return [round(value, 6) for value in values]


def make_table(
    fractions: Sequence[float] = VASCULAR_FRACTIONS,
    consumptions_mmhg_per_s: Sequence[float] = CONSUMPTIONS_MMHG_PER_S,
    vessel_po2_mmhg: Sequence[float] = VESSEL_PO2_MMHG,
) -> dict[str, Any]:
    """Solve every combination: what ``oxygen_table.json`` holds, some minutes on one core."""
    rows = [
        [[table_row(f, m, p) for p in vessel_po2_mmhg] for m in consumptions_mmhg_per_s] for f in fractions
    ]  # fmt: skip
    return {
        "vascular_fraction": list(fractions),
        "consumption_mmhg_per_s": list(consumptions_mmhg_per_s),
        "vessel_po2_mmhg": list(vessel_po2_mmhg),
        "columns": list(COLUMNS),
        "diffusion_um2_per_s": DIFFUSION_UM2_PER_S,
        "michaelis_mmhg": MICHAELIS_MMHG,
        "exchange_per_s": EXCHANGE_PER_S,
        "patch": f"{PATCHES_PER_ROW} patches of {PATCH_PIXELS} x {PATCH_PIXELS} pixels of {PIXEL_UM:g} um",
        "values": rows,
    }


def write_table(path: Path = TABLE_FILE) -> None:
    """Make the table and write it as JSON, one vascular fraction a line."""
    table = make_table()
    values = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in table.pop("values"))
    head = json.dumps(table, indent=1)[:-2]
    path.write_text(f'{head},\n "values": [\n  {values}\n ]\n}}\n', encoding="utf-8")


@dataclass(frozen=True)
class Oxygenation:
    """What a voxel's microvessels make of it; arrays of one shape.

    ``hp2_5``, ``hp5`` and ``hp10`` are the shares of tissue below 2.5, 5 and 10 mmHg, ``binding`` the mean of binding
    times living share, ``hre`` the mean hypoxia response, ``anoxic`` the share below 0.5 mmHg.
    """

    mean_po2_mmhg: np.ndarray
    hp2_5: np.ndarray
    hp5: np.ndarray
    hp10: np.ndarray
    binding: np.ndarray
    hre: np.ndarray
    anoxic: np.ndarray


def look_up(vascular_fraction: np.ndarray, consumption_mmhg_per_s: np.ndarray, vessel_po2_mmhg: float) -> Oxygenation:
    """Interpolate the table linearly; values outside it are taken at its edge."""
    axes, interpolator = _interpolator()
    point = np.broadcast_arrays(vascular_fraction, consumption_mmhg_per_s, vessel_po2_mmhg)
    inside = [np.clip(value, axis[0], axis[-1]) for value, axis in zip(point, axes, strict=True)]
    found = interpolator(np.stack(inside, axis=-1))
    return Oxygenation(*np.moveaxis(found, -1, 0))


@lru_cache(maxsize=1)
def _interpolator() -> tuple[list[np.ndarray], RegularGridInterpolator]:
    """The shipped table."""
    table = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    axes = [np.array(table[name]) for name in ("vascular_fraction", "consumption_mmhg_per_s", "vessel_po2_mmhg")]
    return axes, RegularGridInterpolator(axes, np.array(table["values"]))
