"""Write the digital patient's images as DICOM series (PS3.3 A.3 CT, A.4 MR, A.21 PET).

Everything is fixed by the seed: UIDs are derived from it and dates are constant, so the same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from ..dicomio.frames import PYDICOM_2
from ..tracers import FLUORINE18_HALF_LIFE_S
from .imaging import WEIGHT_KG, PetScan
from .settings import BODY_PART

PATIENT_NAME = "DIGITAL^PATIENT"
STUDY_DAYS = {"FDG": "20260105", "FMISO": "20260106", "MR": "20260107", "PLAN": "20260107", "FAZA": "20260106",
              "HX4": "20260106"}  # fmt: skip
STUDY_TITLES = {
    "FDG": "FDG PET HEAD AND NECK",
    "FMISO": "FMISO PET HEAD AND NECK",
    "MR": "MR HEAD AND NECK",
    "PLAN": "RT PLANNING",
    "FAZA": "FAZA PET HEAD AND NECK",
    "HX4": "HX4 PET HEAD AND NECK",
}
START_TIMES = {"FDG": 9 * 3600, "FMISO": 11 * 3600 + 1800, "MR": 8 * 3600, "PLAN": 14 * 3600,
               "FAZA": 11 * 3600 + 1800, "HX4": 11 * 3600 + 1800}  # fmt: skip
"""Seconds after midnight at which the images of a study begin."""
TRACER_CODES = {
    # name, SNOMED CT code and meaning; FMISO: METHODS section 11, FDG: DICOM CID 4021; FAZA and HX4 have no code there
    "FMISO": ("Fluoromisonidazole F^18^", "422598008", "Fluoromisonidazole F^18^"),
    "FDG": ("Fluorodeoxyglucose F^18^", "35321007", "Fluorodeoxyglucose F^18^"),
    "FAZA": ("Fluoroazomycin arabinoside F^18^ (FAZA)", "", ""),
    "HX4": ("Flortanidazole F^18^ (HX4)", "", ""),
}


@dataclass(frozen=True)
class Identity:
    """The patient made from one seed: identifiers that every object shares.

    ``cohort`` names the simulated cohort of a tumour in its box of anatomy; empty for the digital patient.
    """

    seed: int
    cohort: str = ""

    @property
    def patient_id(self) -> str:
        """Patient ID; says that the patient is digital."""
        return f"SIMULATED-{self.cohort}-{self.seed}" if self.cohort else f"DIGITAL-{self.seed}"

    @property
    def frame_of_reference_uid(self) -> str:
        """One frame of reference for all images, as if registered."""
        return self.uid("frame of reference")

    def uid(self, *names: object) -> UID:
        """UID derived from the seed and a name, the same on every machine."""
        kind = f"simulated {self.cohort}" if self.cohort else "digital"
        return generate_uid(entropy_srcs=[f"hypoxia {kind} patient", str(self.seed), *map(str, names)])


def write_ct(folder: Path, image: sitk.Image, identity: Identity) -> list[Dataset]:
    """Write the planning CT; returns its slices (datasets without file) from feet to head.

    Parameters
    ----------
    image : SimpleITK.Image
        int16 HU, axial, LPS mm.
    """
    slices: list[Dataset] = []
    for index, stored in enumerate(sitk.GetArrayViewFromImage(image)):
        ds = _image_dataset(identity, "PLAN", "CT", CTImageStorage, "Planning CT", image, index)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.Exposure = "120", 200, 1000, 200
        ds.ConvolutionKernel, ds.GantryDetectorTilt = "SIMULATED", "0"
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
        ds.WindowCenter, ds.WindowWidth = "40", "400"
        _set_pixels(ds, stored.astype(np.int16))
        slices.append(ds)
    _save_series(folder, slices)
    return slices


def write_mr(folder: Path, image: sitk.Image, identity: Identity) -> list[Dataset]:
    """Write a T1-weighted spin-echo series from a uint16 image; returns its slices."""
    slices: list[Dataset] = []
    for index, stored in enumerate(sitk.GetArrayViewFromImage(image)):
        ds = _image_dataset(identity, "MR", "MR", MRImageStorage, "T1 TSE TRA", image, index)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "SK", "", "2D"
        ds.SequenceName, ds.RepetitionTime, ds.EchoTime = "T1_TSE", "550", "11"
        ds.EchoTrainLength, ds.MagneticFieldStrength, ds.FlipAngle = "3", "3", "90"
        ds.SpacingBetweenSlices = _ds(image.GetSpacing()[2])
        ds.WindowCenter, ds.WindowWidth = "450", "900"
        _set_pixels(ds, stored.astype(np.uint16))
        slices.append(ds)
    _save_series(folder, slices)
    return slices


def write_pet(folder: Path, image: sitk.Image, scan: PetScan, identity: Identity) -> list[Dataset]:
    """Write a static PET series in Bq/ml, corrected to its start, one rescale slope per slice; returns its slices."""
    slices: list[Dataset] = []
    for index, activity in enumerate(sitk.GetArrayViewFromImage(image)):
        title = f"{scan.tracer} PET AC"
        ds = _image_dataset(identity, scan.tracer, "PT", PositronEmissionTomographyImageStorage, title, image, index)
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        _set_pet_series(ds, scan, image.GetSize()[2])
        _set_isotope(ds, scan)
        decay_s = mean_decay_time_s(scan.duration_s)
        ds.FrameReferenceTime = _ds(round(decay_s * 1000.0))
        ds.DecayFactor = _ds(round(2.0 ** (decay_s / FLUORINE18_HALF_LIFE_S), 6))
        ds.ImageIndex = index + 1
        slope = float(_ds(max(float(activity.max()), 1.0) / 32767.0))
        ds.RescaleIntercept, ds.RescaleSlope = "0", _ds(slope)
        _set_pixels(ds, np.minimum(np.rint(activity / slope), 32767).astype(np.int16))
        slices.append(ds)
    _save_series(folder, slices)
    return slices


def mean_decay_time_s(duration_s: float) -> float:
    """Time in a frame when activity equals its mean, (1/l) ln(l d / (1 - exp(-l d))), decay constant l (METHODS 1)."""
    decay = np.log(2.0) / FLUORINE18_HALF_LIFE_S
    return float(np.log(decay * duration_s / -np.expm1(-decay * duration_s)) / decay)


def new_dataset(
    identity: Identity, study: str, modality: str, sop_class: UID, title: str, instance: object
) -> FileDataset:
    """Dataset with the patient, study, series and equipment modules and file meta information."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = identity.uid(study, title, instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    day, time = STUDY_DAYS[study], clock(START_TIMES[study])
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyDate = ds.SeriesDate = day
    ds.StudyTime = ds.SeriesTime = time
    ds.InstanceCreationDate, ds.InstanceCreationTime = day, time
    ds.Modality, ds.SeriesDescription, ds.StudyDescription = modality, title, STUDY_TITLES[study]
    ds.Manufacturer, ds.ManufacturerModelName, ds.InstitutionName = "SlicerHypoxia", "Digital patient", "SIMULATED"
    ds.SoftwareVersions, ds.DeviceSerialNumber = "digital patient 1", "0"
    ds.PatientName, ds.PatientID = PATIENT_NAME, identity.patient_id
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19660101", "M", "060Y"
    ds.PatientWeight, ds.PatientSize = _ds(WEIGHT_KG), "1.78"
    ds.PatientComments = "Simulated images of no person"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = identity.uid(study), identity.uid(study, title)
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = study, "", ""
    ds.SeriesNumber, ds.OperatorsName = str(list(STUDY_DAYS).index(study) + 1), ""
    return ds


