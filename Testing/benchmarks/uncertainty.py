"""Uncertainty: whether a few tokens of one drawing know better than one where they are wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from PromptSegLib.tokens.records import Calibration
from Testing.benchmarks.calibration import bins_of, brier, calibration_error, near, pooled
from Testing.benchmarks.comparing import Comparison
from Testing.benchmarks.data import Case, cases
from Testing.benchmarks.ensemble import MEMBERS, EncodedScan
from Testing.benchmarks.in_scan import draw
from Testing.benchmarks.measuring import measured
from Testing.benchmarks.plots import plot_reliability
from Testing.benchmarks.results import Rows
from Testing.benchmarks.scoring import score
from Testing.benchmarks.tables import cell

NAMES = {"token": "one token", "ensemble": f"mean of {MEMBERS} tokens", "uncalibrated": "one token, uncalibrated"}

CaseKey = tuple[str, str, int, str, int]


@dataclass(frozen=True)
class Quality:
    """Of one method's probabilities, once. seconds: to learn and to find."""

    source: str
    organ: str
    drawn: int
    method: str
    seed: int
    dsc: float
    brier: float
    calibration_error: float
    seconds: float

    @property
    def key(self) -> CaseKey:
        return (self.source, self.organ, self.drawn, self.method, self.seed)


@dataclass(frozen=True)
class Bin:
    """One bin of `calibration.bins_of`."""

    source: str
    organ: str
    drawn: int
    method: str
    seed: int
    number: int
    pixels: int
    probability: float
    share: float

    @property
    def key(self) -> tuple[CaseKey, int]:
        return ((self.source, self.organ, self.drawn, self.method, self.seed), self.number)


class Qualities:
    """All that was measured, in two files of a folder if there is one."""

    def __init__(self, folder: Path | None = None):
        self.rows = Rows(Quality, None if folder is None else folder / "uncertainty.csv")
        self.bins = Rows(Bin, None if folder is None else folder / "reliability.csv")

    def add(self, quality: Quality, bins: np.ndarray) -> None:
        """The bins come first: where the quality is written, they are too."""
        for number, (pixels, probability, share) in enumerate(bins.tolist()):
            self.bins.add(Bin(*quality.key, number, round(pixels), probability, share))
        self.rows.add(quality)
        print(
            f"{quality.source} {quality.organ}, {quality.drawn} drawn, seed {quality.seed}, {quality.method}: "
            f"DSC {quality.dsc:.3f}, Brier {quality.brier:.4f}, ECE {quality.calibration_error:.4f}, "
            f"{quality.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )

    def pooled_bins(self, drawn: int, method: str) -> np.ndarray:
        """Of all cases and seeds."""
        parts: dict[CaseKey, list[tuple[float, float, float]]] = {}
        for row in self.bins:
            if (row.drawn, row.method) == (drawn, method) and self.rows.get(row.key[0]) is not None:
                parts.setdefault(row.key[0], []).append((row.pixels, row.probability, row.share))
        return pooled([np.array(part) for part in parts.values()])


def compare(comparison: Comparison, found: Qualities, patients: int, drawn: Sequence[int], trunk: bool) -> None:
    """Add what is missing: of the undrawn slices of the structure and 3 beyond either end, DSC at a probability of 0.5,
    and Brier score and calibration error near the structure and whatever any method took for it."""
    for case in cases(patients, comparison.organs, trunk):
        for count in drawn:
            for seed in comparison.seeds:
                _run(case, count, seed, comparison, found)


def _run(case: Case, count: int, seed: int, comparison: Comparison, found: Qualities) -> None:
    keys: dict[str, CaseKey] = {method: (case.source, case.organ, count, method, seed) for method in NAMES}
    drawn = None if all(found.rows.get(key) is not None for key in keys.values()) else draw(case, count)
    if drawn is None:
        return
    drawn_scan, truth, slices = drawn
    part, annotation, undrawn = drawn_scan.image, drawn_scan.annotation, np.delete(truth, slices, axis=0)
    scan = EncodedScan(part, comparison.of_seed(seed)[1])
    token, learning = measured(lambda: scan.tune(annotation))
    segmentation, finding = measured(lambda: scan.segment(token))
    alone = segmentation.probabilities[0].array
    mean, more = measured(lambda: scan.mean_probability(annotation, alone))
    raw = scan.segment(replace(token, calibration=Calibration())).probabilities[0].array
    probabilities = {"token": alone, "ensemble": mean, "uncalibrated": raw}

    spacing = part.geometry.spacing
    close = np.delete(near([truth, *(p > 0.5 for p in probabilities.values())], spacing), slices, axis=0)
    seconds = (learning + finding).seconds
    for method, probability in probabilities.items():
        judged = np.delete(probability, slices, axis=0)[close]
        bins = bins_of(judged, undrawn[close])
        quality = Quality(
            *keys[method],
            score(probability > 0.5, truth, spacing, slices).dsc,
            brier(judged, undrawn[close]),
            calibration_error(bins),
            seconds + (more.seconds if method == "ensemble" else 0.0),
        )
        found.add(quality, bins)


def report(found: Qualities, console: Console, plot_folder: Path | None) -> None:
    """A table with mean and standard deviation over cases and seeds, and a reliability diagram of all of them."""
    title = "Uncertainty: the network's probabilities on undrawn slices"
    if not list(found.rows):
        console.print(f"{title}: nothing to compare")
        return
    table = Table("drawn slices", "method", "DSC", "Brier", "ECE", "s", "n", title=title)
    panels: dict[str, dict[str, np.ndarray]] = {}
    for drawn in sorted({row.drawn for row in found.rows}):
        curves: dict[str, np.ndarray] = {}
        for method, name in NAMES.items():
            group = [row for row in found.rows if (row.drawn, row.method) == (drawn, method)]
            if not group:
                continue
            table.add_row(
                str(drawn),
                name,
                cell([row.dsc for row in group]),
                cell([row.brier for row in group]),
                cell([row.calibration_error for row in group]),
                f"{np.mean([row.seconds for row in group]):.1f}",
                str(len(group)),
            )
            bins = found.pooled_bins(drawn, method)
            curves[f"{name}, ECE {calibration_error(bins):.3f}"] = bins
        table.add_section()
        panels[f"{drawn} drawn slices"] = curves
    console.print(table)
    if plot_folder is not None:
        plot_reliability(plot_folder / "uncertainty.png", title, panels)
