"""Every sentence of the panels can be translated: Slicer's tool finds it, and none stands outside ``_()``."""

from __future__ import annotations

import ast
import json
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WALKED = ("HypoxiaMapper", "HypoxiaDosePaint")
WORDS = re.compile(r"[A-Za-z]{2,}[.,;:)]* +\(?[A-Za-z]{2,}")  # two words: a sentence, or a piece of one
# As in Slicer's Utilities/Scripts/update_translations.py: in this order, each as far as its first closing bracket.
DELIMITERS = ('"', "'", '"""', "'''")
# What is English for everyone, by module and file, with the reason.
ENGLISH = {
    "HypoxiaMapper": {
        # One record, one wording: stands word for word in the provenance of a map, in request and report.
        "choices.py": ("stated by the user", "planning CT"),  # "planning CT": a key of words.py
        "hypoxic_segment.py": ("drawn in Slicer", "; edited by hand: X ml", "Hypoxia~SCT^", "Hypoxia targets"),
        "map_nodes.py": ("quality code (0: ok)",),
        "map_display.py": ("Hypoxia colours",),
        "node_images.py": ('["unit stated by the user"]', "CT number", "tissue-to-blood ratio", "MR map",
                           "Activity concentration", "MR signal"),
        "node_voxels.py": ("as in the files",),
        "segment_regions.py": ("outside the planning image", "X; drawn in frame of reference X", "X; X ml of X lie X"),
        "sequence_input.py": ("world of the Slicer scene", "Activity concentration",
                              "stated by the user", "X frames of the Slicer sequence X",
                              "some of its DICOM files", "its DICOM files are not", "not loaded from DICOM",
                              "Times of the PET count from X"),
        "sequence_times.py": ("lengths stated by the user", "X X of the sequence, X", "X frames, starts X",
                              "X, taken as frame X; X", "first frame", "zero of the sequence's index",
                              "X, frames without gap", "start of the first frame", "stated by the user: X s from",
                              "unit as stated", "DICOM tag", "echo time", "inversion time", "flip angle"),
        # Names and attributes of nodes, by which they are found again in a scene that was saved in another language.
        "plots.py": ("Hypoxia plots", "Hypoxia curve", "Hypoxia histogram", "Hypoxic volume by threshold"),
        "sphere.py": ("not placed",),
        "words.py": ("planning CT",),
        # Handed to the library, whose messages are English.
        "patient_scope.py": ("This choice",),
        "threshold.py": ("Map and X",),
        # No words: HTML, and the name of a group of people.
        "model_text.py": ("<table cellpadding=2>X</table>", "<tr><td width=X>"),
        "HypoxiaMapper.py": ("Slicer Hypoxia contributors",),
    },
    "HypoxiaDosePaint": {
        # One record, one wording: stands in the request or the warnings of a result.
        "repeatable.py": ("contours of several", "several images were", "frames were chosen", "the map was made with",
                          "drawn or edited by hand", "cut at X, not at X", "the hypoxic region in X was X", "X was",
                          "images of several folders", "the images were registered"),
        "scene_run.py": ("same frame of reference", "as placed in the scene by the user", "rigid, computed here",
                         "X was drawn in the frame of reference X", "Use a contour drawn on the planning CT."),
        # Keys of what a map or the targets were made of; names of nodes and of what they show of the prescription.
        "decisions.py": ("made of", "write in Override (step 2):", "Choose another ",
                         "choose another folder"),  # all but the first: words of the library and what stands for them
        "map_used.py": ("planning CT",),
        "texts.py": ("made of",),
        "preview.py": ("Dose painting targets", "Dose labels", "SCT^", "X: X Gy in X"),
        # Slicer's own key of a category, and the name of a group of people.
        "HypoxiaDICOMExportPlugin.py": ("Developer Tools.DICOM Plugins", "Slicer Hypoxia contributors"),
        "HypoxiaDosePaint.py": ("Slicer Hypoxia contributors",),
    },
}  # fmt: skip

MODULES = tuple(ENGLISH)


