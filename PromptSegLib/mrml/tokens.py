"""Class tokens kept in the scene with the segments that they were trained for."""

from __future__ import annotations

import base64

import slicer

from PromptSegLib.mrml.records import TOKENS, SegmentRecords


def store_token(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, data: bytes) -> None:
    """Keep the content of a token file with a segment, in place of a former one.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    SegmentRecords(segmentation_node, TOKENS).set(segment_id, base64.b64encode(data).decode())


def stored_tokens(segmentation_node: slicer.vtkMRMLSegmentationNode) -> dict[str, bytes]:
    """The contents of token files by segment ID.

    Raises:
        InputError: if the segmentation was deleted.
    """
    records = SegmentRecords(segmentation_node, TOKENS).all()
    return {key: base64.b64decode(data) for key, data in records.items() if isinstance(data, str)}


def remove_token(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> None:
    """Forget the token of a segment, which may have none.

    Raises:
        InputError: if the segmentation was deleted.
    """
    SegmentRecords(segmentation_node, TOKENS).remove(segment_id)
