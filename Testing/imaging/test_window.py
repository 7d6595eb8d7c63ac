"""From intensities to the [-1, 1] that a backbone sees."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.window import Window, window_for


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_ct_is_monotonic_and_bounded(dtype: type) -> None:
    values = np.arange(-2000, 4000).astype(dtype)
    before = values.copy()
    seen = Window("ct").apply(values)
    assert seen.dtype == np.float32 and seen.shape == values.shape
    assert (np.diff(seen) >= 0).all() and seen.min() >= -1 and seen.max() <= 1
    assert np.array_equal(values, before), "the image itself was changed"


def test_ct_by_hand() -> None:
    seen = Window("ct").apply(np.array([40.0, 190.0, -1000.0, 3000.0]))
    soft = np.tanh([0, 1, -1040 / 150, 2960 / 150])
    assert np.allclose(seen, (np.array([0.04, 0.19, -1, 1]) + soft) / 2, atol=1e-6)


def test_ct_gives_soft_tissue_half_of_the_scale() -> None:
    fat, gland = Window("ct").apply(np.array([-100.0, 100.0]))
    assert gland - fat > 0.5


@given(lower=st.floats(-1e4, 1e4), span=st.floats(0, 1e4))
@settings(max_examples=50, deadline=None)
def test_percentile_maps_its_limits_to_the_ends(lower: float, span: float) -> None:
    window = Window("percentile", lower, lower + span)
    seen = window.apply(np.array([lower - 1, lower, lower + span, lower + span + 1]))
    assert np.isfinite(seen).all() and seen[0] == -1 and seen[-1] == 1 and (np.diff(seen) >= 0).all()
    if span > 10:
        assert np.allclose(seen[1:3], (-1, 1), atol=1e-2)


def image(air: float, tissue: float, dtype: type = np.float32) -> np.ndarray:
    array = np.full((10, 20, 20), air)
    array[2:8, 4:16, 4:16] = tissue + np.random.default_rng(0).normal(0, 20, (6, 12, 12))
    return array.astype(dtype)


def test_ct_is_told_by_its_air() -> None:
    assert window_for(image(-1000, 40, np.int16)) == Window("ct")
    assert window_for(image(-1024, 40)).kind == "ct"
    assert window_for(image(0, 300, np.uint16)).kind == "percentile"
    assert window_for(image(0, 1e-3)).kind == "percentile"


def test_the_kind_can_be_given() -> None:
    assert window_for(image(0, 300), "ct") == Window("ct")
    window = window_for(image(-1000, 40), "percentile")
    assert window.kind == "percentile" and -100 < window.lower < 40 < window.upper < 150


def test_percentiles_leave_the_background_out() -> None:
    window = window_for(image(0, 300))
    assert 200 < window.lower < 300 < window.upper < 400


@pytest.mark.parametrize("factor", [1e-3, 1.0, 50.0])
def test_the_unit_does_not_matter(factor: float) -> None:
    array = image(0, 300).astype(np.float64)
    scaled = array * factor
    assert np.allclose(window_for(array).apply(array), window_for(scaled).apply(scaled), atol=1e-3)


def test_the_same_value_everywhere() -> None:
    with pytest.raises(InputError, match="the same value everywhere"):
        window_for(np.zeros((3, 4, 5), np.int16))


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 40, 40), (300, 300, 30)])
def test_any_size(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 500, shape).astype(np.int16)
    window = window_for(array)
    assert 0 <= window.lower <= window.upper < 500


@pytest.mark.parametrize("window", [Window("ct"), Window("percentile", -3.25, 1e6)])
def test_json(window: Window) -> None:
    assert Window.from_json(json.loads(json.dumps(window.to_json()))) == window


def test_an_unknown_kind() -> None:
    with pytest.raises(InputError, match="unknown intensity window 'xray'"):
        Window.from_json({"kind": "xray", "lower": 0, "upper": 1})
