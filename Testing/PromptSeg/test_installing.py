"""Installing: what is asked, what is called with which constraints, and what the user is told. Nothing is installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from PromptSegLib.errors import InputError
from Testing.extension.bare_slicer import ROOT, installing_in_bare_slicer

REQUIREMENTS = ROOT / "PromptSeg" / "Resources" / "requirements.txt"

# A fresh Slicer 5.12: name -> version.
SLICER = {"numpy": "2.4.6", "scipy": "1.17.1", "simpleitk": "2.5.5", "requests": "2.34.2", "setuptools": "82.0.1"}
COMPLETE = SLICER | {"torch": "2.13.0+cu128", "monai": "1.6.1", "einops": "0.8.2", "safetensors": "0.8.0"}
PINS = "numpy==2.4.6\nrequests==2.34.2\nscipy==1.17.1\nsimpleitk==2.5.5\n"


@pytest.fixture
def installing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.delenv("PROMPTSEG_WHEELHOUSE", raising=False)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    with installing_in_bare_slicer() as module:
        yield module


class FakeSlicer:
    """A Python with some packages, and Slicer's ways of installing more. Records what was called, in order."""

    def __init__(self, installed: dict[str, str], *, modern: bool = True, pytorch_extension: bool = True) -> None:
        self.installed = dict(installed)
        self.in_use: set[str] = set()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.questions: list[str] = []
        self.sentences: list[str] = []
        self.agrees = True
        self.in_progress = False
        self.fails: dict[str, Exception] = {}
        self.modern = modern
        self.pytorch_extension = pytorch_extension
        self.torch = "2.13.0+cu128"

    # What PythonPackages answers

    def importable(self, name: str) -> bool:
        return name.lower() in self.installed

    def version(self, name: str) -> str | None:
        return self.installed.get(name.lower())

    def loaded_version(self, name: str) -> str | None:
        return self.version(name) if name in self.in_use else None

    # What Slicer offers

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.agrees

    def isPipInstallInProgress(self) -> bool:  # noqa: N802
        return self.in_progress

    def pip_ensure(self, requirements: list[Any], constraints: Path, **options: Any) -> None:
        self.run("pip_ensure", [str(r) for r in requirements], constraints.read_text(), **options)

    def pip_install(self, arguments: list[str], constraints: Path, **options: Any) -> None:
        self.run("packaging.pip_install", arguments, constraints.read_text(), **options)

    def util_pip_install(self, arguments: list[str]) -> None:
        assert arguments[-2] == "--constraint"
        self.run("util.pip_install", arguments[:-2], Path(arguments[-1]).read_text())

    def import_torch_utils(self) -> Any:
        if not self.pytorch_extension:
            raise ModuleNotFoundError("No module named 'PyTorchUtils'")
        return SimpleNamespace(PyTorchUtilsLogic=lambda: SimpleNamespace(installTorch=self.install_torch))

    def install_torch(self, **options: Any) -> object:
        self.run("installTorch", ["torch"], Path(os.environ["PIP_CONSTRAINT"]).read_text(), **options)
        return object()

    def run(self, function: str, arguments: list[str], constraints: str, **options: Any) -> None:
        self.calls.append((function, {"arguments": arguments, "constraints": constraints} | options))
        if function in self.fails:
            raise self.fails[function]
        for argument in arguments:
            name = argument.split(">")[0].split("<")[0]
            if name in ("torch", "monai", "einops", "safetensors"):
                self.installed[name] = self.torch if name == "torch" else COMPLETE[name]


Build = Callable[..., Any]


@pytest.fixture
def build(installing: ModuleType) -> Build:
    def installer(fake: FakeSlicer, wheelhouse: Path | str = "", requirements: Path = REQUIREMENTS) -> Any:
        return installing.Installer(
            requirements,
            packaging=fake if fake.modern else None,
            pip_install=fake.util_pip_install,
            import_torch_utils=fake.import_torch_utils,
            ask=fake.ask,
            progress=fake.sentences.append,
            wheelhouse=lambda: str(wheelhouse),
            packages=fake,
        )

    return installer


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    folder = tmp_path / "wheel house"
    folder.mkdir()
    (folder / "torch-2.13.0-cp312-cp312-win_amd64.whl").touch()
    return folder


# What is missing


def test_a_fresh_slicer_lacks_what_it_does_not_bring(build: Build) -> None:
    assert build(FakeSlicer(SLICER)).missing() == ["torch", "monai", "einops", "safetensors"]


