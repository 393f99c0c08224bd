"""Where a written and proven set goes besides its own folder: the export dialog's folder, Slicer's DICOM database."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import slicer

from HypoxiaMapperLib.panel.i18n import _


def copy_new(files: Sequence[Path], target: Path) -> str:
    """Copy files into a folder that holds none of them; why not, or empty."""
    target.mkdir(parents=True, exist_ok=True)
    taken = [file.name for file in files if (target / file.name).exists()]
    if taken:
        return _("Nothing is overwritten: {names} exist in {folder}.").format(names=", ".join(taken), folder=target)
    for file in files:
        shutil.copy2(file, target)
    return ""


def add_to_database(folder: Path) -> str:
    """Copy a set into Slicer's DICOM database; what to tell the user."""
    database = slicer.dicomDatabase
    if database is None or not database.isOpen:
        return _(
            "It was NOT added to the Slicer DICOM database, which is not open: open the DICOM module once, then import "
            "the folder there."
        )
    from DICOMLib import DICOMUtils

    DICOMUtils.importDicom(str(folder), database, True)
    return _("Added to the Slicer DICOM database.")
