"""Commands around trained models: ``hypoxia models``, ``train``, ``evaluate``, ``simulate``."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from HypoxiaMapperLib.errors import HypoxiaError, RequestError
from HypoxiaMapperLib.methods import Progress
from HypoxiaMapperLib.simulate.settings import COHORTS

from .cli_text import shown
from .output import require_free

if TYPE_CHECKING:
    from HypoxiaMapperLib.inference.bundle import Bundle

SHIPPED = "shipped"
FORMATS = ("dicom", "nifti")
FIRST_SEED = 1_800_000_000
"""Neither among the patients the shipped network was trained on (1 to 2000) nor among those it is judged on."""


def add_commands(sub: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    _add_models(sub)
    _add_train(sub)
    _add_evaluate(sub)
    _add_simulate(sub)


def _add_models(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        "models",
        help="trained models: which are here, which need your file, and why",
        description="Lists the model that comes with this software and the published ones whose terms forbid passing "
        "them on: where to get the file, and whether yours is registered.",
    )
    parser.set_defaults(command=models)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    add = actions.add_parser(
        "add", help="register your copy of a published model, with the name of who accepts its terms"
    )
    add.add_argument("name", metavar="NAME", help="see `hypoxia models`")
    add.add_argument("file", metavar="FILE", help="your copy; it stays where it is")
    add.add_argument("--accepted-by", required=True, metavar="NAME", help="person who read and accepts the terms")
    add.set_defaults(command=add_model)
    forget = actions.add_parser("forget", help="forget a registered copy; the file is left alone")
    forget.add_argument("name", metavar="NAME")
    forget.set_defaults(command=forget_model)
    check = actions.add_parser("check", help="check a bundle: fields, digests, and that its weights fit its network")
    check.add_argument("bundle", metavar="BUNDLE", help=f"folder, or {SHIPPED!r}")
    check.set_defaults(command=check_model)


def _add_train(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        "train",
        help="train an ensemble and write it as a bundle",
        description="Trains on simulated patients or on your own pairs, as the configuration says, and writes a bundle "
        "that `hypoxia run --bundle` takes. Interrupted, it goes on with --resume. On several GPUs: "
        "torchrun --nproc-per-node N -m HypoxiaDosePaintLib.cli train ...",
    )
    parser.add_argument(
        "config", metavar="CONFIG.json", help=f"configuration, or {SHIPPED!r} for that of the shipped model"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder for log, checkpoints and bundle")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training in that folder")
    parser.set_defaults(command=train, when_cancelled="--resume goes on from the last checkpoint.")


def _add_evaluate(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        "evaluate",
        help="judge a bundle on simulated patients it never saw, beside every baseline",
        description="Held-out patients and three shifted cohorts; writes the table of all patients, a summary and the "
        "model card. Called again with the same folder it goes on where it stopped.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help=f"folder, or {SHIPPED!r}")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for table, summary and model card")
    parser.add_argument("--patients", type=int, default=100, metavar="N", help="of each cohort (default %(default)s)")
    parser.add_argument("--cohort", action="append", choices=tuple(COHORTS), help="only this one; repeat for more")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other patients")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.set_defaults(command=evaluate, when_cancelled="The same command goes on.")


def _add_simulate(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        "simulate",
        help="write simulated tumours with known truth, as DICOM or NIfTI",
        description="Each seed is one patient, the same every time. NIfTI holds every image and the truth as "
        "`hypoxia train` reads them; DICOM holds what `hypoxia run` reads.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="new folder; each patient gets one inside")
    parser.add_argument("--patients", type=int, required=True, metavar="N")
    parser.add_argument("--cohort", choices=tuple(COHORTS), default="training", help="(default %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=FIRST_SEED,
        metavar="N",
        help="of the first patient (default %(default)s; the shipped network was trained on 1 to 2000)",
    )
    parser.add_argument("--format", choices=FORMATS, default="nifti", help="(default %(default)s)")
    parser.set_defaults(command=simulate, when_cancelled="Patients that were finished are kept.")


def models(arguments: Namespace, progress: Progress) -> str:
    """List the shipped and the published models."""
    from HypoxiaMapperLib.inference.user_models import list_models

    shipped = _shipped_facts()
    published = list_models()
    facts = {"shipped": shipped, "published": [asdict(status) for status in published]}
    lines = [f"shipped model\n  UNAVAILABLE: {shipped.get('reason')}"]
    if shipped["available"]:
        lines = [
            f"{shipped['name']} {shipped['version']}: {shipped['title']}",
            f"  label    {shipped['label']}",
            f"  trained  {shipped['training_data']}",
            f"  use      --method learned_ratio; licence {shipped['licence']}",
        ]
    for status in published:
        model = status.model
        lines += [f"{model.name}: {model.title}", f"  source   {model.citation}", f"  terms    {model.terms}"]
        if status.registration is not None:
            lines.append(f"  file     {status.registration.path}, terms accepted by {status.registration.accepted_by} "
                         f"on {status.registration.accepted_on}")  # fmt: skip
        lines.append(f"  use      --method {model.name}" if status.available else f"  UNAVAILABLE: {status.reason}")
        if not status.available:
            lines += [f"  to get   {model.how_to_get}", f"  then     {_add_words(model.name, model.file_name)}"]
    lines.append("Your own bundle (`hypoxia train` writes one): hypoxia run ... --method learned_ratio --bundle FOLDER")
    return shown(arguments, facts, lines)


def _add_words(name: str, file_name: str) -> str:
    """The command that registers a file."""
    return f'hypoxia models add {name} {file_name} --accepted-by "YOUR NAME"'


def _shipped_facts() -> dict[str, Any]:
    """The model that comes with this software, or why it cannot be used."""
    from HypoxiaMapperLib.inference.bundle import shipped_bundle

    try:
        bundle = shipped_bundle()
    except HypoxiaError as error:
        return {"available": False, "reason": str(error)}
    keys = ("title", "label", "training_data", "intended_use", "licence")
    facts = {key: str(bundle.hypoxia[key]) for key in keys}
    return {"available": True, "name": bundle.name, "version": bundle.version, **facts, "sha256": list(bundle.sha256)}


def add_model(arguments: Namespace, progress: Progress) -> str:
    """Register the user's copy of a published model."""
    from HypoxiaMapperLib.inference.user_models import published_model, register

    terms = published_model(arguments.name).terms
    found = register(arguments.name, Path(arguments.file), arguments.accepted_by)
    lines = [
        f"Terms            {terms}",
        f"Accepted by      {found.accepted_by} on {found.accepted_on}",
        f"Registered       {found.path}",
        f"Use it with      hypoxia run ... --method {arguments.name}",
    ]
    return shown(arguments, asdict(found), lines)


