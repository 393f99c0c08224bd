"""What the command prints reaches a terminal of any alphabet, and a reader that goes early is no fault."""

import os
import subprocess
import sys

from HypoxiaDosePaintLib.cli import progress_bar
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
