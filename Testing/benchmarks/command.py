"""How the benchmarks' commands end: bad input is one sentence."""

from __future__ import annotations

from collections.abc import Callable

import typer

from PromptSegLib.apps.console import BAD_INPUT, errors
from PromptSegLib.errors import InputError


def run(main: Callable[..., None]) -> None:
    """Run a command with the arguments of this process."""
    try:
        typer.run(main)
    except InputError as error:
        errors.print(str(error))
        raise SystemExit(BAD_INPUT) from None
