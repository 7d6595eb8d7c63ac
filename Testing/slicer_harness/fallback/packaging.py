"""`slicer.packaging` that installs nothing and keeps what it was asked for in `CALLS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

CALLS: list[tuple[str, Any, dict[str, Any]]] = []
"""(function, requirements, the other arguments), in the order of the calls."""


def load_requirements(path: str | Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def pip_check(req: Any) -> bool:
    """Nothing is ever missing, as far as this stand-in knows."""
    return True


def isPipInstallInProgress() -> bool:
    return False


def pip_ensure(
    requirements: Any,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    CALLS.append(("pip_ensure", requirements, {"constraints": constraints, "requester": requester}))
    return None


def pip_install(
    requirements: Any,
    constraints: str | Path | None = None,
    no_deps_requirements: Any = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> list[str] | None:
    CALLS.append(("pip_install", requirements, {"constraints": constraints, "requester": requester}))
    if completedCallback is not None:
        completedCallback(0)
    return None


def pip_uninstall(
    requirements: Any, blocking: bool = True, logCallback: Any = None, completedCallback: Any = None
) -> None:
    CALLS.append(("pip_uninstall", requirements, {}))
