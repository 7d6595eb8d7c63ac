"""Slices on other planes are told from what a structure looks like by itself."""

from itertools import product

import numpy as np
import pytest

from PromptSegLib.imaging.crossing import crossing_slices
from PromptSegLib.imaging.phantom import make_phantom

SHAPE = (14, 16, 18)


def ball() -> np.ndarray:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    mask: np.ndarray = (z - 7) ** 2 + (y - 8) ** 2 + (x - 9) ** 2 <= 6**2
    return mask


def on_slices(structure: np.ndarray, slices: dict[int, list[int]]) -> np.ndarray:
    """The structure on these slices; slices: of each array axis, their indices."""
    mask = np.zeros_like(structure)
    for axis, indices in slices.items():
        np.moveaxis(mask, axis, 0)[indices] = np.moveaxis(structure, axis, 0)[indices]
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("drawn", [[7], [5, 8], [4, 7, 10]])
@pytest.mark.parametrize(("first", "second"), [([8], []), ([6, 10], []), ([], [9]), ([8], [9]), ([5, 8], [7, 9])])
def test_slices_on_other_planes_are_left_out(axis: int, drawn: list[int], first: list[int], second: list[int]) -> None:
    others = [other for other in range(3) if other != axis]
    mask = on_slices(ball(), {axis: drawn, others[0]: first, others[1]: second})
    found = crossing_slices(mask, axis)
    assert found is not None
    crossing, left_out = found
    assert crossing == tuple(other for other, indices in zip(others, (first, second), strict=True) if indices)
    occupied = np.flatnonzero(mask.any(axis=tuple(others)))
    assert left_out == set(occupied.tolist()) - set(drawn)


def test_two_planes_beside_the_axis_leave_nothing() -> None:
    found = crossing_slices(on_slices(ball(), {1: [8], 2: [9]}), 0)
    assert found is not None and found[0] == (1, 2) and len(found[1]) == 13


@pytest.mark.parametrize("ends", [np.s_[8, 9:10], np.s_[8, 8:11], np.s_[7:9, 9:11]])
def test_a_thin_end_is_no_crossing_slice(ends: tuple[slice, ...]) -> None:
    structure = ball()
    structure[1], structure[13] = False, False
    structure[(1, *ends)] = structure[(13, *ends)] = True
    for step in (1, 2, 3):
        assert crossing_slices(on_slices(structure, {0: list(range(1, 14, step))}), 0) is None


def test_a_thin_sheet_is_no_crossing_slice() -> None:
    """Upright, tilted, and with a ball in its middle."""
    upright, tilted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    upright[2:12, 8, 3:15] = True
    for index in range(1, 13):
        tilted[index, 2 + index // 2, 3:15] = True
    around = np.zeros(SHAPE, bool)
    around[5:9, 3:8, 6:11] = True
    for structure in (upright, tilted, tilted | around):
        assert crossing_slices(structure, 0) is None


def test_no_structure_of_a_body_has_crossing_slices() -> None:
    labels = make_phantom(1).labels.array
    for label, axis in product(range(1, int(labels.max()) + 1), range(3)):
        drawn = np.flatnonzero((labels == label).any(axis=tuple(other for other in range(3) if other != axis)))
        for step in (1, 3):
            mask = on_slices(labels == label, {axis: drawn[::step].tolist()})
            assert not mask.any() or crossing_slices(mask, axis) is None, (label, axis, step)
