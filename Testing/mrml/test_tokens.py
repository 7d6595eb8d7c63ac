"""Tokens are kept in the scene with their segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer

from PromptSegLib.errors import InputError
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.tokens import remove_token, store_token, stored_tokens
from Testing.mrml.builders import add_segmentation, add_volume, reload

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


def test_a_token_dies_with_its_segment(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    drawings = Drawings(segmentation, slicer.util.getNode("CT"))
    store_token(segmentation, "organ", TOKEN)
    segmentation.GetSegmentation().RemoveSegment("organ")
    segmentation.GetSegmentation().AddEmptySegment("organ")
    assert stored_tokens(segmentation) == {}
    assert drawings.summary("organ") is None


def test_damaged_records_count_as_none(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    store_token(segmentation, "organ", TOKEN)
    (text,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    for damaged in ('{"organ": 5}', '{"organ": "not base64!"}', "{", "[]"):
        text.SetText(damaged)
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
