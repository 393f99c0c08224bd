"""MSKCC network: the published processing on analytic cases, refusals, and the authors' phantom.

The last test needs the authors' files, which may not be passed on: get https://github.com/cerr/fdg2fmiso_hn_pix2pix
under its own terms and name in HYPOXIA_MSKCC a folder with latest_net_G.pth and phantom/.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_samples import write_pet
from HypoxiaMapperLib.dicomio.pet import read_pet_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import GeometryError, InputError, RequestError
from HypoxiaMapperLib.inference import mskcc, user_models
from HypoxiaMapperLib.inference.mskcc_network import make_generator
from HypoxiaMapperLib.mapping import Placement, compute_map
from HypoxiaMapperLib.methods import all_methods, mskcc_tbr
from HypoxiaMapperLib.volume import Region, Volume

pytest.importorskip("torch", reason="torch is not installed (pip install torch)")

METHOD = all_methods()["mskcc_tbr"]
FRAME = "1.2.3"
PATIENT = {"tracer": "FDG", "weight_kg": 80.0, "height_cm": 180.0, "sex": "M"}


def scene(shape=(5, 40, 40), spacing=(1.95, 1.95, 3.0), boxes=((slice(1, 3), slice(10, 16), slice(20, 29)),), suv=6.0):
    """SUVlbm of 1 everywhere and ``suv`` in the GTV's boxes."""
    values, mask = np.ones(shape, np.float32), np.zeros(shape, np.uint8)
    for box in boxes:
        mask[box], values[box] = 1, suv
    images = [sitk.GetImageFromArray(array) for array in (values, mask)]
    for image in images:
        image.SetSpacing(spacing)
        image.SetOrigin((-30.0, 12.0, 5.0))
    fdg = Volume(images[0], "SUVlbm", "g/ml", FRAME, facts={"tracer": "FDG"})
    return fdg, Region("GTVp", images[1], FRAME)


def identity(patches: np.ndarray) -> np.ndarray:
    """A network that returns what it sees."""
    return patches


class Spy:
    """Keeps the patches it was shown and returns them."""

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        self.patches = patches.copy()
        return patches


# --- lean body mass ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight_kg", "height_cm", "sex", "lean_kg"),
    [(80.0, 180.0, "M", 64.296), (60.0, 165.0, "F", 44.630)],  # VALIDATION rows 4 and 5
)
def test_suv_by_lean_body_mass(weight_kg, height_cm, sex, lean_kg):
    facts = {"weight_kg": weight_kg, "height_cm": height_cm, "sex": sex}
    fdg = replace(scene()[0], quantity="SUVbw", facts=facts)
    lean = mskcc.to_suv_lbm(fdg)
    assert (lean.quantity, lean.unit) == ("SUVlbm", "g/ml")
    assert lean.array.max() == pytest.approx(6.0 * lean_kg / weight_kg, rel=2e-4)
    assert "James" in lean.operations[-1]


def test_suv_by_lean_body_mass_is_taken_as_it_is():
    fdg = scene()[0]
    assert mskcc.to_suv_lbm(fdg) is fdg


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"height_cm": None}, "0010,1020"),
        ({"sex": ""}, "0010,0040"),
        ({"sex": "O"}, "0010,0040"),
        ({"weight_kg": None}, "0010,1030"),
    ],
)
def test_missing_patient_facts_are_named(facts, words):
    fdg = replace(scene()[0], quantity="SUVbw", facts={**PATIENT, **facts})
    with pytest.raises(InputError, match=words):
        mskcc.to_suv_lbm(fdg)


def test_another_quantity_is_refused():
    with pytest.raises(InputError, match="Activity concentration in Bq/ml"):
        mskcc.to_suv_lbm(replace(scene()[0], quantity="Activity concentration", unit="Bq/ml"))


