"""dce_tofts: every model from signal to Ktrans, the public object, T1 by flip angles, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaMapperLib.errors import HypoxiaError, InputError, RequestError
from HypoxiaMapperLib.kinetics.dce_signal import spgr_signal
from HypoxiaMapperLib.kinetics.populations import parker_input
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.methods import dce_tofts
from HypoxiaMapperLib.methods.dce_tofts import METHOD, MODELS
from HypoxiaMapperLib.timeseries import TimeSeries
from HypoxiaMapperLib.volume import Region, image_like
from kinetic_samples import parameter_series, regions, time_series, truth_grid, tumour_mask, volume

pytest.importorskip("torch")
INSIDE = tumour_mask().ravel()
TRUTH = truth_grid(Ktrans=(0.05, 0.4), ve=(0.15, 0.5), vp=(0.03, 0.1), T1=(0.8, 1.6), Fp=(0.3, 1.0), PS=(0.05, 0.3))
FRAMES = Frames.instants(np.arange(0, 300, 2.0), "s")
ARRIVAL_MIN = 20.5 / 60
TR_S, FLIP, R1, BLOOD_T1_S = 0.005, 15.0, 4.5, 1.6
SEQUENCE = {"repetition_time_ms": 1000 * TR_S, "flip_angle_deg": FLIP}


def plasma():
    return parker_input(FRAMES.end_min[-1] + 0.1, ARRIVAL_MIN)


def concentration(model="extended_tofts"):
    source = plasma()
    if model == "patlak":
        return (TRUTH["Ktrans"] * source.integral_on_frames(FRAMES)[:, None]
                + TRUTH["vp"] * source.on_frames(FRAMES)[:, None])  # fmt: skip
    built = MODELS[model](source, FRAMES)
    return built.curves(np.stack([TRUTH[q.name] for q in built.parameters]))


def signal_of(curves, t10, m0=1000.0):
    return spgr_signal(1 / (1 / t10 + R1 * curves), m0, TR_S, FLIP)


def concentration_series(model="extended_tofts"):
    return time_series(concentration(model), FRAMES, quantity="Gd", unit="mmol/L", facts={})


def signal_series(t10, **options):
    curves = concentration()
    blood = plasma().on_frames(FRAMES, "blood")
    curves[:, ~INSIDE] = blood[:, None]
    t1 = np.where(INSIDE, t10, BLOOD_T1_S)
    return time_series(signal_of(curves, t1), FRAMES, quantity="MR signal (DCE)", unit="[arb'U]",
                       facts=SEQUENCE, **options)  # fmt: skip


def assert_maps(found, names, rtol):
    maps = {"Ktrans": found.volume, **found.extra}
    for name in names:
        off = np.abs(maps[name].array.ravel() / TRUTH[name] - 1)[INSIDE]
        assert np.quantile(off, 0.99) < rtol, name


@pytest.mark.parametrize(
    ("model", "names", "rtol"),
    [("tofts", ("Ktrans", "ve"), 0.03), ("extended_tofts", ("Ktrans", "ve", "vp"), 0.06),
     ("patlak", ("Ktrans", "vp"), 0.03), ("2cxm", ("Fp", "PS", "vp", "ve"), 0.1),
     ("2cum", ("Fp", "PS", "vp"), 0.1)],
)  # fmt: skip
def test_models_from_concentration_with_a_table(tmp_path, model, names, rtol):
    source = plasma()
    rows = "".join(f"{t},{c}\n" for t, c in zip(source.time_min, source.plasma, strict=True))
    (tmp_path / "aif.csv").write_text("time,plasma\n" + rows)
    params = METHOD.make_params({"model": model, "input_source": "csv", "input_csv": str(tmp_path / "aif.csv"),
                                 "input_csv_time_unit": "min", "input_csv_unit": "mmol/L"})  # fmt: skip
    found = METHOD.compute({"dce": concentration_series(model)}, regions("vein"), params)
    assert_maps(found, names, rtol)
    assert (found.volume.quantity, found.volume.unit, found.comparison) == ("Ktrans", "/min", "<")
    assert np.isnan(found.threshold)
    # The mean of unlike voxels is no curve of the model, but nearly one.
    np.testing.assert_allclose(found.curves[0].fitted, found.curves[0].measured, atol=0.03)


def test_signal_with_t1_map_and_arterial_region():
    t1 = volume(TRUTH["T1"].reshape(5, 6, 10) * 1000, "T1", "ms")
    params = METHOD.make_params({"t10_source": "map", "input_source": "region", "blood_t1_s": BLOOD_T1_S,
                                 "baseline_frames": 10})  # fmt: skip
    found = METHOD.compute({"dce": signal_series(TRUTH["T1"]), "t1": t1}, regions(), params)
    assert_maps(found, ("Ktrans", "ve"), 0.1)


def test_t1_from_flip_angles_with_b1():
    angles = np.array([2.0, 5.0, 10.0, 15.0, 20.0])
    b1 = np.broadcast_to(np.linspace(0.9, 1.1, 10), (5, 6, 10))
    vfa = np.stack([spgr_signal(TRUTH["T1"], 1000.0, TR_S, a * b1.ravel()) for a in angles])
    series = parameter_series(angles, vfa, "flip angle", facts={"repetition_time_ms": 5.0})
    dce = spgr_signal(1 / (1 / TRUTH["T1"] + R1 * concentration()), 1000.0, TR_S, FLIP * b1.ravel())
    inputs = {
        "dce": time_series(dce, FRAMES, quantity="MR signal", unit="[arb'U]", facts=SEQUENCE),
        "flip_angles": series, "b1": volume(b1, "B1", "{ratio}"),
    }  # fmt: skip
    params = METHOD.make_params({"t10_source": "flip_angles", "baseline_frames": 10})
    found = METHOD.compute(inputs, regions("vein"), params)
    # Parker's bolus is put at the onset seen in the curves, which is within a frame of the truth.
    assert np.median(np.abs(found.volume.array.ravel() / TRUTH["Ktrans"] - 1)[INSIDE]) < 0.12
    assert any("Parker" in w for w in found.warnings)
    rate = found.extra["R1"]
    np.testing.assert_allclose(rate.array.ravel()[INSIDE], 1 / TRUTH["T1"][INSIDE], rtol=1e-3)
    assert (rate.quantity, rate.unit) == ("R1", "/s")
    wrong = b1.copy()
    wrong[0, 0, 2:4] = 0, -1
    holes = METHOD.compute({**inputs, "b1": volume(wrong, "B1", "{ratio}")}, regions("vein"), params)
    assert holes.quality[0, 0, 2:5].tolist() == [5, 5, 0]
    with pytest.raises(InputError, match=r"B1 map has a median of 100.*in percent"):
        METHOD.compute({**inputs, "b1": volume(100 * b1, "B1", "{ratio}")}, regions("vein"), params)


def test_two_flip_angles_are_enough_for_t1_and_radians_are_refused():
    angles = np.array([3.0, 15.0])
    vfa = np.stack([spgr_signal(TRUTH["T1"], 1000.0, TR_S, a) for a in angles])
    series = parameter_series(angles, vfa, "flip angle", facts={"repetition_time_ms": 5.0})
    params = METHOD.make_params({"t10_source": "flip_angles", "baseline_frames": 10})
    dce = time_series(signal_of(concentration(), TRUTH["T1"]), FRAMES, quantity="MR signal", unit="[arb'U]",
                      facts=SEQUENCE)  # fmt: skip
    by_angles = METHOD.compute({"dce": dce, "flip_angles": series}, regions("vein"), params)
    known = METHOD.make_params({"t10_source": "map", "baseline_frames": 10})
    by_map = METHOD.compute(
        {"dce": dce, "t1": volume(TRUTH["T1"].reshape(5, 6, 10), "T1", "s")}, regions("vein"), known
    )
    np.testing.assert_allclose(by_angles.volume.array, by_map.volume.array, rtol=1e-3)
    with pytest.raises(RequestError, match="not radians"):
        METHOD.compute({"dce": dce, "t1": volume(np.ones(1), "T1", "s")}, regions("vein"),
                       METHOD.make_params({"t10_source": "map", "flip_deg": 0.524}))  # fmt: skip


def test_public_object_within_ten_percent(hypoxia_data):
    image = sitk.ReadImage(str(hypoxia_data("pkmodeling_dro/DRO5min5secinf.nrrd")))
    signal = np.moveaxis(sitk.GetArrayFromImage(image)[0], -1, 0)[:, None].astype(np.float32)
    seconds = np.array(image.GetMetaData("MultiVolume.FrameLabels").split(","), dtype=float) / 1000
    grid = sitk.GetImageFromArray(np.zeros(signal.shape[1:], np.uint8))
    series = TimeSeries(frames=signal, grid=grid, quantity="MR signal", unit="[arb'U]", frame_start_s=seconds,
                        frame_duration_s=np.zeros(seconds.size), facts=SEQUENCE)  # fmt: skip
    gtv = np.zeros(signal.shape[1:], np.uint8)
    gtv[:, 1:, 1:] = 1
    artery = np.zeros_like(gtv)
    artery[:, 0, :] = 1
    params = METHOD.make_params({
        "t10_s": 1.434, "relaxivity": 3.7, "hematocrit": 0.45, "blood_t1_s": 1.6, "input_source": "region",
        "baseline_frames": 4, "delay_range_s": 6.0, "fit_margin_mm": 0.0, "fit_without_arrival": "yes",
    })  # fmt: skip
    parts = {"gtv": Region("GTV", image_like(gtv, grid)), "artery": Region("Artery", image_like(artery, grid))}
    found = METHOD.compute({"dce": series}, parts, params)
    ktrans = np.repeat([0.05, 0.1, 0.2, 0.3, 0.4], 3)[None] * np.ones((12, 1))
    assert np.abs(found.volume.array[0, 1:, 1:] / ktrans - 1).max() < 0.1
    ve = np.repeat([0.15, 0.25, 0.35], 4)[:, None] * np.ones((1, 15))
    assert np.abs(found.extra["ve"].array[0, 1:, 1:] / ve - 1).max() < 0.1


def test_voxels_without_arrival_and_with_zero_t1_keep_their_code():
    t10 = TRUTH["T1"].reshape(5, 6, 10).copy()
    series = signal_series(TRUTH["T1"])
    frames = series.frames.copy()
    frames[:, 2, 2, 5] = 100 + np.random.default_rng(0).normal(0, 0.5, FRAMES.count)
    t10[1, 1, 6] = 0
    params = METHOD.make_params({"t10_source": "map", "baseline_frames": 10})
    found = METHOD.compute({"dce": series.with_frames(frames, "flat"), "t1": volume(t10, "T1", "s")}, regions("vein"),
                           params)  # fmt: skip
    assert found.quality[2, 2, 5] == 3
    assert found.quality[1, 1, 6] == 5
    assert np.isnan(found.volume.array[[2, 1], [2, 1], [5, 6]]).all()
    assert "nothing arrives" in " ".join(found.warnings)


def test_standard_errors_hold_the_error_of_the_baseline_signal():
    truth = np.full(300, 0.2)
    built = MODELS["extended_tofts"](plasma(), FRAMES)
    curves = built.curves(np.stack([truth, np.full(300, 0.3), np.full(300, 0.05)]))
    noise = 0.2 * np.random.default_rng(6).standard_normal(curves.shape)
    signal = signal_of(curves, 1.3) + noise
    series = time_series(signal, FRAMES, quantity="MR signal", unit="[arb'U]", facts=SEQUENCE)
    artery = plasma()
    params = METHOD.make_params({"t10_s": 1.3, "baseline_frames": 10})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dce_tofts, "dce_input", lambda *_: (artery, []))
        found = METHOD.compute({"dce": series}, regions("vein"), params)
    deviation = np.abs(found.volume.array.ravel() - truth)[INSIDE] / found.uncertainty.array.ravel()[INSIDE]
    assert np.mean(deviation < 1) == pytest.approx(0.68, abs=0.1)
    assert np.mean(deviation < 1.96) > 0.88


def test_a_signal_that_falls_below_what_any_t1_explains_is_refused_by_that_name():
    series = signal_series(np.full(300, 1.3))
    falling = series.with_frames(2 * series.frames[0] - 3 * (series.frames - series.frames[0]), "falls")
    with pytest.raises(InputError, match=r"T1 that explains the signal.*every frame"):
        METHOD.compute({"dce": falling}, regions("vein"), METHOD.make_params({"t10_s": 1.3, "baseline_frames": 4}))


@pytest.mark.parametrize(
    ("values", "t1", "words"),
    [
        ({}, None, "T1 before contrast is not given"),
        ({"t10_source": "map"}, None, "needs the input t1"),
        ({"t10_source": "map"}, (1.0, "[arb'U]"), "unit of the T1 map"),
        ({"t10_source": "map"}, (0.0, "s"), "T1 is zero or negative"),
        ({"t10_source": "map"}, (1200.0, "s"), "median T1 is 1200 s"),
        ({"t10_source": "flip_angles"}, None, "flip_angles must be a series"),
        ({"t10_s": 1.2, "input_source": "region", "blood_t1_s": 0.0}, None, "T1 of blood"),
        ({"t10_s": 1.2, "input_source": "csv"}, None, "input_source=csv needs"),
        ({"t10_s": 1.2, "flip_deg": 15.0, "tr_ms": 5.0, "baseline_frames": 150}, None, "baseline_frames is 150"),
    ],
)
def test_what_is_missing_is_asked_for(values, t1, words):
    inputs = {"dce": signal_series(TRUTH["T1"])}
    if t1 is not None:
        inputs["t1"] = volume(np.full((5, 6, 10), t1[0]), "T1", t1[1])
    with pytest.raises(HypoxiaError) as error:
        METHOD.compute(inputs, regions(), METHOD.make_params(values))
    assert words in error.value.message
    assert error.value.hint


def test_bad_series_are_refused(tmp_path):
    params = METHOD.make_params({"t10_s": 1.2, "baseline_frames": 10})
    falling = concentration_series()
    falling = falling.with_frames(-falling.frames, "negative")
    with pytest.raises(InputError, match="mean concentration of the GTV after arrival is negative"):
        METHOD.compute({"dce": falling}, regions("vein"), params)
    nothing = time_series(np.random.default_rng(1).normal(100, 1, (150, 300)), FRAMES, quantity="MR signal",
                          unit="[arb'U]", facts=SEQUENCE)  # fmt: skip
    with pytest.raises(InputError, match="frames before arrival cannot be found"):
        METHOD.compute({"dce": nothing}, regions("vein"), METHOD.make_params({"t10_s": 1.2}))
    with pytest.raises(InputError, match="Nothing arrives in the GTV"):
        METHOD.compute({"dce": nothing}, regions("vein"), params)
    few = concentration_series().part(8, 12)
    with pytest.raises(HypoxiaError):
        METHOD.compute({"dce": few}, regions("vein"), METHOD.make_params({"model": "2cxm", "baseline_frames": 2}))
    unknown = time_series(signal_of(concentration(), 1.2), FRAMES, quantity="MR signal", unit="[arb'U]", facts={})
    with pytest.raises(RequestError, match="repetition time unknown"):
        METHOD.compute({"dce": unknown}, regions("vein"), params)
    (tmp_path / "short.csv").write_text("time,plasma\n0,0\n30,5\n60,1\n")
    params = METHOD.make_params({"input_source": "csv", "input_csv": str(tmp_path / "short.csv"),
                                 "input_csv_time_unit": "s", "input_csv_unit": "mmol/L"})  # fmt: skip
    with pytest.raises(InputError, match="input function ends at 1 min"):
        METHOD.compute({"dce": concentration_series()}, regions("vein"), params)