def save(ds: Dataset, path: Path) -> None:
    """Write one dataset as a DICOM file; an existing file is an error."""
    with path.open("xb") as stream:
        if PYDICOM_2:
            ds.is_little_endian, ds.is_implicit_VR = True, False
            ds.save_as(stream, write_like_original=False)
        else:
            ds.save_as(stream, enforce_file_format=True)


def clock(seconds: float) -> str:
    """Seconds after midnight as a DICOM time."""
    whole = int(seconds)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _image_dataset(
    identity: Identity, study: str, modality: str, sop_class: UID, title: str, image: sitk.Image, index: int
) -> FileDataset:
    """Dataset of one axial slice with its plane, without pixels."""
    ds = new_dataset(identity, study, modality, sop_class, title, index)
    spacing = image.GetSpacing()
    position = image.TransformIndexToPhysicalPoint((0, 0, index))
    ds.AcquisitionDate = ds.ContentDate = STUDY_DAYS[study]
    ds.AcquisitionTime = ds.ContentTime = clock(START_TIMES[study])
    ds.BodyPartExamined, ds.PatientPosition = BODY_PART, "HFS"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = identity.frame_of_reference_uid, ""
    ds.ImagePositionPatient = [_ds(v) for v in position]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.SliceLocation, ds.SliceThickness = _ds(position[2]), _ds(spacing[2])
    ds.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]
    ds.AcquisitionNumber, ds.InstanceNumber = "1", str(index + 1)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    return ds


