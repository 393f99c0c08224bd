"""Simulated patients: reproducible, in their units and ranges, true to themselves, and not giving hypoxia away."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.integrate import solve_ivp

from HypoxiaMapperLib.errors import RequestError
from HypoxiaMapperLib.inference.channels import CHANNELS, KEYS
from HypoxiaMapperLib.simulate import multimodal, uptake
from HypoxiaMapperLib.simulate.cohort import SimulatedCase, simulate_case
from HypoxiaMapperLib.simulate.imaging import Grid
from HypoxiaMapperLib.simulate.settings import COHORTS, TRAINING, Draws, Settings
from HypoxiaMapperLib.simulate.shapes import Ellipsoid
from HypoxiaMapperLib.simulate.statistics import gtv_values, joint_statistics, table_of_statistics
from HypoxiaMapperLib.simulate.tumour_fields import Place
from HypoxiaMapperLib.volume import same_grid

BODY = Ellipsoid((10.0, 52.0, 51.0), (5.0, 5.0, 5.0))

PLAUSIBLE = {  # inside the GTV: lowest median, highest median
    "fdg": (1.0, 25.0), "hypoxia_pet": (0.5, 3.0), "ct": (20.0, 130.0), "t1": (0.3, 3.0),
    "adc": (0.5e-3, 2.6e-3), "ktrans": (0.01, 1.2), "r2star": (5.0, 60.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> list[SimulatedCase]:
    """Some training patients."""
    return [simulate_case(seed) for seed in range(16)]


def digest(case: SimulatedCase) -> str:
    """SHA-256 over every voxel and grid of a case."""
    found = hashlib.sha256()
    for image in [*(v.image for v in case.images.values()), case.gtv.mask, case.truth_ratio.image]:
        found.update(sitk.GetArrayFromImage(image).tobytes())
        found.update(repr((image.GetOrigin(), image.GetSpacing(), image.GetSize())).encode())
    return found.hexdigest()


@pytest.mark.parametrize(("radius_mm", "recovery"), [(5.0, 0.7220), (7.5, 0.9659), (10.0, 0.9985)])
def test_blur_recovers_the_centre_of_a_sphere(radius_mm, recovery):
    """VALIDATION row 25, through the simulator's own point spread."""
    spacing_mm = 0.5
    axis = spacing_mm * np.arange(-44, 45)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    sphere = (np.sqrt(x**2 + y**2 + z**2) <= radius_mm).astype(np.float32)
    assert multimodal.blur(sphere, spacing_mm, 6.0)[44, 44, 44] == pytest.approx(recovery, rel=0.01)


@pytest.mark.parametrize("rates", [(0.1, 0.12, 0.003), (0.02, 0.02, 0.0), (0.3, 0.5, 0.05)])
def test_two_tissue_kinetics_solve_their_equations(rates):
    k1, k2, k3 = rates
    source = uptake.Input((8.0, 1.5, 1.0), (1.0, 0.05, 0.004))

    def slope(t: float, c: np.ndarray) -> list[float]:
        return [k1 * source.at(t) - (k2 + k3) * c[0], k3 * c[0]]

    end = solve_ivp(slope, (0.0, 150.0), [0.0, 0.0], rtol=1e-9, atol=1e-9).y[:, -1].sum()
    found = uptake.two_tissue(source, *(np.array([k]) for k in rates), 150.0)
    assert found[0] == pytest.approx(end, rel=1e-5)


def test_two_tissue_kinetics_where_a_rate_meets_the_input():
    """The closed form divides by k2 + k3 minus the input's rate."""
    source = uptake.Input((1.0,), (0.05,))
    near = [
        uptake.two_tissue(source, np.array([0.1]), np.array([k2]), np.array([0.0]), 60.0)[0] for k2 in (0.05, 0.0501)
    ]
    assert near[0] == pytest.approx(0.1 * 60.0 * np.exp(-3.0), rel=1e-9)
    assert near[1] == pytest.approx(near[0], rel=5e-3)


def test_the_same_seed_gives_the_same_bytes():
    assert digest(simulate_case(3)) == digest(simulate_case(3))


def test_another_seed_or_cohort_gives_another_patient():
    found = {digest(simulate_case(seed, cohort)) for seed in (3, 4) for cohort in ("training", "shifted_scanner")}
    assert len(found) == 4


