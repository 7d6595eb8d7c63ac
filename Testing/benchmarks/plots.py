"""Results as pictures, one file per question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from Testing.benchmarks import tables
from Testing.benchmarks.methods.variants import FULL, SCRATCH
from Testing.benchmarks.results import Result
from Testing.benchmarks.variant_table import Row

# Okabe and Ito's palette, which color-blind readers can tell apart; ours is the strongest line.
COLORS = ("#0072B2", "#56B4E9", "#E69F00", "#F0E442", "#009E73", "#CC79A7", "#D55E00", "#000000", "#999999", "#8B5A2B")
MARKERS = "ososD^vPXd"
_DECADE = 10


def plot_results(
    path: Path,
    title: str,
    step: str,
    results: Sequence[Result],
    steps: Callable[[Result], int],
    names: Mapping[str, str],
) -> None:
    """DSC, surface DSC and seconds against ``step``: means, and for the scores bars of one standard error.

    names: of the methods, by key; the first one is ours.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels: tuple[tuple[str, Callable[[Result], float]], ...] = (
        ("DSC", lambda r: r.dsc),
        ("surface DSC at 2 mm", lambda r: r.surface_dsc),
        ("seconds to learn and find", lambda r: r.seconds),
    )
    found = tables.of(results, steps, names)
    ours = next(iter(names))
    figure, axes = plt.subplots(1, len(panels), figsize=(14, 4.8), layout="constrained")
    for axis, (label, value) in zip(axes, panels, strict=True):
        is_score = value is not panels[-1][1]
        for number, (key, name) in enumerate(names.items()):
            groups = {n: [value(r) for r in by_method[key]] for n, by_method in found.items() if key in by_method}
            if not groups:
                continue
            errors = [np.std(g) / np.sqrt(len(g)) for g in groups.values()] if is_score else None
            axis.errorbar(
                list(groups),
                [float(np.mean(g)) for g in groups.values()],
                errors,
                label=name,
                **style_of(number),
                markersize=5,
                linewidth=3 if key == ours else 1.4,
                capsize=2,
                zorder=3 if key == ours else 2,
            )
        axis.set(xlabel=step, ylabel=label, xticks=list(found))
        axis.grid(alpha=0.3)
        if is_score:
            axis.set_ylim(0, 1)
        else:
            axis.set_yscale("log")
    figure.suptitle(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    save_figure(figure, path)


_APART = 1.2
"""By so many times, numbers of weights must differ for two names to stand side by side."""


def plot_variants(path: Path, rows: Sequence[Row]) -> None:
    """DSC over how many weights are trained, one panel per backbone and one line per number of drawn scans; what starts
    from random weights stands beside its line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row.backbone for row in rows))
    counts = sorted({row.scans for row in rows})
    figure, axes = plt.subplots(
        1, len(names), figsize=(8 * len(names), 5), layout="constrained", squeeze=False, sharey=True
    )
    for axis, name in zip(axes[0], names, strict=True):
        for number, count in enumerate(counts):
            part = [row for row in rows if row.backbone == name and row.scans == count]
            for is_scratch in (False, True):
                group = [row for row in part if (row.variant.method.key == SCRATCH) == is_scratch]
                group.sort(key=lambda row: row.variant.trained)
                axis.errorbar(
                    [row.variant.trained for row in group],
                    [row.dsc for row in group],
                    [np.std(list(row.scores.values())) / np.sqrt(len(row.scores)) for row in group],
                    **style_of(number),
                    fillstyle="none" if is_scratch else "full",
                    linestyle="none" if is_scratch else "-",
                    capsize=2,
                    label=None if is_scratch else f"{count} drawn scan{'s' if count > 1 else ''}",
                )
        for trained, label in _labels([row for row in rows if row.backbone == name]):
            axis.annotate(
                label, (trained, 0.01), xycoords=("data", "axes fraction"), rotation=90, fontsize=7, ha="right"
            )
        axis.set_xscale("log")
        axis.set(xlabel="weights trained for the class", ylabel="DSC", title=name, ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0][0].legend(frameon=False)
    save_figure(figure, path)


def _labels(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Where on the axis of trained weights which names stand; those that would cover each other share a place."""
    places: list[tuple[int, str]] = []
    has_scratch = any(row.variant.method.key == SCRATCH for row in rows)
    trained_by = {row.variant.method: row.variant.trained for row in rows if row.variant.method.key != SCRATCH}
    for method, trained in sorted(trained_by.items(), key=lambda item: item[1]):
        name = f"{method.name} (open: from scratch)" if method.key == FULL and has_scratch else method.name
        if places and trained < _APART * places[-1][0]:
            places[-1] = (places[-1][0], f"{places[-1][1]}; {name}")
        else:
            places.append((trained, name))
    return places


Curve = dict[int, list[float]]
"""Values by step."""


def plot_pretraining(
    path: Path, losses: Mapping[str, tuple[np.ndarray, np.ndarray]], scores: Mapping[str, Mapping[str, Curve]]
) -> None:
    """Losses over steps, if there are any, above scores: means and bars of one standard error.

    losses: steps and values by name; scores: by what is measured, by where.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [*(["loss"] if losses else []), *scores]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(8, 3 * len(rows)), layout="constrained", sharex=True, squeeze=False
    )
    for axis, row in zip(axes[:, 0], rows, strict=True):
        if row in scores:
            for number, (where, curve) in enumerate(scores[row].items()):
                means = [float(np.mean(values)) for values in curve.values()]
                errors = [np.std(values) / np.sqrt(len(values)) for values in curve.values()]
                axis.errorbar(list(curve), means, errors, label=where, capsize=2, **style_of(number))
            axis.set_ylim(bottom=0)
        else:
            for number, (name, (steps, values)) in enumerate(losses.items()):
                axis.plot(steps, values, label=name, color=COLORS[number])
            found = np.concatenate([values for _, values in losses.values()])
            if found.min() > 0 and found.max() > _DECADE * found.min():
                axis.set_yscale("log")
        axis.set_ylabel(row)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[-1, 0].set_xlabel("steps of pre-training")
    save_figure(figure, path)


def plot_bars(path: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]]) -> None:
    """panels: by what is measured, by row, the named values that are compared."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(7 * len(panels), 4.2), layout="constrained", squeeze=False)
    for axis, (label, rows) in zip(axes[0], panels.items(), strict=True):
        names = list(dict.fromkeys(name for values in rows.values() for name, _ in values))
        height = 0.8 / len(names)
        for number, name in enumerate(names):
            places = [i + (number - (len(names) - 1) / 2) * height for i in range(len(rows))]
            bars = axis.barh(places, [dict(v)[name] for v in rows.values()], height, label=name, color=COLORS[number])
            axis.bar_label(bars, fmt="%.3g", padding=3)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.invert_yaxis()
        axis.set_xlabel(label)
        axis.margins(x=0.15)
        if len(names) > 1:
            axis.legend(frameon=False)
    figure.suptitle(title)
    save_figure(figure, path)


def plot_reliability(path: Path, title: str, panels: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """How often what was called likely is so. panels: by their titles, by name, bins as of `calibration.bins_of`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(panels),
        figsize=(5.2 * len(panels), 6.4),
        layout="constrained",
        squeeze=False,
        sharex=True,
        height_ratios=(3, 1),
    )
    for (upper, lower), (label, curves) in zip(axes.T, panels.items(), strict=True):
        upper.plot((0, 1), (0, 1), color="#999999", linestyle="--", linewidth=1)
        for number, (name, bins) in enumerate(curves.items()):
            pixels, probability, share = bins[bins[:, 0] > 0].T
            style = {**style_of(number), "markersize": 4}
            upper.plot(probability, share, label=name, **style)
            lower.plot(probability, pixels / pixels.sum(), **style)
        upper.set(title=label, ylabel="share that is the structure", xlim=(0, 1), ylim=(0, 1))
        upper.legend(frameon=False)
        lower.set(xlabel="probability given", ylabel="share of pixels", yscale="log")
        lower.minorticks_off()
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
    figure.suptitle(title)
    save_figure(figure, path)


def style_of(number: int) -> dict[str, str]:
    """Color and marker of the line with this number: the same in all plots, and again from the start after the last."""
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}


def save_figure(figure: object, path: Path) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
