"""At which height a structure lies: learned on one body, expected on others, however they are cut."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.outline import STEP_MM, Outline
from PromptSegLib.tokens.height import MOST, Height, Level

LOW, HIGH = 220.0, 260.0


def body(first_mm: float = 0.0, last_mm: float = 500.0, larger: float = 1.0, seed: int = 0) -> Outline:
    """From shoulders to a head: width, depth, bone and gas along 500 mm, of which a scan shows a part."""
    heights = np.arange(first_mm, last_mm, STEP_MM)
    neck = 1 / (1 + np.exp((heights - 150) / 15))
    head = 1 / (1 + np.exp((280 - heights) / 12))
    values = [
        np.log(larger * (130 + 330 * neck + 40 * head)),
        np.log(larger * (140 + 80 * neck + 60 * head)),
        np.log(900 + 1500 * neck + 4000 * head * (heights < 470)),
        np.log(300 + 900 * np.exp(-(((heights - 200) / 25) ** 2))),
    ]
    noise = np.random.default_rng(seed).normal(0, 0.05, (len(heights), 4)) * np.array([1, 1, 2, 3])
    return Outline(first_mm, np.stack(values, axis=1) + noise)


def height(low: float | None = LOW, high: float | None = HIGH, seed: int = 0) -> Height:
    level = Level.of(body(seed=seed), low, high)
    assert level is not None
    found = Height.of([level])
    assert found is not None
    return found


def against(known: Height, other: Outline, heights_mm: list[float]) -> np.ndarray:
    return known.unlikeliness(other, np.array(heights_mm))


def test_where_it_was_nothing_speaks_against_it_and_far_away_much() -> None:
    found = against(height(), body(seed=1), [0, 120, 220, 240, 260, 360, 480])
    assert np.all(found[2:5] < 0.2) and np.allclose(found[[0, 1, 5, 6]], MOST)


@given(
    first=st.floats(0, 200),
    length=st.floats(150, 300),
    larger=st.floats(0.87, 1.15),
    start=st.floats(-1000, 1000),
)
@settings(max_examples=40, deadline=None)
def test_however_the_scan_is_cut_and_the_body_built(first: float, length: float, larger: float, start: float) -> None:
    shown = body(first, max(first + length, 290), larger, seed=2)
    moved = Outline(start, shown.values)
    middle = np.array([start + (LOW + HIGH) / 2 - first])
    assert height().unlikeliness(moved, middle)[0] < 0.5
    above = moved.heights_mm[moved.heights_mm > middle + 130]
    assert np.all(height().unlikeliness(moved, above) > 2)


def test_a_scan_that_shows_too_little_speaks_against_nothing() -> None:
    for seed in range(10):
        assert not against(height(), body(235, 280, seed=seed), [215, 235, 255, 275]).any()
        assert np.all(against(height(), body(200, 280, seed=seed), [220, 240, 260]) < 1.5)


def test_an_end_that_was_not_seen_is_open() -> None:
    found = against(height(low=None), body(seed=1), [0, 240, 400])
    assert found[0] == pytest.approx(found[1], abs=0.2) and found[2] > 3


def test_another_part_of_the_body_is_not_compared() -> None:
    legs = Outline(0.0, np.log(np.full((80, 4), 9000.0)))
    assert not against(height(), legs, [0, 100, 300]).any()
    assert not against(height(), Outline(0.0, np.full((80, 4), np.nan)), [0, 100]).any()


def test_width_and_depth_suffice() -> None:
    shown = body(seed=4)
    shown.values[:, 2:] = np.nan
    found = against(height(), shown, [60, 240, 420])
    assert found[1] < 0.5 and found[0] > 3 and found[2] > 3


def test_several_scans_count_alike() -> None:
    levels = [*height().levels, *height(LOW - 80, HIGH - 80, seed=5).levels]
    both = Height.of(levels)
    assert both is not None and len(both.levels) == 2
    found = against(both, body(seed=6), [160, 240, 460])
    assert np.all(found[:2] < 1) and found[2] > 3


def test_a_long_structure_takes_no_more_room() -> None:
    levels = [height(20, 480, seed=seed).levels[0] for seed in range(8)]
    found = Height.of(levels)
    assert found is not None and 1 <= len(found.levels) < 4
    assert len(json.dumps(found.describe())) < 10_000
    assert Height.of([]) is None
    short, long = height().levels[0], levels[0]
    both = Height.of([short, long, long, long, short])
    assert both is not None and both.levels == (short, long, short), "what is too long leaves room for others"


def test_what_is_too_long_or_too_large_for_a_token_is_not_known() -> None:
    spine = Outline(0.0, np.tile(body().values, (6, 1)))
    assert Level.of(spine, 100, 2900) is None
    assert Level.of(Outline(0.0, body().values + 20), LOW, HIGH) is None


def test_without_a_body_nothing_is_known() -> None:
    assert Level.of(Outline(0.0, np.full((80, 4), np.nan)), 100, 140) is None
    assert Level.of(Outline(0.0, np.empty((0, 4))), 100, 140) is None
    assert Level.of(body(), None, None) is None


def test_it_survives_json() -> None:
    known = height(low=None)
    values = body().values
    values[45] = np.nan
    partly = Level.of(Outline(0.0, values), LOW, HIGH)
    assert partly is not None
    for found in (known, Height((*known.levels, partly))):
        assert Height.parse(json.loads(json.dumps(found.describe()))) == found


LEVEL = height().describe()["levels"][0]


@pytest.mark.parametrize(
    "damage",
    [
        {"low_mm": math.nan},
        {"high_mm": 1e6},
        {"low_mm": "a"},
        {"outline": [[1, 2, 3]]},
        {"outline": [[1, 2, 3, math.inf]]},
        {"outline": 7},
        {"outline": []},
        {"outline": ["1234"]},
        {"outline": [[1, 2, 3, True]]},
        {"outline": [[1, 2, 3, 4]] * 1000},
        {"low_mm": 90.0, "high_mm": 80.0},
        {"low_mm": None, "high_mm": None},
    ],
)
def test_damaged_heights_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Height.parse({"levels": [{**LEVEL, **damage}]})
    with pytest.raises((ValueError, TypeError, KeyError)):
        Height.parse({"levels": []})


def test_lengths_are_those_of_scans_that_show_both_ends() -> None:
    levels = [*height().levels, *height(low=None).levels, *height(high=LOW + 60).levels]
    assert Height(tuple(levels)).lengths_mm == pytest.approx([HIGH - LOW, 60.0])


def test_a_smaller_deviation_says_more_just_beyond_the_ends() -> None:
    known, just_beyond = height(), np.array([LOW - 15, HIGH + 15])
    assert np.all(known.unlikeliness(body(), just_beyond, 4.0) > known.unlikeliness(body(), just_beyond) + 0.5)