def test_every_image_has_quantity_unit_and_frame(cases):
    for case in cases:
        assert tuple(case.images) == KEYS
        for channel in CHANNELS:
            volume = case.images[channel.key]
            assert (volume.quantity, volume.unit) == (channel.quantity, channel.unit)
            assert volume.frame_of_reference_uid == case.gtv.frame_of_reference_uid != ""
            assert np.isfinite(volume.array).all()
            assert "no patient" in volume.facts["label"]
        assert case.images["fdg"].facts["tracer"] == "FDG"
        scan = case.images["hypoxia_pet"].facts
        assert scan["tracer"] in ("FMISO", "FAZA", "HX4")
        assert 120 <= scan["minutes_after_injection"] <= 240


def test_images_and_tumours_are_plausible(cases):
    for case in cases:
        _, images = gtv_values(case)
        for key, (low, high) in PLAUSIBLE.items():
            assert low <= np.median(images[key]) <= high, (case.seed, key)
        assert 1.5 <= case.gtv.volume_ml <= 85.0
        assert 1.0 < case.truth_ratio.array[case.gtv.array].max() < 4.0
    fractions = [np.mean(case.truth_ratio.array[case.gtv.array] > 1.2) for case in cases]
    assert min(fractions) < 0.02
    assert max(fractions) > 0.4


def test_every_constant_is_told_and_lies_in_its_range():
    for cohort, settings in COHORTS.items():
        facts = simulate_case(5, cohort).facts
        ranges = [f for f in fields(settings) if f.metadata]
        assert len(ranges) > 40
        for field in ranges:
            low, high = getattr(settings, field.name)
            assert field.metadata["source"]
            labels = _labels(field.name) - {f.name for f in ranges}
            told = [v for n, v in facts.items() if n == field.name or n in labels]
            assert told, field.name
            assert all(low <= v <= high for v in told), field.name


def _labels(name: str) -> set[str]:
    """Names under which a drawn constant may stand in the facts."""
    other = {"volume_ml": {"wanted_volume_ml"}, "misregistration_mm": {f"{k}_shift_length_mm" for k in KEYS}}
    axes = {f"{name}_{axis}" for axis in "xyz"}
    prefixed = {f"{key}_{name.removeprefix(key + '_')}" for key in KEYS}
    return other.get(name, axes | prefixed)


def test_images_have_grids_of_their_own(cases):
    for case in cases[:4]:
        assert not same_grid(case.images["fdg"].image, case.images["hypoxia_pet"].image)
        assert case.truth_ratio.image.GetSpacing() == (2.0, 2.0, 2.0)
        assert same_grid(case.truth_ratio.image, case.gtv.mask)
        assert same_grid(case.truth_unblurred.image, case.gtv.mask)
        pet = case.images["fdg"].image.GetSpacing()
        assert 2.0 <= pet[0] <= 4.0
        assert pet[0] == pet[2]


def test_the_box_reaches_30_mm_beyond_the_gtv_in_every_image(cases):
    for case in cases:
        where = np.argwhere(case.gtv.array)
        low = np.array(case.gtv.mask.TransformIndexToPhysicalPoint([int(v) for v in where.min(axis=0)[::-1]]))
        high = np.array(case.gtv.mask.TransformIndexToPhysicalPoint([int(v) for v in where.max(axis=0)[::-1]]))
        for key, volume in case.images.items():
            size = [n - 1 for n in volume.image.GetSize()]
            assert np.all(np.array(volume.image.GetOrigin()) <= low - 25.0), key
            assert np.all(np.array(volume.image.TransformIndexToPhysicalPoint(size)) >= high + 25.0), key


def test_the_truth_is_the_unblurred_truth_through_six_millimetres(cases):
    for case in cases[:4]:
        sigma = 6.0 / np.sqrt(8.0 * np.log(2.0)) / 2.0
        expected = ndimage.gaussian_filter(case.truth_unblurred.array, sigma, mode="nearest")
        assert np.allclose(case.truth_ratio.array, expected, atol=1e-5)
        assert case.truth_ratio.facts["tracer"] == "FMISO"


def test_left_and_right_of_truth_and_images_agree(cases):
    """The measured map must match the truth better as it is than mirrored or turned upside down."""
    for case in cases[:6]:
        grid = case.truth_ratio.image
        measured = sitk.Resample(case.images["hypoxia_pet"].image, grid, sitk.Transform(3, sitk.sitkIdentity))
        here = sitk.GetArrayFromImage(measured).ravel()
        truth = case.truth_ratio.array
        straight = np.corrcoef(here, truth.ravel())[0, 1]
        assert straight > 0.8
        for axis in range(3):
            assert np.corrcoef(here, np.flip(truth, axis).ravel())[0, 1] < straight - 0.05
        side = case.gtv.mask.TransformContinuousIndexToPhysicalPoint(
            [float(v) for v in np.argwhere(case.gtv.array).mean(axis=0)[::-1]]
        )
        middle = case.facts["table_position_mm_x"]  # the middle of the body in LPS; x runs to the patient's left
        assert (side[0] > middle) == (case.facts["side"] == "left") or abs(side[0] - middle) < 14.0


