"""Suggestions: a user draws the slice that is named, looks again, and so on; strategies differ in what they name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import special

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import window_for
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.evidence import DrawingEvidence
from PromptSegLib.inference.merging import UNDECIDED
from PromptSegLib.inference.neighborhood import Neighborhood
from PromptSegLib.inference.suggestion import suggest_slice
from Testing.benchmarks.comparing import MARGIN, Comparison, record
from Testing.benchmarks.corrections import draw, worst_slice, wrong_pixels
from Testing.benchmarks.data import Case, around, cases
from Testing.benchmarks.ensemble import MEMBERS, EncodedScan
from Testing.benchmarks.measuring import Cost, measured
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.promptseg import as_guide
from Testing.benchmarks.results import Key, Result, Results
from Testing.benchmarks.scoring import Score, score


@dataclass(frozen=True)
class Look:
    """What there is to go by when a result is looked at.

    drawn: slices; doubt: per slice, how many pixels the segmentation left undecided; wrong: per slice, how many are
    wrong, which no user knows; ensemble_doubt: learns more tokens for its own doubt.
    """

    drawn: Collection[int]
    spacing_mm: float
    doubt: np.ndarray
    wrong: np.ndarray
    ensemble_doubt: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Strategy:
    """suggest: names the slice to draw next, -1 for none."""

    key: str
    name: str
    suggest: Callable[[Look, np.random.Generator], int]


def most_doubtful(look: Look, doubt: np.ndarray) -> int:
    """By the rule of the product."""
    found = suggest_slice(look.drawn, len(doubt), look.spacing_mm, doubt)
    return -1 if found is None else found[0]


def middle_of_the_widest_gap(look: Look) -> int:
    """The ends of the part count as bounds."""
    first, after = max(pairwise(sorted({-1, *look.drawn, len(look.doubt)})), key=lambda gap: gap[1] - gap[0])
    return first + (after - first) // 2 if after - first > 1 else -1


def any_undrawn(look: Look, rng: np.random.Generator) -> int:
    undrawn = [index for index in range(len(look.doubt)) if index not in look.drawn]
    return int(rng.choice(undrawn)) if undrawn else -1


STRATEGIES = (
    Strategy("suggested", "PromptSeg's suggestion", lambda look, rng: most_doubtful(look, look.doubt)),
    Strategy("ensemble", f"doubt of {MEMBERS} tokens", lambda look, rng: most_doubtful(look, look.ensemble_doubt())),
    Strategy("widest-gap", "middle of the widest gap", lambda look, rng: middle_of_the_widest_gap(look)),
    Strategy("random", "any slice", any_undrawn),
    Strategy("worst", "the most wrong slice (oracle)", lambda look, rng: worst_slice(look.wrong, look.drawn)),
)

NAMES = {strategy.key: strategy.name for strategy in STRATEGIES}


def undecided(probability: np.ndarray, image: Volume, drawn: Drawn | None, axis: int) -> np.ndarray:
    """Per slice along an axis, how many pixels are undecided, counted as a segmentation counts them.

    probability: the network's (slices, rows, columns), as stored; drawn: of label 1 on this image.
    """
    stack = slice_stack(image, axis)
    logits = special.logit(stack.view(probability))
    if drawn is not None:
        logits = heard(logits, image, drawn, stack)
    return np.count_nonzero(abs(logits) < UNDECIDED, axis=(1, 2))


def heard(logits: np.ndarray, image: Volume, drawn: Drawn, stack: SliceStack) -> np.ndarray:
    """The network's logits (slices, rows, columns) of a stack, with what the surroundings and the shape of the drawing
    of label 1 say, before any random walk."""
    around = Neighborhood.of(drawn, 1, stack)
    if around is None:
        return logits
    evidence = DrawingEvidence(image, stack, window_for(image.array), drawn, 1, around.place)
    return evidence.beside(logits, slice(0, len(logits)))


def compare(
    comparison: Comparison, results: Results, strategies: Sequence[Strategy], patients: int, first: int, rounds: int
) -> None:
    """Add the results that are missing: scores of the whole structure, with ``first`` slices drawn before any of the
    ``rounds`` slices that a strategy names. All seconds but those that naming takes are PromptSeg's.
    """
    for case in cases(patients, comparison.organs):
        for seed in comparison.seeds:
            _, setup = comparison.of_seed(seed)
            rounds_of_case = _Rounds(case, setup)
            drawn = frozenset(draw_slices(rounds_of_case.truth, first)[1])
            for strategy in strategies:
                _follow(strategy, case, drawn, rounds_of_case, results, first, rounds)


@dataclass(frozen=True)
class _Round:
    look: Look
    score: Score
    learning: Cost
    finding: Cost


class _Rounds:
    """What PromptSeg makes of any drawing of one structure, once, whatever strategies led to it."""

    def __init__(self, case: Case, setup: Setup):
        part, self.truth = around(case.image, case.truth, MARGIN)
        self.seed = setup.seed
        self._scan = EncodedScan(part, setup)
        self._known: dict[frozenset[int], _Round] = {}

    def of(self, drawn: frozenset[int]) -> _Round:
        if drawn not in self._known:
            self._known[drawn] = self._learn_and_find(drawn)
        return self._known[drawn]

    def _learn_and_find(self, drawn: frozenset[int]) -> _Round:
        image = self._scan.image
        annotation = draw(image, self.truth, drawn)
        token, learning = measured(lambda: self._scan.tune(annotation))
        segmentation, finding = measured(lambda: self._scan.segment(token, as_guide(annotation)))
        found = segmentation.labels.array == 1
        (probability,), (doubt,) = segmentation.probabilities, segmentation.doubts
        look = Look(
            drawn,
            image.geometry.spacing[0],
            doubt,
            wrong_pixels(found, self.truth),
            lambda: self._ensemble_doubt(annotation, probability.array),
        )
        return _Round(look, score(found, self.truth, image.geometry.spacing), learning, finding)

    def _ensemble_doubt(self, annotation: Annotation, first: np.ndarray) -> np.ndarray:
        mean = self._scan.mean_probability(annotation, first)
        return undecided(mean, self._scan.image, as_guide(annotation), annotation.axis)


def _follow(
    strategy: Strategy,
    case: Case,
    drawn: frozenset[int],
    rounds_of_case: _Rounds,
    results: Results,
    first: int,
    rounds: int,
) -> None:
    for correction in range(rounds + 1):
        key: Key = (case.source, case.organ, first, strategy.key, rounds_of_case.seed, correction)
        result = results.get(key) or _look(strategy, key, rounds_of_case.of(drawn), results)
        # Where no slice is named any more, the user just looks again.
        drawn |= {result.worst} - {-1}


def _look(strategy: Strategy, key: Key, now: _Round, results: Results) -> Result:
    source, organ, _, _, seed, correction = key
    rng = np.random.default_rng([seed, correction, *f"{source} {organ}".encode()])
    index, naming = measured(lambda: strategy.suggest(now.look, rng))
    return record(results, key, now.score, now.learning, now.finding + naming, index)
