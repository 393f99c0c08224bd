"""Pictures: Slicer agrees with plain resampling, left is left, outlines lie on voxel edges, failures are said."""

from __future__ import annotations

import ctypes.util
import io
import re
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from HypoxiaDosePaintLib import render
from HypoxiaDosePaintLib.pictures import frame, labels
from HypoxiaDosePaintLib.pictures.frame import edge_letters
from HypoxiaDosePaintLib.pictures.plain_views import plain_pane
from HypoxiaDosePaintLib.pictures.plan import central_voxel, make_plan
from HypoxiaMapperLib.errors import OutputError
from HypoxiaMapperLib.volume import Region, image_like
from result_samples import ball, head_grid, sample_result

HYPOXIC_COLOUR = (255, 0, 80)
PIXELS = 300


@pytest.fixture(scope="module")
def result():
    return sample_result(rigid=True)


@pytest.fixture(scope="module")
def plan(result):
    return make_plan(result, PIXELS)


@pytest.fixture(scope="module")
def views(plan):
    return slicer_views(plan)


def slicer_views(plan):
    """Views from Slicer; skipped only where Slicer or every off-screen OpenGL library is missing."""
    pytest.importorskip("trame_slicer", reason="trame-slicer is not installed: pip install trame-slicer")
    if sys.platform.startswith("linux") and not (ctypes.util.find_library("EGL") or ctypes.util.find_library("OSMesa")):
        pytest.skip("no off-screen OpenGL: apt-get install libegl1 libgl1")
    found, failure = render._slicer_views(plan)
    assert not failure
    return found


def pane(plan, key):
    return next(p for p in plan.panes if p.key == key)


def difference(plan, a, b) -> float:
    """Mean difference of two pictures (0-255) away from the outlines, which the two ways draw differently."""
    lines = np.zeros(a.shape[:2], bool)
    for contour in plan.contours:
        lines |= (a == contour.colour).all(axis=2) | (b == contour.colour).all(axis=2)
    away = ~binary_dilation(lines, iterations=3)
    return float(np.abs(a[away].astype(float) - b[away]).mean())


def assert_same_view(plan, p, view) -> None:
    """A view shows the plane of its pane; mirrored or moved by three pixels it would fit worse."""
    plain = plain_pane(plan, p)
    found = difference(plan, view, plain)
    assert found < 6, p.key  # sharp edges at half a pixel
    for moved in (plain[:, ::-1], plain[::-1], np.roll(plain, 3, axis=0), np.roll(plain, 3, axis=1)):
        assert found < 0.7 * difference(plan, view, moved), p.key


def test_slicer_shows_what_plain_resampling_shows(plan, views):
    """Two independent ways to cut the same plane."""
    for p in plan.panes:
        if p.background not in ("solid", "pet"):
            assert_same_view(plan, p, views[p.key])


def test_pet_is_dark_where_uptake_is_high(plan, views):
    for p in plan.panes:
        if p.background == "pet":
            close = np.abs(views[p.key].astype(int) - plain_pane(plan, p)).max(axis=2) < 12
            assert close.mean() > 0.9, p.key


@pytest.mark.parametrize("key", ["overview_axial", "overview_coronal"])
def test_patient_left_is_on_screen_right(plan, views, key):
    """The tumour lies on the patient's left; its hypoxic outline must be right of the middle of the head."""
    columns = np.argwhere((views[key] == HYPOXIC_COLOUR).all(axis=2))[:, 1]
    assert len(columns) > 20
    assert columns.min() > pane(plan, key).pixels / 2


def test_skull_is_on_top_and_front_is_up_or_left(plan, views):
    coronal = views["overview_coronal"].astype(int).sum(axis=2)
    half = len(coronal) // 2
    assert (coronal[:half] > 740).sum() > 3 * (coronal[half:] > 740).sum()
    rows = np.argwhere((views["overview_axial"] == HYPOXIC_COLOUR).all(axis=2))[:, 0]
    assert rows.max() < pane(plan, "overview_axial").pixels / 2  # anterior tumour: upper half
    columns = np.argwhere((views["overview_sagittal"] == HYPOXIC_COLOUR).all(axis=2))[:, 1]
    assert columns.max() < pane(plan, "overview_sagittal").pixels / 2  # anterior is left


def test_names_are_measured_without_the_library_that_slicer_shares_with_qt():
    from PIL.ImageFont import Layout

    assert frame._font(14, bold=True).layout_engine == Layout.BASIC


