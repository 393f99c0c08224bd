"""``hypoxia send`` against a real server: Orthanc on loopback, and a wire that is cut half-way."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import threading

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

from HypoxiaDosePaintLib import cli
from HypoxiaDosePaintLib.send import STATE_NAME, Peer, SendError, parse_peer, send_folder, send_set
from HypoxiaMapperLib.errors import InputError, NetworkError, OutputError, ProofError, RequestError
from orthanc_server import TITLE, OrthancServer, free_port

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def running_orthanc(require_tool, tmp_path_factory):
    server = OrthancServer(require_tool("Orthanc"), tmp_path_factory.mktemp("orthanc") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def orthanc(running_orthanc):
    """The server, running and empty."""
    if running_orthanc.process is None:
        running_orthanc.start()
    running_orthanc.clear()
    return running_orthanc


def instance(sop_class, study, syntax=ExplicitVRLittleEndian):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.PatientName = "TEST", "Test^Send"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, generate_uid()
    return dataset


def contours(study):
    """An RTSTRUCT with contours of 2,000 points, implicit VR as long contours need."""
    dataset = instance(RTStructureSetStorage, study, ImplicitVRLittleEndian)
    dataset.Modality = "RTSTRUCT"
    points = np.random.default_rng(1).uniform(-300, 300, (20, 6000)).round(3)
    dataset.ROIContourSequence = [Dataset()]
    dataset.ROIContourSequence[0].ReferencedROINumber = 1
    dataset.ROIContourSequence[0].ContourSequence = [Dataset() for _ in points]
    for item, row in zip(dataset.ROIContourSequence[0].ContourSequence, points, strict=True):
        item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(row) // 3
        item.ContourData = [f"{x:.3f}" for x in row]
    return dataset


def pixels(sop_class, study, bits, keyword="PixelData"):
    """Frames of noise: 1-bit as in SEG, 32-bit as in a float Parametric Map, 16-bit as in CT."""
    dataset = instance(sop_class, study)
    dataset.Modality = {SegmentationStorage: "SEG", CTImageStorage: "CT"}.get(sop_class, "OT")
    dataset.Rows = dataset.Columns = 64
    dataset.NumberOfFrames, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 16, 1, "MONOCHROME2"
    dataset.BitsAllocated = bits
    noise = np.random.default_rng(bits).bytes(64 * 64 * 16 * bits // 8)
    if keyword == "FloatPixelData":
        noise = np.frombuffer(noise, "<u4").astype("<f4").tobytes()
    setattr(dataset, keyword, noise)
    if keyword == "PixelData":
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return dataset


@pytest.fixture
def files(tmp_path):
    """A set as an export gives it, in the order it is sent."""
    study = generate_uid()
    plan = instance(RTPlanStorage, study)
    plan.Modality, plan.RTPlanLabel = "RTPLAN", "HYP_77_70"
    datasets = {
        "rtstruct": contours(study),
        "rtplan": plan,
        "seg": pixels(SegmentationStorage, study, 1),
        "map": pixels(ParametricMapStorage, study, 32, "FloatPixelData"),
        "ct": pixels(CTImageStorage, study, 16),
    }
    folder = tmp_path / "set" / "dicom"
    folder.mkdir(parents=True)
    for name, dataset in datasets.items():
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return [folder / f"{name}.dcm" for name in datasets]


def uid_of(path):
    return pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID


def assert_given_back(server, paths):
    """The server holds exactly these files, and each comes back with every byte of its data."""
    assert server.count() == len(paths)
    for path in paths:
        ours = pydicom.dcmread(path)
        theirs = pydicom.dcmread(io.BytesIO(server.fetch(ours.SOPInstanceUID)))
        assert theirs.file_meta.TransferSyntaxUID == ours.file_meta.TransferSyntaxUID
        for keyword in ("PixelData", "FloatPixelData"):
            assert theirs.get(keyword) == ours.get(keyword)
        assert raw_contours(theirs) == raw_contours(ours)
        assert theirs.to_json() == ours.to_json()  # as text: a padding value of NaN equals nothing, itself included


def raw_contours(dataset):
    return [
        [item.get_item("ContourData").value for item in roi.get("ContourSequence", [])]
        for roi in dataset.get("ROIContourSequence", [])
    ]


def test_a_set_is_taken_and_given_back_byte_equal(orthanc, files, tmp_path):
    seen = []
    state = tmp_path / "state.jsonl"
    report = send_set(
        files,
        HOST,
        orthanc.dicom_port,
        TITLE,
        state=state,
        progress=lambda fraction, text: seen.append((fraction, text)),
    )
    assert report.complete
    assert [f.status for f in report.files] == ["accepted"] * 5
    assert [f.file for f in report.files] == [p.name for p in files]
    assert_given_back(orthanc, files)
    assert [f for f, _ in seen] == [0.2, 0.4, 0.6, 0.8, 1.0]
    notes = [json.loads(line) for line in state.read_text().splitlines()]
    assert [n["sop_instance_uid"] for n in notes] == [uid_of(p) for p in files]
    assert {n["peer"] for n in notes} == {f"{TITLE}@{HOST}:{orthanc.dicom_port}"}


def test_the_whole_exported_set_goes_there_and_back(orthanc, exported_set, tmp_path, capsys):
    folder = tmp_path / "result"
    shutil.copytree(exported_set, folder)
    files = sorted((folder / "dicom").iterdir())
    assert {pydicom.dcmread(p, stop_before_pixels=True).Modality for p in files} >= {
        "RTSTRUCT",
        "RTPLAN",
        "SEG",
        "RTDOSE",
    }
    before = {p: p.read_bytes() for p in files}
    peer = f"@{HOST}:{orthanc.dicom_port}"
    assert cli.main(["--quiet", "send", str(folder), "--to", f"NOBODY{peer}"]) == NetworkError.exit_code
    assert "Called AE title not recognised" in capsys.readouterr().err
    assert cli.main(["--quiet", "send", str(folder), "--to", f"{TITLE}{peer}"]) == 0
    assert f"{len(files)} accepted" in capsys.readouterr().out
    assert_given_back(orthanc, files)
    assert cli.main(["--quiet", "send", str(folder), "--to", f"{TITLE}{peer}", "--json"]) == 0
    statuses = [f["status"] for f in json.loads(capsys.readouterr().out)["files"]]
    assert statuses == ["accepted before"] * len(files)
    assert {p: p.read_bytes() for p in files} == before
    path = folder / "dicom" / "RTPLAN.dcm"
    path.write_bytes(before[path].replace(b"77", b"87"))
    assert cli.main(["--quiet", "send", str(folder), "--to", f"{TITLE}{peer}"]) == ProofError.exit_code
    assert "file RTPLAN.dcm: bytes differ from what was delivered" in capsys.readouterr().err


def test_a_second_call_sends_nothing_and_needs_no_server(orthanc, files):
    folder = files[0].parents[1]
    peer = Peer(TITLE, HOST, orthanc.dicom_port)
    assert send_folder(folder, peer).count("accepted") == 5
    orthanc.kill()
    report = send_folder(folder, peer)
    assert report.count("accepted before") == 5
    assert report.complete
    assert (folder / STATE_NAME).read_text().count("\n") == 5


def test_another_server_gets_everything(orthanc, files, tmp_path):
    state = tmp_path / "state.jsonl"
    state.write_text(json.dumps({"peer": "OTHER@host:104", "sop_instance_uid": uid_of(files[0])}) + '\n{"peer": "cut')
    assert send_set(files, HOST, orthanc.dicom_port, TITLE, state=state).count("accepted") == 5


def test_wrong_title_is_refused_with_a_clear_message(orthanc, files, tmp_path):
    with pytest.raises(SendError) as caught:
        send_set(files, HOST, orthanc.dicom_port, "NOBODY", state=tmp_path / "state.jsonl")
    assert isinstance(caught.value, NetworkError)
    assert caught.value.exit_code == 8
    assert "Called AE title not recognised" in caught.value.message
    assert "NOBODY" in caught.value.hint
    assert [f.status for f in caught.value.report.files] == ["not sent"] * 5
    assert orthanc.count() == 0
    assert not (tmp_path / "state.jsonl").exists()


def test_closed_port_says_that_nothing_answers(files):
    with pytest.raises(SendError, match=r"Nothing answers at NOBODY@127\.0\.0\.1"):
        send_set(files, HOST, free_port(), "NOBODY")


def test_a_port_that_speaks_no_dicom_is_told_apart(orthanc, files):
    with pytest.raises(SendError, match="no DICOM server"):
        send_set(files, HOST, orthanc.http_port, TITLE)


def test_a_server_killed_half_way_can_be_resumed(orthanc, files, tmp_path):
    state = tmp_path / "state.jsonl"

    def kill_after_two(fraction, text):
        if fraction == 0.4:
            orthanc.kill()

    with pytest.raises(SendError, match=r"vanished while seg\.dcm was on its way \(2 of 5 done\)") as caught:
        send_set(files, HOST, orthanc.dicom_port, TITLE, state=state, progress=kill_after_two)
    assert [f.status for f in caught.value.report.files] == ["accepted"] * 2 + ["not sent"] * 3
    assert "Send again with the same command" in caught.value.hint
    orthanc.start()
    report = send_set(files, HOST, orthanc.dicom_port, TITLE, state=state)
    assert [f.status for f in report.files] == ["accepted before"] * 2 + ["accepted"] * 3
    assert_given_back(orthanc, files)


class CutWire(threading.Thread):
    """Passes bytes to a server and cuts the connection once ``limit`` bytes went there (None: never)."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.listener = socket.create_server((HOST, 0))
        self.port, self.target, self.limit = self.listener.getsockname()[1], port, None

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((HOST, self.target))
            threading.Thread(target=self.pump, args=(server, client, None), daemon=True).start()
            self.pump(client, server, self.limit)

    @staticmethod
    def pump(source, sink, limit):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
                passed += len(data)
                if limit is not None and passed >= limit:
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_cut_in_the_middle_of_a_file_can_be_resumed(orthanc, files, tmp_path):
    wire = CutWire(orthanc.dicom_port)
    wire.start()
    state = tmp_path / "state.jsonl"
    wire.limit = sum(p.stat().st_size for p in files[:3]) + files[3].stat().st_size // 2
    with pytest.raises(SendError, match=r"vanished while map\.dcm"):
        send_set(files, HOST, wire.port, TITLE, state=state)
    assert orthanc.count() == 3
    wire.limit = None
    report = send_set(files, HOST, wire.port, TITLE, state=state)
    wire.listener.close()
    assert [f.status for f in report.files] == ["accepted before"] * 3 + ["accepted"] * 2
    assert_given_back(orthanc, files)


