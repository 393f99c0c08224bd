"""The rules of the house as code: which layer may import what, how long a file may be. Used by test_architecture.py."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

MAPPER, PAINT = "HypoxiaMapperLib", "HypoxiaDosePaintLib"
NUMERIC = {"numpy", "scipy", "SimpleITK"}
DICOM = NUMERIC | {"pydicom", "highdicom"}
SLICER = {"slicer", "vtk", "vtkmodules"}
PICTURES = SLICER | {"trame_slicer", "slicer_layer_dm", "matplotlib", "jinja2", "PIL"}
HEAVY = (
    SLICER
    | PICTURES
    | {"torch", "radiomics", "monai", "safetensors", "sklearn", "tensorboard", "highdicom", "pynetdicom", "trame"}
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


@dataclass(frozen=True)
class Layer:
    """What a layer may import: other packages, and layers of this project (its own always)."""

    packages: frozenset[str]
    layers: frozenset[str]
    light: frozenset[str] = frozenset()  # heavy packages that may stand at file scope here


def _layer(packages: set[str], layers: str = "", light: set[str] | None = None) -> Layer:
    return Layer(frozenset(packages), frozenset(layers.split()), frozenset(light or ()))


BELOW_FRONT = "core contract methods dicom simulate"
LAYERS = {
    "core": _layer(NUMERIC),
    "methods": _layer(NUMERIC | {"torch", "monai", "safetensors", "radiomics"}, "core"),
    "training": _layer(
        NUMERIC | {"torch", "monai", "safetensors", "sklearn", "tensorboard", "tqdm", "matplotlib"},
        "core contract methods simulate",
    ),
    "contract": _layer(NUMERIC, "core methods"),
    "dicom": _layer(DICOM, "core contract"),
    "network": _layer(DICOM | {"pynetdicom"}, "core"),
    "simulate": _layer(DICOM | {"torch"}, "core dicom methods"),
    "mrml": _layer(NUMERIC | SLICER, "core contract", SLICER),
    "panel": _layer(
        NUMERIC | SLICER | {"qt", "ctk", "DICOMLib", "PyTorchUtils", "HypoxiaMapper", "HypoxiaDosePaint"},
        f"{BELOW_FRONT} mrml parts pipeline",
        SLICER,
    ),
    "parts": _layer(DICOM, BELOW_FRONT),
    "report": _layer(NUMERIC | PICTURES, "core contract methods mrml"),
    "pipeline": _layer(DICOM | {"tqdm"}, f"{BELOW_FRONT} parts report mrml network"),
    "front": _layer(DICOM | PICTURES | {"tqdm", "trame"}, f"{BELOW_FRONT} parts pipeline mrml network training"),
}

# What a method is and returns, without any method.
_CONTRACT = "methods._base methods._model_use methods.HypoxiaMap methods.Method methods.Progress methods.no_progress"
# Layer of each module, the longest name that fits counts. A file that fits none is a decision: write it down here.
MEMBERS = {
    MAPPER: {
        "core": "__init__ errors names volume timeseries niftiio nifti_image nifti_pet suv tracers resample "
        f"registration {_CONTRACT} tumour_overlap",
        "methods": "methods fitting kinetics inference",
        "dicom": "dicomio",
        "parts": "jobs mapping method_images worker",
        "simulate": "simulate",
        "training": "training",
        "mrml": "mrml",
        "panel": "panel",
    },
    PAINT: {
        "core": "__init__ request overrides prescription radiobiology structures margins limits output wording",
        "contract": "result seen drawn subvolume planqa sidecar",
        "dicom": "dicomrt",
        "network": "send",
        "parts": "selection method_inputs alignment bystanders targets",
        "report": "report pictures plots render",
        "pipeline": "pipeline",
        "front": "cli cli_commands cli_models cli_text demo batch web",
        "panel": "panel",
    },
}
LAYER_OF = {
    (package, name): layer
    for package, layers in MEMBERS.items()
    for layer, names in layers.items()
    for name in names.split()
}


@dataclass(frozen=True)
class Import:
    """One imported module by its absolute name, where it stands, and whether the file's import runs it."""

    name: str
    line: int
    at_file_scope: bool


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a file, relative ones resolved against ``module`` (its dotted name)."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node, at_file_scope in _walk(tree, True):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            # The names may be modules themselves; which ones matters only for the project's own packages.
            own = base.split(".")[0] in (MAPPER, PAINT)
            names = [f"{base}.{alias.name}" for alias in node.names] if own else [base]
        elif _is_import_call(node):
            names = [node.args[0].value]  # type: ignore[attr-defined]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, at_file_scope)