def _set_pixels(ds: Dataset, stored: np.ndarray) -> None:
    """Pixel module for a 16-bit plane."""
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = int(stored.min()), int(stored.max())
    ds.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def _set_pet_series(ds: Dataset, scan: PetScan, slices: int) -> None:
    """PET Series module: what was corrected, and to which time."""
    ds.Units, ds.CountsSource, ds.SeriesType = "BQML", "EMISSION", ["STATIC", "IMAGE"]
    ds.CorrectedImage = ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"]
    ds.DecayCorrection, ds.CollimatorType = "START", "NONE"
    ds.RandomsCorrectionMethod = "DLYD"
    ds.AttenuationCorrectionMethod = ds.ScatterCorrectionMethod = "simulated"
    ds.ReconstructionMethod = "simulated"
    ds.NumberOfSlices, ds.ActualFrameDuration = slices, str(round(scan.duration_s * 1000.0))


def _set_isotope(ds: Dataset, scan: PetScan) -> None:
    """PET Isotope module: tracer, dose and injection time."""
    name, value, meaning = TRACER_CODES[scan.tracer]
    injected = clock(START_TIMES[scan.tracer] - scan.delay_s)
    item = Dataset()
    item.Radiopharmaceutical, item.RadiopharmaceuticalVolume = name, "5"
    item.RadiopharmaceuticalStartTime = injected
    item.RadiopharmaceuticalStartDateTime = STUDY_DAYS[scan.tracer] + injected
    item.RadionuclideTotalDose = _ds(scan.dose_bq)
    item.RadionuclideHalfLife = _ds(FLUORINE18_HALF_LIFE_S)
    item.RadionuclidePositronFraction = "0.967"
    item.RadionuclideCodeSequence = [code("77004003", "SCT", "^18^Fluorine")]
    if value:
        item.RadiopharmaceuticalCodeSequence = [code(value, "SCT", meaning)]
    item.AdministrationRouteCodeSequence = [code("47625008", "SCT", "Intravenous route")]
    ds.RadiopharmaceuticalInformationSequence = [item]
    orientation = code("102538003", "SCT", "recumbent")
    orientation.PatientOrientationModifierCodeSequence = [code("40199007", "SCT", "supine")]
    ds.PatientOrientationCodeSequence = [orientation]
    del ds.PatientPosition  # PS3.3 C.7.3.1 forbids it beside the orientation code
    ds.PatientGantryRelationshipCodeSequence = [code("102540008", "SCT", "headfirst")]


def _save_series(folder: Path, slices: Sequence[Dataset]) -> None:
    """One file per slice, named by its number."""
    folder.mkdir(parents=True)
    for number, ds in enumerate(slices, start=1):
        save(ds, folder / f"{number:03d}.dcm")


def _ds(value: float) -> str:
    """Decimal string of at most 16 characters, without trailing digits from binary rounding."""
    text = f"{value:.10g}"
    return text if len(text) <= 16 else f"{value:.9g}"
