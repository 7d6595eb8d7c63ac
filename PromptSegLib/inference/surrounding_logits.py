"""What lies around the drawn voxels of a scan tells where its other voxels belong: for this very scan alone.

In the patient who was drawn, the same neighbors lie on the same sides from slice to slice. A ridge regression on random
features (A. Rahimi, B. Recht, "Random features for large-scale kernel machines", NIPS 2007; here rectified linear ones)
of what is around a voxel learns that in a moment. In other patients they lie elsewhere, so no token keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from scipy import special

from PromptSegLib.imaging.surroundings import Surroundings
from PromptSegLib.imaging.volume import SliceStack, Volume
from PromptSegLib.imaging.window import AIR, Window
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.neighborhood import Place
from PromptSegLib.inference.predictor import NO_BODY

SHARE = 0.5
"""Of a logit, beside the network's."""

_FEATURES = 1000
_SHRINKING = 0.1
"""Of ridge regression on features of unit variance."""

_VOXELS = 2000
"""Of each kind (inside, near, elsewhere), from all drawn slices together."""

_NEAR_MM = 50.0
"""In the plane."""

_FEWEST_SLICES = 2
"""That show the structure: what is learned from one is tried on another."""

_MOST_PARTS = 5
"""Into which the drawn slices are dealt, neighbors together; each is judged by what the others teach."""

_FLATTEST, _STEEPEST = 1.0, 20.0
"""Of the logits over the scores, whose targets are -1 and 1. Flatter ones tell nothing of slices that were left out:
then nothing is said at all."""

_SUREST = 6.0
"""The most that is said for or against a voxel: a sure network, or the drawn shape, may overrule it."""

_NEWTON_STEPS, _LONGEST_STEP = 30, 5.0
_MOST_DEVIATIONS = 3.0
_LEAST_DEVIATION = 1e-4
_AT_ONCE = 20_000
_MOST_NODES = 100_000
"""Of a large box, not every cell is asked: three seconds are enough."""


@dataclass(frozen=True)
class _Known:
    """Some voxels of the drawn slices. points: (n, 3) indices of the stack; inside: bool (n,); part: (n,) in which
    part of the slices they lie."""

    points: np.ndarray
    inside: np.ndarray
    part: np.ndarray


class SurroundingLogits:
    """What the surroundings say of the voxels of a box of a stack.

    Args:
        place: the box.
        nodes: float32, logits at the nodes of a coarse grid around it.
        weights: for each axis, how much each node (columns) counts for each slice, row or column (rows) of the box.
    """

    def __init__(self, place: Place, nodes: np.ndarray, weights: tuple[np.ndarray, np.ndarray, np.ndarray]):
        self._place, self._nodes, self._weights = place, nodes, weights

    @classmethod
    def of(
        cls,
        image: Volume,
        stack: SliceStack,
        window: Window,
        drawn: Drawn,
        label: int,
        place: Place,
        check: Callable[[], None] = lambda: None,
    ) -> SurroundingLogits | None:
        """For a box ``place`` around what was drawn with ``label``; None if fewer than two slices of the stack show it
        and what is beside it, or what they teach tells nothing of each other.

        check: called often, and may raise to end it.
        """
        known = _some_known(image, stack, window, drawn, label, check)
        if known is None:
            return None
        surroundings = Surroundings.of(image, stack, window)
        check()
        axes = list(_axes(surroundings, place))
        apart = next(step for step in count(1) if _nodes(axes, step) <= _MOST_NODES)
        cells = surroundings.cells(known.points)
        # Only nodes are asked: of a structure that is too thin for them, what is learned may be right and of no use.
        nearest = np.rint(cells / apart) * apart
        model = _Model.of(surroundings.around(cells), surroundings.around(nearest), known)
        if model is None:
            return None
        check()
        starts, weights = zip(*(_between(*axis, apart) for axis in axes), strict=True)
        shape = tuple(weight.shape[1] for weight in weights)
        nodes = (np.indices(shape).reshape(3, -1).T + np.array(starts)) * float(apart)
        nodes = np.minimum(nodes, np.array(surroundings.shape) - 1)
        parts = []
        for first in range(0, len(nodes), _AT_ONCE):
            check()
            parts.append(model.logits(surroundings.around(nodes[first : first + _AT_ONCE])))
        said = _SUREST * np.tanh(np.concatenate(parts).reshape(shape) / _SUREST)
        return cls(place, said.astype(np.float32), weights)

    def beside(self, logits: np.ndarray, part: slice) -> np.ndarray:
        """The network's logits (n, rows, columns) of the slices ``part`` of the stack, with what the surroundings say
        beside them; where there is no body, and outside of the box, as they are."""
        slices, rows, columns = self._place
        first, last = max(part.start, slices.start), min(part.stop, slices.stop)
        if first >= last:
            return logits
        across, down, along = self._weights
        nodes = np.tensordot(across[first - slices.start : last - slices.start], self._nodes, 1)
        said = np.matmul(np.matmul(down, nodes), along.T)
        mixed = logits.copy()
        box = mixed[first - part.start : last - part.start, rows, columns]
        np.copyto(box, (1 - SHARE) * box + SHARE * said, where=box > NO_BODY + 1)
        return mixed


