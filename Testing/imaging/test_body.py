"""The middle of the body, whatever lies beside it and however the scan is stored."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.volume import Geometry, Volume, slice_stack
from PromptSegLib.imaging.window import Window
from Testing.support import reoriented

SHAPE, SPACING = (6, 60, 80), (5.0, 3.0, 2.0)
CT = Window("ct")


def body(center: tuple[float, float] = (30, 44), radii: tuple[float, float] = (20, 24)) -> Volume:
    """An elliptic cylinder of soft tissue in air; center and radii in pixels (rows, columns)."""
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 < 1
    array = np.where(np.broadcast_to(inside, SHAPE), 40, -1000).astype(np.int16)
    return Volume(array, Geometry(SHAPE, SPACING))


def middles(volume: Volume, axis: int = 0) -> np.ndarray:
    return body_middles(volume.array, slice_stack(volume, axis), CT)


def test_the_middle_of_an_ellipse_in_mm() -> None:
    assert np.allclose(middles(body()), [30 * 3, 44 * 2], atol=5)


def test_a_couch_beneath_moves_it_by_little() -> None:
    scan = body()
    scan.array[:, 54, 20:70] = 0
    assert np.allclose(middles(scan), [30 * 3, 44 * 2], atol=10)


def test_a_body_that_the_scan_cuts_off_has_no_middle_on_that_side() -> None:
    found = middles(body(center=(30, 5)))
    assert np.allclose(found[:, 0], 90, atol=5) and np.isnan(found[:, 1]).all()


def test_a_slice_without_a_body_takes_it_from_its_neighbors() -> None:
    scan = body()
    scan.array[3] = -1000
    assert np.allclose(middles(scan), [90, 88], atol=5)
    scan.array[:] = -1000
    assert np.isnan(middles(scan)).all()


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (False, True, True)), ((2, 0, 1), (True, False, True))])
def test_however_stored_it_is_the_same(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    stored = reoriented(body(), order, flips)
    stacks = [slice_stack(stored, axis) for axis in range(3)]
    axial = next(stack for stack in stacks if stack.plane == "axial")
    assert np.allclose(body_middles(stored.array, axial, CT), middles(body()), atol=6)
