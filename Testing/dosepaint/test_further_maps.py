"""Maps beside the map: which are exported, under which name and code, and that a changed one fails the proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from HypoxiaDosePaintLib.dicomrt.export import export_set
from HypoxiaDosePaintLib.dicomrt.further_maps import MOST_MAPS, further_maps, left_out
from HypoxiaDosePaintLib.dicomrt.parametric_map import quantity_code
from HypoxiaDosePaintLib.dicomrt.verify import verify_set
from result_samples import sample_result
from rt_samples import make_run

BOX = (slice(10, 30),) * 3


def with_extra(found, names, unit="/min"):
    """A map with further ones of made-up values."""
    volume = found.volume
    extra = {n: volume.with_array(volume.array * 2, "doubled", quantity=f"{n} of the fit", unit=unit) for n in names}
    return replace(found, extra=extra)


def test_names_are_files_and_none_hides_another():
    found = with_extra(sample_result(size=48).images.map, ("Ktrans error", "ktrans_error", "aleatoric sd", "K1 (/min)"))
    files = further_maps(found, BOX)
    assert list(files) == ["MAP_KTRANS_ERROR.dcm", "MAP_KTRANS_ERROR2.dcm", "MAP_ALEATORIC_SD.dcm", "MAP_K1_MIN.dcm"]


def test_maps_without_a_value_are_not_exported_and_too_many_are_said():
    found = sample_result(size=48).images.map
    empty = found.volume.with_array(np.full(found.volume.array.shape, np.nan, np.float32), "nothing")
    many = with_extra(found, tuple(f"p{n}" for n in range(MOST_MAPS + 2)))
    assert further_maps(replace(found, extra={"delay": empty}), BOX) == {}
    assert len(further_maps(many, BOX)) == MOST_MAPS
    assert left_out(many, BOX)[0].endswith(f"p{MOST_MAPS}, p{MOST_MAPS + 1}.")
    assert left_out(found, BOX) == []


def test_long_names_that_begin_alike_are_different_codes():
    codes = {quantity_code(f"predicted FMISO tissue-to-blood ratio: {kind} standard deviation").value
             for kind in ("aleatoric", "epistemic")}  # fmt: skip
    assert len(codes) == 2
    assert all(len(code) <= 16 for code in codes)
    assert quantity_code("Ktrans").value == "126312"


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    run, planning = make_run(folder)
    found = with_extra(run.images.map, ("Ktrans", "ve"))
    sd = found.volume.with_array(found.volume.array * 0 + 0.1, "sd", quantity="Standard deviation")
    run = replace(run, images=replace(run.images, map=replace(found, uncertainty=sd)))
    return folder / "out", planning, export_set(run, planning, folder / "out")


def test_every_further_map_is_written_and_proven(delivered):
    out, planning, exported = delivered
    names = {"MAP_UNCERTAINTY", "MAP_KTRANS", "MAP_VE"}
    assert {f"dicom/{name}.dcm" for name in names} <= set(exported.files)
    rows = {row.structure: row for row in verify_set(out, planning.info.files, exported.reference)}
    assert all(rows[name].passed for name in names)
    ds = pydicom.dcmread(out / "dicom" / "MAP_KTRANS.dcm")
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTLabel == "Ktrans"
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "/min"


def test_a_changed_further_map_fails_the_proof(delivered, tmp_path):
    out, planning, exported = delivered
    for path in (out / "dicom").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        if path.stem == "MAP_VE":
            values = np.frombuffer(ds.FloatPixelData, "<f4").copy()
            values[np.flatnonzero(np.isfinite(values))[0]] += 0.01
            ds.FloatPixelData = values.tobytes()
        ds.save_as(tmp_path / path.name)
    rows = {r.structure: r for r in verify_set(tmp_path, planning.info.files, {**exported.reference, "files": {}})}
    assert "values differ on 1 of" in rows["MAP_VE"].reason
    assert rows["MAP_KTRANS"].passed
