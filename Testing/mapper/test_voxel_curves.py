"""The curve of one voxel: measured as in the series, fitted with the map's own parameters at that voxel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from HypoxiaMapperLib.errors import GeometryError, InputError
from HypoxiaMapperLib.kinetics.perfusion import ExtendedTofts
from HypoxiaMapperLib.kinetics.populations import parker_input
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.kinetics.tissue import TwoTissueIrreversible, TwoTissueReversible
from HypoxiaMapperLib.methods import HypoxiaMap, all_methods, get_method
from HypoxiaMapperLib.methods._voxelwise import VOXEL
from kinetic_samples import (
    SHAPE,
    parameter_series,
    pet_frames,
    pet_input,
    region,
    regions,
    time_series,
    truth_grid,
    write_input_csv,
)

pytest.importorskip("torch")
VOXEL_ZYX = (2, 3, 7)
FRAMES = Frames.instants(np.arange(0, 300, 5.0), "s")
B = np.array([0, 20, 50, 100, 200, 400, 600, 800.0])
ECHOES_MS = np.array([4.0, 9.0, 14.0, 25.0, 40.0])
TRUTH = truth_grid(
    Ktrans=(0.05, 0.4), ve=(0.15, 0.5), vp=(0.03, 0.1), K1=(0.05, 0.3), k2=(0.1, 0.4), k3=(0.005, 0.05),
    k4=(0.005, 0.03), vB=(0.02, 0.1), f=(0.05, 0.3), D=(5e-4, 2e-3), Dstar=(0.01, 0.06), R2star=(10.0, 60.0),
)  # fmt: skip


def noisy(curves: np.ndarray) -> np.ndarray:
    """With 1 % of each peak as noise, so that no two voxels and no two models agree by chance."""
    return curves + 0.01 * curves.max(axis=0) * np.random.default_rng(8).standard_normal(curves.shape)


def dynamic_pet() -> dict[str, Any]:
    """A reversible tracer."""
    model = TwoTissueReversible(pet_input(), pet_frames())
    curves = model.curves(np.stack([TRUTH[n] for n in ("K1", "k2", "k3", "k4", "vB")]))
    return {"pet": time_series(noisy(curves), pet_frames())}


def dce() -> dict[str, Any]:
    """Concentration of extended Tofts with Parker's input arriving between two frames."""
    model = ExtendedTofts(parker_input(FRAMES.end_min[-1], 32.0 / 60), FRAMES)
    curves = model.curves(np.stack([TRUTH[n] for n in ("Ktrans", "ve", "vp")]))
    return {"dce": time_series(noisy(curves), FRAMES, quantity="Gd", unit="mmol/L", facts={})}


def diffusion() -> dict[str, Any]:
    """IVIM signal."""
    curves = 500 * ((1 - TRUTH["f"]) * np.exp(-B[:, None] * TRUTH["D"])
                    + TRUTH["f"] * np.exp(-B[:, None] * TRUTH["Dstar"]))  # fmt: skip
    return {"dwi": parameter_series(B, noisy(curves), "b-value")}


def echoes() -> dict[str, Any]:
    """R2* decay."""
    curves = 500 * np.exp(-ECHOES_MS[:, None] / 1000 * TRUTH["R2star"])
    return {"echoes": parameter_series(ECHOES_MS, noisy(curves), "echo time")}


def csv_of(tmp_path: Any) -> dict[str, str]:
    """The PET input function as a table."""
    write_input_csv(tmp_path / "input.csv", pet_input(), step=1)
    return {"input_source": "csv", "input_csv": str(tmp_path / "input.csv"), "input_csv_time_unit": "min",
            "input_csv_unit": "g/ml"}  # fmt: skip


CASES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, Any], str]] = {
    "two_tissue": (dynamic_pet, {"delay_range_s": 8.0}, "artery"),
    "patlak_ki": (dynamic_pet, {}, "artery"),
    "logan_vt": (dynamic_pet, {}, "artery"),
    "late_ratio": (dynamic_pet, {"reference_kind": "blood"}, "reference"),
    "dce_tofts": (dce, {}, "artery"),
    "dce_iauc": (dce, {}, "artery"),
    "dwi_adc": (diffusion, {}, "artery"),
    "ivim": (diffusion, {}, "artery"),
    "bold_r2star": (echoes, {}, "artery"),
}


