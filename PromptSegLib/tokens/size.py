"""How large a structure is: where it was not drawn, it tells how much of what is in doubt belongs to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

USUAL_SPREAD = 0.35
"""Standard deviation of the logarithm of an organ's volume between patients."""

_FEWEST = 3
"""Scans that tell how much volumes differ."""

_LARGEST_ML = 1e6
_LARGEST_SPREAD = 5.0


@dataclass(frozen=True)
class Size:
    """ml: geometric mean of the volumes in the scans that were wholly drawn; spread: standard deviation of their
    logarithms, USUAL_SPREAD where there are too few."""

    ml: float
    spread: float

    @classmethod
    def of(cls, volumes_ml: Sequence[float]) -> Size | None:
        """None without any volume."""
        if not volumes_ml:
            return None
        logarithms = np.log(volumes_ml)
        spread = float(logarithms.std()) if len(volumes_ml) >= _FEWEST else USUAL_SPREAD
        return cls(round(float(np.exp(logarithms.mean())), 4), round(spread, 4))

    def likeliest(self, volumes_ml: np.ndarray, shifts: np.ndarray) -> float:
        """Which of some shifts of the logits to choose, each with the volume that it gives: both should be as expected,
        a shift with a standard deviation of 1 logit, the volume with its own. So a structure whose borders are clear
        keeps its size, however large; what is doubtful is filled up or cut back."""
        deviation = math.hypot(self.spread, USUAL_SPREAD)
        unlikely = (np.log(np.maximum(volumes_ml, 1e-6) / self.ml) / deviation) ** 2 + shifts**2
        return float(shifts[unlikely.argmin()])

    def describe(self) -> dict[str, float]:
        """Ready for JSON."""
        return {"ml": self.ml, "spread": self.spread}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Size:
        """From a file's description; ValueError, TypeError or KeyError if it is damaged."""
        ml, spread = float(data["ml"]), float(data["spread"])
        # Not a number compares as False.
        if not (0 < ml <= _LARGEST_ML and 0 <= spread <= _LARGEST_SPREAD):
            raise ValueError("a size that nothing has")
        return cls(ml, spread)
