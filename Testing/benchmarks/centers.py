"""A new center without losing the old ones: ``python -m Testing.benchmarks.centers``.

Centers are groups of real scans (PROMPTSEG_DATA names their folder) and simulated ones. Each is left out in its turn: a
token is learned on scans of all others, then adapted with some scans of the new one, in several ways, and tested on
held-out patients of every center.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from PromptSegLib.errors import InputError
from PromptSegLib.learning.tuning import TuningOptions
from PromptSegLib.networks.device import find_device, keep_freed_memory
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks import command
from Testing.benchmarks.center_groups import Center, all_centers, differences, link_pretraining_scans
from Testing.benchmarks.center_tables import each_table, main_table, plot
from Testing.benchmarks.data import all_classes, classes, data_folder
from Testing.benchmarks.leaving_out import CenterResult, Study
from Testing.benchmarks.methods import center_methods
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.results import Rows, require_same_settings


def main(
    centers: Annotated[str, typer.Option(help="Only these, by name; all by default.")] = "",
    leave_out: Annotated[str, typer.Option(help="The new ones among them; each in its turn by default.")] = "",
    organs: Annotated[
        str, typer.Option(help="These organs, also such as the backbone was pre-trained on; new ones by default.")
    ] = "",
    methods: Annotated[str, typer.Option(help=f"Some of {', '.join(center_methods.CENTER_METHODS)}.")] = "",
    scans: Annotated[str, typer.Option(help="Numbers of scans of the new center.")] = "1,3,10,30",
    base_scans: Annotated[int, typer.Option(min=1, help="Scans of all others together, for the token.")] = 10,
    patients: Annotated[int, typer.Option(min=1, help="Patients of each center to test on.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Other scans, another start each.")] = 3,
    seconds: Annotated[float, typer.Option(help="At the most, to learn; judging comes on top.")] = 120.0,
    base_seconds: Annotated[float, typer.Option(help="At the most, to learn the token.")] = 90.0,
    backbone: Annotated[str, typer.Option(help="Name or file; best pre-trained without the new center.")] = (
        DEFAULT_BACKBONE
    ),
    device: Annotated[str, typer.Option(help="For networks.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of results; a run goes on from what is there.")] = None,
    plot_folder: Annotated[Path | None, typer.Option("--plots", help="Folder for the picture.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Show the centers and how they differ, and stop.")] = False,
    pretraining: Annotated[
        Path | None,
        typer.Option(help="Fill it with a folder per real center, of links to all others' scans, and stop."),
    ] = None,
) -> None:
    console = Console(width=None if Console().is_terminal else 200)
    if data_folder() is None:
        console.print("PROMPTSEG_DATA is not set: scans are generated, and the figures are no claim about real ones.")
    every = all_centers()
    if pretraining is not None:
        for folder in link_pretraining_scans(every, pretraining):
            console.print(str(folder))
        return
    chosen = _named(every, centers)
    console.print(differences(chosen))
    if only_list:
        return
    if len(chosen) < 2:
        raise InputError("one center cannot be left out of itself: choose two or more with --centers")
    keep_freed_memory()
    network = load_backbone(find_backbone(backbone), find_device(device))
    setup = Setup(network, TuningOptions(seconds=seconds))
    usable = []
    for method in center_methods.choose(methods):
        if method.fits(network):
            usable.append(method)
        else:
            print(f"{method.name} is left out: {network.name} takes no such prompts", file=sys.stderr)
    study = Study(
        centers=chosen,
        left_out=[center.name for center in _named(chosen, leave_out)],
        organs=chosen_organs(organs),
        methods=usable,
        setup=setup,
        seeds=range(seeds),
        scans=command.numbers(scans),
        base_scans=base_scans,
        base_seconds=base_seconds,
        patients=patients,
        tokens=None if out is None else out / "tokens",
    )
    if out is not None:
        require_same_settings(out, _settings(study))
    results = Rows(CenterResult, None if out is None else out / "centers.csv")
    rows = study.run(results)
    for name in study.left_out:
        of_one = [row for row in rows if row.left_out == name]
        console.print(main_table(f"New center: {name}", of_one))
        console.print(each_table(f"New center: {name}; change of the DSC on each center", of_one))
    if len(study.left_out) > 1:
        console.print(main_table("All new centers", rows))
    if plot_folder is not None:
        plot(plot_folder / "centers.png", "A new center: " + ", ".join(study.left_out), rows)


def _named(centers: list[Center], names: str) -> list[Center]:
    """Those of a semicolon-separated list, all for none. InputError if there is none of a name."""
    wanted = command.words(names, ";")
    unknown = [name for name in wanted if name not in {center.name for center in centers}]
    if unknown:
        known = "; ".join(center.name for center in centers)
        raise InputError(f"there is no center '{unknown[0]}': choose from {known}, with semicolons between them")
    return [center for center in centers if not wanted or center.name in wanted]


def chosen_organs(names: str) -> dict[str, int]:
    """Labels of those in a comma-separated list, of the new classes for none. InputError if there is none of a name."""
    wanted = command.words(names)
    unknown = [name for name in wanted if name not in all_classes()]
    if unknown:
        raise InputError(f"there is no organ '{unknown[0]}': choose from {', '.join(all_classes())}")
    return {name: all_classes()[name] for name in wanted} or classes()


def _settings(study: Study) -> dict[str, Any]:
    network = study.setup.backbone
    return {
        "backbone": f"{network.name} {network.fingerprint()[:12]}",
        "data": "generated" if data_folder() is None else "real",
        "device": str(network.device),
        "centers": [center.name for center in study.centers],
        "scans at most": max(study.scans),
        "base_scans": study.base_scans,
        "base_seconds": study.base_seconds,
        "options": asdict(study.setup.options),
    }


if __name__ == "__main__":
    command.run(main)
