"""Kinds of MR images by their tags."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from HypoxiaMapperLib.dicomio.recognise import find_mr_kind


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "SeriesDescription": "ep2d_diff_ADC"}, "ADC"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "EADC"]}, "eADC"),
        ({"ImageType": ["DERIVED", "PRIMARY", "ADC"], "SeriesDescription": "eADC b800"}, "eADC"),
        ({"SeriesDescription": "Exponential Apparent Diffusion Coefficient"}, "eADC"),
        ({"SeriesDescription": "Apparent Diffusion Coefficient (mm2/s)"}, "ADC"),
    ],
)
def test_an_exponential_adc_is_no_adc(tags, kind):
    header = Dataset()
    for name, value in tags.items():
        setattr(header, name, value)
    assert find_mr_kind(header)[0] == kind
