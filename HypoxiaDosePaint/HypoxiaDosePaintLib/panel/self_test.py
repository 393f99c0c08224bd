"""The self-test of dose paint: from a map to the proven set, with the numbers that must come out. For Slicer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import slicer

from HypoxiaMapperLib.errors import MissingPackageError
from HypoxiaMapperLib.mrml import segment_to_region
from HypoxiaMapperLib.panel.packages import missing_packages
from HypoxiaMapperLib.panel.self_test import erase_one_voxel, load_and_choose, panel_of, run_and_wait

from ..dicomrt.verify import verify_set
from . import review_section
from .preview import SEGMENTATION_NAME

REVIEWER = "Self test (digital patient, no person)"


def prepare(test: Any) -> Any:
    """A map and its hypoxic segment, then the dose-paint panel filled in from them."""
    mapper = load_and_choose(test)
    test.delayDisplay("Computing the map")
    run_and_wait(test, mapper)
    mapper.ui.createSegmentButton.click()
    panel = panel_of("HypoxiaDosePaint")
    roles = {r.name: r.role for r in panel.choices().roles}
    wanted = {
        "GTVp": "gtv", "GTVn": "gtv", "SpinalCord": "organ", "Brainstem": "organ", "Ref_Blood": "reference",
        "Ref_Muscle": "", "GTVp_Hyp": "hypoxic",
    }  # fmt: skip
    test.assertEqual(roles, wanted)
    panel.set_role("Ref_Muscle", "reference")
    test.assertIn("made with the reference region Ref_Blood: Ref_Muscle cannot", panel.ui.targetsStatusLabel.text)
    panel.set_role("Ref_Muscle", "")
    panel.set_role("GTVn", "")
    test.assertEqual(panel.ui.targetsStatusLabel.text, "Complete.")
    return panel


def street_to_export(test: Any) -> None:
    """Prescribe, preview, accept, export, read back, change."""
    panel = prepare(test)
    ui = panel.ui
    test.assertIn("EQD2₁₀ 78.3 Gy", ui.equivalentsLabel.text)
    test.assertIn("Hypoxia boost, 77 against 70 Gy in 35 fractions", ui.protocolComboBox.toolTip)
    test.assertIn("5.7 Gy at 10 mmHg", ui.deficitLabel.text)
    check_refused_prescriptions(test, panel)
    for control in (ui.exportButton, ui.registrationCheckBox, ui.contoursCheckBox, ui.dosesCheckBox):
        test.assertFalse(control.enabled)
        test.assertIn("Make the targets first", control.toolTip)
    test.assertIn("no report yet", ui.reportButton.toolTip)
    test.delayDisplay("Making the targets")
    ui.previewButton.click()
    test.assertIsNotNone(panel.result, ui.staleLabel.text)
    check_preview(test, panel)
    with tempfile.TemporaryDirectory() as folder:
        check_acceptance(test, panel, folder)
        check_missing_package(test, panel)
        check_export(test, panel, Path(folder))
        check_plugin(test, panel, Path(folder))
    check_change(test, panel)
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    test.assertIsNone(panel.result)
    test.assertFalse(ui.exportButton.enabled)
    test.assertEqual((ui.rolesTable.rowCount, ui.targetsTable.rowCount, ui.proofTable.rowCount), (0, 0, 0))


def check_refused_prescriptions(test: Any, panel: Any) -> None:
    """A boost below the base, and one above the ceiling without an override."""
    panel.ui.boostDoseSpinBox.value = 69.0
    test.assertIn("does not lie above the base dose", panel.ui.prescriptionStatusLabel.text)
    test.assertFalse(panel.ui.previewButton.enabled)
    panel.ui.boostDoseSpinBox.value = 90.0
    test.assertIn("above 84 Gy", panel.ui.prescriptionStatusLabel.text)
    panel.ui.overrideLineEdit.text = "dose Self test: ceiling"
    test.assertEqual(panel.ui.prescriptionStatusLabel.text, "Complete.")
    panel.ui.overrideLineEdit.text = ""
    panel.ui.boostDoseSpinBox.value = 77.0
    test.assertTrue(panel.ui.previewButton.enabled, panel.ui.previewButton.toolTip)


def check_preview(test: Any, panel: Any) -> None:
    """The table holds what the scene shows."""
    result, ui = panel.result, panel.ui
    test.assertEqual({t.name for t in result.targets}, {"GTVp", "GTVp_Hyp", "Ref_Blood", "PTV_7000", "PTV_7700"})
    node = slicer.mrmlScene.GetFirstNodeByName(SEGMENTATION_NAME)
    grid = panel.computed.planning.volume.image
    for row, target in enumerate(result.targets):
        shown = segment_to_region(node, node.GetSegmentation().GetSegmentIdBySegmentName(target.name), grid)
        test.assertAlmostEqual(shown.volume_ml, target.volume_ml, places=6)
        test.assertEqual(ui.targetsTable.item(row, 0).text(), target.name)
        test.assertEqual(ui.targetsTable.item(row, 1).text(), f"{target.volume_ml:.2f}")
    boost = next(t for t in result.targets if t.name == "PTV_7700")
    test.assertEqual((boost.dose_gy, boost.fractions), (77.0, 35))
    hypoxic = next(t for t in result.targets if t.name == "GTVp_Hyp")
    test.assertGreater(boost.volume_ml, hypoxic.volume_ml)
    test.assertGreater(hypoxic.volume_ml, 1.0)
    labels = slicer.mrmlScene.GetFirstNodeByName("Dose labels")
    texts = {labels.GetNthControlPointLabel(n) for n in range(labels.GetNumberOfControlPoints())}
    test.assertEqual(texts, {"PTV_7000: 70 Gy in 35", "PTV_7700: 77 Gy in 35"})


def check_acceptance(test: Any, panel: Any, folder: str) -> None:
    """Export stays off, with the reason, until everything is ticked and signed."""
    ui = panel.ui
    test.assertIn("Choose a folder.", ui.exportButton.toolTip)
    ui.folderButton.directory = folder
    test.assertNotIn("Choose a folder.", ui.exportButton.toolTip)
    for box, word in (
        (ui.registrationCheckBox, "registration"), (ui.contoursCheckBox, "contours"), (ui.dosesCheckBox, "doses"),
    ):  # fmt: skip
        test.assertIn(word, ui.exportButton.toolTip)
        test.assertFalse(ui.exportButton.enabled)
        box.checked = True
    test.assertIn("reviewer", ui.exportButton.toolTip)
    ui.reviewerLineEdit.text = REVIEWER
    test.assertTrue(ui.exportButton.enabled, ui.exportButton.toolTip)
    ui.dosesCheckBox.checked = False
    ui.dosesCheckBox.checked = True
    ui.reviewerLineEdit.text = "Another"
    test.assertIn(f"{REVIEWER} ticked the boxes", ui.exportButton.toolTip)
    test.assertFalse(ui.exportButton.enabled)
    ui.reviewerLineEdit.text = REVIEWER
    test.assertTrue(ui.exportButton.enabled, ui.exportButton.toolTip)


def check_missing_package(test: Any, panel: Any) -> None:
    """Without a package that the export needs it says which, or why pip failed, and writes nothing."""
    name = "package_that_is_not_there"
    failed = MissingPackageError("pip failed.", "By hand.")
    for answer, said in (
        ({"return_value": [name]}, f"Missing Python packages: {name}."),
        ({"side_effect": failed}, failed),
    ):
        with (
            mock.patch.object(review_section, "EXPORT_PACKAGES", (name,)),
            mock.patch.object(review_section, "install", **answer),
        ):
            panel.ui.exportButton.click()
        test.assertEqual(panel.ui.exportStatusLabel.text, str(said))
        test.assertIsNone(panel.exported)


def check_export(test: Any, panel: Any, folder: Path) -> None:
    """The set is written, proven, and proven again from its files; a missing package is named instead."""
    test.delayDisplay("Exporting")
    panel.ui.databaseCheckBox.checked = False
    missing = missing_packages(review_section.EXPORT_PACKAGES)
    panel.ui.exportButton.click()
    if missing:
        test.assertIn("Missing Python packages", panel.ui.exportStatusLabel.text)
        test.assertIsNone(panel.exported)
        test.skipTest(f"not exported here: {', '.join(missing)} not installed")
    test.assertIsNotNone(panel.exported, panel.ui.exportStatusLabel.text)
    rows = verify_set(panel.exported, panel.computed.planning.info.files)
    test.assertGreaterEqual(len(rows), 5)
    for row in rows:
        test.assertTrue(row.passed, f"{row.structure}: {row.reason}")
    dice = {row.structure: row.dice for row in rows}
    for target in panel.result.targets:
        test.assertGreaterEqual(dice[target.name], 0.99)
    facts = json.loads((panel.exported / "result.json").read_text(encoding="utf-8"))
    test.assertEqual(facts["accepted_by"], REVIEWER)
    test.assertTrue((panel.exported / "report.html").stat().st_size > 10_000)
    test.assertEqual(panel.ui.proofTable.rowCount, len(rows))
    whole = {panel.ui.proofTable.item(r, 0).toolTip() for r in range(len(rows))}  # where the panel is too narrow
    test.assertEqual(whole, {row.structure for row in rows})
    test.assertIn("Written and proven", panel.ui.exportStatusLabel.text)
    test.delayDisplay("The set is exported")


def check_plugin(test: Any, panel: Any, folder: Path) -> None:
    """The DICOM export dialog gets the same set, behind the same gate."""
    plugin = slicer.modules.dicomPlugins["HypoxiaDICOMExportPlugin"]()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = tree.GetItemByDataNode(slicer.mrmlScene.GetFirstNodeByName(SEGMENTATION_NAME))
    (exportable,) = plugin.examineForExport(item)
    exportable.directory = str(folder / "by-dialog")
    slicer.util.selectModule("HypoxiaMapper")  # the dialog is opened from elsewhere
    test.assertEqual(plugin.export([exportable]), "")
    test.assertTrue((folder / "by-dialog" / "RTSTRUCT.dcm").is_file())
    test.assertEqual(plugin.examineForExport(tree.GetItemByDataNode(panel.parameters.planning_volume)), [])
    test.assertIs(panel_of("HypoxiaDosePaint"), panel)
    panel.ui.dosesCheckBox.checked = False
    test.assertIn("doses", plugin.export([exportable]))
    panel.ui.dosesCheckBox.checked = True


def check_change(test: Any, panel: Any) -> None:
    """Any later change takes the acceptance back and says what it was."""
    test.assertTrue(panel.ui.exportButton.enabled)
    panel.ui.boostMarginSpinBox.value = 4.0
    test.assertFalse(panel.ui.dosesCheckBox.checked)
    test.assertFalse(panel.ui.exportButton.enabled)
    test.assertIn("boost margin", panel.ui.staleLabel.text)
    panel.ui.boostMarginSpinBox.value = 3.0
    test.assertEqual(panel.ui.staleLabel.text, "Up to date.")
    test.assertFalse(panel.ui.dosesCheckBox.checked)
    hypoxic = panel.choices().of_role("hypoxic")[0]
    erase_one_voxel(hypoxic.node, hypoxic.segment_id)
    panel.refresh()
    test.assertIn("hypoxic segment GTVp_Hyp", panel.ui.staleLabel.text)
    check_undisturbed(test, panel, hypoxic)
    test.assertTrue(any("edited" in w for w in panel.result.warnings))


def check_undisturbed(test: Any, panel: Any, hypoxic: Any) -> None:
    """While targets are made nothing in the panel can be clicked; what changes meanwhile is not taken as known."""
    ui = panel.ui
    seen: list[list[bool]] = []

    def meddle(_fraction: float, _text: str) -> None:
        if not seen:
            erase_one_voxel(hypoxic.node, hypoxic.segment_id)
        seen.append([b.enabled for b in (ui.previewButton, ui.exportButton, ui.boostDoseSpinBox)])

    with mock.patch.object(panel, "progress", meddle):
        ui.previewButton.click()
    test.assertEqual(seen[0], [False] * 3)
    test.assertTrue(ui.previewButton.enabled)
    test.assertIn("hypoxic segment GTVp_Hyp", ui.staleLabel.text)


TESTS = (street_to_export,)
