"""What the subcommands of ``hypoxia`` do: build the request, call the pipeline, say what came out."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from HypoxiaMapperLib.errors import InputError, OutputError, ProofError, RequestError
from HypoxiaMapperLib.methods import Progress, all_methods
from HypoxiaMapperLib.timeseries import Timing
from HypoxiaMapperLib.tracers import TRACER_PROTOCOLS

from . import cli_text as text
from .output import require_free
from .overrides import parse_overrides
from .pipeline import run as run_request
from .prescription import all_protocols, get_protocol
from .request import Margins, Registration, Request, Sphere, SubvolumeOptions, read_request

DEMO_ORGANS = ("SpinalCord", "Brainstem")
DEMO_METHODS: dict[str, dict[str, Any]] = {
    "tracer_ratio": {},
    "learned_ratio": {"inputs": {"t1": "none"}},
}
DEMO_NOTES = {
    "tracer_ratio": "",
    "learned_ratio": "\nThe T1 of the digital patient has thicker slices than the network was trained on, which would "
    "stop the\nexport: the demonstration leaves it out (--input t1=none).",
}


def demo(arguments: Namespace, progress: Progress) -> str:
    """Make the digital patient, run everything on it, compare with its truth."""
    from HypoxiaMapperLib.simulate.digital_patient import make_patient

    out = Path(arguments.out) if arguments.out else _free_name(Path("hypoxia-demo"))
    require_free(out)
    patient = make_patient(out / "patient", arguments.seed, lambda f, t: progress(0.2 * f, t))
    request = Request(
        folder=str((out / "patient").resolve()),
        output=str((out / "result").resolve()),
        method=arguments.method,
        protocol="welz_77_70_35",
        gtv_rois=patient.gtv_rois,
        reference_roi=patient.reference_roi,
        organ_rois=DEMO_ORGANS,
        accepted_by="Demonstration (digital patient, no person)",
        **DEMO_METHODS[arguments.method],
    )
    result = run_request(request, lambda f, t: progress(0.2 + 0.8 * f, t), lambda r: text.truth_facts(patient, r))
    lines = text.result_lines(result, out / "result") + DEMO_NOTES[arguments.method]
    return text.shown(arguments, text.result_facts(result, out / "result"), lines)


def scan(arguments: Namespace, progress: Progress) -> str:
    """List a DICOM folder."""
    from HypoxiaMapperLib.dicomio.scan import scan_folder

    found = scan_folder(Path(arguments.folder), progress)
    if not found.series:
        reasons = Counter(x.reason for x in found.left_out)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "it is empty"
        raise InputError(
            f"{found.folder} holds no DICOM series; {len(found.left_out)} file(s) left out: {why}.",
            "Give the folder that holds the DICOM files.",
        )
    return text.shown(arguments, text.scan_facts(found), text.scan_lines(found))


def run(arguments: Namespace, progress: Progress) -> str:
    """Run a request from options or from a file."""
    request = request_from_arguments(arguments)
    if arguments.save_request:
        path = Path(arguments.save_request)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(request.to_json() + "\n")
        except OSError as error:
            raise OutputError(f"Request file {path} not written: {error.strerror}.", "Choose a new file.") from error
        return f"Request saved in {path}. Run it with: hypoxia run {path}"
    result = run_request(request, progress)
    out = Path(request.output)
    return text.shown(arguments, text.result_facts(result, out), text.result_lines(result, out))


def methods(arguments: Namespace, progress: Progress) -> str:
    """List methods, or one with its parameters."""
    found = all_methods()
    if arguments.name:
        if arguments.name not in found:
            raise RequestError(f"There is no method {arguments.name!r}.", f"Valid methods: {', '.join(found)}.")
        found = {arguments.name: found[arguments.name]}
    return text.shown(arguments, text.method_facts(found), text.method_lines(found, bool(arguments.name)))


def protocols(arguments: Namespace, progress: Progress) -> str:
    """List dose protocols and tracer protocols, or print one dose protocol as the file that it is."""
    if arguments.name:
        return json.dumps(asdict(get_protocol(arguments.name)), indent=2, ensure_ascii=False)
    facts = {
        "dose_protocols": [asdict(p) for p in all_protocols().values()],
        "tracer_protocols": [asdict(p) for p in TRACER_PROTOCOLS],
    }
    return text.shown(arguments, facts, text.protocol_lines(all_protocols().values(), TRACER_PROTOCOLS))


def verify(arguments: Namespace, progress: Progress) -> str:
    """Prove an exported set again from the files alone."""
    from .dicomrt.readback import find_planning_files
    from .dicomrt.verify import verify_set

    folder = Path(arguments.folder)
    _require_exported_set(folder)
    ct_folder = Path(arguments.ct) if arguments.ct else Path(_recorded_request(folder).folder)
    if not ct_folder.is_dir():
        raise InputError(f"The folder of the planning CT, {ct_folder}, is not there.", "Name it with --ct FOLDER.")
    rows = verify_set(folder, find_planning_files(folder, ct_folder))
    failed = [f"{r.structure}: {r.reason}" for r in rows if not r.passed]
    if failed:
        raise ProofError(f"{folder} is not what was shown: {'; '.join(failed)}.", "Do not use it; export it again.")
    return text.shown(arguments, {"proof": [asdict(r) for r in rows]}, text.proof_lines(rows))


def _require_exported_set(folder: Path) -> None:
    """Refuse a folder in which there is nothing to prove, and tell a result nobody accepted from any other folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", "Give the output folder of `hypoxia run`.")
    is_result = (folder / "result.json").is_file()
    if (folder / "RTSTRUCT.dcm").is_file() or (is_result and (folder / "dicom").is_dir()):
        return
    hint = "Run with --accepted-by NAME first." if is_result else "Give the output folder of an accepted run."
    raise InputError(f"{folder} holds no exported DICOM set.", hint)


