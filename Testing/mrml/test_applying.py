"""Results in the user's segments: only what may change, changes."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import ClassInfo, SegmentedClass, SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.nodes import matrix_from_array
from PromptSegLib.mrml.segments import add_segment, class_info, region_on_volume
from Testing.mrml.builders import (
    SHAPE,
    Editor,
    add_segmentation,
    add_transform,
    add_volume,
    checksum,
    ellipsoid,
    on_slices,
    voxels_of,
)
from Testing.mrml.test_volumes import rotation


def result(key: str, mask: np.ndarray) -> SegmentedClass:
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


def test_other_segments_keep_every_voxel(scan: Scan) -> None:
    bone = np.zeros(SHAPE, bool)
    bone[:, 8:12, :] = True
    scan.editor.paint("bone", bone & ~scan.drawn)
    before, drawn = scan.checksum("bone"), scan.voxels("organ")
    found = ellipsoid(radius=0.4)
    scan.apply(result("organ", found))
    scan.apply(result("organ", ellipsoid(radius=0.2)))
    scan.apply(result("organ", found))
    assert scan.checksum("bone") == before
    # A layer more would cost memory of the size of the scan.
    assert scan.segmentation.GetSegmentation().GetNumberOfLayers() == 1
    assert not (scan.voxels("organ") & scan.voxels("bone")).any()
    expected = found & ~scan.voxels("bone")
    expected[[4, 6, 8]] = drawn[[4, 6, 8]]
    assert (scan.voxels("organ") == expected).all()


def test_hidden_segments_are_given_way_to_unless_only_visible_ones_count(scan: Scan) -> None:
    bone = np.zeros(SHAPE, bool)
    bone[5, 8:12, :] = True
    scan.editor.paint("bone", bone)
    scan.segmentation.GetDisplayNode().SetSegmentVisibility("bone", False)
    before, found = scan.checksum("bone"), ellipsoid(radius=0.4)
    scan.apply(result("organ", found))
    assert not (scan.voxels("organ") & bone).any()
    scan.editor.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteVisibleSegments)
    scan.apply(result("organ", found))
    assert (scan.voxels("organ")[5] == found[5]).all()
    assert scan.checksum("bone") == before


def test_where_overlap_is_allowed_results_lie_over_others(scan: Scan) -> None:
    scan.editor.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    bone = np.zeros(SHAPE, bool)
    bone[:, 8:12, :] = True
    scan.editor.paint("bone", bone)
    before, found = scan.checksum("bone"), ellipsoid(radius=0.4)
    scan.apply(result("organ", found))
    assert scan.checksum("bone") == before
    assert (scan.voxels("organ")[5] == found[5]).all()
    assert (scan.voxels("organ")[[4, 6, 8]] == scan.drawn[[4, 6, 8]]).all()


def test_overwriting_happens_only_when_asked_for(scan: Scan) -> None:
    bone = np.zeros(SHAPE, bool)
    bone[:, 8:12, :] = True
    scan.editor.paint("bone", bone & ~scan.drawn)
    before, found = scan.voxels("bone"), ellipsoid(radius=0.4)
    scan.apply(result("organ", found), overwrite=True)
    taken = found.copy()
    taken[[4, 6, 8]] = scan.drawn[[4, 6, 8]]
    assert (scan.voxels("organ") == taken).all()
    assert (scan.voxels("bone") == before & ~taken).all()


def test_what_was_drawn_of_one_class_is_not_overwritten_by_another(scan: Scan) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[5, 9:11, 10:13] = True
    scan.editor.paint("lesion", lesion)
    scan.apply(result("organ", ellipsoid(radius=0.4)), result("lesion", lesion), overwrite=True)
    assert (scan.voxels("lesion") == lesion).all()
    assert not (scan.voxels("organ") & lesion).any()


def test_a_voxel_changes_hands_between_results(scan: Scan) -> None:
    left, right = ellipsoid(center=(0.5, 0.5, 0.3), radius=0.2), ellipsoid(center=(0.5, 0.5, 0.7), radius=0.2)
    scan.editor.node.SetSelectedSegmentID("lesion")
    scan.drawings.remember("organ", SliceDrawing(0, {}))
    scan.apply(result("organ", left), result("lesion", right))
    scan.apply(result("organ", right), result("lesion", left))
    assert (scan.voxels("organ") == right).all()
    assert (scan.voxels("lesion") == left).all()


INSIDE_ALL, OUTSIDE_ALL, INSIDE_ONE = (
    slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments,
    slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments,
    slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment,
)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("mode", [INSIDE_ALL, OUTSIDE_ALL, INSIDE_ONE])
def test_the_editable_area_is_respected(scan: Scan, mode: int, overlap: bool) -> None:
    if overlap:
        scan.editor.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    bone = np.zeros(SHAPE, bool)
    bone[:, :, 12:] = True
    scan.editor.paint("bone", bone & ~scan.drawn)
    former = np.zeros(SHAPE, bool)
    former[5, 2:18, 2:22] = True
    scan.editor.paint("organ", former)
    scan.drawings.remember("organ", SliceDrawing(0, {i: scan.drawn[i].view(np.uint8) for i in (4, 6, 8)}))
    before, organ, bone = scan.checksum("bone"), scan.voxels("organ"), scan.voxels("bone")
    scan.editor.node.SetMaskMode(mode)
    scan.editor.node.SetMaskSegmentID("bone")
    found = ellipsoid(radius=0.4)
    scan.apply(result("organ", found))
    editable = {INSIDE_ALL: bone | organ, OUTSIDE_ALL: ~bone, INSIDE_ONE: bone}[mode].copy()
    editable[[4, 6, 8]] = False
    gained = editable & found
    assert gained.any()
    assert (scan.voxels("organ") == (organ & ~(editable & ~found)) | gained).all()
    assert scan.checksum("bone") == before


def test_segments_that_are_surfaces_are_refused_and_their_derived_voxels_are_no_drawing(scan: Scan) -> None:
    scan.segmentation.CreateClosedSurfaceRepresentation()
    scan.segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    scan.segmentation.CreateBinaryLabelmapRepresentation()
    before = scan.checksum("organ")
    assert scan.drawings.read("organ") is None and scan.drawings.summary("organ") is None
    assert region_on_volume(scan.segmentation, "organ", scan.volume) is None
    with pytest.raises(InputError, match="choose Paint"):
        scan.apply(result("organ", ellipsoid(radius=0.4)))
    with pytest.raises(InputError, match="choose Paint"):
        add_segment(scan.segmentation, scan.volume, ClassInfo("Kidney"))
    assert scan.checksum("organ") == before


def test_the_editable_intensity_range_is_respected(scan: Scan) -> None:
    former = np.zeros(SHAPE, bool)
    former[5, 2:18, 2:22] = True
    scan.editor.paint("organ", former)
    scan.drawings.remember("organ", SliceDrawing(0, {i: scan.drawn[i].view(np.uint8) for i in (4, 6, 8)}))
    organ, found = scan.voxels("organ"), ellipsoid(radius=0.4)
    scan.editor.node.SetSourceVolumeIntensityMask(True)
    scan.editor.node.SetSourceVolumeIntensityMaskRange(75, 155)
    scan.apply(result("organ", found))
    editable = np.zeros(SHAPE, bool)
    editable[..., 8:16] = True
    editable[[4, 6, 8]] = False
    assert (scan.voxels("organ") == np.where(editable, found, organ)).all()


def test_the_editor_is_as_the_user_left_it(scan: Scan) -> None:
    node = scan.editor.node
    node.SetSelectedSegmentID("bone")
    node.SetActiveEffectName("Paint")
    node.SetMaskMode(OUTSIDE_ALL)
    node.SetMaskSegmentID("lesion")
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    time = node.GetMTime()
    scan.apply(result("organ", ellipsoid()))
    assert node.GetMTime() == time
    assert scan.editor.logic.GetSegmentationNode() is scan.segmentation
    # Nothing but the memory of the drawing is left behind.
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes + 1


def test_an_empty_result_leaves_the_drawn_slices(scan: Scan) -> None:
    scan.apply(result("organ", ellipsoid(radius=0.4)))
    scan.apply(result("organ", np.zeros(SHAPE, bool)))
    assert (scan.voxels("organ") == scan.drawn).all()
    assert list(scan.drawings.read("organ").planes) == [4, 6, 8]


def test_corrections_count_as_drawn_in_the_next_result(scan: Scan) -> None:
    scan.apply(result("organ", ellipsoid(radius=0.4)))
    scan.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [5]), erase=True)
    dot = np.zeros(SHAPE, bool)
    dot[9, 3, 3] = True
    scan.editor.paint("organ", dot)
    corrected = scan.voxels("organ")
    scan.apply(result("organ", ellipsoid(radius=0.45)))
    assert (scan.voxels("organ")[[4, 5, 6, 8, 9]] == corrected[[4, 5, 6, 8, 9]]).all()
    assert (scan.voxels("organ")[7] == ellipsoid(radius=0.45)[7]).all()
    assert list(scan.drawings.read("organ").planes) == [4, 5, 6, 8, 9]


def test_two_undos_take_two_results_back(scan: Scan) -> None:
    states = [scan.checksum("organ")]
    for radius in (0.4, 0.2):
        scan.apply(result("organ", ellipsoid(radius=radius)))
        states.append(scan.checksum("organ"))
    for state in (states[1], states[0]):
        scan.editor.logic.Undo()
        assert scan.checksum("organ") == state
        assert list(scan.drawings.read("organ").planes) == [4, 6, 8]


def test_an_undone_stroke_before_an_undone_result_was_never_drawn(scan: Scan) -> None:
    scan.apply(result("organ", ellipsoid(radius=0.4)))
    scan.editor.logic.Undo()
    scan.editor.paint("organ", on_slices(np.ones(SHAPE, bool), [8]), erase=True)
    drawing = scan.drawings.read("organ")
    assert list(drawing.planes) == [4, 6]
    assert all((drawing.planes[index] == scan.drawn[index]).all() for index in (4, 6))


def test_a_fresh_segment_is_described_and_a_drawn_one_keeps_its_name(scan: Scan) -> None:
    info = ClassInfo("Kidney", (1, 2, 255), ("SCT", "64033007", "Kidney"))
    found = ellipsoid(radius=0.1)
    scan.apply(result("organ", found), result("bone", found), infos={"organ": info, "bone": info})
    assert class_info(scan.segmentation, "bone") == info
    assert class_info(scan.segmentation, "organ").name == "organ"


def test_an_empty_segmentation_takes_the_grid_of_the_scan(scan: Scan) -> None:
    coarser = add_volume(np.zeros((6, 10, 12), np.int16), np.diag([3.0, 4.0, 6.0, 1.0]))
    segmentation = add_segmentation(coarser)
    segment_id = add_segment(segmentation, scan.volume, ClassInfo("Liver"))
    drawings, found = Drawings(segmentation, scan.volume), ellipsoid()
    apply_results(
        segmentation,
        scan.volume,
        scan.editor.node,
        [result(segment_id, found)],
        drawings,
        scan.editor.logic.SaveStateForUndo,
    )
    assert (voxels_of(segmentation, segment_id) == found).all()


def test_a_segment_that_nobody_drew_on_has_no_drawing_afterwards(scan: Scan) -> None:
    segment_id = add_segment(scan.segmentation, scan.volume, ClassInfo("Liver"))
    scan.apply(result(segment_id, ellipsoid(center=(0.2, 0.2, 0.2), radius=0.1)))
    assert scan.voxels(segment_id).any()
    assert scan.drawings.read(segment_id) is None


@pytest.mark.parametrize("reason", ["scan", "segmentation", "segment", "editor"])
def test_what_was_deleted_is_named_and_nothing_changes(scan: Scan, reason: str) -> None:
    before = scan.checksum("organ")
    if reason == "segment":
        scan.segmentation.GetSegmentation().RemoveSegment("lesion")
    else:
        node = {"scan": scan.volume, "segmentation": scan.segmentation, "editor": scan.editor.node}[reason]
        slicer.mrmlScene.RemoveNode(node)
    found = ellipsoid(radius=0.1)
    with pytest.raises(InputError, match="no longer"):
        scan.apply(result("organ", found), result("lesion", found))
    assert scan.checksum("organ") == before


class Oblique:
    """A segmentation whose grid is coarser and turned against the scan's, with a drawn organ and bone beside it."""

    def __init__(self) -> None:
        self.volume = add_volume()
        self.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.segmentation.CreateDefaultDisplayNodes()
        self.shape = (18, 30, 32)
        grid = rotation(3, -2, 8) @ np.array([[1.2, 0, 0, -1], [0, -1.4, 0, 39], [0, 0, 2.2, -2], [0, 0, 0, 1]])
        image = slicer.vtkOrientedImageData()
        image.SetImageToWorldMatrix(matrix_from_array(grid))
        image.SetExtent(0, self.shape[2] - 1, 0, self.shape[1] - 1, 0, self.shape[0] - 1)
        text = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
        self.segmentation.GetSegmentation().SetConversionParameter("Reference image geometry", text)
        for name in ("organ", "bone"):
            self.segmentation.GetSegmentation().AddEmptySegment(name)
        self.editor = Editor(self.segmentation, self.volume)
        self.drawings = Drawings(self.segmentation, self.volume)


