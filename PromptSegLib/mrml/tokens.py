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
    tokens = ((key, _decoded(data)) for key, data in records.items())
    return {key: data for key, data in tokens if data is not None}


def remove_token(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> None:
    """Forget the token of a segment, which may have none.

    Raises:
        InputError: if the segmentation was deleted.
    """
    SegmentRecords(segmentation_node, TOKENS).remove(segment_id)


def _decoded(text: object) -> bytes | None:
    # A scene may come from anywhere, and a damaged token must not hide the others.
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None
