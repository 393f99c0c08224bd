"""The command ``hypoxia``: one console script, its subcommands, and errors as one line with a hint."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.methods import Progress, no_progress

from . import cli_commands as commands
from .cli_models import add_commands
from .pipeline import SOFTWARE

_EPILOG = """Exit codes: 0 done, 2 wrong request, 3 missing or unusable input, 4 geometry, 5 clinical limit,
6 output, 7 read-back proof failed, 8 network, 9 missing package, 1 a fault of this software.
Research use only."""


def with_signed_values(argv: Sequence[str]) -> list[str]:
    """Arguments with a sphere that begins with a minus tied to its option: argparse takes it for an option else."""
    found: list[str] = []
    for word in argv:
        if found and found[-1] == "--reference-sphere" and re.fullmatch(r"-\.?\d[\d.,\s-]*", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the process exit code."""
    arguments, unknown = build_parser().parse_known_args(with_signed_values(sys.argv[1:] if argv is None else argv))
    try:
        _refuse_unknown(arguments.parser, unknown)
        with ended_as_cancelled(), progress_bar(hidden=arguments.quiet or arguments.json) as progress:
            text = arguments.command(arguments, progress)
    except HypoxiaError as error:
        show(f"hypoxia: error: {error.message}", error=True)
        if error.hint:
            show(f"hypoxia: hint: {error.hint}", error=True)
        return error.exit_code
    except KeyboardInterrupt:
        show(f"hypoxia: cancelled. {arguments.when_cancelled}".rstrip(), error=True)
        return 130
    except Exception:  # noqa: BLE001 - the front end: a fault becomes a message that can be reported
        traceback.print_exc()
        print(f"hypoxia: this is a fault of {SOFTWARE}; please report it with the lines above.", file=sys.stderr)
        return 1
    if text:
        show(text)
    return 0


@contextmanager
def ended_as_cancelled() -> Iterator[None]:
    """Within it SIGTERM, by which batch systems end a job, does what Ctrl-C does: what was begun is removed."""
    if threading.current_thread() is not threading.main_thread():  # only there can Python take signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show(text: str, error: bool = False) -> None:
    """Print; letters that the terminal lacks are escaped, and a reader that goes early (``| head``) is no fault."""
    stream = sys.stderr if error else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python complains when it closes the stream


@contextmanager
def progress_bar(hidden: bool) -> Iterator[Progress]:
    """A tqdm bar on standard error as a progress sink; none in a log file."""
    if hidden or not sys.stderr.isatty():
        yield no_progress
        return
    from tqdm import tqdm

    with tqdm(total=100, file=sys.stderr, leave=False, bar_format="{desc:<48.48} {bar:20} {percentage:3.0f}%") as bar:

        def move(fraction: float, text: str) -> None:
            bar.set_description_str(text, refresh=False)
            bar.update(max(0.0, round(100 * fraction, 1) - bar.n))
            bar.refresh()

        yield move


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="hypoxia",
        description="Hypoxia maps, hypoxic subvolumes and dose-painting targets from PET and CT. Research use only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=SOFTWARE)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(json=False, when_cancelled="")
    sub = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(sub)
    _add_scan(sub)
    _add_run(sub)
    _add_lists(sub)
    _add_verify_and_send(sub)
    add_commands(sub)
    _finish(sub)
    return parser