def test_a_dicom_pet_knows_height_and_sex(tmp_path):
    write_pet(tmp_path, PatientWeight=60, PatientSize=1.65, PatientSex="F")
    (info,) = scan_folder(tmp_path).series
    volume = read_pet_series(info).volume
    assert (volume.facts["height_cm"], volume.facts["sex"]) == (pytest.approx(165.0), "F")
    assert np.allclose(mskcc.to_suv_lbm(volume).array, volume.array * 44.630 / 60.0, rtol=2e-4)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_a_component_lies_in_the_middle_of_the_patch():
    spy = Spy()
    found = mskcc.predict_ratio(*scene(), spy)
    # 6 rows and 9 columns at 1.95 mm: rows from (32 - 5) // 2 = 13, columns from (32 - 8) // 2 = 12.
    expected = np.full((32, 32), -1.0)
    expected[13:19, 12:21] = 2.0 * 6.0 / 30.1237 - 1.0
    assert spy.patches.shape == (2, 32, 32)
    assert np.allclose(spy.patches, expected, atol=1e-6)
    assert (found.components, found.largest_box_mm) == (1, pytest.approx(9 * 1.95))


def test_the_scale_of_the_ratio_and_the_clip():
    fdg, gtv = scene()
    inside = gtv.array
    ratio = mskcc.predict_ratio(fdg, gtv, identity).ratio
    assert (ratio.quantity, ratio.unit) == ("predicted FMISO target-to-blood ratio", "{ratio}")
    assert np.allclose(ratio.array[inside], 4.7117 * 6.0 / 30.1237, atol=1e-5)
    assert not ratio.array[~inside].any()
    clipped = mskcc.predict_ratio(*scene(suv=99.0), identity)
    assert np.allclose(clipped.ratio.array[inside], 4.7117, atol=1e-5)
    assert clipped.maximum_suv == pytest.approx(99.0)


def test_a_linear_uptake_comes_back_from_the_finer_grid():
    fdg, gtv = scene((3, 41, 57), (2.734375, 2.734375, 3.27), ((slice(0, 3), slice(8, 20), slice(25, 39)),))
    z, y, x = np.indices(fdg.array.shape)
    fdg = fdg.with_array((2.0 + 0.1 * x + 0.05 * y + 0.3 * z).astype(np.float32), "ramp")
    found = mskcc.predict_ratio(fdg, gtv, identity)
    core = np.zeros(gtv.array.shape, bool)
    core[:, 9:19, 26:38] = True  # the outermost voxels mix with what lies outside the GTV
    assert np.allclose(found.ratio.array[core], (4.7117 / 30.1237 * fdg.array)[core], atol=1e-5)


def test_each_component_has_its_own_patch_and_corners_join():
    boxes = ((slice(1, 2), slice(5, 8), slice(5, 8)), (slice(2, 3), slice(8, 10), slice(8, 10)),
             (slice(1, 2), slice(30, 34), slice(31, 35)))  # fmt: skip
    spy = Spy()
    found = mskcc.predict_ratio(*scene(boxes=boxes), spy)
    assert found.components == 2  # the first two touch at a corner
    assert found.known.sum() == 9 + 4 + 16
    assert found.largest_box_mm == pytest.approx(4 * 1.95)


@pytest.mark.parametrize("axes", ["RAI", "LPI", "SRP", "ASL"])
def test_the_order_of_the_voxels_makes_no_difference(axes):
    fdg, gtv = scene(spacing=(2.5, 2.5, 3.0))
    fdg = fdg.with_array(np.random.default_rng(3).uniform(1, 9, fdg.array.shape).astype(np.float32), "noise")
    network = mskcc.as_function(make_generator())
    straight = mskcc.predict_ratio(fdg, gtv, network).ratio.image
    turned_fdg = replace(fdg, image=sitk.DICOMOrient(fdg.image, axes))
    turned = mskcc.predict_ratio(turned_fdg, replace(gtv, mask=sitk.DICOMOrient(gtv.mask, axes)), network)
    back = sitk.DICOMOrient(turned.ratio.image, "LPS")
    assert np.allclose(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(straight), atol=1e-6)


def test_an_oblique_grid_is_refused():
    fdg, gtv = scene()
    direction = (np.cos(0.1), -np.sin(0.1), 0, np.sin(0.1), np.cos(0.1), 0, 0, 0, 1)
    for image in (fdg.image, gtv.mask):
        image.SetDirection(direction)
    with pytest.raises(GeometryError, match="oblique"):
        mskcc.predict_ratio(fdg, gtv, identity)


