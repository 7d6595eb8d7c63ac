"""Results as tables: means and standard deviations over patients and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from Testing.benchmarks.results import Result


def of(
    results: Iterable[Result], steps: Callable[[Result], int], names: Mapping[str, str]
) -> dict[int, dict[str, list[Result]]]:
    """Results by step (drawn slices, drawn scans or rounds), then by method in the order of ``names``."""
    found: dict[int, dict[str, list[Result]]] = {}
    for result in sorted(results, key=lambda r: (steps(r), list(names).index(r.method))):
        found.setdefault(steps(result), {}).setdefault(result.method, []).append(result)
    return found


def print_results(
    title: str,
    step: str,
    results: Sequence[Result],
    steps: Callable[[Result], int],
    names: Mapping[str, str],
    console: Console,
) -> None:
    """One line per step and method. step: what the first column counts; names: of the methods, by key.

    DSC per organ, then over all organs; n: results in it; seconds to learn and find, peak growth of memory."""
    organs = sorted({result.organ for result in results})
    table = Table(step, "method", *organs, "all", "surface DSC", "s", "MB", "n", title=title)
    for number, by_method in of(results, steps, names).items():
        best = max(_mean_dsc(group) for group in by_method.values())
        for method, group in by_method.items():
            table.add_row(
                str(number),
                names[method],
                *(cell([r.dsc for r in group if r.organ == organ]) for organ in organs),
                cell([r.dsc for r in group]),
                cell([r.surface_dsc for r in group]),
                f"{np.mean([r.seconds for r in group]):.1f}",
                f"{np.mean([r.megabytes for r in group]):.0f}",
                str(len(group)),
                style="bold" if _mean_dsc(group) == best else "",
            )
        table.add_section()
    console.print(table)


def cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else ""


def _mean_dsc(group: Sequence[Result]) -> float:
    return float(np.mean([result.dsc for result in group]))