def test_on_another_grid_the_result_lies_in_the_same_place(scene: slicer.vtkMRMLScene) -> None:
    desk = Oblique()
    bone = np.zeros(desk.shape, bool)
    bone[:, :4] = True
    desk.editor.paint("bone", bone)
    before = checksum(desk.segmentation, "bone", desk.shape)
    found = ellipsoid(radius=0.35)
    apply_results(
        desk.segmentation,
        desk.volume,
        desk.editor.node,
        [result("organ", found)],
        desk.drawings,
        desk.editor.logic.SaveStateForUndo,
    )
    region = region_on_volume(desk.segmentation, "organ", desk.volume)
    there = region.within((slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2])))
    assert 2 * (there & found).sum() / (there.sum() + found.sum()) > 0.9
    assert checksum(desk.segmentation, "bone", desk.shape) == before


def test_on_another_grid_drawn_slices_stay_and_undo_brings_everything_back(scene: slicer.vtkMRMLScene) -> None:
    desk = Oblique()
    organ = on_slices(ellipsoid(desk.shape), (5, 9, 12))
    desk.editor.paint("organ", organ)
    drawing = desk.drawings.read("organ")
    before = checksum(desk.segmentation, "organ", desk.shape), desk.drawings.revision("organ")
    apply_results(
        desk.segmentation,
        desk.volume,
        desk.editor.node,
        [result("organ", ellipsoid(radius=0.4))],
        desk.drawings,
        desk.editor.logic.SaveStateForUndo,
    )
    after = desk.drawings.read("organ")
    assert drawing.planes.keys() == after.planes.keys()
    assert all((after.planes[index] == drawing.planes[index]).all() for index in drawing.planes)
    desk.editor.logic.Undo()
    assert (checksum(desk.segmentation, "organ", desk.shape), desk.drawings.revision("organ")) == before


