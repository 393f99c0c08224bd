"""ivim: exact bi-exponential, OSIPI signals, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.methods.ivim import METHOD
from kinetic_samples import parameter_series, regions, truth_grid, tumour_mask

pytest.importorskip("torch")
INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(f=(0.05, 0.3), D=(0.6e-3, 2e-3), Dstar=(0.02, 0.1))
B = np.array([0, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800], dtype=float)


def series_of(b=B):
    f, d, fast = (TRUTH[n] for n in ("f", "D", "Dstar"))
    return parameter_series(b, 1000 * ((1 - f) * np.exp(-b[:, None] * d) + f * np.exp(-b[:, None] * fast)), "b-value")


@pytest.mark.parametrize(("fit", "rtol"), [("full", 0.02), ("segmented", 0.25)])
def test_exact_signals(fit, rtol):
    found = METHOD.compute({"dwi": series_of()}, regions("vein"), METHOD.make_params({"fit": fit}))
    maps = {"f": found.volume, **found.extra}
    for name in ("f", "D"):
        np.testing.assert_allclose(maps[name].array.ravel()[INSIDE], TRUTH[name][INSIDE], rtol=rtol)
    ok = INSIDE & (found.quality.ravel() == 0)
    assert ok.sum() > 0.9 * INSIDE.sum()
    product = maps["f"].array * maps["Dstar"].array
    np.testing.assert_allclose(maps["fDstar"].array.ravel()[ok], product.ravel()[ok], rtol=1e-5)
    assert (found.volume.quantity, found.volume.unit) == ("IVIM perfusion fraction", "{ratio}")
    assert np.isnan(found.threshold)


def test_osipi_signals(hypoxia_data):
    tissues = json.loads(hypoxia_data("osipi_ivim/generic.json").read_text())
    b = np.array(tissues.pop("config")["bvalues"], dtype=float)
    order = np.argsort(b)
    rows = [t for t in tissues.values() if 0.03 < t["f"] < 0.4 and t["D"] > 5e-4]
    assert len(rows) > 5
    signals = np.ones((len(b), 300))
    for k, tissue in enumerate(rows):
        signals[:, 2 + 10 * (k // 8) + k % 8] = np.array(tissue["data"])[order]
    places = [2 + 10 * (k // 8) + k % 8 for k in range(len(rows))]
    distinct, index = np.unique(b[order], return_index=True)
    found = METHOD.compute(
        {"dwi": parameter_series(distinct, signals[index], "b-value")}, regions("vein"),
        METHOD.make_params({"fit": "full"}),
    )  # fmt: skip
    d = found.extra["D"].array.ravel()[places]
    assert np.median(np.abs(d / [t["D"] for t in rows] - 1)) < 0.1
    f = found.volume.array.ravel()[places]
    assert np.median(np.abs(f - [t["f"] for t in rows])) < 0.03


def test_the_map_asked_for_is_the_map():
    found = METHOD.compute({"dwi": series_of()}, regions("vein"), METHOD.make_params({"fit": "full", "main_map": "D"}))
    assert (found.volume.quantity, found.volume.unit) == ("IVIM D", "mm2/s")
    assert "f" in found.extra


def test_too_few_b_values_are_refused():
    with pytest.raises(RequestError, match="Segmented IVIM needs b = 0 and three"):
        METHOD.compute({"dwi": series_of(np.array([0.0, 50, 100, 200, 400]))}, regions("vein"), METHOD.make_params({}))
    with pytest.raises(RequestError, match="cannot determine 4 parameters"):
        METHOD.compute({"dwi": series_of(np.array([0.0, 50, 200, 400]))}, regions("vein"),
                       METHOD.make_params({"fit": "full"}))  # fmt: skip
