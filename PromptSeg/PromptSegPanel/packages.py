"""Python packages: what PromptSeg requires, what is there already, and what must stay as it is."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TORCH = "torch"

# Distributions that Slicer and its core modules import: replacing one of them breaks more than PromptSeg can mend.
# Build tools (pip, setuptools, wheel) are not among them, because torch itself sets bounds on setuptools.
SLICERS_OWN = (
    "certifi",
    "cffi",
    "chardet",
    "charset-normalizer",
    "cryptography",
    "dicomweb-client",
    "highdicom",
    "idna",
    "numpy",
    "packaging",
    "pillow",
    "pydicom",
    "pyparsing",
    "python-dateutil",
    "requests",
    "scipy",
    "simpleitk",
    "six",
    "typing-extensions",
    "urllib3",
    "vtk",
    "wrapt",
)


class PythonPackages:
    """The packages of this Python, found without importing them. Of all of ours, import and distribution name agree."""

    def importable(self, name: str) -> bool:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(name)
        # A folder that an uninstallation left behind is found, too, as a namespace package without an origin.
        return spec is not None and spec.origin is not None

    def version(self, name: str) -> str | None:
        """None also for a package that came without metadata."""
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def loaded_version(self, name: str) -> str | None:
        """The version of a package that this process has imported, None for one that it has not."""
        return (self.version(name) or "of unknown version") if name in sys.modules else None


def read_requirements(path: Path) -> list[Requirement]:
    # Imported here because Slicer opens the module before anything is installed.
    from packaging.requirements import Requirement

    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def satisfied(requirement: Requirement, packages: PythonPackages) -> bool:
    if not packages.importable(requirement.name):
        return False
    version = packages.version(requirement.name)
    return version is None or requirement.specifier.contains(version, prereleases=True)


def constraints(packages: PythonPackages, replaced: Iterable[str]) -> str:
    """A constraints file that pins what Slicer brings, and a torch that is good enough, lest MONAI pull another one."""
    free = {name.lower() for name in replaced}
    versions = {name: packages.version(name) for name in (*SLICERS_OWN, TORCH) if name not in free}
    return "".join(f"{name}=={version}\n" for name, version in versions.items() if version is not None)
