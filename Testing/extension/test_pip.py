"""The installer's arguments, given to pip itself: it resolves them against this Python and installs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from zipfile import ZipFile

import pytest

from PromptSegLib.errors import InputError
from Testing.extension.bare_slicer import installing_in_bare_slicer

NEEDED = "promptseg-fake-package"


@pytest.fixture
def installing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in ("PIP_CONSTRAINT", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    with installing_in_bare_slicer() as module:
        yield module


def write_wheel(folder: Path, name: str, number: str, *requires: str) -> None:
    """A wheel without content."""
    underscored = name.replace("-", "_")
    info = f"{underscored}-{number}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}", *(f"Requires-Dist: {r}" for r in requires)]
    with ZipFile(folder / f"{underscored}-{number}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class DryPip:
    """Resolves as pip would, and remembers what it would have installed."""

    def __init__(self, folder: Path) -> None:
        self.report = folder / "report.json"

    def __call__(self, arguments: list[str]) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", str(self.report)]
        subprocess.run([*pip, *arguments], check=True, capture_output=True, env=os.environ)

    def would_install(self) -> dict[str, str]:
        found = json.loads(self.report.read_text(encoding="utf-8"))["install"]
        return {entry["metadata"]["name"].lower(): entry["metadata"]["version"] for entry in found}


def install_offline(installing: ModuleType, folder: Path) -> tuple[DryPip, str]:
    """Asks for one package. Also returns what the user is told: after a dry run, that the package is still missing."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{NEEDED}>=1\n", encoding="utf-8")
    pip = DryPip(folder)
    installer = installing.Installer(
        requirements,
        packaging=None,
        pip_install=pip,
        import_torch_utils=lambda: SimpleNamespace(),
        ask=lambda _: True,
        progress=lambda _: None,
        wheelhouse=lambda: str(folder),
    )
    with pytest.raises(InputError) as told:
        installer.install()
    return pip, str(told.value)


def test_pip_keeps_slicers_packages_and_torch(installing: ModuleType, tmp_path: Path) -> None:
    """Newer ones lie in the wheelhouse, and the fake package would take them."""
    write_wheel(tmp_path, NEEDED, "1.5", "numpy>=1.26", "torch>=2.4", "SimpleITK", "promptseg-fake-dependency")
    for name in ("numpy", "torch", "simpleitk", "promptseg-fake-dependency"):
        write_wheel(tmp_path, name, "99.0")
    pip, _ = install_offline(installing, tmp_path)
    assert pip.would_install() == {NEEDED: "1.5", "promptseg-fake-dependency": "99.0"}


def test_pip_takes_an_older_release_before_it_touches_torch(installing: ModuleType, tmp_path: Path) -> None:
    write_wheel(tmp_path, NEEDED, "1.5", "torch>=99")
    write_wheel(tmp_path, NEEDED, "1.4", "torch>=2.4")
    write_wheel(tmp_path, "torch", "99.0")
    pip, _ = install_offline(installing, tmp_path)
    assert pip.would_install() == {NEEDED: "1.4"}


def test_pip_refuses_what_would_replace_slicers_numpy(installing: ModuleType, tmp_path: Path) -> None:
    write_wheel(tmp_path, NEEDED, "1.5", "numpy>=99")
    write_wheel(tmp_path, "numpy", "99.0")
    pip, told = install_offline(installing, tmp_path)
    assert told.startswith(f"{NEEDED} could not be installed: fill the wheelhouse")
    assert not pip.report.exists()


def test_pip_reads_constraints_from_its_environment(installing: ModuleType, tmp_path: Path) -> None:
    """As it runs inside PyTorchUtils, where no argument reaches it."""
    pins = tmp_path / "constraints.txt"
    pins.write_text(installing.constraints(installing.PythonPackages(), replaced=["torch"]), encoding="utf-8")
    assert f"numpy=={version('numpy')}\n" in pins.read_text(encoding="utf-8")
    write_wheel(tmp_path, NEEDED, "1.5", "numpy>=99")
    write_wheel(tmp_path, "numpy", "99.0")
    pip, arguments = DryPip(tmp_path), ["--no-index", "--find-links", str(tmp_path), NEEDED]
    pip(arguments)
    assert pip.would_install() == {NEEDED: "1.5", "numpy": "99.0"}
    with installing._environment("PIP_CONSTRAINT", str(pins)), pytest.raises(subprocess.CalledProcessError):
        pip(arguments)
