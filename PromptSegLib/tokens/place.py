"""Where in the body a structure lies: it tells look-alikes apart, such as those on the other side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEFT_TO_RIGHT_MM, OTHERWISE_MM = 15.0, 40.0
"""How much a place differs between patients at least, standard deviation: bodies are nearly symmetrical, but the head
bends, and what lies above a structure need not be in the scan. Of left parotid glands, the first was 3 mm and the
second 25 mm on training patients."""

_FREE = 4.0
_MOST = 6.0
_LARGEST_MM = 2000.0

Along = tuple[float, float] | None


@dataclass(frozen=True)
class Place:
    """Of a structure's pixels, mean and standard deviation of their distance from the middle of the body in their
    slice, in mm along the rows' and along the columns' axis of the token's plane; None where no scan showed it."""

    rows: Along
    columns: Along

    @classmethod
    def of(cls, offsets_mm: np.ndarray) -> Place | None:
        """From the offsets (n, 2) of pixels, which may be not a number; None if nothing is known along either axis."""
        found: list[Along] = []
        for offsets in offsets_mm.T:
            known = offsets[np.isfinite(offsets)]
            found.append((round(float(known.mean()), 2), round(float(known.std()), 2)) if len(known) else None)
        return None if found == [None, None] else cls(found[0], found[1])

    def unlikeliness(self, offsets_mm: np.ndarray, plane: str) -> np.ndarray:
        """How much speaks against these offsets (..., 2), 0 to 6 as a logit: 0 within two standard deviations."""
        floors = (OTHERWISE_MM, LEFT_TO_RIGHT_MM if plane in ("axial", "coronal") else OTHERWISE_MM)
        squared = np.zeros(offsets_mm.shape[:-1])
        for axis, (along, floor) in enumerate(zip((self.rows, self.columns), floors, strict=True)):
            if along is not None:
                mean, deviation = along
                squared += np.nan_to_num((offsets_mm[..., axis] - mean) ** 2 / (deviation**2 + floor**2))
        unlikely: np.ndarray = np.minimum(np.maximum(squared - _FREE, 0) / 2, _MOST)
        return unlikely

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"rows": self.rows and list(self.rows), "columns": self.columns and list(self.columns)}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Place:
        """From a file's description; ValueError, TypeError or KeyError if it is damaged."""
        return cls(_parse(data["rows"]), _parse(data["columns"]))


def _parse(data: Any) -> Along:
    if data is None:
        return None
    mean, deviation = (float(value) for value in data)
    # Not a number compares as False.
    if not (abs(mean) <= _LARGEST_MM and 0 <= deviation <= _LARGEST_MM):
        raise ValueError("a place outside of any body")
    return mean, deviation
