"""Segments are painted through the real logic, views are rendered and clicked, scenes are saved and read again."""

from __future__ import annotations

import numpy as np
import pytest

SHAPE = (12, 40, 48)
SPACING = (3.0, 1.0, 1.0)


@pytest.fixture
def scan(scene):
    from Testing.slicer_harness.driving import add_scan

    array = np.zeros(SHAPE, np.int16)
    array[4:8, 10:30, 10:30] = 100
    return add_scan(array, SPACING)


@pytest.fixture
def segmentation(scan):
    from Testing.slicer_harness.driving import add_segmentation

    return add_segmentation(scan, "organ", "other")


@pytest.fixture
def editor(scan, segmentation):
    import slicer

    widget = slicer.qMRMLSegmentEditorWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    widget.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    widget.setSegmentationNode(segmentation)
    widget.setSourceVolumeNode(scan)
    yield widget
    widget.setActiveEffectByName("")
    widget.deleteLater()


@pytest.fixture
def voxels(scan, segmentation):
    from Testing.slicer_harness.driving import segment_array

    return lambda segment_id="organ": segment_array(segmentation, segment_id, scan)


def ras(scan, k, j, i):
    """The position of a voxel (slice, row, column)."""
    import vtk

    ijk_to_ras = vtk.vtkMatrix4x4()
    scan.GetIJKToRASMatrix(ijk_to_ras)
    return ijk_to_ras.MultiplyPoint((i, j, k, 1))[:3]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_paint_lands_on_its_slice_along_every_axis(segmentation, voxels, axis):
    from Testing.slicer_harness.driving import paint

    mask = np.zeros(np.delete(SHAPE, axis), bool)
    mask[3:7, 5:8] = True
    paint(segmentation, "organ", axis, 6, mask)
    expected = np.zeros(SHAPE, bool)
    np.moveaxis(expected, axis, 0)[6] = mask
    assert np.array_equal(voxels(), expected)
    paint(segmentation, "organ", axis, 6, mask, erase=True)
    assert not voxels().any()


def test_paint_in_the_editor_can_be_undone_and_redone(editor, voxels):
    from Testing.slicer_harness.driving import paint

    mask = np.ones(SHAPE[1:], bool)
    paint(editor, "organ", 0, 2, mask)
    paint(editor, "organ", 0, 3, mask)
    editor.undo()
    assert voxels().any(axis=(1, 2)).nonzero()[0].tolist() == [2]
    editor.redo()
    assert voxels().any(axis=(1, 2)).nonzero()[0].tolist() == [2, 3]


def test_paint_respects_the_intensity_range_and_other_segments(editor, voxels, scan):
    import slicer

    from Testing.slicer_harness.driving import paint

    node = editor.mrmlSegmentEditorNode()
    whole = np.ones(SHAPE[1:], bool)
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(50, 200)
    paint(editor, "other", 0, 5, whole)
    bright = slicer.util.arrayFromVolume(scan)[5] > 50
    assert np.array_equal(voxels("other")[5], bright)
    node.SourceVolumeIntensityMaskOff()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    paint(editor, "organ", 0, 5, whole)
    assert np.array_equal(voxels("organ")[5], ~bright)


def test_a_user_paints_and_erases_in_a_slice_view(editor, scan, voxels):
    from Testing.slicer_harness.driving import drag, jump, show_in_slice_views

    show_in_slice_views(scan)
    jump(ras(scan, 6, 20, 20))
    editor.setCurrentSegmentID("organ")
    editor.setActiveEffectByName("Paint")
    editor.effectByName("Paint").setCommonParameter("BrushAbsoluteDiameter", 6)
    drag("Red", [ras(scan, 6, 20, 12), ras(scan, 6, 20, 28)])
    painted = voxels()
    assert painted.any(axis=(1, 2)).nonzero()[0].tolist() == [6]
    assert painted[6, 20, 12:29].all()
    assert 90 < painted.sum() < 150
    editor.setActiveEffectByName("Erase")
    drag("Red", [ras(scan, 6, 20, 28)])
    assert not voxels()[6, 20, 28]
    assert voxels()[6, 20, 12]
    editor.setActiveEffectByName("")
    drag("Red", [ras(scan, 6, 30, 30)])
    assert not voxels()[6, 30, 30]