def test_letters_name_the_edges(plan):
    assert edge_letters(pane(plan, "axial")) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert edge_letters(pane(plan, "coronal")) == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert edge_letters(pane(plan, "sagittal")) == {"left": "A", "right": "P", "top": "S", "bottom": "I"}


def test_outline_lies_on_the_voxel_edges_of_the_mask(result, plan, views):
    """Bounding box of the drawn outline against the mask's own in that slice, to within the width of the line."""
    p = pane(plan, "axial")
    grid, hypoxic = result.images.planning.image, result.images.hypoxic
    k = central_voxel(hypoxic)[2]
    rows, columns = np.nonzero(hypoxic.array[k])
    spacing, origin = grid.GetSpacing(), grid.GetOrigin()
    mask_left = origin[0] + (columns.min() - 0.5) * spacing[0]
    mask_right = origin[0] + (columns.max() + 0.5) * spacing[0]
    mask_top = origin[1] + (rows.min() - 0.5) * spacing[1]
    drawn = np.argwhere((views["axial"] == HYPOXIC_COLOUR).all(axis=2))
    step = p.width_mm / p.pixels
    left = p.centre_mm[0] - p.width_mm / 2
    assert left + drawn[:, 1].min() * step == pytest.approx(mask_left, abs=3 * step)
    assert left + (drawn[:, 1].max() + 1) * step == pytest.approx(mask_right, abs=3 * step)
    top = p.centre_mm[1] - p.width_mm / 2
    assert top + drawn[:, 0].min() * step == pytest.approx(mask_top, abs=3 * step)


def test_3d_view_from_the_front_shows_the_hypoxic_volume_in_its_place(result, plan, views):
    """Its centre against the centre of mass of the mask, seen along the anterior axis."""
    p = pane(plan, "solid_coronal")
    picture = views["solid_coronal"].astype(int)
    red = np.argwhere(picture[..., 0] - picture[..., 1:].max(axis=2) > 60)
    assert len(red) > 100
    zyx = np.argwhere(result.images.hypoxic.array).mean(0)
    centre = result.images.planning.image.TransformContinuousIndexToPhysicalPoint(zyx[::-1].tolist())
    step = p.width_mm / p.pixels
    seen_x = p.centre_mm[0] + (red[:, 1].mean() - p.pixels / 2) * step
    seen_z = p.centre_mm[2] - (red[:, 0].mean() - p.pixels / 2) * step
    assert seen_x == pytest.approx(centre[0], abs=3.0)
    assert seen_z == pytest.approx(centre[2], abs=3.0)


def test_oblique_grid_is_shown_along_its_own_slices():
    plan = make_plan(sample_result(oblique=True, size=64), 200)
    few = replace(plan, panes=tuple(p for p in plan.panes if p.key in ("axial", "coronal", "overview_sagittal")))
    views = slicer_views(few)
    for p in few.panes:
        assert_same_view(plan, p, views[p.key])
    again = slicer_views(few)
    assert all((views[k] == again[k]).all() for k in views), "two renderings of one plan differ"


def test_every_picture_is_there_and_a_second_run_does_not_overwrite(result, plan, views, monkeypatch, tmp_path):
    from PIL import Image

    monkeypatch.setattr(render, "_slicer_views", lambda _: (dict(views), ""))
    pictures = render.render_pictures(result, tmp_path / "pictures", PIXELS)
    assert list(pictures) == [
        "axial", "coronal", "sagittal", "three_d", "overview", "slices_1", "registration",
    ]  # fmt: skip
    assert pictures.warnings == ()
    for name, png in pictures.items():
        assert (tmp_path / "pictures" / f"{name}.png").read_bytes() == png
        assert Image.open(io.BytesIO(png)).size[0] > PIXELS
    with pytest.raises(OutputError, match="exists already"):
        render.render_pictures(result, tmp_path / "pictures", PIXELS)


def test_the_hypoxic_volume_is_opaque_in_3d_also_when_it_is_a_surrogate():
    for surrogate in (False, True):
        result = sample_result(size=48, surrogate=surrogate)
        opacity = {c.name: c.opacity_3d for c in make_plan(result, 240).contours}
        assert opacity[result.images.hypoxic.name] == 1.0
        assert 0 < opacity["PTV_7000"] < opacity["PTV_7700"] < 0.5
        assert opacity["Blood"] == 0.0