def test_an_intensity_range_on_a_strange_grid_is_refused(scan: Scan) -> None:
    coarser = add_volume(np.zeros((6, 10, 12), np.int16), np.diag([3.0, 4.0, 6.0, 1.0]))
    scan.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(coarser)
    scan.editor.node.SetSourceVolumeIntensityMask(True)
    before = scan.checksum("organ")
    with pytest.raises(InputError, match="editable intensity range"):
        scan.apply(result("organ", ellipsoid(radius=0.4)))
    assert scan.checksum("organ") == before


def test_transforms_on_scan_and_segmentation_are_minded(scan: Scan) -> None:
    add_transform(rotation(10, 20, 30), scan.volume, scan.segmentation)
    found = ellipsoid(radius=0.4)
    expected = found.copy()
    expected[[4, 6, 8]] = scan.drawn[[4, 6, 8]]
    scan.apply(result("organ", found))
    assert (scan.voxels("organ") == expected).all()


def test_results_fill_what_strokes_leave_unknown(scan: Scan) -> None:
    strokes = scan.drawn[6].astype(np.uint8)
    strokes[:, 12:] = 255
    found, before = ellipsoid(radius=0.4), scan.checksum("organ")
    scan.apply(result("organ", found), drawn={"organ": SliceDrawing(0, {6: strokes})})
    assert (scan.voxels("organ")[6, :, :12] == scan.drawn[6, :, :12]).all()
    assert (scan.voxels("organ")[6, :, 12:] == found[6, :, 12:]).all()
    assert (scan.voxels("organ")[4] == found[4]).all()
    remembered = scan.drawings.read("organ")
    assert list(remembered.planes) == [6] and (remembered.planes[6] == strokes).all()
    scan.editor.logic.Undo()
    assert scan.checksum("organ") == before
    assert list(scan.drawings.read("organ").planes) == [4, 6, 8]
