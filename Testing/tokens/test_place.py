"""Where a structure lies: learned from pixels, said as JSON, and held against pixels elsewhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from PromptSegLib.tokens.place import LEFT_TO_RIGHT_MM, OTHERWISE_MM, Place

LEFT = Place.of(np.random.default_rng(0).normal((10, 60), (8, 5), (500, 2)))
assert LEFT is not None


def against(place: Place, row: float, column: float, plane: str = "axial") -> float:
    return float(place.unlikeliness(np.array([row, column]), plane))


def test_the_other_side_is_unlikely_and_the_same_one_is_not() -> None:
    assert against(LEFT, 10, 60) == against(LEFT, 0, 45) == against(LEFT, 60, 75) == 0
    assert against(LEFT, 10, -60) == 6
    assert 0 < against(LEFT, 10, 60 + 3 * math.hypot(LEFT_TO_RIGHT_MM, 5)) < 6


def test_from_side_to_side_it_is_stricter_than_otherwise() -> None:
    shift = 2.5 * math.hypot(LEFT_TO_RIGHT_MM, 8)
    assert against(LEFT, 10, 60 + shift) > 0 and against(LEFT, 10 + shift, 60) == 0
    assert OTHERWISE_MM > LEFT_TO_RIGHT_MM and against(LEFT, 10, 60 + shift, "sagittal") == 0


def test_what_is_unknown_speaks_neither_for_nor_against() -> None:
    assert against(LEFT, 10, math.nan) == 0 and against(LEFT, math.nan, -60) == 6
    half = Place.of(np.array([[math.nan, 55.0], [math.nan, 65.0]]))
    assert half is not None and half.rows is None and against(half, 500, 60) == 0 and against(half, 0, -60) == 6
    assert Place.of(np.full((3, 2), math.nan)) is None and Place.of(np.zeros((0, 2))) is None


def test_it_survives_json() -> None:
    for place in (LEFT, Place(None, (3.5, 1.25))):
        assert Place.parse(json.loads(json.dumps(place.describe()))) == place


@pytest.mark.parametrize(
    "damage", [{"rows": [1, -1]}, {"rows": [math.nan, 1]}, {"columns": [1]}, {"columns": [1e9, 1]}, {"columns": "a"}]
)
def test_damaged_places_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Place.parse({**LEFT.describe(), **damage})
