"""Where a structure ends along the body: by what was found, by the height, and by its usual length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from PromptSegLib.imaging.outline import Outline
from PromptSegLib.inference.extent import Extent
from PromptSegLib.tokens.height import Height
from Testing.tokens.test_height import HIGH, LOW, body, height

MM = 3.0


def known(length_mm: float = 45.0, slices: int = 60, ends: tuple[int, int] | None = None) -> Extent:
    """Nothing speaks against the slices between ``ends``, and the more against others, the farther away they are."""
    numbers = np.arange(slices)
    first, last = ends or (0, slices)
    beyond = np.maximum(0, np.maximum(first - numbers, numbers - last + 1))
    return Extent(np.minimum(beyond / 2.0, 4.0), length_mm, 0.25)


def test_a_look_alike_that_goes_on_is_cut_where_the_structure_is_to_be_expected() -> None:
    found = known(ends=(20, 35)).likeliest(np.full(60, 1.5), 0, MM)
    assert abs(found.start - 20) <= 3 and abs(found.stop - 35) <= 3


def test_where_the_height_says_nothing_no_slice_is_dropped_however_long_it_is() -> None:
    logits = np.full(60, 0.3)
    logits[20:35] = 3.0
    assert known(length_mm=10.0).likeliest(logits, 0, MM) == slice(0, 60)


@given(st.integers(1, 40), st.integers(0, 20), st.floats(1.0, 6.0))
def test_what_has_the_expected_length_keeps_every_slice(slices: int, first: int, logit: float) -> None:
    logits = np.full(60, -np.inf)
    logits[first : first + slices] = logit
    assert known(slices * MM).likeliest(logits, 0, MM) == slice(first, first + slices)


@given(st.floats(5, 100), st.integers(3, 12))
def test_undisputed_slices_stay_though_it_is_longer_than_usual(length_mm: float, first: int) -> None:
    found = known(length_mm, ends=(first, first + 30)).likeliest(np.full(60, 1.0), 0, MM)
    assert found.start <= first and found.stop >= first + 30


def test_the_surer_it_is_the_farther_it_may_go_on() -> None:
    faint, sure = (known(ends=(20, 35)).likeliest(np.full(60, logit), 0, MM) for logit in (1.0, 3.0))
    assert faint.stop - faint.start < sure.stop - sure.start < 40


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=40), st.integers(0, 20), st.floats(1, 500))
def test_some_slices_are_always_left(logits: list[float], first: int, length_mm: float) -> None:
    found = known(length_mm, ends=(10, 20)).likeliest(logits, first, MM)
    assert 0 <= found.start < found.stop <= len(logits)


def test_numbers_of_slices_are_those_of_the_stack() -> None:
    extent = known(ends=(20, 35))
    logits = np.linspace(1.4, 1.6, 60)
    whole, part = extent.likeliest(logits, 0, MM), extent.likeliest(logits[15:], 15, MM)
    assert (part.start + 15, part.stop + 15) == (whole.start, whole.stop)


def test_of_a_height_with_both_ends() -> None:
    heights_mm = np.arange(0.0, 500.0, MM)
    extent = Extent.of(height(), body(seed=1), heights_mm)
    assert extent is not None and abs(extent.length_mm - (HIGH - LOW)) < 0.2
    inside = (heights_mm > LOW + 10) & (heights_mm < HIGH - 10)
    assert np.all(extent.unlikely[inside] < 1) and np.all(extent.unlikely[heights_mm < LOW - 30] > 2)
    assert extent.unlikely.min() == 0


def test_lengths_of_several_scans_make_a_mean_and_a_spread() -> None:
    levels = [*height(200, 220).levels, *height(200, 280).levels]
    extent = Extent.of(Height(tuple(levels)), body(), np.arange(0.0, 500.0, MM))
    assert extent is not None and abs(extent.length_mm - 40) < 0.2
    assert extent.spread > 0.7


def test_without_both_ends_nothing_is_known() -> None:
    nothing = Outline(0.0, np.full((40, 4), np.nan))
    assert Extent.of(height(low=None), body(), np.arange(0.0, 500.0, MM)) is None
    strange = Extent.of(height(), nothing, np.arange(0.0, 100.0, MM))
    assert strange is not None and not strange.unlikely.any()
