"""How good a mask is where nothing was drawn."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

# The surface with its areas, which `evaluate` compares as a whole; here drawn slices must not count.
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

    Of the surfaces, what lies between two drawn slices does not count.
    """
    given = np.zeros(len(truth), dtype=bool)
    given[list(drawn)] = True
    found = np.where(given[:, None, None], truth, found)
    overlap = np.count_nonzero((found & truth)[~given])
    total = np.count_nonzero(found[~given]) + np.count_nonzero(truth[~given])
    return Score(2 * overlap / max(1, total), _surface_dsc(found, truth, spacing, given))


def _surface_dsc(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], given: np.ndarray) -> float:
    if not (found.any() and truth.any()):
        return 0.0
    box = _box(found | truth)
    surfaces = [_surface(mask[box], spacing) for mask in (found, truth)]
    # Element i lies between slices i - 1 and i of the box; what lies beyond the scan was not drawn wrong.
    edges = np.concatenate([[True], given, [True]])
    between = edges[box[0].start :][:-1] & edges[box[0].start :][1:]
    near = total = 0.0
    for (points, areas), (others, _) in (surfaces, surfaces[::-1]):
        counted = ~between[np.rint(points[:, 0] / spacing[0]).astype(int)]
        if counted.any():
            distances = KDTree(others).query(points[counted])[0]
            near += float(areas[counted][distances <= TOLERANCE_MM].sum())
            total += float(areas[counted].sum())
    return near / total if total else 0.0


def _box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return first, second, third
