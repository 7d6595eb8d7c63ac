"""Shape-based interpolation, against distances computed the slow way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.interpolation import SHRINKING, DrawnShape, interpolate_shape, signed_distance


def disk(
    shape: tuple[int, int], center: tuple[float, float], radius_mm: float, spacing: tuple[float, float]
) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot((rows - center[0]) * spacing[0], (columns - center[1]) * spacing[1]) <= radius_mm


def slow_signed_distance(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distance of every center to the nearest point of any pixel on the other side, pixels being rectangles."""
    result = np.zeros(mask.shape)
    for index in np.ndindex(mask.shape):
        other = np.argwhere(mask != mask[index])
        offsets = np.maximum(np.abs(other - index) - 0.5, 0) * spacing
        distance = np.linalg.norm(offsets, axis=1).min()
        result[index] = distance if mask[index] else -distance
    return result


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
)
@settings(max_examples=50, deadline=None)
def test_signed_distance_is_exact(seed: int, shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.random()
    distance = signed_distance(mask, spacing)
    assert distance.dtype == np.float32
    assert np.isfinite(distance).all()
    assert np.array_equal(distance > 0, mask)
    if mask.any() and not mask.all():
        assert np.allclose(distance, slow_signed_distance(mask, spacing), rtol=1e-4, atol=1e-5)


def test_outline_runs_halfway_between_pixels() -> None:
    mask = np.array([[0, 0, 1, 1, 1, 0]], bool)
    assert signed_distance(mask, (1.0, 2.0))[0].tolist() == [-3, -1, 1, 3, 1, -1]


def test_without_an_outline_everything_is_far() -> None:
    assert (signed_distance(np.zeros((3, 4), bool), (1.0, 1.0)) == -5).all()
    assert (signed_distance(np.ones((3, 4), bool), (1.0, 1.0)) == 5).all()


def test_disks_grow_linearly() -> None:
    shape, spacing = (41, 61), (1.0, 0.7)
    masks = {2: disk(shape, (20, 30), 5, spacing), 8: disk(shape, (20, 30), 15, spacing)}
    result = interpolate_shape(masks, (12, *shape), (3.0, *spacing))
    assert result.dtype == np.float32
    for index in range(2, 9):
        expected = disk(shape, (20, 30), 5 + 10 * (index - 2) / 6, spacing)
        differing = np.count_nonzero((result[index] > 0) != expected)
        assert differing <= 0.15 * np.count_nonzero(expected)
    for index in masks:
        assert np.array_equal(result[index] > 0, masks[index])
    assert not (result[:2] > 0).any()
    assert not (result[9:] > 0).any()


def test_extrapolation_shrinks_to_nothing() -> None:
    shape, spacing = (31, 31), (1.0, 1.0)
    mask = disk(shape, (15, 15), 8, spacing)
    result = interpolate_shape({10: mask}, (21, *shape), (3.0, *spacing), extrapolate=True)
    areas = (result > 0).sum(axis=(1, 2)).tolist()
    assert areas[10] == mask.sum()
    assert areas == areas[::-1]
    assert areas[10] > areas[12] > areas[15] > areas[20] == 0
    assert np.allclose(result[12], signed_distance(mask, spacing) - 6 * SHRINKING)


def lasting(radii: tuple[float, ...], empty: tuple[int, ...] = (), step: int = 16) -> list[int]:
    """How many slices a round shape goes on before its first and after its last drawn slice, from slice 20 on drawn
    each ``step`` slices."""
    shape = (41, 41)
    masks = {20 + step * number: disk(shape, (20, 20), radius, (1.0, 1.0)) for number, radius in enumerate(radii)}
    drawn = DrawnShape(masks, (90, *shape), (1.0, 1.0, 1.0), empty)
    last = 20 + step * (len(radii) - 1)
    ways = (range(19, -1, -1), range(last + 1, 90))
    return [next(n for n, index in enumerate(way) if not (drawn.distance(index) > 0).any()) for way in ways]


def test_a_tube_goes_on_and_what_gets_narrower_ends_soon() -> None:
    tube, spindle, cone = lasting((4, 4, 4)), lasting((4, 8, 4)), lasting((12, 8, 4))
    assert tube[0] == tube[1] > 10
    assert spindle[0] == spindle[1] < 6
    assert cone[1] == spindle[1] and 10 < cone[0] < 16, "less than one step, however wide it becomes"
    assert lasting((4,)) == tube, "a single slice is taken for one of a tube"
    assert lasting((12, 12), step=1) == [11, 11], "two side by side tell nothing of how it goes on"


def test_a_single_slice_leaves_open_how_the_shape_goes_on() -> None:
    def opens(drawn: tuple[int, ...], empty: tuple[int, ...] = ()) -> list[bool]:
        masks = {index: disk((41, 41), (20, 20), 4, (1.0, 1.0)) for index in drawn}
        shape = DrawnShape(masks, (90, 41, 41), (1.0, 1.0, 1.0), empty)
        return [shape.is_open(index) for index in (10, 20, 40)]

    assert opens((20,)) == [True, False, True]
    assert opens((20,), empty=(30,)) == [True, False, False]
    assert opens((20,), empty=(41,)) == [True, False, True], "until a slice that shows nothing"
    assert opens((20, 21)) == opens((15, 30)) == [False, False, False]


def test_nothing_is_left_on_slices_that_were_drawn_without_it() -> None:
    before, after = lasting((4, 4, 4), empty=(2, 12, 30, 60))
    assert (before, after) == (7, 7)
    for radii in ((4,), (4, 4, 4)):
        free, below, above = lasting(radii), lasting(radii, empty=(18,)), lasting(radii, empty=(54,))
        assert below == [1, free[1]] and above[0] == free[0]
    assert lasting((4,), empty=(22,)) == [lasting((4,))[0], 1]


def test_empty_masks_end_the_shape() -> None:
    shape = (9, 9)
    mask = disk(shape, (4, 4), 3, (1.0, 1.0))
    masks = {0: np.zeros(shape, bool), 3: mask, 6: np.zeros(shape, bool)}
    result = interpolate_shape(masks, (7, *shape), (1.0, 1.0, 1.0), extrapolate=True)
    assert np.isfinite(result).all()
    assert (result[[0, 6]] < 0).all()
    assert np.array_equal(result[3] > 0, mask)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_drawn_slices_are_kept(seed: int, extrapolate: bool) -> None:
    rng = np.random.default_rng(seed)
    stack_shape = (7, 6, 5)
    drawn = rng.choice(7, size=rng.integers(1, 5), replace=False)
    masks = {int(i): rng.random(stack_shape[1:]) < 0.5 for i in drawn}
    result = interpolate_shape(masks, stack_shape, (2.0, 1.0, 0.5), extrapolate)
    assert result.shape == stack_shape
    assert np.isfinite(result).all()
    for index, mask in masks.items():
        assert np.array_equal(result[index] > 0, mask)


@pytest.mark.parametrize(
    "masks", [{}, {7: np.ones((3, 3), bool)}, {-1: np.ones((3, 3), bool)}, {0: np.ones((3, 4), bool)}]
)
def test_masks_that_do_not_fit(masks: dict[int, np.ndarray]) -> None:
    with pytest.raises(InputError) as caught:
        interpolate_shape(masks, (7, 3, 3), (1.0, 1.0, 1.0))
    assert "\n" not in str(caught.value)


def test_distance_of_a_volume() -> None:
    with pytest.raises(InputError, match="2-D"):
        signed_distance(np.ones((2, 3, 3), bool), (1.0, 1.0))
