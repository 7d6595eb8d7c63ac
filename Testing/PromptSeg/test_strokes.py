"""Scribbles in the panel: which structures they teach, and what is learned of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from Testing.mrml.builders import Editor
from Testing.PromptSeg import test_controller as playing
from Testing.PromptSeg.test_controller import PlayedClient, beside_a_finished_segment, square, trained

client, controller, drawn = playing.client, playing.controller, playing.drawn


@pytest.fixture
def scribbled(drawn: Any) -> Any:
    """The spleen is unticked: its strokes are background of the liver."""
    drawn.training = replace(drawn.training, scribbles=True)
    paint_beside(drawn, 1)
    drawn.choose("spleen", False)
    return drawn


def paint_beside(controller: Any, index: int) -> None:
    from Testing.slicer_harness.driving import paint

    paint(controller.case.segmentation_node, "spleen", 0, index, square(6) & ~square())
    controller.refresh()


def trainable(controller: Any) -> list[str]:
    return [structure.key for structure in controller.situation.trainable]


def test_a_stroke_of_background_is_to_be_learned(scribbled: Any, client: PlayedClient) -> None:
    trained(scribbled, client)
    assert trainable(scribbled) == [] and scribbled.situation.structures[0].trained
    paint_beside(scribbled, 2)
    assert trainable(scribbled) == ["liver"] and not scribbled.situation.structures[0].trained
    trained(scribbled, client)
    assert trainable(scribbled) == []


def test_a_stroke_during_training_is_still_to_be_learned(scribbled: Any, client: PlayedClient) -> None:
    scribbled.train()
    paint_beside(scribbled, 2)
    trained_on = client.latest("tune")
    trained_on.finish(playing.TuneResult({"liver": playing.token_data()}))
    client.latest("segment").finish((playing.found(),))
    assert trainable(scribbled) == ["liver"]


def test_strokes_stay_learned_when_the_result_is_applied(scribbled: Any, client: PlayedClient) -> None:
    trained(scribbled, client)
    editor = Editor(scribbled.case.segmentation_node, scribbled.case.volume_node)
    scribbled.apply(editor.node, editor.logic.SaveStateForUndo)
    assert trainable(scribbled) == [] and scribbled.situation.structures[0].trained


def test_strokes_that_are_learned_are_known_when_the_scene_is_opened_again(
    scribbled: Any, client: PlayedClient, panel_package: None
) -> None:
    from PromptSegPanel.case import Case

    trained(scribbled, client)
    scribbled.case.segmentation_node.GetSegmentation().AddEmptySegment("kidney", "kidney")
    opened = Case(scribbled.case.volume_node, scribbled.case.segmentation_node, lambda: None, lambda why: None)
    assert [structure.trained for structure in opened.structures(scribbles=True)] == [True, False, False]
    opened.close()


def test_finished_segments_stay_unticked_among_scribbles(controller: Any) -> None:
    from Testing.slicer_harness.driving import paint

    scan, segmentation, _ = beside_a_finished_segment(0.3)
    controller.set_scan(scan, segmentation)
    controller.training = replace(controller.training, scribbles=True)
    paint(segmentation, "drawn", 0, 2, square())
    controller.refresh()
    assert trainable(controller) == ["drawn"]
