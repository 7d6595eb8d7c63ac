"""The study of centers as tables and as a picture: means over patients, organs and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from Testing.benchmarks.leaving_out import CenterResult
from Testing.benchmarks.methods.center_methods import CENTER_METHODS, CENTER_TOKEN, NONE
from Testing.benchmarks.plots import save_figure, style_of
from Testing.benchmarks.tables import cell

Group = tuple[int, str]
"""Number of scans of the new center, and key of the method."""


def main_table(title: str, results: Sequence[CenterResult]) -> Table:
    """One line per number of scans and method; spreads are standard deviations, a change is after minus before."""
    table = Table(
        "scans",
        "method",
        "trained %",
        "DSC, new center",
        "change",
        "DSC, old centers",
        "change",
        "voxels changed",
        "s",
        "n new, old",
        title=title,
    )
    for (scans, key), group in _groups(results).items():
        new, old = ([r for r in group if r.is_new is wanted] for wanted in (True, False))
        table.add_row(
            str(scans),
            CENTER_METHODS[key].name,
            f"{np.mean([r.trained_percent for r in group]):.2f}",
            cell([r.dsc for r in new]),
            change(new),
            cell([r.dsc for r in old]),
            change(old),
            str(sum(r.changed for r in old)),
            f"{np.mean([r.seconds for r in group]):.1f}",
            f"{len(new)}, {len(old)}",
        )
    return table


def each_table(title: str, results: Sequence[CenterResult]) -> Table:
    """How the DSC changes on every single center, the new one among them."""
    tested = list(dict.fromkeys(r.tested for r in results))
    table = Table("scans", "method", *tested, title=title)
    for (scans, key), group in _groups(results).items():
        table.add_row(
            str(scans), CENTER_METHODS[key].name, *(change([r for r in group if r.tested == name]) for name in tested)
        )
    return table


def change(results: Sequence[CenterResult]) -> str:
    """Mean change of the DSC; 0 only if it is exactly that for each of the results."""
    changes = [r.dsc - r.before for r in results]
    if not changes:
        return ""
    return "0" if not any(changes) else f"{np.mean(changes):+.3f}"


def plot(path: Path, title: str, results: Sequence[CenterResult]) -> None:
    """DSC on the new centers, and its change on the old ones, against the number of scans, with standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = _groups(results)
    steps = sorted({scans for scans, key in groups if key != NONE.key})
    figure, (new_axis, old_axis) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for number, (key, method) in enumerate(CENTER_METHODS.items()):
        line = {scans: group for (scans, k), group in groups.items() if k == key}
        if not line:
            continue
        if key == NONE.key:
            line = {scans: line[0] for scans in steps or [0]}
        for axis, is_new in ((new_axis, True), (old_axis, False)):
            values = [
                [r.dsc if is_new else r.dsc - r.before for r in group if r.is_new is is_new] for group in line.values()
            ]
            if not all(values):
                continue
            axis.errorbar(
                list(line),
                [float(np.mean(v)) for v in values],
                [float(np.std(v) / np.sqrt(len(v))) for v in values],
                label=method.name,
                **style_of(number),
                linestyle="--" if key == NONE.key else "-",
                linewidth=3 if key == CENTER_TOKEN.key else 1.4,
                capsize=2,
            )
    new_axis.set(ylabel="DSC on the new center")
    old_axis.set(ylabel="change of the DSC on the old centers")
    for axis in (new_axis, old_axis):
        axis.set(xlabel="scans of the new center", xticks=steps)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.legend(*new_axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def _groups(results: Sequence[CenterResult]) -> dict[Group, list[CenterResult]]:
    order = list(CENTER_METHODS)
    found: dict[Group, list[CenterResult]] = {}
    for result in sorted(results, key=lambda r: (r.scans, order.index(r.method))):
        found.setdefault((result.scans, result.method), []).append(result)
    return found
