"""Which slice to draw next."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np

FIRST_STEP_MM = 15.0
"""How far from a first drawn slice the second one should lie."""

FAR_MM = 20.0
"""From this distance to the nearest drawn slice on, a new drawing tells as much as it can."""


def suggest_slice(
    drawn: Collection[int], slices: int, spacing_mm: float, doubt: np.ndarray | None = None
) -> tuple[int, str] | None:
    """The slice that a drawing would change most, and why; None when all of them are drawn.

    Args:
        drawn: indices of the drawn slices.
        slices: how many there are.
        spacing_mm: between them.
        doubt: per slice, how many pixels the class's last segmentation left undecided; None before there is one.
    """
    undrawn = [i for i in range(slices) if i not in drawn]
    if not undrawn:
        return None
    distances = np.array([min((abs(i - d) for d in drawn), default=slices) * spacing_mm for i in undrawn])
    if doubt is not None and doubt.max() > 0:
        worth = doubt[undrawn] * np.minimum(distances, FAR_MM)
        if worth.max() > 0:
            return undrawn[int(worth.argmax())], "the result is least sure here"
    if not drawn:
        return slices // 2, "the middle of the scan"
    if len(drawn) == 1:
        (only,) = drawn
        step = max(1, round(FIRST_STEP_MM / spacing_mm))
        further = [i for i in (min(only + step, slices - 1), max(only - step, 0)) if i != only]
        return max(further, key=lambda i: abs(i - only)), "a little away from the first"
    gaps = [(b - a, a) for a, b in pairwise(sorted(drawn)) if b - a > 1]
    if gaps:
        gap, first = max(gaps)
        return first + gap // 2, "the middle of the widest gap"
    return undrawn[int(distances.argmin())], "next to the drawn ones"