def test_a_click_in_a_slice_view_places_a_point(scene, scan):
    import slicer

    from Testing.slicer_harness.driving import click, jump, show_in_slice_views

    show_in_slice_views(scan)
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.CreateDefaultDisplayNodes()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
    selection.SetActivePlaceNodeID(points.GetID())
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.Place)
    target = ras(scan, 6, 15, 25)
    jump(target)
    click("Red", target)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert points.GetNumberOfControlPoints() == 1
    assert np.allclose(slicer.util.arrayFromMarkupsControlPoints(points)[0], target, atol=0.5)


def test_views_show_the_scan_and_the_segments(editor, scan, segmentation):
    from Testing.slicer_harness.driving import jump, paint, picture, show_in_slice_views

    show_in_slice_views(scan)
    jump(ras(scan, 6, 20, 20))
    gray = picture("Red")
    assert gray.std() > 10
    assert np.array_equal(gray[..., 0], gray[..., 1])
    for index in range(3, 9):
        mask = np.zeros(SHAPE[1:], bool)
        mask[12:28, 12:28] = True
        paint(editor, "organ", 0, index, mask)
    assert (picture("Red") != gray).any(axis=-1).mean() > 0.02
    empty = picture("3D")
    segmentation.CreateClosedSurfaceRepresentation()
    import slicer

    slicer.app.layoutManager().resetThreeDViews()
    assert (picture("3D") != empty).any(axis=-1).mean() > 0.02


def test_a_widget_is_photographed(editor, tmp_path):
    import qt

    from Testing.slicer_harness.driving import grab

    grab(editor, tmp_path / "editor.png", 500, 400)
    image = qt.QImage(str(tmp_path / "editor.png"))
    assert image.width() == 500
    assert len({image.pixel(x, y) for x in range(0, 500, 7) for y in range(0, image.height(), 7)}) > 3


def test_a_user_presses_the_buttons_of_the_editor(editor, segmentation):
    from Testing.slicer_harness.driving import press

    press(editor, "Add")
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 3
    added = editor.currentSegmentID()
    assert added not in ("organ", "other")
    press(editor, "Erase")
    assert editor.activeEffect().name == "Erase"
    press(editor, "Remove")
    assert segmentation.GetSegmentation().GetSegment(added) is None
    press(editor, "Undo")
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 3
    editor.readOnly = True
    with pytest.raises(LookupError, match="disabled"):
        press(editor, "Paint")


def test_the_editor_shows_the_effects_that_a_module_asks_for(editor):
    import qt

    editor.setEffectNameOrder(["Paint", "Erase"])
    editor.unorderedEffectsVisible = False
    editor.show()
    shown = [button.text for button in editor.findChildren(qt.QToolButton) if button.isVisible()]
    assert sorted(shown) == ["Erase", "None", "Paint"]


def test_the_editor_follows_its_node(scene, editor, segmentation):
    heard = []
    editor.currentSegmentIDChanged.connect(heard.append)
    editor.mrmlSegmentEditorNode().SetSelectedSegmentID("other")
    assert heard == ["other"]
    segmentation.GetSegmentation().RemoveSegment("other")
    assert editor.currentSegmentID() == "organ"
    scene.RemoveNode(segmentation)
    assert editor.segmentationNode() is None


def test_a_saved_scene_holds_its_segments(scene, scan, segmentation, tmp_path):
    import slicer

    from Testing.slicer_harness.driving import load_scene, paint, save_scene, segment_array

    mask = np.zeros(SHAPE[1:], bool)
    mask[4:9, 5:11] = True
    paint(segmentation, "organ", 0, 6, mask)
    save_scene(tmp_path / "scene.mrb")
    load_scene(tmp_path / "scene.mrb")
    again, volume = slicer.util.getNode("Segmentation"), slicer.util.getNode("Scan")
    assert np.array_equal(segment_array(again, "organ", volume)[6], mask)
    assert again.GetNodeReference(again.GetReferenceImageGeometryReferenceRole()) is volume


def test_a_deleted_editor_hears_nothing(scan, segmentation, voxels):
    import slicer

    from Testing.slicer_harness.driving import drag, jump, process_events, show_in_slice_views

    show_in_slice_views(scan)
    jump(ras(scan, 6, 20, 20))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    widget = slicer.qMRMLSegmentEditorWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    widget.setMRMLSegmentEditorNode(node)
    widget.setSegmentationNode(segmentation)
    widget.setSourceVolumeNode(scan)
    widget.setActiveEffectByName("Paint")
    widget.deleteLater()
    process_events()
    node.SetSelectedSegmentID("other")
    segmentation.GetSegmentation().RemoveSegment("other")
    drag("Red", [ras(scan, 6, 20, 20)])
    assert not voxels().any()
