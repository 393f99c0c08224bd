"""What every test may ask for: test data, a digital patient, a program of another project."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

DATA_VARIABLE = "HYPOXIA_TEST_DATA"
DATA_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA_SOURCES = {
    "ibsi_sts_008": "theibsi/data_sets, ibsi_validation (doi 10.7937/K9/TCIA.2015.7GO2GSKS)",
    "suv_dro": "oncoray/suv_computation",
    "ibsi_digital_phantom": "theibsi/data_sets and oncoray/mirp",
    "osipi_dce": "OSIPI/DCE-DSC-MRI_CodeCollection",
    "osipi_ivim": "OSIPI/TF2.4_IVIM-MRI_CodeCollection",
    "pkmodeling_dro": "millerjv/PkModeling",
    "openkbp_pt_204": "ababier/open-kbp",
}
PROGRAM_PACKAGES = {
    "dciodvfy": "dicom3tools",
    "dcentvfy": "dicom3tools",
    "drtdump": "dcmtk",
    "dcmsend": "dcmtk",
    "plastimatch": "plastimatch",
    "cmake": "cmake",
    "Orthanc": "orthanc",
}
SYSTEM_FOLDERS = os.pathsep.join(("/usr/local/sbin", "/usr/sbin"))  # Debian keeps Orthanc off the path of plain users
PATIENT_SEED = 1


def find_data(relative: str) -> Path:
    """Path of a file or folder of the test data; skips the test, naming what is missing and where it comes from."""
    path = Path(os.environ.get(DATA_VARIABLE, DATA_DEFAULT)) / relative
    if not path.exists():
        source = DATA_SOURCES.get(Path(relative).parts[0], "the project's test data")
        pytest.skip(f"{relative} is missing (from {source}); set {DATA_VARIABLE} to the folder that holds it")
    return path


def find_tool(name: str) -> str:
    """Path of a program; skips the test, naming its Debian package, when it is not installed."""
    path = shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {PROGRAM_PACKAGES.get(name, name.lower())})")
    return path


@pytest.fixture(scope="session")
def hypoxia_data() -> Callable[[str], Path]:
    """``hypoxia_data("suv_dro/images")``: path of test data, or a skip that says where it comes from."""
    return find_data


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """``require_tool("dciodvfy")``: path of a program, or a skip that names its package."""
    return find_tool


@pytest.fixture(scope="session")
def digital_patient(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Any:
    """The digital head-and-neck patient, made once for all test processes: the files are to be read only."""
    from HypoxiaMapperLib.simulate.digital_patient import make_patient

    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent  # pytest-xdist gives every process a folder of its own in this one
    made = shared / "digital_patient.pickle"
    with FileLock(shared / "digital_patient.lock"):
        if not made.exists():
            made.write_bytes(pickle.dumps(make_patient(shared / "digital_patient", seed=PATIENT_SEED)))
        return pickle.loads(made.read_bytes())


@pytest.fixture(scope="session")
def exported_set(digital_patient: Any, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Result folder of one accepted run on the digital patient, made once for all test processes: read only."""
    from HypoxiaDosePaintLib.pipeline import run
    from HypoxiaDosePaintLib.request import Request

    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    out = shared / "exported_set"
    with FileLock(shared / "exported_set.lock"):
        if not out.exists():
            run(
                Request(
                    folder=str(digital_patient.folder),
                    output=str(out),
                    method="tracer_ratio",
                    protocol="welz_77_70_35",
                    gtv_rois=digital_patient.gtv_rois,
                    reference_roi=digital_patient.reference_roi,
                    organ_rois=digital_patient.organ_rois,
                    accepted_by="Test Reviewer",
                    write_rtdose=True,
                )
            )
    return out