def run(name: str, tmp_path: Any, *more: str) -> tuple[HypoxiaMap, dict[str, Any]]:
    """A method on its sample, with the region of the voxel if asked for."""
    make, values, other = CASES[name]
    inputs, method = make(), get_method(name)
    if "pet" in inputs and name != "late_ratio":
        values = {**values, **csv_of(tmp_path)}
    given = {k: v for k, v in regions(other).items() if name not in ("dce_tofts", "dce_iauc") or k == "gtv"}
    if more:
        mask = np.zeros(SHAPE, bool)
        mask[VOXEL_ZYX] = True
        given[VOXEL] = region("voxel", mask)
    return method.compute(inputs, given, method.make_params(values)), inputs


def test_every_method_of_a_series_shows_the_gtv_and_any_voxel(tmp_path):
    of_series = {n for n, m in all_methods().items() if any(i.kind != "volume" and i.required for i in m.inputs)}
    assert of_series - {"oe_mri", "dsc_rcbv"} == set(CASES)  # those two: in their own tests
    for name in CASES:
        whole, _ = run(name, tmp_path)
        single, _ = run(name, tmp_path, VOXEL)
        assert [c.name for c in whole.curves] == ["GTVp"], name
        assert [c.name for c in single.curves] == ["voxel"], name
        assert single.volume.array[VOXEL_ZYX] == pytest.approx(whole.volume.array[VOXEL_ZYX], rel=1e-6), name


def values_at(found: HypoxiaMap, main: str) -> dict[str, float]:
    """Parameters of the map at the voxel."""
    return {main: found.volume.array[VOXEL_ZYX], **{k: v.array[VOXEL_ZYX] for k, v in found.extra.items()}}


def expected(name: str, found: HypoxiaMap) -> np.ndarray:
    """Curve of the model with the whole map's parameters at the voxel, worked out here."""
    if name == "two_tissue":
        p = values_at(found, "k3")
        kind = TwoTissueReversible if p["model"] == 4 else TwoTissueIrreversible
        source = pet_input().held_until(pet_frames().end_min[-1] + abs(p["delay"])).delayed(p["delay"])
        model = kind(source, pet_frames())
        return model.curves(np.array([[p[q.name]] for q in model.parameters]))[:, 0]
    if name == "dce_tofts":
        p, start_s = values_at(found, "Ktrans"), float(found.warnings[0].split("put at ")[1].split(" s")[0])
        model = ExtendedTofts(parker_input(FRAMES.end_min[-1], start_s / 60, 0.42), FRAMES)
        return model.curves(np.array([[p["Ktrans"]], [p["ve"]], [p["vp"]]]))[:, 0]
    if name == "ivim":
        p = values_at(found, "f")
        s0 = diffusion()["dwi"].frames[0][VOXEL_ZYX]
        return s0 * ((1 - p["f"]) * np.exp(-B * p["D"]) + p["f"] * np.exp(-B * p["Dstar"]))
    p = values_at(found, "R2star")
    return p["S0"] * np.exp(-ECHOES_MS / 1000 * p["R2star"])


@pytest.mark.parametrize("name", ["two_tissue", "dce_tofts", "ivim", "bold_r2star"])
def test_the_fitted_curve_has_the_parameters_of_the_map(tmp_path, name):
    whole, inputs = run(name, tmp_path)
    (curve,) = run(name, tmp_path, VOXEL)[0].curves
    series = next(iter(inputs.values()))
    np.testing.assert_allclose(curve.measured, series.frames[(slice(None), *VOXEL_ZYX)], rtol=1e-6)
    peak = max(curve.measured)
    np.testing.assert_allclose(curve.fitted, expected(name, whole), atol=2e-3 * peak)
    (gtv,) = whole.curves
    assert np.abs(np.subtract(gtv.fitted, curve.fitted)).max() > 0.02 * peak  # not the GTV's curve by mistake


def test_a_voxel_without_values_or_on_another_grid_is_refused(tmp_path):
    inputs, method = dce(), get_method("dce_tofts")
    mask = np.zeros(SHAPE, bool)
    given = {"gtv": regions()["gtv"], VOXEL: region("voxel", mask)}
    with pytest.raises(InputError, match="voxel holds no voxel"):
        method.compute(inputs, given, method.make_params({}))
    mask[VOXEL_ZYX] = True
    given[VOXEL] = region("voxel", mask)
    inputs["dce"].frames[(5, *VOXEL_ZYX)] = np.nan
    with pytest.raises(InputError, match="No voxel of voxel has a finite value"):
        method.compute(inputs, given, method.make_params({}))
    given[VOXEL].mask.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(GeometryError):
        method.compute(inputs, given, method.make_params({}))
