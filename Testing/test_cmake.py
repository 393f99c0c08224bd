"""The extension's CMake files: they configure, list every script and data file and nothing else, and install them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"HypoxiaMapper": "HypoxiaMapperLib", "HypoxiaDosePaint": "HypoxiaDosePaintLib"}
# Slicer's own names, as its CMake/SlicerMacroBuildScriptedModule.cmake, SlicerMacroPythonTesting.cmake and
# SlicerExtensionCPack.cmake give them.
STUB = """
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ./lib/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_SHARE_DIR ./share/qt-scripted-modules)
file(WRITE "${CMAKE_CURRENT_LIST_DIR}/use.cmake" "")
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
file(WRITE "${CMAKE_CURRENT_LIST_DIR}/cpack.cmake" [[message(STATUS "LICENSED ${EXTENSION_LICENSE_FILE}")]])
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/cpack.cmake")
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
    get_filename_component(folder "${file}" DIRECTORY)
    install(FILES "${file}" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}")
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
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cmake")


@pytest.fixture(scope="module")
def configured(folder, require_tool):
    """What CMake said when it configured the extension against a stub of Slicer."""
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


@pytest.fixture(scope="module")
def installed(configured, folder, require_tool):
    """The install tree, as Slicer's package of the extension has it."""
    command = [require_tool("cmake"), "--install", folder / "build", "--prefix", folder / "installed"]
    subprocess.run(command, capture_output=True, check=True)
    return folder / "installed"


def test_the_licence_is_ours_and_travels_with_the_package(configured, installed):
    assert f"LICENSED {ROOT / 'LICENSE'}\n" in configured
    licence = installed / "share" / "qt-scripted-modules" / "Hypoxia" / "LICENSE"
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


FOUND_IN_THE_INSTALL_TREE = """
import json, pathlib, HypoxiaMapperLib, HypoxiaDosePaintLib.prescription
from HypoxiaMapperLib.inference import bundle
from HypoxiaMapperLib.methods import all_methods
from HypoxiaMapperLib.panel.packages import requirement_lines
print(json.dumps({
    "file": HypoxiaMapperLib.__file__,
    "methods": sorted(all_methods()),
    "lines": requirement_lines(["numpy", "torch"]),
    "protocols": len(HypoxiaDosePaintLib.prescription.all_protocols()),
    "bundles": [str(p) for p in pathlib.Path(bundle.__file__).parent.glob("bundles/*/models/*.safetensors")],
}))
"""


def test_the_installed_libraries_find_their_methods_models_protocols_and_requirements(installed):
    place = installed / "lib" / "qt-scripted-modules"
    command = [sys.executable, "-c", FOUND_IN_THE_INSTALL_TREE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file"] == str(place / "HypoxiaMapperLib" / "__init__.py")
    methods = ROOT / "HypoxiaMapper" / "HypoxiaMapperLib" / "methods"
    assert len(found["methods"]) == len([p for p in methods.glob("*.py") if not p.name.startswith("_")])
    assert len(found["lines"]) == len(re.findall("[~<>=]=", " ".join(found["lines"]))) == 2
    assert found["protocols"] == len(list((ROOT / "HypoxiaDosePaint").rglob("protocols/*.json")))
    assert len(found["bundles"]) >= 5


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
    for name in (*urls, *words, "DEPENDS", "RECOMMENDS", "KEYWORDS"):
        value = re.search(rf'set\(EXTENSION_{name} "([^"]+)"\)', text)
        assert value, name
        for url in value.group(1).split():
            if "/main/" in url:
                assert (ROOT / url.partition("/main/")[2]).is_file(), url
    entry = json.loads((ROOT / "Hypoxia.json").read_text(encoding="utf-8"))
    assert "project(Hypoxia)" in text  # the index file is named after the project
    assert entry["category"] == "Radiotherapy" == re.search(r'EXTENSION_CATEGORY "([^"]+)"', text).group(1)


# Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json of Slicer: what may stand in an entry; nothing else may.
ENTRY = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "dicom_support_rule": str, "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip


def test_the_entry_of_the_extensions_index_keeps_to_its_schema():
    data = (ROOT / "Hypoxia.json").read_bytes()
    entry = json.loads(data)
    assert b"\r" not in data
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= ENTRY.keys()
    assert all(isinstance(value, ENTRY[key]) for key, value in entry.items())
    assert entry["$schema"].partition("Schemas/")[2] == "slicer-extension-catalog-entry-schema-v1.0.2.json#"
    assert re.search(r"/Slicer\w+\.git$", entry["scm_url"])  # the index wants the repository named so
    assert 1 <= entry["tier"] <= 5
