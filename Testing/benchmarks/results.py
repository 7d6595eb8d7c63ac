"""Single results, written one by one, so that an interrupted run can go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from PromptSegLib.errors import InputError

Key = tuple[str, str, int, str, int, int]


@dataclass(frozen=True)
class Result:
    """One method, once.

    source: the scan that was segmented; drawn: slices (scans, where the question is about other scans) that were
    drawn; round: of corrections; seconds: to learn and to find; learning_seconds: thereof to learn; megabytes: peak
    growth of the resident set; worst: the slice that is drawn next, -1 for none; in corrections
    it is the one with the most wrong pixels.
    """

    source: str
    organ: str
    drawn: int
    method: str
    seed: int
    round: int
    dsc: float
    surface_dsc: float
    seconds: float
    learning_seconds: float
    megabytes: float
    worst: int = -1

    @property
    def key(self) -> Key:
        return (self.source, self.organ, self.drawn, self.method, self.seed, self.round)


class Row(Protocol):
    """A dataclass of numbers and words."""

    @property
    def key(self) -> tuple[Any, ...]: ...


R = TypeVar("R", bound=Row)


class Rows(Generic[R]):
    """Rows of one kind, in a CSV file if there is a path. The last row of a key counts."""

    def __init__(self, kind: type[R], path: Path | None = None):
        self.path = path
        self._by_key: dict[tuple[Any, ...], R] = {}
        if path is None:
            return
        if path.exists():
            self._by_key = {row.key: row for row in _read(kind, path)}
        # Written anew, the file is whole even if the last run was killed within a row.
        write_csv(path, map(_cells, self._by_key.values()), [f.name for f in fields(kind)])  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[R]:
        return iter(self._by_key.values())

    def get(self, key: tuple[Any, ...]) -> R | None:
        return self._by_key.get(key)

    def add(self, row: R) -> None:
        self._by_key[row.key] = row
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(_cells(row))


class Results(Rows[Result]):
    """The results of one question."""

    def __init__(self, path: Path | None = None):
        super().__init__(Result, path)


def write_csv(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def require_same_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Note in ``folder`` what all results in it share; InputError if others lie there already."""
    path = folder / "settings.json"
    text = json.dumps(settings, indent=2, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise InputError(f"{path} says that the results there were made otherwise: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _cells(row: Any) -> list[object]:
    return [round(value, 4) if isinstance(value, float) else value for value in astuple(row)]


def _read(kind: type[R], path: Path) -> Iterator[R]:
    types = {"int": int, "float": float, "str": str}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                yield kind(**{f.name: types[str(f.type)](row[f.name]) for f in fields(kind)})  # type: ignore[arg-type]
            except (KeyError, TypeError, ValueError):
                continue  # cut off when the run was killed
