"""The user's masking, where Slicer itself does not look after it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from Testing.mrml.builders import SHAPE, Editor, add_segmentation, add_volume, ellipsoid, voxels_of
from Testing.mrml.test_applying import INSIDE_ALL, INSIDE_ONE, OUTSIDE_ALL, Scan, result

VOXELS = np.diag([1.5, 2.0, 3.0, 1.0])


@pytest.fixture
def scan(scene: slicer.vtkMRMLScene) -> Scan:
    return Scan()


@pytest.mark.parametrize("mode", [INSIDE_ALL, OUTSIDE_ALL, INSIDE_ONE, None])
def test_masking_is_respected_beyond_the_segmentation_grid_too(scene: slicer.vtkMRMLScene, mode: int | None) -> None:
    volume, half = add_volume(), (SHAPE[0] // 2, *SHAPE[1:])
    segmentation = add_segmentation(
        add_volume(np.zeros(half, np.int16), np.diag([1.5, 2.0, 3.0, 1.0])), "organ", "bone"
    )
    editor, bone, organ = Editor(segmentation, volume), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    bone[: half[0], :, 12:], organ[5, 5, 5] = True, True
    editor.paint("bone", bone[: half[0]])
    editor.paint("organ", organ[: half[0]])
    if mode is None:
        editor.node.SetSourceVolumeIntensityMask(True)
        editor.node.SetSourceVolumeIntensityMaskRange(75, 155)
    else:
        editor.node.SetMaskMode(mode)
        editor.node.SetMaskSegmentID("bone")
    drawings = Drawings(segmentation, volume)
    drawings.remember("organ", SliceDrawing(0, {}))
    found = ellipsoid(radius=0.4)
    apply_results(segmentation, volume, editor.node, [result("organ", found)], drawings, editor.logic.SaveStateForUndo)
    in_range = np.zeros(SHAPE, bool)
    in_range[: half[0], :, 8:12] = True
    editable = {INSIDE_ALL: bone | organ, OUTSIDE_ALL: ~bone, INSIDE_ONE: bone, None: in_range}[mode]
    now = voxels_of(segmentation, "organ")
    assert (found & editable).any() and not (now & ~found & editable).any()
    assert (now == (organ & ~editable) | (found & editable)).all()


def test_an_editable_area_whose_segment_was_deleted_is_named_and_nothing_changes(scan: Scan) -> None:
    scan.editor.node.SetMaskMode(INSIDE_ONE)
    scan.editor.node.SetMaskSegmentID("bone")
    scan.segmentation.GetSegmentation().RemoveSegment("bone")
    before = scan.checksum("organ")
    with pytest.raises(InputError, match="editable area"):
        scan.apply(result("organ", ellipsoid(radius=0.4)))
    assert scan.checksum("organ") == before
