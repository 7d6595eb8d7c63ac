"""How the command line talks: progress on the terminal, JSON for machines, one sentence for an error."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

# Without markup: square brackets in names and paths are just that. Wide where no terminal is: a name that a pipe
# carries on is whole.
_WIDE = 10_000
output = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

BAD_INPUT = 2
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_LISTS = ("--image", "--labels", "--tokens")


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """``--tokens A B`` as ``--tokens A --tokens B``: every value up to the next option belongs to the list."""
    result: list[str] = []
    current: str | None = None
    fresh = False
    for argument in arguments:
        if argument.startswith("-"):
            name = argument.split("=")[0]
            current, fresh = (name if name in _LISTS else None), "=" not in argument
            result.append(argument)
        elif current is not None and not fresh:
            result += [current, argument]
        else:
            result.append(argument)
            fresh = False
    return result


def accept_all_characters() -> None:
    """Escape what the encoding of a pipe or a file lacks (on Windows, most of the world's letters), instead of failing
    after the work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def remark(sentence: str) -> None:
    """What does not stop the command, on standard error."""
    errors.print(f"promptseg: {sentence}", markup=False)


def print_json(data: Any) -> None:
    """Strict JSON, in UTF-8: values that are not finite become null; what is not UTF-8 in a file's name is escaped."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout.write(json.dumps(_finite(data), indent=2, ensure_ascii=False) + "\n")


def print_description(description: Mapping[str, Any]) -> None:
    """Names and what stands for them, line by line."""
    table = Table.grid(padding=(0, 2))
    for key, value in description.items():
        table.add_row(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    output.print(table)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """Yields ``report(fraction, text)``; nothing is drawn when ``quiet`` or when nobody watches."""
    description, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = (description, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), note)
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal) as progress:
        task = progress.add_task(label, total=1.0, note="")
        yield lambda fraction, note: progress.update(task, completed=fraction, note=note)


class Interruption:
    """Ctrl+C as a flag that a long job looks at, so that it can end with what it has; a second one ends it at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interruption:
        self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __call__(self) -> bool:
        return self.requested
