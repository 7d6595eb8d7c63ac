"""What a body looks like along its length: measured on cylinders whose width, depth, bone and gas are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.outline import LONGEST_MM, STEP_MM, Outline, heights_mm
from PromptSegLib.imaging.outline import outline as outline_of
from PromptSegLib.imaging.volume import Geometry, Volume
from Testing.support import reoriented

SHAPE, SPACING = (40, 60, 80), (2.5, 4.0, 4.0)


def body(air: float = -1000.0, left: int = 40) -> Volume:
    """Elliptic slices that grow from 160 x 120 mm by 2.4 and 1.6 mm each, with 400 mm² of bone and a third with gas."""
    array = np.full(SHAPE, air, dtype=np.float32)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    for index, plane in enumerate(array):
        plane[((y - 30) / (15 + 0.2 * index)) ** 2 + ((x - left) / (20 + 0.3 * index)) ** 2 < 1] = 40
        plane[28:33, left : left + 5] = 800
        if index >= 26:
            plane[20:26, left - 2 : left + 8] = air
    return Volume(array, Geometry(SHAPE, SPACING))


def outline(scan: Volume, kind: str = "ct") -> Outline:
    return outline_of(scan, kind)


def test_width_depth_bone_and_gas() -> None:
    found = outline(body())
    assert found.start_mm == 0 and np.array_equal(found.heights_mm, STEP_MM * np.arange(20))
    width, depth, bone, gas = np.exp(found.values).T
    slices = 2 * np.arange(20)
    np.testing.assert_allclose(width - 50, 160 + 2.4 * slices, atol=8)
    np.testing.assert_allclose(depth - 50, 120 + 1.6 * slices, atol=8)
    np.testing.assert_allclose(bone - 300, 25 * 16, atol=1)
    np.testing.assert_allclose(gas - 300, np.where(slices >= 26, 60 * 16, 0), atol=1)


@given(order=st.permutations((0, 1, 2)), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=20, deadline=None)
def test_from_feet_to_head_however_it_is_stored(order: list[int], flips: tuple[bool, bool, bool]) -> None:
    stored = reoriented(body(), tuple(order), flips)
    np.testing.assert_allclose(outline(stored).values[2:-2], outline(body()).values[2:-2], atol=0.06)
    heights = heights_mm(stored)
    assert np.ptp(heights) == 97.5 and len(heights) == 40


def test_thick_slices_fill_the_samples_between_them() -> None:
    thick = Volume(body().array[::8], Geometry((5, *SHAPE[1:]), (20.0, 4.0, 4.0)))
    widths = np.exp(outline(thick).values[:, 0]) - 50
    assert len(widths) == 17 and np.all(np.diff(widths) >= 0) and len(set(widths.round())) == 5


def test_what_the_scan_does_not_show_is_not_known() -> None:
    cut = outline(body(left=10)).values
    assert np.isnan(cut[:, [0, 2, 3]]).all() and np.isfinite(cut[:, 1]).all(), "cut off at the side"
    scan = body(air=0.0)
    tissue = scan.array == 40
    scan.array[tissue] = np.random.default_rng(0).uniform(100, 500, np.count_nonzero(tissue))
    values = outline(scan, "percentile").values
    assert np.isfinite(values[:, :2]).all() and np.isnan(values[:, 2:]).all(), "bone and gas are known in CT alone"
    scan = body()
    scan.array[20:] = -1000
    assert np.isnan(outline(scan).values[11:]).all() and np.isfinite(outline(scan).values[:10]).all()


def test_a_couch_and_crumbs_are_not_the_body() -> None:
    scan = body()
    scan.array[:, 57:59, 5:75] = 0
    scan.array[:, 2, 2] = 0
    np.testing.assert_allclose(outline(scan).values[:, 0], outline(body()).values[:, 0], atol=1e-6)


def test_it_is_measured_once_per_scan_and_kind() -> None:
    scan = body()
    assert outline(scan) is outline(scan) and outline(scan) is not outline(scan.with_array(scan.array))
    assert outline(scan) is not outline(scan, "percentile")
    with pytest.raises(ValueError, match="read-only"):
        outline(scan).values[0] = 0


def test_an_oblique_scan_goes_from_feet_to_head_all_the_same() -> None:
    tilt = np.deg2rad(20)
    for up in (1, -1):
        direction = ((0.0, 0.0, 1.0), (-up * np.sin(tilt), np.cos(tilt), 0.0), (up * np.cos(tilt), np.sin(tilt), 0.0))
        tilted = Volume(body().array[::up], Geometry(SHAPE, SPACING, (5.0, 6.0, 7.0), direction))
        np.testing.assert_allclose(outline(tilted).values[2:-2], outline(body()).values[2:-2], atol=0.06)


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 1, 1), (1, 1, 300)])
def test_any_shape(shape: tuple[int, int, int]) -> None:
    array = np.full(shape, -1000, np.int16)
    array[0, 0, 0] = 40
    for values in (array, np.zeros(shape, np.int16)):
        found = outline(Volume(values, Geometry(shape, (2.0, 1.0, 1.0))))
        assert np.isnan(found.values).all() and math.isfinite(found.start_mm)


def test_of_a_scan_longer_than_any_body_nothing_is_known() -> None:
    scan = Volume(body().array, Geometry(SHAPE, (1.1 * LONGEST_MM / 39, 4.0, 4.0)))
    assert outline(scan).values.shape == (0, 4)
