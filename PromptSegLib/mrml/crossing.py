"""Slices that were drawn across another axis than the rest of a drawing."""

from __future__ import annotations

import numpy as np

from PromptSegLib.mrml.grids import Region

_FEWEST, _MISSING_ROWS = 2, 4


def crossing_slice(region: Region, axis: int) -> tuple[int, frozenset[int]] | None:
    """The slice of another array axis that a drawing across ``axis`` holds, too.

    Every slice that it crosses holds one row (or column) of it and nothing else, always the same row, without a gap
    from one slice to the next. Thin ends of a structure are no such slice: their rows are short.

    Args:
        region: all that is drawn.
        axis: array axis that most of it was drawn across.

    Returns:
        The other axis, and the indices on ``axis`` at which nothing but that slice is drawn; None if there is no such
        slice.
    """
    indices = region.occupied[axis]
    stack = np.moveaxis(region.mask, axis, 0)
    spans = [[np.flatnonzero(stack[index].any(axis=side)) for side in (1, 0)] for index in indices]
    starts = np.array([[span[0] for span in pair] for pair in spans])
    sizes = np.array([[span[-1] - span[0] + 1 for span in pair] for pair in spans])
    whole = sizes[(sizes > 1).all(axis=1)]
    if not len(whole):
        return None
    for side, other in enumerate(k for k in range(3) if k != axis):
        usual = sizes[:, 1 - side] * np.median(whole[:, side] / whole[:, 1 - side])
        for row in np.unique(starts[sizes[:, side] == 1, side]):
            crossed = (sizes[:, side] == 1) & (starts[:, side] == row)
            first, last = np.flatnonzero(crossed)[[0, -1]]
            is_gapless = indices[last] - indices[first] == last - first
            if is_gapless and np.count_nonzero(crossed & (usual >= _MISSING_ROWS)) >= _FEWEST:
                return other, frozenset((indices[crossed] + region.box[axis].start).tolist())
    return None
