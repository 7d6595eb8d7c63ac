"""Strokes instead of whole slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.imaging.annotation import UNKNOWN


def as_scribbles(drawing: SliceDrawing, others: Sequence[SliceDrawing]) -> SliceDrawing:
    """The same drawing, of which only painted voxels are known: its own, and as background those of other classes."""
    planes = {}
    for index, plane in drawing.planes.items():
        known = np.full_like(plane, UNKNOWN)
        for other in others:
            if other.axis == drawing.axis and index in other.planes:
                known[other.planes[index] == 1] = 0
        known[plane == 1] = 1
        planes[index] = known
    return SliceDrawing(drawing.axis, planes)
