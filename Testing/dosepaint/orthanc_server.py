"""A real DICOM server of its own for a test: Orthanc on loopback, with its own files, ended by its own process id."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TITLE = "HYPOXTEST"
START_TIMEOUT_S = 60.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OrthancServer:
    """Orthanc with a folder of its own; ``start`` after ``stop`` or ``kill`` finds what it had stored."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.dicom_port, self.http_port = free_port(), free_port()
        self.process: subprocess.Popen | None = None
        folder.mkdir(parents=True)
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(
            json.dumps(
                {
                    "Name": "test of slicer-hypoxia",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "Plugins": [],
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomAet": TITLE,
                    "DicomPort": self.dicom_port,
                    "DicomCheckCalledAet": True,
                    "DicomAlwaysAllowStore": True,
                }
            )
        )

    def start(self) -> None:
        """Start and wait until both of its ports answer."""
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen([self.program, str(self.configuration)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text(errors="replace")
            try:
                self.get("/system")
                socket.create_connection(("127.0.0.1", self.dicom_port), timeout=1).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        self.kill()
        raise AssertionError("Orthanc did not start: " + (self.folder / "orthanc.log").read_text(errors="replace"))

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
            self.process = None

    def get(self, path: str, data: bytes | None = None) -> bytes:
        """Answer of its REST interface; with ``data`` a POST."""
        with _OPENER.open(f"http://127.0.0.1:{self.http_port}{path}", data, timeout=10) as answer:
            return answer.read()

    def get_json(self, path: str, data: bytes | None = None) -> Any:
        return json.loads(self.get(path, data))

    def count(self) -> int:
        """Number of instances it holds."""
        return int(self.get_json("/statistics")["CountInstances"])

    def fetch(self, sop_instance_uid: str) -> bytes:
        """The file it stored for an instance."""
        (found,) = self.get_json("/tools/lookup", sop_instance_uid.encode())
        return self.get(f"/instances/{found['ID']}/file")

    def clear(self) -> None:
        """Forget every instance."""
        for patient in self.get_json("/patients"):
            request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/patients/{patient}", method="DELETE")
            _OPENER.open(request, timeout=10).close()
