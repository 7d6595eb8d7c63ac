"""The masking of the user's Segment Editor.

It is Slicer's own: `vtkSlicerSegmentEditorLogic` decides what may be edited. It works with a segment editor node of its
own, so that what the user has selected in the Segment Editor stays selected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import slicer

from PromptSegLib.errors import InputError

_Logic = slicer.vtkSlicerSegmentEditorLogic
_EditorNode = slicer.vtkMRMLSegmentEditorNode
_SegmentationNode = slicer.vtkMRMLSegmentationNode
_INSIDE_SEGMENTS = (
    _SegmentationNode.EditAllowedInsideAllSegments,
    _SegmentationNode.EditAllowedInsideVisibleSegments,
    _SegmentationNode.EditAllowedInsideSingleSegment,
)
_VISIBLE_ONLY = (
    _SegmentationNode.EditAllowedInsideVisibleSegments,
    _SegmentationNode.EditAllowedOutsideVisibleSegments,
)


@dataclass(frozen=True)
class EditableArea:
    """The inside or the outside of some segments."""

    segment_ids: tuple[str, ...]
    is_inside: bool


def editable_area(
    editor_node: slicer.vtkMRMLSegmentEditorNode, segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str
) -> EditableArea | None:
    """Where a segment may be edited, None if everywhere; the intensity range is not looked at."""
    mode, display = editor_node.GetMaskMode(), segmentation_node.GetDisplayNode()
    if mode == _SegmentationNode.EditAllowedEverywhere:
        return None
    if mode == _SegmentationNode.EditAllowedInsideSingleSegment:
        return EditableArea((editor_node.GetMaskSegmentID(),), True)
    is_inside = mode in _INSIDE_SEGMENTS
    masking = (key for key in segmentation_node.GetSegmentation().GetSegmentIDs() if is_inside or key != segment_id)
    if mode in _VISIBLE_ONLY:
        masking = (key for key in masking if display is not None and display.GetSegmentVisibility(key))
    return EditableArea(tuple(masking), is_inside)


def require_mask(
    editor_node: slicer.vtkMRMLSegmentEditorNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> None:
    """See that there is an editable area: without its segment, Slicer would write nothing at all.

    Raises:
        InputError: if the segment that limits it was deleted.
    """
    if editor_node.GetMaskMode() != _SegmentationNode.EditAllowedInsideSingleSegment:
        return
    if segmentation_node.GetSegmentation().GetSegment(editor_node.GetMaskSegmentID() or "") is None:
        raise InputError(
            "the segment that limits the editable area is no longer there: choose another editable area in the editor"
        )


def may_overlap(editor_node: slicer.vtkMRMLSegmentEditorNode) -> bool:
    """Whether results may lie over other segments."""
    # Who edits the inside of other segments would get nothing if these had to be given way to.
    return editor_node.GetOverwriteMode() == _EditorNode.OverwriteNone or editor_node.GetMaskMode() in _INSIDE_SEGMENTS


@contextmanager
def editor_like(
    editor_node: slicer.vtkMRMLSegmentEditorNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
) -> Iterator[slicer.vtkSlicerSegmentEditorLogic]:
    """A logic whose editor node has the masking of the user's, for as long as it takes."""
    scene = segmentation_node.GetScene()
    node = _EditorNode()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    scene.AddNode(node)
    try:
        node.SetAndObserveSegmentationNode(segmentation_node)
        node.SetAndObserveSourceVolumeNode(editor_node.GetSourceVolumeNode() or volume_node)
        node.SetMaskMode(editor_node.GetMaskMode())
        node.SetMaskSegmentID(editor_node.GetMaskSegmentID())
        node.SetSourceVolumeIntensityMask(editor_node.GetSourceVolumeIntensityMask())
        node.SetSourceVolumeIntensityMaskRange(*editor_node.GetSourceVolumeIntensityMaskRange())
        logic = _Logic()
        logic.SetMRMLScene(scene)
        logic.SetSegmentEditorNode(node)
        yield logic
    finally:
        scene.RemoveNode(node)
