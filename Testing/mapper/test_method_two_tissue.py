"""two_tissue: analytic phantoms of both models, model choice, standard errors, delay, what is refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.kinetics.tissue import TwoTissueIrreversible, TwoTissueReversible
from HypoxiaMapperLib.methods import get_method
from HypoxiaMapperLib.methods.two_tissue import METHOD
from kinetic_samples import pet_frames, pet_input, regions, time_series, truth_grid, tumour_mask, write_input_csv

torch = pytest.importorskip("torch")
INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(K1=(0.05, 0.3), k2=(0.1, 0.4), k3=(0.005, 0.05), k4=(0.005, 0.03), vB=(0.02, 0.1))


def series_of(reversible, noise=0.0, delay_min=0.0):
    frames = pet_frames()
    source = pet_input().delayed(delay_min)
    if delay_min < 0:
        source = source.held_until(frames.end_min[-1])
    names = ("K1", "k2", "k3", "k4", "vB") if reversible else ("K1", "k2", "k3", "vB")
    model = (TwoTissueReversible if reversible else TwoTissueIrreversible)(source, frames)
    curves = model.curves(np.stack([TRUTH[n] for n in names]))
    rng = np.random.default_rng(7)
    scale = noise * curves.mean(axis=0) / np.sqrt(frames.duration_min)[:, None] * np.sqrt(frames.duration_min.mean())
    return time_series(curves + scale * rng.standard_normal(curves.shape), frames)


def params_of(tmp_path, **values):
    write_input_csv(tmp_path / "input.csv", pet_input(), step=1)
    return METHOD.make_params({"input_source": "csv", "input_csv": str(tmp_path / "input.csv"),
                               "input_csv_time_unit": "min", "input_csv_unit": "g/ml", **values})  # fmt: skip


def test_all_parameters_of_the_reversible_model(tmp_path):
    found = METHOD.compute({"pet": series_of(True)}, regions(), params_of(tmp_path, model="2t4k"))
    maps = {"k3": found.volume, **found.extra}
    for name in ("K1", "k2", "k3", "k4", "vB"):
        np.testing.assert_allclose(maps[name].array.ravel()[INSIDE], TRUTH[name][INSIDE], rtol=0.02, err_msg=name)
    k1, k2, k3, k4 = (TRUTH[n][INSIDE] for n in ("K1", "k2", "k3", "k4"))
    np.testing.assert_allclose(maps["Ki"].array.ravel()[INSIDE], k1 * k3 / (k2 + k3), rtol=0.02)
    np.testing.assert_allclose(maps["VT"].array.ravel()[INSIDE], k1 / k2 * (1 + k3 / k4), rtol=0.02)
    assert (found.volume.quantity, found.volume.unit) == ("k3", "/min")
    assert {"k3_error", "K1_error"} & set(found.extra) == {"K1_error"}  # the map's own error is its uncertainty
    np.testing.assert_allclose(found.curves[0].fitted, found.curves[0].measured, rtol=0.1)
    assert not found.quality.ravel()[INSIDE].any()


def test_irreversible_model_and_the_map_ki(tmp_path):
    found = METHOD.compute({"pet": series_of(False)}, regions(), params_of(tmp_path, model="2t3k", main_map="Ki"))
    k1, k2, k3 = (TRUTH[n][INSIDE] for n in ("K1", "k2", "k3"))
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], k1 * k3 / (k2 + k3), rtol=0.01)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("Ki", "mL/min/mL", ">")
    flow = METHOD.compute({"pet": series_of(False)}, regions(), params_of(tmp_path, model="2t3k", main_map="K1"))
    assert flow.comparison == "<"


@pytest.mark.parametrize("criterion", ["aic", "bic"])
def test_the_model_of_each_voxel_is_chosen(tmp_path, criterion):
    trapped, returning = series_of(False, 0.01), series_of(True, 0.01)
    half = np.arange(10) < 6
    mixed = trapped.with_frames(np.where(half, trapped.frames, returning.frames), "both")
    found = METHOD.compute({"pet": mixed}, regions(), params_of(tmp_path, model=criterion))
    chosen = found.extra["model"].array
    left, right = chosen[..., 2:6], chosen[..., 6:]
    assert (left == 3).mean() > (0.75 if criterion == "aic" else 0.9)
    assert (right == 4).mean() > 0.6
    k4 = found.extra["k4"].array
    assert (k4[chosen == 3] == 0).all()
    assert np.isnan(found.extra["VT"].array[chosen == 3]).all()
    shares = found.details["share_of_voxels_by_model"]
    assert shares["2t3k"] + shares["2t4k"] == pytest.approx(1)


def test_standard_errors_cover_the_truth(tmp_path):
    found = METHOD.compute({"pet": series_of(False, 0.03)}, regions(), params_of(tmp_path, model="2t3k"))
    good = (found.quality.ravel() == 0) & INSIDE
    assert good.sum() > 200
    for name, value, error in (
        ("k3", found.volume, found.uncertainty), ("K1", found.extra["K1"], found.extra["K1_error"]),
        ("Ki", found.extra["Ki"], found.extra["Ki_error"]),
    ):  # fmt: skip
        truth = TRUTH.get(name, TRUTH["K1"] * TRUTH["k3"] / (TRUTH["k2"] + TRUTH["k3"]))
        off = np.abs(value.array.ravel() - truth)[good] / error.array.ravel()[good]
        assert 0.60 < (off < 1).mean() < 0.76, name
        assert 0.90 < (off < 1.96).mean() < 0.99, name


def test_delay_of_every_voxel(tmp_path):
    series = series_of(False, delay_min=10 / 60)
    found = METHOD.compute({"pet": series}, regions(), params_of(tmp_path, model="2t3k", delay_range_s=20.0))
    np.testing.assert_allclose(found.extra["delay"].array.ravel()[INSIDE], 10 / 60, atol=2.5 / 60)
    np.testing.assert_allclose(found.volume.array.ravel()[INSIDE], TRUTH["k3"][INSIDE], rtol=0.1)


def test_a_bolus_within_one_long_frame_is_told():
    fine = pet_frames()
    coarse = Frames(np.r_[0.0, 1.0, fine.start_min[12:]], np.r_[1.0, 2.0, fine.end_min[12:]])
    notes = []
    for frames in (coarse, fine):
        tissue = TwoTissueIrreversible(pet_input(), frames).curves(np.array([[0.2], [0.3], [0.05], [0.05]]))
        series = time_series(np.where(INSIDE, tissue, pet_input().on_frames(frames)[:, None]), frames)
        found = METHOD.compute({"pet": series}, regions(), METHOD.make_params({"model": "2t3k"}))
        notes.append(any("bolus lies in a frame of 60 s" in w for w in found.warnings))
    assert notes == [True, False]


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(RequestError, match="reversible model only"):
        METHOD.compute({"pet": series_of(True)}, regions(), params_of(tmp_path, main_map="VT"))
    with pytest.raises(RequestError, match="cannot determine 5 parameters"):
        METHOD.compute({"pet": series_of(True).part(0, 5)}, regions(), params_of(tmp_path, model="2t4k"))
    negative = series_of(True)
    with pytest.raises(InputError, match="mean SUVbw of the GTV over all frames is -"):
        METHOD.compute({"pet": negative.with_frames(-negative.frames, "sign")}, regions(), params_of(tmp_path))
    empty = series_of(True)
    frames = np.where(tumour_mask(), np.nan, empty.frames).astype(np.float32)
    with pytest.raises(InputError, match=r"no voxel could be fitted|No voxel of the GTV|holds no finite"):
        METHOD.compute({"pet": empty.with_frames(frames, "empty")}, regions(), params_of(tmp_path, fit_margin_mm=0.0))


def test_without_torch_it_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install torch" in METHOD.unavailable_reason()
    with pytest.raises(RequestError, match="two_tissue is unavailable"):
        get_method("two_tissue")
