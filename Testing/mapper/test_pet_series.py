"""PET to SUVbw by every rule of METHODS section 1, and every refusal by the name of its tag."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from dicom_samples import new_dataset, write_pet
from HypoxiaMapperLib import suv
from HypoxiaMapperLib.dicomio.pet import read_pet_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.errors import InputError

F18_S = 6586.2


def read_pet(folder):
    return read_pet_series(scan_folder(folder).series[0])


def suv_of(folder, stored=5000.0):
    """SUV of a uniform PET, and the facts."""
    series = read_pet(folder)
    assert series.volume.unit == "g/ml"
    assert series.volume.quantity == "SUVbw"
    assert np.ptp(series.volume.array) == pytest.approx(0, abs=1e-6)
    return float(series.volume.array[0, 0, 0]), series.volume.facts


@pytest.mark.parametrize("name", ["DRO_0_0", "DRO_1_0", "DRO_2_0", "DRO_3_1", "DRO_4_1"])
def test_row_1_digital_reference_objects(hypoxia_data, name):
    folder = hypoxia_data(f"suv_dro/{name}")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask" / "DRO_mask.nii.gz"))) > 0
    values = read_pet(folder / "PT").volume.array[mask]
    np.testing.assert_allclose([values.min(), np.median(values), values.max()], [0.2, 1.0, 4.0], rtol=5e-3)


def test_row_2_start_admin_and_facts(tmp_path):
    write_pet(tmp_path / "start")
    write_pet(tmp_path / "admin", DecayCorrection="ADMIN")
    start, facts = suv_of(tmp_path / "start")
    assert start == pytest.approx(1.38168, abs=1e-4)
    assert suv_of(tmp_path / "admin")[0] == pytest.approx(0.94595, abs=1e-4)
    expected = {
        "tracer": "FDG", "units_in_file": "BQML", "decay_correction": "START", "minutes_after_injection": 60.0,
        "frame_duration_s": 300.0, "weight_kg": 70.0, "injected_activity_mbq": 370.0, "half_life_s": F18_S,
        "injection_time": "2025-01-01T10:00:00", "reference_time": "2025-01-01T11:00:00", "warnings": (),
    }  # fmt: skip
    assert {key: facts[key] for key in expected} == expected
    assert facts["suv_factor"] == pytest.approx(start / 5000)
    assert "0018,1078" in facts["injection_time_source"]


def test_none_is_decayed_to_the_mean_time_of_the_frame(tmp_path):
    write_pet(tmp_path, DecayCorrection="NONE", CorrectedImage=["NORM", "ATTN"])
    elapsed = 3600 + suv.mean_decay_time_s(300, F18_S)
    assert suv_of(tmp_path)[0] == pytest.approx(5000 * suv.suvbw_factor(70, 370e6, elapsed, F18_S), rel=1e-6)


def test_none_is_decayed_slice_by_slice(tmp_path):
    write_pet(tmp_path, DecayCorrection="NONE", CorrectedImage=["ATTN"], AcquisitionTime=lambda k: f"11{k:02d}00")
    series = read_pet(tmp_path)
    expected = [
        5000 * suv.suvbw_factor(70, 370e6, 3600 + 60 * k + suv.mean_decay_time_s(300, F18_S), F18_S) for k in range(5)
    ]
    np.testing.assert_allclose(series.volume.array[:, 0, 0], expected, rtol=1e-6)
    assert len(series.volume.facts["suv_factor"]) == 5


def test_series_time_before_the_beds_is_the_reference(tmp_path):
    write_pet(tmp_path, AcquisitionTime=lambda k: f"11{k:02d}00")
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(1.38168, abs=1e-4)
    assert facts["reference_time_source"].startswith("Series")


def test_late_series_time_uses_frame_reference_time_not_the_earliest_acquisition(tmp_path):
    # Reference at 10:58; beds at 11:00, 11:05 ...: acquisition - FRT + t_avg gives 10:58 for every slice.
    mean = suv.mean_decay_time_s(300, F18_S)
    write_pet(
        tmp_path,
        SeriesTime="113000",
        AcquisitionTime=lambda k: f"11{5 * k:02d}00",
        FrameReferenceTime=lambda k: round((120 + 300 * k + mean) * 1000, 3),
    )
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(5000 * suv.suvbw_factor(70, 370e6, 3480, F18_S), rel=1e-6)
    assert facts["reference_time"] == "2025-01-01T10:58:00"
    assert any("series time" in w for w in facts["warnings"])


def test_series_date_of_another_year_is_no_reference(tmp_path):
    write_pet(tmp_path, SeriesDate="20190101", FrameReferenceTime=round(suv.mean_decay_time_s(300, F18_S) * 1000, 3))
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(1.38168, abs=1e-4)
    assert facts["warnings"]


def test_ge_private_scan_time(tmp_path):
    private = {"GEMS_PETD_01": (0x0009, 0x0D, "DT", "20250101105800.00")}
    write_pet(tmp_path / "a", SeriesTime="113000", FrameReferenceTime=0, private=private)
    value, facts = suv_of(tmp_path / "a")
    assert value == pytest.approx(5000 * suv.suvbw_factor(70, 370e6, 3480, F18_S), rel=1e-6)
    assert facts["reference_time_source"].startswith("GE")
    write_pet(tmp_path / "b", private=private)  # a usable series time comes first
    assert suv_of(tmp_path / "b")[0] == pytest.approx(1.38168, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FrameReferenceTime": None}, "0054,1300"),
        ({"ActualFrameDuration": None}, "0018,1242"),
        ({"AcquisitionTime": lambda k: f"11{k:02d}00"}, "disagree on the decay reference by 240.0 s"),
        ({"AcquisitionTime": None}, "0008,0032"),
    ],
)
def test_late_series_time_without_the_rest_is_refused(tmp_path, changes, message):
    write_pet(tmp_path, **{"SeriesTime": "113000", **changes})
    with pytest.raises(InputError, match=message):
        read_pet(tmp_path)


@pytest.mark.parametrize(
    ("suv_type", "normaliser_g"),
    [
        (None, 70000.0),
        ("BW", 70000.0),
        ("LBM", suv.lean_body_mass_james_kg(70, 175, "M") * 1000),
        ("LBMJAMES128", suv.lean_body_mass_james128_kg(70, 175, "M") * 1000),
        ("LBMJANMA", suv.lean_body_mass_janmahasatian_kg(70, 175, "M") * 1000),
        ("IBW", suv.ideal_body_weight_kg(175, "M") * 1000),
        ("BSA", suv.body_surface_area_m2(70, 175) * 1e4),
    ],
)
def test_files_that_hold_suv_come_back_to_body_weight(tmp_path, suv_type, normaliser_g):
    write_pet(tmp_path, np.full((5, 8, 8), 1000), Units="GML", SUVType=suv_type, RescaleSlope=normaliser_g / 70e6)
    assert suv_of(tmp_path)[0] == pytest.approx(1.0, rel=1e-5)


def test_suv_files_need_no_injection(tmp_path):
    write_pet(tmp_path, Units="GML", RadiopharmaceuticalInformationSequence=None, PatientWeight=None)
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(5000)
    assert facts["minutes_after_injection"] is None
    write_pet(tmp_path / "b", Units="GML")
    assert suv_of(tmp_path / "b")[1]["minutes_after_injection"] == 60


def test_lean_suv_without_sex_takes_the_mean_and_says_so(tmp_path):
    write_pet(tmp_path, Units="GML", SUVType="LBM", PatientSex="O", PatientSize=175)
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(5000 * 70 / suv.lean_body_mass_james_kg(70, 175, "O"), rel=1e-6)
    assert len(facts["warnings"]) == 2  # mean of both sexes; height in centimetres


PHILIPS = "Philips PET Private Group"


def test_philips_counts(tmp_path):
    write_pet(tmp_path / "suv", Units="CNTS", private={PHILIPS: (0x7053, 0x00, "DS", "0.0005")})
    assert suv_of(tmp_path / "suv")[0] == pytest.approx(2.5)
    write_pet(tmp_path / "bq", np.full((5, 8, 8), 100), Units="CNTS", RescaleSlope=5,
              private={PHILIPS: (0x7053, 0x09, "DS", "10")})  # fmt: skip
    assert suv_of(tmp_path / "bq")[0] == pytest.approx(1.38168, abs=1e-4)
    write_pet(tmp_path / "none", Units="CNTS")
    with pytest.raises(InputError, match=r"7053,1000.*7053,1009"):
        read_pet(tmp_path / "none")


def test_philips_zero_suv_factor_falls_to_the_activity_factor(tmp_path):
    paths = write_pet(tmp_path, Units="CNTS")
    for path in paths:
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x7053, PHILIPS, create=True)
        block.add_new(0x00, "DS", "0")
        block.add_new(0x09, "DS", "1")
        dataset.save_as(path)
    assert suv_of(tmp_path)[0] == pytest.approx(1.38168, abs=1e-4)


def _philips(folder, factors):
    """CNTS files with the private factors {element: text, or function of the slice}."""
    for k, path in enumerate(write_pet(folder, Units="CNTS")):
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x7053, PHILIPS, create=True)
        for element, text in factors.items():
            block.add_new(element, "DS", text(k) if callable(text) else text)
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({0x00: "-0.0005", 0x09: "1"}, "7053,1000.*-0.0005"),
        ({0x00: lambda k: "0.0005" if k else "0", 0x09: "1"}, "7053,1000.* slice 1 of 5"),
        ({0x09: "-1"}, "7053,1009.*-1"),
        ({0x00: "0", 0x09: "0"}, "7053,1000.*7053,1009"),
        ({0x00: "0"}, "7053,1000.*7053,1009"),
    ],
)
def test_philips_factors_that_are_not_above_zero_are_refused(tmp_path, factors, message):
    _philips(tmp_path, factors)
    with pytest.raises(InputError, match=message):
        read_pet(tmp_path)


def test_philips_factor_that_is_no_number_is_refused(tmp_path):
    write_pet(tmp_path, Units="CNTS", private={PHILIPS: (0x7053, 0x00, "LO", "x")})
    with pytest.raises(InputError, match=r"7053,1000.*not a number"):
        read_pet(tmp_path)


@pytest.mark.parametrize("units", ["BQML", "GML"])
@pytest.mark.parametrize("dose", [370e3, 0.37, 0.9e6, 10.1e9])  # kBq, GBq, below and above the limits
def test_activity_nobody_injects_is_refused(tmp_path, dose, units):
    write_pet(tmp_path, RadionuclideTotalDose=dose, Units=units)
    with pytest.raises(InputError, match=r"0018,1074.*MBq") as error:
        read_pet(tmp_path)
    assert "kBq" in error.value.hint


@pytest.mark.parametrize("dose", [1e6, 10e9, 1.0])
def test_activity_at_the_limits_is_unusual(tmp_path, dose):
    write_pet(tmp_path, RadionuclideTotalDose=dose)
    assert any("unusual" in w for w in suv_of(tmp_path)[1]["warnings"])


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("PatientWeight", 80, "0010,1030"),
        ("PatientWeight", None, "0010,1030"),
        ("RadionuclideTotalDose", 380e6, "0018,1074"),
        ("RadionuclideHalfLife", 6600, "0018,1075"),
        ("RadiopharmaceuticalStartTime", "100100", "0018,1072"),
        ("RadiopharmaceuticalStartDateTime", "20250101100100", "0018,1078"),
    ],
)
def test_one_slice_with_another_injection_is_refused(tmp_path, keyword, value, tag):
    path = write_pet(tmp_path)[3]
    dataset = pydicom.dcmread(path)
    holder = dataset if keyword in dataset else dataset.RadiopharmaceuticalInformationSequence[0]
    setattr(holder, keyword, value)
    dataset.save_as(path)
    with pytest.raises(InputError, match=f"{tag}.*differs between slices"):
        read_pet(tmp_path)


def test_one_value_in_two_spellings_is_one_value(tmp_path):
    write_pet(tmp_path, PatientWeight=lambda k: "70" if k else "70.0")
    assert suv_of(tmp_path)[0] == pytest.approx(1.38168, abs=1e-4)


def test_midnight_crossing(tmp_path):
    night = {"SeriesDate": "20250102", "AcquisitionDate": "20250102"} | dict.fromkeys(
        ("SeriesTime", "AcquisitionTime"), "003000"
    )
    dates = {"RadiopharmaceuticalStartTime": "233000", "RadiopharmaceuticalStartDateTime": "20250101233000"}
    write_pet(tmp_path / "dated", **night, **dates)
    write_pet(tmp_path / "undated", **night, **{**dates, "RadiopharmaceuticalStartDateTime": None})
    assert suv_of(tmp_path / "dated")[0] == pytest.approx(1.38168, abs=1e-4)
    value, facts = suv_of(tmp_path / "undated")
    assert value == pytest.approx(1.38168, abs=1e-4)
    assert any("day before" in w for w in facts["warnings"])


@pytest.mark.parametrize("correction", ["START", "NONE"])
def test_beds_on_both_sides_of_midnight_under_one_date(tmp_path, correction):
    tags = {
        "SeriesTime": "235900", "RadiopharmaceuticalStartTime": "220000", "DecayCorrection": correction,
        "RadiopharmaceuticalStartDateTime": "20250101220000", "FrameReferenceTime": None,
        "AcquisitionTime": lambda k: "235900" if k < 3 else "000400",
    }  # fmt: skip
    write_pet(tmp_path, **tags)
    volume = read_pet_series(scan_folder(tmp_path).series[0]).volume
    waited = np.array([119.0] * 3 + [124.0 if correction == "NONE" else 119.0] * 2) * 60
    extra = suv.mean_decay_time_s(300, 6586.2) if correction == "NONE" else 0.0
    expected = [5000 * suv.suvbw_factor(70, 370e6, t + extra, 6586.2) for t in waited]
    np.testing.assert_allclose(volume.array[:, 0, 0], expected, rtol=1e-5)
    assert volume.facts["minutes_after_injection"] == pytest.approx(119)
    assert "after midnight were counted to the next day" in " ".join(volume.facts["warnings"])


def test_start_datetime_is_preferred_over_start_time(tmp_path):
    write_pet(tmp_path, RadiopharmaceuticalStartTime="103000")
    assert suv_of(tmp_path)[0] == pytest.approx(1.38168, abs=1e-4)


def test_utc_offset_of_the_injection(tmp_path):
    write_pet(tmp_path, TimezoneOffsetFromUTC="+0200", RadiopharmaceuticalStartDateTime="20250101080000.00+0000")
    assert suv_of(tmp_path)[0] == pytest.approx(1.38168, abs=1e-4)


def test_dose_in_megabecquerel_is_converted_with_a_warning(tmp_path):
    write_pet(tmp_path, RadionuclideTotalDose=370)
    value, facts = suv_of(tmp_path)
    assert value == pytest.approx(1.38168, abs=1e-4)
    assert any("MBq" in w for w in facts["warnings"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PatientWeight": None}, "0010,1030"),
        ({"PatientWeight": 0}, "0010,1030"),
        ({"PatientWeight": 70000}, "0010,1030"),
        ({"RadionuclideTotalDose": None}, "0018,1074"),
        ({"RadionuclideHalfLife": None, "Radiopharmaceutical": "unheard-of"}, "0018,1075"),
        ({"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None}, "0018,1078.*0018,1072"),
        ({"RadiopharmaceuticalInformationSequence": None}, "0018,1074"),
        ({"CorrectedImage": ["NORM", "DECY"]}, "0028,0051.*ATTN"),
        ({"CorrectedImage": ["NORM", "ATTN"]}, "0028,0051.*DECY"),
        ({"CorrectedImage": None}, "0028,0051"),
        ({"DecayCorrection": None}, "0054,1102"),
        ({"DecayCorrection": "SCAN"}, "0054,1102"),
        ({"Units": "PCNT"}, "0054,1001"),
        ({"Units": None}, "0054,1001"),
        ({"Units": "PROPCNTS"}, "0054,1001"),
        ({"Units": "GML", "SUVType": "LBM", "PatientSize": None}, "0010,1020"),
        ({"Units": "GML", "SUVType": "LEAN"}, "0054,1006"),
        ({"DecayCorrection": lambda k: "START" if k else "ADMIN"}, "0054,1102.*differs"),
    ],
)
def test_missing_or_wrong_tags_are_refused_by_name(tmp_path, changes, message):
    write_pet(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as error:
        read_pet(tmp_path)
    assert error.value.hint


@pytest.mark.parametrize(("clock", "stamp"), [("121000", "20250101121000"), ("071500", "20250101071500")])
def test_injection_more_than_an_hour_late_or_two_half_lives_early_is_not_believed(tmp_path, clock, stamp):
    write_pet(tmp_path, RadiopharmaceuticalStartTime=clock, RadiopharmaceuticalStartDateTime=stamp)
    with pytest.raises(InputError, match="Implausible injection time"):
        read_pet(tmp_path)


@pytest.mark.parametrize("tracer", ["HX4", "FMISO", "FAZA"])
def test_a_hypoxia_tracer_four_hours_after_injection_is_believed(tmp_path, tracer):
    late = {"RadiopharmaceuticalStartTime": "065900", "RadiopharmaceuticalStartDateTime": None}
    write_pet(tmp_path / "late", Radiopharmaceutical=f"[18F]{tracer}", **late)
    facts = suv_of(tmp_path / "late")[1]
    assert facts["minutes_after_injection"] == 241
    assert "over two half-lives" in " ".join(facts["warnings"])
    write_pet(tmp_path / "fdg", **late)
    with pytest.raises(InputError, match="Implausible"):
        read_pet(tmp_path / "fdg")


def test_missing_half_life_of_a_fluorine18_tracer_is_known_and_said(tmp_path):
    write_pet(tmp_path / "with")
    write_pet(tmp_path / "without", RadionuclideHalfLife=None)
    complete, without = read_pet(tmp_path / "with"), read_pet(tmp_path / "without")
    assert without.volume.array == pytest.approx(complete.volume.array, rel=1e-5)
    assert any("0018,1075" in w and "fluorine-18" in w for w in without.volume.facts["warnings"])


def test_half_life_in_minutes_is_refused_by_the_tracer_alone(tmp_path):
    write_pet(tmp_path, RadionuclideHalfLife=109.77)
    with pytest.raises(InputError, match="0018,1075"):
        read_pet(tmp_path)


def test_half_life_in_minutes_is_refused(tmp_path):
    code = new_dataset("1.2.3")
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "18F"
    del code.SOPClassUID, code.SOPInstanceUID
    write_pet(tmp_path, RadionuclideHalfLife=109.77, RadionuclideCodeSequence=[code])
    with pytest.raises(InputError, match="0018,1075"):
        read_pet(tmp_path)
