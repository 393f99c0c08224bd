"""FDG to predicted FMISO ratio with the published MSKCC network: its published processing around it.

Zhao et al. 2025, doi 10.1016/j.phro.2025.100769; numbers as published with the network. The way through:

    FDG as SUV by lean body mass, GTV -> every axial slice at 1.95 mm -> each connected component of the GTV alone, its
    box of each slice in the middle of 32 x 32 pixels -> network -> back to the voxels of the component

The authors run it on the grid of the FDG. Here it runs on the grid it is given, with axes along the patient.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import GeometryError, InputError
from ..suv import suvbw_from_suv_factor
from ..volume import Region, Volume, image_like, require_same_grid
from .mskcc_network import PATCH, make_generator, own_state
from .user_models import MSKCC_TBR, read_weights
from .weights import load_strictly

if TYPE_CHECKING:
    import torch

PIXEL_MM = 1.95
FDG_MAX = 30.1237
"""SUV by lean body mass, g/ml: the training data's maximum; the input is clipped there."""
RATIO_MAX = 4.7117
"""FMISO target-to-blood ratio that the network's largest output, 1, stands for."""
HYPOXIC_ABOVE = 1.2
"""Hypoxic where the predicted ratio is above this (the same publication)."""
LARGEST_BOX_MM = PATCH * PIXEL_MM
SUV_LBM = "SUVlbm"
_AXIS_TOLERANCE = 1e-4
_TIE = 1e-6  # a centre half-way between two voxels belongs to the one of the higher index, whatever the rounding

Network = Callable[[np.ndarray], np.ndarray]
"""Patches (n, 32, 32) in [-1, 1] to the network's output, same shape; float32."""


@dataclass(frozen=True)
class Prediction:
    """What the network says of one GTV.

    Parameters
    ----------
    ratio : Volume
        Predicted FMISO target-to-blood ratio on the grid given, 0 outside the GTV.
    known : numpy.ndarray
        bool (z, y, x): voxels of the GTV that have a prediction. A part of a slice so small that no centre of the
        1.95 mm grid lies in it has none.
    components, largest_box_mm, maximum_suv : int, float, float
        Components of the GTV, side of the largest box of a slice, and SUV by lean body mass before it is clipped.
    """

    ratio: Volume
    known: np.ndarray
    components: int
    largest_box_mm: float
    maximum_suv: float


def load_network() -> Network:
    """The network with the user's registered weights, on the CPU.

    It takes milliseconds there, and gives the same digits on every run.

    Raises
    ------
    RequestError
        If no file is registered.
    InputError
        If the file is not the published one (nothing of it is interpreted then) or does not fit the network.
    MissingPackageError
        If torch is not installed.
    """
    network = make_generator()
    state = own_state(tensors_of(read_weights(MSKCC_TBR.name)))
    load_strictly(network, state, MSKCC_TBR.file_name)
    return as_function(network.eval())


def tensors_of(data: bytes) -> dict[str, torch.Tensor]:
    """Tensors of a PyTorch file without running what its pickle asks for.

    Raises
    ------
    InputError
        If it holds anything but tensors by name, or is no such file.
    """
    import torch

    hint = f"Take {MSKCC_TBR.file_name} from the authors' repository; nothing of the file was run."
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"The weights are no plain tensors: {reason}", hint) from None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise InputError("The weights file holds something else than tensors by name.", hint)
    return dict(found)


