"""Shapes of other patients, laid over what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.volume import Geometry, Volume, slice_stack
from PromptSegLib.inference.fitting import SUREST_LOGIT, Template
from PromptSegLib.learning.shapes import shape_of
from PromptSegLib.tokens.shape import Shape
from Testing.support import dsc, reoriented

SPACING = (3.0, 2.5, 2.0)
SIDES = (36, 44, 56)


def wedge(
    shift_mm: Sequence[float] = (0, 0, 0), scale: float = 1.0, turn: float = 0.0, sides: tuple[int, int, int] = SIDES
) -> Volume:
    """bool: an ellipsoid of which one end is cut off obliquely, so that no two directions look alike."""
    middle = (np.array(sides) - 1) / 2 * SPACING + shift_mm
    places = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1) * SPACING - middle
    cosine, sine = np.cos(turn), np.sin(turn)
    places = places @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) / scale
    inside = np.square(places / (30, 16, 22)).sum(axis=-1) < 1
    return Volume(inside & (places @ (0.6, 0.5, 0.6) < 10), Geometry(sides, SPACING))


def shape(volume: Volume) -> Shape:
    found = shape_of(volume.array, volume.geometry)
    assert found is not None
    return found


def laid_over(found: Volume, *shapes: Shape, probability: np.ndarray | None = None) -> np.ndarray:
    """Logits on the array's grid."""
    stack = slice_stack(found, 0)
    view = stack.view(found.array if probability is None else probability)
    middle = np.argwhere(view > 0.5).mean(axis=0) * stack.spacing
    template = Template(shapes, stack.axes(found.geometry))
    logits = template.logits(np.ascontiguousarray(view, dtype=np.float32), middle, stack.spacing)
    return stack.restore(logits)


@given(
    shift=st.tuples(*3 * [st.floats(-12, 12)]),
    scale=st.floats(0.85, 1.15),
    turn=st.floats(-0.15, 0.15),
)
@settings(max_examples=15, deadline=None)
def test_it_is_moved_turned_and_scaled(shift: tuple[float, float, float], scale: float, turn: float) -> None:
    there = wedge(shift, scale, turn)
    logits = laid_over(there, shape(wedge()))
    assert logits.dtype == np.float32 and np.abs(logits).max() <= SUREST_LOGIT
    assert dsc(logits > 0, there.array) > 0.9


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (False, True, False)])
def test_however_the_scan_is_stored(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    there = reoriented(wedge((5, -4, 6)), order, flips)
    assert dsc(laid_over(there, shape(wedge())) > 0, there.array) > 0.93


def test_what_is_too_much_goes_and_what_is_missing_comes() -> None:
    there = wedge((3, 2, -4))
    wrong = there.array.copy()
    wrong[:, :, 31:36] = False
    wrong[16:20, 20:24, :18] = True
    logits = laid_over(there, shape(wedge()), probability=np.where(wrong, 0.9, 0.05))
    assert dsc(wrong, there.array) < 0.89 and dsc(logits > 0, there.array) > 0.9
    assert (logits[there.array & ~wrong] > 0).mean() > 0.75
    assert (logits[wrong & ~there.array] < 0).mean() > 0.75


def test_of_several_the_one_that_fits_counts_most() -> None:
    there = wedge((4, 0, 0))
    ball = Volume(np.square(np.indices((21, 21, 21)) - 10).sum(axis=0) < 64, Geometry((21, 21, 21), (3.0, 3.0, 3.0)))
    alone, both = laid_over(there, shape(wedge())), laid_over(there, shape(ball), shape(wedge()))
    wrong = laid_over(there, shape(ball))
    assert np.abs(both - alone).mean() < 0.25 * np.abs(wrong - alone).mean()


def test_a_scan_that_ends_within_the_structure() -> None:
    whole = wedge()
    part = Volume(whole.array[:20], Geometry((20, *SIDES[1:]), SPACING))
    assert dsc(laid_over(part, shape(whole)) > 0, part.array) > 0.85


def test_it_can_be_interrupted() -> None:
    def check() -> None:
        raise InterruptedError

    template = Template([shape(wedge())], np.eye(3))
    with pytest.raises(InterruptedError):
        template.logits(np.zeros((4, 4, 4), np.float32), np.zeros(3), SPACING, check)
