"""How good variants are beside how much they train: rows, the table, and the gap that the paper states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from PromptSegLib.networks.backbone import BackboneModule, count_parameters
from Testing.benchmarks.methods.method import Method
from Testing.benchmarks.methods.variants import FULL, Variant
from Testing.benchmarks.results import Result
from Testing.benchmarks.tables import cell

TITLE = "Variants: new classes on other patients, by what is trained"
PAPER_GAPS = "3.83 on TCIA/BTCV and 2.67 on CT-ORG"
"""Full fine-tuning minus prompt tuning in points of DSC, arXiv 2211.09233v1."""


@dataclass(frozen=True)
class Row:
    """One variant on one backbone after one number of scans.

    trained: numbers; share: of the backbone's weights; scores: DSC by (seed, patient), each the mean over organs;
    seconds: of learning, mean; is_ours: whether it is the prompting whose time the others got.
    """

    backbone: str
    scans: int
    variant: Variant
    share: float
    scores: Mapping[tuple[int, str], float]
    seconds: float
    is_ours: bool

    @property
    def dsc(self) -> float:
        return float(np.mean(list(self.scores.values())))


def rows_of(
    results: Sequence[Result], backbone: BackboneModule, variants: Sequence[Variant], ours: Method
) -> list[Row]:
    """Sorted by number of scans, then as the variants are."""
    weights = count_parameters(backbone)
    rows = []
    for count in sorted({result.drawn for result in results}):
        for variant in variants:
            group = [r for r in results if r.drawn == count and r.method == variant.method.key]
            if not group:
                continue
            by_patient: dict[tuple[int, str], list[float]] = {}
            for result in group:
                by_patient.setdefault((result.seed, result.source), []).append(result.dsc)
            rows.append(
                Row(
                    backbone.name,
                    count,
                    variant,
                    variant.trained / weights,
                    {key: float(np.mean(scores)) for key, scores in by_patient.items()},
                    float(np.mean([result.learning_seconds for result in group])),
                    variant.method == ours,
                )
            )
    return rows


HEADER = ("backbone", "drawn scans", "variant", "trained", "%", "DSC", "spread", "s", "n")


def cells(row: Row) -> list[object]:
    """A row of `HEADER`; n: of seeds and patients, over which DSC and its spread are taken."""
    scores = list(row.scores.values())
    spread = float(np.std(scores))
    return [
        row.backbone,
        row.scans,
        row.variant.method.name,
        row.variant.trained,
        round(100 * row.share, 3),
        round(row.dsc, 4),
        round(spread, 4),
        round(row.seconds, 1),
        len(scores),
    ]


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """The table, and beneath it how far prompt tuning lies behind full fine-tuning."""
    table = Table(*(name for name in HEADER if name != "spread"), title=TITLE)
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.backbone, row.scans), []).append(row)
    for group in groups.values():
        best = max(row.dsc for row in group)
        for row in group:
            table.add_row(
                row.backbone,
                str(row.scans),
                row.variant.method.name,
                f"{row.variant.trained:,}",
                f"{100 * row.share:.3f}",
                cell(list(row.scores.values())),
                f"{row.seconds:.1f}",
                str(len(row.scores)),
                style="bold" if row.dsc == best else "",
            )
        table.add_section()
    console.print(table)
    for backbone in dict.fromkeys(row.backbone for row in rows):
        gaps = {n: gap(group) for (name, n), group in groups.items() if name == backbone}
        told = [f"{points:.2f} with {n} drawn scans" for n, points in gaps.items() if points is not None]
        if told:
            console.print(
                f"{backbone}: full fine-tuning minus prompt tuning, in points of DSC: {', '.join(told)} "
                f"(the paper: {PAPER_GAPS})"
            )


def gap(group: Iterable[Row]) -> float | None:
    """Full fine-tuning minus our prompting in points of DSC, on what both have; None if that is nothing."""
    ours = next((row.scores for row in group if row.is_ours), {})
    full = next((row.scores for row in group if row.variant.method.key == FULL), {})
    differences = [full[key] - score for key, score in ours.items() if key in full]
    return 100 * float(np.mean(differences)) if differences else None
