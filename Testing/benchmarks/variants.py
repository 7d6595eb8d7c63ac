"""The paper's table: how good a new class gets on other patients by how much of a backbone is trained for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from PromptSegLib.errors import InputError
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.pretraining.recipe import seen_classes
from PromptSegLib.networks.catalog import BackboneInfo
from Testing.benchmarks.across import draw, learn_and_find
from Testing.benchmarks.comparing import Comparison, warm_up
from Testing.benchmarks.data import all_classes, complete, data_folder, random_scans, scans
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.promptseg import tune_token
from Testing.benchmarks.methods.registry import choose
from Testing.benchmarks.methods.variants import KEYS, variants_of
from Testing.benchmarks.plots import plot_variants
from Testing.benchmarks.results import Results, write_csv
from Testing.benchmarks.variant_table import HEADER, Row, cells, print_rows, rows_of


def new_classes(backbones: Iterable[BackboneInfo], wanted: Collection[str]) -> dict[str, int]:
    """Labels of the organs that none of the backbones has seen as labels; wanted: only these, all for none.

    Raises:
        InputError: if a backbone has seen one of ``wanted``, or if nothing is left.
    """
    seen = {organ: info.name for info in backbones for organ in seen_classes(info)}
    for organ in sorted(wanted):
        if organ in seen:
            raise InputError(f"{organ} is no new class for {seen[organ]}, which saw its labels: choose other organs")
    new = {name: n for name, n in all_classes().items() if name not in seen and (not wanted or name in wanted)}
    if not new:
        raise InputError(f"there is no new class to compare on: choose from {', '.join(all_classes())}")
    return new


def numbers_of_scans(text: str, organs: Collection[str]) -> list[int]:
    """From "1,3,all": all are those training scans in which all organs were drawn.

    Raises:
        InputError: if there are not as many.
    """
    folder = data_folder()
    most = None if folder is None else len(complete(folder, "train", organs))
    counts = []
    for word in text.split(","):
        if word.strip() == "all":
            if most is None:
                raise InputError("generated scans have no end: give numbers to --scans, or set PROMPTSEG_DATA")
            counts.append(most)
        elif not word.strip().isdecimal() or not 1 <= int(word) <= (most or int(word)):
            raise InputError(f"--scans has '{word}': give numbers from 1 to {most or 'any'}, or all")
        else:
            counts.append(int(word))
    return sorted(set(counts))


def measure(
    setup: Setup,
    names: str,
    seeds: Sequence[int],
    patients: int,
    counts: Sequence[int],
    organs: Mapping[str, int],
    results: Results,
) -> list[Row]:
    """The rows of one backbone, after adding the results that are missing.

    names: of variants, all for none; patients: to test on; counts: of training scans, drawn at random by the seed;
    organs: labels by name.
    """
    every = variants_of(setup.backbone, setup.options.prompting or setup.backbone.default_prompting)
    methods = choose(names, [v.method for v in every], [v.method for v in every], KEYS)
    ours = next(v.method for v in every if v.method.learn is tune_token)
    chosen = [variant for variant in every if variant.method in methods]
    comparison = Comparison(methods, setup, seeds, ours=ours)
    others = list(scans("validation", patients, organs=organs))
    warm = False
    for seed in seeds:
        for count in counts:
            keys = [(o[0], organ, count, m.key, seed, 0) for o in others for organ in organs for m in methods]
            if all(results.get(key) is not None for key in keys):
                continue
            if not warm:
                warm_up(methods, setup)
                warm = True
            sources = list(random_scans("train", count, seed, organs))
            for organ, label in organs.items():
                drawings = [DrawnScan(image, draw(labels, label, sparse=False)) for _, image, labels in sources]
                learn_and_find(drawings, others, organ, label, seed, comparison, results)
    return rows_of(list(results), setup.backbone, chosen, ours)


def report(rows: Sequence[Row], console: Console, out: Path | None, plot_folder: Path | None) -> None:
    print_rows(rows, console)
    if out is not None:
        write_csv(out / "variants.csv", map(cells, rows), HEADER)
    if plot_folder is not None:
        plot_variants(plot_folder / "variants.png", rows)
