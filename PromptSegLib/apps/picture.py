"""The picture of a run: slices with outlines, the learning curve, the DSC of each slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from PromptSegLib.imaging.files import replacing
from PromptSegLib.imaging.volume import Volume, slice_stack
from PromptSegLib.learning.tuning import TuningProgress

matplotlib.use("Agg")
import matplotlib.pyplot as plt

WINDOW_HU = (-160, 240)
DRAWN, FOUND, TRUTH = "#ffd23f", "#3ec1f3", "#ff5d73"
_PANELS = 8
_INK, _PAPER = "#e8e8e8", "#15181c"


def montage(
    path: Path,
    image: Volume,
    truth: np.ndarray,
    found: np.ndarray,
    drawn: Sequence[int],
    history: Sequence[TuningProgress],
    dsc: float,
) -> None:
    """Write the picture as PNG.

    truth, found: bool (slices, rows, columns); drawn: indices of the slices that were drawn; dsc: on the others.
    """
    stack = slice_stack(image, 0)
    images, truths, founds = (stack.view(a) for a in (image.array, truth, found))
    extent = np.flatnonzero(truths.any(axis=(1, 2)))
    shown = sorted({*drawn, *np.linspace(extent[0], extent[-1], _PANELS).round().astype(int).tolist()})
    while len(shown) > _PANELS:
        shown.remove(min((z for z in shown if z not in drawn), key=lambda z: min(abs(z - d) for d in drawn)))
    rows, columns = _around(truths | founds)
    aspect = stack.spacing[1] / stack.spacing[2]

    with plt.style.context("dark_background"):
        figure = plt.figure(figsize=(13, 8.6), facecolor=_PAPER, layout="constrained")
        grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 0.9))
        for panel, z in enumerate(shown):
            axes = figure.add_subplot(grid[panel // 4, panel % 4])
            axes.imshow(
                images[z][rows, columns],
                cmap="gray",
                vmin=WINDOW_HU[0],
                vmax=WINDOW_HU[1],
                aspect=aspect,
                interpolation="bilinear",
            )
            if z in drawn:
                _outline(axes, truths[z][rows, columns], DRAWN)
                axes.set_title(f"slice {z}: drawn", color=DRAWN)
            else:
                _outline(axes, truths[z][rows, columns], TRUTH, width=1.0)
                _outline(axes, founds[z][rows, columns], FOUND)
                axes.set_title(f"slice {z}: found", color=FOUND)
            axes.set_axis_off()
        _curve(figure.add_subplot(grid[2, :2]), history)
        _per_slice(figure.add_subplot(grid[2, 2:]), truths, founds, drawn)
        figure.suptitle(
            f"{len(drawn)} slices drawn (yellow), the rest found (blue; truth in red): DSC {dsc:.3f} on undrawn slices",
            fontsize=13,
        )
        with replacing(path, suffix=".png") as temporary:
            figure.savefig(temporary, dpi=100)
        plt.close(figure)


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """A square window around the structure, twice as wide as it is."""
    edges = []
    centers, halves = [], []
    for axis in (1, 2):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        centers.append((line[0] + line[-1]) // 2)
        halves.append(max(24, line[-1] - line[0]))
    half = max(halves)
    for axis, center in zip((1, 2), centers, strict=True):
        first = int(np.clip(center - half, 0, max(0, mask.shape[axis] - 2 * half)))
        edges.append(slice(first, first + 2 * half))
    return edges[0], edges[1]


def _outline(axes: plt.Axes, mask: np.ndarray, color: str, width: float = 1.8) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[color], linewidths=width)


def _plain(axes: plt.Axes) -> None:
    axes.set_facecolor(_PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)


def _curve(axes: plt.Axes, history: Sequence[TuningProgress]) -> None:
    _plain(axes)
    steps = [p.step for p in history]
    axes.plot(steps, [p.loss for p in history], color="#8a97a5", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    known = [(p.step, p.held_out_dsc) for p in history if p.held_out_dsc is not None]
    if known:
        right = axes.twinx()
        right.plot(*zip(*known, strict=True), color=DRAWN, linewidth=1.8)
        right.set_ylabel("DSC, held-out part of the drawing", color=DRAWN)
        right.set_ylim(0, 1)
        right.spines[["top"]].set_visible(False)


def _per_slice(axes: plt.Axes, truth: np.ndarray, found: np.ndarray, drawn: Sequence[int]) -> None:
    _plain(axes)
    slices = np.flatnonzero((truth | found).any(axis=(1, 2)))
    values = [2 * (truth[z] & found[z]).sum() / max(1, truth[z].sum() + found[z].sum()) for z in slices]
    axes.bar(slices, values, color=[DRAWN if z in drawn else FOUND for z in slices])
    axes.set_ylim(0, 1)
    axes.set_xlabel("slice")
    axes.set_ylabel("DSC")