def test_every_slice_of_the_hypoxic_volume_has_its_tile(result, plan):
    tiles = [p for p in plan.panes if p.key.startswith("slice_")]
    with_volume = np.flatnonzero(result.images.hypoxic.array.any(axis=(1, 2)))
    assert sorted(int(p.key[-4:]) for p in tiles) == with_volume.tolist()
    assert [p.centre_mm[2] for p in tiles] == sorted((p.centre_mm[2] for p in tiles), reverse=True)


@pytest.mark.parametrize(
    ("script", "said"),
    [("kill -SEGV $$", "crashed"), ("echo 'no EGL here' >&2; exit 3", "no EGL here"), (None, "could not be started")],
)
def test_a_failed_renderer_leaves_plain_pictures_that_say_so(monkeypatch, tmp_path, script, said):
    program = tmp_path / "python"
    if script:
        if sys.platform == "win32":
            pytest.skip("needs a POSIX shell")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    pictures = render.render_pictures(sample_result(size=48), None, 240)
    assert "three_d" not in pictures
    assert {"axial", "coronal", "sagittal", "overview", "slices_1"} <= set(pictures)
    (warning,) = pictures.warnings
    assert said in warning
    assert "not rendered by Slicer" in warning


def test_focus_is_inside_a_volume_whose_centre_of_mass_is_not():
    grid = head_grid(40)
    shell = ball(grid, (0.0, 0.0, 0.0), 30) & ~ball(grid, (0.0, 0.0, 0.0), 24)
    i, j, k = central_voxel(Region("shell", image_like(shell.astype(np.uint8), grid)))
    assert shell[k, j, i]


def test_a_volume_at_the_edge_of_the_image_gets_closed_outlines():
    base = sample_result(size=48)
    mask = np.zeros((48, 48, 48), bool)
    mask[:3, :4, :5] = True
    region = base.images.hypoxic.with_array(mask, "corner")
    structures = tuple(
        replace(s, region=region) if s.name == region.name else s for s in base.images.structures
    )  # fmt: skip
    result = replace(base, images=replace(base.images, hypoxic=region, structures=structures))
    plan = make_plan(result, 240)
    contour = next(c for c in plan.contours if c.name == region.name)
    assert contour.mask.GetSize() == (7, 6, 5)
    assert plain_pane(plan, pane(plan, "axial")).shape == (240, 240, 3)


def test_a_legend_lists_what_is_in_its_slice_and_nothing_else(result, plan):
    """Against the masks themselves, voxel by voxel, on the slice that the pane shows as a whole."""
    k = central_voxel(result.images.hypoxic)[2]
    p = pane(plan, "overview_axial")
    structures = [s.region for s in result.images.structures] + list(result.images.organs)
    here = [r.name for r in structures if r.array[k].any()]
    assert [c.name for c in labels.shown_contours([p], plan, "targets")] == here
    zoomed = [c.name for c in labels.shown_contours([pane(plan, "axial")], plan, "targets")]
    assert zoomed == [name for name in here if name != "SpinalCord"]  # in the slice, but beside what the pane shows
    assert "Blood" in {r.name for r in structures} - set(here)
    far = replace(p, centre_mm=tuple(np.array(p.centre_mm) + np.array((0, 0, 300))))
    assert labels.shown_contours([far], plan, "targets") == []
    assert len(labels.shown_contours([far, p], plan, "targets")) == len(here)


def test_a_3d_legend_leaves_out_what_is_not_drawn_or_not_in_view(plan):
    p = pane(plan, "solid_coronal")
    shown = [c.name for c in labels.shown_contours([p], plan, "targets")]
    assert {"GTVp", "GTVp_Hyp", "PTV_7000", "PTV_7700"} <= set(shown)
    assert "Blood" not in shown  # opacity 0
    aside = replace(p, centre_mm=tuple(np.array(p.centre_mm) + np.array(p.right) * 2 * p.width_mm))
    assert labels.shown_contours([aside], plan, "targets") == []


def test_a_description_names_place_and_structures_drawn_and_not_drawn(plan):
    text = labels.description([pane(plan, "axial")], plan, "targets")
    assert text.startswith(re.sub(" +", " ", pane(plan, "axial").title) + ". Drawn: GTVp, GTVp_Hyp,")
    assert text.endswith("Not in it: Blood, SpinalCord.")
    tiles = [p for p in plan.panes if p.key.startswith("slice_")]
    assert f"{len(tiles)} slices, {tiles[0].title} to {tiles[-1].title}. Drawn:" in labels.description(
        tiles, plan, "targets"
    )


