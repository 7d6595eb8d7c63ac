"""Strokes instead of whole slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.imaging.annotation import UNKNOWN


def as_scribbles(drawing: SliceDrawing, others: Sequence[SliceDrawing], covered: bool = False) -> SliceDrawing:
    """The same drawing, of which only painted voxels are known: its own, and as background those of other classes.

    Args:
        others: what is drawn of other classes, across any axis; their strokes count on slices of their own, too.
        covered: a result lies over the drawing, whose planes say themselves what is known of them: also what was
            erased of the result is.
    """
    planes = {
        index: plane.copy() if covered else np.where(plane == 1, plane, UNKNOWN)
        for index, plane in drawing.planes.items()
    }
    if not planes:
        return drawing
    unknown = np.full_like(next(iter(planes.values())), UNKNOWN)
    for other in others:
        for index, rows, columns in _strokes(other, drawing.axis):
            plane = planes.setdefault(index, unknown.copy())
            plane[rows, columns] = plane[rows, columns] == 1
    return SliceDrawing(drawing.axis, dict(sorted(planes.items())))


def _strokes(drawing: SliceDrawing, axis: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """What is painted on each plane across an array axis: its index, rows and columns."""
    marks = [np.insert(np.argwhere(plane == 1), drawing.axis, i, axis=1) for i, plane in drawing.planes.items()]
    places = np.concatenate([np.empty((0, 3), int), *marks])
    for index in np.unique(places[:, axis]):
        rows, columns = np.delete(places[places[:, axis] == index], axis, axis=1).T
        yield int(index), rows, columns
