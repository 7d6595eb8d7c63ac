"""What becomes of results when scan, drawing or options change before they are applied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import slicer
import vtk

from PromptSegLib.engine.messages import Preview, SegmentedClass, TuneResult
from Testing.mrml.builders import Editor, add_transform, voxels_of
from Testing.mrml.test_volumes import rotation
from Testing.PromptSeg import test_controller as playing
from Testing.PromptSeg.test_controller import PlayedClient, found, square, token_data, trained

client, controller, drawn = playing.client, playing.controller, playing.drawn

SHAPE = (6, 16, 16)


def crop(volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """As the module Crop Volume does if its output is its input."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    for row, value in enumerate(matrix.MultiplyPoint((3, 3, 1, 1))[:3]):
        matrix.SetElement(row, 3, value)
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[1:, 3:, 3:].copy())
    volume.SetIJKToRASMatrix(matrix)


def apply(controller: Any) -> np.ndarray:
    """The liver as it is after Apply was pressed."""
    case = controller.case
    editor = Editor(case.segmentation_node, case.volume_node)
    controller.apply(editor.node, editor.logic.SaveStateForUndo)
    return voxels_of(case.segmentation_node, "liver", SHAPE)


def everywhere() -> SegmentedClass:
    return SegmentedClass("liver", (slice(0, 6), slice(0, 16), slice(0, 16)), np.ones(SHAPE, bool), 0.9, 30.0)


def test_results_of_a_scan_that_was_cropped_are_not_applied(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    before = voxels_of(drawn.case.segmentation_node, "liver", SHAPE)
    crop(drawn.case.volume_node)
    after = apply(drawn)
    assert (after == before).all()
    assert "cropped" in drawn.situation.message
    assert not drawn.situation.has_preview and drawn.case.preview.mask("liver") is None
    assert drawn.situation.structures[0].confidence is None


def test_results_that_come_after_the_scan_was_cropped_are_not_shown(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    crop(drawn.case.volume_node)
    plane = square().astype(np.uint8)
    client.latest("tune").on_preview[0](Preview("liver", 0, {2: plane}))
    assert drawn.case.preview.mask("liver") is None
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    client.latest("segment").finish((found(),))
    assert "cropped" in drawn.situation.message and not drawn.situation.has_preview
    assert drawn.case.tokens()["liver"] == token_data()


def test_results_that_were_applied_before_the_scan_was_cropped_do_not_come_back(
    drawn: Any, client: PlayedClient
) -> None:
    trained(drawn, client)
    case = drawn.case
    editor = Editor(case.segmentation_node, case.volume_node)
    drawn.apply(editor.node, editor.logic.SaveStateForUndo)
    crop(case.volume_node)
    editor.logic.Undo()
    drawn.note_undone()
    assert "cropped" in drawn.situation.message and not drawn.situation.has_preview


def test_results_of_a_scan_that_was_moved_are_applied(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    scan, segmentation = drawn.case.volume_node, drawn.case.segmentation_node
    add_transform(rotation(10, 20, 30), scan, segmentation)
    scan.HardenTransform()
    segmentation.HardenTransform()
    assert apply(drawn)[1:6, 4:10, 4:10].all()


def test_a_result_is_not_taken_for_a_drawing_when_the_scan_is_cropped(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    apply(drawn)
    crop(drawn.case.volume_node)
    drawn.refresh()
    assert drawn.situation.structures[0].drawn == 3
    drawn.choose("liver", True)
    drawn.train()
    planes = client.latest("annotate").arguments["drawing"].planes
    assert list(planes) == [0, 2, 4] and (planes[0] == square()[3:, 3:]).all()


def test_the_panel_hears_when_the_scan_is_cropped(panel_package: None, drawn: Any) -> None:
    from PromptSegPanel.case import Case

    changes: list[None] = []
    case = Case(drawn.case.volume_node, drawn.case.segmentation_node, lambda: changes.append(None), lambda why: None)
    crop(case.volume_node)
    assert changes
    case.close()
    changes.clear()
    crop(case.volume_node)
    assert not changes


def test_results_of_strokes_are_applied_as_such_whatever_is_chosen_since(drawn: Any, client: PlayedClient) -> None:
    drawn.training = replace(drawn.training, scribbles=True)
    trained(drawn, client)
    drawn.case.show_results([everywhere()], drawn.case.basis(scribbles=True))
    drawn.training = replace(drawn.training, scribbles=False)
    assert apply(drawn).all()


def test_results_of_whole_slices_leave_these_alone_whatever_is_chosen_since(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    drawn.case.show_results([everywhere()], drawn.case.basis())
    drawn.training = replace(drawn.training, scribbles=True)
    after = apply(drawn)
    assert all((after[index] == square()).all() for index in (1, 3, 5))


def test_a_token_is_not_used_where_segments_are_surfaces(drawn: Any, client: PlayedClient) -> None:
    case = drawn.case
    case.segmentation_node.CreateClosedSurfaceRepresentation()
    case.segmentation_node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    drawn.refresh()
    client.take()
    drawn.find(token_data(), case.info("spleen"))
    assert "choose Paint" in drawn.situation.message
    assert "segment" not in client.take() and not case.tokens()


def test_a_preview_that_cannot_be_applied_stays(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    case = drawn.case
    editor = Editor(case.segmentation_node, case.volume_node)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.node.SetMaskSegmentID("gone")
    drawn.apply(editor.node, editor.logic.SaveStateForUndo)
    assert "editable area" in drawn.situation.message and drawn.situation.has_preview