@pytest.mark.parametrize("key", ["axial", "coronal", "sagittal"])
def test_names_begin_at_their_lines_and_do_not_cover_each_other(result, key):
    plan = make_plan(result, 600)
    p = pane(plan, key)
    found = labels.place_labels(p, plan)
    assert [c.contour.name for c in sorted(found, key=lambda f: f.contour.name)] == sorted(
        c.name for c in labels.shown_contours([p], plan, "targets")
    )
    for label in found:
        x, y = label.start
        mask = labels.mask_in(label.contour, p)
        assert mask[y, x]
        assert not mask[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].all()  # at its edge, not within
        assert 0 <= label.end[1] <= 600
    heights = sorted(label.end[1] for label in found)
    assert min(np.diff(heights)) >= labels.LABEL_LINE
    assert labels.place_labels(pane(make_plan(result, PIXELS), key), plan) == []  # too small a pane


def test_with_more_structures_than_names_the_targets_are_named(result):
    plan = make_plan(result, 600)
    cord = next(c for c in make_plan(result, 600).contours if c.name == "SpinalCord")
    near = next(c for c in plan.contours if c.name == "GTVp_Hyp")
    organs = tuple(replace(cord, name=f"Organ_{n}", mask=near.mask) for n in range(20))
    found = labels.place_labels(pane(plan, "axial"), replace(plan, contours=(*plan.contours, *organs)))
    assert len(found) == labels.MAXIMUM_LABELS
    assert {"GTVp", "GTVp_Hyp", "PTV_7000", "PTV_7700"} <= {label.contour.name for label in found}
    heights = sorted(label.end[1] for label in found)
    assert min(np.diff(heights)) >= labels.LABEL_LINE
    assert 0 < heights[0] < heights[-1] < 600


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("width", [600, 1232])
@pytest.mark.parametrize("colour_bar", [False, True])
def test_the_legend_stays_on_its_strip_and_off_the_colour_bar(count, width, colour_bar):
    height, places = frame.strip_places(count, width, colour_bar)
    assert len(set(places)) == len(places) == count
    for x, y in places:
        assert x + frame.LEGEND_WIDTH <= width + frame.GAP
        assert y + frame.LEGEND_LINE <= height
        assert not colour_bar or x >= frame.BLOCK_WIDTH or y >= frame.BAR_HEIGHT
    assert height >= (frame.BAR_HEIGHT if colour_bar else 0)


def test_a_crowded_picture_grows_downwards_only(result):
    from PIL import Image

    plan = make_plan(result, 600)
    crowded = replace(plan, contours=plan.contours[:1] * 40)
    views = {p.key: np.zeros((p.pixels, p.pixels, 3), np.uint8) for p in plan.panes}
    overview = render._layout(plan, set(), "hypoxic volume")["overview"]
    few, many = (
        Image.open(io.BytesIO(frame.compose(overview, views, used, result, True))).size for used in (plan, crowded)
    )
    assert many[0] == few[0] == 3 * 400 + 4 * frame.GAP
    assert many[1] > few[1]


def test_titles_of_a_surrogate_are_not_called_hypoxic(monkeypatch):
    titles = []
    monkeypatch.setattr(render, "_slicer_views", lambda _: ({}, "not here"))
    monkeypatch.setattr(render, "compose", lambda picture, *_: titles.append(picture.title) or b"")
    render.render_pictures(sample_result(size=48, surrogate=True), None, 240)
    assert "Axial slice through the surrogate volume" in titles
    assert any(t.startswith("Every slice of the surrogate volume") for t in titles)
    assert not [t for t in titles if "hypoxic" in t.lower()]


def test_the_picture_to_sign_off_says_what_black_is(plan):
    assert "PET (black is 6 g/ml)" in render._layout(plan, set(), "hypoxic volume", "g/ml")["registration"].title


def test_many_slices_go_on_several_pages(plan):
    tile = next(p for p in plan.panes if p.key.startswith("slice_"))
    many = tuple(replace(tile, key=f"slice_{n:04d}") for n in range(70))
    rest = tuple(p for p in plan.panes if not p.key.startswith("slice_"))
    layout = render._layout(replace(plan, panes=rest + many), set(), "hypoxic volume")
    shown = [p.key for name in ("slices_1", "slices_2", "slices_3") for row in layout[name].rows for p in row]
    assert shown == [t.key for t in many]
