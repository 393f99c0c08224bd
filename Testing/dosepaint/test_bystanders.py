"""Segments beside the targets are looked at where the targets are, with the same answer as on the whole planning CT."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib.bystanders import box_around, bystander_warnings, cut, refuse_tumour_reference
from HypoxiaMapperLib.errors import InputError
from HypoxiaMapperLib.volume import Region, Volume, image_like

SHAPE = (20, 40, 50)


def grid() -> sitk.Image:
    """Turned by 30 degrees, slices going down."""
    image = sitk.Image(list(reversed(SHAPE)), sitk.sitkFloat32)
    image.SetSpacing((1.1, 1.3, 2.5))
    image.SetOrigin((-31.0, 12.0, 77.0))
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    image.SetDirection((c, -s, 0.0, s, c, 0.0, 0.0, 0.0, -1.0))
    return image


def region(name: str, *spans: tuple[int, int]) -> Region:
    mask = np.zeros(SHAPE, np.uint8)
    if spans:
        mask[tuple(slice(low, high) for low, high in spans)] = 1
    return Region(name, image_like(mask, grid()), "1.2", "")


TARGETS = (region("PTV_7000", (5, 15), (10, 25), (20, 41)), region("PTV_7700", (8, 16), (12, 20), (19, 30)))
ORGANS = (
    region("Inside", (9, 11), (13, 15), (25, 27)), region("Larger", (0, 20), (0, 40), (0, 50)),
    region("Touching", (15, 20), (12, 30), (29, 50)), region("Apart", (0, 5), (0, 40), (0, 50)), region("Nothing"),
)  # fmt: skip


def make_inputs(others, reference=None):
    planning = SimpleNamespace(volume=Volume(grid(), "CT", "HU", "1.2"), info=SimpleNamespace(series_uid="1"))
    return SimpleNamespace(
        gtvs=(), organs=(), reference=reference, planning=planning, scan=SimpleNamespace(by_role=lambda _role: []),
        others=tuple(others),
    )  # fmt: skip


def structures():
    return [SimpleNamespace(name=t.name, region=t, dose=object()) for t in TARGETS]


def test_the_box_of_the_targets_gives_what_the_whole_ct_gives():
    asked = []

    def reader(organ):
        def read(box):
            asked.append(box.GetSize())
            return cut(organ, box)

        return read

    found = bystander_warnings(make_inputs((o.name, reader(o)) for o in ORGANS), structures())
    ml = 1.1 * 1.3 * 2.5 / 1000
    expected = []
    for organ in ORGANS:
        shared = [(t.name, np.count_nonzero(t.array & organ.array) * ml) for t in TARGETS]
        text = " and ".join(f"{volume:.2f} ml of {name}" for name, volume in shared if volume)
        if text:
            expected.append(f"{text} overlap {organ.name}, which was not given as an organ at risk")
    assert [w.partition(" (")[0] for w in found] == expected
    assert len(found) == 3
    assert asked == [(22, 15, 11)] * len(ORGANS)  # x 19-40, y 10-24, z 5-15


def test_a_part_has_the_voxels_and_the_place_of_the_whole():
    box = box_around(TARGETS)
    part = cut(ORGANS[2], box)
    np.testing.assert_array_equal(part.array, ORGANS[2].array[5:16, 10:25, 19:41])
    whole = ORGANS[2].mask.TransformIndexToPhysicalPoint((19, 10, 5))
    assert part.mask.GetOrigin() == pytest.approx(whole)
    assert box_around([region("Nothing")]) is None
    assert bystander_warnings(make_inputs([("x", None)]), []) == []


def test_a_reference_in_a_tumour_is_refused_where_the_reference_is():
    reference = region("Ref_Blood", (0, 4), (0, 4), (0, 4))
    tumour = region("GTVn", (3, 20), (3, 40), (3, 50))
    inputs = make_inputs([("GTVn", lambda box: cut(tumour, box)), ("Apart", None)], reference)
    with pytest.raises(InputError, match=r"Ref_Blood overlaps GTVn by 0\.00 ml"):
        refuse_tumour_reference(inputs)
    apart = region("GTVn", (4, 20), (3, 40), (3, 50))
    refuse_tumour_reference(make_inputs([("GTVn", lambda box: cut(apart, box))], reference))
    with pytest.raises(InputError, match="is a tumour by its name"):
        refuse_tumour_reference(make_inputs([], region("GTV_ref")))
