"""The extension's CMake files: every script and data file is listed, nothing else, and they configure."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"HypoxiaMapper": "HypoxiaMapperLib", "HypoxiaDosePaint": "HypoxiaDosePaintLib"}
# Slicer's own names, as CMake/SlicerMacroBuildScriptedModule.cmake and SlicerMacroPythonTesting.cmake give them.
STUB = """
file(WRITE "${CMAKE_CURRENT_LIST_DIR}/use.cmake" "")
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(BUILD_TESTING ON)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "missing ${file}")
    endif()
    message(STATUS "LISTED ${MY_NAME}/${file}")
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT" "" ${ARGN})
  get_filename_component(MY_FOUND "${MY_SCRIPT}" ABSOLUTE)
  if(NOT EXISTS "${MY_FOUND}")
    message(FATAL_ERROR "missing ${MY_SCRIPT}")
  endif()
  message(STATUS "TEST ${MY_SCRIPT}")
endmacro()
"""


def wanted_files(module: str) -> set[str]:
    """Every file a module needs at run time."""
    base = ROOT / module
    inside = {p for p in (base / MODULES[module]).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    resources = {p for p in (base / "Resources").rglob("*") if p.is_file()}
    return {p.relative_to(base).as_posix() for p in inside | resources | set(base.glob("*.py"))}


@pytest.fixture(scope="module")
def configured(tmp_path_factory, require_tool):
    """What CMake said when it configured the extension against a stub of Slicer."""
    folder = tmp_path_factory.mktemp("cmake")
    (folder / "SlicerConfig.cmake").write_text(STUB, encoding="utf-8")
    command = [require_tool("cmake"), "-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", list(MODULES))
def test_the_package_holds_every_file_and_no_other(configured, module):
    listed = re.findall(rf"LISTED {module}/(\S+)", configured)
    assert len(listed) == len(set(listed)), "a file is listed twice"
    assert set(listed) == wanted_files(module), "run tools/update-cmake-lists"


def test_both_self_tests_and_the_import_test_are_registered(configured):
    tests = {Path(t).name for t in re.findall(r"TEST (\S+)", configured)}
    assert tests == {"HypoxiaMapper.py", "HypoxiaDosePaint.py", "HypoxiaImportTest.py"}


def test_only_methods_are_found_by_a_pattern():
    for module in MODULES:
        text = (ROOT / module / "CMakeLists.txt").read_text(encoding="utf-8")
        assert "/methods/" not in text.replace("HypoxiaMapperLib/methods/*.py", "")
        assert ".." not in text
        assert text.count("GLOB") == (module == "HypoxiaMapper")


def test_metadata_of_the_extension_is_complete():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    urls, words = ("HOMEPAGE", "ICONURL", "SCREENSHOTURLS"), ("CONTRIBUTORS", "DESCRIPTION", "CATEGORY")
    for name in (*urls, *words, "DEPENDS", "RECOMMENDS"):
        value = re.search(rf'set\(EXTENSION_{name} "([^"]+)"\)', text)
        assert value, name
        for url in value.group(1).split():
            if "/main/" in url:
                assert (ROOT / url.partition("/main/")[2]).is_file(), url
    entry = json.loads((ROOT / "Hypoxia.json").read_text(encoding="utf-8"))
    assert "project(Hypoxia)" in text  # the index file is named after the project
    assert entry["category"] == "Radiotherapy" == re.search(r'EXTENSION_CATEGORY "([^"]+)"', text).group(1)
    assert {"$schema", "scm_url", "scm_revision", "tier"} <= entry.keys()
