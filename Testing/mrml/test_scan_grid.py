"""Drawings under results on a scan that was cropped, in its own place or as another volume."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.scan_grid import ScanGrid
from Testing.mrml.builders import SHAPE, add_transform, add_volume, ellipsoid, on_slices
from Testing.mrml.test_applying import Scan, result
from Testing.mrml.test_volumes import rotation

FIRST = (1, 2, 3)
CROPPED = (slice(1, None), slice(2, 18), slice(3, None))


@pytest.fixture
def scan(scene: slicer.vtkMRMLScene) -> Scan:
    """The organ, drawn on slices 4, 6 and 8, lies under a result."""
    scan = Scan()
    scan.apply(result("organ", ellipsoid(radius=0.4)))
    return scan


def cropped(by: float = 0.0) -> slicer.vtkMRMLScalarVolumeNode:
    """The scan without its margins, its voxels shifted by a part of a voxel."""
    places = np.diag([1.5, 2.0, 3.0, 1.0])
    places[:3, 3] = places[:3, :3] @ (np.array(FIRST[::-1]) + by)
    return add_volume(np.zeros(SHAPE, np.int16)[CROPPED], places)


def apply_on(scan: Scan, volume: slicer.vtkMRMLScalarVolumeNode, radius: float) -> None:
    found = result("organ", ellipsoid(radius=radius)[CROPPED])
    drawings = Drawings(scan.segmentation, volume)
    apply_results(scan.segmentation, volume, scan.editor.node, [found], drawings, scan.editor.logic.SaveStateForUndo)


@pytest.mark.parametrize("by", [0.0, 0.3])
def test_drawn_slices_are_known_on_the_cropped_scan(scan: Scan, by: float) -> None:
    drawings = Drawings(scan.segmentation, cropped(by))
    drawing = drawings.read("organ")
    assert list(drawing.planes) == [3, 5, 7] and drawings.summary("organ") == ("axial", 3)
    assert all((plane == scan.drawn[CROPPED][index]).all() for index, plane in drawing.planes.items())
    assert drawings.is_covered("organ") and not drawings.is_gapless("organ")


def test_on_a_finer_scan_a_drawn_slice_is_known_wherever_it_is_nearest(scan: Scan) -> None:
    finer = add_volume(np.zeros((24, *SHAPE[1:]), np.int16), np.diag([1.5, 2.0, 1.5, 1.0]))
    planes = Drawings(scan.segmentation, finer).read("organ").planes
    assert {4, 6, 8} == {round(index / 2) for index in planes} and len(planes) >= 3


def test_a_slice_that_is_corrected_on_the_cropped_scan_is_drawn(scan: Scan) -> None:
    scan.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [5]), erase=True)
    drawing = Drawings(scan.segmentation, cropped()).read("organ")
    assert list(drawing.planes) == [3, 4, 5, 7] and not drawing.planes[4].any()


def test_the_drawing_stays_known_under_a_result_on_the_cropped_scan_and_beyond(scan: Scan) -> None:
    volume = cropped()
    apply_on(scan, volume, 0.35)
    assert list(Drawings(scan.segmentation, volume).read("organ").planes) == [3, 5, 7]
    drawing = scan.drawings.read("organ")
    assert list(drawing.planes) == [4, 6, 8]
    for index, plane in drawing.planes.items():
        assert (plane[CROPPED[1:]] == scan.drawn[index][CROPPED[1:]]).all()
        assert (plane[:2] == 255).all() and (plane[:, :3] == 255).all()


def test_undo_brings_the_drawing_back_on_the_cropped_scan(scan: Scan) -> None:
    volume = cropped()
    apply_on(scan, volume, 0.35)
    for _ in range(2):
        scan.editor.logic.Undo()
        assert list(Drawings(scan.segmentation, volume).read("organ").planes) == [3, 5, 7]
    assert (scan.voxels("organ") == scan.drawn).all()


def test_transforms_and_turned_scans(scan: Scan) -> None:
    volume = cropped()
    add_transform(rotation(10, 20, 30), scan.segmentation, volume, scan.volume)
    assert list(Drawings(scan.segmentation, volume).read("organ").planes) == [3, 5, 7]
    turned = add_volume(np.zeros(SHAPE, np.int16)[CROPPED])
    assert ScanGrid.of(scan.segmentation, scan.volume).seen_on(ScanGrid.of(scan.segmentation, turned)) is None


@pytest.mark.parametrize("places", [None, [1.0], ["x"] * 16, [0.0] * 16, [float("nan")] * 16])
def test_a_damaged_grid_counts_as_none(places: object) -> None:
    assert ScanGrid.from_record({"shape": [3, 4, 5], "places": places}) is None
    assert ScanGrid.from_record([]) is None


def test_what_is_left_of_a_drawing_is_unknown_beyond_its_grid() -> None:
    small, large = np.eye(4), np.eye(4)
    small[:3, 3] = 1
    seen = ScanGrid((2, 2, 2), small).seen_on(ScanGrid((4, 4, 4), large))
    carried = seen.carried(SliceDrawing(0, {0: np.ones((2, 2), np.uint8)}))
    assert list(carried.planes) == [1] and (carried.planes[1][1:3, 1:3] == 1).all()
    assert np.count_nonzero(carried.planes[1] == 255) == 12
