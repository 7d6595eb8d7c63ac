"""The commands that look at class tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from rich.table import Table

from PromptSegLib.apps import center_commands
from PromptSegLib.apps.console import Json, output, print_description, print_json
from PromptSegLib.tokens.class_token import ClassToken, load_token
from PromptSegLib.tokens.library import list_tokens

tokens_app = typer.Typer(no_args_is_help=True, help="Look at class tokens.")
tokens_app.add_typer(center_commands.centers_app, name="centers")

_ANATOMY = ("place", "height", "size", "shapes")


def _knowledge(token: ClassToken) -> Iterator[str]:
    """What the token knows of its structure besides its looks, in words."""
    if token.place is not None:
        yield "where in the body's cross section it lies"
    if token.height is not None:
        yield "at which height"
    if token.size is not None:
        yield f"its size (about {token.size.ml:.1f} ml)"
    if token.shapes:
        yield f"its shape ({len(token.shapes)} scan{'s' if len(token.shapes) > 1 else ''})"


@tokens_app.command("info")
def info(file: Path, as_json: Json = False) -> None:
    """Show what a class token says of itself."""
    token = load_token(file)
    description = token.describe() | {"file": str(file), "bytes": file.stat().st_size}
    description["trained numbers"] = sum(array.size for array in token.numbers.values())
    if token.centers:
        description["centers"] = [center_commands.describe(center) for center in token.centers]
    if as_json:
        print_json(description)
        return
    shown = {key: value for key, value in description.items() if key not in (*_ANATOMY, "profile", "centers")}
    print_description(shown | {"knows of the structure": ", ".join(_knowledge(token)) or "its looks alone"})
    if token.centers:
        output.print(center_commands.centers_table(token))


@tokens_app.command("list")
def list_all(folder: Path, as_json: Json = False) -> None:
    """List the class tokens of a folder."""
    entries = list_tokens(folder)
    if as_json:
        print_json(
            [
                {"file": str(e.path), "problem": e.problem, **({} if e.token is None else e.token.describe())}
                for e in entries
            ]
        )
        return
    table = Table("file", "class", "backbone", "prompting", "slices", "held-out DSC", "date")
    for entry in entries:
        if entry.token is None:
            table.add_row(entry.path.name, f"unusable: {entry.problem}")
            continue
        training = entry.token.training
        dsc = "" if training.held_out_dsc is None else f"{training.held_out_dsc:.3f}"
        table.add_row(
            entry.path.name,
            entry.token.name,
            entry.token.backbone.name,
            entry.token.prompting,
            str(training.slices),
            dsc,
            training.date,
        )
    output.print(table)