def _recorded_request(folder: Path) -> Request:
    """The request that a result folder, or the one that holds this ``dicom`` folder, was made from."""
    for path in (folder / "request.json", folder.resolve().parent / "request.json"):
        if path.is_file():
            return read_request(path)
    raise InputError(f"{folder} holds no request.json.", "Name the planning CT with --ct FOLDER.")


def send(arguments: Namespace, progress: Progress) -> str:
    """Send an exported set to a DICOM server, if its files are those that were proven."""
    from .dicomrt.verify import require_delivered
    from .send import parse_peer, send_folder

    folder = Path(arguments.folder)
    _require_exported_set(folder)
    require_delivered(folder)
    report = send_folder(folder, parse_peer(arguments.to), arguments.calling_ae, progress)
    return text.shown(arguments, asdict(report), report.summary())


def request_from_arguments(arguments: Namespace) -> Request:
    """The request of ``hypoxia run``: a file, or a folder with options.

    Raises
    ------
    HypoxiaError
        Naming the option that is missing, superfluous or malformed, or the file that is no request.
    """
    if arguments.source.endswith(".json"):
        return _request_from_file(arguments)
    if Path(arguments.source).is_file():
        raise InputError(f"{arguments.source} is neither a folder nor a request file (.json).", "Give one of them.")
    missing = [o for o in ("method", "protocol", "out") if not getattr(arguments, o)]
    if missing:
        raise RequestError(
            f"Missing option(s): {', '.join('--' + m for m in missing)}.",
            "See `hypoxia methods`, `hypoxia protocols` and `hypoxia run --help`.",
        )
    given: dict[str, Any] = {
        "planning_series": arguments.planning_series, "pet_series": arguments.pet_series, "tracer": arguments.tracer,
        "inputs": _inputs(arguments.input), "region_rois": _pairs(arguments.region, "--region"),
        "timing": Timing(arguments.frame_time or "", arguments.time_unit or "", arguments.frame_interval),
        "motion_reference": arguments.motion_reference,
        "structure_set": arguments.structure_set, "gtv_rois": tuple(arguments.gtv or ()) or None,
        "reference_roi": arguments.reference_roi, "reference_sphere": _sphere(arguments.reference_sphere),
        "organ_rois": tuple(arguments.organ or ()) or None, "organ_gap_mm": arguments.organ_gap,
        "boost_margins": _margins(arguments.boost_margin, "--boost-margin"),
        "base_margins": _margins(arguments.base_margin, "--base-margin"), "base_dose_gy": arguments.base_dose,
        "boost_dose_gy": arguments.boost_dose, "fractions": arguments.fractions, "override": arguments.override,
        "accepted_by": arguments.accepted_by, "write_rtdose": arguments.rtdose, "holes": arguments.holes,
        "registration": _registration(arguments.registration), "subvolume": _subvolume(arguments),
        "method_params": _method_params(arguments.method, arguments.param or [], arguments.bundle),
    }  # fmt: skip
    return Request(
        str(Path(arguments.source).resolve()), str(Path(arguments.out).resolve()), arguments.method,
        _absolute(arguments.protocol, (".json",)),
        **{key: value for key, value in given.items() if value is not None},
    )  # fmt: skip


def _request_from_file(arguments: Namespace) -> Request:
    """A stored request; only where it writes, and what a person says of its result, may be given beside it.

    That includes the registration: the one that a run computed is looked at, then given to the run that is accepted.
    """
    names = (action.dest for action in arguments.parser._actions if action.dest not in _NO_PART_OF_A_REQUEST)
    extra = [name for name in names if name not in _BESIDE_A_FILE and getattr(arguments, name) is not None]
    if extra:
        raise RequestError(
            f"Beside a request file {', '.join(_option(k) for k in extra)} cannot be given.",
            f"Only {', '.join(_option(k) for k in _BESIDE_A_FILE)} can: edit the file, or give the folder and all "
            "options.",
        )
    request = read_request(Path(arguments.source))
    if not (request.not_repeatable or Path(request.folder).is_dir()):
        raise InputError(
            f"{request.folder}, the folder of the request {arguments.source}, is not there.",
            "Correct `folder` in the request file.",
        )
    given = {
        "output": str(Path(arguments.out).resolve()) if arguments.out else None,
        "accepted_by": arguments.accepted_by,
        "registration": _registration(arguments.registration),
        "override": _joined_overrides(request.override, arguments.override) if arguments.override else None,
    }
    return replace(request, **{key: value for key, value in given.items() if value is not None})


