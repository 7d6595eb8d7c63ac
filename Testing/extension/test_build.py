"""The CMake files, run by CMake itself with a stand-in for Slicer: what is installed works where it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SCRIPTED_MODULES = Path("lib") / "Slicer-0.0" / "qt-scripted-modules"

pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("cc") and shutil.which("c++")),
    reason="needs cmake and a compiler, which nothing else here needs",
)


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command prints; the test fails with it if the command does."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The build folder and what CMake printed."""
    folder = tmp_path_factory.mktemp("build")
    slicer = f"-DSlicer_DIR={HERE / 'fake_slicer'}"
    return folder, run("cmake", "-S", ROOT, "-B", folder, slicer, "-DBUILD_TESTING=ON", folder=folder)


@pytest.fixture(scope="module")
def installed(build: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripted modules in the installed extension."""
    folder = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", build[0], "--prefix", folder, folder=folder)
    return folder / SCRIPTED_MODULES


def test_tests_are_registered(build: tuple[Path, str]) -> None:
    for script in (ROOT / "PromptSeg" / "PromptSeg.py", HERE / "PromptSegBuildTest.py"):
        assert f"registered test: {script}" in build[1]


def test_nothing_but_modules_lies_in_the_modules_folder(installed: Path) -> None:
    """Slicer takes every script that lies there for a module."""
    assert [path.name for path in installed.glob("*.py")] == ["PromptSeg.py"]
    assert {path.name for path in installed.iterdir() if path.is_dir()} == {
        "PromptSegLib",
        "PromptSegPanel",
        "Resources",
    }


def test_installed_backbone_is_found(installed: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r});"
        "from PromptSegLib.networks.weights import *; print(find_backbone(DEFAULT_BACKBONE))"
    )
    found = run(sys.executable, "-I", "-c", code, folder=tmp_path)
    assert Path(found.strip()).parent == installed / "Resources" / "Backbones"


def test_the_test_for_slicer_passes_on_it(installed: Path, tmp_path: Path) -> None:
    code = (
        f"import sys, unittest; sys.path[:0] = [{str(HERE)!r}, {str(installed)!r}];"
        "unittest.main(module='PromptSegBuildTest', argv=['PromptSegBuildTest'])"
    )
    assert "OK" in run(sys.executable, "-I", "-c", code, folder=tmp_path)


def test_a_listed_file_that_is_gone_stops_the_build(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    for name in ("PromptSeg", "PromptSegLib"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "Resources" / "Backbones", sources / "Resources" / "Backbones")
    shutil.copy(ROOT / "CMakeLists.txt", sources)
    (sources / "PromptSegLib" / "errors.py").unlink()
    slicer = f"-DSlicer_DIR={HERE / 'fake_slicer'}"
    with pytest.raises(AssertionError, match=r"errors\.py"):
        run("cmake", "-S", sources, "-B", tmp_path / "build", slicer, folder=tmp_path)
