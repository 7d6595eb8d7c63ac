"""Which slices to show while a class is trained, when there is time for a few of them only."""

from __future__ import annotations

from collections.abc import Sequence

SLICES_A_TIME = 2


class PreviewOrder:
    """Slices by and by, spread evenly at first and filled in later, over the drawn range and a little beyond.

    Args:
        drawn: ascending indices of the drawn slices.
        slices: how many there are in the scan.
    """

    def __init__(self, drawn: Sequence[int], slices: int):
        beyond = max(2, (drawn[-1] - drawn[0]) // 8)
        first, last = max(0, drawn[0] - beyond), min(slices - 1, drawn[-1] + beyond)
        count = last - first + 1
        bits = max(1, (count - 1).bit_length())
        reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
        self._order = [first + i for i in reversed_bits if i < count]
        self._next = 0

    @property
    def slices(self) -> list[int]:
        """All of them, in their order."""
        return list(self._order)

    def next(self, focus: int | None) -> list[int]:
        """The slice that the user looks at, if it is one of them, and the next ones in turn."""
        chosen = [focus] if focus in self._order else []
        while len(chosen) < min(SLICES_A_TIME, len(self._order)):
            index = self._order[self._next % len(self._order)]
            self._next += 1
            if index not in chosen:
                chosen.append(index)
        return chosen