def _is_import_call(node: ast.AST) -> bool:
    """``importlib.import_module("x")`` or ``__import__("x")`` with a literal name."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in ("import_module", "__import__") and isinstance(node.args[0].value, str)


def _walk(node: ast.AST, at_file_scope: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, with whether importing the file runs it: bodies of functions and TYPE_CHECKING are not run."""
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, at_file_scope
        yield from _walk(child, at_file_scope and not inside and not types_only)


def import_violations(source: str, path: str) -> list[str]:
    """What a file of one of the two packages imports against the layers.

    Parameters
    ----------
    source : str
        Text of the file.
    path : str
        Its path below the folder that holds the package, e.g. ``"HypoxiaMapperLib/methods/tracer_ratio.py"``.
    """
    parts = list(PurePosixPath(path).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    layer = layer_of(module, is_package)
    if not layer:
        return [f"{path}: belongs to no layer; add {parts[1]!r} to MEMBERS"]
    found = []
    for item in imports_of(ast.parse(source), module, is_package):
        own = item.name.split(".")[0] in (MAPPER, PAINT)
        problem = _own_problem(item, module, layer) if own else _package_problem(item, layer)
        if problem:
            found.append(f"{path}:{item.line}: {problem}")
    if layer == "mrml" and "mrmlScene" in source.replace("vtkMRMLScene", ""):
        found.append(f"{path}: uses the global scene; take the scene as an argument")
    return found


def _package_problem(item: Import, layer: str) -> str:
    """Why a layer may not import a package of others here; empty when it may."""
    package = item.name.split(".")[0]
    if package in sys.stdlib_module_names:
        return ""
    if package not in LAYERS[layer].packages:
        return f"layer {layer} never imports {package}"
    if package in HEAVY and item.at_file_scope and package not in LAYERS[layer].light:
        return f"{package} is heavy: import it inside the function that uses it"
    return ""


def layer_of(module: str, is_package: bool = False) -> str:
    """Layer of a module by its dotted name, empty when none is written down."""
    package, *rest = module.split(".")
    for length in range(len(rest), 0, -1):
        if (package, ".".join(rest[:length])) in LAYER_OF:
            return LAYER_OF[package, ".".join(rest[:length])]
    return LAYER_OF[package, "__init__"] if is_package and not rest else ""


def _own_problem(item: Import, module: str, layer: str) -> str:
    """Why a file may not import this module of the project; empty when it may."""
    package, *rest = module.split(".")
    if package == MAPPER and item.name.split(".")[0] == PAINT:
        return f"{MAPPER} never imports {PAINT}"
    wanted = layer_of(item.name) or "core"  # a name of the package itself, such as __version__
    if layer == "front" and wanted == "front":
        # The command line starts the other front ends, each when its command is given; they do not know each other.
        ours, theirs = rest[0].split("_")[0], item.name.split(".")[1].split("_")[0]
        allowed = ours == theirs or (ours == "cli" and not item.at_file_scope)
    else:
        allowed = wanted in LAYERS[layer].layers or wanted == layer
    return "" if allowed else f"layer {layer} never imports {item.name} (layer {wanted})"


def length_violations(source: str, path: str) -> list[str]:
    """Files over 400 lines, functions over 50 (docstring not counted)."""
    found = []
    lines = source.count("\n")
    if lines > MAX_FILE_LINES:
        found.append(f"{path}: {lines} lines, at most {MAX_FILE_LINES}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}")
    return found


# Folders that exist on one machine only.
_MACHINE_PATH = re.compile(r"(?<![\w.<$}])/(?:work|tmp|root|home/[a-z]+|Users/[a-z]+|mnt|media)/|\b[A-Z]:\\Users\\")
_URL_HOST = re.compile(r"\b(?:https?|ftp|ssh|git)://(?:[^/\s@]*@)?([^/\s:\"'`)>\]]+)")
PUBLIC_HOSTS = (
    "doi.org", "github.com", "raw.githubusercontent.com", "slicer.org", "w3.org", "apache.org", "python.org",
    "pypi.org", "nema.org", "cancerimagingarchive.net", "orcid.org", "citation-file-format.github.io", "arxiv.org",
    "nih.gov", "debian.org", "keepachangelog.com", "semver.org", "localhost", "127.0.0.1", "example.org", "example",
)  # fmt: skip


def machine_violations(text: str, path: str) -> list[str]:
    """Absolute paths of one machine, and hosts that are not public sites the project cites."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := _MACHINE_PATH.search(line):
            found.append(f"{path}:{number}: path of one machine: {match.group()!r}")
        for host in _URL_HOST.findall(line):
            if not any(host == known or host.endswith(f".{known}") for known in PUBLIC_HOSTS) and "{" not in host:
                found.append(f"{path}:{number}: unknown host {host!r}")
    return found
