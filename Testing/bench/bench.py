"""``make bench``: times and memory beside other programs, in one run, as a Markdown table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom
from measure import alternate, machine, peak_memory_mib, table
from phantom import write_many_files

from HypoxiaMapperLib.dicomio.scan import scan_folder

SCAN_LIMIT = 1.3
MEMORY_FACTOR, MEMORY_EXTRA_MIB = 3, 1024
HEADER = ("what", "program", "value", "ratio to ours", "lowest Dice")


def scan_rows(folder: Path, repeats: int) -> list[list[str]]:
    """Folder scan of 2,000 files beside reading each header with pydicom."""
    write_many_files(folder)

    def bare() -> int:
        return sum(1 for p in sorted(folder.rglob("*.dcm")) if pydicom.dcmread(p, stop_before_pixels=True))

    seconds, found = alternate({"ours": lambda: scan_folder(folder), "pydicom": bare}, repeats)
    if sum(len(s.files) for s in found["ours"].series) != found["pydicom"]:
        raise RuntimeError("the scan left files out")
    ratio = seconds["ours"] / seconds["pydicom"]
    what = f"scan 2,000 files (ours / pydicom: {ratio:.2f}, limit {SCAN_LIMIT})"
    return [[what, n, f"{s:.2f} s", f"{s / seconds['ours']:.2f}", ""] for n, s in seconds.items()]


def memory_rows(folder: Path) -> list[list[str]]:
    """Peak memory of a whole run on the digital patient, and on the CT's own size of decoded inputs."""
    from HypoxiaMapperLib.simulate.digital_patient import make_patient

    patient = make_patient(folder / "patient")
    decoded_mib = decoded_size_mib(patient.folder)
    command = [sys.executable, "-m", "HypoxiaDosePaintLib.cli", "run", str(patient.folder), "--method", "tracer_ratio"]
    command += ["--protocol", "welz_77_70_35", "--reference-roi", patient.reference_roi, "--accepted-by", "Benchmark"]
    command += ["--out", str(folder / "result")]
    for name in patient.gtv_rois:
        command += ["--gtv", name]
    peak_mib, seconds = peak_memory_mib(command)
    limit_mib = MEMORY_FACTOR * decoded_mib + MEMORY_EXTRA_MIB
    what = f"peak memory of a whole run ({seconds:.0f} s; inputs {decoded_mib:.0f} MiB, limit {limit_mib:.0f} MiB)"
    return [[what, "ours", f"{peak_mib:.0f} MiB", f"{peak_mib / limit_mib:.2f} of limit", ""]]


def decoded_size_mib(folder: Path) -> float:
    """Size of all images of a folder once decoded, as stored (bits allocated)."""
    size = 0
    for path in folder.rglob("*"):
        if path.is_file() and pydicom.misc.is_dicom(path):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            size += header.get("Rows", 0) * header.get("Columns", 0) * header.get("BitsAllocated", 0) // 8
    return size / 2**20


def main() -> None:
    """Run the benchmarks asked for (all by default) and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="scan, contours, memory, fitting (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="counted turns of each task (default %(default)s)")
    arguments = parser.parse_args()
    parts = arguments.parts or ["scan", "contours", "memory", "fitting"]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="hypoxia-bench-") as scratch:
        folder = Path(scratch)
        if "scan" in parts:
            rows += scan_rows(folder / "scan", arguments.repeats)
        if "contours" in parts:
            from contours import contour_rows

            rows += contour_rows(folder / "contours", arguments.repeats)
        if "memory" in parts:
            rows += memory_rows(folder / "memory")
    print(f"Machine: {machine()}. Best of {arguments.repeats} turns.{os.linesep}")
    if rows:
        print(table(HEADER, rows))
    if "fitting" in parts:  # a table of its own, in a process of its own: its peak memory is measured
        print(flush=True)
        subprocess.run([sys.executable, Path(__file__).with_name("bench_fitting.py"), "--memory"], check=True)


if __name__ == "__main__":
    main()
