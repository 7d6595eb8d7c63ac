"""How large a structure is to be expected."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PromptSegLib.tokens.size import USUAL_SPREAD, Size

SHIFTS = np.linspace(-4, 3, 71)


def test_mean_and_spread_of_the_logarithms() -> None:
    assert Size.of([]) is None
    assert Size.of([10.0]) == Size(10.0, USUAL_SPREAD)
    assert Size.of([4.0, 9.0]) == Size(6.0, USUAL_SPREAD)
    found = Size.of([1.0, math.e, math.e**2])
    assert found is not None
    assert (found.ml, found.spread) == (pytest.approx(math.e, abs=1e-4), pytest.approx(math.sqrt(2 / 3), abs=1e-4))


def test_what_has_the_expected_size_stays() -> None:
    volumes = 20 * np.exp(0.5 * SHIFTS)
    assert Size(20.0, 0.35).likeliest(volumes, SHIFTS) == pytest.approx(0, abs=1e-9)


def test_doubtful_borders_give_way_and_clear_ones_do_not() -> None:
    size = Size(20.0, 0.35)
    leaking, sharp = 100 * np.exp(0.8 * SHIFTS), 100 * np.exp(0.02 * SHIFTS)
    assert size.likeliest(leaking, SHIFTS) < -1
    assert abs(size.likeliest(sharp, SHIFTS)) < 0.2
    assert size.likeliest(leaking / 50, SHIFTS) > 1
    assert abs(Size(20.0, 2.0).likeliest(leaking, SHIFTS)) < abs(size.likeliest(leaking, SHIFTS))


@given(st.floats(0.01, 1e4), st.floats(0, 3), st.floats(0.01, 1e4))
def test_a_shift_never_leads_farther_from_the_expected_size(ml: float, spread: float, found_ml: float) -> None:
    volumes = found_ml * np.exp(0.4 * SHIFTS)
    before, after = np.log(found_ml / ml), np.log(found_ml / ml) + 0.4 * Size(ml, spread).likeliest(volumes, SHIFTS)
    assert abs(after) <= abs(before) + 1e-6


def test_nothing_found_is_no_error() -> None:
    assert np.isfinite(Size(20.0, 0.35).likeliest(np.zeros(71), SHIFTS))


@pytest.mark.parametrize("data", [{"ml": 0, "spread": 1}, {"ml": math.nan, "spread": 1}, {"ml": 1, "spread": -1}])
def test_a_damaged_description(data: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(data)


def test_a_description_is_read_as_it_was_written() -> None:
    assert Size.parse(Size(12.5, 0.25).describe()) == Size(12.5, 0.25)
