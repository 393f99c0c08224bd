"""Oxygen on microvascular patches: analytic solutions, the shipped table, and what follows from it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.simulate import oxygen


@pytest.mark.parametrize(("po2", "expected"), [(0.0, 1.0), (1.4, 0.5), (10.0, 0.1228), (40.0, 0.0338)])
def test_binding(po2, expected):
    """VALIDATION row 9."""
    assert oxygen.binding(np.array(po2)) == pytest.approx(expected, abs=1e-4)


def slab(michaelis: float, pixel_um: float = 0.5, length: int = 500) -> np.ndarray:
    """A wall held at 40 mmHg on the left of tissue that consumes 15 mmHg/s."""
    supply = np.zeros((1, length))
    supply[0, 0] = 1e6
    return oxygen.solve_po2(supply, 40.0, 15.0, michaelis, pixel_um)[0]


def test_oxygen_reaches_as_deep_into_a_slab_as_zero_order_consumption_says():
    """VALIDATION row 24: depth sqrt(2 D p0 / M0) = 103.28 um."""
    pixel_um, michaelis = 0.5, 1e-3
    po2 = slab(michaelis, pixel_um)
    consuming_um = np.sum(po2[1:] / (po2[1:] + michaelis)) * pixel_um
    assert consuming_um == pytest.approx(103.28, rel=0.02)
    at_um = np.array([25.0, 50.0, 75.0])
    expected = 15.0 / (2.0 * oxygen.DIFFUSION_UM2_PER_S) * (103.28 - at_um) ** 2
    assert po2[(at_um / pixel_um).astype(int)] == pytest.approx(expected, rel=0.02)


def test_the_slab_is_the_same_along_both_axes():
    supply = np.zeros((30, 30))
    supply[:, 0] = 1e6
    across = oxygen.solve_po2(supply, 40.0, 15.0)
    down = oxygen.solve_po2(supply.T, 40.0, 15.0)
    assert np.allclose(across, down.T, atol=1e-6)
    assert np.ptp(across, axis=0).max() < 1e-6


def test_the_solution_balances_supply_and_consumption():
    rng = np.random.default_rng(1)
    supply = oxygen.EXCHANGE_PER_S * oxygen.vessel_patch(0.03, rng)
    po2 = oxygen.solve_po2(supply, 40.0, 15.0)
    supplied = np.sum(supply * (40.0 - po2))
    consumed = np.sum(15.0 * po2 / (po2 + oxygen.MICHAELIS_MMHG))
    assert supplied == pytest.approx(consumed, rel=1e-6)
    assert po2.min() >= 0.0
    assert po2.max() < 40.0


@pytest.mark.parametrize("fraction", [0.005, 0.02, 0.1])
def test_patches_have_the_vascular_fraction_they_were_asked_for(fraction):
    found = [oxygen.vessel_patch(fraction, np.random.default_rng(seed)).mean() for seed in range(5)]
    assert np.mean(found) == pytest.approx(fraction, abs=0.001)


@pytest.mark.parametrize("row", [(0.0, 15.0, 40.0), (0.02, 15.0, 40.0), (0.075, 22.0, 20.0)])
def test_the_shipped_table_is_what_the_solver_gives(row):
    table = json.loads(oxygen.TABLE_FILE.read_text(encoding="utf-8"))
    assert table["columns"] == list(oxygen.COLUMNS)
    axes = [table[name] for name in ("vascular_fraction", "consumption_mmhg_per_s", "vessel_po2_mmhg")]
    i, j, k = (axis.index(value) for axis, value in zip(axes, row, strict=True))
    made = oxygen.make_table([row[0]], [row[1]], [row[2]])
    assert made["values"][0][0][0] == pytest.approx(table["values"][i][j][k], abs=1e-4)
    same = ("diffusion_um2_per_s", "michaelis_mmhg", "exchange_per_s", "patch")
    assert [made[name] for name in same] == [table[name] for name in same]


def test_more_vessels_more_oxygen_and_more_consumption_less():
    table = np.array(json.loads(oxygen.TABLE_FILE.read_text(encoding="utf-8"))["values"])
    po2, hp10, hre = table[..., 0], table[..., 3], table[..., 5]
    assert np.all(np.diff(po2, axis=0) > 0)
    assert np.all(np.diff(po2, axis=2)[1:] > 0)
    assert np.all(np.diff(po2, axis=1)[1:] < 0)
    assert np.all(np.diff(hp10, axis=0) <= 0)
    assert np.all(np.diff(hre, axis=0) < 0)
    assert np.all((table[..., 1] <= table[..., 2]) & (table[..., 2] <= hp10))


def test_binding_is_highest_between_dead_and_well_supplied_tissue():
    fractions = np.array([0.0, 0.01, 0.14])
    dead, hypoxic, supplied = oxygen.look_up(fractions, np.full(3, 15.0), 40.0).binding
    assert dead == 0.0
    assert hypoxic > 2.0 * supplied > 0.0


def test_look_up_meets_the_table_and_stays_at_its_edge():
    found = oxygen.look_up(np.array([0.02, 0.5]), np.array([15.0, 15.0]), 40.0)
    assert found.mean_po2_mmhg[0] == pytest.approx(oxygen.table_row(0.02, 15.0, 40.0)[0], abs=1e-4)
    edge = oxygen.look_up(np.array([0.14]), np.array([15.0]), 40.0)
    assert found.mean_po2_mmhg[1] == edge.mean_po2_mmhg[0]


@pytest.mark.parametrize(
    ("supply", "constants"),
    [(np.zeros((4, 4)), (40.0, 15.0)), (-np.ones((4, 4)), (40.0, 15.0)), (np.ones((4, 4)), (40.0, 0.0))],
)
def test_senseless_oxygen_is_refused(supply, constants):
    with pytest.raises(RequestError, match="must be positive"):
        oxygen.solve_po2(supply, *constants)
