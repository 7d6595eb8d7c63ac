"""The drawing is what the user drew, before and after results lie over it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.nodes import matrix_from_array
from Testing.mrml.builders import (
    SHAPE,
    Editor,
    add_segmentation,
    add_transform,
    add_volume,
    ellipsoid,
    on_slices,
    reload,
    voxels_of,
)
from Testing.mrml.test_volumes import rotation

ORGAN = ellipsoid()
RESULT = ellipsoid(radius=0.4)
DRAWN = (4, 6, 8)


class Desk:
    """A user before a scan, with an organ drawn on three slices."""

    def __init__(self, axis: int = 0, slices: tuple[int, ...] = DRAWN) -> None:
        self.volume = add_volume()
        self.segmentation = add_segmentation(self.volume, "organ", "bone")
        self.editor = Editor(self.segmentation, self.volume)
        self.editor.paint("organ", on_slices(ORGAN, slices, axis))
        self.drawings = Drawings(self.segmentation, self.volume)

    def cover(self, mask: np.ndarray = RESULT) -> SliceDrawing:
        """Let a result lie over the drawing, with the drawn slices as they were drawn."""
        drawing = self.drawings.read("organ")
        self.drawings.remember("organ", drawing)
        covered = mask.copy()
        for index, plane in drawing.planes.items():
            np.moveaxis(covered, drawing.axis, 0)[index] = plane == 1
        former = voxels_of(self.segmentation, "organ")
        self.editor.paint("organ", covered & ~former)
        self.drawings.remember("organ", drawing)
        return drawing


@pytest.fixture
def desk(scene: slicer.vtkMRMLScene) -> Desk:
    return Desk()


def same(first: SliceDrawing, second: SliceDrawing) -> bool:
    return (
        first.axis == second.axis
        and list(first.planes) == list(second.planes)
        and all(np.array_equal(first.planes[index], second.planes[index]) for index in first.planes)
    )


@pytest.mark.parametrize(
    ("axis", "slices", "plane"), [(0, (4, 6, 8), "axial"), (1, (7, 10, 12), "coronal"), (2, (8, 11, 15), "sagittal")]
)
def test_a_drawing_is_read_across_the_axis_it_was_drawn(
    scene: slicer.vtkMRMLScene, axis: int, slices: tuple[int, ...], plane: str
) -> None:
    desk = Desk(axis, slices)
    drawing = desk.drawings.read("organ")
    assert (drawing.axis, tuple(drawing.planes)) == (axis, slices)
    for index, values in drawing.planes.items():
        assert values.dtype == np.uint8
        assert np.array_equal(values, np.moveaxis(ORGAN, axis, 0)[index])
    assert desk.drawings.summary("organ") == (plane, 3)


@pytest.mark.parametrize(("other", "plane"), [(1, "coronal"), (2, "sagittal")])
def test_a_slice_across_the_others_does_not_count(desk: Desk, other: int, plane: str) -> None:
    before = desk.drawings.read("organ")
    assert desk.drawings.crossing_plane("organ") == ""
    desk.editor.paint("organ", on_slices(ORGAN, [SHAPE[other] // 2], other))
    assert same(desk.drawings.read("organ"), before)
    assert desk.drawings.summary("organ") == ("axial", 3)
    assert desk.drawings.crossing_plane("organ") == plane


def test_thin_ends_of_a_structure_are_no_crossing_slice(scene: slicer.vtkMRMLScene) -> None:
    desk = Desk(slices=())
    for ends in (np.s_[9, 12:13], np.s_[9:11, 11:13]):
        organ = ORGAN.copy()
        for index in np.flatnonzero(organ.any(axis=(1, 2)))[[0, -1]]:
            organ[index] = False
            organ[(index, *ends)] = True
        desk.editor.paint("bone", organ)
        assert desk.drawings.crossing_plane("bone") == ""
        assert desk.drawings.summary("bone")[1] == np.count_nonzero(organ.any(axis=(1, 2)))
        desk.editor.paint("bone", np.ones(SHAPE, bool), erase=True)


def test_nothing_drawn_is_no_drawing(desk: Desk) -> None:
    assert desk.drawings.read("bone") is None
    assert desk.drawings.summary("bone") is None
    desk.editor.paint("organ", np.ones(SHAPE, bool), erase=True)
    assert desk.drawings.read("organ") is None


def test_other_segments_on_a_drawn_slice_are_background(desk: Desk) -> None:
    stripe = np.zeros(SHAPE, bool)
    stripe[6, :, 12:] = True
    desk.editor.paint("bone", stripe)
    assert np.array_equal(desk.drawings.read("organ").planes[6], ORGAN[6] & ~stripe[6])


def test_a_result_does_not_change_the_drawing(desk: Desk) -> None:
    before = desk.drawings.revision("organ")
    drawing = desk.cover()
    assert (voxels_of(desk.segmentation, "organ") != on_slices(ORGAN, DRAWN)).any()
    assert same(desk.drawings.read("organ"), drawing)
    assert desk.drawings.revision("organ") == before
    assert desk.drawings.summary("organ") == ("axial", 3)


def test_a_corrected_slice_is_drawn(desk: Desk) -> None:
    desk.cover()
    before = desk.drawings.revision("organ")
    dot = np.zeros(SHAPE, bool)
    dot[5, 0, 0] = True
    desk.editor.paint("organ", dot)
    expected = RESULT[5].copy()
    expected[0, 0] = True
    drawing = desk.drawings.read("organ")
    assert list(drawing.planes) == [4, 5, 6, 8]
    assert np.array_equal(drawing.planes[5], expected)
    assert desk.drawings.revision("organ") != before


def test_smoothing_a_whole_result_is_told_from_correcting_a_few_slices(scene: slicer.vtkMRMLScene) -> None:
    desk = Desk(axis=2, slices=(8, 11, 15))
    assert not desk.drawings.was_remade("organ")
    desk.cover()
    desk.editor.paint("organ", on_slices(RESULT, (9, 10), axis=2), erase=True)
    assert not desk.drawings.was_remade("organ")
    desk.editor.logic.SaveStateForUndo()
    desk.editor.paint("organ", ellipsoid(radius=0.3), erase=True)
    assert desk.drawings.was_remade("organ")
    assert desk.drawings.summary("organ")[1] > 10, "all of it counts as drawn nevertheless"
    desk.editor.logic.Undo()
    desk.editor.logic.Undo()
    assert not desk.drawings.was_remade("organ")


def test_a_drawing_is_told_from_one_under_a_result(desk: Desk) -> None:
    assert not desk.drawings.is_covered("organ")
    desk.cover()
    assert desk.drawings.is_covered("organ")
    desk.editor.logic.Undo()
    assert not desk.drawings.is_covered("organ")


def test_a_drawn_slice_can_be_corrected_too(desk: Desk) -> None:
    desk.cover()
    hole = np.zeros(SHAPE, bool)
    hole[6, 10, 12] = True
    desk.editor.paint("organ", hole, erase=True)
    assert np.array_equal(desk.drawings.read("organ").planes[6], ORGAN[6] & ~hole[6])


def test_an_emptied_slice_says_not_here(desk: Desk) -> None:
    desk.cover()
    desk.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [9]), erase=True)
    drawing = desk.drawings.read("organ")
    assert list(drawing.planes) == [4, 6, 8, 9]
    assert not drawing.planes[9].any()


def test_not_here_is_remembered_under_the_next_result(desk: Desk) -> None:
    desk.cover()
    desk.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [9]), erase=True)
    desk.cover(ellipsoid(radius=0.35))
    drawing = desk.drawings.read("organ")
    assert list(drawing.planes) == [4, 6, 8, 9]
    assert not drawing.planes[9].any()


def test_erasing_everything_forgets(desk: Desk) -> None:
    desk.cover()
    desk.editor.paint("organ", np.ones(SHAPE, bool), erase=True)
    assert desk.drawings.read("organ") is None
    desk.editor.paint("organ", on_slices(ORGAN, [5]) & (np.arange(SHAPE[2]) < 12))
    assert list(desk.drawings.read("organ").planes) == [5]


def test_undo_and_redo_bring_the_drawing_back(desk: Desk) -> None:
    drawn = desk.drawings.read("organ")
    desk.cover()
    desk.editor.logic.Undo()
    assert same(desk.drawings.read("organ"), drawn)
    desk.editor.logic.Redo()
    assert same(desk.drawings.read("organ"), drawn)
    desk.editor.logic.Undo()
    desk.editor.paint("organ", on_slices(ORGAN, [3]))
    assert list(desk.drawings.read("organ").planes) == [3, 4, 6, 8]


def test_undo_of_erasing_everything_brings_the_drawing_back(desk: Desk) -> None:
    drawn = desk.cover()
    desk.editor.paint("organ", np.ones(SHAPE, bool), erase=True)
    desk.editor.logic.Undo()
    assert same(desk.drawings.read("organ"), drawn)


def test_a_result_over_nothing_drawn_is_no_drawing(desk: Desk) -> None:
    desk.editor.paint("bone", RESULT)
    desk.drawings.remember("bone", SliceDrawing(0, {}))
    assert desk.drawings.read("bone") is None
    desk.editor.paint("bone", on_slices(np.ones(SHAPE, bool), [5]), erase=True)
    assert list(desk.drawings.read("bone").planes) == [5]


@pytest.mark.parametrize(("axis", "index"), [(1, 10), (2, 12)])
def test_a_result_over_nothing_drawn_may_be_corrected_across_any_axis(desk: Desk, axis: int, index: int) -> None:
    desk.editor.paint("bone", RESULT)
    desk.drawings.remember("bone", SliceDrawing(0, {}))
    desk.editor.paint("bone", on_slices(np.ones(SHAPE, bool), [index], axis), erase=True)
    drawing = desk.drawings.read("bone")
    assert (drawing.axis, list(drawing.planes)) == (axis, [index]) and not desk.drawings.was_remade("bone")
    desk.editor.paint("bone", on_slices(RESULT, [index], axis))
    assert desk.drawings.read("bone") is None, "it is as it was"
    hole = np.zeros(SHAPE, bool)
    hole[3:9, 9:11, 11:13] = True
    desk.editor.paint("bone", hole, erase=True)
    assert desk.drawings.read("bone").axis == 0, "a part that shows on many slices does not turn the drawing"


def test_a_result_that_was_changed_on_every_slice_is_no_new_drawing(desk: Desk) -> None:
    desk.cover()
    dots = np.zeros(SHAPE, bool)
    dots[RESULT.any(axis=(1, 2)), 0, 0] = True
    desk.editor.paint("organ", dots)
    assert desk.drawings.was_remade("organ") and desk.drawings.is_covered("organ")
    desk.editor.paint("organ", np.ones(SHAPE, bool), erase=True)
    desk.editor.paint("organ", on_slices(ORGAN, DRAWN))
    assert list(desk.drawings.read("organ").planes) == list(DRAWN), "what is drawn after all was erased is drawn anew"
    desk.cover()
    desk.editor.paint("organ", np.ones(SHAPE, bool), erase=True)
    desk.editor.paint("organ", on_slices(ORGAN, (7, 10, 12), axis=1))
    drawing = desk.drawings.read("organ")
    assert (drawing.axis, list(drawing.planes)) == (1, [7, 10, 12]), "also across all of its slices"


def test_the_drawing_survives_the_night(desk: Desk, tmp_path: Path) -> None:
    desk.cover()
    desk.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [9]), erase=True)
    drawing, summary = desk.drawings.read("organ"), desk.drawings.summary("organ")
    reload(str(tmp_path / "scene.mrb"))
    drawings = Drawings(slicer.util.getNode("Segmentation"), slicer.util.getNode("CT"))
    assert same(drawings.read("organ"), drawing)
    assert drawings.summary("organ") == summary


def records() -> list[slicer.vtkMRMLTextNode]:
    return list(slicer.util.getNodesByClass("vtkMRMLTextNode"))


def test_the_memory_is_hidden_and_dies_with_the_segmentation(desk: Desk) -> None:
    desk.cover()
    (node,) = records()
    assert node.GetHideFromEditors()
    assert "organ" in node.GetText()
    slicer.mrmlScene.RemoveNode(desk.segmentation)
    assert not records()


def test_a_removed_segment_comes_back_with_its_memory(desk: Desk) -> None:
    drawing = desk.cover()
    desk.editor.logic.SaveStateForUndo()
    desk.segmentation.GetSegmentation().RemoveSegment("organ")
    desk.editor.logic.Undo()
    assert same(desk.drawings.read("organ"), drawing)


def test_a_new_segment_with_the_id_of_a_removed_one_has_no_memory(desk: Desk) -> None:
    desk.cover()
    mask = voxels_of(desk.segmentation, "organ")
    desk.segmentation.GetSegmentation().RemoveSegment("organ")
    desk.segmentation.GetSegmentation().AddEmptySegment("organ")
    desk.editor.paint("organ", mask)
    assert len(desk.drawings.read("organ").planes) > 3


def test_a_clone_has_a_memory_of_its_own(desk: Desk) -> None:
    drawn = desk.cover()
    clone = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    clone.Copy(desk.segmentation)
    copies = Drawings(clone, desk.volume)
    assert same(copies.read("organ"), drawn)
    copies.remember("organ", SliceDrawing(0, {5: np.ones(SHAPE[1:], np.uint8)}))
    assert same(desk.drawings.read("organ"), drawn)
    slicer.mrmlScene.RemoveNode(desk.segmentation)
    assert list(copies.read("organ").planes) == [5]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"organ": 5}'])
def test_damaged_memories_count_as_none(desk: Desk, text: str) -> None:
    desk.cover()
    records()[0].SetText(text)
    assert len(desk.drawings.read("organ").planes) == np.count_nonzero(RESULT.any(axis=(1, 2)))


@pytest.mark.parametrize("record", [5, [], {"states": [{}]}])
def test_a_damaged_memory_counts_as_none(desk: Desk, record: object) -> None:
    desk.cover()
    (node,) = records()
    (identity,) = json.loads(node.GetText())
    node.SetText(json.dumps({identity: {"segment": "organ", "record": record}}))
    assert len(desk.drawings.read("organ").planes) == np.count_nonzero(RESULT.any(axis=(1, 2)))


def test_damaged_planes_are_left_out(desk: Desk) -> None:
    desk.cover()
    node = records()[0]
    for digest in desk.drawings._memory("organ").planes:
        node.SetText(node.GetText().replace(f'"{digest}": "', f'"{digest}": "9,9,'))
    assert not desk.drawings.read("organ").planes


def test_an_unchanged_segment_is_not_looked_at_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = desk.drawings.revision("organ")
    monkeypatch.setattr(desk.drawings, "_find", lambda segment_id: pytest.fail("looked again"))
    assert desk.drawings.revision("organ") == first
    assert desk.drawings.summary("organ") == ("axial", 3)


def test_a_segment_that_is_touched_and_not_changed_is_not_looked_at_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Slicer touches every layer with a stroke on any segment."""
    first = desk.drawings.revision("organ")
    monkeypatch.setattr(desk.drawings, "_find", lambda segment_id: pytest.fail("looked again"))
    segment = desk.segmentation.GetSegmentation().GetSegment("organ")
    segment.GetRepresentation("Binary labelmap").Modified()
    assert desk.drawings.revision("organ") == first


