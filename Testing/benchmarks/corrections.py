"""Corrections: a user draws the worst slice, looks again, and so on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.comparing import MARGIN, Comparison, Lesson, find, ours_of, record
from Testing.benchmarks.data import Case, around, cases
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.promptseg import Tuned
from Testing.benchmarks.results import Key, Results
from Testing.benchmarks.scoring import score


def compare(comparison: Comparison, results: Results, patients: int, first: int, rounds: int) -> None:
    """Add the results that are missing: scores of the whole structure, with ``first`` slices drawn before any of the
    ``rounds`` corrections.

    Drawn slices count here, as right, since each method gets other ones: it is what the user has in the end.
    """
    for case in cases(patients, comparison.organs):
        for seed in comparison.seeds:
            methods, setup = comparison.of_seed(seed)
            for method in methods:
                _correct(case, method, setup, results, first, rounds)


def _correct(case: Case, method: Method, setup: Setup, results: Results, first: int, rounds: int) -> None:
    """All rounds, anew where one is missing: each goes on from the one before."""
    keys: list[Key] = [(case.source, case.organ, first, method.key, setup.seed, n) for n in range(rounds + 1)]
    if all(results.get(key) is not None for key in keys):
        return
    part, truth = around(case.image, case.truth, MARGIN)
    drawn = set(draw_slices(truth, first)[1])
    setup = replace(setup, features=ScanFeatures())
    for key in keys:
        annotation = draw(part, truth, drawn)
        learned, learning = Lesson([DrawnScan(part, annotation)], setup, ours_of(results, key)).learn(method)
        found, finding = find(method, learned, part, annotation)
        worst = worst_slice(wrong_pixels(found, truth), drawn)
        record(results, key, score(found, truth, part.geometry.spacing), learning, finding, worst)
        # Where nothing is wrong any more, the user just looks again.
        drawn |= {worst} - {-1}
        if isinstance(learned, Tuned):
            setup = replace(setup, before=learned.token)


def wrong_pixels(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Per slice."""
    return np.count_nonzero(found ^ truth, axis=(1, 2))


def worst_slice(wrong: np.ndarray, drawn: Collection[int]) -> int:
    """The undrawn slice with the most wrong pixels, -1 where there are none."""
    undrawn = wrong.copy()
    undrawn[list(drawn)] = 0
    return int(undrawn.argmax()) if undrawn.any() else -1


def draw(part: Volume, truth: np.ndarray, drawn: Collection[int]) -> Annotation:
    """These slices of the truth, some of which may be empty: what is not drawn has to be marked as unknown."""
    drawing = np.full(truth.shape, UNKNOWN, dtype=np.uint8)
    drawing[list(drawn)] = truth[list(drawn)]
    return Annotation.from_label_map(part.with_array(drawing), 1, axis=0)