def _joined_overrides(stored: str, given: str) -> str:
    """The overrides of a request file and those given beside it, which go before those of the same limit."""
    new = parse_overrides(given)
    kept = [part.strip() for part in stored.split(";") if not set(parse_overrides(part)) <= set(new)]
    return "; ".join([*kept, given])


def _option(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


_BESIDE_A_FILE = ("out", "accepted_by", "override", "registration")
_NO_PART_OF_A_REQUEST = ("source", "save_request", "json", "quiet", "help")


def _subvolume(arguments: Namespace) -> SubvolumeOptions:
    """Subvolume options that were given, defaults for the rest."""
    given = {
        "threshold": arguments.threshold, "comparison": arguments.comparison,
        "minimum_component_ml": arguments.minimum_component, "closing_mm": arguments.closing,
        "maximum_fraction_of_gtv": arguments.maximum_fraction,
    }  # fmt: skip
    return SubvolumeOptions(**{k: v for k, v in given.items() if v is not None})


def _method_params(method: str, pairs: list[str], bundle: str | None = None) -> dict[str, Any]:
    """``NAME=VALUE`` pairs with values in the types of the method's parameters, and the folder of a trained model."""
    known = all_methods()
    types = {f.name: type(f.default) for f in fields(known[method].Params)} if method in known else {}
    values: dict[str, Any] = {"bundle": str(Path(bundle).resolve())} if bundle else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"--param {pair!r} is not NAME=VALUE.", f"Parameters: {', '.join(types) or 'none'}.")
        values[name] = _number(value, f"--param {name}") if types.get(name) in (int, float) else value
        if types.get(name) is int:
            values[name] = int(values[name])
        if types.get(name) is bool and value.lower() in ("true", "false"):
            values[name] = value.lower() == "true"
    return values


def _pairs(values: list[str] | None, option: str) -> dict[str, str] | None:
    """``KEY=NAME`` pairs; None when there is none."""
    found = {}
    for pair in values or []:
        key, equals, name = pair.partition("=")
        if not (key and equals and name):
            raise RequestError(f"{option} {pair!r} is not KEY=NAME.", "See `hypoxia methods NAME` for the keys.")
        found[key] = name
    return found or None


def _inputs(values: list[str] | None) -> dict[str, str] | None:
    """``KEY=SERIES`` pairs; files by their whole path, for the request also runs from another folder."""
    return {
        key: ";".join(_absolute(name.strip(), (".nii", ".nii.gz")) for name in names.split(";"))
        for key, names in (_pairs(values, "--input") or {}).items()
    } or None


def _absolute(name: str, endings: tuple[str, ...]) -> str:
    """The whole path of a file that is there; any other name as it is."""
    return str(Path(name).resolve()) if name.endswith(endings) and Path(name).is_file() else name


def _number(value: str, option: str, hint: str = "Write it with a decimal point and without unit.") -> float:
    """A number, or a message that names the option."""
    try:
        return float(value)
    except ValueError:
        raise RequestError(f"{option}: {value!r} is not a number.", hint) from None


def _numbers(value: str, option: str, counts: tuple[int, ...], form: str) -> list[float]:
    """Comma-separated numbers of an allowed count; ``form`` says how they are written."""
    numbers = [_number(part, option, form) for part in value.split(",")]
    if len(numbers) not in counts:
        raise RequestError(f"{option} has {len(numbers)} numbers.", form)
    return numbers


_MARGIN_FORM = (
    "Millimetres without unit: one number, or left,right,anterior,posterior,superior,inferior as 3,3,3,3,2,2."
)
_SPHERE_FORM = "Four numbers in millimetres without unit, LPS: X,Y,Z,RADIUS as 12.5,-30,104,6."


def _margins(value: str | None, option: str) -> Margins | None:
    """One margin for all sides, or six."""
    if value is None:
        return None
    numbers = _numbers(value, option, (1, 6), _MARGIN_FORM)
    return Margins.uniform(numbers[0]) if len(numbers) == 1 else Margins(*numbers)


def _sphere(value: str | None) -> Sphere | None:
    """Centre and radius."""
    if value is None:
        return None
    x, y, z, radius = _numbers(value, "--reference-sphere", (4,), _SPHERE_FORM)
    return Sphere((x, y, z), radius)


def _registration(value: str | None) -> Registration | None:
    """``rigid``, ``stated``, or a file."""
    if value is None:
        return None
    return Registration(value) if value in ("rigid", "stated") else Registration("file", str(Path(value).resolve()))


def _free_name(base: Path) -> Path:
    """``base``, or ``base-2``, ``base-3`` ... whichever is free."""
    number = 1
    while (path := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return path