def _finish(sub: argparse._SubParsersAction) -> None:
    """What every command, and every action of one, shares: ``--json``, ``--quiet`` also after its name, its parser.

    Neither has a default here: it would go before what was given to the command above an action.
    """
    for parser in sub.choices.values():
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the facts as JSON")
        parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress bar")
        parser.set_defaults(parser=parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                _finish(action)


def _refuse_unknown(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Refuse what the command does not know in the command's own name, with the option that was probably meant.

    Raises
    ------
    RequestError
        Naming the words and, if there is one, the nearest option.
    """
    if not words:
        return
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    known = [name for action in parser._actions for name in action.option_strings]
    near = [match for option in options for match in difflib.get_close_matches(option, known, 1)]
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    message = f"`{parser.prog}` has no option {', '.join(options)}." if options else (
        f"`{parser.prog}` does not take {' '.join(words)!r}."
    )  # fmt: skip
    raise RequestError(message, f"{hint}`{parser.prog} --help` lists all.")


def _add_demo(sub: argparse._SubParsersAction) -> None:
    demo = sub.add_parser(
        "demo",
        help="make a digital head-and-neck patient and run everything on it",
        description="Makes a digital head-and-neck patient whose hypoxic volume is known, runs everything on it, "
        "and prints volumes, doses, the error against the truth and where the report lies.",
    )
    demo.add_argument("--out", metavar="DIR", default="", help="new folder (default: hypoxia-demo or the next free)")
    demo.add_argument("--seed", type=int, default=20260101, help="noise of the digital patient (default %(default)s)")
    demo.add_argument(
        "--method", choices=tuple(commands.DEMO_METHODS), default="tracer_ratio",
        help="tracer_ratio (default); learned_ratio shows a predicted map beside its checks",
    )  # fmt: skip
    demo.set_defaults(command=commands.demo)


def _add_scan(sub: argparse._SubParsersAction) -> None:
    scan = sub.add_parser(
        "scan",
        help="list what a DICOM folder holds, and what was left out and why",
        description="Lists patients, studies and series with their role (planning CT, PET and tracer, MR kind, "
        "structure set and ROI names, dose), geometry, and every file left out with the reason.",
    )
    scan.add_argument("folder", metavar="FOLDER")
    scan.set_defaults(command=commands.scan)


def _add_run(sub: argparse._SubParsersAction) -> None:
    run = sub.add_parser(
        "run",
        help="DICOM folder to hypoxic subvolume, targets, DICOM set and report",
        description="Computes a hypoxia map, cuts out the hypoxic subvolume, prescribes base and boost dose, and "
        "writes report, pictures, JSON and CSV. With --accepted-by it also writes the DICOM set, read back and proven.",
        epilog="`hypoxia methods NAME` shows the parameters of a method, `hypoxia scan FOLDER` the names of series and "
        "ROIs. A request file of --save-request runs exactly that; `hypoxia run RESULT/request.json --out NEW` makes a "
        "result again. Beside a request file only --out, --accepted-by, --override and --registration can be given.",
    )
    run.add_argument("source", metavar="FOLDER|REQUEST.json", help="DICOM folder, or a saved request")
    run.add_argument("--method", metavar="NAME", help="see `hypoxia methods`")
    run.add_argument("--protocol", metavar="NAME|FILE", help="dose protocol, see `hypoxia protocols`")
    run.add_argument("--out", metavar="DIR", help="new folder for the result; nothing is overwritten")
    _add_image_options(run.add_argument_group("images and regions"))
    _add_map_options(run.add_argument_group("map and subvolume"))
    _add_dose_options(run.add_argument_group("targets and doses"))
    release = run.add_argument_group("acceptance and export")
    release.add_argument("--accepted-by", metavar="NAME", help="person who accepts; without it no DICOM is written")
    release.add_argument("--rtdose", action="store_true", default=None, help="also write the prescription as RTDOSE")
    release.add_argument("--holes", choices=("keyhole", "xor"), help="how holes are written (default keyhole)")
    release.add_argument("--save-request", metavar="FILE", help="write the request as JSON and stop")
    run.set_defaults(command=commands.run, when_cancelled="Nothing was kept.")


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--planning-series", metavar="UID|DESCRIPTION", help="planning CT, if there are several")
    group.add_argument("--pet-series", metavar="UID|DESCRIPTION", help="PET, if there are several of the tracer")
    group.add_argument(
        "--input", metavar="KEY=SERIES|FILE.nii", action="append",
        help="an input of the method by UID, description or NIfTI file; several joined by ';'; repeat for more",
    )  # fmt: skip
    group.add_argument("--region", metavar="KEY=ROI", action="append", help="a further region of the method; repeat")
    group.add_argument("--frame-time", choices=("start", "mid"), help="what the one time of each frame is")
    group.add_argument("--time-unit", choices=("s", "ms"), help="unit of times that the files leave open")
    group.add_argument("--frame-interval", type=float, metavar="S", help="seconds from frame to frame, if no tag tells")
    group.add_argument(
        "--motion-reference", type=int, metavar="FRAME", help="register the frames of a dynamic series to this one"
    )
    group.add_argument("--tracer", metavar="NAME", help="tracer, only if the PET's tags do not name it")
    group.add_argument("--structure-set", metavar="UID|DESCRIPTION", help="structure set, if a name is in several")
    group.add_argument("--gtv", metavar="ROI", action="append", help="gross tumour volume; repeat for more")
    group.add_argument("--reference-roi", metavar="ROI", help="blood or muscle region of a ratio method")
    group.add_argument("--reference-sphere", metavar="X,Y,Z,R", help="instead: a sphere, centre and radius in mm (LPS)")
    group.add_argument(
        "--registration",
        metavar="rigid|stated|FILE",
        help="rigid: register here; stated: the images share the planning frame; FILE: registration or ITK transform",
    )


def _add_map_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--param", metavar="NAME=VALUE", action="append", help="parameter of the method; repeat")
    group.add_argument("--bundle", metavar="DIR", help="trained model of learned_ratio (default: the shipped one)")
    group.add_argument("--threshold", type=float, metavar="VALUE", help="instead of the tracer protocol's own")
    group.add_argument("--comparison", choices=(">", ">=", "<", "<="), help="instead of the tracer protocol's own")
    group.add_argument("--minimum-component", type=float, metavar="ML", help="drop smaller islands (default 0.5)")
    group.add_argument("--closing", type=float, metavar="MM", help="radius of a closing inside the GTV (default 0)")
    group.add_argument("--maximum-fraction", type=float, metavar="F", help="largest hypoxic fraction (default 0.8)")


def _add_dose_options(group: argparse._ArgumentGroup) -> None:
    text = "mm on all sides, or left,right,anterior,posterior,superior,inferior"
    group.add_argument("--boost-margin", metavar="MM[,...]", help=f"hypoxic volume to boost target: {text}")
    group.add_argument("--base-margin", metavar="MM[,...]", help="GTV to base target: likewise")
    group.add_argument("--organ", metavar="ROI", action="append", help="organ at risk that targets avoid; repeat")
    group.add_argument("--organ-gap", type=float, metavar="MM", help="distance kept from organs at risk (default 3 mm)")
    group.add_argument("--base-dose", type=float, metavar="GY", help="instead of the protocol's")
    group.add_argument("--boost-dose", type=float, metavar="GY", help="instead of the protocol's")
    group.add_argument("--fractions", type=int, metavar="N", help="instead of the protocol's")
    group.add_argument(
        "--override",
        metavar='"LIMIT NAME: REASON"',
        help="exceed a limit by name: dose, volume, coverage, distribution(CHECK, ...), which names the failed checks",
    )


def _add_lists(sub: argparse._SubParsersAction) -> None:
    methods = sub.add_parser("methods", help="hypoxia methods with source, unit, inputs and parameters")
    methods.add_argument("name", nargs="?", default="", metavar="NAME", help="show one method with its parameters")
    methods.set_defaults(command=commands.methods)
    protocols = sub.add_parser(
        "protocols",
        help="dose protocols and tracer protocols with their sources",
        description="Lists dose protocols and tracer protocols. With NAME it prints the file of one dose protocol: "
        "save it, change it and give it to `hypoxia run --protocol FILE.json`. Every field must be there.",
    )
    protocols.add_argument("name", nargs="?", default="", metavar="NAME", help="print the file of one dose protocol")
    protocols.set_defaults(command=commands.protocols)


def _add_verify_and_send(sub: argparse._SubParsersAction) -> None:
    verify = sub.add_parser(
        "verify",
        help="prove an exported set again from the files alone",
        description="Reads the exported DICOM set and the planning CT again with code independent of the writer and "
        "compares every structure, dose and reference.",
    )
    verify.add_argument("folder", metavar="DIR", help="output folder of `hypoxia run`")
    verify.add_argument("--ct", metavar="FOLDER", default="", help="planning CT (default: the folder of the run)")
    verify.set_defaults(command=commands.verify)
    send = sub.add_parser(
        "send",
        help="send an exported set to a DICOM server (C-STORE)",
        description="Sends the DICOM set; a second call sends only what the server has not confirmed.",
    )
    send.add_argument("folder", metavar="DIR", help="output folder of `hypoxia run`")
    send.add_argument("--to", required=True, metavar="AE@HOST:PORT", help="the server")
    send.add_argument("--from", dest="calling_ae", default="HYPOXIA", metavar="AE", help="own title (%(default)s)")
    send.set_defaults(command=commands.send, when_cancelled="The same command sends the rest.")


if __name__ == "__main__":
    sys.exit(main())