def test_misregistration_moves_an_image_where_the_facts_say(cases):
    farthest = Settings("t", "t", misregistration_mm=(3.0, 3.0))
    grid = Grid((40, 44, 48), (2.0, 2.0, 2.0), (-30.0, 10.0, 5.0))
    centre = (10.0, 52.0, 51.0)
    place = Place(grid, (1.0,) * 3, (0.0,) * 3, BODY)
    mesh = grid.mesh()
    blob = np.exp(-((mesh.x - centre[0]) ** 2 + (mesh.y - centre[1]) ** 2 + (mesh.z - centre[2]) ** 2) / 128.0)
    facts: dict[str, float] = {}
    seen = multimodal.on_scanner(blob, place, (3.0, 2.5, 4.0), Draws(farthest, np.random.default_rng(1), facts))
    at = seen.grid.mesh()
    found = [float(np.sum(axis * seen.array) / seen.array.sum()) for axis in (at.x, at.y, at.z)]
    assert np.array(found) - centre == pytest.approx([facts[f"shift_{a}_mm"] for a in "xyz"], abs=0.1)
    assert np.linalg.norm(seen.shift_mm) == pytest.approx(3.0)
    for case in cases:
        assert all(np.linalg.norm(v.facts["misregistration_mm"]) <= 3.0 for v in case.images.values())


@pytest.mark.parametrize("level", [0.5, 2.0])
def test_pet_noise_grows_as_counts_do(level):
    """Variance in proportion to uptake: standard deviation noise * sqrt(uptake * blood)."""
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    facts: dict[str, float] = {}
    draws = Draws(Settings("t", "t"), np.random.default_rng(2), facts)
    uptake_map = np.full((60, 60, 60), level, dtype=np.float32)
    seen = multimodal.pet_picture(uptake_map, Place(grid, (1.0,) * 3, (0.0,) * 3, BODY), 1.0, draws)
    assert seen.array.mean() == pytest.approx(level, rel=0.01)
    assert seen.array.std() == pytest.approx(facts["pet_noise"] * np.sqrt(level), rel=0.02)
    neighbours = np.corrcoef(seen.array[1:].ravel(), seen.array[:-1].ravel())[0, 1]
    assert neighbours > 0.2


def test_rician_noise_lifts_the_background_and_spares_the_signal():
    rng = np.random.default_rng(3)
    nothing = multimodal.rician(np.zeros(40000, dtype=np.float32), 1.0, rng)
    assert nothing.mean() == pytest.approx(np.sqrt(np.pi / 2.0), rel=0.02)
    bright = multimodal.rician(np.full(40000, 30.0, dtype=np.float32), 1.0, rng)
    assert bright.std() == pytest.approx(1.0, rel=0.02)
    assert bright.mean() == pytest.approx(np.sqrt(30.0**2 + 1.0), rel=1e-3)


def test_fdg_helps_more_images_help_more_and_the_shifted_coupling_less(cases):
    usual = joint_statistics(cases)
    shifted = joint_statistics([simulate_case(seed, "shifted_coupling") for seed in range(16)])
    assert usual["fmiso_fdg_patient_r2"][0] > shifted["fmiso_fdg_patient_r2"][0] + 0.05
    assert usual["linear_r2_fdg"] < usual["linear_r2_imaging"] < usual["linear_r2_all"] < 0.95
    assert usual["linear_r2_fdg"] < 0.5
    table = table_of_statistics({"training": usual, "shifted_coupling": shifted})
    assert "0.81" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_shifted_anatomy_has_other_sites():
    sites = {simulate_case(seed, "shifted_anatomy").facts["site"] for seed in range(8)}
    assert sites.isdisjoint(site.name for site in TRAINING.sites)


@pytest.mark.parametrize(
    ("seed", "cohort", "words"), [(1, "nobody", "Valid ones: training"), (-1, "training", "negative")]
)
def test_senseless_requests_are_refused(seed, cohort, words):
    with pytest.raises(RequestError, match=words):
        simulate_case(seed, cohort)