def test_thirty_two_pixels_fit_and_thirty_three_do_not():
    wide = (slice(1, 2), slice(3, 35), slice(4, 36))
    spy = Spy()
    found = mskcc.predict_ratio(*scene(boxes=(wide,)), spy)
    assert found.largest_box_mm == pytest.approx(62.4)
    assert (spy.patches > -1).all()
    for box, side in (((slice(1, 2), slice(3, 36), slice(4, 9)), "front to back"),
                      ((slice(1, 2), slice(3, 9), slice(4, 37)), "left to right")):  # fmt: skip
        with pytest.raises(InputError, match=rf"part 1 is 64\.35 mm {side}"):
            mskcc.predict_ratio(*scene(boxes=(box,)), identity)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (-0.5, "never negative")])
def test_uptake_that_cannot_be_is_refused(value, words):
    fdg, gtv = scene()
    values = fdg.array.copy()
    values[1, 11, 22] = value
    with pytest.raises(InputError, match=words):
        mskcc.predict_ratio(fdg.with_array(values, "spoilt"), gtv, identity)


def test_an_image_that_ends_beside_the_gtv_is_refused_where_it_matters():
    fdg, gtv = scene(spacing=(2.5, 2.5, 3.0))
    values = fdg.array.copy()
    values[:, :, :19] = np.nan  # a voxel away from the GTV: not read
    mskcc.predict_ratio(fdg.with_array(values, "cut"), gtv, identity)
    values[:, :, :20] = np.nan
    with pytest.raises(InputError, match="touches voxels without FDG"):
        mskcc.predict_ratio(fdg.with_array(values, "cut"), gtv, identity)


def test_an_empty_gtv_and_another_grid_are_refused():
    fdg, gtv = scene()
    with pytest.raises(InputError, match="holds no voxel"):
        mskcc.predict_ratio(fdg, gtv.with_array(np.zeros(gtv.array.shape), "none"), identity)
    with pytest.raises(GeometryError, match="grids differ"):
        mskcc.predict_ratio(fdg, scene(spacing=(2.0, 2.0, 3.0))[1], identity)


# --- method -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_identity(monkeypatch):
    monkeypatch.setattr(mskcc_tbr, "load_network", lambda: identity)


def run(fdg, gtv):
    return METHOD.compute({"pet": fdg}, {"gtv": gtv}, METHOD.make_params({}))


def test_the_map_and_what_is_said_of_it(with_identity):
    fdg, gtv = scene(suv=10.0)
    found = run(fdg, gtv)
    assert (found.threshold, found.comparison, found.surrogate) == (1.2, ">", True)
    assert "10.1016/j.phro.2025.100769" in found.threshold_source
    inside = gtv.array
    assert np.allclose(found.volume.array[inside], 4.7117 * 10.0 / 30.1237, atol=1e-5)
    model = found.model
    assert model.label == "FDG-derived, not measured; research use only"
    assert model.weights_sha256 == (user_models.MSKCC_TBR.sha256,)
    assert model.hypoxic_volume_ml == pytest.approx(gtv.volume_ml)
    assert all(np.isnan(model.hypoxic_volume_band_ml))
    assert model.baselines[0].hypoxic_volume_ml == pytest.approx(gtv.volume_ml)
    assert any("no uncertainty" in w for w in found.warnings)
    assert any("cannot be seen in the images" in w for w in found.warnings)
    assert "0.96" in model.training_data


def test_the_map_reaches_one_voxel_beyond_the_gtv_and_no_further(with_identity):
    fdg, gtv = scene()
    defined = np.isfinite(run(fdg, gtv).volume.array)
    expected = np.zeros_like(defined)
    expected[0:4, 9:17, 19:30] = True
    assert np.array_equal(defined, expected)


def test_the_treatment_is_never_taken_for_granted_and_the_rest_is_checked(with_identity):
    def passed(fdg, gtv):
        model = run(fdg, gtv).model
        assert not model.in_distribution  # the treatment: a person has to confirm it
        return {finding.name: finding.passed for finding in model.distribution}

    fdg, gtv = scene()
    tagged = replace(fdg, facts={**fdg.facts, "planning_body_parts": ["HEADNECK"]})
    others = {"fdg-tracer": True, "fdg-maximum": True, "gtv-size": True, "treatment": False}
    assert passed(fdg, gtv) == {**others, "body-site": False}, "no tag"
    assert passed(tagged, gtv) == {**others, "body-site": True}
    assert passed(replace(tagged, facts={**tagged.facts, "body_parts": ["LEG"]}), gtv)["body-site"] is False
    assert passed(replace(fdg, facts={"tracer": "FMISO"}), gtv)["fdg-tracer"] is False
    assert passed(*scene(suv=31.0))["fdg-maximum"] is False