@dataclass(frozen=True)
class _Model:
    """A logit that is linear in random features of inputs, which are standardized first."""

    features: _Features
    direction: np.ndarray
    offset: float

    @classmethod
    def of(cls, inputs: np.ndarray, judged: np.ndarray, known: _Known) -> _Model | None:
        """A ridge regression in closed form to -1 and 1, in which structure and background weigh the same; scaled by
        how it does on parts of the drawing that it was not learned from, and None if it does not do well there.

        inputs: (n, what is told of each) at the known voxels; judged: likewise, where it will be asked for them.
        """
        random = _Features.of(inputs)
        learned = random(inputs)
        mean, deviation = _moments(learned)
        learned = (learned - mean) / deviation
        sums = [_Sums.of(learned[known.part == k], known.inside[known.part == k]) for k in range(_MOST_PARTS)]
        scores, truth = [], []
        for left_out in range(_MOST_PARTS):
            others = _Sums.together([one for k, one in enumerate(sums) if k != left_out])
            these = known.part == left_out
            if these.any() and others.counts.all():
                direction, offset = others.solution()
                scores.append((random(judged[these]) - mean) / deviation @ direction + offset)
                truth.append(known.inside[these])
        calibration = _calibration(np.concatenate(scores), np.concatenate(truth))
        if calibration is None:
            return None
        scale, shift = calibration
        direction, offset = _Sums.together(sums).solution()
        steered = scale * direction / deviation
        return cls(random, steered, scale * offset + shift - float(mean @ steered))

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.features(inputs) @ self.direction + np.float32(self.offset)
        return found


@dataclass(frozen=True)
class _Features:
    mean: np.ndarray
    deviation: np.ndarray
    mixing: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, inputs: np.ndarray) -> _Features:
        chance = np.random.default_rng(0)
        mixing = chance.normal(size=(inputs.shape[1], _FEATURES)).astype(np.float32) / np.float32(
            inputs.shape[1] ** 0.5
        )
        return cls(*_moments(inputs), mixing, chance.normal(size=_FEATURES).astype(np.float32) / 2)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """(n, _FEATURES) of inputs (n, what is told of each)."""
        deviations = np.clip((inputs - self.mean) / self.deviation, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        features: np.ndarray = np.maximum(deviations @ self.mixing + self.bias, 0)
        return features


class _Sums(NamedTuple):
    """Over voxels outside (0) and inside (1): products of features (2, F, F), features (2, F), and how many (2,)."""

    products: np.ndarray
    features: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, inside: np.ndarray) -> _Sums:
        kinds = [features[~inside], features[inside]]
        return cls(
            np.stack([kind.T @ kind for kind in kinds]),
            np.stack([kind.sum(axis=0) for kind in kinds]),
            np.array([len(kind) for kind in kinds]),
        )

    @classmethod
    def together(cls, parts: list[_Sums]) -> _Sums:
        return cls(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))

    def solution(self) -> tuple[np.ndarray, float]:
        """Direction (F,) and offset of the regression.

        Features are taken about their mean over these very voxels: one that never changes here says nothing then,
        whatever it does elsewhere.
        """
        outside, inside = (feature / count for feature, count in zip(self.features, self.counts, strict=True))
        mean = (outside + inside) / 2
        matrix = (self.products[0] / self.counts[0] + self.products[1] / self.counts[1]) / 2 - np.outer(mean, mean)
        direction = np.linalg.solve(matrix + _SHRINKING * np.eye(len(matrix)), (inside - outside) / 2)
        return direction.astype(np.float32), -float(mean @ direction)


