"""Names that say gross tumour, and names that only speak of one."""

from __future__ import annotations

import pytest

from HypoxiaMapperLib.tumour_overlap import is_tumour_name


@pytest.mark.parametrize("name", ["GTVp", "iGTV_2", "gtv node", "PrimaryTumour", "Tumor", "Node tumour left"])
def test_gross_tumours(name):
    assert is_tumour_name(name)


@pytest.mark.parametrize(
    "name", ["NonTumour_Neck", "Body-Tumour", "Peritumoural", "Muscle_contra_tumour", "Ref_Blood", "CTV_GTV"]
)
def test_other_structures(name):
    assert not is_tumour_name(name)
