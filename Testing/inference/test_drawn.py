"""What the drawn shape says on slices between and beyond the drawn ones."""

from __future__ import annotations

import numpy as np

from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.inference.drawn import (
    EDGE_MM,
    GAP_SHARE,
    MOST_AGAINST_OPEN,
    SUREST_LOGIT,
    shape_logits,
)

STACK = (60, 40, 40)


def shape(*slices: int, empty: tuple[int, ...] = ()) -> DrawnShape:
    square = np.zeros(STACK[1:], dtype=bool)
    square[12:28, 12:28] = True
    return DrawnShape(dict.fromkeys(slices, square), STACK, (2.0, 1.0, 1.0), empty)


def says(drawn: DrawnShape, index: int) -> np.ndarray:
    return shape_logits(drawn, index, EDGE_MM, GAP_SHARE, SUREST_LOGIT)


def test_beyond_a_single_slice_it_says_little_and_beyond_an_end_that_is_known_much() -> None:
    alone, ended, several = shape(30), shape(30, empty=(40,)), shape(20, 30)
    assert says(alone, 50).min() >= MOST_AGAINST_OPEN and says(alone, 10).min() >= MOST_AGAINST_OPEN
    assert says(ended, 50).max() < MOST_AGAINST_OPEN and says(ended, 10).min() >= MOST_AGAINST_OPEN
    assert says(ended, 39).min() >= MOST_AGAINST_OPEN, "up to there, it may have moved"
    assert says(several, 50).max() < 0 and says(several, 50).min() < -6
    assert says(shape(30, 31), 50).max() < -3, "two side by side are no single slice"


def test_far_beyond_a_single_slice_it_speaks_for_nothing() -> None:
    assert says(shape(30), 32)[20, 20] > 2 and says(shape(30), 50).max() < 0


def test_on_drawn_slices_and_between_them_it_is_sure() -> None:
    for drawn, index in ((shape(30), 30), (shape(20, 40), 20)):
        assert says(drawn, index)[20, 20] > 5 and says(drawn, index)[5, 5] < -5
    between = says(shape(20, 40), 30)
    assert 0 < between[20, 20] < 5 and between[5, 5] < -1
