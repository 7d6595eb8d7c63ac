"""What is kept of each segment beside its voxels: JSON in a hidden text node that the segmentation refers to.

The text is written into the scene file itself, so it is saved with every scene and needs no file of its own.
"""

from __future__ import annotations

import json
import weakref
from typing import Any

import slicer
import vtk

from PromptSegLib.mrml.nodes import require_segment, require_segmentation

_ROLES = ("PromptSeg.drawings", "PromptSeg.tokens")
DRAWINGS, TOKENS = _ROLES


class SegmentRecords:
    """One record, anything that JSON can hold, per segment of a segmentation.

    Args:
        segmentation_node: whose segments.
        role: the name of the node reference, `DRAWINGS` or `TOKENS`.
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, role: str) -> None:
        self._segmentation_node = segmentation_node
        self._role = role
        self._read: tuple[int, dict[str, Any]] | None = None

    def all(self) -> dict[str, Any]:
        """The records by segment ID, of segments that are still there.

        Raises:
            InputError: if the segmentation was deleted.
        """
        segmentation = require_segmentation(self._segmentation_node).GetSegmentation()
        return {key: record for key, record in self._load().items() if segmentation.GetSegment(key) is not None}

    def get(self, segment_id: str) -> Any:
        """The record of a segment, None if there is none.

        Raises:
            InputError: if the segmentation or the segment was deleted.
        """
        require_segment(self._segmentation_node, segment_id)
        return self._load().get(segment_id)

    def set(self, segment_id: str, record: Any) -> None:
        """Keep a record in place of the former one.

        Raises:
            InputError: if the segmentation or the segment was deleted.
        """
        require_segment(self._segmentation_node, segment_id)
        self._store({**self.all(), segment_id: record})

    def remove(self, segment_id: str) -> None:
        """Forget the record of a segment, which may have none and may be gone.

        Raises:
            InputError: if the segmentation was deleted.
        """
        require_segmentation(self._segmentation_node)
        if segment_id in self._load():
            self._store({key: record for key, record in self.all().items() if key != segment_id})

    def _node(self) -> slicer.vtkMRMLTextNode | None:
        return self._segmentation_node.GetNodeReference(self._role)

    def _load(self) -> dict[str, Any]:
        node = self._node()
        if node is None:
            return {}
        if self._read is None or self._read[0] != node.GetMTime():
            self._read = node.GetMTime(), _records(node.GetText())
        return self._read[1]

    def _store(self, records: dict[str, Any]) -> None:
        node = self._node()
        if node is None or node.GetNodeReferenceID("segmentation") != self._segmentation_node.GetID():
            # A cloned segmentation refers to its original's node until it has something of its own to keep.
            node = self._segmentation_node.GetScene().AddNewNodeByClass("vtkMRMLTextNode", self._role)
            node.SetHideFromEditors(True)
            node.SetSelectable(False)
            node.SetAttribute("PromptSeg.role", self._role)
            node.SetNodeReferenceID("segmentation", self._segmentation_node.GetID())
            self._segmentation_node.SetNodeReferenceID(self._role, node.GetID())
        # The node does not save this setting, so a reloaded one would save its text in a file beside the scene.
        node.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeNever)
        node.SetText(json.dumps(records))


def forget_with_segments(owner: object, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """As long as ``owner`` lives, let records die with their segment, and with the segmentation itself."""
    scene, segmentation = segmentation_node.GetScene(), segmentation_node.GetSegmentation()
    records = [SegmentRecords(segmentation_node, role) for role in _ROLES]

    @vtk.calldata_type(vtk.VTK_STRING)
    def on_segment_removed(caller: object, event: str, segment_id: str) -> None:
        for role in records:
            if segmentation_node.GetScene() is not None:
                role.remove(segment_id)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_removed(caller: object, event: str, node: slicer.vtkMRMLNode) -> None:
        if node is segmentation_node and not scene.IsClosing():
            _remove_orphans(scene)

    for caller, event, callback in (
        (segmentation, slicer.vtkSegmentation.SegmentRemoved, on_segment_removed),
        (scene, slicer.vtkMRMLScene.NodeRemovedEvent, on_node_removed),
    ):
        weakref.finalize(owner, caller.RemoveObserver, caller.AddObserver(event, callback)).atexit = False


def _remove_orphans(scene: slicer.vtkMRMLScene) -> None:
    segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    kept = {node.GetNodeReferenceID(role) for node in segmentations for role in _ROLES}
    for node in slicer.util.getNodesByClass("vtkMRMLTextNode", scene):
        if node.GetAttribute("PromptSeg.role") in _ROLES and node.GetID() not in kept:
            scene.RemoveNode(node)


def _records(text: str) -> dict[str, Any]:
    # A scene may come from anywhere: what is damaged counts as not there, and the segments stay usable.
    try:
        records = json.loads(text)
    except ValueError:
        return {}
    return records if isinstance(records, dict) else {}
