"""Pictures: Slicer agrees with plain resampling, left is left, outlines lie on voxel edges, failures are said."""

from __future__ import annotations

import ctypes.util
import io
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from HypoxiaDosePaintLib import render
from HypoxiaDosePaintLib.pictures import frame
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


def test_the_canvas_ends_with_the_images_and_the_legend_stays_on_it(plan):
    overview = render._layout(plan, set(), "hypoxic volume")["overview"]
    bar_only = frame.BAR_HEIGHT
    for count, height, wanted in ((2, 400, [2]), (9, 400, [0, 9]), (40, 400, [0, 14, 14, 12]), (2, bar_only, [0, 2])):
        many = replace(plan, contours=(plan.contours[0],) * count)
        columns = frame.legend_columns(overview, many, height)
        assert [len(c) for c in columns] == wanted
        for number, column in enumerate(columns):
            assert len(column) * frame.LEGEND_LINE <= height - (0 if number else bar_only)
    without = replace(overview, colour_bar=False)
    assert [len(c) for c in frame.legend_columns(without, replace(plan, contours=(plan.contours[0],) * 9), 400)] == [9]


def test_an_overview_is_no_higher_than_its_images(result):
    from PIL import Image

    organs = result.images.organs * 20
    crowded = replace(result, images=replace(result.images, organs=organs))
    plan = make_plan(crowded, 600)
    views = {p.key: np.zeros((p.pixels, p.pixels, 3), np.uint8) for p in plan.panes}
    overview = render._layout(plan, set(), "hypoxic volume")["overview"]
    size = Image.open(io.BytesIO(frame.compose(overview, views, plan, crowded, True))).size
    assert size[1] == 400 + frame.HEADER + frame.FOOTER


def test_titles_of_a_surrogate_are_not_called_hypoxic(monkeypatch):
    titles = []
    monkeypatch.setattr(render, "_slicer_views", lambda _: ({}, "not here"))
    monkeypatch.setattr(render, "compose", lambda picture, *_: titles.append(picture.title) or b"")
    render.render_pictures(sample_result(size=48, surrogate=True), None, 240)
    assert "Axial slice through the surrogate volume" in titles
    assert any(t.startswith("Every slice of the surrogate volume") for t in titles)
    assert not [t for t in titles if "hypoxic" in t.lower()]


def test_many_slices_go_on_several_pages(plan):
    tile = next(p for p in plan.panes if p.key.startswith("slice_"))
    many = tuple(replace(tile, key=f"slice_{n:04d}") for n in range(70))
    rest = tuple(p for p in plan.panes if not p.key.startswith("slice_"))
    layout = render._layout(replace(plan, panes=rest + many), set(), "hypoxic volume")
    shown = [p.key for name in ("slices_1", "slices_2", "slices_3") for row in layout[name].rows for p in row]
    assert shown == [t.key for t in many]
