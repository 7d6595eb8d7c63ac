"""The commands about centers of class tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from PromptSegLib.apps.console import Interruption, Json, output, print_json, progress_bar, remark
from PromptSegLib.tokens import centers
from PromptSegLib.tokens.class_token import ClassToken, load_token

if TYPE_CHECKING:
    from PromptSegLib.learning.adaptation import Adaptation

centers_app = typer.Typer(no_args_is_help=True, help="List, remove, rename and merge the centers of a token.")

_Out = Annotated[Path | None, typer.Option(help="Token file to write; the same one by default.")]


def adapt(
    token: Annotated[Path, typer.Option(help="Token file of the class.")],
    center: Annotated[str, typer.Option(help="Name of the hospital or scanner.")],
    image: Annotated[list[Path], typer.Option(help="Scan(s) of the center.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label map(s) with what was drawn, one per image, same order.")
    ] = None,
    label: Annotated[int | None, typer.Option(help="The structure's value, where the label maps hold several.")] = None,
    out: _Out = None,
    backbone: Annotated[str | None, typer.Option(help="Name or file of the backbone; the token's by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seconds: Annotated[float, typer.Option(min=1, help="Time limit of learning; judging comes on top.")] = 90.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    scribbles: Annotated[bool, typer.Option("--scribbles", help="Only painted voxels are known.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="All of the structure is drawn in the whole scan.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="Which series of a DICOM folder, by number or id.")] = None,
    as_json: Json = False,
) -> None:
    """Add a center to a class token; the token itself and its other centers find exactly what they found before."""
    from PromptSegLib.apps.center_jobs import AdaptJob, adapt_files
    from PromptSegLib.learning.tuning import TuningOptions

    target = token if out is None else out
    job = AdaptJob(
        token=token,
        center=center,
        images=image,
        drawings=labels or (),
        out=target,
        label=label,
        scribbles=scribbles,
        complete=complete,
        series=series,
        backbone=backbone,
        device=device,
    )
    with progress_bar(f"Adapting to {center}", as_json) as show, Interruption() as interruption:
        found = adapt_files(job, TuningOptions(seconds=seconds, seed=seed), show, interruption, remark)
    training = found.center.training
    if as_json:
        print_json(
            {
                "token": str(target),
                "center": found.center.name,
                "training": asdict(training),
                "judged": found.judged,
                "base_dsc": found.base_dsc,
                "dsc": found.dsc,
                "uses_base": found.uses_base,
            }
        )
    else:
        output.print(
            f"{target}: center '{found.center.name}' of '{found.token.name}' from {training.slices} slices of "
            f"{training.scans} scan(s) in {training.seconds:.0f} s",
            markup=False,
        )
        output.print(_verdict(found))


def _verdict(found: Adaptation) -> str:
    """Whether the center differs from the token, and why."""
    base, with_it = f"{found.base_dsc:.3f}", "" if found.dsc is None else f"{found.dsc:.3f}"
    if found.judged:
        seen = "a scan" if found.judged == 1 else f"{found.judged} scans"
        compared = f"judged by {seen} that it was not learned from: DSC {with_it}, of the token itself {base}"
        return f"{compared}; so the token itself is used for this center" if found.uses_base else compared
    if found.dsc is None:
        return (
            f"the token itself finds this scan with a DSC of {base} and is used for this center: a single scan says "
            "little of the next one; give more to learn what differs"
        )
    compared = f"the token itself fails on this scan (DSC {base}); what was learned from it brings {with_it}"
    if found.uses_base:
        return f"{compared}, which is too little: the token itself is used for this center; give more scans"
    return f"{compared}: check the next scans, and adapt again with more"


@centers_app.command("list")
def list_centers(file: Path, as_json: Json = False) -> None:
    """List the centers of a token."""
    token = load_token(file)
    if as_json:
        print_json([describe(center) for center in token.centers])
    else:
        output.print(centers_table(token) if token.centers else f"'{token.name}' has no centers")


@centers_app.command("remove")
def remove(file: Path, name: str, out: _Out = None) -> None:
    """Remove a center."""
    _change(file, out, lambda found, token: centers.removed(found, name, token))


@centers_app.command("rename")
def rename(file: Path, name: str, new_name: str, out: _Out = None) -> None:
    """Give a center another name."""
    _change(file, out, lambda found, token: centers.renamed(found, name, new_name, token))


@centers_app.command("merge")
def merge(
    file: Path,
    name: str,
    other: str,
    new_name: Annotated[
        str | None, typer.Option("--name", help="Name of the merged center; the first one's by default.")
    ] = None,
    out: _Out = None,
) -> None:
    """Make two centers one: the mean of what both learned, weighed by their scans."""
    _change(file, out, lambda found, token: centers.merged(found, name, other, new_name, token))


def centers_table(token: ClassToken) -> Table:
    """The centers of a token, for people."""
    table = Table("center", "scans", "slices", "numbers", "held-out DSC", "date")
    for center in token.centers:
        training = center.training
        dsc = "" if training.held_out_dsc is None else f"{training.held_out_dsc:.3f}"
        numbers = str(_numbers(center)) if center.delta else "as base"
        table.add_row(center.name, str(training.scans), str(training.slices), numbers, dsc, training.date)
    return table


def describe(center: centers.Center) -> dict[str, Any]:
    """A center for machines."""
    return center.describe() | {"trained numbers": _numbers(center)}


def _numbers(center: centers.Center) -> int:
    return sum(array.size for array in center.delta.values())


def _change(
    file: Path, out: Path | None, change: Callable[[Sequence[centers.Center], str], tuple[centers.Center, ...]]
) -> None:
    """Write the token with other centers, by default in place of itself."""
    token = load_token(file)
    changed = replace(token, centers=change(token.centers, token.name))
    target = file if out is None else out
    changed.save(target)
    names = ", ".join(f"'{center.name}'" for center in changed.centers) or "none"
    output.print(f"{target}: centers of '{token.name}': {names}", markup=False)