def test_one_refused_file_does_not_stop_the_others(orthanc, files, tmp_path):
    study = generate_uid()
    strange = instance("1.2.826.0.1.3680043.2.1143.1", study)  # no storage class any server takes
    strange.save_as(files[0].parent / "strange.dcm", enforce_file_format=True)
    order = [files[0].parent / "strange.dcm", *files]
    with pytest.raises(SendError, match=r"refused 1 of 6 files: strange\.dcm \(the server takes no") as caught:
        send_set(order, HOST, orthanc.dicom_port, TITLE, state=tmp_path / "state.jsonl")
    assert [f.status for f in caught.value.report.files] == ["refused"] + ["accepted"] * 5
    assert "5 accepted, 1 refused" in caught.value.report.summary()
    assert_given_back(orthanc, files)


def test_a_cancelled_transfer_closes_the_association_and_resumes(orthanc, files, tmp_path):
    def cancel(fraction, text):
        raise KeyboardInterrupt

    state = tmp_path / "state.jsonl"
    with pytest.raises(KeyboardInterrupt):
        send_set(files, HOST, orthanc.dicom_port, TITLE, state=state, progress=cancel)
    assert orthanc.count() == 1
    assert send_set(files, HOST, orthanc.dicom_port, TITLE, state=state).count("accepted") == 4


