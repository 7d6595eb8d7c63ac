"""Whole files or none: what is written appears under its name only once it is complete."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PromptSegLib.errors import InputError


def require_utf8(path: Path) -> None:
    """InputError if the name of a file or folder is not UTF-8, over which ITK ends the whole process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} has a name that is not UTF-8: rename it") from None


def require_writable(path: Path) -> None:
    """InputError unless a file can be written to ``path``, as far as that can be known before it is."""
    require_utf8(path)
    _require_place(path)
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise write_error(path, error) from error


def _require_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: create it or choose another place for {path.name}")
    if path.is_dir():
        raise InputError(f"{path} cannot be written, since it is a folder: choose another name")


def require_folder(path: Path, what: str) -> None:
    """InputError if ``path``, a folder that will be made where it is missing, cannot be one. what: is to lie there."""
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(f"{place} is a file, and {what} need a folder: choose another place")


def require_apart(path: Path, needed: Iterable[Path]) -> None:
    """InputError if ``path``, which is to be written, is one of the files in ``needed``, by whatever name."""
    for other in needed:
        same = path.samefile(other) if path.exists() and other.exists() else path.resolve() == other.resolve()
        if same:
            raise InputError(f"{path} would be written over {other}, which is needed: choose another name for it")


@contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well and vanishes when it does not.

    suffix: what the temporary name must end with, where a writer chooses its format by it. InputError when the folder
    is missing, cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_place(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".promptseg-", suffix=suffix, dir=path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(data: bytes, path: Path) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_error(path: Path, error: OSError) -> InputError:
    """One sentence for what the system said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"no space left to write {path}: free some or choose another place")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"{path} cannot be written here: no permission; choose another place")
    return InputError(f"{path} cannot be written: {error.strerror or error}")
