"""Analytic dynamic series for the tests of the voxel-wise methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk

from HypoxiaMapperLib.kinetics.input_function import InputFunction
from HypoxiaMapperLib.kinetics.populations import feng_input
from HypoxiaMapperLib.kinetics.timing import Frames
from HypoxiaMapperLib.timeseries import ParameterSeries, TimeSeries
from HypoxiaMapperLib.volume import Region, Volume, image_like

FRAME = "1.2.826.0.1.3680043.8.498.1001"
SHAPE = (5, 6, 10)
"""Voxels of the samples (z, y, x): x < 2 is artery or reference, the rest tumour."""
PET_LENGTHS_S = np.repeat([10.0, 30.0, 60.0, 300.0, 600.0], [12, 8, 10, 10, 10])


def grid() -> sitk.Image:
    """2 x 3 x 4 mm voxels."""
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8))
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((-10.0, 5.0, 30.0))
    return image


def region(name: str, mask: np.ndarray) -> Region:
    """A region on the grid."""
    return Region(name, image_like(mask.astype(np.uint8), grid()), FRAME)


def tumour_mask() -> np.ndarray:
    """Voxels of the tumour."""
    mask = np.zeros(SHAPE, bool)
    mask[:, :, 2:] = True
    return mask


def regions(other: str = "artery") -> dict[str, Region]:
    """GTV, and the rest under the name asked for."""
    return {"gtv": region("GTVp", tumour_mask()), other: region(other.title(), ~tumour_mask())}


def pet_frames() -> Frames:
    """Frames of a 160 min study."""
    start = np.concatenate([[0.0], np.cumsum(PET_LENGTHS_S)[:-1]])
    return Frames.from_start_duration(start, PET_LENGTHS_S, "s")


def pet_input() -> InputFunction:
    """Plasma curve of the study, in the unit of the series."""
    found = feng_input(pet_frames().end_min[-1])
    return InputFunction(found.time_min, found.plasma, "g/ml", source="Feng")


def time_series(curves: np.ndarray, frames: Frames, **options: Any) -> TimeSeries:
    """A series of curves (frames, voxels of the whole grid, x fastest)."""
    given = {"quantity": "SUVbw", "unit": "g/ml", "facts": {"tracer": "FMISO"}, **options}
    return TimeSeries(
        frames=curves.reshape(len(curves), *SHAPE).astype(np.float32), grid=grid(), frame_of_reference_uid=FRAME,
        frame_start_s=frames.start_min * 60, frame_duration_s=frames.duration_min * 60, **given,
    )  # fmt: skip


def parameter_series(values: Sequence[float], frames: np.ndarray, parameter: str, **options: Any) -> ParameterSeries:
    """A series of images (values, z, y, x) or (values, voxels)."""
    return ParameterSeries(
        frames=np.asarray(frames, np.float32).reshape(len(values), *SHAPE), grid=grid(), quantity="MR signal",
        unit="[arb'U]", frame_of_reference_uid=FRAME, parameter=parameter, values=np.asarray(values, float), **options,
    )  # fmt: skip


def volume(array: np.ndarray, quantity: str, unit: str, **options: Any) -> Volume:
    """A map on the grid."""
    image = image_like(np.broadcast_to(array, SHAPE).astype(np.float32), grid())
    return Volume(image, quantity, unit, FRAME, **options)


def truth_grid(**ranges: tuple[float, float]) -> dict[str, np.ndarray]:
    """Parameters of every voxel of the grid, spread evenly and unrelated, shape (voxels,)."""
    rng = np.random.default_rng(20260101)
    n = int(np.prod(SHAPE))
    return {name: rng.permutation(np.linspace(low, high, n)) for name, (low, high) in ranges.items()}


def write_input_csv(path: Any, source: InputFunction, step: int = 8) -> None:
    """The input function as a table in minutes, thinned."""
    kept = sorted({*range(0, len(source.time_min), step), len(source.time_min) - 1})
    rows = "".join(f"{source.time_min[k]},{source.plasma[k]}\n" for k in kept)
    path.write_text("time,plasma\n" + rows, encoding="utf-8")