def files(module: str) -> list[Path]:
    """Files of a module that speak to a user."""
    panel = ROOT / module / f"{module}Lib" / "panel"
    return [p for p in (*(ROOT / module).glob("*.py"), *panel.glob("*.py")) if not p.name.startswith("self_test")]


def calls(tree: ast.AST) -> list[ast.Call]:
    """Every call of ``_``."""
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "_"]


def found_by_the_tool(source: str) -> list[str]:
    """Texts that the regular expressions of Slicer's tool cut out of a source."""
    texts = []
    for mark in DELIMITERS:
        pattern = re.compile(rf"[^_]_\((\s*?{mark}.+?{mark}\s*?)\)", re.DOTALL)
        texts += [ast.literal_eval(f"({argument})") for argument in pattern.findall(source)]
        source = pattern.sub(" found", source)
    return texts


def literal(node: ast.AST) -> str | None:
    """Text of a string; each value in it is an X."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of what reads like words and is neither translated nor a docstring."""
    left_out = {id(n) for call in calls(tree) for n in ast.walk(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            left_out |= {id(value) for value in node.values}
    for node in ast.walk(tree):
        text = literal(node)
        if text is not None and id(node) not in left_out and WORDS.search(text):
            yield node.lineno, text


@pytest.mark.parametrize("module", MODULES)
def test_the_tool_of_slicer_finds_every_text_whole(module):
    count = 0
    for path in files(module):
        source = path.read_text(encoding="utf-8")
        texts = []
        for call in calls(ast.parse(source)):
            assert [type(a) for a in (*call.args, *call.keywords)] == [ast.Constant], f"{path.name}:{call.lineno}"
            texts.append(call.args[0].value)
        assert sorted(found_by_the_tool(source)) == sorted(texts), path.name
        count += len(texts)
    assert count > 60


@pytest.mark.parametrize("module", MODULES)
def test_placeholders_have_names_and_something_is_left_to_translate(module):
    for path in files(module):
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            parts = list(string.Formatter().parse(call.args[0].value))
            assert all(name is None or name.isidentifier() for _, name, _, _ in parts), f"{path.name}:{call.lineno}"
            names = [name for _, name, _, _ in parts if name is not None]  # several may stand in another order
            assert len(names) > 1 or any(re.search("[A-Za-z]", p[0]) for p in parts), f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_texts_are_translated_when_they_are_shown_and_where_the_tool_may_write(module):
    """At import there is no language yet; inside an f-string the tool's own text would be a part of the string."""
    for path in files(module):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        inside = {id(n) for f in functions for part in f.body for n in ast.walk(part)}
        in_strings = {id(n) for s in ast.walk(tree) if isinstance(s, ast.JoinedStr) for n in ast.walk(s)}
        for call in calls(tree):
            assert id(call) in inside, f"{path.name}:{call.lineno}: at import"
            assert id(call) not in in_strings, f"{path.name}:{call.lineno}: in an f-string"


@pytest.mark.parametrize("module", WALKED)
def test_a_panel_in_a_made_up_language_has_no_english_left(module, tmp_path, digital_patient):
    """Every label, tip, list, plot and question of a walk, but for what the pipeline and the scene bring."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install PySide6-Essentials")
    pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")
    command = [sys.executable, ROOT / "Testing" / "slicer" / "pseudo_language.py", module]
    command += ["--work", tmp_path / "work", "--patient", digital_patient.folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["shown"] > 200
    assert told["left"] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_sentence_stands_outside(module):
    english = ENGLISH[module]
    unused = {(name, start) for name in {p.name for p in files(module)} for start in english.get(name, ())}
    for path in files(module):
        for line, text in sentences(ast.parse(path.read_text(encoding="utf-8"))):
            allowed = {(path.name, start) for start in english.get(path.name, ()) if text.startswith(start)}
            assert allowed, f"{path.name}:{line}: {text!r} is neither translated nor in the list of this test"
            unused -= allowed
    assert not unused, "in the list of this test, but no longer in the file"
