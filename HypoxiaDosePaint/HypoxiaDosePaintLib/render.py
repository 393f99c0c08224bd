"""Pictures of a result, as Slicer shows it: slices through the hypoxic volume, 3D, every slice, registration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import HypoxiaMapperLib
from HypoxiaMapperLib.errors import OutputError

from .pictures.frame import Picture, checkerboard, compose
from .pictures.labels import description
from .pictures.plain_views import plain_pane
from .pictures.plan import TILES_PER_PAGE, Pane, Plan, make_plan
from .result import Result
from .wording import unit_text, volume_word

PANE_PIXELS = 600
CHILD_SECONDS = 180.0
HINT = "Needed: pip install trame-slicer, and on Debian or Ubuntu apt-get install libegl1 libgl1."
ORIENTATIONS = ("axial", "coronal", "sagittal")


class Pictures(dict[str, bytes]):
    """PNG files by name (``axial``, ``three_d``, ``slices_1`` ...), and what a reader must know about them.

    ``descriptions`` says by name, for those who cannot see a picture, where its slices lie and what is drawn in them.
    """

    def __init__(
        self, files: dict[str, bytes], warnings: tuple[str, ...] = (), descriptions: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(files)
        self.warnings = warnings
        self.descriptions = dict(descriptions or {})


def render_pictures(result: Result, out: Path | None = None, size: int = PANE_PIXELS) -> Pictures:
    """Render every picture of a result.

    Slicer's own views are drawn off screen in a child process. If that fails, the slice pictures are made by plain
    resampling and say so, the 3D picture is left out, and ``warnings`` of the answer gives the reason.

    Parameters
    ----------
    result : Result
        With its images.
    out : Path or None
        Folder (made if missing) that also receives the PNG files; nothing in it is overwritten.
    size : int
        Side of a large view in pixels.

    Raises
    ------
    OutputError
        If a file exists already or cannot be written.
    """
    plan = make_plan(result, size)
    views, failure = _slicer_views(plan)
    if failure:
        views = {p.key: plain_pane(plan, p) for p in plan.panes if p.background != "solid"}
    for pane in plan.panes:
        if pane.key.startswith("registration_pet_"):
            ct = views[pane.key.replace("_pet_", "_ct_")]
            views[pane.key.replace("_pet_", "_checker_")] = checkerboard(ct, views[pane.key], pane)
    pet_unit = unit_text(result.images.pet.unit) if result.images.pet else ""
    layout = _layout(plan, set(views), volume_word(result.images.map.surrogate), pet_unit)
    files = {name: compose(p, views, plan, result, not failure) for name, p in layout.items()}
    warning = f"The pictures were not rendered by Slicer, and there is no 3D view: {failure}. {HINT}" if failure else ""
    if out is not None:
        _write(files, out)
    return Pictures(
        files, (warning,) if warning else (), {n: description(p.panes, plan, p.group) for n, p in layout.items()}
    )


def _layout(plan: Plan, available: set[str], volume: str, pet_unit: str = "") -> dict[str, Picture]:
    """Which panes make which picture, in the order of the report; ``volume`` is the word for what they show."""
    panes = {p.key: p for p in plan.panes}

    def row(prefix: str) -> tuple[Pane, ...]:
        return tuple(panes[f"{prefix}_{o}"] for o in ORIENTATIONS)

    layout = {o: Picture(f"{o.capitalize()} slice through the {volume}", ((panes[o],),)) for o in ORIENTATIONS}
    if "solid_axial" in available:
        layout["three_d"] = Picture("Targets in 3D", (row("solid")[1:] + row("solid")[:1],), colour_bar=False)
    if "uncertainty_axial" in panes:
        layout["uncertainty"] = Picture("Uncertainty of the map", (row("uncertainty"),), overlay="uncertainty")
    layout["overview"] = Picture("Overview", (row("overview"),))
    tiles = [p for p in plan.panes if p.key.startswith("slice_")]
    pages = range(0, len(tiles), TILES_PER_PAGE)
    for number, first in enumerate(pages, 1):
        page = tiles[first : first + TILES_PER_PAGE]
        of = f", part {number} of {len(pages)}" if len(pages) > 1 else ""
        rows = tuple(tuple(page[i : i + 5]) for i in range(0, len(page), 5))
        layout[f"slices_{number}"] = Picture(f"Every slice of the {volume} ({len(tiles)}){of}", rows)
    if "registration_pet_axial" in panes:
        checker = tuple(replace(p, key=p.key.replace("_pet_", "_checker_")) for p in row("registration_pet"))
        black = f"{plan.windows['pet'][1]:.3g} {pet_unit}".strip()
        title = f"Registration to sign off: PET (black is {black}) with CT outlines; below, CT and PET in squares"
        layout["registration"] = Picture(title, (row("registration_outlined"), checker), colour_bar=False, group="body")
    return layout


def _slicer_views(plan: Plan) -> tuple[dict[str, np.ndarray], str]:
    """Views by key from a child process, and the reason if there are none."""
    from .pictures.slicer_views import write_plan

    reasons: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hypoxia_pictures_") as name:
        folder = Path(name)
        write_plan(plan, folder)
        for window in _render_windows():
            reason = _run_child(folder, window)
            if not reason:
                return {p.key: np.load(folder / f"{p.key}.npy") for p in plan.panes}, ""
            reasons.append(reason)
    return {}, "; ".join(dict.fromkeys(reasons))


def _render_windows() -> tuple[str, ...]:
    """Ways to draw without a display, in the order they are tried; empty for the platform's own."""
    return ("vtkEGLRenderWindow", "vtkOSOpenGLRenderWindow") if sys.platform.startswith("linux") else ("",)


def _python() -> str:
    """The Python to run: ``sys.executable`` of the Slicer application is none, but PythonSlicer is beside it."""
    if Path(sys.executable or "").name.lower().startswith("python"):
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


def _run_child(folder: Path, window: str) -> str:
    """Run the renderer; empty when it rendered every pane, else the reason in one line."""
    packages = {Path(__file__).parents[1], Path(HypoxiaMapperLib.__file__).parents[1]}
    paths = [*(str(p) for p in sorted(packages)), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    if window:
        env["VTK_DEFAULT_OPENGL_WINDOW"] = window
    command = [_python(), "-m", f"{__package__}.pictures.slicer_views", str(folder)]
    try:
        done = subprocess.run(
            command,
            env=env,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the renderer took longer than {CHILD_SECONDS:g} s"
    except OSError as error:
        return f"the renderer could not be started ({error})"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return f"{window or 'renderer'} crashed (signal {-done.returncode})"
    return f"{window or 'renderer'}: {lines[-1] if lines else f'exit code {done.returncode}'}"


def _write(files: dict[str, bytes], out: Path) -> None:
    """Write the PNG files, none over another."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with (out / f"{name}.png").open("xb") as stream:
                stream.write(content)
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists already.", "Choose a new output folder.") from error
    except OSError as error:
        message = f"Pictures cannot be written to {out}: {error.strerror}."
        raise OutputError(message, "Check space and rights.") from error
