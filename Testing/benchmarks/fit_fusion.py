"""What other constants in PromptSegLib.inference.drawn would bring: a grid search on training patients, new classes."""

from __future__ import annotations

from itertools import product
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy import special

from PromptSegLib.apps.demo import draw_slices, undrawn_dsc
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.imaging.volume import slice_stack
from PromptSegLib.inference.drawn import shape_logits
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import TuningOptions, tune
from PromptSegLib.networks.device import keep_freed_memory
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks.data import around, classes, scans

EDGES_MM = (0.25, 0.5, 1.0, 2.0)
GAP_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)
SUREST_LOGITS = (1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)


def main(patients: Annotated[int, typer.Option()] = 2, skip: int = 20, backbone: str = DEFAULT_BACKBONE) -> None:
    keep_freed_memory()
    network = load_backbone(find_backbone(backbone))
    scores: dict[tuple[float, float, float], list[float]] = {
        g: [] for g in product(EDGES_MM, GAP_SHARES, SUREST_LOGITS)
    }
    alone: list[float] = []
    for name, image, label_map in scans("train", patients, skip):
        for (organ, label), count in product(classes().items(), (3, 5)):
            part, truth = around(image, label_map.array == label, 3)
            drawing, slices = draw_slices(truth, count)
            annotation = Annotation.from_label_map(part.with_array(drawing), 1, axis=0)
            token = tune([DrawnScan(part, annotation)], organ, network, TuningOptions(seconds=600))
            (probability,) = Segmenter(network, [token]).segment(part, probabilities=True).probabilities
            logits = special.logit(np.clip(probability.array, 1e-6, 1 - 1e-6))
            stack = slice_stack(part, 0)
            truths, view = stack.view(truth), stack.view(logits)
            shape = DrawnShape({i: truths[i] for i in slices}, stack.shape, stack.spacing)
            distances = np.stack([shape.distance(i) for i in range(len(truth))])
            alone.append(undrawn_dsc(view > 0, truths, slices))
            for constants in scores:
                fused = view + np.stack([shape_logits(shape, i, *constants) for i in range(len(truth))])
                scores[constants].append(undrawn_dsc(fused > 0, truths, slices))
            shape_alone = undrawn_dsc(distances > 0, truths, slices)
            best = max(scores[g][-1] for g in scores)
            print(
                f"{name} {organ} {count}: network {alone[-1]:.3f}, shape {shape_alone:.3f}, best {best:.3f}", flush=True
            )
    table = Table("edge mm", "gap share", "surest logit", "DSC", title=f"Network alone {np.mean(alone):.3f}")
    for grid in sorted(scores, key=lambda g: -np.mean(scores[g]))[:12]:
        table.add_row(*map(str, grid), f"{np.mean(scores[grid]):.4f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
