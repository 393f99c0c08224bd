"""Targets are made where a package of the export or of the map's method is not installed: Slicer offers it later."""

from __future__ import annotations

import importlib.metadata

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.scene_run import compute_targets
from paint_samples import make_street

installed_version = importlib.metadata.version


def test_targets_are_made_without_highdicom_and_the_provenance_says_so(digital_patient, monkeypatch):
    def version(name):
        if name == "highdicom":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed_version(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    street = make_street(digital_patient.folder)
    packages = compute_targets(street.choices, street.images).result.details["packages"]
    assert packages["highdicom"] == "not installed when the targets were made"
    assert packages["numpy"] == installed_version("numpy")
