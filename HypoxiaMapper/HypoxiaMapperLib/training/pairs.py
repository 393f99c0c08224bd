"""A site's own patients: one folder each, NIfTI with JSON sidecars.

``<key>.nii.gz`` for each image there is (keys of ``channels.CHANNELS``), ``gtv.nii.gz`` and ``ratio.nii.gz``, the
measured ratio that is learned. The sidecar of every image says ``Quantity`` and ``Units``; all images of a patient
share one frame of reference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..inference.channels import KEYS
from ..niftiio import read_nifti_volume, read_sidecar, sidecar_of
from ..volume import Region, Volume

SUFFIXES = (".nii.gz", ".nii")
TARGET, TARGET_UNIT = "ratio", "{ratio}"
SAME_SCAN = 0.999
"""Two scans of one patient agree to about 0.65 (METHODS 6); a copy, rounded or scaled, to more than this."""


def patient_folders(folder: Path) -> list[Path]:
    """Folders of the patients, by name.

    Raises
    ------
    InputError
        If there are fewer than two.
    """
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if len(found) < 2:
        raise InputError(
            f"{folder} holds {len(found)} patient folders.", "At least two are needed: one to train, one to validate."
        )
    return found


def read_patient(folder: Path) -> tuple[dict[str, Volume], Region, Volume]:
    """Images by key, GTV and the ratio to learn.

    Raises
    ------
    InputError
        If GTV, ratio, all images, a sidecar or one of its fields is missing.
    GeometryError
        If the sidecars name different frames of reference.
    """
    images = {key: _volume(folder, key) for key in KEYS if _find(folder, key)}
    ratio, mask = _volume(folder, TARGET), _volume(folder, "gtv")
    if not images:
        raise InputError(f"{folder} holds none of the images {', '.join(KEYS)}.", "Name the files <key>.nii.gz.")
    if ratio.unit != TARGET_UNIT:
        raise InputError(f"{folder.name}: ratio is in {ratio.unit}.", f"A ratio to blood in {TARGET_UNIT} is learned.")
    frame_uid = mask.frame_of_reference_uid or ratio.frame_of_reference_uid  # a mask often comes without a sidecar
    frames = {v.frame_of_reference_uid for v in (*images.values(), ratio)} | {frame_uid}
    if len(frames) > 1:
        raise GeometryError(
            f"{folder.name}: the sidecars name {len(frames)} frames of reference.", "Register the images first."
        )
    if "hypoxia_pet" in images:
        _require_another_scan(images["hypoxia_pet"], ratio, folder)
    region = Region("gtv", sitk.Cast(mask.image > 0.5, sitk.sitkUInt8), frame_uid, folder.name)
    return images, region, ratio


def _require_another_scan(pet: Volume, ratio: Volume, folder: Path) -> None:
    """Refuse the ratio as its own input: the network would learn to copy, and look excellent.

    Raises
    ------
    InputError
        If the hypoxia PET is the ratio, up to a factor.
    """
    if pet.array.shape != ratio.array.shape:
        return
    known = np.isfinite(pet.array) & np.isfinite(ratio.array)
    if known.sum() > 2 and np.corrcoef(pet.array[known], ratio.array[known])[0, 1] > SAME_SCAN:
        raise InputError(
            f"{folder.name}: hypoxia_pet is the ratio itself (r > {SAME_SCAN}).",
            "Give another scan (a repeat, an early frame) as hypoxia_pet, or leave it out.",
        )


def _find(folder: Path, key: str) -> Path | None:
    return next((folder / f"{key}{suffix}" for suffix in SUFFIXES if (folder / f"{key}{suffix}").is_file()), None)


def _volume(folder: Path, key: str) -> Volume:
    """An image whose sidecar says what it measures; the GTV needs none."""
    path = _find(folder, key)
    if path is None:
        raise InputError(f"{folder} has no {key}.nii.gz.", "Every patient needs gtv, ratio and at least one image.")
    facts = read_sidecar(path, required=key != "gtv")
    given = {name: str(facts.get(name, "")) for name in ("Quantity", "Units", "FrameOfReferenceUID")}
    if key == "gtv":
        given |= {"Quantity": "mask", "Units": "1"}
    if not given["Quantity"] or not given["Units"]:
        raise InputError(
            f"{sidecar_of(path)} does not say Quantity and Units.", 'E.g. {"Quantity": "SUVbw", "Units": "g/ml"}.'
        )
    return read_nifti_volume(path, given["Quantity"], given["Units"], given["FrameOfReferenceUID"])
