"""Corrections of what a token of other scans found: a user draws the worst slice, looks again, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks import across
from Testing.benchmarks.comparing import Comparison, Lesson, find, record
from Testing.benchmarks.corrections import draw, worst_slice, wrong_pixels
from Testing.benchmarks.data import classes, scans
from Testing.benchmarks.measuring import Cost
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.promptseg import PROMPTSEG, Tuned
from Testing.benchmarks.results import Key, Results
from Testing.benchmarks.scoring import score


def compare(comparison: Comparison, results: Results, patients: int, drawn_scans: Sequence[int], rounds: int) -> None:
    """Add the results that are missing: scores of what a token of wholly drawn scans finds in other patients, before
    any of the ``rounds`` corrections and after each; corrected slices count, as right."""
    others = list(scans("validation", patients))
    for seed in comparison.seeds:
        methods, setup = comparison.of_seed(seed)
        sources = list(scans("train", max(drawn_scans), skip=seed * across.APART))
        for organ, label in classes().items():
            if comparison.organs and organ not in comparison.organs:
                continue
            drawings = [DrawnScan(image, across.draw(labels, label, False)) for _, image, labels in sources]
            for count in drawn_scans:
                lesson = Lesson(drawings[:count], setup, across=True)
                for method in methods:
                    for name, image, labels in others:
                        keys: list[Key] = [(name, organ, count, method.key, seed, n) for n in range(rounds + 1)]
                        if any(results.get(key) is None for key in keys):
                            start = _Start(*lesson.learn(PROMPTSEG), setup)
                            _correct(start, method, image, labels.array == label, keys, results)


@dataclass(frozen=True)
class _Start:
    """The token of other scans, what it cost, and the setup in which it is corrected."""

    tuned: Tuned
    cost: Cost
    setup: Setup


def _correct(
    start: _Start, method: Method, image: Volume, truth: np.ndarray, keys: Sequence[Key], results: Results
) -> None:
    """All rounds: each goes on from the one before."""
    features = ScanFeatures()
    tuned, learning, annotation = replace(start.tuned, features=features), start.cost, None
    drawn = set[int]()
    for key in keys:
        if drawn:
            annotation = draw(image, truth, drawn)
            setup = replace(start.setup, before=tuned.token, features=features)
            tuned, learning = Lesson([DrawnScan(image, annotation)], setup).learn(method)
        found, finding = find(method, tuned, image, annotation)
        wrong = wrong_pixels(found, truth)
        if not drawn:
            # Nothing can be learned from a drawing without any of the structure.
            wrong[~truth.any(axis=(1, 2))] = 0
        worst = worst_slice(wrong, drawn)
        record(results, key, score(found, truth, image.geometry.spacing), learning, finding, worst)
        drawn |= {worst} - {-1}
    features.clear()
