"""How far a scan has to be looked at for a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from PromptSegLib.inference.sight import BLOCK_SLICES


class Reach:
    """Which blocks of slices are worth a look for one class: ask, and say what was found in them.

    Of a structure that is one piece in the slices ``needed``, their first or last one, or one beyond them, without any
    of it is where it ends: whatever lies beyond is another piece, which would be dropped. So these slices come first,
    then what is next to them, outwards, until it has ended on either side.

    Args:
        slices: how many there are.
        needed: those that have to be looked at, None for all.
        crumbs: a slice with no more than this share of what the fullest one has is as one without any.
    """

    def __init__(self, slices: int, needed: slice | None = None, crumbs: float = 0.0):
        self._all = slice(0, slices)
        self.needed, self._crumbs = needed or self._all, crumbs
        self._found: dict[int, int] = {}

    def extend(self) -> None:
        """From now on, all slices are needed."""
        self.needed = self._all

    def wants(self, start: int) -> bool:
        """Whether the block that begins with slice ``start`` is worth a look now."""
        if start in self._found:
            return False
        if start >= self.needed.stop:
            return start - 1 in self._found and not self._is_over(range(self.needed.stop - 1, start))
        stop = start + BLOCK_SLICES
        if stop <= self.needed.start:
            return stop in self._found and not self._is_over(range(stop, self.needed.start + 1))
        return True

    def saw(self, part: slice, logits: np.ndarray) -> None:
        """What was found (n, rows, columns) on the slices ``part``, a block."""
        counts = np.count_nonzero(logits > 0, axis=(1, 2)).tolist()
        self._found |= dict(zip(range(part.start, part.stop), counts, strict=True))

    def _is_over(self, slices: Iterable[int]) -> bool:
        few = self._crumbs * max(self._found.values())
        return any(self._found[index] <= few for index in slices)


def visits(reaches: Mapping[int, Reach], slices: int) -> Iterator[tuple[int, list[int]]]:
    """The first slice of each block that is worth a look, with the numbers of the classes that it is worth it for.

    A block comes twice where it is next to one class only after it was needed by another.

    Args:
        reaches: by number of the class; they must be told what was found before the next turn.
        slices: how many there are.
    """
    starts = range(0, slices, BLOCK_SLICES)
    for start in (*starts, *reversed(starts)):
        numbers = [number for number, reach in reaches.items() if reach.wants(start)]
        if numbers:
            yield start, numbers
