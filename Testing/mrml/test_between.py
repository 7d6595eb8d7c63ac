"""Drawings on a grid of the segmentation that is finer than the scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import slicer

from PromptSegLib.mrml.drawings import Drawings
from Testing.mrml.builders import Editor, add_segmentation, add_transform, add_volume
from Testing.mrml.test_volumes import rotation

FINE = (31, 16, 16)


def drawings_on(*painted: Sequence[int]) -> Drawings:
    """Of "organ", painted on slices of 1.2 mm; the scan sees every fifth of them, from the first one on."""
    scan = add_volume(np.zeros((6, 16, 16), np.int16), np.diag([2.0, 2.0, 6.0, 1.0]))
    segmentation = add_segmentation(add_volume(np.zeros(FINE, np.int16), np.diag([2.0, 2.0, 1.2, 1.0])), "organ")
    add_transform(rotation(10, 20, 30), scan, segmentation)
    mask = np.zeros(FINE, bool)
    for indices in painted:
        mask[list(indices), 4:10, 4:10] = True
    Editor(segmentation, scan).paint("organ", mask)
    return Drawings(segmentation, scan)


@pytest.mark.parametrize(
    ("painted", "count"),
    [
        ([[5], [20]], 0),
        ([[5], [12], [20]], 1),
        ([[5], [12, 13], [18], [20]], 2),
        ([[5], [9, 10, 11], [20]], 0),
        ([range(4, 22)], 0),
    ],
)
def test_slices_that_the_scan_does_not_see_are_counted(
    scene: slicer.vtkMRMLScene, painted: list[Sequence[int]], count: int
) -> None:
    assert drawings_on(*painted).between("organ") == count


def test_on_the_grid_of_the_scan_there_are_none(scene: slicer.vtkMRMLScene) -> None:
    scan = add_volume()
    segmentation = add_segmentation(scan, "organ")
    drawings, mask = Drawings(segmentation, scan), np.zeros((12, 20, 24), bool)
    assert drawings.between("organ") == 0
    mask[[3, 6], 4:10, 4:10] = True
    Editor(segmentation, scan).paint("organ", mask)
    assert drawings.between("organ") == 0