def as_function(network: torch.nn.Module) -> Network:
    """A network as a function of arrays."""
    import torch

    def run(patches: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output = network(torch.from_numpy(np.ascontiguousarray(patches, np.float32))[:, None])
        return np.asarray(output[:, 0].cpu().numpy())

    return run


def to_suv_lbm(fdg: Volume) -> Volume:
    """FDG as SUV by lean body mass, g/ml; one that is ``SUVlbm`` in g/ml already is taken as it is.

    Lean body mass after James with 1.10 and 120 for men: what DICOM's SUV Type LBM and pyCERR, with which the authors
    process their images, mean by it (METHODS section 1).

    Raises
    ------
    InputError
        If weight, height or sex is not known, or the volume is neither SUVbw nor SUVlbm.
    """
    if (fdg.quantity, fdg.unit) == (SUV_LBM, "g/ml"):
        return fdg
    if (fdg.quantity, fdg.unit) != ("SUVbw", "g/ml"):
        raise InputError(
            f"The FDG image is {fdg.quantity} in {fdg.unit}.", f"The network takes SUVbw or {SUV_LBM} in g/ml."
        )
    weight_kg, height_cm, sex = (fdg.facts.get(key) for key in ("weight_kg", "height_cm", "sex"))
    missing = [
        name
        for name, there in (
            ("Patient's Weight (0010,1030)", weight_kg),
            ("Patient's Size (0010,1020)", height_cm),
            ("Patient's Sex (0010,0040) M or F", sex in ("M", "F")),
        )
        if not there
    ]
    if missing or weight_kg is None or height_cm is None:
        raise InputError(
            f"The network takes FDG as SUV by lean body mass, and the PET lacks {', '.join(missing)}.",
            f"Enter it in the PET's headers, or give an image that is {SUV_LBM} already.",
        )
    factor = 1.0 / suvbw_from_suv_factor("LBM", float(weight_kg), float(height_cm), str(sex))
    return fdg.with_array(
        fdg.array * np.float32(factor),
        f"SUVbw to SUV by lean body mass (James), factor {factor:.5f}",
        quantity=SUV_LBM,
    )


def predict_ratio(fdg: Volume, gtv: Region, network: Network) -> Prediction:
    """The published processing on the grid of the images.

    Parameters
    ----------
    fdg : Volume
        SUV by lean body mass, g/ml.
    gtv : Region
        On the grid of ``fdg``.
    network : Network
        See ``load_network``.

    Raises
    ------
    GeometryError
        If the grids differ, or the axes are oblique: the network saw axial slices only.
    InputError
        If the GTV is empty or too large for 32 x 32 pixels, or the FDG in it is NaN or negative.
    """
    require_same_grid(fdg.image, gtv.mask, "FDG and GTV")
    suv, mask = (_along_patient(image, gtv.name) for image in (fdg.image, gtv.mask))
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        raise InputError(f"GTV {gtv.name} holds no voxel of the FDG's grid.", "Name another structure.")
    planes = np.flatnonzero(inside.any(axis=(1, 2)))
    used = slice(int(planes[0]), int(planes[-1]) + 1)
    values = sitk.GetArrayViewFromImage(suv)[used].astype(np.float64)
    _check_uptake(values[inside[used]], gtv.name)
    ratio, known = np.zeros(inside.shape, np.float32), np.zeros(inside.shape, bool)
    spacing_mm = (suv.GetSpacing()[1], suv.GetSpacing()[0])
    components, pixels = _all_components(values, inside[used], spacing_mm, network, gtv.name, ratio[used], known[used])
    volume = fdg.with_array(
        _as_given(ratio, suv, fdg.image),
        f"FMISO ratio predicted by {MSKCC_TBR.title}",
        quantity="predicted FMISO target-to-blood ratio",
        unit="{ratio}",
    )
    everywhere = _as_given(known.astype(np.uint8), suv, fdg.image).astype(bool)
    maximum = float(values[inside[used]].max())
    return Prediction(volume, everywhere, components, pixels * PIXEL_MM, maximum)


def _all_components(
    values: np.ndarray,
    inside: np.ndarray,
    spacing_mm: tuple[float, float],
    network: Network,
    name: str,
    ratio: np.ndarray,
    known: np.ndarray,
) -> tuple[int, int]:
    """Fill ``ratio`` and ``known`` (z, y, x) component by component; their count, and the largest box in pixels."""
    labels, count = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    largest = 0
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        slices = box[0]
        part = labels[slices] == index
        found, pixels, seen = _component(values[slices], part, spacing_mm, network, f"GTV {name}, part {index}")
        ratio[slices][part] = found[part]
        known[slices] |= part & seen[:, None, None]
        largest = max(largest, pixels)
    return count, largest


def _component(
    values: np.ndarray, part: np.ndarray, spacing_mm: tuple[float, float], network: Network, name: str
) -> tuple[np.ndarray, int, np.ndarray]:
    """Ratio (z, y, x) of one component, side of its largest box in pixels, and which slices have a prediction."""
    fine = [_fine_centres(n, step) for n, step in zip(values.shape[1:], spacing_mm, strict=True)]
    rows, columns = (np.floor(positions + 0.5 + _TIE).astype(int) for positions, _ in fine)
    clipped = [np.clip(index, 0, n - 1) for index, n in zip((rows, columns), values.shape[1:], strict=True)]
    inside = part[:, clipped[0]][:, :, clipped[1]]
    suv = _linear(_linear(values, fine[0][0], 1), fine[1][0], 2)
    if not np.isfinite(suv[inside]).all():
        raise InputError(f"{name} touches voxels without FDG (NaN).", "Check that the PET covers the tumour.")
    scaled = np.where(inside, 2.0 * np.clip(suv, 0.0, FDG_MAX) / FDG_MAX - 1.0, -1.0)
    output = np.full(scaled.shape, -1.0)
    boxes = {z: _box(inside[z], name) for z in range(len(inside)) if inside[z].any()}
    patches = np.full((len(boxes), PATCH, PATCH), -1.0, np.float32)
    for patch, (z, (source, target)) in zip(patches, boxes.items(), strict=True):
        patch[target] = scaled[z][source]
    for patch, (z, (source, target)) in zip(network(patches) if boxes else (), boxes.items(), strict=True):
        output[z][source] = patch[target]
    ratio = RATIO_MAX / 2.0 * (output + 1.0)
    back = _linear(_linear(ratio, fine[0][1], 1), fine[1][1], 2)
    largest = max((max(side.stop - side.start for side in source) for source, _ in boxes.values()), default=0)
    return back, int(largest), np.asarray(inside.any(axis=(1, 2)))


def _box(mask: np.ndarray, name: str) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Box of a mask (y, x), and the box in the patch it goes to: in its middle by the published rule.

    With n pixels along a side, the first goes to pixel (32 - (n - 1)) // 2.

    Raises
    ------
    InputError
        If the box is larger than the patch.
    """
    source, target = [], []
    for side, axis in (("front to back", 1), ("left to right", 0)):
        found = np.flatnonzero(mask.any(axis=axis))
        first, count = int(found[0]), int(found[-1] - found[0]) + 1
        if count > PATCH:
            raise InputError(
                f"{name} is {count * PIXEL_MM:.2f} mm {side} in one axial slice; the network takes "
                f"{LARGEST_BOX_MM:.1f} mm.",
                "Split the GTV into parts that do not touch, or choose another method.",
            )
        start = (PATCH - (count - 1)) // 2
        source.append(slice(first, first + count))
        target.append(slice(start, start + count))
    return (source[0], source[1]), (target[0], target[1])


def _fine_centres(count: int, step_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices on the given grid of the centres of the 1.95 mm grid, and the other way round.

    The 1.95 mm grid has the same middle as the given one and is as long, or up to a pixel longer.
    """
    fine = int(np.ceil(count * step_mm / PIXEL_MM - 1e-9))
    there = ((count - 1) + (2 * np.arange(fine) - (fine - 1)) * (PIXEL_MM / step_mm)) / 2.0
    back = ((fine - 1) + (2 * np.arange(count) - (count - 1)) * (step_mm / PIXEL_MM)) / 2.0
    return there, back


def _linear(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation at positions (indices) along an axis; the outermost value beyond the ends."""
    last = values.shape[axis] - 1
    inside = np.clip(positions, 0.0, last)
    lower = np.minimum(np.floor(inside).astype(int), max(last - 1, 0))
    weight = (inside - lower).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    low, high = values.take(lower, axis), values.take(np.minimum(lower + 1, last), axis)
    # What has no weight has no say: NaN times 0 would be NaN.
    return np.where(weight == 0, low, np.where(weight == 1, high, low * (1.0 - weight) + high * weight))


def _check_uptake(values: np.ndarray, name: str) -> None:
    """Refuse uptake that cannot be."""
    if not np.isfinite(values).all():
        raise InputError(
            f"The FDG has no value (NaN) in {np.count_nonzero(~np.isfinite(values))} voxels of GTV {name}.",
            "Check that the PET covers the tumour.",
        )
    if values.min() < 0:
        raise InputError(
            f"The FDG is {values.min():.3g} g/ml in GTV {name}: uptake is never negative.",
            "Check the image's rescale and SUV factors.",
        )


def _along_patient(image: sitk.Image, name: str) -> sitk.Image:
    """An image with its axes to the left, back and head of the patient, as the network saw them."""
    direction = np.abs(np.array(image.GetDirection()).reshape(3, 3))
    if np.abs(direction - np.round(direction)).max() > _AXIS_TOLERANCE:
        raise GeometryError(
            f"The grid of the FDG and GTV {name} is oblique to the patient; the network saw axial slices only.",
            "Choose a planning image whose axes lie along the patient, or another method.",
        )
    return image if _axes_of(image) == "LPS" else sitk.DICOMOrient(image, "LPS")


def _as_given(array: np.ndarray, turned: sitk.Image, given: sitk.Image) -> np.ndarray:
    """An array on the turned grid, turned back to the order of the given one."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image_like(array, turned), _axes_of(given)))


def _axes_of(image: sitk.Image) -> str:
    """Where the axes of an image point, as three letters."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))