@pytest.mark.parametrize("with_transforms", [False, True])
def test_an_oblique_scan_under_transforms_is_read_exactly(scene: slicer.vtkMRMLScene, with_transforms: bool) -> None:
    ijk_to_ras = rotation(20, 30, -40) @ np.diag([-1.5, 2.0, 3.0, 1.0])
    volume = add_volume(ijk_to_ras=ijk_to_ras)
    segmentation = add_segmentation(volume, "organ")
    if with_transforms:
        add_transform(rotation(5, 6, 7), volume, segmentation)
    Editor(segmentation, volume).paint("organ", on_slices(ORGAN, DRAWN))
    drawing = Drawings(segmentation, volume).read("organ")
    assert (drawing.axis, tuple(drawing.planes)) == (0, DRAWN)
    assert all(np.array_equal(drawing.planes[index], ORGAN[index]) for index in DRAWN)


def test_a_segment_on_a_finer_shifted_flipped_grid_lies_where_it_was_drawn(scene: slicer.vtkMRMLScene) -> None:
    volume = add_volume()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    # Half the spacing in the plane, columns from the other end, and every scan voxel the center of 2 x 2 x 1 of these.
    shape = (SHAPE[0], 2 * SHAPE[1], 2 * SHAPE[2])
    grid = np.array([[-0.75, 0, 0, 1.5 * SHAPE[2] - 1.125], [0, 1.0, 0, -0.5], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    image = slicer.vtkOrientedImageData()
    image.SetImageToWorldMatrix(matrix_from_array(grid))
    image.SetExtent(0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1)
    text = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
    segmentation.GetSegmentation().SetConversionParameter("Reference image geometry", text)
    segmentation.GetSegmentation().AddEmptySegment("organ")
    drawn = on_slices(ORGAN, DRAWN)
    Editor(segmentation, volume).paint("organ", drawn.repeat(2, axis=1).repeat(2, axis=2)[:, :, ::-1])
    drawing = Drawings(segmentation, volume).read("organ")
    assert (drawing.axis, tuple(drawing.planes)) == (0, DRAWN)
    assert all(np.array_equal(drawing.planes[index], ORGAN[index]) for index in DRAWN)


def test_what_lies_beside_the_scan_is_not_drawn(desk: Desk) -> None:
    moved = np.eye(4)
    moved[2, 3] = 1000
    transform = add_transform(np.eye(4), desk.segmentation)
    assert desk.drawings.summary("organ") == ("axial", 3)
    transform.SetMatrixTransformToParent(matrix_from_array(moved))
    assert desk.drawings.summary("organ") is None


def test_deleted_nodes_are_named(desk: Desk) -> None:
    slicer.mrmlScene.RemoveNode(desk.volume)
    for call in (desk.drawings.read, desk.drawings.summary, desk.drawings.revision):
        with pytest.raises(InputError, match="the scan is no longer in the scene"):
            call("organ")
        with pytest.raises(InputError, match='the segment "liver" is no longer'):
            call("liver")
    slicer.mrmlScene.RemoveNode(desk.segmentation)
    for call in (desk.drawings.read, desk.drawings.summary, desk.drawings.revision):
        with pytest.raises(InputError, match="the segmentation is no longer in the scene"):
            call("organ")
    with pytest.raises(InputError):
        desk.drawings.remember("organ", SliceDrawing(0, {}))
    with pytest.raises(InputError):
        Drawings(desk.segmentation, desk.volume)
