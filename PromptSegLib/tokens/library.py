"""A folder of class tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PromptSegLib.errors import InputError
from PromptSegLib.tokens.class_token import SUFFIX, ClassToken, load_token


@dataclass(frozen=True)
class Entry:
    """A token file: its token, or the sentence that says why it cannot be used."""

    path: Path
    token: ClassToken | None
    problem: str | None = None


def list_tokens(folder: str | Path) -> list[Entry]:
    """The tokens of a folder by file name, a damaged one with its problem. InputError if there is no folder.

    Hidden files, such as macOS leaves beside every file on foreign disks, are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: check the path")
    entries = []
    for path in sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")):
        try:
            entries.append(Entry(path, load_token(path)))
        except InputError as error:
            entries.append(Entry(path, None, str(error)))
    return entries
