"""What the benchmarks' commands share: options that are lists, and that bad input is one sentence."""

from __future__ import annotations

from collections.abc import Callable

import typer

from PromptSegLib.apps.console import BAD_INPUT, errors
from PromptSegLib.errors import InputError


def words(text: str, separator: str = ",") -> list[str]:
    """Of a list as it is typed, without blanks around and between them."""
    return [word.strip() for word in text.split(separator) if word.strip()]


def numbers(text: str) -> list[int]:
    """Of a comma-separated list of whole numbers from 1 on; InputError for anything else."""
    try:
        found = [int(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"'{text}' is no list of whole numbers from 1 on: write it as 1,3,5")
    return found


def run(main: Callable[..., None]) -> None:
    """Run a command with the arguments of this process."""
    try:
        typer.run(main)
    except InputError as error:
        errors.print(str(error))
        raise SystemExit(BAD_INPUT) from None