def test_nothing_is_missing_where_all_is_there(build: Build) -> None:
    assert build(FakeSlicer(COMPLETE)).missing() == []


@pytest.mark.parametrize(("name", "version"), [("torch", "1.13.1"), ("monai", "1.3.0"), ("monai", "2.0.0")])
def test_a_wrong_version_is_missing(build: Build, name: str, version: str) -> None:
    assert build(FakeSlicer(COMPLETE | {name: version})).missing() == [name]


def test_a_development_version_is_good_enough(build: Build) -> None:
    assert build(FakeSlicer(COMPLETE | {"torch": "2.14.0.dev20260801+cu130"})).missing() == []


def test_this_python_is_looked_through_without_importing(installing: ModuleType, tmp_path: Path) -> None:
    packages = installing.PythonPackages()
    sys.modules.pop("colorsys", None)
    assert packages.importable("colorsys") and "colorsys" not in sys.modules
    assert packages.version("pytest") == pytest.__version__ and packages.loaded_version("pytest") == pytest.__version__
    assert not packages.importable("no_such_package")
    assert packages.version("no-such-package") is None and packages.loaded_version("no_such_package") is None


def test_an_empty_folder_is_no_package(installing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("left_behind") is not None
    assert not installing.PythonPackages().importable("left_behind")


def test_a_package_without_metadata_counts(build: Build) -> None:
    fake = FakeSlicer(COMPLETE)
    fake.version = lambda name: None if name == "SimpleITK" else COMPLETE[name.lower()]  # type: ignore[method-assign]
    assert build(fake).missing() == []


# The usual way


def test_torch_through_the_extension_and_the_rest_through_slicer(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    outcome = build(fake).install()
    assert (outcome.complete, outcome.restart) == (True, False)
    assert outcome.message == "The installation is complete; no restart is needed."
    torch, others = fake.calls
    assert torch == (
        "installTorch",
        {
            "arguments": ["torch"],
            "constraints": PINS,
            "askConfirmation": False,
            "torchVersionRequirement": ">=2.4",
        },
    )
    assert others == (
        "pip_ensure",
        {
            "arguments": ["monai<2,>=1.5", "einops>=0.6", "safetensors>=0.4"],
            "constraints": PINS + "torch==2.13.0+cu128\n",
            "prompt_install": False,
            "prompt_restart": False,
            "requester": "PromptSeg",
        },
    )
    assert [sentence.split(";")[0] for sentence in fake.sentences] == [
        "Installing torch",
        "Installing monai, einops, safetensors …",
    ]


def test_one_question_that_names_everything(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    build(fake).install()
    (question,) = fake.questions
    assert "torch, monai, einops, safetensors" in question and "downloaded" in question
    assert question.endswith("Install them now?")


def test_refusal_installs_nothing(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    fake.agrees = False
    outcome = build(fake).install()
    assert not outcome.complete and outcome.message.startswith("Nothing was installed")
    assert fake.calls == [] and fake.installed == SLICER


def test_nothing_to_do_asks_nothing(build: Build) -> None:
    fake = FakeSlicer(COMPLETE, pytorch_extension=False)
    assert build(fake).install().complete
    assert fake.questions == [] and fake.calls == []


def test_torch_that_is_there_is_pinned_and_left_alone(build: Build) -> None:
    fake = FakeSlicer(SLICER | {"torch": "2.5.1+cpu"}, pytorch_extension=False)
    assert build(fake).install().complete
    ((function, call),) = fake.calls
    assert function == "pip_ensure" and call["constraints"] == PINS + "torch==2.5.1+cpu\n"
    assert "torch" not in fake.questions[0]


def test_build_tools_are_not_pinned(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    build(fake).install()
    assert all("setuptools" not in call["constraints"] for _, call in fake.calls)


def test_constraints_of_the_environment_come_back(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    build(FakeSlicer(SLICER)).install()
    assert "PIP_CONSTRAINT" not in os.environ
    monkeypatch.setenv("PIP_CONSTRAINT", "/etc/site.txt")
    build(FakeSlicer(SLICER)).install()
    assert os.environ["PIP_CONSTRAINT"] == "/etc/site.txt"


# Slicer 5.10


def test_slicer_without_packaging(build: Build) -> None:
    fake = FakeSlicer(SLICER, modern=False)
    assert build(fake).install().complete
    torch, others = fake.calls
    assert torch[0] == "installTorch"
    assert others == (
        "util.pip_install",
        {
            "arguments": ["monai<2,>=1.5", "einops>=0.6", "safetensors>=0.4"],
            "constraints": PINS + "torch==2.13.0+cu128\n",
        },
    )


# Without internet


@pytest.mark.parametrize("modern", [True, False])
def test_wheelhouse(build: Build, wheelhouse: Path, modern: bool) -> None:
    fake = FakeSlicer(SLICER, modern=modern, pytorch_extension=False)
    assert build(fake, wheelhouse).install().complete
    ((function, call),) = fake.calls
    assert function == ("packaging.pip_install" if modern else "util.pip_install")
    needed = ["torch>=2.4", "monai<2,>=1.5", "einops>=0.6", "safetensors>=0.4"]
    assert call["arguments"] == ["--no-index", "--find-links", str(wheelhouse), *needed]
    assert call["constraints"] == PINS
    assert "without internet" in fake.questions[0] and "downloaded" not in fake.questions[0]


def test_wheelhouse_of_the_administrator(build: Build, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTSEG_WHEELHOUSE", str(wheelhouse))
    fake = FakeSlicer(SLICER)
    build(fake).install()
    assert str(wheelhouse) in fake.calls[0][1]["arguments"]


def test_wheelhouse_without_wheels(build: Build, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        fake = FakeSlicer(SLICER)
        with pytest.raises(InputError, match=r"the wheelhouse folder .* holds no wheels: choose another"):
            build(fake, folder).install()
        assert fake.questions == []


def test_wheelhouse_for_another_slicer(build: Build, wheelhouse: Path) -> None:
    fake = FakeSlicer(SLICER)
    fake.fails["packaging.pip_install"] = CalledProcessError(1, "pip install")
    with pytest.raises(InputError, match=r"^torch, monai, einops, safetensors could not be installed: fill the wheel"):
        build(fake, wheelhouse).install()


# What cannot succeed is said before anything is asked


def test_no_pytorch_extension(build: Build) -> None:
    fake = FakeSlicer(SLICER, pytorch_extension=False)
    with pytest.raises(InputError, match="the PyTorch extension is missing: install 'PyTorch' in the Extensions"):
        build(fake).install()
    assert fake.questions == []


def test_torch_in_use_cannot_be_replaced(build: Build) -> None:
    fake = FakeSlicer(COMPLETE | {"torch": "1.13.1"})
    fake.in_use.add("torch")
    with pytest.raises(InputError, match=r"torch 1.13.1 is too old but in use: restart Slicer"):
        build(fake).install()
    assert fake.questions == []


def test_slicers_own_packages_are_not_replaced(build: Build) -> None:
    fake = FakeSlicer(COMPLETE | {"numpy": "1.25.2"})
    with pytest.raises(InputError, match=r"this Slicer brings numpy 1.25.2, but PromptSeg needs numpy>=1.26: update"):
        build(fake).install()
    assert fake.questions == [] and fake.calls == []


def test_another_installation_is_waited_for(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    fake.in_progress = True
    with pytest.raises(InputError, match="another extension is installing packages"):
        build(fake).install()
    assert fake.questions == []


def test_a_second_press_while_the_first_works(build: Build) -> None:
    """Slicer handles events while it waits for pip."""
    fake = FakeSlicer(SLICER)
    installer = build(fake)
    told: list[str] = []

    def press_again(**_: Any) -> object:
        with pytest.raises(InputError) as refused:
            installer.install()
        told.append(str(refused.value))
        fake.installed["torch"] = fake.torch
        return object()

    fake.install_torch = press_again  # type: ignore[method-assign]
    assert installer.install().complete
    assert told == ["the installation is under way: wait until it is done"] and len(fake.questions) == 1
    assert installer.install().complete


# Replacing


def test_old_torch_is_replaced_and_said(build: Build) -> None:
    fake = FakeSlicer(COMPLETE | {"torch": "2.0.1"})
    outcome = build(fake).install()
    assert (outcome.complete, outcome.restart) == (True, False)
    assert "Other extensions that use torch 2.0.1 get the newer one, too." in fake.questions[0]
    assert "torch==" not in fake.calls[0][1]["constraints"]


def test_restart_after_replacing_what_is_loaded(build: Build) -> None:
    fake = FakeSlicer(COMPLETE | {"monai": "1.2.0"})
    fake.in_use.add("monai")
    outcome = build(fake).install()
    assert (outcome.complete, outcome.restart) == (True, True)
    assert outcome.message == "Restart Slicer: monai was in use when it was replaced."


# What fails on the way


@pytest.mark.parametrize(
    "error", [CalledProcessError(1, "ltt"), ImportError("DLL load failed"), RuntimeError("no PythonSlicer"), OSError()]
)
def test_torch_fails(build: Build, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeSlicer(SLICER)
    fake.fails["installTorch"] = error
    with pytest.raises(InputError, match=r"^torch could not be installed: check the internet connection"):
        build(fake).install()
    assert [function for function, _ in fake.calls] == ["installTorch"]
    assert "PIP_CONSTRAINT" not in os.environ
    assert any(record.exc_info for record in caplog.records)


def test_the_second_try_installs_the_rest_only(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    fake.fails["pip_ensure"] = CalledProcessError(1, "pip install")
    with pytest.raises(InputError, match=r"^monai, einops, safetensors could not be installed: check the internet"):
        build(fake).install()
    assert fake.installed["torch"] == fake.torch
    fake.fails.clear()
    fake.calls.clear()
    assert build(fake).install().complete
    assert [function for function, _ in fake.calls] == ["pip_ensure"]


def test_torch_refused_by_its_extension(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    fake.install_torch = lambda **_: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match="torch could not be installed"):
        build(fake).install()


def test_an_installation_without_effect_is_not_called_a_success(build: Build) -> None:
    """`pip_ensure` returns without a word where it runs in Slicer's testing mode."""
    fake = FakeSlicer(COMPLETE | {"monai": "1.2.0"})
    fake.pip_ensure = lambda *_, **__: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match="monai cannot be imported after the installation: restart Slicer"):
        build(fake).install()


def test_an_error_of_the_program_is_not_hidden(build: Build) -> None:
    fake = FakeSlicer(SLICER)
    fake.fails["installTorch"] = TypeError("unexpected keyword")
    with pytest.raises(TypeError):
        build(fake).install()


# The running Slicer


def test_in_testing_mode_nothing_is_installed(installing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installing._ask_in_slicer("Install them now?")
    monkeypatch.setattr(installing.slicer.app, "testingEnabled", lambda: True)
    assert not installing._ask_in_slicer("Install them now?")


def test_installer_of_the_running_slicer(
    installing: ModuleType, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer 5.10 here: `slicer.packaging` does not exist. The folder comes from the user's settings."""
    calls: list[list[str]] = []
    settings = SimpleNamespace(value=lambda key: str(wheelhouse) if key == installing.WHEELHOUSE_SETTING else None)
    monkeypatch.setattr(installing.slicer.app, "userSettings", lambda: settings)
    monkeypatch.setattr(installing.slicer.util, "pip_install", calls.append)
    impossible = wheelhouse.parent / "requirements.txt"
    impossible.write_text("# nothing has this name\npromptseg-no-such-package>=1\n")
    installer = installing.Installer.for_slicer(str(impossible), progress=lambda _: None)
    assert installer.missing() == ["promptseg-no-such-package"]
    with pytest.raises(InputError, match="cannot be imported after the installation"):
        installer.install()
    assert calls[0][:4] == ["--no-index", "--find-links", str(wheelhouse), "promptseg-no-such-package>=1"]


@pytest.mark.usefixtures("slicer_app")
def test_installer_in_the_panels_slicer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its real settings, and with this Python's packages, which tests need all of."""
    monkeypatch.syspath_prepend(str(ROOT / "PromptSeg"))
    import slicer

    from PromptSegPanel.installing import WHEELHOUSE_SETTING, Installer

    installer = Installer.for_slicer(REQUIREMENTS, progress=lambda _: None)
    assert installer.missing() == []
    assert installer.install().complete
    assert installer._wheelhouse() == ""
    slicer.app.userSettings().setValue(WHEELHOUSE_SETTING, "/wheels")
    assert installer._wheelhouse() == "/wheels"
    slicer.app.userSettings().remove(WHEELHOUSE_SETTING)


# The list


def test_requirements_are_those_of_the_package(installing: ModuleType) -> None:
    """The worker needs all of the distribution's dependencies but the command line's."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    declared = [Requirement(line) for line in requires("promptseg") or []]
    needed = {str(r) for r in declared if r.marker is None and r.name not in ("typer", "rich")}
    assert {str(r) for r in installing.read_requirements(REQUIREMENTS)} == needed
