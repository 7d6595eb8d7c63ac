"""What is kept of each segment beside its voxels: JSON in a hidden text node that the segmentation refers to.

The text is written into the scene file itself, so it is saved with every scene and needs no file of its own.
"""

from __future__ import annotations

import json
import uuid
import weakref
from typing import Any

import slicer
import vtk

from PromptSegLib.mrml.nodes import require_segment, require_segmentation

_ROLES = ("PromptSeg.drawings", "PromptSeg.tokens", "PromptSeg.files", "PromptSeg.learned")
DRAWINGS, TOKENS, FILES, LEARNED = _ROLES

_IDENTITY_TAG = "PromptSeg.Identity"

_MOST_ORPHANS = 8
"""Records that are kept of removed segments, which Undo may bring back; more would take long to write."""


class SegmentRecords:
    """One record, anything that JSON can hold, per segment of a segmentation.

    A record belongs to the identity in a tag of its segment, not to the segment ID, which may come again for another
    structure. Undo brings a removed segment back with its tags, and so with its record.

    Args:
        segmentation_node: whose segments.
        role: the name of the node reference: `DRAWINGS`, `TOKENS`, `FILES`, where a token is kept beside the scene, or
            `LEARNED`, of which drawing it is.
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, role: str) -> None:
        self._segmentation_node = segmentation_node
        self._role = role
        self._read: tuple[int, dict[str, dict[str, Any]]] | None = None

    def all(self) -> dict[str, Any]:
        """The records by segment ID, of segments that are there.

        Raises:
            InputError: if the segmentation was deleted.
        """
        entries = self._load()
        identities = self._identities(entries)
        return {key: entries[identity]["record"] for key, identity in identities.items() if identity in entries}

    def get(self, segment_id: str) -> Any:
        """The record of a segment, None if there is none.

        Raises:
            InputError: if the segmentation or the segment was deleted.
        """
        require_segment(self._segmentation_node, segment_id)
        return self.all().get(segment_id)

    def set(self, segment_id: str, record: Any) -> None:
        """Keep a record in place of the former one.

        Raises:
            InputError: if the segmentation or the segment was deleted.
        """
        segment = require_segment(self._segmentation_node, segment_id)
        entries = dict(self._load())
        identity = self.identity(segment_id) or _new_identity()
        entries.pop(identity, None)
        entries[identity] = {"segment": segment_id, "record": record}
        segment.SetTag(_IDENTITY_TAG, identity)
        present = set(self._identities(entries).values())
        orphans = [other for other in entries if other not in present]
        for oldest in orphans[: max(0, len(orphans) - _MOST_ORPHANS)]:
            del entries[oldest]
        self._store(entries)

    def remove(self, segment_id: str) -> None:
        """Forget the record of a segment, which may have none.

        Raises:
            InputError: if the segmentation was deleted.
        """
        entries, identity = self._load(), self.identity(segment_id)
        if identity in entries:
            self._store({other: entry for other, entry in entries.items() if other != identity})

    def identity(self, segment_id: str) -> str | None:
        """What the record of a segment belongs to, None if it has never had one.

        Raises:
            InputError: if the segmentation was deleted.
        """
        return self._identities(self._load()).get(segment_id)

    def _identities(self, entries: dict[str, dict[str, Any]]) -> dict[str, str]:
        """By segment ID, of the segments that have an identity.

        A segment without its tag is one that Undo put back to before it was given one: it is known by its ID, if there
        is no doubt.
        """
        segmentation = require_segmentation(self._segmentation_node).GetSegmentation()
        tagged = {key: _identity(segmentation.GetSegment(key)) for key in segmentation.GetSegmentIDs()}
        taken = set(tagged.values())
        free: dict[str, list[str]] = {}
        for identity, entry in entries.items():
            if identity not in taken:
                free.setdefault(entry["segment"], []).append(identity)
        for key, identity in tagged.items():
            candidates = free.get(key, [])
            if not identity and len(candidates) == 1:
                tagged[key] = candidates[0]
        return {key: identity for key, identity in tagged.items() if identity}

    def _load(self) -> dict[str, dict[str, Any]]:
        node = require_segmentation(self._segmentation_node).GetNodeReference(self._role)
        if node is None:
            return {}
        if self._read is None or self._read[0] != node.GetMTime():
            self._read = node.GetMTime(), _entries(node.GetText())
        return self._read[1]

    def _store(self, entries: dict[str, dict[str, Any]]) -> None:
        node = self._segmentation_node.GetNodeReference(self._role)
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
        node.SetText(json.dumps(entries))


def follow_segments(owner: object, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """As long as ``owner`` lives, let no new segment inherit records, and let them die with the segmentation."""
    scene, segmentation = segmentation_node.GetScene(), segmentation_node.GetSegmentation()

    @vtk.calldata_type(vtk.VTK_STRING)
    def on_segment_added(caller: object, event: str, segment_id: str) -> None:
        segment = segmentation.GetSegment(segment_id)
        others = {_identity(segmentation.GetSegment(key)) for key in segmentation.GetSegmentIDs() if key != segment_id}
        # A copied segment has its original's tags, and one that Undo brings back is given its own after this.
        if segment is not None and _identity(segment) in {"", *others}:
            segment.SetTag(_IDENTITY_TAG, _new_identity())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_removed(caller: object, event: str, node: slicer.vtkMRMLNode) -> None:
        if node is segmentation_node and not scene.IsClosing():
            _remove_unused_nodes(scene)

    for caller, event, callback in (
        (segmentation, slicer.vtkSegmentation.SegmentAdded, on_segment_added),
        (scene, slicer.vtkMRMLScene.NodeRemovedEvent, on_node_removed),
    ):
        weakref.finalize(owner, caller.RemoveObserver, caller.AddObserver(event, callback)).atexit = False


def _identity(segment: slicer.vtkSegment) -> str:
    value = vtk.reference("")
    return str(value) if segment.GetTag(_IDENTITY_TAG, value) else ""


def _new_identity() -> str:
    return str(uuid.uuid4())


def _remove_unused_nodes(scene: slicer.vtkMRMLScene) -> None:
    segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    kept = {node.GetNodeReferenceID(role) for node in segmentations for role in _ROLES}
    for node in slicer.util.getNodesByClass("vtkMRMLTextNode", scene):
        if node.GetAttribute("PromptSeg.role") in _ROLES and node.GetID() not in kept:
            scene.RemoveNode(node)


def _entries(text: str) -> dict[str, dict[str, Any]]:
    # A scene may come from anywhere: what is damaged counts as not there, and the segments stay usable.
    try:
        entries = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(entries, dict):
        return {}
    return {identity: entry for identity, entry in entries.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("segment"), str) and "record" in entry