def test_a_state_file_that_cannot_be_written_says_so(orthanc, files, tmp_path):
    with pytest.raises(OutputError, match=r"rtstruct\.dcm was accepted"):
        send_set(files, HOST, orthanc.dicom_port, TITLE, state=tmp_path / "missing" / "state.jsonl")


def test_files_that_are_not_dicom_are_named_before_anything_is_sent(tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_text("no DICOM")
    with pytest.raises(InputError, match=r"bad\.dcm"):
        send_set([bad], HOST, free_port(), TITLE)
    with pytest.raises(InputError, match=r"gone\.dcm"):
        send_set([tmp_path / "gone.dcm"], HOST, free_port(), TITLE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no exported DICOM set"):
        send_folder(tmp_path / "empty", Peer(TITLE, HOST, 104))


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("PACS@localhost:104", Peer("PACS", "localhost", 104)),
        (" MY PACS@pacs.example.org:11112 ", Peer("MY PACS", "pacs.example.org", 11112)),
        ("PACS@[::1]:4242", Peer("PACS", "::1", 4242)),
    ],
)
def test_parse_peer(text, peer):
    assert parse_peer(text) == peer
    assert parse_peer(str(peer)) == peer


@pytest.mark.parametrize(
    "text", ["", "PACS", "PACS@host", "PACS@:104", "@host:104", "PACS@host:0", "PACS@host:65536", "PACS@host:x",
             "A" * 17 + "@host:104", "A\\B@host:104", "PACS@a b:104", " @host:104"],
)  # fmt: skip
def test_parse_peer_refuses(text):
    with pytest.raises(RequestError) as caught:
        parse_peer(text)
    assert caught.value.hint
