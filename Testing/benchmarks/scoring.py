"""How good a mask is where nothing was drawn."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

# What `evaluate` compares as a whole; here it is wanted slice by slice.
from PromptSegLib.inference.evaluation import _surface

TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class Score:
    """Both in [0, 1]; surface_dsc: with a tolerance of 2 mm."""

    dsc: float
    surface_dsc: float


def score(
    found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], drawn: Collection[int] = ()
) -> Score:
    """Compare two masks, bool (slices, rows, columns) with ``spacing`` in mm, but on the slices ``drawn``.

    Where slices were drawn, the surface DSC compares the outlines on each of the others: between slices, what was drawn
    would be so near that even an empty result had half of the surface right.
    """
    undrawn = [index for index in range(len(truth)) if index not in drawn]
    overlap = int(np.count_nonzero((found & truth)[undrawn]))
    total = int(np.count_nonzero(found[undrawn])) + int(np.count_nonzero(truth[undrawn]))
    if drawn:
        pairs = [(_outline(found[i], spacing), _outline(truth[i], spacing)) for i in undrawn]
    else:
        box = _box(found | truth)
        pairs = [(_surface(found[box], spacing), _surface(truth[box], spacing))]
    return Score(2 * overlap / max(1, total), _agreement(pairs))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """The mean precision over all recalls as the threshold falls; voxels of equal scores come together. 0 without any
    truth.

    scores: numbers; truth: bool, of the same shape.
    """
    order = np.argsort(-scores, axis=None)
    falling, right = scores.ravel()[order], np.cumsum(truth.ravel()[order])
    if not truth.any():
        return 0.0
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    precision, recall = right[last] / (last + 1), right[last] / right[-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))


Surface = tuple[np.ndarray, np.ndarray]
"""Positions (n, 3) in mm and areas (n,) in mm²."""


def _outline(plane: np.ndarray, spacing: tuple[float, float, float]) -> Surface:
    """The side walls of a slice (rows, columns): what lies between it and a copy of itself."""
    if not plane.any():
        return np.empty((0, 3)), np.empty(0)
    points, areas = _surface(np.stack([plane, plane]), spacing)
    walls = np.isclose(points[:, 0], spacing[0])
    return points[walls], areas[walls]


def _agreement(pairs: Collection[tuple[Surface, Surface]]) -> float:
    """Which part of the surfaces, by area, is no farther than the tolerance from the other one of its pair."""
    near = total = 0.0
    for pair in pairs:
        for (points, areas), (others, _) in (pair, pair[::-1]):
            total += float(areas.sum())
            if len(points) and len(others):
                near += float(areas[KDTree(others).query(points)[0] <= TOLERANCE_MM].sum())
    return near / total if total else 0.0


def _box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    if not mask.any():
        return slice(0, 1), slice(0, 1), slice(0, 1)
    spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return first, second, third