def _calibration(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float] | None:
    """Scale and shift that make logits of scores (n,), by logistic regression (Newton's method); None if they tell
    nothing. Where they tell all, the scale is the steepest, and the threshold stays."""
    inputs = np.column_stack([scores, np.ones(len(scores))])
    numbers = np.zeros(2)
    # As if one voxel more were asked for, of which nothing is known: without it, there is no steepest.
    doubt = np.diag([1.0, 0.0]) / _STEEPEST**2
    for _ in range(_NEWTON_STEPS):
        likely = special.expit(inputs @ numbers)
        gradient = inputs.T @ (likely - truth) + doubt @ numbers
        curvature = (inputs * (likely * (1 - likely) + 1e-6)[:, None]).T @ inputs + doubt
        step = np.linalg.solve(curvature, gradient)
        numbers -= step * min(1.0, _LONGEST_STEP / float(np.abs(step).max() + 1e-12))
    scale, shift = float(numbers[0]), float(numbers[1])
    if not scale > _FLATTEST:
        return None
    kept = min(scale, _STEEPEST)
    return kept, shift * kept / scale


def _some_known(
    image: Volume, stack: SliceStack, window: Window, drawn: Drawn, label: int, check: Callable[[], None]
) -> _Known | None:
    labels, voxels = stack.view(drawn.labels.array), stack.view(image.array)
    axis, whole = drawn.slices.get(label, (stack.axis, frozenset()))
    showing = [index for index, plane in enumerate(labels) if (plane == label).any()]
    if axis != stack.axis or len(showing) < _FEWEST_SLICES:
        return None
    empty = sorted(set(whole) - set(showing))
    chance = np.random.default_rng(0)
    near = _near([labels[index] == label for index in showing], stack)
    painted = np.concatenate([window.apply(voxels[index][labels[index] == label]) for index in showing])
    with_air = bool((painted <= AIR).mean() > 0.5)
    per_kind = max(1, _VOXELS // (len(showing) + len(empty)))
    points, inside, parts = [], [], []
    for indices in (showing, empty):
        for rank, index in enumerate(indices):
            check()
            of_label = labels[index] == label
            outside = drawn.known(label, stack, (slice(index, index + 1), slice(None), slice(None)))[0] & ~of_label
            if not with_air:
                outside &= window.apply(voxels[index]) > AIR
            for mask in (of_label, outside & near, outside & ~near):
                pixels = np.argwhere(mask)
                pixels = pixels[chance.permutation(len(pixels))[:per_kind]]
                points.append(np.column_stack([np.full(len(pixels), index), pixels]))
                inside.append(of_label[tuple(pixels.T)])
                parts.append(np.full(len(pixels), rank * min(_MOST_PARTS, len(indices)) // len(indices)))
    known = _Known(np.concatenate(points), np.concatenate(inside), np.concatenate(parts))
    of_parts = [known.inside[known.part == part] for part in range(_MOST_PARTS)]
    shown = sum(bool(part.any()) for part in of_parts)
    beside = sum(bool((~part).any()) for part in of_parts)
    return known if min(shown, beside) >= _FEWEST_SLICES else None


def _near(shown: list[np.ndarray], stack: SliceStack) -> np.ndarray:
    """bool (rows, columns): the rectangle around what was drawn on any slice, and _NEAR_MM beyond."""
    flat = np.any(shown, axis=0)
    near: np.ndarray = np.zeros_like(flat)
    edges = []
    for other, mm in ((1, stack.spacing[1]), (0, stack.spacing[2])):
        found, beyond = np.flatnonzero(flat.any(axis=other)), round(_NEAR_MM / mm)
        edges.append(slice(max(0, int(found[0]) - beyond), int(found[-1]) + beyond + 1))
    near[tuple(edges)] = True
    return near


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (F,) of values (n, F)."""
    return values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_DEVIATION)


def _axes(surroundings: Surroundings, place: Place) -> Iterator[tuple[np.ndarray, int]]:
    """For each axis, where the slices, rows or columns of the box lie among the cells, and how many cells there are."""
    for box, first, cell, cells in zip(place, surroundings.first, surroundings.cell, surroundings.shape, strict=True):
        yield (np.arange(box.start, box.stop) - first) / cell, cells


def _nodes(axes: list[tuple[np.ndarray, int]], apart: int) -> int:
    """How many nodes are needed, if there is one on every so many cells."""
    return math.prod(math.ceil((places[-1] - places[0]) / apart) + 2 for places, _ in axes)


def _between(places: np.ndarray, cells: int, apart: int) -> tuple[int, np.ndarray]:
    """The first of the nodes that are needed, and how much each (columns) counts for each place (rows): linear."""
    inside = np.clip(places, 0, cells - 1) / apart
    lower = np.floor(inside).astype(int)
    start = int(lower[0])
    weights = np.zeros((len(places), int(lower[-1]) + 2 - start), dtype=np.float32)
    row, share = np.arange(len(places)), (inside - lower).astype(np.float32)
    weights[row, lower - start] = 1 - share
    weights[row, lower + 1 - start] = share
    return start, weights
