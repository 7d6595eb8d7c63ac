"""Inside of the drawn scan: a few slices are drawn, the others have to be found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.comparing import MARGIN, Comparison, Lesson, find, ours_of, record
from Testing.benchmarks.data import Case, around, cases
from Testing.benchmarks.methods.method import Method
from Testing.benchmarks.results import Key, Results
from Testing.benchmarks.scoring import score


def compare(comparison: Comparison, results: Results, patients: int, drawn: Sequence[int], trunk: bool) -> None:
    """Add the results that are missing: scores of the undrawn slices of the organ and 3 beyond either end."""
    for case in cases(patients, comparison.organs, trunk):
        for count in drawn:
            for seed in comparison.seeds:
                _run(case, count, seed, comparison, results)


def _run(case: Case, count: int, seed: int, comparison: Comparison, results: Results) -> None:
    methods, setup = comparison.of_seed(seed)
    keys: dict[Method, Key] = {m: (case.source, case.organ, count, m.key, seed, 0) for m in methods}
    methods = [method for method in methods if results.get(keys[method]) is None]
    drawn = draw(case, count) if methods else None
    if drawn is None:
        return
    scan, truth, slices = drawn
    lesson = Lesson([scan], setup, ours_of(results, keys[methods[0]]))
    for method in methods:
        learned, learning = lesson.learn(method)
        found, finding = find(method, learned, scan.image, scan.annotation)
        reached = score(found, truth, scan.image.geometry.spacing, slices)
        record(results, keys[method], reached, learning, finding)


def draw(case: Case, count: int) -> tuple[DrawnScan, np.ndarray, list[int]] | None:
    """The slices of the structure and `MARGIN` beyond either end with ``count`` of them drawn, the truth (bool) there,
    and which these are; None where too few slices show the structure."""
    part, truth = around(case.image, case.truth, MARGIN)
    drawing, slices = draw_slices(truth, count)
    if len(set(slices)) < count or not np.delete(truth, slices, axis=0).any():
        return None
    return DrawnScan(part, Annotation.from_label_map(part.with_array(drawing), 1, axis=0)), truth, slices
