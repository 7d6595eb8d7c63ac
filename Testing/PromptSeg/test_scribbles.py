"""Strokes instead of whole slices."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.engine.messages import SliceDrawing


def plane(*painted: tuple[int, int]) -> np.ndarray:
    array = np.zeros((4, 5), np.uint8)
    for place in painted:
        array[place] = 1
    return array


@pytest.mark.usefixtures("panel_package")
def test_only_painted_voxels_are_known() -> None:
    from PromptSegPanel.scribbles import as_scribbles

    drawing = SliceDrawing(0, {2: plane((1, 1)), 3: plane((0, 0))})
    beside = SliceDrawing(0, {2: plane((3, 4), (3, 3))})
    across = SliceDrawing(1, {2: plane((2, 2), (3, 1))})
    found = as_scribbles(drawing, [beside, across])
    expected = np.full((4, 5), 255, np.uint8)
    expected[1, 1], expected[3, 4], expected[3, 3], expected[2, 2] = 1, 0, 0, 0
    assert found.axis == 0
    assert np.array_equal(found.planes[2], expected)
    assert np.argwhere(found.planes[3] == 0).tolist() == [[2, 1]], "rows of the others are columns of slices"


@pytest.mark.usefixtures("panel_package")
def test_strokes_of_others_count_on_slices_of_their_own() -> None:
    from PromptSegPanel.scribbles import as_scribbles

    found = as_scribbles(SliceDrawing(0, {2: plane((1, 1))}), [SliceDrawing(0, {1: plane((0, 3))})])
    assert list(found.planes) == [1, 2]
    assert found.planes[1][0, 3] == 0 and np.count_nonzero(found.planes[1] == 255) == 19


@pytest.mark.usefixtures("panel_package")
def test_what_is_known_under_a_result_stays_known() -> None:
    from PromptSegPanel.scribbles import as_scribbles

    corrected = SliceDrawing(0, {2: plane((1, 1))})
    assert np.array_equal(as_scribbles(corrected, [], covered=True).planes[2], corrected.planes[2])


@pytest.mark.usefixtures("panel_package")
def test_a_voxel_painted_as_both_is_the_structure() -> None:
    from PromptSegPanel.scribbles import as_scribbles

    found = as_scribbles(SliceDrawing(0, {0: plane((1, 1))}), [SliceDrawing(0, {0: plane((1, 1))})])
    assert found.planes[0][1, 1] == 1
