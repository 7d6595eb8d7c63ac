"""What lies around a point: told at the right place, on the right side, however the scan is stored."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.surroundings import CELL_MM, Surroundings
from PromptSegLib.imaging.volume import Geometry, SliceStack, Volume, stack_of_plane
from PromptSegLib.imaging.window import Window
from Testing.support import reoriented

CT = Window("ct")
HERE = 7
"""So many numbers tell what is at the point itself, sharp and blurred; the rest tells of places around it."""


def told(image: Volume, points: np.ndarray, window: Window = CT, plane: str = "axial") -> np.ndarray:
    """points: (n, 3) indices of the stack."""
    surroundings = Surroundings.of(image, stack_of_plane(image, plane), window)
    return surroundings.around(surroundings.cells(points))


@given(
    spacing=st.tuples(*(st.floats(0.5, 9.0) for _ in range(3))),
    axis=st.integers(0, 2),
    point=st.tuples(*(st.floats(0.4, 0.6) for _ in range(3))),
)
@settings(max_examples=40, deadline=None)
def test_a_ramp_is_read_where_it_is(
    spacing: tuple[float, float, float], axis: int, point: tuple[float, float, float]
) -> None:
    shape = tuple(max(4, round(120 / mm)) for mm in spacing)
    ramp = np.moveaxis(np.broadcast_to(np.arange(shape[axis]) * 800 / shape[axis] - 400, _last(shape, axis)), -1, axis)
    at = np.array([[share * (n - 1) for share, n in zip(point, shape, strict=True)]])
    found = told(Volume(ramp.astype(np.float32), Geometry(shape, spacing)), at)
    hu = at[0, axis] * 800 / shape[axis] - 400
    # A voxel is 800 / shape HU: a tenth of one.
    assert abs(found[0, 0] * 1000 - hu) < 80 / shape[axis] + 1e-3


def _last(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*(n for other, n in enumerate(shape) if other != axis), shape[axis])


def test_in_a_scan_of_one_kind_all_places_look_alike() -> None:
    soft = Volume(np.full((20, 30, 30), 50, np.int16), Geometry((20, 30, 30), (4.0, 3.0, 3.0)))
    found = told(soft, np.array([[0.0, 0, 0], [10, 15, 15], [19, 29, 29]]))
    here, around = found[:, :HERE], found[:, HERE:]
    np.testing.assert_allclose(here[:, :5], 0.05, atol=1e-5)
    np.testing.assert_allclose(here[:, 5:], 0, atol=1e-5)
    for kind, expected in ((0, 0.0), (1, -1.0), (2, 0.0)):
        np.testing.assert_allclose(around[:, kind::3], expected, atol=1e-5)


def with_bone(left: bool) -> Volume:
    """Bone on one side of the patient: x grows to the left with the columns."""
    array = np.full((30, 40, 40), 30, np.int16)
    array[:, :, 28:] = 1000 if left else 30
    array[:, :, :12] = 30 if left else 1000
    return Volume(array, Geometry((30, 40, 40), (4.0, 4.0, 4.0)))


def test_sides_are_told_apart() -> None:
    middle = np.array([[15.0, 20, 19.5]])
    left, right = (told(with_bone(side), middle)[0, HERE + 1 :: 3] for side in (True, False))
    assert left.max() > 0.5 and right.max() > 0.5
    # What a place on the left tells, it does not tell of the other side.
    assert np.all(np.minimum(left, right) < -0.2)


@given(order=st.permutations((0, 1, 2)), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=20, deadline=None)
def test_however_it_is_stored(order: list[int], flips: tuple[bool, bool, bool]) -> None:
    chance = np.random.default_rng(0)
    # Whole cells along each axis, so that they are the same ones from either end.
    coarse = chance.normal(0, 200, (10, 9, 12))
    scan = Volume(np.kron(coarse, np.ones((2, 2, 2))).astype(np.float32), Geometry((20, 18, 24), (2.5, 2.5, 2.5)))
    stored = reoriented(scan, tuple(order), flips)
    voxels = chance.integers((3, 3, 3), (17, 15, 21), (5, 3))
    found = []
    for image in (scan, stored):
        stack = stack_of_plane(image, "axial")
        found.append(told(image, np.array([_in_stack(image, stack, scan, voxel) for voxel in voxels])))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def _in_stack(image: Volume, stack: SliceStack, original: Volume, voxel: np.ndarray) -> tuple[int, int, int]:
    position = original.geometry.affine @ (*voxel, 1)
    index = np.rint(np.linalg.solve(image.geometry.affine, position)).astype(int)
    return stack.locate((int(index[0]), int(index[1]), int(index[2])))


def test_scans_other_than_ct() -> None:
    array = np.zeros((12, 20, 20), np.float32)
    array[:, :, 10:] = 900
    image = Volume(array, Geometry((12, 20, 20), (5.0, 5.0, 5.0)))
    found = told(image, np.array([[6.0, 10, 2], [6, 10, 17]]), Window("percentile", 0, 1000))
    np.testing.assert_allclose(found[:, 0], [-1, 0.8], atol=1e-5)


def test_it_is_looked_at_once() -> None:
    image = with_bone(True)
    stack = stack_of_plane(image, "axial")
    assert Surroundings.of(image, stack, CT) is Surroundings.of(image, stack, CT)
    assert Surroundings.of(image, stack_of_plane(image, "coronal"), CT) is not Surroundings.of(image, stack, CT)


def test_a_scan_smaller_than_a_cell() -> None:
    tiny = Volume(np.full((1, 2, 3), 40, np.int16), Geometry((1, 2, 3), (0.7, 0.7, 0.7)))
    assert CELL_MM > 3 * 0.7
    assert np.isfinite(told(tiny, np.array([[0.0, 1, 1]]))).all()
