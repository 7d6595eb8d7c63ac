"""``python -m Testing.benchmarks``: the tables of the README. PROMPTSEG_DATA names the folder of real scans."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from PromptSegLib.learning.tuning import TuningOptions
from PromptSegLib.networks.device import keep_freed_memory
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks import resources, segmentation, speed
from Testing.benchmarks.data import data_folder

console = Console(width=120)


def main(
    only: Annotated[str, typer.Option(help="speed, resources, in-scan or across; all by default.")] = "",
    patients: Annotated[int, typer.Option(help="Patients for in-scan.")] = 5,
    drawn: Annotated[str, typer.Option(help="Numbers of drawn slices for in-scan.")] = "3,5",
    others: Annotated[int, typer.Option(help="Patients to test on across scans.")] = 10,
    backbone: Annotated[str, typer.Option()] = DEFAULT_BACKBONE,
    prompting: Annotated[str, typer.Option()] = "decoder",
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    if data_folder() is None:
        console.print(
            "PROMPTSEG_DATA is not set: accuracy is measured on generated scans, and is no claim about real ones."
        )
    if only in ("", "speed"):
        speed.main(repeats=5)
    keep_freed_memory()
    if only in ("", "resources"):
        resources.main(console)
    if only in ("", "in-scan", "across"):
        network = load_backbone(find_backbone(backbone))
        options = TuningOptions(prompting=prompting, seed=seed)
        if only in ("", "in-scan"):
            scores = segmentation.in_scan(network, patients, [int(n) for n in drawn.split(",")], options)
            methods = (segmentation.OURS, segmentation.NETWORK, segmentation.PROBE, segmentation.INTERPOLATION)
            title = f"In the drawn scan: DSC on undrawn slices, {patients} patients"
            segmentation.print_scores(title, "slices", scores, methods, console)
        if only in ("", "across"):
            scores = segmentation.across_scans(network, others, (1, 3), options)
            title = f"Across scans: DSC on {others} other patients, organ drawn fully"
            segmentation.print_scores(title, "scans", scores, (segmentation.OURS, segmentation.PROBE), console)


if __name__ == "__main__":
    typer.run(main)
