"""``python -m Testing.benchmarks``: how PromptSeg compares. PROMPTSEG_DATA names the folder of real scans."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from PromptSegLib.errors import InputError
from PromptSegLib.learning.tuning import TuningOptions
from PromptSegLib.networks.catalog import read_info
from PromptSegLib.networks.device import find_device, keep_freed_memory
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks import (
    across,
    command,
    corrections,
    in_scan,
    plots,
    resources,
    speed,
    suggestions,
    tables,
    token_corrections,
    uncertainty,
    variants,
)
from Testing.benchmarks.comparing import Comparison, warm_up
from Testing.benchmarks.data import data_folder
from Testing.benchmarks.methods import registry
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.promptseg import PROMPTSEG
from Testing.benchmarks.methods.variants import KEYS
from Testing.benchmarks.results import Result, Results, require_same_settings
from Testing.benchmarks.variant_table import Row

ALWAYS = ("speed", "resources", "in-scan", "across", "corrections")
QUESTIONS = (*ALWAYS, "token-corrections", "ablation", "variants", "suggestions", "uncertainty")


Step = tuple[str, Callable[[Result], int]]
"""What a table counts, and where a result says so."""


@dataclass(frozen=True)
class Question:
    """One table. run: adds what is missing of it."""

    name: str
    title: str
    step: Step
    run: Callable[[Comparison, Results], None]
    default: tuple[Method, ...]
    allowed: tuple[Method, ...]


def main(
    only: Annotated[str, typer.Option(help=f"One of {', '.join(QUESTIONS)}; the first {len(ALWAYS)} by default.")] = "",
    patients: Annotated[int, typer.Option(help="Patients, but for across, token-corrections and variants.")] = 5,
    drawn: Annotated[
        str, typer.Option(help="Numbers of drawn slices: 1,2,3,5,7 for in-scan, 3,5 for ablation, 3 for uncertainty.")
    ] = "",
    trunk: Annotated[
        bool, typer.Option("--trunk", help="Six organs of a CT and an MR of the trunk in in-scan and uncertainty, too.")
    ] = False,
    others: Annotated[int, typer.Option(help="Patients to test on in across, token-corrections and variants.")] = 10,
    scans: Annotated[
        str,
        typer.Option(
            help="Numbers of drawn scans: 1,3,5,10 for across, 3 for token-corrections, 1,3,10,all for variants."
        ),
    ] = "",
    sparse: Annotated[bool, typer.Option("--sparse", help="For across, draw 5 slices of each scan, not all.")] = False,
    first: Annotated[int, typer.Option(help="Slices drawn before the first correction or suggestion.")] = 3,
    rounds: Annotated[int, typer.Option(help="Corrections or suggestions, one slice each.")] = 5,
    methods: Annotated[
        str,
        typer.Option(
            help=f"Some of {', '.join(registry.METHODS)}; of ablation and across also "
            f"{', '.join(registry.ABLATIONS)}; of across, {registry.FULL_TOKEN.key}; "
            f"of token-corrections, {', '.join(registry.CORRECTING_TOKENS)}; "
            f"of variants, {', '.join(KEYS)}; of suggestions, {', '.join(suggestions.NAMES)}."
        ),
    ] = "",
    organs: Annotated[str, typer.Option(help="Only these organs.")] = "",
    seeds: Annotated[int, typer.Option(help="How often whatever depends on chance is run.")] = 3,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seconds: Annotated[float, typer.Option(help="At the most, for PromptSeg to learn.")] = 90.0,
    times: Annotated[float, typer.Option(help="How many times as long as PromptSeg the others learn.")] = 1.0,
    backbone: Annotated[str, typer.Option(help="Name or file; for variants also several.")] = DEFAULT_BACKBONE,
    prompting: Annotated[str, typer.Option(help="The backbone's default by default.")] = "",
    device: Annotated[str, typer.Option(help="For networks.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of CSV files; a run goes on from what is there.")] = None,
    plot_folder: Annotated[Path | None, typer.Option("--plots", help="Folder for a picture per question.")] = None,
) -> None:
    if only not in ("", *QUESTIONS):
        raise InputError(f"there is no question '{only}': choose one of {', '.join(QUESTIONS)}")
    console = Console(width=None if Console().is_terminal else 200)
    if data_folder() is None:
        console.print(
            "PROMPTSEG_DATA is not set: accuracy is measured on generated scans, and is no claim about real ones."
        )
    if only in ("", "speed"):
        speed.report(console, repeats=5, out=out, plot_folder=plot_folder)
    keep_freed_memory()
    if only in ("", "resources"):
        resources.report(console, out=out, plot_folder=plot_folder)

    def set_up(path: Path) -> Setup:
        network = load_backbone(path, find_device(device))
        options = TuningOptions(prompting=prompting or None, seconds=seconds)
        return Setup(network, options, times=times)

    if only == "variants":
        backbones = [find_backbone(name) for name in command.words(backbone)]
        new = variants.new_classes([read_info(path) for path in backbones], command.words(organs))
        counts = variants.numbers_of_scans(scans or ("1,3,10,all" if data_folder() else "1,3,10"), new)
        rows: list[Row] = []
        for path in backbones:
            setup = set_up(path)
            name = setup.backbone.name
            if name in {row.backbone for row in rows}:
                raise InputError(f"two backbones are called {name}: rename one")
            folder = None if out is None else out / name
            if folder is not None:
                require_same_settings(folder, {**_settings(setup), "organs": sorted(new), "used": "as tokens"})
            results = Results(None if folder is None else folder / "variants.csv")
            rows += variants.measure(setup, methods, range(seed, seed + seeds), others, counts, new, results)
        variants.report(rows, console, out, plot_folder)
        return

    def run_in_scan(comparison: Comparison, results: Results) -> None:
        in_scan.compare(comparison, results, patients, command.numbers(drawn or "1,2,3,5,7"), trunk)

    def run_ablation(comparison: Comparison, results: Results) -> None:
        in_scan.compare(comparison, results, patients, command.numbers(drawn or "3,5"), trunk)

    def run_across(comparison: Comparison, results: Results) -> None:
        across.compare(comparison, results, others, command.numbers(scans or "1,3,5,10"), sparse)

    def run_corrections(comparison: Comparison, results: Results) -> None:
        corrections.compare(comparison, results, patients, first, rounds)

    def run_token_corrections(comparison: Comparison, results: Results) -> None:
        token_corrections.compare(comparison, results, others, command.numbers(scans or "3"), rounds)

    in_each = f"{across.SPARSE_SLICES} slices drawn in each" if sparse else "each drawn fully"
    questions = (
        Question(
            "in-scan",
            "In the drawn scan: undrawn slices",
            ("drawn slices", lambda result: result.drawn),
            run_in_scan,
            registry.IN_SCAN,
            tuple(registry.METHODS.values()),
        ),
        Question(
            "across-sparse" if sparse else "across",
            f"Across scans: other patients, {in_each}",
            ("drawn scans", lambda result: result.drawn),
            run_across,
            registry.ACROSS,
            (*registry.ACROSS, registry.FULL_TOKEN, *registry.ABLATIONS.values()),
        ),
        Question(
            "ablation",
            "In the drawn scan, without one part at a time: undrawn slices",
            ("drawn slices", lambda result: result.drawn),
            run_ablation,
            registry.ABLATION,
            registry.ABLATION,
        ),
        Question(
            "corrections",
            f"Corrections: the whole structure, {first} slices drawn at first",
            ("corrections", lambda result: result.round),
            run_corrections,
            registry.CORRECTIONS,
            tuple(registry.METHODS.values()),
        ),
        Question(
            "token-corrections",
            "Corrections of what tokens of other scans found: the whole structure",
            ("corrected slices", lambda result: result.round),
            run_token_corrections,
            tuple(registry.CORRECTING_TOKENS.values()),
            tuple(registry.CORRECTING_TOKENS.values()),
        ),
    )
    # Whether all slices are drawn across scans or some is said by an option, not by the question.
    questions = tuple(q for q in questions if q.name.removesuffix("-sparse") in ((only,) if only else ALWAYS))
    if not questions and only not in ("suggestions", "uncertainty"):
        return
    setup = set_up(find_backbone(backbone))
    if out is not None:
        require_same_settings(out, _settings(setup))
    comparison = Comparison([PROMPTSEG], setup, range(seed, seed + seeds), set(command.words(organs)))
    if only == "uncertainty":
        qualities = uncertainty.Qualities(out)
        warm_up(comparison.methods, setup)
        uncertainty.compare(comparison, qualities, patients, command.numbers(drawn or "3"), trunk)
        uncertainty.report(qualities, console, plot_folder)
    if only == "suggestions":
        strategies = registry.choose(methods, suggestions.STRATEGIES, suggestions.STRATEGIES, suggestions.NAMES.keys())
        results = Results(None if out is None else out / f"{only}.csv")
        warm_up(comparison.methods, setup)
        suggestions.compare(comparison, results, strategies, patients, first, rounds)
        title = f"Suggestions: the whole structure, {first} slices drawn at first"
        step = ("named slices", lambda result: result.round)
        _show(only, title, step, results, suggestions.NAMES, console, plot_folder)
    for question in questions:
        chosen = registry.choose(methods, question.default, question.allowed)
        usable = [method for method in chosen if not method.missing]
        for method in chosen:
            if method.missing:
                console.print(f"{method.name} is left out: it needs pip install {' '.join(method.missing)}")
        warm_up(usable, setup)
        results = Results(None if out is None else out / f"{question.name}.csv")
        question.run(replace(comparison, methods=usable), results)
        _show(question.name, question.title, question.step, results, registry.NAMES, console, plot_folder)


def _show(
    name: str,
    title: str,
    step: Step,
    results: Results,
    names: Mapping[str, str],
    console: Console,
    plot_folder: Path | None,
) -> None:
    """As a table, and as a picture if there is a folder for it. names: of the methods, by key."""
    label, steps = step
    if not list(results):
        console.print(f"{title}: nothing to compare")
        return
    tables.print_results(title, label, list(results), steps, names, console)
    if plot_folder is not None:
        plots.plot_results(plot_folder / f"{name}.png", title, label, list(results), steps, names)


def _settings(setup: Setup) -> dict[str, object]:
    network = setup.backbone
    return {
        "backbone": f"{network.name} {network.fingerprint()[:12]}",
        "data": "generated" if data_folder() is None else "real",
        "device": str(network.device),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "prompting": setup.options.prompting,
        "seconds": setup.options.seconds,
    } | ({"times": setup.times} if setup.times != 1 else {})


if __name__ == "__main__":
    command.run(main)
