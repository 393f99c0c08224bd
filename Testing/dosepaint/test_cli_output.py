"""What the command prints: for a terminal of any alphabet, a reader that goes early, a slip of the hand."""

import os
import subprocess
import sys

import pytest

from HypoxiaDosePaintLib import cli
from HypoxiaDosePaintLib.cli import progress_bar
from HypoxiaDosePaintLib.prescription import all_protocols, get_protocol
from HypoxiaMapperLib.methods import no_progress


def command(code, encoding="utf-8", **options):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True, **options)


def test_a_reader_that_goes_early_is_no_fault():
    """As ``hypoxia methods | head -1`` reads it."""
    child = command(
        "from HypoxiaDosePaintLib.cli import main; raise SystemExit(main(['methods']))", stdout=subprocess.PIPE
    )
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 0


def test_letters_that_the_terminal_lacks_are_written_out():
    code = "from HypoxiaDosePaintLib import cli; cli.show('pO₂'); cli.show('α', error=True)"
    child = command(code, encoding="cp1252", stdout=subprocess.PIPE)
    out, err = child.communicate()
    assert (out, err, child.returncode) == ("pO\\u2082\n", "\\u03b1\n", 0)


def test_a_log_file_gets_no_progress_bar(capsys):
    with progress_bar(hidden=False) as progress:
        assert progress is no_progress
    assert capsys.readouterr().err == ""


def test_a_shipped_protocol_is_printed_as_a_file_to_copy(capsys, tmp_path):
    assert cli.main(["protocols", "welz_77_70_35", "--quiet"]) == 0
    (tmp_path / "own.json").write_text(capsys.readouterr().out, encoding="utf-8")
    assert get_protocol(str(tmp_path / "own.json")) == all_protocols()["welz_77_70_35"]
    assert cli.main(["protocols", "welz"]) == 2
    assert cli.main(["protocols"]) == 0
    assert "needs all of: name, title, site, base_dose_gy, boost_dose_gy, fractions," in capsys.readouterr().out


def test_a_scan_that_finds_no_dicom_says_so(tmp_path, capsys):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("1,2,3", encoding="utf-8")
    assert cli.main(["scan", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "holds no DICOM series; 2 file(s) left out: 2 x not a DICOM file" in error
    assert "Give the folder that holds the DICOM files." in error


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("run", "P", "--metod", "x"), "`hypoxia run` has no option --metod.", "Did you mean --method? "),
        (("models", "check", "shipped", "--jsn"), "`hypoxia models check` has no option --jsn.", "--json? "),
        (("scan", "P", "--zzz=1"), "`hypoxia scan` has no option --zzz.", "`hypoxia scan --help` lists all."),
        (("scan", "P", "Q"), "`hypoxia scan` does not take 'Q'.", "`hypoxia scan --help` lists all."),
    ],
)
def test_a_slip_of_an_option_is_named_with_its_command(capsys, words, message, hint):
    assert cli.main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"hypoxia: error: {message}"
    assert hint in lines[1]
    assert len(lines) == 2
