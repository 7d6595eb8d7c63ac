"""How far along the body a structure reaches that was not drawn on a scan: its look-alikes may go on beyond its ends,
as the airway does above and below the larynx."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from PromptSegLib.imaging.outline import Outline
from PromptSegLib.tokens.height import Height

DEVIATION_MM = 5.0
"""How far beyond the heights at which it was drawn a slice is doubted, standard deviation. Bodies differ by more than
that, but here slices are only weighed against each other."""

UNDISPUTED = 0.3
"""What may speak against a slice by its height without it being doubted, as a logit: however long the structure is,
none of these slices is dropped, and so none at all where the heights say nothing."""

USUAL_SPREAD = 0.5
"""Granted to the logarithm of a structure's length beyond what the scans show: ends may be known only roughly."""

CORRELATED_MM = 20.0
"""Slices so far apart say something of their own; nearer ones say the same once more."""

_FREEDOM = 3
"""Of Student's t for the logarithm of the length."""


@dataclass(frozen=True)
class Extent:
    """What is known of a structure's ends beforehand.

    unlikely: what speaks against each slice of a stack by its height in the body, as a logit; length_mm, spread:
    geometric mean of its lengths along the body, and the standard deviation of their logarithms.
    """

    unlikely: np.ndarray
    length_mm: float
    spread: float

    @classmethod
    def of(cls, height: Height, body: Outline, heights_mm: np.ndarray) -> Extent | None:
        """On a body whose slices lie at these heights; None if no length of the structure is known."""
        lengths_mm = height.lengths_mm
        if not lengths_mm:
            return None
        logarithms = np.log(lengths_mm)
        unlikely = height.unlikeliness(body, heights_mm, DEVIATION_MM)
        spread = math.hypot(float(logarithms.std()), USUAL_SPREAD)
        return cls(unlikely - unlikely.min(), float(np.exp(logarithms.mean())), spread)

    def likeliest(self, logits: Sequence[float] | np.ndarray, first: int, slice_mm: float) -> slice:
        """Which of some neighboring slices to keep: all that are undisputed by their height, and beside them as many as
        are more likely with the structure than without it, unless that makes it oddly long.

        Args:
            logits: that a slice shows it, by what was found there; -inf where nothing was.
            first: number of the first of these slices in the stack.
            slice_mm: distance between slices.
        """
        unlikely = self.unlikely[first : first + len(logits)]
        doubted = np.asarray(logits, dtype=np.float64) - unlikely
        gains = np.concatenate([[0.0], np.cumsum(np.tanh(doubted / 2))]) * slice_mm / CORRELATED_MM
        start, stop = np.triu_indices(len(gains), 1)
        undisputed = np.flatnonzero((unlikely < UNDISPUTED) & np.isfinite(doubted))
        if len(undisputed):
            holds = (start <= undisputed[0]) & (stop > undisputed[-1])
            start, stop = start[holds], stop[holds]
        squared = (np.log((stop - start) * slice_mm / self.length_mm) / self.spread) ** 2
        odd = (_FREEDOM + 1) / 2 * np.log1p(squared / _FREEDOM)
        best = int(np.argmax(gains[stop] - gains[start] - odd))
        return slice(int(start[best]), int(stop[best]))
