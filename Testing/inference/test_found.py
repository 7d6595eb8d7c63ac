"""What was found without a drawing: kept in parts, put together again, and settled by what the image shows."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.volume import Geometry, SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference.found import FAINT, Found, likelihood
from PromptSegLib.inference.neighborhood import MARGIN_MM
from PromptSegLib.tokens.place import Place

SHAPE, SPACING = (18, 40, 48), (3.0, 2.0, 2.0)
NOTHING = -20.0


def ball(radius_mm: float, center: tuple[int, int, int] = (8, 18, 25)) -> np.ndarray:
    places = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    squares = (((p - c) * mm) ** 2 for p, c, mm in zip(places, center, SPACING, strict=True))
    return sum(squares) < radius_mm**2  # type: ignore[return-value]


def logits_of(*masks: np.ndarray) -> np.ndarray:
    found = np.full(SHAPE, NOTHING, np.float32)
    for mask in masks:
        found[mask] = 3.0
    return found


def found_in(logits: np.ndarray, step: int = 4) -> Found:
    found = Found()
    for start in range(0, SHAPE[0], step):
        found.add(slice(start, min(start + step, SHAPE[0])), logits[start : start + step])
    return found


def stack_of(array: np.ndarray) -> SliceStack:
    return slice_stack(Volume(array, Geometry(SHAPE, SPACING)), 0)


@pytest.mark.parametrize("step", [4, 7])
def test_around_the_largest_piece_or_around_all_large_ones(step: int) -> None:
    large, second, crumb = ball(12), ball(8, (8, 30, 8)), ball(3, (3, 6, 40))
    found, stack = found_in(logits_of(large, second, crumb), step), stack_of(large)
    for one_piece, wanted in ((True, large), (False, large | second)):
        around = found.neighborhood(stack, one_piece=one_piece)
        assert around is not None and around.known is None
        inside = np.zeros(SHAPE, bool)
        inside[around.place] = around.inside
        assert np.array_equal(inside, wanted)
        for side, mm, places in zip(around.place, SPACING, np.nonzero(wanted), strict=True):
            assert (places.min() - side.start) * mm >= MARGIN_MM or side.start == 0


def test_outside_is_all_that_is_not_around() -> None:
    large, second = ball(12), ball(8, (8, 30, 8))
    logits = logits_of(large, second)
    found = found_in(logits)
    around = found.neighborhood(stack_of(large), one_piece=True)
    assert around is not None
    whole = np.full(SHAPE, FAINT, np.float32)
    for place, part in found.outside(around.place):
        whole[place] = np.maximum(part, FAINT)
    expected = np.maximum(logits, FAINT)
    expected[around.place] = FAINT
    assert np.array_equal(whole, expected)


def test_the_piece_where_the_structure_is_likely_goes_before_a_larger_one() -> None:
    large, second = ball(12, (8, 20, 40)), ball(8, (8, 20, 8))
    body = np.full(SHAPE, -1000, np.int16)
    body[:, 4:36, 4:44] = 40
    middle = np.array([20, 24]) * SPACING[1:]
    place = Place.of(np.argwhere(second.any(axis=0)) * SPACING[1:] - middle)
    stack = stack_of(body)
    middles = body_middles(body, stack, Window("ct"))
    likely = likelihood(place, middles, None, stack)
    around = found_in(logits_of(large, second)).neighborhood(stack, one_piece=True, likelihood=likely)
    assert around is not None and np.array_equal(around.on_scan(stack, SHAPE), second)
    alone = found_in(logits_of(large)).neighborhood(stack, one_piece=True, likelihood=likely)
    assert alone is not None and np.array_equal(alone.on_scan(stack, SHAPE), large), "a place forbids nothing"
    assert likelihood(None, middles, None, stack) is None


@pytest.mark.parametrize(("column", "is_beside"), [(21, True), (17, False)])
def test_the_pieces_that_were_drawn_on_and_a_larger_one_beside_them(column: int, is_beside: bool) -> None:
    """The larger one begins at column 34; the small one ends two columns from its middle."""
    large, small, crumb = ball(14, (8, 20, 40)), ball(6, (8, 20, column)), ball(4, (14, 20, 4))
    found, stack = found_in(logits_of(large, small, crumb)), stack_of(large)

    def inside(painted: np.ndarray) -> np.ndarray:
        around = found.neighborhood(stack, one_piece=True, painted=painted)
        assert around is not None
        return around.on_scan(stack, SHAPE)

    beside = large if is_beside else np.zeros(SHAPE, bool)
    middle = np.arange(SHAPE[0])[:, None, None] == 8
    assert np.array_equal(inside(small & middle), small | beside)
    assert np.array_equal(inside(small & middle | crumb), small | crumb | beside)
    assert np.array_equal(inside(ball(3, (2, 3, 3))), large), "nothing was found where it was drawn"


def test_nothing_found_has_no_surroundings() -> None:
    assert found_in(logits_of()).neighborhood(stack_of(ball(1)), one_piece=True) is None
    assert found_in(np.full(SHAPE, -0.5, np.float32)).neighborhood(stack_of(ball(1)), one_piece=True) is None


def test_the_image_carries_a_border_that_lies_too_far_inside() -> None:
    """The network saw two thirds of the organ's radius and is not sure beyond it."""
    organ, core = ball(18), ball(12)
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    image = (np.where(organ, 100, 20) + noise).astype(np.int16)
    logits = np.where(core, 3.0, np.where(ball(22), -1.5, NOTHING)).astype(np.float32)
    stack = stack_of(image)
    around = found_in(logits).neighborhood(stack, one_piece=True)
    assert around is not None
    settled = np.full(SHAPE, NOTHING, np.float32)
    for place, part in around.settle(stack.view(image), stack, Window("ct"), lambda: None):
        settled[place] = part

    def dice(mask: np.ndarray) -> float:
        return float(2 * np.count_nonzero(mask & organ) / (np.count_nonzero(mask) + np.count_nonzero(organ)))

    assert dice(logits > 0) < 0.6 and dice(settled > 0) > 0.85
