"""A file that CMake does not list is not shipped, and one that is listed but gone breaks the build."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from Testing.extension.cmake import Command, only, read, variable

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "PromptSeg"
LIBRARY_KEYWORDS = (
    "TARGET_NAME",
    "SCRIPTS",
    "RESOURCES",
    "SOURCE_DIR",
    "DESTINATION_DIR",
    "INSTALL_DIR",
    "NO_INSTALL_SUBDIR",
)
MODULE_KEYWORDS = ("NAME", "SCRIPTS", "RESOURCES", "WITH_GENERIC_TESTS", "WITH_SUBDIR")


def tree(folder: Path, base: Path, suffix: str = "") -> list[str]:
    """Files below a folder that git tracks or would track, relative to ``base``."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", str(folder)]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive of the sources
        paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return sorted(str(path.relative_to(base)) for path in paths if path.is_file() and path.name.endswith(suffix))


def library() -> Command:
    return only(read(ROOT / "PromptSegLib" / "CMakeLists.txt"), "ctkMacroCompilePythonScript")


def module() -> Command:
    return only(read(MODULE / "CMakeLists.txt"), "slicerMacroBuildScriptedModule")


def check(listed: list[str], present: list[str], where: str) -> None:
    twice = [name for name, count in Counter(listed).items() if count > 1]
    absent, unlisted = sorted(set(listed) - set(present)), sorted(set(present) - set(listed))
    assert not (twice or absent or unlisted), (
        f"{where}/CMakeLists.txt: add {unlisted}, remove {absent}, listed twice {twice}"
    )


def test_every_script_of_the_library_is_shipped() -> None:
    listed = library().values_of("SCRIPTS", LIBRARY_KEYWORDS)
    check(listed, tree(ROOT / "PromptSegLib", ROOT, ".py"), "PromptSegLib")


def test_the_library_holds_scripts_only() -> None:
    """Data in PromptSegLib would need a list of its own."""
    assert [name for name in tree(ROOT / "PromptSegLib", ROOT) if not name.endswith((".py", "CMakeLists.txt"))] == []


def test_every_backbone_is_shipped() -> None:
    listed = library().values_of("RESOURCES", LIBRARY_KEYWORDS)
    check(listed, tree(ROOT / "Resources" / "Backbones", ROOT), "PromptSegLib")


def test_every_script_of_the_module_is_shipped() -> None:
    check(module().values_of("SCRIPTS", MODULE_KEYWORDS), tree(MODULE, MODULE, ".py"), "PromptSeg")


def test_every_resource_of_the_module_is_shipped() -> None:
    listed = module().values_of("RESOURCES", MODULE_KEYWORDS)
    check(listed, tree(MODULE / "Resources", MODULE), "PromptSeg")


def test_lists_are_in_order() -> None:
    """The module's main script stands first, as in Slicer's template."""
    scripts = module().values_of("SCRIPTS", MODULE_KEYWORDS)
    assert scripts[0] == "PromptSeg.py"
    for listed in (scripts[1:], library().values_of("SCRIPTS", LIBRARY_KEYWORDS)):
        assert listed == sorted(listed)


def test_library_and_module_go_to_one_folder() -> None:
    command = library()
    (destination,) = command.values_of("DESTINATION_DIR", LIBRARY_KEYWORDS)
    (installed,) = command.values_of("INSTALL_DIR", LIBRARY_KEYWORDS)
    (source,) = command.values_of("SOURCE_DIR", LIBRARY_KEYWORDS)
    assert destination == "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}"
    assert installed == "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    assert source == "${PromptSeg_SOURCE_DIR}"
    assert "NO_INSTALL_SUBDIR" in command.arguments


def test_slicer_runs_the_tests() -> None:
    assert "WITH_GENERIC_TESTS" in module().arguments
    assert only(read(MODULE / "CMakeLists.txt"), "slicer_add_python_unittest").arguments == ("SCRIPT", "PromptSeg.py")
    (script,) = only(read(ROOT / "Testing" / "CMakeLists.txt"), "slicer_add_python_unittest").arguments[1:]
    assert Path(script.replace("${CMAKE_CURRENT_SOURCE_DIR}", str(ROOT / "Testing"))).is_file()
    folders = {command.arguments for command in read(ROOT / "CMakeLists.txt") if command.name == "add_subdirectory"}
    assert folders == {("PromptSegLib",), ("PromptSeg",), ("Testing",)}


# The checks themselves


def test_a_difference_is_named() -> None:
    with pytest.raises(AssertionError, match=r"Lib/CMakeLists.txt: add \['c'\], remove \['b'\], listed twice \['a'\]"):
        check(["a", "a", "b"], ["a", "c"], "Lib")


def test_cmake_reader(tmp_path: Path) -> None:
    path = tmp_path / "CMakeLists.txt"
    path.write_text(
        '# set(NOT "this")\nset(NAME Thing) # nor (this)\nset(FILES\n  a.py\n  ${NAME}.py\n  )\n'
        'if(A AND (B OR C))\nbuild(NAME ${NAME} SCRIPTS ${FILES} MORE "${FILES}" "two words" ${ELSEWHERE}/x)\nendif()\n'
    )
    commands = read(path)
    assert [command.name for command in commands] == ["set", "set", "if", "build", "endif"]
    assert variable(commands, "FILES") == ["a.py", "Thing.py"]
    build = only(commands, "build")
    assert build.values_of("SCRIPTS", ("NAME", "SCRIPTS", "MORE")) == ["a.py", "Thing.py"]
    assert build.values_of("MORE", ("NAME", "SCRIPTS", "MORE")) == ["a.py", "Thing.py", "two words", "${ELSEWHERE}/x"]
    path.write_text("set(NAME Thing")
    with pytest.raises(ValueError, match="brackets"):
        read(path)
