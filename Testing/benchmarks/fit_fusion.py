"""What other constants around a drawing would bring: on training patients, new classes, one constant at a time.

Those of the drawn shape (PromptSegLib.inference.drawn and imaging.interpolation), of appearance and random_walk. Some
count only where a single slice is drawn (``--drawn 1``), others only where several are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import ModuleType
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy import special

from PromptSegLib.apps.demo import draw_slices, undrawn_dsc
from PromptSegLib.imaging import interpolation
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume, slice_stack
from PromptSegLib.imaging.window import window_for
from PromptSegLib.inference import appearance, drawn, random_walk
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.neighborhood import Neighborhood
from PromptSegLib.inference.predictor import NO_BODY
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import TuningOptions, tune
from PromptSegLib.networks.device import keep_freed_memory
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks import command
from Testing.benchmarks.data import around, classes, scans
from Testing.benchmarks.suggestions import heard

CONSTANTS: dict[tuple[ModuleType, str], tuple[float, ...]] = {
    (drawn, "EDGE_MM"): (0.25, 0.5, 1.0, 2.0),
    (drawn, "GAP_SHARE"): (0.1, 0.2, 0.4, 0.8),
    (drawn, "SUREST_LOGIT"): (3.0, 4.0, 6.0, 10.0),
    (drawn, "MOST_AGAINST_OPEN"): (-6.0, -3.0, -2.0, -0.5, 0.0),
    (interpolation, "SHRINKING"): (0.1, 0.2, 0.5, 1.0),
    (interpolation, "NARROWING_WEIGHT"): (0.0, 1.5, 6.0),
    (appearance, "APPEARANCE_WEIGHT"): (0.0, 0.75, 1.0, 1.5, 2.0, 3.0),
    (random_walk, "CONTRAST"): (0.0, 3.0, 6.0, 12.0),
    (random_walk, "PRIOR_WEIGHT"): (0.1, 0.25, 1.0, 2.0),
}


@contextmanager
def changed(module: ModuleType, name: str, value: float) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


def masks(logits: np.ndarray, image: Volume, drawing: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """From the network's logits (slices, rows, columns): what is found with the drawing's surroundings and its shape
    beside it, and that after the walk."""
    stack = slice_stack(image, 0)
    neighborhood = Neighborhood.of(drawing, 1, stack)
    assert neighborhood is not None
    everything = slice(0, stack.shape[0])
    fused = heard(stack.view(logits), image, drawing, stack)
    walked = neighborhood.take(fused, everything, NO_BODY)
    window = window_for(image.array)
    for place, settled in neighborhood.settle(stack.view(image.array), stack, window, lambda: None):
        walked[place] = settled
    return stack.restore(fused > 0), stack.restore(walked > 0)


def main(
    patients: Annotated[int, typer.Option()] = 2,
    skip: int = 20,
    seconds: float = 60.0,
    backbone: str = DEFAULT_BACKBONE,
    counts: Annotated[str, typer.Option("--drawn", help="Numbers of drawn slices.")] = "3,5",
) -> None:
    keep_freed_memory()
    asked, network = command.numbers(counts), load_backbone(find_backbone(backbone))
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, image, label_map in scans("train", patients, skip):
        for (organ, label), count in product(classes().items(), asked):
            part, truth = around(image, label_map.array == label, 3)
            labels, slices = draw_slices(truth, count)
            annotation = Annotation.from_label_map(part.with_array(labels), 1, axis=0)
            token = tune([DrawnScan(part, annotation)], organ, network, TuningOptions(seconds=seconds))
            (probability,) = Segmenter(network, [token]).segment(part, probabilities=True).probabilities
            logits = special.logit(np.clip(probability.array, 1e-6, 1 - 1e-6))
            drawing = Drawn(part.with_array(labels), {1: (0, annotation.drawn)})
            fused, walked = (undrawn_dsc(mask, truth, slices) for mask in masks(logits, part, drawing))
            scores["network alone", ""].append(undrawn_dsc(logits > 0, truth, slices))
            scores["without the walk", ""].append(fused)
            scores["as it is", ""].append(walked)
            for (module, constant), values in CONSTANTS.items():
                for value in values:
                    with changed(module, constant, value):
                        scores[constant, str(value)].append(undrawn_dsc(masks(logits, part, drawing)[1], truth, slices))
            print(f"{name} {organ} {count}: without the walk {fused:.3f}, with it {walked:.3f}", flush=True)
    table = Table("constant", "value", "DSC")
    for (constant, value), found in scores.items():
        table.add_row(constant, value, f"{np.mean(found):.4f}")
    Console().print(table)


if __name__ == "__main__":
    command.run(main)
