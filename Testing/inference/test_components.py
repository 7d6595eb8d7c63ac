"""Which pieces of a result are kept."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.inference.components import keep_pieces

LABEL = 2


@pytest.fixture
def labels() -> np.ndarray:
    """Pieces of 3, 4 and 5 voxels in three slices, and another class between them."""
    labels = np.zeros((6, 3, 12), np.uint8)
    labels[1, 1, :3] = labels[2, 1, 4:8] = labels[4, 1, 7:] = LABEL
    labels[3] = 1
    return labels


def mask(*places: tuple[int, int, int]) -> np.ndarray:
    voxels = np.zeros((6, 3, 12), bool)
    for place in places:
        voxels[place] = True
    return voxels


@pytest.mark.parametrize(
    ("drawn", "chosen", "kept"),
    [
        ((), None, {4}),
        (((1, 1, 0),), None, {1}),
        ((), ((1, 1, 1), (1, 1, 2), (2, 1, 4)), {1, 2}),
        ((), ((2, 1, 4), (2, 1, 5), (2, 1, 6), (3, 1, 6), (4, 1, 7)), {2}),
        (((1, 1, 0),), ((4, 1, 8), (5, 1, 8)), {1, 4}),
        ((), ((0, 2, 9), (5, 0, 0)), {4}),
    ],
    ids=["the largest", "drawn", "two chosen", "of one chosen the most", "drawn and chosen", "chosen, and gone"],
)
def test_what_is_kept(
    labels: np.ndarray,
    drawn: tuple[tuple[int, int, int], ...],
    chosen: tuple[tuple[int, int, int], ...] | None,
    kept: set[int],
) -> None:
    before = labels.copy()
    keep_pieces(labels, LABEL, mask(*drawn) if drawn else None, None if chosen is None else mask(*chosen))
    slices = np.arange(len(labels))[:, None, None]
    assert np.array_equal(labels, np.where((before == LABEL) & ~np.isin(slices, list(kept)), 0, before))


def test_a_class_that_was_not_found() -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    keep_pieces(labels, LABEL, None)
    assert (labels == 1).all()
