"""Results in the user's segments: only what may change, changes."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import ClassInfo, SegmentedClass, SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.segments import class_info
from Testing.mrml.builders import SHAPE, Editor, add_segmentation, add_volume, checksum, ellipsoid, on_slices, voxels_of


def result(key: str, mask: np.ndarray, margin: int = 0) -> SegmentedClass:
    """What the engine answers for a mask."""
    if not mask.any():
        return SegmentedClass(key, (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool))
    at = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in at)
    return SegmentedClass(key, box, mask[box].copy())


class Scan:
    """A scan with two classes, of which one is drawn on three slices, and an editor."""

    def __init__(self) -> None:
        self.volume = add_volume()
        self.segmentation = add_segmentation(self.volume, "organ", "lesion", "bone")
        self.editor = Editor(self.segmentation, self.volume)
        self.organ = ellipsoid(center=(0.5, 0.5, 0.45))
        self.drawn = on_slices(self.organ, (4, 6, 8))
        self.editor.paint("organ", self.drawn)
        self.drawings = Drawings(self.segmentation, self.volume)

    def apply(self, *results: SegmentedClass, **options: object) -> None:
        apply_results(
            self.segmentation,
            self.volume,
            self.editor.node,
            results,
            self.drawings,
            self.editor.logic.SaveStateForUndo,
            **options,
        )

    def voxels(self, segment_id: str) -> np.ndarray:
        return voxels_of(self.segmentation, segment_id)

    def checksum(self, segment_id: str) -> str:
        return checksum(self.segmentation, segment_id)


@pytest.fixture
def scan(scene: slicer.vtkMRMLScene) -> Scan:
    return Scan()


def test_drawn_slices_stay_and_the_rest_becomes_the_result(scan: Scan) -> None:
    found = ellipsoid(center=(0.5, 0.45, 0.5), radius=0.35)
    scan.apply(result("organ", found))
    expected = found.copy()
    expected[[4, 6, 8]] = scan.drawn[[4, 6, 8]]
    assert (scan.voxels("organ") == expected).all()


def test_undo_takes_one_step_and_brings_the_drawing_back(scan: Scan) -> None:
    before = scan.checksum("organ"), scan.checksum("lesion"), scan.drawings.revision("organ")
    scan.apply(result("organ", ellipsoid(radius=0.4)), result("lesion", ellipsoid(center=(0.2, 0.2, 0.2), radius=0.1)))
    assert scan.checksum("organ") != before[0]
    assert scan.drawings.revision("organ") == before[2]
    scan.editor.logic.Undo()
    assert (scan.checksum("organ"), scan.checksum("lesion"), scan.drawings.revision("organ")) == before
    assert set(scan.drawings.read("organ").planes) == {4, 6, 8}