def test_baseline_correlation_with_scaled_fdg(with_identity):
    fdg, gtv = scene()
    fdg = fdg.with_array(np.random.default_rng(5).uniform(2, 12, fdg.array.shape).astype(np.float32), "noise")
    (baseline,) = run(fdg, gtv).model.baselines
    assert baseline.correlation == pytest.approx(1.0, abs=1e-6)  # the network returns the FDG itself
    hot = fdg.array[gtv.array] >= 0.7 * fdg.array[gtv.array].max()
    assert baseline.hypoxic_volume_ml == pytest.approx(hot.sum() * fdg.voxel_volume_ml)


def test_it_runs_on_the_grid_of_the_fdg_and_covers_the_planning_gtv(with_identity):
    fdg, gtv = scene(suv=10.0)
    fine = sitk.Image((180, 180, 15), sitk.sitkFloat32)
    fine.SetSpacing((0.45, 0.45, 1.0))
    fine.SetOrigin((-29.8, 12.3, 5.0))
    mask = sitk.Resample(sitk.Cast(gtv.mask, sitk.sitkFloat32), fine, sitk.Transform(), sitk.sitkLinear) >= 0.5
    drawn, planning = Region("GTVp", mask, FRAME), Volume(fine, "CT number", "[hnsf'U]", FRAME)
    found = compute_map(
        METHOD, METHOD.make_params({}), {"pet": fdg}, {"gtv": drawn}, planning, Placement(None, "", ""), lambda *_: None
    )
    assert found.volume.image.GetSize() == fine.GetSize()
    assert np.allclose(found.volume.array[drawn.array], 4.7117 * 10.0 / 30.1237, atol=1e-4)
    assert any("grid of the image (40x40x5 voxels" in w for w in found.warnings)


def test_unavailable_until_registered(tmp_path, monkeypatch):
    monkeypatch.setenv(user_models.SETTINGS_VARIABLE, str(tmp_path / "settings.json"))
    reason = METHOD.unavailable_reason()
    assert "not registered" in reason
    assert "https://github.com/cerr/fdg2fmiso_hn_pix2pix" in reason
    with pytest.raises(RequestError, match="No file is registered"):
        run(*scene())


# --- the authors' own files -------------------------------------------------------------------------------------------


def test_the_authors_phantom_is_reproduced(tmp_path, monkeypatch):
    folder = Path(os.environ.get("HYPOXIA_MSKCC", ""))
    needed = [
        folder / "latest_net_G.pth",
        *(folder / "phantom" / f"{n}.nii.gz" for n in ("fdg_scan", "gtv_seg", "tbr_pred")),
    ]
    if not os.environ.get("HYPOXIA_MSKCC") or not all(path.is_file() for path in needed):
        pytest.skip(
            "HYPOXIA_MSKCC names no folder with latest_net_G.pth and phantom/{fdg_scan,gtv_seg,tbr_pred}.nii.gz; they "
            "are in https://github.com/cerr/fdg2fmiso_hn_pix2pix under its own terms and may not be passed on"
        )
    monkeypatch.setenv(user_models.SETTINGS_VARIABLE, str(tmp_path / "settings.json"))
    user_models.register("mskcc_tbr", needed[0], "the test")
    assert METHOD.unavailable_reason() == ""
    fdg_image, gtv_image, expected = (sitk.ReadImage(str(path)) for path in needed[1:])
    fdg = Volume(fdg_image, "SUVlbm", "g/ml", FRAME, facts={"tracer": "FDG"})
    gtv = Region("GTV", sitk.Cast(gtv_image > 0.5, sitk.sitkUInt8), FRAME)
    wanted = sitk.GetArrayFromImage(expected)
    ratio = mskcc.predict_ratio(fdg, gtv, mskcc.load_network()).ratio.array
    difference = float(np.abs(ratio - wanted).max())
    print(f"largest difference from the authors' output: {difference:.2e}")
    assert difference < 1e-4
    found = run(fdg, gtv)
    assert np.abs(found.volume.array - wanted)[gtv.array].max() < 1e-4
    volume_ml = np.count_nonzero(wanted > 1.2) * fdg.voxel_volume_ml
    assert found.model.hypoxic_volume_ml == pytest.approx(volume_ml, abs=1e-9)
