"""The body site: which tags pass, which stop the export, which say nothing; and the way of the tags to the check."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_samples import write_ct, write_images, write_pet
from dynamic_samples import ENHANCED_MR, group, write_enhanced
from HypoxiaMapperLib.dicomio.pet import read_pet_series
from HypoxiaMapperLib.dicomio.scan import scan_folder
from HypoxiaMapperLib.dicomio.series import read_image_series
from HypoxiaMapperLib.errors import InputError, RequestError
from HypoxiaMapperLib.inference.body_site import HEAD_AND_NECK, body_site_finding, term_of
from HypoxiaMapperLib.inference.contract import check_body_parts
from HypoxiaMapperLib.jobs import Job, read_job, write_job
from HypoxiaMapperLib.mapping import Placement, compute_map
from HypoxiaMapperLib.methods import no_progress
from HypoxiaMapperLib.volume import Region

TRAINED = (HEAD_AND_NECK,)


def finding(trained=TRAINED, **stated):
    return body_site_finding({title: {"body_parts": parts} for title, parts in stated.items()}, trained)


@pytest.mark.parametrize(
    "stated",
    ["HEADNECK", "Head & Neck", "HEAD_NECK", "HEADANDNECK", "HEAD", "NECK", "LARYNX", "OROPHARYNX", "PAROTID",
     "Head and Neck [774007]", "Kopf [69536005]", "Hals [T-D1600]", "Neck [99]"],
)  # fmt: skip
def test_tags_of_head_and_neck_pass(stated):
    found = finding(CT=(stated,))
    assert found.passed
    assert found.name == "body-site"
    assert stated in found.value


@pytest.mark.parametrize(
    "stated",
    [
        "EXTREMITY",
        "LEG",
        "BRAIN",
        "CHEST",
        "CHESTABDPELVIS",
        "PELVIS",
        "Neck of femur [29627003]",
        "[61685007]",
        "HALS",
    ],
)
def test_another_site_fails_and_is_named(stated):
    found = finding(CT=("HEADNECK",), PET=(stated,))
    assert not found.passed
    assert found.value == f"HEADNECK (CT), {stated} (PET)"
    assert found.allowed == "HEADNECK or a part of it, and no other site"


@pytest.mark.parametrize("stated", [(), ("",), None, []])
def test_without_tags_the_site_is_not_known_and_has_not_passed(stated):
    found = finding(CT=stated, PET=())
    assert not found.passed
    assert found.value == "not known: no Body Part Examined (0018,0015) in the images"


@pytest.mark.parametrize("stated", ["WHOLEBODY", "WHOLE BODY", "TBODY", "Entire body [38266002]", "NECKCHESTABDPELV"])
def test_tags_of_the_whole_body_say_nothing(stated):
    alone = finding(PET=(stated,))
    assert (alone.passed, alone.value) == (False, f"not known: {stated} (PET)")
    assert finding(PET=(stated,), CT=("NECK",)).passed
    assert not finding(PET=(stated,), CT=("LEG",)).passed


def test_the_tags_of_the_planning_image_count():
    pet = {"body_parts": ("WHOLEBODY",)}
    neck, leg = ({"pet": {**pet, "planning_body_parts": [part]}} for part in ("NECK", "LEG"))
    assert body_site_finding(neck, TRAINED).passed
    found = body_site_finding(leg, TRAINED)
    assert (found.passed, found.value) == (False, "LEG (planning image), WHOLEBODY (pet)")


@pytest.mark.parametrize("trained", [None, ()])
def test_a_bundle_that_names_no_site_fails_and_is_told_what_to_write(trained):
    found = finding(trained, CT=("HEADNECK",))
    assert not found.passed
    assert '"body_parts": ["HEADNECK"]' in found.allowed


def test_a_bundle_of_another_site():
    assert finding(("CERVIX", "PELVIS"), CT=("Pelvis",)).passed
    assert not finding(("CERVIX", "PELVIS"), CT=("HEADNECK",)).passed
    assert finding(("NECK",), CT=("NECK",)).passed
    assert not finding(("NECK",), CT=("HEADNECK",)).passed, "more than it was trained on"


@pytest.mark.parametrize("found", [[], "HEADNECK", ["head"], ["WHOLEBODY"], ["NECKCHEST"], [" "], [3], ["A" * 17]])
def test_terms_that_name_no_site_are_refused(found):
    with pytest.raises(InputError, match=r"metadata\.json: hypoxia\.body_parts"):
        check_body_parts(found, "metadata.json: hypoxia.body_parts")
    check_body_parts(["HEADNECK", "L SPINE_1"], "")


def test_a_training_says_its_body_sites():
    from evaluation_samples import plain_case
    from HypoxiaMapperLib.training.bundle_text import metadata_of
    from HypoxiaMapperLib.training.config import check_config

    texts = dict.fromkeys(("name", "title", "training_data", "intended_use", "licence", "label"), "ours")
    pairs = {"source": "pairs", "folder": "patients"}
    told = {"bundle": {**texts, "body_parts": ["CERVIX"]}, "data": pairs}
    assert metadata_of(check_config(told), [plain_case(1)])["hypoxia"]["body_parts"] == ["CERVIX"]
    with pytest.raises(RequestError, match=r"bundle\.body_parts is missing"):
        check_config({"bundle": texts, "data": pairs})
    with pytest.raises(InputError, match="'WHOLEBODY'"):
        check_config({"bundle": {**texts, "body_parts": ["WHOLEBODY"]}, "data": pairs})
    with pytest.raises(RequestError, match="A list of texts"):
        check_config({"bundle": {**texts, "body_parts": "CERVIX"}, "data": pairs})
    with pytest.raises(RequestError, match="the patients are simulated"):
        check_config({"bundle": {**texts, "label": "", "body_parts": ["CERVIX"]}})


# --- the way of the tags ----------------------------------------------------------------------------------------------


def region_code(meaning="Neck", value="45048000"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def only_series(folder):
    return scan_folder(folder).series[0]


def test_tags_are_read_from_classic_and_enhanced_images(tmp_path):
    write_ct(tmp_path / "ct", BodyPartExamined="HEADNECK", AnatomicRegionSequence=[region_code()])
    write_pet(tmp_path / "pet", BodyPartExamined="WHOLEBODY")
    write_images(tmp_path / "none", "1.2.840.10008.5.1.4.1.1.4", "MR", np.ones((5, 8, 8)))
    assert read_image_series(only_series(tmp_path / "ct")).volume.facts["body_parts"] == ("HEADNECK", "Neck [45048000]")
    assert read_pet_series(only_series(tmp_path / "pet")).volume.facts["body_parts"] == ("WHOLEBODY",)
    assert read_image_series(only_series(tmp_path / "none")).volume.facts["body_parts"] == ()
    frames = np.ones((1, 3, 4, 4))
    told = write_enhanced(
        tmp_path / "e" / "e.dcm", ENHANCED_MR, frames,
        [group("FrameAnatomySequence", FrameLaterality="U", AnatomicRegionSequence=[region_code("Hals")])],
    )  # fmt: skip
    (stated,) = read_image_series(told).volume.facts["body_parts"]
    assert (stated, term_of(stated)) == ("Hals [45048000]", "NECK")


def test_slices_that_name_several_sites_are_all_seen(tmp_path):
    write_ct(tmp_path, BodyPartExamined=lambda k: "NECK" if k else "CHEST")
    stated = read_image_series(only_series(tmp_path)).volume.facts["body_parts"]
    assert set(stated) == {"NECK", "CHEST"}
    assert not finding(CT=stated).passed


def test_the_method_is_told_of_the_planning_image_also_by_a_job(tmp_path):
    write_ct(tmp_path / "ct", BodyPartExamined="NECK")
    write_pet(tmp_path / "pet")
    ct, pet = (read(only_series(tmp_path / name)).volume for read, name in
               ((read_image_series, "ct"), (read_pet_series, "pet")))  # fmt: skip
    gtv = Region("gtv", ct.image > -2000, ct.frame_of_reference_uid)
    (tmp_path / "job").mkdir()
    write_job(Job("fdg_surrogate", {}, ct, {"pet": pet}, {"gtv": gtv}), tmp_path / "job")
    job = read_job(tmp_path / "job")

    class ToldError(Exception):
        pass

    def compute(images, *_):
        raise ToldError(images["pet"].facts)

    for native in (False, True):
        method = SimpleNamespace(on_native_grid=native, inputs=(SimpleNamespace(key="pet"),), compute=compute)
        with pytest.raises(ToldError) as caught:
            compute_map(method, None, job.inputs, job.regions, job.planning, Placement(None, "", ""), no_progress)
        assert body_site_finding({"PET": caught.value.args[0]}, TRAINED).passed


def test_a_real_sarcoma_of_a_limb_fails(hypoxia_data):
    folder = hypoxia_data("ibsi_sts_008/dicom")
    series = [s for s in scan_folder(folder).series if s.role in ("planning_ct", "pet", "mr")]
    facts = {s.modality: (read_pet_series if s.role == "pet" else read_image_series)(s).volume.facts for s in series}
    found = body_site_finding(facts, TRAINED)
    assert (found.passed, found.value) == (False, "EXTREMITY (CT, MR, PT)")


def test_the_digital_patient_passes(digital_patient):
    scan = scan_folder(digital_patient.folder)
    for info in scan.series:
        if info.role in ("planning_ct", "pet", "mr"):
            assert finding(image=read_image_series(info).volume.facts["body_parts"]).passed, info.description


def test_a_node_of_the_dicom_database_carries_its_tags(digital_patient):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")
    from HypoxiaMapperLib.mrml import node_to_volume, volume_to_node
    from HypoxiaMapperLib.panel.node_images import INSTANCE_UIDS, NodeImages

    (info,) = scan_folder(digital_patient.folder).by_role("planning_ct")
    volume = read_image_series(info).volume
    files = dict(zip(volume.source_uids, map(str, info.files), strict=True))
    scene = slicer.vtkMRMLScene()
    node = volume_to_node(scene, volume, "ct")
    assert finding(CT=node_to_volume(node).facts["body_parts"]).passed, "loaded by this software's own button"
    for name in [name for name in node.GetAttributeNames() if name.startswith("Hypoxia")]:
        node.RemoveAttribute(name)
    node.SetAttribute(INSTANCE_UIDS, " ".join(volume.source_uids))
    found = NodeImages(lambda uids: [files[u] for u in uids]).volume(node)
    assert finding(CT=found.facts["body_parts"]).passed, "loaded by Slicer"
