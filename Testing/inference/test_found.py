"""What was found without a drawing: kept in parts, put together again, and settled by what the image shows."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.volume import Geometry, SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference.found import FAINT, Found, likelihood
from PromptSegLib.inference.neighborhood import MARGIN_MM
from PromptSegLib.inference.neighborhood import Place as Box
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


LONG = (60, 40, 48)
"""Slices are 2 mm apart; rows and columns as everywhere here."""


def long_around(painted: dict[int, tuple[int, int]]) -> tuple[Box, np.ndarray]:
    """The surroundings of a rod on slices 40 to 49 of a structure that is 60 mm long and 25 mm wide, and what was
    drawn: squares of 4 pixels, whose corners are given by slice."""
    logits, drawn = np.full(LONG, NOTHING, np.float32), np.zeros(LONG, bool)
    logits[40:50, 20:24, 24:28] = 3
    for index, (first, second) in painted.items():
        drawn[index, first : first + 4, second : second + 4] = True
    stack = slice_stack(Volume(np.zeros(LONG, np.int16), Geometry(LONG, (2.0, 2.0, 2.0))), 0)
    found = Found()
    found.add(slice(0, LONG[0]), logits)
    around = found.neighborhood(stack, one_piece=True, painted=drawn, beside_mm=(60, 25, 25), margin_mm=2)
    assert around is not None
    return around.place, drawn


@pytest.mark.parametrize(
    ("painted", "reaches"),
    [
        ({14: (20, 24)}, True),
        ({14: (20, 24), 20: (22, 24)}, True),
        ({14: (20, 24), 45: (20, 24), 55: (20, 24)}, True),
        ({12: (20, 24)}, False),
        ({14: (20, 44)}, False),
        ({14: (20, 36)}, False),
        ({30: (20, 30), 58: (20, 30)}, False),
    ],
    ids=["along it", "twice", "drawn on, too", "longer than it is", "too far beside", "wider than it is", "between"],
)
def test_the_surroundings_reach_to_drawn_slices_of_the_same_structure(
    painted: dict[int, tuple[int, int]], reaches: bool
) -> None:
    (slices, rows, columns), drawn = long_around(painted)
    assert bool(drawn[slices, rows, columns].sum() == drawn.sum()) == reaches
    if not reaches:
        assert slices == slice(39, 51)


def test_a_stray_voxel_does_not_make_them_larger() -> None:
    alone, _ = long_around({44: (20, 24)})
    place, drawn = long_around({44: (20, 24), 0: (0, 0)})
    assert place == alone and drawn[place].sum() == 16


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
