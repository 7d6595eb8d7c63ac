"""Tokens are kept in the scene with their segments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer

from PromptSegLib.errors import InputError
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.tokens import remove_token, store_token, stored_tokens
from Testing.mrml.builders import Editor, add_segmentation, add_volume, ellipsoid, reload

TOKEN = np.random.default_rng(0).bytes(200_000)


@pytest.fixture
def segmentation(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSegmentationNode:
    return add_segmentation(add_volume(), "organ", "bone")


def test_tokens_are_kept_by_segment(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    assert stored_tokens(segmentation) == {}
    store_token(segmentation, "organ", b"first")
    store_token(segmentation, "bone", TOKEN)
    store_token(segmentation, "organ", b"second")
    assert stored_tokens(segmentation) == {"organ": b"second", "bone": TOKEN}
    remove_token(segmentation, "organ")
    remove_token(segmentation, "organ")
    assert stored_tokens(segmentation) == {"bone": TOKEN}


def test_tokens_survive_the_night(segmentation: slicer.vtkMRMLSegmentationNode, tmp_path: Path) -> None:
    store_token(segmentation, "organ", TOKEN)
    reload(str(tmp_path / "first.mrb"))
    node = slicer.util.getNode("Segmentation")
    assert stored_tokens(node) == {"organ": TOKEN}
    store_token(node, "bone", b"later")
    reload(str(tmp_path / "second.mrb"))
    node = slicer.util.getNode("Segmentation")
    assert stored_tokens(node) == {"organ": TOKEN, "bone": b"later"}
    (text,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    assert text.GetHideFromEditors() and text.GetStorageNode() is None


def test_a_new_segment_with_the_id_of_a_removed_one_has_no_token(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    drawings = Drawings(segmentation, slicer.util.getNode("CT"))
    store_token(segmentation, "organ", TOKEN)
    segmentation.GetSegmentation().RemoveSegment("organ")
    assert stored_tokens(segmentation) == {}
    segmentation.GetSegmentation().AddEmptySegment("organ")
    assert stored_tokens(segmentation) == {}
    assert drawings.summary("organ") is None


def test_a_token_comes_back_when_the_removal_is_undone(
    segmentation: slicer.vtkMRMLSegmentationNode, tmp_path: Path
) -> None:
    volume = slicer.util.getNode("CT")
    _drawings, editor = Drawings(segmentation, volume), Editor(segmentation, volume)
    editor.paint("organ", ellipsoid())
    store_token(segmentation, "organ", TOKEN)
    editor.logic.SaveStateForUndo()
    segmentation.GetSegmentation().RemoveSegment("organ")
    store_token(segmentation, "bone", b"other")
    assert stored_tokens(segmentation) == {"bone": b"other"}
    editor.logic.Undo()
    assert stored_tokens(segmentation) == {"organ": TOKEN, "bone": b"other"}
    editor.logic.Redo()
    assert stored_tokens(segmentation) == {"bone": b"other"}
    editor.logic.Undo()
    reload(str(tmp_path / "scene.mrb"))
    assert stored_tokens(slicer.util.getNode("Segmentation")) == {"organ": TOKEN, "bone": b"other"}


@pytest.mark.parametrize("watched_from_the_start", [True, False])
def test_a_token_outlives_undo_and_redo_of_everything(
    segmentation: slicer.vtkMRMLSegmentationNode, watched_from_the_start: bool
) -> None:
    """Also of a segment that was drawn before anybody looked after tokens."""
    volume = slicer.util.getNode("CT")
    editor, drawings = Editor(segmentation, volume), []
    if watched_from_the_start:
        drawings.append(Drawings(segmentation, volume))
    editor.logic.SaveStateForUndo()
    segmentation.GetSegmentation().AddEmptySegment("lesion")
    editor.paint("lesion", ellipsoid())
    drawings.append(Drawings(segmentation, volume))
    store_token(segmentation, "lesion", TOKEN)
    editor.logic.Undo()
    assert stored_tokens(segmentation) == {"lesion": TOKEN}
    editor.logic.Undo()
    assert stored_tokens(segmentation) == {}
    editor.logic.Redo()
    editor.logic.Redo()
    assert stored_tokens(segmentation) == {"lesion": TOKEN}


def test_a_copied_segment_has_a_token_of_its_own(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    _drawings = Drawings(segmentation, slicer.util.getNode("CT"))
    store_token(segmentation, "organ", TOKEN)
    copy = slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetSegmentation().GetSegment("organ"))
    segmentation.GetSegmentation().AddSegment(copy, "copy")
    store_token(segmentation, "copy", b"other")
    assert stored_tokens(segmentation) == {"organ": TOKEN, "copy": b"other"}


def test_of_removed_segments_the_oldest_tokens_are_dropped(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    _drawings = Drawings(segmentation, slicer.util.getNode("CT"))
    for number in range(20):
        segmentation.GetSegmentation().AddEmptySegment(f"s{number}")
        store_token(segmentation, f"s{number}", b"token %d" % number)
        segmentation.GetSegmentation().RemoveSegment(f"s{number}")
    store_token(segmentation, "organ", TOKEN)
    (text,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    kept = [entry["segment"] for entry in json.loads(text.GetText()).values()]
    assert kept == [*(f"s{number}" for number in range(12, 20)), "organ"]


@pytest.mark.parametrize("record", [5, "not base64!"])
def test_a_damaged_token_counts_as_none(segmentation: slicer.vtkMRMLSegmentationNode, record: object) -> None:
    store_token(segmentation, "organ", TOKEN)
    store_token(segmentation, "bone", TOKEN)
    (text,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    entries = json.loads(text.GetText())
    next(iter(entries.values()))["record"] = record
    text.SetText(json.dumps(entries))
    assert stored_tokens(segmentation) == {"bone": TOKEN}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 5}', '{"a": {"segment": "organ"}}', '{"a": {"segment": []}}'])
def test_damaged_records_count_as_none(segmentation: slicer.vtkMRMLSegmentationNode, text: str) -> None:
    store_token(segmentation, "organ", TOKEN)
    (node,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    node.SetText(text)
    assert stored_tokens(segmentation) == {}


def test_deleted_nodes_are_named(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    with pytest.raises(InputError, match='the segment "liver"'):
        store_token(segmentation, "liver", TOKEN)
    slicer.mrmlScene.RemoveNode(segmentation)
    for call in (
        lambda: store_token(segmentation, "organ", TOKEN),
        lambda: stored_tokens(segmentation),
        lambda: remove_token(segmentation, "organ"),
        lambda: stored_tokens(None),
    ):
        with pytest.raises(InputError, match="the segmentation is no longer"):
            call()
