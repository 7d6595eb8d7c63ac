"""What all comparisons share: which methods, what is asked of them, and one drawing from which all of them learn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.telling import told_by_results
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.measuring import Cost, measured
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.promptseg import PROMPTSEG, Tuned, tune_token
from Testing.benchmarks.results import Key, Result, Results
from Testing.benchmarks.scoring import Score
from Testing.support import drawn_scan

MARGIN = 3
"""Slices beyond either end of the structure that a method has to leave empty."""


@dataclass(frozen=True)
class Comparison:
    """methods: what is compared; setup: with the seed still open; seeds: how often whatever depends on chance runs;
    organs: only these, all for none; ours: whose time the others get."""

    methods: Sequence[Method]
    setup: Setup
    seeds: Sequence[int]
    organs: Collection[str] = ()
    ours: Method = PROMPTSEG

    def of_seed(self, seed: int) -> tuple[list[Method], Setup]:
        """Methods that need to run with this seed, ours first: the others learn as long as it takes."""
        methods = [method for method in self.methods if method.seeded or seed == self.seeds[0]]
        methods.sort(key=lambda method: method.learn is not tune_token)
        return methods, replace(self.setup, options=replace(self.setup.options, seed=seed))


class Lesson:
    """One drawing, from which any method learns.

    ours: how many seconds our token took on the same drawing in an earlier run, if it did; across: whether the
    structure is to be found in other scans.
    """

    def __init__(self, scans: Sequence[DrawnScan], setup: Setup, ours: Result | None = None, *, across: bool = False):
        self.scans, self.setup, self._earlier, self._across = scans, setup, ours, across

    @cached_property
    def _token(self) -> tuple[Any, Cost]:
        return self._learned(tune_token, self.setup)

    def learn(self, method: Method) -> tuple[Any, Cost]:
        if method.learn is tune_token:
            return self._token
        setup = self.setup
        if method.timed:
            seconds = self._token[1].seconds if self._earlier is None else self._earlier.learning_seconds
            setup = replace(setup, seconds=seconds * setup.times)
        return self._learned(method.learn, setup)

    def _learned(self, learn: Callable[[Sequence[DrawnScan], Setup], Any], setup: Setup) -> tuple[Any, Cost]:
        return measured(lambda: self._told(learn(self.scans, setup)))

    def _told(self, learned: Any) -> Any:
        """As the product's commands do for a token that is to be used on other scans."""
        if not self._across or not isinstance(learned, Tuned):
            return learned
        return replace(learned, token=told_by_results(learned.token, self.scans, learned.backbone))


def find(method: Method, learned: Any, image: Volume, annotation: Annotation | None) -> tuple[np.ndarray, Cost]:
    return measured(lambda: method.find(learned, image, annotation))


def ours_of(results: Results, key: Key, ours: Method = PROMPTSEG) -> Result | None:
    """What PromptSeg reached where another method now does."""
    source, organ, drawn, _, seed, correction = key
    return results.get((source, organ, drawn, ours.key, seed, correction))


def warm_up(methods: Sequence[Method], setup: Setup) -> None:
    """Run everything once on next to nothing: libraries are imported and set up before anything is measured."""
    scan = drawn_scan()
    small = replace(setup, options=replace(setup.options, steps=1, probe_steps=1), seconds=0.1)
    for method in methods:
        method.find(method.learn([scan], small), scan.image, scan.annotation)


def record(results: Results, key: Key, reached: Score, learning: Cost, finding: Cost, worst: int = -1) -> Result:
    cost = learning + finding
    result = Result(*key, reached.dsc, reached.surface_dsc, cost.seconds, learning.seconds, cost.megabytes, worst)
    results.add(result)
    print(
        f"{result.source} {result.organ}, {result.drawn} drawn, seed {result.seed}, round {result.round}, "
        f"{result.method}: DSC {result.dsc:.3f}, surface DSC {result.surface_dsc:.3f}, {result.seconds:.1f} s, "
        f"{result.megabytes:.0f} MB",
        file=sys.stderr,
        flush=True,
    )
    return result
