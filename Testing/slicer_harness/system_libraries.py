"""The system libraries that Qt and VTK need to draw without a screen: `python system_libraries.py` installs them.

It runs before anything else is installed, so it uses the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
}
"""Debian's packages by library."""


def missing_packages() -> list[str]:
    """Debian's names of what cannot be loaded here."""
    return [package for library, package in PACKAGES.items() if not _can_load(library)]


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> int:
    """Install what is missing where this user may; else say in one sentence what to do, and return 2."""
    missing = missing_packages() if sys.platform == "linux" else []
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *arguments], env=environment, check=False, stdout=subprocess.DEVNULL)
        missing = missing_packages()
    if missing:
        names = " ".join(missing)
        print(f"The panel's tests need system libraries that are missing here: run `apt-get install {names}`.")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
