"""The private folder through which arrays travel between a client and its worker."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "promptseg-exchange-"
_ABANDONED_AFTER_SECONDS = 24 * 3600

TOUCH_SECONDS = 3600.0
"""A folder that is touched this often is not taken for an abandoned one where processes cannot be asked for."""


def make_folder() -> Path:
    """A new folder that only this user can open (mode 0700), in the system's place for temporary files.

    Folders of processes that no longer exist are removed on the way: the last ones of a computer that lost power.
    """
    parent = Path(tempfile.gettempdir())
    for path in parent.glob(f"{PREFIX}*"):
        if _is_abandoned(path):
            remove_folder(path)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it; another process may be doing the same at this moment."""
    shutil.rmtree(path, ignore_errors=True)


def remove_files(folder: Path, pattern: str) -> None:
    """Remove what matches, but for what a process that is ending still holds open, on Windows."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            path.unlink()


def touch_folder(path: Path) -> None:
    """Show that a folder is in use; nothing happens where it is gone."""
    with suppress(OSError):
        os.utime(path)


def _is_abandoned(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    if os.name != "posix":
        return time.time() - status.st_mtime > _ABANDONED_AFTER_SECONDS
    number = path.name.removeprefix(PREFIX).split("-")[0]
    if status.st_uid != os.getuid() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
