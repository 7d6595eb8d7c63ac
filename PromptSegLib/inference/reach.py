"""How far from a drawing a scan has to be looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from PromptSegLib.inference.sight import BLOCK_SLICES


class Reach:
    """Blocks of slices in the order in which they are worth a look: iterate, and say what was found in each.

    Where every class is one piece that touches its drawing, a slice without any of it is where it ends: whatever lies
    beyond is another piece, which would be dropped. So the drawings' surroundings come first, then what is next to
    them, outwards, until all classes have ended.

    Args:
        slices: how many there are.
        needed: those that have to be looked at, None for all.
        classes: their numbers.
    """

    def __init__(self, slices: int, needed: slice | None, classes: Collection[int]):
        self.slices = slices
        self.needed = needed or slice(0, slices)
        self._going_on = {-1: set(classes), 1: set(classes)}

    def __iter__(self) -> Iterator[int]:
        """The first slice of each block."""
        first = self.needed.start // BLOCK_SLICES * BLOCK_SLICES
        start = first
        while start < self.slices and (start < self.needed.stop or self._going_on[1]):
            yield start
            start += BLOCK_SLICES
        start = first - BLOCK_SLICES
        while start >= 0 and self._going_on[-1]:
            yield start
            start -= BLOCK_SLICES

    def saw(self, number: int, part: slice, logits: np.ndarray) -> None:
        """What was found (n, rows, columns) of a class on the slices ``part``."""
        for index, plane in zip(range(part.start, part.stop), logits, strict=True):
            if (index < self.needed.start or index >= self.needed.stop) and not (plane > 0).any():
                self._going_on[-1 if index < self.needed.start else 1].discard(number)
