"""Which backbones there are, and what their files say of themselves. No torch: Slicer's window asks, too."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from PromptSegLib.errors import InputError
from PromptSegLib.networks.presets import PRESETS
from PromptSegLib.tokens.records import printable

FORMAT = "promptseg-backbone"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"
DEFAULT_BACKBONE = "punet-headneck-1"
SHIPPED_FOLDERS = (
    Path(__file__).resolve().parents[2] / "Resources" / "Backbones",
    Path(sys.prefix) / "share" / "promptseg" / "Backbones",
)


@dataclass(frozen=True)
class BackboneInfo:
    """Description of a backbone file. ``card``: how it was made (data, licenses, classes, schedule)."""

    name: str
    preset: str
    card: dict[str, Any]
    path: Path

    @property
    def family(self) -> str:
        """Of networks, such as PUNet; "unknown" for a file of a newer PromptSeg."""
        return PRESETS[self.preset].family if self.preset in PRESETS else "unknown"


@dataclass(frozen=True)
class Entry:
    """A file among the backbones: what it says of itself, or the sentence that says why it cannot be used."""

    path: Path
    info: BackboneInfo | None
    problem: str | None = None


def read_info(path: Path) -> BackboneInfo:
    """Description without the weights; InputError when the file is no backbone of a version known here."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the backbone {path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is not a PromptSeg backbone: choose a file written by 'promptseg pretrain'")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise InputError(
            f"{path} has backbone format {metadata.get('version')}, not {FORMAT_VERSION}: update PromptSeg"
        )
    try:
        card = json.loads(metadata["card"])
        if not isinstance(card, dict):
            raise ValueError("its model card is no JSON object")
        return BackboneInfo(printable(metadata["name"]), printable(metadata["preset"]), card, Path(path))
    except (KeyError, RecursionError, ValueError) as error:
        raise InputError(f"{path} has a damaged description ({error}): get the file again") from error


def backbone_folders() -> list[Path]:
    """Where backbones are looked for: the folder named by PROMPTSEG_BACKBONES, then where they are shipped."""
    named = os.environ.get("PROMPTSEG_BACKBONES")
    return ([Path(named)] if named else []) + list(SHIPPED_FOLDERS)


def _files(folder: Path) -> list[Path]:
    """A backbone before those of the same name that were kept along its pre-training, NAME-stepN; no hidden files,
    such as those that macOS leaves beside every file on foreign disks."""
    found = (path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    return sorted(found, key=lambda path: path.stem)


def list_files() -> list[Entry]:
    """The installed files, of each name the one that it finds, and damaged or foreign ones with their problem."""
    entries: list[Entry] = []
    names: set[str] = set()
    for path in (path for folder in backbone_folders() for path in _files(folder)):
        try:
            info = read_info(path)
        except InputError as error:
            entries.append(Entry(path, None, str(error)))
            continue
        if info.name not in names:
            names.add(info.name)
            entries.append(Entry(path, info))
    return entries


def list_backbones() -> list[BackboneInfo]:
    """The installed backbones, without files that cannot be read."""
    return [entry.info for entry in list_files() if entry.info is not None]


def find_backbone(name_or_path: str) -> Path:
    """Path of a backbone given by its file or by its name."""
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.exists():
        if not path.is_file():
            raise InputError(f"there is no backbone file {path}: check the path")
        return path
    for folder in backbone_folders():
        for candidate in _files(folder):
            # A damaged file must not stand in the way of the others; asked for itself, it says what is wrong with it.
            if candidate.stem == name_or_path or _name_of(candidate) == name_or_path:
                return candidate
    known = list_backbones()
    raise InputError(
        f"there is no backbone '{name_or_path}': choose one of {', '.join(i.name for i in known) or 'none'}"
    )


def _name_of(path: Path) -> str | None:
    """The name of a backbone file, None for a damaged one."""
    try:
        return read_info(path).name
    except InputError:
        return None
