"""RTSTRUCT of four targets on a 512 x 512 x 200 CT, beside rt-utils, DicomRTTool and plastimatch."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from measure import alternate, dice
from phantom import TARGETS, target_masks, write_ct

from HypoxiaDosePaintLib.dicomrt.rtstruct import write_rtstruct
from HypoxiaDosePaintLib.structures import GTV_CODE, HYPOXIC_CODE, PTV_CODE, Structure
from HypoxiaMapperLib.dicomio.model import ImageSeries
from HypoxiaMapperLib.dicomio.rtstruct import read_structure_set
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.volume import Region, image_like

Masks = dict[str, np.ndarray]
CREATED = datetime(2026, 1, 1, tzinfo=timezone.utc)
CODES = {"GTVp": GTV_CODE, "GTVp_Hyp": HYPOXIC_CODE, "PTV_7700": PTV_CODE, "PTV_7000": PTV_CODE}


class Work:
    """The CT on disk and loaded by both writers, the true masks in each one's form, numbered names for new files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ct, self.files = folder, folder / "ct", 0
        write_ct(self.ct)
        self.masks = target_masks()
        self.planning = load_ours(self)
        self.structures = [_structure(name, mask, self.planning) for name, mask in self.masks.items()]

    def new(self, name: str) -> Path:
        """A path that does not exist yet."""
        self.files += 1
        return self.folder / f"{self.files:03d}-{name}"

    def dice(self, masks: Masks) -> float:
        """Lowest Dice of the four targets."""
        return min(dice(self.masks[name], masks[name]) for name in TARGETS)


def _structure(name: str, mask: np.ndarray, planning: ImageSeries) -> Structure:
    image = image_like(mask.astype(np.uint8), planning.volume.image)
    region = Region(name, image, planning.info.frame_of_reference_uid, "benchmark")
    return Structure(region, name[:3], CODES[name], (200, 60, 60), "benchmark")


def contour_rows(folder: Path, repeats: int) -> list[list[str]]:
    """Rows of the table: what, program, seconds, ratio to ours, lowest Dice."""
    work = Work(folder)
    loaders = {"ours": lambda: load_ours(work), "rt-utils": lambda: load_rt_utils(work)}
    loading, _ = alternate(loaders, repeats)
    builders = [load_rt_utils(work) for _ in range(repeats + 1)]  # one for each file: rt-utils adds to what it has
    writers = {"ours": lambda: write_ours(work), "rt-utils": lambda: write_rt_utils(work, builders.pop())}
    writing, files = alternate(writers, repeats)
    reader = read_plastimatch if shutil.which("plastimatch") else read_ours
    scores = {name: work.dice(reader(work, path)) for name, path in files.items()}
    by = reader.__name__.removeprefix("read_")
    rows = _rows(f"write RTSTRUCT (Dice as {by} reads it)", writing, scores)
    both = {name: loading[name] + writing[name] for name in writing}
    rows += _rows("load the CT folder and write RTSTRUCT", both, scores)
    readers: dict[str, Callable[[Work, Path], Masks]] = {"ours": read_ours}
    if shutil.which("plastimatch"):
        readers["plastimatch"] = read_plastimatch
    readers |= {"rt-utils": read_rt_utils, "DicomRTTool": read_dicomrttool}
    tasks = {name: (lambda read=read: read(work, files["ours"])) for name, read in readers.items()}
    seconds, found = alternate(tasks, repeats)
    return rows + _rows("read RTSTRUCT and CT folder to masks", seconds, {n: work.dice(m) for n, m in found.items()})


def _rows(what: str, seconds: dict[str, float], scores: dict[str, float]) -> list[list[str]]:
    return [
        [what, name, f"{value:.2f} s", f"{value / seconds['ours']:.2f}", f"{scores[name]:.4f}"]
        for name, value in seconds.items()
    ]


def load_ours(work: Work) -> ImageSeries:
    """Scan the CT folder and decode it."""
    return read_image_series(scan_folder(work.ct).series[0])


def load_rt_utils(work: Work) -> Any:
    """The same with rt-utils, which keeps the voxels undecoded."""
    from rt_utils import RTStructBuilder

    return RTStructBuilder.create_new(dicom_series_path=str(work.ct))


def write_ours(work: Work) -> Path:
    """From regions on the CT grid to a file."""
    path = work.new("ours.dcm")
    write_rtstruct(path, work.structures, work.planning, {"software": "slicer-hypoxia"}, CREATED)
    return path


def write_rt_utils(work: Work, builder: Any) -> Path:
    """From boolean arrays (row, column, slice) to a file."""
    for name, mask in work.masks.items():
        builder.add_roi(mask=np.moveaxis(mask, 0, -1), name=name)
    path = work.new("rt-utils.dcm")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.save(str(path))
    return path


def read_ours(work: Work, path: Path) -> Masks:
    """Scan, decode the CT, rasterise."""
    planning = load_ours(work)
    regions = read_structure_set(path, planning.volume.image, planning.info.frame_of_reference_uid)
    return {name: regions[name].array for name in TARGETS}


def read_plastimatch(work: Work, path: Path) -> Masks:
    """``plastimatch convert`` to one NRRD per structure."""
    out = work.new("plastimatch")
    command = ["plastimatch", "convert", "--input", path, "--referenced-ct", work.ct, "--output-prefix", out]
    subprocess.run([*map(str, command), "--prefix-format", "nrrd"], check=True, capture_output=True)
    return {name: sitk.GetArrayFromImage(sitk.ReadImage(out / f"{name}.nrrd")).astype(bool) for name in TARGETS}


def read_rt_utils(work: Work, path: Path) -> Masks:
    """``RTStructBuilder.create_from`` and one mask per name."""
    from rt_utils import RTStructBuilder

    structures = RTStructBuilder.create_from(dicom_series_path=str(work.ct), rt_struct_path=str(path))
    return {name: np.moveaxis(structures.get_roi_mask_by_name(name), -1, 0).astype(bool) for name in TARGETS}


def read_dicomrttool(work: Work, path: Path) -> Masks:
    """``DicomReaderWriter`` over a folder that holds CT and RTSTRUCT; labels in the order of the names asked."""
    from DicomRTTool.ReaderWriter import DicomReaderWriter

    folder = work.new("dicomrttool")
    folder.mkdir()
    for file in (path, *work.ct.iterdir()):
        os.link(file, folder / file.name)
    masks = {}
    reader = DicomReaderWriter(description="bench", arg_max=False, verbose=False)
    reader.walk_through_folders(str(folder))
    reader.set_contour_names_and_associations([name.lower() for name in TARGETS])
    reader.get_images_and_mask()
    for label, name in enumerate(TARGETS, 1):
        masks[name] = reader.mask[..., label].astype(bool)
    return masks
