"""The user's tokens on this computer: a folder of files that are never overwritten by another class."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes

if TYPE_CHECKING:
    from PromptSegLib.tokens.class_token import ClassToken
    from PromptSegLib.tokens.library import Entry

SUFFIX = ".promptseg"


@dataclass(frozen=True)
class Kept:
    """A file that this panel wrote: its name in the library and the SHA-256 of what was written."""

    name: str
    digest: str

    def to_text(self) -> str:
        return f"{self.digest} {self.name}"

    @classmethod
    def from_text(cls, text: str) -> Kept | None:
        digest, _separator, name = text.partition(" ")
        return cls(name, digest) if name else None


class TokenLibrary:
    """A folder of tokens. It is made when the first token is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def entries(self) -> list[Entry]:
        """What is in the folder by name; a damaged file is listed with what is wrong with it.

        Raises:
            InputError: if the system does not let anybody look into the folder.
        """
        from PromptSegLib.tokens.library import list_tokens

        with self._in_one_sentence():
            return list_tokens(self.folder) if self.folder.is_dir() else []

    def paths(self) -> list[Path]:
        """The files in the folder, unread; none where the system does not let anybody look into it."""
        with suppress(OSError):
            return sorted(self.folder.glob(f"*{SUFFIX}")) if self.folder.is_dir() else []
        return []

    def keep(self, data: bytes, class_name: str, before: Kept | None) -> Kept:
        """Write a token under its class's name.

        Args:
            before: the file that holds an earlier training of this very class. It is replaced if it is of the same
                backbone and nobody changed it since; any other file is never touched, and the new one gets a number.
        """
        with self._in_one_sentence():
            path = self._own_file(before, class_name, data) or self._free_path(class_name)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(data, path)
        return Kept(path.name, _digest(data))

    def add_file(self, path: Path) -> Path:
        """Copy a token file from elsewhere into the library, after checking it."""
        token = _load(path)
        with self._in_one_sentence():
            data = Path(path).read_bytes()
            for entry in self.entries():
                if entry.token is not None and entry.path.read_bytes() == data:
                    return entry.path
            target = self._free_path(token.name)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(data, target)
        return target

    def rename(self, path: Path, class_name: str) -> Path:
        """Give the class of a token file another name, and the file with it."""
        from PromptSegLib.tokens.class_token import checked_name

        token = dataclasses.replace(_load(path), name=checked_name(class_name))
        with self._in_one_sentence():
            target = path if path.stem == file_stem(class_name) else self._free_path(class_name)
            token.save(target)
            if target != path:
                path.unlink()
        return target

    def delete(self, path: Path) -> None:
        with self._in_one_sentence():
            path.unlink(missing_ok=True)

    @contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        """What the system refuses is said as anything else that the user can mend."""
        try:
            yield
        except OSError as error:
            raise InputError(
                _("The library folder {folder} cannot be used ({reason}): choose another one under Tokens.").format(
                    folder=self.folder, reason=error.strerror or error
                )
            ) from error

    def _own_file(self, before: Kept | None, class_name: str, data: bytes) -> Path | None:
        if before is None:
            return None
        path = self.folder / Path(before.name).name
        is_of_class = re.fullmatch(re.escape(file_stem(class_name)) + r"( \d+)?", path.stem) is not None
        if not is_of_class or not path.is_file() or _digest(path.read_bytes()) != before.digest:
            return None
        # Whoever goes back to the other backbone needs the token that was learned on it.
        return path if _load(path).backbone.fingerprint == read_token(data).backbone.fingerprint else None

    def _free_path(self, class_name: str) -> Path:
        stem = file_stem(class_name)
        path, number = self.folder / f"{stem}{SUFFIX}", 2
        while path.exists():
            path, number = self.folder / f"{stem} {number}{SUFFIX}", number + 1
        return path


def read_token(data: bytes) -> ClassToken:
    """A token from a token file's content; InputError if it is damaged."""
    from PromptSegLib.tokens.class_token import parse_token

    return parse_token(data)


def named(data: bytes, class_name: str) -> bytes:
    """A token file's content with this name of its class; as it is where the name is not fit for a token."""
    from PromptSegLib.tokens.class_token import checked_name

    token = read_token(data)
    try:
        name = checked_name(class_name)
    except InputError:
        return data
    return data if name == token.name else dataclasses.replace(token, name=name).to_bytes()


def _load(path: Path) -> ClassToken:
    from PromptSegLib.tokens.class_token import load_token

    return load_token(path)


def file_stem(class_name: str) -> str:
    """A file name that every system takes, and that cannot lead out of the folder."""
    stem = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", class_name).strip(" .")
    return stem[:80] or "structure"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
