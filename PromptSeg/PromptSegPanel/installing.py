"""Brings torch and the other packages of the worker into Slicer's Python, by Slicer's own means.

Only the worker, a process of its own, imports these packages: here they are looked up, never imported, and Slicer must
be restarted only where an installation changed something that it had loaded before.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from PromptSegLib.errors import InputError
from PromptSegPanel.packages import SLICERS_OWN, TORCH, PythonPackages, constraints, read_requirements, satisfied

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUESTER = "PromptSeg"
WHEELHOUSE_SETTING = "PromptSeg/Wheelhouse"
WHEELHOUSE_VARIABLE = "PROMPTSEG_WHEELHOUSE"

# What PyTorchUtils, slicer.packaging and slicer.util.pip_install raise when pip, the network or the disk fails.
INSTALL_ERRORS = (CalledProcessError, ImportError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Outcome:
    """How an installation ended. ``complete``: nothing is missing any more; ``message``: one sentence for the user."""

    complete: bool
    restart: bool
    message: str


class Installer:
    """Finds out what is missing and installs it, after one question.

    To be used on the window's thread only: Slicer's installation functions show progress and keep the window alive.

    Args:
        requirements: the requirements.txt.
        packaging: `slicer.packaging`, None where Slicer has none yet (5.10).
        pip_install: `slicer.util.pip_install`, used without ``packaging``.
        import_torch_utils: returns the PyTorch extension's module; ImportError without the extension.
        ask: shows a question; True for "go on".
        progress: shows a sentence while something takes long.
        wheelhouse: the folder with wheels to install from without internet, "" for none.
    """

    def __init__(
        self,
        requirements: Path,
        *,
        packaging: Any | None,
        pip_install: Callable[[list[str]], Any],
        import_torch_utils: Callable[[], Any],
        ask: Callable[[str], bool],
        progress: Callable[[str], None],
        wheelhouse: Callable[[], str],
        packages: PythonPackages | None = None,
    ) -> None:
        self._requirements = requirements
        self._packaging = packaging
        self._pip_install = pip_install
        self._import_torch_utils = import_torch_utils
        self._ask = ask
        self._progress = progress
        self._wheelhouse = wheelhouse
        self._packages = packages or PythonPackages()
        self._under_way = False

    @classmethod
    def for_slicer(cls, requirements: Path | str, progress: Callable[[str], None]) -> Installer:
        """An installer that works on the running Slicer."""
        try:
            packaging = importlib.import_module("slicer.packaging")
        except ImportError:
            packaging = None
        return cls(
            Path(requirements),
            packaging=packaging,
            pip_install=slicer.util.pip_install,
            import_torch_utils=lambda: importlib.import_module("PyTorchUtils"),
            ask=_ask_in_slicer,
            progress=progress,
            wheelhouse=lambda: str(slicer.app.userSettings().value(WHEELHOUSE_SETTING) or ""),
        )

    def missing(self) -> list[str]:
        """Names of the packages that are absent or too old."""
        return _names(self._missing())

    def install(self) -> Outcome:
        """Install what is missing. Refusing is an outcome; what fails is an InputError that says what to do."""
        missing = self._missing()
        if not missing:
            return Outcome(True, False, _("Everything that PromptSeg needs is installed."))
        wheelhouse = self._wheelhouse_folder()
        self._check(missing, wheelhouse)
        if not self._ask(self._question(missing, wheelhouse)):
            return Outcome(False, False, _("Nothing was installed: PromptSeg cannot train before its packages are."))
        loaded = {name: self._packages.loaded_version(name) for name in _names(missing)}
        # Slicer handles clicks while pip works, also on the button that started it.
        self._under_way = True
        try:
            self._install(missing, wheelhouse)
        finally:
            self._under_way = False
        if still := self.missing():
            text = _("{names} cannot be imported after the installation: restart Slicer and press Install again")
            raise InputError(text.format(names=", ".join(still)))
        replaced = [name for name, version in loaded.items() if version is not None]
        if replaced:
            text = _("Restart Slicer: {names} was in use when it was replaced.")
            return Outcome(True, True, text.format(names=", ".join(replaced)))
        return Outcome(True, False, _("The installation is complete; no restart is needed."))

    def _missing(self) -> list[Requirement]:
        return [r for r in read_requirements(self._requirements) if not satisfied(r, self._packages)]

    def _wheelhouse_folder(self) -> Path | None:
        """The wheelhouse of the user's settings, else the one that the administrator named."""
        named = self._wheelhouse() or os.environ.get(WHEELHOUSE_VARIABLE, "")
        if not named:
            return None
        folder = Path(named).expanduser()
        if not any(folder.glob("*.whl")):
            text = _("the wheelhouse folder {folder} holds no wheels: choose another one, or none to use the internet")
            raise InputError(text.format(folder=folder))
        return folder

    def _check(self, missing: Sequence[Requirement], wheelhouse: Path | None) -> None:
        """InputError where asking would be pointless, because the installation cannot succeed."""
        if self._under_way:
            raise InputError(_("the installation is under way: wait until it is done"))
        if self._packaging is not None and self._packaging.isPipInstallInProgress():
            raise InputError(_("another extension is installing packages: wait for it, then press Install again"))
        for requirement in missing:
            version = self._packages.version(requirement.name)
            if version is not None and requirement.name.lower() in SLICERS_OWN:
                text = _("this Slicer brings {name} {version}, but PromptSeg needs {needed}: update Slicer")
                raise InputError(text.format(name=requirement.name, version=version, needed=requirement))
        if TORCH not in _names(missing):
            return
        if version := self._packages.loaded_version(TORCH):
            text = _("torch {version} is too old but in use: restart Slicer and press Install before anything else")
            raise InputError(text.format(version=version))
        if wheelhouse is None:
            self._torch_utils()

    def _torch_utils(self) -> Any:
        try:
            return self._import_torch_utils()
        except ImportError as error:
            raise InputError(
                _("the PyTorch extension is missing: install 'PyTorch' in the Extensions Manager and restart Slicer")
            ) from error

    def _question(self, missing: Sequence[Requirement], wheelhouse: Path | None) -> str:
        names = ", ".join(_names(missing))
        sentences = [_("PromptSeg needs Python packages that this Slicer lacks: {names}.").format(names=names)]
        if wheelhouse is not None:
            sentences.append(_("They are installed from {folder}, without internet.").format(folder=wheelhouse))
        elif TORCH in _names(missing):
            sentences.append(_("They are downloaded, torch alone has 0.2 to 3 GB, so this takes some minutes."))
        else:
            sentences.append(_("They are downloaded, which takes a minute or two."))
        old = self._packages.version(TORCH)
        if old is not None and TORCH in _names(missing):
            sentences.append(_("Other extensions that use torch {version} get the newer one, too.").format(version=old))
        return " ".join([*sentences, _("Install them now?")])

    def _install(self, missing: Sequence[Requirement], wheelhouse: Path | None) -> None:
        with TemporaryDirectory(prefix="promptseg-") as folder:
            pins = Path(folder) / "constraints.txt"
            if wheelhouse is None:
                self._install_online(missing, pins)
            else:
                self._install_offline(missing, wheelhouse, pins)

    def _install_online(self, missing: Sequence[Requirement], pins: Path) -> None:
        remedy = _("check the internet connection and the free disk space, then press Install again")
        others = [requirement for requirement in missing if requirement.name != TORCH]
        self._write_pins(pins, missing)
        for requirement in missing:
            if requirement.name == TORCH:
                self._progress(_("Installing torch; this can take some minutes …"))
                with self._explained([requirement], remedy):
                    self._install_torch(requirement, pins)
                self._write_pins(pins, others)
        if others:
            self._progress(_("Installing {names} …").format(names=", ".join(_names(others))))
            with self._explained(others, remedy):
                self._install_others(others, pins)

    def _install_torch(self, requirement: Requirement, pins: Path) -> None:
        # The user has agreed already. PyTorchUtils takes no constraints, but pip reads them from its environment, too.
        with _environment("PIP_CONSTRAINT", str(pins)):
            logic = self._torch_utils().PyTorchUtilsLogic()
            torch = logic.installTorch(askConfirmation=False, torchVersionRequirement=str(requirement.specifier))
        if torch is None:
            raise RuntimeError("PyTorchUtils did not install torch")

    def _install_others(self, requirements: list[Requirement], pins: Path) -> None:
        if self._packaging is None:
            self._pip([str(requirement) for requirement in requirements], pins)
            return
        self._packaging.pip_ensure(
            requirements, constraints=pins, prompt_install=False, prompt_restart=False, requester=REQUESTER
        )

    def _install_offline(self, missing: Sequence[Requirement], wheelhouse: Path, pins: Path) -> None:
        self._write_pins(pins, missing)
        self._progress(_("Installing from {folder} …").format(folder=wheelhouse))
        remedy = _("fill the wheelhouse {folder} again, for this version of Slicer").format(folder=wheelhouse)
        with self._explained(missing, remedy):
            self._pip(["--no-index", "--find-links", str(wheelhouse), *(str(r) for r in missing)], pins)

    def _pip(self, arguments: list[str], pins: Path) -> None:
        if self._packaging is None:
            self._pip_install([*arguments, "--constraint", str(pins)])
        else:
            self._packaging.pip_install(arguments, constraints=pins, requester=REQUESTER)

    def _write_pins(self, path: Path, missing: Sequence[Requirement]) -> None:
        path.write_text(constraints(self._packages, replaced=_names(missing)), encoding="utf-8")

    @contextmanager
    def _explained(self, requirements: Sequence[Requirement], remedy: str) -> Iterator[None]:
        """What goes wrong in here becomes one sentence; pip's own answer goes to the log."""
        try:
            yield
        except INSTALL_ERRORS as error:
            logging.exception("PromptSeg: installation failed")
            text = _("{names} could not be installed: {remedy}")
            raise InputError(text.format(names=", ".join(_names(requirements)), remedy=remedy)) from error


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _ask_in_slicer(question: str) -> bool:
    # In testing mode Slicer answers every question with yes, and a test must not change the installation it runs in.
    if slicer.app.testingEnabled():
        return False
    return bool(slicer.util.confirmOkCancelDisplay(question, _("PromptSeg: install Python packages")))


def _names(requirements: Sequence[Requirement]) -> list[str]:
    return [requirement.name for requirement in requirements]
