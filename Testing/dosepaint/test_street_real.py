"""The whole street on a real patient (IBSI STS_008): the set is complete, proven, and read the same by plastimatch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from HypoxiaDosePaintLib import cli

OPTIONS = ("--method", "fdg_surrogate", "--protocol", "welz_77_70_35", "--gtv", "GTV_Mass_CT")


@pytest.fixture(scope="module")
def real(hypoxia_data, tmp_path_factory):
    """Folder of an accepted run."""
    out = tmp_path_factory.mktemp("real") / "result"
    folder = hypoxia_data("ibsi_sts_008/dicom")
    assert cli.main(["--quiet", "run", str(folder), "--out", str(out), *OPTIONS, "--accepted-by", "Test Reviewer"]) == 0
    return out


def test_the_set_is_complete_and_proven(real):
    assert {p.name for p in (real / "dicom").iterdir()} == {
        "RTSTRUCT.dcm", "RTPLAN.dcm", "SEG.dcm", "MAP.dcm", "PRESCRIPTION.dcm",
    }  # fmt: skip
    result = json.loads((real / "result.json").read_text(encoding="utf-8"))
    assert result["patient"]["id"] == "STS_008"
    assert result["proof"]
    assert all(row["passed"] for row in result["proof"])
    assert result["findings"][0]["gtv_volume_ml"] > 0


def test_surrogate_is_said_in_report_names_and_objects(real):
    import pydicom

    report = (real / "report.html").read_text(encoding="utf-8")
    assert "not measured hypoxia" in report
    assert "GTV_Mass_CT_Sur" in report
    assert "_Hyp<" not in report
    for name in ("RTSTRUCT", "SEG", "MAP", "RTPLAN", "PRESCRIPTION"):
        ds = pydicom.dcmread(real / "dicom" / f"{name}.dcm", stop_before_pixels=True)
        assert "surrogate" in str(ds).lower(), name


def test_written_rtstruct_is_read_the_same_by_plastimatch(real, hypoxia_data, require_tool, tmp_path):
    plastimatch = require_tool("plastimatch")
    ct = hypoxia_data("ibsi_sts_008/dicom/CT/image")
    command = [
        plastimatch, "convert", "--input", str(real / "dicom" / "RTSTRUCT.dcm"), "--referenced-ct", str(ct),
        "--output-prefix", str(tmp_path / "out"), "--prefix-format", "nrrd",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "GTV_Mass_CT.nrrd"))) > 0
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(hypoxia_data("ibsi_sts_008/nifti/CT_mask.nii.gz")))) > 0
    dice = 2 * np.count_nonzero(read & truth) / (np.count_nonzero(read) + np.count_nonzero(truth))
    assert dice >= 0.99


def test_roi_drawn_on_another_modality_is_resampled_and_said(hypoxia_data, tmp_path):
    out = tmp_path / "out"
    folder = hypoxia_data("ibsi_sts_008/dicom")
    options = (*OPTIONS[:4], "--gtv", "GTV_Mass_PET")
    assert cli.main(["--quiet", "run", str(folder), "--out", str(out), *options]) == 0
    result = json.loads((Path(out) / "result.json").read_text(encoding="utf-8"))
    assert any("another series" in w for w in result["warnings"])
