"""Small synthetic CT series with their DICOM files, structures on them, and readers from other projects."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from HypoxiaDosePaintLib.prescription import DoseLevel
from HypoxiaDosePaintLib.result import Result
from HypoxiaDosePaintLib.structures import GTV_CODE, HYPOXIC_CODE, PTV_CODE, Structure
from HypoxiaMapperLib.dicomio.model import ImageSeries, SeriesInfo
from HypoxiaMapperLib.volume import Region, Volume
from result_samples import sample_result

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
PROVENANCE = {
    "software": "slicer-hypoxia",
    "method": "tracer_ratio",
    "parameters": {"reference": "muscle"},
    "threshold": "> 1.2",
    "input_uids": {"PET": "1.2.3.4"},
    "surrogate": False,
    "accepted_by": "Dr Müller",
}
TILT = np.deg2rad([12.0, -7.0, 20.0])
GEOMETRIES = {  # name: shape (z, y, x), spacing (x, y, z) mm, direction cosines as columns
    "axial": ((12, 40, 44), (1.0, 1.0, 3.0), np.eye(3)),
    "oblique": ((12, 40, 44), (0.97, 0.97, 2.5), sitk.Euler3DTransform((0, 0, 0), *TILT).GetMatrix()),
    "non_square": ((12, 36, 52), (0.7, 1.9, 3.27), np.eye(3)),
    "feet_first": ((12, 40, 44), (0.9765625, 0.9765625, 1.25), np.diag([-1.0, 1.0, -1.0])),
    "sagittal": ((14, 36, 40), (1.1, 1.3, 2.2), np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float)),
}


def make_ct(folder: Path, name: str = "axial", **changes: object) -> ImageSeries:
    """Write a synthetic CT of a named geometry to ``folder``; ``changes`` are set in every header."""
    shape, spacing, direction = GEOMETRIES[name]
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-100, 100, shape).astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin([-31.234, 17.5, -102.75])
    image.SetDirection(np.array(direction, float).ravel().tolist())
    return write_ct(folder, image, generate_uid(prefix=None), **changes)


def write_ct(folder: Path, image: sitk.Image, frame: str, **changes: object) -> ImageSeries:
    """Write an image as a CT series and return it as a decoded series."""
    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    voxels = sitk.GetArrayFromImage(image).astype(np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    headers, files = [], []
    for k in range(image.GetDepth()):
        ds = _ct_slice(image, k, study, series, frame)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        ds.PixelData = voxels[k].tobytes()
        files.append(folder / f"ct{k:03d}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
        headers.append(pydicom.dcmread(files[-1], stop_before_pixels=True))
    info = SeriesInfo("P1", "Muster^Anna", study, "20260102", series, "CT", "synthetic", "planning_ct", "", frame,
                      tuple(files))  # fmt: skip
    return ImageSeries(info, Volume(image, "CT number", "[hnsf'U]", frame), tuple(headers))


def _ct_slice(image: sitk.Image, k: int, study: str, series: str, frame: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(prefix=None)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Muster^Anna", "P1", "19600102", "F"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260102", "101112", "S1", "A1"
    ds.ReferringPhysicianName, ds.Modality, ds.Manufacturer = "", "CT", "Synthetic"
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber, ds.KVP = 1, k + 1, 1, "120"
    ds.PositionReferenceIndicator, ds.PatientPosition = "", "HFS"
    columns = np.array(image.GetDirection()).reshape(3, 3)
    ds.ImageOrientationPatient = [f"{v:.12g}" for v in [*columns[:, 0], *columns[:, 1]]]
    ds.ImagePositionPatient = [f"{v:.10g}" for v in image.TransformIndexToPhysicalPoint((0, 0, k))]
    ds.PixelSpacing = [image.GetSpacing()[1], image.GetSpacing()[0]]
    ds.SliceThickness = image.GetSpacing()[2]
    ds.Rows, ds.Columns = image.GetHeight(), image.GetWidth()
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
    return ds


def make_region(planning: ImageSeries, name: str, array: np.ndarray) -> Region:
    """A region on the planning grid."""
    mask = sitk.GetImageFromArray(np.asarray(array, np.uint8))
    mask.CopyInformation(planning.volume.image)
    return Region(name, mask, planning.info.frame_of_reference_uid, "test")


def shapes(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Masks that are hard to write: holes, islands, single slice and voxel, first and last slice."""
    z, y, x = np.indices(shape)
    middle = [n / 2 for n in shape]
    ball = ((z - middle[0]) / 4.5) ** 2 + ((y - middle[1]) / 12) ** 2 + ((x - middle[2]) / 14) ** 2 <= 1
    hollow = ball & ~((np.abs(y - middle[1]) < 4) & (np.abs(x - middle[2] + 5) < 3))
    hollow &= ~((np.abs(y - middle[1] - 1) < 3) & (np.abs(x - middle[2] - 5) < 2))
    hollow |= ball & (np.abs(y - middle[1]) < 2) & (np.abs(x - middle[2] + 5) < 1)  # an island in a hole
    islands = ((y // 5 + x // 6 + z) % 3 == 0) & ball
    one_slice = ball & (z == shape[0] // 2)
    one_voxel = np.zeros(shape, bool)
    one_voxel[3, 7, 11] = True
    ends = (np.abs(y - 15) < 6) & (np.abs(x - 20) < 7)  # every slice, the first and the last too
    corner = (y < 3) & (x < 4)  # touches the border of the image
    return {"ball": ball, "hollow": hollow, "islands": islands, "one_slice": one_slice, "one_voxel": one_voxel,
            "ends": ends, "corner": corner}  # fmt: skip


def shape_structures(planning: ImageSeries) -> list[Structure]:
    """A structure for each hard shape."""
    found = shapes(planning.volume.array.shape)
    return [
        Structure(make_region(planning, n, a), "GTV", GTV_CODE, (255, 0, 0), "test shape") for n, a in found.items()
    ]


def painted_structures(planning: ImageSeries) -> list[Structure]:
    """GTV, hypoxic volume inside it, boost and base target, as a run exports them."""
    found = shapes(planning.volume.array.shape)
    gtv, hypoxic = found["ball"], found["ball"] & found["ends"]
    boost = np.pad(hypoxic, 1)[1:-1, 1:-1, :-2] | hypoxic
    base = np.pad(gtv, 1)[1:-1, :-2, 1:-1] | gtv | boost
    base_level, boost_level = DoseLevel("base", 70.0, 35), DoseLevel("boost", 77.0, 35)
    rows = [
        ("GTVp", gtv, "GTV", GTV_CODE, None, ""),
        ("GTVp_Hyp", hypoxic, "GTV", HYPOXIC_CODE, None, "GTVp"),
        ("PTV_7700", boost, "PTV", PTV_CODE, boost_level, ""),
        ("PTV_7000", base, "PTV", PTV_CODE, base_level, ""),
    ]
    return [
        Structure(
            make_region(planning, n, a), kind, code, (10 * i, 200, 30), f"{n} of the test", dose=dose, enclosed_by=e
        )
        for i, (n, a, kind, code, dose, e) in enumerate(rows)
    ]


def make_run(
    folder: Path, oblique: bool = False, surrogate: bool = False, write_rtdose: bool = True
) -> tuple[Result, ImageSeries]:
    """A result by hand and the CT series it lives on."""
    result = sample_result(oblique=oblique, surrogate=surrogate, size=48)
    planning = write_ct(folder / "ct", result.images.planning.image, result.images.planning.frame_of_reference_uid)
    return replace(result, request=replace(result.request, write_rtdose=write_rtdose)), planning


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two boolean arrays."""
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def scripts_tool(name: str) -> str:
    """Path of a program that came with a Python package (dcmqi); skips the test when it is not installed."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (PyPI package dcmqi)")
    return found


def output_of(*command: object) -> str:
    """Standard output and error of a program together; fails on a crash."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, check=False,
                          errors="replace")  # fmt: skip
    assert done.returncode >= 0, f"{command[0]} crashed: {done.stderr[-500:]}"
    return done.stdout + done.stderr


def iod_errors(dciodvfy: str, path: Path) -> list[str]:
    """Error lines of dciodvfy for one object."""
    return [line for line in output_of(dciodvfy, path).splitlines() if "Error" in line]


def plastimatch_masks(plastimatch: str, rtstruct: Path, ct_folder: Path, work: Path) -> dict[str, np.ndarray]:
    """What plastimatch reads from an RTSTRUCT: name to array (z, y, x)."""
    work.mkdir(parents=True, exist_ok=True)
    output_of(plastimatch, "convert", "--input", rtstruct, "--referenced-ct", ct_folder, "--output-prefix",
              work / "masks", "--prefix-format", "nrrd")  # fmt: skip
    return {p.stem: sitk.GetArrayFromImage(sitk.ReadImage(str(p))) > 0 for p in (work / "masks").glob("*.nrrd")}
