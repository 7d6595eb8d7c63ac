"""Slices that were drawn across another axis than the rest of a drawing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_FEWEST, _MISSING_ROWS = 2, 4
"""So many slices must hold a row so long that a whole slice would have had so many rows: a thin end is shorter."""


def crossing_slices(mask: np.ndarray, axis: int) -> tuple[tuple[int, ...], frozenset[int]] | None:
    """Slices of other array axes that a drawing across ``axis`` holds, too.

    Every slice that they cross holds one row (or column) of each of them and nothing else, always the same row,
    without a gap from one slice to the next. Thin ends of a structure and sheets are none: their rows are short, or
    wander.

    Args:
        mask: bool (slices, rows, columns), all that is drawn.
        axis: array axis that it seems to be drawn across.

    Returns:
        The other axes, and the indices on ``axis`` at which nothing but those slices is drawn, which may be all; None
        if there are no such slices.
    """
    stack = np.moveaxis(mask, axis, 0)
    indices = np.flatnonzero(stack.any(axis=(1, 2)))
    lines = {int(index): _lines(stack[index]) for index in indices}
    thin = {index: found for index, found in lines.items() if found is not None}
    whole = np.array([_extent(stack[index]) for index in lines if index not in thin])
    others = [other for other in range(3) if other != axis]
    planes: list[list[int]] = []
    wide: set[int] = set()
    for side in range(2):
        proportion = float(np.median(whole[:, side] / whole[:, 1 - side])) if len(whole) else 1.0
        lengths = {
            index: {row: float(stack[index].take(row, side).sum()) * proportion for row in found[side]}
            for index, found in thin.items()
        }
        wide |= {index for index, found in lengths.items() if max(found.values(), default=0) >= _MISSING_ROWS}
        planes.append(_through(lengths, indices))
    # Without any whole slice, rows alone are the slices of a thin structure.
    if not (planes[0] or planes[1]) or not (len(whole) or (planes[0] and planes[1])):
        return None
    left_out = frozenset(
        index
        for index in thin
        if all(row in planes[0] or column in planes[1] for row, column in np.argwhere(stack[index]).tolist())
    )
    if len(left_out) < _FEWEST or not wide <= left_out:
        return None
    return tuple(other for other, found in zip(others, planes, strict=True) if found), left_out


def _lines(plane: np.ndarray) -> tuple[frozenset[int], frozenset[int]] | None:
    """The rows and the columns, each with nothing beside it, that a plane consists of; None if there is more in it."""
    padded = np.pad(plane, 1)
    alone_in_column = plane & ~padded[:-2, 1:-1] & ~padded[2:, 1:-1]
    alone_in_row = plane & ~padded[1:-1, :-2] & ~padded[1:-1, 2:]
    rows = np.flatnonzero((alone_in_column & ~alone_in_row).any(axis=1))
    columns = np.flatnonzero((alone_in_row & ~alone_in_column).any(axis=0))
    rest = plane & ~(alone_in_column & alone_in_row)
    rest[rows] = False
    rest[:, columns] = False
    return None if rest.any() else (frozenset(rows.tolist()), frozenset(columns.tolist()))


def _extent(plane: np.ndarray) -> tuple[int, int]:
    """How many rows and columns the box around what is marked has."""
    rows, columns = (np.flatnonzero(plane.any(axis=side)) for side in (1, 0))
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def _through(lengths: dict[int, dict[int, float]], indices: np.ndarray) -> list[int]:
    """Which of the rows that slices hold are of one slice through all of these.

    lengths: by index of the slice and row, as how many rows a whole slice of that width has; indices: of all drawn
    slices.
    """
    found = []
    for row in sorted(set[int]().union(*lengths.values())):
        crossed = [index for index in lengths if row in lengths[index]]
        first, last = np.searchsorted(indices, (crossed[0], crossed[-1]))
        is_gapless = indices[last] - indices[first] == last - first
        if is_gapless and sum(lengths[index][row] >= _MISSING_ROWS for index in crossed) >= _FEWEST:
            found.append(row)
    wanders = any(after - before == 1 for before, after in pairwise(found))
    return [] if wanders else found
