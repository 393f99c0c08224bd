"""Maps of small numbers, such as an ADC of 0.0012 mm2/s, are readable wherever they are shown."""

from __future__ import annotations

from dataclasses import replace

import pydicom
import pytest

from HypoxiaDosePaintLib.cli_text import result_lines
from HypoxiaDosePaintLib.dicomrt.export import export_set
from HypoxiaDosePaintLib.report import report_html
from rt_samples import make_run

ADC = 1e-3  # of a ratio of 1: values of 0.001 to 0.0025 mm2/s


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose map is an ADC, and its planning CT."""
    result, planning = make_run(tmp_path_factory.mktemp("small"))
    volume = result.images.map.volume
    adc = volume.with_array(volume.array * ADC, "scaled", quantity="ADC", unit="mm2/s")
    findings = tuple(replace(f, map_mean=f.map_mean * ADC, map_maximum=f.map_maximum * ADC) for f in result.findings)
    curves = [replace(c, x=tuple(v * ADC for v in c.x)) for c in (result.histogram, result.volume_by_threshold)]
    sd = adc.with_array(adc.array * 0.01, "sd", quantity="ADC: standard deviation")
    images = replace(result.images, map=replace(result.images.map, volume=adc, threshold=1.15e-3, uncertainty=sd))
    return replace(
        result, images=images, findings=findings, threshold=1.15e-3, comparison="<", truth={}, histogram=curves[0],
        volume_by_threshold=curves[1],
    ), planning  # fmt: skip


def test_report_and_terminal_show_figures_that_differ_from_zero(run, tmp_path):
    result = run[0]
    finding = result.findings[0]
    html, lines = report_html(result, {}), result_lines(result, tmp_path)
    assert "&lt; 0.00115 (mm2/s)" in html
    assert f"{finding.map_mean:.4g}" in html
    assert f"{finding.map_maximum:.4g}" in html
    assert "< 0.00115 (mm2/s)" in lines
    assert f"maximum {finding.map_maximum:.3g}" in lines
    assert float(f"{finding.map_maximum:.3g}") > 0


def test_the_dicom_map_keeps_them_and_shows_them(run, tmp_path):
    result, planning = run
    export_set(result, planning, tmp_path / "out")
    for name in ("MAP", "MAP_UNCERTAINTY"):
        ds = pydicom.dcmread(tmp_path / "out" / "dicom" / f"{name}.dcm")
        groups = ds.SharedFunctionalGroupsSequence[0]
        mapping, window = groups.RealWorldValueMappingSequence[0], groups.FrameVOILUTSequence[0]
        low, high = mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped
        assert 0 < low < high < 0.01
        assert float(window.WindowWidth) == pytest.approx(high - low, rel=1e-3)
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "mm2/s"
