"""Across scans: a structure is drawn in some scans and has to be found in other patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.comparing import Comparison, Lesson, find, ours_of, record
from Testing.benchmarks.data import classes, scans
from Testing.benchmarks.methods.method import Method
from Testing.benchmarks.results import Key, Results
from Testing.benchmarks.scoring import score

SPARSE_SLICES = 5

APART = 10
"""Scans of one seed, so of up to ten drawn ones all are others than those of another seed."""

Scan = tuple[str, Volume, Volume]


def compare(comparison: Comparison, results: Results, patients: int, drawn_scans: Sequence[int], sparse: bool) -> None:
    """Add the results that are missing: scores on whole scans of other patients. Every seed draws in scans that begin
    `APART` further on.

    sparse: only `SPARSE_SLICES` slices are drawn in each scan instead of all.
    """
    others = list(scans("validation", patients))
    for seed in comparison.seeds:
        sources = list(scans("train", max(drawn_scans), skip=seed * APART))
        for organ, label in classes().items():
            if comparison.organs and organ not in comparison.organs:
                continue
            drawings = [DrawnScan(image, draw(labels, label, sparse)) for _, image, labels in sources]
            for count in drawn_scans:
                learn_and_find(drawings[:count], others, organ, label, seed, comparison, results)


def learn_and_find(
    drawings: Sequence[DrawnScan],
    others: Sequence[Scan],
    organ: str,
    label: int,
    seed: int,
    comparison: Comparison,
    results: Results,
) -> None:
    """Add the results that are missing of one organ, learned from these drawings."""
    methods, setup = comparison.of_seed(seed)

    def key(method: Method, source: str) -> Key:
        return (source, organ, len(drawings), method.key, seed, 0)

    earlier = (ours_of(results, key(methods[0], name), comparison.ours) for name, _, _ in others)
    lesson = Lesson(drawings, setup, next((result for result in earlier if result is not None), None), across=True)
    for method in methods:
        missing = [other for other in others if results.get(key(method, other[0])) is None]
        if not missing:
            continue
        learned, learning = lesson.learn(method)
        for name, image, labels in missing:
            found, finding = find(method, learned, image, None)
            reached = score(found, labels.array == label, image.geometry.spacing)
            record(results, key(method, name), reached, learning, finding)


def draw(labels: Volume, label: int, sparse: bool) -> Annotation:
    """The organ alone: other organs' borders are not given away."""
    truth = labels.array == label
    drawing = draw_slices(truth, SPARSE_SLICES)[0] if sparse else truth.astype(np.uint8)
    return Annotation.from_label_map(labels.with_array(drawing), 1, complete=not sparse, axis=0)
