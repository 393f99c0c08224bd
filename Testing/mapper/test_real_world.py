"""MR maps in real units: believed where the file states a linear mapping to a known unit, else asked for."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_samples import write_mr
from dynamic_samples import ENHANCED_MR, group, write_enhanced
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.methods._learned import ADC_UNITS
from HypoxiaMapperLib.methods._maps import require_map

STORED = np.arange(5 * 8 * 8).reshape(5, 8, 8) + 800


def mapping(unit: str = "mm2/s", slope: float = 1e-6, scheme: str = "UCUM", intercept: float = 0.0) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, scheme, unit
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.MeasurementUnitsCodeSequence = [code]
    return item


def read(folder, **tags):
    write_mr(folder, STORED, SeriesDescription="ADC map", **tags)
    return read_image_series(scan_folder(folder).by_role("mr")[0]).volume


def test_a_stated_mapping_is_applied_to_the_stored_values_and_not_to_rescaled_ones(tmp_path):
    found = read(tmp_path, RealWorldValueMappingSequence=[mapping()], RescaleSlope=3, RescaleIntercept=7)
    assert (found.quantity, found.unit) == ("ADC", "mm2/s")
    np.testing.assert_allclose(found.array, STORED * 1e-6, rtol=1e-6)
    values = require_map({"adc": found}, "adc", "", ADC_UNITS)
    np.testing.assert_allclose(values, STORED * 1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "items",
    [[], [mapping("1")], [mapping("mm2/s", scheme="99LOCAL")], [mapping("furlong")], [mapping(), mapping(slope=1e-3)],
     [mapping(slope=0.0)]],
)  # fmt: skip
def test_anything_else_is_asked_for(tmp_path, items):
    found = read(tmp_path, RealWorldValueMappingSequence=items, RescaleSlope=2, RescaleIntercept=0)
    assert found.unit == "[arb'U]"
    np.testing.assert_allclose(found.array, STORED * 2)
    with pytest.raises(RequestError, match="unit of input adc") as error:
        require_map({"adc": found}, "adc", "", ADC_UNITS)
    assert "adc_unit" in error.value.hint
    stated = require_map({"adc": found}, "adc", "10*-6.mm2/s", ADC_UNITS)
    np.testing.assert_allclose(stated, STORED * 2e-6)


def test_the_mapping_of_an_enhanced_file_is_read_too(tmp_path):
    groups = group("RealWorldValueMappingSequence")
    groups.RealWorldValueMappingSequence = [mapping("10*-6.mm2/s", slope=1.0)]
    info = write_enhanced(tmp_path / "adc.dcm", ENHANCED_MR, STORED[None], [groups], SeriesDescription="ADC")
    found = read_image_series(info).volume
    assert found.unit == "10*-6.mm2/s"
    np.testing.assert_allclose(require_map({"adc": found}, "adc", "", ADC_UNITS), STORED * 1e-6, rtol=1e-6)


def test_slices_in_different_units_are_refused(tmp_path):
    with pytest.raises(InputError, match="slice by slice"):
        read(tmp_path, RealWorldValueMappingSequence=lambda k: [mapping()] if k else [])