def forget_model(arguments: Namespace, progress: Progress) -> str:
    """Forget a registered copy."""
    from HypoxiaMapperLib.inference.user_models import forget

    forget(arguments.name)
    return shown(arguments, {"forgotten": arguments.name}, [f"{arguments.name} is no longer registered."])


def check_model(arguments: Namespace, progress: Progress) -> str:
    """Read a bundle whole: metadata, digests, weights into the network."""
    bundle = _bundle(arguments.bundle)
    for member in range(len(bundle.weights)):
        progress(member / len(bundle.weights), f"weights {member + 1} of {len(bundle.weights)}")
        bundle.network(member)
    gate = sorted(bundle.distribution_tensors())
    hypoxia = bundle.hypoxia
    sites = list(hypoxia.get("body_parts", ()))
    facts = {
        "name": bundle.name, "version": bundle.version, "label": bundle.label, "title": hypoxia["title"],
        "training_data": hypoxia["training_data"], "licence": hypoxia["licence"], "members": len(bundle.weights),
        "sha256": list(bundle.sha256), "distribution_gate": bool(gate), "body_parts": sites,
        "folder": str(bundle.folder),
    }  # fmt: skip
    lines = [f"{bundle.name} {bundle.version}: {hypoxia['title']}", f"  label    {bundle.label}",
             f"  trained  {hypoxia['training_data']}", f"  licence  {hypoxia['licence']}",
             f"  network  {len(bundle.weights)} sets of weights fit it, digests are those of the metadata",
             *(f"           SHA-256 {digest}" for digest in bundle.sha256),
             f"  distribution check: {'present' if gate else 'MISSING, every export needs an override'}",
             f"  body site: {', '.join(sites) or 'MISSING, every export needs an override'}"]  # fmt: skip
    return shown(arguments, facts, lines)


def train(arguments: Namespace, progress: Progress) -> str:
    """Train an ensemble."""
    import HypoxiaMapperLib.training as training
    from HypoxiaMapperLib.training.loop import train as train_bundle

    config = Path(arguments.config)
    if arguments.config == SHIPPED:
        config = Path(training.__file__).parent / "configs" / "shipped.json"
    bundle = train_bundle(config, Path(arguments.output), arguments.resume, progress)
    lines = [f"Bundle           {bundle}", f"Log              {bundle.parent / 'training_log.csv'}",
             f"Judge it with    hypoxia evaluate {bundle} --output DIR",
             f"Use it with      hypoxia run ... --method learned_ratio --bundle {bundle}"]  # fmt: skip
    return shown(arguments, {"bundle": str(bundle)}, lines)


def evaluate(arguments: Namespace, progress: Progress) -> str:
    """Judge a bundle."""
    from HypoxiaMapperLib.training.evaluation import CARD, CSV
    from HypoxiaMapperLib.training.evaluation import evaluate as judge

    cohorts = tuple(arguments.cohort or COHORTS)
    folder, out = _bundle(arguments.bundle).folder, Path(arguments.output)
    summary = judge(folder, out, cohorts, arguments.patients, arguments.seed, progress, arguments.workers)
    lines = [f"Summary          {summary}", f"All patients     {out / CSV}", f"Model card       {out / CARD}"]
    return shown(arguments, json.loads(summary.read_text(encoding="utf-8")), lines)


def simulate(arguments: Namespace, progress: Progress) -> str:
    """Write simulated patients."""
    from HypoxiaMapperLib.simulate.case_files import write_case_dicom, write_case_volumes
    from HypoxiaMapperLib.simulate.cohort import simulate_case

    if arguments.patients < 1 or arguments.seed < 0:
        raise RequestError(
            f"{arguments.patients} patients from seed {arguments.seed} were asked for.",
            "Give 1 or more, and a seed of 0 or more.",
        )
    folder = Path(arguments.folder)
    require_free(folder)
    write = write_case_dicom if arguments.format == "dicom" else write_case_volumes
    written = []
    for number in range(arguments.patients):
        seed = arguments.seed + number
        progress(number / arguments.patients, f"patient {number + 1} of {arguments.patients}")
        written.append(write(simulate_case(seed, arguments.cohort), folder / f"{arguments.cohort}_{seed:08d}"))
    facts = {"folder": str(folder), "cohort": arguments.cohort, "patients": [path.name for path in written]}
    lines = [f"{len(written)} simulated patient(s) of the cohort {arguments.cohort} in {folder}",
             "simulated; no patient"]  # fmt: skip
    return shown(arguments, facts, lines)


def _bundle(name: str) -> Bundle:
    """The shipped bundle or the one in a folder."""
    from HypoxiaMapperLib.inference.bundle import load_bundle, shipped_bundle

    return shipped_bundle() if name == SHIPPED else load_bundle(Path(name))
